"""The base families that have a name of their own: official images, one for each Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from hatch_docker.errors import BaseError

PYTHONS = ("3.14", "3.13", "3.12", "3.11", "3.10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Images of docker-library, named by Python version; `builder` is what to compile in, empty for the base itself."""

    image: str
    builder: str = ""


BASES: Mapping[str, Family] = {
    "slim": Family(image="python:{python}-slim", builder="python:{python}"),
    "alpine": Family(image="python:{python}-alpine"),
}


def admitted(requires_python: str, python: str = "") -> list[str]:
    """The families' Python versions that a project admits, newest first; raises BaseError where there are none."""
    fitting = fit(requires_python, PYTHONS)
    if python and python not in fitting:
        raise BaseError(
            f'Python {python} is excluded by requires-python = "{requires_python}"'
            if python in PYTHONS
            else f"the base families have no Python {python}; they have {', '.join(PYTHONS)}",
            hint=f"take one of {', '.join(fitting)}" if fitting else "",
        )
    if not fitting:
        raise BaseError(
            f'requires-python = "{requires_python}" admits no Python that the base families have',
            hint=f"they have {', '.join(PYTHONS)}; another base image can be named with base",
        )
    return [python] if python else fitting


def fit(requires_python: str, pythons: Sequence[str]) -> list[str]:
    """Those of `pythons`, such as `3.13`, that a project may be run by; their patch release is not known yet."""
    specifier = SpecifierSet(requires_python)
    return [each for each in pythons if any(specifier.contains(f"{each}.{patch}") for patch in range(100))]
