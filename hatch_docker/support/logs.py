"""Logs of containers' output: a file of limited size, and the last lines for messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hatch_docker.support.atomic import writing

# In bytes. A build that prints without end must not fill the disk.
_LARGEST = 64 << 20
_TAIL = 1 << 18
_USER = re.compile(rb"(?<=//)[^/@\s]*@")


class Log:
    """A log that is being written to `path`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self._room = _LARGEST
        self._tail = bytearray()

    def write(self, data: bytes) -> None:
        """Append output. Beyond the largest size it is dropped. Raises OutputError."""
        self._tail += data
        del self._tail[:-_TAIL]
        if self._room > 0:
            rest = data[: self._room]
            self._room -= len(data)
            with writing(self.path):
                self._file.write(rest if self._room > 0 else rest + b"\n(the log is cut off here)\n")

    def end(self) -> str:
        """The last lines as text, without logins in addresses."""
        return _USER.sub(b"", bytes(self._tail)).decode("utf-8", errors="replace")


@contextmanager
def logging_to(path: Path) -> Iterator[Log]:
    """A new, unbuffered log at `path`, so that it can be followed. Raises OutputError."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # An existing file may be a link, belong to another user, or be in use by another build.
        with suppress(FileNotFoundError):
            path.unlink()
        file = path.open("xb", buffering=0)
    with file:
        yield Log(path, file)
