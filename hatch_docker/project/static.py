"""What a pyproject.toml without a build backend says about the project, as `[project]` would have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.errors import ConfigError
from hatch_docker.index.foreign_sources import poetry_specifiers
from hatch_docker.index.uv_sources import list_of, table_of
from hatch_docker.project.groups import poetry_requirements

Table = Mapping[str, Any]

_DEPENDENCIES = "tool.poetry.dependencies"
_REQUIREMENTS = ("dependencies", "optional-dependencies")
_LINKS = {"Homepage": "homepage", "Repository": "repository", "Documentation": "documentation"}


def stated(document: Table) -> dict[str, Any]:
    """`[project]`, with what only `[tool.poetry]` has; without `dynamic`, since nothing computes its fields.

    Poetry's requirements count if `[project]` has none (Poetry: dependency specification). Raises ConfigError for those
    that are not valid, and for requirements that only a backend could compute.
    """
    project = table_of(document, "project")
    poetry = _of_poetry(table_of(document, "tool", "poetry"))
    if any(project.get(key) for key in _REQUIREMENTS):
        poetry = {key: value for key, value in poetry.items() if key not in _REQUIREMENTS}
    missing = [key for key in list_of(project.get("dynamic")) if key in _REQUIREMENTS and not poetry]
    if missing:
        message = f"it names {' and '.join(missing)}, and no build backend computes them"
        raise ConfigError(
            [("project.dynamic", f"{message}: list them in [project], or name the backend in [build-system]")]
        )
    return {key: value for key, value in {**poetry, **project}.items() if key != "dynamic"}


def _of_poetry(poetry: Table) -> dict[str, Any]:
    if not poetry:
        return {}
    dependencies = table_of(poetry, "dependencies")
    optional = {name for name, value in dependencies.items() if isinstance(value, Mapping) and value.get("optional")}
    required = {name: value for name, value in dependencies.items() if name not in optional}
    extras = table_of(poetry, "extras").items()
    values = {
        **{key: poetry.get(key) for key in ("name", "version", "description", "license")},
        "authors": [_person(each) for each in list_of(poetry.get("authors")) if isinstance(each, str)],
        "requires-python": _specifiers(dependencies.get("python")),
        "dependencies": list(poetry_requirements(required, _DEPENDENCIES)),
        "optional-dependencies": {extra: _named(list_of(names), dependencies) for extra, names in extras},
        "urls": {label: poetry[key] for label, key in _LINKS.items() if isinstance(poetry.get(key), str)},
    }
    return {key: value for key, value in values.items() if value}


def _named(names: Iterable[object], dependencies: Table) -> list[str]:
    """The requirements of the dependencies with these names."""
    wanted = {canonicalize_name(str(name)) for name in names}
    chosen = {name: value for name, value in dependencies.items() if canonicalize_name(name) in wanted}
    return list(poetry_requirements(chosen, _DEPENDENCIES))


def _person(text: str) -> dict[str, str]:
    """An author as Poetry writes one: `name <address>`."""
    name, _, address = text.partition("<")
    return {key: each for key, each in (("name", name.strip()), ("email", address.rstrip("> "))) if each}


def _specifiers(constraint: object) -> str:
    """Poetry's constraint on Python. Specifiers cannot say alternatives (`||`): then each Python is admitted."""
    if not isinstance(constraint, str) or "|" in constraint:
        return ""
    try:
        return str(poetry_specifiers(constraint))
    except ValueError as error:
        raise ConfigError([(f"{_DEPENDENCIES}.python", str(error))]) from None
