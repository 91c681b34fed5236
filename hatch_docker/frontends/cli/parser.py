"""The parser of a command line: argparse with short messages and whole help texts; and the options of all commands."""

from __future__ import annotations

import argparse
import difflib
import sys
import textwrap
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from hatch_docker.frontends.cli.console import print_error

_WIDTH, _COLUMN = 80, 26
PROGRESS = ("auto", "plain", "tty", "quiet")


class Parser(argparse.ArgumentParser):
    """The parser of one command. `text` is its whole help, empty to make it of the arguments."""

    # The constructor of argparse adds --help.
    _known: Sequence[str] = ()

    def __init__(self, prog: str, description: str = "", text: str = "") -> None:
        paragraphs = (textwrap.fill(paragraph, _WIDTH) for paragraph in description.strip().split("\n\n"))
        super().__init__(
            prog=prog,
            description="\n\n".join(paragraphs),
            formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=_WIDTH, max_help_position=_COLUMN),
            allow_abbrev=False,
        )
        # Python 3.14 and newer: the help is the same everywhere.
        self.color = False
        self._text = text

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """See ArgumentParser."""
        self._known = [*self._known, *names]
        return super().add_argument(*names, **options)

    @property
    def options(self) -> list[str]:
        """The names of all options."""
        return [name for name in self._known if name.startswith("-")]

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse arguments; exits with status 2 after a message, if they are wrong."""
        chosen, unknown = self.parse_known_args(arguments)
        if unknown:
            self.error("\n".join(map(self._unknown, unknown)))
        return chosen

    def _unknown(self, argument: str) -> str:
        if not argument.startswith("-"):
            return f"unexpected argument: {argument}"
        name = argument.partition("=")[0]
        close = difflib.get_close_matches(name, self.options, n=1)
        return f"unknown option: {name}{f'; did you mean {close[0]}?' if close else ''}"

    def format_help(self) -> str:
        """The help text."""
        return self._text or super().format_help()

    def format_usage(self) -> str:
        """The first line of the help text."""
        return self._text.partition("\n")[0] + "\n" if self._text else super().format_usage()

    def error(self, message: str) -> NoReturn:
        """Print a message for a wrong command line, and exit with status 2."""
        print_error(f"{self.format_usage()}error: {message}\n  hint: {self.prog} --help")
        sys.exit(2)


def add_project_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command that reads a project."""
    parser.add_argument(
        "project", nargs="?", default=".", metavar="PROJECT", help="the project's folder (default: this one)"
    )
    parser.add_argument("--package", default="", metavar="NAME", help="a member of the project's workspace")
    parser.add_argument("--no-sources", action="store_true", help="ignore tool.uv.sources, like UV_NO_SOURCES=1")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key of [tool.hatch-docker] for this run; may be repeated",
    )


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command."""
    parser.add_argument("-q", "--quiet", action="store_true", help="show only the result, warnings and errors")
    parser.add_argument("--progress", choices=PROGRESS, default="auto", metavar="MODE", help=", ".join(PROGRESS))
