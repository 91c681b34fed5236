"""How many requests a registry gets, what is asked before it is needed, and how long somebody waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

import pytest
from fake_registry import Failure, FakeRegistry
from hypothesis import given
from hypothesis import strategies as st
from test_registry import client, image, layer

from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.pace import MOST, Pace
from hatch_docker.support.lanes import Lanes, TookTooLongError, hurried


@pytest.fixture
def fake(no_waiting: None) -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


class TestPace:
    @given(st.lists(st.booleans(), max_size=200))
    def test_stays_between_one_and_the_most(self, refused: list[bool]) -> None:
        time = iter(range(1000))
        pace = Pace(clock=lambda: next(time))
        for each in refused:
            before = pace.limit
            if each:
                pace.refused(pace._clock(), 0)
                assert pace.limit <= max(1, before // 2 + 1)
            else:
                pace.accepted()
                assert before <= pace.limit <= before + 1
            assert 1 <= pace.limit <= MOST

    def test_requests_that_ran_beside_a_refused_one_slow_down_nothing_more(self) -> None:
        pace = Pace(clock=lambda: 10.0)
        for _ in range(5):
            pace.refused(9.0, 0)
        assert pace.limit == MOST // 2
        pace.refused(11.0, 0)
        assert pace.limit == MOST // 4

    def test_grows_by_one_for_as_many_answers_as_run_at_once(self) -> None:
        pace = Pace(clock=lambda: 0.0)
        pace.refused(0, 0)
        for _ in range(9):
            pace.accepted()
        assert pace.limit == MOST // 2 + 1

    def test_nobody_begins_before_the_registry_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []
        monkeypatch.setattr("hatch_docker.oci.registry.pace.sleep", waits.append)
        pace = Pace(clock=lambda: 100.0)
        pace.refused(100.0, 7)
        with pace.slot():
            pass
        assert waits == [7]

    def test_no_more_run_than_may(self) -> None:
        pace, running, most = Pace(most=3), [0], [0]
        lock, gate = threading.Lock(), threading.Barrier(3)

        def run() -> None:
            with pace.slot():
                with lock:
                    running[0] += 1
                    most[0] = max(most[0], running[0])
                gate.wait(10)
                with lock:
                    running[0] -= 1

        threads = [threading.Thread(target=run) for _ in range(9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [3]


class TestPush:
    def test_a_registry_that_is_busy_gets_fewer_requests(self, fake: FakeRegistry) -> None:
        fake.failures = [Failure("HEAD", "/blobs/", 429, times=3), Failure("PUT", "/blobs/", 429, times=2)]
        registry, pushed = client(), image(*(layer(str(number)) for number in range(12)))
        assert registry.push(pushed.node, [Reference(registry=fake.host, repository="app", tag="1")]) == pushed.digest
        assert registry.session._pace_of(fake.host).limit < MOST

    def test_takes_the_answers_to_what_was_asked_before(self, fake: FakeRegistry) -> None:
        target = Reference(registry=fake.host, repository="app", tag="1")
        pushed = image(layer("a"), layer("b"))
        client().push(pushed.node, [target])
        fake.requests.clear()
        registry = client()
        registry.expect([target], pushed.manifest.layers)
        registry.push(pushed.node, [target])
        assert len(fake.sent("HEAD", "/blobs/")) == 3, "each layer and the config, once"

    def test_asks_again_what_was_not_answered(self, fake: FakeRegistry) -> None:
        target = Reference(registry=fake.host, repository="app", tag="1")
        pushed = image(layer("a"))
        registry = client()
        fake.everything = (502, b"")
        registry.expect([target], pushed.manifest.layers)
        presence = registry._presence_of(target)
        for future in presence._answers.values():
            future.exception()
        fake.everything = None
        assert registry.push(pushed.node, [target]) == pushed.digest

    def test_a_blob_that_was_pushed_is_not_pushed_again(self, fake: FakeRegistry) -> None:
        target = Reference(registry=fake.host, repository="app", tag="1")
        registry, shared = client(), layer("shared")
        registry.expect([target], [shared.descriptor])
        registry.push(image(shared).node, [target])
        fake.requests.clear()
        registry.push(image(shared, layer("more")).node, [target.with_tag("2")])
        assert len(fake.sent("POST", "/uploads/")) == 2, "the other layer and config"

    def test_a_blob_of_another_size_is_not_mounted(self, fake: FakeRegistry) -> None:
        """Who says where a blob is may be wrong about its size, and the manifest would be, too."""
        held, target = layer("a"), Reference(registry=fake.host, repository="app", tag="1")
        wrong = type(held.descriptor)(media_type="x", digest=held.descriptor.digest, size=held.descriptor.size + 1)
        client().push(image(held).node, [Reference(registry=fake.host, repository="cache", tag="1")])
        opened = []

        def open_layer() -> BinaryIO:
            opened.append(True)
            raise ValueError

        pushed = image(type(held)(descriptor=wrong, diff_id=held.diff_id, open=open_layer))
        with pytest.raises(ValueError):  # noqa: PT011
            client().push(pushed.node, [target], place=lambda _: Reference(registry=fake.host, repository="cache"))
        assert opened


class TestLanes:
    def test_give_results_and_errors(self) -> None:
        lanes = Lanes()
        good, bad = lanes.start(lambda: 1), lanes.start(lambda: 1 // 0)
        assert lanes.result(good) == 1
        with pytest.raises(ZeroDivisionError):
            lanes.result(bad)

    def test_all_callers_together_wait_no_longer_than_the_limit(self) -> None:
        gate, lanes = threading.Event(), Lanes(0.05)
        futures = [lanes.start(lambda: gate.wait(30)) for _ in range(3)]
        for future in futures:
            with pytest.raises(TookTooLongError):
                lanes.result(future)
        gate.set()
        assert lanes._left <= 0.001

    def test_more_work_than_threads(self) -> None:
        lanes = Lanes()
        assert [lanes.result(each) for each in [lanes.start(lambda n=n: n) for n in range(50)]] == [*range(50)]  # type: ignore[misc]

    def test_threads_end_when_nothing_is_left(self) -> None:
        before, lanes = threading.active_count(), Lanes()
        for future in [lanes.start(lambda: None) for _ in range(5)]:
            lanes.result(future)
        deadline = time.monotonic() + 30
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.001)
        assert threading.active_count() <= before


class TestHurried:
    def test_passes_chunks_and_errors(self) -> None:
        def chunks() -> Iterator[bytes]:
            yield from (b"a", b"b")
            raise KeyError("x")

        read = hurried(chunks(), 30)
        assert [next(read), next(read)] == [b"a", b"b"]
        with pytest.raises(KeyError):
            next(read)
        assert b"".join(hurried(iter([b"x"] * 100), 30)) == b"x" * 100

    def test_a_chunk_that_does_not_come_is_an_error(self) -> None:
        gate = threading.Event()

        def chunks() -> Iterator[bytes]:
            yield b"a"
            gate.wait(30)

        read = hurried(chunks(), 0.05)
        assert next(read) == b"a"
        with pytest.raises(TookTooLongError):
            next(read)
        gate.set()
