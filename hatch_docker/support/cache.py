"""The cache on disk: blobs by digest, and small JSON documents by key.

Entries are written to a temporary file, flushed, and renamed, so that a killed process or concurrent processes never
leave half an entry. A blob is hashed when it is written, and again only if its file changed since; a document has a
checksum, which is verified whenever it is read. A corrupt entry is a miss. Temporary files of killed processes are
removed after a day, if the directory has our CACHEDIR.TAG, which also excludes it from backups (Cache Directory Tagging
Specification).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from hatch_docker.errors import ArtifactError, DigestMismatchError, NetworkError
from hatch_docker.support.atomic import partial_file, publish, spool, sweep, writing
from hatch_docker.support.directories import CACHE_ELSEWHERE
from hatch_docker.support.seals import is_sealed, make_seal
from hatch_docker.support.streams import file_digest, verified

# How often a blob of a remote cache is requested.
_ATTEMPTS = 2
_TAG = """\
Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of hatch-docker, made anew when it is missing.
"""


class Remote(Protocol):
    """Another cache behind the one on disk, which has some kinds of documents and the blobs that they name.

    Only `chunks` raises, NetworkError or DigestMismatchError.
    """

    def get(self, kind: str, key: str, /) -> dict[str, Any] | None:
        """A document."""

    def expect(self, kind: str, keys: Iterable[str], /) -> None:
        """Prepare for `get` of several documents."""

    def use(self, kind: str, key: str, /) -> None:
        """Note that a document was used that the cache on disk has."""

    def has(self, digest: str, /) -> bool:
        """Whether a document that `get` returned names a blob, and the cache that it is from still answers."""

    def chunks(self, digest: str, /) -> Iterator[bytes]:
        """The content of such a blob, not verified."""


class Cache:
    """A directory of content-addressed blobs (`blobs/<algorithm>/<hex>`) and JSON documents (`<kind>/<hash>`).

    The first line of a document's file is the checksum of the rest. If `kinds` is given, documents of other kinds are
    found only if this object stored them: results of earlier runs are not used, but replaced. With `verify`, every blob
    is hashed, whether or not its file changed since it was verified (`verified/<algorithm>/<hex>`). What is not on disk
    is looked for in `remote`, if there is one.
    """

    def __init__(self, root: Path, *, kinds: frozenset[str] | None = None, verify: bool = False) -> None:
        self.root = root
        self.remote: Remote | None = None
        self._kinds = kinds
        self._verify = verify
        self._stored: set[Path] = set()
        self._temporary = root / "tmp"
        self._verified: set[str] = set()
        self._partials: set[Path] = set()

    def blob(self, digest: str) -> Path | None:
        """The path of a blob, as it was verified; None if it is missing or corrupt."""
        path = self._place(digest)
        try:
            status = path.stat()
            if digest not in self._verified:
                if self._verify or not is_sealed(self._seal(digest), status):
                    with path.open("rb") as file:
                        if file_digest(file, digest.partition(":")[0]) != digest:
                            # `add` replaces it. Another process may have done so meanwhile.
                            return None
                    self._make_seal(digest, status)
                self._verified.add(digest)
        except OSError:
            return None
        return path

    def add(self, chunks: Iterable[bytes], digest: str, *, what: str) -> Path:
        """Store a blob. Raises DigestMismatchError, and stores nothing, if it does not have `digest`.

        `what` names the blob in the error. An existing blob is replaced: the caller found it missing or corrupt.
        """

        def mismatch(actual: str) -> DigestMismatchError:
            return DigestMismatchError(
                f"{what} has the wrong content: expected {digest}, got {actual}",
                hint="it was changed since, or damaged in transit; nothing of it was kept",
            )

        with self.temporary() as partial:
            with self.open(partial) as file:
                file.writelines(verified(chunks, digest, mismatch))
            return self._publish(partial, digest)

    def adopt(self, partial: Path, digest: str) -> Path:
        """Store a complete file of `temporary()` as a blob; `digest` was computed while it was written."""
        return self._publish(partial, digest)

    @contextlib.contextmanager
    def temporary(self) -> Iterator[Path]:
        """A temporary file in the cache, for `open`. It is removed at the end of the block unless it was adopted."""
        with contextlib.ExitStack() as stack:
            with writing(self._temporary, otherwise=CACHE_ELSEWHERE):
                if self._is_ours():
                    sweep(self._temporary)
                self._temporary.mkdir(parents=True, exist_ok=True)
                partial = stack.enter_context(partial_file(self._temporary))
            self._partials.add(partial)
            stack.callback(self._partials.discard, partial)
            yield partial

    def open(self, partial: Path) -> BinaryIO:
        """Open a file of `temporary()` to write and read it. Raises OutputError if the file system refuses."""
        return spool(partial, self._temporary, otherwise=CACHE_ELSEWHERE)

    def _is_ours(self) -> bool:
        """Whether the directory has our tag, or is empty; then it gets the tag."""
        self.root.mkdir(parents=True, exist_ok=True)
        tag = self.root / "CACHEDIR.TAG"
        try:
            text = tag.read_text(encoding="utf-8")
        except (OSError, ValueError):
            text = ""
        # A killed process may have written a part of the tag.
        if text != _TAG and _TAG.startswith(text) and {path.name for path in self.root.iterdir()} <= {tag.name}:
            tag.write_text(_TAG, encoding="utf-8")
            return True
        return text == _TAG

    def log_path(self, name: str) -> Path:
        """The path of a container's log."""
        return self.root / "logs" / f"{name}.log"

    def abandon(self) -> None:
        """Remove the temporary files of threads that were abandoned."""
        for partial in list(self._partials):
            with contextlib.suppress(OSError):
                partial.unlink()

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """A JSON document; None if it is missing or corrupt."""
        value = self.stored(kind, key)
        return value if value is not None else self.distant(kind, key)

    def distant(self, kind: str, key: str) -> dict[str, Any] | None:
        """A JSON document of the remote cache, which is not stored: it can be had again. None without one."""
        return self.remote.get(kind, key) if self.remote is not None and self._kinds is None else None

    def expect(self, kind: str, keys: Iterable[str]) -> None:
        """Let the remote cache look at once for several documents that are not on disk."""
        if self.remote is not None and self._kinds is None:
            self.remote.expect(kind, [key for key in keys if not self._document(kind, key).exists()])

    def fetch(self, digest: str) -> Path | None:
        """`blob`, or the blob from the remote cache; None if that fails."""
        path = self.blob(digest)
        for _ in range(_ATTEMPTS):
            if path is None and self.remote is not None and self.remote.has(digest):
                with contextlib.suppress(ArtifactError, NetworkError):
                    path = self.add(self.remote.chunks(digest), digest, what="a blob of the remote cache")
        return path

    def stored(self, kind: str, key: str) -> dict[str, Any] | None:
        """A JSON document on disk; None if it is missing or corrupt."""
        path = self._document(kind, key)
        if self._kinds is not None and kind not in self._kinds and path not in self._stored:
            return None
        try:
            checksum, _, data = path.read_bytes().partition(b"\n")
            document = json.loads(data) if checksum == _checksum(data) else None
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(document, dict) or document.get("key") != key:
            return None
        value = document.get("value")
        if not isinstance(value, dict):
            return None
        if self.remote is not None:
            self.remote.use(kind, key)
        return value

    def put(self, kind: str, key: str, value: dict[str, Any]) -> None:
        """Store a JSON document under its cache key, which covers everything that shapes it."""
        path = self._document(kind, key)
        data = json.dumps({"key": key, "value": value}, sort_keys=True).encode()
        with self.temporary() as partial:
            with self.open(partial) as file:
                file.write(_checksum(data) + b"\n" + data)
            with writing(path, otherwise=CACHE_ELSEWHERE):
                path.parent.mkdir(parents=True, exist_ok=True)
                _publish(partial, path, lambda: self.stored(kind, key) is not None)
        self._stored.add(path)
        if self.remote is not None:
            self.remote.use(kind, key)

    def _publish(self, partial: Path, digest: str) -> Path:
        path = self._place(digest)
        with writing(path, otherwise=CACHE_ELSEWHERE):
            path.parent.mkdir(parents=True, exist_ok=True)
            _publish(partial, path, lambda: self.blob(digest) is not None)
        with contextlib.suppress(OSError):
            self._make_seal(digest, path.stat())
        self._verified.add(digest)
        return path

    def _make_seal(self, digest: str, status: os.stat_result) -> None:
        """Record that a blob was verified. Where that cannot be written, it is verified again by the next process."""
        seal = self._seal(digest)
        with contextlib.suppress(OSError):
            seal.parent.mkdir(parents=True, exist_ok=True)
            make_seal(seal, status)

    def _seal(self, digest: str) -> Path:
        algorithm, _, value = digest.partition(":")
        return self.root / "verified" / algorithm / value

    def _place(self, digest: str) -> Path:
        algorithm, _, value = digest.partition(":")
        return self.root / "blobs" / algorithm / value

    def _document(self, kind: str, key: str) -> Path:
        return self.root / kind / hashlib.sha256(key.encode()).hexdigest()


def _publish(partial: Path, path: Path, exists: Callable[[], bool]) -> None:
    """Publish a file, unless another process just did: Windows does not replace open files."""
    try:
        publish(partial, path)
    except PermissionError:
        if not exists():
            raise


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
