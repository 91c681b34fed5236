"""Pipfile.lock (Pipenv) → Pylock, for one target. Pipenv is not needed; files are found in the indexes by hashes.

It is a flat list of packages with markers, for each category of the Pipfile.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.pylock import Pylock
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder, NamedIndexes
from hatch_docker.locks.model import InstallRequest, read_text, read_toml
from hatch_docker.locks.origins import real_path
from hatch_docker.locks.readers.by_hash import Hashed
from hatch_docker.locks.readers.document import Entry, archive, checkout, directory, to_pylock
from hatch_docker.locks.readers.fields import Table, expanded, holds, reading, table, tables, text, texts, version_of
from hatch_docker.locks.readers.freshness import differs, unlocked_of

REFRESH = "pipenv lock"
_SPEC = 6
_DEVELOP = ("dev", "develop", "dev-packages")
_VCS = ("git", "hg", "svn", "bzr")
# The keys of an entry in a Pipfile that are variables of markers (PEP 508).
_VARIABLES = (
    *("os_name", "sys_platform", "platform_machine", "platform_python_implementation", "platform_release"),
    *("platform_system", "platform_version", "python_version", "python_full_version"),
    *("implementation_name", "implementation_version"),
)
_PIN = "Pipenv pins only what applies where it locks: lock on Linux, with the image's Python (pipenv lock)"
# The sections of a Pipfile that are not categories of packages (plette).
_SECTIONS = frozenset(("source", "packages", "dev-packages", "requires", "scripts", "pipfile", "pipenv"))


def read_pipfile(path: Path, request: InstallRequest, finder: FileFinder) -> Pylock:
    """Read a Pipfile.lock for a target: its default packages, and the categories that are chosen as groups.

    Raises LockError.
    """
    with reading(path, REFRESH):
        document = _load(path)
        meta = table(document, "_meta")
        if meta.get("pipfile-spec") != _SPEC:
            raise LockError(
                f"version {meta.get('pipfile-spec')!r} of Pipfile.lock is not supported, only {_SPEC}",
                hint="export it: pipenv requirements --hash > requirements.txt",
            )
        sources = {text(each, "name"): expanded(text(each, "url")) for each in tables(meta, "sources")}
        main = next(iter(sources), "")
        pipfile = _pipfile(path)
        chosen = [each for each in _chosen(document, request) if not _is_excluded(*each, pipfile, request.target)]
        if unpinned := sorted({name for name, locked in chosen if _is_unpinned(locked)}):
            raise LockError(f"not pinned: {', '.join(unpinned)}", hint=_PIN)
        entries: dict[str, Entry] = {}
        for name, locked in chosen:
            index = text(locked, "index")
            if index and index not in sources:
                raise LockError(f"{name} comes from the source {index}, which the lock does not define")
            indexes = (sources[index],) if index and index != main else ()
            entry = _entry(name, locked, indexes, path, request)
            if entry and entries.setdefault(name, entry) != entry:
                raise LockError(f"{name} is locked differently in two categories")
        scope = {"requires-python": _python(meta)}
    return to_pylock(list(entries.values()), finder, path, scope)


def pipfile_indexes(path: Path) -> NamedIndexes:
    """The first source of a Pipfile.lock, where Pipenv looks up all packages that name no other. Raises LockError."""
    with reading(path, REFRESH):
        sources = tables(table(_load(path), "_meta"), "sources")
        return NamedIndexes(expanded(text(sources[0], "url")) if sources else "")


def pipfile_changes(path: Path, request: InstallRequest) -> list[str]:  # noqa: ARG001
    """What changed in the Pipfile beside the lock since it was locked, by the hash that Pipenv compares.

    Raises LockError.
    """
    with reading(path, REFRESH):
        document = _load(path)
        locked = text(table(table(document, "_meta"), "hash"), "sha256")
        project = _pipfile(path)
        if not locked or not project:
            return []
        versions = _versions(document)
        # Pipenv did not resolve what does not apply where it locked.
        unlocked = unlocked_of(_requirements(project), versions, {name for name in versions if not versions[name]})
        if "source" not in project and not unlocked:
            # The sources that Pipenv takes from pip's configuration are hashed, and the lock does not have them.
            return []
        hashes = [pipfile_hash(project, canonical=each) for each in (True, False)]
        return [] if locked in hashes else differs("Pipfile", unlocked)


def refresh_pipfile(path: Path, request: InstallRequest) -> str:  # noqa: ARG001
    """The command that refreshes a Pipfile.lock."""
    return REFRESH


def _load(path: Path) -> Table:
    try:
        document = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise LockError(f"the lock is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise LockError("the lock is damaged: it is not a JSON object")
    return document


def _pipfile(lock: Path) -> Table:
    """The document of the Pipfile beside a lock, empty without one."""
    path = lock.with_name("Pipfile")
    return read_toml(path) if path.is_file() else {}


def _is_unpinned(locked: Table) -> bool:
    """Whether Pipenv did not resolve a package, since it does not apply where it locked."""
    return locked.keys().isdisjoint((*_VCS, "path", "file")) and not text(locked, "version").startswith("==")


def _is_excluded(name: str, locked: Table, pipfile: Table, target: TargetPython) -> bool:
    """Whether a package that is not pinned does not apply to the target, by the keys of its entry in the Pipfile.

    The lock has its `markers`, but not keys such as `sys_platform`.
    """
    if not _is_unpinned(locked):
        return False
    categories = [table(pipfile, each) for each in pipfile.keys() - (_SECTIONS - {"packages", "dev-packages"})]
    found = [each[key] for each in categories for key in each if canonicalize_name(key) == name]
    markers = [f"{key} {each[key]}" for each in found if isinstance(each, Mapping) for key in _VARIABLES if key in each]
    return not all(holds(marker, target) for marker in markers)


def _python(meta: Table) -> str | None:
    """The Python that the lock is for."""
    requires = table(meta, "requires")
    full, minor = text(requires, "python_full_version"), text(requires, "python_version")
    bound = f"=={full}" if full else f"=={minor}.*" if minor else ""
    try:
        return str(SpecifierSet(bound)) or None
    except InvalidSpecifier:
        raise LockError("the lock is damaged: _meta.requires names no version of Python") from None


def _chosen(document: Table, request: InstallRequest) -> Iterator[tuple[str, Table]]:
    """The packages of the chosen categories, whose markers hold."""
    wanted = {"default", *request.groups}
    if not wanted.isdisjoint(_DEVELOP):
        wanted.add("develop")
    for category in document:
        if category != "_meta" and canonicalize_name(category) in wanted:
            for key in table(document, category):
                locked = table(table(document, category), key)
                name = str(canonicalize_name(key))
                if name != request.project and holds(text(locked, "markers"), request.target):
                    yield name, {**locked, "name": name}


def _entry(name: str, locked: Table, indexes: tuple[str, ...], path: Path, request: InstallRequest) -> Entry | None:
    """A package as the pylock has it, or to be found by its hashes; None for the project itself."""
    common = {"name": name, **({"version": str(version_of(locked))} if "version" in locked else {})}
    subdirectory = text(locked, "subdirectory")
    for kind in _VCS:
        if kind in locked:
            url = expanded(text(locked, kind)).removeprefix(f"{kind}+")
            return {**common, **checkout(name, kind, url, text(locked, "ref"), subdirectory)}
    hashes = frozenset(each.lower() for each in texts(locked, "hashes"))
    for key in ("file", "path"):
        if key in locked:
            place = expanded(text(locked, key))
            if real_path(path.parent / place) == real_path(request.root):
                return None
            if key == "path" and (path.parent / place).is_dir():
                return {**common, **directory(name, place, subdirectory)}
            return {**common, "archive": archive(place, hashes, path, subdirectory)}
    return Hashed(name=name, version=version_of(locked), hashes=hashes, indexes=indexes)


def pipfile_hash(pipfile: Mapping[str, Any], *, canonical: bool) -> str:
    """The hash that Pipenv writes; newer versions hash normalized names (Pipenv: Pipfile.calculate_hash)."""

    def section(value: object) -> object:
        if not canonical or not isinstance(value, Mapping):
            return value
        return {str(canonicalize_name(key)): each for key, each in value.items()}

    content = {
        "_meta": {"sources": pipfile.get("source", []), "requires": pipfile.get("requires", {})},
        "default": section(pipfile.get("packages", {})),
        "develop": section(pipfile.get("dev-packages", {})),
    }
    others = pipfile.keys() - _SECTIONS - {"default", "develop"}
    content |= {category: section(pipfile[category]) for category in others}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def _requirements(pipfile: Table) -> Iterator[str]:
    """The requirements of a Pipfile's categories that have a version."""
    for category in pipfile.keys() - (_SECTIONS - {"packages", "dev-packages"}):
        packages = pipfile[category]
        for name, value in packages.items() if isinstance(packages, Mapping) else ():
            version = value.get("version", "*") if isinstance(value, Mapping) else value
            direct = isinstance(value, Mapping) and not value.keys().isdisjoint((*_VCS, "path", "file"))
            if isinstance(version, str) and not direct:
                yield f"{name}{re.sub(r'^[*]$', '', version.strip())}"


def _versions(document: Table) -> dict[str, list[Version]]:
    versions: dict[str, list[Version]] = {}
    for category in document.keys() - {"_meta"}:
        for name in table(document, category):
            locked = table(table(document, category), name)
            found = versions.setdefault(str(canonicalize_name(name)), [])
            if "version" in locked and not _is_unpinned(locked):
                found.append(version_of(locked))
    return versions
