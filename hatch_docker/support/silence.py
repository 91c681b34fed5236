"""Since when hosts have been silent: whoever waits for one gives up after some minutes, however often it is asked.

Whoever sends next to nothing is silent, too. Hosts that stand in for each other share the time of one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from hatch_docker.support.dataclasses import dataclass

# In seconds. A connection on which too little passes in either direction ends after the first; repeating a request that
# brings nothing ends after the second.
OF_CONNECTION = 60.0
OF_HOST = 180.0
# In bytes: less in the time of a connection is silence. That is a packet or two, so that it passes on any link.
LEAST = 1 << 10
# The part of a connection's time that a host has for an answer when all other time is over.
_LAST_CHANCE = 0.25


def now() -> float:
    """The time in seconds, which only ever increases."""
    return time.monotonic()


@dataclass(frozen=True, slots=True)
class Wait:
    """The wait for an answer, `since` when it began, or earlier ones that were in vain, and for `most` seconds."""

    since: float
    most: float

    @property
    def left(self) -> float:
        """How many seconds are left; 0 or less if it is over."""
        return self.most - (now() - self.since)

    @property
    def next(self) -> float:
        """How many seconds the next attempt may take: as usual, or what is left, but never next to nothing."""
        return min(OF_CONNECTION, max(self.left, min(self.most, OF_CONNECTION * _LAST_CHANCE)))


class Meter:
    """What passes on a connection, in one direction. `passed` raises TimeoutError if that is too little.

    Only the time of waiting counts, which may be `most` seconds for each `LEAST` bytes.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._seconds = 0.0
        self._bytes = 0

    @property
    def left(self) -> float:
        """How many seconds the next bytes may take, which are more than none."""
        return self._most - self._seconds

    def passed(self, count: int, seconds: float) -> None:
        """Note that so many bytes passed after so many seconds."""
        self._bytes += count
        self._seconds += seconds
        if self._bytes >= LEAST:
            self._seconds, self._bytes = 0.0, 0
        elif self._seconds >= self._most:
            raise TimeoutError("timed out")


class Silences:
    """The hosts that brought nothing since they were asked. Thread-safe: threads ask the same host."""

    def __init__(self) -> None:
        self._heard: dict[str, float] = {}
        self._since: dict[str, float] = {}
        self._lost: dict[str, float] = {}
        self._others: dict[str, frozenset[str]] = {}

    def share(self, hosts: Iterable[str]) -> None:
        """Let hosts, of which one is asked after the other, share the time that one has."""
        every = frozenset(hosts)
        for host in every:
            self._others[host] = (self._others.get(host, frozenset()) | every) - {host}

    def heard(self, host: str) -> None:
        """Note that a host has just brought something: a whole answer, or a piece of one."""
        self._heard[host] = now()
        self._since.pop(host, None)

    def missed(self, host: str, began: float) -> None:
        """Note that a host has brought nothing to whoever began to wait then; others may have had more meanwhile."""
        self._since.setdefault(host, max(began, self._heard.get(host, began)))

    def give_up(self, host: str) -> None:
        """Note that a host is not asked again, and how much of the time is gone by that."""
        self._lost[host] = now() - self._since.get(host, now())

    def wait(self, host: str, began: float, most: float = math.inf) -> Wait:
        """The wait of a request to a host that begins at `began`: earlier ones may have failed."""
        return Wait(min(began, self._since.get(host, began)), min(most, self._share(host)))

    def is_over(self, host: str, most: float) -> bool:
        """Whether a host has been silent for as long as it may be."""
        return host in self._since and self.wait(host, self._since[host], most).left <= 0

    def _share(self, host: str) -> float:
        """For how many seconds a host may be silent: each that may be asked after it has a connection's time."""
        others = self._others.get(host, frozenset())
        left = OF_HOST - sum(self._lost.get(each, 0.0) for each in others)
        after = len(others - self._lost.keys())
        return max(left - after * OF_CONNECTION, left / (after + 1), OF_CONNECTION * _LAST_CHANCE)
