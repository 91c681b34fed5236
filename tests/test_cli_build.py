"""`hatch-docker build`: its outputs, results, options and mistakes."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import builds
import pytest
from base_maker import FakeBase
from builds import Bench, Outcome, check_archive, read, result_of
from containers import environment, output, remove
from docker import DockerClient
from fake_engine import FakeEngine
from fake_registry import FakeRegistry
from hypothesis import given
from hypothesis import strategies as st
from project_maker import make_project

from hatch_docker.config import Option, parse
from hatch_docker.errors import ConfigError
from hatch_docker.frontends.cli import build as build_command
from hatch_docker.frontends.cli.commands import COMMANDS
from hatch_docker.frontends.cli.exports import Export, parse_export
from hatch_docker.frontends.cli.options import run_options
from hatch_docker.frontends.cli.parser import Parser, add_common_options, add_project_options
from hatch_docker.frontends.cli.program import help_text
from hatch_docker.image.layers import LAYOUT

_PRINTABLE = st.characters(exclude_categories=["C", "Zl", "Zp"])

HatchDocker = Callable[..., Outcome]


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
def project(bench: Bench) -> Path:
    return bench.project()


@pytest.fixture
def build(bench: Bench, project: Path) -> HatchDocker:
    """Run `hatch-docker build` in the project's folder, without an engine by default."""

    def build(*arguments: str | Path, **env: str) -> Outcome:
        return builds.command("build", *arguments, env=builds.environment(bench.cache, **env), folder=project)

    return build


def succeeded(outcome: Outcome) -> str:
    """Standard output of a successful build, without its newline."""
    assert outcome.code == 0, outcome.err
    assert "Traceback" not in outcome.err
    return outcome.out.removesuffix("\n")


def refused(outcome: Outcome, *said: str, code: int = 1) -> None:
    """Check that nothing was printed to standard output, and a message that contains all of `said`."""
    assert (outcome.code, outcome.out) == (code, ""), outcome.err
    for each in said:
        assert each in outcome.err
    assert "Traceback" not in outcome.err


def start(project: Path, *arguments: str, env: dict[str, str], **options: Any) -> subprocess.Popen[bytes]:
    """Run it in a process of its own."""
    command = [sys.executable, "-m", "hatch_docker.frontends.cli.main", "build", *arguments]
    return subprocess.Popen(command, cwd=project, env=env, stderr=subprocess.PIPE, **options)


def shell(bench: Bench, project: Path, arguments: str) -> Outcome:
    """Run it by a shell, with redirections."""
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m hatch_docker.frontends.cli.main {arguments}",
        shell=True,
        cwd=project,
        env=builds.environment(bench.cache),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


