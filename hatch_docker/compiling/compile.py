"""Turn what a lock names into wheels: files are downloaded, source trees and sdists are built.

A pure sdist is built on this machine, any other in a container of the builder. Wheels are cached for all projects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from hatch_docker.compiling.builder import Builder
from hatch_docker.compiling.circles import circle
from hatch_docker.compiling.context import CompileContext
from hatch_docker.compiling.directory import read_directory
from hatch_docker.compiling.jobs import BuildInputs, Compiled, ContainerBuild, Job, Origin
from hatch_docker.compiling.local import build_locally, is_pure
from hatch_docker.compiling.requirements import TOOLS, BuildLock, with_context
from hatch_docker.compiling.sdist import known_sdist, read_sdist, remember_sdist
from hatch_docker.compiling.tree_build import Obtain
from hatch_docker.compiling.trees import (
    BuiltTree,
    build_tree,
    cached_tree,
    describe_directories,
    origin_scope,
    tree_of,
    tree_path,
    tree_place,
)
from hatch_docker.compiling.wheel_cache import LOCAL, BuiltWheel, CompiledWheel
from hatch_docker.engine.translate import missed
from hatch_docker.errors import CompileError, EngineError, SourceError
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile, fetch_files
from hatch_docker.locks.uv import find_uv
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.logs import logging_to
from hatch_docker.support.scratch import temporary_directory
from hatch_docker.support.threads import together

# Compilers start several processes themselves.
_AT_ONCE = 4
# In seconds: nothing is written while a package compiles.
_PATIENCE = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """The files of artifacts, in their order, of which the sdists of `missing` are still to be compiled in `builder`.

    `made` are the wheels of the other sdists, by their digests; `trees` are the source trees among the artifacts.
    """

    files: Sequence[FetchedFile]
    trees: Sequence[BuiltTree]
    made: Mapping[str, BuiltWheel]
    missing: Sequence[Job] = ()
    builder: Builder | None = None


def obtain(
    artifacts: Sequence[Artifact],
    context: CompileContext,
    *,
    own: Sequence[FetchedFile] = (),
    within: tuple[str, ...] = (),
) -> tuple[list[FetchedFile], list[CompiledWheel]]:
    """The wheels of artifacts, fetched, in their order, and how those of sdists were built; directories without a
    package lack.

    `own` are files of the project itself, which come last. `within` has the names of the packages whose build
    requirements these are, each built with the next. Raises as `collect` and `compile_missing`.
    """
    wheels, compiled = compile_missing(collect(artifacts, context, own=own, within=within), context, within=within)
    fetch_files(wheels)
    return wheels, compiled


def collect(
    artifacts: Sequence[Artifact],
    context: CompileContext,
    *,
    own: Sequence[FetchedFile] = (),
    within: tuple[str, ...] = (),
) -> Collected:
    """Locate artifacts, build what this machine can build, and find out what is left to compile; as `obtain`.

    Wheels are not fetched here, and sdists only if they must be read or built.

    Raises what downloading and building source trees raise; CompileError, for all failures at once; EngineError if a
    container is needed and no engine runs one, BuilderError if there is no such builder.
    """
    _check_cycle(artifacts, context, within)
    if not within and (directories := describe_directories(artifacts, context)):
        context.progress.note(f"local directories are taken as they are: {directories}")
    located = context.locate([each for each in artifacts if not each.tree])
    files: dict[str, FetchedFile] = {file.artifact.name: file for file in located}
    trees = _trees([each for each in artifacts if each.tree], context, within)
    files |= {tree.file.artifact.name: tree.file for tree in trees}
    present = [files[each.name] for each in artifacts if each.name in files]
    sdists = [file for file in own if not file.artifact.is_wheel]
    for file in sdists:
        context.wheels.mark_impure(file.digest, LOCAL)
    origins = {file.digest: _origin(file.artifact, context) for file in sdists}
    origins |= {tree.file.digest: _origin(tree.file.artifact, context, tree.lock) for tree in trees}
    jobs = _jobs([file for file in (*present, *own) if not file.artifact.is_wheel], origins, context)
    pure = [job for job in jobs if _looks_pure(job, context)]
    made = _all(partial(_build_locally, context=context, within=within), pure, context)
    collected = Collected(files=(*present, *own), trees=trees, made=made)
    others = [job for job in jobs if job.file.digest not in made]
    return _with_builder(collected, others, context) if others else collected


def compile_missing(
    collected: Collected, context: CompileContext, *, within: tuple[str, ...] = ()
) -> tuple[list[FetchedFile], list[CompiledWheel]]:
    """Compile what is missing; returns all wheels, and how those of sdists were built.

    Raises CompileError, for all failures at once; EngineError, BuilderError for an unsuitable builder.
    """
    made = dict(collected.made)
    if collected.builder and collected.missing:
        collected.builder.provide()
        compiled = partial(_compile, context=context, builder=collected.builder, within=within)
        made |= _all(compiled, collected.missing, context)
    outcomes = [made.get(file.digest, file) for file in collected.files]
    wheels = [outcome.file if isinstance(outcome, BuiltWheel) else outcome for outcome in outcomes]
    for tree in collected.trees:
        tree.remember()
    return wheels, [outcome.record for outcome in outcomes if isinstance(outcome, BuiltWheel)]


def cached_wheel(artifact: Artifact, file: FetchedFile | None, context: CompileContext) -> FetchedFile | None:
    """The wheel that `obtain` would take from the cache for a source tree, or for the sdist `file`.

    Raises as opening the builder does.
    """
    file = cached_tree(artifact, context) if artifact.tree else file
    if file is None or file.artifact.is_wheel:
        return file
    origins = {file.digest: _origin(artifact, context)} if artifact.tree else {}
    (job,) = _jobs([file], origins, context)
    made = context.wheels.find(job, LOCAL) if _looks_pure(job, context) else None
    if made is None:
        builder = context.builder()
        made = context.wheels.find(job, _place(builder, context.has_network(job)), builder.reference)
    return made.file if made else None


def _check_cycle(artifacts: Sequence[Artifact], context: CompileContext, within: tuple[str, ...]) -> None:
    """Raise CompileError if a package must be built before it can be built."""
    for each in artifacts:
        if each.name in within and not each.is_wheel:
            names = [*within[within.index(each.name) :], each.name]
            if each.tree:
                raise circle(names, place=tree_place(each.tree, context.root))
            raise CompileError(
                f"{each.name} is needed to build {each.name} itself, and has no wheel for {context.target}"
                + (f": {' is built with '.join(names)}" if len(names) > 2 else ""),
                place=each.filename,
                hint="lock a version that has one",
            )


def _trees(artifacts: Sequence[Artifact], context: CompileContext, within: tuple[str, ...]) -> list[BuiltTree]:
    """What source trees are built into, for all that are packages; raises one error for all that fail."""

    def attempt(artifact: Artifact) -> BuiltTree | CompileError | SourceError | None:
        key = (tree_of(artifact), context.target.lib_name)
        if file := context.built.get(key):
            return BuiltTree(file=file)
        try:
            built = build_tree(artifact, context, _requirements(context, artifact.name, within))
        except (CompileError, SourceError) as error:
            return error
        if built and built.file.artifact.is_wheel:
            context.built[key] = built.file
        return built

    outcomes = together(attempt, artifacts, threads=min(_AT_ONCE, context.threads))
    _raise_all([each for each in outcomes if isinstance(each, CompileError | SourceError)])
    return [each for each in outcomes if isinstance(each, BuiltTree)]


def _origin(artifact: Artifact, context: CompileContext, lock: BuildLock | None = None) -> Origin:
    """The origin of an sdist that was made here: from a source tree, or from the project itself."""
    tree = artifact.tree
    path = (tree_path(tree) if tree.is_local else None) if tree else context.root
    directory = read_directory(path, artifact.name) if path else None
    scope = origin_scope(artifact, directory, context)
    return Origin(directory=path, scope=scope, requirements=lock.requirements if lock else None)


def _jobs(files: Sequence[FetchedFile], origins: Mapping[str, Origin], context: CompileContext) -> list[Job]:
    """The jobs of sdists, which are fetched if it is not cached what they are built with; `origins` by digest."""
    cache = context.cache
    fetch_files(file for file in files if known_sdist(cache, file.identity) is None)
    return [
        Job(
            sdist=known_sdist(cache, file.identity)
            or remember_sdist(cache, file.identity, read_sdist(file.path, file.artifact.filename)),
            file=file,
            reason=file.artifact.reason,
            origin=origins.get(file.digest),
        )
        for file in files
    ]


def _looks_pure(job: Job, context: CompileContext) -> bool:
    """Whether an sdist is built on this machine first, to see whether its wheel is pure."""
    return (
        not context.only_in_builder and not job.sdist.compiled and not context.wheels.is_impure(job.file.digest, LOCAL)
    )


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
    _raise_all([outcome for outcome in outcomes if isinstance(outcome, CompileError)])
    return {job.file.digest: made for job, made in zip(jobs, outcomes, strict=True) if isinstance(made, BuiltWheel)}


def _raise_all(errors: Sequence[CompileError | SourceError]) -> None:
    """Raise the errors, if any, as one."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise CompileError(f"{len(errors)} packages cannot be built\n" + "\n".join(map(str, errors)))


