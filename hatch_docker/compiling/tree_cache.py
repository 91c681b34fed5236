"""The cache of what was built from source trees: wheels, sdists for the builder, and how each is built."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from hatch_docker.base.target import TargetPython
from hatch_docker.compiling.dist_info import BuiltMetadata
from hatch_docker.compiling.requirements import BuildLock
from hatch_docker.compiling.sdist import UNKNOWN_VERSION
from hatch_docker.compiling.wheel_cache import adopt, store_wheel
from hatch_docker.errors import CompileError
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile
from hatch_docker.locks.model import parse_filename
from hatch_docker.oci.tar import MTIME
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.patterns import regex
from hatch_docker.support.sources import OUTPUT

# Part of every cache key: raise it if builds change.
_FORMAT = 1
# The outputs and other files that builds write, in an sdist.
_OUTPUT = regex(rf"[^/]+/dist/(?:{OUTPUT.pattern})")


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeKey:
    """What identifies a source tree in the cache.

    `configuration` decides how it is built: its place, and its build files. `content` decides what is built; it is
    empty if that may depend on something else, so that nothing built from it is cached.
    """

    configuration: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeCache:
    """What was built from source trees for a target, by the Python of this machine (`place`).

    `scope` is a digest of the settings that decide what build requirements resolve to.
    """

    cache: Cache
    target: TargetPython
    scope: str
    place: str

    def lock(self, key: TreeKey) -> BuildLock | None:
        """The build lock of an earlier build; None if there was none."""
        document = self.cache.get("tree-locks", self._lock_key(key))
        try:
            return BuildLock.from_json(document) if document else None
        except (KeyError, TypeError):
            return None

    def wheel(self, key: TreeKey, artifact: Artifact) -> FetchedFile | None:
        """The wheel of an earlier build from the same files with the same build lock; None if there is none."""
        lock = self.lock(key)
        return self._find("tree-wheels", self._wheel_key(key, lock), artifact) if lock else None

    def sdist(self, key: TreeKey, artifact: Artifact) -> FetchedFile | None:
        """The sdist of an earlier build from the same files; None if there is none."""
        return self._find("tree-sdists", self._sdist_key(key), artifact)

    def store_wheel(self, key: TreeKey, lock: BuildLock, artifact: Artifact, wheel: Path) -> FetchedFile:
        """Store a wheel, repacked. Raises WheelError for a wheel that breaks its specification."""
        path, digest = store_wheel(wheel, wheel.name, self.cache)
        self.cache.put("tree-locks", self._lock_key(key), lock.to_json())
        return self._store("tree-wheels", self._wheel_key(key, lock), artifact, (wheel.name, path, digest))

    def store_sdist(self, key: TreeKey, lock: BuildLock, artifact: Artifact, sdist: Path) -> FetchedFile:
        """Store a .tar.gz, normalized, so that equal files are compiled once. Raises CompileError if it is broken."""
        with self.cache.temporary() as partial_file:
            with self.cache.open(partial_file) as file:
                _normalize(sdist, file)
            path, digest = adopt(partial_file, self.cache)
        self.cache.put("tree-locks", self._lock_key(key), lock.to_json())
        return self._store("tree-sdists", self._sdist_key(key), artifact, (sdist.name, path, digest))

    def metadata(self, key: TreeKey) -> BuiltMetadata | None:
        """The metadata of an earlier build from the same files with the same build lock; None if there is none."""
        lock = self.lock(key)
        wheel_key = self._wheel_key(key, lock) if lock else ""
        document = self.cache.get("tree-metadata", wheel_key) if wheel_key else None
        return BuiltMetadata.from_json(document) if document else None

    def store_metadata(self, key: TreeKey, lock: BuildLock, metadata: BuiltMetadata) -> None:
        """Store the metadata that was made with a build lock."""
        self.cache.put("tree-locks", self._lock_key(key), lock.to_json())
        if wheel_key := self._wheel_key(key, lock):
            self.cache.put("tree-metadata", wheel_key, metadata.to_json())

    def impure(self, key: TreeKey) -> str:
        """Why the tree must be built in the builder, as an earlier build found out; empty if that is not known."""
        document = self.cache.get("tree-impure", key.configuration)
        return str(document.get("reason", "")) if document else ""

    def mark_impure(self, key: TreeKey, reason: str) -> None:
        """Record that the tree must be built in the builder."""
        self.cache.put("tree-impure", key.configuration, {"reason": reason})

    def _find(self, kind: str, key: str, artifact: Artifact) -> FetchedFile | None:
        document = self.cache.get(kind, key) if key else None
        if document is None:
            return None
        digest = str(document.get("digest"))
        path = self.cache.blob(digest)
        if path is None:
            return None
        return _fetched(artifact, str(document.get("filename")), path, digest)

    def _store(self, kind: str, key: str, artifact: Artifact, made: tuple[str, Path, str]) -> FetchedFile:
        filename, path, digest = made
        if key:
            self.cache.put(kind, key, {"filename": filename, "digest": digest})
        return _fetched(artifact, filename, path, digest)

    def _lock_key(self, key: TreeKey) -> str:
        target = self.target
        python = [target.minor, target.free_threaded, str(target.platform), str(target.libc)]
        return json.dumps([_FORMAT, key.configuration, self.place, python, self.scope])

    def _sdist_key(self, key: TreeKey) -> str:
        return json.dumps([_FORMAT, key.content, self.place]) if key.content else ""

    def _wheel_key(self, key: TreeKey, lock: BuildLock) -> str:
        """The cache key of a wheel; empty if it may depend on a local directory that it was built with."""
        if not key.content or lock.has_directories:
            return ""
        return json.dumps([_FORMAT, key.content, self._lock_key(key), lock.to_json()], sort_keys=True)


def _fetched(artifact: Artifact, filename: str, path: Path, digest: str) -> FetchedFile:
    algorithm, _, value = digest.partition(":")
    found = parse_filename(filename)
    version = str(found[1]) if found else artifact.version
    version = "" if version == UNKNOWN_VERSION else version
    built = replace(artifact, version=version, filename=filename, hashes={algorithm: value}, size=path.stat().st_size)
    return FetchedFile.at(path, built, digest)


def _normalize(sdist: Path, file: BinaryIO) -> None:
    """Write the tar again: sorted, with one date and owner, so that its bytes depend only on its files.

    What our earlier builds wrote to `dist` is left out: some backends pack whatever Git does not ignore.
    """
    try:
        with (
            tarfile.open(sdist) as source,
            gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as target,
        ):
            for member in sorted(_without_outputs(source.getmembers()), key=lambda each: each.name):
                executable = member.isdir() or bool(member.mode & 0o100)
                info = tarfile.TarInfo(member.name)
                info.type, info.linkname, info.size = member.type, member.linkname, member.size
                info.mtime, info.mode = MTIME, 0o755 if executable else 0o644
                target.addfile(info, source.extractfile(member) if member.isreg() else None)
    except (OSError, tarfile.TarError, EOFError, ValueError) as error:
        raise CompileError(f"the sdist that was built here cannot be read: {error}", place=sdist.name) from None


def _without_outputs(members: Sequence[tarfile.TarInfo]) -> Iterator[tarfile.TarInfo]:
    outputs = {each.name for each in members if _OUTPUT.fullmatch(each.name)}
    directories = {each.name.rpartition("/")[0] for each in members if each.name not in outputs}
    for each in members:
        is_left = each.isdir() and each.name.endswith("/dist") and outputs and each.name not in directories
        if each.name not in outputs and not is_left:
            yield each
