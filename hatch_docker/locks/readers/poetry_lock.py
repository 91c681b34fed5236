"""poetry.lock → Pylock, for one target. Poetry is not needed; the files are found in the indexes by their hashes.

Since version 2.1 each package of the lock has the groups that need it, and a marker. Older locks are a graph, which is
walked from the project's requirements; so they need its pyproject.toml.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.pylock import Pylock
from packaging.utils import canonicalize_name
from packaging.version import Version

from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder
from hatch_docker.locks.model import InstallRequest, filename_of, read_text, read_toml
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
from hatch_docker.locks.readers.poetry_graph import (
    PoetryPackage,
    Scope,
    allows_python,
    dependencies,
    names_of_extras,
)
from hatch_docker.locks.readers.poetry_project import changes_of, known_groups, roots
from hatch_docker.locks.readers.walk import Edge, Graph

REFRESH = "poetry lock"
_SUPPORTED = ("1.0", "1.1", "2.0", "2.1")
_WITH_GROUPS = Version("2.1")
_MAIN = "main"
_EXPORT = "export it: poetry export -f pylock.toml -o pylock.toml"


def read_poetry(path: Path, request: InstallRequest, finder: FileFinder) -> Pylock:
    """Read a poetry.lock for a target, with the project's chosen extras and groups. Raises LockError."""
    with reading(path, REFRESH):
        document = read_toml(path)
        version = _check_version(document)
        project = read_project(path, request)
        _check_python(document, request)
        packages = _packages(document)
        chosen = _of_groups(packages, request) if version >= _WITH_GROUPS else _walked(packages, project, request)
        entries = [_entry(package, document, path) for package in chosen if package.name != request.project]
        scope = {
            "extras": sorted({canonicalize_name(each) for each in table(document, "extras")} | _extras_of(project))
        }
        if project:
            scope["dependency-groups"] = sorted(known_groups(project) | _locked_groups(packages))
    return to_pylock(entries, finder, path, scope)


def poetry_changes(path: Path, request: InstallRequest) -> list[str]:
    """What changed in the project since it was locked, by the content hash that Poetry compares. Raises LockError."""
    with reading(path, REFRESH):
        header = next(iter(read_text(path).splitlines()), "")
        return changes_of(read_project(path, request), read_toml(path), header)


def refresh_poetry(path: Path, request: InstallRequest) -> str:  # noqa: ARG001
    """The command that refreshes a poetry.lock, which is for all platforms, extras and groups."""
    return REFRESH


def _check_version(document: Table) -> Version:
    written = text(table(document, "metadata"), "lock-version")
    if not written:
        raise LockError("the lock has no version (metadata.lock-version)")
    if written not in _SUPPORTED:
        raise LockError(
            f"version {written} of poetry.lock is not supported, only {_SUPPORTED[0]} to {_SUPPORTED[-1]}", hint=_EXPORT
        )
    return Version(written)


def _check_python(document: Table, request: InstallRequest) -> None:
    bound = text(table(document, "metadata"), "python-versions")
    if bound and not allows_python(bound, request.target.version):
        raise LockError(
            f"the lock is for Python {bound}, the image has {request.target.version}",
            hint=f"change the project's bound on Python and lock again ({REFRESH}), or use another Python",
        )


def _packages(document: Table) -> list[PoetryPackage]:
    return [
        PoetryPackage(name=name_of(each), version=version_of(each), key=number, table=each)
        for number, each in enumerate(tables(document, "package"))
    ]


def _locked_groups(packages: Iterable[PoetryPackage]) -> set[str]:
    return _names(each for package in packages for each in texts(package.table, "groups")) - {_MAIN}


def _extras_of(project: Table) -> set[str]:
    return _names(table(table(project, "project"), "optional-dependencies"))


def _names(names: Iterable[str]) -> set[str]:
    return {str(canonicalize_name(each)) for each in names}


def _of_groups(packages: Iterable[PoetryPackage], request: InstallRequest) -> list[PoetryPackage]:
    """The packages of the chosen groups, whose markers hold with the chosen extras."""
    return [package for package in packages if any(_group_markers(package, request))]


def _group_markers(package: PoetryPackage, request: InstallRequest) -> Iterator[bool]:
    """For each chosen group of a package, whether its marker holds."""
    markers = package.table.get("markers", "")
    for group in texts(package.table, "groups"):
        if canonicalize_name(group) in {_MAIN, *request.groups}:
            single = isinstance(markers, str)
            marker = markers if single else text(table(package.table, "markers"), group)
            yield holds(marker, request.target, request.extras)


def _walked(
    packages: Sequence[PoetryPackage], project: Mapping[str, Any], request: InstallRequest
) -> list[PoetryPackage]:
    """The packages that the project's requirements reach."""
    if not project:
        raise LockError(
            "version 1 of poetry.lock can be read only with the project's pyproject.toml, which does not exist"
        )

    def requires(package: PoetryPackage, extras: frozenset[str]) -> Iterator[Edge[PoetryPackage]]:
        optional = names_of_extras(table(package.table, "extras"), extras)
        scope = Scope(target=request.target, extras=extras, optional=optional, origin=package.name)
        for edge in dependencies(table(package.table, "dependencies"), scope):
            if edge.name != request.project:
                yield edge

    by_name: dict[str, list[PoetryPackage]] = {}
    for package in packages:
        by_name.setdefault(package.name, []).append(package)
    for name, listed in by_name.items():
        if len(listed) > 1:
            fitting = [each for each in listed if _fits_python(each, request)]
            by_name[name] = fitting or listed
    return Graph(packages=by_name, requires=requires).reach(list(roots(project, request)))


def _fits_python(package: PoetryPackage, request: InstallRequest) -> bool:
    return allows_python(text(package.table, "python-versions", "*"), request.target.version)


def _entry(package: PoetryPackage, document: Table, path: Path) -> Entry:
    """A package as the pylock has it, or to be found by its hashes."""
    source = table(package.table, "source")
    kind, url = text(source, "type"), text(source, "url")
    common = {"name": package.name, "version": str(package.version)}
    subdirectory = text(source, "subdirectory")
    if kind in ("git", "hg"):
        commit = text(source, "resolved_reference")
        return {**common, **checkout(package.name, kind, url, commit, subdirectory)}
    if kind == "directory":
        return {**common, **directory(package.name, url, subdirectory)}
    files = _files(package, document)
    if kind in ("file", "url"):
        named = [each for each in files if text(each, "file") == filename_of({"url": url})] or files[:1]
        return {**common, "archive": archive(url, hashes_of(named), path, subdirectory)}
    if kind not in ("", "legacy", "pypi"):
        raise LockError(f"{package.name} has a source of an unknown kind ({kind})", hint=_EXPORT)
    indexes = (url,) if kind == "legacy" and url else ()
    return Hashed(name=package.name, version=package.version, hashes=hashes_of(files), indexes=indexes)


def _files(package: PoetryPackage, document: Table) -> Sequence[Table]:
    """The files of a package. Old locks have those of all versions of a name in one place."""
    if "files" in package.table:
        return tables(package.table, "files")
    metadata = table(document, "metadata")
    name = text(package.table, "name")
    if "hashes" in metadata:
        return [{"hash": f"sha256:{each}"} for each in texts(table(metadata, "hashes"), name)]
    return tables(table(metadata, "files"), name)
