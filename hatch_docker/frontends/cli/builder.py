"""`hatch-docker builder`: the image that a project is compiled in, for a team to share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

from hatch_docker.base.image import open_base
from hatch_docker.base.transports import locate
from hatch_docker.compiling.builder import Builder, open_builder
from hatch_docker.compiling.jobs import probe
from hatch_docker.config import check_push, fail, gather
from hatch_docker.config.naming import whole_reference
from hatch_docker.engine.client import Engine, local_name
from hatch_docker.engine.translate import missed
from hatch_docker.errors import BuilderError, EngineError
from hatch_docker.oci.image import ImageIndex
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform
from hatch_docker.plan import base_request, platforms_of
from hatch_docker.services import Services
from hatch_docker.session import Session
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.progress import Progress
from hatch_docker.support.several import for_each


def command(chosen: argparse.Namespace) -> Callable[[Session], tuple[str, int]]:
    """The command that a command line asks for. Raises ConfigError with all mistakes of that."""
    names = gather(partial(whole_reference, name, "--tag") for name in chosen.tag)
    if chosen.push and not names:
        fail("--push", "it needs a name to push to: --tag registry.example/team/builder:1")
    return partial(make_builder, names, chosen.push)


def make_builder(names: Sequence[Reference], push: bool, session: Session) -> tuple[str, int]:
    """Make the builder of a project and name it; returns the value for `builder`, and 0.

    Raises BuilderError for a builder that cannot compile for the project's base, EngineError if no engine answers.
    """
    session.check_configuration()
    if push:
        gather(partial(check_push, name, "--tag") for name in names)
    services, config = session.services, session.config
    engine = _engine(services)
    request = base_request(session.metadata, config, services.host.platform)
    source = locate(request, services)
    platforms = platforms_of(config.base, source.platforms, services)
    if len(platforms) > 1 and not push:
        raise BuilderError(
            f"a builder for {' and '.join(map(str, platforms))} is several images, and a name in an engine has one",
            place=config.place("platforms"),
            hint="add --push and --tag, to a registry; or choose one platform",
        )

    def tried(platform: Platform, progress: Progress) -> Builder:
        here = replace(services, progress=progress)
        base = open_base(replace(request, platform=platform), here, source)
        builder = open_builder(base, config.base.spec, config.compiling, here)
        with builder.container("trying the builder", network=False) as container:
            probe(container, base.facts.python, builder.name, write=lambda _output: None)
        return builder

    builders = for_each({str(each): each for each in platforms}, tried, services.progress)
    images = tuple(builder.image() for builder in builders)
    names = names or [local_name(images[0])]
    for builder, image in zip(builders, images, strict=True):
        if len(images) == 1 or builder.platform == engine.platform:
            origin = builder.origin.familiar if builder.origin else ""
            engine.load(image, names, base=origin, progress=services.progress)
            loaded = ", ".join(name.familiar for name in names)
            services.progress.note(f"{builder.name} is in the engine as {loaded}")
    if not push:
        return f"docker-daemon:{names[0].familiar}", 0
    root = images[0].node if len(images) == 1 else ImageIndex(images=images).node
    origins = [builder.origin for builder in builders if builder.origin]
    services.registry.push(root, names, mount_from=origins, threads=services.threads, progress=services.progress)
    return str(names[0].with_digest(root.descriptor.digest)), 0


def _engine(services: Services) -> Engine:
    """Connect to the engine before anything is downloaded."""
    try:
        return services.engine()
    except EngineError as error:
        raise missed(error, "make a builder") from None
