"""Hashed requirements → Pylock. They hold no URLs: an index is asked for each name, and its files chosen by hash.

What a hash leads to never changes, so the answer is cached, and a rebuild asks no index.
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


def read_requirements(path: Path, wanted: InstallRequest, lookup: FileFinder) -> Pylock:
    """Read a hashed requirements file and find its files in the index.

    Raises LockError for what is not pinned or hashed, or where the index has no file with a locked hash.
    """
    pins = [pin for pin in read_pins(path) if _applies(pin, wanted, path)]
    _check_unique(pins, path)
    key = _key(pins, lookup)
    document = lookup.cache.get(_KIND, key) if lookup.cache else None
    if document is None:
        document = _find(pins, lookup, place=str(path))
        if lookup.cache and not any(urlsplit(url).query for url in _urls(document)):
            lookup.cache.put(_KIND, key, document)
    return validated(document, place=str(path))


def _applies(pin: Pin, wanted: InstallRequest, path: Path) -> bool:
    try:
        return pin.marker is None or evaluate(pin.marker, wanted.target)
    except MARKER_ERRORS as error:
        raise LockError(f"the marker of {pin.name} cannot be evaluated: {error}", place=str(path)) from None


def _check_unique(pins: Sequence[Pin], path: Path) -> None:
    versions: dict[str, set[Version]] = {}
    for pin in pins:
        versions.setdefault(pin.name, set()).add(pin.version)
    for name, found in versions.items():
        if len(found) > 1:
            listed = ", ".join(str(version) for version in sorted(found))
            raise LockError(f"{name} is pinned to several versions: {listed}", place=str(path))


def _key(pins: Sequence[Pin], lookup: FileFinder) -> str:
    """All that shapes the answer, without credentials."""
    locked = sorted((pin.name, str(pin.version), sorted(pin.hashes)) for pin in pins)
    return json.dumps({"pins": locked, "indexes": [redact(url) for url in lookup.indexes()]})


def _find(pins: Sequence[Pin], lookup: FileFinder, *, place: str) -> dict[str, Any]:
    """The pylock document of the pins, from the index's answers; all that are missing are reported at once.

    It says whether the pins have the hashes of all that there is, as tools write them, or only those of one platform.
    """
    merged: dict[str, Pin] = {}
    for pin in pins:
        known = merged.get(pin.name)
        hashes = pin.hashes | known.hashes if known else pin.hashes
        merged[pin.name] = Pin(name=pin.name, version=pin.version, marker=None, hashes=hashes)
    ordered = sorted(merged.values(), key=lambda pin: pin.name)
    found = together(lambda pin: _files(pin, lookup), ordered, threads=lookup.threads)
    packages = [_package(pin, files) for pin, files in zip(ordered, found, strict=True)]
    if missing := [f"{each['name']} {each['version']}" for each in packages if not each.keys() & {"wheels", "sdist"}]:
        raise LockError(
            f"the index has no file with a locked hash of {', '.join(missing)}",
            place=place,
            hint="was it locked from another index (index-url)? else lock again",
        )
    whole = all(_vouched(pin, file) for pin, files in zip(ordered, found, strict=True) for file in files)
    tool = {"hatch-docker": {"universal": whole}}
    return {"lock-version": "1.0", "created-by": "hatch-docker", "packages": packages, "tool": tool}


def _files(pin: Pin, lookup: FileFinder) -> list[IndexFile]:
    """The index's files of the pinned version, in a fixed order."""
    files = [file for file in lookup.files(pin.name) if is_file_of(file.filename, pin.name, pin.version)]
    return sorted(files, key=lambda file: file.filename)


def _package(pin: Pin, files: Iterable[IndexFile]) -> dict[str, Any]:
    package: dict[str, Any] = {"name": pin.name, "version": str(pin.version)}
    for file in files:
        hashes = _vouched(pin, file)
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


def _vouched(pin: Pin, file: IndexFile) -> dict[str, str]:
    """The hashes of a file that are locked."""
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
