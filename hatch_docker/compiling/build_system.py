"""The table `build-system` of a pyproject.toml (PEP 517, 518)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.requirements import Requirement

from hatch_docker.support import toml

# The build system of sources that declare none (PEP 517). setuptools before 70.1 takes bdist_wheel from wheel.
DEFAULT_REQUIRES = ("setuptools>=40.8.0", "wheel")
DEFAULT_BACKEND = "setuptools.build_meta:__legacy__"

_OBJECT = re.compile(r"[\w.]+(?::[\w.]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSystem:
    """A build system; the defaults are those of PEP 517 for sources that declare none."""

    requires: tuple[str, ...] = DEFAULT_REQUIRES
    backend: str = DEFAULT_BACKEND
    backend_path: tuple[str, ...] = ()


def read_build_system(pyproject: bytes) -> BuildSystem:
    """The build system in the content of a pyproject.toml. Raises ValueError with a message for users."""
    try:
        document = toml.loads(pyproject.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its pyproject.toml cannot be read: {error}") from None
    return system_of(document)


def system_of(document: Mapping[str, Any]) -> BuildSystem:
    """The build system of a pyproject.toml. Raises ValueError with a message for users."""
    try:
        table = document.get("build-system")
        return BuildSystem() if table is None else _read(table)
    except KeyError:
        raise ValueError("its pyproject.toml has a build-system without requires") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"its pyproject.toml cannot be read: {error}") from None


def _read(table: object) -> BuildSystem:
    if not isinstance(table, dict):
        raise TypeError("build-system is not a table")
    requires, backend_path = _texts(table["requires"]), _texts(table.get("backend-path", []))
    backend = table.get("build-backend", DEFAULT_BACKEND)
    for text in requires:
        Requirement(text)
    if not isinstance(backend, str) or not _OBJECT.fullmatch(backend):
        raise ValueError(f"{backend!r} is not the name of an object")
    if outside := [path for path in backend_path if path.startswith("/") or ".." in path.split("/")]:
        raise ValueError(f"{outside[0]!r} is not in the sources")
    return BuildSystem(requires=requires, backend=backend, backend_path=backend_path)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"{value!r} is not a list of strings")
    return tuple(value)
