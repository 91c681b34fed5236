from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.config import Runtime
from hatch_docker.errors import ConfigError
from hatch_docker.image.runtime import command, configure, describe
from hatch_docker.oci.config import Healthcheck, ImageConfig
from hatch_docker.oci.spec import Platform
from hatch_docker.project.model import Project
from hatch_docker.support.dataclasses import replace

BASE = ImageConfig(
    platform=Platform(architecture="arm64"),
    created="1999-01-01T00:00:00Z",
    author="somebody",
    env={"PATH": "/opt/bin:/bin", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "no"},
    cmd=("python3",),
    entrypoint=("/entry.sh",),
    user="root",
    working_dir="/base",
    exposed_ports=("53/udp",),
    volumes=("/base-data",),
    labels={"vendor": "v", "org.opencontainers.image.title": "the base", "both": "base"},
    stop_signal="SIGINT",
    healthcheck=Healthcheck(test=("CMD", "base")),
)


def configured(
    base: ImageConfig = BASE,
    *,
    entrypoint: Sequence[str] | None = None,
    cmd: Sequence[str] | None = None,
    labels: Mapping[str, str] = {},
    **runtime: Any,
) -> ImageConfig:
    created = "2000-01-01T00:00:00Z"
    return configure(base, Runtime(**runtime), created=created, entrypoint=entrypoint, cmd=cmd, labels=labels)


class TestCommands:
    def test_script_becomes_its_path_in_the_venv(self) -> None:
        assert command("app", ["app", "other"], "place") == ["/app/.venv/bin/app"]

    def test_keeps_a_list(self) -> None:
        assert command(("python", "-m", "app"), [], "place") == ["python", "-m", "app"]
        assert command((), [], "place") == []
        assert command(None, [], "place") is None

    @pytest.mark.parametrize(
        ("scripts", "hint"),
        [(["app", "other"], "did you mean 'app'"), (["xyz"], "it has xyz"), ([], "it has none")],
    )
    def test_script_that_no_wheel_installs(self, scripts: list[str], hint: str) -> None:
        with pytest.raises(ConfigError, match=rf"installs a script 'ap'; {hint}") as caught:
            command("ap", scripts, "tool.x.entrypoint")
        assert caught.value.problems[0][0] == "tool.x.entrypoint"


