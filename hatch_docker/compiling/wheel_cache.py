"""Compiled wheels in the cache, under all that shaped them.

That is the sdist, where and for which target it was compiled, what was left out, and what it was built with. The last
is known only once it was compiled: so that is kept too, under the rest and what decides about it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from hatch_docker.base.target import TargetPython
from hatch_docker.compiling.jobs import Compiled, Job
from hatch_docker.compiling.repack import repack
from hatch_docker.compiling.requirements import BuildLock
from hatch_docker.index.download import FetchedFile
from hatch_docker.support.cache import Cache
from hatch_docker.support.streams import file_digest

# Part of every key: another way to build has another number.
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledWheel:
    """A wheel that was compiled of an sdist: why, where and with what.

    `sdist` and `digest` name the sdist, `builder` the image by digest, empty for what was built on this machine, and
    `packages` the OS packages that were put into that, each with its version. `requirements` are the build
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
class Made:
    """A wheel, and how it was built."""

    file: FetchedFile
    how: CompiledWheel


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelCache:
    """The compiled wheels for a target. `exclude` are the libraries that no wheel brings.

    `scope` is what decides, besides the target, which files build requirements are resolved to: two projects that ask
    different indexes do not share. `place`, in the methods, is where something is compiled.
    """

    cache: Cache
    target: TargetPython
    scope: str
    exclude: tuple[str, ...]

    def plan(self, job: Job, place: str) -> BuildLock | None:
        """What an earlier build found that an sdist is built with."""
        document = self.cache.get("plans", self._planned(job, place))
        try:
            return BuildLock.from_json(document) if document else None
        except (KeyError, TypeError):
            return None

    def find(self, job: Job, place: str, builder: str = "") -> Made | None:
        """What an earlier build made of the same. `builder` is what is recorded of it."""
        plan = self.plan(job, place)
        document = self.cache.get("compiled", self._compiled(job, place, plan)) if plan else None
        if plan is None or document is None:
            return None
        filename, digest = str(document.get("filename")), str(document.get("digest"))
        compiled = Compiled(filename=filename, plan=plan, packages=tuple(map(str, document.get("packages", ()))))
        path = self.cache.blob(digest)
        return _made(job, path, digest, compiled, builder) if path else None

    def keep(self, job: Job, place: str, builder: str, wheel: Path, compiled: Compiled) -> Made:
        """Store a wheel by its content, so that what two machines compile alike is the same.

        Raises WheelError for one that breaks its specification.
        """
        with self.cache.temporary() as partial_file:
            with partial_file.open("wb") as out:
                repack(wheel, out, compiled.filename)
            with partial_file.open("rb") as file:
                digest = file_digest(file)
            path = self.cache.adopt(partial_file, digest)
        document = {"filename": compiled.filename, "digest": digest, "packages": list(compiled.packages)}
        self.cache.put("compiled", self._compiled(job, place, compiled.plan), document)
        self.cache.put("plans", self._planned(job, place), compiled.plan.to_json())
        return _made(job, path, digest, compiled, builder)

    def remember(self, what: str, job: Job, place: str) -> None:
        """Note something about an sdist."""
        self.cache.put(what, self._key(job, place), {})

    def is_known_as(self, what: str, job: Job, place: str) -> bool:
        """Whether that was noted."""
        return self.cache.get(what, self._key(job, place)) is not None

    def _key(self, job: Job, place: str) -> str:
        target = self.target
        python = [target.minor, target.free_threaded, str(target.platform), str(target.libc)]
        return json.dumps([_FORMAT, job.file.digest, place, python, sorted(self.exclude)])

    def _planned(self, job: Job, place: str) -> str:
        return json.dumps([self._key(job, place), self.scope])

    def _compiled(self, job: Job, place: str, plan: BuildLock) -> str:
        return json.dumps([self._key(job, place), plan.to_json()], sort_keys=True)


def _made(job: Job, path: Path, digest: str, compiled: Compiled, builder: str) -> Made:
    algorithm, _, value = digest.partition(":")
    artifact = replace(
        job.file.artifact, filename=compiled.filename, url="", hashes={algorithm: value}, size=path.stat().st_size
    )
    how = CompiledWheel(
        name=job.sdist.name,
        version=job.sdist.version,
        reason=job.reason,
        sdist=job.sdist.filename,
        digest=job.file.digest,
        builder=builder,
        packages=compiled.packages,
        requirements=tuple(compiled.plan.lines),
    )
    return Made(file=FetchedFile(artifact=artifact, path=path, digest=digest), how=how)
