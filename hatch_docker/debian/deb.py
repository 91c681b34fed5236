"""Read a Debian binary package, deb(5): an ar archive of `debian-binary`, `control.tar` and `data.tar`.

Callers verify the file's hash before they open it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from hatch_docker.debian.compression import SUFFIXES, decompressed
from hatch_docker.debian.control import NAME, Paragraph, paragraph
from hatch_docker.debian.tar import Member, members
from hatch_docker.debian.version import key
from hatch_docker.errors import DebianError
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex
from hatch_docker.support.streams import CHUNK

SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")
_BROKEN = "download it again, or request another version of the package"

_MAGIC = b"!<arch>\n"
_FORMAT = regex(rb"2\.[0-9]+\n")
_AR_HEADER = regex(rb"(?P<name>.{16})[0-9 ]{12}[0-9 ]{6}[0-9 ]{6}[0-7 ]{8}(?P<size>[0-9]{1,10}) *`\n", re.DOTALL)
_AR_LENGTH = 60
# The md5sums of the largest packages have some megabytes.
_CONTROL_LIMIT = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A member of the ar archive: its content starts at byte `start` of the file and has `size` bytes."""

    name: str
    start: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Deb:
    """A package file, made by `open_deb`. `files` are its control files by name, unparsed."""

    path: Path
    place: str
    files: Mapping[str, bytes]
    _data: _Part

    @cached_property
    def control(self) -> Paragraph:
        """The parsed control file. Raises DebianError if a mandatory field is missing or invalid."""
        fields = paragraph(self._text("control"), place=self.place)
        for field in ("Package", "Version", "Architecture"):
            if not fields.get(field):
                raise _error(self.place, f"has no {field} in its control file")
        for field in ("Package", "Architecture"):
            # dpkg names files in its database after them.
            if not NAME.fullmatch(fields[field]):
                raise _error(self.place, f"has an invalid {field} in its control file: {fields[field][:80]!r}")
        try:
            key(fields["Version"])
        except DebianError as error:
            raise _error(self.place, error.message) from None
        return fields

    @property
    def size(self) -> int:
        """The size of the compressed data member in bytes."""
        return self._data.size

    @property
    def scripts(self) -> Mapping[str, bytes]:
        """The maintainer scripts by name (policy 6): those of SCRIPTS that it has."""
        return {name: self.files[name] for name in SCRIPTS if name in self.files}

    @property
    def conffiles(self) -> tuple[str, ...]:
        """The paths of its configuration files without leading slashes; dpkg keeps local changes to them."""
        # A line that starts with a flag (remove-on-upgrade) names a file that the package no longer has.
        lines = (line.strip() for line in self._text("conffiles").split("\n"))
        return tuple(line.lstrip("/") for line in lines if line.startswith("/"))

    @property
    def md5sums(self) -> Mapping[str, str]:
        """MD5 checksums by path, of the files for which the package has one; `dpkg -V` compares with them."""
        lines = (line.partition("  ") for line in self._text("md5sums").split("\n") if line)
        return {path.removeprefix("./"): digest for digest, _, path in lines}

    def members(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """The members of its data archive in order, each with its content, which must be read before the next member.

        Raises DebianError for damaged or unsafe archives, possibly after the last member.
        """
        return _members(self.path, self._data, self.place)

    def _text(self, name: str) -> str:
        try:
            return self.files.get(name, b"").decode()
        except UnicodeDecodeError:
            raise _error(self.place, f"has a {name} file that is not UTF-8") from None


def open_deb(path: Path, *, place: str = "") -> Deb:
    """Read the control files of a package; its data is read by `members` only.

    `place` names the package in messages (by default the file's name). Raises DebianError for an invalid package.
    """
    place = place or path.name
    try:
        with path.open("rb") as file:
            control, data = _parts(file, place)
    except OSError as error:
        raise DebianError(f"cannot be read: {error.strerror or error}", place=place) from None
    files: dict[str, bytes] = {}
    room = _CONTROL_LIMIT
    for member, content in _members(path, control, place):
        room -= member.size
        if room < 0:
            raise _error(place, f"has too large control files: {member.path!r}")
        if member.kind == "file" and "/" not in member.path:
            files[member.path] = b"".join(content)
    deb = Deb(path=path, place=place, files=files, _data=data)
    if not deb.control:
        raise _error(place, "has no control file")
    return deb


def _parts(file: BinaryIO, place: str) -> tuple[_Part, _Part]:
    """Find the control and data members; members after them, and `_*` before them, are ignored (deb(5))."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise _error(place, "is not a Debian package")
    length = file.seek(0, 2)
    file.seek(len(_MAGIC))
    binary = _part(file, length, place)
    file.seek(binary.start)
    if binary.name != "debian-binary" or not _FORMAT.match(file.read(min(binary.size, 16))):
        raise _error(place, "has an unknown package format")
    parts: list[_Part] = []
    at = binary
    while len(parts) < 2:
        file.seek(at.start + at.size + at.size % 2)
        at = _part(file, length, place)
        if not at.name.startswith("_"):
            parts.append(at)
    for part, name in zip(parts, ("control.tar", "data.tar"), strict=True):
        if not part.name.startswith(name) or part.name.removeprefix(name) not in SUFFIXES:
            raise _error(place, f"has {part.name!r} instead of {name}, or uses an unknown compression")
    return parts[0], parts[1]


def _part(file: BinaryIO, length: int, place: str) -> _Part:
    header = file.read(_AR_LENGTH)
    match = _AR_HEADER.fullmatch(header)
    start = file.tell()
    if match is None or start + int(match["size"]) > length:
        raise _error(place, "is truncated or damaged")
    name = match["name"].decode("latin-1").rstrip(" ").removesuffix("/")
    return _Part(name=name, start=start, size=int(match["size"]))


def _members(path: Path, part: _Part, place: str) -> Iterator[tuple[Member, Iterator[bytes]]]:
    suffix = part.name.partition(".tar")[2]
    try:
        with path.open("rb") as file:
            file.seek(part.start)
            chunks = decompressed(_chunks(file, part.size), suffix, place=place)
            yield from members(chunks, place=place)
    except OSError as error:
        raise DebianError(f"cannot be read: {error.strerror or error}", place=place) from None


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size and (chunk := file.read(min(size, CHUNK))):
        size -= len(chunk)
        yield chunk


def _error(place: str, message: str) -> DebianError:
    return DebianError(message, place=place, hint=_BROKEN)
