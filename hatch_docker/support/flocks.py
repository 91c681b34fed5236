"""Locks between threads and processes, by flock(2): the kernel releases them when a process ends, however it ends.

Where files cannot be locked (on Windows, on some network file systems, in a read-only directory), threads of a process
wait for each other, and nobody waits for another process.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakValueDictionary

# In seconds: without a sign of progress for so long, nobody waits for the holder of a lock any more.
PATIENCE = 120.0
_LONGEST_PAUSE = 0.1
_SIGN_SECONDS = 1.0
_guard = threading.Lock()
_of_threads: WeakValueDictionary[Path, _ThreadLock] = WeakValueDictionary()


class _ThreadLock:
    """A lock of a path, for the threads of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class _Held(threading.local):
    """The locks that a thread holds, with their descriptors, and when it showed progress last."""

    def __init__(self) -> None:
        self.descriptors: dict[Path, int] = {}
        self.shown = 0.0


_held = _Held()


def try_lock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Lock an open file, unless another one has locked it: whether that succeeded. None where files have no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


@contextlib.contextmanager
def alone(path: Path, *, patience: float = PATIENCE) -> Iterator[None]:
    """Wait until no other thread or process is in such a block for `path`, a file that is made for it and removed.

    If the other one is killed, one of those that wait takes its place at once. Nobody waits any longer once it ended,
    even if it failed, nor after it has not `progressed` for `patience` seconds.
    """
    if path in _held.descriptors:
        # It would wait for itself.
        yield
        return
    descriptor = _taken(path, patience)
    if descriptor is None:
        with _among_threads(path, patience):
            yield
        return
    if descriptor < 0:
        yield
        return
    _held.descriptors[path] = descriptor
    try:
        yield
    finally:
        del _held.descriptors[path]
        # While it is locked, so that nobody locks a file that is gone: who waits sees that its holder ended by itself.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def progressed() -> None:
    """Show those that wait for this thread that it makes progress."""
    now = time.monotonic()
    if _held.descriptors and now - _held.shown > _SIGN_SECONDS:
        _held.shown = now
        for descriptor in _held.descriptors.values():
            with contextlib.suppress(OSError):
                os.utime(descriptor)


def remove_free(folder: Path) -> None:
    """Remove the files of `alone` in a directory that killed processes left."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError), locked(path, patience=0) as free:
                if free:
                    path.unlink()


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False, patience: float = PATIENCE) -> Iterator[bool | None]:
    """Lock a file, which is made if it is missing, or a directory, after waiting for others as `alone` does.

    Whether that succeeded: it does not if its holder makes no progress. None where there are no locks. With `shared`,
    others may share the lock, and only those wait that do not.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        yield None
        return
    try:
        yield _wait(descriptor, patience, shared=shared)
    finally:
        os.close(descriptor)


def _taken(path: Path, patience: float) -> int | None:
    """A descriptor of the locked file; -1 if others need not be waited for; None if there are no locks."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        locked = try_lock(descriptor)
        waits = locked is False
        if waits:
            locked = _wait(descriptor, patience)
        # A process that is killed leaves the file.
        if locked and os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)
        if locked is None:
            return None
        if waits:
            return -1


def _wait(descriptor: int, patience: float, *, shared: bool = False) -> bool | None:
    """Lock an open file; False if its holder makes no progress."""
    seen, deadline, pause = -1, 0.0, 0.002
    while not (locked := try_lock(descriptor, shared=shared)):
        if locked is None:
            return None
        now, sign = time.monotonic(), os.fstat(descriptor).st_mtime_ns
        if sign != seen:
            seen, deadline = sign, now + patience
        elif now >= deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return True


@contextlib.contextmanager
def _among_threads(path: Path, patience: float) -> Iterator[None]:
    with _guard:
        mine = _of_threads.setdefault(path, _ThreadLock())
    acquired = mine.lock.acquire(timeout=patience)
    try:
        yield
    finally:
        if acquired:
            mine.lock.release()
