"""The request that locks are read for, and functions for readers: files, markers, file names."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.pylock import Pylock
from packaging.requirements import Requirement
from packaging.utils import parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import HatchDockerError, LockError
from hatch_docker.index.sources import NO_SOURCES, Source, Sources
from hatch_docker.support import toml
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.numbers import has_long_number
from hatch_docker.support.patterns import regex
from hatch_docker.support.regular import read_regular
from hatch_docker.support.scratch import temporary_directory

# The table `tool.hatch-docker` of a Pylock (PyPA: pylock.toml, `tool`).
Record = Mapping[str, Any]

# The lock that `hatch-docker lock` writes.
OWN_LOCK = "pylock.docker.toml"
# The first line of a conflict that Git could not merge.
_CONFLICT = regex(r"^<<<<<<< ", re.MULTILINE)
# Errors of evaluating a valid marker.
MARKER_ERRORS = (UndefinedComparison, UndefinedEnvironmentName, InvalidVersion, TypeError, KeyError)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallRequest:
    """The parts of a project to install, and the target Python.

    `project` is the project's normalized name, `root` its directory, and `requires_python` its bound on Python.
    `requirements` are its own with those of the chosen `extras` and dependency `groups` (normalized names). `sources`
    says where the project takes packages from, other than the indexes; `index_url` is its own index, without a login,
    and `environment_index` that of the environment, which replaces it. `requirement_files` are requirements files
    without hashes, which are resolved together with the requirements; `included_files` are those that they include.
    `universal` says that the image is made for several platforms, which have one lock.
    """

    project: str
    target: TargetPython
    root: Path = Path()
    requires_python: str = ""
    sources: Sources = NO_SOURCES
    index_url: str = ""
    environment_index: str = ""
    requirement_files: tuple[Path, ...] = ()
    included_files: tuple[Path, ...] = ()
    # A requirement by URL may contain a login.
    requirements: Sequence[Requirement] = field(default=(), repr=False)
    extras: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    universal: bool = False

    @property
    def scope(self) -> InstallRequest:
        """The request as far as a lock's text is read for it: without what the project says besides."""
        return InstallRequest(project=self.project, target=self.target, extras=self.extras, groups=self.groups)

    def chosen_sources(self, names: Iterable[str] = ()) -> list[Source]:
        """The sources that apply to the chosen extras and groups, sorted by name; also those of the packages `names`,
        by the patterns of indexes.
        """
        every = [each for name in sorted({*self.sources.by_name, *names}) for each in self.sources.of(name)]
        return [
            each
            for each in every
            if (not each.extra or each.extra in self.extras) and (not each.group or each.group in self.groups)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the lock's tool was configured to lock in spite of the packages' metadata. All names are normalized.

    Requirements for one of `names` are ignored (uv: override-dependencies, exclude-dependencies), and so are the
    requirements of `packages` (uv: dependency-metadata).
    """

    names: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()

    def __or__(self, other: Overrides) -> Overrides:
        return Overrides(names=self.names | other.names, packages=self.packages | other.packages)


NO_OVERRIDES = Overrides()


def overridden(record: Record) -> Overrides:
    """What the lock's tool was configured to override."""
    return Overrides(names=_names(record.get("overridden")), packages=_names(record.get("replaced")))


def _names(value: object) -> frozenset[str]:
    return frozenset(each for each in value if isinstance(each, str)) if isinstance(value, list) else frozenset()


def is_universal(pylock: Pylock) -> bool:
    """Whether a lock is known to list the wheels for all platforms, so that locking again adds none."""
    return recorded(pylock).get("universal") is True


def is_own(record: Record) -> bool:
    """Whether hatch-docker wrote a pylock.toml."""
    return "python" in record


def recorded(pylock: Pylock) -> Record:
    """What a reader, or hatch-docker itself in a pylock.toml of its own, recorded of a lock; empty if nothing."""
    table = (pylock.tool or {}).get("hatch-docker")
    return table if isinstance(table, Mapping) else {}


def read_text(path: Path) -> str:
    """The text of a lock file. Raises LockError."""
    try:
        text = read_regular(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise LockError(f"cannot read the lock: {error.strerror or error}", place=str(path)) from None
    except ValueError:
        raise LockError("the lock is not UTF-8 text", place=str(path)) from None
    if has_long_number(text):
        raise LockError("the lock has a number with too many digits", place=str(path))
    if conflict := _CONFLICT.search(text):
        line = text.count("\n", 0, conflict.start()) + 1
        raise LockError(
            f"the lock has unresolved merge conflicts, the first in line {line}",
            place=str(path),
            hint="resolve them (git status), or make the lock again with its tool",
        )
    return text


@contextlib.contextmanager
def as_file(text: str, place: str = "") -> Iterator[Path]:
    """A pylock.toml with this text, for the duration of the block; errors in it get `place` instead of its path."""
    with temporary_directory() as folder:
        path = folder / "pylock.toml"
        path.write_text(text, encoding="utf-8")
        try:
            yield path
        except HatchDockerError as error:
            error.place = place if error.place == str(path) else error.place
            raise


def read_toml(path: Path) -> dict[str, Any]:
    """The document of a lock in TOML. Raises LockError."""
    try:
        return toml.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise LockError(
            f"the lock is not valid TOML: {error}", place=str(path), hint="make it again with its tool"
        ) from None


def evaluate(marker: Marker, target: TargetPython, *, extra: str = "", extras: Set[str] = frozenset()) -> bool:
    """Whether a marker holds for the target: `extra` as in core metadata, `extras` as in a lock file (PEP 751).

    Raises one of MARKER_ERRORS for a marker whose values cannot be compared.
    """
    environment: dict[str, str | Set[str]] = {**cast("Mapping[str, str]", target.environment), "extra": extra}
    environment |= {"extras": extras, "dependency_groups": frozenset()}
    return marker.evaluate(environment, context="requirement")


# The platforms that a lock for all of them is made for, as far as markers can tell them apart.
_PLATFORMS = (
    {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    {"os_name": "posix", "sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
    {"os_name": "posix", "sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "x86_64"},
    {"os_name": "nt", "sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64"},
)


def may_apply(source: Source, target: TargetPython) -> bool:
    """Whether a source applies to the target's Python, on this or another platform.

    uv may take a package from a source that applies to no Python of a resolution.
    """
    if not source.marker:
        return True
    with contextlib.suppress(InvalidMarker, *MARKER_ERRORS):
        marker, environment = Marker(source.marker), cast("Mapping[str, str]", target.environment)
        return any(marker.evaluate({**environment, **each}) for each in ({}, *_PLATFORMS))
    return True


def filename_of(file: Mapping[str, Any]) -> str:
    """The name of a file in a lock, from its path or URL."""
    return unquote(urlsplit(file.get("path") or file.get("url") or "").path).rpartition("/")[2]


def parse_filename(name: str) -> tuple[str, Version] | None:
    """The package and version in a file name of a wheel or sdist (PyPA: binary and source formats), else None."""
    try:
        return parse_wheel_filename(name)[:2] if name.endswith(".whl") else parse_sdist_filename(name)
    except ValueError:
        return None


def is_file_of(name: str, package: str, version: Version) -> bool:
    """Whether a file name is that of a wheel or sdist of this version of the package."""
    return parse_filename(name) == (package, version)
