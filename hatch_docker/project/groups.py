"""The dependency groups of a project: `[dependency-groups]` (PEP 735), and those of other tools."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.errors import ConfigError
from hatch_docker.index.foreign_sources import pdm_sources, poetry_marker, poetry_specifiers
from hatch_docker.index.uv_sources import list_of, table_of
from hatch_docker.support import toml
from hatch_docker.support.patterns import regex

Table = Mapping[str, Any]

_SPECIFIER = regex(r"\s*[=<>!~]")


def dependency_groups(document: Table, root: Path) -> dict[str, Any]:
    """All groups of a pyproject.toml in `root`, as PEP 735 has them.

    `document` may be invalid: then its groups are left to the checks of PEP 735. Raises ConfigError for a constraint of
    Poetry that is not valid.
    """
    own = document.get("dependency-groups", {})
    if not isinstance(own, Mapping):
        return own  # type: ignore[no-any-return]
    groups = dict(own)
    names = {canonicalize_name(name): name for name in groups}
    for group, entries in (*_uv(document), *_poetry(document), *_pdm(document, root), *_pipenv(root)):
        name = names.setdefault(canonicalize_name(group), group)
        listed = groups.get(name, [])
        groups[name] = [*listed, *entries] if isinstance(listed, list) else listed
    return groups


def _uv(document: Table) -> Iterator[tuple[str, list[Any]]]:
    if legacy := list_of(table_of(document, "tool", "uv").get("dev-dependencies")):
        yield "dev", legacy


def _poetry(document: Table) -> Iterator[tuple[str, list[Any]]]:
    poetry = table_of(document, "tool", "poetry")
    if legacy := table_of(poetry, "dev-dependencies"):
        yield "dev", list(poetry_requirements(legacy, "tool.poetry.dev-dependencies"))
    for name in table_of(poetry, "group"):
        group = table_of(poetry, "group", name)
        included = [{"include-group": each} for each in list_of(group.get("include-groups"))]
        place = f"tool.poetry.group.{name}.dependencies"
        yield name, [*poetry_requirements(table_of(group, "dependencies"), place), *included]


def poetry_requirements(dependencies: Table, place: str) -> Iterator[str]:
    """Poetry's dependencies as requirements (PEP 508). Where they come from is said by their sources."""
    for name, value in dependencies.items():
        if name == "python":
            continue
        for entry in value if isinstance(value, list) else [value]:
            try:
                yield _requirement(name, {"version": entry} if isinstance(entry, str) else entry)
            except (ValueError, TypeError, AttributeError) as error:
                raise ConfigError([(f"{place}.{name}", str(error))]) from None


def _requirement(name: str, entry: Table) -> str:
    extras = ",".join(list_of(entry.get("extras")))
    version = entry.get("version", "*")
    # Alternatives cannot be said in one requirement: the lock, or the newest version, decides.
    specifiers = "" if "||" in version else str(poetry_specifiers(version))
    marker = poetry_marker(entry)
    return f"{name}{extras and f'[{extras}]'}{specifiers}{marker and f' ; {marker}'}"


def _pdm(document: Table, root: Path) -> Iterator[tuple[str, list[Any]]]:
    pdm = table_of(document, "tool", "pdm")
    editable = {each.place: name for name, found in pdm_sources(pdm, root, ()).items() for each in found}
    for group, lines in table_of(pdm, "dev-dependencies").items():
        names = [name for place, name in editable.items() if place == f"tool.pdm.dev-dependencies.{group}"]
        yield group, [*(line for line in list_of(lines) if not re.match(r"-e\s", str(line))), *names]


def _pipenv(root: Path) -> Iterator[tuple[str, list[Any]]]:
    """The categories of a Pipfile, without that of the packages which are always installed."""
    try:
        document = toml.loads((root / "Pipfile").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    for category, packages in document.items():
        if category in ("packages", "source", "requires", "scripts", "pipenv") or not isinstance(packages, Mapping):
            continue
        versions = {name: each.get("version") if isinstance(each, Mapping) else each for name, each in packages.items()}
        lines = [f"{name}{version if _SPECIFIER.match(str(version)) else ''}" for name, version in versions.items()]
        yield "dev" if category == "dev-packages" else category, lines
