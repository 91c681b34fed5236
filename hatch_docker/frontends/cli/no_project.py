"""What a session has in place of a project, for commands that need none."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from hatch_docker.config import TABLE
from hatch_docker.errors import HatchDockerError
from hatch_docker.project.model import BuildMetadata, Own, Project
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.progress import Progress


@dataclass(slots=True, kw_only=True)
class NoProject:
    """A ProjectSource without a project: the configuration is that of the host alone."""

    root: Path

    @property
    def table(self) -> tuple[str, object]:
        """An empty table."""
        return TABLE, {}

    @property
    def directory(self) -> Path:
        """The current directory."""
        return self.root

    @property
    def reads(self) -> None:
        """Nothing is built."""

    def check(self) -> None:
        """Nothing can be wrong."""

    def prepare(self, build: BuildMetadata) -> None:
        """Nothing."""

    def version(self) -> str:
        """No version."""
        return ""

    def read(self, version: str) -> Project:  # noqa: ARG002
        """Raises HatchDockerError."""
        raise HatchDockerError("this command has no project")

    def distribution(self, compiled: bool, cache: Cache, progress: Progress) -> AbstractContextManager[Own]:  # noqa: ARG002
        """Raises HatchDockerError."""
        raise HatchDockerError("this command has no project")
