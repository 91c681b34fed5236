"""The example project on each base: built, run, pushed, pulled, read by other tools, and built again."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builds
import pytest
from containers import PODMAN, address, answer, built, environment, inside, output, remove, running, tool
from docker import DockerClient
from docker.models.containers import Container
from recorder import Recorder

from hatch_docker.support.dataclasses import dataclass

EXAMPLE = Path(__file__).parent.parent / "example_project"
REGISTRY = os.environ.get("HATCH_DOCKER_TEST_REGISTRY", "")
AUTH_REGISTRY = os.environ.get("HATCH_DOCKER_TEST_AUTH_REGISTRY", "")
USER = os.environ.get("HATCH_DOCKER_TEST_AUTH_USER", "")
PASSWORD = os.environ.get("HATCH_DOCKER_TEST_AUTH_PASSWORD", "")

# Makes layers that the loaded image does not have, so that the engine must pull them.
FEW_LAYERS = {"HATCH_DOCKER_MAX_LAYERS": "4"}

NOWHERE = "127.0.0.1:1"

pytestmark = [pytest.mark.base, pytest.mark.engine, pytest.mark.network]


@dataclass(frozen=True)
class Example:
    """The example, built and loaded."""

    project: Path
    environ: dict[str, str]
    image: str
    result: dict[str, Any]

    @property
    def archive(self) -> Path:
        return builds.archive_of(self.project)


def copied(to: Path) -> Path:
    """Copy the example without the files of builds."""
    return Path(shutil.copytree(EXAMPLE, to, ignore=shutil.ignore_patterns("dist", "__pycache__", ".*")))


@pytest.fixture(scope="module", params=[pytest.param("debian", marks=pytest.mark.debian), "slim", "alpine"])
def base(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def example(
    base: str, client: DockerClient, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Example]:
    image = f"hatch-docker-test-{secrets.token_hex(6)}"
    environ = environment(shared_cache, HATCH_DOCKER_BASE=base, HATCH_DOCKER_IMAGE=image)
    project = copied(tmp_path_factory.mktemp(base) / "example")
    if base == "debian":
        # From Debian's archive and the package index alone: neither a registry nor an engine can be reached.
        environ["HATCH_DOCKER_REGISTRY_MIRRORS"] = f"docker.io={NOWHERE}"
        built(project, {**environ, "DOCKER_HOST": f"tcp://{NOWHERE}"}, "docker:archive")
        client.images.load(builds.archive_of(project).read_bytes())
    else:
        built(project, environ, "docker:archive,load")
    yield Example(project, environ, image, builds.result_of(project))
    remove(client, image)


@pytest.fixture(scope="module")
def container(example: Example, client: DockerClient) -> Iterator[Container]:
    """The running service, with a read-only file system."""
    with running(client, f"{example.image}:1.0.0", read_only=True, cap_drop=["ALL"]) as container:
        address(container)
        yield container


FACTS = """
import importlib.util, json, os, shutil, sys
print(json.dumps({
    "ids": [os.getuid(), os.getgid()],
    "environment": dict(os.environ),
    "tools": [tool for tool in ("pip", "cc", "gcc", "g++", "make") if shutil.which(tool, path="/app/.venv/bin")],
    "compilers": [tool for tool in ("cc", "gcc", "g++", "make") if shutil.which(tool)],
    "pip": importlib.util.find_spec("pip") is not None,
    "prefix": sys.prefix,
    "folder": os.getcwd(),
}))
"""

SYSTEM = """
import ctypes, ctypes.util, json, locale, pathlib, sqlite3, ssl, sys, zoneinfo

def written():
    try:
        pathlib.Path("/app/x").touch()
        return "/app/x"
    except OSError:
        return ""

