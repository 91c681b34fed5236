"""Files of the archive, from a mirror into the cache: no longer than they may be, checked, and whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from hatch_docker.debian.compression import decompressed
from hatch_docker.debian.release import File
from hatch_docker.debian.sources import SETTING, Mirror
from hatch_docker.errors import DebianError, DigestMismatchError, NetworkError
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress, counted
from hatch_docker.support.streams import chunks_of

_LARGEST_TEXT = 1 << 24
_WORTH_READING = 1 << 16
_ANOTHER = f"{SETTING}, to another mirror"
_CHANGED = f"the mirror is being updated or damaged: try again a little later, or {_ANOTHER}; nothing of it was kept"


class AbsentError(DebianError):
    """A mirror does not have a file."""


class StoppedError(Exception):
    """Something else's failure, or the user, ended this transfer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Gets files. Thread-safe; setting `stop` ends what is under way."""

    http: Http
    cache: Cache
    progress: Progress = field(default_factory=Progress)
    stop: threading.Event = field(default_factory=threading.Event)

    def text(self, mirror: Mirror, path: str) -> bytes:
        """The content of a small file, whose size is not known. It is not checked.

        Raises AbsentError, and DebianError for a mirror that does not answer well.
        """
        with self._opened(mirror, path) as chunks:
            return b"".join(_bounded(chunks, _LARGEST_TEXT, url_of(mirror, path)))

    def blob(self, mirror: Mirror, path: str, file: File, *, what: str) -> Path:
        """The file at `path`, in the cache. Raises as `text` does, and DebianError for other bytes than `file`'s."""
        place = url_of(mirror, path)
        with self.progress.task("download", what, file.size) as advance, self._opened(mirror, path) as chunks:
            return self._add(counted(_bounded(chunks, file.size, place), advance), file, place)

    def decompressed(self, mirror: Mirror, paths: Iterable[str], packed: File, plain: File, *, suffix: str) -> Path:
        """A file that is at the first of `paths` that is there, decompressed, in the cache.

        `packed` is what has to be there, and looked at before it is decompressed; `plain` what is in it.
        """
        with self.cache.temporary() as partial:
            place = self._first(mirror, paths, packed, partial)
            with partial.open("rb") as file:
                content = decompressed(chunks_of(file), suffix, place=place)
                return self._add(_bounded(content, plain.size, place), plain, place)

    def _add(self, chunks: Iterable[bytes], file: File, place: str) -> Path:
        try:
            return self.cache.add(chunks, f"sha256:{file.sha256}", what="it")
        except DigestMismatchError:
            raise _mismatch(place) from None

    def _first(self, mirror: Mirror, paths: Iterable[str], file: File, partial: Path) -> str:
        """Write the first of `paths` that the mirror has to `partial`, checked; its URL."""
        absent = AbsentError("the mirror has no such file", place=mirror.url)
        for path in paths:
            place = url_of(mirror, path)
            try:
                with (
                    self._opened(mirror, path) as chunks,
                    self.progress.task("download", _index_of(place), file.size) as advance,
                ):
                    _write(partial, counted(_bounded(chunks, file.size, place), advance), file, place)
                    return place
            except AbsentError as error:
                absent = error
        raise absent

    @contextlib.contextmanager
    def _opened(self, mirror: Mirror, path: str) -> Iterator[Iterator[bytes]]:
        """The body at `path`, in chunks; its connection is let go of at the end, whether all of it was read or not."""
        url = url_of(mirror, path)
        try:
            response = self.http.request("GET", url, headers=mirror.headers)
        except NetworkError as error:
            raise _unreachable(error) from None
        with contextlib.closing(response):
            if response.status != 200:
                # Its few bytes are read, so that the connection is used again.
                with contextlib.suppress(HTTPError):
                    response.read(_WORTH_READING)
                raise _refusal(response.status, url)
            with contextlib.closing(self._chunks(response, url, mirror)) as chunks:
                yield chunks

    def _chunks(self, response: BaseHTTPResponse, url: str, mirror: Mirror) -> Generator[bytes, None, None]:
        try:
            for chunk in self.http.resume(response, url, mirror.headers):
                if self.stop.is_set():
                    raise StoppedError
                yield chunk
        except NetworkError as error:
            raise _unreachable(error) from None


def _index_of(url: str) -> str:
    """What people call an index, by its URL: `trixie/main/binary-amd64`."""
    path = url.rpartition("/dists/")[2]
    return path.partition("/by-hash/")[0] if "/by-hash/" in path else path.rpartition("/")[0]


def url_of(mirror: Mirror, path: str) -> str:
    """The URL of a file below a mirror's root. A `+` in it is quoted, as apt does: some hosts take it for a space."""
    return f"{mirror.url}/{quote(path)}"


def _write(partial: Path, chunks: Iterable[bytes], file: File, place: str) -> None:
    hasher = hashlib.sha256()
    with partial.open("wb") as out:
        for chunk in chunks:
            hasher.update(chunk)
            out.write(chunk)
    if hasher.hexdigest() != file.sha256:
        raise _mismatch(place)


def _bounded(chunks: Iterable[bytes], limit: int, place: str) -> Iterator[bytes]:
    """The chunks, no more than `limit` bytes of them."""
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if received > limit:
            raise DebianError(f"is larger than it may be: {limit} bytes", place=place, hint=_CHANGED)
        yield chunk


def _mismatch(place: str) -> DebianError:
    return DebianError(
        "is not the right file: its SHA-256 is not the one that is signed, or locked", place=place, hint=_CHANGED
    )


def _unreachable(error: NetworkError) -> DebianError:
    hint = f"{error.hint}; or {_ANOTHER}" if error.hint else _ANOTHER
    return DebianError(f"the mirror of Debian: {error.message}", place=error.place, hint=hint)


def _refusal(status: int, url: str) -> DebianError:
    if status in (404, 410):
        return AbsentError("the mirror has no such file", place=url, hint=_ANOTHER)
    message, hint = _REFUSALS.get(status, ("gives an unexpected answer", f"try again later, or {_ANOTHER}"))
    return DebianError(f"the mirror of Debian {message} (HTTP {status})", place=url, hint=hint)


_REFUSALS: dict[int, tuple[str, str]] = {
    401: ("asks for a login", f"{SETTING}, to a URL that has it: http://USER:PASSWORD@HOST/debian"),
    403: ("refuses", f"check the login in the mirror's URL; or {_ANOTHER}"),
    429: ("was asked too often", f"wait a little, and try again; or {_ANOTHER}"),
}
