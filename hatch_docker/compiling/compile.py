"""Turn the sdists of a lock into wheels, which are cached for all projects.

A pure sdist is built on this machine, any other in a container of the builder.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hatch_docker.base.image import Base
from hatch_docker.base.target import TargetPython
from hatch_docker.compiling.builder import Builder, open_builder
from hatch_docker.compiling.jobs import BuildInputs, Compiled, ContainerBuild, Job
from hatch_docker.compiling.local import build_locally, is_pure
from hatch_docker.compiling.requirements import TOOLS, BuildLock, Resolve, with_context
from hatch_docker.compiling.sdist import read_sdist
from hatch_docker.compiling.wheel_cache import BuiltWheel, CompiledWheel, WheelCache
from hatch_docker.config import ALL, BaseSpec, Compiling
from hatch_docker.engine import missed
from hatch_docker.errors import CompileError, EngineError
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile
from hatch_docker.locks.locked import BuildResolver
from hatch_docker.locks.uv import find_uv
from hatch_docker.services import Services
from hatch_docker.support.cache import Cache
from hatch_docker.support.logs import logging_to
from hatch_docker.support.progress import Progress
from hatch_docker.support.threads import once, together

# The cache key's part for builds without a builder: another Python may build another wheel from a pure sdist.
_LOCAL = f"this machine {sys.platform} {sys.version_info[:2]}"
# Compilers start several processes themselves.
_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileContext:
    """What compiling needs for one target.

    `builder` opens the builder when it is first called. `scope` is a digest of all settings, besides the target, that
    decide what `resolve` returns. `exclude` are shared libraries of the image, which wheels must not bundle; packages
    in `network` (normalized names, or `:all:`) may use the network while they are compiled.
    """

    target: TargetPython
    builder: Callable[[], Builder]
    resolve: Resolve
    scope: str
    download: Callable[[Sequence[Artifact]], Sequence[FetchedFile]]
    environ: Mapping[str, str]
    exclude: tuple[str, ...]
    network: Set[str]
    cache: Cache
    threads: int
    progress: Progress

    @property
    def wheels(self) -> WheelCache:
        """The cache of compiled wheels."""
        return WheelCache(cache=self.cache, target=self.target, scope=self.scope, exclude=self.exclude)

    def has_network(self, job: Job) -> bool:
        """Whether a compilation may use the network."""
        return not self.network.isdisjoint({ALL, job.sdist.name})

    def log_path(self, job: Job) -> Path:
        """The log of a compilation."""
        return self.cache.log_path(f"{job.sdist.name}-{job.sdist.version}")


def open_context(
    bare: Base, base: Base, spec: BaseSpec, options: Compiling, resolver: BuildResolver, services: Services
) -> CompileContext:
    """The context for an image on `base`; `bare` is the base without the image's OS packages."""
    return CompileContext(
        target=base.facts.python,
        builder=once(partial(open_builder, bare, spec, options, services)),
        resolve=resolver,
        scope=resolver.scope,
        download=resolver.indexes.download,
        environ=services.host.environ,
        exclude=tuple(sorted(base.facts.libraries - bare.facts.libraries)),
        network=frozenset(options.build_network),
        cache=services.cache,
        threads=services.threads,
        progress=services.progress,
    )


def compile_all(
    files: Sequence[FetchedFile], context: CompileContext, *, within: frozenset[str] = frozenset()
) -> tuple[list[FetchedFile], list[CompiledWheel]]:
    """Replace each sdist among `files` by a wheel; returns the wheels, and how those of sdists were built.

    `within` has the names of the sdists whose build requirements these are. Raises CompileError, for all failures at
    once; EngineError if a container is needed and no engine answers, BuilderError for an unsuitable builder.
    """
    jobs = [_job(file, context, within) for file in files if not file.artifact.is_wheel]
    pure = [job for job in jobs if _looks_pure(job, context)]
    made = _all(partial(_build_locally, context=context, within=within), pure, context)
    others = [job for job in jobs if job.file.digest not in made]
    if others:
        made |= _build_in_containers(others, context, within)
    outcomes = [made.get(file.digest, file) for file in files]
    wheels = [outcome.file if isinstance(outcome, BuiltWheel) else outcome for outcome in outcomes]
    return wheels, [outcome.record for outcome in outcomes if isinstance(outcome, BuiltWheel)]


def cached_wheel(file: FetchedFile, context: CompileContext) -> FetchedFile | None:
    """The wheel that `compile_all` would take from the cache for an sdist. Raises as opening the builder does."""
    job = _job(file, context, frozenset())
    made = context.wheels.find(job, _LOCAL) if _looks_pure(job, context) else None
    if made is None:
        builder = context.builder()
        made = context.wheels.find(job, _place(builder, context.has_network(job)), builder.reference)
    return made.file if made else None


def _job(file: FetchedFile, context: CompileContext, within: frozenset[str]) -> Job:
    artifact = file.artifact
    if artifact.name in within:
        raise CompileError(
            f"{artifact.name} is needed to build {artifact.name} itself, and has no wheel for {context.target}",
            place=artifact.filename,
            hint="lock a version that has one",
        )
    return Job(sdist=read_sdist(file.path, artifact.filename), file=file, reason=artifact.reason)


