"""Streams of bytes: read in chunks, read as a file, hashed and verified while they pass. It imports nothing of ours."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Buffer

# How much is read at a time.
CHUNK = 1 << 18

_Chunk = TypeVar("_Chunk", bound="bytes | bytearray")


def chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    """What is left of a file, in chunks of at most CHUNK bytes."""
    while chunk := file.read(CHUNK):
        yield chunk


class Digester:
    """The digest (`algorithm:hex`) and size in bytes of everything that `update` was given."""

    def __init__(self, algorithm: str = "sha256") -> None:
        self.size = 0
        self._algorithm = algorithm
        self._hasher = hashlib.new(algorithm)

    def update(self, chunk: bytes | bytearray) -> None:
        """Add a chunk."""
        self.size += len(chunk)
        self._hasher.update(chunk)

    def passing(self, chunks: Iterable[_Chunk]) -> Iterator[_Chunk]:
        """The same chunks, each added when it is read."""
        for chunk in chunks:
            self.update(chunk)
            yield chunk

    @property
    def digest(self) -> str:
        """The digest of all chunks so far."""
        return f"{self._algorithm}:{self._hasher.hexdigest()}"


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of `data`, as OCI descriptors write it (image-spec, descriptor.md)."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def file_digest(file: IO[bytes], algorithm: str = "sha256") -> str:
    """The digest of what is left of a file."""
    digester = Digester(algorithm)
    for chunk in chunks_of(file):
        digester.update(chunk)
    return digester.digest


def verified(
    chunks: Iterable[_Chunk], digest: str, error: Callable[[str], Exception], *, size: int | None = None
) -> Iterator[_Chunk]:
    """The same chunks; raises `error(actual digest)` at their end if their digest is another.

    With `size`, also if their total size is another. No chunk that goes beyond `size` is yielded.
    """
    digester = Digester(digest.partition(":")[0])
    for chunk in chunks:
        digester.update(chunk)
        if size is not None and digester.size > size:
            break
        yield chunk
    if digester.digest != digest or size not in (None, digester.size):
        raise error(digester.digest)


class ChunkReader(io.RawIOBase):
    """Chunks as a file that is read once, from its beginning."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer` from one chunk; return how many bytes that were, 0 only at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        into = memoryview(buffer).cast("B")
        count = min(len(into), len(self._rest))
        into[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def reader(chunks: Iterator[bytes]) -> io.BufferedReader:
    """Chunks as a file whose reads are short only at its end: a gzip header may lie across two chunks."""
    return io.BufferedReader(ChunkReader(chunks), CHUNK)
