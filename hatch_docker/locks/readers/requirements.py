"""Hashed requirements → Pylock. Those of an index have no URLs: their files are found by their hashes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.pylock import Pylock
from packaging.version import Version

from hatch_docker.errors import LockError, join_hints
from hatch_docker.index.access import FileFinder
from hatch_docker.index.workspace import find_workspace
from hatch_docker.locks.commands import refresh_requirements
from hatch_docker.locks.model import MARKER_ERRORS, InstallRequest, evaluate
from hatch_docker.locks.readers.by_hash import Hashed, find_by_hash
from hatch_docker.locks.readers.pylock import validated
from hatch_docker.locks.readers.references import Reference, package_of
from hatch_docker.locks.readers.requirements_file import Pin, read_hashed


def read_requirements(path: Path, request: InstallRequest, finder: FileFinder) -> Pylock:
    """Read a hashed requirements file, and find its files in the index. The project itself is left out.

    Raises LockError for requirements without a pin or hashes, or if the index has no file with a locked hash.
    """
    locked = read_hashed(path, refresh=refresh_requirements(path, request))
    direct = _direct([each for each in locked.references if _applies(each, request)], path, request)
    pins = [pin for pin in locked.pins if _applies(pin, request)]
    _check_unique(pins, direct, path)
    found = find_by_hash(_merged(pins), finder, place=str(path))
    tool = {"hatch-docker": {"universal": found.universal}}
    packages = [*found.packages, *direct]
    document = {"lock-version": "1.0", "created-by": "hatch-docker", "packages": packages, "tool": tool}
    return validated(document, place=str(path))


def _direct(references: Sequence[Reference], path: Path, request: InstallRequest) -> list[Mapping[str, Any]]:
    """The packages by path or URL, each once. Raises LockError for all that cannot be used at once."""
    bases = _bases(path, request) if any(each.is_local for each in references) else ()
    packages: list[Mapping[str, Any]] = []
    problems: list[LockError] = []
    for reference in references:
        try:
            package = package_of(reference, bases, own=request.root)
        except LockError as error:
            problems.append(error)
        else:
            packages += [package] if package and package not in packages else []
    if problems:
        lines = "".join(f"\n  {each.place}: {each.message}" for each in problems)
        hints = join_hints(*dict.fromkeys(each.hint for each in problems))
        raise LockError(f"requirements that cannot be used:{lines}", place=str(path), hint=hints)
    return packages


def _bases(path: Path, request: InstallRequest) -> tuple[Path, ...]:
    """The directories that relative paths may belong to.

    pip and uv read them in the current directory, which is the project for a file in the project, else the file's own.
    `uv export` writes those of a workspace's root.
    """
    folder = path.absolute().parent
    root = request.root.absolute()
    first = (root, folder) if folder.is_relative_to(root) else (folder, root)
    workspace = find_workspace(root)
    return (*first, workspace) if workspace else first


def _merged(pins: Sequence[Pin]) -> list[Hashed]:
    """The pins as packages with all their hashes, sorted by name."""
    merged: dict[str, Hashed] = {}
    for pin in pins:
        other = merged.get(pin.name)
        hashes = pin.hashes | other.hashes if other else pin.hashes
        merged[pin.name] = Hashed(name=pin.name, version=pin.version, hashes=hashes)
    return sorted(merged.values(), key=lambda each: each.name)


def _applies(each: Pin | Reference, request: InstallRequest) -> bool:
    try:
        return each.marker is None or evaluate(each.marker, request.target)
    except MARKER_ERRORS as error:
        raise LockError(f"the marker of {each.name} cannot be evaluated: {error}", place=each.place) from None


def _check_unique(pins: Iterable[Pin], direct: Iterable[Mapping[str, Any]], path: Path) -> None:
    versions: dict[str, set[Version]] = {}
    for pin in pins:
        versions.setdefault(pin.name, set()).add(pin.version)
    for name, pinned in versions.items():
        if len(pinned) > 1:
            listed = ", ".join(str(version) for version in sorted(pinned))
            raise LockError(f"{name} is pinned to several versions: {listed}", place=str(path))
    seen = set(versions)
    for package in direct:
        if package["name"] in seen:
            raise LockError(f"{package['name']} is required twice, from different places", place=str(path))
        seen.add(package["name"])
