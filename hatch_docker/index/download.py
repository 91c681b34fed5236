"""The files of a lock: downloaded into the cache when they are needed, and checked against their hashes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

from hatch_docker.errors import ArtifactError, DigestMismatchError
from hatch_docker.index.artifact import Artifact
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress
from hatch_docker.support.redaction import redact
from hatch_docker.support.regular import open_regular
from hatch_docker.support.streams import Digester, chunks_of, file_digest
from hatch_docker.support.threads import together

# In order of preference: the cache knows a file by one hash.
_ALGORITHMS = ("sha256", "sha512", "sha384")
# Documents about files of which several hashes were compared.
_KIND = "hashes"
_AT_ONCE = 8

# Gives the path of a file, which is fetched first if it is missing. Setting the event ends that early.
Get: TypeAlias = Callable[["threading.Event | None"], Path]


class Headers(Protocol):
    """The request headers for a URL, also after its host has `refused` a request."""

    def __call__(self, url: str, /, *, refused: bool = False) -> Mapping[str, str]:
        """The headers."""


def _no_headers(_url: str, *, refused: bool = False) -> Mapping[str, str]:  # noqa: ARG001
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedFile:
    """A file with the content that the lock names, fetched by `get` when it is needed. `digest` is `algorithm:hex`."""

    artifact: Artifact
    digest: str
    get: Get = field(repr=False, compare=False)

    @classmethod
    def at(cls, path: Path, artifact: Artifact, digest: str) -> FetchedFile:
        """The file at `path`."""
        return cls(artifact=artifact, digest=digest, get=lambda _stop: path)

    @property
    def path(self) -> Path:
        """The file's path in the cache. Raises ArtifactError, NetworkError and OutputError if it cannot be fetched."""
        return self.get(None)

    @property
    def identity(self) -> str:
        """All hashes that the content must have, as a cache key: facts are those of a file which has them all."""
        hashes = self.artifact.hashes
        others = [f"{each}:{hashes[each]}" for each in _ALGORITHMS if each in hashes]
        return " ".join(dict.fromkeys([self.digest, *others]))


def locate(
    artifacts: Sequence[Artifact],
    *,
    cache: Cache,
    http: Http,
    headers: Headers = _no_headers,
    progress: Progress | None = None,
) -> list[FetchedFile]:
    """The files of `artifacts`, in their order. Nothing is read or downloaded before it is needed.

    Files at file URLs are copied. `headers` returns the request headers for a URL (Authorization); it is called only
    for downloads. A file must match all hashes of its artifact.

    Raises ArtifactError for an artifact without a hash. Getting a file raises ArtifactError (DigestMismatchError for
    another content), NetworkError and OutputError. Nothing of a failed download is kept.
    """
    fetch = _Fetch(cache=cache, http=http, headers=headers, progress=progress or Progress())
    by_digest = {_digest(artifact): artifact for artifact in artifacts}
    gets = {digest: _alone(partial(fetch, artifact, digest)) for digest, artifact in by_digest.items()}
    return [FetchedFile(artifact=each, digest=_digest(each), get=gets[_digest(each)]) for each in artifacts]


def fetch_all(gets: Iterable[Get], *, threads: int = _AT_ONCE) -> None:
    """Get all these files at once, by `threads` threads, the first ones first.

    Raises ArtifactError that names all artifacts that failed, or DigestMismatchError if all failures are mismatches;
    NetworkError and OutputError at the first.
    """
    stop = threading.Event()

    def attempt(get: Get) -> ArtifactError | None:
        try:
            get(stop)
        except ArtifactError as error:
            return error
        return None

    outcomes = together(attempt, list(dict.fromkeys(gets)), threads=threads, stop=stop)
    _raise_all([outcome for outcome in outcomes if outcome])


def download(
    artifacts: Sequence[Artifact],
    *,
    cache: Cache,
    http: Http,
    headers: Headers = _no_headers,
    threads: int = _AT_ONCE,
    progress: Progress | None = None,
) -> list[FetchedFile]:
    """The files of `artifacts`, in their order, as `locate` gives them, all of them fetched; raises as `fetch_all`."""
    files = locate(artifacts, cache=cache, http=http, headers=headers, progress=progress)
    fetch_files(files, threads=threads)
    return files


