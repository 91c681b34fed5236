"""`hatch-docker builder`: its results, output and errors."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import builds
import pytest
from base_maker import FakeBase, make_base, serve
from builds import Bench, Outcome
from containers import built, environment, output, remove
from docker import DockerClient
from fake_engine import FakeEngine
from fake_registry import USER, FakeRegistry
from project_maker import make_project
from services_maker import make_services

from hatch_docker.base.image import open_base
from hatch_docker.base.transports import BaseRequest
from hatch_docker.compiling.builder import Builder, open_builder
from hatch_docker.config import HATCH_TABLE, BaseSpec, parse
from hatch_docker.frontends.cli import builder as command
from hatch_docker.oci.archive import archive
from hatch_docker.oci.image import Image
from hatch_docker.oci.layout import open_files
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.source import layout_source, pull
from hatch_docker.oci.spec import Platform
from hatch_docker.services import Services
from hatch_docker.support.cache import Cache
from hatch_docker.support.progress import Progress

AMD64 = Platform(architecture="amd64")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def can_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the check that a builder can compile, since the fake engine runs nothing."""
    monkeypatch.setattr(command, "probe", lambda *_arguments, **_options: "python3")


Hatch = Callable[..., Outcome]


@pytest.fixture
def hatch(bench: Bench, engine: FakeEngine) -> Hatch:
    """Run the command with the fake engine, by default in the parent directory of all projects."""

    def hatch(*arguments: str | Path, folder: Path | None = None, **env: str) -> Outcome:
        environ = builds.environment(bench.cache, **{"DOCKER_HOST": engine.address, **env})
        return builds.command(*arguments, env=environ, folder=folder or bench.root)

    return hatch


def project_of(bench: Bench, **options: Any) -> Path:
    """A project whose builder is its base, without other packages."""
    return bench.project(docker=f'builder = "oci:{bench.base()}"', **options)


