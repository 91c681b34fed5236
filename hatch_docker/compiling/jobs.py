"""One sdist to compile, from the files that go into a container to the wheel that comes out."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from hatch_docker.base.target import TargetPython
from hatch_docker.compiling import container_main as inside
from hatch_docker.compiling.failure import guess, last_lines
from hatch_docker.compiling.requirements import BuildLock, Resolve, are_met, parse
from hatch_docker.compiling.sdist import Sdist
from hatch_docker.engine import Container
from hatch_docker.errors import BuilderError, CompileError, join_hints
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile
from hatch_docker.support.logs import Log

WORK = "/hatch-docker"
_SCRIPT = Path(inside.__file__)
_LARGEST_ANSWER = 1 << 20
# PyPA: binary distribution format. It becomes part of messages and of file names.
_WHEEL = re.compile(r"[A-Za-z0-9_.!+-]+\.whl")
# What would make two builds of the same sources differ.
_ENVIRON = {"SOURCE_DATE_EPOCH": "315619200", "PYTHONHASHSEED": "0", "TZ": "UTC", "HOME": f"{WORK}/home"}

_PROBED = frozenset({"version", "implementation", "free_threaded", "machine", "glibc", "headers", "compiler"})

# Files of a lock → wheels of them, compiled where need be.
Wheels: TypeAlias = Callable[[Sequence[Artifact]], Sequence[FetchedFile]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An sdist that is to become a wheel, and why it is compiled."""

    sdist: Sdist
    file: FetchedFile
    reason: str

    @property
    def label(self) -> str:
        """`psutil 7.0.0`."""
        return f"{self.sdist.name} {self.sdist.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A wheel's file name, and what it was built with: Python's packages and, in the builder, those of the OS."""

    filename: str
    plan: BuildLock
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplies:
    """What an sdist is built with: `plan` and its files. A backend may ask for more, which takes the other two.

    `complete` is whether the plan is known to have all that the backend asks for.
    """

    plan: BuildLock
    tools: Sequence[FetchedFile]
    requirements: Sequence[FetchedFile]
    complete: bool
    resolve: Resolve
    wheels: Wheels


def compile_in(
    container: Container,
    job: Job,
    out: BinaryIO,
    *,
    supplies: Supplies,
    target: TargetPython,
    builder: str,
    exclude: Sequence[str],
    log: Log,
) -> Compiled:
    """Compile one sdist, and write the wheel to `out`; the log of it all to `log`.

    `exclude` are shared libraries that do not go into the wheel. `builder` is what people call the image. Raises
    CompileError where it does not compile, BuilderError where that image cannot compile for the target.
    """
    steps = _Steps(container=container, job=job, builder=builder, target=target, log=log)
    python = probe(container, target, builder, write=log.write)
    steps.prepare(python, supplies)
    if not supplies.complete:
        asked = parse(steps.ask("requires").get("requires"), job.sdist.filename)
        if not are_met(asked, supplies.plan, target):
            more = tuple(supplies.resolve([*job.sdist.requires, *map(str, asked)]))
            supplies = replace(
                supplies, plan=replace(supplies.plan, requirements=more), requirements=supplies.wheels(more)
            )
            steps.prepare(python, supplies)
    wheel = steps.ask("build", exclude=list(exclude)).get("wheel")
    filename = _checked(wheel, job, target, builder)
    container.get(str(wheel), out)
    return Compiled(filename=filename, plan=supplies.plan)


