"""A release under real build frontends: the wheel goes to an index, its image to a registry, and both are used."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from importlib.metadata import version
from pathlib import Path
from typing import Any

import builds
import pytest
from containers import environment, remove
from docker import DockerClient
from hatchling.builders.wheel import WheelBuilder
from loopback import Loopback, QuietHandler

CHECKOUT = Path(__file__).parent.parent
REGISTRY = os.environ.get("HATCH_DOCKER_TEST_REGISTRY", "")
FRONTENDS = {
    "build": ["run", "--no-project", "--with", "build", "--", "python", "-m", "build"],
    "uv": ["build"],
}
PROJECT = f"""
[build-system]
requires = ["hatchling=={version("hatchling")}"]
build-backend = "hatchling.build"

[project]
name = "shop"
version = "1.0"
requires-python = ">=3.10"
dependencies = ["idna"]
scripts = {{ shop = "shop:main" }}

[tool.hatch-docker]
base = "python:3.13-slim"
platforms = ["linux/amd64"]
image = "IMAGE"

[tool.hatch.build.targets.wheel.hooks.docker]
enable-by-default = false
dependencies = ["hatch-docker"]
outputs = ["push"]
"""
MODULE = """
import idna

def main() -> None:
    print("shop", idna.encode("k\\u00f6ln.example").decode())
"""
# What a CI job runs. The names and the digest of what it made come from the result file.
PIPELINE = """
set -euo pipefail
export HATCH_BUILD_HOOK_ENABLE_DOCKER=1
uv run --no-project --with build -- python -m build
read -r image wheel < <(python3 -c '
import json
result = json.load(open("dist/shop-1.0.docker.json"))
print(result["reference"], result["wheel"]["sha256"])
')
uv publish --publish-url "$INDEX/upload/" --username ci --password s3cret dist/*.whl dist/*.tar.gz
docker pull --quiet "$image"
docker run --rm "$image"
"$PYTHON" -m pip download --quiet --no-deps --no-cache-dir --index-url "$INDEX/simple/" --dest downloaded shop==1.0
echo "$wheel  downloaded/shop-1.0-py3-none-any.whl" | sha256sum --check
"""

pytestmark = [pytest.mark.base, pytest.mark.network]


class Index(Loopback):
    """A package index that takes uploads, as PyPI does, and serves them (PEP 503)."""

    class handler(QuietHandler):  # noqa: N801 (the base class's name)
        """The index's answers."""

        def do_POST(self) -> None:
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            form = BytesParser(policy=HTTP).parsebytes(head + self.rfile.read(int(self.headers["Content-Length"])))
            for part in form.iter_parts():
                if name := _filename(part):
                    self.fake.files[name] = part.get_payload(decode=True)
            self._answer(b"")

        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            names = "".join(f'<a href="/files/{each}">{each}</a>' for each in self.fake.files)
            self._answer(self.fake.files[name] if name else names.encode())

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}


def _filename(part: Message) -> str:
    return part.get_filename() or ""


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel of this checkout, from which build environments get it."""
    folder = tmp_path_factory.mktemp("links")
    list(WheelBuilder(str(CHECKOUT)).build(directory=str(folder), versions=["standard"]))
    return folder


@pytest.fixture
def repository(client: DockerClient) -> Iterator[str]:
    """A new repository of the registry, removed from the engine at the end."""
    name = f"{REGISTRY or 'registry.example'}/release-{secrets.token_hex(4)}"
    yield name
    remove(client, name)


def make(root: Path, image: str) -> Path:
    """Write the project and its lock, and commit them."""
    package = root / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(MODULE)
    (root / "pyproject.toml").write_text(PROJECT.replace("IMAGE", image))
    (root / ".gitignore").write_text("dist\n")
    _run(root, "uv", "lock", "--quiet")
    _run(root, "git", "init", "--quiet")
    _run(root, "git", "add", ".")
    _run(root, "git", "-c", "user.name=n", "-c", "user.email=n@example.org", "commit", "--quiet", "-m", "first")
    return root


def _run(folder: Path, *command: str, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, encoding="utf-8", env={**os.environ, **variables}, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def result(root: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((root / "dist" / "shop-1.0.docker.json").read_text())
    return document


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_frontends_make_the_image_of_the_target(tmp_path: Path, links: Path, frontend: str) -> None:
    root = make(tmp_path / "shop", "registry.example/shop")
    environ = environment(tmp_path / "cache", HATCH_DOCKER_OUTPUTS="archive")
    outcome = builds.build(root, env=environ)
    assert outcome.code == 0, outcome.err
    expected = result(root)
    shutil.rmtree(root / "dist")
    found = {"PIP_FIND_LINKS": str(links), "UV_FIND_LINKS": str(links)}
    enabled = {"HATCH_BUILD_HOOK_ENABLE_DOCKER": "1"}
    subprocess.run(["uv", *FRONTENDS[frontend]], cwd=root, env={**environ, **found, **enabled}, check=True)
    made = result(root)
    assert made["digest"] == expected["digest"]
    assert made["images"][0]["lock"] == "uv.lock"
    wheel = root / "dist" / "shop-1.0-py3-none-any.whl"
    assert made["wheel"] == {"filename": wheel.name, "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}


@pytest.mark.engine
@pytest.mark.registry
def test_pipeline(tmp_path: Path, links: Path, repository: str) -> None:
    if shutil.which("docker") is None:
        pytest.skip("the script runs the program docker")
    root = make(tmp_path / "shop", repository)
    environ = environment(tmp_path / "cache", PIP_FIND_LINKS=str(links), PYTHON=sys.executable)
    with Index() as index:
        done = subprocess.run(
            ["bash", "-c", PIPELINE],
            cwd=root,
            env={**environ, "INDEX": f"http://{index.host}"},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.splitlines()[-2:] == ["shop xn--kln-sna.example", "downloaded/shop-1.0-py3-none-any.whl: OK"]
    assert set(index.files) == {"shop-1.0-py3-none-any.whl", "shop-1.0.tar.gz"}
    assert result(root)["reference"].startswith(f"{repository}@sha256:")
