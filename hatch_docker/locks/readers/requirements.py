"""Hashed requirements → Pylock. They have no URLs: the files of each name are found in an index, by their hashes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from packaging.pylock import Pylock
from packaging.version import Version

from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder
from hatch_docker.locks.model import MARKER_ERRORS, InstallRequest, evaluate
from hatch_docker.locks.readers.by_hash import Hashed, find_by_hash
from hatch_docker.locks.readers.pylock import validated
from hatch_docker.locks.readers.requirements_file import Pin, read_pins


def read_requirements(path: Path, request: InstallRequest, finder: FileFinder) -> Pylock:
    """Read a hashed requirements file, and find its files in the index.

    Raises LockError for requirements without a pin or hashes, or if the index has no file with a locked hash.
    """
    pins = [pin for pin in read_pins(path) if _applies(pin, request, path)]
    _check_unique(pins, path)
    found = find_by_hash(_merged(pins), finder, place=str(path))
    tool = {"hatch-docker": {"universal": found.universal}}
    document = {"lock-version": "1.0", "created-by": "hatch-docker", "packages": found.packages, "tool": tool}
    return validated(document, place=str(path))


def _merged(pins: Sequence[Pin]) -> list[Hashed]:
    """The pins as packages with all their hashes, sorted by name."""
    merged: dict[str, Hashed] = {}
    for pin in pins:
        other = merged.get(pin.name)
        hashes = pin.hashes | other.hashes if other else pin.hashes
        merged[pin.name] = Hashed(name=pin.name, version=pin.version, hashes=hashes)
    return sorted(merged.values(), key=lambda each: each.name)


def _applies(pin: Pin, request: InstallRequest, path: Path) -> bool:
    try:
        return pin.marker is None or evaluate(pin.marker, request.target)
    except MARKER_ERRORS as error:
        raise LockError(f"the marker of {pin.name} cannot be evaluated: {error}", place=str(path)) from None


def _check_unique(pins: Sequence[Pin], path: Path) -> None:
    versions: dict[str, set[Version]] = {}
    for pin in pins:
        versions.setdefault(pin.name, set()).add(pin.version)
    for name, pinned in versions.items():
        if len(pinned) > 1:
            listed = ", ".join(str(version) for version in sorted(pinned))
            raise LockError(f"{name} is pinned to several versions: {listed}", place=str(path))
