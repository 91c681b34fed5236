"""A compiler of Python modules for the Python of a base image, as values.

`open_compiler` (image.bytecode.ways) makes one. It only compiles text: nothing of the modules runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

_HASH_BASED, _CHECK_SOURCE = 0b1, 0b10
_INTEGER = regex(r"[ \t\n\r\f\v]*([+-]?[0-9]+)")
_MAX_INT = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a module. `path` is its absolute path in the image, which its code names in tracebacks."""

    path: str
    text: bytes


@dataclass(frozen=True, slots=True)
class Code:
    """A compiled module: the hash of its source as importlib makes it, and its marshalled code object."""

    source_hash: bytes
    marshalled: bytes | memoryview


# Compiles each chunk in a process of its own, in the order given. None stands for a source that does not compile.
Run = Callable[[Sequence[Sequence[Source]]], list[list["Code | None"]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """A way to compile that is open.

    `way` is its display name, `magic` the four bytes that its .pyc files start with, `optimization` the level of
    PYTHONOPTIMIZE that it compiles for.
    """

    way: str
    magic: bytes
    optimization: int
    run: Run

    def compile(self, chunks: Sequence[Sequence[Source]], *, checked: bool) -> list[list[bytes | None]]:
        """The .pyc files (PEP 552) of the sources in each chunk; None for a source that does not compile.

        Each chunk is compiled in a process of its own, in the order given. With `checked`, Python compares a file with
        its source at each import. Raises BytecodeUnavailableError if the interpreter fails.
        """
        flags = _HASH_BASED | (_CHECK_SOURCE if checked else 0)
        head = self.magic + flags.to_bytes(4, "little")
        found, made = self.run(chunks)[::-1], []
        while found:
            # The output of a process is released as soon as it was copied.
            made.append([b"".join((head, code.source_hash, code.marshalled)) if code else None for code in found.pop()])
        return made


def optimization_of(environ: Mapping[str, str]) -> int:
    """The level of PYTHONOPTIMIZE in an image's environment, as CPython reads it: any other text means 1."""
    text = environ.get("PYTHONOPTIMIZE", "")
    if not text:
        return 0
    match = _INTEGER.fullmatch(text)
    level = int(match[1]) if match and len(text) < 100 else -1
    return level if 0 <= level <= _MAX_INT else 1
