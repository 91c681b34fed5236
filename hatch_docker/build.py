"""The build: a plan becomes images.

plan ─▶ OS packages ─▶ downloads ─▶ wheels ─▶ checks ─▶ layers ─▶ image, for each image and platform

Sdists are compiled on the way from downloads to wheels, in a builder container.
"""

from __future__ import annotations

from pathlib import Path

from hatch_docker.base.packages import add_packages
from hatch_docker.compiling.compile import compile_all, open_context
from hatch_docker.image.assemble import assemble, skeleton, start_of
from hatch_docker.image.checks import check_wheels
from hatch_docker.image.extra_files import directories_of, extra_entries
from hatch_docker.image.layers import arrange, make_layers
from hatch_docker.image.linkage import check_linkage
from hatch_docker.image.report import Built, BuiltImage
from hatch_docker.index.download import own_file
from hatch_docker.locks import named_indexes
from hatch_docker.locks.locked import BuildResolver
from hatch_docker.plan import ImagePlan, Plan
from hatch_docker.services import Services
from hatch_docker.wheels.prepare import prepare_wheels


def build(plan: Plan, services: Services) -> Built:
    """Make the images of a plan. Raises HatchDockerError if one cannot be made."""
    project = plan.project
    compiled = project.normalized_name in plan.config.compiling.no_binary
    with project.distribution(compiled) as own:
        return Built(images=tuple(build_image(plan, image, own, services) for image in plan.images))


def build_image(plan: Plan, image: ImagePlan, own: Path, services: Services) -> BuiltImage:
    """Make one image, with the project's wheel at `own`, or its sdist if that must be compiled."""
    project, config, target = plan.project, plan.config, image.request.target
    cache, threads, progress = services.cache, services.threads, services.progress

    spec, compression = config.base.spec, config.output.compression
    base, package_layers = add_packages(
        image.base, image.packages, spec=spec, compression=compression, services=services
    )
    resolver = BuildResolver(
        target=target,
        root=services.root,
        indexes=services.indexes(named_indexes(image.locked.path)),
        constraints=services.root / config.compiling.build_constraints if plan.constraints else None,
        constraints_text=plan.constraints,
    )
    files = resolver.indexes.download(image.locked.artifacts)
    files.append(own_file(own, project.normalized_name, project.version))
    context = open_context(image.base, base, spec, config.compiling, resolver, services)
    fetched, compiled = compile_all(files, context)
    *wheels, own_wheel = prepare_wheels(
        fetched, cache, prune=config.packages.prune, keep=config.packages.keep, threads=threads
    )

    check_wheels(wheels, own_wheel, image.locked, image.request, progress)
    compiled_names = {each.name for each in compiled}
    check_linkage(wheels, own_wheel, base.facts, compiled=compiled_names, progress=progress)

    entries = skeleton(base.facts, config.runtime)
    parts = arrange(
        wheels,
        own_wheel,
        skeleton=entries,
        extra=extra_entries(
            config.output.extra_files,
            services.root,
            base.facts.links,
            base.facts.directories | directories_of(entries),
            config.place("extra-files"),
        ),
        present=base.facts.directories,
        budget=config.output.max_layers - len(package_layers),
    )
    layers = package_layers + make_layers(
        parts, target=target, compression=compression, cache=cache, threads=threads, progress=progress
    )
    start = start_of(plan.entrypoint, config.runtime, wheels, own_wheel, place=config.place)
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
