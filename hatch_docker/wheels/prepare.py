"""The wheels of an image as its layers take them: what each is, where it is, and what of it is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hatch_docker.index.download import FetchedFile
from hatch_docker.support.cache import Cache
from hatch_docker.support.threads import together
from hatch_docker.wheels.facts import FORMAT, WheelFacts, read_facts
from hatch_docker.wheels.prune import plan
from hatch_docker.wheels.wheelfile import WheelFile


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedWheel:
    """One wheel: `filename` is its name, `path` where its bytes are, `pruned` the members that are left out."""

    facts: WheelFacts
    filename: str
    path: Path
    digest: str
    pruned: frozenset[str] = frozenset()


def prepare_wheels(
    wheels: Sequence[FetchedFile], cache: Cache, *, prune: Sequence[str], keep: Sequence[str], threads: int
) -> tuple[list[PreparedWheel], PreparedWheel]:
    """The wheels of the lock, and the project's own, the last; what is pruned of each is decided for all together.

    Raises WheelError for a wheel that breaks its specification.
    """
    named = [(wheel.artifact.filename, wheel.path, wheel.digest) for wheel in wheels]
    units = together(lambda each: _unit(*each, cache), named, threads=threads)
    pruned = plan([unit.facts for unit in units], prune=prune, keep=keep)
    units = [replace(unit, pruned=left_out) for unit, left_out in zip(units, pruned, strict=True)]
    return units[:-1], units[-1]


def scripts_of(units: Sequence[PreparedWheel]) -> list[str]:
    """The names of all scripts in the venv's bin."""
    names = {name for unit in units for name in unit.facts.scripts}
    prefixes = [(unit, f"{unit.facts.data}/scripts/") for unit in units]
    names |= {path[len(prefix) :] for unit, prefix in prefixes for path in unit.facts.files if path.startswith(prefix)}
    return sorted(names)


def main_of(unit: PreparedWheel) -> str:
    """What `python -m` starts of a wheel: the only package with a `__main__`; empty where there is none, or several."""
    places = [unit.facts.site_path(path) for path in unit.facts.files]
    packages = [place.removesuffix("/__main__.py") for place in places if place.endswith("/__main__.py")]
    return packages[0].replace("/", ".") if len(packages) == 1 else ""


def _unit(filename: str, path: Path, digest: str, cache: Cache) -> PreparedWheel:
    key = f"{FORMAT} {digest}"
    known = cache.get("wheels", key)
    facts = WheelFacts.from_json(known) if known else None
    if facts is None:
        with WheelFile(path, filename) as wheel:
            facts = read_facts(wheel)
        cache.put("wheels", key, facts.to_json())
    return PreparedWheel(facts=facts, filename=filename, path=path, digest=digest)
