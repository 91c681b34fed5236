"""The host's side of the protocol of `main`: what its input is, and what its output means.

The output comes from a program of the base image, so it is not trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from hatch_docker.errors import readable
from hatch_docker.image.bytecode.compiler import Code, Source
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

if TYPE_CHECKING:
    from hatch_docker.base.target import TargetPython

# No real module comes near it: the largest have 2 MiB. A larger one stays a source, on every machine.
LARGEST_SOURCE = 8 << 20
# Of the output of a process.
LARGEST_OUTPUT = 1 << 30
_HASH = 8
_CODE = (b"c", b"\xe3")
# Two bytes that count the versions of the format, and a line end that no text transfer keeps.
_MAGIC = regex(r"[0-9a-f]{4}0d0a")


@dataclass(frozen=True, slots=True)
class Identity:
    """The Python that answers."""

    version: str
    implementation: str
    free_threaded: bool
    magic: bytes

    @property
    def answer(self) -> bytes:
        """The answer that `identity_of` reads."""
        about = (self.version, self.implementation, str(self.free_threaded), self.magic.hex())
        return "\n".join(about).encode()

    def difference(self, python: TargetPython) -> str:
        """How it differs from `python`, so that its bytecode may differ; empty if it does not."""
        if (self.version, self.implementation, self.free_threaded) == (python.version, "cpython", python.free_threaded):
            return ""
        threads = " free-threaded" if self.free_threaded else ""
        return f"it is {self.implementation} {self.version}{threads}"


def request(sources: Sequence[Source], optimization: int) -> bytes:
    """The input for `main`: a chunk, for an interpreter that was just started.

    One that goes on needs no first frame, the level of optimization.
    """
    parts = [str(min(optimization, 2)).encode(), str(len(sources)).encode()]
    for source in sources:
        parts += [source.path.encode("utf-8", "surrogateescape"), source.text]
    return joined(parts)


def joined(parts: Iterable[bytes]) -> bytes:
    """Frames: each part after its length."""
    return b"".join(each for part in parts for each in (len(part).to_bytes(4, "little"), part))


def answers(output: bytes | bytearray) -> list[memoryview]:
    """The complete frames of an output, which are not copied."""
    view, found, start = memoryview(output), [], 0
    while end := end_of(output, start):
        found.append(view[start + 4 : end])
        start = end
    return found


def end_of(data: bytes | bytearray, start: int) -> int:
    """Where the frame that begins at `start` ends; 0 if it is not complete."""
    if len(data) - start < 4:
        return 0
    end = start + 4 + int.from_bytes(data[start : start + 4], "little")
    return end if end <= len(data) else 0


def identity_of(answer: bytes | memoryview) -> Identity:
    """The Python that sent the first answer. Raises ValueError for one that `main` does not give."""
    version, implementation, free_threaded, magic = bytes(answer[:200]).decode("ascii").split("\n")
    if not _MAGIC.fullmatch(magic):
        raise ValueError("it does not say which Python it is")
    return Identity(
        readable(version).rstrip("+"), readable(implementation), free_threaded == "True", bytes.fromhex(magic)
    )


def code_of(answer: bytes | memoryview) -> Code | None:
    """The code in an answer; None if the source does not compile. Raises ValueError if it is none."""
    if not answer:
        return None
    if answer[_HASH : _HASH + 1] not in _CODE:
        raise ValueError("its answer is not bytecode")
    return Code(bytes(answer[:_HASH]), answer[_HASH:])


def compilable(sources: Sequence[Source]) -> list[int]:
    """The numbers of the sources that are not too large."""
    return [number for number, source in enumerate(sources) if len(source.text) <= LARGEST_SOURCE]
