"""Control files (Debian policy 5.1) and the dependency fields in them (policy 7.1)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping

from hatch_docker.debian.version import compare, key
from hatch_docker.errors import DebianError
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

_FIELD = regex(r"([!-,.-9;-~][!-9;-~]*):(.*)")
_COMPARES: Mapping[str, Callable[[int, int], bool]] = {
    "<<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    ">>": operator.gt,
    # Obsolete operators of old packages, which mean this (policy 7.1).
    "<": operator.le,
    ">": operator.ge,
}
NAME = regex(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
_RELATION = regex(
    rf"({NAME.pattern})(?::([a-z0-9][a-z0-9-]*))?\s*(?:\(\s*(<<|<=|=|>=|>>|<|>)\s*([^\s()]+)\s*\))?",
)


class Paragraph(Mapping[str, str]):
    """The fields of one paragraph in their order; names are case-insensitive.

    A value of several lines keeps them, without the space at the start of each.
    """

    __slots__ = ("_fields", "_names")

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._names = {name.lower(): name for name in fields}
        self._fields = {name.lower(): value for name, value in fields.items()}

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names.values())

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields

    def __repr__(self) -> str:
        return f"Paragraph({dict(self)!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One package in a dependency field: `name:architecture (operator version)`.

    Absent parts are empty. `architecture` is a qualifier: `any`, `native` or the name of an architecture.
    """

    name: str
    architecture: str = ""
    operator: str = ""
    version: str = ""

    def allows(self, version: str) -> bool:
        """Whether a version satisfies the relation. Raises DebianError for an invalid version."""
        return not self.operator or _COMPARES[self.operator](compare(version, self.version), 0)

    def __str__(self) -> str:
        name = f"{self.name}:{self.architecture}" if self.architecture else self.name
        return f"{name} ({self.operator} {self.version})" if self.operator else name


Alternatives = tuple[Relation, ...]


def paragraphs(text: str, *, place: str = "") -> Iterator[Paragraph]:
    """Parse the paragraphs of a control file, without comments.

    `place` names the file in messages. Raises DebianError for lines that are not fields, and for repeated fields.
    """
    fields: dict[str, list[str]] = {}
    names: set[str] = set()
    lines: list[str] = []
    # splitlines would also end lines at characters such as form feeds.
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.rstrip(" \t\r")
        if line.startswith("#"):
            continue
        if not line:
            if fields:
                yield _paragraph(fields)
            fields, names, lines = {}, set(), []
        elif line[0] in " \t" and fields:
            lines.append(line[1:])
        else:
            field = _FIELD.fullmatch(line)
            if field is None:
                raise DebianError(f"line {number} is not a field of a control file: {line[:80]!r}", place=place)
            name = field[1]
            if name.lower() in names:
                raise DebianError(f"line {number} has the field {name!r} a second time", place=place)
            names.add(name.lower())
            lines = fields[name] = [field[2].lstrip(" \t")]
    if fields:
        yield _paragraph(fields)


def paragraph(text: str, *, place: str = "") -> Paragraph:
    """The only paragraph of a control file. Raises DebianError if it does not have exactly one."""
    parsed = list(paragraphs(text, place=place))
    if len(parsed) != 1:
        raise DebianError(f"has {len(parsed)} paragraphs instead of one", place=place)
    return parsed[0]


def _paragraph(fields: Mapping[str, list[str]]) -> Paragraph:
    return Paragraph({name: "\n".join(lines) for name, lines in fields.items()})


@functools.lru_cache(maxsize=1 << 12)
def relations(field: str) -> tuple[Alternatives, ...]:
    """Parse a dependency field: each item of the result has to be satisfied by one of its alternatives.

    Raises DebianError for invalid relations, also for architectures in brackets, which only source packages may have.
    """
    return tuple(tuple(map(_relation, each.split("|"))) for each in field.split(",") if each.strip())


def _relation(text: str) -> Relation:
    match = _RELATION.fullmatch(text.strip())
    if match is None:
        raise DebianError(f"{text.strip()[:80]!r} is not a relation to a package")
    name, architecture, comparison, version = match.groups("")
    if version:
        key(version)
    return Relation(name=name, architecture=architecture, operator=comparison, version=version)
