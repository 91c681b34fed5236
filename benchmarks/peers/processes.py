"""Commands: run, timed, and watched."""

from __future__ import annotations

import mmap
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

    `peak` is the highest sum in bytes. Pages that processes share count for each of them.
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
    return sum(map(_resident, _family(root)))


def _family(root: int) -> Iterator[int]:
    """The process and all that it started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    open_ = [root]
    while open_:
        yield (process := open_.pop())
        open_ += children.get(process, ())


def _resident(process: int) -> int:
    """The resident memory of a process in bytes; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * mmap.PAGESIZE
    except (OSError, IndexError):
        return 0
