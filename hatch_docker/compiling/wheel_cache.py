"""The cache of compiled wheels.

A wheel's cache key has the sdist, the environment that compiles, the target, the excluded libraries and the build lock.
The build lock is known only after a first build, so it is cached itself, by the rest of the key and the resolution's
settings.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hatch_docker.base.target import TargetPython
from hatch_docker.compiling.jobs import Compiled, Job
from hatch_docker.compiling.repack import repack
from hatch_docker.compiling.requirements import BuildLock
from hatch_docker.index.download import FetchedFile
from hatch_docker.locks.model import parse_filename
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.streams import file_digest

# Part of every cache key: raise it if builds change.
_FORMAT = 1
# The place of builds without a builder: another Python may build another wheel from a pure sdist.
LOCAL = f"this machine {sys.platform} {sys.version_info[:2]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledWheel:
    """The record of a compiled wheel: from which sdist, why, where, and with what it was built.

    `sdist` and `digest` identify the sdist, `builder` is the image by digest, empty for a build on this machine.
    `packages` are the OS packages that were added to the builder, each with its version, `requirements` the build
    requirements, each with version and hash.
    """

    name: str
    version: str
    reason: str
    sdist: str
    digest: str
    builder: str
    packages: tuple[str, ...]
    requirements: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltWheel:
    """A compiled wheel, and the record of its build."""

    file: FetchedFile
    record: CompiledWheel


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelCache:
    """The compiled wheels for a target. `exclude` are the shared libraries that wheels do not bundle.

    `scope` is the digest of the settings that decide what build requirements resolve to: projects with different
    indexes do not share wheels. `place`, in the methods, identifies the builder, or this machine.
    """

    cache: Cache
    target: TargetPython
    scope: str
    exclude: tuple[str, ...]

    def build_lock(self, job: Job, place: str) -> BuildLock | None:
        """The build lock of an earlier build; None if there was none."""
        document = self.cache.get("plans", self._lock_key(job, place))
        try:
            return BuildLock.from_json(document) if document else None
        except (KeyError, TypeError):
            return None

    def find(self, job: Job, place: str, builder: str = "") -> BuiltWheel | None:
        """The wheel of an earlier build; None if there is none. `builder` is recorded in its CompiledWheel."""
        lock = self.build_lock(job, place)
        if lock is None or lock.has_directories:
            return None
        document = self.cache.get("compiled", self._wheel_key(job, place, lock))
        if document is None:
            return None
        filename, digest = str(document.get("filename")), str(document.get("digest"))
        compiled = Compiled(filename=filename, lock=lock, packages=tuple(map(str, document.get("packages", ()))))
        path = self.cache.obtain(digest)
        return _built(job, path, digest, compiled, builder) if path else None

    def store(self, job: Job, place: str, builder: str, wheel: Path, compiled: Compiled) -> BuiltWheel:
        """Store a wheel, repacked. Raises WheelError for a wheel that breaks its specification."""
        path, digest = store_wheel(wheel, compiled.filename, self.cache)
        document = {"filename": compiled.filename, "digest": digest, "packages": list(compiled.packages)}
        self.cache.put("compiled", self._wheel_key(job, place, compiled.lock), document)
        self.cache.put("plans", self._lock_key(job, place), compiled.lock.to_json())
        return _built(job, path, digest, compiled, builder)

    def mark_impure(self, digest: str, place: str) -> None:
        """Record that the sdist with this digest is not pure."""
        self.cache.put("impure", self._key(digest, place), {})

    def is_impure(self, digest: str, place: str) -> bool:
        """Whether an earlier build marked the sdist as impure."""
        return self.cache.get("impure", self._key(digest, place)) is not None

    def _key(self, digest: str, place: str) -> str:
        target = self.target
        python = [target.minor, target.free_threaded]
        if place == LOCAL:
            # A pure wheel suits all platforms.
            return json.dumps([_FORMAT, digest, place, python])
        return json.dumps(
            [_FORMAT, digest, place, [*python, str(target.platform), str(target.libc)], sorted(self.exclude)]
        )

    def _lock_key(self, job: Job, place: str) -> str:
        scopes = [self.scope, *([job.origin.scope] if job.origin else [])]
        return json.dumps([self._key(job.file.digest, place), *scopes])

    def _wheel_key(self, job: Job, place: str, lock: BuildLock) -> str:
        return json.dumps([self._key(job.file.digest, place), lock.to_json()], sort_keys=True)


def store_wheel(wheel: Path, filename: str, cache: Cache) -> tuple[Path, str]:
    """Store a wheel in the cache, repacked so that its bytes depend only on its content: its path and digest.

    Raises WheelError for a wheel that breaks its specification.
    """
    with cache.temporary() as partial_file:
        with cache.open(partial_file) as out:
            repack(wheel, out, filename)
        return adopt(partial_file, cache)


def adopt(partial_file: Path, cache: Cache) -> tuple[Path, str]:
    """Store a complete temporary file of the cache: its path and digest."""
    with partial_file.open("rb") as file:
        digest = file_digest(file)
    return cache.adopt(partial_file, digest), digest


def _built(job: Job, path: Path, digest: str, compiled: Compiled, builder: str) -> BuiltWheel:
    algorithm, _, value = digest.partition(":")
    found = parse_filename(compiled.filename)
    artifact = replace(
        job.file.artifact,
        version=job.sdist.version or (str(found[1]) if found else ""),
        filename=compiled.filename,
        url="",
        hashes={algorithm: value},
        size=path.stat().st_size,
    )
    record = CompiledWheel(
        name=job.sdist.name,
        version=artifact.version,
        reason=job.reason,
        sdist=job.sdist.filename,
        digest=job.file.digest,
        builder=builder,
        packages=compiled.packages,
        requirements=tuple(compiled.lock.lines),
    )
    return BuiltWheel(file=FetchedFile.at(path, artifact, digest), record=record)
