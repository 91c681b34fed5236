"""uv.lock → Pylock, for one target: read here, without running uv, so that it needs neither uv nor a network.

The lock is a graph of all platforms: a package's dependencies are edges with markers, extras and, where one name has
several versions, the version and source meant. What the root's requirements, extras and groups reach for the target
is the Pylock; `uv export --frozen` is the oracle of the tests.

Packages that conflict by extra or group have markers such as `extra == 'extra-3-foo-cpu'` (its length, the package
and the extra). They are only known when all extras have been found: hence a first walk that collects them.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import InvalidMarker, Marker
from packaging.pylock import Pylock
from packaging.requirements import InvalidRequirement
from packaging.specifiers import InvalidSpecifier
from packaging.version import InvalidVersion, Version

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder
from hatch_docker.locks.model import MARKER_ERRORS, InstallRequest, evaluate, filename, is_file_of, read_toml
from hatch_docker.locks.readers.pylock import validated
from hatch_docker.locks.readers.uv_metadata import check_current

Table = Mapping[str, Any]

# The format's version that this reads; its `revision` only ever adds (uv: versioning of the lockfile).
_VERSION = 1
_EXTRA = re.compile(r"\bextra\s*(==|!=)\s*(?P<quote>['\"])(?P<name>[^'\"]*)(?P=quote)")
# The root's package in the lock lies where the lock does.
_LOCAL = ("virtual", "editable", "directory")


def read_uv(path: Path, wanted: InstallRequest, lookup: FileFinder) -> Pylock:  # noqa: ARG001
    """Read a uv.lock for a target, with the project's chosen extras and groups.

    The Pylock's `tool.hatch-docker` says that it was taken from a lock of all platforms, and which names' requirements
    `tool.uv` overrides. Raises LockError where the lock is not one, is stale, or its chosen extras and groups conflict.
    """
    document = read_toml(path)
    try:
        return _read(document, wanted)
    except LockError as error:
        error.place = error.place or str(path)
        error.hint = error.hint or "refresh it: uv lock"
        raise
    except (InvalidVersion, InvalidMarker, InvalidSpecifier, InvalidRequirement, *MARKER_ERRORS) as error:
        raise LockError(f"the lock is damaged: {error}", place=str(path), hint="make it again: uv lock") from None
    except (AttributeError, ValueError, RecursionError):
        raise LockError("the lock is not a uv.lock", place=str(path), hint="make it again: uv lock") from None


def _read(document: Table, wanted: InstallRequest) -> Pylock:
    if document.get("version") != _VERSION:
        raise LockError(
            f"version {document.get('version')!r} of uv.lock is not known, only {_VERSION}",
            hint="export it: uv export --format pylock.toml -o pylock.toml",
        )
    graph = _Graph(packages=_by_name(document), target=wanted.target)
    root = graph.find({"name": wanted.project})
    _check_conflicts(document, wanted)
    check_current(root.get("metadata"), wanted)
    reached = _reach(graph, root, wanted, first=bool(document.get("conflicts")))
    # The values are the file's own, some of them None: validating checks their types.
    pylock = {
        "lock-version": "1.0",
        "created-by": "uv",
        "packages": [_package(package) for package in reached if package is not root],
        "environments": document.get("supported-markers"),
        "requires-python": document.get("requires-python"),
        "tool": {"hatch-docker": {"universal": True, "overridden": _overridden(document)}},
    }
    return validated(pylock, place="")


def _overridden(document: Table) -> list[str]:
    return sorted({str(each["name"]) for each in document.get("manifest", {}).get("overrides", [])})


def _by_name(document: Table) -> dict[str, list[Table]]:
    packages: dict[str, list[Table]] = {}
    for package in document.get("package", []):
        packages.setdefault(package["name"], []).append(package)
    return packages


@dataclass(frozen=True, slots=True, kw_only=True)
class _Graph:
    """The packages of a lock by name, and the target that chooses among forks."""

    packages: Mapping[str, Sequence[Table]]
    target: TargetPython

    def find(self, dependency: Table) -> Table:
        """The package that an edge means."""
        name = dependency["name"]
        found = [
            package
            for package in self.packages.get(name, ())
            if all(package.get(key) == dependency[key] for key in ("version", "source") if key in dependency)
        ]
        if len(found) > 1:
            found = [each for each in found if self._in_fork(each)]
        if len(found) != 1:
            raise LockError(f"the lock has {'several packages' if found else 'no package'} {name}")
        return found[0]

    def _in_fork(self, package: Table) -> bool:
        markers = package.get("resolution-markers", [])
        return not markers or any(self.holds(marker, frozenset()) for marker in markers)

    def holds(self, marker: str | None, active: Set[str]) -> bool:
        """Whether an edge's marker holds; `active` are extras and groups in uv's encoding."""
        if not marker:
            return True
        # A marker of core metadata knows one extra at a time; a lock's knows the set (PEP 751).
        as_set = _EXTRA.sub(lambda match: f"'{match['name']}' {'in' if match[1] == '==' else 'not in'} extras", marker)
        return evaluate(Marker(as_set), self.target, extras=active)


def _reach(graph: _Graph, root: Table, wanted: InstallRequest, *, first: bool) -> list[Table]:
    """Every package that is reached, in the order of the lock's names."""
    active = {f"project-{len(wanted.project)}-{wanted.project}"}
    active |= {_encoded("extra", wanted.project, extra) for extra in wanted.extras}
    active |= {_encoded("group", wanted.project, group) for group in wanted.groups}
    if first:
        for _, extras in _walk(graph, root, wanted, active):
            active |= extras
    reached: dict[int, Table] = {}
    for package, _ in _walk(graph, root, wanted, active):
        reached[id(package)] = package
    return sorted(reached.values(), key=lambda package: str(package["name"]))


