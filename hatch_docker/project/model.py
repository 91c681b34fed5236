"""The project as the build needs it: plain values, made by plugin.py out of Hatch's objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.dependency_groups import resolve_dependency_groups
from packaging.errors import ExceptionGroup
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hatch_docker.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project's core metadata and where it is.

    `optional_dependencies` and `dependency_groups` are by normalized name; `scripts` and `gui_scripts` by script.
    `revision` is the commit that is checked out, empty where there is none.
    """

    root: Path
    name: str
    version: str
    requires_python: str = ""
    dependencies: tuple[str, ...] = ()
    optional_dependencies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dependency_groups: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    gui_scripts: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    license: str = ""
    authors: tuple[str, ...] = ()
    urls: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""

    @property
    def normalized_name(self) -> str:
        """The name as the index and lock files have it (PEP 503)."""
        return str(canonicalize_name(self.name))

    def requirements(self, extras: Sequence[str], groups: Sequence[str]) -> tuple[Requirement, ...]:
        """What an image with these extras and dependency groups (PEP 735) asks for directly, sorted.

        What asks for extras of the project itself (`app[a,b]`) stands for their requirements. Raises ConfigError for
        what is no requirement.
        """
        pending = [*self.dependencies, *self._of_groups(groups), *(f"{self.name}[{extra}]" for extra in extras)]
        found: set[Requirement] = set()
        seen: set[str] = set()
        while pending:
            requirement = _parse(pending.pop())
            if canonicalize_name(requirement.name) != self.normalized_name:
                found.add(requirement)
                continue
            for extra in map(canonicalize_name, requirement.extras):
                pending += self.optional_dependencies.get(extra, ()) if extra not in seen else ()
                seen.add(extra)
        return tuple(sorted(found, key=str))

    def _of_groups(self, groups: Sequence[str]) -> list[str]:
        table: object = self.dependency_groups
        if not isinstance(table, Mapping):
            raise ConfigError([("dependency-groups", "it is not a table")])
        try:
            return [t for group in groups for t in resolve_dependency_groups(self.dependency_groups, group)]
        except ExceptionGroup as group_error:
            problems = [("dependency-groups", str(each)) for each in group_error.exceptions]
            raise ConfigError(problems) from None
        except (ValueError, LookupError, TypeError) as error:
            raise ConfigError([("dependency-groups", str(error))]) from None


def _parse(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ConfigError([("pyproject.toml", f"{text!r} is not a requirement: {error}")]) from None
