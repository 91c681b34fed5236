"""Read an sdist's build system, and whether it has something to compile, without extracting it.

PyPA: Source distribution format; PEP 517, 518 (pyproject.toml's `build-system`).
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from isal import igzip, isal_zlib
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename

from hatch_docker.compiling.build_system import BuildSystem, read_build_system
from hatch_docker.errors import CompileError, WheelError
from hatch_docker.oci.members import members, open_stream
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import asdict, dataclass, field, fields
from hatch_docker.support.paths import parents
from hatch_docker.support.patterns import regex
from hatch_docker.support.streams import CHUNK, ChunkReader
from hatch_docker.wheels.zipmembers import ZipMembers

_BROKEN = "the sdist is broken: lock another version, or report it to its authors"
_KIND = "sdists"
# Part of the cache key: raise it if another sdist looks compiled, or more is read of one.
_FORMAT = 1
# Limits far above real sdists: bytes of a file read completely, members, bytes of all names, bytes of the tar.
_LARGEST_READ = 1 << 20
_MOST_MEMBERS = 500_000
_MOST_NAMES = 64 << 20
_MOST_UNPACKED = 4 << 30

_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)

# The version in the file name of sources whose version only a build tells.
UNKNOWN_VERSION = "0+unknown"

# Sources of compilers, and files that configure one. Headers alone do not need a compiler.
_SOURCES = regex(
    r"[^.].*\.(?:c|cc|cpp|cxx|c\+\+|cu|d|f|f\d\d|for|go|i|m|mm|pyf|pyx|rs|s|asm|swg|zig)"
    r"|cargo\.toml|meson\.build|cmakelists\.txt"
)
# Directories that are not part of the installed package.
_BESIDE = frozenset(("tests", "test", "testing", "docs", "doc", "examples", "example", "benchmarks"))
# Packages for compiling, as requirements, and as top-level modules of build backends.
_COMPILING = frozenset(
    ("cffi", "cmake", "cython", "hatch-cython", "hatch-mypyc", "maturin", "meson", "meson-python", "mesonpy", "mypy",
     "mypyc", "nanobind", "ninja", "py-build-cmake", "pybind11", "pyqt-builder", "pyqtbuild", "scikit-build",
     "scikit-build-core", "setuptools-golang", "setuptools-rust", "sip", "sipbuild", "swig")
)  # fmt: skip
_NAME = regex(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_FILENAME = regex(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")
# On Windows, such a root leaves the directory that it is unpacked into.
_NO_ROOT = regex(r"[\\:]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdist:
    """An sdist and its build system.

    `name` is normalized, `version` empty if the file name has UNKNOWN_VERSION. `root` is the one top-level directory.
    `requires`, `backend` and `backend_path` are those of `build-system`, else PEP 517's defaults. `compiled` is the
    first sign that there is something to compile (`src/_psutil.c`, `build-system.requires: maturin`), empty if the
    sdist looks pure.
    """

    filename: str
    name: str
    version: str
    root: str
    requires: tuple[str, ...]
    backend: str
    backend_path: tuple[str, ...]
    compiled: str


def read_sdist(path: Path, filename: str) -> Sdist:
    """Read the sdist at `path`, whose file name is `filename`: a .tar.gz, or an old .zip.

    It is read once, in bounded memory. Raises CompileError for a broken sdist: a damaged archive, paths and links that
    leave it, more than one top-level directory, neither pyproject.toml nor setup.py.
    """
    try:
        name, version = parse_sdist_filename(filename)
        if not _FILENAME.fullmatch(filename):
            raise InvalidSdistFilename(f"{filename!r} has characters that are not allowed in a package's name")
    except (InvalidSdistFilename, ValueError) as error:
        hint = "the name of an sdist is name-version.tar.gz: lock another version, or one that has a wheel"
        raise CompileError(str(error), place=filename, hint=hint) from None
    contents = _Contents(filename=filename)
    (_read_zip if filename.endswith(".zip") else _read_tar)(path, contents)
    contents.check()
    system = _build_system(contents)
    return Sdist(
        filename=filename,
        name=name,
        version="" if str(version) == UNKNOWN_VERSION else str(version),
        root=contents.root,
        requires=system.requires,
        backend=system.backend,
        backend_path=system.backend_path,
        compiled=contents.compiled or looks_compiled((), system.requires, system.backend),
    )


def known_sdist(cache: Cache, identity: str) -> Sdist | None:
    """What the cache has of the sdist with these hashes; None if that is nothing, or of another version."""
    document: dict[str, Any] = cache.get(_KIND, f"{_FORMAT} {identity}") or {}
    if document.keys() != {each.name for each in fields(Sdist)}:
        return None
    values: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in document.items()}
    return Sdist(**values)


def remember_sdist(cache: Cache, identity: str, sdist: Sdist) -> Sdist:
    """Store an sdist for `known_sdist`, and return it."""
    cache.put(_KIND, f"{_FORMAT} {identity}", asdict(sdist))
    return sdist


def looks_compiled(names: Iterable[str], requires: Iterable[str], backend: str) -> str:
    """The first sign that there is something to compile: one of the paths `names`, or a part of `build-system`.

    Empty if there is none. Paths in directories of tests, documentation, examples and benchmarks do not count.
    """
    for path in names:
        *directories, name = path.lower().split("/")
        if _SOURCES.fullmatch(name) and _BESIDE.isdisjoint(directories):
            return path if path.isprintable() else repr(path)
    for text in requires:
        match = _NAME.match(text)
        if match and canonicalize_name(match[1]) in _COMPILING:
            return f"build-system.requires: {match[1]}"
    module = re.split(r"[.:]", backend)[0]
    return f"build-system.build-backend: {module}" if canonicalize_name(module) in _COMPILING else ""


@dataclass(slots=True, kw_only=True)
class _Contents:
    """The contents of an archive, as read so far. Paths are relative to `root`."""

    filename: str
    root: str = ""
    compiled: str = ""
    pyproject: bytes | None = None
    setup: bool = False
    members: int = 0
    names: int = 0
    directories: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)

    def error(self, message: str) -> CompileError:
        return CompileError(message, place=self.filename, hint=_BROKEN)

    def add(self, path: str, *, directory: bool = False) -> str:
        """Record a member; its path relative to the root."""
        root, _, below = path.partition("/")
        if not directory and not below:
            raise self.error(f"has {path!r} beside its one directory")
        if self.root and root != self.root:
            raise self.error(f"has {self.root!r} and {root!r} at its top, not one directory")
        self.root = root
        self.members += 1
        self.names += len(path)
        for parent in parents(below):
            if parent in self.directories:
                break
            self.directories.add(parent)
            self.names += len(parent)
        if self.members > _MOST_MEMBERS or self.names > _MOST_NAMES:
            raise self.error("has too many members")
        if not directory:
            self.compiled = self.compiled or looks_compiled((below,), (), "")
            self.setup = self.setup or below == "setup.py"
        return below

    def check(self) -> None:
        """Check what is known only after the last member. Raises CompileError."""
        if through := self.links & self.directories:
            raise self.error(f"has members below {min(through)!r}, which is a link")
        if self.pyproject is None and not self.setup:
            raise self.error("has neither a pyproject.toml nor a setup.py")


def _read_zip(path: Path, contents: _Contents) -> None:
    try:
        with closing(ZipMembers(path, contents.filename)) as archive:
            if sum(info.file_size for info in archive.members.values()) > _MOST_UNPACKED:
                raise contents.error(f"unpacks to more than {_MOST_UNPACKED >> 30} GiB")
            for name in archive.members:
                if contents.add(name) == "pyproject.toml":
                    contents.pyproject = archive.read(name, _LARGEST_READ)
    except WheelError as error:
        raise contents.error(error.message) from None


def _read_tar(path: Path, contents: _Contents) -> None:
    try:
        with closing(_unpacked(path)) as chunks:
            plain = ChunkReader(chunks)
            with open_stream(plain) as tar:
                for member in members(tar, most=_MOST_MEMBERS):
                    _take(tar, member, contents)
            # gzip has its checksum at the end.
            while plain.read(CHUNK):
                pass
    except OSError as error:
        raise contents.error(f"cannot be read: {error.strerror or error}") from None
    except (tarfile.TarError, isal_zlib.IsalError, EOFError, ValueError, OverflowError, RecursionError) as error:  # type: ignore[misc]
        raise contents.error(f"cannot be read: {error}") from None


def _unpacked(path: Path) -> Generator[bytes, None, None]:
    """The plain tar of a .tar.gz. Raises ReadError if it is too large."""
    left = _MOST_UNPACKED
    with igzip.open(path, "rb") as file:  # type: ignore[no-untyped-call]
        while chunk := file.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise tarfile.ReadError(f"it unpacks to more than {_MOST_UNPACKED >> 30} GiB")
            yield chunk


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, contents: _Contents) -> None:
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.name.startswith("/") or ".." in parts or _NO_ROOT.search("".join(parts[:1])):
        raise contents.error(f"has a member with an unsafe path: {member.name!r}")
    if member.isdir():
        if parts:
            contents.add("/".join(parts), directory=True)
        return
    below = contents.add("/".join(parts))
    if member.issym() or member.islnk():
        if _leaves(member, parts[:-1]):
            raise contents.error(f"has a link that leaves it: {member.name!r} to {member.linkname!r}")
        if member.issym():
            contents.links.add(below)
    elif member.type not in _REGULAR or member.issparse():
        raise contents.error(f"has {member.name!r}, which is neither a file, a directory nor a link")
    if below == "pyproject.toml":
        file = tar.extractfile(member) if member.type in _REGULAR else None
        if file is None or member.size > _LARGEST_READ:
            raise contents.error("its pyproject.toml is a link, or too large to be read")
        contents.pyproject = file.read()


def _leaves(link: tarfile.TarInfo, directory: Sequence[str]) -> bool:
    """Whether a link in `directory` leaves the root, which is the first part of `directory`.

    A target may begin with `..`, but not have one after a name, which may itself be a link. So no chain of links leaves
    the root, provided that no member is below a link.
    """
    parts = [part for part in link.linkname.split("/") if part not in ("", ".")]
    if link.islnk():
        # The target of a hard link is relative to the archive.
        return link.linkname.startswith("/") or ".." in parts or parts[:1] != list(directory[:1])
    up = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    return link.linkname.startswith("/") or up >= len(directory) or ".." in parts[up:]


def _build_system(contents: _Contents) -> BuildSystem:
    """`build-system` of pyproject.toml. Raises CompileError."""
    try:
        return read_build_system(contents.pyproject or b"")
    except ValueError as error:
        raise contents.error(str(error)) from None
