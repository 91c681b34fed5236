"""pylock.toml (PyPA: pylock.toml specification, PEP 751) → Pylock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.pylock import Pylock, PylockValidationError

from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder
from hatch_docker.locks.model import InstallRequest, read_toml


def read_pylock(path: Path, request: InstallRequest, finder: FileFinder) -> Pylock:  # noqa: ARG001
    """Read a pylock file. Raises LockError with the invalid key."""
    return validated(read_toml(path), place=str(path))


def validated(document: Mapping[str, Any], *, place: str) -> Pylock:
    """The Pylock of a document. Raises LockError with the invalid key, or with all packages that lack hashes."""
    if unhashed := sorted(set(_without_hashes(document))):
        raise LockError(
            f"missing hashes for {', '.join(unhashed)}",
            place=place,
            hint="every file of a lock needs a hash: lock again from an index that publishes hashes",
        )
    try:
        # The specification requires `packages`. uv before 0.12 omits it if a lock has none.
        if document.get("created-by") == "uv":
            document = {"packages": [], **document}
        return Pylock.from_dict(document)
    except PylockValidationError as error:
        raise LockError(
            f"{error.message} ({error.context})" if error.context else error.message,
            place=place,
            hint="it does not follow the pylock.toml specification: make it again with its tool",
        ) from None


def _without_hashes(document: Mapping[str, Any]) -> Iterator[str]:
    """The names of packages with a file without hashes. Invalid documents are left to validation."""
    packages = document.get("packages")
    for package in packages if isinstance(packages, list) else []:
        if not isinstance(package, dict):
            continue
        wheels = package.get("wheels", [])
        files = [package.get("sdist"), package.get("archive"), *(wheels if isinstance(wheels, list) else [])]
        if any(isinstance(file, dict) and not file.get("hashes") for file in files):
            yield str(package.get("name", "?"))
