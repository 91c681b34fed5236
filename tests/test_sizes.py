"""Compare the size of the seed application's image with the images of usual Dockerfiles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from containers import environment

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "sizes.py"
SEEDS = ("d-multi-stage-alpine", "f-uv-slim")

pytestmark = [pytest.mark.engine, pytest.mark.base, pytest.mark.network, pytest.mark.debian, pytest.mark.seeds]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The benchmark's results for each image. The benchmark runs each of them."""
    arguments = [os.environ["HATCH_DOCKER_TEST_SEEDS"], "--only", *SEEDS, "--rounds", "1", "--json", "--base", "debian"]
    done = subprocess.run(
        [sys.executable, BENCHMARK, *arguments],
        env=environment(tmp_path_factory.mktemp("cache")),
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    images: list[dict[str, Any]] = json.loads(done.stdout)
    return images


@pytest.mark.parametrize("seed", SEEDS)
def test_is_smaller_than_the_dockerfile_s_image_on_the_same_base(images: list[dict[str, Any]], seed: str) -> None:
    (reference,) = [image for image in images if image["name"] == seed]
    (ours,) = [
        image for image in images if image["name"].startswith("hatch-docker") and image["base"] == reference["base"]
    ]
    assert 0 < ours["above"] < reference["above"]


def test_debian_base_gives_the_smallest_image(images: list[dict[str, Any]]) -> None:
    (ours,) = [image for image in images if image["base"] == "debian"]
    assert all(ours["size"] < image["size"] for image in images if image["base"] == "python:3.13-slim")
    assert 0 < ours["above"] < ours["size"]