class TestOutputs:
    def test_an_archive_if_no_engine_answers(self, bench: Bench, project: Path, build: HatchDocker) -> None:
        outcome = build()
        assert succeeded(outcome) == "dist/shop-1.0.docker.tar"
        check_archive(project / outcome.out.strip(), bench.root / "scratch")
        assert "no container engine answers, so the image is written to an archive" in outcome.err
        assert "docker load -i dist/shop-1.0.docker.tar && docker run --rm shop:1.0" in outcome.err

    def test_a_load_if_an_engine_answers(self, project: Path, build: HatchDocker, engine: FakeEngine) -> None:
        outcome = build(DOCKER_HOST=engine.address)
        assert succeeded(outcome) == "shop:1.0"
        assert {"shop:1.0", "shop:latest"} <= engine.images.keys()
        assert not list((project / "dist").glob("*.tar"))
        assert outcome.err.endswith("\n  docker run --rm shop:1.0\n")

    def test_those_of_the_key_outputs(self, bench: Bench, project: Path, build: HatchDocker) -> None:
        assert succeeded(build("--set", "outputs=oci,archive")).splitlines() == [
            "dist/shop-1.0.oci",
            "dist/shop-1.0.docker.tar",
        ]
        assert result_of(project)["outputs"] == {"archive": "shop-1.0.docker.tar", "oci": "shop-1.0.oci"}

    def test_a_file(self, bench: Bench, project: Path, build: HatchDocker) -> None:
        assert succeeded(build("-o", "type=oci,dest=app.tar")) == "app.tar"
        check_archive(project / "app.tar", bench.root / "scratch")
        assert result_of(project)["outputs"] == {"archive": str(project / "app.tar")}
        assert not list((project / "dist").glob("*.tar"))

    def test_several_files(self, project: Path, build: HatchDocker) -> None:
        outcome = build("-o", "type=oci,dest=a.tar", "--output", "type=docker,dest=b.tar")
        assert succeeded(outcome) == "a.tar\nb.tar"
        assert (project / "a.tar").read_bytes() == (project / "b.tar").read_bytes()
        assert result_of(project)["outputs"] == {"archive": [str(project / name) for name in ("a.tar", "b.tar")]}

    def test_a_layout(self, project: Path, build: HatchDocker) -> None:
        assert succeeded(build("-o", "type=oci-layout,dest=out")) == "out"
        (entry,) = json.loads((project / "out" / "index.json").read_text())["manifests"]
        assert entry["digest"] == result_of(project)["digest"]
        assert succeeded(build("-o", "type=oci,tar=false,dest=out")) == "out"

    def test_a_layout_by_hatch(self, bench: Bench, project: Path) -> None:
        outcome = bench.build(project, target="docker:oci")
        assert outcome.code == 0, outcome.err
        assert (project / "dist" / "shop-1.0.oci" / "index.json").is_file()
        assert "docker run" not in outcome.err

    def test_a_pipe_is_not_replaced(self, project: Path, build: HatchDocker) -> None:
        assert succeeded(build("-o", "type=oci,dest=/dev/null", "--metadata-file", "/dev/null")) == "/dev/null"
        assert Path("/dev/null").is_char_device()

    def test_a_link_is_not_replaced(self, bench: Bench, project: Path, build: HatchDocker) -> None:
        for name in ("app.tar", "iid"):
            (project / name).symlink_to(bench.root / name)
        assert succeeded(build("-o", "type=oci,dest=app.tar", "--iidfile", "iid")) == "app.tar"
        assert (project / "app.tar").is_symlink()
        check_archive(bench.root / "app.tar", bench.root / "scratch")
        assert (bench.root / "iid").read_text() == result_of(project)["images"][0]["image-id"]

    def test_standard_output_has_the_archive_and_nothing_else(self, bench: Bench, project: Path) -> None:
        env = builds.environment(bench.cache)
        process = start(project, "-o", "type=oci,dest=-", env=env, stdout=subprocess.PIPE)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        with tarfile.open(fileobj=io.BytesIO(out)) as tar:
            assert "index.json" in tar.getnames()
        assert b"total, " in err
        assert b"docker load" not in err

    @pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs /dev/stdout")
    def test_standard_output_by_its_path(self, bench: Bench, project: Path) -> None:
        env = builds.environment(bench.cache)
        for name in ("-", "/dev/stdout"):
            with (bench.root / "out.tar").open("wb") as out:
                process = start(project, "-q", "-o", f"type=oci,dest={name}", env=env, stdout=out)
                assert process.communicate(timeout=60)[1] == b""
            check_archive(bench.root / "out.tar", bench.root / f"scratch{len(name)}")

    @pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs /dev/stdout")
    def test_metadata_on_standard_output_before_the_result(self, bench: Bench, project: Path) -> None:
        env = builds.environment(bench.cache)
        with (bench.root / "out").open("wb") as out:
            process = start(project, "-q", "--metadata-file", "/dev/stdout", env=env, stdout=out)
            assert process.communicate(timeout=60)[1] == b""
        written = (bench.root / "out").read_text()
        assert written.endswith("}\ndist/shop-1.0.docker.tar\n")
        assert json.loads(written.rpartition("dist/")[0])["name"] == "shop"

    def test_push_to_several_registries(self, project: Path, build: HatchDocker, registry: FakeRegistry) -> None:
        with FakeRegistry() as other:
            names = [f"{registry.host}/team/app:1", f"{other.host}/team/app", f"{registry.host}/team/app:2"]
            outcome = build("--push", *[argument for name in names for argument in ("-t", name)])
            digest = result_of(project)["digest"]
            hosts = (registry.host, other.host, registry.host)
            assert succeeded(outcome).splitlines() == [f"{host}/team/app@{digest}" for host in hosts]
            assert ("team/app", "latest") in other.manifests
        assert {("team/app", "1"), ("team/app", "2")} <= registry.manifests.keys()
        assert result_of(project)["references"] == [names[0], f"{names[1]}:latest", names[2]]
        assert not list((project / "dist").glob("*.tar"))

    def test_push_of_the_configured_name_is_one_line(
        self, project: Path, build: HatchDocker, registry: FakeRegistry
    ) -> None:
        outcome = build("--push", "-q", "--set", f"image={registry.host}/shop")
        assert succeeded(outcome) == f"{registry.host}/shop@{result_of(project)['digest']}"
        assert outcome.err == ""

    def test_push_and_load(self, project: Path, build: HatchDocker, registry: FakeRegistry, engine: FakeEngine) -> None:
        name = f"{registry.host}/shop:1"
        outcome = build("--load", "-o", f'type=image,"name={name}",push=true', DOCKER_HOST=engine.address)
        assert succeeded(outcome) == f"{registry.host}/shop@{result_of(project)['digest']}"
        assert name in engine.images
        assert ("shop", "1") in registry.manifests

    def test_update_index(self, bench: Bench, build: HatchDocker, registry: FakeRegistry) -> None:
        bases = bench.base(FakeBase(), FakeBase(architecture="arm64"))
        name = f"{registry.host}/team/app:1"
        lines = []
        for architecture in ("amd64", "arm64"):
            options = ("--platform", architecture, "--set", f"base=oci:{bases}", "-t", name, "--push")
            lines.append(succeeded(build("--update-index", *options)))
        media_type, data = registry.manifests["team/app", "1"]
        assert media_type == "application/vnd.oci.image.index.v1+json"
        assert [each["platform"]["architecture"] for each in json.loads(data)["manifests"]] == ["amd64", "arm64"]
        assert lines[1] == f"{registry.host}/team/app@sha256:{hashlib.sha256(data).hexdigest()}"
        assert lines[0] != lines[1]

    def test_update_index_names_each_reference(self, build: HatchDocker, registry: FakeRegistry) -> None:
        names = [f"{registry.host}/{name}" for name in ("app:1", "app:2", "other:1")]
        lines = succeeded(build("--update-index", *(f"--tag={name}" for name in names))).splitlines()
        assert [line.partition("@")[0] for line in lines] == [name.rpartition(":")[0] for name in names]

    def test_update_index_needs_short_tags(self, build: HatchDocker, registry: FakeRegistry) -> None:
        """Nothing is built in vain."""
        outcome = build("--update-index", "-t", f"{registry.host}/app:{'x' * 120}")
        assert outcome.code == 1
        assert "--tag: the tag" in outcome.err
        assert "at most 113 characters" in outcome.err
        assert not registry.requests
        assert "made layer" not in outcome.err

    def test_update_index_joins_no_images_of_another_lock(self, bench: Bench, registry: FakeRegistry) -> None:
        bases = bench.base(FakeBase(), FakeBase(architecture="arm64"))
        project = bench.project("locked", wheels=[bench.wheel("alpha")])
        lock, env = project / "pylock.toml", builds.environment(bench.cache)
        for architecture in ("amd64", "arm64"):
            options = ("--platform", architecture, "--set", f"base=oci:{bases}", "-t", f"{registry.host}/team/app:1")
            succeeded(builds.command("build", "--update-index", *options, env=env, folder=project))
            lock.write_text(lock.read_text() + "# another one\n")
        manifests = json.loads(registry.manifests["team/app", "1"][1])["manifests"]
        assert [each["platform"]["architecture"] for each in manifests] == ["arm64"]

    def test_update_index_by_the_key_outputs(self, bench: Bench, registry: FakeRegistry) -> None:
        project, name = bench.project("locked", wheels=[bench.wheel("alpha")]), f"{registry.host}/team/app"
        digests = []
        for options in (
            ["--update-index", "-t", f"{name}:1"],
            ["--set=outputs=update-index", f"--set=image={name}"],
            [],
        ):
            succeeded(builds.command("build", *options, env=builds.environment(bench.cache), folder=project))
            digests.append(result_of(project)["digest"])
        assert digests[0] == digests[1] != digests[2]

    def test_another_folder_and_its_dist(self, bench: Bench, project: Path) -> None:
        outcome = builds.command("build", project.name, env=builds.environment(bench.cache), folder=bench.root)
        assert succeeded(outcome) == "project/dist/shop-1.0.docker.tar"

    def test_is_the_image_of_hatch(self, bench: Bench, project: Path, build: HatchDocker) -> None:
        assert bench.build(project).code == 0
        by_hatch = result_of(project)["digest"]
        succeeded(build())
        assert result_of(project)["digest"] == by_hatch

    def test_clean_of_hatch_removes_the_layout(self, bench: Bench, project: Path, build: HatchDocker) -> None:
        succeeded(build("--set", "outputs=oci"))
        (project / "dist" / "shop-2.oci").mkdir()
        outcome = bench.build(project, "--clean-only")
        assert outcome.code == 0, outcome.err
        assert [path.name for path in (project / "dist").iterdir()] == ["shop-2.oci"]


