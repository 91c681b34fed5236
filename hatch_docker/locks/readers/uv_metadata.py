"""What of a project has changed since its uv.lock was made: the lock has requirements, sources and settings of then."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from hatch_docker.errors import ConfigError
from hatch_docker.index.sources import NO_SOURCES, Sources, read_sources
from hatch_docker.index.uv_sources import list_of, read_document, table_of
from hatch_docker.index.workspace import members
from hatch_docker.locks.model import InstallRequest, Record
from hatch_docker.locks.origins import Origin, allowed_origins, shown_origin
from hatch_docker.locks.readers.uv_graph import LOCAL, Table
from hatch_docker.locks.readers.uv_lock import translated
from hatch_docker.locks.readers.uv_requirements import Required, locked_requirements, project_requirements


def changes(path: Path, request: InstallRequest, record: Record) -> list[str]:
    """What has changed in the project since a uv.lock was made, one phrase each; as far as the request reaches.

    Compared are the requirements of the project and of the directories that it depends on, their sources, the bound on
    Python, and the settings that choose versions. `record` is what reading the lock recorded; a lock of an unknown
    version is not compared.
    """
    lock = record.get("lock")
    if lock is None:
        return []
    with translated(path):
        return [
            *_of_project(lock["metadata"], request, path.parent),
            *(phrase for each in lock["directories"] for phrase in _of_directory(each, lock, request, path.parent)),
            *_of_python(lock, request, path.parent),
            *_of_settings(lock, request, path.parent),
        ]


def _of_project(metadata: Table, request: InstallRequest, folder: Path) -> Iterator[str]:
    groups = metadata.get("requires-dev", {})
    entries = [*metadata.get("requires-dist", [])]
    entries += [entry for group in sorted(request.groups) for entry in groups.get(group, [])]
    locked, extras = locked_requirements(entries, request.project, request.extras, request.target, folder)
    # uv adds these to the group `dev`.
    legacy = _uv(request.root).get("dev-dependencies") if "dev" in request.groups else ()
    requirements = [*request.requirements, *_parsed(list_of(legacy))]
    current = project_requirements(requirements, request.target)
    sources = request.sources if request.sources.tool == "tool.uv" else NO_SOURCES
    allowed = _Allowed(sources, request, extras)
    yield from _compare(locked, [each for each in current if each.name != request.project], allowed)


def _of_directory(package: Table, lock: Table, request: InstallRequest, folder: Path) -> Iterator[str]:
    """The changes of a directory that the project depends on, if its pyproject.toml tells its requirements."""
    source, name = package["source"], str(canonicalize_name(package["name"]))
    kind = next(kind for kind in LOCAL if kind in source)
    directory = folder / source[kind]
    now = _document(directory)
    table = table_of(now, "project")
    if not table or not {"dependencies", "optional-dependencies"}.isdisjoint(list_of(table.get("dynamic"))):
        return
    is_package = table_of(now, "tool", "uv").get("package")
    # Whoever requires the directory of another project may decide otherwise.
    if name in lock["manifest"].get("members", []) and is_package is (kind == "virtual"):
        yield f"{name} is {'now' if is_package else 'no longer'} a package"
    locked, extras = locked_requirements(
        package.get("metadata", {}).get("requires-dist", []), name, frozenset(package["extras"]), request.target, folder
    )
    optional = {str(canonicalize_name(extra)): each for extra, each in table_of(table, "optional-dependencies").items()}
    texts = [*list_of(table.get("dependencies")), *(text for extra in extras for text in list_of(optional.get(extra)))]
    current = project_requirements(_parsed(texts), request.target)
    sources = NO_SOURCES
    with contextlib.suppress(ConfigError):
        sources = read_sources(directory, os.environ, project=name)
    allowed = _Allowed(sources, request, extras)
    for phrase in _compare(locked, [each for each in current if each.name != name], allowed):
        yield f"{name} {phrase}"


class _Allowed:
    """The places that a project's sources allow for each package."""

    def __init__(self, sources: Sources, request: InstallRequest, extras: Set[str]) -> None:
        self._sources, self._request, self._extras = sources, request, extras

    def __call__(self, name: str) -> set[Origin]:
        found = self._sources.by_name.get(name, ())
        return allowed_origins(found, self._request.target, self._extras, self._request.groups)


def _compare(locked: Sequence[Required], current: Sequence[Required], allowed: _Allowed) -> Iterator[str]:
    by_name = {each.name: [other for other in current if other.name == each.name] for each in current}
    origins: dict[str, set[Origin]] = {}
    for name, required in by_name.items():
        urls: set[Origin] = {each.origin for each in required if each.origin}
        origins[name] = urls or allowed(name)
    direct = {each.name for each in (*locked, *current) if each.is_direct}
    direct |= {name for name, found in origins.items() if any(origin and origin[0] != "index" for origin in found)}
    before, now = ({_key(each, direct) for each in required} for required in (locked, current))
    gone, new = (sorted(keys, key=_shown) for keys in (before - now, now - before))
    for key in new:
        replaced = next((each for each in gone if each[:2] == key[:2]), None)
        if replaced:
            gone.remove(replaced)
            yield f"requires {_shown(key)} instead of {_shown(replaced)}"
        else:
            yield f"requires {_shown(key)}, which is not locked"
    yield from (f"no longer requires {_shown(key)}" for key in gone)
    for name, expected in origins.items():
        for origin in sorted({each.origin for each in locked if each.name == name} - expected, key=shown_origin):
            wanted = " or ".join(sorted(map(shown_origin, expected)))
            yield f"takes {name} from {wanted} instead of {shown_origin(origin)}"


