"""One registry cache to read from: its set of entries for a project, and single entries that are not in that."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from hatch_docker.caching.artifact import ENTRY, SET
from hatch_docker.caching.entry import FORMAT, Entry, unpack
from hatch_docker.caching.repository import Repository
from hatch_docker.errors import DigestMismatchError, HatchDockerError, ImageError, NetworkError, RegistryError
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.lanes import Lanes, TookTooLongError, hurried

_T = TypeVar("_T")
# In seconds: how long a build waits for all documents together, and for the next piece of a blob.
PATIENCE = 5.0
_TOO_SLOW = "it is too slow"


def tag_of(recipe: str) -> str:
    """The tag of an entry."""
    return f"v{FORMAT}-{recipe}"


def set_tag_of(scope: str) -> str:
    """The tag of the set of entries that a project used last."""
    return f"v{FORMAT}-set-{scope}"


@dataclass(frozen=True, slots=True)
class Known:
    """The entries of a set by recipe, the period in which it was written, and the blobs that it keeps."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    written: str = ""
    blobs: tuple[Descriptor, ...] = ()


class Source:
    """A registry cache to read from. Thread-safe.

    After its first failure it has nothing, and says why in `failure`; `is_down` if its host does not answer as it
    should, so that it cannot be written either.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.failure = ""
        self.is_down = False
        self._lanes = Lanes(PATIENCE)
        self._lock = threading.Lock()
        self._set: Future[Known] | None = None
        self._single: dict[str, Future[Entry | None]] = {}

    def begin(self, scope: str) -> None:
        """Request a project's set."""
        self._set = self._set or self._lanes.start(partial(self._read_set, set_tag_of(scope)))

    def known(self) -> Known:
        """The set; an empty one if there is none."""
        return (self._wait(self._set) if self._set else None) or Known()

    def expect(self, recipe: str) -> None:
        """Request the entry of a recipe unless the set has it."""
        if not self.failure and recipe not in self.known().entries:
            self._request(recipe)

    def entry(self, recipe: str) -> Entry | None:
        """The entry of a recipe; None if there is none."""
        if self.failure:
            return None
        return self.known().entries.get(recipe) or self._wait(self._request(recipe))

    def chunks(self, blob: Descriptor) -> Iterator[bytes]:
        """A blob in pieces, of which none may take long. The caller verifies the digest.

        Raises NetworkError, DigestMismatchError.
        """
        left = blob.size
        try:
            for chunk in hurried(self.repository.chunks(blob), PATIENCE):
                left -= len(chunk)
                if left < 0:
                    raise DigestMismatchError(f"the blob {blob.digest} is larger than the cache says")
                yield chunk
        except TookTooLongError:
            self.fail(_TOO_SLOW, is_down=True)
            raise NetworkError(_TOO_SLOW, place=str(self.repository.reference)) from None

    def fail(self, reason: str, *, is_down: bool = False) -> None:
        """Ask nothing any more."""
        self.failure = self.failure or reason
        self.is_down = self.is_down or is_down

    def _request(self, recipe: str) -> Future[Entry | None]:
        with self._lock:
            if recipe not in self._single:
                self._single[recipe] = self._lanes.start(partial(self._read, recipe))
            return self._single[recipe]

    def _wait(self, future: Future[_T]) -> _T | None:
        try:
            return self._lanes.result(future)
        except TookTooLongError:
            self.fail(_TOO_SLOW, is_down=True)
        except RegistryError as error:
            self.fail(error.message, is_down=not 400 <= error.status < 500)
        except HatchDockerError as error:
            self.fail(error.message)
        return None

    def _read_set(self, tag: str) -> Known:
        # What is damaged counts as missing, and is written again.
        with contextlib.suppress(ImageError):
            if artifact := self.repository.artifact(tag, SET):
                entries = unpack(self.repository.complete(artifact).lines or b"")
                return Known(entries, artifact.written, artifact.blobs)
        return Known()

    def _read(self, recipe: str) -> Entry | None:
        if self.failure:
            return None
        try:
            artifact = self.repository.artifact(tag_of(recipe), ENTRY)
            return unpack(self.repository.complete(artifact).lines or b"").get(recipe) if artifact else None
        except ImageError:
            # It is there, and invalid.
            return Entry(recipe, b"")