class TestFiles:
    def test_metadata_has_the_keys_of_buildkit(self, project: Path, build: HatchDocker) -> None:
        succeeded(build("-t", "acme/app:1", "-t", "acme/app:2", "--metadata-file", "meta.json"))
        made = json.loads((project / "meta.json").read_text())
        assert made == json.loads((project / "dist" / "shop-1.0.docker.json").read_text())
        (image,) = made["images"]
        assert made["containerimage.digest"] == made["digest"] == image["digest"]
        assert made["containerimage.config.digest"] == image["image-id"]
        descriptor = made["containerimage.descriptor"]
        assert descriptor["digest"] == made["digest"]
        assert descriptor["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        assert made["image.name"] == "docker.io/acme/app:1,docker.io/acme/app:2"
        assert made["schema-version"] == 1
        assert made["layout"] == LAYOUT

    def test_image_id(self, project: Path, build: HatchDocker) -> None:
        succeeded(build("--iidfile", "iid"))
        assert (project / "iid").read_text() == result_of(project)["images"][0]["image-id"]

    @pytest.mark.parametrize("containerd", [False, True])
    def test_image_id_of_the_engine(
        self, project: Path, build: HatchDocker, engine: FakeEngine, containerd: bool
    ) -> None:
        engine.containerd = containerd
        succeeded(build("--load", "--iidfile", "iid", DOCKER_HOST=engine.address))
        made = result_of(project)
        assert (project / "iid").read_text() == (made["digest"] if containerd else made["image-id"])

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--iidfile", "no/iid"], "--iidfile: no is not a folder: make it, or name another file"),
            (["--metadata-file", "src"], "--metadata-file: src is a folder: name a file"),
            (["-o", "type=oci,dest=src"], "--output: src is a folder: name a file"),
            (["-o", "type=oci-layout,dest=pyproject.toml"], "--output: pyproject.toml is a file: name a folder"),
            (["-o", "type=oci-layout,dest=src"], "--output: src: it exists, and is not an image layout"),
            (["-o", "type=oci,dest=a", "--iidfile", "a"], "--iidfile: a is written by another option, too"),
        ],
    )
    def test_that_cannot_be_written_are_found_before_the_build(
        self, project: Path, build: HatchDocker, arguments: list[str], said: str
    ) -> None:
        refused(build(*arguments), said)
        assert not (project / "dist").exists()

    def test_all_mistakes_are_reported_at_once(self, build: HatchDocker) -> None:
        outcome = build("--iidfile", "no/iid", "--metadata-file", "src", "--push")
        refused(
            outcome, "error: 3 mistakes in the configuration", "--iidfile: ", "--metadata-file: ", "registry.example"
        )

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become another user")
    def test_folder_that_cannot_be_written(self) -> None:
        packages = Path(pytest.__file__).parent
        if subprocess.run(["test", "-r", packages], user=65534, group=65534, extra_groups=[]).returncode:
            pytest.skip(f"others may not read {packages}")
        # Outside of pytest's directories, which other users may not enter.
        with tempfile.TemporaryDirectory() as name:
            bench = Bench(Path(name))
            (bench.root / "out").mkdir()
            project = bench.project(wheels=[bench.wheel("dependency")])
            before = sorted(project.rglob("*"))
            for path in [bench.root, *bench.root.rglob("*")]:
                os.chown(path, 65534, 65534)
                path.chmod(0o555 if project in (path, *path.parents) else 0o755)
            # In one process that imports everything as root, since other users may not be able to read this checkout.
            command = [sys.executable, "-c", _AS_NOBODY, name]
            done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
            assert done.returncode == 0, done.stderr
            written, default = done.stdout.split("===")
            assert written == f"{project / 'dist'} cannot be written to: it gets no result file\n"
            assert f"{project / 'dist'}: files cannot be written there: check the permissions of {project}" in default
            assert "--output type=oci,dest=FILE" in default
            assert json.loads((bench.root / "out" / "meta.json").read_text())["outputs"]["archive"] == str(
                bench.root / "out" / "app.tar"
            )
            check_archive(bench.root / "out" / "app.tar", bench.root / "scratch")
            assert sorted(project.rglob("*")) == before

    def test_dist_that_is_a_file(self, project: Path, build: HatchDocker) -> None:
        (project / "dist").write_text("")
        refused(build(), f"{project / 'dist'}: files cannot be written there")