def _walk(graph: _Graph, root: Table, wanted: InstallRequest, active: Set[str]) -> Iterator[tuple[Table, set[str]]]:
    """Packages reached from the root, each with the encoded extras by which it is reached."""
    queue = deque([root.get("dependencies", [])])
    queue.extend(root.get("optional-dependencies", {}).get(extra, []) for extra in sorted(wanted.extras))
    queue.extend(root.get("dev-dependencies", {}).get(group, []) for group in sorted(wanted.groups))
    seen: set[tuple[int, str]] = set()
    while queue:
        for edge in queue.popleft():
            own = {_encoded("extra", edge["name"], extra) for extra in edge.get("extra", [])}
            if not graph.holds(edge.get("marker"), active | own):
                continue
            package = graph.find(edge)
            yield package, own
            for part in ("", *edge.get("extra", [])):
                if (id(package), part) not in seen:
                    seen.add((id(package), part))
                    optional = package.get("optional-dependencies", {})
                    queue.append(optional.get(part, []) if part else package.get("dependencies", []))


def _encoded(kind: str, package: str, name: str) -> str:
    return f"{kind}-{len(package)}-{package}-{name}"


def _check_conflicts(document: Table, wanted: InstallRequest) -> None:
    for conflict in document.get("conflicts", []):
        chosen = [
            f"{kind} {item[kind]}"
            for item in conflict
            for kind, names in (("extra", wanted.extras), ("group", wanted.groups))
            if item.get("package") == wanted.project and item.get(kind) in names
        ]
        if len(chosen) > 1:
            raise LockError(
                f"{' and '.join(chosen)} conflict: the lock has no set of packages with both",
                hint="choose one of them in tool.hatch.build.targets.docker",
            )


def _package(package: Table) -> dict[str, Any]:
    """A package of the lock as pylock.toml has it."""
    source = package["source"]
    common = {key: package[key] for key in ("name", "version") if key in package}
    if "git" in source:
        url, _, commit = source["git"].partition("#")
        return {**common, "vcs": {"type": "git", "url": url, "commit-id": commit}}
    for key in _LOCAL:
        if key in source:
            return {**common, "directory": {"path": source[key]}}
    if "url" in source or "path" in source:
        file = next(iter(package.get("wheels", [])), None) or package.get("sdist", {})
        archive = _file(file, **{key: source.get(key) for key in ("url", "path")})
        return {**common, "archive": {**archive, "subdirectory": source.get("subdirectory")}}
    return {**common, **_registry_files(package, source["registry"])}


def _registry_files(package: Table, registry: str) -> dict[str, Any]:
    """The wheels and sdist of an index, or of a folder of files (find-links), whose paths are relative to it."""
    listed = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    files = [
        _file(file, url=file.get("url"), path=f"{registry}/{file['path']}" if "path" in file else None)
        for file in listed
    ]
    # Names from before the specification cannot be chosen, and no valid pylock may hold them.
    named = [(filename(file), file) for file in files]
    proper = [(name, file) for name, file in named if is_file_of(name, package["name"], Version(package["version"]))]
    if not proper:
        raise LockError(f"{package['name']} has no file whose name follows the specification")
    wheels = [file for name, file in proper if name.endswith(".whl")]
    sdist = next((file for name, file in proper if not name.endswith(".whl")), None)
    index = registry if "://" in registry else None
    return {"index": index, "wheels": wheels, "sdist": sdist}


def _file(file: Table, *, url: str | None, path: str | None) -> dict[str, Any]:
    algorithm, _, value = file.get("hash", "").partition(":")
    return {"url": url, "path": path, "size": file.get("size"), "hashes": {algorithm: value} if value else {}}
