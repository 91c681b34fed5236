"""The files that a .dockerignore leaves out, as BuildKit reads it (moby/patternmatcher; fsutil: filter).

Patterns become regular expressions in three steps, as there: a cleaned path, Go's syntax, and ours instead of Go's.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from hatch_docker.errors import ConfigError
from hatch_docker.support.dataclasses import dataclass

# What Go trims as white space (unicode.IsSpace).
_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
# Characters that have a meaning in regular expressions, and none in patterns.
_ESCAPED = frozenset(".+()|{}$")
# Characters that keep an exception from being a plain path.
_SPECIAL = frozenset("*[]?^\\")
# Escaped letters that mean the same in Go's and Python's syntax; Go refuses most others.
_LETTERS = frozenset("dwsDWSbBafnrtv")
_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t\ ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"!-\~",
    "lower": "a-z",
    "print": r"\ -\~",
    "punct": r"!-/:-@\[-`{-\~",
    "space": r"\t\n\v\f\r\ ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}

# Whether each pattern has matched a directory; None above the first one.
Matched = tuple[bool, ...]


class _BadPatternError(Exception):
    """A pattern that Go refuses."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line: its cleaned text, without the `!` of an exception, and whether a path matches it."""

    text: str
    exception: bool
    matches: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Dockerignore:
    """The patterns of a .dockerignore, in their order."""

    patterns: tuple[Pattern, ...]

    def enter(self, path: str, is_directory: bool, above: Matched | None) -> tuple[bool, bool, Matched]:
        """Whether a path is left out, whether nothing below it can be in, and the state for what is below.

        `above` is the state of the directory that contains it, None for the root. As in BuildKit, a pattern is not
        tried on a path that it cannot change, and does not count as matched there.
        """
        out = False
        matched = []
        for number, pattern in enumerate(self.patterns):
            match = above is not None and above[number]
            if not match and pattern.exception == out:
                match = pattern.matches(path)
            matched.append(match)
            out = not pattern.exception if match else out
        return out, out and is_directory and not self._may_contain(path), tuple(matched)

    def _may_contain(self, directory: str) -> bool:
        """Whether an exception may match something in a directory."""
        exceptions = [_without_glob(each.text) for each in self.patterns if each.exception]
        if any(_SPECIAL.intersection(each) for each in exceptions):
            return True
        return any(f"{each}/".startswith(f"{directory}/") for each in exceptions)


def read_dockerignore(path: Path) -> Dockerignore:
    """Read a .dockerignore. Raises ConfigError for a file that cannot be read, and for patterns that are not valid."""
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise ConfigError([(str(path), f"it cannot be read: {error.strerror or error}")]) from None
    patterns: list[Pattern] = []
    problems: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            patterns += _patterns(line)
        except (_BadPatternError, re.error):
            problems.append(
                (f"{path}:{number}", f"{line.strip(_SPACE)!r} is not a valid pattern, and Docker refuses it")
            )
    if problems:
        raise ConfigError(problems)
    return Dockerignore(tuple(patterns))


def _patterns(line: str) -> Iterator[Pattern]:
    """The pattern of a line, if it has one."""
    text = line.strip(_SPACE)
    if line.startswith("#") or not text:
        return
    mark = "!" if text.startswith("!") else ""
    text = text[len(mark) :].strip(_SPACE)
    text = _clean(text) if text else ""
    text = text[1:] if len(text) > 1 and text.startswith("/") else text
    # Cleaned twice, as there: a `..` removes the mark of an exception with the directory before it.
    text = _clean((mark + text).strip(_SPACE))
    if text == "!":
        raise _BadPatternError
    exception = text.startswith("!")
    text = text[exception:]
    _check(text)
    yield Pattern(text, exception, _matcher(text))


