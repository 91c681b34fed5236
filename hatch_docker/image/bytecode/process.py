"""Run a program of this machine on frames, with limits of time and of output."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from hatch_docker.errors import BytecodeUnavailableError
from hatch_docker.image.bytecode.chunks import Ended
from hatch_docker.image.bytecode.frames import LARGEST_OUTPUT, answers, end_of
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.scratch import usual_directory
from hatch_docker.support.threads import ended_by_interrupt

# Seconds without any output, and in all, for one input. A module may take a minute of CPU time.
PATIENCE = 300.0
_SECONDS = 3600.0
# Bytes that are read at once: more would be new pages each time, and most answers are smaller.
_READ = 1 << 16
_MESSAGES = 1 << 14
_POLL_SECONDS = 0.5
# For a program to end when its input does.
_END_SECONDS = 1.0
# fcntl.F_SETPIPE_SZ, and bytes: a program should not wait for threads of ours that wait for the interpreter lock.
_SET_SIZE, _PIPE = 1031, 1 << 20


@cache
def script() -> str:
    """The text of `main`, for an interpreter's `-c`."""
    return (Path(__file__).parent / "main.py").read_text(encoding="utf-8")


def talk(given: bytes, *, command: Sequence[str], environ: Mapping[str, str], patience: float = PATIENCE) -> Ended:
    """Run a command with this standard input to its end, in the directory of its program.

    Python imports from the current directory, which may be a project's. `patience` is for how many seconds it may be
    silent. Raises BytecodeUnavailableError if it does not start, is silent for too long, or writes without end.
    """
    program = _Program.started(command, environ)
    try:
        return program.exchange(given, patience, wanted=None)
    finally:
        program.stop()


