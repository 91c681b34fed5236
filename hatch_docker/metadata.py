"""The metadata that a project's build backend makes, with build requirements for the image's Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hatch_docker.base.image import open_base
from hatch_docker.base.transports import locate
from hatch_docker.compiling.context import open_context
from hatch_docker.compiling.dist_info import BuiltMetadata
from hatch_docker.compiling.metadata import build_metadata
from hatch_docker.config import Config
from hatch_docker.index.access import NamedIndexes
from hatch_docker.index.artifact import Artifact
from hatch_docker.locks.build_requirements import BuildResolver
from hatch_docker.plan import base_request, constraints_text, platforms_of
from hatch_docker.project.model import Project
from hatch_docker.services import Services


def make_metadata(config: Config, services: Services, artifact: Artifact, requires_python: str) -> BuiltMetadata:
    """The metadata of the project's directory, whose Requires-Python may only be known from it.

    The first platform's base says which Python its build requirements are for, so that nothing of this machine decides
    their versions. Raises HatchDockerError if there is no base, or the backend fails.
    """
    known = Project(root=Path(services.root), name="", version="", requires_python=requires_python)
    request = base_request(known, config, services.host.platform)
    source = locate(request, services)
    platform, *_ = platforms_of(config.base, source.platforms, services)
    base = open_base(replace(request, platform=platform), services, source)
    constraints = config.compiling.build_constraints
    text = constraints_text(services.root, constraints, config.place("build-constraints"))
    resolver = BuildResolver(
        target=base.facts.python,
        root=services.root,
        indexes=services.indexes(NamedIndexes()),
        constraints=services.root / constraints if text else None,
        constraints_text=text,
    )
    context = open_context(base, base, config.base.spec, config.compiling, resolver, services)
    return build_metadata(artifact, context)
