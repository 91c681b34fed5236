"""What ends a process from outside: it is handled like Ctrl-C, so that nothing unfinished is left behind."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# As names, since Windows has no SIGHUP.
_SIGNALS = ("SIGTERM", "SIGHUP")


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt once for a signal that ends processes; when it exits, the process dies of that signal.

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
    handled = [number for number in chosen if signal.getsignal(number) == signal.SIG_DFL]

    def die() -> None:
        # The parent process sees what ended this one, as without a handler.
        signal.signal(received[0], signal.SIG_DFL)
        os.kill(os.getpid(), received[0])

    for number in handled:
        signal.signal(number, interrupt)
    # It is called after other threads have ended, which clean up, and after what is registered later.
    atexit.register(die)
    try:
        yield
    finally:
        if not received:
            atexit.unregister(die)
            for number in handled:
                signal.signal(number, signal.SIG_DFL)
