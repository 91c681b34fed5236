"""Tars for the zoos, block by block: each field of a header can be anything."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping

from hatch_docker.oci import spec
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.streams import digest_of

END = bytes(1024)
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_NAMES = (
    "name", "mode", "uid", "gid", "size", "mtime", "checksum", "kind", "link", "magic", "uname", "gname", "devmajor",
    "devminor", "prefix",
)  # fmt: skip
_LENGTHS = {"mode": 8, "uid": 8, "gid": 8, "size": 12, "mtime": 12, "devmajor": 8, "devminor": 8}
GNU, USTAR = b"ustar  \0", b"ustar\x0000"
NUMBERS = tuple(_LENGTHS)


def block(name: bytes = b"x", kind: bytes = b"0", **fields: bytes) -> bytes:
    """A header; `fields` are as in the file. Numbers are 0, and the checksum is right, unless they are given."""
    zeros = {each: b"0" * (length - 1) + b"\0" for each, length in _LENGTHS.items()}
    values = dict.fromkeys(_NAMES, b"") | zeros | {"mode": b"0000644\0", "magic": USTAR}
    values |= {"name": name, "kind": kind, "checksum": b" " * 8} | fields
    data = bytes(_HEADER.pack(*(values[each] for each in _NAMES)))
    if "checksum" not in fields:
        data = data[:148] + b"%06o\0 " % sum(data) + data[156:]
    return data


def file(name: bytes = b"x", content: bytes = b"", kind: bytes = b"0", **fields: bytes) -> bytes:
    """A member with its content."""
    size = {"size": b"%011o\0" % len(content)}
    return block(name, kind, **size | fields) + content + bytes(-len(content) % 512)


def record(key: str, value: bytes) -> bytes:
    """A record of an extended header."""
    text = b" " + key.encode() + b"=" + value + b"\n"
    size = len(text) + len(str(len(text)))
    size = len(text) + len(str(size))
    return str(size).encode() + text


def pax(**records: bytes) -> bytes:
    """An extended header; `__` in a keyword is a dot."""
    return file(b"pax", b"".join(record(key.replace("__", "."), value) for key, value in records.items()), b"x")


def binary(number: int, length: int = 12) -> bytes:
    """A number in GNU's binary encoding."""
    digits: int = number % (1 << 8 * (length - 1))
    return (b"\x80" if number >= 0 else b"\xff") + digits.to_bytes(length - 1, "big")


# Ways in which a number of a header may be written, given the length of the field.
WRITTEN: Mapping[str, Callable[[int], bytes]] = {
    "missing": lambda length: bytes(length),
    "spaces": lambda length: b" " * length,
    "octal garbage": lambda length: b"0000z89\0".rjust(length, b"0"),
    "a sign": lambda length: b"-000001\0".ljust(length, b"\0"),
    "Python's prefix": lambda length: b"0o00001\0".ljust(length, b"\0"),
    "Python's underscore": lambda length: b"00_0001\0".ljust(length, b"\0"),
    "no end": lambda length: b"1" * length if length == 8 else b"0" * length,
    "binary -1": lambda length: binary(-1, length),
    "binary 2**40": lambda length: binary(2**40, length),
    "binary beyond 64 bits": lambda length: b"\x80" + b"\x7f" * (length - 1),
}


def numbers() -> Mapping[str, bytes]:
    """A tar for each number and each way to write it; another file follows."""
    return {
        f"{field}: {way}": file(b"x", **{field: make(_LENGTHS[field])}) + file(b"after") + END
        for field in NUMBERS
        for way, make in WRITTEN.items()
    }


def layer_of(data: bytes) -> Layer:
    """A layer with a plain tar as blob."""
    digest = digest_of(data)
    descriptor = Descriptor(media_type=spec.LAYER_TAR, digest=digest, size=len(data))
    return Layer(descriptor=descriptor, diff_id=digest, open=lambda: io.BytesIO(data))
