from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from fake_index import Notes
from uv_projects import needs_current_uv

from hatch_docker.errors import ConfigError
from hatch_docker.index.workspace import find_workspace, members
from hatch_docker.locks import find_lock
from hatch_docker.locks.uv import find_uv


def project(name: str, more: str = "") -> str:
    return f'[project]\nname = "{name}"\nversion = "1"\n{more}'


def workspace(members: str, more: str = "") -> str:
    return f"[tool.uv.workspace]\nmembers = {members}\n{more}"


def lay_out(root: Path, files: Mapping[str, str]) -> Path:
    """The directories of `files` below `root`, each with this pyproject.toml."""
    for folder, text in files.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "pyproject.toml").write_text(text)
    return root


# Directories with their pyproject.toml, and one of them: uv says the rest.
CASES: dict[str, tuple[dict[str, str], str]] = {
    "member": ({".": workspace('["packages/*"]'), "packages/a": project("a")}, "packages/a"),
    "root without project": ({".": workspace('["packages/*"]'), "packages/a": project("a")}, "."),
    "root with project": ({".": project("r") + workspace('["packages/*"]'), "packages/a": project("A.b")}, "."),
    "project below a member": (
        {".": workspace('["packages/*"]'), "packages/a": project("a"), "packages/a/tests/b": project("b")},
        "packages/a/tests/b",
    ),
    "star is one directory": ({".": workspace('["packages/*"]'), "packages/g/a": project("a")}, "packages/g/a"),
    "two stars": (
        {".": workspace('["p/**"]'), "p/g": project("g"), "p/g/a": project("a")},
        "p/g/a",
    ),
    "two stars above": ({".": workspace('["p/**"]'), "p/g/a": project("a"), "p/g": project("g")}, "p/g"),
    "file between": (
        {".": workspace('["p/*/*"]'), "p/g": "[tool.black]\n", "p/g/a": project("a")},
        "p/g/a",
    ),
    "project between": ({".": workspace('["p/*/*"]'), "p/g": project("g"), "p/g/a": project("a")}, "p/g/a"),
    "workspace between": (
        {".": workspace('["p/*/*"]'), "p/g": workspace('["x"]'), "p/g/a": project("a")},
        "p/g/a",
    ),
    "excluded": (
        {".": workspace('["p/*"]', 'exclude = ["p/b"]'), "p/a": project("a"), "p/b": project("b")},
        "p/b",
    ),
    "other is excluded": (
        {".": workspace('["p/*"]', 'exclude = ["p/b*"]'), "p/a": project("a"), "p/b": project("b")},
        "p/a",
    ),
    "not managed": ({".": workspace('["p/*"]'), "p/a": project("a", "[tool.uv]\nmanaged = false\n")}, "."),
    "root not managed": ({".": "[tool.uv]\nmanaged = false\n" + workspace('["p/*"]'), "p/a": project("a")}, "p/a"),
    "nested root": (
        {".": workspace('["p/*"]'), "p/a": project("a") + workspace('["s"]'), "p/a/s": project("s")},
        "p/a/s",
    ),
    "members outside": ({"r": project("r") + workspace('["../a"]'), "a": project("a")}, "r"),
    "member outside": ({"r": project("r") + workspace('["../a"]'), "a": project("a")}, "a"),
    "spellings": ({".": workspace('["./p/*/", "q/../x"]'), "p/a": project("a"), "x": project("x")}, "p/a"),
    "characters": ({".": workspace('["p/[ab]?"]'), "p/a1": project("a"), "p/c1": project("c")}, "p/a1"),
    "other characters": ({".": workspace('["p/[!ab]?"]'), "p/a1": project("a"), "p/c1": project("c")}, "p/c1"),
    "hidden": ({".": workspace('["p/*"]'), "p/.a": project("a")}, "p/.a"),
    "no members": ({".": project("r") + "[tool.uv.workspace]\n", "p/a": project("a")}, "p/a"),
    "alone": ({"p/a": project("a")}, "p/a"),
    "another project above": ({".": project("r"), "p/a": project("a")}, "p/a"),
}


def uv_says(folder: Path, command: str) -> list[str]:
    done = subprocess.run(
        [find_uv({"PATH": os.environ["PATH"]}), "--no-config", "workspace", command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("name", CASES)
def test_workspace_and_members_are_those_of_uv(tmp_path: Path, name: str) -> None:
    needs_current_uv()
    files, start = CASES[name]
    folder = lay_out(tmp_path, files) / start
    (root,) = uv_says(folder, "dir")
    found = find_workspace(folder)
    assert (found or folder.resolve()) == Path(root)
    if found:
        assert list(members(found)) == uv_says(folder, "list")


def test_directories_of_members(tmp_path: Path) -> None:
    lay_out(tmp_path, {".": project("r") + workspace('["p/*"]'), "p/a": project("Some_Name")})
    (tmp_path / "p" / "notes.txt").write_text("")
    assert members(tmp_path) == {"r": tmp_path, "some-name": tmp_path / "p" / "a"}


@pytest.mark.parametrize(
    ("files", "problems"),
    [
        ({".": workspace('["p/*"]'), "p/a": "[tool.x]\n", "p/b": "[project]\n"}, ["p/a", "p/b"]),
        ({".": project("a") + workspace('["p/*"]'), "p/b": project("A")}, ["p/b"]),
        ({".": workspace('["p/*"]'), "p/a": "[[["}, ["p/a"]),
        ({".": workspace('"p"')}, ["."]),
        ({".": workspace('["/p"]')}, ["."]),
        ({".": workspace('["p/a**"]', "exclude = [1]")}, [".", "."]),
        ({".": "[tool.uv]\nworkspace = 1\n"}, ["."]),
    ],
)
def test_all_broken_members_are_named(tmp_path: Path, files: Mapping[str, str], problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        members(lay_out(tmp_path, files))
    assert [Path(place) for place, _ in caught.value.problems] == [
        tmp_path / each / "pyproject.toml" for each in problems
    ]


def test_broken_file_above_is_an_error(tmp_path: Path) -> None:
    lay_out(tmp_path, {".": "[[[", "p/a": project("a")})
    with pytest.raises(ConfigError, match="not valid TOML"):
        find_workspace(tmp_path / "p" / "a")


def test_broken_workspace_is_an_error_in_its_root(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tool\.uv\.workspace\.members"):
        find_workspace(lay_out(tmp_path, {".": workspace("3")}))


def test_lock_of_a_member_is_that_of_the_workspace(tmp_path: Path) -> None:
    member = lay_out(tmp_path, {".": workspace('["p/*"]'), "p/a": project("a"), "q": project("q")}) / "p" / "a"
    for folder in (tmp_path, member, tmp_path / "q"):
        (folder / "uv.lock").write_text("")
    notes = Notes()
    assert find_lock(member, progress=notes) == tmp_path / "uv.lock"
    assert notes.notes == [
        f"uv.lock of this directory is not used: uv.lock belongs in the workspace's root, {tmp_path}"
    ]
    assert find_lock(tmp_path / "q") == tmp_path / "q" / "uv.lock"
    assert find_lock(member, "uv.lock") == member / "uv.lock"
    (member / "pylock.toml").write_text("")
    assert find_lock(member) == member / "pylock.toml"


def test_lock_of_a_member_alone_is_not_used(tmp_path: Path) -> None:
    member = lay_out(tmp_path, {".": workspace('["p/*"]'), "p/a": project("a")}) / "p" / "a"
    (member / "uv.lock").write_text("")
    assert find_lock(member) is None
