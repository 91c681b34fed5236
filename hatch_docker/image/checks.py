"""Checks of the wheels that go into an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LockError, NoWheelError
from hatch_docker.locks import InstallRequest, check_complete
from hatch_docker.locks.locked import Locked
from hatch_docker.support.progress import Progress
from hatch_docker.wheels.install import installed
from hatch_docker.wheels.prepare import PreparedWheel

_SHOWN = 5


def check_wheels(
    units: Sequence[PreparedWheel], own: PreparedWheel, locked: Locked, wanted: InstallRequest, progress: Progress
) -> None:
    """Compare the wheels with each other and with the target.

    Raises NoWheelError where the project's own wheel does not fit the target, LockError where wheels require what the
    lock does not hold; notes paths that two wheels write with different content.
    """
    _check_own(own, wanted.target)
    _check_python(units, wanted.target)
    missing = check_complete(
        locked.artifacts,
        {unit.facts.key: unit.facts.requires_dist for unit in units},
        wanted.requirements,
        wanted.target,
        project=wanted.project,
        overridden=locked.overridden,
    )
    # What uv resolved is complete but for what its own configuration overrides, of which the result does not tell.
    if missing and locked.resolved:
        progress.warn("overridden in uv's configuration: " + "; ".join(missing))
    elif missing:
        raise LockError(
            "the lock is not complete for this image:" + "".join(f"\n  {each}" for each in missing),
            hint=f"lock again, for {wanted.target}",
        )
    for text in _clashes([*units, own], wanted.target):
        progress.warn(text)


def _check_own(own: PreparedWheel, target: TargetPython) -> None:
    try:
        _, _, _, tags = parse_wheel_filename(own.filename)
    except InvalidWheelFilename as error:
        raise NoWheelError(f"the project's own wheel has a strange name: {error}", place=own.filename) from None
    if tags.isdisjoint(target.tags):
        raise NoWheelError(
            f"the project's own wheel is for {', '.join(sorted(map(str, tags)))}, not for {target}",
            place=own.filename,
            hint="a build hook of the project gave it these tags",
        )


def _check_python(units: Sequence[PreparedWheel], target: TargetPython) -> None:
    excluding = [
        f"{unit.facts.name} {unit.facts.version} requires {unit.facts.requires_python}"
        for unit in units
        if not _admits(unit.facts.requires_python, target.version)
    ]
    if excluding:
        raise LockError(
            f"the image has Python {target.version}, and {', '.join(excluding)}", hint=f"lock again, for {target}"
        )


def _admits(requires_python: str, version: str) -> bool:
    try:
        return SpecifierSet(requires_python).contains(version, prereleases=True)
    except InvalidSpecifier:
        # As installers do with what an old wheel says there.
        return True


def _clashes(units: Sequence[PreparedWheel], target: TargetPython) -> Iterator[str]:
    """Paths that two wheels write with different content; the wheel whose layer is higher has them in the image."""
    first: dict[str, tuple[str, str]] = {}
    found: dict[tuple[str, str], list[str]] = {}
    for unit in units:
        for path, checksum in installed(unit.facts, target, pruned=unit.pruned).items():
            other, known = first.setdefault(path, (unit.facts.name, checksum))
            if known != checksum:
                found.setdefault((other, unit.facts.name), []).append(path)
    for (one, two), places in found.items():
        more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        yield f"{one} and {two} both install {', '.join(places[:_SHOWN])}{more}, with different content"