class TestContent:
    def test_labels_are_added(self, bench: Bench, build: HatchDocker, project: Path) -> None:
        labels = ("--label", "b=2", "--label", "c=3,4=5")
        succeeded(build(*labels, HATCH_DOCKER_LABELS="a=1,b=1"))
        made = read(project / "dist" / "shop-1.0.docker.tar").config["Labels"]
        assert {key: made[key] for key in "abc"} == {"a": "1", "b": "2", "c": "3,4=5"}

    def test_annotations(self, build: HatchDocker, project: Path) -> None:
        succeeded(build("--annotation", "a=1", "--annotation", "manifest:b=2:3"))
        annotations = read(project / "dist" / "shop-1.0.docker.tar").manifest["annotations"]
        assert (annotations["a"], annotations["b"]) == ("1", "2:3")

    def test_annotation_of_an_index_that_is_not_there(self, build: HatchDocker) -> None:
        refused(build("--annotation", "index:a=1"), "--annotation: the image of one platform has no index")

    def test_set_overrides_the_variable(self, build: HatchDocker, project: Path) -> None:
        succeeded(build("--set", "user=3", "--set", "env={A = 'x'}", HATCH_DOCKER_USER="2"))
        made = read(project / "dist" / "shop-1.0.docker.tar")
        assert (made.config["User"], made.env["A"]) == ("3", "x")

    def test_mistake_of_a_value_that_needs_the_project(self, build: HatchDocker) -> None:
        refused(build("--set", "extras=htpt"), "--set extras[0]: the project has no extras: remove 'htpt'")

    def test_platform_that_the_base_lacks(self, build: HatchDocker) -> None:
        refused(build("--platform", "linux/s390x"), "linux/s390x", "linux/amd64")

    def test_no_cache_uses_no_layer_of_an_earlier_build(self, bench: Bench) -> None:
        project = bench.project("other", wheels=[bench.wheel("dependency")])

        def reused() -> dict[str, bool]:
            return {layer["contents"][0]: layer["reused"] for layer in result_of(project)["images"][0]["layers"]}

        env = builds.environment(bench.cache)
        for option, expected in (("-q", False), ("-q", True), ("--no-cache", False), ("-q", True)):
            succeeded(builds.command("build", option, env=env, folder=project))
            assert reused() == {"dependency 1.0": expected, "shop 1.0": expected}


