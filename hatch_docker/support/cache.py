"""The cache on disk: blobs by digest, and small JSON documents by key.

Entries are written to a temporary name beside their place, flushed, and renamed, so that a killed process or two
processes at once never leave half an entry. Entries are verified when they are looked up: a corrupt one is a miss.
Temporary files of processes that died are swept away after a day, if the folder is ours: it has a CACHEDIR.TAG, which
also keeps it out of backups (Cache Directory Tagging Specification).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from hatch_docker.errors import DigestMismatchError
from hatch_docker.support.atomic import partial_file, publish, sweep, writing
from hatch_docker.support.streams import file_digest, verified

_TAG = """\
Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of hatch-docker, made anew when it is missing.
"""
_ELSEWHERE = "name another folder with HATCH_DOCKER_CACHE_DIR"


class Cache:
    """A folder of content-addressed blobs (`blobs/<algorithm>/<hex>`) and JSON documents (`<kind>/<hash>`).

    A document stands below a line with its own checksum.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._temporary = root / "tmp"
        self._verified: set[str] = set()
        self._partials: set[Path] = set()

    def blob(self, digest: str) -> Path | None:
        """The path of a blob whose bytes have been checked, once in this process; None when there is none."""
        path = self._place(digest)
        if digest in self._verified and path.exists():
            return path
        try:
            with path.open("rb") as file:
                found = file_digest(file, digest.partition(":")[0])
        except OSError:
            return None
        if found != digest:
            # It is left for `add` to replace: by now another process may have done so.
            return None
        self._verified.add(digest)
        return path

    def add(self, chunks: Iterable[bytes], digest: str, *, what: str) -> Path:
        """Store a blob while it streams; raise DigestMismatchError, and keep nothing, when it is not `digest`.

        `what` names the blob in the error. An existing blob is replaced: the caller found it missing or corrupt.
        """

        def mismatch(actual: str) -> DigestMismatchError:
            return DigestMismatchError(
                f"{what} has the wrong content: expected {digest}, got {actual}",
                hint="it was changed since, or damaged on its way; nothing of it was kept",
            )

        with self.temporary() as partial:
            with partial.open("wb") as file:
                file.writelines(verified(chunks, digest, mismatch))
            return self._publish(partial, digest)

    def adopt(self, partial: Path, digest: str) -> Path:
        """Move a finished file made under `temporary()` to its place; `digest` was computed while it was written."""
        return self._publish(partial, digest)

    @contextlib.contextmanager
    def temporary(self) -> Iterator[Path]:
        """A temporary file name inside the cache, gone at the end of the block unless it was adopted."""
        with writing(self._temporary, otherwise=_ELSEWHERE):
            if self._is_ours():
                sweep(self._temporary)
            self._temporary.mkdir(parents=True, exist_ok=True)
            with partial_file(self._temporary) as partial:
                self._partials.add(partial)
                try:
                    yield partial
                finally:
                    self._partials.discard(partial)

    def _is_ours(self) -> bool:
        """Whether the folder was made for this cache, or was empty when the cache came to it."""
        self.root.mkdir(parents=True, exist_ok=True)
        tag = self.root / "CACHEDIR.TAG"
        try:
            text = tag.read_text(encoding="utf-8")
        except (OSError, ValueError):
            text = ""
        # What a killed process wrote of it is written again.
        if text != _TAG and _TAG.startswith(text) and {path.name for path in self.root.iterdir()} <= {tag.name}:
            tag.write_text(_TAG, encoding="utf-8")
            return True
        return text == _TAG

    def log_path(self, name: str) -> Path:
        """The path of a container's log."""
        return self.root / "logs" / f"{name}.log"

    def abandon(self) -> None:
        """Remove the temporary files of threads that were given up while they waited for something."""
        for partial in list(self._partials):
            with contextlib.suppress(OSError):
                partial.unlink()

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """A JSON document; None where there is none or it is not what was stored."""
        try:
            checksum, _, data = self._document(kind, key).read_bytes().partition(b"\n")
            document = json.loads(data) if checksum == _checksum(data) else None
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(document, dict) or document.get("key") != key:
            return None
        value = document.get("value")
        return value if isinstance(value, dict) else None

    def put(self, kind: str, key: str, value: dict[str, Any]) -> None:
        """Store a JSON document. `key` says everything that shaped it."""
        path = self._document(kind, key)
        data = json.dumps({"key": key, "value": value}, sort_keys=True).encode()
        with self.temporary() as partial:
            partial.write_bytes(_checksum(data) + b"\n" + data)
            path.parent.mkdir(parents=True, exist_ok=True)
            _publish(partial, path, lambda: self.get(kind, key) is not None)

    def _publish(self, partial: Path, digest: str) -> Path:
        path = self._place(digest)
        with writing(path, otherwise=_ELSEWHERE):
            path.parent.mkdir(parents=True, exist_ok=True)
            _publish(partial, path, lambda: self.blob(digest) is not None)
        self._verified.add(digest)
        return path

    def _place(self, digest: str) -> Path:
        algorithm, _, value = digest.partition(":")
        return self.root / "blobs" / algorithm / value

    def _document(self, kind: str, key: str) -> Path:
        return self.root / kind / hashlib.sha256(key.encode()).hexdigest()


def _publish(partial: Path, path: Path, is_there: Callable[[], bool]) -> None:
    """Publish a file, unless another process just did: Windows replaces none that somebody reads."""
    try:
        publish(partial, path)
    except PermissionError:
        if not is_there():
            raise


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
