"""Untrusted tars, read by the standard library in one pass, in time and memory linear in the bytes that arrive.

A few hundred kilobytes of a hostile archive can inflate to gigabytes of headers or members, and a header of 512 bytes
can claim any size. Limits are those of Go's archive/tar, by which engines read layers, and of Linux.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    import io

# Go: maxSpecialFileSize, for the names and records of one header.
_LARGEST_HEADER = 1 << 20
# In bytes. Linux takes no longer path (PATH_MAX with its NUL), target of a link, or component (NAME_MAX).
_LONGEST_PATH = _LONGEST_TARGET = 4095
_LONGEST_NAME = 255
# int() takes quadratic time; no size has more digits.
_MOST_DIGITS = 20
_UNKNOWN = b"?"
_EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
# TarFile.fileobj of a stream has these methods.
_File = IO[bytes]


class Member(tarfile.TarInfo):
    """A member. What Go's archive/tar refuses is a ReadError: large extended headers, malformed or negative sizes.

    A global header is a member of its own: engines skip it, while tarfile would apply it to the members after it. A
    sparse file (`issparse`) is listed, but its map is not read: do not extract it.

    The methods that are overridden are private to tarfile (checked: 3.10 to 3.13). If tarfile did not call them,
    headers of any size would be read, global ones applied, and endless maps of sparse files awaited.
    """

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Check a header before tarfile reads what follows."""
        kind = self.type
        if self.size < 0:
            raise tarfile.ReadError("it has a file of negative size")
        if kind in _EXTENDED and self.size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"it has a header of {self.size} bytes")
        if kind == tarfile.XGLTYPE:
            # tarfile skips the content of members of unknown type.
            self.type = _UNKNOWN
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        if kind == tarfile.XGLTYPE:
            member.type = kind
        return member

    def _proc_pax(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Read the records of an extended header, and apply them to the next member.

        tarfile's own pattern takes quadratic time before Python 3.12.6.
        """
        file: _File = tar.fileobj  # type: ignore[assignment]
        data = file.read(self._block(self.size))[: self.size]  # type: ignore[attr-defined]
        records = dict(_records(data))
        try:
            member = self.fromtarfile(tar)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None
        member._apply_pax_info(records, "utf-8", "surrogateescape")  # type: ignore[attr-defined]
        if any(key.startswith("GNU.sparse.") for key in records):
            member.sparse = b""
        if "size" in records:
            has_content = member.isreg() or member.type not in tarfile.SUPPORTED_TYPES
            content = member._block(member.size) if has_content else 0  # type: ignore[attr-defined]
            tar.offset = member.offset_data + content
        return member

    def _proc_sparse(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Skip the map of a sparse file in GNU's old format, which goes on as long as a byte says so."""
        file: _File = tar.fileobj  # type: ignore[assignment]
        _, goes_on, size = self._sparse_structs  # type: ignore[attr-defined]
        del self._sparse_structs  # type: ignore[attr-defined]
        while goes_on:
            block = file.read(tarfile.BLOCKSIZE)
            if len(block) < tarfile.BLOCKSIZE:
                raise tarfile.ReadError("unexpected end of data")
            goes_on = block[504]
        self.sparse = b""
        self.offset_data = file.tell()
        tar.offset = self.offset_data + self._block(self.size)  # type: ignore[attr-defined]
        self.size = size
        return self


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    """The records of an extended header (POSIX.1-2017, pax: length, keyword=value, newline). Raises ReadError."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + _MOST_DIGITS)
        end = at + int(data[at:space]) if space > at and data[at:space].isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not (key and equals and end <= len(data) and data[end - 1 : end] == b"\n"):
            raise tarfile.ReadError("it has an invalid extended header")
        if key == b"size" and not (value.isdigit() and len(value) <= _MOST_DIGITS):
            raise tarfile.ReadError("it has a malformed size")
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
