"""Notes of what a process begins elsewhere, such as uploads: a later process finds those that did not end."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from hatch_docker.support.atomic import STALE_SECONDS
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.flocks import try_lock

# In bytes. A note is some text of a few hundred.
_LONGEST = 1 << 16


class Unfinished:
    """Notes in a directory. There are none without one, or where it cannot be written."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def noted(self, text: str) -> Iterator[None]:
        """Keep a note during the block, and after it if it raises an exception, or if this process is killed."""
        with contextlib.ExitStack() as stack:
            path = _write(self._folder, text, stack) if self._folder else None
            yield
        if path:
            with contextlib.suppress(OSError):
                path.unlink()

    def left(self) -> Iterator[Note]:
        """The notes that nobody keeps any more."""
        with contextlib.suppress(OSError):
            for path in sorted(self._folder.iterdir() if self._folder else ()):
                with contextlib.suppress(OSError):
                    if text := _read(path):
                        yield Note(text=text, path=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note that was left, in its file."""

    text: str
    path: Path

    def remove(self) -> None:
        """Remove it: it was dealt with."""
        with contextlib.suppress(OSError):
            self.path.unlink()


NOWHERE = Unfinished(None)


def _write(folder: Path, text: str, stack: contextlib.ExitStack) -> Path | None:
    """Write a note, which is locked until the end of `stack`; None if that fails."""
    path = folder / os.urandom(16).hex()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        stack.callback(os.close, descriptor)
        try_lock(descriptor)
        os.write(descriptor, text.encode())
    except OSError:
        return None
    return path


def _read(path: Path) -> str:
    """The text of a note; empty if a process keeps it, or is about to write it."""
    with path.open("rb") as file:
        free = try_lock(file.fileno())
        if free is None:
            free = time.time() - path.stat().st_mtime > STALE_SECONDS
        return file.read(_LONGEST).decode("utf-8", "replace") if free else ""
