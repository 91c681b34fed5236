"""Check the wheels of an image against each other and the target."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LockError, NoWheelError, join_hints
from hatch_docker.locks import InstallRequest, check_complete
from hatch_docker.locks.check import applies
from hatch_docker.locks.locked import Locked
from hatch_docker.support.patterns import regex
from hatch_docker.support.progress import Progress
from hatch_docker.wheels.install import installed
from hatch_docker.wheels.prepare import PreparedWheel

_CPYTHON = regex(r"cp(\d)(\d+)")
# How many conflicting paths of two wheels a warning names.
_MAX_PATHS = 5


def check_wheels(
    wheels: Sequence[PreparedWheel],
    own: PreparedWheel | None,
    locked: Locked,
    request: InstallRequest,
    progress: Progress,
    *,
    version: str = "",
) -> None:
    """Check the dependencies in `wheels` and the project's `own` wheel, if it has one.

    `version` is the project's, empty if only its wheel tells it. Raises NoWheelError if the project's wheel is not for
    the target, or has another version, LockError if a wheel is not the one that the lock names, or if the wheels
    require another Python, or what a complete lock lacks. Warns about requirements that another lock lacks, and about
    paths that two wheels install with different content.
    """
    target = request.target
    if own:
        _check_own(own, target)
        _check_version(own, version)
        _check_added(own, locked, request)
    _check_names(wheels, locked)
    _check_python(wheels, target)
    unmet = check_complete(
        locked.artifacts,
        {wheel.facts.key: wheel.facts.requires_dist for wheel in wheels},
        request,
        overridden=locked.overridden,
    )
    if unmet and locked.is_complete:
        raise LockError(
            "the lock is not complete for this image:" + "".join(f"\n  {each}" for each in unmet),
            place=str(locked.path or ""),
            hint=f"delete {locked.path}" if locked.resolved else f"lock again, for {target}",
        )
    # Tools override metadata on purpose, and an export does not record that.
    if unmet:
        progress.warn(f"the lock lacks what its packages require: {'; '.join(unmet)}")
    for conflict in _conflicts([*wheels, *([own] if own else [])], target):
        progress.warn(conflict)


def _check_own(own: PreparedWheel, target: TargetPython) -> None:
    try:
        _, _, _, tags = parse_wheel_filename(own.filename)
    except InvalidWheelFilename as error:
        raise NoWheelError(f"the project's own wheel has an invalid name: {error}", place=own.filename) from None
    if tags.isdisjoint(target.tags):
        hint = "a wheel for the image's platform is needed: 'hatch-docker build' compiles the project for it"
        platforms = {each.platform for each in target.tags}
        found = (_CPYTHON.fullmatch(each.abi) for each in tags if each.platform in platforms)
        if pythons := {f"{match[1]}.{match[2]}" for match in found if match}:
            hint = join_hints(f"choose its Python: --set python={min(pythons)}", hint)
        raise NoWheelError(
            f"the project's own wheel is for {', '.join(sorted(map(str, tags)))}, not for {target}",
            place=own.filename,
            hint=hint,
        )


def _check_version(own: PreparedWheel, version: str) -> None:
    """Raise NoWheelError for another version than the one that the image's names have."""
    if version and not _equal(own.facts.version, version):
        raise NoWheelError(
            f"the project's own wheel has version {own.facts.version}, and its metadata {version}",
            place=own.filename,
            hint="if the build backend computes the version, name it in project.dynamic; else build again",
        )


def _check_added(own: PreparedWheel, locked: Locked, request: InstallRequest) -> None:
    """Raise LockError for requirements of the project's wheel that neither its metadata nor the lock names."""
    known: set[str] = {canonicalize_name(each.name) for each in request.requirements}
    known |= {request.project, *locked.overridden.names, *(each.name for each in locked.artifacts)}
    added = [text for text in own.facts.requires_dist if _adds(text, known, request.target)]
    if added:
        raise LockError(
            f"the project's own wheel requires {', '.join(added)}, which the project and its lock do not",
            place=own.filename,
            hint="a build hook adds that to the wheel: add it to project.dependencies, too",
        )


def _adds(text: str, known: Collection[str], target: TargetPython) -> bool:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return False
    return canonicalize_name(requirement.name) not in known and applies(requirement, target, extra="")


def _check_names(wheels: Sequence[PreparedWheel], locked: Locked) -> None:
    """Raise LockError for all wheels at once that have another name or version than the lock."""
    # Directories have the version that they have now.
    versions = {artifact.name: artifact.version for artifact in locked.artifacts if not artifact.tree}
    others = []
    for wheel in wheels:
        name, version = wheel.locked_name or wheel.facts.key, wheel.facts.version
        expected = versions.get(name, "")
        if wheel.facts.key != name or (expected and not _equal(version, expected)):
            others.append(f"{name} {expected}".rstrip() + f" is {wheel.facts.name} {version} ({wheel.filename})")
    if others:
        raise LockError(
            f"the lock names other packages than its files contain: {', '.join(others)}",
            place=str(locked.path or ""),
            hint="lock again; if it is the same then, the file is not what its place says",
        )


def _equal(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def _check_python(wheels: Sequence[PreparedWheel], target: TargetPython) -> None:
    excluding = [
        f"{wheel.facts.name} {wheel.facts.version} requires {wheel.facts.requires_python}"
        for wheel in wheels
        if not _admits(wheel.facts.requires_python, target.version)
    ]
    if excluding:
        raise LockError(
            f"the image has Python {target.version}, and {', '.join(excluding)}", hint=f"lock again, for {target}"
        )


def _admits(requires_python: str, version: str) -> bool:
    try:
        return SpecifierSet(requires_python).contains(version, prereleases=True)
    except InvalidSpecifier:
        # Old wheels have invalid specifiers, which installers ignore.
        return True


def _conflicts(wheels: Sequence[PreparedWheel], target: TargetPython) -> Iterator[str]:
    """Paths that two wheels install with different content. The image has the content of the higher layer."""
    owners: dict[str, tuple[str, str]] = {}
    conflicts: dict[tuple[str, str], list[str]] = {}
    for wheel in wheels:
        for path, checksum in installed(wheel.facts, target, pruned=wheel.pruned).items():
            owner, first_checksum = owners.setdefault(path, (wheel.facts.name, checksum))
            if first_checksum != checksum:
                conflicts.setdefault((owner, wheel.facts.name), []).append(path)
    for (one, two), paths in conflicts.items():
        more = f" and {len(paths) - _MAX_PATHS} more" if len(paths) > _MAX_PATHS else ""
        yield f"{one} and {two} both install {', '.join(paths[:_MAX_PATHS])}{more}, with different content"
