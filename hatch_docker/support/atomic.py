"""Write files whole or not at all: to a temporary name beside their place, flushed, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from hatch_docker.errors import OutputError

_STALE_SECONDS = 24 * 3600
_PARTIAL = re.compile(r"hatch-docker-[0-9a-f]{32}")
_HINTS = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "your quota is used up: free some space",
    errno.EACCES: "check who owns that folder",
    errno.EROFS: "that file system is read-only",
}


@contextlib.contextmanager
def writing(place: Path, *, otherwise: str = "") -> Iterator[None]:
    """Turn what the file system refuses into an OutputError that names `place`; `otherwise` is what else to do."""
    try:
        yield
    except OSError as error:
        hint = ", or ".join(filter(None, (_HINTS.get(error.errno or 0, ""), otherwise)))
        raise OutputError(f"cannot write: {error.strerror or error}", place=str(place), hint=hint) from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well, and is gone otherwise.

    Raises OutputError where the file system refuses.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.name}."
        sweep(path.parent, prefix)
        with partial_file(path.parent, prefix) as partial:
            yield partial
            publish(partial, path)


@contextlib.contextmanager
def partial_file(folder: Path, prefix: str = "") -> Iterator[Path]:
    """A new file in `folder` under a name that `sweep` knows, gone at the end of the block unless it was moved."""
    partial = folder / f"{prefix}hatch-docker-{uuid.uuid4().hex}"
    # Unlike mkstemp's, with the permissions that the umask leaves: a cache or a dist folder may be shared.
    partial.touch(exist_ok=False)
    try:
        yield partial
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def publish(partial: Path, path: Path) -> None:
    """Flush a finished file and rename it to its place."""
    # Windows flushes only what is open for writing.
    with partial.open("r+b") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def sweep(folder: Path, prefix: str = "") -> None:
    """Remove the files of `partial_file` that are a day old: the processes that wrote them have died.

    Files of other names stay. If `folder` is a symbolic link, all files stay: the folder may be somebody else's.
    """
    oldest = time.time() - _STALE_SECONDS
    with contextlib.suppress(OSError):
        # On Windows, junctions are links, too.
        if folder.is_symlink() or getattr(folder.lstat(), "st_reparse_tag", False):
            return
        for path in folder.iterdir():
            if path.name.startswith(prefix) and _PARTIAL.fullmatch(path.name, len(prefix)):
                with contextlib.suppress(OSError):
                    found = path.lstat()
                    if stat.S_ISREG(found.st_mode) and found.st_mtime < oldest:
                        path.unlink()
