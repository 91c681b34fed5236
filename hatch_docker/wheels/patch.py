"""Replace members of a wheel, so that it is the wheel that its build backend would make of the new contents. No I/O.

Only for wheels of `zipfile` with one setting for all members, as hatchling writes them: what cannot be reproduced is
refused. PyPA: Binary distribution format; PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from collections.abc import Mapping

from hatch_docker.support.dataclasses import dataclass

_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")
_SIGNATURES = (b"PK\3\4", b"PK\1\2", b"PK\5\6")
_DEFLATED = 8
# As they are read by hatchling. It should not matter to zlib, which is not the only implementation.
_CHUNK = 16384
# Names that CSV quotes, and others that nobody has.
_QUOTED = frozenset(",\"'\r\n\\")
# Fields that are written elsewhere if they do not fit.
_LARGEST = 0xFFFFFFFF


class UnlikeError(ValueError):
    """The wheel was not written as this module writes it."""


@dataclass(slots=True)
class _Member:
    """A member: the fields of its two headers, its name and extra fields, and its DEFLATE stream."""

    central: list[int | bytes]
    local: list[int | bytes]
    name: bytes
    extra: bytes
    local_extra: bytes
    stream: bytes

    def plain(self) -> bytes:
        """Its content. Raises UnlikeError for a damaged one."""
        try:
            data = zlib.decompress(self.stream, -15)
        except zlib.error as error:
            raise UnlikeError(str(error)) from None
        if zlib.crc32(data) != self.central[7]:
            raise UnlikeError("a wrong CRC")
        return data

    def replace(self, data: bytes) -> None:
        """Give it another content. Raises UnlikeError if its own would not be compressed to what it has."""
        if _deflated(self.plain()) != self.stream:
            raise UnlikeError("it was compressed in another way")
        self.stream = _deflated(data)
        sizes: list[int | bytes] = [zlib.crc32(data), len(self.stream), len(data)]
        self.central[7:10], self.local[6:9] = sizes, sizes


class PatchedWheel:
    """A wheel in memory. `record` is the path of its RECORD. Raises UnlikeError, as all methods do."""

    def __init__(self, data: bytes, record: str) -> None:
        self._record = record
        try:
            self._members, self._end = _read(data)
        except (struct.error, IndexError) as error:
            raise UnlikeError(str(error)) from None

    def read(self, path: str) -> bytes:
        """The content of a member."""
        return self._member(path).plain()

    def replaced(self, contents: Mapping[str, bytes]) -> bytes:
        """The wheel with other contents of some members; not to be called twice."""
        record = self.read(self._record)
        for path, content in contents.items():
            record = with_row(record, path, self.read(path), content)
            self._member(path).replace(content)
        self._member(self._record).replace(record)
        return b"".join(self._written())

    def _member(self, path: str) -> _Member:
        found = [each for each in self._members if each.name == path.encode()]
        if len(found) != 1:
            raise UnlikeError(f"it has {path} {len(found)} times")
        return found[0]

    def _written(self) -> list[bytes]:
        parts, directory, offset = [], [], 0
        for each in self._members:
            data = b"".join((_LOCAL.pack(*each.local), each.name, each.local_extra, each.stream))
            directory.append(_CENTRAL.pack(*each.central[:-1], offset) + each.name + each.extra)
            parts.append(data)
            offset += len(data)
        size = sum(map(len, directory))
        if offset + size >= _LARGEST:
            raise UnlikeError("too large")
        return [*parts, *directory, _END.pack(*self._end[:-3], size, offset, self._end[-1])]


def with_row(record: bytes, path: str, before: bytes, after: bytes) -> bytes:
    """RECORD with the row of a file for its new content. Raises UnlikeError if it has no such row for the old one."""
    if not _QUOTED.isdisjoint(path):
        raise UnlikeError(f"its row may be quoted: {path}")
    lines, row = record.split(b"\n"), _row(path, before)
    if lines.count(row) != 1:
        raise UnlikeError(f"RECORD has no row for {path}")
    lines[lines.index(row)] = _row(path, after)
    return b"\n".join(lines)


def _row(path: str, content: bytes) -> bytes:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
    return b"%b,sha256=%b,%d" % (path.encode(), digest, len(content))


def _deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -15)
    chunks = [compressor.compress(data[start : start + _CHUNK]) for start in range(0, len(data), _CHUNK)]
    return b"".join((*chunks, compressor.flush()))


def _read(data: bytes) -> tuple[list[_Member], tuple[int | bytes, ...]]:
    """All members in their order, and the end record; nothing else may be between them."""
    end = _END.unpack_from(data, len(data) - _END.size)
    signature, _, _, count, total, size, start, comment = end
    if (signature, comment, total) != (_SIGNATURES[2], 0, count) or start + size + _END.size != len(data):
        raise UnlikeError("it has another end")
    members, position, at = [], start, 0
    for _ in range(count):
        central = list(_CENTRAL.unpack_from(data, position))
        names = position + _CENTRAL.size
        name = data[names : names + central[10]]
        extra = data[names + central[10] : names + central[10] + central[11]]
        position = names + central[10] + central[11]
        local = list(_LOCAL.unpack_from(data, at))
        begin = at + _LOCAL.size + local[9] + local[10]
        same = central[2] >= 20 and central[3:10] == local[2:9] and central[16] == at
        plain = (central[0], local[0]) == (_SIGNATURES[1], _SIGNATURES[0]) and not central[12] and not central[3] & 9
        if not (same and plain and central[4] == _DEFLATED):
            raise UnlikeError("it has a member of another form")
        if data[at + _LOCAL.size : at + _LOCAL.size + local[9]] != name:
            raise UnlikeError("its names differ")
        stream = data[begin : begin + central[8]]
        members.append(_Member(central, local, name, extra, data[begin - local[10] : begin], stream))
        at = begin + central[8]
    if at != start or position != start + size:
        raise UnlikeError("it has other parts")
    return members, end
