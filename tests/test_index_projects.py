"""Real projects from the package index, locked by their own tools, built and run: Poetry, PDM and a workspace of uv."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import builds
import pytest
from apk_repository import BUILDER
from containers import built, environment, output, tool
from docker import DockerClient
from real_sdists import unpacked
from tool_locks import name_index, run

from hatch_docker.support.dataclasses import dataclass

pytestmark = [pytest.mark.base, pytest.mark.debian, pytest.mark.engine, pytest.mark.network]

TABLE = '\n[tool.hatch.build.targets.docker]\ncmd = ["--version"]\n'
WORKSPACE = """\
[tool.uv.workspace]
members = ["flask", "jinja2", "markupsafe"]

[tool.uv.sources]
jinja2 = { workspace = true }
markupsafe = { workspace = true }
"""
# The compiled module and the two packages say that they are ours: the index has the same versions.
ORIGIN = "import jinja2, markupsafe, markupsafe._speedups as c; print(jinja2.ORIGIN, markupsafe.ORIGIN, c.__doc__)"
MODULE_NAME = '.m_name = "markupsafe._speedups",'


def by_poetry(project: Path) -> str:
    name_index(project)
    run("poetry", "poetry", "lock", project=project)
    return "poetry.lock"


def by_pdm(project: Path) -> str:
    run("pdm", "pdm", "lock", project=project)
    return "pdm.lock"


@dataclass(frozen=True, kw_only=True)
class Released:
    """An sdist of the index, what locks it, and what the image prints for `--version`.

    `table` is for Hatchling, which is not the project's own build backend.
    """

    sdist: str
    lock: Callable[[Path], str]
    prints: str
    table: str = ""


POETRY = Released(
    sdist="poetry-2.5.1.tar.gz",
    lock=by_poetry,
    prints="Poetry (version 2.5.1)",
    table='\n[tool.hatch.build.targets.wheel]\npackages = ["src/poetry"]\n',
)
RICH = Released(sdist="rich_cli-1.8.1.tar.gz", lock=by_poetry, prints="1.8.0")
PDM = Released(sdist="pdm-2.29.4.tar.gz", lock=by_pdm, prints="PDM, version 2.29.4")


@dataclass(frozen=True, kw_only=True)
class Locked:
    """A project with its lock."""

    project: Path
    lock: str
    prints: str


@pytest.fixture(scope="module", params=[POETRY, RICH, PDM], ids=["poetry", "rich-cli", "pdm"])
def released(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Locked:
    param: Released = request.param
    project = unpacked(param.sdist, tmp_path_factory.mktemp("released") / "project", shared_cache)
    lock = param.lock(project)
    # As a user of the tool would, who has a lock before the image.
    append(project, TABLE + param.table)
    return Locked(project=project, lock=lock, prints=param.prints)


def append(project: Path, text: str) -> None:
    with (project / "pyproject.toml").open("a") as file:
        file.write(text)


@pytest.mark.parametrize("base", ["slim", "debian"])
def test_image_of_a_released_project_runs(
    released: Locked, base: str, tmp_path: Path, image: str, client: DockerClient, shared_cache: Path
) -> None:
    project = Path(shutil.copytree(released.project, tmp_path / "project"))
    built(project, environment(shared_cache, HATCH_DOCKER_BASE=base, HATCH_DOCKER_IMAGE=image))
    assert builds.result_of(project)["lock"] == released.lock
    assert released.prints in output(client, f"{image}:latest")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Path:
    """Flask, and what it requires as members of its workspace: Jinja2, and MarkupSafe with an extension module."""
    root = tmp_path_factory.mktemp("workspaces") / "workspace"
    root.mkdir()
    (root / "pyproject.toml").write_text(WORKSPACE)
    append(unpacked("flask-3.1.3.tar.gz", root / "flask", shared_cache), TABLE)
    jinja2 = unpacked("jinja2-3.1.6.tar.gz", root / "jinja2", shared_cache)
    markupsafe = unpacked("markupsafe-3.0.4.tar.gz", root / "markupsafe", shared_cache)
    for module in (jinja2 / "src/jinja2/__init__.py", markupsafe / "src/markupsafe/__init__.py"):
        module.write_text(module.read_text() + '\nORIGIN = "member"\n')
    code = markupsafe / "src/markupsafe/_speedups.c"
    text = code.read_text()
    assert text.count(MODULE_NAME) == 1
    code.write_text(text.replace(MODULE_NAME, f'{MODULE_NAME} .m_doc = "compiled",'))
    # The members' own locks, which two of the sdists have, are not the workspace's.
    tool("uv", "lock", cwd=root)
    return root


@pytest.mark.parametrize("base", ["slim", "debian", "alpine"])
def test_image_has_the_members_of_a_workspace(
    workspace: Path, base: str, tmp_path: Path, image: str, client: DockerClient, shared_cache: Path
) -> None:
    project = Path(shutil.copytree(workspace, tmp_path / "workspace")) / "flask"
    builder = {"HATCH_DOCKER_BUILDER": BUILDER} if base == "alpine" else {}
    built(project, environment(shared_cache, HATCH_DOCKER_BASE=base, HATCH_DOCKER_IMAGE=image, **builder))
    result = builds.result_of(project)
    assert result["lock"] == "uv.lock"
    assert [each["name"] for each in result["compiled"]] == ["markupsafe"]
    assert "Flask 3.1.3\n" in output(client, f"{image}:latest")
    assert output(client, f"{image}:latest", "python3", "-c", ORIGIN) == "member member compiled\n"
