"""Write files atomically: to a temporary file in the same directory, which is flushed and renamed."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

from hatch_docker.errors import OutputError
from hatch_docker.support.flocks import try_lock
from hatch_docker.support.patterns import regex

# Where files have no locks, what nobody wrote for so long is taken for abandoned.
STALE_SECONDS = 24 * 3600
# A temporary file, after the name of the run that it is of.
_PARTIAL = regex(r"(?:([0-9a-f]{32})-)?hatch-docker-[0-9a-f]{32}")
# A file that `replacing` writes.
_UNFINISHED = regex(r"\..+\.hatch-docker-[0-9a-f]{32}", re.DOTALL)
_HINTS = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "your quota is used up: free some space",
    errno.EACCES: "check the permissions of that directory",
    errno.EROFS: "that file system is read-only",
}


def is_writable(folder: Path) -> bool:
    """Whether files can be written to a folder, which may have to be made."""
    existing = existing_part(folder)
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def existing_part(path: Path) -> Path:
    """The path itself if it exists, else the nearest of its parents that does. What cannot be seen does not exist."""
    return next(each for each in (path, *path.absolute().parents) if os.path.exists(each))  # noqa: PTH110


@contextlib.contextmanager
def writing(place: Path, *, otherwise: str = "") -> Iterator[None]:
    """Turn an OSError into an OutputError at `place`; `otherwise` is another hint.

    Nothing but writing belongs into the block: an OSError of a reader would be reported as one of `place`. `writable`
    gives a file for what is read and written in turns.
    """
    try:
        yield
    except OSError as error:
        hint = ", or ".join(filter(None, (_HINTS.get(error.errno or 0, ""), otherwise)))
        raise OutputError(f"cannot write: {error.strerror or error}", place=str(place), hint=hint) from None


class _Writable(io.FileIO):
    """A file, or an open descriptor, to write to. Its errors are OutputErrors at `place`."""

    def __init__(
        self, file: Path | int, mode: str, place: Path, otherwise: str, wrote: Callable[[], object] = lambda: None
    ) -> None:
        self._wrote = wrote
        self._refusals: Callable[[], AbstractContextManager[None]] = functools.partial(
            writing, place, otherwise=otherwise
        )
        with self._refusals():
            super().__init__(file, mode)

    def write(self, data: Any) -> int:
        self._wrote()
        with self._refusals():
            return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        with self._refusals():
            return super().truncate(size)

    def close(self) -> None:
        # Network file systems report here that a quota is used up.
        with self._refusals():
            super().close()


def writable(file: Path | int, place: Path, *, otherwise: str = "") -> BinaryIO:
    """Open a file to write, or a descriptor, which is closed with it. Writing raises OutputError, as `writing` does."""
    return io.BufferedWriter(_Writable(file, "wb", place, otherwise))


def spool(path: Path, place: Path, *, otherwise: str = "", wrote: Callable[[], object] = lambda: None) -> BinaryIO:
    """Open an empty file as `writable` does, which can be read, too; `wrote` is called for each write to it."""
    return io.BufferedRandom(_Writable(path, "w+b", place, otherwise, wrote))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside `path` to write. It replaces `path` at the end of the block, unless that raises.

    Raises OutputError if the file system refuses.
    """
    with contextlib.ExitStack() as stack:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep_unfinished(path.parent)
            partial = stack.enter_context(partial_file(path.parent, f".{path.name}."))
            stack.enter_context(_used(partial))
        with writable(partial, path) as file:
            yield file
        with writing(path):
            publish(partial, path)


@contextlib.contextmanager
def _used(partial: Path) -> Iterator[None]:
    """Lock a file for the duration of the block, where the system has such locks."""
    if os.name == "nt":
        # It does not rename open files.
        yield
        return
    while True:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
        # Another process may have seen it before it was locked.
        if try_lock(descriptor) is not False and os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def _sweep_unfinished(directory: Path) -> None:
    """Remove the files beside any file that were to replace it, and which nobody writes any more."""
    with contextlib.suppress(OSError), os.scandir(directory) as items:
        for item in items:
            if _UNFINISHED.fullmatch(item.name):
                with contextlib.suppress(OSError):
                    _remove_free(Path(item.path))


def _remove_free(path: Path) -> None:
    """Remove a regular file that nobody has locked; where there are no locks, one that nobody wrote for a day."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return
    with path.open("r+b") as file:
        free = try_lock(file.fileno())
        if free is False or (free is None and status.st_mtime > time.time() - STALE_SECONDS):
            return
        # Whoever else found it free may have removed it, and its writer made it again.
        if free and not os.fstat(file.fileno()).st_nlink:
            return
        if free:
            path.unlink()
            return
    path.unlink()


def replace_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all. Raises OutputError if the file system refuses."""
    with replacing(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def partial_file(directory: Path, prefix: str = "") -> Iterator[Path]:
    """A new file with a name for `sweep` in `directory`. It is removed at the end of the block unless it was moved."""
    partial = directory / f"{prefix}hatch-docker-{os.urandom(16).hex()}"
    # Unlike mkstemp's file, it has the umask's permissions: a cache or dist directory may be shared.
    partial.touch(exist_ok=False)
    try:
        yield partial
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def publish(partial: Path, path: Path) -> None:
    """Flush a complete file and rename it to `path`."""
    # Windows flushes only files that are open for writing.
    with partial.open("r+b") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def sweep(directory: Path, running: Collection[str] | None = None) -> None:
    """Remove files of `partial_file` whose processes were killed: nobody wrote them for a day.

    With the names of the runs that go on, those of all other runs are removed at once. Nothing is removed if
    `directory` is a symbolic link: the target may belong to another user.
    """
    with contextlib.suppress(OSError):
        # On Windows, junctions are links too.
        if directory.is_symlink() or getattr(directory.lstat(), "st_reparse_tag", False):
            return
        for path in directory.iterdir():
            if partial := _PARTIAL.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode) and _is_left(partial[1], status.st_mtime, running):
                        path.unlink()


def _is_left(run: str | None, written: float, running: Collection[str] | None) -> bool:
    if run is not None and running is not None:
        return run not in running
    return written <= time.time() - STALE_SECONDS
