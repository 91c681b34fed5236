"""A lock file → `packaging.pylock.Pylock` → the artifacts for one target.

`LOCK_READERS` (formats.py) is the table of formats; every reader gives a Pylock, and one selection path follows.
"""

from hatch_docker.locks.formats import LOCK_READERS, LockFormat, find_lock, read_lock
from hatch_docker.locks.freshness import check_complete, check_fresh
from hatch_docker.locks.pins import indexes
from hatch_docker.locks.reading import Lookup, Wanted, overridden
from hatch_docker.locks.selection import Artifact, select

__all__ = [
    "LOCK_READERS",
    "Artifact",
    "LockFormat",
    "Lookup",
    "Wanted",
    "check_complete",
    "check_fresh",
    "find_lock",
    "indexes",
    "overridden",
    "read_lock",
    "select",
]
