"""Many builds of many projects with one small cache, some at once and some killed: its limit is kept, and all succeed.

HATCH_DOCKER_TEST_TRIALS sets the number of builds, HATCH_DOCKER_TEST_SEED another order.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import builds
import pytest
from builds import Bench, check_archive, check_blobs, files_below

from hatch_docker.support import room

_BUILDS = int(os.environ.get("HATCH_DOCKER_TEST_TRIALS", "6"))
_PROJECTS = min(30, _BUILDS)
_AT_ONCE = 4
_KILLED = 0.1
_PROGRAM = "from hatch_docker.frontends.cli.main import main; main()"


@pytest.mark.skipif(os.name == "nt", reason="Windows does not say which processes ended")
def test_many_builds_with_a_small_cache(tmp_path: Path) -> None:
    bench, rng = Bench(tmp_path), random.Random(int(os.environ.get("HATCH_DOCKER_TEST_SEED", "1")))
    common = bench.wheel("common", files={"common/data.bin": rng.randbytes(400_000)})
    projects = []
    for number in range(_PROJECTS):
        own = bench.wheel(f"own{number}", files={f"own{number}/data.bin": rng.randbytes(100_000)})
        projects.append(bench.project(f"project{number}", wheels=[common, own]))
    # Enough for about five projects: each has a wheel and its layer.
    limit = 4 << 20
    env = builds.environment(
        bench.cache, HATCH_DOCKER_CACHE_SIZE=str(limit), PYTHONPATH=str(Path(__file__).parent.parent)
    )
    outcomes: Counter[str] = Counter()
    largest, left = 0, _BUILDS
    while left:
        turn = rng.sample(range(_PROJECTS), min(rng.randint(1, _AT_ONCE), left, _PROJECTS))
        left -= len(turn)
        running = [(number, _started(projects[number], env)) for number in turn]
        if rng.random() < _KILLED * len(turn):
            time.sleep(rng.uniform(0.3, 1.5))
            running[0][1].send_signal(signal.SIGKILL)
        for number, process in running:
            _, err = process.communicate(timeout=300)
            outcomes[str(process.returncode)] += 1
            assert process.returncode in (0, -signal.SIGKILL), err
            if process.returncode == 0:
                check_archive(projects[number] / "image.tar", tmp_path / f"scratch{number}")
        largest = max(largest, sum(entry.size for entry in room.entries_of(bench.cache)))
    # Runs that end at the same time protect what each other used; the last one of all is alone.
    last = _started(projects[0], env)
    _, err = last.communicate(timeout=300)
    assert last.returncode == 0, err
    size = sum(entry.size for entry in room.entries_of(bench.cache))
    sizes = [f"{each / 2**20:.1f} MB" for each in (largest, size, limit)]
    sys.stdout.write(f"{dict(outcomes)}, largest {sizes[0]}, at last {sizes[1]} of {sizes[2]}\n")
    assert size <= limit
    check_blobs(bench.cache)
    assert {path.name for path in files_below(bench.cache / "running")} <= {"gate"}


def _started(project: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "build", "-q", "-o", "type=oci,dest=image.tar"],
        cwd=project,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
