"""Build one directory on this machine: its wheel, or its sdist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.base.target import TargetPython
from hatch_docker.compiling.directory import Directory, binaries
from hatch_docker.compiling.failure import last_lines
from hatch_docker.compiling.local import LocalBuild
from hatch_docker.compiling.requirements import BuildLock, Resolve, parse, satisfies
from hatch_docker.errors import CompileError
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile
from hatch_docker.locks.model import parse_filename
from hatch_docker.support.logs import Log

# Build requirements → their wheels, compiled if necessary.
Obtain = Callable[[Sequence[Artifact]], Sequence[FetchedFile]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryBuild:
    """The build of the package `name` from a directory. `place` is the directory in messages.

    `resolve` locks what its backend requires besides `build-system.requires`, and `obtain` gives the wheels.
    """

    name: str
    place: str
    directory: Directory
    target: TargetPython
    build: LocalBuild
    log: Log
    resolve: Resolve
    obtain: Obtain

    def wheel(self, lock: BuildLock) -> tuple[Path | None, BuildLock]:
        """The wheel, and the build lock with all that was required; None if it cannot be built here.

        Raises CompileError for a wheel of another package.
        """
        return self._make("wheel", lock)

    def sdist(self, lock: BuildLock) -> Path:
        """The sdist. Raises CompileError with the end of the log if it cannot be built."""
        made, _ = self._make("sdist", lock)
        if made is None:
            raise self.failed()
        return made

    def cleared(self, lock: BuildLock) -> tuple[Path | None, BuildLock, Callable[[], None]]:
        """As `wheel`, with a function that removes the extension modules that the build left in the directory.

        An sdist must not contain them: they fit this machine.
        """
        before = binaries(self.directory.path)
        made, lock = self.wheel(lock)

        def clear() -> None:
            for path in binaries(self.directory.path) - before:
                path.unlink(missing_ok=True)

        return made, lock, clear

    @property
    def last_line(self) -> str:
        """The line of the log that says why the build failed."""
        lines = last_lines(self.log.end(), 1)
        return lines[-1].strip() if lines else "no output"

    def failed(self) -> CompileError:
        """An error with the end of the log."""
        excerpt = "".join(f"\n  │ {line}" for line in last_lines(self.log.end()))
        hint = f"the whole log is {self.log.path}"
        return CompileError(f"{self.name} cannot be built on this machine:{excerpt}", place=self.place, hint=hint)

    def _make(self, kind: str, lock: BuildLock) -> tuple[Path | None, BuildLock]:
        source, system = self.directory.path, self.directory.system
        wheels = self.obtain(lock.requirements)
        made = self.build.build(source, wheels, kind=kind)
        if made is None:
            # uv refuses to build if the backend requires more than it was given.
            more = self.build.requires(source, system, wheels, kind=kind)
            if more and not satisfies(lock, parse(more, self.place), self.target):
                lock = BuildLock(requirements=tuple(self.resolve([*system.requires, *more])))
                made = self.build.build(source, self.obtain(lock.requirements), kind=kind)
        if made is not None:
            self._check_name(made.name)
        return made, lock

    def _check_name(self, filename: str) -> None:
        found = parse_filename(filename)
        if found is None or found[0] != self.name:
            raise CompileError(
                f"{self.name} was built into {filename}, which is another package",
                place=self.place,
                hint="the lock names another package than the directory has: lock again",
            )
