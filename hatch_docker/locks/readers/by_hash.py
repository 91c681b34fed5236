"""Find the files of locked packages in an index by their hashes, for locks that have no URLs.

The file of a hash never changes, so the result is cached, and the next build needs no index.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from packaging.version import Version

from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder
from hatch_docker.index.client import IndexFile
from hatch_docker.index.credentials import split_login
from hatch_docker.locks.model import is_file_of
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.redaction import redact
from hatch_docker.support.threads import together

_KIND = "files-by-hash-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashed:
    """One version of a package (normalized name), with the digests (`sha256:…`) that its files may have.

    `indexes` are the URLs of the only indexes to ask, if the lock names them; they may contain logins.
    """

    name: str
    version: Version
    hashes: frozenset[str]
    indexes: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The packages of a pylock document, in the order of the search.

    `universal` says that the lock has the hashes of all files, and not only of those for one platform.
    """

    packages: Sequence[Mapping[str, Any]]
    universal: bool


def find_by_hash(wanted: Sequence[Hashed], finder: FileFinder, *, place: str) -> Found:
    """Find the files of packages by their hashes. Raises LockError for all packages without any at once."""
    key = _key(wanted, finder)
    document = finder.cache.get(_KIND, key) if finder.cache else None
    if document is None:
        listed = together(lambda each: _files(each, finder), wanted, threads=finder.threads)
        packages = [_package(each, files) for each, files in zip(wanted, listed, strict=True)]
        _check_found(packages, wanted, place, finder.indexes())
        pairs = zip(wanted, listed, strict=True)
        universal = all(_locked_hashes(each, file) for each, files in pairs for file in files)
        document = {"packages": packages, "universal": universal}
        if finder.cache and not any(urlsplit(url).query for url in _urls(packages)):
            finder.cache.put(_KIND, key, document)
    return Found(packages=document["packages"], universal=document["universal"])


def _key(wanted: Sequence[Hashed], finder: FileFinder) -> str:
    """The cache key: packages and indexes, without logins."""
    locked = [
        (each.name, str(each.version), sorted(each.hashes), [redact(url) for url in each.indexes]) for each in wanted
    ]
    return json.dumps({"wanted": locked, "indexes": [redact(url) for url in finder.indexes()]})


def _check_found(
    packages: Iterable[Mapping[str, Any]], wanted: Iterable[Hashed], place: str, indexes: Sequence[str]
) -> None:
    missing = [
        f"{each.name} {each.version}{_at(each)}"
        for package, each in zip(packages, wanted, strict=True)
        if not package.keys() & {"wheels", "sdist"}
    ]
    if missing:
        # A proxy may have answered with a page of its own, which lists nothing.
        asked = f" than {', '.join(map(redact, indexes))}" if indexes else ""
        raise LockError(
            f"the index has no file with a locked hash of {', '.join(missing)}",
            place=place,
            hint=f"lock again, or set index-url if it was locked from another index{asked}",
        )


def _at(wanted: Hashed) -> str:
    return f" (in {', '.join(map(redact, wanted.indexes))})" if wanted.indexes else ""


def _files(wanted: Hashed, finder: FileFinder) -> list[IndexFile]:
    """The index's files of the version, in a fixed order."""
    listed = finder.files_at(wanted.name, wanted.indexes) if wanted.indexes else finder.files(wanted.name)
    files = [file for file in listed if is_file_of(file.filename, wanted.name, wanted.version)]
    return sorted(files, key=lambda file: file.filename)


def _package(wanted: Hashed, files: Iterable[IndexFile]) -> dict[str, Any]:
    package: dict[str, Any] = {"name": wanted.name, "version": str(wanted.version)}
    if len(wanted.indexes) == 1:
        package["index"] = _without_user(wanted.indexes[0])
    for file in files:
        hashes = _locked_hashes(wanted, file)
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


def _locked_hashes(wanted: Hashed, file: IndexFile) -> dict[str, str]:
    """The hashes of a file that are locked, by algorithm."""
    return {
        algorithm: value for algorithm, value in file.hashes.items() if f"{algorithm}:{value}".lower() in wanted.hashes
    }


def _without_user(url: str) -> str:
    return split_login(url)[0].partition("#")[0]


def _urls(packages: Iterable[Mapping[str, Any]]) -> list[str]:
    return [
        cast("str", file["url"])
        for package in packages
        for file in [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    ]
