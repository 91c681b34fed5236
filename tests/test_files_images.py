"""Real projects without a build backend, from an index into an engine, where they run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builds import command
from containers import environment, remove, tool
from docker import DockerClient
from test_files_project import written
from tool_locks import name_index, run

pytestmark = [pytest.mark.engine, pytest.mark.base, pytest.mark.network]

MAIN = "import requests\nprint('requests', requests.__name__)\n"
POETRY = """\
[tool.poetry]
package-mode = false

[tool.poetry.dependencies]
python = "^3.11"
requests = "^2.30"

[tool.poetry.group.dev.dependencies]
six = "*"
"""
PDM = """\
[project]
name = "shop"
requires-python = ">=3.11"
dependencies = ["requests>=2.30"]

[tool.pdm]
distribution = false
"""
UV = '[project]\nname = "shop"\nversion = "1.0"\nrequires-python = ">=3.11"\ndependencies = ["requests>=2.30"]\n'


@pytest.fixture
def build(client: DockerClient, shared_cache: Path) -> Iterator[Callable[..., str]]:
    """Builds a project by one command; returns the reference that it prints."""
    made = []

    def build(project: Path, *options: str) -> str:
        outcome = command("build", "--quiet", "--load", *options, env=environment(shared_cache), folder=project)
        assert outcome.code == 0, outcome.err
        made.append(outcome.out.strip())
        return made[-1]

    yield build
    for each in made:
        remove(client, each)


def printed(client: DockerClient, image: str, **options: Any) -> str:
    return bytes(client.containers.run(image, remove=True, **options)).decode()


@pytest.mark.seeds
@pytest.mark.parametrize("base", ["slim", "alpine"])
def test_the_seed_application_needs_one_command(
    client: DockerClient, tmp_path: Path, base: str, build: Callable[..., str]
) -> None:
    project = shutil.copytree(Path(os.environ["HATCH_DOCKER_TEST_SEEDS"]) / "app", tmp_path / "seed-app")
    image = build(project, *([] if base == "slim" else ["--set", f"base={base}"]))
    assert image == "seed-app:latest"
    assert printed(client, image).startswith("Hello, world, from requests ")


def _uv(project: Path) -> None:
    written(project, {"pyproject.toml": UV})
    tool("uv", "lock", "--quiet", cwd=project)


def _poetry(project: Path) -> None:
    written(project, {"pyproject.toml": POETRY})
    name_index(project)
    run("poetry", "poetry", "lock", "--no-interaction", project=project)


def _pdm(project: Path) -> None:
    written(project, {"pyproject.toml": PDM})
    run("pdm", "pdm", "lock", project=project)


def _pipenv(project: Path) -> None:
    written(project, {"Pipfile": '[packages]\nrequests = "*"\n'})
    run("pipenv", "pipenv", "lock", project=project)


def _pip(project: Path) -> None:
    written(project, {"requirements.txt": "-r base.in\n-c pins.txt\n", "base.in": "requests\n", "pins.txt": "idna<4\n"})


@pytest.mark.parametrize("lock", [_uv, _poetry, _pdm, _pipenv, _pip], ids=lambda each: each.__name__[1:])
def test_what_its_tool_locks_is_installed(
    client: DockerClient, tmp_path: Path, lock: Callable[[Path], None], build: Callable[..., str]
) -> None:
    project = written(tmp_path / "shop", {"main.py": MAIN})
    lock(project)
    image = build(project)
    assert image == ("shop:1.0" if lock is _uv else "shop:latest")
    assert printed(client, image) == "requests requests\n"
    listed = printed(client, image, entrypoint="python", command=["-c", _LIST]).split()
    assert {"certifi", "idna", "requests", "urllib3"} <= {*listed} <= {*_PACKAGES}


_LIST = "import importlib.metadata as m; print(*(each.name for each in m.distributions()))"
_PACKAGES = ("certifi", "charset-normalizer", "charset_normalizer", "idna", "requests", "urllib3")


def test_its_modules_are_found_in_any_working_directory(
    client: DockerClient, tmp_path: Path, build: Callable[..., str]
) -> None:
    project = tmp_path / "web"
    written(
        project, {"requirements.txt": "gunicorn\n", "main.py": "", "shop/wsgi.py": "def app(environ, start): ...\n"}
    )
    image = build(project)
    check = ["--check-config", "--chdir", "/tmp", "shop.wsgi:app"]
    assert printed(client, image, entrypoint="gunicorn", command=check, working_dir="/") == ""
    # Modules of packages are not hidden.
    code = (
        "import sys; print(sys.path.index('/app') > sys.path.index(next(each for each in sys.path if 'site-' in each)))"
    )
    assert printed(client, image, entrypoint="python", command=["-c", code], working_dir="/") == "True\n"
