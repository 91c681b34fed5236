"""Open files by paths that others chose, such as those in a lock. It imports nothing of ours."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

# In bytes, of a text that is read whole, such as a lock. The largest real ones have a tenth of that.
TEXT_LIMIT = 64 << 20
# A named pipe that nobody writes to would block. O_BINARY is Windows'.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read. Raises OSError for anything else: a pipe would block, and a device may never end."""
    _check(path, path.stat().st_mode)
    descriptor = os.open(path, _FLAGS)
    try:
        # It may have been replaced since.
        _check(path, os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, limit: int = TEXT_LIMIT) -> bytes:
    """The content of a regular file. Raises OSError for anything else, and for one of more than `limit` bytes."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit >> 20} MiB", str(path))
    return data


def _check(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
