"""How a step tells what it is doing, without printing. It imports nothing of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

Advance = Callable[[int], None]


def counted(chunks: Iterable[bytes], advance: Advance) -> Iterator[bytes]:
    """The same chunks, told to `advance` by their length."""
    for chunk in chunks:
        advance(len(chunk))
        yield chunk


class Progress:
    """Shows nothing. What shows progress overrides the methods; they are called from several threads."""

    @contextlib.contextmanager
    def task(self, step: str, name: str, total: int = 0) -> Iterator[Advance]:  # noqa: ARG002
        """One piece of work: `step` is a verb ("download", "layer", "push"), `total` bytes, 0 where it is not known.

        The block calls what it is given with each number of bytes done.
        """
        yield lambda _count: None

    def note(self, text: str) -> None:
        """Something worth a line, such as a lock that was found or a fall-back that was taken."""

    def warn(self, text: str) -> None:
        """What is likely wrong with the image, and to be heard by those, too, who want to hear of nothing else."""
        self.note(f"warning: {text}")
