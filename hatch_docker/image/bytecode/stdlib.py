"""The modules of the standard library in a base image."""

from __future__ import annotations

from hatch_docker.base.image import Base
from hatch_docker.image.bytecode.compiler import Source
from hatch_docker.services import Services


def standard_library(base: Base, services: Services, *, optimization: int) -> list[Source]:
    """The modules of the base's standard library for which it has no bytecode that its Python would use, sorted."""
    return []
