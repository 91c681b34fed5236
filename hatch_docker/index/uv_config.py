"""uv's configuration files: the tables that apply to a project, as uv's documentation of them says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatch_docker.support import toml
from hatch_docker.support.progress import Progress

UvTable = Mapping[str, Any]

_SILENT = Progress()


def uv_tables(
    root: Path, environ: Mapping[str, str], *, home: Path, progress: Progress = _SILENT
) -> list[dict[str, Any]]:
    """The tables that apply to the project in `root`, the strongest first; without those that are empty.

    They are the nearest project's, the user's and the system's, or UV_CONFIG_FILE alone. A file that cannot be read is
    skipped with a note.
    """
    if environ.get("UV_CONFIG_FILE"):
        tables = [_read(Path(environ["UV_CONFIG_FILE"]), progress)]
    elif environ.get("UV_NO_CONFIG", "").lower() in ("1", "true", "yes", "on"):
        tables = []
    else:
        user = Path(environ.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME") or home / ".config")
        system = Path((os.name == "nt" and environ.get("PROGRAMDATA")) or "/etc")
        tables = [_project_table(root, progress)]
        tables += [_read(folder / "uv" / "uv.toml", progress) for folder in (user, system)]
    return [table for table in tables if table]


def _project_table(root: Path, progress: Progress) -> dict[str, Any] | None:
    """The table of the nearest folder, from `root` up, that has one: uv.toml, else [tool.uv] of pyproject.toml."""
    for folder in (root, *root.parents):
        table = _read(folder / "uv.toml", progress)
        if table is None:
            tool = (_read(folder / "pyproject.toml", progress) or {}).get("tool")
            table = tool.get("uv") if isinstance(tool, dict) else None
        if isinstance(table, dict):
            return table
    return None


def _read(path: Path, progress: Progress) -> dict[str, Any] | None:
    """A TOML document; None if there is no such file, or if it cannot be read."""
    try:
        return toml.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError):
        progress.note(f"{path} cannot be read: its settings for uv are ignored")
        return None
