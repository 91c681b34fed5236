"""Build projects that must be compiled, and record the containers that builds create."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import builds
from apk_repository import FOLDER, derived
from conftest import mirrors
from containers import built, environment, remove, tool
from docker import APIClient, DockerClient
from docker.errors import ImageNotFound

from hatch_docker.engine.container import LABEL
from hatch_docker.oci.archive import archive
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.source import pull, registry_source
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress

PROJECTS = Path(__file__).parent / "projects"
# A label of the base images that tests make.
MARK = f"hatch-docker-test-{secrets.token_hex(6)}"
# A CC with which compiling on the host fails.
_NO_COMPILER = "/nowhere/cc"
_IGNORED = shutil.ignore_patterns("dist", "__pycache__", ".*")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A project that was built and loaded. `output` is the build's, `containers` are the purposes of its containers."""

    project: Path
    environ: dict[str, str]
    image: str
    output: str
    containers: list[str]
    result: dict[str, Any]

    @property
    def archive(self) -> builds.Made:
        """The image in the archive."""
        return builds.read(builds.archive_of(self.project))

    @property
    def compiled(self) -> dict[str, dict[str, Any]]:
        """The result's records of compiled wheels, by name."""
        return {each["name"]: each for each in self.result["compiled"]}

    def prints(self, client: DockerClient) -> Any:
        """Run the image in a read-only container, and parse the JSON that it prints."""
        printed = client.containers.run(f"{self.image}:1.0", remove=True, read_only=True, cap_drop=["ALL"])
        return json.loads(printed)


Build = Callable[..., Case]


@contextlib.contextmanager
def building(client: DockerClient, cache: Path, folder: Path) -> Iterator[Build]:
    """Provide a function that locks and builds a copy of a project of PROJECTS, with settings as variables."""
    images: list[str] = []

    def build(name: str, cache: Path = cache, target: str = "docker:archive,load", **settings: str) -> Case:
        images.append(f"hatch-docker-test-{secrets.token_hex(6)}")
        project = copied(PROJECTS / name, folder / images[-1])
        tool("uv", "lock", cwd=project)
        environ = environment(cache, HATCH_DOCKER_IMAGE=images[-1], CC=_NO_COMPILER, **variables(settings))
        with recorded_containers() as containers:
            outcome = built(project, environ, target)
        result = builds.result_of(project)
        return Case(
            project=project,
            environ=environ,
            image=images[-1],
            output=outcome.err,
            containers=containers,
            result=result,
        )

    try:
        yield build
    finally:
        for image in images:
            remove(client, image)
        for left in client.api.images(filters={"label": MARK}):
            with contextlib.suppress(ImageNotFound):
                client.images.remove(left["Id"], force=True)


def copied(project: Path, to: Path) -> Path:
    """Copy a project without the files of builds."""
    return Path(shutil.copytree(project, to, ignore=_IGNORED))


def variables(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of configuration keys, whose names have underscores."""
    return {f"HATCH_DOCKER_{name.upper()}": value for name, value in settings.items()}


@contextlib.contextmanager
def recorded_containers() -> Iterator[list[str]]:
    """Provide a list of the purposes of the containers that builds in this process create during the block."""
    containers: list[str] = []
    create = APIClient.create_container

    def recorded(self: APIClient, *arguments: Any, **options: Any) -> Any:
        containers.append(options["labels"][LABEL])
        return create(self, *arguments, **options)

    with mock.patch.object(APIClient, "create_container", recorded):
        yield containers


def check_again(case: Case, folder: Path) -> None:
    """Check that a second build gives the same image without a container, and one of a copy without an engine."""
    with recorded_containers() as containers:
        shutil.rmtree(case.project / "dist")
        outcome = built(case.project, case.environ)
    assert containers == []
    assert not re.search(r"compiling in|compiled \w", outcome.err)
    assert builds.result_of(case.project)["digest"] == case.result["digest"]
    assert builds.result_of(case.project)["compiled"] == case.result["compiled"]
    other = copied(case.project, folder / "other")
    built(other, {**case.environ, "DOCKER_HOST": builds.NOWHERE}, "docker:archive")
    assert builds.result_of(other)["digest"] == case.result["digest"]


def installing(name: str, repository: Mapping[str, bytes], cache: Path, path: Path) -> str:
    """Make an Alpine image whose only repository of apk is inside the image; return the value for `base`."""
    image = derived(
        _pulled(name, cache),
        Entry(path="etc/apk/repositories", content=f"/{FOLDER}\n".encode()),
        Entry(path="etc/apk/config", content=b"allow-untrusted\n"),
        *(Entry(path=f"{FOLDER}/{each}", content=data) for each, data in repository.items()),
    )
    image = replace(image, config=replace(image.config, labels={MARK: ""}))
    with path.open("wb") as file:
        file.writelines(archive(image.node, [Reference.parse("alpine:test")]))
    return f"oci-archive:{path}"


def _pulled(name: str, cache: Path) -> Image:
    registry = Registry(Http(), credentials=Credentials(), mirrors=mirrors())
    source = registry_source(registry, Reference.parse(name), Cache(cache))
    return pull(source, Platform(architecture="amd64"), Cache(cache), progress=Progress()).image


def lock_of_sdists(*sdists: Path) -> str:
    """A pylock.toml with these sdists."""
    lines = ['lock-version = "1.0"', 'created-by = "tests"', ""]
    for path in sdists:
        name, _, version = path.name.removesuffix(".tar.gz").rpartition("-")
        lines += [
            "[[packages]]",
            f'name = "{name.replace("_", "-")}"',
            f'version = "{version}"',
            "[packages.sdist]",
            f'url = "{path.as_uri()}"',
            f'hashes = {{sha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"}}',
            "",
        ]
    return "\n".join(lines)
