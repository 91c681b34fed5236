"""Compile one sdist in a container: copy its files in, run the build, copy the wheel out."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from hatch_docker.base.target import TargetPython
from hatch_docker.compiling import container_main
from hatch_docker.compiling.failure import guess, last_lines
from hatch_docker.compiling.requirements import BuildLock, Resolve, parse, satisfies
from hatch_docker.compiling.sdist import Sdist
from hatch_docker.engine.container import Container
from hatch_docker.errors import BuilderError, CompileError, join_hints
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.logs import Log
from hatch_docker.support.patterns import regex

WORK = "/hatch-docker"
_SCRIPT = Path(container_main.__file__)
_LARGEST_RESULT = 1 << 20
# PyPA: binary distribution format. The name becomes part of messages and of file names.
_WHEEL = regex(r"[A-Za-z0-9_.!+-]+\.whl")
# Settings without which two builds of the same sources would differ.
_ENVIRON = {
    "HATCH_BUILD_HOOK_ENABLE_DOCKER": "false",
    "HOME": f"{WORK}/home",
    "PYTHONHASHSEED": "0",
    "SOURCE_DATE_EPOCH": "315619200",
    "TZ": "UTC",
}

_PROBED = frozenset({"version", "implementation", "free_threaded", "machine", "glibc", "headers", "compiler"})

# The files of a lock → their wheels; sdists among them are compiled.
Wheels: TypeAlias = Callable[[Sequence[Artifact]], Sequence[FetchedFile]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an sdist was made: from a `directory`, whose sources of build requirements apply, or a Git commit.

    `scope` is a digest of what decides, besides the sdist, what it is built with. `requirements` are its build
    requirements if they were locked there.
    """

    directory: Path | None = None
    scope: str = ""
    requirements: tuple[Artifact, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An sdist to compile, and the reason why it is compiled. `origin` is None for an sdist that the lock names."""

    sdist: Sdist
    file: FetchedFile
    reason: str
    origin: Origin | None = None

    @property
    def label(self) -> str:
        """Name and version, if that is known: `psutil 7.0.0`."""
        return f"{self.sdist.name} {self.sdist.version}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A compiled wheel's file name, and what it was built with: `lock`, and the builder's OS packages."""

    filename: str
    lock: BuildLock
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInputs:
    """The files that an sdist is built with, as `lock` names them.

    `complete` says that the lock contains everything that the build backend requires. If it does not, `resolve` and
    `wheels` add what the backend requests besides `build-system.requires`.
    """

    lock: BuildLock
    tools: Sequence[FetchedFile]
    requirements: Sequence[FetchedFile]
    complete: bool
    resolve: Resolve
    wheels: Wheels

    def with_requirements(self, requirements: Sequence[str]) -> BuildInputs:
        """The same tools with the files of other build requirements."""
        artifacts = tuple(self.resolve(requirements))
        return replace(self, lock=replace(self.lock, requirements=artifacts), requirements=self.wheels(artifacts))


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerBuild:
    """The compilation of one sdist in a container, by the operations of `container_main`.

    `builder` is the builder's display name. The output of every command goes to `log`.
    """

    container: Container
    job: Job
    builder: str
    target: TargetPython
    log: Log

    def compile(self, inputs: BuildInputs, out: BinaryIO, *, exclude: Sequence[str]) -> Compiled:
        """Compile the sdist, and write its wheel to `out`. `exclude` are shared libraries not to put into the wheel.

        Raises CompileError if it cannot be compiled, BuilderError if the builder cannot compile for the target.
        """
        python = probe(self.container, self.target, self.builder, write=self.log.write)
        self._prepare(python, inputs)
        if not inputs.complete:
            more = parse(self._call("requires").get("requires"), self.job.sdist.filename)
            if not satisfies(inputs.lock, more, self.target):
                inputs = inputs.with_requirements([*self.job.sdist.requires, *map(str, more)])
                self._prepare(python, inputs)
        wheel = self._call("build", exclude=list(exclude)).get("wheel")
        filename = _checked(wheel, self.job, self.target, self.builder)
        self.container.get(str(wheel), out)
        return Compiled(filename=filename, lock=inputs.lock)

    def _prepare(self, python: str, inputs: BuildInputs) -> None:
        """Copy the sdist, our tools and the build requirements into the container, and install them."""
        names = [each.artifact.filename for each in inputs.tools]
        job = {
            "tools": names,
            "installer": next(name for name in names if name.startswith("installer-")),
            "requirements": [each.artifact.filename for each in inputs.requirements],
        }
        every = (*inputs.tools, *inputs.requirements)
        files = {f"{WORK}/wheels/{each.artifact.filename}": each.path for each in every}
        self._put(job, {**files, f"{WORK}/{self.job.sdist.filename}": self.job.file.path})
        self._check(self._run(python, "prepare"))

    def _call(self, operation: str, **more: Any) -> dict[str, Any]:
        """The result of an operation that calls the build backend."""
        self._put(more, {})
        self._check(self._run(f"{WORK}/tools/bin/python", operation))
        result = _result(self.container)
        if result is None:
            # The code of the sdist may write anything to that file.
            raise CompileError(f"{self.job.label} left no readable result", hint=self._log_hint)
        return result

    @property
    def _log_hint(self) -> str:
        return f"the whole log is {self.log.path}"

    def _put(self, more: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        sdist = self.job.sdist
        job = {"sdist": sdist.filename, "backend": sdist.backend, "backend_path": sdist.backend_path, "config": {}}
        document = json.dumps({**job, **more}).encode()
        self.container.put({f"{WORK}/inside.py": _SCRIPT, f"{WORK}/job.json": document, **files})

    def _run(self, python: str, operation: str) -> int:
        return _run(self.container, python, operation, self.log.write)

    def _check(self, status: int) -> None:
        """Raise CompileError for an exit status other than 0."""
        if status == 0:
            return
        text = self.log.end()
        # The bar separates the log's lines from our own.
        excerpt = "".join(f"\n  │ {line}" for line in last_lines(text)) or f" (exit status {status})"
        own = self.job.origin is not None and self.job.origin.directory is not None
        raise CompileError(
            f"{self.job.label} cannot be compiled in {self.builder}:{excerpt}",
            hint=join_hints(guess(text, self.manager, status=status, own=own), self._log_hint),
        )

    @property
    def manager(self) -> str:
        """The package manager of the target's distribution, by its C library."""
        return "apk" if self.target.libc.kind == "musl" else "apt"


class _Limited(io.BytesIO):
    """A buffer for a small document."""

    def write(self, data: Any, /) -> int:
        """Raise ValueError beyond the limit."""
        if self.tell() + len(data) > _LARGEST_RESULT:
            raise ValueError
        return super().write(data)


def probe(container: Container, target: TargetPython, builder: str, *, write: Callable[[bytes], object]) -> str:
    """The builder's Python, as a command. Raises BuilderError if the builder cannot compile for the target."""
    container.put({f"{WORK}/inside.py": _SCRIPT, f"{WORK}/job.json": b"{}"})
    threads = "t" if target.free_threaded else ""
    for python in (target.interpreter, f"python{target.minor}{threads}", "python3"):
        if _run(container, python, "probe", write) == 0:
            result = _result(container) or {}
            if result.keys() >= _PROBED:
                _check_builder(result, target, builder)
                return python
    raise BuilderError(
        f"the builder image {builder} has no Python",
        hint=f"set builder to an image that has Python {target.minor} and a compiler",
    )


def _run(container: Container, python: str, operation: str, write: Callable[[bytes], object]) -> int:
    # Bytecode is written for the operations that follow: bases have none of the standard library.
    command = [python, "-I", f"{WORK}/inside.py", operation]
    return container.run(command, write=write, environ=_ENVIRON)


def _result(container: Container) -> dict[str, Any] | None:
    """The result of an operation; None for anything that `container_main` does not write."""
    buffer = _Limited()
    try:
        container.get(f"{WORK}/result.json", buffer)
        document = json.loads(buffer.getvalue())
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _check_builder(probed: Mapping[str, Any], target: TargetPython, builder: str) -> None:
    """Compare the result of `container_main.probe` with the target. Raises BuilderError with all differences."""
    problems = list(_differences(probed, target))
    hint = "set builder to an image of the same kind as the base, or remove it to use the base's own"
    if not problems and not (probed["headers"] and probed["compiler"]):
        problems = ["has no compiler" if probed["headers"] else "lacks Python's headers (Python.h)"]
        hint = "set builder to an image with a compiler and Python's headers, or add build-packages"
    if problems:
        raise BuilderError(
            f"the builder image {builder} {' and '.join(problems)}; the image has {target}",
            hint=hint,
        )


def _differences(probed: Mapping[str, Any], target: TargetPython) -> Iterator[str]:
    """The differences that keep wheels of a builder from running on the target."""
    minor = ".".join(str(probed["version"]).split(".")[:2])
    if (probed["implementation"], minor, probed["free_threaded"]) != ("cpython", target.minor, target.free_threaded):
        threads = " free-threaded" if probed["free_threaded"] else ""
        yield f"has {probed['implementation']} {probed['version']}{threads}"
    if probed["machine"] != target.machine:
        yield f"is for {probed['machine']}"
    glibc = tuple(int(part) for part in str(probed["glibc"]).split(".")[:2] if part.isdecimal())
    if (libc := "glibc" if glibc else "musl") != target.libc.kind:
        yield f"has {libc}"
    elif glibc and glibc > target.libc.version:
        yield f"has glibc {probed['glibc']}, which is newer than the base's"


def _checked(wheel: object, job: Job, target: TargetPython, builder: str) -> str:
    """The file name of a wheel, checked.

    Raises CompileError if it is another package's, BuilderError if its tags do not fit the target.
    """
    filename = str(wheel).rpartition("/")[2]
    try:
        if not _WHEEL.fullmatch(filename):
            raise InvalidWheelFilename(f"{filename!r} is not the name of a wheel")
        name, version, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        raise CompileError(f"{job.label} was not built into a wheel: {error}", place=job.sdist.filename) from None
    expected = Version(job.sdist.version) if job.sdist.version else version
    if name != canonicalize_name(job.sdist.name) or version != expected:
        raise CompileError(
            f"{job.label} was built into {filename}, a wheel of another package or version",
            place=job.sdist.filename,
            hint="the sdist does not contain what its name says: lock another version",
        )
    if tags.isdisjoint(target.tags):
        raise BuilderError(
            f"{job.label} was built into {filename}, which does not fit {target}",
            hint=f"the wheels of the builder image {builder} do not fit the base",
        )
    return filename