def _clean(path: str) -> str:
    """The shortest equivalent path (Go: filepath.Clean)."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _without_glob(text: str) -> str:
    return text.removesuffix("/**").removesuffix("/*")


def _check(text: str) -> None:
    """Raise _BadPatternError for a pattern with an error of syntax (Go: filepath.Match)."""
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\":
            position += 1
            if position > len(text):
                raise _BadPatternError
        elif character == "[":
            position = _after_class(text, position)


def _after_class(text: str, position: int) -> int:
    """The position behind a class whose content begins at `position`."""
    position += text.startswith("^", position)
    first = True
    while first or not text.startswith("]", position):
        position = _after_member(text, position)
        if text.startswith("-", position):
            position = _after_member(text, position + 1)
        first = False
    return position + 1


def _after_member(text: str, position: int) -> int:
    """The position behind one character of a class, which something must follow."""
    if position >= len(text) or text[position] in "-]":
        raise _BadPatternError
    position += 2 if text[position] == "\\" else 1
    if position >= len(text):
        raise _BadPatternError
    return position


def _matcher(text: str) -> Callable[[str], bool]:
    """Whether a path matches a pattern. Most patterns are compared as text, which differs at `**` in their midst."""
    expression, kind = _expression(text)
    if kind == "prefix":
        prefix = text[:-2]
        return lambda path: path.startswith(prefix)
    if kind == "suffix":
        suffix = text[2:]
        return lambda path: path.endswith(suffix) or (suffix.startswith("/") and path == suffix[1:])
    if kind == "exact":
        return lambda path: path == text
    compiled = re.compile(_translated(expression) + r"\Z", re.ASCII)
    return lambda path: compiled.match(path) is not None


def _expression(text: str) -> tuple[str, str]:
    """A pattern in Go's syntax of regular expressions, and how it is matched (patternmatcher: compile)."""
    parts: list[str] = []
    kind = "exact"
    position = 0
    while position < len(text):
        start, character = position, text[position]
        position += 1
        if character == "*" and text.startswith("*", position):
            position += 1 + text.startswith("/", position + 1)
            if position < len(text):
                parts.append("(.*/)?")
                kind = "expression"
            elif kind == "exact":
                kind = "prefix"
            else:
                parts.append(".*")
                kind = "expression"
            kind = kind if start else "suffix"
        elif character in "*?":
            parts.append("[^/]*" if character == "*" else "[^/]")
            kind = "expression"
        elif character == "\\":
            parts.append(text[start : position + 1])
            position += 1
            kind = "expression"
        else:
            parts.append(f"\\{character}" if character in _ESCAPED else character)
            kind = "expression" if character in "[]" else kind
    return "".join(parts), kind


def _translated(expression: str) -> str:
    """A regular expression of Go's syntax in Python's."""
    parts: list[str] = []
    position = 0
    while position < len(expression):
        character = expression[position]
        position += 1
        if character == "\\":
            parts.append(_escaped(expression[position]))
            position += 1
        elif character == "[":
            made, position = _class(expression, position)
            parts.append(made)
        else:
            parts.append(character)
    return "".join(parts)


def _class(expression: str, position: int) -> tuple[str, int]:
    """A class of characters, whose content begins at `position`, and the position behind it."""
    negated = expression.startswith("^", position)
    position += negated
    parts: list[str] = []
    while not expression.startswith("]", position) or not parts:
        if posix := re.compile(r"\[:(\^?)(\w+):\]").match(expression, position):
            if posix[1] or posix[2] not in _POSIX:
                raise _BadPatternError
            parts.append(_POSIX[posix[2]])
            position = posix.end()
            continue
        low, position = _member(expression, position)
        if expression.startswith("-", position) and not expression.startswith("-]", position):
            high, position = _member(expression, position + 1)
            low = f"{low}-{high}"
        parts.append(low)
    return f"[{'^' if negated else ''}{''.join(parts)}]", position + 1


def _member(expression: str, position: int) -> tuple[str, int]:
    if position >= len(expression):
        raise _BadPatternError
    character = expression[position]
    if character != "\\":
        return re.escape(character), position + 1
    if position + 1 >= len(expression):
        raise _BadPatternError
    return _escaped(expression[position + 1], inside=True), position + 2


def _escaped(character: str, *, inside: bool = False) -> str:
    """An escaped character, outside or inside of a class."""
    if character in _LETTERS and not (inside and character in "bB"):
        return f"\\{character}"
    if character.isascii() and character.isalnum():
        raise _BadPatternError
    return re.escape(character)