@pytest.mark.usefixtures("can_compile")
class TestBuilderCommand:
    def test_prints_a_value_for_the_key_builder(self, bench: Bench, engine: FakeEngine, hatch: Hatch) -> None:
        outcome = hatch("builder", folder=project_of(bench))
        assert outcome.code == 0, outcome.err
        assert outcome.out.startswith("docker-daemon:hatch-docker/builder:")
        name = outcome.out.removesuffix("\n").removeprefix("docker-daemon:")
        assert engine.images[name]["Id"] == image_of(bench).config_descriptor.digest
        config, _, mistakes = parse({"builder": outcome.out.removesuffix("\n")}, {}, name=HATCH_TABLE)
        assert not mistakes
        assert config.compiling.builder
        assert config.compiling.builder.value == name

    def test_several_platforms_are_pushed_as_an_index(
        self, bench: Bench, engine: FakeEngine, registry: FakeRegistry, hatch: Hatch
    ) -> None:
        base = bench.base(FakeBase(), FakeBase(architecture="arm64"))
        project = bench.project(base=base, docker=f'builder = "oci:{base}"')
        env = {"HATCH_DOCKER_PLATFORMS": "linux/amd64,linux/arm64"}
        message = builds.check_clean(hatch("builder", project, **env))
        assert "a builder for linux/amd64 and linux/arm64 is several images" in message
        assert "hint: add --push and --tag" in message
        name = f"{registry.host}/acme/builder:1"
        outcome = hatch("builder", "--tag", name, "--push", project, **env)
        assert outcome.code == 0, outcome.err
        digest = outcome.out.removesuffix("\n").partition("@")[2]
        assert registry.manifests["acme/builder", "1"] == registry.manifests["acme/builder", digest]
        index = json.loads(registry.manifests["acme/builder", "1"][1])
        assert [each["platform"]["architecture"] for each in index["manifests"]] == ["amd64", "arm64"]
        assert name in engine.images

    def test_prints_the_first_of_several_names(self, bench: Bench, engine: FakeEngine, hatch: Hatch) -> None:
        outcome = hatch("builder", "--tag", "acme/builder", "--tag", "acme/other:2", project_of(bench))
        assert outcome.out == "docker-daemon:acme/builder:latest\n"
        assert "is in the engine as acme/builder:latest, acme/other:2\n" in outcome.err
        assert engine.images["acme/builder:latest"] == engine.images["acme/other:2"]

    def test_prints_the_name_by_digest_after_a_push(self, bench: Bench, registry: FakeRegistry, hatch: Hatch) -> None:
        names = [f"{registry.host}/{name}" for name in ("acme/builder:1", "other/builder:1", "acme/builder:latest")]
        tags = [argument for name in names for argument in ("--tag", name)]
        outcome = hatch("builder", *tags, "--push", project_of(bench))
        assert outcome.code == 0, outcome.err
        digest = outcome.out.removesuffix("\n").partition("@")[2]
        assert outcome.out == f"{registry.host}/acme/builder@{digest}\n"
        pushed = {key for key in registry.manifests if not key[1].startswith("sha256:")}
        assert pushed == {("acme/builder", "1"), ("acme/builder", "latest"), ("other/builder", "1")}
        assert len({registry.manifests["acme/builder", digest], *map(registry.manifests.get, pushed)}) == 1

    def test_builder_has_the_config_of_its_image(self, bench: Bench, registry: FakeRegistry, hatch: Hatch) -> None:
        outcome = hatch("builder", "--push", "--tag", f"{registry.host}/acme/builder:1", project_of(bench))
        _, manifest = registry.manifests["acme/builder", outcome.out.strip().partition("@")[2]]
        assert json.loads(manifest)["config"]["digest"] == image_of(bench).config_descriptor.digest

    def test_quiet_leaves_standard_output_alone(self, bench: Bench, hatch: Hatch) -> None:
        outcome = hatch("builder", "--quiet", project_of(bench))
        assert (outcome.out.count("\n"), outcome.err) == (1, "")

    def test_does_not_need_the_version_of_the_project(self, bench: Bench, hatch: Hatch) -> None:
        project = project_of(bench, more='[tool.hatch.version]\nsource = "vcs"')
        text = (project / "pyproject.toml").read_text()
        (project / "pyproject.toml").write_text(text.replace('version = "1.0"', 'dynamic = ["version"]'))
        assert hatch("builder", project).code == 0

    def test_builder_in_the_engine(self, bench: Bench, engine: FakeEngine, hatch: Hatch) -> None:
        engine.saved = b"".join(archive(image_of(bench).node, [Reference.parse("acme/builder:1")]))
        engine.load(engine.saved)
        project = bench.project(docker='builder = "docker-daemon:acme/builder:1"')
        outcome = hatch("builder", "--tag", "acme/builder:2", project)
        assert outcome.out == "docker-daemon:acme/builder:2\n", outcome.err
        assert engine.images["acme/builder:2"] == engine.images["acme/builder:1"]


def image_of(bench: Bench) -> Image:
    files = open_files(bench.base())
    return pull(layout_source(files, ""), AMD64, Cache(bench.root / "read"), progress=Progress()).image


class TestHelp:
    @pytest.mark.parametrize(
        ("arguments", "said"), [(["--help"], "builder "), (["builder", "--help"], "Standard output has one line")]
    )
    def test_options(self, bench: Bench, hatch: Hatch, arguments: list[str], said: str) -> None:
        outcome = hatch(*arguments)
        assert outcome.code == 0
        assert said in outcome.out

    def test_module(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "hatch_docker.frontends.cli.main", "--help"],
            capture_output=True,
            check=True,
        )
        assert done.stdout.startswith(b"usage: hatch-docker ")


def refused(outcome: Outcome, *said: str, code: int = 1) -> None:
    """Check that a command failed with a message that contains all of `said`, and an empty standard output."""
    assert (outcome.code, outcome.out) == (code, ""), outcome.err
    for each in said:
        assert each in outcome.err
    assert "Traceback" not in outcome.err


