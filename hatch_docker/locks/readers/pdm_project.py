"""A project as PDM sees it: the hash of it in its lock, and the requirements that it overrides."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from hatch_docker.locks.readers.fields import Table, name_of, table, tables, text, version_of
from hatch_docker.locks.readers.freshness import differs, lines_of, unlocked_of


def pdm_table(document: Table) -> Table:
    """`[tool.pdm]`, empty without one."""
    return table(table(document, "tool"), "pdm")


def overridden_names(document: Table) -> set[str]:
    """The names of the packages whose requirements PDM overrides or excludes (`[tool.pdm.resolution]`)."""
    resolution = table(pdm_table(document), "resolution")
    excludes = resolution.get("excludes", [])
    named = [*table(resolution, "overrides"), *(excludes if isinstance(excludes, list) else [])]
    return {str(canonicalize_name(each)) for each in named if isinstance(each, str)}


def changes_of(document: Table, lock: Table) -> list[str]:
    """What changed in a project since it was locked, as a phrase. Locks of workspaces have another hash."""
    algorithm, _, locked = text(table(lock, "metadata"), "content_hash").partition(":")
    if not document or algorithm != "sha256" or "workspace" in pdm_table(document):
        return []
    if locked in (content_hash(document), _old_hash(document)):
        return []
    versions: dict[str, list[Version]] = {}
    for package in tables(lock, "package"):
        versions.setdefault(name_of(package), []).append(version_of(package))
    lines = [*lines_of(document), *(line for listed in _dev_groups(document).values() for line in listed)]
    return differs("pyproject.toml", unlocked_of(lines, versions, overridden_names(document)))


def content_hash(document: Table) -> str:
    """The hash that PDM writes (PDM: PyProject.content_hash)."""
    return _hash(document, {"resolution": table(pdm_table(document), "resolution")}, _dev_groups(document))


def _old_hash(document: Table) -> str:
    """The hash that PDM wrote before version 2.8, which does not know dependency groups (PEP 735)."""
    pdm = pdm_table(document)
    overrides = table(table(pdm, "resolution"), "overrides")
    return _hash(document, {"overrides": overrides}, table(pdm, "dev-dependencies"))


def _hash(document: Table, resolution: Table, groups: Table) -> str:
    project = table(document, "project")
    content = {
        "sources": pdm_table(document).get("source", []),
        "dependencies": project.get("dependencies", []),
        "dev-dependencies": groups,
        "optional-dependencies": project.get("optional-dependencies", {}),
        "requires-python": project.get("requires-python", ""),
        **resolution,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _dev_groups(document: Table) -> dict[str, list[Any]]:
    """The dependency groups, with PDM's own groups for development."""
    groups: dict[str, list[Any]] = {}
    for listed in (table(document, "dependency-groups"), table(pdm_table(document), "dev-dependencies")):
        for name, lines in listed.items():
            if isinstance(lines, list):
                groups.setdefault(str(canonicalize_name(name)), []).extend(lines)
    return groups
