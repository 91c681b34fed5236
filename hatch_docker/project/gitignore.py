"""The files that .gitignore leaves out, without Git (gitignore: pattern format; git: wildmatch.c, dir.c).

Git compares bytes: `?` is one byte of a name, not one character.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

_WILD = regex(rb"[*?\[\\]")
_NEVER = rb"(?!)"
_POSIX = {
    b"alnum": rb"0-9A-Za-z",
    b"alpha": rb"A-Za-z",
    b"blank": rb"\t\ ",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": rb"0-9",
    b"graph": rb"!-\~",
    b"lower": rb"a-z",
    b"print": rb"\ -\~",
    b"punct": rb"!-/:-@\[-`{-\~",
    b"space": rb"\t\n\v\f\r\ ",
    b"upper": rb"A-Z",
    b"xdigit": rb"0-9A-Fa-f",
}


class _NeverMatchesError(Exception):
    """A pattern with an error of syntax, which Git accepts, and which matches nothing."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line. `name_only` compares the last part of the path alone."""

    expression: re.Pattern[bytes]
    exception: bool
    directories_only: bool
    name_only: bool


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """The patterns of a file for what is below `folder`: a path relative to the repository, empty or with `/`."""

    folder: bytes
    patterns: tuple[Pattern, ...]

    def verdict(self, path: bytes, is_directory: bool) -> bool | None:
        """Whether a path is ignored, None if no pattern matches it. The last one that does decides."""
        relative = path[len(self.folder) :]
        name = path.rpartition(b"/")[2]
        for each in reversed(self.patterns):
            if each.directories_only and not is_directory:
                continue
            if each.expression.fullmatch(name if each.name_only else relative):
                return not each.exception
        return None


# The files that apply to the content of a directory, the strongest first.
Files = tuple[IgnoreFile, ...]


@dataclass(frozen=True, slots=True)
class Gitignore:
    """The .gitignore files of a directory `root`, which is at `prefix` of the repository in `top`, and of those above.

    `prefix` is empty or ends with `/`. The user's own file (core.excludesFile) is not read: only Git finds it.
    """

    root: Path
    top: Path
    prefix: bytes

    @classmethod
    def of(cls, root: Path) -> Gitignore:
        """The files for a directory: up to the repository's root, if it is in one."""
        root = root.absolute()
        top = next((each for each in (root, *root.parents) if (each / ".git").exists()), root)
        prefix = os.fsencode(root.relative_to(top).as_posix())
        return cls(root=root, top=top, prefix=b"" if prefix == b"." else prefix + b"/")

    def is_root_ignored(self) -> bool:
        """Whether the repository ignores `root` itself: then its files say nothing about what is in there."""
        files = self._outer()
        parts = self.prefix.split(b"/")[:-1]
        for number in range(len(parts)):
            path = b"/".join(parts[: number + 1])
            if _is_ignored(path, True, files):
                return True
            files = (*_read(self.top / os.fsdecode(path) / ".gitignore", path + b"/"), *files)
        return False

    def start(self) -> Files:
        """The files that apply to the content of `root`."""
        files = self._outer()
        parts = self.prefix.split(b"/")[:-1]
        for number in range(len(parts)):
            path = b"/".join(parts[: number + 1])
            files = (*_read(self.top / os.fsdecode(path) / ".gitignore", path + b"/"), *files)
        return files

    def enter(self, path: str, is_directory: bool, above: Files | None) -> tuple[bool, bool, Files]:
        """Whether a path is left out, whether nothing below it can be in, and the files that apply below it."""
        files = self.start() if above is None else above
        whole = self.prefix + os.fsencode(path)
        if _is_ignored(whole, is_directory, files):
            return True, True, files
        found = _read(self.root / path / ".gitignore", whole + b"/") if is_directory else ()
        return False, False, (*found, *files)

    def _outer(self) -> Files:
        return (*_read(self.top / ".gitignore", b""), *_read(self.top / ".git" / "info" / "exclude", b""))


def _is_ignored(path: bytes, is_directory: bool, files: Files) -> bool:
    verdicts = (each.verdict(path, is_directory) for each in files)
    return next((each for each in verdicts if each is not None), False)


def _read(path: Path, folder: bytes) -> Files:
    """The patterns of a file, if it is one that Git reads: it follows no links to them."""
    try:
        text = b"" if path.is_symlink() else path.read_bytes()
    except OSError:
        return ()
    patterns = tuple(_patterns(text.removeprefix(b"\xef\xbb\xbf")))
    return (IgnoreFile(folder, patterns),) if patterns else ()


