"""Podman's service, as another engine with Docker's API."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from containers import PODMAN

from hatch_docker.engine.client import answers

# Podman's default limits may exceed ours, and not every runtime supports the cgroups of every host.
_SETTINGS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "{runtime}"
"""


@contextlib.contextmanager
def podman(folder: Path) -> Iterator[dict[str, str]]:
    """Podman's service with its own socket and store; yields the environment to use it."""
    address, settings = folder / "podman.sock", folder / "containers.conf"
    settings.write_text(_SETTINGS.format(runtime="runc" if shutil.which("runc") else "crun"))
    process = subprocess.Popen(
        [*(part.format(folder) for part in PODMAN), "system", "service", "--time=0", f"unix://{address}"],
        env={**os.environ, "CONTAINERS_CONF": str(settings)},
        # Its monitor creates a file `oom` in the current directory.
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    environ = {"DOCKER_HOST": f"unix://{address}"}
    try:
        while process.poll() is None and not (address.exists() and answers(environ)):
            time.sleep(0.05)
        yield environ
    finally:
        process.terminate()
        process.wait(timeout=60)
