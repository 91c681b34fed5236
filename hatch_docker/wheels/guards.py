"""Find the imports that may fail: those in a `try` whose handler of ImportError raises nothing. No I/O.

Lines and their indentation are enough for that. What they do not tell counts as an import that must not fail.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from hatch_docker.support.patterns import regex
from hatch_docker.wheels.scan import imported_names

_IMPORT = regex(
    rb"^[ \t]*(?:from[ \t]+[\w.]{1,255}[ \t]+import[ \t]*(?:\([^()]{0,4096}\)|[^\n]*)|import[ \t][^\n]*)", re.MULTILINE
)
_LINE = regex(rb"([ \t]*)[^\s#]")
_HANDLER = regex(rb"[ \t]*except\b(?:[ \t]*:|.*\b(?:ImportError|Exception|BaseException)\b)")
_SUPPRESSED = regex(rb"[ \t]*with\b.*\bsuppress\(.*\b(?:ImportError|Exception|BaseException)\b")
_RAISE = regex(rb"\braise\b")
# Far above real modules: imports that are looked at, and lines around each.
_MOST, _FARTHEST = 100, 2000


def guarded_imports(source: bytes, place: str, names: Collection[str]) -> Iterator[tuple[str, bool]]:
    """Each import of one of the modules `names` by the module at `place`, and whether it may fail.

    Names are dotted; `place` is relative to site-packages.
    """
    lines = source.split(b"\n")
    found = 0
    for match in _IMPORT.finditer(source):
        imported = {_absolute(name, place) for name in imported_names(match[0])}
        for name in imported.intersection(names):
            found += 1
            may_fail = found <= _MOST and _may_fail(lines, source.count(b"\n", 0, match.start()))
            yield name, may_fail


def _absolute(name: str, place: str) -> str:
    """The full name of a module that the one at `place` imports."""
    dots = len(name) - len(name.lstrip("."))
    return ".".join([*place.split("/")[:-dots], name[dots:]]) if dots else name


def _may_fail(lines: Sequence[bytes], number: int) -> bool:
    """Whether a line is in the body of a statement that lets an import fail."""
    indentation = _indentation(lines[number]) or 0
    for above in range(number - 1, max(-1, number - _FARTHEST), -1):
        width = _indentation(lines[above])
        if width is None or width >= indentation:
            continue
        indentation, header = width, lines[above].strip()
        if _SUPPRESSED.match(header) or (re.match(rb"try[ \t]*:", header) and _tolerates(lines, number, width)):
            return True
    return False


def _tolerates(lines: Sequence[bytes], number: int, indentation: int) -> bool:
    """Whether the `try` of this indentation that a line is in has a handler of ImportError which raises nothing."""
    handles = False
    for line in lines[number + 1 : number + _FARTHEST]:
        width = _indentation(line)
        if width is not None and width <= indentation:
            if handles:
                return True
            handles = width == indentation and _HANDLER.match(line) is not None
            if width < indentation or not line.strip().startswith(b"except"):
                return False
        if handles and _RAISE.search(line):
            return False
    return handles


def _indentation(line: bytes) -> int | None:
    """The width of a line's indentation; None for an empty one, or a comment."""
    match = _LINE.match(line)
    return len(match[1]) if match else None
