from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.errors import ConfigError
from hatch_docker.project.hatchling import HatchlingProject, Target
from hatch_docker.project.model import Project


def project(
    *dependencies: str, extras: Mapping[str, tuple[str, ...]] = {}, groups: Mapping[str, Sequence[Any]] = {}
) -> Project:
    return Project(
        root=Path(),
        name="My.App",
        version="1",
        dependencies=dependencies,
        optional_dependencies=extras,
        dependency_groups=groups,
    )


def texts(made: Project, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> list[str]:
    return [str(requirement) for requirement in made.requirements(extras, groups)]


def test_requirements_are_sorted_without_duplicates() -> None:
    assert texts(project("b>=2", "a[x]; python_version > '3'", "b>=2")) == ['a[x]; python_version > "3"', "b>=2"]
    assert texts(project()) == []


def test_extra_includes_others() -> None:
    extras = {
        "all": ("my_app[web,db]", "c"),
        "web": ("w", "MY-APP[deep-web]"),
        "deep-web": ("d",),
        "db": ("e",),
        "not": ("n",),
    }
    assert texts(project("a", extras=extras), ["all"]) == ["a", "c", "d", "e", "w"]
    assert texts(project("a", extras=extras), ["deep-web"]) == ["a", "d"]
    assert texts(project("a", extras=extras)) == ["a"]


def test_extras_include_each_other() -> None:
    extras = {"a": ("my.app[b]", "x"), "b": ("my-app[a]", "y")}
    assert texts(project(extras=extras), ["a"]) == ["x", "y"]
    assert texts(project("my-app[b]", extras=extras)) == ["x", "y"]


def test_marker_of_a_self_reference_limits_its_requirements() -> None:
    """The requirements of an extra that is included on one platform are for that platform."""
    extras = {
        "fast": ("my-app[win]; sys_platform == 'win32'", "my-app[lin]; sys_platform == 'linux'"),
        "win": ("w", "v; python_version < '3.12' or python_version >= '3.14'"),
        "lin": ("l",),
    }
    assert texts(project(extras=extras), ["fast"]) == [
        'l; sys_platform == "linux"',
        'v; (python_version < "3.12" or python_version >= "3.14") and sys_platform == "win32"',
        'w; sys_platform == "win32"',
    ]
    assert texts(project(extras=extras), ["win"])[1] == "w"


def test_self_references_with_markers_may_be_circular() -> None:
    extras = {"a": ("my-app[b]; os_name == 'nt'", "x"), "b": ("my-app[a]; os_name == 'posix'", "y")}
    assert {each.partition(";")[0] for each in texts(project(extras=extras), ["a"])} == {"x", "y"}


def test_dependency_group_includes_others() -> None:
    groups: dict[str, Any] = {"run": ["r", {"include-group": "shared"}], "shared": ["s", "my-app[extra]"], "dev": ["d"]}
    made = project("a", extras={"extra": ("e",)}, groups=groups)
    assert texts(made, groups=["run"]) == ["a", "e", "r", "s"]


@pytest.mark.parametrize(
    "groups",
    [
        {"g": [{"include-group": "g"}]},
        {"g": [{"include-group": "missing"}]},
        {"g": [{"other": "x"}]},
        {"g": [5]},
        {"g": "text"},
        {"g": 5},
        {"g": ["not a requirement!"]},
        {"g": [], "G": []},
        [],
    ],
)
def test_invalid_dependency_groups(groups: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        project(groups=groups).requirements([], ["g"])
    assert {each for each, _ in caught.value.problems} == {"dependency-groups"}


def test_invalid_requirement() -> None:
    with pytest.raises(ConfigError, match=r"'a ==' is not a requirement"):
        project("a ==").requirements([], [])


def test_context_fields_are_those_of_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands are given a relative directory, and hatchling makes `{root:parent}` of the text that it is given."""
    text = '[project]\nname = "app"\nversion = "1"\ndependencies = ["lib @ {root:parent:uri}/lib"]\n'
    app = tmp_path / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text(f"{text}[tool.hatch.metadata]\nallow-direct-references = true\n")
    monkeypatch.chdir(app)
    assert HatchlingProject(Target(".")).read("1").dependencies == (f"lib @ {tmp_path.as_uri()}/lib",)
