"""The base families: official images named by Python version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from hatch_docker.errors import BaseError

PYTHONS = ("3.14", "3.13", "3.12", "3.11", "3.10")


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
    """The families' Python versions that requires-python admits, newest first; only `python` if it is given.

    Raises BaseError if there are none.
    """
    admitted = admitted_of(PYTHONS, requires_python)
    if python and python not in admitted:
        raise BaseError(
            f'Python {python} is excluded by requires-python = "{requires_python}"'
            if python in PYTHONS
            else f"the base families have no Python {python}; they have {', '.join(PYTHONS)}",
            hint=f"set one of {', '.join(admitted)}" if admitted else "",
        )
    if not admitted:
        raise BaseError(
            f'requires-python = "{requires_python}" admits no Python that the base families have',
            hint=f"they have {', '.join(PYTHONS)}; set another base",
        )
    return [python] if python else admitted


def admitted_of(pythons: Sequence[str], requires_python: str) -> list[str]:
    """Those of `pythons`, such as `3.13`, that have a patch release that requires-python admits."""
    specifier = SpecifierSet(requires_python)
    return [each for each in pythons if any(specifier.contains(f"{each}.{patch}") for patch in range(100))]