class TestConfig:
    def test_venv_is_first_on_the_path(self) -> None:
        assert configured().env["PATH"] == "/app/.venv/bin:/opt/bin:/bin"
        for env in ({}, {"PATH": ""}):
            bare = ImageConfig(platform=BASE.platform, env=env)
            assert configured(bare).env["PATH"].startswith("/app/.venv/bin:/usr/local/sbin:/usr/local/bin:")

    @pytest.mark.parametrize(
        ("env", "expected"),
        [
            ({}, {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"}),
            ({"LANG": "de", "PYTHONDONTWRITEBYTECODE": ""}, {"LANG": "de", "PYTHONDONTWRITEBYTECODE": ""}),
        ],
    )
    def test_environment_of_the_project_wins_over_ours_and_the_base_s(
        self, env: Mapping[str, str], expected: Mapping[str, str]
    ) -> None:
        assert configured(env=env).env.items() >= expected.items()

    @pytest.mark.parametrize(
        ("entrypoint", "cmd", "expected"),
        [
            (None, None, (("/entry.sh",), ("python3",))),
            (["/app"], None, (("/app",), None)),
            (["/app"], ["x"], (("/app",), ("x",))),
            (None, ["x"], (("/entry.sh",), ("x",))),
            ([], ["x"], ((), ("x",))),
        ],
    )
    def test_new_entrypoint_drops_the_base_s_command(
        self, entrypoint: list[str] | None, cmd: list[str] | None, expected: object
    ) -> None:
        made = configured(entrypoint=entrypoint, cmd=cmd)
        assert (made.entrypoint, made.cmd) == expected

    def test_drops_labels_that_describe_the_base(self) -> None:
        made = configured(labels={"both": "ours"})
        assert made.labels == {"vendor": "v", "both": "ours"}
        assert (made.created, made.author) == ("2000-01-01T00:00:00Z", "")
        assert made.platform == BASE.platform

    def test_adds_ports_and_volumes_to_the_base_s(self) -> None:
        made = configured(ports=("8000/tcp",), volumes=("/data",))
        assert made.exposed_ports == ("53/udp", "8000/tcp")
        assert made.volumes == ("/base-data", "/data")

    def test_keeps_the_shell_of_the_base_and_how_its_command_is_escaped(self) -> None:
        base = replace(BASE, shell=("/bin/bash", "-c"), args_escaped=True)
        assert configured(base).shell == ("/bin/bash", "-c")
        assert configured(base).args_escaped
        assert configured(base, entrypoint=["app"]).shell == ("/bin/bash", "-c")
        assert not configured(base, entrypoint=["app"]).args_escaped
        assert not configured(base, cmd=["app"]).args_escaped

    def test_keeps_stop_signal_and_healthcheck_of_the_base(self) -> None:
        assert configured().stop_signal == "SIGINT"
        assert configured(stop_signal="SIGTERM").stop_signal == "SIGTERM"
        assert configured().healthcheck == BASE.healthcheck
        assert (configured().user, configured().working_dir) == ("65532:65532", "/app")


class TestAnnotations:
    def test_from_the_metadata(self) -> None:
        project = Project(
            root=Path(),
            name="App",
            version="1.0",
            description="Does it",
            license="MIT",
            authors=("A", "B <b@a.example>"),
            revision="abc",
            urls={
                "Source Code": "https://code.example",
                "Home-Page": "https://ignored.example",
                "Homepage": "https://home.example",
                "docs": "https://docs.example",
                "Changelog": "https://changes.example",
            },
        )
        annotations = describe(
            project, created="2000-01-01T00:00:00Z", base_name="docker.io/x:1", base_digest="sha256:0"
        )
        assert {key.removeprefix("org.opencontainers.image."): text for key, text in annotations.items()} == {
            "title": "App",
            "version": "1.0",
            "description": "Does it",
            "licenses": "MIT",
            "authors": "A, B <b@a.example>",
            "revision": "abc",
            "created": "2000-01-01T00:00:00Z",
            "source": "https://code.example",
            "url": "https://home.example",
            "documentation": "https://docs.example",
            "base.name": "docker.io/x:1",
            "base.digest": "sha256:0",
        }

    def test_are_single_lines_without_control_characters(self) -> None:
        project = Project(
            root=Path(),
            name="a",
            version="1",
            description='Two lines:\r\n  the second one\twith "quotes",\u2028ünïcode \U0001f468\u200d\U0001f4bb, '
            "\x07\x00\x85\x1b[1m\udc80 ",
            license=" \n",
            authors=("A\nB", "C"),
            urls={"docs": "https://docs.example\n"},
        )
        annotations = describe(project, created="", base_name="", base_digest="")
        assert {key.removeprefix("org.opencontainers.image."): text for key, text in annotations.items()} == {
            "title": "a",
            "version": "1",
            "description": 'Two lines: the second one with "quotes", ünïcode \U0001f468\u200d\U0001f4bb, [1m',
            "authors": "A B, C",
            "documentation": "https://docs.example",
        }

    def test_cut_a_long_description(self) -> None:
        def description(text: str) -> str:
            project = Project(root=Path(), name="a", version="1", description=text)
            annotations = describe(project, created="", base_name="", base_digest="")
            return annotations["org.opencontainers.image.description"]

        assert description("é" * 512) == "é" * 512
        assert description("é" * 513) == "é" * 511 + "…"
        assert description("word " * 10**6) == "word " * 102 + "w…"

    def test_omits_empty_values(self) -> None:
        project = Project(root=Path(), name="a", version="1")
        annotations = describe(project, created="", base_name="", base_digest="sha256:0")
        assert set(annotations) == {"org.opencontainers.image.title", "org.opencontainers.image.version"}


@pytest.mark.parametrize(
    ("base_user", "user", "kept"),
    [("", "65532:65532", False), ("1001", "1001:0", True), ("app:app", "app", True), ("root", "app", False)],
)
def test_home_of_another_user_is_dropped(base_user: str, user: str, *, kept: bool) -> None:
    base = replace(BASE, env={"HOME": "/opt/home"}, user=base_user)
    assert ("HOME" in configured(base, user=user).env) is kept
    assert configured(base, user=user, env={"HOME": "/mine"}).env["HOME"] == "/mine"
