"""A step for several platforms: what went wrong for all of them is reported together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from hatch_docker.errors import (
    ArtifactError,
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


def for_each(items: Mapping[str, _T], work: Callable[[_T, Progress], _R], progress: Progress) -> list[_R]:
    """The results of `work` for all items, in their order; messages call an item by its key.

    Facts and warnings are reported once, warnings that not all items have with the names of those that have them. If
    some fail, the others are tried nevertheless, and one error has the problems of all. A single item has no name.
    """
    if len(items) == 1:
        return [work(item, progress) for item in items.values()]
    results: list[_R] = []
    errors: dict[str, HatchDockerError] = {}
    reported = _Reported(progress)
    for name, item in items.items():
        reported.name = name
        try:
            results.append(work(item, reported))
        except _OF_ONE as error:
            errors[name] = error
    reported.show_warnings(len(items))
    if errors:
        raise _joined(errors, len(items))
    return results


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
