"""Run a program of this machine on frames, with limits of time and of output."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hatch_docker.errors import BytecodeUnavailableError
from hatch_docker.image.bytecode.chunks import Ended
from hatch_docker.image.bytecode.frames import LARGEST_OUTPUT
from hatch_docker.support.threads import ended_by_interrupt

# Seconds without any output, and in all. A module may take a minute of CPU time.
PATIENCE = 300.0
_SECONDS = 3600.0
_READ = 1 << 20
_MESSAGES = 1 << 14
_POLL_SECONDS = 0.5


@cache
def script() -> str:
    """The text of `main`, for an interpreter's `-c`."""
    return (Path(__file__).parent / "main.py").read_text(encoding="utf-8")


def talk(given: bytes, *, command: Sequence[str], environ: Mapping[str, str], patience: float = PATIENCE) -> Ended:
    """Run a command with this standard input to its end, in the directory of its program.

    Python imports from the current directory, which may be a project's. `patience` is for how many seconds it may be
    silent. Raises BytecodeUnavailableError if it does not start, is silent for too long, or writes without end.
    """
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
        stdin.write(given)
        stdin.seek(0)
        directory = os.path.dirname(os.path.realpath(command[0]))  # noqa: PTH120
        try:
            process = subprocess.Popen(  # noqa: S603
                command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, env=dict(environ), cwd=directory
            )
        except OSError as error:
            raise BytecodeUnavailableError(f"it does not start: {error.strerror or error}") from None
        with process, ended_by_interrupt(process.kill), _watched(process, patience) as watch:
            output = _output(process, watch)
            status = process.wait()
        if watch.reason:
            raise BytecodeUnavailableError(watch.reason)
        stderr.seek(max(0, stderr.seek(0, 2) - _MESSAGES))
        messages = stderr.read().decode("utf-8", "replace")
    # Popen gives signals as negative numbers.
    return Ended(output, status if status >= 0 else 128 - status, messages)


@dataclass(slots=True)
class _Watch:
    """When a process started, when it last wrote, and why it was ended, if it was."""

    patience: float
    started: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    reason: str = ""

    @property
    def expired(self) -> bool:
        now = time.monotonic()
        return now - self.heard > self.patience or now - self.started > _SECONDS


@contextmanager
def _watched(process: subprocess.Popen[bytes], patience: float) -> Iterator[_Watch]:
    """Kill the process when it is silent for too long."""
    watch, done = _Watch(patience), threading.Event()

    def wait() -> None:
        while not done.wait(_POLL_SECONDS):
            if watch.expired:
                watch.reason = "it does not end"
                process.kill()
                return

    threading.Thread(target=wait, daemon=True).start()
    try:
        yield watch
    finally:
        done.set()


def _output(process: subprocess.Popen[bytes], watch: _Watch) -> bytearray:
    output = bytearray()
    if process.stdout is None:
        return output
    while chunk := process.stdout.read1(_READ):  # type: ignore[attr-defined]
        watch.heard = time.monotonic()
        output += chunk
        if len(output) > LARGEST_OUTPUT:
            watch.reason = "it writes without end"
            process.kill()
            break
    return output
