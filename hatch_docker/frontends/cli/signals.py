"""What ends a process from outside: it is handled like Ctrl-C, so that nothing unfinished is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# As names, since Windows has no SIGHUP.
_SIGNALS = ("SIGTERM", "SIGHUP")


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt once for a signal that ends processes; at the end, the process dies of that signal.

    Signals that the parent process ignores, as nohup does, stay ignored.
    """
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    # Only the main thread may set handlers.
    chosen = numbers if threading.current_thread() is threading.main_thread() else []
    before = {number: signal.getsignal(number) for number in chosen}
    handled = {number: handler for number, handler in before.items() if handler == signal.SIG_DFL}
    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
        if received:
            # The parent process sees what ended this one, as without a handler.
            os.kill(os.getpid(), received[0])
