"""The wheels of an image as its layers take them: what each is, where it is, and what of it is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from hatch_docker.cache import Cache
from hatch_docker.errors import LockError, NoWheelError
from hatch_docker.locks import Wanted, check_complete
from hatch_docker.locks.locked import Locked
from hatch_docker.parallel import together
from hatch_docker.progress import Progress
from hatch_docker.target import TargetPython
from hatch_docker.wheels.facts import FORMAT, WheelFacts, read_facts
from hatch_docker.wheels.install import installed
from hatch_docker.wheels.obtain import Obtained
from hatch_docker.wheels.prune import plan
from hatch_docker.wheels.wheelfile import WheelFile

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One wheel: `filename` is its name, `path` where its bytes are, `pruned` the members that are left out."""

    facts: WheelFacts
    filename: str
    path: Path
    digest: str
    pruned: frozenset[str] = frozenset()


def units_of(
    wheels: Sequence[Obtained], cache: Cache, *, prune: Sequence[str], keep: Sequence[str], threads: int
) -> tuple[list[Unit], Unit]:
    """The wheels of the lock, and the project's own, the last; what is pruned of each is decided for all together.

    Raises WheelError for a wheel that breaks its specification.
    """
    named = [(wheel.artifact.filename, wheel.path, wheel.digest) for wheel in wheels]
    units = together(lambda each: _unit(*each, cache), named, threads=threads)
    pruned = plan([unit.facts for unit in units], prune=prune, keep=keep)
    units = [replace(unit, pruned=left_out) for unit, left_out in zip(units, pruned, strict=True)]
    return units[:-1], units[-1]


def check_units(units: Sequence[Unit], own: Unit, locked: Locked, wanted: Wanted, progress: Progress) -> None:
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


def scripts_of(units: Sequence[Unit]) -> list[str]:
    """The names of all scripts in the venv's bin."""
    names = {name for unit in units for name in unit.facts.scripts}
    prefixes = [(unit, f"{unit.facts.data}/scripts/") for unit in units]
    names |= {path[len(prefix) :] for unit, prefix in prefixes for path in unit.facts.files if path.startswith(prefix)}
    return sorted(names)


def main_of(unit: Unit) -> str:
    """What `python -m` starts of a wheel: the only package with a `__main__`; empty where there is none, or several."""
    places = [unit.facts.site_path(path) for path in unit.facts.files]
    packages = [place.removesuffix("/__main__.py") for place in places if place.endswith("/__main__.py")]
    return packages[0].replace("/", ".") if len(packages) == 1 else ""


def _unit(filename: str, path: Path, digest: str, cache: Cache) -> Unit:
    key = f"{FORMAT} {digest}"
    known = cache.get("wheels", key)
    facts = WheelFacts.from_json(known) if known else None
    if facts is None:
        with WheelFile(path, filename) as wheel:
            facts = read_facts(wheel)
        cache.put("wheels", key, facts.to_json())
    return Unit(facts=facts, filename=filename, path=path, digest=digest)


def _check_own(own: Unit, target: TargetPython) -> None:
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


def _check_python(units: Sequence[Unit], target: TargetPython) -> None:
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


def _clashes(units: Sequence[Unit], target: TargetPython) -> Iterator[str]:
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
