"""Typed access to the values of a lock that another tool wrote: a value of another type raises LockError."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LockError
from hatch_docker.index.credentials import expand_login
from hatch_docker.locks.model import MARKER_ERRORS, evaluate
from hatch_docker.support.patterns import regex

Table = Mapping[str, Any]

_VARIABLE = regex(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")
_EXTRA = regex(r"\bextra\s*(==|!=)\s*(?P<quote>['\"])(?P<name>[^'\"]*)(?P=quote)")


@contextlib.contextmanager
def reading(path: Path, refresh: str) -> Iterator[None]:
    """Give errors in the block the lock's path and, if they have no other hint, the command that makes it again."""
    try:
        yield
    except LockError as error:
        error.place = error.place or str(path)
        error.hint = error.hint or f"make it again: {refresh}"
        raise
    except RecursionError:
        raise LockError("the lock is nested too deeply", place=str(path), hint=f"make it again: {refresh}") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise LockError(
            f"a path or URL of the lock is not valid: {why}", place=str(path), hint=f"make it again: {refresh}"
        ) from None


def text(of: Table, key: str, default: str = "") -> str:
    """The string `key` of a table."""
    value = of.get(key, default)
    if not isinstance(value, str):
        raise _wrong(of, key, "a string")
    return value


def flag(of: Table, key: str) -> bool:
    """The boolean `key` of a table, false without one."""
    value = of.get(key, False)
    if not isinstance(value, bool):
        raise _wrong(of, key, "a boolean")
    return value


def texts(of: Table, key: str) -> list[str]:
    """The array of strings `key` of a table."""
    value = of.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _wrong(of, key, "an array of strings")
    return value


def table(of: Table, key: str) -> Table:
    """The table `key` of a table, empty without one."""
    value = of.get(key, {})
    if not isinstance(value, Mapping):
        raise _wrong(of, key, "a table")
    return value


def tables(of: Table, key: str) -> Sequence[Table]:
    """The array of tables `key` of a table."""
    value = of.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise _wrong(of, key, "an array of tables")
    return value


def name_of(package: Table) -> str:
    """The normalized name of a package."""
    if not (name := text(package, "name")):
        raise LockError("a package of the lock has no name")
    return str(canonicalize_name(name))


def version_of(package: Table) -> Version:
    """The version of a package, also of one that is written `==1.0`."""
    written = text(package, "version")
    try:
        return Version(written.removeprefix("=="))
    except InvalidVersion:
        raise LockError(f"{_whose(package)}the version {written!r} is not valid (PEP 440)") from None


def hashes_of(files: Sequence[Table]) -> frozenset[str]:
    """The digests (`sha256:…`) of files."""
    return frozenset(text(file, "hash").lower() for file in files) - {""}


def holds(marker: str, target: TargetPython, extras: Set[str] = frozenset()) -> bool:
    """Whether a marker holds for the target; an empty one does. `extra == "x"` asks whether `x` is one of `extras`."""
    if not marker:
        return True
    # Markers of core metadata have one extra at a time, those of lock files the set of them (PEP 751).
    as_set = _EXTRA.sub(lambda match: f"'{match['name']}' {'in' if match[1] == '==' else 'not in'} extras", marker)
    try:
        return evaluate(Marker(as_set), target, extras=extras)
    except InvalidMarker:
        raise LockError(f"the marker {marker!r} is not valid (PEP 508)") from None
    except MARKER_ERRORS:
        raise LockError(f"the marker {marker!r} cannot be evaluated") from None


def expanded(url: str) -> str:
    """A URL with the environment variables that it names, `${NAME}` or `$NAME`; unknown ones stay as they are."""

    def expand(part: str) -> str:
        return _VARIABLE.sub(lambda match: os.environ.get(match[1] or match[2], match[0]), part)

    return expand_login(url, expand)


def _wrong(of: Table, key: str, expected: str) -> LockError:
    return LockError(f"the lock is damaged: {_whose(of)}{key!r} is not {expected}")


def _whose(of: Table) -> str:
    name = of.get("name")
    return f"{name}: " if isinstance(name, str) else ""
