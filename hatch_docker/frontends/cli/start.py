"""The console script `hatch-docker`. Until `main` runs, Ctrl-C ends the process at once, since imports take a while."""

# The module `signal` imports enum and others. This one is built into Python 3.10 to 3.15, CPython and PyPy.
import _signal  # type: ignore[import-not-found]

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from hatch_docker.frontends.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
