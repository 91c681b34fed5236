"""uv.lock → Pylock, for one target. Neither uv nor a network is needed.

The lock is a graph for all platforms: a package's dependencies are edges with markers, extras and, if a name has
several versions, version and source. The Pylock has the packages that the project's requirements, extras and groups
reach for the target; the tests compare it with `uv export --frozen`.

Edges to packages that conflict by extra or group have markers such as `extra == 'extra-3-foo-cpu'` (the length of the
package's name, the name, and the extra). Evaluating them takes the set of all active extras, so a first walk collects
these.
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
from hatch_docker.locks.model import MARKER_ERRORS, InstallRequest, evaluate, filename_of, is_file_of, read_toml
from hatch_docker.locks.readers.pylock import validated
from hatch_docker.locks.readers.uv_metadata import check_current

Table = Mapping[str, Any]

# The supported version of the format; revisions are compatible (uv: versioning of the lockfile).
_VERSION = 1
_EXTRA = re.compile(r"\bextra\s*(==|!=)\s*(?P<quote>['\"])(?P<name>[^'\"]*)(?P=quote)")
# The kinds of source that are local directories, such as the project's own package.
_LOCAL = ("virtual", "editable", "directory")


def read_uv(path: Path, request: InstallRequest, finder: FileFinder) -> Pylock:  # noqa: ARG001
    """Read a uv.lock for a target, with the project's chosen extras and groups.

    The Pylock's `tool.hatch-docker` says that the lock is for all platforms, and whose requirements `tool.uv`
    overrides. Raises LockError if the lock is invalid or stale, or if the chosen extras and groups conflict.
    """
    document = read_toml(path)
    try:
        return _read(document, request)
    except LockError as error:
        error.place = error.place or str(path)
        error.hint = error.hint or "refresh it: uv lock"
        raise
    except (InvalidVersion, InvalidMarker, InvalidSpecifier, InvalidRequirement, *MARKER_ERRORS) as error:
        raise LockError(f"the lock is damaged: {error}", place=str(path), hint="make it again: uv lock") from None
    except (AttributeError, ValueError, RecursionError):
        raise LockError("the lock is not a uv.lock", place=str(path), hint="make it again: uv lock") from None


def _read(document: Table, request: InstallRequest) -> Pylock:
    if document.get("version") != _VERSION:
        raise LockError(
            f"version {document.get('version')!r} of uv.lock is not supported, only {_VERSION}",
            hint="export it: uv export --format pylock.toml -o pylock.toml",
        )
    graph = _Graph(packages=_by_name(document), target=request.target)
    root = graph.find({"name": request.project})
    _check_conflicts(document, request)
    check_current(root.get("metadata"), request)
    reached = _reach(graph, root, request, conflicts=bool(document.get("conflicts")))
    # The values are those of the file, or None: validation checks their types.
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
        """The package of an edge."""
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
        # Markers of core metadata have one extra at a time, those of lock files the set of them (PEP 751).
        as_set = _EXTRA.sub(lambda match: f"'{match['name']}' {'in' if match[1] == '==' else 'not in'} extras", marker)
        return evaluate(Marker(as_set), self.target, extras=active)


def _reach(graph: _Graph, root: Table, request: InstallRequest, *, conflicts: bool) -> list[Table]:
    """All packages that the project reaches, sorted by name. `conflicts` says whether extras or groups conflict."""
    active = {f"project-{len(request.project)}-{request.project}"}
    active |= {_encoded("extra", request.project, extra) for extra in request.extras}
    active |= {_encoded("group", request.project, group) for group in request.groups}
    if conflicts:
        for _, extras in _walk(graph, root, request, active):
            active |= extras
    reached: dict[int, Table] = {}
    for package, _ in _walk(graph, root, request, active):
        reached[id(package)] = package
    return sorted(reached.values(), key=lambda package: str(package["name"]))


def _walk(graph: _Graph, root: Table, request: InstallRequest, active: Set[str]) -> Iterator[tuple[Table, set[str]]]:
    """The packages reached from the root, each with the encoded extras of the edge."""
    queue = deque([root.get("dependencies", [])])
    queue.extend(root.get("optional-dependencies", {}).get(extra, []) for extra in sorted(request.extras))
    queue.extend(root.get("dev-dependencies", {}).get(group, []) for group in sorted(request.groups))
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


def _check_conflicts(document: Table, request: InstallRequest) -> None:
    for conflict in document.get("conflicts", []):
        chosen = [
            f"{kind} {item[kind]}"
            for item in conflict
            for kind, names in (("extra", request.extras), ("group", request.groups))
            if item.get("package") == request.project and item.get(kind) in names
        ]
        if len(chosen) > 1:
            raise LockError(
                f"{' and '.join(chosen)} conflict: the lock has no set of packages with both",
                hint="choose one of them in tool.hatch.build.targets.docker",
            )


def _package(package: Table) -> dict[str, Any]:
    """A package of the lock as a package of pylock.toml."""
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
    """The wheels and sdist in an index, or in a directory (find-links), to which paths are relative."""
    listed = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    files = [
        _file(file, url=file.get("url"), path=f"{registry}/{file['path']}" if "path" in file else None)
        for file in listed
    ]
    # A pylock must not have file names that precede the specification.
    named = [(filename_of(file), file) for file in files]
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
