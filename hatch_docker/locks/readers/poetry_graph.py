"""The dependencies of Poetry's packages and projects (Poetry: dependency specification) as edges of a walk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from functools import partial

from packaging.specifiers import Specifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LockError
from hatch_docker.index.foreign_sources import poetry_specifiers
from hatch_docker.locks.readers.fields import Table, flag, holds, table, tables, text, texts
from hatch_docker.locks.readers.walk import Edge, Locked
from hatch_docker.support.dataclasses import dataclass

# The types of locked source that a dependency on a source accepts.
_KINDS = {"git": ("git",), "url": ("url",), "file": ("file",), "path": ("directory", "file")}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoetryPackage(Locked):
    """A package of a poetry.lock."""

    table: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What dependencies are read for: the target, active extras, and the names of active optional dependencies.

    `origin` is the package that has the dependencies, empty for the project.
    """

    target: TargetPython
    extras: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    origin: str = ""


def allows(constraint: str, version: Version) -> bool:
    """Whether a constraint of Poetry (`^1.2 || >=3,<4`) allows a version. Raises LockError if it is not valid."""
    return any(each.contains(version, prereleases=True) for each in _alternatives(constraint))


def allows_python(constraint: str, version: str) -> bool:
    """Whether a constraint allows a full version of Python: `3.11` means all versions 3.11.x."""
    return any(
        all(_of_python(each).contains(version, prereleases=True) for each in specifiers)
        for specifiers in _alternatives(constraint)
    )


def _alternatives(constraint: str) -> list[SpecifierSet]:
    exact = re.sub(r"(?<![<>=!~])=(?!=)", "==", constraint)
    try:
        return [poetry_specifiers(part) for part in re.split(r"\|\|?", exact)]
    except ValueError as error:
        raise LockError(str(error)) from None


def _of_python(specifier: Specifier) -> Specifier:
    short = specifier.operator in ("==", "!=") and specifier.version.count(".") < 2
    return Specifier(f"{specifier}.*") if short and not specifier.version.endswith("*") else specifier


def dependencies(listed: Table, scope: Scope) -> Iterator[Edge[PoetryPackage]]:
    """The edges of a table of dependencies that apply."""
    for key in listed:
        name = str(canonicalize_name(key))
        for entry in entries(listed, key):
            if key != "python" and _applies(name, entry, scope):
                yield Edge(
                    name=name,
                    accepts=partial(accepts, entry),
                    extras=frozenset(canonicalize_name(each) for each in texts(entry, "extras")),
                    origin=scope.origin,
                    shown=f"{key} {text(entry, 'version')}".strip(),
                )


def entries(listed: Table, key: str) -> Sequence[Table]:
    """The alternatives of one dependency, each as a table."""
    value = listed[key]
    if isinstance(value, str):
        return [{"version": value}]
    return tables(listed, key) if isinstance(value, list) else [table(listed, key)]


def _applies(name: str, entry: Table, scope: Scope) -> bool:
    if flag(entry, "optional") and name not in scope.optional:
        return False
    python, platform = text(entry, "python"), text(entry, "platform")
    return (
        holds(text(entry, "markers"), scope.target, scope.extras)
        and (not python or allows_python(python, scope.target.version))
        and (not platform or _allows_platform(platform, scope.target.environment["sys_platform"]))
    )


def _allows_platform(constraint: str, platform: str) -> bool:
    """Whether a constraint (`linux || darwin`, `!=win32`) allows a platform."""
    return any(
        all((each[2:] != platform) if each.startswith("!=") else (each.lstrip("=") == platform) for each in part)
        for part in (re.split(r"[,\s]+", each.strip()) for each in re.split(r"\|\|?", constraint))
    )


def accepts(entry: Table, package: PoetryPackage) -> bool:
    """Whether a package is one that a dependency accepts."""
    source = table(package.table, "source")
    for key, kinds in _KINDS.items():
        if key in entry:
            return text(source, "type") in kinds
    if "source" in entry and text(source, "reference").lower() != text(entry, "source").lower():
        return False
    return allows(text(entry, "version", "*"), package.version)


def names_of_extras(extras: Table, active: Set[str]) -> frozenset[str]:
    """The names of the optional dependencies that active extras stand for, in a table of extras."""
    lines = [line for extra in extras if canonicalize_name(extra) in active for line in texts(extras, extra)]
    return frozenset(canonicalize_name(re.split(r"[\s\[(;<>=!~@]", line.strip(), maxsplit=1)[0]) for line in lines)
