"""Hashed requirements → Pylock. They have no URLs: the files of each name are found in an index, by their hashes.

The file of a hash never changes, so the result is cached, and the next build needs no index.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from packaging.pylock import Pylock
from packaging.version import Version

from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder
from hatch_docker.index.client import IndexFile
from hatch_docker.locks.model import MARKER_ERRORS, InstallRequest, evaluate, is_file_of
from hatch_docker.locks.readers.pylock import validated
from hatch_docker.locks.readers.requirements_file import Pin, read_pins
from hatch_docker.support.http import redact
from hatch_docker.support.threads import together

_KIND = "requirements-lock-2"


def read_requirements(path: Path, request: InstallRequest, finder: FileFinder) -> Pylock:
    """Read a hashed requirements file, and find its files in the index.

    Raises LockError for requirements without a pin or hashes, or if the index has no file with a locked hash.
    """
    pins = [pin for pin in read_pins(path) if _applies(pin, request, path)]
    _check_unique(pins, path)
    key = _key(pins, finder)
    document = finder.cache.get(_KIND, key) if finder.cache else None
    if document is None:
        document = _find(pins, finder, place=str(path))
        if finder.cache and not any(urlsplit(url).query for url in _urls(document)):
            finder.cache.put(_KIND, key, document)
    return validated(document, place=str(path))


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


def _key(pins: Sequence[Pin], finder: FileFinder) -> str:
    """The cache key: pins and indexes, without logins."""
    locked = sorted((pin.name, str(pin.version), sorted(pin.hashes)) for pin in pins)
    return json.dumps({"pins": locked, "indexes": [redact(url) for url in finder.indexes()]})


def _find(pins: Sequence[Pin], finder: FileFinder, *, place: str) -> dict[str, Any]:
    """The pylock document of the pins, from the files of the index. Raises LockError for all missing ones at once.

    The document is `universal` if the pins have the hashes of all files, and not only of those for one platform.
    """
    merged: dict[str, Pin] = {}
    for pin in pins:
        other = merged.get(pin.name)
        hashes = pin.hashes | other.hashes if other else pin.hashes
        merged[pin.name] = Pin(name=pin.name, version=pin.version, marker=None, hashes=hashes)
    ordered = sorted(merged.values(), key=lambda pin: pin.name)
    found = together(lambda pin: _files(pin, finder), ordered, threads=finder.threads)
    packages = [_package(pin, files) for pin, files in zip(ordered, found, strict=True)]
    if missing := [f"{each['name']} {each['version']}" for each in packages if not each.keys() & {"wheels", "sdist"}]:
        raise LockError(
            f"the index has no file with a locked hash of {', '.join(missing)}",
            place=place,
            hint="lock again, or set index-url if it was locked from another index",
        )
    universal = all(_locked_hashes(pin, file) for pin, files in zip(ordered, found, strict=True) for file in files)
    tool = {"hatch-docker": {"universal": universal}}
    return {"lock-version": "1.0", "created-by": "hatch-docker", "packages": packages, "tool": tool}


def _files(pin: Pin, finder: FileFinder) -> list[IndexFile]:
    """The index's files of the pinned version, in a fixed order."""
    files = [file for file in finder.files(pin.name) if is_file_of(file.filename, pin.name, pin.version)]
    return sorted(files, key=lambda file: file.filename)


def _package(pin: Pin, files: Iterable[IndexFile]) -> dict[str, Any]:
    package: dict[str, Any] = {"name": pin.name, "version": str(pin.version)}
    for file in files:
        hashes = _locked_hashes(pin, file)
        if not hashes:
            continue
        entry: dict[str, Any] = {"name": file.filename, "url": _without_user(file.url), "hashes": hashes}
        if file.size is not None:
            entry["size"] = file.size
        if file.filename.endswith(".whl"):
            package.setdefault("wheels", []).append(entry)
        else:
            package.setdefault("sdist", entry)
    return package


def _locked_hashes(pin: Pin, file: IndexFile) -> dict[str, str]:
    """The hashes of a file that are locked, by algorithm."""
    return {
        algorithm: value for algorithm, value in file.hashes.items() if f"{algorithm}:{value}".lower() in pin.hashes
    }


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))


def _urls(document: dict[str, Any]) -> list[str]:
    return [
        file["url"]
        for package in document["packages"]
        for file in [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    ]
