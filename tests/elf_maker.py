"""Makes ELF shared libraries with a dynamic section and nothing else."""

from __future__ import annotations

import struct
from collections.abc import Iterable

# e_machine, bits, byte order.
CPUS = {
    "x86_64": (62, 64, "<"),
    "aarch64": (183, 64, "<"),
    "i686": (3, 32, "<"),
    "armv7l": (40, 32, "<"),
    "ppc64le": (21, 64, "<"),
    "s390x": (22, 64, ">"),
    "riscv64": (243, 64, "<"),
    "loongarch64": (258, 64, "<"),
}
_ADDRESS = 0x10000
_NEEDED, _STRTAB = 1, 5
_TAGS = {"soname": 14, "rpath": 15, "runpath": 29}


def make_library(
    needed: Iterable[str] = ("libc.so.6",),
    *,
    machine: str = "x86_64",
    padding: int = 0,
    strings_first: bool = True,
    **names: str,
) -> bytes:
    """A library with `names`: soname, rpath and runpath; `padding` bytes separate names and dynamic section."""
    number, bits, order = CPUS[machine]
    word = "L" if bits == 32 else "Q"
    named = [*((_NEEDED, name) for name in needed), *((_TAGS[kind], names[kind]) for kind in _TAGS if kind in names)]
    strings, entries = bytearray(b"\0"), list[tuple[int, int]]()
    for tag, name in named:
        if name:
            entries.append((tag, len(strings)))
            strings += name.encode() + b"\0"
    segments = 64 if bits == 64 else 52
    start = segments + 2 * (56 if bits == 64 else 32)
    length = (len(entries) + 2) * (16 if bits == 64 else 8)
    # The whole file is loaded as one segment, so addresses are offsets plus a constant.
    text = start if strings_first else start + length + padding
    dynamic = start + len(strings) + padding if strings_first else start
    entries += [(_STRTAB, _ADDRESS + text), (0, 0)]
    section = b"".join(struct.pack(order + 2 * word, *entry) for entry in entries)
    parts = [bytes(strings), bytes(padding), section]
    body = b"".join(parts if strings_first else reversed(parts))
    size = start + len(body)
    head = struct.pack("<4sBBB9x", b"\x7fELF", bits // 32, 1 if order == "<" else 2, 1)
    sizes = (segments, (start - segments) // 2, 2, 0, 0, 0)
    head += struct.pack(f"{order}HHL{3 * word}L6H", 3, number, 1, 0, segments, 0, 0, *sizes)
    return head + _segment(1, 0, size, order, bits) + _segment(2, dynamic, length, order, bits) + body


def _segment(kind: int, offset: int, size: int, order: str, bits: int) -> bytes:
    address = _ADDRESS + offset
    if bits == 32:
        return struct.pack(f"{order}8L", kind, offset, address, address, size, size, 6, 4)
    return struct.pack(f"{order}LL6Q", kind, 6, offset, address, address, size, size, 8)
