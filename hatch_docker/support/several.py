"""Steps for several platforms: what went wrong for all of them is reported together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from hatch_docker.errors import (
    ArtifactError,
    BytecodeUnavailableError,
    CompileError,
    DependencyError,
    EngineError,
    HatchDockerError,
    ImageError,
    LinkageError,
    LockError,
    PackageError,
    SourceError,
    WheelError,
    join_hints,
)
from hatch_docker.support.progress import Progress

_T = TypeVar("_T")
_R = TypeVar("_R")

# What one platform may lack and another may have. The others, such as a host that does not answer, end all at once.
_OF_ONE = (
    ArtifactError,
    BytecodeUnavailableError,
    CompileError,
    DependencyError,
    EngineError,
    ImageError,
    LinkageError,
    LockError,
    PackageError,
    SourceError,
    WheelError,
)


class Step(Protocol):
    """One of several steps, each for all items."""

    def __call__(self, work: Callable[[_T, Progress], _R], items: Iterable[_T], /) -> list[_R]:
        """The results of `work` for all items, in their order."""
        ...


@contextmanager
def steps(names: Sequence[str], progress: Progress) -> Iterator[Step]:
    """Run one step after the other, each for all items, which messages call by `names`.

    If an item fails, the others are tried nevertheless, and the step ends with one error that has the problems of all.
    Facts and warnings are reported once; warnings, at the end, with the names of the items that have them unless all
    have. A single item has no name.
    """
    reported = _Reported(progress)

    def step(work: Callable[[_T, Progress], _R], items: Iterable[_T], /) -> list[_R]:
        results: list[_R] = []
        errors: dict[str, HatchDockerError] = {}
        for name, item in zip(names, items, strict=True):
            reported.name = name
            try:
                results.append(work(item, reported))
            except _OF_ONE as error:
                errors[name] = error
        if errors:
            raise _joined(errors, len(names))
        return results

    def only(work: Callable[[_T, Progress], _R], items: Iterable[_T], /) -> list[_R]:
        return [work(item, progress) for item in items]

    try:
        yield step if len(names) > 1 else only
    finally:
        reported.show_warnings(len(names))


def for_each(items: Mapping[str, _T], work: Callable[[_T, Progress], _R], progress: Progress) -> list[_R]:
    """The results of a single step for all items, which messages call by their keys; raises and reports as `steps`."""
    with steps(list(items), progress) as step:
        return step(work, items.values())


class _Reported(Progress):
    """Reports each fact once, and keeps warnings until all items are done. `name` is that of the current item."""

    def __init__(self, progress: Progress) -> None:
        self.task = progress.task  # type: ignore[method-assign]  # tasks are shown as they are
        self.name = ""
        self._progress = progress
        self._notes: set[str] = set()
        self._warnings: dict[str, list[str]] = {}

    def note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.add(text)
            self._progress.note(text)

    def warn(self, text: str) -> None:
        self._warnings.setdefault(text, []).append(self.name)

    def show_warnings(self, count: int) -> None:
        for text, names in self._warnings.items():
            concerned = list(dict.fromkeys(names))
            self._progress.warn(text if len(concerned) == count else f"{', '.join(concerned)}: {text}")


def _joined(errors: Mapping[str, HatchDockerError], count: int) -> HatchDockerError:
    """One error for all; if all have the same one, that. Its kind is theirs if they have one in common."""
    first, *others = errors.values()
    if all(str(each) == str(first) for each in others) and len(errors) == count:
        return first
    places = {each.place for each in errors.values()}
    common = places.pop() if len(places) == 1 else ""
    lines = [f"{len(errors)} of {count} platforms cannot be built:"]
    for name, error in errors.items():
        place = f"{error.place}: " if error.place and not common else ""
        lines.append(f"  {name}: {place}{error.message}".replace("\n", "\n  "))
    kind = type(first) if all(type(each) is type(first) for each in others) else HatchDockerError
    hints = dict.fromkeys(each.hint for each in errors.values())
    return kind("\n".join(lines), place=common, hint=join_hints(*hints))
