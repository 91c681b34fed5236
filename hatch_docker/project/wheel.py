"""A project that installs a wheel which is there already, instead of one that is built for the image."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from hatch_docker.compiling.directory import BINARY
from hatch_docker.compiling.dist_info import BuiltMetadata, wheel_metadata
from hatch_docker.compiling.repack import portable
from hatch_docker.config import TABLE
from hatch_docker.errors import ConfigError, SourceError, WheelError, join_hints
from hatch_docker.index.download import FetchedFile, own_file
from hatch_docker.project.core import built_project
from hatch_docker.project.model import BuildMetadata, Project, ProjectSource
from hatch_docker.project.open import open_project
from hatch_docker.support.atomic import writable
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.progress import Progress
from hatch_docker.support.scratch import temporary_directory
from hatch_docker.wheels.wheelfile import WheelFile

_AGAIN = "build it again"
_COMPILE = (
    "'hatch build -t docker' and 'hatch-docker build' compile the project for the image; or make a wheel that other "
    "machines can use (auditwheel, cibuildwheel), and give it to 'hatch-docker build --wheel'"
)
# Platforms of wheels that say which C library they need (PEP 600, PEP 656).
_PORTABLE = ("manylinux", "musllinux", "any")
_HOOKS = "what a build hook adds to the requirements of the wheel is not locked: add it to project.dependencies"
_SDISTS = (".tar.gz", ".tgz", ".zip")


def open_wheel(path: Path, directory: Path) -> WheelProject:
    """The project of a wheel: that in `directory`, which has its configuration and its lock, or none.

    Raises HatchDockerError if the file is not a wheel, or the directory's project cannot be read.
    """
    check_wheel_file(path)
    project = open_project(directory) if (directory / "pyproject.toml").is_file() else None
    return WheelProject(path, project, root=directory)


def check_wheel_file(path: Path) -> None:
    """Raise HatchDockerError unless `path` is a wheel that is not damaged."""
    if not path.is_file():
        what = "a directory" if path.is_dir() else "not there"
        raise SourceError(f"the wheel is {what}", place=str(path), hint="name a file that ends with .whl")
    if path.name.endswith(_SDISTS):
        raise SourceError(
            "this is an sdist, not a wheel",
            place=str(path),
            hint="build the wheel of it ('python -m build --wheel', 'uv build --wheel'), or build the project's image "
            "without naming a file",
        )
    if not path.name.endswith(".whl"):
        raise SourceError("this is not a wheel", place=str(path), hint="the name of a wheel ends with .whl")
    try:
        with WheelFile(path) as wheel:
            wrong = wheel.correct()
    except WheelError as error:
        hint = error.hint if error.hint and "name of a wheel" in error.hint else _AGAIN
        raise WheelError(error.message, place=str(path), hint=hint) from None
    if wrong:
        others = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise WheelError(
            f"RECORD has other hashes than the files of the wheel: {wrong[0]}{others}",
            place=str(path),
            hint=f"the wheel was changed after it was built: {_AGAIN}",
        )


class WheelProject:
    """The project of the wheel at `path`: `project` has its configuration and lock, None without one.

    Without a project, all metadata is the wheel's, and `root` is where a lock is looked for. The image installs exactly
    this wheel, and builds write beside it.
    """

    def __init__(self, path: Path, project: ProjectSource | None, *, root: Path | None = None) -> None:
        self._path = path.absolute()
        self._project = project
        self.root = project.root if project else (root or path.parent).absolute()

    @property
    def table(self) -> tuple[str, object]:
        """The table of the project; an empty one without a project."""
        return self._project.table if self._project else (TABLE, {})

    @property
    def directory(self) -> Path:
        """The directory of the wheel."""
        return self._path.parent

    @property
    def reads(self) -> None:
        """Unknown: where the wheel is, builds write it again."""

    def check(self) -> None:
        """Raise HatchDockerError unless the file is a wheel of this project."""
        check_wheel_file(self._path)
        if self._project:
            self._project.check()
        self.read(self.version())

    def prepare(self, build: BuildMetadata) -> None:  # noqa: ARG002
        """Give the project its metadata if only a build would: this wheel has it."""
        if self._project:
            self._project.prepare(lambda _artifact, _python: self._metadata)

    def version(self) -> str:
        """The version of the wheel."""
        return self._given.version

    def read(self, version: str) -> Project:
        """The metadata of the project, with the scripts of the wheel. Raises HatchDockerError if they do not match."""
        if self._project is None:
            return replace(self._given, version=version)
        project = self._project.read(version)
        self._check(project)
        scripts, gui_scripts = self._given.scripts, self._given.gui_scripts
        return replace(
            project, has_version=True, has_backend=True, start=None, scripts=scripts, gui_scripts=gui_scripts
        )

    @contextmanager
    def distribution(self, compiled: bool, cache: Cache, progress: Progress) -> Iterator[FetchedFile]:  # noqa: ARG002
        """A copy of the wheel without paths of this machine in its metadata; its artifact has the wheel's hashes."""
        if compiled:
            place, hint = self._place("no-binary"), "remove the name, or let the image's build compile the project"
            raise ConfigError([(place, f"it names {self._given.name}, and a given wheel cannot be compiled; {hint}")])
        refuse_foreign(self._path)
        with temporary_directory() as folder:
            copy = Path(folder, self._path.name)
            with self._path.open("rb") as source, writable(copy, copy) as out:
                shutil.copyfileobj(source, out)
            original = own_file(copy, self._given.normalized_name, self._given.version)
            file = own_file(portable(copy), self._given.normalized_name, self._given.version)
            yield replace(file, artifact=original.artifact)

    @cached_property
    def _metadata(self) -> BuiltMetadata:
        with WheelFile(self._path) as wheel:
            return wheel_metadata(wheel)

    @cached_property
    def _given(self) -> Project:
        return built_project(self._metadata, self.root, {})

    def _place(self, key: str) -> str:
        return f"{self.table[0]}.{key}"

    def _check(self, project: Project) -> None:
        given = self._given
        if project.normalized_name != given.normalized_name:
            raise self._other(f"is {given.name}, and the project is {project.name}")
        known = self._project_version()
        if known and Version(known) != Version(given.version):
            raise self._other(f"has version {given.version}, and the project has {known}")
        more, fewer = _difference(given.dependencies, project.dependencies)
        if more or fewer:
            differences = [
                f"requires {', '.join(more)}, which the project does not" if more else "",
                f"does not require {', '.join(fewer)}, which the project does" if fewer else "",
            ]
            raise self._other(" and ".join(filter(None, differences)), _HOOKS if more else "")

    def _project_version(self) -> str:
        """The version of the project; empty if it cannot be computed, which is no mistake here."""
        try:
            return self._project.version() if self._project else ""
        except ConfigError:
            return ""

    def _other(self, message: str, hint: str = "") -> SourceError:
        again = f"{_AGAIN}, from what is checked out at {self.root}"
        return SourceError(f"the wheel {message}", place=str(self._path), hint=join_hints(again, hint))


