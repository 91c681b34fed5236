"""A project as Poetry sees it: what it requires with extras and groups, and the hash of that in its lock."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from hatch_docker.locks.model import InstallRequest
from hatch_docker.locks.readers.fields import Table, table, tables, text, texts, version_of
from hatch_docker.locks.readers.freshness import differs, lines_of, unlocked_of
from hatch_docker.locks.readers.poetry_graph import (
    PoetryPackage,
    Scope,
    accepts,
    dependencies,
    entries,
    names_of_extras,
)
from hatch_docker.locks.readers.walk import Edge, requirement_edges

# The keys of [tool.poetry] that are hashed: the first ones even if they are not set (poetry: Locker).
_ALWAYS = ("dependencies", "source", "extras", "dev-dependencies")
_HASHED = (*_ALWAYS, "group")
_HASHED_OF_PROJECT = ("requires-python", "dependencies", "optional-dependencies")
# Before this version, dependency groups (PEP 735) were not hashed.
_HASHES_GROUPS = Version("2.3.0")
_GROUPS_IN_LOCK = Version("2.1")


def poetry_table(document: Table) -> Table:
    """`[tool.poetry]`, empty without one."""
    return table(table(document, "tool"), "poetry")


def known_groups(document: Table) -> set[str]:
    """The normalized names of all groups of dependencies, without the main one."""
    poetry = poetry_table(document)
    legacy = ["dev"] if "dev-dependencies" in poetry else []
    names = [*table(document, "dependency-groups"), *table(poetry, "group"), *legacy]
    return {str(canonicalize_name(each)) for each in names}


def roots(document: Table, request: InstallRequest) -> Iterator[Edge[PoetryPackage]]:
    """What the project requires with the chosen extras and groups."""
    own = [each for each in request.requirements if canonicalize_name(each.name) != request.project]
    yield from requirement_edges(own, request.target)
    poetry = poetry_table(document)
    optional = names_of_extras(table(poetry, "extras"), request.extras)
    scope = Scope(target=request.target, extras=request.extras, optional=optional)
    named = {canonicalize_name(each.name) for each in own}
    for edge in dependencies(table(poetry, "dependencies"), scope):
        if edge.name in named or not _has_requirements(document):
            yield edge
    for group in sorted(_with_included(poetry, request.groups)):
        for listed in _listed_in(poetry, group):
            yield from dependencies(listed, scope)


def _has_requirements(document: Table) -> bool:
    """Whether `[project]` has the requirements: then those of Poetry's main group only add to them."""
    project = table(document, "project")
    return "dependencies" in project or bool(project.get("optional-dependencies"))


def _with_included(poetry: Table, groups: frozenset[str]) -> set[str]:
    """Groups, with those that they include (`include-groups`)."""
    included = {
        str(canonicalize_name(name)): {
            str(canonicalize_name(each)) for each in texts(_group(poetry, name), "include-groups")
        }
        for name in table(poetry, "group")
    }
    found: set[str] = set()
    pending = list(groups)
    while pending:
        if (name := pending.pop()) not in found:
            found.add(name)
            pending += included.get(name, ())
    return found


def _group(poetry: Table, name: str) -> Table:
    return table(table(poetry, "group"), name)


def _listed_in(poetry: Table, group: str) -> Iterator[Table]:
    """The tables with the dependencies of a group."""
    for name in table(poetry, "group"):
        if canonicalize_name(name) == group:
            yield table(_group(poetry, name), "dependencies")
    if group == "dev":
        yield table(poetry, "dev-dependencies")


def changes_of(document: Table, lock: Table, header: str) -> list[str]:
    """What changed in a project since it was locked, as a phrase. `header` is the first line of the lock."""
    metadata = table(lock, "metadata")
    locked = text(metadata, "content-hash")
    if not document or not locked or locked in _content_hashes(document, text(metadata, "lock-version"), header):
        return []
    packages = [
        PoetryPackage(name=str(canonicalize_name(text(each, "name"))), version=version_of(each), key=number, table=each)
        for number, each in enumerate(tables(lock, "package"))
    ]
    versions: dict[str, list[Version]] = {}
    for package in packages:
        versions.setdefault(package.name, []).append(package.version)
    poetry = poetry_table(document)
    parts = [table(poetry, "dependencies"), table(poetry, "dev-dependencies")]
    parts += [table(_group(poetry, name), "dependencies") for name in table(poetry, "group")]
    others = [f"{name} {text(entry, 'version')}".strip() for part in parts for name, entry in _unlocked(part, packages)]
    return differs("pyproject.toml", [*unlocked_of(lines_of(document), versions), *others])


def _unlocked(listed: Table, packages: list[PoetryPackage]) -> Iterator[tuple[str, Table]]:
    """The dependencies that no locked package satisfies."""
    for key in listed:
        named = [package for package in packages if package.name == canonicalize_name(key)]
        for entry in entries(listed, key) if key != "python" else ():
            if not any(accepts(entry, package) for package in named):
                yield key, entry


def _content_hashes(document: Table, lock_version: str, header: str) -> set[str]:
    """The hashes that a lock of the project as it is may have, by the version of Poetry that wrote it."""
    found = {content_hash(document)}
    if (written := re.search(r"Poetry ([^ ]+)", header)) and _is_before(written[1], _HASHES_GROUPS):
        found.add(content_hash({key: value for key, value in document.items() if key != "dependency-groups"}))
    if _is_before(lock_version, _GROUPS_IN_LOCK):
        # Poetry 1 knows nothing but its own table.
        found.add(content_hash({"tool": document.get("tool", {})}))
    return found


def _is_before(version: str, other: Version) -> bool:
    try:
        return Version(version) < other
    except InvalidVersion:
        return False


def content_hash(document: Table) -> str:
    """The hash that Poetry writes (Poetry: Locker)."""
    project = table(document, "project")
    of_project = {key: project[key] for key in _HASHED_OF_PROJECT if key in project}
    groups = table(document, "dependency-groups")
    poetry = poetry_table(document)
    hashed = {key: poetry[key] for key in _HASHED if key in poetry}
    if of_project or groups:
        content: dict[str, Any] = {"tool": {"poetry": hashed}}
        content |= {"project": of_project} if of_project else {}
        content |= {"dependency-groups": groups} if groups else {}
    else:
        content = dict.fromkeys(_ALWAYS) | hashed
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
