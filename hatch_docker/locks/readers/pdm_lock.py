"""pdm.lock → Pylock, for one target. PDM is not needed; files without URLs are found in the indexes by their hashes.

With the strategy `inherit_metadata` each package has the groups that need it, and a marker. Other locks are a graph,
which is walked from the project's requirements. Extras of the project and its dependency groups are all groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from packaging.pylock import Pylock
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder
from hatch_docker.locks.model import InstallRequest, filename_of, is_file_of, parse_filename, read_toml
from hatch_docker.locks.readers.by_hash import Hashed
from hatch_docker.locks.readers.document import Entry, archive, checkout, directory, to_pylock
from hatch_docker.locks.readers.fields import (
    Table,
    hashes_of,
    holds,
    name_of,
    reading,
    table,
    tables,
    text,
    texts,
    version_of,
)
from hatch_docker.locks.readers.freshness import read_project
from hatch_docker.locks.readers.pdm_project import changes_of, overridden_names
from hatch_docker.locks.readers.walk import Edge, Graph, Locked, requirement_edges
from hatch_docker.support.dataclasses import dataclass, replace

REFRESH = "pdm lock"
_MAJOR = "4"
_DEFAULT = "default"
# The platforms of PDM by C library, and the machines in their names.
_PLATFORMS = {"glibc": ("linux", "manylinux"), "musl": ("alpine", "musllinux")}
_MACHINES = {"x86_64": ("x86_64", "amd64"), "aarch64": ("aarch64", "arm64")}
_VCS = ("git", "hg", "svn", "bzr")
_EXPORT = "export it: pdm export -f pylock -o pylock.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Package(Locked):
    """A package of the lock; one with extras is an entry of its own."""

    table: Table
    extras: frozenset[str]


def read_pdm(path: Path, request: InstallRequest, finder: FileFinder) -> Pylock:
    """Read a pdm.lock for a target, with the project's chosen extras and groups. Raises LockError."""
    with reading(path, REFRESH):
        document = read_toml(path)
        metadata = table(document, "metadata")
        _check_version(metadata)
        _check_targets(tables(metadata, "targets"), request.target)
        packages = [
            _Package(
                name=name_of(each),
                version=version_of(each),
                key=number,
                table=each,
                extras=frozenset(map(canonicalize_name, texts(each, "extras"))),
            )
            for number, each in enumerate(tables(document, "package"))
        ]
        inherits = "inherit_metadata" in texts(metadata, "strategy")
        overridden = overridden_names(read_project(path, request))
        chosen = _of_groups(packages, request) if inherits else _walked(packages, request, overridden)
        # An entry with extras has the files of the one without.
        by_name = {each.name: each for each in sorted(chosen, key=lambda each: -len(each.extras))}
        _check_single(chosen)
        entries = [_entry(each, document, path) for each in by_name.values() if each.name != request.project]
        scope: dict[str, Any] = {"tool": {"hatch-docker": {"overridden": sorted(overridden)}}}
        if (groups := _groups(document)) is not None:
            scope |= {"extras": sorted(groups), "dependency-groups": sorted(groups)}
    return to_pylock(entries, finder, path, scope)


def pdm_changes(path: Path, request: InstallRequest) -> list[str]:
    """What changed in the project since it was locked, by the content hash that PDM compares. Raises LockError."""
    with reading(path, REFRESH):
        return changes_of(read_project(path, request), read_toml(path))


def refresh_pdm(path: Path, request: InstallRequest) -> str:
    """The command that refreshes a pdm.lock, with the extras and groups that it has and those of the request.

    PDM keeps those of the lock unless some are named.
    """
    chosen = {*request.extras, *request.groups}
    try:
        locked = _groups(read_toml(path)) if chosen else None
    except LockError:
        locked = None
    return REFRESH if locked is None or chosen <= locked else f"{REFRESH} -G {','.join(sorted(locked | chosen))}"


def _groups(document: Table) -> set[str] | None:
    """The groups that a lock has besides the project's dependencies, None if it does not list them."""
    metadata = table(document, "metadata")
    if "groups" not in metadata:
        return None
    return {str(canonicalize_name(each)) for each in texts(metadata, "groups")} - {_DEFAULT}


def _check_version(metadata: Table) -> None:
    written = text(metadata, "lock_version")
    if not written:
        raise LockError("the lock has no version (metadata.lock_version)")
    if written.partition(".")[0] != _MAJOR:
        raise LockError(f"version {written} of pdm.lock is not supported, only {_MAJOR}.x", hint=_EXPORT)


def _check_targets(targets: Sequence[Table], target: TargetPython) -> None:
    """Check that a lock is for the target's Python, platform and implementation."""
    if targets and not any(_covers(each, target) for each in targets):
        made_for = "; or ".join(", ".join(f"{key} {text(each, key)}" for key in each) for each in targets)
        raise LockError(f"the lock does not cover {target}: it is for {made_for}")


