"""Runs images in the engine through its API alone, so the engine may be remote."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builds
import pytest
from docker import DockerClient
from docker.errors import ImageNotFound
from docker.models.containers import Container

# Podman with its own store in the directory that is filled in. It refuses long paths.
PODMAN = ("podman", "--root", "{}/root", "--runroot", "{}/run", "--storage-driver", "vfs")

_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def environment(cache: Path, **settings: str) -> dict[str, str]:
    """The environment with the cache of the tests, without variables that configure builds or log in."""
    ours = ("HATCH_DOCKER_", "SOURCE_DATE_EPOCH", "REGISTRY_AUTH_FILE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    mirrors = os.environ.get("HATCH_DOCKER_REGISTRY_MIRRORS", "")
    return {**kept, "HATCH_DOCKER_CACHE_DIR": str(cache), "HATCH_DOCKER_REGISTRY_MIRRORS": mirrors, **settings}


def built(project: Path, environ: dict[str, str], target: str = "docker:archive,load") -> builds.Outcome:
    """Build, and check the archive if there is one. Blobs that were checked are remembered beside the cache."""
    outcome = builds.build(project, env=environ, target=target)
    assert outcome.code == 0, outcome.err
    if "archive" in target:
        builds.check_archive(builds.archive_of(project), Path(environ["HATCH_DOCKER_CACHE_DIR"] + "-checked"))
    return outcome


@contextlib.contextmanager
def running(client: DockerClient, image: str, **options: Any) -> Iterator[Container]:
    """A container of `image` for the duration of the block, with port 8000 published on the engine's machine."""
    ports: Any = {"8000/tcp": ("127.0.0.1", None)}
    container = client.containers.run(image, detach=True, ports=ports, **options)
    try:
        yield container
    finally:
        container.remove(force=True, v=True)


def address(container: Container, path: str = "/health") -> str:
    """The URL of a container's service, once it answers at `path`."""
    for _ in range(1200):
        container.reload()
        if container.status == "exited":
            break
        for port in container.ports.get("8000/tcp") or ():
            url = f"http://127.0.0.1:{port['HostPort']}"
            with contextlib.suppress(OSError):
                answer(f"{url}{path}")
                return url
        time.sleep(0.05)
    pytest.fail(f"the service does not answer: {container.logs().decode()}")


def answer(url: str, method: str = "GET") -> Any:
    """The JSON answer of a service."""
    with _DIRECTLY.open(urllib.request.Request(url, method=method), timeout=60) as response:
        return json.load(response)


def inside(container: Container, *command: str) -> str:
    """The output of a command in a container."""
    code, printed = container.exec_run([*command])
    assert isinstance(printed, bytes)
    assert code == 0, printed.decode()
    return printed.decode()


def output(client: DockerClient, image: str, *entrypoint: str, **options: Any) -> str:
    """The output of an image's own command, or of another."""
    if entrypoint:
        options["entrypoint"] = [*entrypoint]
    printed = client.containers.run(image, remove=True, **options)
    assert isinstance(printed, bytes)
    return printed.decode()


def remove(client: DockerClient, repository: str) -> None:
    """Remove the names of a repository from the engine. Other names of the same images stay."""
    # Not `client.images.list`, which fails if another process removes one of the images meanwhile.
    for image in client.api.images(name=repository):
        for name in [*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())]:
            if name.startswith((f"{repository}:", f"{repository}@")):
                # In a containerd store, the name by digest goes with the last tag.
                with contextlib.suppress(ImageNotFound):
                    client.images.remove(name, force=True)


def tool(*command: str | Path, **options: Any) -> str:
    """The output of another program."""
    done = subprocess.run(command, capture_output=True, encoding="utf-8", **options)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)
