"""A project with any build backend, which builds it in an isolated environment (PEP 517)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hatch_docker.compiling.build_system import BuildSystem, system_of
from hatch_docker.compiling.directory import POETRY, read_directory
from hatch_docker.compiling.sdist import looks_compiled
from hatch_docker.errors import ConfigError, HatchDockerError
from hatch_docker.index.artifact import Artifact, SourceTree
from hatch_docker.project.core import built_project, normalized_version, project_of, read_core
from hatch_docker.project.model import BuildMetadata, Own, Project, Reads
from hatch_docker.project.table import configuration, output_directory, read_toml
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.progress import Progress

Table = Mapping[str, Any]

# Fields of `[project]` that shape an image. Without the version: the wheel tells it, and what is resolved does not
# depend on it.
_INSTALLED = frozenset(
    ("dependencies", "entry-points", "gui-scripts", "optional-dependencies", "requires-python", "scripts")
)
_LABELS = frozenset(("authors", "description", "license", "urls"))


class BackendProject:
    """The project at `root`, whose metadata is that of `[project]` if it is static there, else what its backend makes.

    A backend that compiles may need a compiler even for that: then labels lack what is not static. Raises ConfigError
    if pyproject.toml cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._document = read_toml(root / "pyproject.toml")
        self._built: Project | None = None

    @property
    def table(self) -> tuple[str, object]:
        """`[tool.hatch-docker]`, or Hatch's table."""
        return configuration(self.root, self._document)

    @property
    def directory(self) -> Path:
        """The directory that builds write to."""
        return output_directory(self.root, self._document)

    @property
    def reads(self) -> Reads | None:
        """The files, if the backend is known to read nothing else, and what Git ignores, which Poetry leaves out."""
        try:
            directory = read_directory(self.root, self.read("").name)
        except HatchDockerError:
            return None
        return Reads(is_tracked=directory.system.backend == POETRY) if directory.is_closed else None

    def check(self) -> None:
        """Raise ConfigError if `[build-system]` or `[project]` is not valid, or no build frontend would build it."""
        if not any((self.root / name).is_file() for name in ("pyproject.toml", "setup.py")):
            system = 'build-system = { requires = ["setuptools"], build-backend = "setuptools.build_meta" }'
            raise ConfigError([(str(self.root / "setup.cfg"), f"add a pyproject.toml with the line {system}")])
        self._system()
        _ = self.table
        if not self._needs_build():
            self._static()

    def prepare(self, build: BuildMetadata) -> None:
        """Let the backend make the metadata that is not static."""
        if self._built is None and self._needs_build():
            requires_python = self._project.get("requires-python", "")
            known = requires_python if isinstance(requires_python, str) else ""
            self._built = built_project(build(self._artifact("", ""), known), self.root, self._document)

    def version(self) -> str:
        """The version; empty if only the wheel tells it."""
        return (self._built or self._static()).version

    def read(self, version: str) -> Project:
        """The metadata, without the commit. Raises ConfigError."""
        return replace(self._built or self._static(), version=version)

    def distribution(
        self,
        compiled: bool,  # noqa: ARG002
        cache: Cache,  # noqa: ARG002
        progress: Progress,  # noqa: ARG002
    ) -> AbstractContextManager[Own]:
        """The project's directory, to build it with what the image's Python needs; `no-binary` is read there."""
        project = self.read(self.version())
        return contextlib.nullcontext(self._artifact(project.normalized_name, project.version))

    def _artifact(self, name: str, version: str) -> Artifact:
        tree = SourceTree(url=self.root.as_uri())
        return Artifact(name=name, version=version, tree=tree, reason="it is the project itself")

    def _system(self) -> BuildSystem:
        try:
            return system_of(self._document)
        except ValueError as error:
            raise ConfigError([("pyproject.toml", str(error))]) from None

    @property
    def _project(self) -> Table:
        table = self._document.get("project", {})
        return table if isinstance(table, Mapping) else {}

    def _needs_build(self) -> bool:
        """Whether the metadata that shapes an image is not static."""
        if "project" not in self._document:
            return True
        dynamic = self._project.get("dynamic", [])
        if not isinstance(dynamic, list):
            raise ConfigError([("project.dynamic", "expected a list of strings")])
        system = self._system()
        compiles = looks_compiled((), system.requires, system.backend)
        fields = _INSTALLED if compiles else _INSTALLED | _LABELS
        # Hatch's context formatting.
        return not fields.isdisjoint(map(str, dynamic)) or "{root" in repr(self._project)

    def _static(self) -> Project:
        """The project that `[project]` describes."""
        table = self._document.get("project")
        if not isinstance(table, Mapping):
            raise ConfigError([("project", "expected a table")])
        try:
            core = read_core(self.root, table)
            # Raises ValueError if it is neither there nor dynamic.
            version = normalized_version(core.version) if core.version else ""
            return project_of(core, self.root, self._document, version)
        except (TypeError, ValueError, OSError) as error:
            raise ConfigError([("pyproject.toml", str(error))]) from None
