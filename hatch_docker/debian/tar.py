"""Read the tar archives in Debian packages as streams: ustar with GNU's long names, which is what dpkg reads.

The standard library's tarfile silently takes a damaged header for the end of the archive. This reader rejects every
member that dpkg would not unpack below the root directory exactly as written.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator

from hatch_docker.errors import DebianError
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

_BLOCK = 512
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_KINDS = {b"0": "file", b"\0": "file", b"7": "file", b"1": "hardlink", b"2": "symlink", b"5": "directory"}
_REFUSED = {
    b"3": "a device",
    b"4": "a device",
    b"6": "a named pipe",
    b"S": "a sparse file",
    b"x": "a pax header",
    b"g": "a pax header",
}
_LONG_LINK, _LONG_NAME = b"K", b"L"
_LONGEST = 4096
# Limits against archives that inflate to take all time, memory or disk; no real package comes near them: components of
# a path, bytes of all contents, bytes of all headers and names.
_DEEPEST = 128
_MOST_CONTENT = 1 << 34
_MOST_HEADERS = 1 << 28
_LARGEST_OWNER = (1 << 32) - 2
_OCTAL = regex(rb" *([0-7]+)[ \0]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of a package's archive.

    `path` is relative, without `.` or `..`; `kind` is file, hardlink, symlink or directory; `link` is a symlink's
    target as written, or the path of an earlier file for a hardlink; `size` is in bytes, 0 unless it is a file.
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    link: str = ""


def members(chunks: Iterable[bytes], *, place: str) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """The members of an archive in their order, each with its content, which must be read before the next member.

    The root directory is omitted; unread content is skipped. Raises DebianError, with `place`, for an archive that is
    damaged, truncated, or has members that would be unsafe to unpack.
    """
    source = _Source(chunks, place)
    seen: dict[str, str] = {}
    room = _MOST_CONTENT
    while (member := _next(source, place)) is not None:
        room -= member.size
        if room < 0:
            raise DebianError("has a tar archive that is too large", place=place)
        content = source.pieces(member.size)
        if member.path:
            _check(member, seen, place)
            yield member, content
        for _ in content:
            pass
        source.take(-member.size % _BLOCK)
    source.end()


class _Source:
    """Reads a given number of bytes from a stream of chunks, as one or several pieces."""

    def __init__(self, chunks: Iterable[bytes], place: str) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self._place = place
        self._room = _MOST_HEADERS

    def pieces(self, count: int) -> Iterator[bytes]:
        while count:
            while not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    raise DebianError("has a truncated tar archive", place=self._place)
                self._rest = memoryview(chunk)
            piece, self._rest = self._rest[:count], self._rest[count:]
            count -= len(piece)
            yield bytes(piece)

    def take(self, count: int) -> bytes:
        """Read bytes of headers, names and padding, whose total is limited."""
        self._room -= count
        if self._room < 0:
            raise DebianError("has too many files in its tar archive", place=self._place)
        return b"".join(self.pieces(count))

    def end(self) -> None:
        """Read to the end, where decompressors verify checksums; only zeros may follow the archive."""
        for rest in itertools.chain((bytes(self._rest),), self._chunks):
            if rest.strip(b"\0"):
                raise DebianError("has data after the end of its tar archive", place=self._place)


def _next(source: _Source, place: str) -> Member | None:
    """Read the next member's header and the long names before it; None at the end of the archive."""
    long: dict[bytes, str] = {}
    while any(block := source.take(_BLOCK)):
        header = _read(block, place)
        if header.kind not in {_LONG_LINK, _LONG_NAME}:
            return _member(header, long, place)
        if header.size > _LONGEST or header.kind in long:
            raise DebianError("has too long a name in its tar archive", place=place)
        name = source.take(header.size)
        source.take(-header.size % _BLOCK)
        long[header.kind] = _text(name.rstrip(b"\0"), place)
    if long:
        raise DebianError("has a tar archive that ends after a long name", place=place)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    kind: bytes
    link: bytes


