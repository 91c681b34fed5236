"""Core metadata as a Project: from the table `[project]` of any build backend, or from a wheel's METADATA.

PyPA: Declaring project metadata (PEP 621), Core metadata, Entry points.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from email.headerregistry import HeaderRegistry
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.metadata.core import CoreMetadata, HatchMetadataSettings
from hatchling.plugin.manager import PluginManager
from hatchling.utils.context import Context
from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from hatch_docker.errors import ConfigError
from hatch_docker.project.groups import dependency_groups
from hatch_docker.project.license import license_name
from hatch_docker.project.model import Project
from hatch_docker.support.patterns import regex
from hatch_docker.wheels.distinfo import parse_entry_points

if TYPE_CHECKING:
    from hatch_docker.compiling.dist_info import BuiltMetadata

Table = Mapping[str, Any]

_EXTRA = regex(r'extra (==|!=) "([^"]*)"|"([^"]*)" (==|!=) extra')
# Comparisons that hold and do not hold everywhere, in the place of those with an extra.
_TRUE, _FALSE = 'os_name != ""', 'os_name == ""'
_SCRIPTS = ("console_scripts", "gui_scripts")
_ALWAYS = regex(rf"^{_TRUE}$|{_TRUE} and | and {_TRUE}$")


def read_core(root: Path, table: Table) -> CoreMetadata:
    """The metadata of a table `[project]` at `root`. Its fields raise TypeError, ValueError and OSError.

    Of the licence, only what names it is read. A name that is no SPDX expression is left to the build backend: that of
    Poetry admits any.
    """
    named = table.get("license")
    if isinstance(named, str):
        table = {**table, "license": {"text": named}}
    elif isinstance(named, Mapping) and list(named) == ["file"]:
        table = {**table, "license": {"text": ""}}
    settings: HatchMetadataSettings[Any] = HatchMetadataSettings(
        str(root), {"allow-direct-references": True}, PluginManager()
    )
    return CoreMetadata(str(root), dict(table), settings, Context(str(root)))


def project_of(core: CoreMetadata, root: Path, document: Table, version: str) -> Project:
    """A project whose pyproject.toml is `document`. Raises what the fields of `core` raise, and ConfigError."""
    extras = {str(canonicalize_name(name)): tuple(texts) for name, texts in core.optional_dependencies.items()}
    return Project(
        root=root,
        name=core.raw_name,
        version=version,
        requires_python=core.requires_python,
        dependencies=tuple(core.dependencies),
        optional_dependencies=extras,
        dependency_groups=dependency_groups(document, root),
        scripts=core.scripts,
        gui_scripts=core.gui_scripts,
        description=core.description,
        license=_license_of(core),
        authors=tuple(core.authors_data["name"] + core.authors_data["email"]),
        urls=core.urls,
    )


def normalized_version(text: object) -> str:
    """A version, normalized (PEP 440). Raises ValueError."""
    try:
        return str(Version(str(text)))
    except InvalidVersion:
        raise ValueError(f"{text!r} is not a version (PEP 440)") from None


def built_project(built: BuiltMetadata, root: Path, document: Table) -> Project:
    """A project as its build backend describes it. Raises ConfigError for invalid metadata, WheelError for scripts."""
    message = HeaderParser().parsestr(built.metadata)
    name = message.get("Name", "").strip()
    entry_points = parse_entry_points(built.entry_points.encode(), f"the metadata of {name}")
    scripts = {group: {each.name: each.value for each in entry_points if each.group == group} for group in _SCRIPTS}
    if name in ("", "UNKNOWN"):  # what setuptools writes without one
        raise ConfigError(
            [(str(root), "the project has no name: give it one (project.name in pyproject.toml, or name in setup.py)")]
        )
    try:
        canonicalize_name(name, validate=True)
        dependencies, extras = _requirements(message)
        version = normalized_version(message.get("Version", "").strip())
    except (InvalidRequirement, ValueError, RecursionError) as error:
        raise ConfigError([(f"the metadata of {name or root.name}", str(error))]) from None
    return Project(
        root=root,
        name=name,
        version=version,
        requires_python=message.get("Requires-Python", "").strip(),
        dependencies=dependencies,
        optional_dependencies=extras,
        dependency_groups=dependency_groups(document, root),
        scripts=scripts["console_scripts"],
        gui_scripts=scripts["gui_scripts"],
        description=_text(message, "Summary"),
        license=license_name(
            _text(message, "License-Expression"), _text(message, "License"), message.get_all("Classifier", [])
        ),
        authors=tuple(_authors(message)),
        urls=dict(_urls(message)),
    )


def _text(message: Message, field: str) -> str:
    value = message.get(field, "").strip()
    # setuptools before 67 wrote this for a field without a value.
    return "" if value == "UNKNOWN" else value


def _license_of(core: CoreMetadata) -> str:
    """The name of the licence. A file that is named there has its text, and never its name."""
    table = core.config.get("license")
    text = "" if isinstance(table, Mapping) and "file" in table else core.license
    # Not `core.classifiers`, which refuses those that hatchling does not know.
    classifiers = core.config.get("classifiers")
    named = classifiers if isinstance(classifiers, list) else []
    return license_name(core.license_expression, text, [each for each in named if isinstance(each, str)])


def _requirements(message: Message) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """The requirements without extras, and those that each extra adds, by normalized name."""
    found = [Requirement(text) for text in message.get_all("Requires-Dist", [])]
    limited = [each for each in found if _EXTRA.search(str(each.marker))]
    plain = [str(each) if each not in limited else _for_extra(each, "") for each in found]
    names = map(canonicalize_name, message.get_all("Provides-Extra", []))
    extras = {str(name): tuple(filter(None, (_for_extra(each, name) for each in limited))) for name in names}
    return tuple(filter(None, plain)), extras


def _for_extra(requirement: Requirement, extra: str) -> str:
    """A requirement as it applies with an extra, without `extra` in its marker; empty if it does not apply."""

    def constant(match: re.Match[str]) -> str:
        name, operator = match[2] or match[3] or "", match[1] or match[4]
        return _TRUE if (canonicalize_name(name) == extra) == (operator == "==") else _FALSE

    marker = _ALWAYS.sub("", _EXTRA.sub(constant, str(requirement.marker)))
    if marker == _FALSE or marker.endswith(f" and {_FALSE}"):
        return ""
    limited = Requirement(str(requirement))
    limited.marker = Marker(marker) if marker else None
    return str(limited)


def _authors(message: Message) -> Iterator[str]:
    if name := _text(message, "Author"):
        yield name
    if address := _text(message, "Author-email"):
        yield from map(str, HeaderRegistry()("resent-from", address).addresses)  # type: ignore[attr-defined]


def _urls(message: Message) -> Iterator[tuple[str, str]]:
    if homepage := _text(message, "Home-page"):
        yield "Homepage", homepage
    for text in message.get_all("Project-URL", []):
        label, _, url = text.partition(",")
        yield label.strip(), url.strip()
