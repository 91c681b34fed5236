"""The project's own requirements with those of its chosen extras and dependency groups. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from packaging.dependency_groups import resolve_dependency_groups
from packaging.errors import ExceptionGroup
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hatch_docker.errors import ConfigError
from hatch_docker.locks.reading import MARKER_ERRORS, evaluate
from hatch_docker.target import TargetPython


def project_requirements(
    project: str,
    dependencies: Iterable[str],
    optional: Mapping[str, Sequence[str]],
    dependency_groups: Mapping[str, Sequence[str | Mapping[str, str]]],
    *,
    extras: Iterable[str],
    groups: Iterable[str],
    target: TargetPython,
) -> list[Requirement]:
    """Every requirement that holds for the target, in the order they are written, each once.

    `optional` are the project's optional dependencies by extra, `dependency_groups` the table of that name (PEP 735).
    A project's requirement of its own extras (`demo[postgres]`) is replaced by what they hold. Raises ConfigError for
    an extra or a group that does not exist, and for requirements that are none.
    """
    by_extra: dict[str, tuple[str, Sequence[str]]] = {
        canonicalize_name(name): (f"project.optional-dependencies.{name}", optional[name]) for name in optional
    }
    queue = deque([("project.dependencies", list(dependencies))])
    queue.extend(("dependency-groups", list(_group(name, dependency_groups))) for name in groups)
    queue.extend(_extra(name, by_extra) for name in extras)
    found: dict[str, Requirement] = {}
    seen: set[str] = set()
    while queue:
        place, texts = queue.popleft()
        for requirement in _parsed(place, texts):
            if not _holds(requirement, place, target):
                continue
            if canonicalize_name(requirement.name) != project:
                found[str(requirement)] = requirement
                continue
            for extra in sorted(requirement.extras - seen):
                seen.add(extra)
                queue.append(_extra(extra, by_extra))
    return list(found.values())


def _extra(name: str, by_extra: Mapping[str, tuple[str, Sequence[str]]]) -> tuple[str, list[str]]:
    known = by_extra.get(canonicalize_name(name))
    if known is None:
        raise ConfigError([("extras", f"the project has no extra {name!r}; it has {', '.join(by_extra) or 'none'}")])
    return known[0], list(known[1])


def _group(name: str, groups: Mapping[str, Sequence[str | Mapping[str, str]]]) -> tuple[str, ...]:
    try:
        return resolve_dependency_groups(groups, name)
    except ExceptionGroup as several:
        raise ConfigError([(f"dependency-groups.{name}", str(each)) for each in several.exceptions]) from None


def _parsed(place: str, texts: Iterable[str]) -> Iterator[Requirement]:
    for text in texts:
        try:
            yield Requirement(text)
        except (InvalidRequirement, RecursionError):
            raise ConfigError([(place, f"{text!r} is not a requirement")]) from None


def _holds(requirement: Requirement, place: str, target: TargetPython) -> bool:
    try:
        return requirement.marker is None or evaluate(requirement.marker, target)
    except MARKER_ERRORS as error:
        raise ConfigError([(place, f"the marker of {requirement} cannot be evaluated: {error}")]) from None
