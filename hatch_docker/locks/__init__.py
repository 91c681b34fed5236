"""A lock file → `packaging.pylock.Pylock` → the artifacts for one target.

`LOCK_READERS` (formats.py) is the table of formats; every reader gives a Pylock, and one selection path follows.
"""

from hatch_docker.index.access import FileFinder
from hatch_docker.index.artifact import Artifact
from hatch_docker.locks.check import check_complete, check_fresh
from hatch_docker.locks.formats import LOCK_READERS, LockFormat, find_lock, read_lock
from hatch_docker.locks.model import InstallRequest, overridden
from hatch_docker.locks.readers.requirements_file import indexes
from hatch_docker.locks.select import select

__all__ = [
    "LOCK_READERS",
    "Artifact",
    "FileFinder",
    "InstallRequest",
    "LockFormat",
    "check_complete",
    "check_fresh",
    "find_lock",
    "indexes",
    "overridden",
    "read_lock",
    "select",
]
