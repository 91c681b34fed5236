"""The terminal of the command line: results on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import os
import sys

from hatch_docker.errors import OutputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

_STYLES = {"error": "31;1", "warning": "33;1", "hint": "36;1"}


class CommandConsole:
    """A Console of `support.terminal`. `verbosity` is negative for quiet.

    Colours follow NO_COLOR (no-color.org), FORCE_COLOR and TERM.
    """

    def __init__(self, *, verbosity: int = 0, environ: Mapping[str, str] = os.environ) -> None:
        self.verbosity, self.environ = verbosity, environ

    def display(self, message: str = "") -> None:
        """Print a result to standard output. Raises OutputError if that is closed."""
        # It is None if the process was started without it.
        if sys.stdout is None:
            return
        try:
            try:
                print(message)  # noqa: T201
            except UnicodeEncodeError:
                print(message.encode("ascii", "backslashreplace").decode())  # noqa: T201
            sys.stdout.flush()
        except OSError as error:
            abandon(sys.stdout)
            raise OutputError(f"cannot write: {error.strerror or error}", place="standard output") from None

    def display_info(self, message: str = "") -> None:
        """Print a line to standard error, unless quiet."""
        if self.verbosity >= 0:
            self._print(message)

    def display_warning(self, message: str = "") -> None:
        """Print a warning to standard error."""
        self._print(message.replace("warning:", self._styled("warning"), 1))

    def abort(self, message: str = "", code: int = 1) -> None:
        """Print a message to standard error, and exit."""
        if code == 1:
            message = f"{self._styled('error')} {message}".replace("\n  hint:", f"\n  {self._styled('hint')}")
        self._print(message)
        sys.exit(code)

    def _print(self, message: str) -> None:
        print_error(message)

    def _styled(self, word: str) -> str:
        return f"\x1b[{_STYLES[word]}m{word}:\x1b[0m" if self._has_colours() else f"{word}:"

    def _has_colours(self) -> bool:
        environ = self.environ
        if environ.get("NO_COLOR"):
            return False
        if environ.get("FORCE_COLOR"):
            return True
        return sys.stderr is not None and sys.stderr.isatty() and environ.get("TERM") != "dumb"


def print_error(message: str) -> None:
    """Print to standard error. If that is closed or full, this is no reason to fail."""
    try:
        print(message, file=sys.stderr)  # noqa: T201
    except (OSError, ValueError):
        abandon(sys.stderr)


def open_streams() -> None:
    """Give the standard streams that are closed to the null device.

    Otherwise the files that are opened next get their numbers, and what is meant for standard error goes to them, or to
    standard output. `sys.stdout` stays None if it was closed: what has to be written there is an error then.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest number that is free. Processes that are started get it, too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def abandon(stream: TextIO) -> None:
    """Let what is left of a standard stream go nowhere: at its end, Python would fail to write it again."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
