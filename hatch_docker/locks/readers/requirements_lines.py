"""Requirements files → logical lines with their options, as pip reads them (pip: requirements file format)."""

from __future__ import annotations

import optparse
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit
from urllib.request import url2pathname

from hatch_docker.errors import LockError
from hatch_docker.locks.encoding import decoded
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.patterns import regex

_COMMENT = regex(r"(?:^|(?<=\s))#.*$")
_VARIABLE = regex(r"\$\{([A-Z0-9_]+)\}")
_QUOTED = regex(r"['\"\\]")
_BLANK = regex(r"[ \t\r\n]+")
_SCHEME = regex(r"(https?|file):", re.IGNORECASE)
_ALGORITHMS = ("sha256", "sha384", "sha512")

# Files in one another, and all files that one reads. pip and uv have no limits, and end by their memory.
_DEEPEST = 100
_MOST_FILES = 10_000
# Characters and words of a logical line, and characters of one with quotes. shlex and optparse take quadratic time. The
# longest real line has the hashes of a few hundred files, of about 80 characters each.
_LONGEST, _MOST_WORDS, _LONGEST_QUOTED = 1 << 20, 10_000, 1 << 16

# All options that a version of pip accepts in these files. Those without an attribute in Line are only checked: hashes
# and the target decide which files are installed.
_LISTS = (
    ("-r", "--requirement"),
    ("-c", "--constraint"),
    ("-e", "--editable"),
    ("-f", "--find-links"),
    ("--extra-index-url",),
    ("--hash",),
    ("-C", "--config-settings", "--config-setting"),
    ("--global-option",),
    ("--no-binary",),
    ("--only-binary",),
    ("--all-releases",),
    ("--only-final",),
    ("--trusted-host",),
    ("--use-feature",),
)
_FLAGS = ("--no-index", "--pre", "--prefer-binary", "--require-hashes", "--no-require-hashes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A logical line of `file`, without comments and with variables expanded; `place` is its file and number.

    `text` is its requirement, empty for a line of options; `editable` says that it is the value of `-e`. `constraint`
    says that the file was included by `-c`. `hashes` are digests (`sha256:…`) in lower case.
    """

    place: str
    file: Path
    constraint: bool = False
    text: str = field(default="", repr=False)
    editable: bool = False
    hashes: frozenset[str] = frozenset()
    index_url: str = field(default="", repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    no_index: bool = False
    require_hashes: bool = False


def read_lines(path: Path, environ: Mapping[str, str] | None = None) -> Iterator[Line]:
    """The lines of a requirements file; those of included files replace their option.

    `environ` has the variables to expand; by default, those of this process. Raises LockError for a file that cannot be
    read or includes itself, and for an invalid line.
    """
    variables = os.environ if environ is None else environ
    reading = _Reading(variables, {_absolute(path): ""})
    yield from _read(path, reading, constraint=False)


@dataclass(slots=True)
class _Reading:
    """The variables to expand, the files that are being read, each with the one that includes it, and their number."""

    environ: Mapping[str, str]
    including: dict[str, str]
    files: int = 1


def _read(path: Path, reading: _Reading, *, constraint: bool) -> Iterator[Line]:
    for number, text in _logical(decoded(path)):
        place = f"{path}:{number}"
        requirement, options = _parsed(_expanded(text, reading.environ), place)
        included = [*(options.requirement or ()), *(options.constraint or ())]
        if requirement or options.editable or not included:
            yield _line(requirement, options, Line(place=place, file=path, constraint=constraint))
            continue
        # As in pip, only the first file of a line is read.
        target = _included(path, included[0], place)
        key = _absolute(target)
        _check_included(target, key, reading, place)
        reading.including[key] = str(path)
        yield from _read(target, reading, constraint=not options.requirement)
        del reading.including[key]


def _check_included(target: Path, key: str, reading: _Reading, place: str) -> None:
    if key in reading.including:
        first = reading.including[key]
        again = f", and is included by {first}" if first else ""
        raise LockError(f"the file includes itself: {target} is read here again{again}", place=place)
    reading.files += 1
    if len(reading.including) >= _DEEPEST:
        hint = "include the files from one"
        raise LockError(f"more than {_DEEPEST} files include one another", place=place, hint=hint)
    if reading.files > _MOST_FILES:
        hint = "include each file once"
        raise LockError(f"files are included more than {_MOST_FILES} times", place=place, hint=hint)


def _absolute(path: Path) -> str:
    # Links are not resolved: pip compares names.
    return os.path.abspath(path)  # noqa: PTH100


def _included(path: Path, name: str, place: str) -> Path:
    if not _SCHEME.match(name):
        return path.parent / name
    if not name.lower().startswith("file:"):
        hint = "download it, and include it by its path"
        raise LockError("a requirements file cannot be included by URL", place=place, hint=hint)
    return Path(url2pathname(urlsplit(name).path))


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """The logical lines that are not empty, with their numbers. A comment ends a continued line."""
    parts: list[str] = []
    start = 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        start = start if parts else number
        comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not comment:
            parts.append(line.strip("\\"))
            continue
        joined = "".join([*parts, f" {line}" if comment else line])
        parts = []
        if stripped := _COMMENT.sub("", joined).strip():
            yield start, stripped


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    for name in dict.fromkeys(_VARIABLE.findall(text)):
        if value := environ.get(name):
            text = text.replace(f"${{{name}}}", value)
    return text


class _InvalidOptionError(Exception):
    """An option that cannot be parsed."""


class _Parser(optparse.OptionParser):
    """pip reads options by optparse, too: abbreviations, `=`, and several on one line are its rules."""

    def error(self, msg: str) -> NoReturn:
        raise _InvalidOptionError(msg)


def _parser() -> _Parser:
    parser = _Parser(add_help_option=False)
    parser.add_option("-i", "--index-url", "--pypi-url", dest="index_url")
    for names in _LISTS:
        parser.add_option(*names, dest=_attribute(names), action="append")
    for name in _FLAGS:
        parser.add_option(name, dest=_attribute([name]), action="store_true")
    return parser


def _attribute(names: Sequence[str]) -> str:
    return next(name for name in names if name.startswith("--"))[2:].replace("-", "_")


_PARSER = _parser()


def _parsed(line: str, place: str) -> tuple[str, optparse.Values]:
    """The requirement of a line, empty if it has none, and its options, each None if not set. Raises LockError.

    Messages do not quote values, which may contain logins. uv, unlike pip, reads a marker after the value of `-e`.
    """
    words = line.split(" ")
    if len(line) > (_LONGEST_QUOTED if _QUOTED.search(line) else _LONGEST) or len(line.split()) > _MOST_WORDS:
        raise LockError("the line is too long", place=place, hint="is this a requirements file?")
    first = next((number for number, word in enumerate(words) if word.startswith("-")), len(words))
    try:
        split = _split(" ".join(words[first:]))
        options, others = _PARSER.parse_args(split, optparse.Values(_PARSER.defaults))
    except ValueError:
        raise LockError("unclosed quote", place=place) from None
    except _InvalidOptionError as error:
        raise LockError(f"{error}", place=place) from None
    _check_values(options, place)
    if options.editable and others and others[0].startswith(";"):
        options.editable[0] += f" ;{line.partition(' ;')[2]}"
    return " ".join(words[:first]).strip(), options


def _split(text: str) -> list[str]:
    """`shlex.split`, which is slow for thousands of hashes, if the text needs it."""
    return shlex.split(text) if _QUOTED.search(text) else [word for word in _BLANK.split(text) if word]


def _line(requirement: str, options: optparse.Values, line: Line) -> Line:
    """`line` with its content."""
    values: dict[str, Any] = {}
    if text := requirement or next(iter(options.editable or ()), ""):
        values = {"text": text, "editable": bool(options.editable) and not requirement}
    return Line(
        place=line.place,
        file=line.file,
        constraint=line.constraint,
        hashes=frozenset(value.lower() for value in options.hash or ()),
        index_url=options.index_url or "",
        extra_index_urls=tuple(options.extra_index_url or ()),
        find_links=tuple(options.find_links or ()),
        no_index=bool(options.no_index),
        require_hashes=bool(options.require_hashes),
        **values,
    )


def _check_values(options: optparse.Values, place: str) -> None:
    """Raise LockError for a hash or a setting that is not of its form."""
    for value in options.hash or ():
        algorithm, colon, _ = value.partition(":")
        if not colon or algorithm not in _ALGORITHMS:
            raise LockError(
                f"--hash needs an algorithm and a digest, such as sha256:…; {', '.join(_ALGORITHMS)} are allowed",
                place=place,
            )
    if any("=" not in each for each in options.config_settings or ()):
        raise LockError("--config-settings needs KEY=VALUE", place=place)
