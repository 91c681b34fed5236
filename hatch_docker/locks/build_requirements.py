"""Resolve the requirements that sdists and source trees are built with, for the target alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from platform import python_version

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import ArtifactError, HatchDockerError, LockError, ResolveError
from hatch_docker.index.access import Indexes
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.sources import read_sources
from hatch_docker.locks.model import InstallRequest, as_file, is_file_of
from hatch_docker.locks.readers.pylock import read_pylock
from hatch_docker.locks.readers.requirements_file import read_constraints
from hatch_docker.locks.resolve import resolution_scope, resolve_for_target
from hatch_docker.locks.select import select
from hatch_docker.support.dataclasses import asdict, dataclass, replace
from hatch_docker.support.redaction import redact

_STRONG = frozenset(("sha256", "sha384", "sha512"))
_OTHER = "lock another version, or one that has a wheel"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResolver:
    """Resolves requirements that do not belong to a project, such as those that an sdist is built with.

    uv runs in the directory `root`, and keeps to the versions and hashes of the file `constraints`, whose text is
    `constraints_text`. `tree` is the local directory whose build requirements these are, None for an sdist: its sources
    apply.
    """

    target: TargetPython
    root: Path
    indexes: Indexes
    constraints: Path | None = None
    constraints_text: str = ""
    tree: Path | None = None

    @property
    def scope(self) -> str:
        """A digest of the settings, besides the target, that decide what requirements resolve to."""
        return resolution_scope(self.indexes.resolver, self.constraints_text)

    def for_tree(self, directory: Path) -> BuildResolver:
        """The resolver of the build requirements of a local directory, which has sources of its own."""
        return replace(self, tree=directory)

    def __call__(self, requirements: Sequence[str]) -> tuple[Artifact, ...]:
        """The artifacts of `requirements` for the target.

        Raises LockError, also for an sdist's requirement with a URL, and ResolveError.
        """
        request = self._request(requirements)
        allowed = read_constraints(self.constraints) if self.constraints else {}
        with as_file(self._resolve(request)) as path:
            try:
                artifacts = select(read_pylock(path, request, self.indexes.finder), request, lock=path, complete=True)
            except HatchDockerError as error:
                # The hints are about a project's own lock.
                error.hint = ""
                raise
        _check_allowed(artifacts, allowed, self.constraints)
        return tuple(artifacts)

    def for_host(self, artifacts: Sequence[Artifact]) -> list[Artifact]:
        """The same versions as files that this machine's Python can install, with what only this Python needs besides.

        Some backends have a wheel for each platform, although what they build suits any; and a requirement may depend
        on the version of Python. An artifact without a file for this machine is left as it is. Raises what asking the
        index raises.
        """
        preferred = {tag: number for number, tag in enumerate(sys_tags())}
        found = [
            each if not each.is_wheel or _rank(each.filename, preferred) is not None else self._other(each, preferred)
            for each in (*artifacts, *self._more(artifacts))
        ]
        _check_allowed(found, read_constraints(self.constraints) if self.constraints else {}, self.constraints)
        return found

    def _more(self, artifacts: Sequence[Artifact]) -> Sequence[Artifact]:
        """What the locked versions require with this machine's version of Python alone."""
        here = python_version()
        lines = sorted(f"{each.name}=={each.version}" for each in artifacts if not each.tree)
        if here.rpartition(".")[0] == self.target.minor or not lines:
            return ()
        target = replace(self.target, version=here)
        cache, key = self.indexes.finder.cache, json.dumps([lines, str(target), self.scope])
        document = cache.get("host-requirements", key) if cache else None
        if document is None:
            try:
                resolved = replace(self, target=target)(lines)
            except (LockError, ArtifactError):
                # Without it, the build says what it lacks.
                return ()
            names = {each.name for each in artifacts}
            document = {"more": [asdict(each) for each in resolved if each.name not in names and not each.tree]}
            if cache:
                cache.put("host-requirements", key, document)
        return [Artifact(**each) for each in document["more"]]

    def _other(self, artifact: Artifact, preferred: Mapping[Tag, int]) -> Artifact:
        finder = self.indexes.finder
        if self.tree is not None:
            finder = finder.with_sources(read_sources(self.tree, self.indexes.resolver.environ, project=""))
        ranked = [
            (rank, file)
            for file in finder.files(artifact.name)
            if is_file_of(file.filename, artifact.name, Version(artifact.version))
            and (rank := _rank(file.filename, preferred)) is not None
            and not _STRONG.isdisjoint(file.hashes)
        ]
        if not ranked:
            return artifact
        _, file = min(ranked, key=lambda each: (each[0], each[1].filename))
        return replace(artifact, filename=file.filename, url=file.url, hashes=file.hashes, size=file.size)

    def _request(self, requirements: Sequence[str]) -> InstallRequest:
        if self.tree is None:
            found = _without_urls(requirements)
            return InstallRequest(project="", target=self.target, root=self.root, requirements=found)
        sources = read_sources(self.tree, self.indexes.resolver.environ, project="")
        found = _parsed(requirements)
        return InstallRequest(project="", target=self.target, root=self.tree, requirements=found, sources=sources)

    def _resolve(self, request: InstallRequest) -> str:
        """Resolve to wheels alone if possible, since uv may have to run an sdist to read its requirements."""
        resolve_ = partial(resolve_for_target, request, self.indexes.resolver, constraints=self.constraints)
        try:
            return resolve_(build=False)
        except ResolveError:
            return resolve_()


def _rank(filename: str, preferred: Mapping[Tag, int]) -> int | None:
    """The position of a wheel's best tag, the most specific first; None if it has none that fits, or is no wheel."""
    try:
        ranks = [preferred[tag] for tag in parse_wheel_filename(filename)[3] if tag in preferred]
    except InvalidWheelFilename:
        return None
    return min(ranks, default=None)


def _without_urls(requirements: Sequence[str]) -> tuple[Requirement, ...]:
    """Parse the requirements of an sdist. Raises LockError for a URL, as no index vouches for it.

    uv would run the code at a URL, on this machine and with all logins, to read its requirements.
    """
    found = _parsed(requirements)
    if urls := [each for each in found if each.url]:
        raise LockError(
            f"{urls[0].name} is a build requirement by URL ({redact(urls[0].url or '')!r}), which no index vouches for",
            hint=_OTHER,
        )
    return found


def _parsed(requirements: Sequence[str]) -> tuple[Requirement, ...]:
    try:
        return tuple(Requirement(text) for text in requirements)
    except (InvalidRequirement, TypeError, RecursionError):
        raise LockError("a build requirement is not valid (PEP 508)", hint=_OTHER) from None


def _check_allowed(
    artifacts: Sequence[Artifact], allowed: Mapping[str, frozenset[str]], constraints: Path | None
) -> None:
    """Compare files with the hashes of the constraints, which uv ignores."""
    others = [
        f"{artifact.name} {artifact.version}"
        for artifact in artifacts
        if (hashes := allowed.get(artifact.name))
        and hashes.isdisjoint(f"{algorithm}:{value}" for algorithm, value in artifact.hashes.items())
    ]
    if others:
        raise LockError(
            f"the index has other files of {', '.join(others)} than the constraints name",
            place=str(constraints),
            hint="remove the hashes to accept another file",
        )
