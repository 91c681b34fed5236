"""Whether what was unpacked would start: its shared libraries are found, and so are its scripts' interpreters."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hatch_docker.dpkg.ldcache import CacheEntry
from hatch_docker.dpkg.loader import Loader, start_of
from hatch_docker.errors import ImageError, PackageError
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.layer import Entry
from hatch_docker.support.elf import Library

_PATH = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
_PROGRAMS = frozenset(("bin", "sbin", "games", "libexec"))
_LONGEST_LINE = 256
# What lies there are settings, examples, parts of programs, what extensions are made by, and modules that are imported:
# none is started by itself, or only by services that no image has.
_NO_PROGRAMS = re.compile(
    r"(?:etc|usr/share|usr/lib/ssl/misc|usr/lib/postgresql/.+/pgxs)/.+|usr/lib/python3[^/]*/.+\.py"
)
# What keeps a system of Debian's up: other packages depend on it for what their own scripts would call.
_UPKEEP = frozenset(
    ("adduser", "debconf", "debianutils", "dpkg", "init-system-helpers", "sensible-utils", "sysvinit-utils", "ucf")
)
_SHOWN = 5
# Which package has what is in no other package's dependencies, since it is essential.
_ESSENTIAL = {
    "sh": "dash, coreutils, grep, sed",
    "dash": "dash",
    "bash": "bash",
    "perl": "perl-base",
    "awk": "mawk",
    "sed": "sed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A file that would not start: `path` needs a library or an interpreter, `needs`, that is not there.

    A plugin is loaded by a program that may do without.
    """

    path: str
    needs: str
    is_script: bool = False
    is_plugin: bool = False

    def __str__(self) -> str:
        return f"/{self.path} {'is a script of' if self.is_script else 'needs'} {self.needs}"


def missing_libraries(loader: Loader, cache: Iterable[CacheEntry]) -> list[Problem]:
    """The new programs and libraries that need a library which the loader would not find (ld.so(8)).

    Those that lie where neither a shell nor the loader looks are plugins: Debian lets these do without.
    """
    directories = {directory for _, directory in loader.directories}
    names = {entry.name for entry in cache} | set(_in_directories(loader))
    return [
        Problem(path=path, needs=needed, is_plugin=not _is_looked_up(path, directories))
        for path, library in sorted(loader.libraries.items())
        for needed in library.needed
        if not (needed in names or _beside(loader.files, path, library, needed))
    ]


def missing_interpreters(files: Filesystem, entries: Mapping[str, Entry]) -> list[Problem]:
    """The new programs that are scripts, and whose interpreter is not there."""
    found = []
    for path, entry in sorted(entries.items()):
        if not entry.mode & 0o111 or _NO_PROGRAMS.fullmatch(path) or start_of(entry, 2) != b"#!":
            continue
        interpreter = _interpreter(start_of(entry, _LONGEST_LINE))
        if interpreter and not _is_there(files, interpreter):
            found.append(Problem(path=path, needs=interpreter, is_script=True))
    return found


def dispensable(problems: Sequence[Problem], entries: Mapping[str, Entry], owners: Mapping[str, str]) -> set[str]:
    """The scripts, by path, that a package is no worse without: it has other programs, which do not call these.

    What lies where a shell looks is called by its users. Scripts in a folder of the package's own are parts of its
    programs. What only keeps up a system is never called.
    """
    broken = {each.path for each in problems}
    programs = {path for path, entry in entries.items() if _is_program(path) and not entry.is_directory}
    whole = {owners.get(path) for path in programs - broken}
    upkeep = {path for path in broken if owners.get(path) in _UPKEEP}
    return upkeep | {path for path in broken & programs if owners.get(path) in whole}


def _is_program(path: str) -> bool:
    return posixpath.dirname(path) in _PATH


def refuse(problems: Iterable[Problem], owners: Mapping[str, str]) -> None:
    """Raise PackageError, which names some of the problems, where there are any; `owners` are packages by path."""
    found = list(problems)
    if not found:
        return
    lines = [f"{owners.get(each.path, 'a package')}: {each}" for each in found]
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    essential = sorted({name for each in found if (name := _ESSENTIAL.get(posixpath.basename(each.needs)))})
    raise PackageError(
        "\n  ".join(["packages would not work, since the image lacks what they need:", *lines[:_SHOWN], *more]),
        hint=f"name what packages need and do not depend on, too: {', '.join(essential)}" if essential else "",
    )


def _is_looked_up(path: str, directories: Collection[str]) -> bool:
    directory = posixpath.dirname(path)
    return directory in directories or posixpath.basename(directory) in _PROGRAMS


def _in_directories(loader: Loader) -> Iterator[str]:
    """The names of all files where the loader looks."""
    directories = {directory for _, directory in loader.directories}
    for path in loader.files.nodes:
        directory, _, name = path.rpartition("/")
        if directory in directories and ".so" in name and _is_there(loader.files, path):
            yield name


def _beside(files: Filesystem, path: str, library: Library, needed: str) -> bool:
    """Whether a library is where the one that needs it says, or beside it: then what loads that has found it there."""
    origin = f"/{posixpath.dirname(path)}"
    if "/" in needed:
        return _is_there(files, needed)
    places = [place.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for place in library.search]
    return any(_is_there(files, f"{place}/{needed}") for place in (*places, origin))


def _interpreter(start: bytes) -> str:
    """What a script's first line names; of `env`, the program that this is to find. Empty where that is nothing."""
    line = start[2:].partition(b"\n")[0].decode("utf-8", "replace")
    words = line.split()
    if words and posixpath.basename(words[0]) == "env":
        # A program can be told to env after options and variables.
        named = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        return named[0] if named else words[0]
    return words[0] if words else ""


def _is_there(files: Filesystem, path: str) -> bool:
    candidates = [path] if "/" in path else [f"{directory}/{path}" for directory in _PATH]
    for each in candidates:
        try:
            node = files.get(each)
        except ImageError:
            continue
        if node is not None and node.kind == "file":
            return True
    return False
