"""Find the test suites of a wheel: the folders named `tests` of which modules of tests can be left out.

A folder of that name may as well hold templates, data, plugins or an application. So it is a suite only if it is in a
package that can be imported, and if a module of tests in it imports that package. A module of tests is named
`test_*.py` or `*_test.py`, defines tests and asserts something, or is a `conftest.py`.

A suite is whole if nothing in it is for anyone else: its `__init__.py` defines nothing, and every other module in it is
imported by a module of tests, directly or not.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Mapping

from hatch_docker.support.patterns import regex
from hatch_docker.wheels.findings import Suite, test_directory
from hatch_docker.wheels.scan import imported_names, loads_modules

_NAMED = regex(r"(?:^|/)(?:test_[^/]*|[^/]*_tests?)\.py$")
_DEFINES = regex(
    rb"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+_*(?:[tT]est|\w{1,80}Tests?(?:Case)?\b)|TestCase\b", re.MULTILINE
)
_ASSERTS = regex(rb"\bassert|\bpytest\b|\bunittest\b|\.fail\(|\braises\b")
_PART = regex(r"[A-Za-z_][A-Za-z0-9_]*")
_MODULE = regex(r"\.(?:py|pyc|pyd|so)$")
_DOCSTRING = regex(rb"""\A\s*(?:\#[^\n]*\n\s*)*[rRuU]?(?:"{3}.*?"{3}|'{3}.*?'{3})""", re.DOTALL | re.VERBOSE)
# A line of a module that only imports and documents: it begins none of these statements.
_IDLE = regex(rb"(?:[\s#\"')\]}]|(?:from|import)\b|__\w+__\b|$)")
DEEPEST = 20  # folders around a suite, far above real ones
_READABLE = 4 << 20

Read = Callable[[str], bytes]
Imports = dict[str, Collection[str]]


def find_suites(sizes: Mapping[str, int], read: Read) -> tuple[dict[str, Suite], Imports]:
    """The suites of a wheel by folder, given the sizes of its files, and what their modules import.

    Paths are relative to site-packages.
    """
    packages = {posixpath.dirname(path) for path in sizes if path.endswith("/__init__.py")}
    folders: dict[str, list[str]] = {}
    elsewhere: set[str] = set()
    for path in sizes:
        if folder := test_directory(path):
            folders.setdefault(folder, []).append(path)
        elif _MODULE.search(path):
            elsewhere.add(path.partition("/")[0].partition(".")[0])
    found = {}
    imports: Imports = {}
    for folder, paths in folders.items():
        tops = elsewhere - {"tests"} if folder == "tests" else {folder.partition("/")[0]} & elsewhere
        if tops and _importable(folder, packages) and (suite := _suite(folder, paths, tops, sizes, read, imports)):
            found[folder] = suite
    return found, imports


def _importable(folder: str, packages: Collection[str]) -> bool:
    """Whether a folder is in a package, with no other folder between this and its parents that are packages."""
    parts = folder.split("/")
    if len(parts) > DEEPEST or not all(map(_PART.fullmatch, parts)):
        return False
    is_package = ["/".join(parts[:depth]) in packages for depth in range(1, len(parts))]
    return is_package == sorted(is_package) and all(is_package[-1:])


def _suite(
    folder: str, paths: Iterable[str], tops: Collection[str], sizes: Mapping[str, int], read: Read, imports: Imports
) -> Suite | None:
    packages = {posixpath.dirname(path) for path in paths if path.endswith("/__init__.py")} | {folder}
    modules = {path for path in paths if _MODULE.search(path) and posixpath.dirname(path) in packages}
    sources = sorted(path for path in modules if path.endswith(".py"))
    if not any(map(_NAMED.search, sources)) or any(sizes[path] > _READABLE for path in sources):
        return None
    names = {_dotted(path): path for path in modules}
    tests, idle, about_package, loads = set(), set(), False, False
    edges: dict[str, set[str]] = {}
    for path in sources:
        source = read(path)
        imports[path] = set(imported_names(source))
        edges[path] = _inner(path, imports[path], folder, names)
        if _is_test(path, source):
            tests.add(path)
            about_package = about_package or any(name.partition(".")[0] in tops for name in imports[path])
            continue
        loads = loads or loads_modules(source)
        if _is_idle(source) and (path.endswith("/__init__.py") or not imports[path]):
            idle.add(path)
    if not about_package:
        return None
    root = f"{folder}/__init__.py"
    whole = modules <= idle | _closure(tests, edges) and (
        root not in modules or (root in idle and edges[root] == {root})
    )
    return Suite(tests=tuple(sorted(tests - _closure(modules - tests, edges))), whole=whole, loads=loads)


def _is_test(path: str, source: bytes) -> bool:
    if posixpath.basename(path) == "conftest.py":
        return True
    return bool(_NAMED.search(path) and _DEFINES.search(source) and _ASSERTS.search(source))


def _is_idle(source: bytes) -> bool:
    """Whether a module only imports and documents, and sets names such as `__all__`."""
    return all(map(_IDLE.match, _DOCSTRING.sub(b"", source).split(b"\n")))


def _inner(path: str, imports: Iterable[str], folder: str, names: Mapping[str, str]) -> set[str]:
    """The modules of a suite that a module in it imports, and the packages that it is in."""
    package = posixpath.dirname(path).split("/")
    depth = folder.count("/") + 1
    found = {".".join(package[:end]) for end in range(depth, len(package) + 1)}
    for name in imports:
        rest = name.lstrip(".")
        level = len(name) - len(rest)
        bases = [package[: max(0, len(package) - level + 1)]] if level else [[], package, package[:depth]]
        for base in bases:
            parts = [*base, *rest.split(".")[:DEEPEST]] if rest else base
            found.update(".".join(parts[:end]) for end in range(depth, len(parts) + 1))
    return {names[each] for each in found if each in names}


def _closure(start: Iterable[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
    """`start`, and all that is reached from there."""
    found = set(start)
    waiting = list(found)
    while waiting:
        new = {each for each in edges.get(waiting.pop(), ()) if each not in found}
        found |= new
        waiting.extend(new)
    return found


def _dotted(path: str) -> str:
    folder, _, name = path.rpartition("/")
    stem = name.partition(".")[0]
    return (folder if stem == "__init__" else f"{folder}/{stem}").replace("/", ".")
