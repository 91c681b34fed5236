"""Slow networks and registries: whatever makes progress ends well.

With HATCH_DOCKER_TEST_TRIALS of 1000 or more, each takes minutes: more than a host may be silent.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from pathlib import Path

import pytest
from base_maker import FakeBase, serve
from builds import Bench
from fake_registry import FakeRegistry
from relay import Relay

pytestmark = pytest.mark.trials

_IS_LONG = int(os.environ.get("HATCH_DOCKER_TEST_TRIALS") or 0) >= 1000
# Bytes of a layer, bytes each second, and seconds to store a blob.
_SIZE, _RATE, _STORING = (22_000_000, 100_000, 120.0) if _IS_LONG else (300_000, 300_000, 1.0)


class Slow(Relay):
    """Forwards `rate` bytes a second, and waits `storing` seconds before the answer to the end of an upload."""

    def __init__(self, target: str, *, rate: float = float("inf"), storing: float = 0.0) -> None:
        super().__init__(f"tcp://{target}")
        self._rate, self._storing = rate, storing
        self.held = 0

    def forward(self, chunk: bytes, target: socket.socket, asked: threading.Event, back: bool) -> None:
        """Send what was received on, later."""
        if not back and chunk.startswith(b"PUT /") and b"/blobs/uploads/" in chunk:
            asked.set()
        if back and asked.is_set():
            asked.clear()
            self.held += 1
            time.sleep(self._storing)
        super().forward(chunk, target, asked, back)
        time.sleep(len(chunk) / self._rate)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


def _noise() -> bytes:
    return random.Random(1).randbytes(_SIZE)


def test_a_push_through_a_slow_network(tmp_path: Path, registry: FakeRegistry) -> None:
    bench = Bench(tmp_path)
    project = bench.project(wheels=[bench.wheel("alpha", files={"alpha/data.bin": _noise()})])
    with registry, Slow(registry.host, rate=_RATE) as slow:
        outcome = bench.build(project, target="docker:push", HATCH_DOCKER_IMAGE=f"{slow.host}/team/shop")
    assert outcome.code == 0, outcome.err
    assert ("team/shop", "1.0") in registry.manifests


def test_a_push_to_a_registry_that_takes_long_to_store_a_blob(tmp_path: Path, registry: FakeRegistry) -> None:
    bench = Bench(tmp_path)
    project = bench.project(wheels=[bench.wheel("alpha")])
    with registry, Slow(registry.host, storing=_STORING) as slow:
        outcome = bench.build(project, target="docker:push", HATCH_DOCKER_IMAGE=f"{slow.host}/team/shop")
    assert outcome.code == 0, outcome.err
    assert ("team/shop", "1.0") in registry.manifests
    assert slow.held
    # Nothing was sent twice.
    assert len(registry.sent("POST", "/blobs/uploads/")) == len(registry.blobs)


def test_a_pull_through_a_slow_network(tmp_path: Path, registry: FakeRegistry) -> None:
    bench = Bench(tmp_path)
    base = bench.base(FakeBase(files={"opt/data.bin": _noise()}))
    with registry, Slow(registry.host, rate=_RATE) as slow:
        serve(base, registry, "library/base", "1")
        project = bench.project(base="", docker=f'base = "{slow.host}/library/base:1"')
        outcome = bench.build(project)
    assert outcome.code == 0, outcome.err
