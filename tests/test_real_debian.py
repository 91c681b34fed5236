"""The base from the real Debian archive: compiling on it, and OS packages, which work on slim too."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builds
import pytest
from compilations import Build, Case, building, check_again
from containers import built, environment, output, running
from docker import DockerClient
from project_maker import make_project

from hatch_docker.index.settings import discover

# One builder for everything compiled on `debian`.
BUILD_PACKAGES = "libffi-dev,libpq-dev"
DEBIAN = {"base": "debian", "registry_mirrors": "docker.io=127.0.0.1:1"}
WHERE = r"debian:trixie \+ libffi-dev \+ libpq-dev \+ a toolchain"
PACKAGES = ("curl", "ffmpeg", "git", "libgomp1", "libpq5", "libxml2")
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

pytestmark = [pytest.mark.debian, pytest.mark.engine, pytest.mark.network]


@pytest.fixture(scope="module")
def build(client: DockerClient, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    with building(client, shared_cache, tmp_path_factory.mktemp("projects")) as build:
        yield build


@pytest.fixture(scope="module")
def needs_compiling(build: Build) -> Case:
    return build("needs-compiling", **DEBIAN, build_packages=BUILD_PACKAGES, no_binary="cffi, markupsafe")


class TestCompiling:
    def test_compiles_with_debian_packages_and_runs(self, needs_compiling: Case, client: DockerClient) -> None:
        printed = needs_compiling.prints(client)
        assert printed.pop("uid") == 65532
        answers = {name: answer for name, (answer, _) in printed.items()}
        assert answers == {"cffi": 4, "markupsafe": "&lt;b&gt;", "psutil": True, "pyyaml": {"a": [1, 2]}}
        compiled = needs_compiling.compiled
        assert compiled.keys() == {"cffi", "markupsafe"}
        for name, each in compiled.items():
            assert re.search(rf"  {name} {each['version']}: .*, compiling in {WHERE}\n", needs_compiling.output)
            assert re.fullmatch(r"debian:trixie@sha256:[0-9a-f]{64}", each["builder"])
            assert {"gcc", "libffi-dev", "python3.13-dev"} <= {one.split()[0] for one in each["build-packages"]}
        members = needs_compiling.archive.members
        assert [path for path in members if "/cffi.libs/libffi-" in path]
        assert not [path for path in members if path.startswith(("usr/bin/gcc", "usr/include/"))]
        assert not [each for each in needs_compiling.containers if not each.startswith("compiling ")]

    def test_needs_no_container_the_second_time(self, needs_compiling: Case, tmp_path: Path) -> None:
        check_again(needs_compiling, tmp_path)

    def test_others_compile_in_the_builder_of_the_command(
        self, needs_compiling: Case, build: Build, image: str, client: DockerClient
    ) -> None:
        made = builds.command(
            "builder", "--tag", f"{image}:1", env=needs_compiling.environ, folder=needs_compiling.project
        )
        assert (made.code, made.out) == (0, f"docker-daemon:{image}:1\n"), made.err
        assert output(client, f"{image}:1", "sh", "-c", "cc --version").startswith("cc (Debian ")
        own = build("own-extension", **DEBIAN, builder=f"docker-daemon:{image}:1")
        assert f", compiling in {image}:1\n" in own.output
        code = "import os; print(os.confstr('CS_GNU_LIBC_VERSION'))"
        libc = output(client, f"{own.image}:1.0", "python", "-c", code).strip()
        assert own.prints(client) == {"answer": 42, "libc": libc}


@pytest.fixture(scope="module")
def lacking(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The error message if git lacks a shell."""
    project = make_project(
        tmp_path_factory.mktemp("git") / "shop", docker='base = "debian"\nruntime-packages = ["git"]'
    )
    return builds.check_clean(builds.build(project, env=environment(shared_cache)))


@pytest.fixture(scope="module", params=["debian", pytest.param("slim", marks=pytest.mark.base)])
def uses_packages(request: pytest.FixtureRequest, build: Build) -> Case:
    if request.param == "slim":
        return build("uses-packages", target="docker:load", base="slim")
    (shell,) = re.findall(
        "name essential packages too, which others need without declaring it: (.*)", request.getfixturevalue("lacking")
    )
    packages = {"build_packages": BUILD_PACKAGES, "runtime_packages": ", ".join((*PACKAGES, shell))}
    return build("uses-packages", target="docker:load", **DEBIAN, **packages)


