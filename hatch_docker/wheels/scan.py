"""Find what a module's source uses that pruning would remove: test packages, and C sources that it names. No I/O.

Paths are relative to site-packages. A test package is a directory named `tests`; if they are nested, the outermost.
The result depends neither on the grammar nor on the Unicode version of the Python that runs this.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from hatch_docker.wheels.lexer import LETTER, Found, read_module

# Files that may be compiled at run time: sources and headers of C, and the GPU kernels that include these.
SOURCE_SUFFIXES = (
    *(".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".hxx", ".pyx", ".pxd", ".pxi", ".f", ".f90", ".for"),
    *(".cu", ".cuh", ".cl", ".hip", ".metal", ".a"),
)

# Limits on time, far above real wheels: bytes of a path (PATH_MAX on Linux), directories around a module, and distinct
# mentions of tests in it.
_LONGEST, _DEEPEST, _MOST = 4096, 40, 10_000
_SUFFIX = re.compile(rb"\.(?:" + "|".join(suffix[1:] for suffix in SOURCE_SUFFIXES).encode() + rb")\b")
_LAST_NAME = re.compile(rb"[\w.+-]*\Z")
_DOTTED = re.compile(rb"\.*" + LETTER + rb"+(?:\." + LETTER + rb"+)*(?=:(?:\.|" + LETTER + rb")|\.?\Z|\.[%{])")

# A module without a match uses no tests, and is not read further. Most modules have none, though many contain the word
# in prose. The pattern begins with a literal, which makes re fast.
_HINT = re.compile(
    rb"""tests(?:
          /|[.:](?=\.|LETTER)                                        # before a path or a module's name
        | (?!LETTER)(?:
              (?<=[./]tests)                                         # at the end of one
            | (?:(?<=[(,{}"'\r\n\\]tests)|(?<=[\s,(.][\ \t\f]tests)   # in a list or an expression
                |(?<=(?:from|port)[\ \t\f]tests))                     # after from or import
              [\ \t\f\\]*(?:as\b|import\b|\.|[,)#;\r\n"'{]|\Z)
          )
    )""".replace(b"LETTER", LETTER),
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a module uses: directories of `tests`, and directories whose C `sources` are kept together."""

    tests: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()


def test_directory(path: str) -> str:
    """The outermost directory named `tests` that contains `path`; empty if there is none."""
    if path.startswith("tests/"):
        return "tests"
    before, found, _ = path.partition("/tests/")
    return f"{before}/tests" if found else ""


def tests_of_module(name: str) -> str:
    """The test directory that contains a module, by its dotted name; empty if there is none."""
    return test_directory(name.replace(".", "/") + "/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The files of a wheel that its modules may name: C sources by file name, and all paths in test directories.

    `tested` has files, and directories with a trailing `/`.
    """

    sources: Mapping[str, Collection[str]] = field(default_factory=dict)
    tested: Collection[str] = frozenset()


def surroundings(paths: Iterable[str]) -> Surroundings:
    """The surroundings of a wheel's modules, from its paths."""
    sources: dict[str, list[str]] = {}
    tested: set[str] = set()
    for path in paths:
        if directory := test_directory(path):
            tested.add(path)
            parent = posixpath.dirname(path)
            while parent != directory and f"{parent}/" not in tested:
                tested.add(f"{parent}/")
                parent = posixpath.dirname(parent)
        elif path.endswith(SOURCE_SUFFIXES):
            sources.setdefault(posixpath.basename(path), []).append(path)
    return Surroundings(sources=sources, tested=tested)


def reach(source: bytes, path: str, around: Surroundings) -> Reach:
    """What the module at `path` uses: its imports and strings count, its docstrings and comments do not."""
    if len(path) > _LONGEST or not (_HINT.search(source) or _named(source, around.sources)):
        return Reach()
    named: set[str] = set()
    mentions: set[Found] = set()
    for found in read_module(source):
        if found.kind == "text":
            named |= _named(found.value, around.sources)
        if b"tests" in found.value and len(found.value) <= _LONGEST and len(mentions) <= _MOST:
            mentions.add(found)
    tests: set[str] = set()
    for kind, value in mentions:
        tests.update((_tests_of_import if kind == "import" else _tests_of_text)(value, path, around.tested))
    if len(mentions) > _MOST:
        tests.update(map(test_directory, around.tested))
    return Reach(tests=frozenset(tests), sources=_together(path, named, around.sources))


def _named(text: bytes, sources: Collection[str]) -> set[str]:
    """The file names of `sources` that a text contains."""
    found = set()
    for match in _SUFFIX.finditer(text) if sources else ():
        stem = _LAST_NAME.search(text, max(0, match.start() - 128), match.start())
        name = ((stem[0] if stem else b"") + match[0]).decode("utf-8", "replace")
        if name in sources:
            found.add(name)
    return found


def _together(path: str, names: Iterable[str], sources: Mapping[str, Collection[str]]) -> frozenset[str]:
    """For each file that is named, the directory that contains both the file and the module.

    All sources in such a directory are kept, since C sources include one another.
    """
    return frozenset(
        posixpath.commonpath([posixpath.dirname(path), posixpath.dirname(other)])
        for name in names
        for other in sources[name]
    )


def _tests_of_import(name: bytes, path: str, _tested: Collection[str]) -> Iterator[str]:
    return _of_module(name.decode("utf-8", "replace"), path)


def _tests_of_text(text: bytes, path: str, tested: Collection[str]) -> Iterator[str]:
    """The test directories of a string: a module's name, as for import_module, or a path that exists in one.

    `tests` alone does not count: pandas compares it with a caller's directory, others exclude it from something.
    """
    if b"tests/" in text:
        folder = path.split("/")[:-1]
        inner = text.decode("utf-8", "replace").strip("./")
        depths = {0, *range(max(0, len(folder) - _DEEPEST), len(folder) + 1)}
        meant = ("/".join([*folder[:depth], inner]) for depth in sorted(depths))
        yield from (test_directory(each) for each in meant if each in tested or f"{each}/" in tested)
    elif text != b"tests" and (match := _DOTTED.match(text)):
        yield from _of_module(match[0].decode("utf-8", "replace"), path)


def _of_module(name: str, path: str) -> Iterator[str]:
    """The test directory of a module's name, absolute, or (with leading dots) relative to the module at `path`."""
    rest = name.lstrip(".")
    level = len(name) - len(rest)
    package = path.split("/")[:-1]
    base = package[: max(0, len(package) - level + 1)] if level else []
    if found := test_directory("/".join([*base, *rest.split("."), ""])):
        yield found
