"""File contents kept one after the other in one temporary file, never at their own paths."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from functools import partial
from typing import BinaryIO

from hatch_docker.oci.content import Plain

_WRITE_SIZE = 1 << 20


class Spool:
    """Collects contents in an empty file. Thread-safe."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._end = 0

    def add(self, chunks: Iterable[bytes], size: int) -> Plain:
        """Store the `size` bytes of `chunks`; threads may add contents at the same time."""
        with self._lock:
            start = position = self._end
            self._end += size
        for data in _joined(chunks):
            with self._lock:
                self._file.seek(position)
                self._file.write(data)
            position += len(data)
        return Plain(size=size, read=partial(self._read, start))

    def _read(self, start: int, offset: int, length: int) -> bytes:
        with self._lock:
            self._file.seek(start + offset)
            return self._file.read(length)


def _joined(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces, so that few writes take the lock."""
    pending: list[bytes] = []
    length = 0
    for chunk in chunks:
        pending.append(chunk)
        length += len(chunk)
        if length >= _WRITE_SIZE:
            yield b"".join(pending)
            pending, length = [], 0
    if pending:
        yield b"".join(pending)
