"""A stamp: the inputs of a build, its questions and answers, and what it made and said.

A build whose inputs and answers are the same as those of its stamp would make the same, so it is not run: `replay` says
what it said. Whatever is not certain is a change.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from hatch_docker.errors import HatchDockerError
from hatch_docker.stamps.files import States, TooLargeError, are_same, files_below, is_newer, is_recent, states_of
from hatch_docker.stamps.host import code_digest, environment_digest
from hatch_docker.stamps.questions import Asked, still_answered
from hatch_docker.support.atomic import replace_text
from hatch_docker.support.cache import Cache
from hatch_docker.support.directories import usual_cache

# Part of every key: raise it if stamps change.
_FORMAT = 1
_KIND = "stamps"
# File systems take the time of a file from a clock that ticks up to a hundred times in a second.
_CLOCK_NANOSECONDS = 20 * 10**6


class Console(Protocol):
    """Where a stamp is replayed; that of a frontend (`support.terminal`)."""

    def display_info(self, message: str = "") -> None:
        """Print a line to standard error, unless quiet."""

    def display_warning(self, message: str = "") -> None:
        """Print a warning to standard error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The files that a build depends on: the sources below `directories`, all files below `folders`, and those at
    `paths`, which need not exist.

    What builds write is not among them: the usual files in the directory `output`, and the paths `besides`. All paths
    are absolute.
    """

    directories: Sequence[str] = ()
    folders: Sequence[str] = ()
    paths: Sequence[str] = ()
    besides: Sequence[str] = ()
    output: str = ""

    def states(self, known: States, taken: int) -> dict[str, list[int | str]]:
        """Their states; see `states_of`. Raises OSError, TooLargeError."""
        return states_of([*self._files(), *self.paths], known, taken)

    def _files(self) -> Iterator[str]:
        for directory in self.directories:
            yield from files_below(directory, self.output, self.besides)
        for folder in self.folders:
            yield from files_below(folder, self.output, self.besides, everything=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a build made and said.

    `files` are those that it wrote, which must still be as they are, and `texts` small ones by path, which are written
    again. `messages` are pairs of a kind, "info" or "warning", and a line; `output` is for standard output.
    """

    files: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    messages: Sequence[tuple[str, str]] = ()
    output: str = ""


class Stamp:
    """The stamp of one command in one directory, in the cache at `folder`; `words` are what the command asks for.

    The object is made before the command reads any file, or `late` nanoseconds after that.
    """

    def __init__(self, folder: Path, words: Sequence[object], environ: Mapping[str, str], *, late: int = 0) -> None:
        self.folder = folder
        self._cache, self._environ = Cache(folder), environ
        self._key = json.dumps([_FORMAT, os.getcwd(), *words], sort_keys=True, default=str)
        self._document = self._cache.get(_KIND, self._key) or {}
        self._began = time.time_ns() - late
        self._machine = [code_digest(), environment_digest(environ)]
        self._known: tuple[States, int] = (self._document.get("states", {}), self._document.get("taken", 0))
        self._states: States | None = None

    def replay(self, console: Console) -> str | None:
        """Say what the build said, if nothing changed since; returns its standard output, None if it has to be run."""
        try:
            document = self._document
            if (
                self._environ.get("HATCH_DOCKER_VERIFY")
                or not document
                or time.time_ns() >= document["until"]
                or document["machine"] != self._machine
            ):
                return None
            states = Inputs(**document["inputs"]).states(*self._known)
            self._known = states, self._began
            if not are_same(document["states"], states) or not _are_unchanged(document["files"]):
                return None
            if not still_answered(document["asked"], self._environ):
                return None
            for path, text in document["texts"].items():
                _restore(path, text)
            self._refresh(states)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, TooLargeError, HatchDockerError):
            return None
        for kind, line in document["messages"]:
            (console.display_warning if kind == "warning" else console.display_info)(line)
        return str(document["output"])

    def begin(self, inputs: Inputs) -> None:
        """Take the states of inputs, so that changes from now on are noticed; some may have been read already."""
        with contextlib.suppress(OSError, TooLargeError):
            states = inputs.states(*self._known)
            # What changed meanwhile may have been read before.
            if not any(is_newer(state, self._began - _CLOCK_NANOSECONDS) for state in states.values()):
                self._states = states

    def leave(self, inputs: Inputs, asked: Asked, result: Result, *, until: int) -> None:
        """Store the stamp of a build that ended, valid `until` a time in nanoseconds since the epoch.

        `inputs` has those of `begin`, and others. Nothing is stored if one of the others may have changed since the
        build began.
        """
        if self._states is None:
            return
        try:
            now = inputs.states(self._states, self._began)
            late = [path for path in now if path not in self._states and is_recent(now[path], self._began)]
            files = {path: _mark(path) for path in result.files}
            states = {**now, **self._states}
        except (OSError, TooLargeError):
            return
        if late:
            return
        document = {
            "inputs": asdict(inputs),
            "taken": self._began,
            "states": {path: state for path, state in states.items() if path not in inputs.besides},
            "machine": self._machine,
            "asked": asked.to_json(),
            "until": until,
            "files": files,
            "texts": dict(result.texts),
            "messages": [list(each) for each in result.messages],
            "output": result.output,
        }
        self._cache.put(_KIND, self._key, document)

    def _refresh(self, states: States) -> None:
        """Store new states of the same files, so that they are not read again."""
        earlier, taken = self._document["states"], self._document["taken"]
        if states != earlier or any(is_recent(state, taken) for state in states.values()):
            self._cache.put(_KIND, self._key, {**self._document, "states": dict(states), "taken": self._began})


def stamp_folder(environ: Mapping[str, str]) -> Path:
    """The directory of the cache that has stamps."""
    return Path(environ.get("HATCH_DOCKER_CACHE_DIR") or usual_cache())


def _are_unchanged(files: Mapping[str, Sequence[int]]) -> bool:
    return all(_mark(path) == mark for path, mark in files.items())


def _mark(path: str) -> list[int]:
    """What changes if a file is written. Raises OSError."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _restore(path: str, text: str) -> None:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            if file.read() == text:
                return
    except (OSError, ValueError):
        pass
    replace_text(Path(path), text)
