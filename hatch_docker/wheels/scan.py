"""What a module's source reaches for that pruning would take away: test packages, and C sources that it names. Pure.

Paths are relative to site-packages. A test package is a directory named exactly `tests`; of nested ones, the outermost.
"""

from __future__ import annotations

import ast
import posixpath
import re
import string
import threading
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

# What something may compile at run time: all of C's sources and headers, and the kernels that include them.
SOURCE_SUFFIXES = (
    *(".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".hxx", ".pyx", ".pxd", ".pxi", ".f", ".f90", ".for"),
    *(".cu", ".cuh", ".cl", ".hip", ".metal", ".a"),
)

# A syntax tree takes up to five hundred times the size of its source (a table of numbers). Larger ones are read word by
# word, and only one tree is there at a time: peak memory must not depend on the wheels.
_PARSED_BYTES = 160 << 10
_one_tree = threading.Lock()
# Of a longer line, as generated sources have them, this much before a word is looked at.
_LINE = 1000
# What names of modules and paths are made of.
_WORD = (string.ascii_letters + string.digits + "_./").encode() + bytes(range(128, 256))

_SUFFIX = re.compile(rb"\.(?:" + "|".join(suffix[1:] for suffix in SOURCE_SUFFIXES).encode() + rb")\b")
_LAST_NAME = re.compile(rb"[\w.+-]*\Z")
_DOTTED = re.compile(r"\.*\w+(?:\.\w+)*(?=:[\w.]+$|$)")
_COMMENT = re.compile(rb"[^\"']*#")
_TESTS = re.compile(rb"tests\b(?!-)")
_END_OF_ITEM = re.compile(rb"[ \t]*(?:as\b|[,)#\\\r\n]|\Z)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """`tests`: directories of tests; `sources`: directories whose C sources have to stay together."""

    tests: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()


def test_directory(path: str) -> str:
    """The outermost directory named `tests` that `path` lies in; empty where there is none."""
    if path.startswith("tests/"):
        return "tests"
    before, found, _ = path.partition("/tests/")
    return f"{before}/tests" if found else ""


def tests_of_module(name: str) -> str:
    """The test directory that a module's dotted name goes through; empty where there is none."""
    return test_directory(name.replace(".", "/") + "/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a module may name of its wheel: the paths of C sources by file name, and all paths in test directories.

    `tested` are files, and directories with a `/` at the end.
    """

    sources: Mapping[str, Collection[str]] = field(default_factory=dict)
    tested: Collection[str] = frozenset()


def surroundings(paths: Iterable[str]) -> Surroundings:
    """What the modules of a wheel may name, out of its paths."""
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
    """What the module at `path` reaches for.

    Imports and strings count, docstrings and comments do not. What cannot be parsed (the target's Python may be newer
    than ours) is read word by word, which finds more.
    """
    named = _named(source) & around.sources.keys() if around.sources else set()
    if not named and not _may_reach_tests(source):
        return Reach()
    with _one_tree:
        return _by_tree(source, named, path, around)


def _by_tree(source: bytes, named: set[str], path: str, around: Surroundings) -> Reach:
    """What a tree tells, which is gone when this returns."""
    tree = _parse(source)
    if tree is None:
        return Reach(tests=loose_tests(source, path, files=True), sources=_together(path, named, around.sources))
    return _reach_of(list(ast.walk(tree)), named, path, around)


def _reach_of(nodes: list[ast.AST], named: set[str], path: str, around: Surroundings) -> Reach:
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    named = {name for name in named if any(name in text for text in texts)}
    tests = {*_tests_of_imports(nodes, path), *_tests_of_strings(texts, path, around.tested)}
    return Reach(tests=frozenset(tests), sources=_together(path, named, around.sources))


def loose_tests(source: bytes, path: str, *, files: bool = False) -> frozenset[str]:
    """The test directories that the words of a source could mean, without parsing it: fast, and never too few.

    Those are names of modules, and with `files` paths too.
    """
    found: set[str] = set()
    for before in dict.fromkeys(_before_tests(source)):
        if b"/" in before and not files:
            continue
        name = before.decode("utf-8", "replace").replace("/", ".") + "tests"
        found.update(_of_module(name, path), _of_word(name, path))
    return frozenset(found)


def _may_reach_tests(source: bytes) -> bool:
    return any(True for _ in _before_tests(source))


def _before_tests(source: bytes) -> Iterator[bytes]:
    """What stands before `tests` in a dotted name, a path or a list of imports; not in prose, nor where it is alone."""
    for match in _TESTS.finditer(source):
        line = source[max(source.rfind(b"\n", 0, match.start()) + 1, match.start() - _LINE) : match.start()]
        before = line.strip()
        named = line.endswith((b".", b"/", b'"', b"'")) or b"import" in line or before.endswith(b"from")
        listed = (not before or before.endswith((b",", b"("))) and _END_OF_ITEM.match(source, match.end())
        alone = line[-1:] in {b'"', b"'"} and source[match.end() : match.end() + 1] == line[-1:]
        if (named or listed) and not alone and not _COMMENT.match(line):
            yield line[len(line.rstrip(_WORD)) :]


def _named(source: bytes) -> set[str]:
    """The file names in a text that look like C sources."""
    found = set()
    for match in _SUFFIX.finditer(source):
        stem = _LAST_NAME.search(source, max(0, match.start() - 128), match.start())
        found.add(((stem[0] if stem else b"") + match[0]).decode("utf-8", "replace"))
    return found


def _together(path: str, names: Iterable[str], sources: Mapping[str, Collection[str]]) -> frozenset[str]:
    """For each file that is named, the directory that holds both it and the module.

    C sources include one another: what such a directory holds stays, all of it.
    """
    return frozenset(
        posixpath.commonpath([posixpath.dirname(path), posixpath.dirname(other)])
        for name in names
        for other in sources[name]
    )


def _parse(source: bytes) -> ast.Module | None:
    if len(source) > _PARSED_BYTES:
        return None
    # Filters of warnings belong to the whole process, and other people's sources are full of what is warned of.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _tests_of_imports(nodes: list[ast.AST], path: str) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _of_module(alias.name, path)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (f"{node.module}." if node.module else "")
            for alias in node.names:
                yield from _of_module(base + alias.name, path)


def _tests_of_strings(texts: list[str], path: str, tested: Collection[str]) -> Iterator[str]:
    """Names of modules, as for import_module, and paths of something in a test directory that exists.

    `tests` alone says nothing: pandas asks whether a caller lies there, others leave it out of something.
    """
    for text in texts:
        if "tests/" in text:
            folder = path.split("/")[:-1]
            meant = ("/".join([*folder[:depth], text.strip("./")]) for depth in range(len(folder) + 1))
            yield from (test_directory(each) for each in meant if each in tested or f"{each}/" in tested)
        elif "tests" in text and text != "tests" and (match := _DOTTED.match(text)):
            yield from _of_module(match[0], path)


def _of_module(name: str, path: str) -> Iterator[str]:
    """The test directory of a module's name, absolute or (with leading dots) relative to the module at `path`."""
    rest = name.lstrip(".")
    level = len(name) - len(rest)
    package = path.split("/")[:-1]
    base = package[: max(0, len(package) - level + 1)] if level else []
    if found := test_directory("/".join([*base, *rest.split("."), ""])):
        yield found


def _of_word(word: str, path: str) -> Iterator[str]:
    """The test directories that a word can mean if what stands before it is not known."""
    if found := test_directory(word.strip(".").replace(".", "/") + "/"):
        folder = path.split("/")[:-1]
        for depth in range(len(folder) + 1):
            yield "/".join([*folder[:depth], found])
