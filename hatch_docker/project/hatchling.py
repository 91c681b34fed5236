"""The project itself, as values and as a file: its wheel, made in process as Hatch does, or its sdist to compile."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.utils import canonicalize_name

from hatch_docker.compiling.sdist import read_sdist
from hatch_docker.errors import HatchDockerError
from hatch_docker.project.model import Project


def project_of(root: Path, metadata: Any, *, version: str, revision: str) -> Project:
    """The project as Hatch's metadata have it; `revision` is the commit that is checked out, empty without one."""
    core = metadata.core
    extras = {str(canonicalize_name(name)): tuple(texts) for name, texts in core.optional_dependencies.items()}
    return Project(
        root=root,
        name=core.raw_name,
        version=version,
        requires_python=core.requires_python,
        dependencies=tuple(core.dependencies),
        optional_dependencies=extras,
        dependency_groups=metadata.config.get("dependency-groups", {}),
        scripts=core.scripts,
        gui_scripts=core.gui_scripts,
        description=core.description,
        license=core.license_expression or core.license,
        authors=tuple(core.authors_data["name"] + core.authors_data["email"]),
        urls=core.urls,
        revision=revision,
    )


@contextlib.contextmanager
def distribution(root: str, plugin_manager: Any, metadata: Any, app: Any, *, compiled: bool) -> Iterator[Path]:
    """The project's own wheel, for as long as the block lasts; its sdist where it is not pure, or `compiled` says so.

    A build hook compiles for the machine that it runs on: what is compiled is, from the sdist, in the builder. Raises
    HatchDockerError for what cannot be built.
    """
    with tempfile.TemporaryDirectory(prefix="hatch-docker-") as folder:
        make = partial(_make, root, plugin_manager, metadata, app, folder)
        sdist = make(SdistBuilder) if compiled or _has_hooks(root, plugin_manager, metadata) else None
        if sdist is not None and (compiled or read_sdist(sdist, sdist.name).compiled):
            yield sdist
            return
        wheel = make(WheelBuilder)
        yield wheel if wheel.name.endswith("-none-any.whl") else sdist or make(SdistBuilder)


def _has_hooks(root: str, plugin_manager: Any, metadata: Any) -> bool:
    return bool(WheelBuilder(root, plugin_manager=plugin_manager, metadata=metadata).config.hook_config)


def _make(
    root: str, plugin_manager: Any, metadata: Any, app: Any, folder: str, kind: type[SdistBuilder | WheelBuilder]
) -> Path:
    builder = kind(root, plugin_manager=plugin_manager, metadata=metadata, app=app)
    try:
        (path,) = builder.build(directory=folder, versions=["standard"])
    except HatchDockerError:
        raise
    except Exception as error:  # whatever a build hook raises
        what = builder.PLUGIN_NAME
        raise HatchDockerError(
            f"the project's own {what} cannot be built: {error or type(error).__name__}",
            hint=f"'hatch build -t {what}' says the same",
        ) from None
    return Path(path)
