"""The door: the files of a lock in, wheels out. What is no wheel is built, once for all projects.

A pure sdist is built on this machine; any other in a container of the builder. A compiled wheel is kept under all that
shaped it: the sdist, the builder, the target, what it was built with, and what was left out of it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hatch_docker.builder import Builder, log_path
from hatch_docker.cache import Cache, file_digest
from hatch_docker.compiling.here import build_here
from hatch_docker.compiling.jobs import Compiled, Job, compile_in
from hatch_docker.compiling.repack import repack
from hatch_docker.compiling.requirements import Plan, Resolve
from hatch_docker.compiling.sdist import read_sdist
from hatch_docker.engine import missed
from hatch_docker.errors import CompileError, EngineError
from hatch_docker.locks import Artifact
from hatch_docker.parallel import together
from hatch_docker.progress import Progress
from hatch_docker.result import CompiledWheel
from hatch_docker.target import TargetPython
from hatch_docker.wheels.obtain import Obtained

# Part of every key: another way to build has another number.
_FORMAT = 1
_HERE = "this machine"
# Compilers run in several processes of their own.
_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What compiling takes. `builder` opens the builder when it is first called, `uv` finds uv.

    `constraints` is the text of what `resolve` keeps to. `exclude` are shared libraries that the image has, so that no
    wheel brings them; `network` names whose compilation may use the network, or `:all:`.
    """

    target: TargetPython
    builder: Callable[[], Builder]
    resolve: Resolve
    constraints: str
    obtain: Callable[[Sequence[Artifact]], Sequence[Obtained]]
    uv: Callable[[], str]
    environ: Mapping[str, str]
    exclude: tuple[str, ...]
    network: Set[str]
    cache: Cache
    threads: int
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A wheel, and how it was built."""

    file: Obtained
    how: CompiledWheel


def compile_all(
    files: Sequence[Obtained], workshop: Workshop, *, within: frozenset[str] = frozenset()
) -> tuple[list[Obtained], list[CompiledWheel]]:
    """`files` in their order, with a wheel in the place of each sdist; and how those were built.

    `within` are the names whose build requirements these are. Raises CompileError, for all that do not compile at once;
    EngineError where something must be compiled and no engine answers, BuilderError for a builder that cannot.
    """
    jobs = [_job(file, workshop, within) for file in files if not file.artifact.is_wheel]
    pure = [job for job in jobs if _looks_pure(job, workshop.cache)]
    made = _all(partial(_here, workshop=workshop, within=within), pure, workshop)
    others = [job for job in jobs if job.file.digest not in made]
    if others:
        made |= _in_builder(others, workshop, within)
    outcomes = [made.get(file.digest, file) for file in files]
    wheels = [outcome.file if isinstance(outcome, Made) else outcome for outcome in outcomes]
    return wheels, [outcome.how for outcome in outcomes if isinstance(outcome, Made)]


def _job(file: Obtained, workshop: Workshop, within: frozenset[str]) -> Job:
    artifact = file.artifact
    if artifact.name in within:
        raise CompileError(
            f"{artifact.name} is needed to build {artifact.name} itself, and has no wheel for {workshop.target}",
            place=artifact.filename,
            hint="lock a version that has one",
        )
    return Job(sdist=read_sdist(file.path, artifact.filename), file=file, reason=artifact.reason)


def _looks_pure(job: Job, cache: Cache) -> bool:
    return not job.sdist.compiled and cache.get("impure", _impure_key(job)) is None


def _impure_key(job: Job) -> str:
    """Another Python may build what this one could not."""
    return f"{_FORMAT} {job.file.digest} {sys.version_info[:2]}"


def _all(make: Callable[[Job], Made | None], jobs: Sequence[Job], workshop: Workshop) -> dict[str, Made]:
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


def _here(job: Job, workshop: Workshop, within: frozenset[str]) -> Made | None:
    """A pure sdist, built on this machine; None, remembered, for one that is not pure after all."""
    key = _key(job, workshop, _HERE)
    if known := _known(job, workshop, key, ""):
        return known
    workshop.progress.note(f"{job.label}: {job.reason}, building a pure wheel")
    plan = Plan(requirements=tuple(workshop.resolve(job.sdist.requires)))
    wheels = _wheels(workshop, job, within)(plan.requirements)
    log = log_path(workshop.cache.root, f"{job.sdist.name}-{job.sdist.version}")
    with tempfile.TemporaryDirectory(prefix="hatch-docker-") as folder, workshop.progress.task("build", job.label):
        wheel = build_here(
            job.sdist,
            job.file.path,
            wheels=wheels,
            uv=workshop.uv(),
            environ=workshop.environ,
            folder=Path(folder),
            log=log,
        )
        if wheel is None:
            workshop.cache.put("impure", _impure_key(job), {})
            workshop.progress.note(f"{job.label} is built into no pure wheel on this machine ({log})")
            return None
        return _keep(job, workshop, key, "", wheel, Compiled(filename=wheel.name, plan=plan))


def _in_builder(jobs: Sequence[Job], workshop: Workshop, within: frozenset[str]) -> dict[str, Made]:
    """What must be compiled: from the cache, else in containers of the builder."""
    builder = _opened(jobs, workshop)
    known = {
        job.file.digest: made
        for job in jobs
        if (made := _known(job, workshop, _key(job, workshop, builder.identity), builder.reference))
    }
    missing = [job for job in jobs if job.file.digest not in known]
    if not missing:
        return known
    for job in missing:
        workshop.progress.note(f"{job.label}: {job.reason}, compiling in {builder.name}")
    _connect(builder, missing)
    builder.provide()
    return known | _all(partial(_compile, workshop=workshop, builder=builder, within=within), missing, workshop)


def _opened(jobs: Sequence[Job], workshop: Workshop) -> Builder:
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


def _compile(job: Job, workshop: Workshop, builder: Builder, within: frozenset[str]) -> Made:
    key = _key(job, workshop, builder.identity)
    network = not workshop.network.isdisjoint({":all:", job.sdist.name})
    what = f"compiling {job.label}"
    log = log_path(workshop.cache.root, f"{job.sdist.name}-{job.sdist.version}")
    with (
        workshop.progress.task("compile", job.label),
        workshop.cache.temporary() as partial_file,
        builder.container(what, network=network) as container,
    ):
        with partial_file.open("wb") as out:
            compiled = compile_in(
                container,
                replace(job, plan=_plan(workshop, key)),
                out,
                target=workshop.target,
                builder=builder.name,
                exclude=workshop.exclude,
                resolve=workshop.resolve,
                wheels=_wheels(workshop, job, within),
                log=log,
            )
        compiled = replace(compiled, packages=builder.packages())
        return _keep(job, workshop, key, builder.reference, partial_file, compiled)


def _wheels(workshop: Workshop, job: Job, within: frozenset[str]) -> Callable[[Sequence[Artifact]], list[Obtained]]:
    """Wheels of what a job is built with, which may have to be compiled first."""

    def wheels(artifacts: Sequence[Artifact]) -> list[Obtained]:
        return compile_all(workshop.obtain(artifacts), workshop, within=within | {job.sdist.name})[0]

    return wheels


def _key(job: Job, workshop: Workshop, builder: str) -> str:
    """All that shapes a compiled wheel, but for what it is built with."""
    target = workshop.target
    python = [target.minor, target.free_threaded, str(target.platform), str(target.libc)]
    network = not workshop.network.isdisjoint({":all:", job.sdist.name})
    return json.dumps([_FORMAT, job.file.digest, builder, python, sorted(workshop.exclude), network])


def _plan(workshop: Workshop, key: str) -> Plan | None:
    """What an earlier build found that an sdist is built with, within the same constraints."""
    document = workshop.cache.get("plans", json.dumps([key, workshop.constraints]))
    try:
        return Plan.from_json(document) if document else None
    except (KeyError, TypeError):
        return None


def _known(job: Job, workshop: Workshop, key: str, builder: str) -> Made | None:
    """What an earlier build made of the same."""
    plan = _plan(workshop, key)
    document = workshop.cache.get("compiled", _full_key(key, plan)) if plan else None
    if plan is None or document is None:
        return None
    filename, digest = str(document.get("filename")), str(document.get("digest"))
    compiled = Compiled(filename=filename, plan=plan, packages=tuple(map(str, document.get("packages", ()))))
    path = workshop.cache.blob(digest)
    return _made(job, path, digest, compiled, builder) if path else None


def _keep(job: Job, workshop: Workshop, key: str, builder: str, wheel: Path, compiled: Compiled) -> Made:
    """Store a wheel by its content, so that what two machines compile alike is the same."""
    cache = workshop.cache
    with cache.temporary() as partial_file:
        with partial_file.open("wb") as out:
            repack(wheel, out, compiled.filename)
        with partial_file.open("rb") as file:
            digest = file_digest(file)
        path = cache.adopt(partial_file, digest)
    cache.put("plans", json.dumps([key, workshop.constraints]), compiled.plan.to_json())
    document = {"filename": compiled.filename, "digest": digest, "packages": list(compiled.packages)}
    cache.put("compiled", _full_key(key, compiled.plan), document)
    return _made(job, path, digest, compiled, builder)


def _full_key(key: str, plan: Plan) -> str:
    return json.dumps([key, plan.to_json()], sort_keys=True)


def _made(job: Job, path: Path, digest: str, compiled: Compiled, builder: str) -> Made:
    algorithm, _, value = digest.partition(":")
    artifact = replace(
        job.file.artifact, filename=compiled.filename, url="", hashes={algorithm: value}, size=path.stat().st_size
    )
    how = CompiledWheel(
        name=job.sdist.name,
        version=job.sdist.version,
        reason=job.reason,
        sdist=job.sdist.filename,
        digest=job.file.digest,
        builder=builder,
        packages=compiled.packages,
        requirements=tuple(compiled.plan.lines),
    )
    return Made(file=Obtained(artifact=artifact, path=path, digest=digest), how=how)
