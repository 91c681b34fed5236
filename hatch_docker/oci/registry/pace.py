"""How many requests a registry gets at once: fewer after each 429 (RFC 6585), and slowly more again."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

# In urllib3, a pool keeps as many connections.
MOST = 16


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


class Pace:
    """The requests to one host. Thread-safe. `clock` is in seconds, and monotonic."""

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._limit = float(most)
        self._running = 0
        self._resume = 0.0
        self._slowed = 0.0
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """How many requests may run at once."""
        return int(self._limit)

    @contextlib.contextmanager
    def slot(self) -> Iterator[float]:
        """Wait until a request may begin; the value is its beginning, for `refused`."""
        if (wait := self._resume - self._clock()) > 0:
            sleep(wait)
        with self._changed:
            self._changed.wait_for(lambda: self._running < self.limit)
            self._running += 1
        try:
            yield self._clock()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def accepted(self) -> None:
        """A request was answered: as many of these as run at once allow one more."""
        with self._changed:
            self._limit = min(self._most, self._limit + 1 / self._limit)

    def refused(self, began: float, seconds: float) -> None:
        """A request that `began` then got a 429: no other one begins for `seconds`, and half as many run at once.

        Those that ran beside it are refused as well, which says nothing new.
        """
        with self._changed:
            now = self._clock()
            self._resume = max(self._resume, now + seconds)
            if began >= self._slowed:
                self._limit = max(1.0, self._limit / 2)
                self._slowed = now
