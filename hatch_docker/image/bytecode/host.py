"""An interpreter of exactly the base's Python on this machine: on PATH, or one that uv knows."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import partial

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import BytecodeUnavailableError, ResolveError
from hatch_docker.image.bytecode.chunks import compiler_of, identify
from hatch_docker.image.bytecode.compiler import Compiler
from hatch_docker.image.bytecode.process import talk
from hatch_docker.locks.uv import find_uv
from hatch_docker.support.threads import at_most

_UV_SECONDS = 60
# For the first answer. A program of this name may be a script that waits for something else.
_ANSWER_SECONDS = 30


def open_host(
    python: TargetPython, environ: Mapping[str, str], script: str, *, optimization: int, threads: int
) -> Compiler:
    """A compiler by an interpreter of this machine. Raises BytecodeUnavailableError if there is none."""
    reasons: dict[str, str] = {}
    kept = {name: value for name, value in environ.items() if not name.startswith("PYTHON")}
    kept["PYTHONHASHSEED"] = "0"
    for program in _programs(python, environ):
        command = (program, "-S", "-s", "-B", "-c", script)
        run = at_most(threads, partial(talk, command=command, environ=kept))
        try:
            identity = identify(partial(run, patience=_ANSWER_SECONDS), python)
            return compiler_of(program, run, identity, optimization=optimization, threads=threads)
        except BytecodeUnavailableError as error:
            reasons.setdefault(program, error.message)
    tried = "".join(f"; {program}: {reason}" for program, reason in reasons.items())
    raise BytecodeUnavailableError(f"neither PATH nor uv has this Python{tried}")


def _programs(python: TargetPython, environ: Mapping[str, str]) -> Iterator[str]:
    """The interpreters that may be the one, each once."""
    seen: set[str] = set()
    threads = "t" if python.free_threaded else ""
    for name in (f"python{python.minor}{threads}", "python3", "python"):
        for folder in environ.get("PATH", "").split(os.pathsep):
            program = shutil.which(name, path=folder) if folder else None
            if program and (real := os.path.realpath(program)) not in seen:
                seen.add(real)
                yield program
    if (found := _of_uv(python, environ)) and os.path.realpath(found) not in seen:
        yield found


def _of_uv(python: TargetPython, environ: Mapping[str, str]) -> str:
    """The interpreter that uv finds, without downloading one; empty if there is none."""
    wanted = f"cpython-{python.version}{'+freethreaded' if python.free_threaded else ''}"
    with contextlib.suppress(ResolveError, OSError, subprocess.SubprocessError):
        command = [find_uv(environ), "python", "find", "--no-project", "--no-python-downloads", wanted]
        found = subprocess.run(  # noqa: S603
            command, env=dict(environ), capture_output=True, check=True, timeout=_UV_SECONDS
        )
        return found.stdout.decode().strip()
    return ""
