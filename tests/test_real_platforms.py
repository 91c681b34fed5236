"""The example for amd64 and arm64 on real Debian packages: pushed, copied and unpacked by other tools, and run."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builds
import pytest
from compilations import lock_of_sdists
from containers import address, answer, environment, output, running
from docker import DockerClient
from docker.models.containers import Container
from project_maker import make_project
from sdist_maker import EXTENSION, make_sdist

from hatch_docker.engine.client import Engine
from hatch_docker.oci.spec import Platform

ROOT = Path(__file__).parent.parent
BOTH = "linux/amd64,linux/arm64"
FORMATS = Path("/proc/sys/fs/binfmt_misc")
EMULATOR = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
_SECONDS = 300
# The numbers of CPUs in ELF files.
CPUS = {"linux/amd64": 62, "linux/arm64": 183}

# An emulated CPU is fifty times as slow.
emulated_for_minutes = pytest.mark.skipif(
    not os.environ.get("HATCH_DOCKER_TEST_EMULATION"), reason="takes minutes; set HATCH_DOCKER_TEST_EMULATION=1"
)

# Importing setuptools takes an emulated CPU minutes.
BACKEND = """
import os, subprocess, sysconfig, zipfile

def build_wheel(folder, settings=None, metadata=None):
    headers = sysconfig.get_path("include")
    subprocess.run(["cc", "-shared", "-fPIC", "-I" + headers, "_demo.c", "-o", "_demo.so"], check=True)
    tag = "cp313-cp313-linux_" + os.uname().machine
    info = "demo-1.0.dist-info/"
    files = {
        info + "METADATA": "Metadata-Version: 2.1\\nName: demo\\nVersion: 1.0\\n",
        info + "WHEEL": "Wheel-Version: 1.0\\nGenerator: demo\\nRoot-Is-Purelib: false\\nTag: " + tag + "\\n",
    }
    record = info + "RECORD"
    files[record] = "".join(path + ",,\\n" for path in ("_demo.so", *files, record))
    name = "demo-1.0-" + tag + ".whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        archive.write("_demo.so")
        for path, text in files.items():
            archive.writestr(path, text)
    return name
"""
IN_TREE = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'

pytestmark = [pytest.mark.debian, pytest.mark.network]


@pytest.fixture(scope="module")
def emulation() -> Iterator[None]:
    """An emulation of arm64 in the kernel, which the engine shares; skipped without."""
    if platform.machine() in ("aarch64", "arm64"):
        yield
        return
    registered = FORMATS / "qemu-aarch64"
    if registered.exists():
        yield
        return
    if not EMULATOR.exists() or os.geteuid() != 0:
        pytest.skip("needs qemu-user-static, and root to register it")
    if not (FORMATS / "register").exists():
        done = subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", FORMATS], check=False)
        if done.returncode:
            pytest.skip("needs binfmt_misc")
    try:
        (FORMATS / "register").write_text(EMULATOR.read_text().strip())
        yield
    finally:
        with contextlib.suppress(OSError):
            registered.write_text("-1")


@pytest.fixture(scope="module")
def example(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built for both platforms."""
    project = Path(shutil.copytree(ROOT / "example_project", tmp_path_factory.mktemp("platforms") / "example"))
    environ = environment(shared_cache, HATCH_DOCKER_BASE="debian", HATCH_DOCKER_PLATFORMS=BOTH)
    outcome = builds.build(project, env=environ)
    assert outcome.code == 0, outcome.err
    return project


