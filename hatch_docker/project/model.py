"""A Python project: its core metadata as plain values, and its own distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from packaging.dependency_groups import resolve_dependency_groups
from packaging.errors import ExceptionGroup
from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hatch_docker.errors import ConfigError, HatchDockerError
from hatch_docker.index.download import FetchedFile
from hatch_docker.support.cache import Cache
from hatch_docker.support.progress import Progress

Distribution = Callable[[], AbstractContextManager[FetchedFile]]


def _no_distribution() -> AbstractContextManager[FetchedFile]:
    raise HatchDockerError("the project has no build backend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project at `root`.

    `version` is normalized, and empty if it is not known. `optional_dependencies` and `dependency_groups` are keyed by
    normalized name, `scripts` and `gui_scripts` by script. `revision` and `commit_time` (seconds since the epoch)
    describe the commit that is checked out, empty and None without one. `distribution` builds the project's own wheel,
    or its sdist if that must be compiled; the file exists until the end of the block.
    """

    root: Path
    name: str
    version: str
    requires_python: str = ""
    # A requirement by URL may contain a login.
    dependencies: tuple[str, ...] = field(default=(), repr=False)
    optional_dependencies: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    dependency_groups: Mapping[str, Sequence[Any]] = field(default_factory=dict, repr=False)
    scripts: Mapping[str, str] = field(default_factory=dict)
    gui_scripts: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    license: str = ""
    authors: tuple[str, ...] = ()
    urls: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""
    commit_time: int | None = None
    distribution: Distribution = field(default=_no_distribution, repr=False, compare=False)

    @property
    def normalized_name(self) -> str:
        """The normalized name (PEP 503)."""
        return str(canonicalize_name(self.name))

    def requirements(self, extras: Sequence[str], groups: Sequence[str]) -> tuple[Requirement, ...]:
        """The direct requirements with these extras and dependency groups (PEP 735), sorted.

        A requirement of the project itself, such as `app[a,b]`, is replaced by those of its extras, which its marker
        limits. Raises ConfigError for an invalid requirement.
        """
        texts = [*self.dependencies, *self._of_groups(groups), *(f"{self.name}[{extra}]" for extra in extras)]
        pending = [(text, frozenset[str]()) for text in texts]
        requirements: set[Requirement] = set()
        seen: set[tuple[str, frozenset[str]]] = set()
        while pending:
            text, outer = pending.pop()
            requirement = _parse(text)
            markers = outer | ({str(requirement.marker)} if requirement.marker else frozenset())
            if canonicalize_name(requirement.name) != self.normalized_name:
                if outer:
                    requirement.marker = Marker(" and ".join(f"({each})" for each in sorted(markers)))
                requirements.add(requirement)
                continue
            for extra in map(canonicalize_name, requirement.extras):
                if (extra, markers) not in seen:
                    seen.add((extra, markers))
                    pending += [(each, markers) for each in self.optional_dependencies.get(extra, ())]
        return tuple(sorted(requirements, key=str))

    def _of_groups(self, groups: Sequence[str]) -> list[str]:
        table: object = self.dependency_groups
        if not isinstance(table, Mapping):
            raise ConfigError([("dependency-groups", "it is not a table")])
        try:
            return [text for group in groups for text in resolve_dependency_groups(self.dependency_groups, group)]
        except ExceptionGroup as group_error:
            problems = [("dependency-groups", str(each)) for each in group_error.exceptions]
            raise ConfigError(problems) from None
        except (ValueError, LookupError, TypeError) as error:
            raise ConfigError([("dependency-groups", str(error))]) from None


class ProjectSource(Protocol):
    """How a session reads a project, whatever its build backend."""

    root: Path

    @property
    def table(self) -> object:
        """The project's table of configuration."""

    @property
    def name(self) -> str:
        """The project's name."""

    @property
    def directory(self) -> Path:
        """The directory that builds write to."""

    def check(self) -> None:
        """Raise ConfigError if the project cannot be read."""

    def version(self) -> str:
        """The project's version, empty if it is not known."""

    def read(self, version: str) -> Project:
        """The project's metadata, without its commit and its distribution."""

    def distribution(self, compiled: bool, cache: Cache, progress: Progress) -> AbstractContextManager[FetchedFile]:
        """Build the project's own wheel; its sdist if that is not pure, or if it must be compiled."""


def _parse(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ConfigError([("pyproject.toml", f"{text!r} is not a requirement: {error}")]) from None
