"""What changed in a project since another tool locked it, by the hash that the tool wrote into its lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from hatch_docker.locks.model import InstallRequest, read_toml
from hatch_docker.support.redaction import redact_text

Versions = Mapping[str, Sequence[Version]]


def read_project(lock: Path, request: InstallRequest) -> Mapping[str, Any]:
    """The document of the pyproject.toml that a lock belongs to: the one beside it, else that of the project.

    It is empty if there is none. Raises LockError if it cannot be read.
    """
    for folder in (lock.parent, request.root):
        if (path := folder / "pyproject.toml").is_file():
            return read_toml(path)
    return {}


def differs(file: str, unlocked: Iterable[str]) -> list[str]:
    """The phrase for a hash that differs; `unlocked` are requirements that are not locked."""
    listed = "; ".join(dict.fromkeys(unlocked))
    return [f"the content hash of {file} differs" + (f": it requires {listed}, which is not locked" if listed else "")]


def unlocked_of(lines: Iterable[object], versions: Versions, ignored: Set[str] = frozenset()) -> list[str]:
    """The requirements (PEP 508) among `lines` that none of the locked versions satisfies.

    Other values are skipped, as are requirements of the packages `ignored` (normalized names).
    """
    found = []
    for line in lines:
        try:
            requirement = Requirement(line) if isinstance(line, str) else None
        except (InvalidRequirement, RecursionError):
            continue
        if requirement is None or requirement.url or canonicalize_name(requirement.name) in ignored:
            continue
        if not _is_locked(requirement, versions):
            found.append(redact_text(str(requirement)))
    return found


def _is_locked(requirement: Requirement, versions: Versions) -> bool:
    listed = versions.get(str(canonicalize_name(requirement.name)), ())
    return any(requirement.specifier.contains(version, prereleases=True) for version in listed)


def lines_of(document: Mapping[str, Any]) -> list[object]:
    """All requirements in `[project]` and `[dependency-groups]`, with those of extras and groups."""
    project = document.get("project")
    project = project if isinstance(project, Mapping) else {}
    parts = [project.get("dependencies")]
    for table in (project.get("optional-dependencies"), document.get("dependency-groups")):
        parts += table.values() if isinstance(table, Mapping) else ()
    return [line for part in parts if isinstance(part, list) for line in part]
