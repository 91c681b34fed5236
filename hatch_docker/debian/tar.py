"""The tar archives in Debian packages, read forward: ustar and GNU's long names, which is all that dpkg reads.

The standard library's tarfile takes a damaged header for the end of the archive, without a word. This reader accepts
nothing that dpkg would not unpack below the root directory as it is written.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hatch_docker.errors import DebianError

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
# No package comes near any of these; without them a few kilobytes could take a day, all memory or the whole disk. The
# first is of a path's parts, the others of bytes: of all contents, and of all headers and names.
_DEEPEST = 128
_MOST_CONTENT = 1 << 34
_MOST_HEADERS = 1 << 28
_LARGEST_OWNER = (1 << 32) - 2
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of a package's archive.

    `path` is relative, without `.` or `..`; `kind` is file, hardlink, symlink or directory; `link` is a symlink's
    target as it is written, or the path of a file before it for a hardlink; `size` is in bytes, 0 for what is no file.
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    link: str = ""


def members(chunks: Iterable[bytes], *, place: str) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """The members of an archive in its order, without its root, and their content, to be read before the next.

    What is not read is skipped. Raises DebianError, which names `place`, for what is damaged, cut off or not harmless.
    """
    source = _Source(chunks, place)
    seen: dict[str, str] = {}
    room = _MOST_CONTENT
    while (member := _next(source, place)) is not None:
        room -= member.size
        if room < 0:
            raise DebianError("has more in its tar archive than any package", place=place)
        content = source.pieces(member.size)
        if member.path:
            _check(member, seen, place)
            yield member, content
        for _ in content:
            pass
        source.take(-member.size % _BLOCK)
    source.end()


class _Source:
    """Bytes in the order they come: so many, in one piece or in several."""

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
                    raise DebianError("its tar archive ends too early", place=self._place)
                self._rest = memoryview(chunk)
            piece, self._rest = self._rest[:count], self._rest[count:]
            count -= len(piece)
            yield bytes(piece)

    def take(self, count: int) -> bytes:
        """So many bytes of what is no content."""
        self._room -= count
        if self._room < 0:
            raise DebianError("has more files in its tar archive than any package", place=self._place)
        return b"".join(self.pieces(count))

    def end(self) -> None:
        """Read to the end, where there must be nothing but zeros: a decompressor checks its content only there."""
        for rest in itertools.chain((bytes(self._rest),), self._chunks):
            if rest.strip(b"\0"):
                raise DebianError("something follows the end of its tar archive", place=self._place)


def _next(source: _Source, place: str) -> Member | None:
    """The next member's header, with the long names before it; None at the end of the archive."""
    long: dict[bytes, str] = {}
    while any(block := source.take(_BLOCK)):
        header = _read(block, place)
        if header.kind not in {_LONG_LINK, _LONG_NAME}:
            return _member(header, long, place)
        if header.size > _LONGEST or header.kind in long:
            raise DebianError("has a name in its tar archive that is too long", place=place)
        name = source.take(header.size)
        source.take(-header.size % _BLOCK)
        long[header.kind] = _text(name.rstrip(b"\0"), place)
    if long:
        raise DebianError("its tar archive ends after a long name", place=place)
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
    wanted = sum(block) - sum(checksum) + 8 * ord(" ")
    found = _OCTAL.fullmatch(checksum)
    if found is None or int(found[1], 8) != wanted:
        raise DebianError("has a header in its tar archive that is damaged", place=place)
    owner = _number(uid, place), _number(gid, place)
    if max(owner) > _LARGEST_OWNER:
        raise DebianError("has an owner in its tar archive that is none", place=place)
    name, prefix = name.partition(b"\0")[0], prefix.partition(b"\0")[0]
    # GNU's own magic, with a space, has no prefix there but times.
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
    """An octal number, or GNU's binary one for those that are too large."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    found = _OCTAL.fullmatch(field)
    if found is None:
        raise DebianError("has a number in its tar archive that is none", place=place)
    return int(found[1], 8)


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
        raise DebianError(f"has a {kind} in its tar archive that is none: {name!r}", place=place)
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
    """A path or a link's target. With the end of a line in it, it could be two files in dpkg's lists."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise DebianError(f"has a name in its tar archive that is not UTF-8: {data!r}", place=place) from None
    if "\0" in text or "\n" in text:
        raise DebianError(f"has a name in its tar archive that no file can have: {text!r}", place=place)
    return text


def _path(name: str, place: str) -> str:
    """A member's name as a path: `./usr/bin/` is `usr/bin`, `./` is nothing."""
    parts = name.removesuffix("/").split("/")
    if parts[0] == ".":
        del parts[0]
    if len(parts) > _DEEPEST:
        raise DebianError(f"has a path in its tar archive that is too long: {name[:80]!r}", place=place)
    if not name or any(part in {"", ".", ".."} for part in parts):
        raise DebianError(f"has a path in its tar archive that leads out of it: {name!r}", place=place)
    return "/".join(parts)


def _check(member: Member, seen: dict[str, str], place: str) -> None:
    """Refuse what cannot be unpacked as it is: a path twice, or below a file, or a link to what is not there."""
    path = member.path
    before = seen.get(path)
    if before is not None and not before == member.kind == "directory":
        raise DebianError(f"has {path!r} in its tar archive twice", place=place)
    parent = path.rpartition("/")[0]
    while parent:
        if seen.get(parent, "directory") != "directory":
            raise DebianError(f"has {path!r} in its tar archive, which is below a file", place=place)
        parent = parent.rpartition("/")[0]
    if member.kind == "hardlink" and seen.get(member.link) not in {"file", "hardlink"}:
        raise DebianError(
            f"has a link in its tar archive to what is not there: {path!r} to {member.link!r}", place=place
        )
    seen[path] = member.kind
