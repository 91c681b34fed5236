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
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

# The subcommands, each a module of this package with DESCRIPTION and `add_arguments`, which sets `command`.
_COMMANDS: Mapping[str, str] = {
    "plan": "show what a build would do",
    "lock": "lock the packages of the image",
    "outdated": "list packages of the image with newer versions",
    "builder": "make the image that the project is compiled in",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; exits with status 1 after an error message, 2 for a wrong command line."""
    try:
        status = _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        # Before there is a session: while modules are imported.
        print("interrupted", file=sys.stderr)  # noqa: T201
        status = 130
    if status:
        sys.exit(status)


def _run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="hatch-docker", description="Everything about an image besides its build.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    name = next((each for each in arguments if not each.startswith("-")), "")
    for each, summary in _COMMANDS.items():
        # Only the module of the command that runs is imported.
        module = import_module(f"hatch_docker.frontends.cli.{each}") if each == name else None
        subparser = _parser(commands, each, summary, module.DESCRIPTION if module else "")
        if module:
            module.add_arguments(subparser)
    chosen = parser.parse_args(arguments)

    from hatch_docker.project.hatchling import HatchlingProject, Target
    from hatch_docker.session import Session

    target = Target(chosen.project)
    return Session(HatchlingProject(target), target.app).run(chosen.command(chosen))


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
