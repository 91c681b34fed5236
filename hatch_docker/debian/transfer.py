"""Download files of the archive into the cache: verified, of limited size, and atomically."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from urllib3 import BaseHTTPResponse

from hatch_docker.debian.compression import decompressed
from hatch_docker.debian.release import File
from hatch_docker.debian.sources import SETTING, Mirror
from hatch_docker.errors import DebianError, DigestMismatchError, NetworkError
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress, counted
from hatch_docker.support.streams import chunks_of

_MAX_TEXT = 1 << 24
_MAX_ERROR_BODY = 1 << 16
_ANOTHER = f"{SETTING}, to another mirror"
_CHANGED = f"the mirror is being updated or is damaged: try again later, or {_ANOTHER}; nothing was kept"


class AbsentError(DebianError):
    """A mirror does not have a file."""


class StoppedError(Exception):
    """Another failure, or the user, stopped this transfer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Downloads files. Thread-safe; setting `stop` ends transfers in progress."""

    http: Http
    cache: Cache
    progress: Progress = field(default_factory=Progress)
    stop: threading.Event = field(default_factory=threading.Event)

    def text(self, mirror: Mirror, path: str) -> bytes:
        """The content of a small file of unknown size, not verified.

        Raises AbsentError, and DebianError for other failures.
        """
        with self._opened(mirror, path) as chunks:
            return b"".join(_bounded(chunks, _MAX_TEXT, url_of(mirror, path)))

    def blob(self, mirror: Mirror, path: str, file: File, *, what: str) -> Path:
        """Download `path` into the cache. Raises as `text` does, and DebianError if it does not match `file`."""
        place = url_of(mirror, path)
        with self.progress.task("download", what, file.size) as advance, self._opened(mirror, path) as chunks:
            return self._add(counted(_bounded(chunks, file.size, place), advance), file, place)

    def decompressed(self, mirror: Mirror, paths: Iterable[str], packed: File, plain: File, *, suffix: str) -> Path:
        """Download the first of `paths` that exists, and decompress it into the cache.

        It must match `packed`, which is verified before it is decompressed, and then `plain`.
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
        """Write the first of `paths` that the mirror has to `partial`, verified; return its URL."""
        absent = AbsentError("the mirror has no such file", place=mirror.url)
        for path in paths:
            place = url_of(mirror, path)
            try:
                with (
                    self._opened(mirror, path) as chunks,
                    self.progress.task("download", _index_of(place), file.size) as advance,
                ):
                    with self.cache.open(partial) as out:
                        _write(out, counted(_bounded(chunks, file.size, place), advance), file, place)
                    return place
            except AbsentError as error:
                absent = error
        raise absent

    @contextlib.contextmanager
    def _opened(self, mirror: Mirror, path: str) -> Iterator[Iterator[bytes]]:
        """Open the body at `path` as chunks; the connection is released at the end, also if it was not read."""
        url = url_of(mirror, path)
        try:
            response = self.http.request("GET", url, headers=mirror.headers)
        except NetworkError as error:
            raise _unreachable(error) from None
        with contextlib.closing(response):
            if response.status != 200:
                # Read the short body, so that the connection can be reused.
                with contextlib.suppress(NetworkError):
                    self.http.body(response, url, limit=_MAX_ERROR_BODY)
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
    """The display name of an index by its URL: `trixie/main/binary-amd64`."""
    path = url.rpartition("/dists/")[2]
    return path.partition("/by-hash/")[0] if "/by-hash/" in path else path.rpartition("/")[0]


def url_of(mirror: Mirror, path: str) -> str:
    """The URL of a path below a mirror's root. A `+` is quoted as in apt, as some hosts take it for a space."""
    return f"{mirror.url}/{quote(path)}"


def _write(out: BinaryIO, chunks: Iterable[bytes], file: File, place: str) -> None:
    hasher = hashlib.sha256()
    for chunk in chunks:
        hasher.update(chunk)
        out.write(chunk)
    if hasher.hexdigest() != file.sha256:
        raise _mismatch(place)


def _bounded(chunks: Iterable[bytes], limit: int, place: str) -> Iterator[bytes]:
    """Yield the chunks; raise DebianError if they have more than `limit` bytes."""
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if received > limit:
            raise DebianError(f"is larger than its {limit} bytes", place=place, hint=_CHANGED)
        yield chunk


def _mismatch(place: str) -> DebianError:
    return DebianError(
        "is not the right file: its SHA-256 differs from the signed or locked one", place=place, hint=_CHANGED
    )


def _unreachable(error: NetworkError) -> DebianError:
    hint = f"{error.hint}; or {_ANOTHER}" if error.hint else _ANOTHER
    return DebianError(f"the Debian mirror: {error.message}", place=error.place, hint=hint)


def _refusal(status: int, url: str) -> DebianError:
    if status in (404, 410):
        return AbsentError("the mirror has no such file", place=url, hint=_ANOTHER)
    message, hint = _REFUSALS.get(status, ("sent an unexpected response", f"try again later, or {_ANOTHER}"))
    return DebianError(f"the Debian mirror {message} (HTTP {status})", place=url, hint=hint)


_REFUSALS: dict[int, tuple[str, str]] = {
    401: ("requires a login", f"{SETTING}, to a URL that contains it: http://USER:PASSWORD@HOST/debian"),
    403: ("denies access", f"check the login in the mirror's URL; or {_ANOTHER}"),
    429: ("limits the rate of requests", f"wait a little, and try again; or {_ANOTHER}"),
}
