"""Build one directory on this machine: its wheel, or its sdist."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from platform import python_version

from hatch_docker.base.target import TargetPython
from hatch_docker.compiling.directory import Directory, binaries
from hatch_docker.compiling.dist_info import REPORT, BuiltMetadata, read_dist_info, wheel_metadata
from hatch_docker.compiling.failure import last_lines
from hatch_docker.compiling.local import LocalBuild
from hatch_docker.compiling.requirements import BuildLock, Resolve, parse, satisfies
from hatch_docker.errors import CompileError, WheelError, join_hints
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile
from hatch_docker.locks.model import parse_filename
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.logs import Log
from hatch_docker.support.patterns import regex
from hatch_docker.wheels.wheelfile import WheelFile

# Build requirements → their wheels, compiled if necessary.
Obtain = Callable[[Sequence[Artifact]], Sequence[FetchedFile]]


# What uv prints around the output of a build backend: now, before 0.13, and before 0.11.
_FRAME = regex(
    r"^(?:Building (?:wheel|source distribution)\.\.\."
    r"|warning: Requirements file .* does not contain any dependencies"
    r"|\s*hint: (?:This|Build failures) usually indicates? a problem .*)\n"
    r"|^\s*hint: This error likely indicates(?:.*\n){1,8}?.*--no-build-isolation.*\n?"
    r"|^error: Failed to build .*\n  (?:cause|Caused by): The build backend returned an error\n"
    r"(?:  (?:cause|Caused by): .*\n)*"
    r"|^error: Failed to build .*\n(?=  (?:cause|Caused by): )"
    r"|^  × Failed to build.*\n(?:  [│├╰].*\n|      .*\n)*",
    re.MULTILINE,
)
# Messages of failed builds of a directory, and what to do about each; `{}` is the first group.
_NO_VERSION = regex(
    r"unable to detect version|version could not be (?:determined|detected)|Unable to determine .*version"
)
_NO_MODULE = regex(r"^(?:ModuleNotFoundError|ImportError): No module named '?([\w.]+)", re.MULTILINE)
_HINTS = {
    _NO_VERSION: "its version comes from a repository: build in a clone that has the tags, or set the backend's "
    "variable for the version, such as SETUPTOOLS_SCM_PRETEND_VERSION",
    regex(r"has no attribute 'build_wheel'"): "correct build-system.build-backend: it names no build backend",
    regex(r"`backend-path` entry"): "correct build-system.backend-path",
    _NO_MODULE: "add the package that has the module {} to build-system.requires",
}


@contextlib.contextmanager
def made_here() -> Iterator[None]:
    """Give errors about a wheel that was built here a hint at its build backend, since no lock names the file."""
    try:
        yield
    except WheelError as error:
        error.hint = f"its build backend made a broken wheel: {REPORT}"
        raise


_SAME = "'uv build' in this directory fails in the same way"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What was built with `lock`, the build lock with all that was required; or the `output` of a build that failed."""

    lock: BuildLock
    path: Path | None = None
    output: str = field(default="", repr=False)

    @property
    def last_line(self) -> str:
        """The line that says why the build failed."""
        lines = last_lines(self.output, 1)
        return lines[-1].strip() if lines else "no output"

    @property
    def explanation(self) -> str:
        """What to do if the build must fail on any machine; empty if that is not known."""
        found = ((pattern.search(self.output), text) for pattern, text in _HINTS.items())
        return next((text.format(*match.groups()) for match, text in found if match), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryBuild:
    """The build of the package `name` from a directory. `place` is the directory in messages, `source` has its files.

    `resolve` locks what its backend requires besides `build-system.requires`, and `obtain` gives the wheels.
    """

    name: str
    place: str
    directory: Directory
    source: Path
    target: TargetPython
    build: LocalBuild
    log: Log
    resolve: Resolve
    obtain: Obtain

    def wheel(self, lock: BuildLock) -> tuple[Attempt, Callable[[], None]]:
        """The wheel, and a function that removes the extension modules that its build left in the directory.

        An sdist must not contain them, since they fit this machine. Raises CompileError for another package's wheel.
        """
        before = binaries(self.source)
        attempt = self._make("wheel", lock)

        def clear() -> None:
            for path in binaries(self.source) - before:
                path.unlink(missing_ok=True)

        return attempt, clear

    def sdist(self, lock: BuildLock) -> Attempt:
        """The sdist. Raises CompileError for another package's."""
        return self._make("sdist", lock)

    def metadata(self, lock: BuildLock) -> tuple[BuiltMetadata, BuildLock]:
        """The metadata of the wheel, without building it if the backend can; and with what it was made.

        Raises CompileError with the end of the output if it cannot be made.
        """
        source, system = self.source, self.directory.system
        before = self.log.end()
        found = self.build.metadata(source, system, self.obtain(lock.requirements))
        if found.requires and not satisfies(lock, parse(found.requires, self.place, REPORT), self.target):
            lock = BuildLock(requirements=tuple(self.resolve([*system.requires, *found.requires])))
            before = self.log.end()
            found = self.build.metadata(source, system, self.obtain(lock.requirements))
        if found.metadata:
            return read_dist_info(Path(found.metadata), self.place), lock
        attempt = Attempt(lock=lock, output=self._output(before))
        if found.metadata == "":
            attempt, clear = self.wheel(lock)
            clear()
        if attempt.path is None:
            raise self.failed(attempt)
        with made_here(), WheelFile(attempt.path) as wheel:
            return wheel_metadata(wheel), attempt.lock

    def failed(self, attempt: Attempt) -> CompileError:
        """An error with the end of the output."""
        excerpt = "".join(f"\n  │ {line}" for line in last_lines(attempt.output))
        hint = join_hints(self._hint(attempt), f"the whole log is {self.log.path}")
        name = self.name or "the project"
        return CompileError(f"{name} cannot be built on this machine:{excerpt}", place=self.place, hint=hint)

    def _hint(self, attempt: Attempt) -> str:
        directory, absent = self.directory, _NO_MODULE.search(attempt.output)
        if not directory.admits_this_python:
            return (
                f"its requires-python = {directory.requires_python!r} excludes the Python that hatch-docker runs with, "
                f"{python_version()}: run it with Python {self.target.minor} "
                f"(uvx --python {self.target.minor} hatch-docker build)"
            )
        if absent and f"{directory.system.backend.replace(':', '.')}.".startswith(f"{absent[1]}."):
            return f"{attempt.explanation}, or correct build-system.build-backend"
        return attempt.explanation or _SAME

    def _output(self, before: str) -> str:
        """What was logged since the log ended with `before`, without what uv prints around it."""
        return _FRAME.sub("", self.log.end().removeprefix(before))

    def _make(self, kind: str, lock: BuildLock) -> Attempt:
        source, system = self.source, self.directory.system
        wheels = self.obtain(lock.requirements)
        attempt = self._attempt(kind, lock, wheels)
        if attempt.path is None:
            # uv refuses to build if the backend requires more than it was given.
            more = self.build.requires(source, system, wheels, kind=kind)
            if more and not satisfies(lock, parse(more, self.place, REPORT), self.target):
                lock = BuildLock(requirements=tuple(self.resolve([*system.requires, *more])))
                attempt = self._attempt(kind, lock, self.obtain(lock.requirements))
        return attempt

    def _attempt(self, kind: str, lock: BuildLock, wheels: Sequence[FetchedFile]) -> Attempt:
        before = self.log.end()
        made = self.build.build(self.source, wheels, kind=kind)
        if made is None:
            return Attempt(lock=lock, output=self._output(before))
        found = parse_filename(made.name)
        if found is None or (self.name and found[0] != self.name):
            raise CompileError(
                f"{self.name} was built into {made.name}, which is another package",
                place=self.place,
                hint="project.name and the build backend must agree; if they do, lock again",
            )
        return Attempt(lock=lock, path=made)