def _covers(locked: Table, target: TargetPython) -> bool:
    try:
        bound = SpecifierSet(text(locked, "requires_python"))
    except InvalidSpecifier:
        raise LockError("the lock is damaged: a target's requires_python is not valid (PEP 440)") from None
    platform, kinds = text(locked, "platform"), _PLATFORMS[target.libc.kind]
    # A platform without a machine means x86_64.
    machines = _MACHINES.get(target.machine, (target.machine,))
    fits = platform.startswith(kinds) and platform.endswith(machines)
    short = platform in kinds and target.machine == "x86_64"
    return bound.contains(target.version, prereleases=True) and (not platform or fits or short)


def _of_groups(packages: Sequence[_Package], request: InstallRequest) -> list[_Package]:
    """The packages of the chosen groups, whose markers hold."""
    chosen = {_DEFAULT, *request.extras, *request.groups}
    return [
        package
        for package in packages
        if not chosen.isdisjoint(map(canonicalize_name, texts(package.table, "groups")))
        and holds(text(package.table, "marker"), request.target)
    ]


def _walked(packages: Sequence[_Package], request: InstallRequest, overridden: Set[str]) -> list[_Package]:
    """The packages that the project's requirements reach, each without its extras."""
    plain: dict[str, list[_Package]] = {}
    for package in packages:
        same = [each for each in packages if each.name == package.name and not each.extras]
        if not package.extras or not same:
            plain.setdefault(package.name, []).append(package)

    def edges(requirements: Iterable[Requirement], origin: str = "") -> Iterator[Edge[_Package]]:
        for edge in requirement_edges(requirements, request.target, origin=origin):
            if edge.name not in overridden:
                yield edge
            elif edge.name in plain:
                yield replace(edge, accepts=lambda _: True)

    def requires(package: _Package, extras: frozenset[str]) -> Iterator[Edge[_Package]]:
        # The entry of several extras is made for exactly these.
        for each in packages:
            if (each.name, each.version, each.extras) == (package.name, package.version, extras):
                yield from edges(_dependencies(each, request), package.name)

    own = [each for each in request.requirements if canonicalize_name(each.name) != request.project]
    return Graph(packages=plain, requires=requires).reach(list(edges(own)))


def _dependencies(package: _Package, request: InstallRequest) -> Iterator[Requirement]:
    for line in texts(package.table, "dependencies"):
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            raise LockError(f"the lock is damaged: {package.name} requires {line!r}, which is not valid") from None
        if canonicalize_name(requirement.name) not in (package.name, request.project):
            yield requirement


def _check_single(packages: Sequence[_Package]) -> None:
    """Check that no package is locked to several versions for one target."""
    versions: dict[str, set[str]] = {}
    for package in packages:
        versions.setdefault(package.name, set()).add(str(package.version))
    if several := [f"{name} ({', '.join(sorted(found))})" for name, found in versions.items() if len(found) > 1]:
        raise LockError(f"the lock has several versions for one target: {'; '.join(several)}")


def _entry(package: _Package, document: Table, path: Path) -> Entry:
    """A package as the pylock has it, or to be found by its hashes."""
    locked = package.table
    common = {"name": package.name, "version": str(package.version)}
    subdirectory = text(locked, "subdirectory")
    for kind in _VCS:
        if kind in locked:
            commit = text(locked, "revision")
            return {**common, **checkout(package.name, kind, text(locked, kind), commit, subdirectory)}
    files = _files(package, document)
    if "path" in locked and not _is_file(path, text(locked, "path")):
        return {**common, **directory(package.name, text(locked, "path"), subdirectory)}
    for key in ("path", "url"):
        if key in locked:
            return {**common, "archive": archive(text(locked, key), hashes_of(files), path, subdirectory)}
    if files and all("url" in file for file in files):
        return {**common, **_with_urls(package, files)}
    return Hashed(name=package.name, version=package.version, hashes=hashes_of(files))


def _files(package: _Package, document: Table) -> Sequence[Table]:
    """The files of a package. Before version 4.3 they were in one table for all packages."""
    if "files" in package.table:
        return tables(package.table, "files")
    listed = table(table(document, "metadata"), "files")
    return tables(listed, f"{text(package.table, 'name')} {text(package.table, 'version')}")


def _is_file(lock: Path, path: str) -> bool:
    return parse_filename(path.rpartition("/")[2]) is not None and not (lock.parent / path).is_dir()


def _with_urls(package: _Package, files: Sequence[Table]) -> dict[str, Any]:
    """The wheels and sdist of a lock with static URLs."""
    listed = [(filename_of({"url": text(file, "url")}), file) for file in files]
    proper = [(name, file) for name, file in listed if is_file_of(name, package.name, package.version)]
    if not proper:
        raise LockError(f"{package.name} has no file whose name follows the specification")
    named = [(name, {"name": name, "url": text(file, "url"), "hashes": _hash([file])}) for name, file in proper]
    wheels = [file for name, file in named if name.endswith(".whl")]
    return {"wheels": wheels, "sdist": next((file for name, file in named if not name.endswith(".whl")), None)}


def _hash(files: Sequence[Table]) -> dict[str, str]:
    algorithm, _, value = next(iter(hashes_of(files)), "").partition(":")
    return {algorithm: value} if value else {}