loaded = [bool(ctypes.CDLL(name)) for name in map(ctypes.util.find_library, sys.argv[1:])]
print(json.dumps({
    "libraries": loaded,
    "zone": str(zoneinfo.ZoneInfo("Europe/Berlin")),
    "sqlite": sqlite3.connect(":memory:").execute("select json('[1]')").fetchone()[0],
    "authorities": ssl.create_default_context().cert_store_stats()["x509_ca"] > 50,
    "locale": [locale.setlocale(locale.LC_CTYPE, ""), locale.getpreferredencoding()],
    "written": written(),
}))
"""

# A TLS server in the container: its certificate is accepted if it is passed as `verify`, and refused otherwise.
TLS = """
import datetime, http.server, ipaddress, ssl, threading
import certifi, requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
now = datetime.datetime.now(datetime.timezone.utc)
host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
certificate = (
    x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    .add_extension(host, critical=False).add_extension(x509.BasicConstraints(True, None), critical=True)
    .sign(key, hashes.SHA256())
)
pem = serialization.Encoding.PEM
private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
with open("/dev/shm/both.pem", "wb") as file:
    file.write(private + certificate.public_bytes(pem))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/dev/shm/both.pem")
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"https://127.0.0.1:{server.server_port}"
print(requests.get(url, verify="/dev/shm/both.pem", timeout=10).status_code)
try:
    requests.get(url, timeout=10)
except requests.exceptions.SSLError:
    print("refused")
