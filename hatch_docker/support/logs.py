"""Logs of builds and containers: a file of limited size, the last lines for messages, the last one for progress."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hatch_docker.errors import readable
from hatch_docker.support.atomic import writing
from hatch_docker.support.flocks import try_lock
from hatch_docker.support.patterns import regex

# In bytes. A build that prints without end must not fill the disk.
_LARGEST = 64 << 20
_TAIL = 1 << 18
# Of builds that write a log of one name.
_MOST_AT_ONCE = 100
_USER = regex(rb"(?<=//)[^/@\s]*@")
# Colours, cursor movements and titles; the last one may be incomplete.
_ESCAPES = regex(rb"\x1b(?:\[[0-?]*[ -/]*(?:[@-~]|$)|\][^\x07\x1b]*(?:\x07|\x1b\\|$)|[ -/]*(?:[0-~]|$))")
# Letters of other alphabets are not ASCII.
_WORDS = regex(rb"[0-9A-Za-z\x80-\xff]")


def _nothing(_data: bytes) -> None:
    pass


class Log:
    """A log that is being written to `path`; `follow` gets all output, too."""

    def __init__(self, path: Path, file: BinaryIO, follow: Callable[[bytes], None] = _nothing) -> None:
        self.path = path
        self._file = file
        self._follow = follow
        self._room = _LARGEST
        self._tail = bytearray()

    def write(self, data: bytes) -> None:
        """Append output. Beyond the largest size it is dropped. Raises OutputError."""
        self._follow(data)
        self._tail += data
        del self._tail[:-_TAIL]
        if self._room > 0:
            rest = data[: self._room]
            self._room -= len(data)
            with writing(self.path):
                self._file.write(rest if self._room > 0 else rest + b"\n(the log is cut off here)\n")

    def end(self) -> str:
        """The last lines as text, without logins in addresses."""
        return _USER.sub(b"", bytes(self._tail)).decode("utf-8", errors="replace")


@contextmanager
def logging_to(path: Path, follow: Callable[[bytes], None] = _nothing) -> Iterator[Log]:
    """A new, unbuffered log at `path`, so that it can be followed; `follow` gets all output. Raises OutputError.

    While another build writes that one, the log has another name: `path` with a number.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen = next(each for each in _names(path) if not _is_written(each))
        # An existing file may be a link, or belong to another user.
        with suppress(FileNotFoundError):
            chosen.unlink()
        file = chosen.open("xb", buffering=0)
        try_lock(file.fileno())
    with file:
        yield Log(chosen, file, follow)


def _names(path: Path) -> Iterator[Path]:
    yield path
    for number in range(2, _MOST_AT_ONCE):
        yield path.with_name(f"{path.stem}.{number}{path.suffix}")
    yield path


def _is_written(path: Path) -> bool:
    """Whether a build that goes on writes a log."""
    try:
        if path.is_symlink():
            return False
        with path.open("r+b") as file:
            free = try_lock(file.fileno())
        if free is None and os.name == "nt":
            # Which does not remove open files.
            path.unlink()
    except PermissionError:
        return os.name == "nt"
    except OSError:
        return False
    return free is False


def last_line(output: bytes) -> str:
    """The last line of a program's output that has words, as a terminal shows it; "" if there is none.

    That is what follows the last carriage return, without colours, and without logins in addresses. Lines of carets
    and frames have no words. Each gap becomes one space.
    """
    text = _USER.sub(b"", _ESCAPES.sub(b"", output))
    line = next(filter(_WORDS.search, reversed(re.split(rb"[\r\n]+", text))), b"")
    # The end may be within a character.
    return readable(" ".join(line.decode("utf-8", errors="ignore").split()))
