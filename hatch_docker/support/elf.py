"""The requirements of shared libraries, from their dynamic sections (System V ABI, chapter 5), read as streams.

A library may have hundreds of megabytes, and is inflated while it is read, so only its start and the requested bytes
are kept. The dynamic section is near the end, and the names that it refers to are near the start: if that is not
enough, the library is read again.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from hatch_docker.support.dataclasses import dataclass

MAGIC = b"\x7fELF"

_BITS = {1: 32, 2: 64}
_ORDER = {1: "<", 2: ">"}
# The kernel's names of CPUs, as in target.MACHINES, by e_machine, bits and byte order.
_MACHINES = {
    (62, 64, "<"): "x86_64",
    (183, 64, "<"): "aarch64",
    (3, 32, "<"): "i686",
    (40, 32, "<"): "armv7l",
    (21, 64, "<"): "ppc64le",
    (22, 64, ">"): "s390x",
    (243, 64, "<"): "riscv64",
    (258, 64, "<"): "loongarch64",
    (21, 64, ">"): "ppc64",
    (62, 32, "<"): "x32",
}
# The formats of e_phoff, e_phentsize and e_phnum; of p_type, p_offset, p_vaddr and p_filesz; of d_tag and d_val.
_HEADER = {32: "28xL10xHH", 64: "32xQ14xHH"}
_SEGMENT = {32: "LLL4xL12x", 64: "L4xQQ8xQ16x"}
_ENTRY = {32: "lL", 64: "qQ"}
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 14, 15, 29
_NAMES = {_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH}

# Far beyond any real library; a damaged one must not cost much time or memory.
_LARGEST_DYNAMIC = 1 << 18
_MOST_NAMES = 1 << 10
_LONGEST_NAME = 4096

Chunks = Iterator[bytes | bytearray]
# (offset, length) → bytes of a library, fewer only at its end.
ReadAt = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A shared library.

    `machine` is the kernel's name of its CPU, `needed` the libraries that it needs (DT_NEEDED), `soname` its own name,
    or empty. `search` are the directories that are searched first: DT_RUNPATH, or DT_RPATH if there is none.
    """

    machine: str
    soname: str = ""
    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()

    @property
    def libc(self) -> str:
        """The C library that it is linked to: `glibc`, `musl`, or empty if it names none."""
        if any(re.match(r"libc\.musl-|ld-musl-|libc\.so$", name) for name in self.needed):
            return "musl"
        return "glibc" if any(re.match(r"libc\.so\.6(\.1)?$|ld-linux|ld64\.so", name) for name in self.needed) else ""

    def directories(self, origin: str) -> list[str]:
        """The directories of `search`, for a library in the directory `origin` (ld.so(8))."""
        return [each.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for each in self.search]

    def to_json(self) -> list[Any]:
        """A compact JSON array: a wheel may have hundreds of libraries."""
        return [self.machine, self.soname, list(self.needed), list(self.search)]

    @classmethod
    def from_json(cls, document: Any) -> Library:
        """The inverse of `to_json`; raises TypeError or ValueError for anything else."""
        machine, soname, needed, search = document
        if not all(isinstance(text, str) for text in (machine, soname, *needed, *search)):
            raise ValueError("not a library")
        return cls(machine=machine, soname=soname, needed=tuple(needed), search=tuple(search))


class _InvalidError(Exception):
    """The file is not an ELF shared library, or is damaged."""


def read_library(chunks: Callable[[], Chunks]) -> Library | None:
    """Read a library; each call of `chunks` returns its content from the start.

    None if it is not an ELF shared library, or is damaged. Exceptions of `chunks` are not caught.
    """
    return read_library_at(_Rewindable(chunks).read_at)


def read_library_at(read_at: ReadAt) -> Library | None:
    """Like `read_library`, for content with random access."""
    try:
        return _library(read_at)
    except _InvalidError:
        return None


def program_interpreter(head: bytes) -> str:
    """The dynamic loader that a program names (PT_INTERP), from the start of its file.

    Empty if it names none, as a program that is linked statically, or if the file is damaged or `head` too short.
    """

    def read_at(start: int, length: int) -> bytes:
        return head[start : start + length]

    try:
        segments = _table(read_at, head, _Layout.of(head))
    except _InvalidError:
        return ""
    found = next((each for kind, each in segments if kind == _PT_INTERP), None)
    text = read_at(found.offset, found.size) if found else b""
    return text.partition(b"\0")[0].decode("utf-8", "replace")


def machine_of(head: bytes) -> str:
    """The kernel's name of the CPU that an ELF file is for; empty if `head` is not the start of one, or too short."""
    try:
        layout = _Layout.of(head)
    except _InvalidError:
        return ""
    number = struct.unpack_from(f"{layout.order}H", head, 18)[0]
    return _MACHINES.get((number, layout.bits, layout.order), "")