print(ssl.create_default_context(cafile=certifi.where()).cert_store_stats()["x509_ca"] > 50)
"""


class TestRunning:
    def test_serves(self, container: Container) -> None:
        url = address(container)
        assert answer(f"{url}/health") == {"status": "ok", "version": "1.0.0"}
        assert answer(f"{url}/stamp/{'0' * 64}", "POST")["stamp"].startswith("0" * 64)

    def test_command_is_on_the_path(self, container: Container) -> None:
        assert re.fullmatch(r"[0-9a-f]{64} \d+\n", inside(container, "stamp", "file", "/etc/hostname"))

    def test_environment_has_no_build_tools(self, container: Container) -> None:
        facts = json.loads(inside(container, "python", "-c", FACTS))
        assert facts["ids"] == [65532, 65532]
        assert facts["environment"]["PYTHONUNBUFFERED"] == facts["environment"]["PYTHONDONTWRITEBYTECODE"] == "1"
        assert facts["environment"]["PATH"].startswith("/app/.venv/bin:/usr/local/")
        assert (facts["prefix"], facts["folder"]) == ("/app/.venv", "/app")
        assert facts["tools"] == facts["compilers"] == []
        assert not facts["pip"]

    def test_standard_library_has_its_system_files(self, base: str, container: Container) -> None:
        # ctypes.util.find_library needs ld.so.cache, which musl does not have.
        libraries = [] if base == "alpine" else ["c", "ssl"]
        facts = json.loads(inside(container, "python", "-c", SYSTEM, *libraries))
        assert facts == {
            "libraries": [True] * len(libraries),
            "zone": "Europe/Berlin",
            "sqlite": "[1]",
            "authorities": True,
            "locale": ["C.UTF-8", "UTF-8"],
            "written": "",
        }

    def test_tls(self, container: Container) -> None:
        assert inside(container, "python", "-c", TLS).split() == ["204", "refused", "True"]

    def test_packages_are_importable_and_complete(self, container: Container) -> None:
        code = (
            "import importlib.metadata as m; "
            "[__import__(n) for n in ('cryptography.x509', 'pydantic_core', 'uvicorn.main', 'fastapi', 'cffi')]; "
            "print(*sorted(d.name for d in m.distributions() if not all(f.locate().exists() for f in d.files)), "
            "len(list(m.distributions())))"
        )
        assert inside(container, "python", "-c", code).split() == [str(installed())]

    def test_stops_on_sigterm(self, example: Example, client: DockerClient) -> None:
        with running(client, f"{example.image}:latest") as stopping:
            address(stopping)
            stopping.stop(timeout=60)
            assert stopping.wait()["StatusCode"] != 137


class TestReproducibility:
    def test_other_directory_gives_the_same_image(self, example: Example, tmp_path: Path) -> None:
        project = copied(tmp_path / "some where" / "else")
        changes = {
            "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache"),
            "HATCH_DOCKER_THREADS": "1",
            "PYTHONHASHSEED": "7",
            "TZ": "Pacific/Kiritimati",
            "LC_ALL": "C",
        }
        process = builds.start(project, env={**example.environ, **changes}, umask=0o077)
        assert builds.wait_for(process).code == 0
        assert builds.archive_of(project).read_bytes() == example.archive.read_bytes()

    def test_change_of_one_line_makes_two_small_layers(
        self, example: Example, image: str, client: DockerClient, tmp_path: Path
    ) -> None:
        project, environ = copied(tmp_path / "example"), {**example.environ, "HATCH_DOCKER_IMAGE": image}
        built(project, environ, "docker:load")
        service, status = project / "src" / "stamp" / "service.py", secrets.token_hex(4)
        service.write_text(service.read_text().replace('"status": "ok"', f'"status": "{status}"'))

        outcome = built(project, environ, "docker:archive,load")
        *others, own, bytecode = builds.result_of(project)["layers"]
        assert all(layer["reused"] for layer in others)
        assert not own["reused"]
        assert not bytecode["reused"]
        assert own["size"] + bytecode["size"] < 10_000
        assert not re.search("  (pulled|downloaded|looked up|resolved) ", outcome.err)
        assert "made layer stamp 1.0.0," in outcome.err
        assert re.search(r"loaded [\w.:-]+, [\d.]+ kB", outcome.err), "no other layer is sent"
        with running(client, f"{image}:1.0.0") as changed:
            assert answer(f"{address(changed)}/health")["status"] == status


class TestOtherTools:
    @pytest.mark.tools
    @pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
    def test_skopeo(self, example: Example, transport: str) -> None:
        config = json.loads(tool("skopeo", "inspect", "--config", f"{transport}:{example.archive}"))
        assert config["config"]["Entrypoint"] == ["/app/.venv/bin/stamp"]
        facts = json.loads(tool("skopeo", "inspect", f"{transport}:{example.archive}"))
        assert len(facts["Layers"]) == example.result["base"]["layers"] + len(example.result["layers"])

    @pytest.mark.tools
    def test_umoci(self, example: Example, tmp_path: Path) -> None:
        tool("skopeo", "copy", f"oci-archive:{example.archive}", f"oci:{tmp_path}/layout:it")
        tool("umoci", "unpack", "--rootless", "--image", f"{tmp_path}/layout:it", f"{tmp_path}/bundle")
        assert (tmp_path / "bundle" / "rootfs" / "app" / ".venv" / "bin" / "stamp").stat().st_mode & 0o777 == 0o755
        process = json.loads((tmp_path / "bundle" / "config.json").read_text())["process"]
        assert (process["args"], process["cwd"]) == (["/app/.venv/bin/stamp", "serve"], "/app")
        assert process["user"]["uid"] == 65532

    @pytest.mark.skipif(not shutil.which("podman"), reason="needs podman")
    def test_podman(self, image: str, shared_cache: Path, tmp_path: Path) -> None:
        # podman's vfs storage copies all files for every layer: use a small base and few layers.
        project = copied(tmp_path / "example")
        built(
            project,
            environment(shared_cache, HATCH_DOCKER_BASE="alpine", HATCH_DOCKER_IMAGE=image, **FEW_LAYERS),
            "docker:archive",
        )
        with tempfile.TemporaryDirectory(prefix="podman-") as folder:
            podman = [part.format(folder) for part in PODMAN]
            assert image in tool(*podman, "load", "-i", str(builds.archive_of(project)))
            facts = json.loads(tool(*podman, "image", "inspect", f"{image}:1.0.0"))
            assert facts[0]["Id"] == builds.result_of(project)["image-id"].removeprefix("sha256:")
            tool(*podman, "image", "rm", "--all", "--force")

    def test_docker_load(self, example: Example, client: DockerClient) -> None:
        remove(client, example.image)
        with example.archive.open("rb") as file:
            loaded = client.images.load(file)
        assert {tag for image in loaded for tag in image.tags} >= {f"{example.image}:1.0.0", f"{example.image}:latest"}
        assert "usage: stamp" in output(client, example.image, "stamp", "--help")


@pytest.mark.registry
class TestPush:
    def test_uploads_only_missing_blobs(self, example: Example, client: DockerClient, tmp_path: Path) -> None:
        project, repository = copied(tmp_path / "example"), f"tests/{secrets.token_hex(6)}"
        with Recorder(REGISTRY) as registry:
            settings = {
                "HATCH_DOCKER_IMAGE": f"{registry.host}/{repository}",
                "HATCH_DOCKER_REGISTRY_MIRRORS": f"docker.io={registry.host}",
            }
            environ = {**example.environ, **FEW_LAYERS, **settings}
            built(project, environ, "docker:archive,push")
            result = builds.result_of(project)
            mounted = [each for each in registry.of("POST") if "mount" in each.query and each.status == 201]
            sent = {each.digest for each in registry.of("PUT", "/blobs/")}
            own = {result["image-id"], *(layer["digest"] for layer in result["layers"])}
            if result["base"]["name"] == "debian:trixie":
                # No registry has this base, so its layers are uploaded.
                assert own < sent
                assert len(sent - own) == result["base"]["layers"]
                assert not mounted
            else:
                assert len(mounted) == result["base"]["layers"]
                assert {each.query["from"][0] for each in mounted} == {"library/python"}
                assert sent == own
            tags = [each.path.rpartition("/")[2] for each in registry.of("PUT", "/manifests/")]
            assert tags[-2:] == ["1.0.0", "latest"]
            assert [each.path for each in registry.of("PUT")[-2:]] == [
                each.path for each in registry.of("PUT", "/manifests/")[-2:]
            ]
            assert registry.passed[-1].method == "HEAD", "tags are read back"

            registry.passed.clear()
            built(project, environ, "docker:push")
            assert registry.of("POST") == registry.of("PATCH") == registry.of("PUT", "/blobs/") == []
        pull_and_run(client, f"{REGISTRY}/{repository}", result["digest"])

    def test_registry_with_a_password(self, example: Example, client: DockerClient, tmp_path: Path) -> None:
        project, image = copied(tmp_path / "example"), f"{AUTH_REGISTRY}/tests/{secrets.token_hex(6)}"
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {AUTH_REGISTRY: {"auth": token}}}))
        settings = {"HATCH_DOCKER_IMAGE": image, "DOCKER_CONFIG": str(tmp_path)}
        outcome = built(project, {**example.environ, **FEW_LAYERS, **settings}, "docker:archive,push")
        assert outcome.out.splitlines()[-1] == f"{image}@{builds.result_of(project)['digest']}"
        texts = [outcome.out, outcome.err, (project / "dist" / "stamp-1.0.0.docker.json").read_text()]
        assert not any(secret in text for secret in (PASSWORD, token) for text in texts)
        login = {"username": USER, "password": PASSWORD}
        pull_and_run(client, image, builds.result_of(project)["digest"], auth_config=login)

    @pytest.mark.parametrize("auths", [{}, {"auth": base64.b64encode(b"testuser:wrong-one").decode()}])
    def test_missing_or_wrong_password(self, example: Example, tmp_path: Path, auths: dict[str, str]) -> None:
        project = copied(tmp_path / "example")
        (tmp_path / "config.json").write_text(json.dumps({"auths": {AUTH_REGISTRY: auths} if auths else {}}))
        settings = {"HATCH_DOCKER_IMAGE": f"{AUTH_REGISTRY}/tests/refused", "DOCKER_CONFIG": str(tmp_path)}
        outcome = builds.build(project, env={**example.environ, **settings}, target="docker:push")
        assert outcome.code not in (0, None)
        assert f"docker login {AUTH_REGISTRY}" in outcome.err
        assert "Traceback" not in outcome.err
        assert "wrong-one" not in outcome.err
        assert not list((project / "dist").glob("*.docker.json"))

    @pytest.mark.tools
    def test_skopeo_reads_the_pushed_image(self, example: Example, tmp_path: Path) -> None:
        project, image = copied(tmp_path / "example"), f"{REGISTRY}/tests/{secrets.token_hex(6)}"
        built(project, {**example.environ, "HATCH_DOCKER_IMAGE": image}, "docker:push")
        result = builds.result_of(project)
        facts = json.loads(tool("skopeo", "inspect", "--tls-verify=false", f"docker://{image}:latest"))
        assert facts["Digest"] == result["digest"]
        assert sorted(facts["RepoTags"]) == ["1.0.0", "latest"]
        tool("skopeo", "copy", "--src-tls-verify=false", f"docker://{image}:1.0.0", f"dir:{tmp_path}/copy")


def pull_and_run(client: DockerClient, image: str, digest: str, **options: Any) -> None:
    """Check that the engine can pull an image by digest and run it."""
    try:
        client.images.pull(f"{image}@{digest}", **options)
        with running(client, f"{image}@{digest}") as container:
            assert answer(f"{address(container)}/health")["status"] == "ok"
    finally:
        remove(client, image)


def installed() -> int:
    """The number of distributions in the image: those of the lock, and the example."""
    lock = (EXAMPLE / "requirements.txt").read_text()
    return len(re.findall(r"^[\w.-]+==", lock, re.MULTILINE)) + 1
