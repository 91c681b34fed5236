"""The command `hatch-docker`: what to know and to do about a project's image besides building it.

```
hatch-docker plan [--json] [PROJECT]
hatch-docker lock [--upgrade [base|python]] [--upgrade-package NAME] [--check] [PROJECT]
hatch-docker outdated [--check] [PROJECT]
hatch-docker builder [--tag NAME]… [--push] [PROJECT]
```

Each has `--package NAME`, for a member of the uv workspace that PROJECT belongs to, and `--no-sources`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from hatch_docker.errors import HatchDockerError, LockError

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

    if chosen.no_sources:
        os.environ["UV_NO_SOURCES"] = "1"

    from hatch_docker.project.hatchling import HatchlingProject, Target
    from hatch_docker.session import Session

    try:
        target = Target(_directory(chosen.project, chosen.package))
    except HatchDockerError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return Session(HatchlingProject(target), target.app).run(chosen.command(chosen))


def _directory(project: str, package: str) -> str:
    """The directory of a project, or of the member `package` of its workspace. Raises HatchDockerError."""
    if not package:
        return project
    from packaging.utils import canonicalize_name

    from hatch_docker.index.workspace import find_workspace, members

    workspace = find_workspace(Path(project))
    if workspace is None:
        raise LockError("this project is not part of a workspace of uv", place=project, hint="leave out --package")
    found = members(workspace)
    if canonicalize_name(package) not in found:
        known = ", ".join(found) or "none"
        raise LockError(f"the workspace has no member {package}", place=str(workspace), hint=f"its members are {known}")
    return str(found[canonicalize_name(package)])


def _parser(commands: Any, name: str, summary: str, description: str) -> argparse.ArgumentParser:
    """The parser of one command, whose last argument is the project's directory."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "project", nargs="?", default=".", metavar="PROJECT", help="the project's directory (default: this one)"
    )
    parser.add_argument("--package", default="", metavar="NAME", help="a member of the project's workspace")
    parser.add_argument(
        "--no-sources", action="store_true", help="ignore tool.uv.sources, like UV_NO_SOURCES=1 in builds"
    )
    return parser


if __name__ == "__main__":
    main()
