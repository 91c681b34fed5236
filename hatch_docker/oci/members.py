"""Untrusted tars, read by the standard library in one pass, in time and memory linear in the bytes that arrive.

A few hundred kilobytes of a hostile archive can inflate to gigabytes of headers or members, and a header of 512 bytes
can claim any size. Limits are those of Go's archive/tar, by which engines read layers, and of Linux. What Go refuses is
refused: no engine has an image with such a layer.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, NoReturn, cast

from hatch_docker.support.patterns import regex

if TYPE_CHECKING:
    import io

# Go: maxSpecialFileSize, for the names and records of one header.
_LARGEST_HEADER = 1 << 20
# In bytes. Linux takes no longer path (PATH_MAX with its NUL), target of a link, or component (NAME_MAX).
_LONGEST_PATH = _LONGEST_TARGET = 4095
_LONGEST_NAME = 255
# int() takes quadratic time; no size has more digits.
_MOST_DIGITS = 20
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
# Files, hard and symbolic links, devices, directories and pipes: engines refuse all others.
_KINDS = frozenset((*_EXTENDED, tarfile.AREGTYPE, *(b"%d" % number for number in range(7))))
# The numbers of nearly all headers: mode, owners, size and time.
_PLAIN = regex(rb"(?:[ 0-7]{7}[\0 ]){3}(?:[ 0-7]{11}[\0 ]){2}")
# The places of all numbers. Python also takes signs, prefixes and underscores in octal ones.
_NUMBERS = ((100, 108), (108, 116), (116, 124), (124, 136), (136, 148), (329, 337), (337, 345))
_OCTAL = regex(rb"[\0 ]*[0-7]*(?:\0.*|[\0 ]*)", re.DOTALL)
_INT64 = 1 << 63
# The values of records that mean something, as Go reads them. An empty one means nothing.
_TIME = regex(rb"[-+]?[0-9]{1,18}(?:\.[0-9]*)?")
_OWNER = regex(rb"[-+]?[0-9]{1,18}")
_NAME = regex(rb"[^\0]*")
_RECORDS = {
    b"size": regex(rb"[0-9]{1,%d}" % _MOST_DIGITS),
    **dict.fromkeys((b"uid", b"gid"), _OWNER),
    **dict.fromkeys((b"mtime", b"atime", b"ctime"), _TIME),
    **dict.fromkeys((b"uname", b"gname"), _NAME),
}
# Not documented by tarfile, as its base class HeaderError is.
_EndError, _InvalidError, _TruncatedError = (
    tarfile.EOFHeaderError,  # type: ignore[attr-defined]
    tarfile.InvalidHeaderError,  # type: ignore[attr-defined]
    tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
)
_ZEROS = bytes(tarfile.BLOCKSIZE)
# The name of its parameter, in `fromtarfile`, hides the module.
_TarFile = tarfile.TarFile
# TarFile.fileobj of a stream has these methods.
_File = IO[bytes]


class Member(tarfile.TarInfo):
    """A member. What Go's archive/tar refuses is a ReadError: damaged headers, large extended ones, malformed numbers.

    So are sparse files, and members of a kind that engines do not unpack. A global header is a member of its own:
    engines skip it, while tarfile would apply it to the members after it.

    The methods with an underscore are private to tarfile (checked: 3.10 to 3.13). If tarfile did not call them, headers
    of any size would be read, global ones applied, and endless maps of sparse files awaited.
    """

    @classmethod
    def fromtarfile(cls, tarfile: _TarFile) -> Member:
        """Read the next member. The end is two blocks of zeros, or that of the file: tarfile stops where it likes."""
        try:
            return super().fromtarfile(tarfile)
        except _EndError:
            file: _File = tarfile.fileobj  # type: ignore[assignment]
            if file.read(len(_ZEROS)) not in (b"", _ZEROS):
                _refuse("it has a lone block of zeros")
            raise
        except (_InvalidError, _TruncatedError) as error:
            _refuse(f"it is damaged or truncated: {error}")

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Member:
        """Read a header: octal numbers have nothing but digits, and binary ones at most 64 bits."""
        member = super().frombuf(buf, encoding, errors)
        if not _PLAIN.match(buf, 100) or buf[329:345].strip(b"0\0"):
            numbers = (member.mode, member.uid, member.gid, member.size, member.mtime, member.devmajor, member.devminor)
            fields = (buf[start:end] for start, end in _NUMBERS)
            if not all(field[0] >= 0x80 or _OCTAL.fullmatch(field) for field in fields):
                _refuse("it has a malformed number")
            if not all(-_INT64 <= number < _INT64 for number in numbers):
                _refuse("it has too large a number")
        return member

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Check a header before tarfile reads what follows."""
        if self.size < 0:
            _refuse("it has a file of negative size")
        if self.type not in _KINDS:
            _refuse(f"it has a file of the unknown kind {self.type!r}")
        if self.type in _EXTENDED and self.size > _LARGEST_HEADER:
            _refuse(f"it has a header of {self.size} bytes")
        if self.type == tarfile.XGLTYPE:
            self._own_records(tar)
            self.offset_data = tar.offset = cast("_File", tar.fileobj).tell()
            return self
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return member

    def _own_records(self, tar: tarfile.TarFile) -> dict[str, str]:
        data = cast("_File", tar.fileobj).read(self._block(self.size))[: self.size]  # type: ignore[attr-defined]
        return dict(_records(data))

    def _proc_pax(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Read the records of an extended header, and apply them to the next member.

        tarfile's own pattern takes quadratic time before Python 3.12.6.
        """
        records = self._own_records(tar)
        if any(key.startswith("GNU.sparse.") for key in records):
            _refuse("it has a sparse file")
        try:
            member = self.fromtarfile(tar)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None
        member._apply_pax_info(records, "utf-8", "surrogateescape")  # type: ignore[attr-defined]
        if "size" in records:
            has_content = member.isreg() or member.type not in tarfile.SUPPORTED_TYPES
            content = member._block(member.size) if has_content else 0  # type: ignore[attr-defined]
            tar.offset = member.offset_data + content
        return member


def _refuse(reason: str) -> NoReturn:
    raise tarfile.ReadError(reason)


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    """The records of an extended header (POSIX.1-2017, pax: length, keyword=value, newline). Raises ReadError."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + _MOST_DIGITS)
        end = at + int(data[at:space]) if space > at and data[at:space].isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not (key and equals and end <= len(data) and data[end - 1 : end] == b"\n"):
            _refuse("it has an invalid extended header")
        if value and (pattern := _RECORDS.get(key)) and not pattern.fullmatch(value):
            _refuse(f"it has a malformed {key.decode()}")
        if value or key not in _RECORDS:
            yield key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
        at = end


class _Stream:
    """A file that is read once. Reading on behind its end is an error: tarfile skips any number of claimed bytes so."""

    def __init__(self, file: io.RawIOBase | io.BufferedIOBase) -> None:
        self._file = file
        self._ended = False

    def read(self, size: int) -> bytes:
        data = self._file.read(size) or b""
        if not data and self._ended:
            raise tarfile.ReadError("unexpected end of data")
        self._ended = not data
        return data


def open_stream(file: io.RawIOBase | io.BufferedIOBase) -> tarfile.TarFile:
    """Open a plain tar that is read once, for `members`. ReadError where its end is before that of a member."""
    return tarfile.open(fileobj=cast("IO[bytes]", _Stream(file)), mode="r|", tarinfo=Member)


def members(tar: tarfile.TarFile, *, most: int) -> Iterator[tarfile.TarInfo]:
    """The members of a tar opened with `tarinfo=Member`, without global headers.

    Raises ReadError for more than `most`, and for a name that Linux has no file of, which no engine unpacks.
    """
    for number, member in enumerate(tar):
        # tarfile keeps them all in memory.
        tar.members.clear()  # type: ignore[attr-defined]  # typeshed lacks it
        if number >= most:
            raise tarfile.ReadError("it has too many files")
        if member.type != tarfile.XGLTYPE:
            if problem := _problem(member):
                raise tarfile.ReadError(problem)
            yield member


def _problem(member: tarfile.TarInfo) -> str:
    """Why no system has such a file; empty if one may."""
    name, link = member.name, member.linkname
    # Nearly all are short: no component of these needs to be measured.
    if len(name) <= _LONGEST_NAME >> 2 and len(link) <= _LONGEST_NAME >> 2:
        return "it has a name with a NUL" if "\0" in name or "\0" in link else ""
    path = name.encode("utf-8", "surrogateescape")
    if len(path) > _LONGEST_PATH or len(link.encode("utf-8", "surrogateescape")) > _LONGEST_TARGET:
        return f"it has too long a path: {name[:80]!r}…"
    if long := next((each for each in path.split(b"/") if len(each) > _LONGEST_NAME), b""):
        return f"it has a name of more than {_LONGEST_NAME} bytes: {long[:80].decode('utf-8', 'replace')!r}…"
    return "it has a name with a NUL" if "\0" in name or "\0" in link else ""
