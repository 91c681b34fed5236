"""`prune-base`, `init` and `ca-certificates` in containers: what programs, signals and TLS see of them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apk_repository import BUILDER
from compilations import lock_of_sdists
from containers import built, environment, remove, running, tool
from docker import DockerClient
from docker.models.containers import Container
from project_maker import make_project
from sdist_maker import EXTENSION, SETUP_C, make_sdist

pytestmark = [pytest.mark.base, pytest.mark.debian, pytest.mark.engine]

BASES = ("slim", "alpine", "debian")
# Whether a server with `server.pem` beside this module is trusted.
TRUSTS = """\
import os, ssl, tempfile, threading, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"trusted")

    def log_message(self, *arguments):
        pass


def answer(pem):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with urllib.request.urlopen(f"https://localhost:{server.server_port}/") as response:
        return response.read().decode()
"""
PROBE = """\
import json, os, subprocess, sys, time
from pathlib import Path
from probe import trusts

# A process whose parent has ended already when it ends.
ORPHAN = "import os, time; os.fork() or (time.sleep(0.2), os._exit(0))"


def processes():
    return {path.name: (path / "stat").read_text().split()[1:3] for path in Path("/proc").glob("[0-9]*")}


def main():
    if "wait" in sys.argv:
        print("waiting", flush=True)
        time.sleep(60)
    subprocess.run([sys.executable, "-c", ORPHAN], check=True)
    time.sleep(1)
    base = os.path.realpath(sys.executable)
    found = {
        "first": Path("/proc/1/cmdline").read_text().split("\\0")[:2],
        "states": [state for _, state in processes().values()],
        "answer": trusts.answer(Path(__file__).with_name("server.pem")),
        "pip": subprocess.run([base, "-I", "-c", "import pip"], capture_output=True, text=True).stderr[-40:].strip(),
        "venv": subprocess.run([base, "-m", "venv", "/tmp/venv"], capture_output=True).returncode,
        "found": [str(path) for path in Path("/usr").rglob("pip*") if "ensurepip" not in str(path)],
    }
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The certificate of an authority that is a server too, and that certificate with its key."""
    folder = tmp_path_factory.mktemp("server")
    extensions = ("subjectAltName=DNS:localhost", "keyUsage=critical,keyCertSign,digitalSignature")
    added = [each for extension in extensions for each in ("-addext", extension)]
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = ("-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Test authority")
    tool("openssl", "req", "-x509", *names, *added, "-keyout", key, "-out", certificate)
    return certificate.read_text(), certificate.read_text() + key.read_text()


@pytest.fixture(scope="module", params=BASES)
def image(
    request: pytest.FixtureRequest,
    client: DockerClient,
    shared_cache: Path,
    server: tuple[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    name = f"hatch-docker-test-{request.param}-{secrets.token_hex(6)}"
    project = make_project(
        tmp_path_factory.mktemp("project") / "probe",
        name="probe",
        docker=f'base = "{request.param}"\npython = "3.13"\ninit = true\nca-certificates = "company.pem"\n'
        f'image = "{name}"\ntags = ["1"]',
        files={"src/probe/__init__.py": PROBE, "src/probe/trusts.py": TRUSTS, "src/probe/server.pem": server[1]},
    )
    (project / "company.pem").write_text(server[0])
    built(project, environment(shared_cache))
    yield f"{name}:1"
    remove(client, name)


@pytest.fixture(scope="module")
def printed(image: str, client: DockerClient) -> dict[str, Any]:
    options: dict[str, Any] = {"cap_drop": ["ALL"], "read_only": True, "tmpfs": {"/tmp": ""}}
    output = client.containers.run(image, remove=True, **options)
    found: dict[str, Any] = json.loads(output)
    return found


class TestImages:
    def test_an_init_process_starts_the_command_and_waits_for_orphans(self, printed: dict[str, Any]) -> None:
        assert printed["first"] == ["/usr/bin/tini-static", "--"]
        assert "Z" not in printed["states"]

    def test_a_server_of_the_company_is_trusted(self, printed: dict[str, Any]) -> None:
        assert printed["answer"] == "trusted"

    def test_there_is_no_pip(self, image: str, printed: dict[str, Any]) -> None:
        assert printed["pip"].endswith("No module named 'pip'")
        assert printed["found"] == []

    def test_venv_works_where_it_did(self, image: str, printed: dict[str, Any]) -> None:
        # Debian has ensurepip in a package of its own.
        assert (printed["venv"] == 0) == ("debian" not in image)

    def test_sigterm_ends_a_program_without_a_handler(self, image: str, client: DockerClient) -> None:
        with running(client, image, command=["wait"]) as container:
            _wait_for(container, "waiting")
            started = time.monotonic()
            container.stop(timeout=20)
            assert time.monotonic() - started < 10
            assert container.wait()["StatusCode"] == 143


def _wait_for(container: Container, text: str) -> None:
    for _ in range(300):
        if text in container.logs().decode():
            return
        time.sleep(0.1)
    pytest.fail(container.logs().decode())


@pytest.mark.network
@pytest.mark.parametrize("base", ["slim", "alpine"])
def test_the_builder_trusts_it_too(
    base: str, server: tuple[str, str], client: DockerClient, shared_cache: Path, tmp_path: Path
) -> None:
    setup = "import trusts\nassert trusts.answer('server.pem') == 'trusted'\n" + SETUP_C.format(
        name="probe", version="1.0", module="probe"
    )
    files = {
        "setup.py": "import sys\nsys.path.insert(0, '')\n" + setup,
        "trusts.py": TRUSTS,
        "server.pem": server[1],
        "probe.py": "",
        "src/_probe.c": EXTENSION.format(module="probe"),
    }
    sdist = make_sdist(tmp_path, "probe", files=files)
    builder = f'builder = "{BUILDER}"\n' if base == "alpine" else ""
    docker = f'base = "{base}"\npython = "3.13"\nca-certificates = "company.pem"\n{builder}'
    project = make_project(tmp_path / "project", dependencies=["probe"], docker=docker)
    (project / "pylock.toml").write_text(lock_of_sdists(sdist))
    (project / "company.pem").write_text(server[0])
    outcome = built(project, environment(shared_cache), target="docker:archive")
    assert "compiling in" in outcome.err
