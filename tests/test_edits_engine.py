"""Edits with real bases and a real engine: the image is that of a whole build, and Python uses its bytecode."""

from __future__ import annotations

import time
from pathlib import Path
from unittest import mock

import pytest
from builds import command, result_of
from containers import environment, output
from docker import DockerClient
from project_maker import make_project

pytestmark = pytest.mark.engine
HOUR = 3600 * 10**9
BASES = [
    *(pytest.param(base, marks=pytest.mark.base) for base in ("slim", "alpine")),
    pytest.param("debian", marks=pytest.mark.debian),
]
_IMPORTED = "import shop.greeting as g; print(g.TEXT, g.__cached__, open(g.__cached__, 'rb').read(4) != b'')"
_MORE = "TEXT = 'changed'\nNAMES = frozenset({'a', 'b'})\n\n\nclass More:\n    def more(self):\n        return {1, 2}\n"


@pytest.mark.parametrize("base", BASES)
def test_an_edit_gives_the_image_of_a_whole_build(
    base: str, tmp_path: Path, shared_cache: Path, client: DockerClient, image: str
) -> None:
    files = {"src/shop/greeting.py": "TEXT = 'hello'\n", "src/shop/other.py": "X = 1\n"}
    docker = f'base = "{base}"\nimage = "{image}"\nbytecode = true'
    project = make_project(tmp_path / "project", files=files, docker=docker, base="")
    now = time.time_ns

    def build(**settings: str) -> None:
        with mock.patch("time.time_ns", side_effect=lambda: now() + HOUR):
            outcome = command("build", env=environment(shared_cache, BUILD="0", **settings), folder=project)
        assert outcome.code == 0, outcome.err

    build()
    (project / "src/shop/greeting.py").write_text(_MORE)
    with mock.patch("hatch_docker.session.plan", side_effect=AssertionError("a plan is made")):
        build()
    edited = result_of(project)
    text, cached, has_code = output(client, f"{image}:1.0", "python", "-c", _IMPORTED).split()
    assert (text, has_code) == ("changed", "True")
    assert cached.endswith(".pyc")
    build(HATCH_DOCKER_VERIFY="1")
    whole = result_of(project)
    assert (edited["digest"], edited["wheel"]) == (whole["digest"], whole["wheel"])
