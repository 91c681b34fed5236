"""The sources of packages, and the named indexes among them, as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from fnmatch import fnmatchcase
from typing import cast

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.version import InvalidVersion

from hatch_docker.errors import ConfigError
from hatch_docker.support.dataclasses import dataclass, field, replace

KINDS = ("path", "workspace", "git", "url", "index")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedIndex:
    """A package index that a project names.

    `url` is empty for the default index of the project's tool. An `explicit` index is asked only for the packages that
    are mapped to it; packages that match one of the globs `include` are asked only of such indexes, and those that
    match one of `exclude` are not asked of it. A `flat` index is one directory or page of files.
    """

    name: str
    # It may contain a login.
    url: str = field(repr=False)
    default: bool = False
    explicit: bool = False
    flat: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One source of a package. `place` is its TOML path, for messages.

    `kind` is one of KINDS. `value` is by kind: an absolute path (of a directory, wheel or sdist; for `workspace` that
    of the member's directory), the URL of a repository, the URL of a file, or the URL of an index, which is empty for
    the default index of the project's tool; `index_name` is the name of that index. `marker`, `extra` and `group` limit
    where the source applies; each is empty if it does not. `reference` (of a repository) is `branch=main`, `tag=v1` or
    `rev=0123abc`, empty for the default branch. `problem` says why the source cannot be used, and what to do.
    """

    name: str
    kind: str
    # It may contain a login.
    value: str = field(repr=False)
    place: str = ""
    marker: str = ""
    extra: str = ""
    group: str = ""
    reference: str = ""
    subdirectory: str = ""
    index_name: str = ""
    editable: bool = False
    package: bool = True
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The sources of a project: `by_name` has those of each package (normalized name), in the order to try them.

    `tool` is the table that they come from: `tool.uv`, `tool.poetry` or `tool.pdm`, empty if there are none. `indexes`
    are the named indexes of the project, in their order.
    """

    by_name: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    tool: str = ""
    indexes: tuple[NamedIndex, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.by_name or self.indexes)

    def of(self, name: str) -> tuple[Source, ...]:
        """The sources of a package (normalized name), none if it is looked up in all indexes that are not explicit."""
        if found := self.by_name.get(name):
            return found
        matching = [each for each in self.indexes if _matches(name, each.include)]
        if not matching and any(_matches(name, each.exclude) for each in self.indexes):
            others = self.indexes if any(each.default for each in self.indexes) else (*self.indexes, _DEFAULT)
            matching = [each for each in others if not each.explicit and not _matches(name, each.exclude)]
        return tuple(
            Source(name=name, kind="index", value=each.url, index_name=each.name, place=each.place) for each in matching
        )

    @property
    def patterns(self) -> frozenset[str]:
        """The globs by which indexes choose packages."""
        return frozenset(glob for each in self.indexes for glob in (*each.include, *each.exclude))

    def matching(self, names: Iterable[str]) -> frozenset[str]:
        """Those of the packages (normalized names) whose indexes are chosen by a pattern."""
        return frozenset(name for name in names if _matches(name, self.patterns))

    def index_named(self, name: str) -> NamedIndex | None:
        """The index of this name, as its tool compares names."""
        return next((each for each in self.indexes if each.name == name), None)

    def check(self, names: Iterable[str]) -> None:
        """Raise ConfigError for all sources of these packages that cannot be used."""
        problems = [(each.place, each.problem) for name in sorted(set(names)) for each in self.of(name) if each.problem]
        if problems:
            raise ConfigError(problems)

    def applying(
        self, environment: Mapping[str, object], *, extras: Set[str] = frozenset(), groups: Set[str] = frozenset()
    ) -> Sources:
        """The sources that apply to an environment with these extras and groups (normalized names).

        Raises ConfigError if two of them apply to one package.
        """
        narrowed = {
            name: tuple(each for each in found if _applies(each, environment, extras, groups))
            for name, found in self.by_name.items()
        }
        _check_single(narrowed)
        return replace(self, by_name={name: found for name, found in narrowed.items() if found})


NO_SOURCES = Sources()
_DEFAULT = NamedIndex(name="", url="", default=True)


def _matches(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _applies(source: Source, environment: Mapping[str, object], extras: Set[str], groups: Set[str]) -> bool:
    if (source.extra and source.extra not in extras) or (source.group and source.group not in groups):
        return False
    if not source.marker:
        return True
    try:
        variables = {**environment, "extra": "", "extras": frozenset(), "dependency_groups": frozenset()}
        return Marker(source.marker).evaluate(cast("Mapping[str, str | Set[str]]", variables), context="requirement")
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, InvalidVersion, TypeError, KeyError):
        raise ConfigError([(source.place, f"the marker {source.marker!r} cannot be evaluated")]) from None


def _check_single(narrowed: Mapping[str, tuple[Source, ...]]) -> None:
    problems = []
    for found in narrowed.values():
        wanted = {(each.kind, each.value, each.reference, each.subdirectory) for each in found}
        if len(wanted) > 1:
            places = " and ".join(dict.fromkeys(each.place for each in found))
            shown = " and ".join(dict.fromkeys(_shown(each) for each in found))
            problems.append((places, f"two sources apply at once: {shown}; limit each with a marker"))
    if problems:
        raise ConfigError(problems)


def _shown(source: Source) -> str:
    limits = [f"{key} = {value!r}" for key in ("marker", "extra", "group") if (value := getattr(source, key))]
    kind = f"index {source.index_name}" if source.index_name else source.kind
    return f"{kind} ({', '.join(limits)})" if limits else kind
