"""Builds that are ended at random moments: the next one is right, and leaves nothing of both.

HATCH_DOCKER_TEST_TRIALS is how many builds are ended, HATCH_DOCKER_TEST_SEED chooses other moments.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import builds
import pytest
from base_maker import serve
from builds import Bench, check_blobs
from debian_bench import DebianBench, fake_debian
from fake_index import serving as serving_index
from fake_registry import FakeRegistry

from hatch_docker.support.dataclasses import dataclass, field

pytestmark = [
    pytest.mark.trials,
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
]

# Until it has begun, it is Python that is starting, whose own tracebacks nobody can prevent (see test_signals.py).
PROGRAM = "import os; from hatch_docker.frontends.cli.start import main; os.write(2, b'.'); main()"
_RESULT = ("--metadata-file", "result.json")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# How a process ends: it did all, was killed, or ended itself after a signal.
STATUSES = {
    signal.SIGKILL: {0, -signal.SIGKILL},
    signal.SIGTERM: {0, -signal.SIGTERM},
    signal.SIGINT: {0, 130, -signal.SIGINT},
}


@dataclass(frozen=True)
class Scene:
    """A project to build with `arguments`. `uploads` are those that a registry has and that did not end."""

    project: Path
    settings: Mapping[str, str]
    arguments: tuple[str, ...]
    uploads: Mapping[str, object] = field(default_factory=dict)

    def start(self, cache: Path) -> subprocess.Popen[str]:
        """Start a build in a session of its own, whose temporary files are beside the cache."""
        temporary = cache.parent / "temporary"
        temporary.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "build", "-q", *self.arguments],
            cwd=self.project,
            env=builds.environment(cache, TMPDIR=str(temporary), PYTHONDONTWRITEBYTECODE="1", **self.settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )

    def run(self, cache: Path) -> str:
        """Build; returns the digest."""
        process = self.start(cache)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return str(json.loads((self.project / "result.json").read_text())["digest"])

    def left(self, cache: Path) -> set[str]:
        """The files in the project, and the temporary ones."""
        project = {str(path.relative_to(self.project)) for path in builds.files_below(self.project)}
        temporary = {str(path.relative_to(cache.parent)) for path in (cache.parent / "temporary").iterdir()}
        return project | temporary


@contextlib.contextmanager
def pushed(bench: Bench) -> Iterator[Scene]:
    """The base comes from a registry, wheels come from an index, and the image is pushed and written to a file."""
    with FakeRegistry() as registry, serving_index() as index:
        serve(bench.base(), registry, "library/base", "1")
        lines = []
        for name in ("alpha", "beta"):
            wheel = bench.wheel(name, files={f"{name}/data.bin": random.Random(name).randbytes(2_000_000)})
            lines.append(f"{name}==1.0 --hash=sha256:{index.add(name, wheel.name, wheel.read_bytes())}\n")
        project = bench.project(
            dependencies=["alpha", "beta"],
            base="",
            files={"requirements.txt": "".join(lines)},
            docker=f'base = "{registry.host}/library/base:1"\nlock = "requirements.txt"',
        )
        settings = {"HATCH_DOCKER_INDEX_URL": index.url, "HATCH_DOCKER_IMAGE": f"{registry.host}/team/shop"}
        yield Scene(project, settings, ("--push", "-o", "type=oci,dest=image.tar", *_RESULT), registry.uploads)


@contextlib.contextmanager
def debian(bench: Bench) -> Iterator[Scene]:
    """The base is made of packages of a Debian mirror, and the image is written as a layout."""
    (bench.root / "archive").mkdir()
    with fake_debian(bench.root / "archive") as archive:
        made = DebianBench(bench.root, archive)
        project = made.project(wheels=[made.wheel("alpha")])
        arguments = ("-o", "type=oci-layout,dest=image", *_RESULT)
        yield Scene(project, archive.settings(), arguments)


SCENES = {"pushed": pushed, "debian": debian}


@pytest.mark.parametrize("name", SCENES)
def test_the_next_build_is_right_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    chosen = random.Random(f"{os.environ.get('HATCH_DOCKER_TEST_SEED', '')} {name}")
    trials = -(-int(os.environ["HATCH_DOCKER_TEST_TRIALS"]) // len(SCENES))
    ended: Counter[str] = Counter()
    with SCENES[name](Bench(tmp_path)) as scene:
        began = time.monotonic()
        digest, longest = scene.run(tmp_path / "first" / "cache"), time.monotonic() - began
        files = scene.left(tmp_path / "first" / "cache")
        for number in range(trials):
            root = tmp_path / str(number)
            # Half of them have a cache, so that other steps take the time.
            if chosen.random() < 0.5:
                shutil.copytree(tmp_path / "first" / "cache", root / "cache")
            ended[_end(scene, root / "cache", chosen, longest)] += 1
            assert scene.run(root / "cache") == digest
            assert scene.left(root / "cache") == files
            check_blobs(root / "cache")
            shutil.rmtree(root)
        # No note can be written before the answer to the request that begins an upload.
        assert len(scene.uploads) <= 1 + trials // 20
    print(f"{name}: {trials} builds, {dict(ended)}, {len(scene.uploads)} uploads")  # noqa: T201


def _end(scene: Scene, cache: Path, chosen: random.Random, longest: float) -> str:
    """End a build by a signal at some moment, with all that it started; returns how it ended."""
    process = scene.start(cache)
    assert process.stderr is not None
    assert process.stderr.read(1) == "."
    number = chosen.choice(SIGNALS)
    time.sleep(chosen.uniform(0, longest))
    # As a terminal does for Ctrl-C, and a machine for all others when it stops.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number) if chosen.random() < 0.5 else process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    assert process.returncode in STATUSES[number], (number, process.returncode, err)
    _check_gone(process.pid)
    return f"{number.name} {process.returncode}"


def _check_gone(session: int) -> None:
    """Check that no process of a session is left after a moment."""
    for _ in range(100):
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("a process that the build started is left")