def _patterns(text: bytes) -> Iterator[Pattern]:
    for each in text.split(b"\n"):
        line = _trimmed(each.removesuffix(b"\r"))
        if not line or line.startswith(b"#"):
            continue
        exception = line.startswith(b"!")
        directories_only = line.endswith(b"/")
        pattern = line[exception : len(line) - directories_only]
        try:
            expression = re.compile(_expression(pattern.removeprefix(b"/")), re.DOTALL)
        except _NeverMatchesError:
            expression = re.compile(_NEVER)
        yield Pattern(expression, exception, directories_only, b"/" not in pattern)


def _trimmed(line: bytes) -> bytes:
    """A line without spaces at its end, unless a backslash is before them."""
    position, end = 0, 0
    while position < len(line):
        if line[position : position + 1] == b"\\":
            position += 1
            end = position + 1
        elif line[position : position + 1] != b" ":
            end = position + 1
        position += 1
    return line[:end]


def _expression(pattern: bytes) -> bytes:
    found = _WILD.search(pattern)
    first = found.start() if found else len(pattern)
    parts = [re.escape(pattern[:first])]
    position = first
    while position < len(pattern):
        character = pattern[position : position + 1]
        if character == b"*":
            made, position = _stars(pattern, position, first)
        elif character == b"?":
            made, position = b"[^/]", position + 1
        elif character == b"[":
            made, position = _class(pattern, position + 1)
        elif character == b"\\":
            if position + 1 == len(pattern):
                raise _NeverMatchesError
            made, position = re.escape(pattern[position + 1 : position + 2]), position + 2
        else:
            made, position = re.escape(character), position + 1
        parts.append(made)
    return b"".join(parts)


def _stars(pattern: bytes, position: int, first: int) -> tuple[bytes, int]:
    """The expression of one or more `*`, and the position behind it.

    Two or more match across directories if slashes or the ends enclose them. Git compares the text before the first
    wildcard by itself, so this counts as a slash, too.
    """
    end = position
    while pattern[end : end + 1] == b"*":
        end += 1
    bounded = position == first or pattern[position - 1 : position] == b"/"
    if end - position == 1 or not bounded:
        return b"[^/]*", end
    if pattern[end : end + 1] == b"/":
        return b"(?:.*/)?", end + 1
    if end == len(pattern) or pattern[end : end + 2] == b"\\/":
        return b".*", end
    return b"[^/]*", end


def _class(pattern: bytes, position: int) -> tuple[bytes, int]:
    """The expression of a class whose content begins at `position`, and the position behind it."""
    negated = pattern[position : position + 1] in (b"!", b"^")
    position += negated
    parts: list[bytes] = []
    previous = b""
    first = True
    while first or pattern[position : position + 1] != b"]":
        first = False
        character = pattern[position : position + 1]
        follows = pattern[position + 1 : position + 2]
        if not character:
            raise _NeverMatchesError
        if character == b"-" and previous and follows not in (b"", b"]"):
            high, position = _member(pattern, position + 1)
            if previous <= high:
                parts.append(re.escape(previous) + b"-" + re.escape(high))
            previous = b""
        elif character == b"[" and follows == b":" and (end := _posix_end(pattern, position)):
            if (name := pattern[position + 2 : end - 2]) not in _POSIX:
                raise _NeverMatchesError
            parts.append(_POSIX[name])
            previous, position = b"", end
        else:
            previous, position = _member(pattern, position)
            parts.append(re.escape(previous))
    members = b"".join(parts)
    if negated:
        return b"[^/" + members + b"]", position + 1
    return b"(?!/)[" + members + b"]" if members else _NEVER, position + 1


def _posix_end(pattern: bytes, position: int) -> int:
    """The position behind `[:name:]`, 0 if it has another form: then `[` stands for itself."""
    end = pattern.find(b"]", position + 2)
    if end < 0:
        raise _NeverMatchesError
    return end + 1 if end > position + 2 and pattern[end - 1 : end] == b":" else 0


def _member(pattern: bytes, position: int) -> tuple[bytes, int]:
    """One character of a class, and the position behind it."""
    if pattern[position : position + 1] == b"\\":
        position += 1
    if position >= len(pattern):
        raise _NeverMatchesError
    return pattern[position : position + 1], position + 1
