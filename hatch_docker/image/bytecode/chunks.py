"""Compile a chunk of sources by a process that reads and writes frames, whichever way starts it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from hatch_docker.errors import BytecodeUnavailableError, readable
from hatch_docker.image.bytecode.compiler import Code, Compiler, Source
from hatch_docker.image.bytecode.frames import Identity, answers, code_of, compilable, identity_of, request
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.threads import together

if TYPE_CHECKING:
    from hatch_docker.base.target import TargetPython

# How a module may end the interpreter: it overflows the stack, or is not compiled in time (ITIMER_PROF). A process that
# ends in another way was ended by somebody else.
_BY_MODULE = {
    128 + number
    for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGPROF")
    if (number := getattr(signal, name, 0))
}
# The statuses of Windows for a stack overflow and an access violation.
_BY_MODULE |= {0xC00000FD, 0xC0000005}
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that ended: its standard output, its exit status or 128 + its signal, the end of its messages."""

    output: bytes | bytearray
    status: int
    messages: str = ""


# Runs `main` in a new process, with this standard input. Raises BytecodeUnavailableError.
Talk = Callable[[bytes], Ended]


def identify(talk: Talk, python: TargetPython) -> Identity:
    """The Python that `talk` runs, tried once. Raises BytecodeUnavailableError if it is not exactly `python`."""
    ended = talk(request([Source("/hatch_docker.py", b"def hatch_docker():\n    return 'hatch-docker'\n")], 0))
    identity, codes = _read(ended)
    if difference := identity.difference(python):
        raise BytecodeUnavailableError(difference)
    if not codes or codes[0] is None:
        raise _failure(ended)
    return identity


def compiler_of(way: str, talk: Talk, identity: Identity, *, optimization: int, threads: int) -> Compiler:
    """The compiler that `talk` makes, for chunks of which `threads` are compiled at once."""

    def run(chunks: Sequence[Sequence[Source]]) -> list[list[Code | None]]:
        work = partial(_compile_chunk, talk=talk, identity=identity, optimization=optimization)
        return together(work, chunks, threads=threads)

    return Compiler(way=way, magic=identity.magic, optimization=optimization, run=run)


def _compile_chunk(
    sources: Sequence[Source], *, talk: Talk, identity: Identity, optimization: int
) -> list[Code | None]:
    """The codes of a chunk. A module that ends the interpreter has none; a new process goes on after it."""
    codes: list[Code | None] = [None] * len(sources)
    waiting = compilable(sources)
    while waiting:
        ended = talk(request([sources[number] for number in waiting], optimization))
        found, answered = _read(ended)
        if found != identity or len(answered) > len(waiting):
            raise BytecodeUnavailableError("it answered differently than before")
        for number, code in zip(waiting, answered, strict=False):
            codes[number] = code
        if len(answered) < len(waiting) and ended.status not in _BY_MODULE:
            raise _failure(ended)
        waiting = waiting[len(answered) + 1 :]
    return codes


def _read(ended: Ended) -> tuple[Identity, list[Code | None]]:
    """What a process answered. Raises BytecodeUnavailableError for an answer that `main` does not give."""
    first, *others = answers(ended.output) or [memoryview(b"")]
    try:
        if not first:
            raise _failure(ended)
        return identity_of(first), [code_of(each) for each in others]
    except ValueError:
        raise BytecodeUnavailableError("it answers, but not as Python would") from None


def _failure(ended: Ended) -> BytecodeUnavailableError:
    lines = readable(ended.messages).split("\n")
    said = next((line for line in reversed(lines) if line.strip()), "")[-_SHOWN:]
    how = (
        f"it ended by signal {ended.status - 128}"
        if 128 < ended.status < 256
        else f"it ended with status {ended.status}"
    )
    return BytecodeUnavailableError(f"{how}: {said}" if said else how)
