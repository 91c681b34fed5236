"""What a build used is written to its registry cache: entries that this lacks, and then the project's set.

Entries are written again once in a period, so that a registry may remove what was not pushed for a few periods.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from hatch_docker.caching.artifact import BLOB, ENTRY, SET, Artifact, artifact_of
from hatch_docker.caching.entry import Entry, Found
from hatch_docker.caching.kinds import KINDS
from hatch_docker.caching.source import set_tag_of, tag_of
from hatch_docker.caching.tier import RegistryCache
from hatch_docker.errors import HatchDockerError
from hatch_docker.oci.graph import Node
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.lanes import Lanes, TookTooLongError
from hatch_docker.support.progress import Advance, Progress
from hatch_docker.support.redaction import redact_text

# Writing may take so many seconds, and what it would take at these rates.
_SECONDS = 5.0
_BYTES_PER_SECOND = 4 << 20
_JOBS_PER_SECOND = 20
# The set is written anew if it has so many times as many entries as a build used.
_SURPLUS = 2
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Used:
    """An entry that the build used, and the blobs that are sent if the cache lacks it."""

    entry: Entry
    found: Found
    sent: tuple[Node, ...] = ()
    is_new: bool = False

    @property
    def size(self) -> int:
        """How many bytes are sent at most."""
        return sum(node.descriptor.size for node in self.sent)


def write(tier: RegistryCache, cache: Cache, pushed: Sequence[Reference], now: datetime, progress: Progress) -> None:
    """Write what the build used and the cache lacks; `pushed` are images that may have blobs by now.

    It never raises: a cache that refuses or is slow is reported, and has what was written until then.
    """
    source = tier.sources[0]
    if not tier.writes or not tier.used or source.is_down:
        return
    writer = _Writer(tier, cache, pushed, "{}w{:02}".format(*now.isocalendar()[:2]))
    try:
        writer.write(progress)
        # For the next output of this run.
        tier.used.clear()
    except HatchDockerError as error:
        source.fail(error.message, is_down=True)
        tier.report(f"the registry cache {source.repository.reference} did not take all of this build: {error.message}")


class _Writer:
    """Writes to the first cache of a run. `period` names the week."""

    def __init__(self, tier: RegistryCache, cache: Cache, pushed: Sequence[Reference], period: str) -> None:
        self._tier, self._cache, self._period = tier, cache, period
        self._repository = tier.sources[0].repository
        here = self._repository.reference
        near = (each.repository for each in pushed if each.registry == here.registry)
        self._near = tuple(dict.fromkeys(each for each in near if each != here.repository))
        self._stopped = threading.Event()
        known = tier.known()
        self._known = known.entries
        self._renews = tier.distrusts or known.written not in ("", period)

    def write(self, progress: Progress) -> None:
        """Write entries at the same time, and then the set. Raises HatchDockerError."""
        recipes = self._tier.used.keys()
        # What is made on the way to layers is not used again if these are found, and no reason to write.
        is_fitting = recipes <= self._known.keys() - self._tier.refused and len(self._known) <= _SURPLUS * len(recipes)
        if is_fitting and not self._renews:
            return
        used = [each for recipe in sorted(recipes) if (each := self._entry(recipe))]
        missing = [each for each in used if self._renews or each.is_new]
        with progress.task("cache", str(self._repository.reference), sum(each.size for each in missing)) as advance:
            lacking = missing if self._renews else self._lacking(missing)
            self._in_time([partial(self._repository.prepare, self._stopped)])
            self._send({node.descriptor.digest: node for each in lacking for node in each.sent}, advance)
            puts = ((each, artifact_of([(each.entry, each.found)], self._period)) for each in lacking)
            self._in_time([partial(self._put, tag_of(each.entry.recipe), made, ENTRY) for each, made in puts])
        whole = artifact_of(((each.entry, each.found) for each in used), self._period)
        self._in_time([partial(self._put, set_tag_of(self._tier.scope), whole, SET)])

    def _entry(self, recipe: str) -> _Used | None:
        """What is to be known of an entry; None if neither this machine nor the cache has its blobs."""
        kind, key = self._tier.used[recipe]
        known = self._known.get(recipe) or self._tier.read.get(recipe)
        if known and (found := self._tier.opened(known, kind)):
            return _Used(known, found)
        value = self._cache.stored(kind, key)
        if value is None or _has_logins(value):
            return None
        blobs, sent = [], []
        for digest in KINDS[kind].blobs(value):
            media_type = str(value.get("descriptor", {}).get("mediaType", BLOB))
            if held := self._tier.held(digest, self._repository):
                blobs.append(held)
            elif path := self._cache.blob(digest):
                blobs.append(Descriptor(media_type=media_type, digest=digest, size=path.stat().st_size))
                sent.append(Node(descriptor=blobs[-1], open=_opener(path)))
            else:
                return None
        found = Found(value, tuple(blobs))
        return _Used(self._tier.sealer.sealed(recipe, found), found, tuple(sent), is_new=True)

    def _lacking(self, used: Sequence[_Used]) -> list[_Used]:
        """Those entries that the cache has not, or that were refused when they were read."""
        asked = [each for each in used if each.entry.recipe not in self._tier.refused]
        found = self._in_time([partial(self._repository.has, tag_of(each.entry.recipe)) for each in asked])
        present = {each.entry.recipe for each, has in zip(asked, found, strict=True) if has}
        return [each for each in used if each.entry.recipe not in present]

    def _send(self, nodes: Mapping[str, Node], advance: Advance) -> None:
        def send(node: Node) -> None:
            self._repository.send(node, self._near, self._stopped)
            advance(node.descriptor.size)

        size = sum(node.descriptor.size for node in nodes.values())
        self._in_time([partial(send, node) for node in nodes.values()], size)

    def _put(self, tag: str, artifact: Artifact, kind: str) -> None:
        self._repository.put(tag, artifact, self._stopped, kind)

    def _in_time(self, jobs: Sequence[Callable[[], _T]], size: int = 0) -> list[_T]:
        """What the jobs return, which send `size` bytes. Raises the first error, or one if they take too long."""
        lanes = Lanes(_SECONDS + size / _BYTES_PER_SECOND + len(jobs) / _JOBS_PER_SECOND)
        try:
            futures = [lanes.start(job) for job in jobs]
            return [lanes.result(future) for future in futures]
        except BaseException as error:
            self._stopped.set()
            if isinstance(error, TookTooLongError):
                raise HatchDockerError("it is too slow") from None
            raise


def _has_logins(value: Mapping[str, Any]) -> bool:
    """Whether a document has a URL with a login, or with a query, which may be one."""
    text = json.dumps(value)
    return redact_text(text) != text


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")
