"""Progress as lines of text, with one live line below them on a terminal."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from hatch_docker.errors import readable
from hatch_docker.support.progress import Advance, Progress

_REDRAW_SECONDS = 0.1
# Steps without progress of their own, such as compiling, are redrawn this often: they show the time.
_TICK_SECONDS = 1.0
_WIDTH = 80
# In bytes. Without a terminal, the start of larger tasks is reported too.
_LARGE_TASK = 5_000_000
# For each step: its words while it runs and when it is finished, and the noun of its tasks.
_WORDS = {
    "pull": ("pulling", "pulled", "layer"),
    "look up": ("looking up", "looked up", "package"),
    "resolve": ("resolving", "resolved", ""),
    "download": ("downloading", "downloaded", "file"),
    "build": ("building", "built", "package"),
    "compile": ("compiling", "compiled", "package"),
    "install": ("installing", "installed", ""),
    "layer": ("making", "made", "layer"),
    "load": ("loading", "loaded", ""),
    "push": ("pushing", "pushed", "blob"),
    "archive": ("writing", "wrote", ""),
}


@dataclass(slots=True)
class _Step:
    name: str
    started: float
    ended: float = 0.0
    count: int = 0
    finished: int = 0
    done: int = 0
    total: int = 0
    last: str = ""
    running: dict[int, str] = field(default_factory=dict)

    @property
    def words(self) -> tuple[str, str, str]:
        """Its words while it runs and when it is finished, and the noun of its tasks."""
        return _WORDS.get(self.name, (self.name, self.name, ""))

    def what(self, name: str = "") -> str:
        """Its task by name, or the number of its tasks that are finished."""
        noun = self.words[2]
        if name or self.count == 1 or not noun:
            return f"{noun} {name or self.last}".strip()
        return f"{self.finished}{f'/{self.count}' if self.finished < self.count else ''} {noun}s"


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
    """Prints lines with `line`, warnings with `warning`, and a live line to `stream`, if that is a terminal."""

    def __init__(
        self, line: Callable[[str], None], stream: TextIO | None, *, warning: Callable[[str], None] | None = None
    ) -> None:
        self._line = line
        self._warning = warning or line
        self._stream = stream
        self._lock = threading.Lock()
        self._steps: dict[str, _Step] = {}
        self._drawn = 0.0
        self._next = 0
        # Ends the thread that redraws the live line; None if there is no such thread.
        self._ticking: threading.Event | None = None

    @contextlib.contextmanager
    def task(self, step: str, name: str, total: int = 0) -> Iterator[Advance]:
        """See Progress."""
        with self._lock:
            current, key = self._begin(step, name, total)

        def advance(count: int) -> None:
            with self._lock:
                current.done += count
                # An abandoned thread may still run for a moment after the end.
                if self._steps.get(step) is current:
                    self._draw(current)

        try:
            yield advance
            with self._lock:
                current.finished += 1
                current.ended = time.monotonic()
        finally:
            with self._lock:
                current.running.pop(key, None)
                if not current.running:
                    # It may have been a part of another step.
                    self._draw_latest()

    def _begin(self, step: str, name: str, total: int) -> tuple[_Step, int]:
        """Begin a task; return its step and its key in `running`."""
        # Starting a task closes idle steps. Running ones may wait for it: a push may pull a layer of the base.
        # Tasks without a noun are reported one by one.
        idle = [each for each in self._steps.values() if not each.running]
        self._end([each for each in idle if each.name != step or not each.words[2]])
        current, self._next = self._steps.setdefault(step, _Step(step, time.monotonic())), self._next + 1
        current.count += 1
        current.total += total
        current.running[self._next] = current.last = name
        if self._stream is None and total >= _LARGE_TASK:
            self._line(f"  {current.words[0]} {current.what(name)} ({human(total)})")
        self._draw(current)
        self._tick()
        return current, self._next

    def note(self, text: str) -> None:
        """See Progress."""
        self._between(self._line, text)

    def warn(self, text: str) -> None:
        """See Progress."""
        self._between(self._warning, f"warning: {text}")

    def close(self) -> None:
        """End all steps, and print their lines."""
        with self._lock:
            self._end(list(self._steps.values()))
            if self._ticking:
                self._ticking.set()
                self._ticking = None

    def _between(self, line: Callable[[str], None], text: str) -> None:
        with self._lock:
            self._end([each for each in self._steps.values() if not each.running])
            self._clear()
            line(f"  {readable(text)}")

    def _end(self, steps: Sequence[_Step]) -> None:
        if steps:
            self._clear()
        for step in sorted(steps, key=lambda each: each.ended):
            del self._steps[step.name]
            if step.finished:
                size = f", {human(step.done)}" if step.done else ""
                self._line(f"  {step.words[1]} {step.what()}{size} in {step.ended - step.started:.1f} s")

    def _tick(self) -> None:
        """Redraw the live line repeatedly, in a thread that ends with the steps."""
        if self._stream is not None and self._ticking is None:
            self._ticking = threading.Event()
            threading.Thread(target=self._ticks, args=(self._ticking,), name="progress", daemon=True).start()

    def _ticks(self, ended: threading.Event) -> None:
        # If the terminal is closed, the main thread reports it.
        with contextlib.suppress(OSError, ValueError):
            while not ended.wait(_TICK_SECONDS):
                with self._lock:
                    if ended.is_set():
                        return
                    if not self._steps:
                        self._ticking = None
                        return
                    self._draw_latest()

    def _draw_latest(self) -> None:
        running = [step for step in self._steps.values() if step.running]
        if running:
            self._draw(max(running, key=lambda each: max(each.running)))

    def _draw(self, step: _Step) -> None:
        now = time.monotonic()
        if self._stream is None or now - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn = now
        text = _live_line(step, now)
        with contextlib.suppress(OSError, ValueError):
            # A line that wraps cannot be cleared: leave room for the ^C that a terminal echoes.
            width = (os.get_terminal_size(self._stream.fileno()).columns or _WIDTH) - 3
            text = text if len(text) <= width else text[: max(width - 1, 0)] + "…"
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()

    def _clear(self) -> None:
        if self._stream is not None and self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = 0.0


def _live_line(step: _Step, now: float) -> str:
    of = f" of {human(step.total)}" if step.total else ""
    size = f" · {human(step.done)}{of}" if step.total or step.done else ""
    if not size and now - step.started >= _TICK_SECONDS:
        size = f" · {now - step.started:.0f} s"
    names = f" · {', '.join(step.running.values())}" if step.count > 1 else ""
    return f"  {step.words[0]} {step.what()}{size}{names}"


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
