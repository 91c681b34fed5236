"""Dependency groups in the tables of several tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatch_docker.errors import ConfigError
from hatch_docker.project.groups import dependency_groups
from hatch_docker.project.model import Project
from hatch_docker.support import toml

LIBRARY = '[project]\nname = "lib"\nversion = "1"\n'


POETRY = """\
[tool.poetry.group.web.dependencies]
b = '^1.2'
c = {version = '*', extras = ['x'], python = '<3.12'}
d = [{version = '1', platform = 'linux'}, {version = '2', markers = "os_name == 'nt'"}]
e = {path = '../e'}
f = '1.* || 2.*'
python = '^3.9'
"""
PDM = "[tool.pdm.dev-dependencies]\ntest = ['x>=1', '-e file:///${PROJECT_ROOT}/lib#egg=lib']"


def groups(tmp_path: Path, text: str) -> dict[str, list[str]]:
    """The requirements of each group."""
    found = dependency_groups(toml.loads(text), tmp_path)
    project = Project(root=tmp_path, name="app", version="1", dependency_groups=found)
    return {name: [str(each) for each in project.requirements((), [name])] for name in found}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("[dependency-groups]\nDev = ['a']\n[tool.uv]\ndev-dependencies = ['b']", {"Dev": ["a", "b"]}),
        ("[tool.uv]\ndev-dependencies = ['b']", {"dev": ["b"]}),
        (
            POETRY,
            {
                "web": [
                    "b<2,>=1.2",
                    'c[x]; python_full_version < "3.12"',
                    'd==1; sys_platform == "linux"',
                    'd==2; os_name == "nt"',
                    "e",
                    "f",
                ]
            },
        ),
        (
            "[tool.poetry.group.a.dependencies]\nx = '*'\n[tool.poetry.group.b]\ninclude-groups = ['a']",
            {"a": ["x"], "b": ["x"]},
        ),
        ("[tool.poetry.dev-dependencies]\nx = '>=1'", {"dev": ["x>=1"]}),
        (
            "[tool.pdm.dev-dependencies]\ntest = ['x>=1', '-e file:///${PROJECT_ROOT}/lib#egg=lib']",
            {"test": ["lib", "x>=1"]},
        ),
    ],
)
def test_groups_of_every_tool(tmp_path: Path, text: str, expected: dict[str, list[str]]) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "pyproject.toml").write_text(LIBRARY)
    assert groups(tmp_path, text) == expected


def test_categories_of_a_pipfile(tmp_path: Path) -> None:
    text = "[packages]\na = '*'\n[dev-packages]\nb = '*'\nc = '>=1'\n[ops]\nd = {version = '==2', extras = ['x']}\n"
    (tmp_path / "Pipfile").write_text(text)
    assert groups(tmp_path, "") == {"dev": ["b", "c>=1"], "ops": ["d==2"]}


def test_invalid_constraint_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        groups(tmp_path, "[tool.poetry.group.web.dependencies]\nb = '^one'")
    assert caught.value.problems[0][0] == "tool.poetry.group.web.dependencies.b"


@pytest.mark.parametrize("text", ["dependency-groups = 1", "[tool]\npoetry = 1\nuv = 2\npdm = []", "tool = 3"])
def test_damaged_tables_are_left_to_other_checks(tmp_path: Path, text: str) -> None:
    dependency_groups(toml.loads(text), tmp_path)
