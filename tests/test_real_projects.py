"""Build and run small projects: with the lock of each tool, a base from each transport, and each compression."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import builds
import pytest
from conftest import mirrors
from containers import built, environment, output, tool
from docker import DockerClient
from docker.errors import ImageNotFound
from docker.models.images import Image
from project_maker import make_project

pytestmark = [pytest.mark.base, pytest.mark.engine, pytest.mark.network]

MAIN = """\
import charset_normalizer, pygments, requests

def main():
    print(requests.__version__ and "it runs")
"""
DEPENDENCIES = ["charset-normalizer", "pygments", "requests"]


def reader(root: Path) -> Path:
    """A project whose dependencies have extension modules and scripts."""
    return make_project(
        root,
        name="reader",
        dependencies=DEPENDENCIES,
        project='requires-python = ">=3.10"',
        docker='python = "3.13"',
        files={"src/reader/__init__.py": MAIN},
    )


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = reader(tmp_path_factory.mktemp("locked") / "reader")
    uv_lock(project)
    return project


@pytest.fixture
def project(locked: Path, tmp_path: Path) -> Path:
    """The project with a uv.lock."""
    return Path(shutil.copytree(locked, tmp_path / "reader"))


def uv(project: Path, *arguments: str) -> None:
    tool("uv", *arguments, cwd=project)


def no_lock(_project: Path) -> None:
    """Write no lock: the build resolves."""


def uv_pip_compile(project: Path) -> None:
    target = ("--python-platform", "x86_64-unknown-linux-gnu", "--python-version", "3.13")
    uv(project, "pip", "compile", "pyproject.toml", "--format", "pylock.toml", "-o", "pylock.toml", *target)


def uv_export(project: Path) -> None:
    uv_lock(project)
    uv(project, "export", "--format", "pylock.toml", "-o", "pylock.toml")
    (project / "uv.lock").unlink()


def uv_lock(project: Path) -> None:
    uv(project, "lock")


def pip_compile(project: Path) -> None:
    arguments = ("--generate-hashes", "--strip-extras", "-o", "requirements.txt", "pyproject.toml")
    tool(sys.executable, "-m", "piptools", "compile", "-q", *arguments, cwd=project)


LOCKS: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "resolved": (no_lock, "pylock.reader.toml"),
    "uv pip compile": (uv_pip_compile, "pylock.toml"),
    "uv export": (uv_export, "pylock.toml"),
    "uv lock": (uv_lock, "uv.lock"),
    "pip-compile": (pip_compile, "requirements.txt"),
}


@pytest.mark.parametrize(
    ("base", "lock"),
    [
        ("slim", "resolved"),
        ("alpine", "resolved"),
        ("slim", "uv pip compile"),
        ("alpine", "uv export"),
        ("slim", "uv lock"),
        ("alpine", "uv lock"),
        ("slim", "pip-compile"),
    ],
)
def test_image_of_every_lock_format_runs(
    tmp_path: Path, image: str, client: DockerClient, shared_cache: Path, base: str, lock: str
) -> None:
    project, (make, name) = reader(tmp_path / "reader"), LOCKS[lock]
    make(project)
    built(project, environment(shared_cache, HATCH_DOCKER_BASE=base, HATCH_DOCKER_IMAGE=image))
    assert builds.result_of(project)["lock"] == name
    assert output(client, f"{image}:1.0") == "it runs\n"
    assert re.match(r"Pygments version \d", output(client, f"{image}:1.0", "pygmentize", "-V"))
    assert "Charset-Normalizer" in output(client, f"{image}:1.0", "normalizer", "--version")


def test_next_build_uses_the_resolution(tmp_path: Path, shared_cache: Path) -> None:
    project = reader(tmp_path / "reader")
    environ = environment(shared_cache, HATCH_DOCKER_BASE="alpine")
    built(project, environ, "docker:archive")
    first = builds.result_of(project)
    again = built(project, environ, "docker:archive")
    assert builds.result_of(project)["digest"] == first["digest"]
    assert "resolved 3 requirements" not in again.err
    # The lock is for the image's Python and C library, not the host's.
    assert "musllinux" in (project / "dist" / "pylock.reader.toml").read_text()


def in_the_engine(client: DockerClient, _folder: Path, name: str) -> str:
    image_in(client, name)
    return f"docker-daemon:{name}"


def saved_by_the_engine(client: DockerClient, folder: Path, name: str) -> str:
    with (folder / "saved.tar").open("wb") as file:
        file.writelines(image_in(client, name).save(named=name))
    return f"docker-archive:{folder}/saved.tar"


def copied_to(transport: str) -> Callable[[DockerClient, Path, str], str]:
    def copy(_client: DockerClient, folder: Path, name: str) -> str:
        source = f"docker://{mirrors().get('docker.io', 'docker.io')}/library/{name}"
        tool("skopeo", "copy", "--src-tls-verify=false", source, f"{transport}:{folder}/base:{name}")
        return f"{transport}:{folder}/base:{name}"

    return copy


def image_in(client: DockerClient, name: str) -> Image:
    """The image in the engine, pulled if necessary."""
    try:
        return client.images.get(name)
    except ImageNotFound:
        repository, tag = name.split(":")
        return client.images.pull(repository, tag)


BASES: Mapping[str, Callable[[DockerClient, Path, str], str]] = {
    "docker-daemon": in_the_engine,
    "docker-archive": saved_by_the_engine,
    "skopeo's oci": copied_to("oci"),
    "skopeo's oci-archive": copied_to("oci-archive"),
    "skopeo's docker-archive": copied_to("docker-archive"),
}


@pytest.mark.tools
@pytest.mark.parametrize(
    ("kind", "name"), [("docker-daemon", "python:3.13-slim"), *((kind, "python:3.13-alpine") for kind in BASES)]
)
def test_base_from_every_transport_gets_the_same_layers(
    project: Path, image: str, client: DockerClient, shared_cache: Path, tmp_path: Path, kind: str, name: str
) -> None:
    environ = environment(shared_cache, HATCH_DOCKER_IMAGE=image)
    built(project, {**environ, "HATCH_DOCKER_BASE": name}, "docker:archive")
    pulled = builds.read(builds.archive_of(project)), builds.result_of(project)

    built(project, {**environ, "HATCH_DOCKER_BASE": BASES[kind](client, tmp_path, name)})
    read, result = builds.read(builds.archive_of(project)), builds.result_of(project)
    assert [layer["digest"] for layer in result["layers"]] == [layer["digest"] for layer in pulled[1]["layers"]]
    assert read.document["rootfs"] == pulled[0].document["rootfs"]
    assert read.env == pulled[0].env
    assert output(client, f"{image}:1.0") == "it runs\n"


@pytest.mark.parametrize(("compression", "layers"), [("gzip", "4"), ("gzip-single", "5"), ("zstd", "6")])
def test_image_of_every_compression_runs(
    project: Path, image: str, client: DockerClient, shared_cache: Path, compression: str, layers: str
) -> None:
    # Different layers for each compression, so that the engine cannot reuse those of another.
    settings = {"HATCH_DOCKER_COMPRESSION": compression, "HATCH_DOCKER_MAX_LAYERS": layers}
    built(project, environment(shared_cache, HATCH_DOCKER_IMAGE=image, **settings))
    kinds = {
        layer["mediaType"].rpartition("+")[2] for layer in builds.read(builds.archive_of(project)).manifest["layers"]
    }
    assert kinds == {"gzip", compression.partition("-")[0]}
    assert output(client, f"{image}:1.0") == "it runs\n"
