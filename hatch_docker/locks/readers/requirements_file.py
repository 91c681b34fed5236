"""Requirements files with hashes, as `uv export`, `pip-compile --generate-hashes` and `uv pip compile` write them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from hatch_docker.errors import LockError
from hatch_docker.index.access import NamedIndexes
from hatch_docker.locks.encoding import decoded
from hatch_docker.locks.readers.references import Reference, parse_reference
from hatch_docker.locks.readers.requirements_lines import Line, read_lines
from hatch_docker.support.dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A requirement pinned to one version, with the digests (`sha256:…`) that its files may have."""

    place: str
    name: str
    version: Version
    marker: Marker | None
    hashes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedRequirements:
    """What a requirements file locks: packages of an index, and packages by path or URL."""

    pins: tuple[Pin, ...] = ()
    references: tuple[Reference, ...] = ()


def read_hashed(path: Path, *, refresh: str = "") -> HashedRequirements:
    """The content of a requirements file and of those that it includes.

    Raises LockError for all requirements without a pin or hash at once, with the command `refresh` as its hint, and for
    an invalid line.
    """
    pins, references, unpinned, unhashed = [], [], [], []
    for line, parsed in _requirements(path):
        if line.constraint:
            continue
        if isinstance(parsed, Reference):
            references.append(parsed)
            unhashed += [parsed.label] if parsed.needs_hash else []
            continue
        version = _pinned(parsed.specifier)
        if version is None:
            unpinned.append(str(parsed))
        elif not line.hashes:
            unhashed.append(parsed.name)
        else:
            name = canonicalize_name(parsed.name)
            pins.append(Pin(place=line.place, name=name, version=version, marker=parsed.marker, hashes=line.hashes))
    problems = [f"not pinned with ==: {', '.join(unpinned)}"] if unpinned else []
    problems += [f"missing hashes for {', '.join(unhashed)}"] if unhashed else []
    if problems:
        raise LockError("; ".join(problems), place=str(path), hint=refresh and f"make it again: {refresh}")
    return HashedRequirements(pins=tuple(pins), references=tuple(references))


def read_constraints(path: Path) -> dict[str, frozenset[str]]:
    """The digests that a constraints file allows, by normalized name; an empty set for a name without hashes.

    Raises LockError for an unreadable file or an invalid line.
    """
    allowed: dict[str, frozenset[str]] = {}
    for line, parsed in _requirements(path):
        if isinstance(parsed, Reference):
            raise LockError(f"{parsed.label} is a path or URL", place=line.place, hint="constrain it by its version")
        name = canonicalize_name(parsed.name)
        allowed[name] = allowed.get(name, frozenset()) | line.hashes
    return allowed


def is_lock(path: Path) -> bool:
    """Whether a requirements file has hashes, so that it is read as a lock; reading it names requirements without.

    A file whose only hashes are fragments of URLs, as `pip freeze` writes them, must have all. Any other file is input
    to resolving, even if it is not valid: it may not be used at all. Raises LockError for a file that cannot be read.
    """
    try:
        return _has_hashes(line for line in read_lines(path) if not line.constraint)
    except LockError:
        return "--hash" in decoded(path)


def included_files(path: Path) -> tuple[Path, ...]:
    """The files that a requirements file includes, sorted; without those that follow an error, which uv reports."""
    found: set[Path] = set()
    with contextlib.suppress(LockError):
        found.update(line.file for line in read_lines(path))
    return tuple(sorted(found - {path}))


def requirements_of(path: Path) -> tuple[Requirement, ...]:
    """The requirements by name in a requirements file without hashes; none if it is not valid, which uv reports."""
    with contextlib.suppress(LockError):
        return tuple(
            each for line, each in _requirements(path) if isinstance(each, Requirement) and not line.constraint
        )
    return ()


def _has_hashes(lines: Iterable[Line]) -> bool:
    references = True
    with_hash = False
    for line in lines:
        if line.hashes if line.text and not line.editable else line.require_hashes:
            return True
        if line.text:
            found = _parsed(line)
            references &= isinstance(found, Reference) and not found.needs_hash
            with_hash |= isinstance(found, Reference) and bool(found.hashes)
    return references and with_hash


def index_options(path: Path) -> NamedIndexes:
    """The indexes that a requirements file names. Raises LockError.

    As in pip, an index URL replaces all indexes before it, and `--find-links` is a path relative to the file, if there
    is one, else to the project.
    """
    named = NamedIndexes()
    for line in read_lines(path):
        if line.text:
            continue
        if line.no_index:
            named = replace(named, url="", extra_urls=(), no_index=True)
        if line.index_url and not named.no_index:
            named = replace(named, url=line.index_url, extra_urls=())
        extra = () if named.no_index else line.extra_index_urls
        # As in pip, only the first of a line counts.
        links = tuple(_link(each, line) for each in line.find_links[:1])
        named = replace(named, extra_urls=named.extra_urls + extra, find_links=named.find_links + links)
    return named


def _link(value: str, line: Line) -> str:
    path = line.file.absolute().parent / value
    try:
        return path.as_uri() if path.exists() else value
    except (OSError, ValueError):
        return value


def _requirements(path: Path) -> Iterator[tuple[Line, Requirement | Reference]]:
    return ((line, _parsed(line)) for line in read_lines(path) if line.text)


def _parsed(line: Line) -> Requirement | Reference:
    hashes = line.hashes
    if found := parse_reference(line.text, place=line.place, editable=line.editable, hashes=hashes):
        return found
    try:
        return Requirement(line.text)
    except (InvalidRequirement, RecursionError):
        hint = "it is neither name==version nor a path or URL"
        raise LockError("this is not a requirement", place=line.place, hint=hint) from None


def _pinned(specifiers: SpecifierSet) -> Version | None:
    """The version of `==version`; None for other specifiers."""
    each = next(iter(specifiers), None)
    if each is None or len(specifiers) != 1 or each.operator not in ("==", "==="):
        return None
    try:
        return Version(each.version)
    except InvalidVersion:
        return None
