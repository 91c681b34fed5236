"""A project that installs the wheel of an sdist which is there already."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hatch_docker.index.download import FetchedFile, own_file
from hatch_docker.project.checkout import check_same
from hatch_docker.project.hatchling import HatchlingProject, Target
from hatch_docker.project.model import BuildMetadata, Project, ProjectSource
from hatch_docker.support.atomic import writing
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.progress import Progress
from hatch_docker.support.scratch import temporary_directory


class SdistProject:
    """The project of the sdist at `path`, which hatchling built of `project`, at whose root it has all else."""

    def __init__(self, path: Path, project: ProjectSource) -> None:
        self._path = path
        self._project = project
        self.root = project.root

    @property
    def table(self) -> tuple[str, object]:
        """The table of the project."""
        return self._project.table

    @property
    def directory(self) -> Path:
        """The directory of the sdist."""
        return self._path.parent

    @property
    def reads(self) -> None:
        """Unknown: where the sdist is, builds write it again."""

    def check(self) -> None:
        """Raise ConfigError if the project cannot be read."""
        self._project.check()

    def prepare(self, build: BuildMetadata) -> None:
        """Give the project its metadata if only a build does."""
        self._project.prepare(build)

    def version(self) -> str:
        """The project's version."""
        return self._project.version()

    def read(self, version: str) -> Project:
        """The metadata of the project."""
        return replace(self._project.read(version), sdist=self._file(version).artifact)

    @contextmanager
    def distribution(self, compiled: bool, cache: Cache, progress: Progress) -> Iterator[FetchedFile]:
        """The wheel that is built from the sdist; the sdist itself if that must be compiled for the image.

        Raises SourceError if the wheel is not the one that is built from the project.
        """
        with temporary_directory() as folder:
            root = self._unpacked(folder)
            with HatchlingProject(Target(str(root))).distribution(compiled, cache, progress) as own:
                if isinstance(own, FetchedFile) and own.artifact.is_wheel:
                    named = Path(folder, own.artifact.filename)
                    named.write_bytes(own.path.read_bytes())
                    check_same(named, self.root)
                    yield own
                    return
                reason = own.artifact.reason if isinstance(own, FetchedFile) else getattr(own, "reason", "")
            file = self._file(self.version())
            yield replace(file, artifact=replace(file.artifact, reason=reason))

    def _file(self, version: str) -> FetchedFile:
        return own_file(self._path, self._project.read("").normalized_name, version)

    def _unpacked(self, folder: Path) -> Path:
        """The directory of the sdist's files. hatchling has just written it, in this process."""
        with writing(folder), tarfile.open(self._path) as archive:
            archive.extractall(folder, filter="data")
        (root,) = (each for each in folder.iterdir() if each.is_dir())
        return root
