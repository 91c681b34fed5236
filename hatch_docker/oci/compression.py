"""The compressions of layers: a table of codecs whose output depends on their input alone.

No codec here depends on the CPU, the number of threads or the size of the chunks that it is given. That rules out
compressing by ISA-L, which is the fastest, but gives other bytes on other CPUs.
"""

from __future__ import annotations

import contextlib
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeAlias

import deflate

from hatch_docker.errors import ImageError
from hatch_docker.oci.spec import LAYER_GZIP, LAYER_ZSTD
from hatch_docker.support.dataclasses import dataclass

LEVEL = 6
# Bytes of a plain tar that are compressed at once. Like LEVEL, this decides the bytes of a layer.
BATCH = 1 << 20
_ZSTD_LEVEL = 3
# Batches per thread that are started before the oldest is waited for, so that no thread is idle meanwhile.
_AHEAD = 2

Compressed: TypeAlias = bytes | bytearray


class Cutter:
    """Cuts bytes into batches of exactly BATCH, so that a blob does not depend on the chunks that they come in."""

    def __init__(self) -> None:
        self._pending: list[bytes | bytearray] = []
        self._length = 0

    def add(self, chunk: bytes | bytearray) -> Iterable[bytes]:
        """Add a chunk; return the batches that it completes."""
        self._pending.append(chunk)
        self._length += len(chunk)
        if self._length < BATCH:
            return ()
        data = b"".join(self._pending)
        end = len(data) - len(data) % BATCH
        self._pending, self._length = [data[end:]], len(data) - end
        return (data[start : start + BATCH] for start in range(0, end, BATCH))

    def rest(self) -> Iterable[bytes]:
        """The bytes since the last complete batch, as a batch of their own if there are any."""
        data = b"".join(self._pending)
        self._pending, self._length = [], 0
        return (data,) if data else ()


def batches_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in batches."""
    cutter = Cutter()
    for chunk in chunks:
        yield from cutter.add(chunk)
    yield from cutter.rest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """A running compressor: `compress` takes a batch of plain bytes, `finish` returns what is left at the end.

    If `members` is true, each batch becomes a gzip member of its own: other members may be written between two batches,
    and several threads may `compress` at once. `version` is everything else that decides the bytes.
    """

    media_type: str
    compress: Callable[[bytes], Compressed]
    finish: Callable[[], bytes]
    version: str
    members: bool = False


def codec(compression: str) -> Codec:
    """A new codec by its name in COMPRESSIONS; raises ImageError for another name."""
    try:
        return COMPRESSIONS[compression]()
    except KeyError:
        raise ImageError(
            f"{compression!r} is not a compression of layers", hint=f"choose one of {', '.join(COMPRESSIONS)}"
        ) from None


def _gzip_members() -> Codec:
    """A series of members (RFC 1952, section 2.2), by libdeflate, which compresses whole buffers only."""
    return Codec(
        media_type=LAYER_GZIP,
        compress=lambda batch: deflate.gzip_compress(batch, LEVEL),
        finish=bytes,
        version=f"deflate {deflate.__version__}",
        members=True,
    )


def _gzip_single() -> Codec:
    """One member, for readers that stop after the first. The host's zlib decides the layer's digest, but no diff ID."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return Codec(
        media_type=LAYER_GZIP,
        compress=compressor.compress,
        finish=compressor.flush,
        version=f"zlib {zlib.ZLIB_RUNTIME_VERSION}",
    )


def _zstd() -> Codec:
    """One frame (RFC 8878) with a content checksum, compressed in one thread."""
    from hatch_docker.oci import zstd

    parameter = zstd.CompressionParameter
    compressor = zstd.ZstdCompressor(
        options={parameter.compression_level: _ZSTD_LEVEL, parameter.checksum_flag: 1, parameter.nb_workers: 0}
    )
    return Codec(
        media_type=LAYER_ZSTD,
        compress=compressor.compress,
        finish=compressor.flush,
        version=f"zstd {zstd.zstd_version}",
    )


COMPRESSIONS: dict[str, Callable[[], Codec]] = {"gzip": _gzip_members, "gzip-single": _gzip_single, "zstd": _zstd}


@contextlib.contextmanager
def compressing(codec: Codec, threads: int) -> Iterator[Batches]:
    """Compress batches in parallel, if the codec compresses each one independently.

    The number of threads does not change the bytes.
    """
    if threads < 2 or not codec.members:
        yield Batches(codec, 0, lambda batch: partial(codec.compress, batch))
        return
    # Builds that find their layers in the cache do not need it.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        yield Batches(codec, _AHEAD * threads, lambda batch: pool.submit(codec.compress, batch).result)


class Batches:
    """Compressed batches, in the order of the plain ones, while up to `ahead` of them are still being compressed.

    `start(batch)` starts compressing; the function that it returns waits for the result.
    """

    def __init__(self, codec: Codec, ahead: int, start: Callable[[bytes], Callable[[], Compressed]]) -> None:
        self.codec = codec
        self._ahead = ahead
        self._start = start
        self._started: deque[Callable[[], Compressed]] = deque()

    def compressed(self, batch: bytes) -> Iterator[Compressed]:
        """Start another batch; yield the oldest ones until no more than `ahead` are left."""
        self._started.append(self._start(batch))
        while len(self._started) > self._ahead:
            yield self._started.popleft()()

    def rest(self) -> Iterator[Compressed]:
        """Wait for all batches, and yield them."""
        while self._started:
            yield self._started.popleft()()
