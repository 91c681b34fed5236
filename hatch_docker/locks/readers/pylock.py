"""pylock.toml (PyPA: pylock.toml specification, PEP 751) → Pylock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.pylock import Pylock, PylockValidationError

from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder
from hatch_docker.locks.model import InstallRequest, read_toml


def read_pylock(path: Path, wanted: InstallRequest, lookup: FileFinder) -> Pylock:  # noqa: ARG001
    """Read a pylock file. Raises LockError with the key that is wrong."""
    return validated(read_toml(path), place=str(path))


def validated(document: Mapping[str, Any], *, place: str) -> Pylock:
    """The Pylock of a document; raises LockError with the key that is wrong, or all files without a hash."""
    if unhashed := sorted(set(_without_hashes(document))):
        raise LockError(
            f"missing hashes for {', '.join(unhashed)}",
            place=place,
            hint="every file of a lock needs a hash: lock again from an index that publishes them",
        )
    try:
        # The specification requires `packages`. uv before 0.12 leaves it out of a lock that has none.
        if document.get("created-by") == "uv":
            document = {"packages": [], **document}
        return Pylock.from_dict(document)
    except PylockValidationError as error:
        raise LockError(
            f"{error.message} ({error.context})" if error.context else error.message,
            place=place,
            hint="it does not follow the pylock.toml specification: make it again with the tool it comes from",
        ) from None


def _without_hashes(document: Mapping[str, Any]) -> Iterator[str]:
    """The names of packages with a file that has no hashes; what is no valid pylock is left to its validation."""
    packages = document.get("packages")
    for package in packages if isinstance(packages, list) else []:
        if not isinstance(package, dict):
            continue
        wheels = package.get("wheels", [])
        files = [package.get("sdist"), package.get("archive"), *(wheels if isinstance(wheels, list) else [])]
        if any(isinstance(file, dict) and not file.get("hashes") for file in files):
            yield str(package.get("name", "?"))
