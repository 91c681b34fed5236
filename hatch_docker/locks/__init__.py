"""A lock file → `packaging.pylock.Pylock` → the artifacts for one target.

`LOCK_FORMATS` (formats.py) is the table of formats. Every reader returns a Pylock, and one selection follows.
"""

from hatch_docker.index.access import FileFinder
from hatch_docker.index.artifact import Artifact
from hatch_docker.locks.check import check_complete, check_fresh
from hatch_docker.locks.formats import LOCK_FORMATS, LockFormat, find_lock, named_indexes, read_lock
from hatch_docker.locks.model import InstallRequest, overridden
from hatch_docker.locks.select import select

__all__ = [
    "LOCK_FORMATS",
    "Artifact",
    "FileFinder",
    "InstallRequest",
    "LockFormat",
    "check_complete",
    "check_fresh",
    "find_lock",
    "named_indexes",
    "overridden",
    "read_lock",
    "select",
]
