"""Read and write `/etc/ld.so.cache`, as glibc's ldconfig does since 2.32 (dl-cache.h).

The loader needs it for directories other than its built-in ones, and `ldconfig -p`, and so Python's `ctypes.util`,
lists the libraries in it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import partial

from hatch_docker.errors import ImageError
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

# The flags of an entry by the kernel's name of a CPU: glibc, and the variant of the ABI (ldconfig.h).
FLAGS = {
    "x86_64": 0x0303,
    "aarch64": 0x0A03,
    "i686": 0x0003,
    "armv7l": 0x0903,
    "ppc64le": 0x0503,
    "riscv64": 0x1003,
    "s390x": 0x0403,
    "loongarch64": 0x1203,
}
# The CPUs whose caches have the most significant byte first.
BIG_ENDIAN = frozenset({"s390x"})
_MAGIC = b"glibc-ld.so.cache1.1"
# Until glibc 2.31, a table in an older format precedes it.
_OLD_MAGIC = b"ld.so-1.7.0\0"
# Formats of structures, whose byte order is that of the cache.
_OLD_HEADER, _OLD_ENTRY = "12sL", "lLL"
_HEADER, _ENTRY = "20sLLB3xL12x", "lLLLQ"
_HEADER_SIZE, _ENTRY_SIZE = struct.calcsize(f"<{_HEADER}"), struct.calcsize(f"<{_ENTRY}")
_SECTIONS, _SECTION, _OFFSET = "LL", "LLLL", "L"
_SECTIONS_SIZE, _SECTION_SIZE = struct.calcsize(f"<{_SECTIONS}"), struct.calcsize(f"<{_SECTION}")
# The flag of a header that says its byte order, which older caches leave 0.
_ORDERS = {"<": 2, ">": 3}
_FLAG_AT = 28
_EXTENSIONS = 0xEAA42174
_TAG_HWCAPS = 1
_IS_HWCAPS = 1 << 62
_INDEX = (1 << 32) - 1
# Limits against malicious caches, whose names may overlap; one of thousands of libraries has some hundred kilobytes.
_MAX_SIZE = 16 << 20
_MAX_TEXT = 32 << 20
_MAX_SECTIONS = 64
_MAX_SUBDIRECTORIES = 1 << 10
_MAX_STRING = 4096
_DIGITS = regex(rb"\d+|\D")


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


def ld_so_cache(entries: Iterable[CacheEntry], *, machine: str = "x86_64") -> bytes:
    """Encode a cache, sorted as the loader requires; of equal names, the loader finds the first entry.

    The byte order is that of the CPU with the kernel's name `machine`.
    """
    order = ">" if machine in BIG_ENDIAN else "<"
    ordered = _sorted(entries)
    subdirectories = sorted({entry.hwcaps for entry in ordered if entry.hwcaps})
    strings = bytearray()
    offsets: dict[str, int] = {}
    start = _HEADER_SIZE + _ENTRY_SIZE * len(ordered)
    for text in (*subdirectories, *(text for entry in ordered for text in (entry.name, entry.path))):
        if text not in offsets:
            offsets[text] = start + len(strings)
            strings += text.encode() + b"\0"
    length = len(strings)
    strings += bytes(-(start + length) % 4)
    extension = start + len(strings) if subdirectories else 0
    pack = partial(_packed, order)
    head = pack(_HEADER, _MAGIC, len(ordered), length, _ORDERS[order], extension)
    table = b"".join(
        pack(_ENTRY, each.flags, offsets[each.name], offsets[each.path], each.osversion, _hwcap(each, subdirectories))
        for each in ordered
    )
    end = _extension(order, extension, [offsets[each] for each in subdirectories]) if extension else b""
    return head + table + bytes(strings) + end


def _packed(order: str, form: str, *values: object) -> bytes:
    return struct.pack(f"{order}{form}", *values)


def read_ld_so_cache(data: bytes) -> list[CacheEntry]:
    """Decode the entries of a cache in order. Raises ImageError if it is invalid."""
    try:
        return list(_entries(_without_old(data)))
    except (struct.error, IndexError, ValueError):
        raise ImageError("is not a valid cache of the dynamic loader", place="/etc/ld.so.cache") from None


def _without_old(data: bytes) -> bytes:
    if data.startswith(_OLD_MAGIC):
        # The table in the older format has no byte order. Its number of entries is far smaller than swapped.
        count = min(struct.unpack_from(f"{order}{_OLD_HEADER}", data)[1] for order in _ORDERS)
        size = struct.calcsize(f"<{_OLD_HEADER}") + count * struct.calcsize(f"<{_OLD_ENTRY}")
        data = data[size + -size % 8 :]
    if len(data) > _MAX_SIZE:
        raise ValueError("too large")
    return data


def _entries(data: bytes) -> Iterator[CacheEntry]:
    order = ">" if data[_FLAG_AT] & 3 == _ORDERS[">"] else "<"
    magic, count, _, endian, extension = struct.unpack_from(f"{order}{_HEADER}", data)
    if magic != _MAGIC or endian & 3 not in (0, _ORDERS[order]) or count * _ENTRY_SIZE > len(data):
        raise ValueError("not a cache")
    subdirectories = list(_subdirectories(order, data, extension)) if extension else []
    room = _MAX_TEXT
    for at in range(count):
        flags, name_offset, path_offset, osversion, hwcap = struct.unpack_from(
            f"{order}{_ENTRY}", data, _HEADER_SIZE + at * _ENTRY_SIZE
        )
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


def _subdirectories(order: str, data: bytes, extension: int) -> Iterator[str]:
    magic, count = struct.unpack_from(f"{order}{_SECTIONS}", data, extension)
    if magic != _EXTENSIONS or count > _MAX_SECTIONS:
        raise ValueError("not an extension")
    for number in range(count):
        at = extension + _SECTIONS_SIZE + number * _SECTION_SIZE
        tag, _, start, size = struct.unpack_from(f"{order}{_SECTION}", data, at)
        if tag == _TAG_HWCAPS:
            if size > 4 * _MAX_SUBDIRECTORIES:
                raise ValueError("not an extension")
            for (offset,) in struct.iter_unpack(f"{order}{_OFFSET}", data[start : start + size]):
                yield _string(data, offset)


def _string(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset, offset + _MAX_STRING)].decode()


def _hwcap(entry: CacheEntry, subdirectories: list[str]) -> int:
    return entry.level | _IS_HWCAPS | subdirectories.index(entry.hwcaps) if entry.hwcaps else entry.level


def _extension(order: str, start: int, offsets: list[int]) -> bytes:
    """Encode the section that lists the subdirectories of CPUs."""
    content = start + _SECTIONS_SIZE + _SECTION_SIZE
    size = 4 * len(offsets)
    return (
        _packed(order, _SECTIONS, _EXTENSIONS, 1)
        + _packed(order, _SECTION, _TAG_HWCAPS, 0, content, size)
        + _packed(order, f"{len(offsets)}L", *offsets)
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
