"""Find the files of a wheel that its compiled modules were built from, which nothing reads at run time. No I/O.

A source has the folder and the stem of an extension module, a static library those of a shared library: `fast.pyx` and
`fast.c` beside `fast.cpython-313-x86_64-linux-gnu.so`, `libfast.a` beside `libfast.so.1`. Python imports the compiled
module even where it could compile the source, and the loader takes no static libraries. Headers are no such files:
compilers that run with the program, such as those of CUDA, cffi and Numba, read them from any package. For these, a
source stays, too, if a text of its wheel names it, or the end of a string in another wheel.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Set

from hatch_docker.support.patterns import regex

SOURCES = (".c", ".cc", ".cpp", ".cxx", ".pyx", ".f", ".f90", ".for")
STATIC = ".a"

_LIBRARY = regex(r"\.(?:so(?:\.\d[^/]*)?|pyd)$")
_SUFFIX = regex(rb"\.(?:c|cc|cpp|cxx|pyx|f|f90|for|a)\b")
# In other wheels, only the end of a string counts: `.c` is a common attribute.
_QUOTED = regex(rb"\.(?:c|cc|cpp|cxx|pyx|f|f90|for|a)\\?[\"']")
_STEM = regex(rb"[\w.+*?%{}\]-]*")
_LONGEST = 255
_WILD = regex(r"[*?%{}\]]")


def built_files(paths: Iterable[str]) -> set[str]:
    """The sources and static libraries beside the library of the same name."""
    files = [path for path in paths if path.endswith((*SOURCES, STATIC))]
    if not files:
        return set()
    built = {_place(path) for path in paths if _LIBRARY.search(path)}
    return {path for path in files if _place(path) in built}


def names_of(files: Iterable[str]) -> dict[str, list[str]]:
    """Files by their name, and by their suffix, for `take_named`."""
    names: dict[str, list[str]] = {}
    for path in files:
        for key in (posixpath.basename(path), posixpath.splitext(path)[1]):
            names.setdefault(key, []).append(path)
    return names


def take_named(source: bytes, names: dict[str, list[str]]) -> list[str]:
    """Take out of `names` the files that a file names, its comments included, or that a wildcard in it may mean."""
    found = set(_named(source, _SUFFIX))
    return [path for name in found & names.keys() for path in names.pop(name)]


def quoted(source: bytes, imports: Callable[[bytes], Iterable[str]]) -> frozenset[str]:
    """What a module's strings end with: the names of sources and static libraries, or a suffix alone.

    A suffix is given alone, and behind each top-level package that the module imports: `.c`, `demo/.c`.
    """
    found = set(_named(source, _QUOTED)) if _QUOTED.search(source) else set()
    suffixes = {each for each in found if each.startswith(".")}
    tops = {name.partition(".")[0] for name in imports(source)} - {""} if suffixes else set()
    return frozenset(found | {f"{top}/{suffix}" for top in tops for suffix in suffixes})


def is_quoted(path: str, names: Set[str]) -> bool:
    """Whether other wheels name a file, given what `quoted` found there."""
    suffix = posixpath.splitext(path)[1]
    return not names.isdisjoint((posixpath.basename(path), suffix, f"{path.partition('/')[0]}/{suffix}"))


def _named(source: bytes, pattern: re.Pattern[bytes]) -> Iterator[str]:
    """The names in front of the matches of `pattern`, which begins with a dot; the suffix alone for a wildcard."""
    for match in pattern.finditer(source):
        stem = _STEM.match(source[max(0, match.start() - _LONGEST) : match.start()][::-1])
        suffix = match[0].rstrip(b"\\\"'").decode()
        name = (stem[0][::-1] if stem else b"").decode("utf-8", "replace")
        string = source[match.start() - 1 : match.start()] in {b"'", b'"'}
        yield suffix if string or not name or _WILD.search(name) else name + suffix


def _place(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name.partition(".")[0]
