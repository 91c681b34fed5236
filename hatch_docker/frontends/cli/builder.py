"""`hatch-docker builder`: the image that a project is compiled in, for a team to share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

from hatch_docker.base.image import open_base
from hatch_docker.compiling.builder import open_builder
from hatch_docker.compiling.jobs import probe
from hatch_docker.config import check_push, gather
from hatch_docker.engine import Engine, local_name, missed
from hatch_docker.errors import EngineError, InvalidReferenceError
from hatch_docker.oci.reference import Reference
from hatch_docker.plan import base_request, platforms_of
from hatch_docker.services import Services
from hatch_docker.session import Session

DESCRIPTION = """\
Make the image that the project is compiled in: its builder, with its build-packages. The image is loaded into the
container engine under each NAME, and with --push pushed to the registry that NAME begins with.

Standard output has one line: the value for the key `builder`, in any project on the same base, in place of
build-packages. Their builds install nothing in the builder then.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "--tag", action="append", default=[], type=_name, metavar="NAME", help="a name of the image; may be repeated"
    )
    parser.add_argument("--push", action="store_true", help="push it to the registry that NAME begins with")
    parser.set_defaults(command=partial(_command, parser))


def _command(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> Callable[[Session], tuple[str, int]]:
    if chosen.push and not chosen.tag:
        parser.error("--push needs a name to push to: --tag registry.example/team/builder:1")
    return partial(make_builder, chosen.tag, chosen.push)


def make_builder(names: Sequence[Reference], push: bool, session: Session) -> tuple[str, int]:
    """Make the builder of a project and name it; returns the value for `builder`, and 0.

    Raises BuilderError for a builder that cannot compile for the project's base, EngineError if no engine answers.
    """
    session.check_configuration()
    if push:
        gather(partial(check_push, name, "--tag") for name in names)
    services, config = session.services, session.config
    engine = _engine(services)
    platform = platforms_of(config.base, services)[0]
    base = open_base(base_request(session.metadata, config, platform), services)
    builder = open_builder(base, config.base.spec, config.compiling, services)
    with builder.container("trying the builder", network=False) as container:
        probe(container, base.facts.python, builder.name, write=lambda _output: None)
    image = builder.image()
    names = names or [local_name(image)]
    origin = builder.origin.familiar if builder.origin else ""
    engine.load(image, names, base=origin, progress=services.progress)
    services.progress.note(f"{builder.name} is in the engine as {', '.join(name.familiar for name in names)}")
    if not push:
        return f"docker-daemon:{names[0].familiar}", 0
    origins = [builder.origin] if builder.origin else []
    services.registry.push(image.node, names, mount_from=origins, threads=services.threads, progress=services.progress)
    return str(names[0].with_digest(image.digest)), 0


def _engine(services: Services) -> Engine:
    """Connect to the engine before anything is downloaded."""
    try:
        return services.engine()
    except EngineError as error:
        raise missed(error, "make a builder") from None


def _name(text: str) -> Reference:
    """Parse a name of an image."""
    try:
        reference = Reference.parse(text)
    except InvalidReferenceError as error:
        raise argparse.ArgumentTypeError("; ".join(filter(None, (error.message, error.hint)))) from None
    if reference.digest:
        raise argparse.ArgumentTypeError(f"{text!r} has a digest: images are named by tags")
    return reference.with_tag(reference.tag or "latest")
