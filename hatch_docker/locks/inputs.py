"""What a pylock.toml of ours was resolved from: recorded in it, and compared with the project.

The record is the table `tool.hatch-docker` (PyPA: pylock.toml, `tool`). It has no logins.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from hatch_docker.base.target import TargetPython
from hatch_docker.index.sources import Source
from hatch_docker.index.uv_config import project_table
from hatch_docker.index.uv_sources import list_of, table_of
from hatch_docker.locks.encoding import decoded
from hatch_docker.locks.model import InstallRequest, Overrides, read_text
from hatch_docker.support import toml
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.patterns import regex
from hatch_docker.support.redaction import redact_text
from hatch_docker.support.regular import read_regular

TABLE = "hatch-docker"
# The settings of uv that decide what requirements resolve to (uv: settings).
_SETTINGS = (
    "build-constraint-dependencies",
    "conflicts",
    "constraint-dependencies",
    "dependency-metadata",
    "environments",
    "exclude-dependencies",
    "exclude-newer",
    "exclude-newer-package",
    "extra-index-url",
    "find-links",
    "fork-strategy",
    "index",
    "index-strategy",
    "index-url",
    "no-index",
    "no-sources",
    "no-sources-package",
    "override-dependencies",
    "pip",
    "prerelease",
    "required-environments",
    "resolution",
    "torch-backend",
)
# The parts of a pyproject.toml that may change what a directory requires.
_PROJECT = ("name", "requires-python", "dependencies", "optional-dependencies", "dynamic")
_NAME = regex(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_DYNAMIC_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The inputs of a resolution, except the indexes' contents.

    `python` is the image's (X.Y). `requirements` has those of the project with the chosen extras and groups, `files`
    those of requirements files, as lines. `sources` and `indexes` are one line each; `environment_index` is that of the
    environment. `settings` is a digest of the project's settings for uv, `directories` has a digest of the metadata of
    each local directory by its path, relative to the project. `overridden` and `replaced` are those of
    `locks.model.Overrides`.
    """

    python: str
    requires_python: str = ""
    requirements: tuple[str, ...] = field(default=(), repr=False)
    files: tuple[str, ...] = field(default=(), repr=False)
    sources: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    environment_index: str = ""
    settings: str = ""
    directories: Mapping[str, str] = field(default_factory=dict)
    overridden: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    def to_toml(self) -> str:
        """The table `tool.hatch-docker`; empty values are left out."""
        lines = [f"[tool.{TABLE}]", "universal = true", f"python = {toml.inline(self.python)}"]
        for key, value in self._values().items():
            if isinstance(value, tuple):
                lines += [f"{key} = [", *(f"    {toml.inline(each)}," for each in value), "]"] if value else []
            elif value:
                lines.append(f"{key} = {toml.inline(value)}")
        return "\n".join(lines) + "\n"

    def _values(self) -> dict[str, Any]:
        return {
            "requires-python": self.requires_python,
            "requirements": self.requirements,
            "files": self.files,
            "sources": self.sources,
            "indexes": self.indexes,
            "environment-index": self.environment_index,
            "settings": self.settings,
            "overridden": self.overridden,
            "replaced": self.replaced,
            "directories": dict(sorted(self.directories.items())),
        }


def inputs_of(request: InstallRequest, directories: Sequence[Path] = ()) -> Inputs:
    """The inputs of a request as they are now. `directories` are the local ones that its resolution has."""
    table = project_table(request.root)
    settings = {key: table[key] for key in _SETTINGS if key in table}
    indexes = [
        entry["url"]
        for entry in list_of(settings.get("index"))
        if isinstance(entry, Mapping) and isinstance(entry.get("url"), str)
    ]
    files = (*request.requirement_files, *request.included_files)
    return Inputs(
        python=request.target.minor,
        requires_python=request.requires_python,
        requirements=tuple(_line(each, request.root) for each in request.requirements),
        files=tuple(redact_text(line) for file in files for line in _lines(file)),
        sources=tuple(_shown(each, request) for each in request.chosen_sources()),
        indexes=tuple(redact_text(url) for url in [request.index_url, *indexes] if url),
        environment_index=redact_text(request.environment_index),
        settings=_digest(_redacted(settings)) if settings else "",
        directories={_relative(each, request.root): _metadata_digest(each) for each in directories},
        overridden=_names(settings, "override-dependencies", "exclude-dependencies"),
        replaced=_names(settings, "dependency-metadata"),
    )


