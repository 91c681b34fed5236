"""One project, locked by each tool: the same layers of dependencies."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import builds
import pytest
from containers import built, environment, tool
from project_maker import make_project
from tool_locks import name_index, run

PYTHON = "{}.{}".format(*sys.version_info)
# pip locks for the Python that runs it, which the image must have.
BASES = {"3.11": "debian:bookworm", "3.13": "debian:trixie"}

pytestmark = [
    pytest.mark.network,
    pytest.mark.debian,
    pytest.mark.skipif(PYTHON not in BASES, reason="no release of Debian has this Python"),
]

DEPENDENCIES = ["charset-normalizer==3.4.4", "requests==2.32.5", "urllib3==2.5.0", "idna==3.11", "certifi==2024.12.14"]
PIPFILE = """\
[packages]
{packages}

[requires]
python_version = "{python}"
"""


def by_uv(project: Path) -> str:
    tool("uv", "lock", cwd=project)
    return "uv.lock"


def by_pip_tools(project: Path) -> str:
    arguments = ("--generate-hashes", "--strip-extras", "-o", "requirements.txt", "pyproject.toml")
    tool(sys.executable, "-m", "piptools", "compile", "-q", *arguments, cwd=project)
    return "requirements.txt"


def by_poetry(project: Path) -> str:
    name_index(project)
    run("poetry", "poetry", "lock", project=project)
    return "poetry.lock"


def by_old_poetry(project: Path) -> str:
    # Poetry 1 does not read [project].
    name, _, version = zip(*(each.partition("==") for each in DEPENDENCIES), strict=True)
    pins = "".join(f'{package} = "{pin}"\n' for package, pin in zip(name, version, strict=True))
    table = '\n[tool.poetry]\nname = "reader"\nversion = "1.0"\ndescription = ""\nauthors = []\n'
    with (project / "pyproject.toml").open("a") as file:
        file.write(f'{table}\n[tool.poetry.dependencies]\npython = ">=3.10,<4"\n{pins}')
    name_index(project)
    run("poetry1", "poetry", "lock", project=project)
    return "poetry.lock"


def by_pdm(project: Path) -> str:
    run("pdm", "pdm", "lock", project=project)
    return "pdm.lock"


def by_pipenv(project: Path) -> str:
    packages = "\n".join(f'{name} = "=={version}"' for name, _, version in (e.partition("==") for e in DEPENDENCIES))
    (project / "Pipfile").write_text(PIPFILE.format(packages=packages, python=PYTHON))
    run("pipenv", "pipenv", "lock", project=project)
    return "Pipfile.lock"


def by_pip(project: Path) -> str:
    tool(
        "uv",
        "tool",
        "run",
        "--python",
        sys.executable,
        "--from",
        "pip>=25.1",
        "pip",
        "lock",
        "--only-binary",
        ":all:",
        "-o",
        "pylock.toml",
        *DEPENDENCIES,
        cwd=project,
    )
    return "pylock.toml"


def by_nothing(_project: Path) -> str:
    return "pylock.reader.toml"


MAKERS: Mapping[str, Callable[[Path], str]] = {
    "uv": by_uv,
    "pip-tools": by_pip_tools,
    "Poetry": by_poetry,
    "Poetry 1": by_old_poetry,
    "PDM": by_pdm,
    "pipenv": by_pipenv,
    "pip": by_pip,
    "nothing": by_nothing,
}


def test_every_tool_gives_the_same_layers(tmp_path: Path, shared_cache: Path) -> None:
    original = make_project(
        tmp_path / "reader",
        name="reader",
        dependencies=DEPENDENCIES,
        project='requires-python = ">=3.10,<4"',
        docker=f'base = "{BASES[PYTHON]}"',
        files={"src/reader/__init__.py": "import requests\n\ndef main():\n    print(requests.__version__)\n"},
    )
    layers = {}
    for name, make in MAKERS.items():
        project = Path(shutil.copytree(original, tmp_path / name.replace(" ", "-") / "reader"))
        lock = make(project)
        built(project, environment(shared_cache), "docker:archive")
        result = builds.result_of(project)
        assert result["lock"] == lock
        # The project's own layer differs: its sdist has the locks, and its metadata is not the same.
        layers[name] = [layer["digest"] for layer in result["layers"][:-1]]
    assert len(set(map(tuple, layers.values()))) == 1, layers
    assert len(layers["uv"]) > 1
