"""The base from the real Debian archive is reproducible: with a cold and a warm cache, for any user and Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from builds import environment
from conftest import pythons

PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "bare"
version = "1"

[tool.hatch.build.targets.wheel]
bypass-selection = true

[tool.hatch.build.targets.docker]
base = "debian"
"""

pytestmark = [pytest.mark.debian]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bare") / "cache"


@pytest.fixture(scope="module")
def reference(cache: Path) -> str:
    """The output of a build with an empty cache."""
    return digest(cache)


def digest(cache: Path, python: str | Path = sys.executable) -> str:
    """The output of a build in a separate process."""
    mirror = {name: value for name, value in os.environ.items() if name.startswith("HATCH_DOCKER_DEBIAN_")}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pyproject.toml").write_text(PROJECT)
        done = subprocess.run(
            [python, "-m", "hatchling", "build", "-t", "docker:archive"],
            cwd=folder,
            env=environment(cache, HATCH_QUIET="1", **mirror),
            capture_output=True,
            encoding="utf-8",
        )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_with_a_warm_cache(reference: str, cache: Path) -> None:
    shutil.rmtree(cache / "debian-layers")
    assert digest(cache) == reference
    assert digest(cache) == reference


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can be somebody else")
def test_as_user_nobody(reference: str) -> None:
    packages = Path(pytest.__file__).parent
    if subprocess.run(["test", "-r", packages], user=65534, group=65534, extra_groups=[]).returncode:
        pytest.skip(f"others may not read {packages}")
    with tempfile.TemporaryDirectory() as name:
        for folder in ("ours", "theirs"):
            project = Path(name, folder)
            project.mkdir()
            (project / "pyproject.toml").write_text(PROJECT)
        os.chown(name, 65534, 65534)
        os.chown(project, 65534, 65534)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, name], capture_output=True, text=True, cwd=Path(__file__).parent
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == reference


# In one process that imports everything first, as other users may not be able to read this checkout.
AS_NOBODY = """
import os, pathlib, sys, builds
folder = pathlib.Path(sys.argv[1])
mirror = {name: value for name, value in os.environ.items() if name.startswith("HATCH_DOCKER_DEBIAN_")}
builds.build(folder / "ours", env=builds.environment(folder / "first", **mirror))
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
os.umask(0o077)
outcome = builds.build(folder / "theirs", env=builds.environment(folder / "cache", HATCH_QUIET="1", **mirror))
sys.stdout.write(outcome.out)
sys.exit(outcome.err or outcome.code)
"""


@pytest.mark.pythons
def test_with_every_python(reference: str, cache: Path) -> None:
    for python in pythons():
        shutil.rmtree(cache / "debian-layers")
        assert digest(cache, python) == reference