def _build_locally(job: Job, context: CompileContext, within: tuple[str, ...]) -> BuiltWheel | None:
    """Build a sdist that looks pure on this machine; None if its wheel is not pure, which is cached, too."""
    cache, digest = context.wheels, job.file.digest

    def find() -> tuple[BuiltWheel | None] | None:
        if known := cache.find(job, LOCAL):
            return (known,)
        return (None,) if cache.is_impure(digest, LOCAL) else None

    key = f"compiled {digest} {LOCAL}"
    return context.cache.once(key, find, lambda: (_built_locally(job, context, within),), patience=_PATIENCE)[0]


def _built_locally(job: Job, context: CompileContext, within: tuple[str, ...]) -> BuiltWheel | None:
    cache = context.wheels
    context.progress.note(f"{job.label}: {job.reason}, building a pure wheel on this machine")
    lock = BuildLock(requirements=tuple(with_context(context.resolve, job.label)(job.sdist.requires)))
    wheels = _requirements(context, job.sdist.name, within)(context.for_host(lock.requirements))
    with (
        temporary_directory() as folder,
        context.progress.task("build", job.label) as task,
        logging_to(context.log_path(job), task.output) as log,
    ):
        wheel = build_locally(
            job, wheels, folder=folder, uv=find_uv(context.environ), environ=context.environ, write=log.write
        )
        if wheel is not None and is_pure(wheel, job.sdist):
            return cache.store(job, LOCAL, "", wheel, Compiled(filename=wheel.name, lock=lock))
        if wheel is not None:
            cache.mark_impure(job.file.digest, LOCAL)
        context.progress.note(f"{job.label} cannot be built as a pure wheel on this machine ({log.path})")
    return None


