"""The registry caches of a run behind its local cache (`support.cache.Remote`): what they have, and what they lack."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from hatch_docker.caching.entry import Entry, Found, Sealer, open_entry, recipe_of
from hatch_docker.caching.kinds import KINDS
from hatch_docker.caching.repository import Repository
from hatch_docker.caching.source import Known, Source
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import COMPRESSED, Descriptor
from hatch_docker.support.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Held:
    """A blob, and the cache that has it."""

    source: Source
    blob: Descriptor


class RegistryCache:
    """The registry caches of a run, of which the first is written if the run may. Thread-safe.

    It never raises: a cache that fails has nothing, and `report` is called once with the reason.
    """

    def __init__(
        self, sources: Sequence[Source], sealer: Sealer, report: Callable[[str], None], *, writes: bool = False
    ) -> None:
        self.sources = tuple(sources)
        self.sealer = sealer
        self.report = report
        self.writes = writes
        self.used: dict[str, tuple[str, str]] = {}
        self.read: dict[str, Entry] = {}
        self.refused: set[str] = set()
        self.scope = ""
        self.distrusts = False
        self._reported: set[Source] = set()
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def begin(self, scope: str) -> None:
        """Request the entries that the project used last; `scope` names the project and what it is built for."""
        self.scope = scope
        for source in self.sources:
            source.begin(scope)

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """The document of a kind and a cache key; None if no cache has a valid one."""
        if kind not in KINDS:
            return None
        recipe = recipe_of(kind, key)
        for source in self.sources:
            entry = source.entry(recipe)
            self._check(source)
            if entry and (found := self.opened(entry, kind)):
                self._held.update({blob.digest: _Held(source, blob) for blob in found.blobs})
                if source is self.sources[0]:
                    self.read[recipe] = entry
                self.use(kind, key)
                return found.value
        return None

    def expect(self, kind: str, keys: Iterable[str]) -> None:
        """Fetch documents in advance, all at once: the build will read them."""
        if kind in KINDS:
            for recipe in [recipe_of(kind, key) for key in keys]:
                for source in self.sources:
                    source.expect(recipe)

    def use(self, kind: str, key: str) -> None:
        """Note that the build needs a document, which the local cache has."""
        if self.writes and kind in KINDS:
            self.used[recipe_of(kind, key)] = (kind, key)

    def has(self, digest: str) -> bool:
        """Whether a blob has a `place`."""
        return self.place(digest) is not None

    def place(self, digest: str) -> Reference | None:
        """The repository that has a blob, as far as entries said until now."""
        held = self._held.get(digest)
        return held.source.repository.reference if held and not held.source.failure else None

    def held(self, digest: str, repository: Repository) -> Descriptor | None:
        """The descriptor of a blob if a repository has it."""
        held = self._held.get(digest)
        return held.blob if held and held.source.repository is repository and not self.distrusts else None

    def chunks(self, digest: str) -> Iterator[bytes]:
        """A blob that has a `place`, not verified. Raises NetworkError, DigestMismatchError."""
        held = self._held[digest]
        return held.source.chunks(held.blob)

    def distrust(self, reason: str) -> None:
        """Read no cache any more, since one of them was wrong; what it has is replaced at the end."""
        self.distrusts = True
        self.used.clear()
        self.read.clear()
        for source in self.sources:
            source.fail(reason)
            self._check(source)

    def known(self) -> Known:
        """The set of the cache that is written, as far as it can be trusted."""
        return Known() if self.distrusts else self.sources[0].known()

    def layers(self) -> list[Descriptor]:
        """The layers that the project used last, as far as they are in the cache that is written."""
        return [blob for blob in self.known().blobs if blob.media_type in COMPRESSED]

    def opened(self, entry: Entry, kind: str) -> Found | None:
        """What an entry holds; None if it is not valid."""
        found = open_entry(entry, kind) if self.sealer.accepts(entry) else None
        if found is None:
            self.refused.add(entry.recipe)
        return found

    def _check(self, source: Source) -> None:
        if source.failure:
            with self._lock:
                is_new = source not in self._reported
                self._reported.add(source)
            if is_new:
                self.report(f"the registry cache {source.repository.reference} is not used: {source.failure}")
