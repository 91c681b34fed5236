"""A stamp: the inputs of a build, its questions and answers, and what it made and said.

A build whose inputs and answers are the same as those of its stamp would make the same, so it is not run: `replay` says
what it said. Whatever is not certain is a change.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time

from hatch_docker.errors import HatchDockerError
from hatch_docker.stamps.files import TooLargeError, are_same, edited, is_newer, is_recent, paths_of, states_of
from hatch_docker.stamps.host import cache_folder, code_digest, environment_digest
from hatch_docker.stamps.questions import still_answered
from hatch_docker.support.documents import decoded, document_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Protocol

    from hatch_docker.stamps.files import States
    from hatch_docker.stamps.values import Asked, Inputs, Result

    class Console(Protocol):
        """Where a stamp is replayed; that of a frontend (`support.terminal`)."""

        def display_info(self, message: str = "") -> None:
            """Print a line to standard error, unless quiet."""

        def display_warning(self, message: str = "") -> None:
            """Print a warning to standard error."""


# Part of every key: raise it if stamps change.
_FORMAT = 3
_KIND = "stamps"
# What of the cache a build used, under the key of its stamp.
_ENTRIES = "stamp-entries"
# File systems take the time of a file from a clock that ticks up to a hundred times in a second.
_CLOCK_NANOSECONDS = 20 * 10**6
_DAY_NANOSECONDS = 24 * 3600 * 10**9


class Stamp:
    """The stamp of one command in one directory, in the cache at `folder`; `words` are what the command asks for.

    The object is made before the command reads any file, or `late` nanoseconds after that.
    """

    def __init__(self, folder: str, words: Sequence[object], environ: Mapping[str, str], *, late: int = 0) -> None:
        self.folder = folder
        self._environ = environ
        # Documents have their key: a word may contain a login.
        given = json.dumps(words, sort_keys=True, default=str).encode()
        self._key = json.dumps([_FORMAT, os.getcwd(), hashlib.sha256(given).hexdigest()])
        self._document = self._stored(_KIND) or {}
        self._began = time.time_ns() - late
        self._machine = [code_digest(), environment_digest(environ)]
        self._known: tuple[States, int] = (self._document.get("states", {}), self._document.get("taken", 0))
        self._states: States | None = None
        # What changed, if nothing else but contents did.
        self._edited: list[str] = []

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
            states = states_of(paths_of(document["inputs"]), *self._known)
            self._known = states, self._began
            self._edited = edited(document["states"], states)
            if not are_same(document["states"], states) or not _are_unchanged(document["files"]):
                return None
            if not still_answered(document["asked"], self._environ):
                return None
            for path, text in document["texts"].items():
                _restore(path, text)
            self._refresh(states)
            self._record_use()
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

    def compares(self, paths: Iterable[str]) -> bool:
        """Whether files are among those whose states `begin` took."""
        return self._states is not None and self._states.keys() >= {*paths}

    @property
    def edits(self) -> dict[str, Any] | None:
        """What is recorded for edits, if since the build only contents of files changed, as `replay` saw; else None."""
        recorded: dict[str, Any] = self._document.get("edits") or {}
        return recorded if self._edited and recorded else None

    @property
    def changes(self) -> dict[str, tuple[str, str]]:
        """The files whose contents changed, each with the SHA-256 of the earlier and of the new one."""
        earlier, now = self._document["states"], self._known[0]
        return {path: (str(earlier[path][5]), str(now[path][5])) for path in self._edited}

    @property
    def document(self) -> Mapping[str, Any]:
        """The stamp as it is stored."""
        return self._document

    @property
    def entries(self) -> list[str]:
        """What of the cache the build used, as `values.Result` has it."""
        return list((self._stored(_ENTRIES) or {}).get("entries") or ())

    def renew(self, asked: Asked, result: Result, edits: Mapping[str, Any]) -> None:
        """Store what was made after an edit, as `leave` does; `edits` are recorded for the next one."""
        with contextlib.suppress(OSError, HatchDockerError):
            states, taken = self._known
            found = {"states": dict(states), "taken": taken, "asked": asked.to_json(), "edits": dict(edits)}
            document = {**self._document, **found, **_document_of(result)}
            self._store({_KIND: document, _ENTRIES: {"entries": list(result.entries)}})

    def leave(
        self, inputs: Inputs, asked: Asked, result: Result, *, until: int, edits: Mapping[str, Any] | None = None
    ) -> None:
        """Store the stamp of a build that ended, valid `until` a time in nanoseconds since the epoch.

        `inputs` has those of `begin`, and others. Nothing is stored if one of the others may have changed since the
        build began. `edits` is what `edits` gives later.
        """
        if self._states is None:
            return
        try:
            now = inputs.states(self._states, self._began)
            late = [path for path in now if path not in self._states and is_recent(now[path], self._began)]
            made = _document_of(result)
            states = {**now, **self._states}
        except (OSError, TooLargeError):
            return
        if late:
            return
        document = {
            "inputs": inputs.to_json(),
            "taken": self._began,
            "states": {path: state for path, state in states.items() if path not in inputs.besides},
            "machine": self._machine,
            "asked": asked.to_json(),
            "until": until,
            "edits": edits or {},
            **made,
        }
        self._store({_KIND: document, _ENTRIES: {"entries": list(result.entries)}})

    def _refresh(self, states: States) -> None:
        """Store new states of the same files, so that they are not read again."""
        earlier, taken = self._document["states"], self._document["taken"]
        if states != earlier or any(is_recent(state, taken) for state in states.values()):
            self._store({_KIND: {**self._document, "states": dict(states), "taken": self._began}})

    def _record_use(self) -> None:
        """Record once a day that the cache's entries are used from which the image would be made again."""
        with contextlib.suppress(OSError):
            if time.time_ns() - os.stat(document_path(self.folder, _ENTRIES, self._key)).st_mtime_ns < _DAY_NANOSECONDS:
                return
        used = [document_path("", kind, self._key) for kind in (_KIND, _ENTRIES)]
        for entry in [*used, *(self._stored(_ENTRIES) or {"entries": ()})["entries"]]:
            with contextlib.suppress(OSError):
                os.utime(os.path.join(self.folder, entry))

    def _stored(self, kind: str) -> dict[str, Any] | None:
        try:
            with open(document_path(self.folder, kind, self._key), "rb") as file:
                return decoded(file.read(), self._key)
        except OSError:
            return None

    def _store(self, documents: Mapping[str, dict[str, Any]]) -> None:
        from pathlib import Path

        from hatch_docker.support.cache import Cache

        cache = Cache(Path(self.folder))
        for kind, document in documents.items():
            cache.put(kind, self._key, document)


def _document_of(result: Result) -> dict[str, Any]:
    """What a stamp has of a result. Raises OSError."""
    return {
        "files": {path: _mark(path) for path in result.files},
        "texts": dict(result.texts),
        "messages": [list(each) for each in result.messages],
        "output": result.output,
    }


def stamp_folder(environ: Mapping[str, str]) -> str:
    """The directory of the cache that has stamps."""
    return environ.get("HATCH_DOCKER_CACHE_DIR") or cache_folder(environ)


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
    from pathlib import Path

    from hatch_docker.support.atomic import replace_text

    replace_text(Path(path), text)
