"""uv's configuration files: the tables that apply to a project, as uv's documentation of them says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hatch_docker.errors import HatchDockerError
from hatch_docker.index.workspace import find_workspace
from hatch_docker.support import toml
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.progress import Progress

UvTable = Mapping[str, Any]

_SILENT = Progress()
_TRUE = ("1", "true", "t", "yes", "y", "on")


def is_true(environ: Mapping[str, str], variable: str) -> bool:
    """Whether a variable of uv is set to a true value."""
    return environ.get(variable, "").lower() in _TRUE


@dataclass(frozen=True, slots=True, kw_only=True)
class UvFile:
    """The settings of one file, and the directory that its paths are relative to."""

    folder: Path
    table: dict[str, Any]


def uv_files(root: Path, environ: Mapping[str, str], *, home: Path, progress: Progress = _SILENT) -> list[UvFile]:
    """The files that apply to the project in `root`, the strongest first; without those that are empty.

    They are the project's, or its workspace's, the user's and the system's; or UV_CONFIG_FILE alone. A file that cannot
    be read is skipped with a note.
    """
    if environ.get("UV_CONFIG_FILE"):
        found = [_file(Path(environ["UV_CONFIG_FILE"]), progress)]
    elif is_true(environ, "UV_NO_CONFIG"):
        found = []
    else:
        system = (_file(path, progress) for path in _system_files(environ))
        found = [_project_file(root, progress), _file(_user_file(environ, home), progress)]
        found.append(next(filter(None, system), None))
    return [file for file in found if file and file.table]


def uv_tables(
    root: Path, environ: Mapping[str, str], *, home: Path, progress: Progress = _SILENT
) -> list[dict[str, Any]]:
    """The tables of `uv_files`."""
    return [file.table for file in uv_files(root, environ, home=home, progress=progress)]


def project_table(root: Path, progress: Progress = _SILENT) -> dict[str, Any]:
    """The table of the project in `root`, or of its workspace; empty if neither has one."""
    file = _project_file(root, progress)
    return file.table if file else {}


def _project_file(root: Path, progress: Progress) -> UvFile | None:
    """The settings of a workspace's root, else of the nearest directory that has some.

    A directory's settings are its uv.toml, else `[tool.uv]` of its pyproject.toml.
    """
    root = root.absolute()
    try:
        start = find_workspace(root) or root
    except HatchDockerError as error:
        progress.note(f"{error.message}: it is not used as a workspace of uv")
        start = root
    for folder in (start, *start.parents):
        if file := _file(folder / "uv.toml", progress):
            return file
        tool = (_read(folder / "pyproject.toml", progress) or {}).get("tool")
        table = tool.get("uv") if isinstance(tool, dict) else None
        if isinstance(table, dict):
            return UvFile(folder=folder, table=table)
    return None


def _file(path: Path, progress: Progress) -> UvFile | None:
    table = _read(path, progress)
    return None if table is None else UvFile(folder=path.absolute().parent, table=table)


def configuration_files(environ: Mapping[str, str], home: Path) -> Iterator[Path]:
    """The files besides the project's that may exist."""
    if environ.get("UV_CONFIG_FILE"):
        yield Path(environ["UV_CONFIG_FILE"])
    yield _user_file(environ, home)
    yield from _system_files(environ)


def _user_file(environ: Mapping[str, str], home: Path) -> Path:
    folder = environ.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME")
    return (Path(folder) if folder else home / ".config") / "uv" / "uv.toml"


def _system_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """The files that may be the system's; the first that exists is."""
    if os.name == "nt":
        yield Path(environ.get("PROGRAMDATA") or "C:/ProgramData") / "uv" / "uv.toml"
        return
    for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"):
        if folder:
            yield Path(folder) / "uv" / "uv.toml"
    yield Path("/etc/uv/uv.toml")


def _read(path: Path, progress: Progress) -> dict[str, Any] | None:
    """A TOML document; None if there is no such file, or if it cannot be read."""
    try:
        # Reading a named pipe could wait for ever.
        if stat.S_ISREG(path.stat().st_mode):
            return toml.loads(path.read_text(encoding="utf-8"))
        progress.note(f"{path} is not a file: its settings for uv are ignored")
        return None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError):
        progress.note(f"{path} cannot be read: its settings for uv are ignored")
        return None
