"""Work in several threads that ends at the first error or Ctrl-C. It imports nothing of ours."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import ParamSpec, TypeVar

    _P = ParamSpec("_P")
    _T = TypeVar("_T")
    _R = TypeVar("_R")

_GRACE_SECONDS = 1.0
# What ends the programs that threads wait for.
_enders: list[Callable[[], object]] = []


def together(
    work: Callable[[_T], _R], items: Sequence[_T], *, threads: int, stop: threading.Event | None = None
) -> list[_R]:
    """The results of `work` for all items, in their order. The first error stops all threads, and is raised.

    `stop` is set then, for work that checks it. Unlike those of an executor, the threads are daemons: Ctrl-C ends the
    process even if one of them waits for a host.
    """
    stop = stop or threading.Event()
    waiting = deque(enumerate(items))
    results: dict[int, _R] = {}
    errors: list[BaseException] = []

    def run() -> None:
        while not stop.is_set():
            try:
                number, item = waiting.popleft()
            except IndexError:
                return
            try:
                results[number] = work(item)
            except BaseException as error:
                errors.append(error)
                stop.set()

    workers = [threading.Thread(target=run, daemon=True) for _ in range(min(threads, len(items)))]
    for worker in workers:
        worker.start()
    try:
        _wait(workers, stop)
    except BaseException:
        for end in [*_enders]:
            end()
        raise
    finally:
        stop.set()
        _wind_up(workers)
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(items))]


@contextlib.contextmanager
def ended_by_interrupt(end: Callable[[], object]) -> Iterator[None]:
    """Call `end` if Ctrl-C interrupts the block, which may run in a thread of `together`."""
    _enders.append(end)
    try:
        yield
    except BaseException:
        end()
        raise
    finally:
        _enders.remove(end)


def begun(work: Callable[[], _R]) -> Callable[[], _R]:
    """Begin `work` in another thread; the function that is returned waits for its result, or raises its error.

    The thread is a daemon: it holds up neither an error of what runs beside it, nor Ctrl-C.
    """
    results: list[_R] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    worker = threading.Thread(target=run, daemon=True)
    worker.start()

    def result() -> _R:
        while worker.is_alive():
            worker.join(0.1)
        if errors:
            raise errors[0]
        return results[0]

    return result


def once(make: Callable[[], _T]) -> Callable[[], _T]:
    """`make`, called once for all threads, and again only if it raised an exception.

    Those that waited for it raise that exception, too: each would wait as long for what does not answer.
    """
    lock = threading.Lock()
    made: list[_T] = []
    failed: list[Exception] = []

    def get() -> _T:
        before = len(failed)
        with lock:
            if not made:
                if len(failed) > before:
                    raise failed[-1]
                try:
                    made.append(make())
                except Exception as error:
                    failed.append(error)
                    raise
            return made[0]

    return get


def at_most(most: int, work: Callable[_P, _R]) -> Callable[_P, _R]:
    """`work`, of which at most so many calls run at the same time, whichever threads make them: the others wait."""
    slots = threading.Semaphore(most)

    def run(*arguments: _P.args, **options: _P.kwargs) -> _R:
        with slots:
            return work(*arguments, **options)

    return run


def _wait(workers: Sequence[threading.Thread], stop: threading.Event) -> None:
    # Waiting without a timeout cannot be interrupted on Windows.
    for worker in workers:
        while worker.is_alive() and not stop.is_set():
            worker.join(0.1)


def _wind_up(workers: Sequence[threading.Thread]) -> None:
    """Give the threads a moment to remove their temporary files."""
    deadline = time.monotonic() + _GRACE_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