def refuse_foreign(path: Path) -> None:
    """Raise WheelError for a wheel whose compiled code suits the machine that built it, and not any Linux."""
    try:
        _, _, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise WheelError(str(error), place=path.name) from None
    platforms = {tag.platform for tag in tags}
    if platforms == {"any"}:
        with WheelFile(path) as wheel:
            code = next((each for each in sorted(wheel.members) if BINARY.fullmatch(each)), "")
        reason = f"the wheel has compiled code ({code}), and a name that says it suits any machine" if code else ""
    else:
        portable_code = any(each.startswith(_PORTABLE) for each in platforms)
        names = ", ".join(sorted(platforms))
        reason = (
            "" if portable_code else f"the wheel is compiled for the machine that built it ({names}), not for the image"
        )
    if reason:
        raise WheelError(reason, place=path.name, hint=_COMPILE)


def _difference(given: Sequence[str], expected: Sequence[str]) -> tuple[list[str], list[str]]:
    """The requirements of the wheel that the project has not, and the other way round."""
    one, other = {_normal(each): each for each in given}, {_normal(each): each for each in expected}
    return [text for key, text in one.items() if key not in other], [
        text for key, text in other.items() if key not in one
    ]


def _normal(text: str) -> str:
    """A requirement as a key. The URL of a local directory depends on where the project is."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return text
    requirement.name = canonicalize_name(requirement.name)
    if requirement.url and requirement.url.startswith("file:"):
        requirement.url = "file:"
    return str(requirement)
