"""Requests that run at the same time, and for which nobody waits longer than a limit for all of them."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

_T = TypeVar("_T")
# How many requests run at once: far more than processors, since they only wait.
_MOST = 16
_PIECES = 8
# What a thread can wait at most, in seconds.
_FOREVER = threading.TIMEOUT_MAX / 2


class TookTooLongError(Exception):
    """The time to wait is used up."""


class Lanes:
    """Daemon threads, which end when there is nothing to do, or with the process if a host never answers. Thread-safe.

    All callers together wait at most `patience` seconds, not counting the time in which none waits.
    """

    def __init__(self, patience: float = _FOREVER) -> None:
        self._left = patience
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._lock = threading.Lock()
        self._threads = 0
        self._waiting = 0
        self._since = 0.0

    def start(self, work: Callable[[], _T]) -> Future[_T]:
        """Begin work as soon as a thread is free."""
        future: Future[_T] = Future()
        with self._lock:
            self._jobs.append((future, work))
            if self._threads < _MOST:
                self._threads += 1
                threading.Thread(target=self._run, daemon=True).start()
        return future

    def result(self, future: Future[_T]) -> _T:
        """What work returned, or raised. Raises TookTooLongError."""
        if future.done():
            return future.result()
        with self._lock:
            now = time.monotonic()
            if not self._waiting:
                self._since = now
            self._waiting += 1
            left = self._left - (now - self._since)
        try:
            return future.result(max(0.0, left))
        except FutureTimeoutError:
            raise TookTooLongError from None
        finally:
            with self._lock:
                self._waiting -= 1
                if not self._waiting:
                    self._left -= time.monotonic() - self._since

    def _run(self) -> None:
        while job := self._next():
            future, work = job
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._lock:
            if self._jobs:
                return self._jobs.popleft()
            self._threads -= 1
            return None


def hurried(chunks: Iterator[bytes], seconds: float) -> Iterator[bytes]:
    """The same chunks, which a thread reads ahead. Raises TookTooLongError if one takes longer than so many seconds."""
    pieces: queue.Queue[bytes | BaseException | None] = queue.Queue(_PIECES)
    gone = threading.Event()

    def put(piece: bytes | BaseException | None) -> bool:
        while not gone.is_set():
            try:
                pieces.put(piece, timeout=1)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for chunk in chunks:
                if not put(chunk):
                    return
            put(None)
        except BaseException as error:
            put(error)

    threading.Thread(target=read, daemon=True).start()
    try:
        while (piece := _next(pieces, seconds)) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        gone.set()


def _next(pieces: queue.Queue[bytes | BaseException | None], seconds: float) -> bytes | BaseException | None:
    try:
        return pieces.get(timeout=seconds)
    except queue.Empty:
        raise TookTooLongError from None