class Programs:
    """Runs of a command that compile one chunk after another, since starting one may take as long as some modules.

    One is started at once, more when all others are busy, at most `most`. They end when this is garbage-collected.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], most: int) -> None:
        self._serve = partial(_serve, command=command, environ=environ)
        self._most, self._threads, self._waiting, self._lock = most, 0, 0, threading.Lock()
        self._questions: SimpleQueue[_Question | None] = SimpleQueue()
        weakref.finalize(self, _end, self._questions, most)
        self._start()

    def _start(self) -> None:
        self._threads += 1
        threading.Thread(target=self._serve, args=(self._questions,), daemon=True).start()

    def talk(self, given: bytes, *, patience: float = PATIENCE) -> Ended:
        """As the function `talk`, for the frames of `main`, of which a program needs the first one once.

        The output begins with what the program said when it was started. The status is 0 if it goes on.
        """
        with self._lock:
            self._waiting += 1
            if self._threads < min(self._waiting, self._most):
                self._start()
        question = _Question(given, patience)
        self._questions.put(question)
        answer = question.answer.get()
        with self._lock:
            self._waiting -= 1
        if isinstance(answer, BaseException):
            raise answer
        return answer


@dataclass(frozen=True, slots=True)
class _Question:
    given: bytes
    patience: float
    answer: SimpleQueue[Ended | BaseException] = field(default_factory=SimpleQueue)


def _serve(questions: SimpleQueue[_Question | None], *, command: Sequence[str], environ: Mapping[str, str]) -> None:
    """Answer questions by one program after another, in the thread that starts them.

    A program in a sandbox ends with the thread that started it (PR_SET_PDEATHSIG).
    """
    program: _Program | None = None
    # It starts while the first question is written. If it does not, that question has the error.
    with contextlib.suppress(BytecodeUnavailableError):
        program = _Program.started(command, environ)
    while question := questions.get():
        first = question.given[: end_of(question.given, 0)]
        try:
            if program and program.first not in (b"", first):
                program.stop()
                program = None
            if not program:
                program = _Program.started(command, environ)
            start = len(program.first)
            program.first = first
            # The level, the number of sources, and two frames for each.
            wanted = len(answers(question.given)) // 2 - 1
            question.answer.put(program.exchange(memoryview(question.given)[start:], question.patience, wanted))
        except BaseException as error:
            question.answer.put(error)
        if program and not program.goes_on:
            program.stop()
            program = None
        del question
    if program:
        program.stop()


def _end(questions: SimpleQueue[_Question | None], threads: int) -> None:
    for _ in range(threads):
        questions.put(None)


@dataclass(slots=True)
class _Program:
    """A running program: the `first` frame that it was given, its first answer, `hello`, and whether it `goes_on`."""

    process: subprocess.Popen[bytes]
    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]
    first: bytes = b""
    hello: bytes = b""
    goes_on: bool = True

    @classmethod
    def started(cls, command: Sequence[str], environ: Mapping[str, str]) -> _Program:
        directory = os.path.dirname(os.path.realpath(command[0]))  # noqa: PTH120
        stderr = tempfile.TemporaryFile(dir=usual_directory())  # noqa: SIM115 (`stop` closes it)
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(  # noqa: S603
                command,
                stdin=pipe,
                stdout=pipe,
                stderr=stderr,
                env=dict(environ),
                cwd=directory,
                start_new_session=True,
            )
        except OSError as error:
            stderr.close()
            raise BytecodeUnavailableError(f"it does not start: {error.strerror or error}") from None
        if process.stdin is None or process.stdout is None:
            raise BytecodeUnavailableError("it has no standard input and output")
        _widen(process.stdin, process.stdout)
        return cls(process, process.stdin, process.stdout, stderr)

    def exchange(self, given: bytes | memoryview, patience: float, wanted: int | None) -> Ended:
        """Write an input, and read that many answers; without a number, end the input, and read all."""
        writer = threading.Thread(target=self._write, args=(given, wanted is None), daemon=True)
        with ended_by_interrupt(partial(_kill, self.process)), _watched(self.process, patience) as watch:
            self.goes_on = False
            writer.start()
            output = bytearray(self.hello)
            complete = self._read(output, watch, wanted)
            self.goes_on = complete and not watch.reason
            status = 0 if self.goes_on else self.process.wait()
        if watch.reason:
            raise BytecodeUnavailableError(watch.reason)
        # It may have answered without having read.
        writer.join(_END_SECONDS)
        self.goes_on = self.goes_on and not writer.is_alive()
        # Popen gives signals as negative numbers.
        return Ended(output, status if status >= 0 else 128 - status, "" if self.goes_on else self._messages())

    def _write(self, given: bytes | memoryview, last: bool) -> None:
        # It ended, and is being read to its end.
        with contextlib.suppress(OSError, ValueError):
            self.stdin.write(given)
            self.stdin.flush()
        if last:
            self.end_input()

    def _read(self, output: bytearray, watch: _Watch, wanted: int | None) -> bool:
        """Read answers; return whether there are as many as `wanted`, and no byte more."""
        left = -1 if wanted is None else wanted + (not self.hello)
        start = len(output)
        while left and (chunk := self.stdout.read1(_READ)):  # type: ignore[attr-defined]
            watch.heard = time.monotonic()
            output += chunk
            if len(output) > LARGEST_OUTPUT:
                watch.reason = "it writes without end"
                _kill(self.process)
                break
            while left and (end := end_of(output, start)):
                start, left = end, left - 1
                self.hello = self.hello or bytes(output[:end])
        if not left and start < len(output):
            watch.reason = "it answers more than it was asked"
            _kill(self.process)
        return not left

    def _messages(self) -> str:
        self.stderr.seek(max(0, self.stderr.seek(0, 2) - _MESSAGES))
        return self.stderr.read().decode("utf-8", "replace")

    def end_input(self) -> None:
        """Close its standard input, after which it should end."""
        with contextlib.suppress(OSError):
            self.stdin.close()

    def stop(self) -> None:
        """End it, and release what it has."""
        if self.goes_on:
            self.end_input()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_END_SECONDS)
        _kill(self.process)
        self.process.wait()
        self.end_input()
        self.stdout.close()
        self.stderr.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program, and those that it started, which have its standard output, too."""
    if os.name == "nt":
        process.kill()
    elif process.poll() is None:
        # It leads a session of its own.
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)


def _widen(*pipes: IO[bytes]) -> None:
    """Give pipes room for some modules, where the system can."""
    if sys.platform.startswith("linux"):
        import fcntl

        for pipe in pipes:
            with contextlib.suppress(OSError):
                fcntl.fcntl(pipe, _SET_SIZE, _PIPE)


@dataclass(slots=True)
class _Watch:
    """When an input was given, when the process last wrote, and why it was ended, if it was."""

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
                _kill(process)
                return

    threading.Thread(target=wait, daemon=True).start()
    try:
        yield watch
    finally:
        done.set()
