"""The content of a layer's files, and how it is read without trusting it.

Three shapes cover everything: bytes in memory, a raw DEFLATE stream that can be copied as it is (a wheel's member), and
a stream of plain chunks. Streams are inflated by ISA-L, in bounded memory, and small ones by libdeflate, in one call:
both are twice as fast as zlib, and there is only one right output.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import deflate
from isal import isal_zlib

from hatch_docker.errors import DigestMismatchError, WheelError
from hatch_docker.support.streams import CHUNK, verified

# Around a raw DEFLATE stream they make a gzip member (RFC 1952, section 2.3): no name, no time; CRC, size modulo 2^32.
MEMBER_HEADER = bytes.fromhex("1f8b 08 00 00000000 00 ff")
MEMBER_TRAILER = struct.Struct("<LL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deflated:
    """Content that is a raw DEFLATE stream (RFC 1951) somewhere; sizes in bytes, `crc32` of the plain content.

    `read(offset, length)` gives bytes of the stream; it is thread-safe.
    """

    size: int
    compressed_size: int
    crc32: int
    read: Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """Content that is read as it is: `size` in bytes, `read(offset, length)` gives some of them, thread-safe."""

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

    `copy` gets a Deflated's stream as it is read. `checksum` is an algorithm that hashlib knows and the digest. `path`
    names the file in errors: WheelError for content that is not of the size and CRC that it claims, or a stream that
    does not end where it should; DigestMismatchError, after the last chunk, for another checksum.
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
    """The same chunks; raises DigestMismatchError at their end when the checksum is another."""
    algorithm, expected = checksum[0], checksum[1].hex()

    def mismatch(actual: str) -> DigestMismatchError:
        return DigestMismatchError(
            f"{path!r} has the wrong content: expected {algorithm} {expected}, got {actual.partition(':')[2]}",
            hint="it was changed after its checksum was recorded",
        )

    return verified(chunks, f"{algorithm}:{expected}", mismatch)


def _inflated(path: str, content: Deflated, copy: Copy | None) -> Iterator[Chunk]:
    """The plain content of a stream, while `copy` gets the stream itself.

    Raises WheelError unless the stream ends where it should, and the size and CRC of its content are what they should.
    """
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
    """A small stream's plain content; None, and nothing copied, where a closer look is needed to say what is wrong.

    As a gzip member, whose CRC and size libdeflate checks too. It looks for them where the stream ends, and does not
    tell where that is: at the end, if they are nowhere before.
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
    except isal_zlib.IsalError as error:  # type: ignore[misc]  # a class, whatever its stub says
        raise _damaged(path, f"its DEFLATE stream is invalid ({error})") from None


def _read(path: str, content: Deflated | Plain, offset: int, end: int) -> bytes:
    length = min(CHUNK, end - offset)
    data = content.read(offset, length)
    if len(data) != length:
        raise _damaged(path, "it ends early")
    return data


def _damaged(path: str, what: str) -> WheelError:
    return WheelError(f"{path!r} is damaged: {what}", hint="the wheel was made wrong, or damaged later: fetch it again")
