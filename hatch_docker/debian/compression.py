"""Decompress Debian's files in bounded memory. A file is exactly one compressed stream."""

from __future__ import annotations

import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from hatch_docker.errors import DebianError
from hatch_docker.support.streams import CHUNK

# Slightly more than decompressing the output of `xz -9` takes.
_XZ_MEMORY = 80 << 20


class _Stream(Protocol):
    """The common interface of the lzma and Zstandard decompressors."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """Adapter of zlib's decompressor to that interface."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int = 0) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)


def _gzip() -> tuple[_Stream, type[Exception]]:
    return _Gzip(), zlib.error


def _xz() -> tuple[_Stream, type[Exception]]:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY), lzma.LZMAError


def _zstd() -> tuple[_Stream, type[Exception]]:
    if sys.version_info >= (3, 14):
        from compression.zstd import ZstdDecompressor, ZstdError
    else:
        from backports.zstd import ZstdDecompressor, ZstdError
    return ZstdDecompressor(), ZstdError


_STREAMS: Mapping[str, Callable[[], tuple[_Stream, type[Exception]]]] = {".gz": _gzip, ".xz": _xz, ".zst": _zstd}
SUFFIXES = ("", *_STREAMS)


def decompressed(chunks: Iterable[bytes], suffix: str, *, place: str) -> Iterator[bytes]:
    """The decompressed content of a file by its suffix, in chunks; unchanged for suffixes not in SUFFIXES.

    Raises DebianError, with `place`, for a stream that is damaged, truncated, or followed by other data.
    """
    if suffix not in _STREAMS:
        yield from chunks
        return
    stream, refused = _STREAMS[suffix]()
    try:
        yield from _content(stream, chunks, place)
    except refused as error:
        raise _damaged(str(error), place) from None


def _content(stream: _Stream, chunks: Iterable[bytes], place: str) -> Iterator[bytes]:
    for chunk in chunks:
        if stream.eof:
            _check_padding(chunk, place)
            continue
        yield stream.decompress(chunk, CHUNK)
        while not stream.eof and not stream.needs_input:
            yield stream.decompress(b"", CHUNK)
        _check_padding(stream.unused_data, place)
    while not stream.eof:
        rest = stream.decompress(b"", CHUNK)
        if not rest and not stream.eof:
            raise _damaged("it is truncated", place)
        yield rest


def _check_padding(data: bytes, place: str) -> None:
    if data.strip(b"\0"):
        raise _damaged("there is data after its end", place)


def _damaged(why: str, place: str) -> DebianError:
    return DebianError(f"cannot be decompressed: {why}", place=place)
