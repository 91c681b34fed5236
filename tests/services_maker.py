"""Make services for tests: for a project in a directory, on a host without configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from hatch_docker.config import OSPackages, Settings
from hatch_docker.oci.spec import Platform
from hatch_docker.services import Host, Services, open_services
from hatch_docker.support.progress import Progress

NOWHERE = "tcp://127.0.0.1:1"


def make_host(folder: Path, environ: Mapping[str, str] = {}) -> Host:
    """A host with three processors and without an engine, whose home is `folder`."""
    return Host(
        environ={"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1", "DOCKER_HOST": NOWHERE, **environ},
        proxies={},
        home=folder,
        cache_dir=folder / "cache",
        now=datetime.now(timezone.utc),
        platform=Platform(architecture="amd64"),
        processors=3,
    )


def make_services(
    folder: Path,
    settings: Settings | None = None,
    environ: Mapping[str, str] = {},
    *,
    index_url: str = "",
    progress: Progress | None = None,
) -> Services:
    """The services of a project in `folder`."""
    return open_services(
        settings or Settings(),
        make_host(folder, environ),
        root=folder,
        index_url=index_url,
        debian=OSPackages(),
        progress=progress or Progress(),
    )
