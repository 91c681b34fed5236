"""Replays ask and read by themselves what a build leaves to larger parts, and in the same way."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import builds
import pytest
from base_maker import serve
from builds import Bench, Outcome
from fake_engine import FakeEngine
from fake_registry import Failure, FakeRegistry
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.frontends.cli.commands import COMMANDS
from hatch_docker.frontends.cli.parser import Parser, add_common_options, add_project_options
from hatch_docker.frontends.cli.replay import read_build
from hatch_docker.oci.registry.documents import ACCEPT
from hatch_docker.stamps import questions
from hatch_docker.stamps.host import cache_folder
from hatch_docker.stamps.questions import images_in_engine, still_answered
from hatch_docker.support.directories import usual_cache

_DAY = 24 * 3600


def _parser() -> Parser:
    parser = Parser("hatch-docker build")
    COMMANDS["build"].add_arguments(parser)
    add_common_options(parser)
    add_project_options(parser)
    return parser


_PARSER = _parser()
_WORDS = [*_PARSER.options, "app", "a=b", ".", "plain", "quiet", "", "-", "--", "-q1", "-tapp", "--tag=", "-1", "--no"]
_WORDS += [f"{option}=x" for option in _PARSER.options]


def _parsed(words: list[str]) -> dict[str, Any] | None:
    """What argparse reads, with texts for paths; None for a mistake."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            found = vars(_PARSER.read(words))
        except SystemExit:
            return None
    return {name: str(value) if isinstance(value, Path) else value for name, value in found.items()}


