"""Headers of tar archives (POSIX.1-2017, pax interchange format): equal values give equal bytes on every host.

The standard library's tarfile writes other bytes in other Python versions, and a layer's diff ID is the hash of these
bytes. The tests read them back with tarfile.
"""

from __future__ import annotations

import struct

from hatch_docker.errors import ImageError
from hatch_docker.support.dataclasses import dataclass

BLOCK = 512
END = bytes(2 * BLOCK)

FILE = b"0"
SYMLINK = b"2"
DIRECTORY = b"5"
_EXTENDED = b"x"

# One time for every member, 1980-01-02T00:00:00Z. It is not the epoch: zipfile refuses times before 1980, so a program
# in the image could not zip its own files. It is the second of January: zipfile converts to local time, which is still
# the first of January in the westernmost time zone.
MTIME = 315619200

_USTAR = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_MAGIC = b"ustar\x0000"
_MTIME_FIELD = b"%011o\0" % MTIME
_NAME, _PREFIX = 100, 155
_MAX_OWNER = 0o7777777
_MAX_SIZE = 0o77777777777


@dataclass(frozen=True, slots=True)
class Header:
    """A member: `kind` is FILE, SYMLINK or DIRECTORY; `size` in bytes."""

    path: str
    kind: bytes
    mode: int
    size: int = 0
    link: str = ""
    uid: int = 0
    gid: int = 0

    def to_bytes(self) -> bytes:
        """The blocks before the content: a ustar header, after an extended one if ustar cannot hold all fields.

        Raises ImageError for a path, link, size or owner that no archive can hold.
        """
        if min(self.size, self.uid, self.gid) < 0:
            raise ImageError(f"{self.path!r} has a negative size or owner")
        name, target = _encode(self.path), _encode(self.link)
        if self.kind == DIRECTORY:
            name += b"/"
        prefix, short = _split(name)
        fields = (
            (b"gid", self.gid, self.gid <= _MAX_OWNER),
            (b"linkpath", target, len(target) <= _NAME and self.link.isascii()),
            (b"path", name, len(short) <= _NAME and self.path.isascii()),
            (b"size", self.size, self.size <= _MAX_SIZE),
            (b"uid", self.uid, self.uid <= _MAX_OWNER),
        )
        records = b"".join([_record(keyword, value) for keyword, value, fits in fields if not fits])
        block = _ustar(self, prefix, short, target)
        if not records:
            return block
        extended = _ustar(Header("", _EXTENDED, 0o644, len(records)), b"", b"PaxHeaders/" + short)
        return b"".join((extended, records, padding(len(records)), block))


def padding(size: int) -> bytes:
    """The zeros that fill the last block of a content of `size` bytes."""
    return bytes(-size % BLOCK)


def _encode(text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise ImageError(f"{text!r} is not valid Unicode", hint="rename the file") from None
    if b"\0" in data:
        raise ImageError(f"{text!r} contains a NUL character", hint="rename the file")
    return data


def _split(name: bytes) -> tuple[bytes, bytes]:
    """The prefix and name fields: split at the first slash after which the rest fits; without one, no prefix."""
    if len(name) <= _NAME:
        return b"", name
    slash = name.find(b"/", len(name) - _NAME - 1, -1)
    if 0 < slash <= _PREFIX:
        return name[:slash], name[slash + 1 :]
    return b"", name


def _record(keyword: bytes, value: bytes | int) -> bytes:
    """`length keyword=value newline`; the length includes its own digits."""
    rest = b" %s=%s\n" % (keyword, value if isinstance(value, bytes) else b"%d" % value)
    length = len(rest) + len(str(len(rest)))
    length = len(rest) + len(str(length))
    return b"%d%s" % (length, rest)


def _ustar(member: Header, prefix: bytes, name: bytes, link: bytes = b"") -> bytes:
    """One header block. Values that do not fit are cut or 0: the extended header has them."""
    block = bytearray(
        _USTAR.pack(
            name,
            b"%07o\0" % (member.mode & 0o7777),
            b"%07o\0" % (member.uid if member.uid <= _MAX_OWNER else 0),
            b"%07o\0" % (member.gid if member.gid <= _MAX_OWNER else 0),
            b"%011o\0" % (member.size if member.size <= _MAX_SIZE else 0),
            _MTIME_FIELD,
            b"        ",
            member.kind,
            link,
            _MAGIC,
            b"",
            b"",
            b"0000000\0",
            b"0000000\0",
            prefix,
        )
    )
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