def _read(block: bytes, place: str) -> _Header:
    name, mode, uid, gid, size, _, checksum, kind, link, magic, _, _, _, _, prefix = _HEADER.unpack(block)
    expected = sum(block) - sum(checksum) + 8 * ord(" ")
    match = _OCTAL.fullmatch(checksum)
    if match is None or int(match[1], 8) != expected:
        raise DebianError("has a damaged header in its tar archive", place=place)
    owner = _number(uid, place), _number(gid, place)
    if max(owner) > _LARGEST_OWNER:
        raise DebianError("has an invalid owner in its tar archive", place=place)
    name, prefix = name.partition(b"\0")[0], prefix.partition(b"\0")[0]
    # After GNU's magic, which has a space, this field holds times.
    if magic == b"ustar\x0000" and prefix:
        name = prefix + b"/" + name
    return _Header(
        name=name,
        mode=_number(mode, place) & 0o7777,
        uid=owner[0],
        gid=owner[1],
        size=_number(size, place),
        kind=kind,
        link=link.partition(b"\0")[0],
    )


def _number(field: bytes, place: str) -> int:
    """Parse an octal number, or GNU's binary encoding of large ones."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise DebianError("has an invalid number in its tar archive", place=place)
    return int(match[1], 8)


def _member(header: _Header, long: dict[bytes, str], place: str) -> Member:
    name = long.get(_LONG_NAME) or _text(header.name, place)
    kind = _KINDS.get(header.kind)
    if kind is None:
        what = _REFUSED.get(header.kind, f"a member of kind {header.kind!r}")
        raise DebianError(f"has {what} in its tar archive: {name!r}", place=place)
    if kind == "file" and name.endswith("/"):
        kind = "directory"
    link = long.get(_LONG_LINK) or _text(header.link, place)
    linked = kind in {"hardlink", "symlink"}
    if (linked and not link) or (kind != "file" and header.size):
        raise DebianError(f"has an invalid {kind} in its tar archive: {name!r}", place=place)
    return Member(
        path=_path(name, place),
        kind=kind,
        mode=header.mode,
        uid=header.uid,
        gid=header.gid,
        size=header.size,
        link=_path(link, place) if kind == "hardlink" else link if linked else "",
    )


def _text(data: bytes, place: str) -> str:
    """Decode a path or link target. dpkg's lists have a path in each line, so newlines are rejected."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise DebianError(f"has a name in its tar archive that is not UTF-8: {data!r}", place=place) from None
    if "\0" in text or "\n" in text:
        raise DebianError(f"has an invalid name in its tar archive: {text!r}", place=place)
    return text


def _path(name: str, place: str) -> str:
    """Normalize a member's name: `./usr/bin/` to `usr/bin`, `./` to an empty path."""
    parts = name.removesuffix("/").split("/")
    if parts[0] == ".":
        del parts[0]
    if len(parts) > _DEEPEST:
        raise DebianError(f"has too long a path in its tar archive: {name[:80]!r}", place=place)
    if not name or any(part in {"", ".", ".."} for part in parts):
        raise DebianError(f"has a path outside of its tar archive: {name!r}", place=place)
    return "/".join(parts)


def _check(member: Member, seen: dict[str, str], place: str) -> None:
    """Raise DebianError for a repeated path, a path below a file, and a hard link to a missing file."""
    path = member.path
    earlier = seen.get(path)
    if earlier is not None and not earlier == member.kind == "directory":
        raise DebianError(f"has {path!r} in its tar archive twice", place=place)
    parent = path.rpartition("/")[0]
    while parent:
        if seen.get(parent, "directory") != "directory":
            raise DebianError(f"has {path!r} in its tar archive, which is below a file", place=place)
        parent = parent.rpartition("/")[0]
    if member.kind == "hardlink" and seen.get(member.link) not in {"file", "hardlink"}:
        raise DebianError(
            f"has a hard link to a missing file in its tar archive: {path!r} to {member.link!r}", place=place
        )
    seen[path] = member.kind