HATCHLING = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "name a command"),
            (["bilder"], "bilder is no command; did you mean builder?"),
            (["builder", "--tga", "x"], "unknown option: --tga; did you mean --tag?"),
            (["builder", "one", "two"], "unexpected argument: two"),
            (["builder", "--push"], "--push: it needs a name to push to: --tag registry.example/team/builder:1"),
            (["builder", "--tag", "Acme/Builder:1"], "'Acme/Builder:1' is not an image reference"),
            (["builder", "--tag", "acme/builder:+"], "'+' is not a tag; a tag has "),
            (["builder", "--tag", f"acme/builder@sha256:{'0' * 64}"], "has a digest: images are named by tags"),
        ],
    )
    def test_command_line(self, hatch: Hatch, arguments: list[str], said: str) -> None:
        refused(hatch(*arguments), "usage: hatch-docker ", said, code=2)

    def test_names_that_cannot_be_pushed(self, bench: Bench, hatch: Hatch) -> None:
        outcome = hatch("builder", "--tag", "builder:1", "--tag", "other", "--push", project_of(bench))
        refused(outcome, "--tag: 'builder:1' cannot be pushed", "registry.example/team/builder:1", "'other:latest'")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (None, "there is no Python project"),
            ("[project", "at the end of a table declaration"),
            (f"{HATCHLING}", "Missing `project` metadata table"),
            (f'{HATCHLING}[project]\nname = "x"\nversion = "1"\nrequires-python = ">3.x"', "Invalid specifier: '>3.x'"),
        ],
    )
    def test_pyproject_toml(self, bench: Bench, hatch: Hatch, text: str | None, said: str) -> None:
        if text is not None:
            (bench.root / "pyproject.toml").write_text(text)
        refused(hatch("builder", bench.root), str(bench.root), said)
        refused(hatch("builder"), said)

    def test_reports_all_mistakes_of_the_configuration(self, bench: Bench, hatch: Hatch) -> None:
        project = bench.project(docker='build-packages = ["-x"]\nbilder = "y"')
        refused(hatch("builder", project), "2 mistakes in the configuration", "build-packages[0]: ", "docker.bilder: ")

    def test_builder_without_python(self, bench: Bench, engine: FakeEngine, hatch: Hatch) -> None:
        outcome = hatch("builder", "--tag", "acme/builder:1", project_of(bench))
        refused(outcome, "the builder image oci:", "has no Python", "hint: ")
        assert "acme/builder:1" not in engine.images
        assert not engine.containers.running

    def test_engine_lacks_the_builder(self, bench: Bench, hatch: Hatch) -> None:
        project = bench.project(docker='builder = "docker-daemon:acme/builder:1"')
        refused(hatch("builder", project), "the engine has no image acme/builder:1", "hint: ")

    def test_checks_the_engine_before_it_pulls(self, bench: Bench, registry: FakeRegistry, hatch: Hatch) -> None:
        project = bench.project(base="", docker=f'base = "{registry.host}/team/base:1"')
        outcome = hatch("builder", project, DOCKER_HOST=builds.NOWHERE)
        refused(outcome, "no container engine answers", "it is needed to make a builder", "DOCKER_HOST")
        assert not registry.requests

    @pytest.mark.usefixtures("can_compile")
    def test_registry_refuses_the_push(self, bench: Bench, registry: FakeRegistry, hatch: Hatch) -> None:
        registry.auth, auth = "basic", bench.root / "auth.json"
        arguments = ("builder", "--push", "--tag", f"{registry.host}/acme/builder:1", project_of(bench))
        refused(hatch(*arguments), "asks for credentials, and there are none", f"docker login {registry.host}")
        login = base64.b64encode(f"{USER}:s3cret".encode()).decode()
        auth.write_text(json.dumps({"auths": {registry.host: {"auth": login}}}))
        outcome = hatch(*arguments, REGISTRY_AUTH_FILE=str(auth))
        refused(outcome, f"does not accept the credentials from {auth}")
        assert "s3cret" not in outcome.err
        assert not registry.manifests

    def test_ctrl_c_leaves_no_container(
        self, bench: Bench, engine: FakeEngine, hatch: Hatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[str] = []

        def interrupted(*_arguments: Any, **_options: Any) -> str:
            seen.extend(engine.containers.running)
            raise KeyboardInterrupt

        monkeypatch.setattr(command, "probe", interrupted)
        refused(hatch("builder", project_of(bench)), "interrupted", code=130)
        assert seen
        assert not engine.containers.running


class TestRecordedBuilder:
    """The reference of a builder in the result file has the digest of its image."""

    @pytest.fixture
    def services(self, bench: Bench, engine: FakeEngine) -> Services:
        return make_services(bench.root, environ={"DOCKER_HOST": engine.address})

    def opened(self, services: Services, bench: Bench, builder: str, *packages: str) -> Builder:
        spec = BaseSpec(transport="oci", value=str(bench.base()))
        base = open_base(BaseRequest(spec=spec, platform=AMD64), services)
        options = parse({"builder": builder, "build-packages": [*packages]}, {}, name=HATCH_TABLE)[0].compiling
        return open_builder(base, spec, options, services)

    def test_in_a_registry(self, bench: Bench, services: Services, registry: FakeRegistry) -> None:
        digest = serve(bench.base(), registry, "acme/builder", "1")
        builder = self.opened(services, bench, f"{registry.host}/acme/builder:1", "libpq-dev")
        assert builder.reference == f"{registry.host}/acme/builder@{digest}"
        assert builder.name == f"{registry.host}/acme/builder:1 + libpq-dev"

    def test_in_the_engine(self, bench: Bench, services: Services, engine: FakeEngine) -> None:
        engine.images["acme/builder:1"] = {"Id": f"sha256:{'1' * 64}"}
        builder = self.opened(services, bench, "docker-daemon:acme/builder:1")
        assert builder.reference == f"docker-daemon:acme/builder:1@sha256:{'1' * 64}"

    def test_in_a_layout(self, bench: Bench, services: Services) -> None:
        layout = make_base(bench.root / "builder", FakeBase(files={"usr/bin/cc": b"\x7fELF"}))
        builder = self.opened(services, bench, f"oci:{layout}")
        index = json.loads((layout / "index.json").read_text())
        assert builder.reference == f"oci:{layout}@{index['manifests'][0]['digest']}"

    def test_identity_depends_on_the_image_id(self, bench: Bench, services: Services, engine: FakeEngine) -> None:
        identities = set()
        for digit in "12":
            engine.images["acme/builder:1"] = {"Id": f"sha256:{digit * 64}"}
            identities.add(self.opened(services, bench, "docker-daemon:acme/builder:1").identity)
        assert len(identities) == 2


@pytest.mark.engine
@pytest.mark.registry
@pytest.mark.base
@pytest.mark.network
class TestSharedBuilder:
    """One member of a team makes and pushes the builder, the others use it."""

    MAIN = "import psycopg2\n\ndef main():\n    print(psycopg2.__libpq_version__ > 0)\n"

    def project(self, folder: Path, docker: str) -> Path:
        return make_project(
            folder,
            dependencies=["psycopg2"],
            project='requires-python = ">=3.10"',
            docker=f'base = "slim"\npython = "3.13"\n{docker}',
            files={"src/shop/__init__.py": self.MAIN},
        )

    @pytest.fixture
    def repository(self, client: DockerClient) -> Iterator[str]:
        name = f"{os.environ['HATCH_DOCKER_TEST_REGISTRY']}/team/builder-{secrets.token_hex(6)}"
        yield name
        remove(client, name)

    def test_members_of_a_team_install_nothing(
        self, tmp_path: Path, client: DockerClient, repository: str, image: str
    ) -> None:
        maker = self.project(tmp_path / "maker", 'build-packages = ["libpq-dev"]')
        environ = environment(tmp_path / "cache", HATCH_DOCKER_IMAGE=image)
        arguments = ["builder", "--tag", f"{repository}:1", "--push"]
        made = subprocess.run(
            [sys.executable, "-m", "hatch_docker.frontends.cli.main", *arguments],
            cwd=maker,
            env=environ,
            capture_output=True,
            encoding="utf-8",
        )
        assert made.returncode == 0, made.stderr
        assert "installed libpq-dev in python:3.13" in made.stderr
        builder = made.stdout.removesuffix("\n")

        # It has the config of the image that it is made from, and nothing about its author.
        pushed, base = client.images.get(f"{repository}:1"), client.images.get("python:3.13")
        for key in ("Env", "Entrypoint", "Cmd", "User", "WorkingDir", "Labels"):
            assert pushed.attrs["Config"][key] == base.attrs["Config"][key]
        assert next(step["CreatedBy"] for step in pushed.history()) == "hatch-docker: libpq-dev"

        member = self.project(tmp_path / "member", f'builder = "{builder}"')
        # Neither the engine nor the cache has the builder.
        remove(client, repository)
        outcome = built(member, {**environ, "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "other")}, "docker:load")
        assert "install" not in outcome.err
        assert output(client, f"{image}:1.0") == "True\n"
        (compiled,) = builds.result_of(member)["compiled"]
        assert (compiled["builder"], compiled["build-packages"]) == (builder, [])
