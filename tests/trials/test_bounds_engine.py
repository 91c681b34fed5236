"""The longest names that are not refused, in an image that an engine loads and runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from builds import command
from containers import environment, output
from docker import DockerClient
from project_maker import make_project
from wheel_maker import make_wheel

LONGEST = ["a" * 255, "ü" * 127, "b/" * 128 + "f", ("c" * 200 + "/") * 18 + "f" * 182]
_FOUND = (
    "import pathlib, six; files = pathlib.Path(six.__file__).parent.rglob('*');"
    "print(sum(each.is_file() for each in files if each.name[0] in 'aüf'))"
)


@pytest.mark.engine
@pytest.mark.base
def test_the_longest_names_are_in_a_container(
    tmp_path: Path, shared_cache: Path, client: DockerClient, image: str
) -> None:
    assert max(map(len, LONGEST)) == 3800
    wheel = make_wheel(tmp_path, "six", files={"six.py": "", **dict.fromkeys(LONGEST, "x")})
    project = make_project(tmp_path / "project", wheels=[wheel], docker=f'base = "slim"\nimage = "{image}"', base="")
    outcome = command("build", env=environment(shared_cache), folder=project)
    assert outcome.code == 0, outcome.err
    assert output(client, f"{image}:1.0", "python", "-c", _FOUND).strip() == "4"
