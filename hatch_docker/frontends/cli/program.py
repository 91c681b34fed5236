"""The commands: their command lines are parsed, and what they name is run."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.errors import ConfigError, HatchDockerError, LockError
from hatch_docker.frontends.cli.commands import COMMANDS, Command
from hatch_docker.frontends.cli.console import CommandConsole
from hatch_docker.frontends.cli.parser import Parser, add_common_options, add_project_options
from hatch_docker.frontends.cli.replay import console_of, is_replayed, stamp_of

if TYPE_CHECKING:
    from hatch_docker.project.model import ProjectSource
    from hatch_docker.stamps.stamp import Stamp


def run(arguments: Sequence[str], stamp: Stamp | None) -> int:
    """Run a command that is not replayed; returns the exit status. `stamp` is that of the build, if it is known."""
    top = Parser("hatch-docker", text=help_text())
    top.add_argument("--version", action="store_true")
    name, *rest = [*arguments] or [""]
    if name.startswith("-"):
        return _show_version() if top.read(arguments).version else 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        top.error(f"{name} is no command{f'; did you mean {close[0]}?' if close else ''}" if name else "name a command")
    command = COMMANDS[name]
    parser = Parser(f"hatch-docker {name}", command.description, command.help)
    command.add_arguments(parser)
    add_common_options(parser)
    if command.needs_project:
        add_project_options(parser)
    chosen = parser.read(rest)
    if command.has_stamp and stamp is None:
        stamp = stamp_of(vars(chosen))
        if is_replayed(stamp, vars(chosen)):
            return 0
    return _run_command(command, parser, chosen, stamp)


def _run_command(command: Command, parser: Parser, chosen: argparse.Namespace, stamp: Stamp | None) -> int:
    console = console_of(vars(chosen))
    # Everything large is imported here: only the module of the command that runs.
    from hatch_docker.frontends.cli.options import run_options
    from hatch_docker.session import Session

    module = import_module(f"hatch_docker.frontends.cli.{command.module}")
    try:
        if hasattr(module, "prepare"):
            options, run = module.prepare(chosen)
        else:
            options, run = run_options(chosen), module.command(chosen)
    except ConfigError as error:
        parser.error("\n  ".join(f"{place}: {message}" for place, message in error.problems))
    if getattr(chosen, "no_sources", False):
        os.environ["UV_NO_SOURCES"] = "1"
    try:
        source = _source(chosen) if command.needs_project else _no_project()
    except HatchDockerError as error:
        console.abort(str(error))
    return Session(source, console, options, stamp=stamp).run(run)


def help_text() -> str:
    """The help of `hatch-docker`."""
    commands = "\n".join(f"  {name:<9} {command.summary}" for name, command in COMMANDS.items())
    return f"""\
usage: hatch-docker COMMAND [OPTION]...

Build minimal, reproducible container images of Python projects.

commands:
{commands}

options:
  -h, --help  show this help; that of a command: hatch-docker COMMAND --help
  --version   show the version of hatch-docker

exit status: 0, 1 after an error, 2 for a wrong command line, 130 if interrupted
"""


def _show_version() -> int:
    from importlib.metadata import version

    console = CommandConsole()
    try:
        console.display(f"hatch-docker {version('hatch-docker')}")
    except HatchDockerError as error:
        console.abort(str(error))
    return 0


def _source(chosen: argparse.Namespace) -> ProjectSource:
    """The project that the arguments name. Raises HatchDockerError."""
    directory = Path(_directory(chosen.project, chosen.package))
    if wheel := getattr(chosen, "wheel", None):
        from hatch_docker.project.wheel import open_wheel

        return open_wheel(wheel, directory)
    from hatch_docker.project.open import open_project

    return open_project(directory)


def _no_project() -> ProjectSource:
    from hatch_docker.frontends.cli.no_project import NoProject

    return NoProject(root=Path())


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
