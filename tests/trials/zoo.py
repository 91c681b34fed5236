"""What each animal of the zoos is tried with: a result or one of our errors, in bounded time and memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hatch_docker.errors import HatchDockerError

T = TypeVar("T")
Record = Callable[[str, object], None]

# Of processor time, and of memory. All inputs are small.
SECONDS, BYTES = 10, 300_000_000
# A message is read by people. Longer ones quote the input as a whole.
_LONGEST = 2000
# The animals that are read, by zoo: all others are refused.
_READ = {
    tuple(line.split("\t")) for line in (Path(__file__).parent / "zoo_read.txt").read_text(encoding="utf-8").split("\n")
}


def is_read(zoo: str, name: str) -> bool:
    """Whether an animal is read, and not refused."""
    return (zoo, name) in _READ


def visit(zoo: str, name: str, read: Callable[[], T], record: Record) -> T | None:
    """Read an animal; return the result, or None if it is refused, as it should be, with a message for people.

    `record` is pytest's `record_property`: time and memory are in its report (`--junitxml`).
    """
    tracemalloc.start()
    started, result, refusal = time.process_time(), None, None
    try:
        result = read()
    except HatchDockerError as error:
        refusal = error
    finally:
        seconds, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    record("seconds", seconds)
    record("bytes", peak)
    assert seconds < SECONDS
    assert peak < BYTES
    if refusal:
        _check(refusal)
    assert is_read(zoo, name) == (refusal is None), f"{zoo}\t{name}\t{refusal}"
    return result


def _check(error: HatchDockerError) -> None:
    text = str(error)
    assert error.message.strip()
    assert "Traceback" not in text
    assert len(text) < _LONGEST, text
    # Details and hints are indented.
    assert all(line.startswith("  ") for line in text.split("\n")[1:]), text
    assert text.replace("\n", "").isprintable(), text
