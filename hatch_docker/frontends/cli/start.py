"""The console script `hatch-docker`. Until `main` runs, Ctrl-C ends the process at once, since imports take a while."""

# The module `signal` imports enum and others. This one is built into Python 3.10 to 3.15, CPython and PyPy.
import _signal  # type: ignore[import-not-found]
import gc

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

# What is imported stays: looking for garbage among it takes a twentieth of a short build. `main` enables it for others.
gc.disable()

from hatch_docker.frontends.cli.main import main  # noqa: E402

__all__ = ["main"]

if __name__ == "__main__":
    main()
