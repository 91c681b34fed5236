"""Hashed requirements files, as `pip-compile --generate-hashes` and `uv pip compile` write them → pins.

The format is pip's: requirements, options, comments, continued lines, included files.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from hatch_docker.errors import LockError
from hatch_docker.locks.model import read_text

_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"(sha256|sha384|sha512):([0-9a-f]+)", re.IGNORECASE)
_FIRST_OPTION = re.compile(r"\s--?[A-Za-z]")
# Options that are ignored: the hashes and the target decide which files are installed.
_VALUED = (
    "-f",
    "--find-links",
    "-c",
    "--constraint",
    "--no-binary",
    "--only-binary",
    "--trusted-host",
    "--use-feature",
)
_FLAGS = ("--no-index", "--pre", "--prefer-binary", "--require-hashes")
_INCLUDE = ("-r", "--requirement")
_INDEX = ("-i", "--index-url", "--pypi-url")
_EXTRA_INDEX = ("--extra-index-url",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A requirement pinned to one version, with the digests (`sha256:…`) that its files may have."""

    name: str
    version: Version
    marker: Marker | None
    hashes: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Line:
    place: str
    text: str


def read_pins(path: Path) -> list[Pin]:
    """The pins of a requirements file and of those that it includes.

    Raises LockError for all requirements without a pin or hashes at once, and for an invalid line.
    """
    pins, unpinned, unhashed = [], [], []
    for line in _lines(path):
        if line.text.startswith("-"):
            _check_option(line)
            continue
        requirement, hashes = _requirement(line)
        version = _pinned(requirement)
        if version is None:
            unpinned.append(str(requirement))
        elif not hashes:
            unhashed.append(requirement.name)
        else:
            name = canonicalize_name(requirement.name)
            pins.append(Pin(name=name, version=version, marker=requirement.marker, hashes=hashes))
    problems = [f"not pinned with ==: {', '.join(unpinned)}"] if unpinned else []
    problems += [f"missing hashes for {', '.join(unhashed)}"] if unhashed else []
    if problems:
        raise LockError("; ".join(problems), place=str(path), hint=_hash_command(path))
    return pins


def read_constraints(path: Path) -> dict[str, frozenset[str]]:
    """The digests that a constraints file allows, by normalized name; an empty set for a name without hashes.

    Raises LockError for an unreadable file or an invalid line.
    """
    allowed: dict[str, frozenset[str]] = {}
    for line in _lines(path):
        if not line.text.startswith("-"):
            requirement, hashes = _requirement(line)
            name = canonicalize_name(requirement.name)
            allowed[name] = allowed.get(name, frozenset()) | hashes
    return allowed


def missing_hashes(path: Path) -> str:
    """The command that adds hashes to a requirements file without any; empty if it has some. Raises LockError."""
    return "" if "--hash" in read_text(path) else _hash_command(path)


def _hash_command(path: Path) -> str:
    source = path.with_suffix(".in")
    return f"pip-compile --generate-hashes -o {path.name} {source.name if source.exists() else 'pyproject.toml'}"


def index_options(path: Path) -> tuple[str, tuple[str, ...]]:
    """The index URL (empty if none) and extra index URLs that a requirements file names. Raises LockError."""
    url, extra = "", []
    for line in _lines(path):
        option, value = _option(line)
        if option in _INDEX:
            url = value
        elif option in _EXTRA_INDEX:
            extra.append(value)
    return url, tuple(extra)


def _lines(path: Path, including: tuple[Path, ...] = ()) -> Iterator[_Line]:
    """Logical lines without comments; the lines of included files replace their option."""
    if path.resolve() in including:
        return
    for line in _logical(read_text(path), str(path)):
        option, value = _option(line)
        if option in _INCLUDE:
            if "://" in value or "\0" in value:
                raise LockError("a requirements file can be included only by its path", place=line.place)
            yield from _lines(path.parent / value, (*including, path.resolve()))
        else:
            yield line


def _logical(text: str, name: str) -> Iterator[_Line]:
    parts: list[str] = []
    start = 1
    for number, physical in enumerate([*text.splitlines(), ""], 1):
        stripped = _COMMENT.sub("", physical)
        if not parts:
            start = number
        # As in pip, a comment ends a continued line.
        continued = stripped.endswith("\\") and stripped == physical
        parts.append(stripped.removesuffix("\\") if continued else stripped)
        if continued:
            continue
        joined = " ".join(parts).strip()
        parts = []
        if joined:
            yield _Line(f"{name}:{start}", joined)


def _option(line: _Line) -> tuple[str, str]:
    """The option of a line, and its value; empty for a requirement."""
    if not line.text.startswith("-"):
        return "", ""
    for short in ("-r", "-c", "-f", "-i", "-e"):
        if line.text.startswith(short):
            return short, line.text[2:].strip(" =")
    option, _, value = line.text.replace("=", " ", 1).partition(" ")
    return option, value.strip()


def _check_option(line: _Line) -> None:
    option, _ = _option(line)
    if option in ("-e", "--editable"):
        raise LockError(
            "an editable requirement cannot be part of an image",
            place=line.place,
            hint="publish the package to an index, and lock again",
        )
    if option not in (*_VALUED, *_FLAGS, *_INDEX, *_EXTRA_INDEX):
        raise LockError(f"unknown option {option}", place=line.place)


def _requirement(line: _Line) -> tuple[Requirement, frozenset[str]]:
    found = _FIRST_OPTION.search(line.text)
    text, options = (line.text[: found.start()], line.text[found.start() :]) if found else (line.text, "")
    try:
        requirement = Requirement(text.strip())
    except (InvalidRequirement, RecursionError):
        raise LockError(
            "this is not a requirement of the form name==version",
            place=line.place,
            hint="a lock with hashes cannot have paths and URLs: publish the package to an index",
        ) from None
    if requirement.url:
        raise LockError(
            f"{requirement.name} is required by URL",
            place=line.place,
            hint="only packages of an index can be found by hash: pin it with ==, or use pylock.toml",
        )
    return requirement, _hashes(line, options)


def _hashes(line: _Line, options: str) -> frozenset[str]:
    try:
        words = shlex.split(options)
    except ValueError:
        raise LockError("unclosed quote", place=line.place) from None
    hashes = set()
    for position, word in enumerate(words):
        name, _, value = word.partition("=")
        if name == "--hash":
            digest = value or next(iter(words[position + 1 :]), "")
            if match := _HASH.fullmatch(digest):
                hashes.add(f"{match[1]}:{match[2]}".lower())
    return frozenset(hashes)


def _pinned(requirement: Requirement) -> Version | None:
    """The version of `name==version`; None for other specifiers."""
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator not in ("==", "==="):
        return None
    try:
        return Version(specifiers[0].version)
    except InvalidVersion:
        return None
