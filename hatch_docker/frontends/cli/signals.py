"""What ends a process from outside: it is handled like Ctrl-C, so that nothing unfinished is left behind."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

# As names, since Windows has no SIGHUP.
_SIGNALS = ("SIGTERM", "SIGHUP")
# A terminal and the program that started us may both pass on one Ctrl-C. A later one ends what cleans up.
_SAME_SECONDS = 1.0
_SOON_SECONDS = 0.01


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt once for Ctrl-C, or a signal that ends processes, of which the process dies at its exit.

    Signals that the parent process ignores, as nohup does, stay ignored.
    """
    signals = _Signals()
    # Only the main thread may set handlers.
    before = _handlers() if threading.current_thread() is threading.main_thread() else {}
    hook, sys.unraisablehook = sys.unraisablehook, signals.lost
    for number in before:
        signal.signal(number, signals.interrupt)
    # It is called after other threads have ended, which clean up, and after what is registered later.
    atexit.register(signals.die)
    try:
        yield
    finally:
        if not signals.deadly:
            atexit.unregister(signals.die)
        if not signals.first:
            sys.unraisablehook = hook
            for number, handler in before.items():
                signal.signal(number, handler)


class _Signals:
    """The signals that were received: the time of the first, and its number if the process has to die of it."""

    def __init__(self) -> None:
        self.first = 0.0
        self.deadly: int | None = None

    def interrupt(self, number: int, _frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt for the first signal, and end the process for one that is later."""
        if not self.first:
            self.first = time.monotonic()
            self.deadly = None if number == signal.SIGINT else number
            raise KeyboardInterrupt
        if number == signal.SIGINT and time.monotonic() - self.first > _SAME_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def lost(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Interrupt again if Python cannot raise what `interrupt` raised, as in a destructor."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
            return
        number = self.deadly or signal.SIGINT
        self.first = 0.0
        # Once this function has ended. (On Windows, os.kill ends a process.)
        send = signal.raise_signal if os.name == "nt" else functools.partial(os.kill, os.getpid())
        threading.Timer(_SOON_SECONDS, send, [number]).start()

    def die(self) -> None:
        """Die of the signal: the parent process sees what ended this one, as without a handler."""
        if self.deadly:
            signal.signal(self.deadly, signal.SIG_DFL)
            os.kill(os.getpid(), self.deadly)


def _handlers() -> dict[int, Any]:
    """The signals that end this process, and their handlers; without those that are ignored or handled."""
    names = {"SIGINT": (signal.SIG_DFL, signal.default_int_handler), **dict.fromkeys(_SIGNALS, (signal.SIG_DFL,))}
    numbers = {getattr(signal, name): handlers for name, handlers in names.items() if hasattr(signal, name)}
    found = {number: signal.getsignal(number) for number in numbers}
    return {number: handler for number, handler in found.items() if handler in numbers[number]}
