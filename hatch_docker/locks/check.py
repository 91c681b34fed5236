"""Check that a lock satisfies the project's requirements, and that it is complete. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LockError
from hatch_docker.index.artifact import Artifact
from hatch_docker.locks.model import MARKER_ERRORS, NO_OVERRIDES, InstallRequest, Overrides, evaluate
from hatch_docker.locks.origins import allowed_origins, is_from, origin_of_url, shown_origin
from hatch_docker.support.redaction import redact, redact_text


def check_fresh(
    artifacts: Iterable[Artifact],
    request: InstallRequest,
    *,
    lock: Path,
    refresh: str,
    overridden: Overrides = NO_OVERRIDES,
) -> None:
    """Raise LockError naming all requirements of the request that the selected artifacts do not satisfy.

    What satisfies a requirement with a URL or a source (`request.sources`) must come from there. `refresh` is the
    command that refreshes the lock. Overridden names and the project itself are not checked.
    """
    locked = {artifact.name: artifact for artifact in artifacts}
    versions = {name: artifact.version for name, artifact in locked.items()}
    unmet = [
        f"{redact_text(str(requirement))} ({mismatch})"
        for requirement in request.requirements
        if canonicalize_name(requirement.name) not in (request.project, *overridden.names)
        and applies(requirement, request.target, extra="")
        and (mismatch := _mismatch(requirement, versions) or _elsewhere(requirement, locked, request))
    ]
    if unmet:
        raise LockError(
            f"the lock is stale, the project requires {'; '.join(unmet)}",
            place=str(lock),
            hint=f"refresh it: {refresh}",
        )


def _elsewhere(requirement: Requirement, locked: Mapping[str, Artifact], request: InstallRequest) -> str:
    """Where a locked package comes from, if that is not where the project says; else empty."""
    name = canonicalize_name(requirement.name)
    if requirement.url:
        allowed = {origin_of_url(requirement.url)}
    else:
        allowed = allowed_origins(request.sources.by_name.get(name, ()), request.target, request.extras, request.groups)
    if any(is_from(locked[name], origin) for origin in allowed):
        return ""
    tree = locked[name].tree
    where = tree.url if tree else locked[name].index or locked[name].url
    wanted = " or ".join(sorted(map(shown_origin, allowed)))
    return f"it comes from {wanted}, and the lock has it from {redact(where)}"


def check_complete(
    artifacts: Iterable[Artifact],
    requires: Mapping[str, Sequence[str]],
    request: InstallRequest,
    *,
    overridden: Overrides = NO_OVERRIDES,
) -> list[str]:
    """The requirements of the selected wheels that the selection does not satisfy, one line each, as in `pip check`.

    `requires` has each wheel's Requires-Dist by normalized name (core metadata); the extras that the request's
    requirements name count. What the lock overrides and the project itself are not checked; invalid requirements
    are skipped, as in pip.
    """
    target = request.target
    versions = {artifact.name: artifact.version for artifact in artifacts}
    requires = {name: each for name, each in requires.items() if name not in overridden.packages}
    problems: dict[str, None] = {}
    queue = deque([("", requirement) for requirement in request.requirements if applies(requirement, target, extra="")])
    queue.extend((name, each) for name in sorted(versions) for each in _requires(requires, name, "", target))
    seen: set[tuple[str, str]] = set()
    while queue:
        origin, requirement = queue.popleft()
        name = canonicalize_name(requirement.name)
        if name == request.project or name in overridden.names:
            continue
        if mismatch := _mismatch(requirement, versions):
            dependent = f"{origin} {versions[origin]}" if origin else "the project"
            problems[f"{dependent} requires {redact_text(str(requirement))}: {mismatch}"] = None
            continue
        for extra in sorted(canonicalize_name(each) for each in requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                queue.extend((name, each) for each in _requires(requires, name, extra, target))
    return list(problems)


def _requires(
    requires: Mapping[str, Sequence[str]], name: str, extra: str, target: TargetPython
) -> Iterator[Requirement]:
    """The requirements of a wheel that apply to the target; for an extra, only those that it adds."""
    for text in requires.get(name, ()):
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if applies(requirement, target, extra=extra) and not (extra and applies(requirement, target, extra="")):
            yield requirement


def applies(requirement: Requirement, target: TargetPython, *, extra: str) -> bool:
    """Whether a requirement applies to the target; `extra` as in core metadata. True if its marker is invalid."""
    try:
        return requirement.marker is None or evaluate(requirement.marker, target, extra=extra)
    except MARKER_ERRORS:
        return True


def _mismatch(requirement: Requirement, versions: Mapping[str, str]) -> str:
    """Why the selection does not satisfy a requirement; empty if it does. A URL or a tree may have no version."""
    version = versions.get(canonicalize_name(requirement.name))
    if version is None:
        return "it is not in the lock"
    if not version or requirement.url or requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"the lock has {version}"
