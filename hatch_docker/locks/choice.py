"""The artifacts that a lock's text names for a target, cached.

Only what follows from the text and the key is cached. What the project says is read in each run, and compared with what
the reader recorded of the lock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import packaging

from hatch_docker.index.artifact import Artifact, SourceTree
from hatch_docker.locks.formats import LockFormat
from hatch_docker.locks.model import InstallRequest, Record, read_text
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import asdict, dataclass
from hatch_docker.support.redaction import redact_text
from hatch_docker.support.streams import digest_of

_KIND = "choices"
# Raise it if a reader records, or `select` chooses, anything else for the same key.
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The artifacts that were chosen from a lock, and what its reader recorded."""

    artifacts: tuple[Artifact, ...]
    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedChoice:
    """The place in the cache of what is chosen from the lock `file`. Without a cache, nothing is found or kept.

    The key has the lock's text and all that is read and selected for. `is_pure` is that of the lock's format.
    """

    file: Path
    text: str
    key: str
    is_pure: Callable[[Record], bool]
    cache: Cache | None

    def find(self) -> Choice | None:
        """The choice, if it is cached."""
        document = self.cache.get(_KIND, self.key) if self.cache else None
        if document is None:
            return None
        artifacts = tuple(map(_artifact, document["artifacts"]))
        return Choice(artifacts=artifacts, record=document["record"])

    def keep(self, choice: Choice) -> None:
        """Cache the choice, unless it depends on files or programs of this machine, or has what may be secret."""
        local = any((each.tree.url if each.tree else each.url).startswith("file:") for each in choice.artifacts)
        # The file may have changed between the two times that it was read.
        if self.cache is None or local or not self.is_pure(choice.record) or read_text(self.file) != self.text:
            return
        document = {"artifacts": list(map(asdict, choice.artifacts)), "record": choice.record}
        try:
            text = json.dumps(document)
        except (TypeError, ValueError, RecursionError):
            # A date, which TOML has and JSON does not.
            return
        if redact_text(text) == text:
            self.cache.put(_KIND, self.key, document)


def cached_choice(
    file: Path, kind: LockFormat, scope: InstallRequest, *, no_binary: Set[str], complete: bool, cache: Cache | None
) -> CachedChoice:
    """The place in the cache for what a lock of some format has for a request. Raises LockError."""
    if kind.is_pure is None or cache is None:
        return CachedChoice(file=file, text="", key="", is_pure=lambda _: False, cache=None)
    text = read_text(file)
    key = {
        "format": [_FORMAT, packaging.__version__],
        "lock": [kind.name, digest_of(text.encode())],
        "project": scope.project,
        "target": asdict(scope.target),
        "extras": sorted(scope.extras),
        "groups": sorted(scope.groups),
        "no-binary": sorted(no_binary),
        "complete": complete,
    }
    return CachedChoice(file=file, text=text, key=json.dumps(key), is_pure=kind.is_pure, cache=cache)


def _artifact(document: dict[str, Any]) -> Artifact:
    tree = document["tree"]
    return Artifact(**{**document, "tree": tree and SourceTree(**tree)})
