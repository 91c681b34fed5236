"""Find the files of a wheel that its compiled modules were built from, which nothing reads at run time. No I/O.

A source has the folder and the stem of an extension module, a static library those of a shared library: `fast.pyx` and
`fast.c` beside `fast.cpython-313-x86_64-linux-gnu.so`, `libfast.a` beside `libfast.so.1`. Python imports the compiled
module even where it could compile the source, and the loader takes no static libraries. Headers are no such files:
compilers that run with the program, such as those of CUDA, cffi and Numba, read them from any package.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

SOURCES = (".c", ".cc", ".cpp", ".cxx", ".pyx", ".f", ".f90", ".for")
STATIC = ".a"

_LIBRARY = re.compile(r"\.(?:so(?:\.\d[^/]*)?|pyd)$")
_SUFFIX = re.compile(rb"\.(?:c|cc|cpp|cxx|pyx|f|f90|for|a)\b")
_STEM = re.compile(rb"[\w.+*?%{}\]-]*")
_LONGEST = 255
_WILD = re.compile(r"[*?%{}\]]")


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
    """Take out of `names` the files that a module names, its comments included, or that a wildcard in it may mean."""
    found = set()
    for match in _SUFFIX.finditer(source):
        stem = _STEM.match(source[max(0, match.start() - _LONGEST) : match.start()][::-1])
        name = ((stem[0][::-1] if stem else b"") + match[0]).decode("utf-8", "replace")
        quoted = source[match.start() - 1 : match.start()] in {b"'", b'"'}
        found.add(match[0].decode() if quoted or _WILD.search(name) else name)
    return [path for name in found & names.keys() for path in names.pop(name)]


def _place(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name.partition(".")[0]
