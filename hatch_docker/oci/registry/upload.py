"""Push one blob: leave it if the repository has it, mount it if another one has it, else upload it.

OCI distribution specification 1.1, "Pushing blobs".
"""

from __future__ import annotations

import contextlib
import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from enum import Enum
from typing import BinaryIO
from urllib.parse import urldefrag, urlencode, urljoin, urlsplit

from hatch_docker.errors import ImageError, RegistryError
from hatch_docker.oci.graph import Node
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.abandoned import end, noted
from hatch_docker.oci.registry.presence import Presence, exists
from hatch_docker.oci.registry.refusal import NOT_A_REGISTRY, not_stored
from hatch_docker.oci.registry.session import Access, Answer, Request, Session, names_other
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support import silence
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.http import Sending
from hatch_docker.support.progress import Advance, Progress
from hatch_docker.support.streams import CHUNK, Digester

_ATTEMPTS = 5
_FIRST_WAIT = 0.5
# In bytes. Some registries accept no chunk below 5 MB, GHCR none over 4 MiB; proxies refuse large bodies.
_CHUNK = 8 << 20
_SMALLEST_CHUNK = 4 << 20
_LARGEST_CHUNK = 64 << 20
# Statuses of registries and proxies that do not accept a blob, or a chunk, of this size in one request.
_TOO_LARGE = frozenset({405, 411, 413, 416, 501})
# 0: the connection broke; 401: the token expired; 404: the registry lost the upload.
_RETRIED = frozenset({0, 401, 404, 408, 429, 500, 502, 503, 504})
# The specification has 202 for a chunk. ECR sends 201, pulp and others 204; the closing PUT proves all chunks.
_CHUNK_ACCEPTED = (202, 201, 204)
# How much longer than usual a registry may take to answer, in seconds: it stores a blob elsewhere first, and the end of
# what was sent may still be on its way. The rates are in bytes each second.
_STORING_SECONDS = 75
_STORED_PER_SECOND = 1 << 20
_MOST_ON_ITS_WAY = 8 << 20
_SENT_PER_SECOND = 1 << 16
_DAMAGED = "its file was damaged after it was written; if it is in the cache, build with HATCH_DOCKER_VERIFY=1"


