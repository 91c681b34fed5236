"""Progress as lines of text, with a live area below them on a terminal."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

from hatch_docker.errors import HatchDockerError, readable
from hatch_docker.support.logs import last_line
from hatch_docker.support.progress import Progress
from hatch_docker.support.steps import Row, RunningTask, Step

if TYPE_CHECKING:
    from hatch_docker.support.live import LiveArea

_REDRAW_SECONDS = 0.1
# What takes less is not drawn.
_SLOW_SECONDS = 1.0
# A step is drawn for so long between two tasks.
_IDLE_SECONDS = 0.5
# In bytes. Without a terminal, the start of larger tasks is reported too.
_LARGE_TASK = 5_000_000
# Terminals that cannot move their cursor, as `rich` has them.
_DUMB = frozenset({"dumb", "unknown"})

ProgressMode = Literal["auto", "plain", "tty", "quiet"]


def live_stream(mode: ProgressMode, stream: TextIO | None, environ: Mapping[str, str]) -> TextIO | None:
    """`stream` if progress is drawn on it, None if there are plain lines only; the modes are those of buildx.

    "auto" draws on a terminal. Raises HatchDockerError if the mode is "tty" and nothing can be drawn.
    """
    if mode in ("plain", "quiet"):
        return None
    # A process without a console has no standard error on Windows; ValueError is that of a closed file.
    is_terminal = False
    with contextlib.suppress(OSError, ValueError):
        is_terminal = stream is not None and stream.isatty()
    dumb = environ.get("TERM", "").lower() in _DUMB
    if is_terminal and not dumb:
        return stream
    if mode == "tty":
        why = f"TERM is {environ['TERM']}: it cannot move its cursor" if is_terminal else "it is not a terminal"
        raise HatchDockerError(
            f"progress cannot be drawn on standard error: {why}", hint="use --progress=auto or --progress=plain"
        )
    return None


class Console(Protocol):
    """Where a frontend shows messages. Hatch's application is one."""

    @property
    def verbosity(self) -> int:
        """Negative for quiet."""

    def display(self, message: str = "") -> None:
        """Print a result to standard output."""

    def display_info(self, message: str = "") -> None:
        """Print a line to standard error, unless quiet."""

    def display_warning(self, message: str = "") -> None:
        """Print a warning to standard error."""

    def abort(self, message: str = "", code: int = 1) -> None:
        """Print a message to standard error, and exit."""


