"""The content of a layer's files, verified while it is read.

It has one of three forms: bytes in memory, a raw DEFLATE stream that can be copied as it is (a wheel's member), and
plain bytes that are read in chunks. ISA-L inflates streams in bounded memory, libdeflate small ones in one call. Both
are twice as fast as zlib, and inflating has only one right output.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TypeAlias

import deflate
from isal import isal_zlib

from hatch_docker.errors import ContentError, DigestMismatchError
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.streams import CHUNK, verified

# They turn a raw DEFLATE stream into a gzip member (RFC 1952, section 2.3): no name, no time; CRC, size modulo 2^32.
MEMBER_HEADER = bytes.fromhex("1f8b 08 00 00000000 00 ff")
MEMBER_TRAILER = struct.Struct("<LL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deflated:
    """A raw DEFLATE stream (RFC 1951). Sizes are in bytes; `size` and `crc32` are those of the plain content.

    `read(offset, length)` returns bytes of the stream. It is thread-safe.
    """

    size: int
    compressed_size: int
    crc32: int
    read: Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """Plain content of `size` bytes. `read(offset, length)` returns some of them. It is thread-safe."""

    size: int
    read: Callable[[int, int], bytes]


Content: TypeAlias = bytes | Deflated | Plain
Checksum: TypeAlias = tuple[str, bytes]
Chunk: TypeAlias = bytes | bytearray
Copy: TypeAlias = Callable[[bytes], None]


def plain_chunks(
    path: str, content: Content, checksum: Checksum | None = None, *, copy: Copy | None = None
) -> Iterator[Chunk]:
    """A file's plain content, in chunks of at most CHUNK bytes unless it is in memory already.

    `copy` is called with the bytes of a DEFLATE stream as they are read. `checksum` is an algorithm of hashlib and the
    digest. `path` names the file in errors: ContentError for another size or CRC, or a stream that does not end where
    it should; DigestMismatchError, after the last chunk, for another checksum.
    """
    chunks: Iterator[Chunk]
    if isinstance(content, bytes):
        chunks = iter((content,) if content else ())
    elif isinstance(content, Plain):
        chunks = (_read(path, content, at, content.size) for at in range(0, content.size, CHUNK))
    else:
        chunks = _inflated(path, content, copy)
    return _verified(path, chunks, checksum) if checksum else chunks


def _verified(path: str, chunks: Iterator[Chunk], checksum: Checksum) -> Iterator[Chunk]:
    """The same chunks; raises DigestMismatchError at their end if the checksum is another."""
    algorithm, expected = checksum[0], checksum[1].hex()

    def mismatch(actual: str) -> DigestMismatchError:
        return DigestMismatchError(
            f"{path!r} has the wrong content: expected {algorithm} {expected}, got {actual.partition(':')[2]}",
            hint="it was changed after its checksum was recorded",
        )

    return verified(chunks, f"{algorithm}:{expected}", mismatch)


def _inflated(path: str, content: Deflated, copy: Copy | None) -> Iterator[Chunk]:
    """The plain content of a stream. Raises ContentError for a wrong end, size or CRC."""
    if 0 < content.size <= CHUNK and (whole := _inflated_at_once(path, content, copy)):
        yield whole
        return
    inflater = isal_zlib.decompressobj(-15)
    consumed = size = crc32 = 0
    while consumed < content.compressed_size and not inflater.eof:
        raw = _read(path, content, consumed, content.compressed_size)
        consumed += len(raw)
        if copy:
            copy(raw)
        while chunk := _decompress(path, inflater, raw):
            size += len(chunk)
            if size > content.size:
                raise _damaged(path, f"it inflates to more than its {content.size} bytes")
            crc32 = isal_zlib.crc32(chunk, crc32)
            yield chunk
            raw = inflater.unconsumed_tail
    if not inflater.eof:
        raise _damaged(path, "its DEFLATE stream does not end")
    if inflater.unused_data or consumed < content.compressed_size:
        raise _damaged(path, "there are other bytes after its DEFLATE stream")
    if size != content.size:
        raise _damaged(path, f"it inflates to {size} bytes, not {content.size}")
    if crc32 != content.crc32:
        raise _damaged(path, f"its CRC is {crc32:08x}, not {content.crc32:08x}")


def _inflated_at_once(path: str, content: Deflated, copy: Copy | None) -> bytearray | None:
    """The plain content of a small stream. None if it is damaged; nothing was copied then, and `_inflated` says why.

    libdeflate reads it as a gzip member, and checks CRC and size where the stream ends. It does not report that place,
    so CRC and size must not occur before the end.
    """
    raw = _read(path, content, 0, content.compressed_size)
    trailer = MEMBER_TRAILER.pack(content.crc32, content.size)
    member = b"".join((MEMBER_HEADER, raw, trailer))
    try:
        plain = deflate.gzip_decompress(member, content.size)
    except deflate.DeflateError:
        return None
    if member.find(trailer, len(MEMBER_HEADER)) != len(MEMBER_HEADER) + content.compressed_size:
        return None
    if copy:
        copy(raw)
    return plain


def _decompress(path: str, inflater: isal_zlib.Decompress, raw: bytes) -> bytes:
    try:
        return inflater.decompress(raw, CHUNK)
    except isal_zlib.IsalError as error:  # type: ignore[misc]  # a class, contrary to its stub
        raise _damaged(path, f"its DEFLATE stream is invalid ({error})") from None


def _read(path: str, content: Deflated | Plain, offset: int, end: int) -> bytes:
    length = min(CHUNK, end - offset)
    data = content.read(offset, length)
    if len(data) != length:
        raise _damaged(path, "it ends early")
    return data


def _damaged(path: str, what: str) -> ContentError:
    return ContentError(f"{path!r} is damaged: {what}", hint="it was made wrong, or damaged later: fetch it again")