class Outcome(Enum):
    """How a blob got into the repository."""

    PRESENT = "present"
    MOUNTED = "mounted"
    UPLOADED = "uploaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """The uploads to one repository, `target`. They raise CancelledError once `stopped` is set.

    `mount_from` are repositories of the same registry that may have the blobs, and `place` returns the one that is said
    to have a blob, by its digest. With `ask`, blobs that the registry says it has are not sent. `unending` is set once
    the registry does not end an upload.
    """

    session: Session
    target: Reference
    presence: Presence
    mount_from: tuple[str, ...]
    stopped: threading.Event
    progress: Progress
    place: Callable[[str], str] = lambda _digest: ""
    ask: bool = True
    unending: threading.Event = field(default_factory=threading.Event)

    def send(self, blob: Node) -> Outcome:
        """Push `blob`. A broken upload is repeated from its start, with back-off.

        A registry that refuses the size of a request gets smaller ones, and at last the whole blob in one again.
        Raises RegistryError if the registry refuses it, ImageError if the blob does not match its descriptor.
        """
        if self.ask and self.presence.has(blob.descriptor):
            return Outcome.PRESENT
        outcome = self._send(blob)
        self.presence.got(blob.descriptor)
        return outcome

    def _send(self, blob: Node) -> Outcome:
        start = self._start(blob.descriptor)
        if start.status == 201 and self._is_whole(blob.descriptor):
            return Outcome.MOUNTED
        # Before its bytes are counted: opening a base's layer may download it.
        with self._noted(start), self._opened(blob):
            pass
        with self.progress.task("push", blob.descriptor.digest[7:19], blob.descriptor.size) as advance:
            self._upload(blob, start, advance)
        return Outcome.UPLOADED

    def _upload(self, blob: Node, start: Answer, advance: Advance) -> None:
        """Upload a blob, in as many attempts and ways as it takes."""
        # The size of a chunk, 0 for the whole blob in one request; and the sizes to try when this one is refused.
        size, smaller, broken, silent = 0, [_CHUNK, _SMALLEST_CHUNK, 0], 0, 0.0
        while start.status != 201:
            counted = _Counted(advance)
            try:
                self._transfer(blob, start, size, counted, storing=0 if silent else _STORING_SECONDS)
                return
            except RegistryError as error:
                counted.undo()
                if error.status in _TOO_LARGE and smaller:
                    size = smaller.pop(0)
                elif broken + 1 == _ATTEMPTS or error.status not in _RETRIED:
                    raise
                else:
                    broken += 1
                    self._wait(broken, error.retry_after)
                    if exists(self.session, self.target, blob.descriptor):
                        return
                    # Not the time that the size of the blob takes.
                    silent += min(error.silence, silence.OF_CONNECTION + _STORING_SECONDS)
                    if silent >= silence.OF_HOST:
                        raise
                    # A proxy that limits the size or time of requests may cut the connection instead of answering.
                    if broken > 1 and len(smaller) > 1:
                        size = smaller.pop(0)
            start = self._start(blob.descriptor)

    @property
    def _access(self) -> Access:
        return Access(reference=self.target, push=True)

    def _is_whole(self, descriptor: Descriptor) -> bool:
        """Whether a mounted blob has its size: who said that another repository has it may be wrong about that."""
        return not self.place(descriptor.digest) or exists(self.session, self.target, descriptor)

    def _start(self, descriptor: Descriptor) -> Answer:
        """Mount the blob (status 201), or begin an upload (202)."""
        self._check()
        url = self.session.url(self.target, "blobs/uploads/")
        begun: list[Answer] = []
        known = self.place(descriptor.digest)
        for source in ((known,) if known else self.mount_from) if self.ask else ():
            query = urlencode({"mount": descriptor.digest, "from": source})
            access = Access(reference=self.target, push=True, mount_from=source)
            # The account may be allowed to push to the target, but not to pull from the other repository.
            with contextlib.suppress(RegistryError):
                answer = self.session.call(Request("POST", f"{url}?{query}"), access)
                if answer.status == 201 and not names_other(answer, descriptor.digest):
                    self._end(begun)
                    return answer
                # It did not mount the blob, and began an upload instead.
                begun += [answer] if answer.status == 202 else []
        self._end(begun[1:])
        return begun[0] if begun else self._transmit(Request("POST", url, body=b""), 202)

    def _end(self, begun: Sequence[Answer]) -> None:
        """End uploads that are not needed, if the registry does that."""
        for each in begun:
            if self.unending.is_set():
                return
            with contextlib.suppress(RegistryError):
                if not end(self.session, self.target, self._location(each)):
                    self.unending.set()

    def _transfer(self, blob: Node, start: Answer, size: int, advance: Advance, *, storing: float) -> None:
        """Upload the blob in chunks of at least `size` bytes, 0 for one request; the registry may be `storing`."""
        descriptor = blob.descriptor
        location = self._location(start)
        # Opened before the request: no registry waits for a download.
        with self._noted(start), self._opened(blob) as file:
            content = _Content(descriptor, file)
            if size:
                location = self._patch(content, location, _chunk_size(start, size), advance)
                self._finish(location, descriptor, b"", 0, storing)
            else:
                pieces = self._pieces(content, descriptor.size, advance)
                self._finish(location, descriptor, pieces, descriptor.size, storing)

    def _noted(self, start: Answer) -> AbstractContextManager[None]:
        """A block in which an upload is noted that began with an answer; nothing if that was about a mount."""
        if start.status == 201:
            return contextlib.nullcontext()
        return noted(self.session, self.target, self._location(start))

    def _opened(self, blob: Node) -> BinaryIO:
        try:
            return blob.open()
        except OSError as error:
            raise _unreadable(blob.descriptor, error) from None

    def _finish(
        self, location: str, descriptor: Descriptor, body: bytes | Iterator[bytes], length: int, storing: float
    ) -> None:
        query = urlencode({"digest": descriptor.digest})
        url = f"{location}{'&' if urlsplit(location).query else '?'}{query}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        patience = storing + _patience(descriptor.size)
        request = Request("PUT", url, headers, body, Sending(retry=False, patience=patience))
        answer = self._transmit(request, 201)
        if names_other(answer, descriptor.digest):
            raise not_stored(f"the blob {descriptor.digest} under another digest", self.target, answer.status)

    def _patch(self, content: _Content, location: str, size: int, advance: Advance) -> str:
        """Send the blob in chunks; return the URL to finish the upload at."""
        whole = content.descriptor.size
        for offset in range(0, whole, size):
            length = min(size, whole - offset)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(length),
                "Content-Range": f"{offset}-{offset + length - 1}",
            }
            pieces = tuple(self._pieces(content, length, lambda _: None))
            body = _Chunk(pieces, advance)
            request = Request("PATCH", location, headers, body, Sending(retry=False, patience=_patience(length)))
            answer = self._transmit(request, *_CHUNK_ACCEPTED)
            received = re.fullmatch(r"(?:bytes=)?0-([0-9]+)", answer.headers.get("Range", ""))
            if received and int(received[1]) < offset + length - 1:
                # ECR accepts several chunks, and drops all but the first one.
                raise RegistryError("the registry drops chunks of a blob", status=416, place=str(self.target))
            if answer.headers.get("Location"):
                location = self._location(answer)
        return location

    def _transmit(self, request: Request, *expected: int) -> Answer:
        """Send a request; raises RegistryError if the answer has none of the expected statuses."""
        answer = self.session.call(request, self._access)
        if answer.status not in expected:
            raise self.session.refusal(answer, self._access)
        return answer

    def _pieces(self, content: _Content, length: int, advance: Advance) -> Iterator[bytes]:
        """The next `length` bytes of the blob. Raises ImageError if there are fewer, as the registry would wait."""
        while length:
            self._check()
            piece = content.read(min(CHUNK, length))
            length -= len(piece)
            yield piece
            advance(len(piece))

    def _location(self, answer: Answer) -> str:
        """The URL to continue an upload at, from a Location header. Raises RegistryError if it is unusable."""
        problem, hint = "the registry does not say where the upload goes", NOT_A_REGISTRY
        if location := answer.headers.get("Location", ""):
            with contextlib.suppress(ValueError):
                url = urldefrag(urljoin(answer.url, location))[0]
                scheme = urlsplit(url).scheme
                if scheme == "https" or (scheme == "http" and self.session.is_plain_http(self.target)):
                    return url
                problem = "the registry sends the upload to an address without TLS"
                hint = "if a proxy in front of it has the certificate, let it send 'X-Forwarded-Proto: https'"
        raise RegistryError(problem, status=400, place=str(self.target), hint=hint)

    def _wait(self, attempt: int, least: float) -> None:
        seconds = _FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(0.8, 1.2)  # noqa: S311 (jitter)
        self.stopped.wait(max(seconds, least))

    def _check(self) -> None:
        if self.stopped.is_set():
            raise CancelledError


class _Content:
    """The content of a blob, read once from its `file` and hashed on the way: nothing else did since it was written.

    Its last bytes are read only if the blob has its digest, so that no registry gets all of a damaged one.
    """

    def __init__(self, descriptor: Descriptor, file: BinaryIO) -> None:
        self.descriptor = descriptor
        self._file = file
        self._digester = Digester(descriptor.digest.partition(":")[0])

    def read(self, most: int) -> bytes:
        """The next bytes, at least one. Raises ImageError if there are none, or the blob is damaged."""
        try:
            piece = self._file.read(most)
        except OSError as error:
            raise _unreadable(self.descriptor, error) from None
        digest, size = self.descriptor.digest, self.descriptor.size
        if not piece:
            raise ImageError(f"the blob {digest} is shorter than the {size} bytes it should be", hint=_DAMAGED)
        self._digester.update(piece)
        if self._digester.size == size and self._digester.digest != digest:
            raise ImageError(f"the blob {digest} is damaged: its content is {self._digester.digest}", hint=_DAMAGED)
        return piece


class _Chunk:
    """A chunk of a blob, in pieces. It is held in memory, and can be sent again with another token."""

    def __init__(self, pieces: tuple[bytes, ...], advance: Advance) -> None:
        self._pieces = pieces
        self._advance = advance

    def __iter__(self) -> Iterator[bytes]:
        advance, self._advance = self._advance, lambda _: None
        for piece in self._pieces:
            yield piece
            advance(len(piece))


class _Counted:
    """An `Advance` whose bytes can be taken back, since they have to be sent again."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._done = 0

    def __call__(self, count: int) -> None:
        self._done += count
        self._advance(count)

    def undo(self) -> None:
        self._advance(-self._done)


def _patience(size: int) -> float:
    """How much later than usual the answer to so many bytes may begin, in seconds."""
    return size / _STORED_PER_SECOND + min(size, _MOST_ON_ITS_WAY) / _SENT_PER_SECOND


def _chunk_size(start: Answer, size: int) -> int:
    """`size` bytes, or what the registry requires at least."""
    smallest = start.headers.get("OCI-Chunk-Min-Length", "")
    required = int(smallest) if re.fullmatch("[0-9]{1,12}", smallest) else 0
    return min(_LARGEST_CHUNK, max(size, required))


def _unreadable(descriptor: Descriptor, error: OSError) -> ImageError:
    return ImageError(f"the blob {descriptor.digest} cannot be read: {error.strerror or error}")
