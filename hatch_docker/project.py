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

        An extra of the project that names other extras of it (`app[a,b]`) is followed. Raises ConfigError for what is
        no requirement.
        """
        texts = [*self.dependencies]
        seen: set[str] = set()
        pending = [str(canonicalize_name(extra)) for extra in extras]
        while pending:
            extra = pending.pop()
            if extra in seen:
                continue
            seen.add(extra)
            for text in self.optional_dependencies.get(extra, ()):
                requirement = _parse(text, f"project.optional-dependencies.{extra}")
                if canonicalize_name(requirement.name) == self.normalized_name:
                    pending += [str(canonicalize_name(each)) for each in requirement.extras]
                else:
                    texts.append(text)
        texts += self._of_groups(groups)
        return tuple(sorted({_parse(text, "project.dependencies") for text in texts}, key=str))

    def _of_groups(self, groups: Sequence[str]) -> list[str]:
        try:
            return [t for group in groups for t in resolve_dependency_groups(self.dependency_groups, group)]
        except ExceptionGroup as group_error:
            problems = [("dependency-groups", str(each)) for each in group_error.exceptions]
            raise ConfigError(problems) from None
        except (ValueError, LookupError, TypeError) as error:
            raise ConfigError([("dependency-groups", str(error))]) from None


def _parse(text: str, place: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ConfigError([(place, f"{text!r} is not a requirement: {error}")]) from None
