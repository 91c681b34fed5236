"""The cache on disk: blobs by digest, and small JSON documents by key.

Entries are written to a temporary file, flushed, and renamed, so that a killed process or concurrent processes never
leave half an entry. A blob is hashed when it is written, and again only if its file changed since; a document has a
checksum, which is verified whenever it is read. A corrupt entry is a miss.

What is missing is made by one thread of all processes that need it. Entries that were not used for long are removed if
the cache is too large, and temporary files of killed processes by the next one, if the directory has our CACHEDIR.TAG,
which also excludes it from backups (Cache Directory Tagging Specification). Where the directory cannot be written, new
entries are kept elsewhere until the process ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from hatch_docker.errors import ArtifactError, DigestMismatchError, NetworkError
from hatch_docker.support import room, runs, scratch
from hatch_docker.support.atomic import existing_part, partial_file, publish, spool, sweep, writing
from hatch_docker.support.directories import CACHE_ELSEWHERE, private_directory
from hatch_docker.support.documents import blob_path, decoded, document_path, encoded
from hatch_docker.support.flocks import PATIENCE, alone, progressed, remove_free
from hatch_docker.support.room import LOCKS, RUNS, SEALS, TEMPORARY
from hatch_docker.support.seals import is_sealed, make_seal
from hatch_docker.support.streams import file_digest, verified

_T = TypeVar("_T")

# How often a blob of a remote cache is requested.
_ATTEMPTS = 2
_TAG = """\
Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of hatch-docker, made anew when it is missing.
"""
_SPARE = "cache-"
# In bytes: how much a process writes before it notes that.
_NOTED = 1 << 20
# In seconds: how long to wait for builds that verify entries, before entries are removed.
_LONGEST_CHECK = 10
# In seconds: how long a process lasts at most, where it cannot be seen whether it ended.
_LONGEST = 24 * 3600


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

    A document's file is as `support.documents` has it. If `kinds` is given, documents of other kinds are
    found only if this object stored them: results of earlier runs are not used, but replaced. With `verify`, every blob
    is hashed, whether or not its file changed since it was verified (`verified/<algorithm>/<hex>`). `most` is how many
    bytes the entries may have on disk, 0 for any number. `warn` says where entries are kept if not in the directory.
    What is not on disk is looked for in `remote`, if there is one.
    """

    def __init__(
        self,
        root: Path,
        *,
        kinds: frozenset[str] | None = None,
        verify: bool = False,
        most: int = 0,
        warn: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.root = root
        self.remote: Remote | None = None
        self._kinds = kinds
        self._verify = verify
        self.most = most
        # When the build began that uses it, in nanoseconds since the epoch.
        self.opened = time.time_ns()
        self._warn = warn
        # The directory, and one of this process for what cannot be written there.
        self._folders = [root]
        self._begun: runs.Run | None = None
        self._ours = False
        self._guard, self._beginning = threading.Lock(), threading.Lock()
        self._stored: set[Path] = set()
        self._used: set[Path] = set()
        self._verified: dict[str, Path] = {}
        self._partials: set[Path] = set()
        # In bytes: since it was noted, and whether there was anything.
        self._written = 0
        self._grew = False

    def blob(self, digest: str) -> Path | None:
        """The path of a blob, as it was verified; None if it is missing or corrupt."""
        known = self._verified.get(digest)
        if known is not None and known.exists():
            return known
        for folder in self._folders:
            with contextlib.suppress(OSError):
                if self._is_right(folder, digest):
                    self._used.add(_seal(folder, digest))
                    self._verified[digest] = _blob(folder, digest)
                    return self._verified[digest]
        return None

    def _is_right(self, folder: Path, digest: str) -> bool:
        """Whether a folder has a blob, verified or just as it was. Nobody removes it from now on. Raises OSError."""
        path, seal = _blob(folder, digest), _seal(folder, digest)
        if not self._verify and is_sealed(seal, path.stat()) and _use(seal, self._run().began):
            return True
        # While it has no seal, nothing says that it is used.
        with path.open("rb") as file, runs.entering(self.root / RUNS):
            status = path.stat()
            # If not, `add` replaces it. Another process may have done so meanwhile.
            if file_digest(file, digest.partition(":")[0]) != digest:
                return False
            _make_seal(seal, status)
        return True

    def once(
        self, key: str, find: Callable[[], _T | None], make: Callable[[], _T], *, patience: float = PATIENCE
    ) -> _T:
        """What `find` returns, or else `make`, which one thread of all processes runs for a `key`: the others wait.

        If it is killed, another one takes its place. If it fails, or writes nothing to the cache for `patience`
        seconds, they run `make` themselves.
        """
        found = find()
        if found is not None:
            return found
        self._run()
        with alone(self.root / LOCKS / hashlib.sha256(key.encode()).hexdigest(), patience=patience):
            found = find()
            return make() if found is None else found

    def fetch(self, digest: str, make: Callable[[], Path]) -> Path:
        """The path of a blob, which `make` adds if it is missing or corrupt, as `once` does."""
        return self.once(digest, lambda: self.blob(digest), make)

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
            return self.adopt(partial, digest)

    def adopt(self, partial: Path, digest: str) -> Path:
        """Store a complete file of `temporary()` as a blob; `digest` was computed while it was written."""
        path = self._store(partial, lambda folder: _blob(folder, digest), lambda: self.blob(digest) is not None)
        with contextlib.suppress(OSError):
            _make_seal(_seal(path.parents[2], digest), path.stat())
        self._note(room.BLOCK)
        self._used.add(_seal(path.parents[2], digest))
        self._verified[digest] = path
        return path

    @contextlib.contextmanager
    def temporary(self) -> Iterator[Path]:
        """A temporary file in the cache, for `open`. It is removed at the end of the block unless it was adopted."""
        name, folder = self._run().name, self._folder() / TEMPORARY
        with contextlib.ExitStack() as stack:
            with writing(folder, otherwise=CACHE_ELSEWHERE):
                if self._ours:
                    sweep(folder)
                folder.mkdir(parents=True, exist_ok=True)
                partial = stack.enter_context(partial_file(folder, f"{name}-" if name else ""))
            self._partials.add(partial)
            stack.callback(self._partials.discard, partial)
            yield partial

    def open(self, partial: Path) -> BinaryIO:
        """Open a file of `temporary()` to write and read it. Raises OutputError if the file system refuses."""
        return spool(partial, partial.parent, otherwise=CACHE_ELSEWHERE, wrote=progressed)

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
            self.remote.expect(kind, [key for key in keys if not _document(self.root, kind, key).exists()])

    def obtain(self, digest: str) -> Path | None:
        """`blob`, or the blob from the remote cache; None if that fails."""
        path, remote = self.blob(digest), self.remote
        if path is not None or remote is None or not remote.has(digest):
            return path
        return self.once(digest, lambda: self.blob(digest), lambda: self._received(remote, digest))

    def _received(self, remote: Remote, digest: str) -> Path | None:
        for _ in range(_ATTEMPTS):
            if remote.has(digest):
                with contextlib.suppress(ArtifactError, NetworkError):
                    return self.add(remote.chunks(digest), digest, what="a blob of the remote cache")
        return None

    def stored(self, kind: str, key: str) -> dict[str, Any] | None:
        """A JSON document on disk; None if it is missing or corrupt."""
        # The newest first: where the cache cannot be written, it may be outdated.
        for folder in reversed(self._folders):
            path = _document(folder, kind, key)
            if self._kinds is not None and kind not in self._kinds and path not in self._stored:
                continue
            try:
                value = decoded(path.read_bytes(), key)
                _use(path, self._run().began)
            except OSError:
                continue
            if value is not None:
                self._used.add(path)
                if self.remote is not None:
                    self.remote.use(kind, key)
                return value
        return None

    def put(self, kind: str, key: str, value: dict[str, Any]) -> None:
        """Store a JSON document under its cache key, which covers everything that shapes it."""
        with self.temporary() as partial:
            with self.open(partial) as file:
                file.write(encoded(key, value))
            exists = lambda: self.stored(kind, key) is not None  # noqa: E731
            path = self._store(partial, lambda folder: _document(folder, kind, key), exists)
        self._stored.add(path)
        self._used.add(path)
        if self.remote is not None:
            self.remote.use(kind, key)

    def used(self) -> list[str]:
        """The entries in the directory that were used or stored: the relative paths of the files with their times."""
        return sorted(str(path.relative_to(self.root)) for path in list(self._used) if self.root in path.parents)

    def document(self, kind: str, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A JSON document, which `make` makes if it is missing or corrupt, as `once` does."""

        def made() -> dict[str, Any]:
            value = make()
            self.put(kind, key, value)
            return value

        return self.once(f"{kind} {key}", lambda: self.get(kind, key), made)

    def log_path(self, name: str) -> Path:
        """The path of a container's log."""
        return self._folder() / "logs" / f"{name}.log"

    def close(self) -> None:
        """Remove the temporary files of threads that were abandoned, and entries if the cache is larger than it may be.

        It may be used again. What this process used is not removed as long as it runs.
        """
        for partial in list(self._partials):
            with contextlib.suppress(OSError):
                partial.unlink()
        if not self._grew or not self._ours:
            return
        self._note(0)
        size = room.estimate(self.root)
        if self.most and (size is None or size > self.most):
            with self.removing() as before:
                room.make_room(self.root, self.most, before=before)
        self._grew = False

    @contextlib.contextmanager
    def removing(self) -> Iterator[int]:
        """A block that may remove entries, in which no build begins. Entries that were used since then are in use.

        The value is a time in nanoseconds, 0 if nothing can be removed now.
        """
        name, folder = self._run().name, self.root / RUNS
        with runs.excluding(folder, patience=_LONGEST_CHECK) as alone_here:
            before = runs.oldest(folder)
            if not name:
                before -= _LONGEST * 10**9
            yield 0 if alone_here is False or not self._ours else before

    def _run(self) -> runs.Run:
        """The run that uses the cache. It begins with the first call."""
        if self._begun is None:
            with self._beginning:
                self._begun = self._begun or self._begin()
        return self._begun

    def _begin(self) -> runs.Run:
        """Record that this process uses the cache, and remove what killed ones left."""
        folder = self.root / RUNS
        scratch.sweep()
        with contextlib.suppress(OSError):
            if self._is_ours():
                self._ours = True
                for each in (RUNS, LOCKS, TEMPORARY):
                    (self.root / each).mkdir(exist_ok=True)
                with runs.excluding(folder, patience=0) as alone_here:
                    if alone_here:
                        if runs.remove_ended(folder):
                            remove_free(self.root / LOCKS)
                        sweep(self.root / TEMPORARY, runs.running(folder))
        return runs.Run(folder)

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

    def _folder(self) -> Path:
        """The directory for new entries: the cache's, or one of this process if that cannot be written."""
        with self._guard:
            if len(self._folders) == 1:
                existing = existing_part(self.root / TEMPORARY)
                if existing.is_dir() and not os.access(existing, os.W_OK | os.X_OK):
                    self._folders.append(self._spare())
            return self._folders[-1]

    def _spare(self) -> Path:
        """A directory that lasts as long as this process. Raises OutputError."""
        self._warn(f"the cache {self.root} cannot be written: what it lacks is kept only until this build ends")
        folder = private_directory()
        with writing(folder, otherwise=CACHE_ELSEWHERE):
            _sweep_spares(folder)
            spare = Path(tempfile.mkdtemp(prefix=_SPARE, dir=folder))
        weakref.finalize(self, shutil.rmtree, spare, ignore_errors=True)
        return spare

    def _store(self, partial: Path, place: Callable[[Path], Path], exists: Callable[[], bool]) -> Path:
        """Move a complete file of `temporary()` to its place in the same folder; the path. Raises OutputError."""
        folder = partial.parents[1]
        path = place(folder)
        with writing(path, otherwise=CACHE_ELSEWHERE):
            path.parent.mkdir(parents=True, exist_ok=True)
            _publish(partial, path, exists)
            size = path.stat().st_size
        if folder == self.root:
            self._note(room.on_disk(size))
        return path

    def _note(self, size: int) -> None:
        """Note that so many bytes were written; 0 writes down what was noted before."""
        with self._guard:
            self._written += size
            self._grew = True
            if self._ours and self._written > (_NOTED if size else 0):
                with contextlib.suppress(OSError):
                    room.recorded(self.root, self._written)
                    self._written = 0


def _use(path: Path, began: int) -> bool:
    """Record the use of an entry in the time of its file, once for each process. Whether the entry is there."""
    try:
        if path.stat().st_mtime_ns < began:
            os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:
        # Another user's, or on a read-only file system.
        return True
    return True


def _make_seal(seal: Path, status: os.stat_result) -> None:
    """Record that a blob was verified. Where that cannot be written, it is verified again by the next process."""
    with contextlib.suppress(OSError):
        seal.parent.mkdir(parents=True, exist_ok=True)
        make_seal(seal, status)


def _publish(partial: Path, path: Path, exists: Callable[[], bool]) -> None:
    """Publish a file, unless another process just did: Windows does not replace open files."""
    try:
        publish(partial, path)
    except PermissionError:
        if not exists():
            raise


def _blob(folder: Path, digest: str) -> Path:
    return Path(blob_path(str(folder), digest))


def _seal(folder: Path, digest: str) -> Path:
    algorithm, _, value = digest.partition(":")
    return folder / SEALS / algorithm / value


def _document(folder: Path, kind: str, key: str) -> Path:
    return Path(document_path(str(folder), kind, key))


def _sweep_spares(folder: Path) -> None:
    """Remove the directories of processes that were killed."""
    for path in folder.glob(f"{_SPARE}*"):
        if path.lstat().st_mtime < time.time() - _LONGEST:
            shutil.rmtree(path, ignore_errors=True)