def _looks_pure(job: Job, context: CompileContext) -> bool:
    return not job.sdist.compiled and not context.wheels.is_impure(job, _LOCAL)


def _all(
    make: Callable[[Job], BuiltWheel | None], jobs: Sequence[Job], context: CompileContext
) -> dict[str, BuiltWheel]:
    """The results of `make` by the sdists' digests; raises one CompileError for all that fail."""

    def attempt(job: Job) -> BuiltWheel | CompileError | None:
        try:
            return make(job)
        except CompileError as error:
            return error

    outcomes = together(attempt, jobs, threads=min(_AT_ONCE, context.threads))
    errors = [outcome for outcome in outcomes if isinstance(outcome, CompileError)]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise CompileError(f"{len(errors)} packages cannot be compiled\n" + "\n".join(map(str, errors)))
    return {job.file.digest: made for job, made in zip(jobs, outcomes, strict=True) if isinstance(made, BuiltWheel)}


def _build_locally(job: Job, context: CompileContext, within: frozenset[str]) -> BuiltWheel | None:
    """Build a sdist that looks pure on this machine; None if its wheel is not pure, which is cached, too."""
    cache = context.wheels
    if known := cache.find(job, _LOCAL):
        return known
    context.progress.note(f"{job.label}: {job.reason}, building a pure wheel on this machine")
    lock = BuildLock(requirements=tuple(with_context(context.resolve, job.label)(job.sdist.requires)))
    wheels = _wheels(context, job, within)(lock.requirements)
    with (
        tempfile.TemporaryDirectory(prefix="hatch-docker-") as folder,
        logging_to(context.log_path(job)) as log,
        context.progress.task("build", job.label),
    ):
        wheel = build_locally(
            job, wheels, folder=Path(folder), uv=find_uv(context.environ), environ=context.environ, write=log.write
        )
        if wheel is not None and is_pure(wheel, job.sdist):
            return cache.store(job, _LOCAL, "", wheel, Compiled(filename=wheel.name, lock=lock))
        if wheel is not None:
            cache.mark_impure(job, _LOCAL)
        context.progress.note(f"{job.label} cannot be built as a pure wheel on this machine ({log.path})")
    return None


def _build_in_containers(jobs: Sequence[Job], context: CompileContext, within: frozenset[str]) -> dict[str, BuiltWheel]:
    """Take wheels from the cache, or compile them in containers of the builder."""
    builder = _opened(jobs, context)
    known = {
        job.file.digest: made
        for job in jobs
        if (made := context.wheels.find(job, _place(builder, context.has_network(job)), builder.reference))
    }
    missing = [job for job in jobs if job.file.digest not in known]
    if not missing:
        return known
    for job in missing:
        context.progress.note(f"{job.label}: {job.reason}, compiling in {builder.name}")
    _connect(builder, missing)
    builder.provide()
    return known | _all(partial(_compile, context=context, builder=builder, within=within), missing, context)


def _opened(jobs: Sequence[Job], context: CompileContext) -> Builder:
    try:
        return context.builder()
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
    """The cache key's part for the place of a compilation."""
    return f"{builder.identity}{' with network' if network else ''}"


def _compile(job: Job, context: CompileContext, builder: Builder, within: frozenset[str]) -> BuiltWheel:
    cache, network = context.wheels, context.has_network(job)
    place = _place(builder, network)
    with context.progress.task("compile", job.label):
        # Before the container starts, since its time is limited.
        inputs = _inputs(cache.build_lock(job, place), job, context, within)
        with (
            context.cache.temporary() as partial_file,
            logging_to(context.log_path(job)) as log,
            builder.container(f"compiling {job.label}", network=network) as container,
        ):
            with partial_file.open("wb") as out:
                build = ContainerBuild(
                    container=container, job=job, builder=builder.name, target=context.target, log=log
                )
                compiled = build.compile(inputs, out, exclude=context.exclude)
            compiled = replace(compiled, packages=builder.packages())
            return cache.store(job, place, builder.reference, partial_file, compiled)


def _inputs(known: BuildLock | None, job: Job, context: CompileContext, within: frozenset[str]) -> BuildInputs:
    resolve = with_context(context.resolve, job.label)
    lock = known or BuildLock(requirements=tuple(resolve(job.sdist.requires)), tools=tuple(resolve(TOOLS)))
    wheels = _wheels(context, job, within)
    return BuildInputs(
        lock=lock,
        tools=wheels(lock.tools),
        requirements=wheels(lock.requirements),
        complete=known is not None,
        resolve=resolve,
        wheels=wheels,
    )


def _wheels(
    context: CompileContext, job: Job, within: frozenset[str]
) -> Callable[[Sequence[Artifact]], list[FetchedFile]]:
    """A function that gives the wheels of build requirements, compiled if necessary."""

    def wheels(artifacts: Sequence[Artifact]) -> list[FetchedFile]:
        return compile_all(context.download(artifacts), context, within=within | {job.sdist.name})[0]

    return wheels
