"""`hatch-docker plan`, and what the other commands do not do since they read a plan."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from base_maker import FakeBase
from builds import Outcome, environment, files_below, result_of
from command_bench import CommandBench, whole_debian
from compilations import lock_of_sdists
from debian_bench import FakeDebian
from fake_index import serving
from project_maker import lock_of
from sdist_maker import make_sdist

from hatch_docker.project.hatchling import HatchlingProject, Target
from hatch_docker.session import Session

DOCS = Path(__file__).parent.parent / "docs" / "plan.md"
PACKAGES = 'runtime-packages = ["libpq5"]'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FakeDebian:
    return whole_debian(tmp_path_factory.mktemp("debian"))


@pytest.fixture
def bench(made: FakeDebian, tmp_path: Path) -> Iterator[CommandBench]:
    with made.copy() as archive, serving() as index:
        yield CommandBench(tmp_path, archive, index)


def plan(bench: CommandBench, project: Path, *arguments: str, **env: str) -> Outcome:
    """`hatch-docker plan`, which leaves the project as it is."""
    before = files_below(project)
    outcome = bench.hatch("plan", *arguments, project=project, **env)
    assert files_below(project) == before
    assert "Traceback" not in outcome.err
    return outcome


def document(bench: CommandBench, project: Path, *arguments: str, **env: str) -> dict[str, Any]:
    outcome = plan(bench, project, "--json", *arguments, **env)
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def image(bench: CommandBench, project: Path, **env: str) -> dict[str, Any]:
    (found,) = document(bench, project, **env)["images"]
    assert isinstance(found, dict)
    return found


def indexed(bench: CommandBench, *names: str, **options: Any) -> Path:
    """A project whose lock names wheels of the index."""
    wheels = [bench.wheel(name) for name in names]
    for wheel in wheels:
        bench.index.add(wheel.name.partition("-")[0], wheel.name, wheel.read_bytes())
    project = bench.project(dependencies=names, **options)
    (project / "pylock.toml").write_text(lock_of(*wheels, url=bench.index.file_url("").rstrip("/")))
    return project


def keys(value: object) -> Iterator[str]:
    """All keys of a JSON document."""
    if isinstance(value, Mapping):
        yield from value
    for each in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from keys(each)


class TestDecisions:
    def test_names_base_python_and_lock(self, bench: CommandBench) -> None:
        project = indexed(bench, "alpha")
        found = document(bench, project)
        assert (found["name"], found["version"]) == ("shop", "1.0")
        assert found["references"] == ["docker.io/library/shop:1.0", "docker.io/library/shop:latest"]
        (found,) = found["images"]
        assert found["platform"] == "linux/amd64"
        assert (found["base"]["name"], found["base"]["debian-suite"]) == ("debian:trixie", "trixie")
        assert (found["base"]["python"], found["base"]["libc"][:5]) == ("3.13.5", "glibc")
        assert "libc6" in {each["name"] for each in found["base"]["packages"]}
        assert (Path(found["lock"]).name, found["lock-resolved"]) == ("pylock.toml", False)

    def test_agrees_with_the_build(self, bench: CommandBench) -> None:
        project = indexed(bench, "alpha", "beta", docker=PACKAGES)
        planned, created = image(bench, project), document(bench, project)["created"]
        assert bench.build(project).code == 0
        made = result_of(project)
        assert made["created"] == created
        assert made["base"] == {"name": planned["base"]["name"], "digest": planned["base"]["digest"], "layers": 1}
        packages = [*planned["base"]["packages"], *planned["os-packages"]["packages"]]
        assert {(each["name"], each["version"]) for each in packages} == {
            (each["name"], each["version"]) for each in made["os-packages"]
        }
        assert [layer["contents"] for layer in planned["layers"]] == [layer["contents"] for layer in made["layers"]]
        again = image(bench, project)["layers"]
        assert [layer["contents"] for layer in again] == [layer["contents"] for layer in made["layers"]]
        assert [layer["cached"] for layer in again] == [True] * (len(again) - 1) + ["unknown"]
        assert bench.build(project).code == 0
        assert [layer["reused"] for layer in result_of(project)["layers"]][:-1] == [True] * (len(again) - 1)

    def test_downloads_no_wheel_and_no_package_of_the_image(self, bench: CommandBench) -> None:
        project = indexed(bench, "alpha", docker=PACKAGES)
        found = image(bench, project)
        assert [path for path in bench.index.paths() if path.startswith("/files/")] == []
        assert not [path for path in bench.archive.requests if "libpq5" in path]
        assert [each["name"] for each in found["os-packages"]["packages"]] == ["libldap2", "libpq5"]
        (distribution,) = found["distributions"]
        assert (distribution["cached"], distribution["size"] > 0) == (False, True)

    def test_layers_are_unknown_until_wheels_are_cached(self, bench: CommandBench) -> None:
        project = indexed(bench, "alpha", docker=PACKAGES)
        packages, alpha, own = image(bench, project)["layers"]
        assert packages["cached"] is False
        assert alpha == {"contents": ["alpha 1.0"], "size": "unknown", "cached": "unknown"}
        assert bench.build(project).code == 0
        packages, alpha, own = image(bench, project)["layers"]
        sizes = [layer["size"] for layer in result_of(project)["layers"]]
        assert [packages["size"], alpha["size"]] == sizes[:2]
        assert (packages["cached"], alpha["cached"], own["cached"]) == (True, True, "unknown")

    def test_pruned_files_are_listed_on_request(self, bench: CommandBench) -> None:
        files = {"alpha/__init__.py": "", "alpha/fast.c": "int x;\n", "alpha/fast.so": ""}
        wheel = bench.wheel("alpha", files=files)
        bench.index.add("alpha", wheel.name, wheel.read_bytes())
        project = bench.project(dependencies=["alpha"])
        (project / "pylock.toml").write_text(lock_of(wheel, url=bench.index.file_url("").rstrip("/")))
        (alpha,) = document(bench, project, "--pruned")["images"][0]["distributions"]
        assert alpha["pruned"] == "unknown"
        assert "pruned of alpha 1.0: unknown until its wheel is cached" in plan(bench, project, "--pruned").out
        assert bench.build(project).code == 0
        (alpha,) = document(bench, project, "--pruned")["images"][0]["distributions"]
        assert alpha["pruned"] == [{"path": "alpha/fast.c", "rule": "c-sources", "size": 7}]
        text = plan(bench, project, "--pruned").out
        assert "  pruned of alpha 1.0: 7 B\n  alpha/fast.c  7 B  c-sources" in text
        assert "fast.c" not in plan(bench, project).out
        assert "pruned" not in image(bench, project)["distributions"][0]

    def test_another_compression_makes_layers_anew(self, bench: CommandBench) -> None:
        project = indexed(bench, "alpha")
        assert bench.build(project).code == 0
        alpha, _ = image(bench, project, HATCH_DOCKER_COMPRESSION="zstd")["layers"]
        assert alpha["cached"] is False

    def test_says_why_an_sdist_is_compiled_and_where(self, bench: CommandBench) -> None:
        sdist = make_sdist(bench.root, "alpha", files={"alpha.c": ""})
        project = bench.project(dependencies=["alpha"], docker='build-packages = ["libffi-dev"]')
        (project / "pylock.toml").write_text(lock_of_sdists(sdist))
        (alpha,) = image(bench, project)["distributions"]
        builder = "debian:trixie + libffi-dev + a toolchain"
        assert alpha["compile"] == {"reason": "the lock has only an sdist", "builder": builder}
        assert (alpha["filename"], alpha["size"]) == ("alpha-1.0.tar.gz", "unknown")

    def test_resolves_without_a_lock_and_writes_nothing(self, bench: CommandBench) -> None:
        bench.offer("alpha")
        project = bench.project(dependencies=["alpha"])
        found = image(bench, project)
        assert found["lock-resolved"] is True
        assert Path(found["lock"]).name == "pylock.shop.toml"
        assert [each["name"] for each in found["distributions"]] == ["alpha"]
        assert not (project / "dist").exists()

    def test_packages_of_the_base_have_no_layer(self, bench: CommandBench) -> None:
        project = bench.project(docker='runtime-packages = ["libc6"]')
        found = image(bench, project)
        assert found["os-packages"] == {"requested": ["libc6"], "installer": "archive", "packages": []}
        assert [layer["contents"] for layer in found["layers"]] == [["shop 1.0"]]
        assert bench.build(project).code == 0
        assert len(result_of(project)["layers"]) == 1

    def test_packages_by_an_engine_are_unknown(self, bench: CommandBench) -> None:
        base = bench.base(FakeBase(libc="musl"))
        project = bench.project(base=f"oci:{base}", docker=PACKAGES)
        found = image(bench, project)
        assert found["os-packages"] == {"requested": ["libpq5"], "installer": "engine", "packages": "unknown"}
        assert found["layers"][0]["cached"] is False

    def test_a_login_is_not_shown(self, bench: CommandBench, monkeypatch: pytest.MonkeyPatch) -> None:
        wheel = bench.wheel("alpha")
        url = "https://me:s3cret@files.example/x/alpha-1.0-py3-none-any.whl?token=t0ken"
        allowed = "[tool.hatch.metadata]\nallow-direct-references = true\n"
        project = bench.project(dependencies=[f"alpha @ {url}"], more=allowed)
        lock = lock_of(wheel, url="https://files.example/x").replace(".whl", ".whl?token=t0ken")
        (project / "pylock.toml").write_text(lock.replace("https://", "https://me:s3cret@"))
        outcome = plan(bench, project, "--json")
        assert outcome.code == 0, outcome.err
        shown = outcome.out + outcome.err
        for name, value in environment(bench.cache, **bench.environ()).items():
            monkeypatch.setenv(name, value)
        target = Target(str(project))
        shown += repr(Session(HatchlingProject(target), target.app).plan())
        assert "s3cret" not in shown
        assert "t0ken" not in shown


class TestStart:
    @pytest.mark.parametrize(
        ("options", "entrypoint", "cmd"),
        [
            ({}, ["/app/.venv/bin/shop"], None),
            ({"docker": 'entrypoint = ["python", "-V"]\ncmd = ["-v"]\n'}, ["python", "-V"], ["-v"]),
            ({"scripts": {}}, "unknown", "unknown"),
            ({"scripts": {}, "docker": 'cmd = ["python3"]\n'}, None, ["python3"]),
        ],
    )
    def test_is_known_unless_it_depends_on_the_projects_wheel(
        self, bench: CommandBench, options: dict[str, Any], entrypoint: object, cmd: object
    ) -> None:
        start = image(bench, bench.project(**options))["start"]
        assert (start["entrypoint"], start["cmd"]) == (entrypoint, cmd)

    def test_has_the_user_and_the_directory(self, bench: CommandBench) -> None:
        start = image(bench, bench.project(docker='user = "1000:1000"\nworking-dir = "/srv"\n'))["start"]
        assert (start["user"], start["working-dir"]) == ("1000:1000", "/srv")


class TestText:
    def test_shows_the_same_decisions(self, bench: CommandBench) -> None:
        project = indexed(bench, "alpha", docker=PACKAGES)
        outcome = plan(bench, project)
        assert outcome.code == 0, outcome.err
        head, *lines = outcome.out.splitlines()
        assert head == "shop 1.0 for linux/amd64"
        text = "\n".join(line.rstrip() for line in lines)
        for pattern in (
            r"  base +debian:trixie \([\d.]+ kB\), Python 3\.13\.5, glibc [\d.]+\n +sha256:[0-9a-f]{64}\n",
            r"  OS packages +libpq5 \S+ · libldap2 \S+ \([\d.]+ kB to download\)\n",
            r"  lock +\S*pylock\.toml\n",
            r"  names +shop:1\.0 · shop:latest\n",
            r"  starts +/app/\.venv/bin/shop, as 65532:65532, in /app\n",
            r"  alpha 1\.0 +\d+ B  wheel from 127\.0\.0\.1\n",
            r"  libpq5 \S+ · libldap2 \S+ +unknown  to be made\n",
            r"  shop 1\.0 +unknown  unknown$",
        ):
            assert re.search(pattern, text), pattern

    def test_a_project_without_dependencies_has_no_table_of_them(self, bench: CommandBench) -> None:
        outcome = plan(bench, bench.project())
        assert "distribution" not in outcome.out
        assert "lock" not in outcome.out


class TestSchema:
    def test_every_key_is_documented(self, bench: CommandBench) -> None:
        sdist = make_sdist(bench.root, "alpha", files={"alpha.c": ""})
        project = bench.project(dependencies=["alpha"], docker=PACKAGES)
        (project / "pylock.toml").write_text(lock_of_sdists(sdist))
        found = document(bench, project, "--pruned")
        assert found["schema-version"] == 1
        rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
        documented = {key for row in rows for key in re.findall(r"`([a-z-]+)`", row.split("|")[1])}
        nested = {"reason", "builder", "path", "rule"}  # described in the rows of `compile` and `pruned`
        assert set(keys(found)) - nested == documented


class TestFailures:
    def test_are_those_of_a_build(self, bench: CommandBench) -> None:
        project = indexed(bench, "alpha")
        text = (project / "pyproject.toml").read_text().replace("'alpha'", "'alpha>=2'")
        (project / "pyproject.toml").write_text(text)
        outcome = plan(bench, project)
        assert (outcome.code, outcome.out) == (1, "")
        # A build names the file by its whole path.
        assert outcome.err.splitlines()[-1] == bench.build(project).err.splitlines()[-1]
        assert "the lock is stale, the project requires alpha>=2 (the lock has 1.0)" in outcome.err

    def test_of_the_configuration_are_reported_at_once(self, bench: CommandBench) -> None:
        project = bench.project(docker='extras = ["fast"]\noutputs = ["puhs"]\n')
        outcome = plan(bench, project)
        assert outcome.code == 1
        assert outcome.err.startswith("error: 2 mistakes in the configuration:\n")
        assert "the project has no extras" in outcome.err
        assert "did you mean 'push'?" in outcome.err

    def test_an_unavailable_version_plugin_is_no_failure(self, bench: CommandBench) -> None:
        project = bench.project()
        text = (project / "pyproject.toml").read_text()
        dynamic = text.replace('version = "1.0"\n', 'dynamic = ["version"]\n', 1)
        (project / "pyproject.toml").write_text(f'{dynamic}\n[tool.hatch.version]\nsource = "not-installed"\n')
        found = document(bench, project)
        assert (found["version"], found["references"]) == ("unknown", [])


class TestTheProjectsVersion:
    CODE = 'print("it ran")\nopen("ran", "w").close()\n__version__ = "1.0"\n'

    def project(self, bench: CommandBench) -> Path:
        project = bench.project(files={"version.py": self.CODE})
        text = (project / "pyproject.toml").read_text().replace('version = "1.0"\n', 'dynamic = ["version"]\n', 1)
        (project / "pyproject.toml").write_text(f'{text}\n[tool.hatch.version]\nsource = "code"\npath = "version.py"\n')
        return project

    @pytest.mark.parametrize("command", ["lock", "outdated"])
    def test_is_not_computed_for_commands_that_do_not_need_it(self, bench: CommandBench, command: str) -> None:
        project = self.project(bench)
        outcome = bench.hatch(command, project=project)
        assert outcome.code == 0, outcome.err
        assert not (project / "ran").exists()

    def test_does_not_print_into_the_document(self, bench: CommandBench) -> None:
        outcome = bench.hatch("plan", "--json", project=self.project(bench))
        assert json.loads(outcome.out)["version"] == "1.0"
        assert "it ran" in outcome.err

    @pytest.mark.parametrize("source", ['path = "missing.py"', 'source = "code"\npath = "broken.py"'])
    def test_that_fails_is_an_error(self, bench: CommandBench, source: str) -> None:
        project = bench.project(files={"broken.py": "raise RuntimeError('broken')\n"})
        text = (project / "pyproject.toml").read_text().replace('version = "1.0"\n', 'dynamic = ["version"]\n', 1)
        (project / "pyproject.toml").write_text(f"{text}\n[tool.hatch.version]\n{source}\n")
        outcome = plan(bench, project)
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err.startswith("error: pyproject.toml: ")


class TestCommandsThatDoNotBuild:
    """They do not fail for what only a build needs."""

    @pytest.mark.parametrize("command", ["lock", "outdated"])
    @pytest.mark.parametrize(
        ("options", "env"),
        [
            ({"scripts": {"buy": "shop:main", "sell": "shop:main"}}, {}),
            ({"docker": 'tags = ["{git-sha}"]\n'}, {}),
            ({"docker": 'build-constraints = "missing.txt"\n'}, {}),
            ({}, {"SOURCE_DATE_EPOCH": "yesterday"}),
        ],
    )
    def test_ignore_what_builds_refuse(
        self, bench: CommandBench, command: str, options: dict[str, Any], env: dict[str, str]
    ) -> None:
        bench.offer("alpha")
        project = bench.project(dependencies=["alpha"], **options)
        assert bench.build(project, **env).code == 1
        outcome = bench.hatch(command, project=project, **env)
        assert outcome.code == 0, outcome.err


class TestABuild:
    def test_of_the_projects_own_wheel_fails_before_anything_is_downloaded(self, bench: CommandBench) -> None:
        bench.offer("alpha")
        more = '[tool.hatch.build.targets.wheel.force-include]\n"missing" = "missing"\n'
        project = bench.project(dependencies=["alpha"], more=more)
        outcome = bench.build(project)
        assert outcome.code == 1
        assert "the project's own wheel cannot be built" in outcome.err
        assert (bench.archive.requests, bench.index.paths()) == ([], [])
        assert not files_below(project / "dist")

    def test_that_fails_later_keeps_its_resolution(self, bench: CommandBench) -> None:
        bench.offer("alpha")
        project = bench.project(dependencies=["alpha"], docker='no-binary = ["alpha"]\n')
        outcome = bench.build(project)
        assert outcome.code == 1
        assert "alpha 1.0 is named in no-binary, and the lock has no sdist of it" in outcome.err
        assert "alpha" in (project / "dist" / "pylock.shop.toml").read_text()


def test_an_empty_lock_is_written(bench: CommandBench) -> None:
    bench.offer("alpha")
    project = bench.project(dependencies=["alpha"])
    (project / "pylock.docker.toml").touch()
    outcome = bench.hatch("lock", project=project)
    assert outcome.code == 0, outcome.err
    assert "alpha" in (project / "pylock.docker.toml").read_text()


class TestOutdated:
    def test_installs_and_writes_nothing(self, bench: CommandBench) -> None:
        bench.offer("alpha")
        project = bench.project(dependencies=["alpha"], docker=PACKAGES)
        outcome = bench.hatch("outdated", project=project)
        assert outcome.code == 0, outcome.err
        assert not [path for path in bench.archive.requests if "libpq5" in path]
        assert not (project / "dist").exists()

    def test_leaves_packages_of_an_engine_out(self, bench: CommandBench) -> None:
        stanza = b"Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n"
        release = b"ID=debian\nVERSION_CODENAME=trixie\n"
        base = bench.base(FakeBase(files={"etc/os-release": release, "var/lib/dpkg/status": stanza}))
        docker = f'{PACKAGES}\nruntime-installer = "engine"\n'
        outcome = bench.hatch("outdated", project=bench.project(base=f"oci:{base}", docker=docker))
        assert outcome.code == 0, outcome.err
        assert "runtime-packages are not checked: an engine installs them" in outcome.err
