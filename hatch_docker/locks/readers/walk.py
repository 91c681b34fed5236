"""A walk over the graph of locked packages, from the project's requirements, for locks without markers of packages."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LockError
from hatch_docker.locks.readers.fields import holds
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.redaction import redact_text

# Each round may choose another version of a package, and so other requirements.
_ROUNDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A package of a lock: its normalized name, and what the format says of it. `key` identifies it in the lock."""

    name: str
    version: Version
    key: int


Package = TypeVar("Package", bound=Locked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge(Generic[Package]):
    """A requirement that applies: the normalized name of a package, and which of the locked ones it accepts.

    `origin` is the package that requires it, empty for the project.
    """

    name: str
    accepts: Callable[[Package], bool]
    extras: frozenset[str] = frozenset()
    origin: str = ""
    shown: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph(Generic[Package]):
    """The packages of a lock by name. `requires` returns what a package requires with extras, but without them none."""

    packages: Mapping[str, Sequence[Package]]
    requires: Callable[[Package, frozenset[str]], Iterable[Edge[Package]]]

    def reach(self, roots: Sequence[Edge[Package]]) -> list[Package]:
        """The packages that requirements reach, one of each name, sorted by name.

        If several versions of a package are locked, the highest one is chosen that all requirements accept. Raises
        LockError for all requirements at once that no locked package satisfies.
        """
        chosen: dict[str, Package] = {}
        for _ in range(_ROUNDS):
            edges = self._collect(roots, chosen)
            best = {name: self._best(listed) for name, listed in edges.items()}
            found = {name: package for name, package in best.items() if package}
            if found == chosen:
                _check_found([edge for name, listed in edges.items() if not best[name] for edge in listed])
                return [found[name] for name in sorted(found)]
            chosen = found
        raise LockError("the versions of the lock's packages contradict each other")

    def _collect(self, roots: Sequence[Edge[Package]], chosen: Mapping[str, Package]) -> dict[str, list[Edge[Package]]]:
        """All requirements that are reached, by name, if the `chosen` packages are taken."""
        found: dict[str, list[Edge[Package]]] = {}
        seen: set[tuple[int, frozenset[str]]] = set()
        queue = deque(roots)
        while queue:
            edge = queue.popleft()
            found.setdefault(edge.name, []).append(edge)
            package = chosen.get(edge.name) or self._best([edge])
            for extras in (frozenset(), edge.extras) if package else ():
                if package and (package.key, extras) not in seen:
                    seen.add((package.key, extras))
                    queue.extend(self.requires(package, extras))
        return found

    def _best(self, edges: Sequence[Edge[Package]]) -> Package | None:
        """The highest version that all requirements of one name accept."""
        candidates = self.packages.get(edges[0].name, ())
        fitting = [package for package in candidates if all(edge.accepts(package) for edge in edges)]
        return max(fitting, key=lambda package: (package.version, -package.key), default=None)


def _check_found(missing: Sequence[Edge[Package]]) -> None:
    own = list(dict.fromkeys(edge.shown or edge.name for edge in missing if not edge.origin))
    if own:
        raise LockError(f"the lock is stale, the project requires {'; '.join(own)}, which is not locked")
    if missing:
        listed = "; ".join(dict.fromkeys(f"{edge.shown or edge.name}, required by {edge.origin}" for edge in missing))
        raise LockError(f"the lock is damaged, it lacks packages: {listed}")


def requirement_edges(
    requirements: Iterable[Requirement], target: TargetPython, *, extras: frozenset[str] = frozenset(), origin: str = ""
) -> Iterator[Edge[Any]]:
    """The edges of requirements (PEP 508) that apply to the target, with the active `extras` of their package."""
    for requirement in requirements:
        if holds(str(requirement.marker or ""), target, extras):
            yield Edge(
                name=str(canonicalize_name(requirement.name)),
                accepts=partial(satisfies, requirement),
                extras=frozenset(canonicalize_name(each) for each in requirement.extras),
                origin=origin,
                shown=redact_text(str(requirement)),
            )


def satisfies(requirement: Requirement, package: Locked) -> bool:
    """Whether a package has a version that a requirement accepts; one by URL accepts any."""
    return bool(requirement.url) or requirement.specifier.contains(package.version, prereleases=True)
