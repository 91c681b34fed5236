"""The build: a plan becomes images.

plan ─▶ OS packages ─▶ downloads ─▶ wheels ─▶ checks ─▶ layers ─▶ image, for each image and platform

Sdists are compiled on the way from downloads to wheels, in a builder container.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hatch_docker.base.image import Base
from hatch_docker.base.interpreter import BaseFacts
from hatch_docker.base.packages import add_packages
from hatch_docker.compiling.compile import compile_all, open_context
from hatch_docker.compiling.wheel_cache import CompiledWheel
from hatch_docker.image.assemble import assemble, skeleton, start_of
from hatch_docker.image.checks import check_wheels
from hatch_docker.image.extra_files import directories_of, extra_entries
from hatch_docker.image.layers import Part, arrange, make_layers, wheel_budget
from hatch_docker.image.linkage import check_linkage
from hatch_docker.image.report import Built, BuiltImage
from hatch_docker.index.download import own_file
from hatch_docker.locks import named_indexes
from hatch_docker.locks.locked import BuildResolver
from hatch_docker.plan import ImagePlan, Plan
from hatch_docker.services import Services
from hatch_docker.wheels.prepare import PreparedWheel, prepare_wheels


def build(plan: Plan, services: Services) -> Built:
    """Make the images of a plan. Raises HatchDockerError if one cannot be made."""
    with plan.project.distribution() as own:
        return Built(images=tuple(build_image(plan, image, own, services) for image in plan.images))


def build_image(plan: Plan, image: ImagePlan, own: Path, services: Services) -> BuiltImage:
    """Make one image, with the project's wheel at `own`, or its sdist if that must be compiled."""
    project, config, progress = plan.project, plan.config, services.progress
    spec, compression = config.base.spec, config.output.compression
    base, package_layers = add_packages(
        image.base, image.packages, spec=spec, compression=compression, services=services
    )
    wheels, compiled = _make_wheels(plan, image, base, own, services)
    *dependencies, own_wheel = wheels
    check_wheels(dependencies, own_wheel, image.locked, image.request, progress)
    check_linkage(wheels, base.facts, compiled={each.name for each in compiled}, progress=progress)
    layers = package_layers + make_layers(
        _parts(plan, base.facts, dependencies, own_wheel, wheel_budget(config.output, len(package_layers))),
        target=image.request.target,
        compression=compression,
        cache=services.cache,
        threads=services.threads,
        progress=progress,
    )
    start = start_of(plan.entrypoint, config.runtime, wheels, place=config.place)
    if start.entrypoint is None and start.cmd is None:
        progress.note("no entrypoint: the project has no script or __main__, so the base's command is kept")
    return BuiltImage(
        name=project.normalized_name,
        version=project.version,
        image=assemble(base, layers, project, config.runtime, start, created=plan.created),
        references=plan.references,
        base=base,
        layers=tuple(layers),
        lock=image.locked.path.name if image.locked.path else "",
        compiled=tuple(compiled),
    )


def _make_wheels(
    plan: Plan, image: ImagePlan, base: Base, own: Path, services: Services
) -> tuple[list[PreparedWheel], list[CompiledWheel]]:
    """The wheels of the image, the project's own last; and how those were compiled that had to be."""
    project, compiling, packages = plan.project, plan.config.compiling, plan.config.packages
    resolver = build_resolver(plan, image, services)
    files = [
        *resolver.indexes.download(image.locked.artifacts),
        own_file(own, project.normalized_name, project.version),
    ]
    context = open_context(image.base, base, plan.config.base.spec, compiling, resolver, services)
    files, compiled = compile_all(files, context)
    prune, keep = packages.prune, packages.keep
    return prepare_wheels(files, services.cache, prune=prune, keep=keep, threads=services.threads), compiled


def build_resolver(plan: Plan, image: ImagePlan, services: Services) -> BuildResolver:
    """The resolver of the requirements that sdists are built with."""
    constraints = plan.config.compiling.build_constraints
    return BuildResolver(
        target=image.request.target,
        root=services.root,
        indexes=services.indexes(named_indexes(image.locked.path)),
        constraints=services.root / constraints if plan.constraints else None,
        constraints_text=plan.constraints,
    )


def _parts(plan: Plan, base: BaseFacts, wheels: Sequence[PreparedWheel], own: PreparedWheel, budget: int) -> list[Part]:
    """The parts of the layers above the base and its OS packages."""
    config = plan.config
    entries = skeleton(base, config.runtime)
    extra = extra_entries(
        config.output.extra_files,
        plan.project.root,
        base.links,
        base.directories | directories_of(entries),
        config.place("extra-files"),
    )
    return arrange(wheels, own, skeleton=entries, extra=extra, present=base.directories, budget=budget)