@pytest.fixture(scope="module")
def layout(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive as skopeo copies it, with all images, to a layout."""
    folder = tmp_path_factory.mktemp("layout")
    subprocess.run(
        ["skopeo", "copy", "-q", "--all", f"oci-archive:{builds.archive_of(example)}", f"oci:{folder}/app:1"],
        check=True,
    )
    return folder / "app"


def manifests(layout: Path) -> dict[str, dict[str, Any]]:
    """The descriptors of the images in a layout of one index, by platform."""
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    index = json.loads((layout / "blobs" / entry["digest"].replace(":", "/")).read_text())
    return {"/".join((each["platform"]["os"], each["platform"]["architecture"])): each for each in index["manifests"]}


def elf_machines(root: Path) -> dict[str, int]:
    """The CPUs of the ELF files below a directory."""
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                head = file.read(20)
            if head.startswith(b"\x7fELF"):
                found[str(path.relative_to(root))] = struct.unpack_from("<H", head, 18)[0]
    return found


def wait_for_port(container: Container) -> None:
    """Wait until the service listens, according to its log."""
    deadline = time.monotonic() + _SECONDS
    while b"8000" not in container.logs():
        container.reload()
        assert container.status == "running", container.logs().decode()
        assert time.monotonic() < deadline, container.logs().decode()
        time.sleep(0.5)


@pytest.mark.tools
def test_each_image_is_unpacked_and_every_elf_file_is_of_its_cpu(layout: Path, tmp_path: Path) -> None:
    images = manifests(layout)
    assert images.keys() == CPUS.keys()
    for name, entry in images.items():
        single = tmp_path / name.replace("/", "-")
        single.mkdir()
        (single / "oci-layout").write_text((layout / "oci-layout").read_text())
        (single / "blobs").symlink_to(layout / "blobs")
        named: dict[str, Any] = {**entry, "annotations": {"org.opencontainers.image.ref.name": "1"}}
        (single / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
        bundle = tmp_path / f"{single.name}-bundle"
        subprocess.run(["umoci", "unpack", "--rootless", "--image", f"{single}:1", bundle], check=True)
        machines = elf_machines(bundle / "rootfs")
        assert len(machines) > 50
        assert set(machines.values()) == {CPUS[name]}, {path for path, cpu in machines.items() if cpu != CPUS[name]}
        assert any("cryptography" in path for path in machines)


@pytest.fixture
def arm64(example: Path, shared_cache: Path, image: str) -> str:
    """The name in the engine of the example for arm64."""
    environ = environment(
        shared_cache,
        HATCH_DOCKER_BASE="debian",
        HATCH_DOCKER_PLATFORMS="linux/arm64",
        HATCH_DOCKER_IMAGE=image,
        HATCH_DOCKER_TAGS="arm",
    )
    outcome = builds.build(example, env=environ, target="docker:load")
    assert outcome.code == 0, outcome.err
    return f"{image}:arm"


@pytest.mark.engine
@pytest.mark.usefixtures("emulation")
def test_arm64_runs_in_an_emulation(arm64: str, client: DockerClient) -> None:
    Engine.connect(os.environ).require(Platform(architecture="arm64"))
    # cryptography's library is in Rust, and the project's code signs with it.
    code = (
        "import os, stamp.signer as s; signer = s.Signer(); made = signer.stamp('0' * 64); "
        "print(os.uname().machine, s.verify(signer.public_key, made['stamp'], made['signature']))"
    )
    assert output(client, arm64, "/app/.venv/bin/python", "-c", code) == "aarch64 True\n"


@emulated_for_minutes
@pytest.mark.engine
@pytest.mark.usefixtures("emulation")
def test_service_answers_in_an_emulation(arm64: str, client: DockerClient) -> None:
    with running(client, arm64, platform="linux/arm64") as container:
        wait_for_port(container)
        assert answer(f"{address(container)}/health")


@emulated_for_minutes
@pytest.mark.engine
@pytest.mark.usefixtures("emulation")
def test_compiles_for_arm64_in_an_emulation(shared_cache: Path, tmp_path: Path) -> None:
    # auditwheel knows the C library by what is used of it.
    code = EXTENSION.format(module="demo").replace("42", "getpid()")
    source = {"backend.py": BACKEND, "_demo.c": code}
    sdist = make_sdist(tmp_path, files=source, pyproject=IN_TREE)
    project = make_project(tmp_path / "shop", dependencies=["demo"], docker='base = "debian"')
    (project / "pylock.toml").write_text(lock_of_sdists(sdist))
    outcome = builds.build(project, env=environment(shared_cache, HATCH_DOCKER_PLATFORMS="linux/arm64"))
    assert outcome.code == 0, outcome.err
    (wheel,) = builds.result_of(project)["compiled"]
    assert wheel["name"] == "demo"
    members = builds.read(builds.archive_of(project)).contents
    (module,) = (data for path, data in members.items() if path.endswith("/site-packages/_demo.so"))
    assert struct.unpack_from("<H", module, 18)[0] == CPUS["linux/arm64"]
