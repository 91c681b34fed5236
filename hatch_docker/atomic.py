"""Write files whole or not at all: to a temporary name beside their place, flushed, then renamed."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hatch_docker.errors import OutputError

_STALE_SECONDS = 24 * 3600
_HINTS = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "your quota is used up: free some space",
    errno.EACCES: "check who owns that folder",
    errno.EROFS: "that file system is read-only",
}


def _umask() -> int:
    """The process's umask. It can only be read by setting it, which is safe before there are threads: at import."""
    umask = os.umask(0o022)
    os.umask(umask)
    return umask


_UMASK = _umask()


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
        sweep(path.parent, f".{glob.escape(path.name)}.*")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            publish(partial, path)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()


def publish(partial: Path, path: Path) -> None:
    """Flush a finished file and rename it to its place, with the permissions that the umask leaves."""
    # Windows flushes only what is open for writing.
    with partial.open("r+b") as file:
        os.fsync(file.fileno())
    # mkstemp makes private files, but a cache or a dist folder may be shared.
    partial.chmod(0o666 & ~_UMASK)
    partial.replace(path)


def sweep(folder: Path, pattern: str = "*") -> None:
    """Remove the temporary files of processes that died a day ago or before."""
    oldest = time.time() - _STALE_SECONDS
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
