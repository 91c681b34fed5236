"""The command `hatch-docker`: build images of Python projects, and what to know and to do about them.

Exit status: 0; 1 after an error, and for `--check` if something does not fit; 2 for a wrong command line; 130 if it was
interrupted. A build that its stamp replays ends before argparse, or anything large, is imported.
"""

from __future__ import annotations

import gc
import os
import sys

from hatch_docker.frontends.cli.console import CommandConsole, open_streams, print_error
from hatch_docker.frontends.cli.replay import is_replayed, read_build, stamp_of
from hatch_docker.frontends.cli.signals import ended_by_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; it exits with the status unless that is 0."""
    open_streams()
    with ended_by_signals():
        try:
            status = _run(sys.argv[1:] if arguments is None else arguments)
        except (KeyboardInterrupt, RuntimeError) as error:
            # Before there is a session: while modules are imported. Before Python 3.12, what is raised while a class is
            # made becomes a RuntimeError.
            if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__cause__, KeyboardInterrupt):
                raise
            print_error("interrupted")
            status = 130
        if status:
            sys.exit(status)


def _run(arguments: Sequence[str]) -> int:
    try:
        os.getcwd()  # noqa: PTH109 (pathlib is not imported yet)
    except OSError as error:
        CommandConsole().abort(f"the working directory: {error.strerror}\n  hint: go to a directory that exists")
    chosen = read_build(arguments)
    stamp = None if chosen is None else stamp_of(chosen)
    if chosen is not None and stamp is not None and is_replayed(stamp, chosen):
        return 0
    from hatch_docker.frontends.cli.program import run

    gc.enable()
    return run(arguments, stamp)


if __name__ == "__main__":
    main()