_Key = tuple[str, tuple[str, ...], SpecifierSet | None]


def _key(required: Required, direct: Set[str]) -> _Key:
    return required.name, required.extras, None if required.name in direct else required.specifier


def _shown(key: _Key) -> str:
    name, extras, specifier = key
    return name + (f"[{','.join(extras)}]" if extras else "") + str(specifier or "")


def _of_python(lock: Table, request: InstallRequest, folder: Path) -> Iterator[str]:
    """A changed bound on Python. That of a workspace is the intersection of its members'."""
    locked = lock["requires-python"]
    texts: list[object] = [request.requires_python]
    if lock["manifest"].get("members"):
        try:
            texts = [table_of(_document(each), "project").get("requires-python") for each in members(folder).values()]
        except ConfigError:
            return
    bounds = [text for text in texts if isinstance(text, str) and text]
    if not locked or not bounds:
        return
    try:
        current = SpecifierSet(",".join(bounds))
    except InvalidSpecifier:
        return
    if _pythons(current) != _pythons(SpecifierSet(locked)):
        yield f"requires Python {','.join(dict.fromkeys(bounds))} instead of {locked}"


def _pythons(bound: SpecifierSet) -> list[bool]:
    """Whether a bound has each of the Pythons that could be compared; uv writes equal bounds in different ways."""
    return [bound.contains(Version(f"3.{minor}.{micro}")) for minor in range(25) for micro in (0, 1, 4, 9, 20)]


def _of_settings(lock: Table, request: InstallRequest, folder: Path) -> Iterator[str]:
    """The changed settings of the workspace's root, the only place from which uv reads them.

    uv records those for packages that occur, and does not notice a new one for any other.
    """
    if not (folder / "pyproject.toml").is_file():
        return
    uv, manifest = _uv(folder), lock["manifest"]
    for setting, (key, read) in _SETTINGS.items():
        before = read(manifest.get(key, []), request, folder)
        now = read(list_of(uv.get(setting)), request, folder)
        occurring = {*lock["names"], *before}
        if before != {name: value for name, value in now.items() if name in occurring}:
            yield f"has another tool.uv.{setting}"


def _by_specifier(entries: Sequence[Any], request: InstallRequest, folder: Path) -> dict[str, object]:
    """Requirements of a lock or a project, as the specifiers for each name that apply to the target."""
    locked = [each for each in entries if isinstance(each, Mapping) and "name" in each]
    found, _ = locked_requirements(locked, "", frozenset(), request.target, folder)
    texts = _parsed(each for each in entries if isinstance(each, str))
    every = [*found, *project_requirements(texts, request.target)]
    return {
        name: {"" if each.is_direct else str(each.specifier) for each in every if each.name == name}
        for name in {each.name for each in every}
    }


def _by_name(entries: Sequence[Any], _request: InstallRequest, _folder: Path) -> dict[str, object]:
    return {canonicalize_name(each): True for each in entries if isinstance(each, str)}


def _by_metadata(entries: Sequence[Any], _request: InstallRequest, _folder: Path) -> dict[str, object]:
    """The requirements of each version in `dependency-metadata`."""
    found: dict[str, dict[str, object]] = {}
    for entry in (each for each in entries if isinstance(each, Mapping)):
        requires = {
            (canonicalize_name(each.name), str(each.specifier)) for each in _parsed(list_of(entry.get("requires-dist")))
        }
        found.setdefault(canonicalize_name(str(entry.get("name"))), {})[str(entry.get("version", ""))] = requires
    return dict(found)


# The settings, with the names that they have in the lock's `manifest`, and the way to compare them: values by package.
_SETTINGS: Mapping[str, tuple[str, Callable[[Sequence[Any], InstallRequest, Path], dict[str, object]]]] = {
    "override-dependencies": ("overrides", _by_specifier),
    "constraint-dependencies": ("constraints", _by_specifier),
    "exclude-dependencies": ("excludes", _by_name),
    "dependency-metadata": ("dependency-metadata", _by_metadata),
}


def _parsed(texts: Iterable[object]) -> list[Requirement]:
    """The valid ones of some requirements."""
    found = []
    for text in texts:
        with contextlib.suppress(InvalidRequirement, TypeError, RecursionError):
            found.append(Requirement(text))  # type: ignore[arg-type]
    return found


def _document(folder: Path) -> Table:
    """The pyproject.toml of a directory, empty if it cannot be read."""
    try:
        return read_document(folder)
    except ConfigError:
        return {}


def _uv(folder: Path) -> Table:
    return table_of(_document(folder), "tool", "uv")
