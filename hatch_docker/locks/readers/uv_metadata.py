"""Check that a uv.lock was made from the project's requirements, which it has as `package.metadata`."""

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

# A requirement in comparable form: name, extras, and specifier, which is None if it has a source.
Key = tuple[str, tuple[str, ...], SpecifierSet | None]

# The keys for the source of a locked requirement, which its URL or tool.uv.sources sets.
_SOURCE_KEYS = ("url", "git", "path", "directory", "editable", "virtual")


def check_current(metadata: Table | None, request: InstallRequest) -> None:
    """Raise LockError if the project's requirements for the target differ from the locked ones.

    `metadata` is that of the project's own package in the lock; without it nothing is checked. May raise errors of
    parsing and evaluating damaged values.
    """
    if metadata is None:
        return
    locked = set(_locked(metadata, request))
    direct = {name for name, _, specifier in locked if specifier is None}
    requirements = [each for each in request.requirements if canonicalize_name(each.name) != request.project]
    current = {_key(each, direct) for each in requirements if not each.marker or evaluate(each.marker, request.target)}
    changes = [f"requires {_shown(key)}, which is not locked" for key in sorted(current - locked, key=_shown)]
    changes += [f"no longer requires {_shown(key)}" for key in sorted(locked - current, key=_shown)]
    if changes:
        raise LockError(f"the lock is stale: the project {'; '.join(changes)}", hint="refresh it: uv lock")


def _locked(metadata: Table, request: InstallRequest) -> Iterator[Key]:
    """The locked requirements that apply to the target and the chosen extras and groups."""
    groups = metadata.get("requires-dev", {})
    entries = [
        *metadata.get("requires-dist", []),
        *(each for group in request.groups for each in groups.get(group, [])),
    ]
    extras = _with_own_extras(entries, request)
    for entry in entries:
        name = canonicalize_name(entry["name"])
        if name != request.project and _holds(entry, extras, request):
            direct = any(key in entry for key in _SOURCE_KEYS)
            specifier = None if direct else SpecifierSet(entry.get("specifier", ""))
            yield name, tuple(sorted(entry.get("extras", []))), specifier


def _with_own_extras(entries: Sequence[Table], request: InstallRequest) -> frozenset[str]:
    """The chosen extras, and those of the project itself that these or groups require (`demo[postgres]`)."""
    extras = request.extras
    while True:
        own = [each for each in entries if each["name"] == request.project and _holds(each, extras, request)]
        more = extras.union(*(each.get("extras", []) for each in own))
        if more == extras:
            return extras
        extras = more


def _holds(entry: Table, extras: Set[str], request: InstallRequest) -> bool:
    marker = entry.get("marker")
    return not marker or any(evaluate(Marker(marker), request.target, extra=extra) for extra in ("", *extras))


def _key(requirement: Requirement, direct: Set[str]) -> Key:
    name = canonicalize_name(requirement.name)
    extras = tuple(sorted(canonicalize_name(extra) for extra in requirement.extras))
    return name, extras, None if requirement.url or name in direct else requirement.specifier


def _shown(key: Key) -> str:
    name, extras, specifier = key
    return name + (f"[{','.join(extras)}]" if extras else "") + str(specifier or "")
