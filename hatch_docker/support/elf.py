"""What a shared library asks of the system it is loaded on: its dynamic section (System V ABI, chapter 5), streamed.

A library may have hundreds of megabytes, and comes out of a DEFLATE stream: nothing of it is kept but what is asked
for. Its dynamic section is mostly near its end, and the names that this one means near its start, so that it is mostly
read twice, the second time only as far as those are.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

MAGIC = b"\x7fELF"

_BITS = {1: 32, 2: 64}
_ORDER = {1: "<", 2: ">"}
# The kernel's name of a CPU, as target.MACHINES has it, by e_machine, bits and byte order.
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
# Where e_phoff, e_phentsize and e_phnum are; then p_type, p_offset, p_vaddr and p_filesz; then d_tag and d_val.
_HEADER = {32: "28xL10xHH", 64: "32xQ14xHH"}
_SEGMENT = {32: "LLL4xL12x", 64: "L4xQQ8xQ16x"}
_ENTRY = {32: "lL", 64: "qQ"}
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 14, 15, 29
_NAMES = {_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH}

# Far beyond any real library; a damaged one must not make us read or keep much.
_LARGEST_DYNAMIC = 1 << 18
_MOST_NAMES = 1 << 10
_LONGEST_NAME = 4096

Chunks = Iterator[bytes | bytearray]
# Gives the bytes from a place in a library on, so many.
Take = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What a shared library says of itself.

    `machine` is the kernel's name of its CPU, `needed` the names of other libraries (DT_NEEDED), `soname` its own, if
    it has one. `search` are the directories where it looks first: DT_RUNPATH, or DT_RPATH where there is none.
    """

    machine: str
    soname: str = ""
    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()

    @property
    def libc(self) -> str:
        """The C library that it is linked to: `glibc`, `musl`, or empty where it does not say."""
        if any(re.match(r"libc\.musl-|ld-musl-|libc\.so$", name) for name in self.needed):
            return "musl"
        return "glibc" if any(re.match(r"libc\.so\.6(\.1)?$|ld-linux|ld64\.so", name) for name in self.needed) else ""

    def directories(self, origin: str) -> list[str]:
        """The directories of `search`, for a library in the directory `origin` (ld.so(8))."""
        return [each.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for each in self.search]

    def to_json(self) -> list[Any]:
        """As short as it can be: a wheel may have hundreds."""
        return [self.machine, self.soname, list(self.needed), list(self.search)]

    @classmethod
    def from_json(cls, document: Any) -> Library:
        """The inverse of `to_json`; raises TypeError or ValueError on anything else."""
        machine, soname, needed, search = document
        if not all(isinstance(text, str) for text in (machine, soname, *needed, *search)):
            raise ValueError("not a library")
        return cls(machine=machine, soname=soname, needed=tuple(needed), search=tuple(search))


class _DamagedError(Exception):
    """The file is no shared library, or not a whole one."""


def read_library(chunks: Callable[[], Chunks]) -> Library | None:
    """Read a library out of its content, which `chunks` gives from the start as often as it is called.

    None for what is no shared library in ELF, or a damaged one. What reading the content raises is let through.
    """
    return read_library_at(_Tape(chunks).take)


def read_library_at(take: Take) -> Library | None:
    """The same of content that can be had from any place: fewer bytes than were asked for only where it ends."""
    try:
        return _library(take)
    except _DamagedError:
        return None


class _Tape:
    """Bytes at a place in a stream; one that was passed is found by winding back to the start."""

    # Names lie close together, and may overlap: this much behind is kept.
    _BEHIND = _LONGEST_NAME

    def __init__(self, chunks: Callable[[], Chunks]) -> None:
        self._open = chunks
        self._rewind()

    def _rewind(self) -> None:
        self._chunks = self._open()
        self._held = bytearray()
        self._start = 0

    def take(self, start: int, length: int) -> bytes:
        """The bytes from `start`; fewer than `length` only where the stream ends."""
        if start < self._start:
            self._rewind()
        while self._start + len(self._held) < start + length:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            passed = min(start - self._start, len(self._held)) - self._BEHIND
            if passed > 0:
                del self._held[:passed]
                self._start += passed
            self._held += chunk
        return bytes(self._held[max(start - self._start, 0) :][:length])


def _library(take: Take) -> Library:
    start = take(0, 64)
    if start[:4] != MAGIC or len(start) < 52 or start[4] not in _BITS or start[5] not in _ORDER:
        raise _DamagedError
    bits, order = _BITS[start[4]], _ORDER[start[5]]
    number = struct.unpack_from(f"{order}H", start, 18)[0]
    dynamic, loaded = _segments(take, start, bits, order)
    entries = list(_entries(take(*dynamic), f"{order}{_ENTRY[bits]}"))
    strings = next((_offset(value, loaded) for tag, value in entries if tag == _DT_STRTAB), 0)
    wanted = [
        (tag, strings + value) for tag, value in entries if tag in (_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH)
    ]
    if (wanted and not strings) or len(wanted) > _MOST_NAMES:
        raise _DamagedError
    # In the order of their places, so that the stream is not wound back for each.
    names = {place: _name(take, place) for place in sorted({place for _, place in wanted})}
    found = {tag: [names[place] for its_tag, place in wanted if its_tag == tag] for tag in _NAMES}
    return Library(
        machine=_MACHINES.get((number, bits, order), f"ELF machine {number}, {bits} bits"),
        soname="".join(found[_DT_SONAME][:1]),
        needed=tuple(found[_DT_NEEDED]),
        search=tuple(_directories(found[_DT_RUNPATH] or found[_DT_RPATH])),
    )


def _segments(take: Take, start: bytes, bits: int, order: str) -> tuple[tuple[int, int], list[tuple[int, int, int]]]:
    """Where the dynamic section is in the file, and which bytes of the file are loaded where: place, address, size."""
    try:
        place, size, count = struct.unpack_from(order + _HEADER[bits], start)
    except struct.error:
        raise _DamagedError from None
    segment = struct.Struct(order + _SEGMENT[bits])
    table = take(place, segment.size * count)
    if size != segment.size or len(table) < segment.size * count:
        raise _DamagedError
    segments = list(segment.iter_unpack(table))
    dynamic = [(place, size) for kind, place, _, size in segments if kind == _PT_DYNAMIC]
    if len(dynamic) != 1 or dynamic[0][1] > _LARGEST_DYNAMIC:
        raise _DamagedError
    return dynamic[0], [(place, address, size) for kind, place, address, size in segments if kind == _PT_LOAD]


def _entries(section: bytes, layout: str) -> Iterator[tuple[int, int]]:
    entry = struct.Struct(layout)
    for tag, value in entry.iter_unpack(section[: len(section) // entry.size * entry.size]):
        if tag == _DT_NULL:
            return
        yield tag, value
    # The section is not where it should be, or ends early.
    raise _DamagedError


def _offset(address: int, loaded: Iterable[tuple[int, int, int]]) -> int:
    """Where in the file the bytes are that are loaded at `address`."""
    for place, start, size in loaded:
        if start <= address < start + size:
            return place + address - start
    raise _DamagedError


def _name(take: Take, place: int) -> str:
    name, end, _ = take(place, _LONGEST_NAME).partition(b"\0")
    text = name.decode("utf-8", "replace")
    # Names are shown to people.
    if not end or not text.isprintable():
        raise _DamagedError
    return text


def _directories(paths: Iterable[str]) -> Iterator[str]:
    return (directory for path in paths for directory in path.split(":") if directory)
