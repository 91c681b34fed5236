"""Read and write `/etc/ld.so.cache`, as glibc's ldconfig does since 2.32 (dl-cache.h).

The loader needs it for directories other than its built-in ones, and `ldconfig -p`, and so Python's `ctypes.util`,
lists the libraries in it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hatch_docker.errors import ImageError

# The flags of an entry by the kernel's name of a CPU: glibc, and the variant of the ABI (ldconfig.h).
FLAGS = {
    "x86_64": 0x0303,
    "aarch64": 0x0A03,
    "i686": 0x0003,
    "armv7l": 0x0903,
    "ppc64le": 0x0503,
    "riscv64": 0x1003,
}
_MAGIC = b"glibc-ld.so.cache1.1"
# Until glibc 2.31, a table in an older format precedes it.
_OLD_MAGIC = b"ld.so-1.7.0\0"
_OLD_HEADER, _OLD_ENTRY = struct.Struct("<12sL"), struct.Struct("<lLL")
_HEADER = struct.Struct("<20sLLB3xL12x")
_ENTRY = struct.Struct("<lLLLQ")
_LITTLE = 2
_EXTENSIONS = 0xEAA42174
_SECTIONS, _SECTION = struct.Struct("<LL"), struct.Struct("<LLLL")
_TAG_HWCAPS = 1
_IS_HWCAPS = 1 << 62
_INDEX = (1 << 32) - 1
# Limits against malicious caches, whose names may overlap; one of thousands of libraries has some hundred kilobytes.
_MAX_SIZE = 16 << 20
_MAX_TEXT = 32 << 20
_MAX_SECTIONS = 64
_MAX_SUBDIRECTORIES = 1 << 10
_MAX_STRING = 4096
_DIGITS = re.compile(rb"\d+|\D")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """A library: its soname `name`, its absolute `path`, and the `flags` of its ABI (FLAGS).

    `hwcaps` is its subdirectory of `glibc-hwcaps` for certain CPUs, or empty; `level` is the upper half of the field
    hwcap.
    """

    name: str
    path: str
    flags: int
    osversion: int = 0
    hwcaps: str = ""
    level: int = 0


def ld_so_cache(entries: Iterable[CacheEntry]) -> bytes:
    """Encode a cache, sorted as the loader requires; of equal names, the loader finds the first entry."""
    ordered = _sorted(entries)
    subdirectories = sorted({entry.hwcaps for entry in ordered if entry.hwcaps})
    strings = bytearray()
    offsets: dict[str, int] = {}
    start = _HEADER.size + _ENTRY.size * len(ordered)
    for text in (*subdirectories, *(text for entry in ordered for text in (entry.name, entry.path))):
        if text not in offsets:
            offsets[text] = start + len(strings)
            strings += text.encode() + b"\0"
    length = len(strings)
    strings += bytes(-(start + length) % 4)
    extension = start + len(strings) if subdirectories else 0
    head = _HEADER.pack(_MAGIC, len(ordered), length, _LITTLE, extension)
    table = b"".join(
        _ENTRY.pack(each.flags, offsets[each.name], offsets[each.path], each.osversion, _hwcap(each, subdirectories))
        for each in ordered
    )
    end = _extension(extension, [offsets[each] for each in subdirectories]) if extension else b""
    return head + table + bytes(strings) + end


def read_ld_so_cache(data: bytes) -> list[CacheEntry]:
    """Decode the entries of a cache in order. Raises ImageError if it is invalid or big-endian."""
    try:
        return list(_entries(_without_old(data)))
    except (struct.error, IndexError, ValueError):
        raise ImageError("is not a valid cache of the dynamic loader", place="/etc/ld.so.cache") from None


def _without_old(data: bytes) -> bytes:
    if data.startswith(_OLD_MAGIC):
        _, count = _OLD_HEADER.unpack_from(data)
        size = _OLD_HEADER.size + count * _OLD_ENTRY.size
        data = data[size + -size % 8 :]
    if len(data) > _MAX_SIZE:
        raise ValueError("too large")
    return data


def _entries(data: bytes) -> Iterator[CacheEntry]:
    magic, count, _, endian, extension = _HEADER.unpack_from(data)
    if magic != _MAGIC or endian & 3 not in (0, _LITTLE) or count * _ENTRY.size > len(data):
        raise ValueError("not a cache")
    subdirectories = list(_subdirectories(data, extension)) if extension else []
    room = _MAX_TEXT
    for at in range(count):
        flags, name_offset, path_offset, osversion, hwcap = _ENTRY.unpack_from(data, _HEADER.size + at * _ENTRY.size)
        extended = bool(hwcap & _IS_HWCAPS)
        name, path = _string(data, name_offset), _string(data, path_offset)
        room -= len(name) + len(path)
        if room < 0:
            raise ValueError("too much text")
        yield CacheEntry(
            name=name,
            path=path,
            flags=flags,
            osversion=osversion,
            hwcaps=subdirectories[hwcap & _INDEX] if extended else "",
            level=(hwcap & ~_IS_HWCAPS & ~_INDEX) if extended else hwcap,
        )


def _subdirectories(data: bytes, extension: int) -> Iterator[str]:
    magic, count = _SECTIONS.unpack_from(data, extension)
    if magic != _EXTENSIONS or count > _MAX_SECTIONS:
        raise ValueError("not an extension")
    for number in range(count):
        tag, _, start, size = _SECTION.unpack_from(data, extension + _SECTIONS.size + number * _SECTION.size)
        if tag == _TAG_HWCAPS:
            if size > 4 * _MAX_SUBDIRECTORIES:
                raise ValueError("not an extension")
            for (offset,) in struct.iter_unpack("<L", data[start : start + size]):
                yield _string(data, offset)


def _string(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset, offset + _MAX_STRING)].decode()


def _hwcap(entry: CacheEntry, subdirectories: list[str]) -> int:
    return entry.level | _IS_HWCAPS | subdirectories.index(entry.hwcaps) if entry.hwcaps else entry.level


def _extension(start: int, offsets: list[int]) -> bytes:
    """Encode the section that lists the subdirectories of CPUs."""
    content = start + _SECTIONS.size + _SECTION.size
    size = 4 * len(offsets)
    return (
        _SECTIONS.pack(_EXTENSIONS, 1)
        + _SECTION.pack(_TAG_HWCAPS, 0, content, size)
        + struct.pack(f"<{len(offsets)}L", *offsets)
    )


def _sorted(entries: Iterable[CacheEntry]) -> list[CacheEntry]:
    """Sort by name, then flags, highest first; entries for certain CPUs precede the others (cache.c, compare)."""
    ordered = list(dict.fromkeys(entries))
    ordered.sort(key=lambda entry: (not entry.hwcaps, entry.hwcaps))
    ordered.sort(key=lambda entry: entry.flags, reverse=True)
    ordered.sort(key=lambda entry: version_key(entry.name), reverse=True)
    return ordered


def version_key(name: str) -> list[tuple[int, int]]:
    """The sort key of a library's name: numbers compare by value, and after other characters (_dl_cache_libcmp)."""
    return [(1, int(part)) if part.isdigit() else (0, part[0]) for part in _DIGITS.findall(name.encode())]
