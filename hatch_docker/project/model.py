"""A Python project: its core metadata as plain values, and what it installs of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from packaging.dependency_groups import resolve_dependency_groups
from packaging.errors import ExceptionGroup
from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hatch_docker.errors import ConfigError, HatchDockerError
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.progress import Progress

if TYPE_CHECKING:
    from hatch_docker.compiling.dist_info import BuiltMetadata


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFiles:
    """The files of a project without a build backend, which are copied as they are.

    `paths` are relative to `root` and to the image's /app, with slashes, sorted.
    """

    root: Path
    paths: tuple[str, ...]


# What a project installs of its own: its wheel, or its sdist if that must be compiled; its directory, to build one of
# these from when the target is known; or its files.
Own: TypeAlias = FetchedFile | Artifact | SourceFiles
Distribution: TypeAlias = Callable[[], AbstractContextManager[Own]]
# Makes the metadata of a source tree; the second argument is its Requires-Python, as far as that is known.
BuildMetadata: TypeAlias = "Callable[[Artifact, str], BuiltMetadata]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What a project's metadata and distribution are made of: its files, and what Git tracks of it if `is_tracked`.

    `files` lists files, by absolute path, that it may have although they look like no sources. `copies` lists those
    whose contents are members of the project's wheel, and shape nothing else of it but its RECORD: the members' paths.
    Both are called after the wheel was built, and raise what reading raises.
    """

    is_tracked: bool = False
    files: Callable[[], Collection[str]] = tuple
    copies: Callable[[], Mapping[str, str]] = dict


def _no_distribution() -> AbstractContextManager[Own]:
    raise HatchDockerError("the project has nothing to install")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project at `root`.

    `version` is normalized, and empty if it is not known before the project's wheel is, or if `has_version` is False.
    A project that is not named (`is_named`) has the name of its directory, which a package may have, too.
    `optional_dependencies` and `dependency_groups` are keyed by normalized name, `scripts` and `gui_scripts` by script.
    `revision` and `commit_time` (seconds since the epoch) describe the commit that is checked out, empty and None
    without one. Without a backend (`has_backend`) its files are copied, and `start` is the command that starts one of
    them, None if there is not exactly one.
    `sdist` is the file that its wheel is built from, if one was given. `distribution` gives what the project installs
    of its own, which exists until the end of the block.
    """

    root: Path
    name: str
    version: str
    has_version: bool = True
    is_named: bool = True
    has_backend: bool = True
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
    start: tuple[str, ...] | None = None
    sdist: Artifact | None = None
    distribution: Distribution = field(default=_no_distribution, repr=False, compare=False)

    @property
    def normalized_name(self) -> str:
        """The normalized name (PEP 503)."""
        return str(canonicalize_name(self.name))

    @property
    def package_name(self) -> str:
        """The normalized name among those of packages; empty if the project is not named."""
        return self.normalized_name if self.is_named else ""

    def requirements(self, extras: Sequence[str], groups: Sequence[str]) -> tuple[Requirement, ...]:
        """The direct requirements with these extras and dependency groups (PEP 735), sorted.

        A requirement of the project itself, such as `app[a,b]`, is replaced by those of its extras, which its marker
        limits. Raises ConfigError for an invalid requirement.
        """
        optional = self.optional_dependencies
        own = [text for extra in extras for text in optional.get(canonicalize_name(extra), ())]
        texts = [*self.dependencies, *self._of_groups(groups), *own]
        pending = [(text, frozenset[str]()) for text in texts]
        requirements: set[Requirement] = set()
        seen: set[tuple[str, frozenset[str]]] = set()
        while pending:
            text, outer = pending.pop()
            requirement = _parse(text)
            markers = outer | ({str(requirement.marker)} if requirement.marker else frozenset())
            if canonicalize_name(requirement.name) != self.package_name:
                if outer:
                    requirement.marker = Marker(" and ".join(f"({each})" for each in sorted(markers)))
                requirements.add(requirement)
                continue
            for extra in map(canonicalize_name, requirement.extras):
                if (extra, markers) not in seen:
                    seen.add((extra, markers))
                    pending += [(each, markers) for each in optional.get(extra, ())]
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
    def table(self) -> tuple[str, object]:
        """The name of the project's table of configuration, and its value."""

    @property
    def directory(self) -> Path:
        """The directory that builds write to."""

    @property
    def reads(self) -> Reads | None:
        """What metadata and distribution are made of; None if it may be more, since a backend runs code."""

    def check(self) -> None:
        """Raise ConfigError if the project cannot be read."""

    def prepare(self, build: BuildMetadata) -> None:
        """Called before the metadata is read: a project whose metadata only a build gives calls `build`."""

    def version(self) -> str:
        """The project's version; empty if it is not known before the project's wheel is."""

    def read(self, version: str) -> Project:
        """The project's metadata, without its commit and its distribution."""

    def distribution(self, compiled: bool, cache: Cache, progress: Progress) -> AbstractContextManager[Own]:
        """Give what the project installs of its own; `compiled` says that its wheel must be built in the builder."""


def _parse(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ConfigError([("pyproject.toml", f"{text!r} is not a requirement: {error}")]) from None