class TestConsole:
    def test_quiet_prints_only_the_result(self, build: HatchDocker) -> None:
        for option in (["-q"], ["--quiet"], ["--progress", "quiet"], ["--progress=quiet"]):
            outcome = build(*option)
            assert (outcome.out, outcome.err) == ("dist/shop-1.0.docker.tar\n", "")

    def test_quiet_prints_errors(self, build: HatchDocker) -> None:
        refused(build("-q", "--set", "base=oci:missing"), "error: ")

    def test_progress_on_a_terminal_that_is_none(self, build: HatchDocker) -> None:
        refused(build("--progress", "tty"), "progress cannot be drawn on standard error", "--progress=plain")

    @pytest.mark.parametrize(
        ("env", "styled"), [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)]
    )
    def test_colours(self, build: HatchDocker, env: dict[str, str], styled: bool) -> None:
        outcome = build("--set", "base=oci:missing", **env)
        assert ("\x1b[31;1merror:" in outcome.err) is styled
        assert ("\x1b" in outcome.err) is styled

    def test_result_that_cannot_be_written(self, bench: Bench, project: Path) -> None:
        with Path("/dev/full").open("wb") as full:
            process = start(project, env=builds.environment(bench.cache), stdout=full)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert err.endswith(b"error: standard output: cannot write: No space left on device\n")

    @pytest.mark.skipif(os.name == "nt", reason="closes descriptors in the shell")
    def test_closed_standard_error(self, bench: Bench, project: Path) -> None:
        outcome = shell(bench, project, "build 2>&-")
        assert (outcome.code, outcome.out) == (0, "dist/shop-1.0.docker.tar\n")
        outcome = shell(bench, project, "build --typo 2>&-")
        assert (outcome.code, outcome.out) == (2, "")

    @pytest.mark.skipif(os.name == "nt", reason="closes descriptors in the shell")
    def test_closed_standard_output(self, bench: Bench, project: Path) -> None:
        assert shell(bench, project, "build -q >&- <&-") == Outcome(0, "", "")
        outcome = shell(bench, project, "build -q -o type=oci,dest=- >&-")
        refused(outcome, "--output: standard output is closed: name a file", code=2)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_streams_that_are_full(self, bench: Bench, project: Path) -> None:
        assert shell(bench, project, "build --typo 2>/dev/full") == Outcome(2, "", "")
        refused(shell(bench, project, "--version >/dev/full"), "error: standard output: cannot write: No space left")

    @pytest.mark.parametrize("arguments", [[], ["-o", "type=oci,dest=-"]])
    def test_reader_that_goes_away(self, bench: Bench, project: Path, arguments: list[str]) -> None:
        source, sink = os.pipe()
        os.close(source)
        process = start(project, *arguments, env=builds.environment(bench.cache), stdout=sink)
        os.close(sink)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert b"standard output: cannot write: Broken pipe" in err
        assert b"Traceback" not in err
        assert b"Exception ignored" not in err


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["-t", "Acme/App"], "--tag[0]: 'Acme/App' is not an image reference: a repository is in lower case"),
            (["-t", "app:"], "'' is not a tag"),
            (["-t", f"app@sha256:{'0' * 64}"], "has a digest: images are named by tags"),
            (["-t", "https://u:s3cret@registry.example/app"], "without its scheme, like 'registry.example/app'"),
            (["-t", ""], "an empty string is not allowed"),
            (["--platform", "linux amd64"], "'linux amd64' is not a platform"),
            (["--platform", "windows/amd64"], "is not a Linux platform"),
            (["--platform", ""], "an empty list is not allowed"),
            (["--label", "a"], "--label: 'a' is not of the form KEY=VALUE"),
            (["--annotation", "manifest-descriptor:a=1"], "annotations of this type are not supported"),
            (["--annotation", "manifest[linux/amd64]:a=1"], "for one platform alone are not supported"),
            (["--set", "bse=slim"], "--set: bse: unknown key; did you mean 'base'?"),
            (["--set", "max-layers=1"], "--set max-layers: expected an integer from 3 to 100, got 1"),
            (["-o", "out"], "'out': the files of the image cannot be written to a folder"),
            (["-o", "type=oci"], "type=oci needs dest=FILE"),
            (["-o", "type=oci,dest=-", "-o", "type=docker,dest=-"], "only one output can be written to standard"),
            (["--iidfile", ""], "argument --iidfile: it is empty: name a file"),
            (["--progress", "loud"], "invalid choice: 'loud'"),
            (["--lable", "a=b"], "unknown option: --lable; did you mean --label?"),
            (["--pus"], "unknown option: --pus; did you mean --push?"),
            ([".", "more"], "unexpected argument: more"),
        ],
    )
    def test_of_the_command_line(self, project: Path, build: HatchDocker, arguments: list[str], said: str) -> None:
        outcome = build(*arguments)
        refused(outcome, "usage: hatch-docker build [OPTION]... [PROJECT]\nerror: ", said, code=2)
        assert outcome.err.endswith("  hint: hatch-docker build --help\n")
        assert not (project / "dist").exists()

    def test_are_reported_together(self, build: HatchDocker) -> None:
        arguments = ("-t", "A", "-t", "B", "-o", "type=x", "--label", "c", "--set", "d", "--annotation", "e")
        outcome = build(*arguments, "--platform", "f f")
        refused(outcome, code=2)
        for place in ("--tag[0]", "--tag[1]", "--output", "--label", "--set", "--annotation", "--platform[0]"):
            assert f"{place}: " in outcome.err

    def test_name_without_a_registry_is_not_pushed(self, project: Path, build: HatchDocker) -> None:
        refused(build("--push", "-t", "app:1"), "--tag: 'app:1' cannot be pushed, since it names no registry")
        refused(build("--push"), "docker.image: 'shop' cannot be pushed, since it names no registry")
        assert not (project / "dist").exists()

    def test_interrupt(self, project: Path, build: HatchDocker, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_arguments: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("hatch_docker.session.build", interrupted)
        outcome = build("-o", "type=oci,dest=app.tar", "--iidfile", "iid")
        refused(outcome, code=130)
        assert outcome.err.endswith("interrupted\n")
        assert not {"app.tar", "iid"} & {path.name for path in project.iterdir()}

    @pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
    @pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
    def test_signals_leave_nothing_unfinished(self, bench: Bench, project: Path, name: str) -> None:
        program = """
import os, signal, sys
from hatch_docker.frontends.cli.main import main
from hatch_docker.image import outputs

number = getattr(signal, sys.argv.pop())

def archive(*arguments):
    yield b"the beginning"
    os.kill(os.getpid(), number)
    yield b"the end"

outputs.archive = archive
main()
"""
        done = subprocess.run(
            [sys.executable, "-c", program, "build", "-o", "type=oci,dest=app.tar", name],
            cwd=project,
            env=builds.environment(bench.cache),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == -getattr(signal, name), done.stderr
        assert done.stderr.endswith("interrupted\n")
        assert not [path for path in project.iterdir() if "app.tar" in path.name]

    def test_load_without_an_engine(self, project: Path, build: HatchDocker) -> None:
        refused(build("--load"), "no container engine answers", "hint: ")
        assert not (project / "dist").exists()


class TestExports:
    @pytest.mark.parametrize(
        ("text", "export"),
        [
            ("type=oci,dest=a.tar", Export(output="archive", dest="a.tar")),
            ("dest=a=b.tar,type=oci", Export(output="archive", dest="a=b.tar")),
            ('type=oci,"dest=a,b.tar"', Export(output="archive", dest="a,b.tar")),
            ("type=oci,dest=-", Export(output="archive", dest="-")),
            ("type=oci,tar=true,dest=a", Export(output="archive", dest="a")),
            ("type=oci,tar=false,dest=a", Export(output="oci", dest="a")),
            ("type=oci-layout,dest=a", Export(output="oci", dest="a")),
            ("type=docker", Export(output="load")),
            ("type=docker,dest=a.tar", Export(output="archive", dest="a.tar")),
            ("type=registry", Export(output="push")),
            ("type=image,push=true", Export(output="push")),
            ('type=registry,"name=a/b:1,a/b:2"', Export(output="push", names=("a/b:1", "a/b:2"))),
        ],
    )
    def test_syntax_of_buildx(self, text: str, export: Export) -> None:
        assert parse_export(text, "--output") == export

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "'': the files of the image cannot be written"),
            ("-", "'-': the files of the image cannot be written"),
            ("type=local,dest=out", "type=local: the files of the image"),
            ("type=tar,dest=out.tar", "type=tar: the files of the image"),
            ("dest=out", "'dest=out' has no type: the types are oci, docker, oci-layout, registry, image"),
            ("type=dokcer", "type=dokcer: the types are .*; did you mean 'docker'?"),
            ("type=oci,dst=a", "type=oci has no dst; did you mean 'dest'?"),
            ("type=oci,dest=a,compression=zstd", "type=oci has no compression .set it by --set compression"),
            ("type=oci,dest", "'dest' is not of the form KEY=VALUE"),
            ("type=oci,tar=no,dest=a", "tar=no: write true or false"),
            ("type=oci-layout,dest=-", "makes a folder, which cannot be written to standard output"),
            ("type=image", "type=image keeps the image nowhere: add push=true"),
            ('type=oci,"dest=a', "is not of the form type=TYPE"),
        ],
    )
    def test_others(self, text: str, said: str) -> None:
        with pytest.raises(ConfigError, match=said) as caught:
            parse_export(text, "--output")
        assert [place for place, _ in caught.value.problems] == ["--output"]

    @given(st.text(_PRINTABLE, min_size=1).map(str.strip).filter(bool))
    def test_any_path_can_be_quoted(self, path: str) -> None:
        quoted = '"dest=' + path.replace('"', '""') + '"'
        assert parse_export(f"type=docker,{quoted}", "--output") == Export(output="archive", dest=path)


