"""Is a uv.lock still the project's? It keeps the requirements that it was made from, as `package.metadata`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from hatch_docker.errors import LockError
from hatch_docker.locks.model import InstallRequest, evaluate

Table = Mapping[str, Any]

# A requirement as both sides can write it: name, extras and specifier, which is None for a source of its own.
Key = tuple[str, tuple[str, ...], SpecifierSet | None]

# Keys of a locked requirement that say where it comes from, set by its URL or by tool.uv.sources.
_SOURCE_KEYS = ("url", "git", "path", "directory", "editable", "virtual")


def check_current(metadata: Table | None, wanted: InstallRequest) -> None:
    """Raise LockError when the project's requirements are not those that were locked, as far as the target sees.

    `metadata` is that of the project's own package in the lock; a lock without it cannot be compared. May raise what
    parsing and evaluating damaged values raises.
    """
    if metadata is None:
        return
    locked = set(_locked(metadata, wanted))
    direct = {name for name, _, specifier in locked if specifier is None}
    asked = {
        _key(each, direct)
        for each in wanted.requirements
        if canonicalize_name(each.name) != wanted.project and (not each.marker or evaluate(each.marker, wanted.target))
    }
    changes = [f"requires {_shown(key)}, which is not locked" for key in sorted(asked - locked, key=_shown)]
    changes += [f"no longer requires {_shown(key)}" for key in sorted(locked - asked, key=_shown)]
    if changes:
        raise LockError(f"the lock is stale: the project {'; '.join(changes)}", hint="refresh it: uv lock")


def _locked(metadata: Table, wanted: InstallRequest) -> Iterator[Key]:
    """The locked requirements that hold for the target and the chosen extras and groups."""
    groups = metadata.get("requires-dev", {})
    entries = [*metadata.get("requires-dist", []), *(each for group in wanted.groups for each in groups.get(group, []))]
    extras = _with_own_extras(entries, wanted)
    for entry in entries:
        name = canonicalize_name(entry["name"])
        if name != wanted.project and _holds(entry, extras, wanted):
            direct = any(key in entry for key in _SOURCE_KEYS)
            specifier = None if direct else SpecifierSet(entry.get("specifier", ""))
            yield name, tuple(sorted(entry.get("extras", []))), specifier


def _with_own_extras(entries: Sequence[Table], wanted: InstallRequest) -> frozenset[str]:
    """The chosen extras, and those that they or groups ask of the project itself (`demo[postgres]`)."""
    extras = wanted.extras
    while True:
        own = [each for each in entries if each["name"] == wanted.project and _holds(each, extras, wanted)]
        more = extras.union(*(each.get("extras", []) for each in own))
        if more == extras:
            return extras
        extras = more


def _holds(entry: Table, extras: Set[str], wanted: InstallRequest) -> bool:
    marker = entry.get("marker")
    return not marker or any(evaluate(Marker(marker), wanted.target, extra=extra) for extra in ("", *extras))


def _key(requirement: Requirement, direct: Set[str]) -> Key:
    name = canonicalize_name(requirement.name)
    extras = tuple(sorted(canonicalize_name(extra) for extra in requirement.extras))
    return name, extras, None if requirement.url or name in direct else requirement.specifier


def _shown(key: Key) -> str:
    name, extras, specifier = key
    return name + (f"[{','.join(extras)}]" if extras else "") + str(specifier or "")
