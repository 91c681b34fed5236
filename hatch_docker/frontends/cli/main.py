"""The command `hatch-docker`: what to know and to do about a project's image besides building it.

```
hatch-docker plan [--json] [PROJECT]
hatch-docker lock [--upgrade base] [--upgrade python] [PROJECT]
hatch-docker outdated [--check] [PROJECT]
hatch-docker builder [--tag NAME]… [--push] [PROJECT]
```
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hatch_docker.frontends.cli import builder, lock, outdated, plan
from hatch_docker.project.hatchling import HatchlingProject, Target
from hatch_docker.session import Session

# Each adds its arguments to a parser; parsed, they have the command to run as `command`.
_COMMANDS: Mapping[str, tuple[str, str, Callable[[argparse.ArgumentParser], None]]] = {
    "plan": ("show what a build would do", plan.DESCRIPTION, plan.add_arguments),
    "lock": ("lock the packages of the image", lock.DESCRIPTION, lock.add_arguments),
    "outdated": ("list packages of the image with newer versions", outdated.DESCRIPTION, outdated.add_arguments),
    "builder": ("make the image that the project is compiled in", builder.DESCRIPTION, builder.add_arguments),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; exits with status 1 after an error message, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(prog="hatch-docker", description="Everything about an image besides its build.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (summary, description, add_arguments) in _COMMANDS.items():
        add_arguments(_parser(commands, name, summary, description))
    chosen = parser.parse_args(arguments)
    target = Target(chosen.project)
    session = Session(HatchlingProject(target), target.app)
    if status := session.run(chosen.command(chosen)):
        sys.exit(status)


def _parser(commands: Any, name: str, summary: str, description: str) -> argparse.ArgumentParser:
    """The parser of one command, whose last argument is the project's directory."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "project", nargs="?", default=".", metavar="PROJECT", help="the project's directory (default: this one)"
    )
    return parser


if __name__ == "__main__":
    main()
