"""Is a lock still the project's? Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LockError
from hatch_docker.index.artifact import Artifact
from hatch_docker.locks.model import MARKER_ERRORS, evaluate


def check_fresh(
    artifacts: Iterable[Artifact],
    requirements: Iterable[Requirement],
    target: TargetPython,
    *,
    lock: Path,
    project: str,
    refresh: str,
    overridden: Collection[str] = (),
) -> None:
    """Raise LockError naming each of the project's requirements that the selected artifacts do not meet.

    `requirements` are the project's with those of its chosen extras and groups; `refresh` is the command that
    refreshes this lock. Names in `overridden` and the project itself are not looked at.
    """
    versions = {artifact.name: artifact.version for artifact in artifacts}
    unmet = [
        f"{requirement} ({found})"
        for requirement in requirements
        if canonicalize_name(requirement.name) not in (project, *overridden)
        and holds(requirement, target, extra="")
        and (found := _mismatch(requirement, versions))
    ]
    if unmet:
        raise LockError(
            f"the lock is stale, the project requires {'; '.join(unmet)}",
            place=str(lock),
            hint=f"refresh it: {refresh}",
        )


def check_complete(
    artifacts: Iterable[Artifact],
    requires: Mapping[str, Sequence[str]],
    requirements: Iterable[Requirement],
    target: TargetPython,
    *,
    project: str,
    overridden: Collection[str] = (),
) -> list[str]:
    """What the selected wheels require and the selection does not hold: one line each, as `pip check` would find.

    `requires` is each wheel's Requires-Dist by normalized name (core metadata), `requirements` the project's own,
    which say what extras are asked for. Names in `overridden` and the project itself are not looked at; a requirement
    that cannot be parsed is passed over, as pip does.
    """
    versions = {artifact.name: artifact.version for artifact in artifacts}
    problems: dict[str, None] = {}
    queue = deque([("", requirement) for requirement in requirements if holds(requirement, target, extra="")])
    queue.extend((name, each) for name in sorted(versions) for each in _requires(requires, name, "", target))
    seen: set[tuple[str, str]] = set()
    while queue:
        origin, requirement = queue.popleft()
        name = canonicalize_name(requirement.name)
        if name == project or name in overridden:
            continue
        if found := _mismatch(requirement, versions):
            who = f"{origin} {versions[origin]}" if origin else "the project"
            problems[f"{who} requires {requirement}: {found}"] = None
            continue
        for extra in sorted(canonicalize_name(each) for each in requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                queue.extend((name, each) for each in _requires(requires, name, extra, target))
    return list(problems)


def _requires(
    requires: Mapping[str, Sequence[str]], name: str, extra: str, target: TargetPython
) -> Iterator[Requirement]:
    """The requirements of a wheel that hold for the target; for an extra, those that it adds."""
    for text in requires.get(name, ()):
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if holds(requirement, target, extra=extra) and not (extra and holds(requirement, target, extra="")):
            yield requirement


def holds(requirement: Requirement, target: TargetPython, *, extra: str) -> bool:
    """Whether a requirement is one for the target; `extra` as in core metadata. It is where its marker says nothing."""
    try:
        return requirement.marker is None or evaluate(requirement.marker, target, extra=extra)
    except MARKER_ERRORS:
        return True


def _mismatch(requirement: Requirement, versions: Mapping[str, str]) -> str:
    """How the selection fails a requirement; empty when it meets it. A URL has no version to compare."""
    version = versions.get(canonicalize_name(requirement.name))
    if version is None:
        return "it is not in the lock"
    if requirement.url or requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"the lock has {version}"
