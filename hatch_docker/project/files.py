"""A project without a build backend: its dependencies are installed, and its files are copied as they are."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.errors import ConfigError
from hatch_docker.project.core import normalized_version, project_of, read_core
from hatch_docker.project.model import BuildMetadata, Project, Reads, SourceFiles
from hatch_docker.project.selection import Selection, select_files
from hatch_docker.project.starts import main_of
from hatch_docker.project.static import stated
from hatch_docker.project.table import configuration, output_directory, read_toml
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.patterns import regex
from hatch_docker.support.progress import Progress

Table = Mapping[str, Any]

# Files that say what a project without a pyproject.toml requires, or what it runs.
_LOCKS = ("requirements.txt", "pylock.toml", "pylock.docker.toml", "Pipfile.lock")
_SIGNS = (*_LOCKS, "Pipfile", "main.py", "__main__.py")
_NOT_IN_NAMES = regex(r"[^A-Za-z0-9]+")


class FilesProject:
    """The project at `root`, whose files are copied.

    Without a name of its own it has that of its directory. `environ` is the environment of Git.
    """

    def __init__(self, root: Path, environ: Mapping[str, str] | None = None) -> None:
        self.root = root
        self._environ = os.environ if environ is None else environ

    @property
    def table(self) -> tuple[str, object]:
        """The name of the project's table of configuration, and its value. Raises ConfigError if there are two."""
        return configuration(self.root, self._document)

    @property
    def directory(self) -> Path:
        """The directory that builds write to."""
        return output_directory(self.root, self._document)

    @property
    def reads(self) -> Reads:
        """The files, of which Git says what is ignored."""
        return Reads(is_tracked=True)

    def check(self) -> None:
        """Raise ConfigError for a directory without a project, and for a pyproject.toml that is not valid."""
        if not self.root.is_dir():
            raise ConfigError([(str(self.root), "there is no such directory")])
        if not self._document and not self._has_any(_SIGNS):
            message = "there is no Python project: no pyproject.toml, requirements.txt or main.py, and no lock"
            raise ConfigError([(str(self.root), f"{message}; name the project's directory, or change to it")])
        # Only Pipenv resolves a Pipfile.
        if not self._metadata.dependencies and (self.root / "Pipfile").is_file() and not self._has_any(_LOCKS):
            raise ConfigError([(str(self.root / "Pipfile"), "it is not locked: lock it with Pipenv (pipenv lock)")])
        _ = self.table, self.directory, self._main

    def prepare(self, build: BuildMetadata) -> None:
        """Nothing: no build gives more metadata."""

    def version(self) -> str:
        """The version that pyproject.toml states; empty if it states none. Raises ConfigError."""
        text = self._stated.get("version")
        try:
            return normalized_version(text) if text is not None else ""
        except ValueError as error:
            raise ConfigError([("project.version", str(error))]) from None

    def read(self, version: str) -> Project:
        """The project's metadata, and what it starts. Scripts are not installed, as in uv. Raises ConfigError."""
        return replace(self._metadata, version=version, start=self._main)

    @contextmanager
    def distribution(self, compiled: bool, cache: Cache, progress: Progress) -> Iterator[SourceFiles]:  # noqa: ARG002
        """The project's files; `compiled` has no meaning for them. Raises ConfigError and OSError."""
        selection = self._selection
        for note in selection.notes:
            progress.note(note)
        if scripts := self._stated.get("scripts"):
            progress.note(
                f"the scripts of the project are not installed, since it has no build backend: {', '.join(scripts)}"
            )
        for warning in selection.warnings:
            progress.warn(warning)
        yield SourceFiles(root=self.root, paths=selection.paths)

    def _has_any(self, names: Collection[str]) -> bool:
        return any((self.root / name).is_file() for name in names)

    @cached_property
    def _document(self) -> Table:
        return read_toml(self.root / "pyproject.toml")

    @cached_property
    def _stated(self) -> Mapping[str, Any]:
        return stated(self._document)

    @cached_property
    def _metadata(self) -> Project:
        try:
            # Nothing checks the version here: it is read where it is needed.
            core = read_core(self.root, {"name": directory_name(self.root), **self._stated, "version": "0"})
            project = project_of(core, self.root, self._document, "")
        except (TypeError, ValueError, OSError) as error:
            raise ConfigError([(str(self.root / "pyproject.toml"), str(error))]) from None
        return replace(
            project,
            has_version="version" in self._stated,
            is_named="name" in self._stated,
            has_backend=False,
            scripts={},
            gui_scripts={},
        )

    @cached_property
    def _selection(self) -> Selection:
        return select_files(self.root, self.directory, self._environ)

    @cached_property
    def _main(self) -> tuple[str, ...] | None:
        return main_of(self._selection.paths)


def directory_name(root: Path) -> str:
    """The name of a directory as that of a project: its letters and digits without accents, with `-` between them.

    A name without any of ASCII gives `app`.
    """
    # Links are kept: their names are what the user wrote.
    name = os.path.basename(os.path.abspath(root))  # noqa: PTH100, PTH119
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return str(canonicalize_name(_NOT_IN_NAMES.sub("-", plain).strip("-"))) or "app"
