"""Commands: run, timed, and watched."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

# Python's start is part of what is measured: it must not compile every module again.
_UNSET = {"PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"}


def _inherited() -> dict[str, str]:
    """The environment without what Hatch and Python add for the environment that the benchmark itself runs in."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _UNSET and (not name.startswith("HATCH_") or name.startswith("HATCH_DOCKER_"))
    }


class CommandError(Exception):
    """A command ended with another status than 0. The text has all of its output."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, working directory, and additions to the environment."""

    arguments: tuple[str, ...]
    cwd: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, *arguments: str | Path, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> Command:
        return cls(tuple(map(str, arguments)), cwd, environ or {})

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """The running process, with both of its outputs in one pipe. It is ended if the block is left early."""
        process = subprocess.Popen(
            self.arguments,
            cwd=self.cwd,
            env={**_inherited(), **self.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        with process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise

    def run(self) -> str:
        """Run the command, and return its output.

        Raises:
            CommandError: it failed.
        """
        with self.started() as process:
            output = process.communicate()[0].decode(errors="replace")
        if process.returncode != 0:
            raise CommandError(f"{' '.join(self.arguments)} failed:\n{output}")
        return output

    def seconds(self) -> float:
        """Run the command, and return how long the whole process took."""
        start = time.perf_counter()
        self.run()
        return time.perf_counter() - start


class MemoryWatch:
    """Samples the resident memory of a process and its descendants every 20 ms, in a `with` block.

    `peak` is the highest sum in bytes. Each process counts its share of common pages.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.first = self.peak = resident(root)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.peak = max(self.peak, resident(self._root))


def resident(root: int) -> int:
    """The resident memory of a process and its descendants, in bytes."""
    return sum(map(proportional, family(root)))


def family(root: int) -> Iterator[int]:
    """A process, first, and all that it started."""
    own = _command_line(root)
    open_ = [root]
    while open_:
        yield (process := open_.pop())
        with suppress(OSError):
            tasks = [*Path(f"/proc/{process}/task").iterdir()]
            children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
            # Until it runs another program, a new process has the memory of the first (vfork(2)), counted once.
            open_ += [child for child in children if _command_line(child) != own]


def _command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def proportional(process: int) -> int:
    """The resident memory of a process in bytes, with its share of what several have (proc(5): Pss); 0 if it ended."""
    try:
        return int(Path(f"/proc/{process}/smaps_rollup").read_text().partition("\nPss:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return 0