class _Rewindable:
    """Random access to a forward-only stream, of which the start is kept; reading backwards restarts it."""

    # The names of most libraries are in these first bytes.
    _KEPT = 1 << 20
    # Names are close together, and may overlap: this many bytes before the last read are kept.
    _BEHIND = _LONGEST_NAME

    def __init__(self, chunks: Callable[[], Chunks]) -> None:
        self._open = chunks
        self._head = bytearray()
        self._rewind()

    def _rewind(self) -> None:
        self._chunks = self._open()
        self._held = bytearray()
        self._start = 0

    def read_at(self, start: int, length: int) -> bytes:
        """The bytes from `start`; fewer than `length` only at the end of the stream."""
        if start < self._start:
            if start + length <= len(self._head):
                return bytes(self._head[start : start + length])
            self._rewind()
        while self._start + len(self._held) < start + length:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            if self._start + len(self._held) == len(self._head) < self._KEPT:
                self._head += chunk
            passed = min(start - self._start, len(self._held)) - self._BEHIND
            if passed > 0:
                del self._held[:passed]
                self._start += passed
            self._held += chunk
        return bytes(self._held[max(start - self._start, 0) :][:length])


@dataclass(frozen=True, slots=True)
class _Layout:
    bits: int
    order: str

    @classmethod
    def of(cls, start: bytes) -> _Layout:
        if start[:4] != MAGIC or len(start) < 52 or start[4] not in _BITS or start[5] not in _ORDER:
            raise _InvalidError
        return cls(_BITS[start[4]], _ORDER[start[5]])


def _library(read_at: ReadAt) -> Library:
    start = read_at(0, 64)
    layout = _Layout.of(start)
    number = struct.unpack_from(f"{layout.order}H", start, 18)[0]
    names = _names(read_at, *_segments(read_at, start, layout), layout)
    return Library(
        machine=_MACHINES.get((number, layout.bits, layout.order), f"ELF machine {number}, {layout.bits} bits"),
        soname="".join(names[_DT_SONAME][:1]),
        needed=tuple(names[_DT_NEEDED]),
        search=tuple(_directories(names[_DT_RUNPATH] or names[_DT_RPATH])),
    )


def _names(read_at: ReadAt, dynamic: _Segment, loaded: Sequence[_Segment], layout: _Layout) -> dict[int, list[str]]:
    """The names in the dynamic section, by their tags."""
    entries = list(_entries(read_at(dynamic.offset, dynamic.size), f"{layout.order}{_ENTRY[layout.bits]}"))
    strings = next((_offset(value, loaded) for tag, value in entries if tag == _DT_STRTAB), 0)
    offsets = [(tag, strings + value) for tag, value in entries if tag in _NAMES]
    if (offsets and not strings) or len(offsets) > _MOST_NAMES:
        raise _InvalidError
    # In the order of their offsets, so that the stream is not restarted for each.
    texts = {offset: _name(read_at, offset) for offset in sorted({offset for _, offset in offsets})}
    names: dict[int, list[str]] = {tag: [] for tag in _NAMES}
    for tag, offset in offsets:
        names[tag].append(texts[offset])
    return names


@dataclass(frozen=True, slots=True)
class _Segment:
    """`size` bytes at `offset` in the file, loaded at `address`."""

    offset: int
    address: int
    size: int


def _segments(read_at: ReadAt, start: bytes, layout: _Layout) -> tuple[_Segment, list[_Segment]]:
    """The dynamic section and the loaded segments."""
    segments = _table(read_at, start, layout)
    dynamic = [each for kind, each in segments if kind == _PT_DYNAMIC]
    if len(dynamic) != 1 or dynamic[0].size > _LARGEST_DYNAMIC:
        raise _InvalidError
    return dynamic[0], [each for kind, each in segments if kind == _PT_LOAD]


def _table(read_at: ReadAt, start: bytes, layout: _Layout) -> list[tuple[int, _Segment]]:
    """The program headers, with the types of their segments."""
    try:
        offset, size, count = struct.unpack_from(layout.order + _HEADER[layout.bits], start)
    except struct.error:
        raise _InvalidError from None
    segment = struct.Struct(layout.order + _SEGMENT[layout.bits])
    table = read_at(offset, segment.size * count)
    if size != segment.size or len(table) < segment.size * count:
        raise _InvalidError
    return [(kind, _Segment(*fields)) for kind, *fields in segment.iter_unpack(table)]


def _entries(section: bytes, layout: str) -> Iterator[tuple[int, int]]:
    entry = struct.Struct(layout)
    for tag, value in entry.iter_unpack(section[: len(section) // entry.size * entry.size]):
        if tag == _DT_NULL:
            return
        yield tag, value
    # The section is elsewhere, or truncated.
    raise _InvalidError


def _offset(address: int, loaded: Iterable[_Segment]) -> int:
    """The offset in the file of the byte that is loaded at `address`."""
    for segment in loaded:
        if segment.address <= address < segment.address + segment.size:
            return segment.offset + address - segment.address
    raise _InvalidError


def _name(read_at: ReadAt, offset: int) -> str:
    name, end, _ = read_at(offset, _LONGEST_NAME).partition(b"\0")
    text = name.decode("utf-8", "replace")
    # Names appear in messages.
    if not end or not text.isprintable():
        raise _InvalidError
    return text


def _directories(paths: Iterable[str]) -> Iterator[str]:
    return (directory for path in paths for directory in path.split(":") if directory)
