"""The command `hatch-docker`: what is not a build of the project's image.

```
hatch-docker builder [--tag NAME]… [--push] [PROJECT]
```
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from hatch_docker.builder import local_name
from hatch_docker.compiling.jobs import probe
from hatch_docker.config import Config
from hatch_docker.errors import ConfigError, HatchDockerError, InvalidReferenceError
from hatch_docker.machine import Machine
from hatch_docker.oci.reference import Reference
from hatch_docker.plugin import DockerBuilder
from hatch_docker.project import Project
from hatch_docker.workshop import base_of, builder_of


def make_builder(tags: Sequence[str], push: bool, project: Project, config: Config, machine: Machine) -> str:
    """Make the image that the project is compiled in, and give it names; returns what `builder` is then set to.

    A team pushes one, and names it in every project: then only one of them installs the OS packages. Raises
    BuilderError for one that cannot compile for the project's base.
    """
    references = _references(tags, push)
    base = base_of(project, config, machine)
    builder = builder_of(base, config, machine)
    image = builder.image()
    if image is None:
        raise HatchDockerError(
            f"{builder.name} is in the engine already, and there is nothing to put into it",
            hint="'docker tag' gives it other names; build-packages puts OS packages into it",
        )
    with builder.container("trying the builder", network=False) as container:
        probe(container, base.facts.python, builder.name, write=lambda _output: None)
    names = references or [local_name(image)]
    machine.places.engine().load(
        image, names, base=builder.origin.familiar if builder.origin else "", progress=machine.progress
    )
    machine.progress.note(f"{names[0].familiar} is {builder.name}")
    if not push:
        return f"docker-daemon:{names[0].familiar}"
    machine.places.registry.push(
        image, names, mount_from=builder.origin, threads=machine.threads, progress=machine.progress
    )
    return str(names[0].with_digest(image.digest))


def _references(tags: Sequence[str], push: bool) -> list[Reference]:
    if push and not tags:
        raise ConfigError([("--push", "say where to, with --tag registry.example/acme/builder:1")])
    problems = []
    references = []
    for tag in tags:
        try:
            references.append(Reference.parse(tag))
        except InvalidReferenceError as error:
            problems.append(("--tag", error.message))
    if problems:
        raise ConfigError(problems)
    return references


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; ends with status 1 after a message about what went wrong."""
    parser = argparse.ArgumentParser(prog="hatch-docker", description=__doc__.splitlines()[0].partition(":")[2].strip())
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("builder", help="make the image that the project is compiled in")
    builder.add_argument("--tag", action="append", default=[], metavar="NAME", help="what to call it; may be repeated")
    builder.add_argument("--push", action="store_true", help="push it to the registry that NAME names")
    builder.add_argument("project", nargs="?", default=".", help="the project's folder (default: this one)")
    chosen = parser.parse_args(arguments)
    work = _COMMANDS[chosen.command](chosen)
    DockerBuilder(chosen.project).run(work)


Work = Callable[[Project, Config, Machine], str]
_COMMANDS: Mapping[str, Callable[[argparse.Namespace], Work]] = {
    "builder": lambda chosen: partial(make_builder, chosen.tag, chosen.push),
}
