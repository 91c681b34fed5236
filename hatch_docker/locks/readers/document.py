"""Packages that another tool locked → Pylock."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from packaging.pylock import Pylock

from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder
from hatch_docker.locks.readers.by_hash import Hashed, find_by_hash
from hatch_docker.locks.readers.pylock import validated
from hatch_docker.support.regular import open_regular

# A package as a pylock has it, or one whose files are to be found by their hashes.
Entry = Mapping[str, Any] | Hashed


def to_pylock(entries: Sequence[Entry], finder: FileFinder, path: Path, scope: Mapping[str, Any]) -> Pylock:
    """The Pylock of a lock's packages, which were chosen for a target.

    `scope` has the keys of a pylock document that say what the lock covers. Raises LockError; the index's own errors
    pass through.
    """
    hashed = sorted((each for each in entries if isinstance(each, Hashed)), key=lambda each: each.name)
    if unhashed := [each.name for each in hashed if not each.hashes]:
        raise LockError(
            f"missing hashes for {', '.join(unhashed)}",
            place=str(path),
            hint="every file of a lock needs a hash: lock again from an index that publishes hashes",
        )
    found = find_by_hash(hashed, finder, place=str(path))
    others = [each for each in entries if isinstance(each, Mapping)]
    document = {
        "lock-version": "1.0",
        "created-by": "hatch-docker",
        "packages": sorted([*found.packages, *others], key=lambda each: str(each["name"])),
        **scope,
    }
    own = {"universal": found.universal, **scope.get("tool", {}).get("hatch-docker", {})}
    return validated({**document, "tool": {"hatch-docker": own}}, place=str(path))


def checkout(name: str, kind: str, url: str, commit: str, subdirectory: str) -> dict[str, Any]:
    """The package of a commit in a repository of the version control system `kind`.

    Raises LockError without a full hash of a commit: an editable checkout, or a branch.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{40,64}", commit):
        raise LockError(f"{name} comes from {kind}, and the lock has no commit of it (it has {commit or 'none'!r})")
    vcs = {"type": kind, "url": url, "commit-id": commit.lower(), "subdirectory": subdirectory or None}
    return {"name": name, "vcs": vcs}


def directory(name: str, path: str, subdirectory: str) -> dict[str, Any]:
    """The package of a local directory, relative to the lock."""
    return {"name": name, "directory": {"path": path, "subdirectory": subdirectory or None}}


def archive(where: str, hashes: Set[str], lock: Path, subdirectory: str) -> dict[str, Any]:
    """The `archive` of a pylock for a file by URL or path, with the locked digests (`sha256:…`) of its package.

    A local file is hashed here, since its tool may lock no hashes, or those of the index's files. Raises LockError if
    it is not the locked one.
    """
    local = "://" not in where
    known = sorted(hashes)
    if local and (file := lock.parent / where).is_file() and (not known or _has_sha256(known)):
        digest = f"sha256:{_sha256(file)}"
        if known and digest not in hashes:
            raise LockError(f"{where} is not the file that was locked: its hash differs")
        known = [digest]
    algorithm, _, value = next(iter(known), "").partition(":")
    if len(known) > 1:
        raise LockError(f"{where.rpartition('/')[2]} has several hashes, and one file")
    place = "path" if local else "url"
    return {place: where, "hashes": {algorithm: value} if value else {}, "subdirectory": subdirectory or None}


def _has_sha256(hashes: Sequence[str]) -> bool:
    return any(each.startswith("sha256:") for each in hashes)


def _sha256(file: Path) -> str:
    try:
        with open_regular(file) as stream:
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        raise LockError(f"{file} cannot be read: {error.strerror or error}") from None