def fetch_files(
    files: Iterable[FetchedFile], *, threads: int = _AT_ONCE, then: Callable[[FetchedFile], None] = lambda _file: None
) -> None:
    """Get all these files at once, and call `then` with each as soon as it is there; raises as `fetch_all`."""

    def get(file: FetchedFile, stop: threading.Event | None) -> Path:
        path = file.get(stop)
        then(file)
        return path

    # The largest first: at the end, one large file would occupy one thread alone.
    ordered = sorted(files, key=lambda file: (-(file.artifact.size or 0), file.digest))
    fetch_all([partial(get, file) for file in ordered], threads=threads)


def _alone(get: Get) -> Get:
    """`get`, called by one thread after the other: the others find what the first one has fetched."""
    lock = threading.Lock()

    def run(stop: threading.Event | None) -> Path:
        with lock:
            return get(stop)

    return run


def _digest(artifact: Artifact) -> str:
    """The digest of an artifact's file, by which the cache stores it."""
    if artifact.tree:
        raise ValueError(f"{artifact.name} is a source tree, which is built, not downloaded")
    for algorithm in _ALGORITHMS:
        if algorithm in artifact.hashes:
            return f"{algorithm}:{artifact.hashes[algorithm]}"
    raise ArtifactError(f"{artifact.filename} has no SHA-2 hash to check", hint="lock again")


def cached_file(artifact: Artifact, cache: Cache) -> FetchedFile | None:
    """An artifact's file, if the cache has it. Raises DigestMismatchError if it matches only some of the hashes."""
    digest = _digest(artifact)
    path = cache.blob(digest)
    if path and (error := _cached_error(artifact, path, cache)):
        raise error
    return FetchedFile.at(path, artifact, digest) if path else None


def _cached_error(artifact: Artifact, path: Path, cache: Cache) -> DigestMismatchError | None:
    """The error for a cached file that does not match all hashes of an artifact, which is computed once."""
    hashes = sorted(f"{algorithm}:{artifact.hashes[algorithm]}" for algorithm in artifact.hashes.keys() & _ALGORITHMS)
    key = " ".join(hashes)
    if len(hashes) < 2 or cache.get(_KIND, key) is not None:
        return None
    with path.open("rb") as file:
        try:
            for _ in _matching(artifact, chunks_of(file)):
                pass
        except DigestMismatchError as error:
            return error
    cache.put(_KIND, key, {})
    return None


