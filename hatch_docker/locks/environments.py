"""The environments that uv locks for: the project's `tool.uv.environments` may exclude an image."""

from __future__ import annotations

import contextlib

from packaging.markers import InvalidMarker, Marker

from hatch_docker.errors import ResolveError
from hatch_docker.index.uv_config import project_table
from hatch_docker.index.workspace import find_workspace
from hatch_docker.locks.model import MARKER_ERRORS, InstallRequest, evaluate


def check_environments(request: InstallRequest) -> None:
    """Raise ResolveError if uv would lock nothing for the target."""
    if advice := admitting(request):
        named = "; or ".join(_environments(request))
        file = (find_workspace(request.root) or request.root) / "pyproject.toml"
        raise ResolveError(
            f"tool.uv.environments excludes {request.target}: it is {named}", place=str(file), hint=advice
        )


def admitting(request: InstallRequest) -> str:
    """What to change if the project's environments exclude the target; empty if they do not, or are not valid."""
    environments, target = _environments(request), request.target
    # uv says what is wrong with a marker.
    with contextlib.suppress(InvalidMarker, *MARKER_ERRORS):
        if environments and not any(evaluate(Marker(each), target) for each in environments):
            facts = (f"{key} == {target.environment[key]!r}" for key in ("sys_platform", "platform_machine"))
            return (
                f"add an environment to tool.uv.environments that holds for {' and '.join(facts)} and Python "
                f"{target.minor}, or remove the key"
            )
    return ""


def _environments(request: InstallRequest) -> list[str]:
    value = project_table(request.root).get("environments")
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [each for each in values if isinstance(each, str)]
