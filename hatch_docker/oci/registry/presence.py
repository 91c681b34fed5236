"""Which blobs a repository has: asked for many at once, and before they are needed."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial

from hatch_docker.errors import RegistryError
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.session import Access, Request, Session, names_other
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.lanes import Lanes


class Presence:
    """What one repository said about blobs. Thread-safe."""

    def __init__(self, session: Session, target: Reference) -> None:
        self._session = session
        self._target = target
        self._lanes = Lanes()
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, int], Future[bool]] = {}

    def expect(self, blobs: Iterable[Descriptor]) -> None:
        """Ask for blobs, each once, and wait for no answer."""
        with self._lock:
            for blob in blobs:
                key = (blob.digest, blob.size)
                if key not in self._answers:
                    self._answers[key] = self._lanes.start(partial(exists, self._session, self._target, blob))

    def has(self, blob: Descriptor) -> bool:
        """Whether the repository has a blob, as it said when it was asked first. Raises RegistryError."""
        answer = self._answers.get((blob.digest, blob.size))
        if answer is not None:
            try:
                return self._lanes.result(answer)
            except RegistryError:
                # That may have been a while ago.
                pass
        return exists(self._session, self._target, blob)

    def got(self, blob: Descriptor) -> None:
        """Note that the repository has a blob by now."""
        done: Future[bool] = Future()
        done.set_result(True)
        with self._lock:
            self._answers[blob.digest, blob.size] = done


def exists(session: Session, target: Reference, blob: Descriptor) -> bool:
    """Whether a repository says that it has a blob, and of this size: any server answers 200 to something."""
    url = session.url(target, f"blobs/{blob.digest}")
    answer = session.call(Request("HEAD", url), Access(reference=target, push=True))
    length = answer.headers.get("Content-Length", "")
    if answer.status != 200 or names_other(answer, blob.digest):
        return False
    return length == str(blob.size) if length else "Docker-Content-Digest" in answer.headers
