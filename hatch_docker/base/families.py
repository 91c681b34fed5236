"""The base families: official images named by Python version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from packaging.specifiers import SpecifierSet

from hatch_docker.errors import BaseError
from hatch_docker.support.dataclasses import dataclass

# The Pythons that are tried, newest first. Newer ones are tried if they are named, or if these are all excluded.
PYTHONS = ("3.14", "3.13", "3.12", "3.11", "3.10")
_NEWER = tuple(f"3.{int(PYTHONS[0].partition('.')[2]) + more}" for more in (2, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The templates of image names: `image` of the bases, `builder` of the builders, empty to compile in the base."""

    image: str
    builder: str = ""


BASES: Mapping[str, Family] = {
    "slim": Family(image="python:{python}-slim", builder="python:{python}"),
    "alpine": Family(image="python:{python}-alpine"),
}


def family_pythons(requires_python: str, python: str = "") -> list[str]:
    """The Python versions to look for that requires-python admits, newest first; only `python` if it is given.

    A Python newer than PYTHONS may be there: the registry decides. Raises BaseError if there are none.
    """
    admitted = admitted_of(PYTHONS, requires_python) or admitted_of(_NEWER, requires_python)
    is_old = python not in PYTHONS and _minor(python) < _minor(PYTHONS[-1])
    if python and (is_old or not admitted_of([python], requires_python)):
        raise BaseError(
            f'Python {python} is excluded by requires-python = "{requires_python}"'
            if not is_old
            else f"the base families have no Python {python}; they have {', '.join(PYTHONS)}",
            hint=f"set one of {', '.join(admitted)}" if admitted else "",
        )
    if not admitted:
        raise BaseError(
            f'requires-python = "{requires_python}" admits no Python that the base families have',
            hint=f"they have {', '.join(PYTHONS)}; set another base",
        )
    return [python] if python else admitted


def _minor(python: str) -> int:
    return int(python.partition(".")[2] or 0)


def admitted_of(pythons: Sequence[str], requires_python: str) -> list[str]:
    """Those of `pythons`, such as `3.13`, that have a patch release that requires-python admits."""
    specifier = SpecifierSet(requires_python)
    return [each for each in pythons if any(specifier.contains(f"{each}.{patch}") for patch in range(100))]
