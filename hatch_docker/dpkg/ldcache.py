"""The dynamic loader's cache, `/etc/ld.so.cache`, as glibc's ldconfig writes it since 2.32 (dl-cache.h).

Programs find their libraries without it. But it is what `ldconfig -p`, and so Python's `ctypes.util`, tells of, and the
only way to a directory that the loader does not search by itself.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hatch_docker.errors import ImageError

# The ABI flags of an entry by the kernel's name of a CPU: that it is for glibc, and which variant (ldconfig.h).
FLAGS = {
    "x86_64": 0x0303,
    "aarch64": 0x0A03,
    "i686": 0x0003,
    "armv7l": 0x0903,
    "ppc64le": 0x0503,
    "riscv64": 0x1003,
}
_MAGIC = b"glibc-ld.so.cache1.1"
# Up to glibc 2.31 the same stood behind a table of an older format.
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
# A cache of some thousand libraries has some hundred kilobytes. In one that is made for it, names lie one in the other.
_LARGEST = 16 << 20
_MOST_TEXT = 32 << 20
_MOST_SECTIONS = 64
_MOST_SUBDIRECTORIES = 1 << 10
_LONGEST = 4096
_DIGITS = re.compile(rb"\d+|\D")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """A library: `name` is what programs ask for, `path` where it is, absolute; `flags` its ABI (FLAGS).

    `hwcaps` is the directory of CPUs that it is for, below `glibc-hwcaps`, or empty; `level` what else is said of these
    (the upper half of the field hwcap).
    """

    name: str
    path: str
    flags: int
    osversion: int = 0
    hwcaps: str = ""
    level: int = 0


def ld_so_cache(entries: Iterable[CacheEntry]) -> bytes:
    """The cache of those libraries, sorted as the loader wants it; of equal names the first entry is the one found."""
    found = _sorted(entries)
    subdirectories = sorted({entry.hwcaps for entry in found if entry.hwcaps})
    strings = bytearray()
    places: dict[str, int] = {}
    start = _HEADER.size + _ENTRY.size * len(found)
    for text in (*subdirectories, *(text for entry in found for text in (entry.name, entry.path))):
        if text not in places:
            places[text] = start + len(strings)
            strings += text.encode() + b"\0"
    length = len(strings)
    strings += bytes(-(start + length) % 4)
    extension = start + len(strings) if subdirectories else 0
    head = _HEADER.pack(_MAGIC, len(found), length, _LITTLE, extension)
    table = b"".join(
        _ENTRY.pack(each.flags, places[each.name], places[each.path], each.osversion, _hwcap(each, subdirectories))
        for each in found
    )
    end = _extension(extension, [places[each] for each in subdirectories]) if extension else b""
    return head + table + bytes(strings) + end


def read_ld_so_cache(data: bytes) -> list[CacheEntry]:
    """The entries of a cache, in its order. Raises ImageError for what is none, or of a machine that is big-endian."""
    try:
        return list(_entries(_without_old(data)))
    except (struct.error, IndexError, ValueError):
        raise ImageError("is not a cache of the dynamic loader that can be read", place="/etc/ld.so.cache") from None


def _without_old(data: bytes) -> bytes:
    if data.startswith(_OLD_MAGIC):
        _, count = _OLD_HEADER.unpack_from(data)
        size = _OLD_HEADER.size + count * _OLD_ENTRY.size
        data = data[size + -size % 8 :]
    if len(data) > _LARGEST:
        raise ValueError("too large")
    return data


def _entries(data: bytes) -> Iterator[CacheEntry]:
    magic, count, _, endian, extension = _HEADER.unpack_from(data)
    if magic != _MAGIC or endian & 3 not in (0, _LITTLE) or count * _ENTRY.size > len(data):
        raise ValueError("not a cache")
    subdirectories = list(_subdirectories(data, extension)) if extension else []
    room = _MOST_TEXT
    for at in range(count):
        flags, start, place, osversion, hwcap = _ENTRY.unpack_from(data, _HEADER.size + at * _ENTRY.size)
        extended = bool(hwcap & _IS_HWCAPS)
        name, path = _string(data, start), _string(data, place)
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
    if magic != _EXTENSIONS or count > _MOST_SECTIONS:
        raise ValueError("not an extension")
    for number in range(count):
        tag, _, start, size = _SECTION.unpack_from(data, extension + _SECTIONS.size + number * _SECTION.size)
        if tag == _TAG_HWCAPS:
            if size > 4 * _MOST_SUBDIRECTORIES:
                raise ValueError("not an extension")
            for (place,) in struct.iter_unpack("<L", data[start : start + size]):
                yield _string(data, place)


def _string(data: bytes, place: int) -> str:
    return data[place : data.index(b"\0", place, place + _LONGEST)].decode()


def _hwcap(entry: CacheEntry, subdirectories: list[str]) -> int:
    return entry.level | _IS_HWCAPS | subdirectories.index(entry.hwcaps) if entry.hwcaps else entry.level


def _extension(start: int, places: list[int]) -> bytes:
    """The section that names the directories of CPUs."""
    content = start + _SECTIONS.size + _SECTION.size
    size = 4 * len(places)
    return (
        _SECTIONS.pack(_EXTENSIONS, 1)
        + _SECTION.pack(_TAG_HWCAPS, 0, content, size)
        + struct.pack(f"<{len(places)}L", *places)
    )


def _sorted(entries: Iterable[CacheEntry]) -> list[CacheEntry]:
    """By name, the highest first; of one name by flags; those for some CPUs before the others (cache.c, compare)."""
    found = list(dict.fromkeys(entries))
    found.sort(key=lambda entry: (not entry.hwcaps, entry.hwcaps))
    found.sort(key=lambda entry: entry.flags, reverse=True)
    found.sort(key=lambda entry: version_key(entry.name), reverse=True)
    return found


def version_key(name: str) -> list[tuple[int, int]]:
    """What names of libraries are sorted by: numbers in them by their value, after all else (_dl_cache_libcmp)."""
    return [(1, int(part)) if part.isdigit() else (0, part[0]) for part in _DIGITS.findall(name.encode())]
