"""Headers of tar archives (POSIX.1-2017, pax interchange format), the same bytes for the same values everywhere.

The standard library's tarfile chooses differently from one Python version to the next, and a layer's diff ID is the
hash of these bytes. So they are made here, and tarfile is what the tests read them back with.
"""

from __future__ import annotations

import struct

from hatch_docker.errors import ImageError

BLOCK = 512
END = bytes(2 * BLOCK)

FILE = b"0"
SYMLINK = b"2"
DIRECTORY = b"5"
_EXTENDED = b"x"

# One time for every member, 1980-01-02T00:00:00Z. Not the epoch: zipfile refuses times before 1980, so a program in the
# image could not zip its own files. And the second of January, since zipfile converts to local time, which is still
# the first of January in the westernmost time zone.
MTIME = 315619200

_USTAR = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_MAGIC = b"ustar\x0000"
_MTIME_FIELD = b"%011o\0" % MTIME
_NAME, _PREFIX = 100, 155
_MAX_OWNER = 0o7777777
_MAX_SIZE = 0o77777777777


def header(path: str, kind: bytes, *, mode: int, size: int = 0, link: str = "", uid: int = 0, gid: int = 0) -> bytes:
    """The blocks before a member's content: a ustar header, and an extended one before it for what ustar cannot hold.

    `kind` is FILE, SYMLINK or DIRECTORY; `size` in bytes. Raises ImageError for a path, link, size or owner that no
    archive can hold.
    """
    if min(size, uid, gid) < 0:
        raise ImageError(f"{path!r} has a negative size or owner")
    name, target = _encode(path), _encode(link)
    if kind == DIRECTORY:
        name += b"/"
    prefix, short = _split(name)
    fields = (
        (b"gid", gid, gid <= _MAX_OWNER),
        (b"linkpath", target, len(target) <= _NAME and link.isascii()),
        (b"path", name, len(short) <= _NAME and path.isascii()),
        (b"size", size, size <= _MAX_SIZE),
        (b"uid", uid, uid <= _MAX_OWNER),
    )
    records = b"".join([_record(keyword, value) for keyword, value, fits in fields if not fits])
    block = _ustar(prefix, short, kind, mode=mode, size=size, link=target, uid=uid, gid=gid)
    if not records:
        return block
    extended = _ustar(b"", b"PaxHeaders/" + short, _EXTENDED, mode=0o644, size=len(records))
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
        raise ImageError(f"{text!r} holds a NUL character", hint="rename the file")
    return data


def _split(name: bytes) -> tuple[bytes, bytes]:
    """The prefix and name fields: split at the first slash that lets the rest fit; no prefix where none does."""
    if len(name) <= _NAME:
        return b"", name
    slash = name.find(b"/", len(name) - _NAME - 1, -1)
    if 0 < slash <= _PREFIX:
        return name[:slash], name[slash + 1 :]
    return b"", name


def _record(keyword: bytes, value: bytes | int) -> bytes:
    """`length keyword=value newline`, where the length counts its own digits."""
    rest = b" %s=%s\n" % (keyword, value if isinstance(value, bytes) else b"%d" % value)
    length = len(rest) + len(str(len(rest)))
    length = len(rest) + len(str(length))
    return b"%d%s" % (length, rest)


def _ustar(
    prefix: bytes, name: bytes, kind: bytes, *, mode: int, size: int, link: bytes = b"", uid: int = 0, gid: int = 0
) -> bytes:
    """One header block. What does not fit is cut or 0: an extended header before it has the whole of it."""
    block = bytearray(
        _USTAR.pack(
            name,
            b"%07o\0" % (mode & 0o7777),
            b"%07o\0" % (uid if uid <= _MAX_OWNER else 0),
            b"%07o\0" % (gid if gid <= _MAX_OWNER else 0),
            b"%011o\0" % (size if size <= _MAX_SIZE else 0),
            _MTIME_FIELD,
            b"        ",
            kind,
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
