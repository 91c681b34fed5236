"""Work in several threads that one error, or Ctrl-C, ends at once. It imports nothing of ours."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")
_GRACE_SECONDS = 1.0


def together(
    work: Callable[[_T], _R], items: Sequence[_T], *, threads: int, stop: threading.Event | None = None
) -> list[_R]:
    """What `work` gives for each item, in their order. The first error that it raises ends everything, and is raised.

    `stop` is set then, for work that looks at it. The threads are daemons, unlike those of an executor: Ctrl-C ends the
    process though one of them waits for a host.
    """
    stop = stop or threading.Event()
    waiting = deque(enumerate(items))
    outcomes: dict[int, _R] = {}
    fatal: list[BaseException] = []

    def run() -> None:
        while not stop.is_set():
            try:
                number, item = waiting.popleft()
            except IndexError:
                return
            try:
                outcomes[number] = work(item)
            except BaseException as error:
                fatal.append(error)
                stop.set()

    workers = [threading.Thread(target=run, daemon=True) for _ in range(min(threads, len(items)))]
    for worker in workers:
        worker.start()
    try:
        # Waiting without a timeout cannot be interrupted on Windows.
        for worker in workers:
            while worker.is_alive() and not stop.is_set():
                worker.join(0.1)
    finally:
        stop.set()
        _wind_up(workers)
    if fatal:
        raise fatal[0]
    return [outcomes[number] for number in range(len(items))]


def once(make: Callable[[], _T]) -> Callable[[], _T]:
    """`make`, called once, however many threads want what it makes at the same time."""
    lock = threading.Lock()
    made: list[_T] = []

    def get() -> _T:
        with lock:
            if not made:
                made.append(make())
            return made[0]

    return get


def _wind_up(workers: Sequence[threading.Thread]) -> None:
    """Give the threads a moment to remove their temporary files."""
    deadline = time.monotonic() + _GRACE_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