class Terminal(Progress):
    """Prints lines with `line`, warnings with `warning`, and draws on `stream`, if any, what takes over a second.

    A note or warning is printed once, however many steps have it. A terminal that is closed meanwhile is no error: the
    build goes on.
    """

    def __init__(
        self, line: Callable[[str], None], stream: TextIO | None, *, warning: Callable[[str], None] | None = None
    ) -> None:
        self._line = line
        self._warning = warning or line
        self._stream = stream
        # Held while lines are printed and while the area is drawn, not while tasks count.
        self._lock = threading.Lock()
        # The notes and warnings that were shown, each as "info" or "warning" and its line.
        self.messages: list[tuple[str, str]] = []
        self._steps: dict[str, Step] = {}
        self._next = 0
        self._area: LiveArea | None = None
        # Ends the thread that draws; None if there is no such thread.
        self._drawing: threading.Event | None = None

    @contextlib.contextmanager
    def task(self, step: str, name: str, total: int = 0) -> Iterator[RunningTask]:
        """See Progress."""
        task = RunningTask(name, total, time.monotonic())
        with self._lock:
            current, key = self._begin(step, task)
        try:
            yield task
            with self._lock:
                current.finished += 1
                current.ended = time.monotonic()
        finally:
            with self._lock:
                del current.running[key]
                current.past += task.done

    def _begin(self, name: str, task: RunningTask) -> tuple[Step, int]:
        """Begin a task of the step; returns the step, and the task's key in `running`."""
        # Starting a task closes idle steps. Running ones may wait for it: a push may pull a layer of the base.
        # Tasks without a noun are reported one by one.
        idle = [each for each in self._steps.values() if not each.running]
        self._end([each for each in idle if each.name != name or not each.words[2]])
        step, self._next = self._steps.setdefault(name, Step(name, task.started)), self._next + 1
        step.count += 1
        step.running[self._next] = task
        step.last = task.name
        if self._stream is None and task.total >= _LARGE_TASK:
            self._print(self._line, [f"{step.words[0]} {task.name} ({human(task.total)})"])
        self._start_drawing()
        return step, self._next

    def note(self, text: str) -> None:
        """See Progress."""
        self._between("info", text)

    def warn(self, text: str) -> None:
        """See Progress."""
        self._between("warning", f"warning: {text}")

    def repeat(self, messages: Iterable[tuple[str, str]]) -> None:
        """Show the notes and warnings of another run, as its `messages` has them."""
        for kind, line in messages:
            self._between(kind, line.removeprefix("  "))

    def close(self) -> None:
        """End all steps, and print their lines."""
        with self._lock:
            if self._drawing:
                self._drawing.set()
                self._drawing = None
            self._end(list(self._steps.values()))
            self._hide()

    def show(self, lines: Iterable[str]) -> None:
        """End all steps, and print lines of a report as they are."""
        self.close()
        for line in lines:
            with contextlib.suppress(OSError, ValueError):
                self._line(line)

    def _between(self, kind: str, text: str) -> None:
        message = (kind, f"  {readable(text)}")
        with self._lock:
            if message not in self.messages:
                self.messages.append(message)
                self._end([each for each in self._steps.values() if not each.running])
                self._print(self._warning if kind == "warning" else self._line, [text])

    def _end(self, steps: Sequence[Step]) -> None:
        for step in steps:
            del self._steps[step.name]
        ordered = sorted(steps, key=lambda each: each.ended)
        self._print(self._line, [_summary(step) for step in ordered if step.finished])

    def _print(self, line: Callable[[str], None], texts: Sequence[str]) -> None:
        """Print lines above the live area."""
        if not texts:
            return
        was_shown = self._hide()
        for text in texts:
            with contextlib.suppress(OSError, ValueError):
                line(f"  {readable(text)}")
        if was_shown and self._drawing:
            self._draw()

    def _start_drawing(self) -> None:
        """Draw repeatedly, in a thread that ends with the steps."""
        if self._stream is not None and self._drawing is None:
            self._drawing = threading.Event()
            threading.Thread(target=self._keep_drawing, args=(self._drawing,), name="progress", daemon=True).start()

    def _keep_drawing(self, ended: threading.Event) -> None:
        while not ended.wait(_REDRAW_SECONDS):
            with self._lock:
                begins = self._area is None and self._rows()
            if begins:
                # It takes a tenth of a second, in which tasks may begin and end.
                import hatch_docker.support.live  # noqa: F401
            with self._lock:
                if ended.is_set():
                    return
                if not self._steps:
                    self._drawing = None
                    return
                self._draw()

    def _draw(self) -> None:
        rows = self._rows()
        if not rows or self._stream is None:
            self._hide()
            return
        from hatch_docker.support.live import LiveArea

        try:
            self._area = self._area or LiveArea(self._stream)
            self._area.show(rows)
        except (OSError, ValueError):
            # The terminal was closed.
            self._stream = self._area = None

    def _hide(self) -> bool:
        """Clear the live area; returns whether it was shown."""
        area, self._area = self._area, None
        if area is None:
            return False
        with contextlib.suppress(OSError, ValueError):
            area.close()
        return True

    def _rows(self) -> list[Row]:
        now = time.monotonic()
        rows: list[Row] = []
        for step in self._steps.values():
            is_group = step.count > 1 and bool(step.words[2])
            is_running = bool(step.running) or now - step.ended < _IDLE_SECONDS
            if is_group and is_running and now - step.started >= _SLOW_SECONDS:
                rows.append(_step_row(step, now))
            slow = [task for task in step.running.values() if now - task.started >= _SLOW_SECONDS]
            rows += [_task_row(step, task, now, nested=is_group) for task in slow]
        return rows


def _summary(step: Step) -> str:
    size = f", {human(step.done)}" if step.done else ""
    return f"{step.words[1]} {step.what()}{size} in {step.ended - step.started:.1f} s"


def _step_row(step: Step, now: float) -> Row:
    done = step.done
    verb, _, noun = step.words
    return Row(
        # How many there will be is not known: the next ones wait for a free thread.
        text=f"{verb} {noun}s{f', {step.finished} done' if step.finished else ''}",
        time=_clock(int(now - step.started)),
        size=human(done) if done else "",
        rate=f"{human(int(step.rate.at(now, done)))}/s" if done else "",
    )


def _task_row(step: Step, task: RunningTask, now: float, *, nested: bool) -> Row:
    done, total = task.done, task.total
    rate = task.rate.at(now, done)
    text = task.name if nested else f"{step.words[0]} {task.name}"
    return Row(
        text=readable(text).replace("\n", " "),
        time=f"{_clock((total - done) / rate)} left" if done < total and rate else _clock(int(now - task.started)),
        portion=min(done / total, 1.0) if total else None,
        size=_of(done, total) if total else human(done) if done else "",
        rate=f"{human(int(rate))}/s" if done else "",
        output=last_line(task.tail),
        nested=nested,
    )


def _of(done: int, total: int) -> str:
    """Two sizes in the unit of the total."""
    number, unit = human(total).split()
    return f"{float(number) * done / total:.{1 if '.' in number else 0}f}/{number} {unit}"


def _clock(seconds: float) -> str:
    """Minutes and seconds; hours if it is long."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 100 else f"{seconds / 3600:.1f} h"


def human(size: int) -> str:
    """A size in decimal units, as registries and engines show it."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5 or unit == "GB":
            break
    return f"{value:.{0 if value >= 100 else 1}f} {unit}"
