"""Steps and their running tasks, as `terminal` counts them, and the rows of text that `live` draws."""

from __future__ import annotations

import threading
from collections import deque

from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.progress import Task

# In seconds: the rate is that of the last seconds, since mirrors and networks change theirs.
_WINDOW = 10.0
# In bytes: enough for the last line of a compiler.
_TAIL = 4096
# For each step: its words while it runs and when it is finished, and the noun of its tasks.
_WORDS = {
    "pull": ("pulling", "pulled", "layer"),
    "look up": ("looking up", "looked up", "package"),
    "resolve": ("resolving", "resolved", ""),
    "fetch": ("fetching", "fetched", ""),
    "download": ("downloading", "downloaded", "file"),
    "metadata": ("reading", "read", ""),
    "build": ("building", "built", "package"),
    "compile": ("compiling", "compiled", "package"),
    "install": ("installing", "installed", ""),
    "layer": ("packing", "made", "layer"),
    "bytecode": ("compiling", "compiled", "layer"),
    "load": ("loading", "loaded", ""),
    "push": ("pushing", "pushed", "blob"),
    "archive": ("writing", "wrote", ""),
}


class Rate:
    """Bytes per second, from samples of what is done."""

    def __init__(self, started: float) -> None:
        self._samples = deque([(started, 0)])

    def at(self, now: float, done: int) -> float:
        """Add a sample; returns the rate of the last seconds, 0 if nothing was done, or less: a push starts again."""
        samples = self._samples
        samples.append((now, done))
        # The first one is kept until the second one is as old as the window.
        while len(samples) > 2 and samples[1][0] <= now - _WINDOW:
            samples.popleft()
        before, was = samples[0]
        return max(0.0, (done - was) / (now - before)) if now > before else 0.0


class RunningTask(Task):
    """A task that is counted. Drawing it never makes its threads wait."""

    def __init__(self, name: str, total: int, started: float) -> None:
        self.name = name
        self.total = total
        self.started = started
        self.done = 0
        # The end of its output.
        self.tail = b""
        self.rate = Rate(started)
        self._lock = threading.Lock()

    def __call__(self, count: int) -> None:
        """See Task."""
        with self._lock:
            self.done += count

    def output(self, data: bytes) -> None:
        """See Task."""
        with self._lock:
            tail = self.tail + data
            if len(tail) > _TAIL:
                # The first word may be cut, and then a login in it would not be recognized.
                tail = tail[-_TAIL:].partition(b" ")[2]
            self.tail = tail


@dataclass(slots=True)
class Step:
    """The tasks of one step since it began; `ended` is when the last one was finished."""

    name: str
    started: float
    ended: float = 0.0
    count: int = 0
    finished: int = 0
    last: str = ""
    running: dict[int, RunningTask] = field(default_factory=dict)
    rate: Rate = field(init=False)
    # In bytes, of the tasks that no longer run.
    past: int = 0

    def __post_init__(self) -> None:
        self.rate = Rate(self.started)

    @property
    def done(self) -> int:
        """What its tasks have done, in bytes."""
        return self.past + sum(task.done for task in self.running.values())

    @property
    def words(self) -> tuple[str, str, str]:
        """Its words while it runs and when it is finished, and the noun of its tasks."""
        return _WORDS.get(self.name, (self.name, self.name, ""))

    def what(self) -> str:
        """The name of its only task, or the number of its tasks that are finished."""
        noun = self.words[2]
        if self.count == 1 or not noun:
            return f"{noun} {self.last}".strip()
        return f"{self.finished}{f'/{self.count}' if self.finished < self.count else ''} {noun}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the live area: a step, or a task; a nested one belongs to the step above it.

    `portion` is what is done, from 0 to 1, or None if the total is unknown. Texts are empty if they are unknown.
    """

    text: str
    time: str
    portion: float | None = None
    size: str = ""
    rate: str = ""
    output: str = ""
    nested: bool = False
