"""Layers, their entries, and the writer of `tar+gzip` layers, which does not recompress DEFLATE streams.

A gzip file is a series of members (RFC 1952, section 2.2), so a DEFLATE stream is copied into a member of its own,
between a header and its CRC and size. Everything else (tar headers, padding, small files) is compressed in batches
between these members. Streams are inflated too, to verify them and for the diff ID, which is the hash of the plain tar.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import BinaryIO

from hatch_docker.errors import ImageError
from hatch_docker.oci import tar
from hatch_docker.oci.compression import BATCH, LEVEL, Batches, Cutter, codec, compressing
from hatch_docker.oci.content import (
    MEMBER_HEADER,
    MEMBER_TRAILER,
    Checksum,
    Chunk,
    Content,
    Deflated,
    Plain,
    plain_chunks,
)
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.paths import parents
from hatch_docker.support.progress import Advance
from hatch_docker.support.streams import Digester

__all__ = ["Deflated", "Entry", "Layer", "Plain", "WriteOptions", "Written", "arrange", "write_layer"]

# In bytes. Smaller files are recompressed in batches: as members of their own they would make the layer larger.
SPLICE_FROM = 16 << 10

_FORMAT = 1
_NOT_NAMES = frozenset(("", ".", ".."))
_WHITEOUT = ".wh."


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer from a registry, an archive or the cache. `open` opens the compressed blob; nothing else does I/O.

    `unpacked` is the size of the plain tar in bytes, 0 if it is unknown, as that of a base's layer is.
    """

    descriptor: Descriptor
    diff_id: str
    open: Callable[[], BinaryIO]
    unpacked: int = 0

    @classmethod
    def of_file(cls, path: Path, descriptor: Descriptor, diff_id: str, unpacked: int = 0) -> Layer:
        """The layer whose blob is the file `path`."""
        return cls(descriptor=descriptor, diff_id=diff_id, open=lambda: path.open("rb"), unpacked=unpacked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member of a layer: a directory (no content, no link), a regular file, or a symbolic link.

    `path` is relative, with `/`, without `.` or `..`. `checksum` is `(algorithm, digest)` of the content, which is
    verified while it is written. `removed` makes it a whiteout (layer.md): it removes `path` of the layers below.
    """

    path: str
    mode: int = 0o644
    content: Content | None = None
    link: str = ""
    checksum: Checksum | None = None
    uid: int = 0
    gid: int = 0
    removed: bool = False

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory: no file, no link and no whiteout."""
        return self.content is None and not self.link and not self.removed

    @property
    def size(self) -> int:
        """The size of the content in bytes, 0 if there is none."""
        if self.content is None:
            return 0
        return len(self.content) if isinstance(self.content, bytes) else self.content.size

    def read(self) -> bytes:
        """The whole plain content, empty if it has none. Raises as `plain_chunks` does."""
        return b"".join(plain_chunks(self.path, self.content or b""))

    @property
    def unpacked(self) -> int:
        """Its size in a plain tar in bytes, without the extended header of a long name."""
        return tar.BLOCK + self.size + len(tar.padding(self.size))


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """How a layer is written.

    `compression` is a key of COMPRESSIONS. `splice` copies DEFLATE streams as they are, and `threads` compress in
    parallel, each if the compression can. The number of threads does not change the bytes.
    """

    compression: str = "gzip"
    splice: bool = True
    threads: int = 1

    @property
    def fingerprint(self) -> str:
        """What shapes a layer's bytes besides its entries; part of the cache key of every layer."""
        version, least = codec(self.compression).version, SPLICE_FROM if self.splice else 0
        return f"{_FORMAT} {self.compression} {version} {LEVEL} {BATCH} {least}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A layer that was written; `unpacked` is the size of the plain tar in bytes."""

    descriptor: Descriptor
    diff_id: str
    unpacked: int


def write_layer(
    entries: Iterable[Entry],
    out: BinaryIO,
    options: WriteOptions | None = None,
    *,
    present: Collection[str] = (),
    advance: Advance | None = None,
) -> Written:
    """Write a layer (image-spec, layer.md) to `out`; the same entries give the same bytes, in any order.

    `present` are directories of the layers below. They are not written again as parents, since that would change their
    mode and owner. `advance` is called with numbers of plain bytes. Raises ImageError for paths that cannot be in a
    layer, ContentError for a damaged stream, DigestMismatchError for content with another checksum; `out` is useless
    then. Needs memory for a few batches per thread, for contents of any size.
    """
    options = options or WriteOptions()
    arranged = arrange(entries, present)
    with compressing(codec(options.compression), options.threads) as batches:
        writer = _Writer(out, batches, advance)
        for entry in arranged:
            _write(entry, writer, splice=options.splice)
        return writer.finish()


def _write(entry: Entry, writer: _Writer, *, splice: bool) -> None:
    content = entry.content
    if content is None:
        writer.write(_header(entry, tar.SYMLINK if entry.link else tar.DIRECTORY))
        return
    writer.write(_header(entry, tar.FILE, entry.size))
    if splice and writer.can_splice and isinstance(content, Deflated) and entry.size >= SPLICE_FROM:
        writer.splice(entry.path, content, entry.checksum)
    else:
        for chunk in plain_chunks(entry.path, content, entry.checksum):
            writer.write(chunk)
    writer.write(tar.padding(entry.size))


def arrange(entries: Iterable[Entry], present: Collection[str] = ()) -> list[Entry]:
    """The members of a layer as they are written: sorted, each path once, with all parent directories.

    Parent directories without an entry get mode 0755 and belong to root; those in `present` are omitted. Removed
    entries become whiteouts (layer.md). Raises ImageError for paths that are absolute, leave the root, start with
    `.wh.`, occur twice, or are both a directory and something else.
    """
    arranged: dict[str, Entry] = {}
    for entry in entries:
        _check_path(entry.path)
        earlier = arranged.setdefault(entry.path, entry)
        if earlier is not entry and not (entry.is_directory and entry == earlier):
            raise ImageError(f"{entry.path!r} would be in one layer twice")
    for path in list(arranged):
        _add_parents(path, arranged, present)
    members = [_whiteout(entry) if entry.removed else entry for entry in arranged.values()]
    return sorted(members, key=lambda entry: entry.path)


def _add_parents(path: str, arranged: dict[str, Entry], present: Collection[str]) -> None:
    for parent in parents(path):
        other = arranged.get(parent)
        if other is not None and not other.is_directory:
            what = "removed" if other.removed else "as a file"
            raise ImageError(f"{parent!r} would be in one layer {what} and as the directory of {path!r}")
        if other is not None or parent in present:
            break
        arranged[parent] = Entry(path=parent, mode=0o755)


def _whiteout(entry: Entry) -> Entry:
    parent, slash, name = entry.path.rpartition("/")
    return Entry(path=f"{parent}{slash}{_WHITEOUT}{name}", content=b"")


def _check_path(path: str) -> None:
    names = path.split("/")
    if not _NOT_NAMES.isdisjoint(names):
        raise ImageError(f"{path!r} is not a relative path in normal form")
    if _WHITEOUT in path and any(name.startswith(_WHITEOUT) for name in names):
        raise ImageError(f"{path!r} would delete files of the layers below: names that start with '.wh.' are reserved")


def _header(entry: Entry, kind: bytes, size: int = 0) -> bytes:
    mode = 0o777 if entry.link else entry.mode
    return tar.Header(entry.path, kind, mode, size, entry.link, entry.uid, entry.gid).to_bytes()


class _Writer:
    """Writes a blob: takes the plain tar, writes compressed batches and spliced streams, and hashes both."""

    def __init__(self, out: BinaryIO, batches: Batches, advance: Advance | None) -> None:
        self._batches = batches
        self._out = out
        self._advance = advance
        self._plain, self._blob = Digester(), Digester()
        self._cutter = Cutter()

    @property
    def can_splice(self) -> bool:
        """Whether a member can be written between two batches."""
        return self._batches.codec.members

    def write(self, data: Chunk) -> None:
        """Add bytes of the plain tar."""
        self._compress(self._cutter.add(data))

    def splice(self, path: str, content: Deflated, checksum: Checksum | None) -> None:
        """Copy a DEFLATE stream into a gzip member of its own, and inflate it to hash and verify its content."""
        self._compress_rest()
        self._emit(MEMBER_HEADER)
        for plain in plain_chunks(path, content, checksum, copy=self._emit):
            self._account(plain)
        self._emit(MEMBER_TRAILER.pack(content.crc32, content.size & 0xFFFFFFFF))

    def finish(self) -> Written:
        """End the tar and the blob."""
        self.write(tar.END)
        self._compress_rest()
        codec = self._batches.codec
        self._emit(codec.finish())
        descriptor = Descriptor(media_type=codec.media_type, digest=self._blob.digest, size=self._blob.size)
        return Written(descriptor=descriptor, diff_id=self._plain.digest, unpacked=self._plain.size)

    def _compress(self, batches: Iterable[bytes]) -> None:
        for batch in batches:
            self._account(batch)
            self._emit_all(self._batches.compressed(batch))

    def _compress_rest(self) -> None:
        """Compress everything written so far, and wait for it."""
        self._compress(self._cutter.rest())
        self._emit_all(self._batches.rest())

    def _account(self, plain: Chunk) -> None:
        self._plain.update(plain)
        if self._advance:
            self._advance(len(plain))

    def _emit_all(self, pieces: Iterable[Chunk]) -> None:
        for piece in pieces:
            self._emit(piece)

    def _emit(self, data: Chunk) -> None:
        """Write bytes of the blob."""
        self._blob.update(data)
        self._out.write(data)