def project_overrides(request: InstallRequest) -> Overrides:
    """What the project's own settings for uv override, which an export of a uv.lock does not record."""
    settings = project_table(request.root)
    local = [each for each in request.chosen_sources() if each.kind in ("path", "workspace")]
    virtual = {each.name for each in local if not each.package or is_virtual(Path(each.value))}
    return Overrides(
        names=frozenset({*virtual, *_names(settings, "override-dependencies", "exclude-dependencies")}),
        packages=frozenset(_names(settings, "dependency-metadata")),
    )


def is_virtual(directory: Path) -> bool:
    """Whether a directory contributes only its dependencies (uv: `tool.uv.package`)."""
    try:
        document = toml.loads(read_regular(directory / "pyproject.toml").decode())
    except (OSError, ValueError, RecursionError):
        return False
    return table_of(document, "tool", "uv").get("package") is False


def recorded_inputs(text: str) -> Inputs | None:
    """The inputs that a pylock.toml of ours records; None for any other text."""
    try:
        table = toml.loads(text)["tool"][TABLE]
        return Inputs(
            python=table["python"],
            requires_python=table.get("requires-python", ""),
            requirements=tuple(table.get("requirements", ())),
            files=tuple(table.get("files", ())),
            sources=tuple(table.get("sources", ())),
            indexes=tuple(table.get("indexes", ())),
            environment_index=table.get("environment-index", ""),
            settings=table.get("settings", ""),
            directories=dict(table.get("directories", {})),
            overridden=tuple(table.get("overridden", ())),
            replaced=tuple(table.get("replaced", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def versions_of(text: str) -> dict[str, str]:
    """The versions in the text of a pylock.toml by name, the commit of one from Git; {} for other texts."""
    try:
        return {each["name"]: _version(each) for each in toml.loads(text).get("packages", ())}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _version(package: Mapping[str, Any]) -> str:
    commit = package.get("vcs", {}).get("commit-id", "")
    return " ".join(filter(None, (package.get("version", ""), commit[:12] and f"({commit[:12]})")))


def is_ours(text: str) -> bool:
    """Whether hatch-docker made a pylock.toml, maybe an earlier version."""
    try:
        return not {"python", "inputs"}.isdisjoint(toml.loads(text)["tool"][TABLE])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def changed_inputs(text: str, request: InstallRequest, *, here: bool = False) -> list[str]:
    """What changed since a pylock.toml of ours was made, one phrase each; empty for a file of another tool.

    The index of the environment may differ from one machine to another, and counts only if the file was made `here`.
    """
    before = recorded_inputs(text)
    if before is None:
        return ["an earlier version of hatch-docker made it"] if is_ours(text) else []
    now = inputs_of(request, [request.root / path for path in before.directories])
    changes = [*_python(text, before, request.target), *_changes(before, now)]
    if here and before.environment_index != now.environment_index:
        changes.append("the environment names another index")
    return changes


def changes_since(path: Path, request: InstallRequest) -> list[str]:
    """`changed_inputs` of the file at `path`. Raises LockError if it cannot be read."""
    return changed_inputs(read_text(path), request)


def _python(text: str, before: Inputs, target: TargetPython) -> Iterator[str]:
    """The image's Python, if a resolution is not for it: one for 3.13.5 is for later releases of 3.13, too."""
    if before.python != target.minor:
        yield f"it is for Python {before.python}, the image has {target.minor}"
        return
    bound = toml.loads(text).get("requires-python", "")
    with contextlib.suppress(InvalidSpecifier, TypeError):
        if not SpecifierSet(bound).contains(target.version, prereleases=True):
            yield f"it is for Python {bound}, the image has {target.version}"


def _changes(before: Inputs, now: Inputs) -> Iterator[str]:
    if before.requires_python != now.requires_python:
        yield f"requires-python is {now.requires_python or 'not set'}, and was {before.requires_python or 'not set'}"
    pairs = ((before.requirements, now.requirements), (before.files, now.files))
    for old_lines, new_lines in pairs:
        yield from (f"the project requires {each}, which is not locked" for each in new_lines if each not in old_lines)
        yield from (f"the project no longer requires {each}" for each in old_lines if each not in new_lines)
    yield from (f"the source {each} is new" for each in now.sources if each not in before.sources)
    yield from (f"the source {each} is gone" for each in before.sources if each not in now.sources)
    replaced = before.environment_index or now.environment_index
    if not replaced and list(map(_same, before.indexes)) != list(map(_same, now.indexes)):
        old, new = (", ".join(each.indexes) or "not set" for each in (before, now))
        yield f"the indexes are {new}, and were {old}"
    elif before.settings != now.settings:
        yield "the project's settings for uv have changed"
    for path, digest in now.directories.items():
        if digest != before.directories[path]:
            yield f"the requirements of {path} have changed" if digest else f"{path} is gone"


def _same(url: str) -> str:
    """The URL of an index to compare: whether it ends in a slash makes no difference."""
    return url.rstrip("/")


def _line(requirement: Requirement, root: Path) -> str:
    """A requirement without a login; the path of a file URL is relative to the project, as those of sources are."""
    text = redact_text(str(requirement))
    if not requirement.url or not requirement.url.startswith("file:"):
        return text
    return text.replace(requirement.url, _relative(Path(url2pathname(urlsplit(requirement.url).path)), root.absolute()))


def _shown(source: Source, request: InstallRequest) -> str:
    """A source as one line; paths are relative to the project, so that a committed lock fits other machines."""
    local = source.kind in ("path", "workspace")
    value = _relative(Path(source.value), request.root) if local else redact_text(source.value)
    parts = [source.name, source.kind, value, source.reference, source.subdirectory, source.marker]
    return " ".join(filter(None, parts))


def _relative(path: Path, root: Path) -> str:
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # another drive on Windows
        return path.as_posix()


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in decoded(file).splitlines() if line.strip() and not line.strip().startswith("#")]


def metadata_files(directory: Path) -> list[Path]:
    """The files that may decide what a directory requires; they need not exist."""
    return [directory / name for name in _DYNAMIC_FILES]


def _metadata_digest(directory: Path) -> str:
    """A digest of the files that decide what a directory requires; empty if there is no such directory."""
    if not directory.is_dir():
        return ""
    try:
        document = toml.loads(read_regular(directory / "pyproject.toml").decode())
        project, tools = document["project"], document.get("tool", {})
        if "dependencies" not in project.get("dynamic", ()):
            sources = tools.get("uv", {}).get("sources")
            return _digest([{key: project.get(key) for key in _PROJECT}, _redacted(sources)])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    files = metadata_files(directory)
    return _digest([hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "" for file in files])


def _names(settings: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    """The normalized names in lists of requirements or of tables."""
    entries = [each for key in keys for each in list_of(settings.get(key))]
    texts = [each.get("name") if isinstance(each, Mapping) else each for each in entries]
    matches = [_NAME.match(each) for each in texts if isinstance(each, str)]
    return tuple(sorted({canonicalize_name(each[1]) for each in matches if each}))


def _redacted(value: Any) -> Any:
    """A value in which URLs have neither logins nor queries."""
    if isinstance(value, Mapping):
        return {key: _redacted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_redacted(each) for each in value]
    return redact_text(value) if isinstance(value, str) else value


def _digest(value: Any) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()}"