class TestRuntimePackages:
    def test_git_requires_a_shell_and_the_message_says_so(self, lacking: str) -> None:
        assert re.search(r"\n  git: /usr/lib/git-core/git-\S+ is a script of /bin/sh\n", lacking)
        assert 'base = "slim" has a shell' in lacking

    def test_work_as_any_user_in_a_read_only_image(self, uses_packages: Case, client: DockerClient) -> None:
        printed = uses_packages.prints(client)
        version, used, expected, *libraries = printed.pop("libpq5")
        assert version == used >= 170000
        assert expected.endswith("port 1 failed: Connection refused")
        # The library of the package is used; the wheel has no copy.
        assert [path.rpartition("/")[0] for path in libraries] == ["/usr/lib/x86_64-linux-gnu"]
        assert printed.pop("curl").startswith("curl: (7) Failed to connect to 127.0.0.1 port 1")
        assert printed == {
            "ffmpeg": "mp3",
            "git": ["", "", "Ref 'refs/heads/master' was rewritten", "second", "changed"],
            "libgomp1": True,
            "libxml2": "/a",
            "uid": 65532,
        }

    def test_only_compiling_needs_a_container(self, uses_packages: Case) -> None:
        layer = next(layer for layer in uses_packages.result["layers"] if len(layer["contents"]) > len(PACKAGES))
        assert {*PACKAGES} <= {each.partition(" ")[0] for each in layer["contents"]}
        assert {*PACKAGES} <= {each["name"] for each in uses_packages.result["os-packages"]}
        psycopg2 = uses_packages.compiled["psycopg2"]
        *installing, compiling = uses_packages.containers
        assert compiling == f"compiling psycopg2 {psycopg2['version']}"
        assert all("libpq-dev" in each for each in installing)
        assert bool(installing) == psycopg2["builder"].startswith("docker.io/library/python@")

    @pytest.mark.base
    @pytest.mark.parametrize("uses_packages", ["slim"], indirect=True)
    def test_dpkg_and_apt_work_with_the_result(self, uses_packages: Case, client: DockerClient) -> None:
        names = " ".join(each["name"] for each in uses_packages.result["os-packages"])
        options: dict[str, Any] = {"entrypoint": ["sleep"], "command": ["600"], "user": "0"}
        with running(client, f"{uses_packages.image}:1.0", **options) as container:

            def run(script: str) -> tuple[int, str]:
                code, printed = container.exec_run(["bash", "-c", script])
                assert isinstance(printed, bytes)
                return code or 0, printed.decode()

            assert run("dpkg --audit") == (0, "")
            assert run(f"dpkg -V {names}") == (0, "")
            assert run("apt-get check -qq") == (0, "")
            code, expected = run("apt-get update -qq && apt-get install -y -qq --no-install-recommends jq 2>&1")
            assert code == 0, expected
            assert run("jq -n 6*7; dpkg --audit; apt-get check -qq") == (0, "42\n")


@pytest.mark.parametrize("trusted", [True, False])
def test_tls_is_verified_with_the_certificates_of_the_image(
    image: str, client: DockerClient, shared_cache: Path, tmp_path: Path, trusted: bool
) -> None:
    """The certificates of this machine replace them, as a network may have its own."""
    settings = discover(root=Path.cwd(), environ=os.environ, home=Path.home())
    url, authorities = settings.urls()[0], Path(settings.ca_file or BUNDLE)
    if not authorities.is_file() or not url.startswith("https://"):
        pytest.skip("this machine has no file of authorities, or its index no TLS")
    program = (
        "import json, ssl, sys, urllib.request\n"
        "def main():\n"
        "    try: print(urllib.request.urlopen(sys.argv[1]).status)\n"
        "    except urllib.error.URLError as error: print(type(error.reason).__name__)\n"
    )
    project = make_project(
        tmp_path / "shop",
        docker=f'base = "debian"\nextra-files = [{{from = "bundle", into = "{BUNDLE}"}}]',
        files={"bundle": authorities.read_text() if trusted else "", "src/shop/__init__.py": program},
    )
    built(project, environment(shared_cache, HATCH_DOCKER_IMAGE=image), "docker:load")
    printed = client.containers.run(
        f"{image}:1.0", [f"{url.rstrip('/')}/packaging/"], remove=True, read_only=True, cap_drop=["ALL"]
    )
    assert printed == (b"200\n" if trusted else b"SSLCertVerificationError\n")
