"""Push one blob: leave it if the repository has it, mount it if another one has it, else upload it.

OCI distribution specification 1.1, "Pushing blobs".
"""

from __future__ import annotations

import contextlib
import random
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO
from urllib.parse import urldefrag, urlencode, urljoin, urlsplit

from hatch_docker.errors import ImageError, RegistryError
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.session import Access, Answer, Request, Session
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.progress import Advance, Progress
from hatch_docker.support.streams import CHUNK

_ATTEMPTS = 5
_FIRST_WAIT = 0.5
# In bytes. Chunks are held in memory. Some registries accept none below 5 MB; proxies refuse large bodies.
_SMALLEST_CHUNK = 8 << 20
_LARGEST_CHUNK = 64 << 20
# Statuses of registries and proxies that do not accept a whole blob in one request.
_CHUNKS_NEEDED = frozenset({405, 411, 413, 416, 501})
# 0: the connection broke; 401: the token expired; 404: the registry lost the upload.
_RETRIED = frozenset({0, 401, 404, 408, 429, 500, 502, 503, 504})
_SUCCESS = frozenset({200, 201, 202, 204})


class Outcome(Enum):
    """How a blob got into the repository."""

    PRESENT = "present"
    MOUNTED = "mounted"
    UPLOADED = "uploaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A blob to push. `open` is called only if the registry lacks it, and again for each attempt to upload it."""

    descriptor: Descriptor
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """The uploads to one repository, `target`. They raise CancelledError once `stopped` is set.

    `mount_from` is a repository of the same registry that may have the blobs, or empty.
    """

    session: Session
    target: Reference
    mount_from: str
    stopped: threading.Event
    progress: Progress

    def send(self, blob: Blob) -> Outcome:
        """Push `blob`. A broken upload is repeated from its start, with back-off.

        Raises RegistryError if the registry refuses it, ImageError if the blob does not match its descriptor.
        """
        if self._exists(blob.descriptor):
            return Outcome.PRESENT
        chunked, attempt = False, 0
        while True:
            attempt += 1
            start = self._start(blob.descriptor)
            if start.status == 201:
                return Outcome.MOUNTED
            try:
                self._transfer(blob, start, chunked=chunked)
                return Outcome.UPLOADED
            except RegistryError as error:
                refused = not chunked and error.status in _CHUNKS_NEEDED
                if attempt == _ATTEMPTS or not (refused or error.status in _RETRIED):
                    raise
            if not refused:
                self._wait(attempt)
                if self._exists(blob.descriptor):
                    return Outcome.UPLOADED
            # A proxy that limits the size or time of requests may cut the connection instead of answering.
            chunked = refused or attempt > 1

    @property
    def _access(self) -> Access:
        return Access(reference=self.target, push=True)

    def _exists(self, descriptor: Descriptor) -> bool:
        url = self.session.url(self.target, f"blobs/{descriptor.digest}")
        return self.session.call(Request("HEAD", url), self._access).status == 200

    def _start(self, descriptor: Descriptor) -> Answer:
        """Mount the blob (status 201), or begin an upload (202)."""
        self._check()
        url = self.session.url(self.target, "blobs/uploads/")
        if self.mount_from:
            query = urlencode({"mount": descriptor.digest, "from": self.mount_from})
            access = Access(reference=self.target, push=True, mount_from=self.mount_from)
            # The account may be allowed to push to the target, but not to pull from the other repository.
            with contextlib.suppress(RegistryError):
                answer = self.session.call(Request("POST", f"{url}?{query}"), access)
                if answer.status in (201, 202):
                    return answer
        answer = self.session.call(Request("POST", url, body=b""), self._access)
        if answer.status != 202:
            raise self.session.refusal(answer, self._access)
        return answer

    def _transfer(self, blob: Blob, start: Answer, *, chunked: bool) -> None:
        descriptor = blob.descriptor
        location = self._location(self.session.url(self.target, "blobs/uploads/"), start)
        try:
            # Before the request: opening a base's layer may download it, and no registry waits that long.
            file = blob.open()
        except OSError as error:
            raise _unreadable(descriptor, error) from None
        with file, self.progress.task("push", descriptor.digest[7:19], descriptor.size) as advance:
            if chunked:
                location = self._patch(descriptor, file, location, start, advance)
                self._finish(location, descriptor, b"", 0)
            else:
                self._finish(location, descriptor, self._pieces(descriptor, file, advance), descriptor.size)

    def _finish(self, location: str, descriptor: Descriptor, body: bytes | Iterator[bytes], length: int) -> None:
        query = urlencode({"digest": descriptor.digest})
        url = f"{location}{'&' if urlsplit(location).query else '?'}{query}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        self._transmit(Request("PUT", url, headers, body, retry=False))

    def _patch(self, descriptor: Descriptor, file: BinaryIO, location: str, start: Answer, advance: Advance) -> str:
        """Send the blob in chunks; return the URL to finish the upload at."""
        size = _chunk_size(start)
        for offset in range(0, descriptor.size, size):
            chunk = b"".join(self._pieces(descriptor, file, lambda _: None, min(size, descriptor.size - offset)))
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(len(chunk)),
                "Content-Range": f"{offset}-{offset + len(chunk) - 1}",
            }
            answer = self._transmit(Request("PATCH", location, headers, chunk, retry=False))
            if answer.headers.get("Location"):
                location = self._location(location, answer)
            advance(len(chunk))
        return location

    def _transmit(self, request: Request) -> Answer:
        answer = self.session.call(request, self._access)
        if answer.status not in _SUCCESS:
            raise self.session.refusal(answer, self._access)
        return answer

    def _pieces(
        self, descriptor: Descriptor, file: BinaryIO, advance: Advance, length: int | None = None
    ) -> Iterator[bytes]:
        """`length` bytes of the blob, or all. Raises ImageError if there are fewer, as the registry would wait."""
        left = descriptor.size if length is None else length
        while left:
            self._check()
            try:
                piece = file.read(min(CHUNK, left))
            except OSError as error:
                raise _unreadable(descriptor, error) from None
            if not piece:
                raise ImageError(
                    f"the blob {descriptor.digest} is shorter than the {descriptor.size} bytes it should be"
                )
            left -= len(piece)
            yield piece
            advance(len(piece))

    def _location(self, base: str, answer: Answer) -> str:
        """The URL to continue an upload at, from a Location header. Raises RegistryError if it is unusable."""
        problem = "the registry does not say where the upload goes"
        if location := answer.headers.get("Location", ""):
            with contextlib.suppress(ValueError):
                url = urldefrag(urljoin(base, location))[0]
                scheme = urlsplit(url).scheme
                if scheme == "https" or (scheme == "http" and self.session.is_plain_http(self.target)):
                    return url
                problem = "the registry sends the upload to an address without TLS"
        raise RegistryError(problem, status=400, place=str(self.target))

    def _wait(self, attempt: int) -> None:
        self.stopped.wait(_FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(0.8, 1.2))  # noqa: S311 (jitter)

    def _check(self) -> None:
        if self.stopped.is_set():
            raise CancelledError


def _chunk_size(start: Answer) -> int:
    smallest = start.headers.get("OCI-Chunk-Min-Length", "")
    required = int(smallest) if re.fullmatch("[0-9]{1,12}", smallest) else 0
    return min(_LARGEST_CHUNK, max(_SMALLEST_CHUNK, required))


def _unreadable(descriptor: Descriptor, error: OSError) -> ImageError:
    return ImageError(f"the blob {descriptor.digest} cannot be read: {error.strerror or error}")
