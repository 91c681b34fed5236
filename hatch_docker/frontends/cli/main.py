"""The command `hatch-docker`: what is not a build of the project's image.

```
hatch-docker builder [--tag NAME]… [--push] [PROJECT]
hatch-docker lock [--upgrade base] [--upgrade python] [PROJECT]
hatch-docker outdated [--check] [PROJECT]
```
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from hatch_docker.compiling.builder import local_name
from hatch_docker.compiling.jobs import probe
from hatch_docker.config import Config, check_push, gather
from hatch_docker.engine import Engine, missed
from hatch_docker.errors import EngineError, InvalidReferenceError
from hatch_docker.frontends.cli.lock import UPGRADES, lock
from hatch_docker.frontends.cli.outdated import outdated
from hatch_docker.frontends.hatch import DockerBuilder
from hatch_docker.oci.reference import Reference
from hatch_docker.plan import base_of, builder_of
from hatch_docker.project.model import Project
from hatch_docker.services import Machine

_BUILDER = """\
Make the image that the project is compiled in: its builder, with its build-packages in it. It is loaded into the
container engine, under each NAME, and with --push sent to the registry that NAME begins with.

The one line on standard output is what to set the key `builder` to, in any project on such a base, in place of
build-packages. Then none of them installs anything.
"""

_LOCK = """\
Write down what the project's image is made of, where that is not written down yet or does not fit any more: packages
out of Debian's archive in debian.lock, and Python's in pylock.docker.toml where the project has no other lock. What
fits stays as it is, but for what --upgrade names.

Standard output has the paths that were written, one a line.
"""
_OUTDATED = """\
Say which packages of the project's image, as it would be built now, have newer versions: first security updates of
Debian's and versions that were yanked from the package index. Standard output is a table, empty where nothing is
outdated. What another package of the image excludes is told, too, as pip does; what the project itself excludes is
marked.
"""


def make_builder(
    names: Sequence[Reference], push: bool, project: Project, config: Config, machine: Machine, _written: Path
) -> tuple[str, int]:
    """Make the image that a project is compiled in, and give it names; returns what `builder` is then set to, and 0.

    A team pushes one, and names it in every project: then only one of them installs the OS packages. Raises
    BuilderError for one that cannot compile for the project's base, EngineError where no engine answers.
    """
    if push:
        gather(partial(check_push, name, "--tag") for name in names)
    engine = _engine(machine)
    base = base_of(project.requires_python, config, machine)
    builder = builder_of(base, config, machine)
    with builder.container("trying the builder", network=False) as container:
        probe(container, base.facts.python, builder.name, write=lambda _output: None)
    image = builder.image()
    names = names or [local_name(image)]
    engine.load(image, names, base=builder.origin.familiar if builder.origin else "", progress=machine.progress)
    machine.progress.note(f"{builder.name} is in the engine as {', '.join(name.familiar for name in names)}")
    if not push:
        return f"docker-daemon:{names[0].familiar}", 0
    for repository in dict.fromkeys(replace(name, tag="") for name in names):
        machine.places.registry.push(
            image,
            [name for name in names if replace(name, tag="") == repository],
            mount_from=builder.origin,
            threads=machine.threads,
            progress=machine.progress,
        )
    return str(names[0].with_digest(image.digest)), 0


def _engine(machine: Machine) -> Engine:
    """The engine, asked for before anything is fetched."""
    try:
        return machine.places.engine()
    except EngineError as error:
        raise missed(error, "make a builder") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; ends with status 1 after a message about what went wrong, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(prog="hatch-docker", description="What is not a build of the project's image.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    builder = _command(commands, "builder", "make the image that the project is compiled in", _BUILDER)
    builder.add_argument(
        "--tag", action="append", default=[], type=_name, metavar="NAME", help="what to call it; may be repeated"
    )
    builder.add_argument("--push", action="store_true", help="push it to the registry that NAME begins with")
    locked = _command(commands, "lock", "write down what the image is made of", _LOCK)
    locked.add_argument(
        "--upgrade", action="append", default=[], choices=UPGRADES, help="choose these anew; may be repeated"
    )
    news = _command(commands, "outdated", "say which packages of the image have newer versions", _OUTDATED)
    news.add_argument(
        "--check", action="store_true", help="exit with status 1 if a security update or a yanked version is among them"
    )
    chosen = parser.parse_args(arguments)
    if chosen.command == "builder" and chosen.push and not chosen.tag:
        builder.error("--push needs a name to push to: --tag registry.example/team/builder:1")
    if code := DockerBuilder(chosen.project).run(_COMMANDS[chosen.command](chosen)):
        sys.exit(code)


def _command(commands: Any, name: str, short: str, long: str) -> argparse.ArgumentParser:
    """One more command, whose last argument is the project's folder."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=short, description=long, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "project", nargs="?", default=".", metavar="PROJECT", help="the project's folder (default: this one)"
    )
    return parser


def _name(text: str) -> Reference:
    """A name to give to an image."""
    try:
        reference = Reference.parse(text)
    except InvalidReferenceError as error:
        raise argparse.ArgumentTypeError("; ".join(filter(None, (error.message, error.hint)))) from None
    if reference.digest:
        raise argparse.ArgumentTypeError(f"{text!r} has a digest: an image gets names with tags")
    return reference.with_tag(reference.tag or "latest")


Work: TypeAlias = Callable[[Project, Config, Machine, Path], tuple[str, int]]
_COMMANDS: Mapping[str, Callable[[argparse.Namespace], Work]] = {
    "builder": lambda chosen: partial(make_builder, chosen.tag, chosen.push),
    "lock": lambda chosen: partial(lock, frozenset(chosen.upgrade)),
    "outdated": lambda chosen: partial(outdated, chosen.check),
}


if __name__ == "__main__":
    main()