class TestOptions:
    def keys(self, **given: Any) -> dict[str, Option]:
        return dict(run_options(argparse.Namespace(**given)).keys)

    def test_annotations_of_kinds_of_documents(self) -> None:
        made = self.keys(annotation=["a=1", "manifest:b=2", "index:c=3", "index,manifest:d=4", "e=x:y"])
        assert {key: option.value for key, option in made.items()} == {
            "annotations": {"a": "1", "e": "x:y"},
            "manifest-annotations": {"b": "2", "d": "4"},
            "index-annotations": {"c": "3", "d": "4"},
        }

    def test_platforms_of_several_lists(self) -> None:
        assert self.keys(platform=["linux/amd64, linux/arm64", "linux/arm/v7"])["platforms"].value == [
            "linux/amd64",
            "linux/arm64",
            "linux/arm/v7",
        ]

    def test_dedicated_options_override_set(self) -> None:
        assert self.keys(set=["platforms=linux/amd64"], platform=["all"])["platforms"].value == ["all"]

    @given(
        st.dictionaries(
            st.text(_PRINTABLE.filter(lambda each: each != "="), min_size=1), st.text(_PRINTABLE), max_size=4
        )
    )
    def test_labels_are_taken_literally(self, labels: dict[str, str]) -> None:
        labels = {key: value for key, value in labels.items() if key.strip()}
        options = run_options(argparse.Namespace(label=[f"{key}={value}" for key, value in labels.items()])).keys
        assert parse({"labels": {"a": "1"}}, {}, options=options)[0].runtime.labels == {"a": "1", **labels}

    def test_the_last_set_of_a_key_counts(self) -> None:
        assert self.keys(set=["user=1", "user=2"])["user"].text == "2"


