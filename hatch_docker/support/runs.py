"""The runs that use a directory: each holds a lock on a file of its own, so that others see when it ended.

What ended runs left behind is removed, and what the others used since they began is not.
"""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from contextlib import AbstractContextManager
from pathlib import Path

from hatch_docker.support.flocks import locked, try_lock

# In seconds: how long a run lasts at most, where it cannot be seen whether it ended.
_LONGEST = 24 * 3600
_GATE = "gate"


class Run:
    """A run that uses a directory, until it is closed or this object is gone. `began` is a time of its file system.

    `name` is part of the names of its temporary files; it is empty, and `began` 0, if it could not be recorded.
    """

    def __init__(self, folder: Path) -> None:
        self.name, self.began = "", 0
        name = os.urandom(16).hex()
        with contextlib.suppress(OSError), entering(folder):
            descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            try_lock(descriptor)
            self.name, self.began = name, os.fstat(descriptor).st_mtime_ns
            self._end = weakref.finalize(self, _end, folder / name, descriptor)

    def close(self) -> None:
        """End it."""
        if self.name:
            self._end()


def _end(path: Path, descriptor: int) -> None:
    # Windows removes no open file, so the file shows there, too, whether the run goes on.
    if os.name == "nt":
        os.close(descriptor)
    with contextlib.suppress(OSError):
        path.unlink()
    if os.name != "nt":
        os.close(descriptor)


def entering(folder: Path) -> AbstractContextManager[bool | None]:
    """A block that does not begin while the files of a directory are `excluding` it."""
    return locked(folder / _GATE, shared=True)


def excluding(folder: Path, *, patience: float) -> AbstractContextManager[bool | None]:
    """A block in which nothing is `entering`, unless its value is false. It is None where that cannot be known."""
    return locked(folder / _GATE, patience=patience)


def remove_ended(folder: Path) -> bool:
    """Remove the files of runs that ended without saying so: whether there were any. Only while `excluding`."""
    ended = [path for path in _runs(folder) if not _goes_on(path)]
    for path in ended:
        with contextlib.suppress(OSError):
            path.unlink()
    return bool(ended)


def running(folder: Path) -> frozenset[str]:
    """The names of the runs that go on. Only while `excluding`, after `remove_ended`."""
    return frozenset(path.name for path in _runs(folder))


def oldest(folder: Path) -> int:
    """When the first of the runs that go on began, in nanoseconds; now if there is none. Only while `excluding`."""
    times = [time.time_ns()]
    for path in _runs(folder):
        if _goes_on(path):
            with contextlib.suppress(OSError):
                times.append(path.stat().st_mtime_ns)
    return min(times)


def _runs(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.name != _GATE]
    except OSError:
        return []


def _goes_on(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        # Another user's, or gone.
        return path.exists()
    try:
        free = try_lock(descriptor)
        return not free if free is not None else time.time() - os.fstat(descriptor).st_mtime < _LONGEST
    finally:
        os.close(descriptor)
