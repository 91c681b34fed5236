"""The build: a plan becomes images.

plan ─▶ OS packages ─▶ wheels ─▶ checks ─▶ layers ─▶ bytecode ─▶ image, each for each platform

Files are downloaded by the step that needs them. Source trees and sdists are built on the way to wheels, in a builder
container if they compile. The bytecode of the standard library is begun as soon as the base is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from hatch_docker.base.additions import add_to_base
from hatch_docker.base.facts import BaseFacts
from hatch_docker.base.image import Base, files_of
from hatch_docker.config import Runtime
from hatch_docker.errors import BytecodeUnavailableError
from hatch_docker.image.accounts import Account, account_of
from hatch_docker.image.assemble import Described, Start, assemble, config_of, skeleton, start_of
from hatch_docker.image.bytecode.make import CodeMaker
from hatch_docker.image.bytecode.parts import CodeOptions, CodePart, code_options, stacked, with_bytecode
from hatch_docker.image.checks import check_wheels
from hatch_docker.image.commands import Chosen
from hatch_docker.image.extra_files import Beneath, directories_of, extra_entries, source_entries
from hatch_docker.image.layers import LayerMaker, Part, arrange
from hatch_docker.image.linkage import check_linkage
from hatch_docker.image.merged import Identity, merge_files
from hatch_docker.image.opened import check_opened
from hatch_docker.image.pruning import pruned_of, pruning_of
from hatch_docker.image.remedies import advisor_of
from hatch_docker.image.report import Built, BuiltFile, BuiltImage, BuiltSource
from hatch_docker.image.runtime import index_annotations, with_lock
from hatch_docker.image.runtime_checks import check_directories, check_runtime
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile
from hatch_docker.locks.locked import Locked
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.plan import ImagePlan, Plan, base_request, references_of
from hatch_docker.project.model import Own, Project, SourceFiles
from hatch_docker.project.starts import advice, suggestions
from hatch_docker.services import Services
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.progress import Progress
from hatch_docker.support.several import steps
from hatch_docker.support.threads import once
from hatch_docker.wheels.editable import editable_members
from hatch_docker.wheels.prepare import PreparedWheel, prepare_wheels

if TYPE_CHECKING:
    from hatch_docker.base.transports import BaseRequest
    from hatch_docker.compiling.context import PureWheels
    from hatch_docker.compiling.wheel_cache import CompiledWheel
    from hatch_docker.image.bytecode.compiler import Compiler
    from hatch_docker.locks.build_requirements import BuildResolver

# Compiles what is missing; returns all wheels, and how those of sdists were built.
_Wheels: TypeAlias = "Callable[[], tuple[list[FetchedFile], list[CompiledWheel]]]"


def build(plan: Plan, services: Services) -> Built:
    """Make the images of a plan. Raises HatchDockerError if one cannot be made, for all platforms at once."""
    platforms = [str(image.platform) for image in plan.images]
    with plan.project.distribution() as own, steps(platforms, services.progress) as step:
        fetched = step(partial(_fetch, plan, own, services, {}), plan.images)
        inputs = step(partial(_compile, plan, own, services), fetched)
        layered = step(partial(_make_layers, plan, own, services), inputs)
        bytecode = step(partial(_make_bytecode, plan), layered)
    # All platforms have bytecode, or none.
    if None in bytecode:
        bytecode = [None for _ in layered]
    images = tuple(_image(plan, own, each, code) for each, code in zip(layered, bytecode, strict=True))
    project = replace(plan.project, version=images[0].version)
    return Built(
        name=project.normalized_name,
        version=project.version,
        references=plan.references or references_of(project, plan.config),
        images=images,
        annotations=index_annotations(project, _runtime(plan, plan.images[0]), created=plan.created),
        sdist=BuiltFile.of(project.sdist) if project.sdist else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetched:
    """The base of an image with what is added to it, and all files, of which `wheels` compiles some.

    `code` makes bytecode for the base.
    """

    plan: ImagePlan
    base: Base
    base_layers: list[MadeLayer]
    wheels: _Wheels
    code: CodeMaker


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    """What an image is made of: what was fetched, the wheels of its dependencies, and the project's `own`."""

    fetched: _Fetched
    dependencies: list[PreparedWheel]
    own: PreparedWheel | None
    compiled: list[CompiledWheel]

    @property
    def wheels(self) -> list[PreparedWheel]:
        """All wheels, the project's own last."""
        return [*self.dependencies, *([self.own] if self.own else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """The image's config, and its files besides wheels: `extra` files, and those of the `highest` layer.

    `project` has the version of its wheel.
    """

    project: Project
    described: Described
    extra: list[Entry]
    highest: list[Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layered:
    """An image without its bytecode: the parts of all layers above the base's, and the layers that are `made`."""

    inputs: _Inputs
    contents: _Contents
    parts: list[Part | CodePart]
    made: list[MadeLayer]


def _fetch(
    plan: Plan, own: Own, services: Services, built: PureWheels, image: ImagePlan, progress: Progress
) -> _Fetched:
    """Get the OS packages and files of an image; `built` are the pure wheels of source trees, which platforms share.

    What no engine can compile is an error here, before anything is compiled for another platform.
    """
    services = replace(services, progress=progress)
    config = plan.config
    base, base_layers = add_to_base(
        image.base, image.additions, spec=config.base.spec, compression=config.output.compression, services=services
    )
    wheels = _wheels(plan, own, services, built, image, base)
    code = _code_maker(plan, image, base, services)
    return _Fetched(plan=image, base=base, base_layers=base_layers, wheels=wheels, code=code)


def _wheels(plan: Plan, own: Own, services: Services, built: PureWheels, image: ImagePlan, base: Base) -> _Wheels:
    """Locate the files of an image on `base`, and build what this machine can build."""
    artifacts = [*image.locked.artifacts, *([own] if isinstance(own, Artifact) else [])]
    files = [own] if isinstance(own, FetchedFile) else []
    if all(each.is_wheel for each in (*artifacts, *(file.artifact for file in files))):
        located = services.indexes(image.locked.indexes).locate(artifacts)
        return lambda: ([*located, *files], [])
    from hatch_docker.compiling.compile import collect, compile_missing
    from hatch_docker.compiling.context import open_context

    config = plan.config
    resolver = build_resolver(plan, image, services)
    context = open_context(image.base, base, config.base.spec, config.compiling, resolver, services)
    context = replace(context, built=built)
    return partial(compile_missing, collect(artifacts, context, own=files), context)


def _compile(plan: Plan, own: Own, services: Services, fetched: _Fetched, _progress: Progress) -> _Inputs:
    """Compile the sdists of an image, and prepare all wheels."""
    sources = own if isinstance(own, SourceFiles) else None
    config = plan.config
    pruning = pruning_of(config.packages, config.runtime, config.output.extra_files, plan.project.root, sources)
    files, compiled = fetched.wheels()
    wheels = prepare_wheels(
        files, services.cache, pruning, own=sources is None, threads=services.threads, before=fetched.code.expect
    )
    dependencies, own_wheel = (wheels, None) if sources is not None else (wheels[:-1], wheels[-1])
    return _Inputs(fetched=fetched, dependencies=dependencies, own=own_wheel, compiled=compiled)


def _make_layers(plan: Plan, own: Own, services: Services, inputs: _Inputs, progress: Progress) -> _Layered:
    """Check an image's wheels and how it would run, and make its layers; those of bytecode are begun at most."""
    config, fetched = plan.config, inputs.fetched
    _check_wheels(plan, inputs, services.cache, progress)
    contents = _contents(plan, own, services, inputs, progress)
    parts = _parts(plan, inputs, contents, fetched.code.options)
    maker = LayerMaker(
        target=fetched.plan.request.target,
        compression=config.output.compression,
        cache=services.cache,
        threads=services.threads,
        progress=progress,
        then=fetched.code.following(parts),
    )
    made = maker.layers([part for part in parts if isinstance(part, Part)])
    return _Layered(inputs=inputs, contents=contents, parts=parts, made=made)


def _check_wheels(plan: Plan, inputs: _Inputs, cache: Cache, progress: Progress) -> None:
    """Check that the wheels are what the lock names, and that the image has the libraries that they load."""
    image, facts = inputs.fetched.plan, inputs.fetched.base.facts
    locked = _with_versions(image.locked, inputs.dependencies)
    check_wheels(inputs.dependencies, inputs.own, locked, image.request, progress, version=plan.project.version)
    compiled = {each.name for each in inputs.compiled}
    check_linkage(inputs.wheels, facts, compiled=compiled, cache=cache, progress=progress)
    check_opened(inputs.wheels, facts, progress)


def _contents(plan: Plan, own: Own, services: Services, inputs: _Inputs, progress: Progress) -> _Contents:
    """The image's config and its files besides wheels, checked against all files that it will have."""
    config, base, wheels = plan.config, inputs.fetched.base, inputs.wheels
    project = replace(plan.project, version=inputs.own.facts.version) if inputs.own else plan.project
    files = files_of(base.merged, services.cache, services.threads)
    check_directories(files, config.runtime.working_dir, config.runtime.volumes, config.place)
    needed = partial(skeleton, base.facts.python, files, config.runtime)
    sources = source_entries(own, base.facts.links, base.facts.python) if isinstance(own, SourceFiles) else []
    # Extra files may have the accounts, whose directories they must not replace.
    extra = _extra(plan, own, base.facts, [*needed(account_of(files, config.runtime.user)), *sources], progress)
    extra = files.with_directories(extra)
    account = _account(plan, files, extra, progress)
    highest = files.with_directories([*needed(account), *sources])
    start = _start(plan, inputs, project, progress)
    described = config_of(base, project, _runtime(plan, inputs.fetched.plan), start, created=plan.created)
    merged = merge_files(files, wheels, [*extra, *highest], base.facts.python, services.cache)
    identity = Identity(uid=account.user.uid, groups=account.groups)
    check_runtime(described.config, merged, identity, _chosen(plan, base, start, extra), config.place, progress)
    return _Contents(project=project, described=described, extra=extra, highest=highest)


def _start(plan: Plan, inputs: _Inputs, project: Project, progress: Progress) -> Start:
    """What the image starts; a note says how to configure it if that is only what the base starts."""
    config = plan.config
    start = start_of(plan.entrypoint, config.runtime, inputs.wheels, inputs.own, place=config.place)
    if start.entrypoint is None and start.cmd is None:
        progress.note(
            "no entrypoint: the project has no script or __main__, so the base's command is kept; "
            + advice(suggestions(project, plan.packages), config.place("entrypoint"))
        )
    return start


def _image(plan: Plan, own: Own, layered: _Layered, bytecode: Sequence[MadeLayer] | None) -> BuiltImage:
    """The image with these layers of bytecode, or without any."""
    inputs, contents = layered.inputs, layered.contents
    fetched, locked = inputs.fetched, inputs.fetched.plan.locked
    layers = (*fetched.base_layers, *stacked(layered.parts, layered.made, bytecode))
    runtime = _runtime(plan, fetched.plan)
    return BuiltImage(
        version=contents.project.version,
        image=assemble(fetched.base, layers, runtime, contents.described, created=plan.created),
        base=fetched.base,
        layers=layers,
        lock=locked.path.name if locked.path else "",
        compiled=tuple(inputs.compiled),
        sources=tuple(
            BuiltSource.of(wheel.facts, wheel.tree, contents.project.root)
            for wheel in inputs.dependencies
            if wheel.tree
        ),
        wheel=_wheel_file(own, inputs.own) if inputs.own else None,
        editable=_editable(inputs, contents),
        pruned=pruned_of(inputs.wheels),
    )


def _editable(inputs: _Inputs, contents: _Contents) -> frozenset[str]:
    """The members of the project's wheel on whose contents nothing else of the image depends."""
    if inputs.own is None:
        return frozenset()
    site = f"{inputs.fetched.base.facts.python.site_packages}/"
    places = [entry.path.removeprefix(site) for entry in (*contents.extra, *contents.highest)]
    return editable_members(inputs.own.facts, [wheel.facts for wheel in inputs.dependencies], places)


def _code_maker(plan: Plan, image: ImagePlan, base: Base, services: Services) -> CodeMaker:
    """The maker of bytecode for an image on `base`, which begins with the standard library's while files are fetched,
    and with that of wheels while others become layers.

    Not for several platforms, whose messages have the name of the one that a step is at, nor if files of the project
    may replace some of its modules.
    """
    packages, output, target = plan.config.packages, plan.config.output, image.request.target
    options = code_options(base, plan.config.runtime, target, output.compression)
    request = base_request(plan.project, plan.config, image.platform)
    compiler = once(partial(_compiler, base, request, services, optimization=options.optimization))
    maker = CodeMaker.of(base, options, compiler, services)
    certain = len(plan.images) == 1 and not image.budget.joint and not output.extra_files
    if certain and packages.bytecode is not False:
        maker.begin_library()
    else:
        services.kept.drop()
    return maker


def _make_bytecode(plan: Plan, layered: _Layered, progress: Progress) -> list[MadeLayer] | None:
    """The layers of an image's bytecode; None, with a warning, if nothing can compile it and it is not required."""
    maker = layered.inputs.fetched.code
    try:
        return maker.layers([part for part in layered.parts if isinstance(part, CodePart)])
    except BytecodeUnavailableError as error:
        if plan.config.packages.bytecode:
            raise
        progress.warn(
            "the image has no bytecode, so it starts slower, and its digest is not that of a build which has it: "
            f"{error.message}"
        )
        return None


def _compiler(base: Base, request: BaseRequest, services: Services, *, optimization: int) -> Compiler:
    from hatch_docker.image.bytecode.ways import open_compiler

    return open_compiler(base, request, services, optimization=optimization)


def _runtime(plan: Plan, image: ImagePlan) -> Runtime:
    """How the image runs, with the annotation by which images of several machines are joined."""
    runtime, output = plan.config.runtime, plan.config.output
    return with_lock(runtime, image.locked.digest) if output.joined else runtime


def build_resolver(plan: Plan, image: ImagePlan, services: Services) -> BuildResolver:
    """The resolver of the requirements that sdists are built with."""
    from hatch_docker.locks.build_requirements import BuildResolver

    constraints = plan.config.compiling.build_constraints
    return BuildResolver(
        target=image.request.target,
        root=services.root,
        indexes=services.indexes(image.locked.indexes),
        constraints=services.root / constraints if plan.constraints else None,
        constraints_text=plan.constraints,
    )


def _with_versions(locked: Locked, wheels: Sequence[PreparedWheel]) -> Locked:
    """The lock with the versions of source trees, which their wheels tell."""
    built = {wheel.facts.key: wheel.facts.version for wheel in wheels if wheel.tree}
    artifacts = (replace(each, version=built.get(each.name, each.version)) for each in locked.artifacts)
    return replace(locked, artifacts=tuple(artifacts))


def _wheel_file(own: Own, wheel: PreparedWheel) -> BuiltFile:
    """The project's wheel as the result file names it: the file that was given, also if its metadata was rewritten."""
    if isinstance(own, FetchedFile) and own.artifact.is_wheel:
        return BuiltFile.of(own.artifact)
    return BuiltFile(filename=wheel.filename, sha256=wheel.digest.partition(":")[2])


def _extra(plan: Plan, own: Own, base: BaseFacts, others: Sequence[Entry], progress: Progress) -> list[Entry]:
    """The entries of `extra-files`, which must not replace directories of the base or of `others`."""
    beneath = Beneath(
        links=base.links,
        directories=base.directories | directories_of(others),
        sources={f"app/{path}": own.root / path for path in own.paths} if isinstance(own, SourceFiles) else {},
    )
    files, place = plan.config.output.extra_files, plan.config.place("extra-files")
    return extra_entries(files, plan.project.root, plan.directory, beneath, place, progress)


def _chosen(plan: Plan, base: Base, start: Start, extra: Sequence[Entry]) -> Chosen:
    """What the project configured of an image's start, for the checks of that."""
    runtime = plan.config.runtime
    # The base's entrypoint starts the project's command.
    keys = {"entrypoint": start.entrypoint or start.cmd, "cmd": start.cmd, "healthcheck": runtime.healthcheck}
    return Chosen(
        keys=frozenset(key for key, value in keys.items() if value),
        env=runtime.env,
        base_env=base.image.config.env,
        volumes=frozenset(runtime.volumes),
        extra=extra,
        advisor=advisor_of(base.facts, plan.config.base.spec, runtime.ports),
    )


def _account(plan: Plan, files: Filesystem, extra: Sequence[Entry], progress: Progress) -> Account:
    """Who the image runs as; reports what is likely wrong with that."""
    account, place = account_of(files, plan.config.runtime.user, extra), plan.config.place("user")
    for warning in account.warnings:
        progress.warn(f"{place}: {warning}")
    for note in account.notes:
        progress.note(f"{place}: {note}")
    return account


def _parts(plan: Plan, inputs: _Inputs, contents: _Contents, code: CodeOptions) -> list[Part | CodePart]:
    """The parts of the layers above the base and its additions."""
    budget, directories = inputs.fetched.plan.budget, inputs.fetched.base.facts.directories
    highest = Part(
        contents=(f"{contents.project.name} {contents.project.version}".rstrip(),),
        wheels=(inputs.own,) if inputs.own else (),
        entries=tuple(contents.highest),
        present=directories,
        splice=False,
    )
    parts = arrange(inputs.dependencies, highest, extra=contents.extra, budget=budget.wheels)
    if plan.config.packages.bytecode is False:
        return [*parts]
    return with_bytecode(parts, budget, code)
