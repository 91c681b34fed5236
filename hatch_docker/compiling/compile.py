"""The door: the files of a lock in, wheels out. What is no wheel is built, once for all projects.

A pure sdist is built on this machine; any other in a container of the builder.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hatch_docker.base.target import TargetPython
from hatch_docker.compiling.builder import Builder, log_path
from hatch_docker.compiling.jobs import Compiled, Job, Supplies, compile_in
from hatch_docker.compiling.local import build_here, is_pure
from hatch_docker.compiling.requirements import TOOLS, BuildLock, Resolve, told
from hatch_docker.compiling.sdist import read_sdist
from hatch_docker.compiling.wheel_cache import CompiledWheel, Made, WheelCache
from hatch_docker.config import ALL
from hatch_docker.engine import missed
from hatch_docker.errors import CompileError, EngineError
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile
from hatch_docker.support.cache import Cache
from hatch_docker.support.logs import logging_to
from hatch_docker.support.progress import Progress
from hatch_docker.support.threads import together

# What stands for the builder where there is none. Another Python may make another wheel of a pure sdist.
_HERE = f"this machine {sys.platform} {sys.version_info[:2]}"
# Compilers run in several processes of their own.
_AT_ONCE = 4
_IMPURE = "impure"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileContext:
    """What compiling takes. `builder` opens the builder when it is first called, `uv` finds uv.

    `scope` is all that decides, besides the target, which files `resolve` gives. `exclude` are shared libraries that
    the image has, so that no wheel brings them; `network` names whose compilation may use the network, or `:all:`.
    """

    target: TargetPython
    builder: Callable[[], Builder]
    resolve: Resolve
    scope: str
    obtain: Callable[[Sequence[Artifact]], Sequence[FetchedFile]]
    uv: Callable[[], str]
    environ: Mapping[str, str]
    exclude: tuple[str, ...]
    network: Set[str]
    cache: Cache
    threads: int
    progress: Progress

    @property
    def shelf(self) -> WheelCache:
        """Where compiled wheels are kept."""
        return WheelCache(cache=self.cache, target=self.target, scope=self.scope, exclude=self.exclude)

    def networked(self, job: Job) -> bool:
        """Whether a compilation may use the network."""
        return not self.network.isdisjoint({ALL, job.sdist.name})


def compile_all(
    files: Sequence[FetchedFile], workshop: CompileContext, *, within: frozenset[str] = frozenset()
) -> tuple[list[FetchedFile], list[CompiledWheel]]:
    """`files` in their order, with a wheel in the place of each sdist; and how those were built.

    `within` are the names whose build requirements these are. Raises CompileError, for all that do not compile at once;
    EngineError where something must be compiled and no engine answers, BuilderError for a builder that cannot.
    """
    jobs = [_job(file, workshop, within) for file in files if not file.artifact.is_wheel]
    pure = [job for job in jobs if _looks_pure(job, workshop)]
    made = _all(partial(_here, workshop=workshop, within=within), pure, workshop)
    others = [job for job in jobs if job.file.digest not in made]
    if others:
        made |= _in_builder(others, workshop, within)
    outcomes = [made.get(file.digest, file) for file in files]
    wheels = [outcome.file if isinstance(outcome, Made) else outcome for outcome in outcomes]
    return wheels, [outcome.how for outcome in outcomes if isinstance(outcome, Made)]


def _job(file: FetchedFile, workshop: CompileContext, within: frozenset[str]) -> Job:
    artifact = file.artifact
    if artifact.name in within:
        raise CompileError(
            f"{artifact.name} is needed to build {artifact.name} itself, and has no wheel for {workshop.target}",
            place=artifact.filename,
            hint="lock a version that has one",
        )
    return Job(sdist=read_sdist(file.path, artifact.filename), file=file, reason=artifact.reason)


def _looks_pure(job: Job, workshop: CompileContext) -> bool:
    return not job.sdist.compiled and not workshop.shelf.is_known_as(_IMPURE, job, _HERE)


def _all(make: Callable[[Job], Made | None], jobs: Sequence[Job], workshop: CompileContext) -> dict[str, Made]:
    """What `make` gives for each job, by the sdist's digest; every CompileError at once."""

    def attempt(job: Job) -> Made | CompileError | None:
        try:
            return make(job)
        except CompileError as error:
            return error

    outcomes = together(attempt, jobs, threads=min(_AT_ONCE, workshop.threads))
    errors = [outcome for outcome in outcomes if isinstance(outcome, CompileError)]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise CompileError(f"{len(errors)} packages cannot be compiled\n" + "\n".join(map(str, errors)))
    return {job.file.digest: made for job, made in zip(jobs, outcomes, strict=True) if isinstance(made, Made)}


