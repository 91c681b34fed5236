"""Slow networks and registries: whatever makes progress ends well.

With HATCH_DOCKER_TEST_TRIALS of 1000 or more, each takes minutes: more than a host may be silent.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from pathlib import Path
from types import TracebackType

import pytest
from base_maker import FakeBase, serve
from builds import Bench
from fake_registry import FakeRegistry

pytestmark = pytest.mark.trials

_IS_LONG = int(os.environ.get("HATCH_DOCKER_TEST_TRIALS") or 0) >= 1000
# Bytes of a layer, bytes each second, and seconds to store a blob.
_SIZE, _RATE, _STORING = (22_000_000, 100_000, 120.0) if _IS_LONG else (300_000, 300_000, 1.0)


class Slow:
    """Passes connections on to a host, at `rate` bytes a second; it waits `storing` seconds after a whole upload."""

    def __init__(self, target: str, *, rate: float = float("inf"), storing: float = 0.0) -> None:
        self._target, self._rate, self._storing = target, rate, storing
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.held = 0

    def __enter__(self) -> Slow:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        host, _, port = self._target.partition(":")
        with contextlib.suppress(OSError), client, socket.create_connection((host, int(port))) as server:
            stored = threading.Event()
            back = threading.Thread(target=self._copy, args=(server, client, stored), daemon=True)
            back.start()
            self._copy(client, server, None, stored)
            back.join()

    def _copy(
        self,
        source: socket.socket,
        target: socket.socket,
        held: threading.Event | None = None,
        stored: threading.Event | None = None,
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(8192):
                if stored and chunk.startswith(b"PUT /") and b"/blobs/uploads/" in chunk:
                    stored.set()
                if held and held.is_set():
                    held.clear()
                    self.held += 1
                    time.sleep(self._storing)
                target.sendall(chunk)
                time.sleep(len(chunk) / self._rate)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


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