class _Answer(io.BytesIO):
    """Takes a small document and no large one."""

    def write(self, data: Any, /) -> int:
        """Raise ValueError where it grows too large."""
        if self.tell() + len(data) > _LARGEST_ANSWER:
            raise ValueError
        return super().write(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """What is done in the container, one operation of `inside` after the other."""

    container: Container
    job: Job
    builder: str
    target: TargetPython
    log: Log

    def prepare(self, python: str, supplies: Supplies) -> None:
        """Put the sdist, our tools and what it is built with into the container, and install them."""
        names = [each.artifact.filename for each in supplies.tools]
        job = {
            "tools": names,
            "installer": next(name for name in names if name.startswith("installer-")),
            "requirements": [each.artifact.filename for each in supplies.requirements],
        }
        every = (*supplies.tools, *supplies.requirements)
        files = {f"{WORK}/wheels/{each.artifact.filename}": each.path for each in every}
        self._put(job, {**files, f"{WORK}/{self.job.sdist.filename}": self.job.file.path})
        self._must(self._run(python, "prepare"))

    def ask(self, operation: str, **more: Any) -> dict[str, Any]:
        """The answer of a build backend's hook."""
        self._put(more, {})
        self._must(self._run(f"{WORK}/tools/bin/python", operation))
        answer = _answer(self.container)
        if answer is None:
            # Whatever runs in there may write what it likes.
            raise CompileError(f"{self.job.label} left no answer that can be read", hint=self._whole)
        return answer

    @property
    def _whole(self) -> str:
        return f"the whole log is {self.log.path}"

    def _put(self, more: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        sdist = self.job.sdist
        job = {"sdist": sdist.filename, "backend": sdist.backend, "backend_path": sdist.backend_path, "config": {}}
        document = json.dumps({**job, **more}).encode()
        self.container.put({f"{WORK}/inside.py": _SCRIPT, f"{WORK}/job.json": document, **files})

    def _run(self, python: str, operation: str) -> int:
        return _run(self.container, python, operation, self.log.write)

    def _must(self, status: int) -> None:
        if status == 0:
            return
        text = self.log.end()
        # The bar tells what the log says from what we say.
        said = "".join(f"\n  │ {line}" for line in last_lines(text)) or f" (exit status {status})"
        raise CompileError(
            f"{self.job.label} cannot be compiled in {self.builder}:{said}",
            hint=join_hints(guess(text, self.manager, status=status), self._whole),
        )

    @property
    def manager(self) -> str:
        """The package manager that goes with the target's C library."""
        return "apk" if self.target.libc.kind == "musl" else "apt"


def probe(container: Container, target: TargetPython, builder: str, *, write: Callable[[bytes], object]) -> str:
    """The builder's Python; raises BuilderError where it is not one for the target."""
    container.put({f"{WORK}/inside.py": _SCRIPT, f"{WORK}/job.json": b"{}"})
    threads = "t" if target.free_threaded else ""
    for python in (target.interpreter, f"python{target.minor}{threads}", "python3"):
        if _run(container, python, "probe", write) == 0:
            found = _answer(container) or {}
            if found.keys() >= _PROBED:
                _check_builder(found, target, builder)
                return python
    raise BuilderError(
        f"the builder image {builder} has no Python",
        hint=f"name one with Python {target.minor} and a compiler in builder",
    )


def _run(container: Container, python: str, operation: str, write: Callable[[bytes], object]) -> int:
    command = [python, "-I", "-B", f"{WORK}/inside.py", operation]
    return container.run(command, write=write, environ=_ENVIRON)


def _answer(container: Container) -> dict[str, Any] | None:
    """What an operation left; None where it is not what `inside` writes."""
    answer = _Answer()
    try:
        container.get(f"{WORK}/result.json", answer)
        document = json.loads(answer.getvalue())
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _check_builder(found: Mapping[str, Any], target: TargetPython, builder: str) -> None:
    """Compare what `inside.probe` found with the target; raises BuilderError, with all that is wrong."""
    minor = ".".join(str(found["version"]).split(".")[:2])
    glibc = tuple(int(part) for part in str(found["glibc"]).split(".")[:2] if part.isdecimal())
    libc = "glibc" if glibc else "musl"
    wrong = []
    if found["implementation"] != "cpython" or minor != target.minor or found["free_threaded"] != target.free_threaded:
        threads = " free-threaded" if found["free_threaded"] else ""
        wrong.append(f"has {found['implementation']} {found['version']}{threads}")
    if found["machine"] != target.machine:
        wrong.append(f"is for {found['machine']}")
    if libc != target.libc.kind:
        wrong.append(f"has {libc}")
    elif libc == "glibc" and glibc > target.libc.version:
        wrong.append(f"has glibc {found['glibc']}, which is newer than the base's")
    lacks = not wrong and not (found["headers"] and found["compiler"])
    if lacks:
        wrong.append("has no compiler" if found["headers"] else "lacks Python's headers (Python.h)")
    if wrong:
        raise BuilderError(
            f"the builder image {builder} {' and '.join(wrong)}; the image has {target}",
            hint="name one that has both a compiler and Python's headers in builder, or add build-packages"
            if lacks
            else "name an image of the same kind as the base in builder, or none: then the base's own is taken",
        )


def _checked(wheel: object, job: Job, target: TargetPython, builder: str) -> str:
    """A wheel's file name. Raises CompileError for one of another package, BuilderError for another kind of wheel."""
    filename = str(wheel).rpartition("/")[2]
    try:
        if not _WHEEL.fullmatch(filename):
            raise InvalidWheelFilename(f"{filename!r} is no wheel's name")
        name, version, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        raise CompileError(f"{job.label} was built into no wheel: {error}", place=job.sdist.filename) from None
    if name != canonicalize_name(job.sdist.name) or version != Version(job.sdist.version):
        raise CompileError(
            f"{job.label} was built into {filename}, which is something else",
            place=job.sdist.filename,
            hint="the sdist is not what its name says: lock another version",
        )
    if tags.isdisjoint(target.tags):
        raise BuilderError(
            f"{job.label} was built into {filename}, which does not fit {target}",
            hint=f"the builder image {builder} makes wheels of another kind than the base takes",
        )
    return filename
