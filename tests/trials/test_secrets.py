"""Secrets in every place that a build takes one from: none is in anything that it says, writes or sends to others."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import builds
import pytest
from base_maker import serve
from builds import Bench
from fake_index import FakeIndex, serving
from fake_registry import PASSWORD, USER, FakeRegistry

from hatch_docker.support.dataclasses import dataclass, field

pytestmark = [pytest.mark.trials, pytest.mark.skipif(os.name == "nt", reason="programs are shell scripts")]

NAME, SECRET = "ann", "s3cret/+pass"
QUOTED = quote(SECRET, safe="")
# Needs no quoting: a variable, or a key.
TOKEN = "ghp_0123456789abcdef"
_FORMS = [
    *(text.encode() for text in (SECRET, QUOTED, TOKEN, PASSWORD, quote(PASSWORD))),
    *(base64.b64encode(f"{name}:{text}".encode()) for name, text in ((NAME, SECRET), (USER, PASSWORD))),
]


@dataclass
class Given:
    """Where a secret is: variables, and files below the project and the home directory."""

    environ: Mapping[str, str] = field(default_factory=dict)
    project: Mapping[str, str] = field(default_factory=dict)
    home: Mapping[str, str] = field(default_factory=dict)
    more: str = ""


@dataclass(frozen=True)
class Hosts:
    """The hosts that need logins, or are told one."""

    index: str
    registry: str

    @property
    def url(self) -> str:
        """The address of the index with its login."""
        return f"http://{NAME}:{QUOTED}@{self.index}/simple/"


# The digest is known later.
_LOCK = "alpha==1.0 --hash=sha256:HASH\n"


def _keyring(hosts: Hosts) -> Given:
    script = f"#!/bin/sh\necho '{SECRET}'\n"
    environ = {"UV_KEYRING_PROVIDER": "subprocess", "PIP_INDEX_URL": f"http://{NAME}@{hosts.index}/simple/"}
    return Given({**environ, "UV_DEFAULT_INDEX": environ["PIP_INDEX_URL"]}, home={"bin/keyring": script})


def _docker_login(hosts: Hosts) -> Given:
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return Given(home={".docker/config.json": json.dumps({"auths": {hosts.registry: {"auth": login}}})})


def _docker_helper(hosts: Hosts) -> Given:
    answer = json.dumps({"Username": USER, "Secret": PASSWORD})
    files = {
        ".docker/config.json": json.dumps({"credHelpers": {hosts.registry: "mine"}}),
        "bin/docker-credential-mine": f"#!/bin/sh\nread x\necho '{answer}'\n",
    }
    return Given(home=files)


def _named(hosts: Hosts) -> Given:
    more = f'[[tool.uv.index]]\nname = "mine"\nurl = "http://{hosts.index}/simple/"\ndefault = true\n'
    return Given({"UV_INDEX_MINE_USERNAME": NAME, "UV_INDEX_MINE_PASSWORD": SECRET}, more=more)


# Logins of the index, in all places that pip and uv read them from.
INDEX: Mapping[str, Callable[[Hosts], Given]] = {
    "our variable": lambda hosts: Given({"HATCH_DOCKER_INDEX_URL": hosts.url}),
    "pip's variable": lambda hosts: Given({"PIP_INDEX_URL": hosts.url}),
    "pip's variable of more indexes": lambda hosts: Given(
        {"PIP_INDEX_URL": "http://127.0.0.1:1/", "PIP_EXTRA_INDEX_URL": hosts.url, "UV_DEFAULT_INDEX": hosts.url}
    ),
    "uv's variable of files": lambda hosts: Given(
        {"UV_FIND_LINKS": hosts.url.replace("/simple/", "/simple/alpha/"), "UV_NO_INDEX": "1"}
    ),
    "uv's variable": lambda hosts: Given({"UV_DEFAULT_INDEX": hosts.url}),
    "uv's named variables": _named,
    "pip.conf": lambda hosts: Given(
        {"PIP_CONFIG_FILE": "~/pip.conf"}, home={"pip.conf": f"[global]\nindex-url = {hosts.url}\n"}
    ),
    "uv.toml": lambda hosts: Given(
        {"UV_CONFIG_FILE": "~/uv.toml"}, home={"uv.toml": f'[[index]]\nurl = "{hosts.url}"\ndefault = true\n'}
    ),
    "pyproject.toml": lambda hosts: Given(
        more=f'[[tool.uv.index]]\nname = "mine"\nurl = "{hosts.url}"\ndefault = true\n'
    ),
    "netrc": lambda hosts: Given(
        {"HATCH_DOCKER_INDEX_URL": f"http://{hosts.index}/simple/"},
        home={".netrc": f"machine 127.0.0.1 login {NAME} password {SECRET}\n"},
    ),
    "keyring": _keyring,
    "the lock": lambda hosts: Given(project={"requirements.txt": f"--index-url {hosts.url}\n{_LOCK}"}),
    "a URL of the lock": lambda hosts: Given(
        project={
            "requirements.txt": f"alpha @ http://{NAME}:{QUOTED}@{hosts.index}/files/alpha-1.0-py3-none-any.whl"
            " --hash=sha256:HASH\n"
        }
    ),
}
# Those of the registry, and secrets that are nobody's login.
OTHERS: Mapping[str, Callable[[Hosts], Given]] = {
    "Docker's login": _docker_login,
    "Docker's helper": _docker_helper,
    "any variable": lambda _: Given({"AWS_SECRET_ACCESS_KEY": TOKEN, "HATCH_INDEX_AUTH": TOKEN}),
    "the cache's key": lambda hosts: Given(
        {"HATCH_DOCKER_CACHE_KEY": TOKEN, "HATCH_DOCKER_CACHE": f"{hosts.registry}/cache"}
    ),
    "Git's origin": lambda _: Given(
        project={".git/config": f'[remote "origin"]\nurl = https://{NAME}:{TOKEN}@git.example/team/shop.git\n'}
    ),
    "the proxy": lambda _: Given(
        {"HTTP_PROXY": f"http://{NAME}:{QUOTED}@127.0.0.1:1", "NO_PROXY": "127.0.0.1,localhost"}
    ),
    "a proxy that fails": lambda _: Given({"HTTP_PROXY": f"http://{NAME}:{QUOTED}@127.0.0.1:1"}),
}


@dataclass
class Place:
    """A project with a secret, and the hosts."""

    bench: Bench
    project: Path
    environ: Mapping[str, str]
    registry: FakeRegistry
    written: set[Path]

    def run(self, *arguments: str) -> tuple[int, bytes]:
        """Run a command; returns its status and all that it said."""
        outcome = builds.command(*arguments, env=self.environ, folder=self.project)
        return outcome.code, (outcome.out + outcome.err).encode()

    def left(self) -> Iterator[tuple[str, bytes]]:
        """What is in files now and was not given, in the registry, and in requests that need no login."""
        for path in self.bench.root.rglob("*"):
            if path.is_file() and path not in self.written:
                yield str(path.relative_to(self.bench.root)), path.read_bytes()
        for blob in self.registry.blobs.values():
            yield "a blob", blob
        for _, manifest in self.registry.manifests.values():
            yield "a manifest", manifest
        for request in self.registry.requests:
            if "Basic" not in request.headers.get("Authorization", ""):
                yield "a request", str(request).encode()


def place(tmp_path: Path, index: FakeIndex, registry: FakeRegistry, name: str, host: str) -> Place:
    """A project whose index is at `host`."""
    bench = Bench(tmp_path)
    wheel = bench.wheel("alpha")
    digest = index.add("alpha", wheel.name, wheel.read_bytes())
    given = {**INDEX, **OTHERS}[name](Hosts(host, registry.host))
    serve(bench.base(), registry, "library/base", "1")
    base = f'base = "{registry.host}/library/base:1"'
    project = bench.project(base="", dependencies=["alpha"], docker=base, more=given.more)
    home = tmp_path / "home"
    files = {project / path: text for path, text in {"requirements.txt": _LOCK, **given.project}.items()}
    files |= {home / path: text for path, text in given.home.items()}
    if ".git/config" in given.project:
        subprocess.run(["git", "init", "-q", str(project)], check=True)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("HASH", digest))
        path.chmod(0o700)
    (tmp_path / "temporary").mkdir()
    settings = {
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": str(tmp_path / "temporary"),
        "HATCH_DOCKER_IMAGE": f"{registry.host}/team/shop",
        **({} if name in INDEX else {"HATCH_DOCKER_INDEX_URL": f"http://{host}/simple/"}),
        **{variable: value.replace("~", str(home)) for variable, value in given.environ.items()},
    }
    environ = builds.environment(tmp_path / "cache", **settings)
    return Place(bench, project, environ, registry, {*files, project / "pyproject.toml"})


def found(parts: Iterable[tuple[str, bytes]]) -> list[str]:
    """Where a form of a secret is in some bytes, or in what they are compressed from."""
    places = []
    for name, data in parts:
        for each in (data, *_inflated(data)):
            places += [f"{name}: {form!r}" for form in _FORMS if form in each]
    return places


def _inflated(data: bytes) -> Iterator[bytes]:
    """The content of gzip members, and of those in a tar."""
    if data.startswith(b"\x1f\x8b"):
        whole = b""
        while data:
            inflate = zlib.decompressobj(31)
            whole += inflate.decompress(data)
            data = inflate.unused_data
        yield whole
    elif data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                if member.isfile() and (file := tar.extractfile(member)):
                    yield from _inflated(file.read())


LOGINS = ("Docker's login", "Docker's helper")
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "build": ("build", "-o", "type=oci,dest=image.tar", "--metadata-file", "result.json"),
    "push": ("build", "--push"),
    "plan": ("plan", "--json"),
    "lock": ("lock",),
}


@pytest.mark.parametrize("fault", ["", "refused", "unreachable"])
@pytest.mark.parametrize("name", [*INDEX, *OTHERS])
def test_no_secret_is_left(tmp_path: Path, name: str, fault: str) -> None:
    login = (NAME, SECRET) if name in INDEX else None
    with serving(login=login) as index, FakeRegistry(auth="basic", anonymous_pull=True) as registry:
        here = place(tmp_path, index, registry, name, "127.0.0.1:1" if fault == "unreachable" else index.host)
        if fault == "refused":
            index.login = ("other", "login")
            registry.auth, registry.anonymous_pull = "bearer", False
        statuses = {}
        for command, arguments in COMMANDS.items():
            statuses[command], said = here.run(*arguments)
            assert b"Traceback" not in said
            assert not found([(f"what {command} says", said)])
        assert not found(here.left())
    # The secrets were used, and needed.
    if name in INDEX:
        assert (statuses["build"] == 0) == (not fault), said
    if name in LOGINS:
        assert (statuses["push"] == 0) == (not fault), said


def test_secrets_are_found_wherever_they_are() -> None:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        info = tarfile.TarInfo("a")
        data = gzip.compress(b"nothing") + gzip.compress(f"x{QUOTED}x".encode())
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    assert found([("a", tar.getvalue()), ("b", TOKEN.encode()), ("c", b"nothing")]) == [
        f"a: {QUOTED.encode()!r}",
        f"b: {TOKEN.encode()!r}",
    ]