class TestHelp:
    @pytest.mark.parametrize("text", [build_command.HELP, help_text()], ids=["build", "hatch-docker"])
    def test_fits_a_screen(self, text: str) -> None:
        lines = text.splitlines()
        assert len(lines) <= 40
        assert max(map(len, lines)) <= 80

    def test_names_every_option_and_no_other(self) -> None:
        parser = Parser("hatch-docker build", text=build_command.HELP)
        build_command.add_arguments(parser)
        add_common_options(parser)
        add_project_options(parser)
        listed = [line.split()[0].rstrip(",") for line in build_command.HELP.splitlines() if line.startswith("  -")]
        listed += [
            line.split()[1] for line in build_command.HELP.splitlines() if line.startswith("  -") and ", --" in line
        ]
        assert sorted(listed) == sorted(parser.options)

    def test_has_three_examples_that_parse(self) -> None:
        examples = build_command.HELP.partition("Examples:\n")[2].splitlines()
        assert len(examples) == 3
        for example in examples:
            parser = Parser("hatch-docker build")
            build_command.add_arguments(parser)
            arguments = example.partition(" && ")[0].split()
            assert arguments[:2] == ["hatch-docker", "build"]
            chosen = parser.read(arguments[2:])
            run_options(chosen)

    def test_can_be_printed_everywhere(self, bench: Bench) -> None:
        for arguments in (["--help"], *([name, "--help"] for name in COMMANDS)):
            text = builds.command(*arguments, env=builds.environment(bench.cache), folder=bench.root).out
            assert text.isascii()

    @pytest.mark.parametrize("name", COMMANDS)
    def test_of_each_command(self, bench: Bench, name: str) -> None:
        outcome = builds.command(name, "--help", env=builds.environment(bench.cache), folder=bench.root)
        assert outcome.code == 0
        assert outcome.out.startswith(f"usage: hatch-docker {name} ")
        lines = outcome.out.splitlines()
        assert len(lines) <= 40
        assert max(map(len, lines)) <= 80
        assert (
            outcome.out
            == builds.command(
                name, "-h", env=builds.environment(bench.cache, COLUMNS="200", FORCE_COLOR="1"), folder=bench.root
            ).out
        )

    def test_of_the_program(self, bench: Bench) -> None:
        for option in ("-h", "--help"):
            outcome = builds.command(option, env=builds.environment(bench.cache), folder=bench.root)
            assert (outcome.code, outcome.out) == (0, help_text())
        assert all(f"  {name} " in help_text() for name in COMMANDS)

    def test_version(self, bench: Bench) -> None:
        outcome = builds.command("--version", env=builds.environment(bench.cache), folder=bench.root)
        assert outcome.code == 0
        assert outcome.out.startswith("hatch-docker ")

    @pytest.mark.parametrize(
        "arguments",
        [["--help"], ["--version"], ["build", "--typo"], *([name, "--help"] for name in COMMANDS)],
    )
    def test_imports_nothing_large(self, arguments: list[str]) -> None:
        program = f"""
import sys
from hatch_docker.frontends.cli.main import main
try:
    main({arguments!r})
finally:
    print(*sys.modules, file=sys.stderr)
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        modules = set(done.stderr.split())
        assert "hatch_docker.frontends.cli.parser" in modules
        assert not {"hatch_docker.session", "hatchling", "docker", "urllib3", "rich", "packaging"} & modules


@pytest.mark.engine
@pytest.mark.base
class TestEngine:
    """The results name the image in the engine at hand, whatever the kind of its store."""

    @pytest.fixture
    def name(self, client: DockerClient) -> Iterator[str]:
        name = f"hatch-docker-test-{secrets.token_hex(6)}"
        yield name
        remove(client, name)

    def test_results_run(self, tmp_path: Path, client: DockerClient, name: str) -> None:
        project = make_project(tmp_path / "project", name=name, docker='base = "slim"\npython = "3.13"')
        options = ("-q", "--load", "--iidfile", tmp_path / "iid")
        outcome = builds.command("build", *options, project, env=environment(tmp_path / "cache"), folder=tmp_path)
        assert outcome.err == ""
        assert output(client, succeeded(outcome)) == "hello\n"
        identity = (tmp_path / "iid").read_text()
        assert output(client, identity) == "hello\n"
        assert client.images.get(succeeded(outcome)).id == identity

    def test_archive_on_standard_output(self, tmp_path: Path, client: DockerClient, name: str) -> None:
        project = make_project(tmp_path / "project", name=name, docker='base = "slim"\npython = "3.13"')
        process = start(
            project, "-o", "type=docker,dest=-", env=environment(tmp_path / "cache"), stdout=subprocess.PIPE
        )
        data, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        client.images.load(data)
        assert output(client, f"{name}:1.0") == "hello\n"


_AS_NOBODY = """\
import os, pathlib, sys, builds, docker
root = pathlib.Path(sys.argv[1])
env = builds.environment(root / "cache")
first = builds.Bench(root / "first")
first.root.mkdir()
first.made(first.project(wheels=[first.wheel("dependency")]))
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
out = root / "out"
options = ("-o", f"type=oci,dest={out / 'app.tar'}", "--metadata-file", out / "meta.json", root / "project")
outcome = builds.command("build", *options, env=env, folder=out)
assert outcome.code == 0, outcome.err
print(*(line.strip() for line in outcome.err.splitlines() if "written" in line), sep="\\n")
print("===", builds.command("build", root / "project", env=env, folder=out).err)
"""
