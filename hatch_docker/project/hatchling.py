"""A project whose build backend is hatchling: read and built in process."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.plugin.interface import BuilderInterface
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.exceptions import UnknownPluginError
from hatchling.plugin.manager import PluginManager

from hatch_docker.config import TABLE
from hatch_docker.errors import ConfigError
from hatch_docker.index.download import FetchedFile
from hatch_docker.project.core import project_of
from hatch_docker.project.distribution import OwnBuild, reads_of
from hatch_docker.project.model import BuildMetadata, Project, Reads
from hatch_docker.project.table import configuration
from hatch_docker.support.cache import Cache
from hatch_docker.support.progress import Progress


class Target(BuilderInterface[BuilderConfig, PluginManager]):
    """The target `docker` of a Hatch project, for commands that do not build."""

    PLUGIN_NAME = "docker"

    def __init__(self, root: str) -> None:
        # As in builds, whose directory is absolute: fields such as {root:parent:uri} are made of its text.
        plugins, absolute = PluginManager(), os.path.abspath(root)  # noqa: PTH100 (links are kept)
        super().__init__(root, plugin_manager=plugins, metadata=ProjectMetadata(absolute, plugins))

    def get_version_api(self) -> dict[str, Callable[..., str]]:
        """No outputs: hatchling requires this method."""
        return {}


class HatchlingProject:
    """The project of a hatchling builder, which has its metadata and its `[tool.hatch]` configuration.

    Hatchling raises TypeError, ValueError and OSError for an invalid pyproject.toml: they become ConfigErrors.
    """

    def __init__(self, builder: BuilderInterface[Any, Any]) -> None:
        self._builder = builder
        self.root = Path(builder.root)

    @property
    def table(self) -> tuple[str, object]:
        """`[tool.hatch-docker]`, or Hatch's table."""
        name, value = configuration(self.root, self._builder.metadata.config)
        return (name, value) if name == TABLE else (name, self._builder.target_config)

    @property
    def directory(self) -> Path:
        """The directory that builds write to."""
        return Path(self._builder.config.directory)

    @property
    def reads(self) -> Reads | None:
        """The files, and tags if they give the version, unless a hook runs code or the configuration leaves them."""
        try:
            return reads_of(self._builder)
        except (TypeError, ValueError, OSError):
            return None

    def check(self) -> None:
        """Raise ConfigError for a pyproject.toml that does not exist or that hatchling cannot read."""
        file = self.root / "pyproject.toml"
        if not file.is_file():
            raise ConfigError([(str(file), "there is no such file: name the project's directory, or change to it")])
        try:
            self.read("")
            _ = self.table, self.directory
        except (TypeError, ValueError, OSError) as error:
            raise ConfigError([(str(file), str(error))]) from None

    def prepare(self, build: BuildMetadata) -> None:
        """Nothing: hatchling knows the metadata without a build."""

    def version(self) -> str:
        """The project's version; empty if it comes from a plugin that is not installed. Raises ConfigError."""
        metadata = self._builder.metadata
        try:
            # A version source may be the project's own code, which may print.
            with contextlib.redirect_stdout(sys.stderr):
                metadata.validate_fields()
                return str(metadata.version)
        except UnknownPluginError:
            return ""
        except Exception as error:  # a version source may raise anything
            raise ConfigError([("pyproject.toml", str(error) or type(error).__name__)]) from None

    def read(self, version: str) -> Project:
        """The project's metadata, without its commit."""
        return project_of(self._builder.metadata.core, self.root, self._builder.metadata.config, version)

    def distribution(self, compiled: bool, cache: Cache, progress: Progress) -> AbstractContextManager[FetchedFile]:
        """Build the project's wheel, or its sdist if that must be compiled; see `OwnBuild`."""
        return OwnBuild(builder=self._builder, cache=cache, progress=progress).distribution(compiled)
