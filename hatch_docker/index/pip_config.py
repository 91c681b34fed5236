"""pip's own settings: its configuration files and variables, and its default index."""

from __future__ import annotations

import configparser
import locale
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from hatch_docker.errors import ArtifactError
from hatch_docker.support.progress import Progress

_SILENT = Progress()
_FILE = "pip.ini" if os.name == "nt" else "pip.conf"


def read_pip_configuration(environ: Mapping[str, str], *, home: Path, progress: Progress = _SILENT) -> dict[str, str]:
    """The settings of this interpreter's `pip install`, else of its `pip download`, by the names of their options.

    A stronger file replaces a setting in the same section only; then the command's section goes before `[global]`, and
    `PIP_*` before both. Empty settings do not count. A file that cannot be read is skipped with a note. (pip:
    configuration)
    """
    sections: dict[str, dict[str, str]] = {"global": {}, "download": {}, "install": {}}
    for path in configuration_files(environ, home):
        parser = _read(path, progress)
        for section in sections.keys() & parser.sections():
            sections[section] |= {_normalized(name): value for name, value in parser.items(section)}
    variables = {_normalized(name[4:]): value for name, value in environ.items() if name.startswith("PIP_")}
    return {name: value for found in (*sections.values(), variables) for name, value in found.items() if value}


def _normalized(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def configuration_files(environ: Mapping[str, str], home: Path) -> Iterator[Path]:
    """The files that may exist, the weakest first: of the system, the user, the interpreter, and the environment."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    yield from system_files(environ)
    if not (named and Path(named).exists()):
        yield from _user_files(environ, home)
    yield Path(sys.prefix) / _FILE
    if named:
        yield Path(named)


def system_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """The files of all users that may exist, the weakest first."""
    if os.name == "nt":
        yield Path(environ.get("PROGRAMDATA") or "C:/ProgramData") / "pip" / _FILE
    elif sys.platform == "darwin":
        yield Path("/Library/Application Support/pip") / _FILE
    else:
        for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"):
            if folder:
                yield Path(folder) / "pip" / _FILE
        yield Path("/etc") / _FILE


def _user_files(environ: Mapping[str, str], home: Path) -> Iterator[Path]:
    """The user's files that may exist: the one that earlier versions of pip had, and the current one."""
    if os.name == "nt":
        yield home / "pip" / _FILE
        yield Path(environ.get("APPDATA") or home / "AppData" / "Roaming") / "pip" / _FILE
        return
    yield home / ".pip" / _FILE
    library = home / "Library" / "Application Support" / "pip"
    if sys.platform == "darwin":
        yield (library if library.is_dir() else home / ".config" / "pip") / _FILE
    else:
        yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / _FILE


def _read(path: Path, progress: Progress) -> configparser.RawConfigParser:
    """The sections of a file; none if there is no such file, or if it cannot be read."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding=locale.getpreferredencoding(do_setlocale=False)))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, configparser.Error):
        progress.note(f"{path} cannot be read: its settings for pip are ignored")
        return configparser.RawConfigParser()
    return parser


class Pip:
    """The pip of this interpreter, which is run to ask for its default index (0.5 s), once."""

    def __init__(self, environ: Mapping[str, str], *, executable: str = sys.executable) -> None:
        self._executable = executable
        # Without a wide terminal, the help text wraps within the URL.
        self._environ = {
            **environ,
            "COLUMNS": "1000",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONIOENCODING": "utf-8",
        }

    @cached_property
    def default_index(self) -> str:
        """The index that pip uses by default. Raises ArtifactError if pip is not installed."""
        match = re.search(r"--index-url\b[^()]*\(default:?\s+(\S+?)\)", self._help() or "")
        if not match:
            raise ArtifactError(
                "no package index is configured, and pip, whose default would be used, is not installed",
                hint="set the key index-url, or HATCH_DOCKER_INDEX_URL",
            )
        return match[1]

    def _help(self) -> str | None:
        """The help of `pip download`; None if pip is not installed, or fails."""
        try:
            done = subprocess.run(  # noqa: S603 (our own interpreter)
                [self._executable, "-m", "pip", "download", "--help"],
                env=self._environ,
                # `-m` puts the working directory on the path, so it must not be the project's.
                cwd=sys.prefix,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=60,
                check=False,
            )
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
        return done.stdout.decode(errors="replace") if done.returncode == 0 else None
