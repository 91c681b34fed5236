from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builds import Bench
from fake_engine import FakeEngine
from hatchling.plugin.manager import PluginManager

from hatch_docker.frontends.hatch import DockerBuilder

NOWHERE = "tcp://127.0.0.1:1"
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "app"
version = "1.0"

[tool.hatch.build.targets.docker]
"""

Make = Callable[..., DockerBuilder]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make the Hatch builder of an empty project, on a host without an engine."""
    for name in ("HOME", "HATCH_DOCKER_CACHE_DIR", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    monkeypatch.delenv("HATCH_DOCKER_OUTPUTS", raising=False)

    def make(table: str = "", project: str = PROJECT) -> DockerBuilder:
        (tmp_path / "pyproject.toml").write_text(project + table)
        (tmp_path / "app.py").touch()
        return DockerBuilder(str(tmp_path))

    return make


def failure(builder: DockerBuilder, capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    """Run a build that must fail at once; return its message, and check that it leaves no files."""
    directory = Path(builder.root) / "dist"
    with pytest.raises(SystemExit) as error:
        list(builder.build(directory=str(directory), **options))
    assert error.value.code == 1
    assert not directory.exists() or list(directory.iterdir()) == []
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_plugin_imports_few_modules() -> None:
    # Hatch imports all installed plugins for every build, even of a plain wheel.
    program = """
import sys
before = set(sys.modules)
import hatchling.builders.wheel, hatchling.plugin.manager
hatchling_modules = set(sys.modules)
import hatch_docker.frontends.hatch
hatch_docker.frontends.hatch.hatch_register_builder()
print(*sorted(name for name in set(sys.modules) - hatchling_modules if not name.startswith(("encodings", "_"))))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert {name for name in loaded if name.startswith("hatch_docker")} == {
        "hatch_docker",
        "hatch_docker.errors",
        "hatch_docker.frontends",
        "hatch_docker.frontends.hatch",
    }
    assert loaded.isdisjoint({"docker", "requests", "urllib3", "isal", "deflate", "truststore", "platformdirs"})


def test_hatch_finds_the_builder() -> None:
    assert PluginManager().builder.get("docker") is DockerBuilder


class TestVersions:
    def test_versions_are_the_outputs(self, make: Make) -> None:
        assert set(make().get_version_api()) == {"archive", "load", "oci", "push", "update-index"}

    def test_default_without_an_engine(self, make: Make) -> None:
        assert make().get_default_versions() == ["archive"]

    def test_default_with_an_engine(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        with FakeEngine() as engine:
            monkeypatch.setenv("DOCKER_HOST", engine.address)
            assert make().get_default_versions() == ["archive", "load"]

    def test_configured_default(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        assert make('outputs = ["push"]').get_default_versions() == ["push"]
        monkeypatch.setenv("HATCH_DOCKER_OUTPUTS", "archive,load")
        assert make('outputs = ["push"]').get_default_versions() == ["archive", "load"]


class TestMistakes:
    def test_unknown_output(self, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
        said = failure(make(), capsys, versions=["archive", "tarball"])
        assert "unknown output tarball; known are archive, oci, load, push" in said

    def test_reports_all_mistakes_of_the_table_at_once(self, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
        said = failure(make('comand = "x"\nports = ["x"]\nmax-layers = 1\n'), capsys, versions=["archive"])
        assert "3 mistakes in the configuration" in said
        for key in ("comand", "ports", "max-layers"):
            assert f"tool.hatch.build.targets.docker.{key}" in said

    def test_reports_mistakes_before_hatch_reads_defaults(self, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
        assert "tool.hatch.build.targets.docker.outputs" in failure(make('outputs = ["nope"]'), capsys)

    def test_load_without_an_engine(self, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
        said = failure(make(), capsys, versions=["load"])
        assert "no container engine answers" in said
        assert "hatch build -t docker:archive" in said

    def test_push_without_a_registry(self, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
        assert "it names no registry" in failure(make(), capsys, versions=["push"])

    @pytest.mark.parametrize(
        "project",
        [
            PROJECT.replace('version = "1.0"', "version = 1"),
            PROJECT.replace('version = "1.0"', 'version = "not one"'),
            PROJECT.replace('name = "app"', 'name = "app"\nrequires-python = "three"'),
            PROJECT.replace('name = "app"', 'name = "app"\ndependencies = ["a b"]'),
            PROJECT.replace('name = "app"', 'name = "!"'),
        ],
    )
    def test_metadata_that_hatchling_refuses(
        self, make: Make, capsys: pytest.CaptureFixture[str], project: str
    ) -> None:
        assert "pyproject.toml" in failure(make(project=project), capsys, versions=["archive"])


def test_clean_keeps_other_files(make: Make, tmp_path: Path) -> None:
    for name in ("app-1.0.docker.tar", "app-1.0.docker.json", "app-1.0.whl", "pylock.toml", "app-1.0.tar.gz"):
        (tmp_path / name).touch()
    make().clean(str(tmp_path), [])
    assert {path.name for path in tmp_path.glob("*.*")} == {
        "app-1.0.whl",
        "pylock.toml",
        "app-1.0.tar.gz",
        "app.py",
        "pyproject.toml",
    }


_INTERRUPTED = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "hatch_docker.session":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    "run",
    [
        'import hatchling.cli; sys.argv[1:] = ["build", "-t", "docker"]; hatchling.cli.hatchling()',
        'from hatch_docker.frontends.cli.main import main; main(["plan"])',
    ],
    ids=["hatch", "hatch-docker"],
)
def test_an_interrupt_during_imports_is_a_message(tmp_path: Path, run: str) -> None:
    command = [sys.executable, "-c", _INTERRUPTED + run]
    done = subprocess.run(command, cwd=Bench(tmp_path).project(), capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "interrupted"
    assert "Traceback" not in done.stderr
