"""Read the members of a zip file without extracting them; their content may be copied as it is compressed.

Everything that a hostile zip can contain (APPNOTE.TXT) is refused when it is opened, or found when content is read:
paths that leave their directory, duplicate names, links, overlaps, a local header that differs from the central
directory. So are compression methods other than stored and deflated.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib

from hatch_docker.errors import WheelError
from hatch_docker.oci.layer import Deflated, Plain
from hatch_docker.support.paths import parents
from hatch_docker.support.patterns import regex
from hatch_docker.wheels.distinfo import BROKEN, LONGEST_NAME

# The limit in bytes of members that are read into memory: metadata, modules to scan, scripts to rewrite.
READ_LIMIT = 16 << 20

# In bytes. An engine puts a path below that of the environment, and below its own: that of overlay2 or containerd
# (about 100 bytes by default). Linux takes 4095 in all (PATH_MAX): Docker 26.1 refuses a layer with 3995.
_LONGEST_PATH = 3800
# Each directory becomes an entry of a layer. No real wheel has a fifth of that.
_DEEPEST = 128

# Paths that leave the directory that they are unpacked into, on any system, and whiteouts (image-spec, layer.md).
_UNSAFE = regex(r"^[A-Za-z]:|[\\\x00-\x1f\x7f]|(?:^|/)(?:\.{0,2}(?:/|$)|\.wh\.)")
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1, 0x8, 0x800
_ZIP64 = 0xFFFFFFFF
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# isal's type stubs declare it as an instance.
_IsalError: type[Exception] = isal_zlib.error  # type: ignore[assignment]

Read = Callable[[int, int], bytes]


class ZipMembers:
    """The files of an open zip: `members` by path, every path safe and relative. `place` is the zip's name in errors.

    `size` is that of the zip in bytes. Content may be read from several threads until `close`. Raises WheelError for an
    invalid or hostile file.
    """

    def __init__(self, path: Path, place: str) -> None:
        self._place = place
        self._closing = ExitStack()
        with ExitStack() as opening:
            opening.callback(self.close)
            try:
                self._file = self._closing.enter_context(path.open("rb"))
                self._pread = _pread(self._file)
                self.size = os.fstat(self._file.fileno()).st_size
                infos, self._end = _central_directory(self._file, place)
            except OSError as error:
                raise self._error(f"cannot be read: {error.strerror or error}", hint="") from None
            self.members: Mapping[str, zipfile.ZipInfo] = _members(infos, place)
            _check_overlap(infos, self._end, place)
            opening.pop_all()

    def close(self) -> None:
        """Close the file. Content that was returned before cannot be read any longer."""
        self._closing.close()

    def content(self, path: str) -> Deflated | Plain:
        """A member's content, which is read lazily."""
        info = self.members[path]
        if info.compress_type == zipfile.ZIP_DEFLATED:
            return Deflated(
                size=info.file_size, compressed_size=info.compress_size, crc32=info.CRC, read=self._raw(info)
            )
        return Plain(size=info.file_size, read=self._raw(info))

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:
        """A member's whole content, checked against its size and CRC. Raises WheelError beyond `limit` bytes."""
        info = self.members[path]
        if info.file_size > limit or info.compress_size > limit + (limit >> 3):
            raise self._error(f"{path!r} is too large to be read: {info.file_size} bytes", hint="")
        content = self.content(path)
        if isinstance(content, Deflated):
            data = self._inflate(path, content.read(0, content.compressed_size), content.size + 1)
        else:
            data = content.read(0, content.size)
        if len(data) != info.file_size or isal_zlib.crc32(data) != info.CRC:
            raise self._error(f"{path!r} is damaged: its size or CRC differs from the zip's directory")
        return data

    def head(self, path: str, length: int) -> bytes:
        """The first bytes of a member, not verified. Any size is allowed."""
        content = self.content(path)
        if isinstance(content, Deflated):
            # The header of a DEFLATE block may have some hundred bytes.
            return self._inflate(path, content.read(0, 4096), length)
        return content.read(0, min(length, content.size))

    def executable(self, path: str) -> bool:
        """Whether the zip marks a member as executable."""
        mode = self.members[path].external_attr >> 16
        return stat.S_ISREG(mode) and bool(mode & 0o111)

    def _error(self, message: str, *, hint: str = BROKEN) -> WheelError:
        return WheelError(message, place=self._place, hint=hint)

    def _inflate(self, path: str, raw: bytes, length: int) -> bytes:
        try:
            data: bytes = isal_zlib.decompressobj(wbits=-15).decompress(raw, length)
        except _IsalError:
            raise self._error(f"{path!r} is damaged: it cannot be decompressed") from None
        return data

    def _raw(self, info: zipfile.ZipInfo) -> Read:
        start = -1

        def read(offset: int, length: int) -> bytes:
            nonlocal start
            try:
                if start < 0:
                    start = self._start(info)
                return self._pread(start + offset, min(length, info.compress_size - offset))
            except OSError as error:
                raise self._error(f"cannot be read: {error.strerror or error}", hint="") from None

        return read

    def _start(self, info: zipfile.ZipInfo) -> int:
        """The offset of a member's data, by its local header, which must agree with the central directory."""
        name = name_of(info).encode("utf-8" if info.flag_bits & _UTF8 else "cp437")
        header = self._pread(info.header_offset, _LOCAL_HEADER.size + len(name))
        if len(header) < _LOCAL_HEADER.size:
            raise self._error(f"is truncated at {name_of(info)!r}")
        signature, _, flags, method, _, _, crc, compressed, size, name_length, extra = _LOCAL_HEADER.unpack_from(header)
        its_name = header[_LOCAL_HEADER.size :]
        agrees = (signature, method, its_name, name_length) == (b"PK\3\4", info.compress_type, name, len(name))
        if not flags & _SIZES_FOLLOW:
            agrees = agrees and crc == info.CRC
            agrees = agrees and compressed in {info.compress_size, _ZIP64} and size in {info.file_size, _ZIP64}
        start: int = info.header_offset + _LOCAL_HEADER.size + name_length + extra
        if not agrees or flags & _ENCRYPTED or start + info.compress_size > self._end:
            raise self._error(f"the local header of {name_of(info)!r} differs from the zip's directory")
        return start


