"""The container engine through the Docker SDK: as little of it as we need. Podman's socket speaks the same API."""

from hatch_docker.engine.client import Engine, answers

__all__ = ["Engine", "answers"]
