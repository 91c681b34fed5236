"""pylock.toml (PyPA: pylock.toml specification, PEP 751) → Pylock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from packaging.pylock import Package, Pylock, PylockValidationError

from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder
from hatch_docker.locks.model import InstallRequest, read_toml


def read_pylock(path: Path, request: InstallRequest, finder: FileFinder) -> Pylock:  # noqa: ARG001
    """Read a pylock file. Raises LockError with the invalid key."""
    return validated(read_toml(path), place=str(path))


def validated(document: Mapping[str, Any], *, place: str) -> Pylock:
    """The Pylock of a document. Raises LockError with the invalid key.

    Files without hashes get a placeholder, since a lock is used if the files that are selected have hashes.
    """
    try:
        # The specification requires `packages`. uv before 0.12 omits it if a lock has none.
        if document.get("created-by") == "uv":
            document = {"packages": [], **document}
        if isinstance(document.get("packages"), list):
            document = {**document, "packages": [_with_hashes(each) for each in document["packages"]]}
        pylock = Pylock.from_dict(document)
    except PylockValidationError as error:
        raise LockError(
            f"{error.message} ({error.context})" if error.context else error.message,
            place=place,
            hint="it does not follow the pylock.toml specification: make it again with its tool",
        ) from None
    for package in pylock.packages:
        _check_sources(package, place)
    return pylock


def _check_sources(package: Package, place: str) -> None:
    """Raise LockError for a path or URL that later steps could not split or open."""
    sources = [each for each in (package.vcs, package.directory, package.archive, package.sdist) if each]
    for source in (*sources, *(package.wheels or ())):
        for value in (source.path, getattr(source, "url", None), package.index):
            if value and not _is_valid(value):
                raise LockError(
                    f"{package.name} has a path or URL that is not valid ({value!r})",
                    place=place,
                    hint="make the lock again with its tool",
                )


def _is_valid(path_or_url: str) -> bool:
    try:
        urlsplit(path_or_url)
    except ValueError:
        return False
    return "\0" not in path_or_url


def _with_hashes(package: object) -> object:
    """A package whose files all have `hashes`. Invalid ones are left to validation."""
    if not isinstance(package, dict):
        return package
    files = {key: _file(package[key]) for key in ("sdist", "archive") if key in package}
    if isinstance(wheels := package.get("wheels"), list):
        files["wheels"] = [_file(each) for each in wheels]
    return {**package, **files}


def _file(file: object) -> object:
    return {**file, "hashes": {"none": ""}} if isinstance(file, dict) and not file.get("hashes") else file