def _matching(artifact: Artifact, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks of an artifact. Raises DigestMismatchError after the last unless they match all of its hashes."""
    digesters = {algorithm: Digester(algorithm) for algorithm in _ALGORITHMS if algorithm in artifact.hashes}
    for chunk in chunks:
        for digester in digesters.values():
            digester.update(chunk)
        yield chunk
    expected = [f"{algorithm}:{artifact.hashes[algorithm]}" for algorithm in digesters]
    others = [
        (each, mine.digest) for each, mine in zip(expected, digesters.values(), strict=True) if each != mine.digest
    ]
    if others and len(others) < len(expected):
        raise DigestMismatchError(
            f"{artifact.filename} from {redact(artifact.url)} matches only some of its hashes: expected "
            f"{others[0][0]}, got {others[0][1]}",
            hint="the hashes of the lock contradict each other: lock again",
        )


def own_file(path: Path, name: str, version: str) -> FetchedFile:
    """A file that this build made: the project's own wheel, or its sdist."""
    with path.open("rb") as file:
        digest = file_digest(file)
    algorithm, _, value = digest.partition(":")
    artifact = Artifact(
        name=name,
        version=version,
        filename=path.name,
        url="",
        hashes={algorithm: value},
        size=path.stat().st_size,
    )
    return FetchedFile.at(path, artifact, digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetch:
    """Gets files from the cache, or downloads them. `checked` has those that match all hashes of their artifacts."""

    cache: Cache
    http: Http
    headers: Headers
    progress: Progress
    checked: set[str] = field(default_factory=set)

    def __call__(self, artifact: Artifact, digest: str, stop: threading.Event | None) -> Path:
        path = self.cache.fetch(digest, partial(self._download, artifact, digest, stop or threading.Event()))
        if digest not in self.checked and (error := _cached_error(artifact, path, self.cache)):
            raise error
        self.checked.add(digest)
        return path

    def _download(self, artifact: Artifact, digest: str, stop: threading.Event) -> Path:
        what = f"{artifact.filename} from {redact(artifact.url)}"
        with self.progress.task("download", f"{artifact.name} {artifact.version}", artifact.size or 0) as advance:
            chunks = self._checked(artifact, advance, stop)
            if len(artifact.hashes) > 1:
                chunks = _matching(artifact, chunks)
            path = self.cache.add(chunks, digest, what=what)
        self.checked.add(digest)
        return path

    def _checked(self, artifact: Artifact, advance: Callable[[int], None], stop: threading.Event) -> Iterator[bytes]:
        """The chunks of an artifact. Raises DigestMismatchError for another size than the lock's."""
        received = 0
        for chunk in self._chunks(artifact):
            if stop.is_set():
                raise _StoppedError
            received += len(chunk)
            if artifact.size is not None and received > artifact.size:
                break
            yield chunk
            advance(len(chunk))
        if artifact.size not in (None, received):
            raise DigestMismatchError(
                f"{artifact.filename} from {redact(artifact.url)} has the wrong size: expected {artifact.size} bytes, "
                f"got {'more' if received > (artifact.size or 0) else received}",
                hint="it was changed after it was locked, or damaged in transit; nothing of it was kept",
            )

    def _chunks(self, artifact: Artifact) -> Iterator[bytes]:
        scheme = artifact.url.partition(":")[0].lower()
        if scheme == "file":
            return _local(artifact)
        if scheme in ("http", "https"):
            return self._remote(artifact)
        raise ArtifactError(
            f"{artifact.filename} cannot be downloaded from this kind of URL: {redact(artifact.url)}",
            hint="use http, https or file URLs",
        )

    def _remote(self, artifact: Artifact) -> Iterator[bytes]:
        from hatch_docker.index.client import status_error
        from hatch_docker.index.credentials import split_login

        url, _ = split_login(artifact.url)
        headers = self.headers(artifact.url)
        response = self.http.request("GET", url, headers=headers)
        if response.status in (401, 403) and (other := self.headers(artifact.url, refused=True)) not in ({}, headers):
            response.close()
            headers = other
            response = self.http.request("GET", url, headers=headers)
        if response.status != 200:
            response.close()
            raise status_error(response.status, f"the host of {artifact.filename}", url)
        try:
            yield from self.http.resume(response, url, headers)
        finally:
            # Without this, a connection with an unread body would return to the pool.
            response.close()


def _local(artifact: Artifact) -> Iterator[bytes]:
    from hatch_docker.index.pages import local_path

    path = local_path(artifact.url)
    try:
        with open_regular(path) as file:
            yield from chunks_of(file)
    except OSError as error:
        raise ArtifactError(
            f"{artifact.filename} cannot be read: {error.strerror or error}",
            place=str(path),
            hint="the lock may be out of date: lock again",
        ) from None


class _StoppedError(Exception):
    """The download was stopped, by the failure of another one or by the user."""


def _raise_all(errors: Sequence[ArtifactError]) -> None:
    if not errors:
        return
    if len(errors) == 1:
        raise errors[0]
    kind = DigestMismatchError if all(isinstance(error, DigestMismatchError) for error in errors) else ArtifactError
    lines = sorted(f"  {error.place}: {error.message}" if error.place else f"  {error.message}" for error in errors)
    raise kind(
        "\n".join([f"{len(errors)} files cannot be downloaded:", *lines]),
        hint="; ".join(dict.fromkeys(error.hint for error in errors if error.hint)),
    )