class TestCommandLines:
    @given(st.lists(st.sampled_from(_WORDS), max_size=6))
    def test_are_read_as_argparse_reads_them_or_left_to_it(self, words: list[str]) -> None:
        assert read_build(["build", *words]) in (None, _parsed(words))

    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["-q", "-t", "app", "--tag=app:2", "--platform", "linux/amd64,linux/arm64", "folder"],
            [
                "folder",
                "--push",
                "--label",
                "a=b",
                "--set=python=3.13",
                "--progress",
                "plain",
                "--cache",
                "r.example/c",
            ],
            ["-o", "type=oci,dest=app.tar", "--metadata-file", "a.json", "--iidfile", "id", "--no-cache", "--pull"],
        ],
    )
    def test_that_are_usual_are_read(self, words: list[str]) -> None:
        assert read_build(["build", *words]) == _parsed(words) is not None

    def test_of_other_commands_are_not(self) -> None:
        assert [read_build(each) for each in ([], ["plan"], ["-q", "build"], ["--help"])] == 4 * [None]

    def test_are_not_read_if_they_have_an_unknown_option(self) -> None:
        assert [read_build(["build", each]) for each in ("--typo", "--help", "-h", "--progress=x")] == 4 * [None]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"XDG_CACHE_HOME": "/caches"},
        {"XDG_CACHE_HOME": ""},
        {"XDG_CACHE_HOME": "relative"},
        {"XDG_CACHE_HOME": "~/caches"},
        {"XDG_CACHE_HOME": "  "},
        {"HOME": "/home/rosa/"},
        {"HOME": ""},
        {"HOME": "/"},
    ],
)
def test_the_cache_is_where_builds_look_for_it(changes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "ANDROID_DATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    assert Path(cache_folder(os.environ)) == usual_cache()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def registry(bench: Bench) -> Iterator[FakeRegistry]:
    with FakeRegistry() as made:
        yield made


def asked(registry: FakeRegistry, digest: str, **changes: Any) -> dict[str, Any]:
    network = {"ca-file": "", "mirrors": {}, "insecure": [], "accept": ACCEPT, **changes.pop("network", {})}
    tag = {f"{registry.host}/team/base:1": digest}
    return {"tags": tag, "pushed": {}, "images": {}, "engine": "", "network": network, **changes}


class TestTags:
    def test_are_asked_for_once(self, bench: Bench, registry: FakeRegistry) -> None:
        document = asked(registry, serve(bench.base(), registry, "team/base", "1"))
        assert still_answered(document, {})
        assert [request.method for request in registry.requests] == ["HEAD"]
        assert registry.requests[0].headers["Accept"] == ACCEPT
        assert "Authorization" not in registry.requests[0].headers

    def test_that_moved_are_noticed(self, bench: Bench, registry: FakeRegistry) -> None:
        serve(bench.base(), registry, "team/base", "1")
        assert not still_answered(asked(registry, "sha256:" + 64 * "0"), {})

    def test_of_a_silent_registry_are_left_to_a_build_soon(
        self, bench: Bench, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(questions, "_SECONDS", 0.1)
        digest = serve(bench.base(), registry, "team/base", "1")
        registry.stalled = "/manifests/"
        assert not still_answered(asked(registry, digest), {})
        assert len(registry.requests) == 1
        registry.release.set()

    def test_may_still_be_missing(self, registry: FakeRegistry) -> None:
        assert still_answered(asked(registry, ""), {})

    @pytest.mark.parametrize(
        ("status", "headers"),
        [(429, {"Retry-After": "0"}), (503, {}), (307, {"Location": "/v2/team/base/manifests/1"}), (200, {})],
    )
    def test_are_left_to_the_client_after_another_answer(
        self, bench: Bench, registry: FakeRegistry, status: int, headers: Mapping[str, str]
    ) -> None:
        digest = serve(bench.base(), registry, "team/base", "1")
        registry.failures.append(Failure("HEAD", "/manifests/", status, headers=headers))
        assert still_answered(asked(registry, digest), {})

    def test_may_need_credentials(self, bench: Bench, tmp_path: Path) -> None:
        with FakeRegistry(auth="basic") as registry:
            digest = serve(bench.base(), registry, "team/base", "1")
            login = {"auths": {registry.host: {"username": "rosa", "password": "correct horse"}}}
            (tmp_path / "auth.json").write_text(json.dumps(login))
            assert still_answered(asked(registry, digest), {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")})
            assert not still_answered(asked(registry, digest), {"REGISTRY_AUTH_FILE": str(tmp_path / "none.json")})

    def test_are_asked_of_the_mirror(self, bench: Bench, registry: FakeRegistry) -> None:
        digest = serve(bench.base(), registry, "mirrored/library/python", "3.13")
        document = asked(
            registry,
            "",
            tags={"docker.io/library/python:3.13": digest},
            network={"mirrors": {"docker.io": f"{registry.host}/mirrored"}},
        )
        assert still_answered(document, {})
        assert len(registry.requests) == 1

    def test_that_were_pushed_are_asked_of_the_registry_itself(self, bench: Bench, registry: FakeRegistry) -> None:
        digest = serve(bench.base(), registry, "team/app", "1")
        pushed = {f"{registry.host}/team/app:1": digest}
        document = asked(registry, "", tags={}, pushed=pushed, network={"mirrors": {registry.host: builds.NOWHERE[6:]}})
        assert still_answered(document, {})

    def test_of_a_registry_that_is_gone_are_not_answered(self, bench: Bench) -> None:
        with FakeRegistry() as registry:
            document = asked(registry, serve(bench.base(), registry, "team/base", "1"))
        assert not still_answered(document, {})


class TestImages:
    def test_of_an_engine_are_known(self, bench: Bench) -> None:
        with FakeEngine() as engine:
            engine.images["app:1"] = {"Id": "sha256:1", "RepoTags": ["b:1", "app:1"]}
            assert images_in_engine(["app:1", "none:1"], engine.address, {}) == {
                "app:1": ["sha256:1", ["app:1", "b:1"]],
                "none:1": ["", []],
            }

    def test_of_another_engine_are_others(self, registry: FakeRegistry, tmp_path: Path) -> None:
        with FakeEngine() as engine:
            engine.images["app:1"] = {"Id": "sha256:1", "RepoTags": ["app:1"]}
            images = {"app:1": ["sha256:1", ["app:1"]]}
            document = asked(registry, "", tags={}, images=images, engine=engine.address)
            assert still_answered(document, {"DOCKER_HOST": engine.address})
            # `docker context use other` changes no variable.
            (tmp_path / "config.json").write_text('{"currentContext": "other"}')
            assert not still_answered(document, {"DOCKER_CONFIG": str(tmp_path)})

    def test_of_no_engine_are_none(self) -> None:
        assert images_in_engine(["app:1"], builds.NOWHERE, {}) == {"app:1": ["", []]}


class Builds:
    """Builds of one project into an archive, whose files are older than any of them."""

    def __init__(self, bench: Bench) -> None:
        self.cache = bench.cache
        self.project = bench.project(wheels=[bench.wheel("alpha")], folder="project")
        self.arguments = ("build", "-q", "-o", "type=oci,dest=app.tar")

    def __call__(self) -> Outcome:
        now = time.time_ns
        with mock.patch("time.time_ns", side_effect=lambda: now() + 3600 * 10**9):
            return builds.command(*self.arguments, env=builds.environment(self.cache, BUILD="0"), folder=self.project)

    def replayed(self) -> bool:
        with mock.patch("hatch_docker.session.plan", side_effect=AssertionError("it is run")):
            return self().code == 0

    def times(self) -> dict[Path, float]:
        """When the layers of the image, and the documents that name them, were used."""
        digests = [layer["digest"].partition(":")[2] for layer in builds.result_of(self.project)["layers"]]
        named = [self.cache / "verified" / "sha256" / each for each in digests]
        kinds = ("layers", "own-layers", "stamps", "stamp-entries")
        named += [path for kind in kinds for path in (self.cache / kind).iterdir()]
        return {path: path.stat().st_mtime for path in named}


@pytest.fixture
def build(bench: Bench) -> Builds:
    made = Builds(bench)
    assert made().code == 0
    return made


class TestAReplay:
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_that_cannot_be_printed_is_an_error(self, build: Builds) -> None:
        program = "from hatch_docker.frontends.cli.main import main; main()"
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-c", program, *build.arguments],
                cwd=build.project,
                env=builds.environment(build.cache, BUILD="0"),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr.startswith("error: standard output: cannot write: ")
        assert done.stderr.count("\n") == 1

    @pytest.mark.skipif(os.name == "nt", reason="Windows removes no directory that is in use")
    @pytest.mark.parametrize("command", ["build", "plan"])
    def test_needs_a_working_directory(self, tmp_path: Path, command: str) -> None:
        # A file, as the console script is: Python 3.13.0 with -c fails to import socket there (the path has "").
        program = tmp_path / "program.py"
        program.write_text(
            "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir(os.path.abspath('.'))\n"
            "from hatch_docker.frontends.cli.main import main\n"
            f"main(['{command}'])",
            encoding="utf-8",
        )
        done = subprocess.run(
            [sys.executable, str(program)],
            cwd=tmp_path,
            env=builds.environment(tmp_path / "cache", BUILD="0"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("error: the working directory: ")
        assert "Traceback" not in done.stderr

    def test_records_that_its_layers_are_used(self, build: Builds) -> None:
        before = time.time() - 2 * _DAY
        for path in build.times():
            os.utime(path, (before, before))
        assert build.replayed()
        assert len(build.times()) > 5
        assert min(build.times().values()) > before + _DAY

    def test_does_that_once_a_day(self, build: Builds) -> None:
        noon = time.time() - _DAY / 2
        for path in build.times():
            os.utime(path, (noon, noon))
        assert build.replayed()
        assert max(build.times().values()) < noon + 1

    def test_goes_without_entries_that_are_gone(self, build: Builds) -> None:
        (entries,) = (build.cache / "stamp-entries").iterdir()
        os.utime(entries, (1, 1))
        shutil.rmtree(build.cache / "layers")
        assert build.replayed()
        entries.unlink()
        assert build.replayed()