def _here(job: Job, workshop: CompileContext, within: frozenset[str]) -> Made | None:
    """A pure sdist, built on this machine; None for one that is not pure after all, which is remembered."""
    shelf = workshop.shelf
    if known := shelf.find(job, _HERE):
        return known
    workshop.progress.note(f"{job.label}: {job.reason}, building a pure wheel on this machine")
    plan = BuildLock(requirements=tuple(told(workshop.resolve, job.label)(job.sdist.requires)))
    wheels = _wheels(workshop, job, within)(plan.requirements)
    with (
        tempfile.TemporaryDirectory(prefix="hatch-docker-") as folder,
        logging_to(_log_path(workshop, job)) as log,
        workshop.progress.task("build", job.label),
    ):
        wheel = build_here(
            job.sdist,
            job.file.path,
            wheels=wheels,
            uv=workshop.uv(),
            environ=workshop.environ,
            folder=Path(folder),
            write=log.write,
        )
        if wheel is not None and is_pure(wheel, job.sdist):
            return shelf.keep(job, _HERE, "", wheel, Compiled(filename=wheel.name, plan=plan))
        if wheel is not None:
            shelf.remember(_IMPURE, job, _HERE)
        workshop.progress.note(f"{job.label} is built into no pure wheel on this machine ({log.path})")
    return None


def _in_builder(jobs: Sequence[Job], workshop: CompileContext, within: frozenset[str]) -> dict[str, Made]:
    """What must be compiled: from the cache, else in containers of the builder."""
    builder = _opened(jobs, workshop)
    known = {
        job.file.digest: made
        for job in jobs
        if (made := workshop.shelf.find(job, _place(builder, workshop.networked(job)), builder.reference))
    }
    missing = [job for job in jobs if job.file.digest not in known]
    if not missing:
        return known
    for job in missing:
        workshop.progress.note(f"{job.label}: {job.reason}, compiling in {builder.name}")
    _connect(builder, missing)
    builder.provide()
    return known | _all(partial(_compile, workshop=workshop, builder=builder, within=within), missing, workshop)


def _opened(jobs: Sequence[Job], workshop: CompileContext) -> Builder:
    try:
        return workshop.builder()
    except EngineError as error:
        raise _no_engine(error, jobs) from None


def _connect(builder: Builder, jobs: Sequence[Job]) -> None:
    try:
        builder.engine()
    except EngineError as error:
        raise _no_engine(error, jobs) from None


def _no_engine(error: EngineError, jobs: Sequence[Job]) -> EngineError:
    why = "".join(f"\n  {job.label}: {job.reason}" for job in jobs)
    return missed(error, f"compile{why}", instead="choose versions that have a wheel for the image")


def _place(builder: Builder, network: bool) -> str:
    """Where something is compiled, as a part of keys."""
    return f"{builder.identity}{' with network' if network else ''}"


def _compile(job: Job, workshop: CompileContext, builder: Builder, within: frozenset[str]) -> Made:
    shelf, network = workshop.shelf, workshop.networked(job)
    place = _place(builder, network)
    with workshop.progress.task("compile", job.label):
        # Before there is a container, whose time is limited.
        supplies = _supplies(shelf.plan(job, place), job, workshop, within)
        with (
            workshop.cache.temporary() as partial_file,
            logging_to(_log_path(workshop, job)) as log,
            builder.container(f"compiling {job.label}", network=network) as container,
        ):
            with partial_file.open("wb") as out:
                compiled = compile_in(
                    container,
                    job,
                    out,
                    supplies=supplies,
                    target=workshop.target,
                    builder=builder.name,
                    exclude=workshop.exclude,
                    log=log,
                )
            compiled = replace(compiled, packages=builder.packages())
            return shelf.keep(job, place, builder.reference, partial_file, compiled)


def _supplies(known: BuildLock | None, job: Job, workshop: CompileContext, within: frozenset[str]) -> Supplies:
    resolve = told(workshop.resolve, job.label)
    plan = known or BuildLock(requirements=tuple(resolve(job.sdist.requires)), tools=tuple(resolve(TOOLS)))
    wheels = _wheels(workshop, job, within)
    return Supplies(
        plan=plan,
        tools=wheels(plan.tools),
        requirements=wheels(plan.requirements),
        complete=known is not None,
        resolve=resolve,
        wheels=wheels,
    )


def _wheels(
    workshop: CompileContext, job: Job, within: frozenset[str]
) -> Callable[[Sequence[Artifact]], list[FetchedFile]]:
    """Wheels of what a job is built with, which may have to be compiled first."""

    def wheels(artifacts: Sequence[Artifact]) -> list[FetchedFile]:
        return compile_all(workshop.obtain(artifacts), workshop, within=within | {job.sdist.name})[0]

    return wheels


def _log_path(workshop: CompileContext, job: Job) -> Path:
    return log_path(workshop.cache.root, f"{job.sdist.name}-{job.sdist.version}")
