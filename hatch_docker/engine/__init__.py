"""The container engine through the Docker SDK. Podman's socket has the same API."""

from hatch_docker.engine.client import Engine, answers, local_name
from hatch_docker.engine.container import Change, Container
from hatch_docker.engine.limits import Limits
from hatch_docker.engine.translate import missed

__all__ = ["Change", "Container", "Engine", "Limits", "answers", "local_name", "missed"]
