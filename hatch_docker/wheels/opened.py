"""Find the shared libraries that a module opens by name, where the names are literals. No I/O.

These are calls of ctypes and cffi, and of wrappers with names like theirs (`_dlopen`). Names in docstrings and comments
do not count. What is in `try`, `if` or a loop is left out: such code has other ways, or is for other systems.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hatch_docker.support.patterns import regex
from hatch_docker.wheels.findings import Opened
from hatch_docker.wheels.lexer import read_module

# Nearly all modules have none of these, and are not read further. `in` is faster than a pattern of alternatives.
_HINTS = (b"CDLL", b"dlopen", b"LoadLibrary", b"find_library")
_CALL = regex(rb"(?<!def )\b(?P<name>\w*(?:CDLL|dlopen|LoadLibrary|find_library))[ \t]*\(")
_TOKEN = regex(rb"(['\"])((?:\\.|(?!\1)[^\\\r\n])*)\1|[()\[\]{}]|#[^\r\n]*")
_NAME = regex(rb"[\w.+-]{1,80}")
_SONAME = regex(rb"lib[\w.+-]+\.so(?:\.\d+)*")
_HEADER = regex(rb"([ \t]*)(\w+)")
# Statements that do not keep a call from failing.
_PLAIN = frozenset((b"class", b"with", b"def", b"async"))
# Far above real modules: calls, lines above a call, bytes of its arguments.
_MOST, _HIGHEST, _LONGEST = 50, 2000, 4096


def opened_libraries(source: bytes, place: str) -> list[Opened]:
    """The libraries that a module opens, in the order of its lines."""
    if not any(hint in source for hint in _HINTS):
        return []
    calls = [call for match in list(_CALL.finditer(source))[:_MOST] if (call := _call(source, match))]
    if not calls:
        return []
    texts = {found.value for found in read_module(source) if found.kind == "text"}
    # What one statement names are alternatives, such as `find_library("x") or find_library("y")`.
    lines: dict[int, list[tuple[bytes, tuple[bytes, ...]]]] = {}
    for start, name, literals in calls:
        if texts.issuperset(literals):
            lines.setdefault(source.rfind(b"\n", 0, start) + 1, []).append((name, literals))
    return [opened for start, each in sorted(lines.items()) if (opened := _opened(source, start, each, place))]


def _call(source: bytes, match: re.Match[bytes]) -> tuple[int, bytes, tuple[bytes, ...]] | None:
    """The position, function and literals of a call; None if it has no literal, or may fail."""
    depth, literals, end = 1, [], match.end()
    for token in _TOKEN.finditer(source, match.end(), match.end() + _LONGEST):
        if token[1]:
            literals.append(token[2])
        elif token[0] in b"([{":
            depth += 1
        elif token[0] in b")]}":
            depth -= 1
        if depth == 0:
            end = token.start()
            break
    if not literals or b"allow_fail" in source[match.end() : end]:
        return None
    return match.start(), match["name"], tuple(literals)


def _opened(source: bytes, start: int, calls: list[tuple[bytes, tuple[bytes, ...]]], place: str) -> Opened | None:
    headers = set(_headers(source, start))
    names = list(_names(calls))
    if not headers <= _PLAIN or not names or any(b"/" in each for _, literals in calls for each in literals):
        return None
    loads = any(not name.endswith(b"find_library") for name, _ in calls)
    return Opened(place, tuple(dict.fromkeys(names)), loads and headers.isdisjoint((b"def", b"async")))


def _names(calls: list[tuple[bytes, tuple[bytes, ...]]]) -> Iterator[str]:
    for name, literals in calls:
        for literal in literals:
            if name.endswith(b"find_library"):
                if _NAME.fullmatch(literal):
                    yield f"lib{literal.decode()}.so"
            elif _SONAME.fullmatch(literal):
                yield literal.decode()


def _headers(source: bytes, start: int) -> Iterator[bytes]:
    """The first words of the statements that a line is in, and of its own if it is a compound statement's."""
    lines = source[:start].split(b"\n")[: -1 if start else None][-_HIGHEST:]
    own = _HEADER.match(source, start)
    indentation = len(own[1]) if own else 0
    if own and own[2] in (b"if", b"elif", b"for", b"while", b"return"):
        yield own[2] if own[2] != b"return" else b"def"
    for line in reversed(lines):
        match = _HEADER.match(line)
        if match and len(match[1]) < indentation:
            indentation = len(match[1])
            yield match[2]
        if not indentation:
            return
    if indentation:
        yield b"?"
