"""Choose how a project is read and built: by hatchling in this process, by its own build backend, or as files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from hatchling.builders.plugin.interface import BuilderInterface
from hatchling.builders.wheel import WheelBuilder
from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hatch_docker.errors import ConfigError
from hatch_docker.project.hatchling import HatchlingProject, Target
from hatch_docker.project.model import ProjectSource
from hatch_docker.project.table import read_toml, subtable
from hatch_docker.support.patterns import regex

Table = Mapping[str, Any]

_HATCHLING = "hatchling.build"
# Keys that say whether a project is a package: those of uv, Poetry and PDM.
_KEYS = (("uv", "package"), ("poetry", "package-mode"), ("pdm", "distribution"))
# Sections of setup.cfg that describe a package; others configure tools.
_PACKAGE = regex(r"^\[(?:metadata|options)\]", re.MULTILINE)


def open_project(directory: str | Path) -> ProjectSource:
    """The project in a directory. Raises ConfigError if there is none, or its pyproject.toml cannot be read."""
    # As in builds, links are kept: fields such as {root:parent:uri} are made of the path's text.
    root = Path(os.path.abspath(directory))  # noqa: PTH100
    if not root.is_dir():
        what = "it is not a directory" if root.exists() else "there is no such directory"
        raise ConfigError([(str(root), f"{what}: name the directory of a Python project, or change to it")])
    document = read_toml(root / "pyproject.toml")
    found = _in_process(root, document) if is_package(root, document) else None
    return found or _without_hatchling(root, document)


def project_of_builder(builder: BuilderInterface[Any, Any]) -> ProjectSource:
    """The project of a hatchling builder, which hatchling builds unless the project names another build backend."""
    root, document = Path(builder.root), builder.metadata.config
    if of_hatchling(document):
        return HatchlingProject(builder)
    return _without_hatchling(root, document)


def _without_hatchling(root: Path, document: Table) -> ProjectSource:
    if is_package(root, document):
        from hatch_docker.project.backend import BackendProject

        return BackendProject(root)
    from hatch_docker.project.files import FilesProject

    return FilesProject(root)


def of_hatchling(document: Table) -> bool:
    """Whether a pyproject.toml that hatchling was asked to read names no other build backend."""
    return "build-system" not in document or _names_hatchling(subtable(document, "build-system"))


def is_package(root: Path, document: Table) -> bool:
    """Whether a project is built into a wheel: it has a build backend, and its tool does not say otherwise.

    As in uv, a pyproject.toml without `build-system` is that of an application, although PEP 517 would let setuptools
    build it; as in pip, setup.py or setup.cfg alone stands for setuptools.
    """
    tool = subtable(document, "tool")
    settings = {name: subtable(tool, name).get(key) for name, key in _KEYS}
    if False in settings.values():
        return False
    if "build-system" in document or "setuptools" in tool or True in (settings["uv"], settings["pdm"]):
        return True
    return (root / "setup.py").is_file() or _describes_package(root / "setup.cfg")


def satisfied(requirements: Iterable[str]) -> bool:
    """Whether what is installed in this process satisfies requirements (PEP 508), with their extras."""
    pending = [(text, "") for text in requirements]
    seen = set()
    while pending:
        text, extra = pending.pop()
        try:
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            found = distribution(requirement.name)
        except (InvalidRequirement, PackageNotFoundError, UndefinedComparison, UndefinedEnvironmentName):
            return False
        if requirement.url or not requirement.specifier.contains(found.version, prereleases=True):
            return False
        for each in map(canonicalize_name, requirement.extras):
            if (requirement.name, each) not in seen:
                seen.add((requirement.name, each))
                pending += [(line, each) for line in found.requires or () if "extra" in line]
    return True


def _names_hatchling(system: Table) -> bool:
    return system.get("build-backend") == _HATCHLING and not system.get("backend-path")


def _in_process(root: Path, document: Table) -> HatchlingProject | None:
    """The project as hatchling in this process builds it; None if it needs something else, or absent plugins."""
    system = subtable(document, "build-system")
    requires = system.get("requires", [])
    if not _names_hatchling(system) or not isinstance(requires, list) or not satisfied(map(str, requires)):
        return None
    target = Target(str(root))
    try:
        builder = WheelBuilder(target.root, plugin_manager=target.plugin_manager, metadata=target.metadata)
        needed = builder.config.dependencies
    except Exception:  # its own check says what is wrong
        needed = []
    return HatchlingProject(target) if satisfied(needed) else None


def _describes_package(setup_cfg: Path) -> bool:
    try:
        return bool(_PACKAGE.search(setup_cfg.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
