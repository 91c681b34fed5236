"""Projects of every build backend, built by the wheel of hatch-docker in an environment of its own, and run."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from apk_repository import BUILDER
from backend_projects import COMPILED, EVERY, MATURIN, PURE, write
from containers import environment, remove, tool
from docker import DockerClient
from git_server import git
from real_sdists import unpacked

from hatch_docker.support.dataclasses import dataclass

pytestmark = [pytest.mark.base, pytest.mark.engine, pytest.mark.network, pytest.mark.debian]

CHECKOUT = Path(__file__).parents[1]
# Other projects of the same backends, which need no second base.
VARIANTS = ("hatch-vcs", "setup.py", "poetry-1", "flit-legacy")
ON_ALPINE = {"HATCH_DOCKER_BASE": "alpine", "HATCH_DOCKER_BUILDER": BUILDER}
# Debian's pythons are those of a suite, and compiling needs the same one: it is the official image for slim.
COMPILING = {"debian": {"HATCH_DOCKER_BASE": "debian"}, "slim": {}, "alpine": ON_ALPINE}


@dataclass(frozen=True, kw_only=True)
class Command:
    """The command of an environment that has nothing but hatch-docker and uv."""

    path: Path
    cache: Path
    client: DockerClient

    def build(self, project: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run `hatch-docker build` in a project."""
        environ = {**environment(self.cache, **settings), "CC": "/nowhere/cc"}
        environ["PATH"] = os.pathsep.join([str(self.path), os.defpath])
        environ.pop("HATCH_UV", None)
        return subprocess.run(
            [self.path / "hatch-docker", "build", *arguments], cwd=project, env=environ, capture_output=True, text=True
        )

    def runs(self, project: Path, *arguments: str, run: Sequence[str] = (), **settings: str) -> str:
        """Build and load an image, run it with the arguments `run`, and return what it printed."""
        name = f"hatch-docker-test-{secrets.token_hex(6)}"
        done = self.build(project, "--load", "-q", "-t", f"{name}:x", *arguments, **settings)
        assert done.returncode == 0, done.stderr
        try:
            printed = self.client.containers.run(
                done.stdout.strip(), [*run] or None, remove=True, read_only=True, network_mode="none"
            )
        finally:
            remove(self.client, name)
        return str(printed.decode()).strip()


@pytest.fixture(scope="module")
def command(client: DockerClient, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    folder = tmp_path_factory.mktemp("environment")
    tool("uv", "build", "--wheel", "--out-dir", str(folder), str(CHECKOUT), cwd=folder)
    (wheel,) = folder.glob("*.whl")
    tool("uv", "venv", str(folder / "venv"), cwd=folder)
    python = str(folder / "venv" / "bin" / "python")
    tool("uv", "pip", "install", "--python", python, f"hatch-docker[uv] @ {wheel.as_uri()}", cwd=folder)
    return Command(path=folder / "venv" / "bin", cache=shared_cache, client=client)


def untouched(project: Path) -> set[str]:
    """The files of a project besides outputs, and those that setuptools and PDM write on every build."""
    files = {each.relative_to(project).as_posix() for each in project.rglob("*") if each.is_file()}
    written = ("dist/", ".git/", ".pdm-build/")
    return {each for each in files if not each.startswith(written) and ".egg-info/" not in each}


@pytest.mark.parametrize("backend", PURE)
def test_pure_project_runs(command: Command, tmp_path: Path, backend: str) -> None:
    project = write(PURE[backend], tmp_path / "project")
    if backend == "hatch-vcs":
        git(project, "init")
        git(project, "add", "--all")
        git(project, "commit", "--message", "one")
        git(project, "tag", "v1.0")
    for base in ("slim",) if backend in VARIANTS else ("slim", "debian"):
        assert (base, command.runs(project, HATCH_DOCKER_BASE=base)) == (base, "ok")
    assert untouched(project) == set(PURE[backend])


@pytest.mark.parametrize("backend", COMPILED)
def test_compiled_project_runs(command: Command, tmp_path: Path, backend: str) -> None:
    project = write(COMPILED[backend], tmp_path / "project")
    for base in ("slim", "debian") if backend == "setuptools-extension" else ("debian", "alpine"):
        assert (base, command.runs(project, **COMPILING[base])) == (base, "ok 42")
    assert untouched(project) == set(COMPILED[backend])


def test_rust_runs_with_the_crates_of_debian(command: Command, tmp_path: Path) -> None:
    project = write(MATURIN, tmp_path / "project")
    assert command.runs(project, HATCH_DOCKER_BASE="debian") == "ok 42"
    assert untouched(project) == set(MATURIN)


def test_backend_with_a_wheel_for_each_platform_builds_for_another_libc(command: Command, tmp_path: Path) -> None:
    assert command.runs(write(EVERY["uv_build"], tmp_path / "project"), HATCH_DOCKER_BASE="alpine") == "ok"


class TestARealProject:
    def test_of_flit(self, command: Command, tmp_path: Path) -> None:
        project = unpacked("flask-3.1.3.tar.gz", tmp_path / "project", command.cache)
        assert "Flask 3.1.3" in command.runs(project, run=["--version"])

    def test_of_setuptools_with_package_data(self, command: Command, tmp_path: Path) -> None:
        project = unpacked("yamllint-1.38.0.tar.gz", tmp_path / "project", command.cache)
        # `relaxed` is a file of the package.
        code = "from yamllint.config import YamlLintConfig; print('colons' in YamlLintConfig('extends: relaxed').rules)"
        start = ["/app/.venv/bin/python", "-c", code]
        assert command.runs(project, "--set", f"entrypoint={json.dumps(start)}") == "True"

    def test_of_scikit_build_core(self, command: Command, tmp_path: Path) -> None:
        project = unpacked("h3-4.5.0.tar.gz", tmp_path / "project", command.cache)
        # Optimizing what Cython writes takes a minute.
        pyproject = project / "pyproject.toml"
        table = "[tool.scikit-build]\n"
        pyproject.write_text(pyproject.read_text().replace(table, f'{table}cmake.build-type = "Debug"\n'))
        start = ["/app/.venv/bin/python", "-c", "import h3; print(h3.latlng_to_cell(0, 0, 5))"]
        assert command.runs(project, "--set", f"entrypoint={json.dumps(start)}") == "85754e67fffffff"
