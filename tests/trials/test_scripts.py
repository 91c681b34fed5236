"""The maintainer scripts of packages that Python services name, with their dependencies: which are refused, and why.

HATCH_DOCKER_TEST_TRIALS is how many names are tried, 25 without it, and 1000 are all. `python tests/debian_scripts.py`
writes what is expected; a difference is a changed script, which somebody has to read, or another judgement.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from debian_scripts import NAMES, Trial, judged, refused_before, slim_packages

from hatch_docker.debian.packages import Package

pytestmark = pytest.mark.debian

_SAMPLE = NAMES[:: -(-len(NAMES) // int(os.environ.get("HATCH_DOCKER_TEST_TRIALS") or 25))]


@pytest.fixture(scope="module")
def trial(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial.of(shared_cache, tmp_path_factory.mktemp("packages"))


def compare(trial: Trial, installed: Sequence[Package]) -> None:
    closures = trial.closures(_SAMPLE, installed)
    debs = trial.debs(package for closure in closures.values() for package in closure)
    assert len(debs) > len(_SAMPLE)
    assert judged(debs) == {name: reason for name, reason in refused_before().items() if name in debs}


def test_on_our_base(trial: Trial) -> None:
    compare(trial, trial.base())


@pytest.mark.base
def test_on_slim(trial: Trial, shared_cache: Path) -> None:
    compare(trial, slim_packages(shared_cache))