def file_below_file(paths: Iterable[str]) -> str:
    """A path that is both a file and the directory of another file; empty if there is none."""
    files, seen = set(paths), set[str]()
    for path in files:
        for parent in parents(path):
            if parent in seen:
                break
            seen.add(parent)
    return min(files & seen, default="")


def _pread(file: BinaryIO) -> Read:
    if hasattr(os, "pread"):
        return lambda offset, length: os.pread(file.fileno(), max(length, 0), offset)
    lock = threading.Lock()

    def read(offset: int, length: int) -> bytes:
        with lock:
            file.seek(offset)
            return file.read(max(length, 0))

    return read


def name_of(info: zipfile.ZipInfo) -> str:
    """A member's name as stored in the zip. `filename` is cut at a NUL, and rewritten on Windows."""
    # Not documented by zipfile.
    return info.orig_filename


def start_of_directory(archive: zipfile.ZipFile) -> int:
    """The offset of a zip's central directory, which no member may reach."""
    # Not documented by zipfile.
    return archive.start_dir


def _central_directory(file: BinaryIO, place: str) -> tuple[list[zipfile.ZipInfo], int]:
    """The entries of the zip's central directory, and its offset."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.infolist(), start_of_directory(archive)
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        OverflowError,
        MemoryError,
        EOFError,
        struct.error,
        zlib.error,
    ) as error:
        raise WheelError(f"is not a zip file, or is truncated: {error}", place=place, hint=BROKEN) from None


def _members(infos: list[zipfile.ZipInfo], place: str) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        path = name_of(info)
        directory = path.endswith("/")
        if _UNSAFE.search(path[:-1] if directory else path):
            raise WheelError(f"has a member with an unsafe path: {path!r}", place=place, hint=BROKEN)
        if problem := _too_long(path):
            raise WheelError(f"has a member with {problem}: {path[:80]!r}…", place=place, hint=BROKEN)
        if problem := _problem(info, directory=directory):
            raise WheelError(f"{path!r} is {problem}", place=place, hint=BROKEN)
        if directory:
            continue
        if path in members:
            raise WheelError(f"has {path!r} twice", place=place, hint=BROKEN)
        members[path] = info
    if clash := file_below_file(members):
        raise WheelError(f"has {clash!r} as a file and as a directory", place=place, hint=BROKEN)
    return members


def _too_long(path: str) -> str:
    """Why no engine would unpack a path; empty if engines do."""
    size = len(path) if path.isascii() else len(path.encode("utf-8", "surrogatepass"))
    if size <= LONGEST_NAME:
        return f"more than {_DEEPEST} directories" if path.count("/") > _DEEPEST else ""
    parts = path.split("/")
    if max(len(each.encode("utf-8", "surrogatepass")) for each in parts) > LONGEST_NAME:
        return f"a name of more than {LONGEST_NAME} bytes"
    if size > _LONGEST_PATH:
        return f"a path of more than {_LONGEST_PATH} bytes"
    return f"more than {_DEEPEST} directories" if len(parts) > _DEEPEST + 1 else ""


def _problem(info: zipfile.ZipInfo, *, directory: bool) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind and kind != (stat.S_IFDIR if directory else stat.S_IFREG):
        return "a symbolic link" if kind == stat.S_IFLNK else "neither a file nor a directory"
    if info.flag_bits & _ENCRYPTED:
        return "encrypted"
    if info.compress_type not in _METHODS:
        # Python's decompressors of other methods do not limit their output, and depend on its version.
        return f"compressed by method {info.compress_type}, not stored or deflated"
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        return "stored with two sizes"
    return ""


def _check_overlap(infos: list[zipfile.ZipInfo], end: int, place: str) -> None:
    """Raise WheelError for members that share bytes: a small zip could unpack to a huge amount."""
    free = 0
    for info in sorted(infos, key=attrgetter("header_offset")):
        if info.header_offset < free:
            raise WheelError(f"{name_of(info)!r} overlaps another member", place=place, hint=BROKEN)
        free = info.header_offset + _LOCAL_HEADER.size + len(name_of(info)) + info.compress_size
    if free > end:
        raise WheelError("is truncated: members reach into the zip's directory", place=place, hint=BROKEN)
