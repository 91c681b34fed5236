"""`[tool.uv.sources]` and `[[tool.uv.index]]`, as uv reads them: a workspace's apply to its members, too."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name

from hatch_docker.errors import ConfigError
from hatch_docker.index.source import KINDS, NamedIndex, Source
from hatch_docker.index.uv_config import is_true
from hatch_docker.index.workspace import find_workspace, members
from hatch_docker.support import toml
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.redaction import redact

_LIMITS = frozenset(("marker", "extra", "group"))
# The other keys of all kinds: uv accepts them for each.
_KEYS = frozenset(("editable", "package", "subdirectory", "rev", "tag", "branch", "lfs"))
# The archives that uv installs from.
_SUFFIXES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lzma", ".tar")
_REFERENCES = ("rev", "tag", "branch")


class _InvalidEntryError(Exception):
    """An entry that uv refuses; the text says why, and what to write instead."""


def read_document(folder: Path) -> dict[str, Any]:
    """The document of a directory's pyproject.toml, empty without one. Raises ConfigError."""
    path = folder / "pyproject.toml"
    try:
        return toml.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError([(str(path), f"it cannot be read: {error.strerror or error}")]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError([(str(path), f"it is not valid TOML: {error}")]) from None


def table_of(document: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """A table in a document; empty if it does not exist, or is none."""
    value: Any = document
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def list_of(value: object) -> list[Any]:
    """`value` if it is a list; else an empty one."""
    return value if isinstance(value, list) else []


def no_sources(environ: Mapping[str, str], tables: Sequence[Mapping[str, Any]]) -> bool:
    """Whether uv's settings say that no sources apply. `tables` are the strongest first."""
    if environ.get("UV_NO_SOURCES"):
        return is_true(environ, "UV_NO_SOURCES")
    return next((each for table in tables if isinstance(each := table.get("no-sources"), bool)), False)


def without_sources(environ: Mapping[str, str], tables: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The packages (normalized names) whose sources uv ignores."""
    named = environ.get("UV_NO_SOURCES_PACKAGE", "").replace(",", " ").split()
    named += [each for table in tables for each in list_of(table.get("no-sources-package")) if isinstance(each, str)]
    return frozenset(map(canonicalize_name, named))


def uv_indexes(root: Path, environ: Mapping[str, str]) -> tuple[NamedIndex, ...]:
    """The named indexes of the environment, of the project in `root`, and of its workspace."""
    indexes = [*_of_environment(environ)]
    for folder in _folders(root):
        entries = list_of(table_of(read_document(folder), "tool", "uv").get("index"))
        indexes += [_index(each, folder, number) for number, each in enumerate(entries) if _is_named(each)]
    unique = {each.name: each for each in reversed(indexes)}
    return tuple(dict.fromkeys(unique[each.name] for each in indexes))


def _is_named(entry: object) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get("name"), str) and isinstance(entry.get("url"), str)


def _index(entry: Mapping[str, Any], folder: Path, number: int) -> NamedIndex:
    return NamedIndex(
        name=entry["name"],
        url=absolute_url(entry["url"], folder),
        default=entry.get("default") is True,
        explicit=entry.get("explicit") is True,
        flat=entry.get("format") == "flat",
        place=f"tool.uv.index[{number}]",
    )


def _of_environment(environ: Mapping[str, str]) -> Iterator[NamedIndex]:
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX"):
        for entry in environ.get(variable, "").split():
            if match := re.match(r"([A-Za-z0-9_][\w.-]*)=(.+)", entry):
                yield NamedIndex(
                    name=match[1],
                    url=absolute_url(match[2], Path.cwd()),
                    default=variable == "UV_DEFAULT_INDEX",
                    place=variable,
                )


def absolute_url(url: str, folder: Path) -> str:
    """`url`, which may be empty; a path as a file URL, relative to `folder`."""
    if not url or "://" in url or url.startswith("file:"):
        return url
    try:
        return (folder / url).resolve().as_uri()
    except (OSError, ValueError, RuntimeError):
        return url


def uv_sources(root: Path, indexes: Sequence[NamedIndex]) -> dict[str, tuple[Source, ...]]:
    """The sources of the project in `root`, and those of its workspace for other names.

    Raises ConfigError for all entries that uv refuses.
    """
    workspace = find_workspace(root)
    named = {each.name: each for each in indexes}
    known = members(workspace) if workspace else None
    found: dict[str, tuple[Source, ...]] = {}
    problems: list[tuple[str, str]] = []
    for folder in _folders(root):
        file = "" if folder == root.absolute() else f"{folder / 'pyproject.toml'}: "
        table: object = table_of(read_document(folder), "tool", "uv").get("sources", {})
        if not isinstance(table, Mapping):
            problems.append((f"{file}tool.uv.sources", "it is not a table"))
            continue
        context = _Context(folder=folder, indexes=named, members=known)
        for key, value in table.items():
            name, place = str(canonicalize_name(key)), f"{file}tool.uv.sources.{key}"
            try:
                found.setdefault(name, _sources(name, value, place, context))
            except _InvalidEntryError as error:
                problems.append((place, str(error)))
    if problems:
        raise ConfigError(problems)
    return found


def _folders(root: Path) -> list[Path]:
    """The directory of a project, and that of its workspace if it is a member."""
    root = root.absolute()
    workspace = find_workspace(root)
    return [root] if workspace in (None, root) else [root, workspace]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    """What the entries of one pyproject.toml refer to: its directory, the named indexes, the workspace's members."""

    folder: Path
    indexes: Mapping[str, NamedIndex]
    members: Mapping[str, Path] | None


def _sources(name: str, value: object, place: str, context: _Context) -> tuple[Source, ...]:
    """The sources of one package. Raises _InvalidEntryError."""
    entries = value if isinstance(value, list) else [value]
    if not entries:
        raise _InvalidEntryError("it is empty: name a source, or remove it")
    found = [_source(name, entry, place, context) for entry in entries]
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            same = (one.extra, one.group) == (other.extra, other.group)
            if same and (one.marker == other.marker or not one.marker or not other.marker):
                raise _InvalidEntryError("two sources apply at once: limit each with a marker that excludes the other")
    return tuple(found)


def _source(name: str, entry: object, place: str, context: _Context) -> Source:
    if not isinstance(entry, Mapping):
        raise _InvalidEntryError(f'it is not a table, such as {{ path = "../{name}" }}')
    kind = _kind(entry)
    references = [f"{key}={_text(entry, key)}" for key in _REFERENCES if key in entry]
    if len(references) > 1:
        raise _InvalidEntryError("it names more than one of rev, tag and branch: keep one")
    if "extra" in entry and "group" in entry:
        raise _InvalidEntryError("it names an extra and a group: write one entry for each")
    value, problem = _VALUES[kind](name, entry, context)
    return Source(
        name=name,
        kind=kind,
        value=value,
        place=place,
        marker=_marker(_text(entry, "marker")),
        extra=str(canonicalize_name(_text(entry, "extra"))),
        group=str(canonicalize_name(_text(entry, "group"))),
        reference=references[0] if references else "",
        subdirectory=_text(entry, "subdirectory"),
        index_name=_text(entry, "index"),
        editable=entry.get("editable") is True,
        package=entry.get("package") is not False,
        problem=problem,
    )


def _kind(entry: Mapping[str, Any]) -> str:
    kinds = [kind for kind in KINDS if kind in entry]
    if len(kinds) > 1:
        raise _InvalidEntryError(f"it names {' and '.join(kinds)}: keep one of them")
    if not kinds:
        raise _InvalidEntryError(f"it names no source: add one of {', '.join(KINDS)}")
    if unknown := entry.keys() - _LIMITS - _KEYS - {kinds[0]}:
        raise _InvalidEntryError(f"it has keys that no source has: remove {', '.join(sorted(unknown))}")
    return kinds[0]


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str):
        raise _InvalidEntryError(f"{key} must be a string")
    return value


def _marker(text: str) -> str:
    """A marker in its normal form, so that two texts of one marker are equal."""
    try:
        return str(Marker(text)) if text else ""
    except InvalidMarker:
        raise _InvalidEntryError(f"marker is not valid (PEP 508): {text!r}") from None


def path_value(path: Path) -> tuple[str, str]:
    """The value and the problem of a source that is a path."""
    absolute = Path(os.path.normpath(path))
    problem = ""
    if not absolute.exists():
        problem = f"{absolute} does not exist: correct path, or remove the source"
    elif not absolute.is_dir() and not absolute.name.endswith(_SUFFIXES):
        problem = f"{absolute} is neither a directory nor a wheel or sdist: correct path"
    return str(absolute), problem


def _path(_name: str, entry: Mapping[str, Any], context: _Context) -> tuple[str, str]:
    return path_value(context.folder / _text(entry, "path"))


def _workspace(name: str, entry: Mapping[str, Any], context: _Context) -> tuple[str, str]:
    if entry["workspace"] is not True:
        raise _InvalidEntryError("workspace must be true: remove the source, or name another one")
    if context.members is None:
        return "", "the project is not in a workspace: add one (tool.uv.workspace), or name another source"
    if name not in context.members:
        remedy = "add its directory to tool.uv.workspace.members, or name another source"
        return "", f"the workspace has no member {name}: {remedy}"
    return str(context.members[name]), ""


def _git(_name: str, entry: Mapping[str, Any], _context: _Context) -> tuple[str, str]:
    return _text(entry, "git"), ""


def _url(_name: str, entry: Mapping[str, Any], _context: _Context) -> tuple[str, str]:
    url = _text(entry, "url")
    is_archive = url.partition("#")[0].partition("?")[0].endswith(_SUFFIXES)
    return url, "" if is_archive else f"{redact(url)} is neither a wheel nor an sdist: correct url"


def _of_index(_name: str, entry: Mapping[str, Any], context: _Context) -> tuple[str, str]:
    index = context.indexes.get(name := _text(entry, "index"))
    return (index.url, "") if index else ("", f"no index is named {name}: add it to tool.uv.index, with its URL")


_VALUES: dict[str, Callable[[str, Mapping[str, Any], _Context], tuple[str, str]]] = {
    "path": _path,
    "workspace": _workspace,
    "git": _git,
    "url": _url,
    "index": _of_index,
}
