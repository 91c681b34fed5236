"""What containers print: kept whole in a file while it is of a sane size, and its end for messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hatch_docker.support.atomic import writing

# Nobody reads more, and a build that prints without end must not fill the disk.
_LARGEST = 64 << 20
_TAIL = 1 << 18
_USER = re.compile(rb"(?<=//)[^/@\s]*@")


class Log:
    """A log while it is written. `path` is told in messages."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self._room = _LARGEST
        self._tail = bytearray()

    def write(self, data: bytes) -> None:
        """Add what was printed; what is beyond the largest size is not kept. Raises OutputError."""
        self._tail += data
        del self._tail[:-_TAIL]
        if self._room > 0:
            rest = data[: self._room]
            self._room -= len(data)
            with writing(self.path):
                self._file.write(rest if self._room > 0 else rest + b"\n(the log is cut here: it went on)\n")

    def end(self) -> str:
        """Its last lines as text, without the logins that addresses may have."""
        return _USER.sub(b"", bytes(self._tail)).decode("utf-8", errors="replace")


@contextmanager
def logging_to(path: Path) -> Iterator[Log]:
    """A new log at `path`, which somebody may watch while it grows. Raises OutputError."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # An older one may be somebody else's, be written by another build right now, or be a link.
        with suppress(FileNotFoundError):
            path.unlink()
        file = path.open("xb", buffering=0)
    with file:
        yield Log(path, file)
