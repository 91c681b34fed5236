"""Layers: what a layer is, what goes into one, and how one is written.

Three shapes of content cover everything: bytes in memory, a raw DEFLATE stream that can be copied as it is (a wheel's
member), and a stream of plain chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from hatch_docker.oci.spec import Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer of any origin: remote, archived or fresh. Only `open` does I/O: the blob, compressed."""

    descriptor: Descriptor
    diff_id: str
    open: Callable[[], BinaryIO]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member of a layer: a directory (no content, no link), a regular file, or a symbolic link.

    `path` is relative, with `/`, without `.` or `..`. `checksum` is `(algorithm, digest)` of the content, which is
    verified while it is written.
    """

    path: str
    mode: int = 0o644
    content: bytes | Deflated | Plain | None = None
    link: str = ""
    checksum: tuple[str, bytes] | None = None
    uid: int = 0
    gid: int = 0
