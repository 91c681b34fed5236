"""uv's workspaces: the root above a project, and its members (uv: using workspaces)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.errors import ConfigError
from hatch_docker.support import toml

Table = Mapping[str, Any]

_FILE = "pyproject.toml"


def find_workspace(root: Path) -> Path | None:
    """The root of the workspace that the project in `root` belongs to: itself, or a directory above; else None.

    As in uv, the nearest directory above that has a pyproject.toml decides: the project is a member if that has a
    workspace whose `members` include it and whose `exclude` does not. Raises ConfigError for a file that cannot be
    read, and for a workspace table that is not valid.
    """
    root = root.absolute()
    document = _read(root) or {}
    if _uv(document).get("managed") is False:
        return None
    if "workspace" in _uv(document):
        _globs(root, document)
        return root
    if not isinstance(document.get("project"), Mapping):
        return None
    for folder in root.parents:
        above = _read(folder)
        if above is not None:
            return folder if _includes(folder, above, root) else None
    return None


def members(workspace: Path) -> Mapping[str, Path]:
    """The members of the workspace whose root is `workspace`: their directories by normalized name, sorted.

    The root is a member if it is a project. Members that uv does not manage are left out. Raises ConfigError for all
    members at once that have no name or the name of another, and for files that cannot be read.
    """
    workspace = workspace.absolute()
    document = _read(workspace) or {}
    found: dict[str, Path] = {}
    problems: list[tuple[str, str]] = []
    root = [(workspace, document)] if isinstance(document.get("project"), Mapping) else []
    for folder, each in [*root, *_folders(workspace, document)]:
        name, place = _name(each), str(folder / _FILE)
        if not name:
            problems.append((place, "a member of a workspace needs [project] with a name"))
        elif name in found:
            problems.append((place, f"another member of the workspace is named {name}, too: {found[name]}"))
        else:
            found[name] = folder
    if problems:
        raise ConfigError(problems)
    return dict(sorted(found.items()))


def _folders(workspace: Path, document: Table) -> Iterator[tuple[Path, Table]]:
    """The directories of the members below the root, each with its pyproject.toml."""
    included, excluded = _globs(workspace, document)
    seen = {workspace}
    for pattern in included:
        for match in sorted(workspace.glob(pattern)):
            folder = Path(os.path.normpath(match))
            if folder in seen or _matches(folder, workspace, excluded):
                continue
            seen.add(folder)
            each = _read(folder)
            if each is not None and _uv(each).get("managed") is not False:
                yield folder, each


def _includes(workspace: Path, document: Table, root: Path) -> bool:
    included, excluded = _globs(workspace, document)
    return _matches(root, workspace, included) and not _matches(root, workspace, excluded)


def _globs(workspace: Path, document: Table) -> tuple[list[str], list[str]]:
    """The normalized patterns `members` and `exclude` of a workspace table."""
    table = _uv(document).get("workspace", {})
    place = str(workspace / _FILE)
    if not isinstance(table, Mapping):
        raise ConfigError([(place, "tool.uv.workspace must be a table")])
    lists = [table.get(key, []) for key in ("members", "exclude")]
    problems = [
        (place, f"tool.uv.workspace.{key} must be an array of globs, relative to the workspace")
        for key, patterns in zip(("members", "exclude"), lists, strict=True)
        if not isinstance(patterns, list) or not all(isinstance(each, str) and _is_glob(each) for each in patterns)
    ]
    if problems:
        raise ConfigError(problems)
    included, excluded = ([Path(os.path.normpath(each)).as_posix() for each in patterns] for patterns in lists)
    return [each for each in included if each != "."], excluded


def _is_glob(pattern: str) -> bool:
    """Whether a pattern is relative, and its `**` are whole components."""
    parts = PurePath(pattern).parts
    return (
        bool(parts) and not PurePath(pattern).is_absolute() and all("**" not in each or each == "**" for each in parts)
    )


def _matches(folder: Path, workspace: Path, patterns: Sequence[str]) -> bool:
    parts = PurePath(os.path.relpath(folder, workspace)).parts
    return any(_match(parts, PurePath(pattern).parts) for pattern in patterns)


def _match(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches a pattern, component by component; `**` matches any number of them."""
    if not pattern or not parts:
        return not parts and all(each == "**" for each in pattern)
    if pattern[0] == "**":
        return _match(parts, pattern[1:]) or _match(parts[1:], pattern)
    return fnmatchcase(parts[0], pattern[0]) and _match(parts[1:], pattern[1:])


def _name(document: Table) -> str:
    project = document.get("project")
    name = project.get("name") if isinstance(project, Mapping) else None
    return str(canonicalize_name(name)) if isinstance(name, str) else ""


def _uv(document: Table) -> Table:
    """The table `tool.uv`."""
    tool = document.get("tool")
    table = tool.get("uv") if isinstance(tool, Mapping) else None
    return table if isinstance(table, Mapping) else {}


def _read(folder: Path) -> Table | None:
    """The pyproject.toml of a directory, None if it has none."""
    path = folder / _FILE
    try:
        return toml.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError([(str(path), f"it cannot be read: {error.strerror or error}")]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError([(str(path), f"it is not valid TOML: {error}")]) from None
