"""Check that unpacked programs can start: their shared libraries and interpreters exist."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from hatch_docker.dpkg.ldcache import CacheEntry
from hatch_docker.dpkg.loader import Loader, start_of
from hatch_docker.errors import PackageError
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.layer import Entry
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.elf import Library
from hatch_docker.support.patterns import regex

_PATH = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
_PROGRAM_DIRECTORIES = frozenset(("bin", "sbin", "games", "libexec"))
_LONGEST_LINE = 256
# Files there are settings, examples, build tools and modules: nothing starts them, or only services that images lack.
_NOT_PROGRAMS = regex(r"(?:etc|usr/share|usr/lib/ssl/misc|usr/lib/postgresql/.+/pgxs)/.+|usr/lib/python3[^/]*/.+\.py")
# Other packages depend on these for their maintainer scripts only.
_MAINTENANCE = frozenset(
    ("adduser", "debconf", "debianutils", "dpkg", "init-system-helpers", "sensible-utils", "sysvinit-utils", "ucf")
)
_SHOWN = 5
# Essential packages that have these programs: others need not declare that they depend on them.
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
    """A file that cannot start: `path` needs the missing library or interpreter `needs`.

    A plugin is a library that programs load on demand.
    """

    path: str
    needs: str
    is_script: bool = False
    is_plugin: bool = False

    def __str__(self) -> str:
        return f"/{self.path} {'is a script of' if self.is_script else 'needs'} {self.needs}"


def missing_libraries(loader: Loader, cache: Iterable[CacheEntry]) -> list[Problem]:
    """The new programs and libraries that need a library which the loader does not find (ld.so(8)).

    Those outside of the directories of programs and libraries are plugins, whose dependencies Debian may omit.
    """
    directories = {directory for _, directory in loader.directories}
    names = {entry.name for entry in cache} | set(_names_in_directories(loader))
    return [
        Problem(path=path, needs=needed, is_plugin=not _is_searched(path, directories))
        for path, library in sorted(loader.libraries.items())
        for needed in library.needed
        if not (needed in names or _beside(loader.files, path, library, needed))
    ]


def missing_interpreters(files: Filesystem, entries: Mapping[str, Entry]) -> list[Problem]:
    """The new executable scripts whose interpreter is missing."""
    problems = []
    for path, entry in sorted(entries.items()):
        if not entry.mode & 0o111 or _NOT_PROGRAMS.fullmatch(path) or start_of(entry, 2) != b"#!":
            continue
        interpreter = _interpreter(start_of(entry, _LONGEST_LINE))
        if interpreter and not _exists(files, interpreter):
            problems.append(Problem(path=path, needs=interpreter, is_script=True))
    return problems


def dispensable(problems: Sequence[Problem], entries: Mapping[str, Entry], owners: Mapping[str, str]) -> set[str]:
    """The paths of broken scripts that can be left out.

    These are scripts on PATH if their package has other programs there that work, and all scripts of packages that
    only maintain a system. Scripts in other directories may be parts of programs, and are not dispensable.
    """
    broken = {each.path for each in problems}
    programs = {path for path, entry in entries.items() if _is_program(path) and not entry.is_directory}
    working = {owners.get(path) for path in programs - broken}
    maintenance = {path for path in broken if owners.get(path) in _MAINTENANCE}
    return maintenance | {path for path in broken & programs if owners.get(path) in working}


def _is_program(path: str) -> bool:
    return posixpath.dirname(path) in _PATH


def refuse(problems: Iterable[Problem], owners: Mapping[str, str]) -> None:
    """Raise PackageError if there are problems, and list some of them; `owners` maps paths to packages."""
    listed = list(problems)
    if not listed:
        return
    lines = [f"{owners.get(each.path, 'a package')}: {each}" for each in listed]
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    essential = sorted({name for each in listed if (name := _ESSENTIAL.get(posixpath.basename(each.needs)))})
    raise PackageError(
        "\n  ".join(["packages would not work, as the image lacks files that they need:", *lines[:_SHOWN], *more]),
        hint=f"name essential packages too, which others need without declaring it: {', '.join(essential)}"
        if essential
        else "",
    )


def _is_searched(path: str, directories: Collection[str]) -> bool:
    directory = posixpath.dirname(path)
    return directory in directories or posixpath.basename(directory) in _PROGRAM_DIRECTORIES


def _names_in_directories(loader: Loader) -> Iterator[str]:
    """The names of all libraries in the directories that the loader searches."""
    directories = {directory for _, directory in loader.directories}
    for path in loader.files.nodes:
        directory, _, name = path.rpartition("/")
        if directory in directories and ".so" in name and loader.files.is_file(path):
            yield name


def _beside(files: Filesystem, path: str, library: Library, needed: str) -> bool:
    """Whether a needed library is in DT_RUNPATH of the library at `path`, or in its directory.

    In the latter case, the program that loads the library has searched that directory.
    """
    origin = f"/{posixpath.dirname(path)}"
    if "/" in needed:
        return files.is_file(needed)
    return any(files.is_file(f"{directory}/{needed}") for directory in (*library.directories(origin), origin))


def _interpreter(start: bytes) -> str:
    """The interpreter in a script's first line, or the program that `env` is to run; empty if there is none."""
    line = start[2:].partition(b"\n")[0].decode("utf-8", "replace")
    words = line.split()
    if words and posixpath.basename(words[0]) == "env":
        # Options and variables precede the program.
        programs = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        return programs[0] if programs else words[0]
    return words[0] if words else ""


def _exists(files: Filesystem, program: str) -> bool:
    candidates = [program] if "/" in program else [f"{directory}/{program}" for directory in _PATH]
    return any(map(files.is_file, candidates))
