"""The table `build-system` of a pyproject.toml (PEP 517, 518)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from hatch_docker.support import toml
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

# The build system of sources that declare none (PEP 517). setuptools before 70.1 takes bdist_wheel from wheel.
DEFAULT_REQUIRES = ("setuptools>=40.8.0", "wheel")
DEFAULT_BACKEND = "setuptools.build_meta:__legacy__"

_OBJECT = regex(r"[\w.]+(?::[\w.]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSystem:
    """A build system; the defaults are those of PEP 517 for sources that declare none."""

    requires: tuple[str, ...] = DEFAULT_REQUIRES
    backend: str = DEFAULT_BACKEND
    backend_path: tuple[str, ...] = ()


def read_build_system(pyproject: bytes) -> BuildSystem:
    """The build system in the content of a pyproject.toml. Raises ValueError with a message for users."""
    try:
        return system_of(toml.loads(pyproject.decode()))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its pyproject.toml cannot be read: {error}") from None


def system_of(document: Mapping[str, Any]) -> BuildSystem:
    """The build system of a pyproject.toml. Raises ValueError with a message for users."""
    try:
        table = document.get("build-system")
        return BuildSystem() if table is None else _read(table)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _read(table: object) -> BuildSystem:
    if not isinstance(table, dict):
        raise TypeError("build-system is not a table")
    if "requires" not in table:
        raise ValueError("build-system.requires is missing")
    requires, backend_path = _texts(table, "requires"), _texts(table, "backend-path")
    backend = table.get("build-backend", DEFAULT_BACKEND)
    try:
        for text in requires:
            Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"build-system.requires: {error}") from None
    if not isinstance(backend, str) or not _OBJECT.fullmatch(backend):
        raise ValueError(f"build-system.build-backend: {backend!r} is not the name of an object")
    if outside := [path for path in backend_path if path.startswith("/") or ".." in path.split("/")]:
        raise ValueError(f"build-system.backend-path: {outside[0]!r} is not in the sources")
    return BuildSystem(requires=requires, backend=backend, backend_path=backend_path)


def _texts(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"build-system.{key}: {value!r} is not a list of strings")
    return tuple(value)
