"""The files of a base image that its interpreter needs to run, as an archive for `sandbox`.

Each file is a plain one, under a path that is made here: links are followed in the image's listing, and nothing of a
layer is written to this machine's file systems.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
from collections.abc import Iterator
from functools import partial

from hatch_docker.base.contents import needed_to_compile, read_files
from hatch_docker.base.interpreter import library_directories, needs_content
from hatch_docker.base.target import TargetPython
from hatch_docker.errors import BytecodeUnavailableError, ImageError, readable
from hatch_docker.image.bytecode.frames import joined
from hatch_docker.image.bytecode.known import LIBRARIES
from hatch_docker.oci.filesystem import Filesystem, KeptFiles
from hatch_docker.oci.image import Image
from hatch_docker.oci.merging import merge
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.elf import Library, program_interpreter, read_library_at
from hatch_docker.support.patterns import regex

# What an interpreter loads to start, and to read sources: codecs with what these import, and the names of characters.
# It looks for its library where `os` is.
_MODULES = (
    r"(?:_collections_abc|abc|codecs|copyreg|enum|functools|io|keyword|operator|os|reprlib|sre_\w+|stringprep|types)\.py"
    r"|(?:collections|encodings|re)/[^/]+\.py|re\.py"
)
_EXTENSIONS = r"lib-dynload/(?:unicodedata|_multibytecodec|_codecs_[a-z0-9]+)\.[^/]*so"
_PASSES = 6
_MOST_LIBRARIES = 100
_PART = regex(r"[^/\0]{1,255}")


def stdlib_of(files: Filesystem, python: TargetPython) -> str:
    """The directory of the standard library, with links followed; empty if there is none."""
    prefix = posixpath.dirname(posixpath.dirname(python.interpreter))
    for name in ("lib", "lib64"):
        with contextlib.suppress(ImageError):
            directory = files.resolve(f"{prefix}/{name}/{python.lib_name}")
            if files.is_file(f"{directory}/os.py"):
                return directory
    return ""


def archive(image: Image, python: TargetPython, cache: Cache, *, threads: int, kept: KeptFiles | None = None) -> bytes:
    """The archive of an image's interpreter; files that are kept or cached are not read again (base.contents).

    Raises BytecodeUnavailableError if the interpreter is not complete, ImageError for layers that cannot be read.
    """
    files = read_files(image, kept or KeptFiles(), cache, threads)
    wanted: set[str] = set()
    for _ in range(_PASSES):
        closure = _Closure(files, python, library_directories(files, python, image.config))
        closure.collect()
        if not closure.unread - wanted:
            break
        # Libraries that few interpreters link to, which need another pass over the layers.
        wanted |= closure.unread
        files = merge(image.layers, partial(_is_needed, wanted=frozenset(wanted)))
    if closure.unread:
        raise BytecodeUnavailableError(f"{_shown(min(closure.unread))} has no content that can be read")
    return joined(part for path, data in sorted(closure.found.items()) for part in (os.fsencode(path), data))


def _is_needed(path: str, *, wanted: frozenset[str]) -> bool:
    return path in wanted or needs_content(path) or needed_to_compile(path)


@dataclass(slots=True)
class _Closure:
    """The files that an interpreter needs.

    `found` maps paths in the archive to contents, `unread` are files of the image whose content was not read.
    """

    files: Filesystem
    python: TargetPython
    directories: list[str]
    found: dict[str, bytes] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)

    def collect(self) -> None:
        """Find the interpreter, its loader, its libraries and modules. Raises BytecodeUnavailableError."""
        interpreter = self.python.interpreter
        program = self._read(interpreter)
        if program is None:
            return
        self.found[_checked(interpreter)] = program
        library = self._elf(interpreter, program)
        if (loader := program_interpreter(program)) and (data := self._read(loader)) is not None:
            self.found[_checked(loader)] = data
        modules = dict(self._modules())
        self.found |= modules
        waiting = [(interpreter, library)]
        waiting += [(path, self._elf(path, data)) for path, data in modules.items() if not path.endswith(".py")]
        self._follow(waiting)

    def _follow(self, waiting: list[tuple[str, Library]]) -> None:
        seen: set[str] = set()
        while waiting:
            path, library = waiting.pop()
            for name in library.needed:
                if name in seen:
                    continue
                seen.add(name)
                if len(seen) > _MOST_LIBRARIES:
                    raise BytecodeUnavailableError(f"{_shown(self.python.interpreter)} needs too many shared libraries")
                file = self._library(name, library, posixpath.dirname(path))
                data = self._read(file)
                if data is not None:
                    self.found[f"{LIBRARIES}/{name}"] = data
                    waiting.append((file, self._elf(file, data)))

    def _library(self, name: str, library: Library, origin: str) -> str:
        """The file of a library, as ld.so(8) finds it."""
        if not _PART.fullmatch(name) or name in (".", ".."):
            raise BytecodeUnavailableError(f"{_shown(origin)} needs a shared library with a path: {_shown(name)}")
        for directory in [*library.directories(f"/{origin.strip('/')}"), *self.directories]:
            if self.files.is_file(f"{directory}/{name}"):
                return self.files.resolve(f"{directory}/{name}")
        raise BytecodeUnavailableError(f"the base image has no {_shown(name)}, which its Python needs")

    def _modules(self) -> Iterator[tuple[str, bytes]]:
        """What was read of the standard library, under the paths at which the interpreter looks for it."""
        directory = stdlib_of(self.files, self.python)
        if not directory:
            raise BytecodeUnavailableError(f"the base image has no standard library beside {self.python.interpreter}")
        prefix = posixpath.dirname(posixpath.dirname(self.python.interpreter)).strip("/")
        pattern = re.compile(f"(?:{_MODULES}|{_EXTENSIONS})")
        for path, node in self.files.nodes.items():
            name = path[len(directory) + 1 :]
            if path.startswith(f"{directory}/") and node.data is not None and pattern.fullmatch(name):
                yield _checked(f"{prefix}/lib/{self.python.lib_name}/{name}"), node.data

    def _read(self, path: str) -> bytes | None:
        """The content of a file; None if it is to be read by another pass. Raises BytecodeUnavailableError."""
        try:
            resolved = self.files.resolve(path)
        except ImageError as error:
            raise BytecodeUnavailableError(error.message) from None
        node = self.files.nodes.get(resolved)
        if node is None or node.kind != "file":
            raise BytecodeUnavailableError(f"{_shown(path)} in the base image is not a file")
        if node.data is None:
            self.unread.add(resolved)
        return node.data

    def _elf(self, path: str, data: bytes) -> Library:
        library = read_library_at(lambda start, length: data[start : start + length])
        if library is None:
            raise BytecodeUnavailableError(f"{_shown(path)} in the base image is not an ELF file with dynamic linking")
        if library.machine != self.python.machine:
            raise BytecodeUnavailableError(f"{_shown(path)} in the base image is for {library.machine}")
        return library


def _checked(path: str) -> str:
    """A path for the archive: relative, in normal form. Raises BytecodeUnavailableError for another."""
    relative = path.lstrip("/")
    parts = relative.split("/")
    if len(relative) > 1024 or not all(_PART.fullmatch(each) and each not in (".", "..") for each in parts):
        raise BytecodeUnavailableError(f"{_shown(path)} is no path for a file")
    return relative


def _shown(path: str) -> str:
    return readable(path if len(path) <= 100 else f"{path[:100]}…")