def _with_builder(collected: Collected, jobs: Sequence[Job], context: CompileContext) -> Collected:
    """Take the wheels of jobs from the cache; if some are missing, the engine must run their builder."""
    builder = _opened(jobs, context)
    known = {
        job.file.digest: made
        for job in jobs
        if (made := context.wheels.find(job, _place(builder, context.has_network(job)), builder.reference))
    }
    missing = [job for job in jobs if job.file.digest not in known]
    for job in missing:
        context.progress.note(f"{job.label}: {job.reason}, compiling in {builder.name}")
    if missing:
        _connect(builder, missing)
    return replace(collected, made={**collected.made, **known}, missing=missing, builder=builder)


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
    why = "".join(f"\n  {job.label}: {job.reason}{_others(job)}" for job in jobs)
    return missed(error, f"compile{why}", instead="choose versions that have a wheel for the image")


def _others(job: Job) -> str:
    others = job.file.artifact.others
    return f"; it has {others}" if others else ""


def _place(builder: Builder, network: bool) -> str:
    """The cache key's part for the place of a compilation."""
    return f"{builder.identity}{' with network' if network else ''}"


def _compile(job: Job, context: CompileContext, builder: Builder, within: tuple[str, ...]) -> BuiltWheel:
    cache = context.wheels
    place = _place(builder, context.has_network(job))
    return context.cache.once(
        f"compiled {job.file.digest} {place}",
        lambda: cache.find(job, place, builder.reference),
        partial(_compiled, job, context, builder, within),
        patience=_PATIENCE,
    )


def _compiled(job: Job, context: CompileContext, builder: Builder, within: tuple[str, ...]) -> BuiltWheel:
    cache, network = context.wheels, context.has_network(job)
    place = _place(builder, network)
    with context.progress.task("compile", job.label) as task:
        # Before the container starts, since its time is limited.
        inputs = _inputs(cache.build_lock(job, place), job, context, within)
        with (
            context.cache.temporary() as partial_file,
            logging_to(context.log_path(job), task.output) as log,
            builder.container(f"compiling {job.label}", network=network) as container,
        ):
            with context.cache.open(partial_file) as out:
                build = ContainerBuild(
                    container=container, job=job, builder=builder.name, target=context.target, log=log
                )
                compiled = build.compile(inputs, out, exclude=context.exclude)
            compiled = replace(compiled, packages=builder.packages())
            return cache.store(job, place, builder.reference, partial_file, compiled)


def _inputs(known: BuildLock | None, job: Job, context: CompileContext, within: tuple[str, ...]) -> BuildInputs:
    origin = job.origin or Origin()
    resolve = with_context(context.resolve_for(origin.directory) if origin.directory else context.resolve, job.label)
    requirements = origin.requirements
    if known is None and requirements is None:
        requirements = tuple(resolve(job.sdist.requires))
    tools = with_context(context.resolve, job.label)
    lock = known or BuildLock(requirements=requirements or (), tools=tuple(tools(TOOLS)))
    wheels = _requirements(context, job.sdist.name, within)
    return BuildInputs(
        lock=lock,
        tools=wheels(lock.tools),
        requirements=wheels(lock.requirements),
        complete=known is not None,
        resolve=resolve,
        wheels=wheels,
    )


def _requirements(context: CompileContext, name: str, within: tuple[str, ...]) -> Obtain:
    """A function that gives the wheels of the build requirements of `name`, built or compiled if necessary."""
    return lambda artifacts: obtain(artifacts, context, within=(*within, name))[0]
