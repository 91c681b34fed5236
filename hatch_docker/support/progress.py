"""The interface by which steps report progress. It imports nothing of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

Advance = Callable[[int], None]


def counted(chunks: Iterable[bytes], advance: Advance) -> Iterator[bytes]:
    """The same chunks; `advance` is called with the length of each."""
    for chunk in chunks:
        advance(len(chunk))
        yield chunk


class Task:
    """A running task that is not shown. Subclasses override the methods, which are called from several threads.

    It is an `Advance`: steps that only count bytes need nothing else of it.
    """

    def __call__(self, count: int) -> None:
        """Report that `count` more bytes are done, or fewer, if they have to be done again."""

    def output(self, data: bytes) -> None:
        """Report output of the program that does the task, such as a compiler. Its last line may be shown."""


class Progress:
    """Reports nothing. Subclasses override the methods, which are called from several threads."""

    @contextlib.contextmanager
    def task(self, step: str, name: str, total: int = 0) -> Iterator[Task]:  # noqa: ARG002
        """A task of a step such as "download", "layer" or "push"; `total` in bytes, 0 if unknown."""
        yield Task()

    def note(self, text: str) -> None:
        """Report a fact in a line, such as the lock that is used."""

    def warn(self, text: str) -> None:
        """Report a likely problem with the image. It is shown even if notes are not."""
        self.note(f"warning: {text}")
