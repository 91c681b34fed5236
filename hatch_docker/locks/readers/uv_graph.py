"""The graph of a uv.lock: which packages a project reaches for a target, with its extras and groups.

The lock is for all platforms: a package's dependencies are edges with markers, extras and, if a name has several
versions, version and source. Edges to packages that conflict by extra, group or project have markers such as
`extra == 'extra-3-foo-cpu'` (the length of the package's name, the name, and the extra). Evaluating them takes the set
of all active ones, so the graph is walked until no walk adds to the set.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from packaging.markers import Marker
from packaging.specifiers import SpecifierSet

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LockError
from hatch_docker.locks.model import InstallRequest, evaluate
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

Table = Mapping[str, Any]

_EXTRA = regex(r"\bextra\s*(==|!=)\s*(?P<quote>['\"])(?P<name>[^'\"]*)(?P=quote)")
# The kinds of source that are local directories.
LOCAL = ("virtual", "editable", "directory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A package that a project reaches, and the extras of it that are reached."""

    package: Table
    extras: frozenset[str]


def reach(document: Table, request: InstallRequest) -> tuple[Table, list[Reached]]:
    """The project's own package, and the others that it reaches, sorted by name.

    Raises LockError if a package is missing, if the chosen extras and groups conflict, or if a group is not for the
    target's Python.
    """
    graph = _Graph(packages=_by_name(document), target=request.target)
    root = graph.root(request.project)
    _check_python(root.get("group-requires-python", {}), request)
    conflicts = document.get("conflicts", [])
    active = {f"project-{len(request.project)}-{request.project}"}
    active |= {_encoded("extra", request.project, extra) for extra in request.extras}
    active |= {_encoded("group", request.project, group) for group in request.groups}
    while conflicts:
        _check_conflicts(conflicts, active)
        more = active.union(*(extras for _, _, extras in _walk(graph, root, request, active)))
        if more == active:
            break
        active = more
    reached: dict[int, tuple[Table, set[str]]] = {}
    for package, extras, _ in _walk(graph, root, request, active):
        if package is not root:
            reached.setdefault(id(package), (package, set()))[1].update(extras)
    found = sorted(reached.values(), key=lambda each: str(each[0]["name"]))
    return root, [Reached(package=package, extras=frozenset(extras)) for package, extras in found]


def _check_python(bounds: Table, request: InstallRequest) -> None:
    """Raise LockError if a chosen group has a bound on Python (tool.uv.dependency-groups) without the target's."""
    version = request.target.version
    for group in sorted(request.groups & bounds.keys()):
        if not SpecifierSet(bounds[group]).contains(version, prereleases=True):
            raise LockError(
                f"the dependency group {group} requires Python {bounds[group]}, and the image has {version}",
                hint="choose another `python` or base, or leave the group out",
            )


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

    def root(self, name: str) -> Table:
        """The project's own package."""
        own = [each for each in self.packages.get(name, ()) if any(kind in each["source"] for kind in LOCAL)]
        if len(own) != 1:
            raise LockError(
                f"the lock has {'several projects' if own else 'no project'} {name}",
                hint="run uv lock in the project's directory: it must be the root or a member of the workspace",
            )
        return own[0]

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


def _walk(
    graph: _Graph, root: Table, request: InstallRequest, active: Set[str]
) -> Iterator[tuple[Table, Sequence[str], set[str]]]:
    """The packages reached from the root, each with the extras of the edge, as they are and encoded."""
    queue = deque([root.get("dependencies", [])])
    queue.extend(root.get("optional-dependencies", {}).get(extra, []) for extra in sorted(request.extras))
    queue.extend(root.get("dev-dependencies", {}).get(group, []) for group in sorted(request.groups))
    seen: set[tuple[int, str]] = set()
    while queue:
        for edge in queue.popleft():
            extras = edge.get("extra", [])
            own = {_encoded("extra", edge["name"], extra) for extra in extras}
            if not graph.holds(edge.get("marker"), active | own):
                continue
            package = graph.find(edge)
            yield package, extras, own
            for part in ("", *extras):
                if (id(package), part) not in seen:
                    seen.add((id(package), part))
                    optional = package.get("optional-dependencies", {})
                    queue.append(optional.get(part, []) if part else package.get("dependencies", []))


def _encoded(kind: str, package: str, name: str) -> str:
    return f"{kind}-{len(package)}-{package}-{name}"


def _check_conflicts(conflicts: Sequence[Sequence[Table]], active: Set[str]) -> None:
    """Raise LockError if two items of a conflict are active, chosen or required by what is chosen."""
    for conflict in conflicts:
        chosen = [_shown(item) for item in conflict if _item(item) in active]
        if len(chosen) > 1:
            raise LockError(
                f"{' and '.join(chosen)} conflict (tool.uv.conflicts): the lock has no set of packages with both",
                hint="choose extras and dependency-groups that need only one",
            )


def _item(item: Table) -> str:
    """An item of a conflict in uv's encoding."""
    package = item["package"]
    for kind in ("extra", "group"):
        if kind in item:
            return _encoded(kind, package, item[kind])
    return f"project-{len(package)}-{package}"


def _shown(item: Table) -> str:
    kind = next((kind for kind in ("extra", "group") if kind in item), "")
    return f"{kind} {item[kind]} of {item['package']}" if kind else f"project {item['package']}"
