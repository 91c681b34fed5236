"""Packages that another tool locked → Pylock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.pylock import Pylock

from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder
from hatch_docker.locks.readers.by_hash import Hashed, find_by_hash
from hatch_docker.locks.readers.pylock import validated

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
