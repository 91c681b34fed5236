"""Runs images in the engine, through its API alone, so that it does not matter where the engine is."""

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
from docker.models.containers import Container

# Podman with a store of its own, in the folder that is filled in; a long one is refused.
PODMAN = ("podman", "--root", "{}/root", "--runroot", "{}/run", "--storage-driver", "vfs")

_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def environment(cache: Path, **settings: str) -> dict[str, str]:
    """This machine as it is, with a cache of the tests', and without what would configure or log in our builds."""
    ours = ("HATCH_DOCKER_", "SOURCE_DATE_EPOCH", "REGISTRY_AUTH_FILE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    mirrors = os.environ.get("HATCH_DOCKER_REGISTRY_MIRRORS", "")
    return {**kept, "HATCH_DOCKER_CACHE_DIR": str(cache), "HATCH_DOCKER_REGISTRY_MIRRORS": mirrors, **settings}


def built(project: Path, environ: dict[str, str], target: str = "docker:archive,load") -> builds.Outcome:
    """Build and, where there is an archive, check it. What other archives had too is kept, beside the cache."""
    outcome = builds.build(project, env=environ, target=target)
    assert outcome.code == 0, outcome.err
    if "archive" in target:
        builds.check_archive(builds.archive_of(project), Path(environ["HATCH_DOCKER_CACHE_DIR"] + "-checked"))
    return outcome


@contextlib.contextmanager
def running(client: DockerClient, image: str, **options: Any) -> Iterator[Container]:
    """A container of `image`, port 8000 published on this machine, for as long as the block lasts."""
    ports: Any = {"8000/tcp": ("127.0.0.1", None)}
    container = client.containers.run(image, detach=True, ports=ports, **options)
    try:
        yield container
    finally:
        container.remove(force=True, v=True)


def address(container: Container) -> str:
    """Where the service of a container is, once it answers."""
    for _ in range(600):
        container.reload()
        if container.status == "exited":
            break
        for port in container.ports.get("8000/tcp") or ():
            url = f"http://127.0.0.1:{port['HostPort']}"
            with contextlib.suppress(OSError):
                answer(f"{url}/health")
                return url
        time.sleep(0.05)
    pytest.fail(f"the service does not answer: {container.logs().decode()}")


def answer(url: str, method: str = "GET") -> Any:
    """A service's JSON."""
    with _DIRECTLY.open(urllib.request.Request(url, method=method), timeout=10) as response:
        return json.load(response)


def inside(container: Container, *command: str) -> str:
    """What a command prints that is run in a container."""
    code, printed = container.exec_run([*command])
    assert isinstance(printed, bytes)
    assert code == 0, printed.decode()
    return printed.decode()


def output(client: DockerClient, image: str, *entrypoint: str) -> str:
    """What a container prints: of the image's own command, or of another."""
    options: dict[str, Any] = {"entrypoint": [*entrypoint]} if entrypoint else {}
    printed = client.containers.run(image, remove=True, **options)
    assert isinstance(printed, bytes)
    return printed.decode()


def remove(client: DockerClient, repository: str) -> None:
    """Take a repository's names out of the engine; the same image may have others, which stay."""
    for image in client.images.list(name=repository):
        names = [*image.attrs["RepoTags"], *image.attrs["RepoDigests"]]
        for name in names:
            if name.startswith((f"{repository}:", f"{repository}@")):
                client.images.remove(name, force=True)


def tool(*command: str | Path, **options: Any) -> str:
    """What another program prints."""
    done = subprocess.run(command, capture_output=True, encoding="utf-8", **options)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)
