"""Since when hosts have been silent: whoever waits for one gives up after some minutes, however often it is asked."""

from __future__ import annotations

import time

# In seconds. A connection on which no byte passes in either direction ends after the first; repeating a request that
# gets no byte ends after the second.
OF_CONNECTION = 60.0
OF_HOST = 180.0


def now() -> float:
    """The time in seconds, which only ever increases."""
    return time.monotonic()


class Silences:
    """The hosts that sent nothing since they were asked. Thread-safe: threads ask the same host."""

    def __init__(self) -> None:
        self._heard: dict[str, float] = {}
        self._since: dict[str, float] = {}

    def heard(self, host: str) -> None:
        """Note that a host has just sent something."""
        self._heard[host] = now()
        self._since.pop(host, None)

    def missed(self, host: str, began: float) -> None:
        """Note that a host has sent nothing to whoever began to wait then; others may have heard of it meanwhile."""
        self._since.setdefault(host, max(began, self._heard.get(host, began)))

    def since(self, host: str, began: float) -> float:
        """Since when a host has been silent for a request that begins at `began`: earlier ones may have failed."""
        return min(began, self._since.get(host, began))

    def is_over(self, host: str, most: float) -> bool:
        """Whether a host has been silent for `most` seconds."""
        return host in self._since and now() - self._since[host] >= most
