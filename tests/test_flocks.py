"""Locks between threads and processes: who waits, for how long, and who goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hatch_docker.support import flocks
from hatch_docker.support.flocks import alone, locked, progressed

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no flock(2)")

# Holds the lock of its first argument until it may write, or is killed; with "fails", it ends by an error.
_HOLDER = """
import sys
from pathlib import Path
from hatch_docker.support.flocks import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read(1)
    if sys.argv[2:] == ["fails"]:
        raise ValueError
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def holder(lock: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts another process that holds the lock."""
    started = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(lock), *arguments],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


class Waiting(threading.Thread):
    """A thread that waits for a lock, and whether it got it, others being kept out."""

    def __init__(self, lock: Path, *, patience: float = 60) -> None:
        super().__init__(daemon=True)
        self.path, self.patience = lock, patience
        self.entered, self.leave = threading.Event(), threading.Event()
        self.holds = False
        self.start()

    def run(self) -> None:
        with alone(self.path, patience=self.patience):
            with locked(self.path, patience=0) as free:
                self.holds = free is False
            self.entered.set()
            self.leave.wait(60)

    def end(self) -> None:
        self.leave.set()
        self.join(60)


def test_one_thread_at_a_time(lock: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with alone(lock):
            inside += 1
            most = max(most, inside)
            inside -= 1

    # Who waited does not take the lock itself, so this is about those that do not meet.
    for _ in range(20):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert most == 1
    assert not lock.exists()


@pytest.mark.parametrize("how", ["ends", "fails"])
def test_nobody_waits_after_the_holder_ended(
    lock: Path, holder: Callable[..., subprocess.Popen[bytes]], how: str
) -> None:
    """All go on at once: its result is there, or each tries itself."""
    process = holder(how)
    waiting = [Waiting(lock) for _ in range(3)]
    assert not any(each.entered.wait(0.05) for each in waiting)
    process.communicate(b"x")
    assert all(each.entered.wait(60) for each in waiting)
    for each in waiting:
        each.end()


def test_a_killed_holder_is_replaced_by_one(lock: Path, holder: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = holder()
    waiting = [Waiting(lock) for _ in range(3)]
    process.kill()
    process.wait()
    while not any(each.entered.wait(0.01) for each in waiting):
        pass
    (first,) = (each for each in waiting if each.entered.is_set())
    assert first.holds
    first.end()
    assert all(each.entered.wait(60) for each in waiting)
    for each in waiting:
        each.end()


def test_nobody_waits_for_a_holder_without_progress(lock: Path, holder: Callable[..., subprocess.Popen[bytes]]) -> None:
    holder()
    with alone(lock, patience=0.01):
        pass


def test_progress_makes_others_wait_longer(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder writes, and each write that is seen gives it as much time again."""
    monkeypatch.setattr(flocks, "_SIGN_SECONDS", 0)
    waiting: list[Waiting] = []
    with alone(lock):
        waiting.append(Waiting(lock, patience=5))
        before = lock.stat().st_mtime_ns
        while lock.stat().st_mtime_ns == before:
            progressed()
        assert not waiting[0].entered.is_set()
    assert waiting[0].entered.wait(60)
    waiting[0].end()


@pytest.mark.parametrize("kept", ["no flock", "no folder"])
def test_threads_take_turns_where_files_have_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """As on Windows, on some network file systems, and in a cache that cannot be written."""
    if kept == "no flock":
        monkeypatch.setattr(flocks, "try_lock", lambda _descriptor, **_: None)
    lock = tmp_path / ("lock" if kept == "no flock" else "missing/lock")
    other = threading.Event()

    def work() -> None:
        with alone(lock):
            other.set()

    with alone(lock):
        thread = threading.Thread(target=work)
        thread.start()
        assert not other.wait(0.05)
    thread.join(60)
    assert other.is_set()


def test_a_thread_does_not_wait_for_itself(lock: Path) -> None:
    with alone(lock), alone(lock), locked(lock, patience=0) as free:
        assert free is False
    assert not lock.exists()


def test_a_lock_may_be_shared(lock: Path) -> None:
    with locked(lock, shared=True) as one, locked(lock, shared=True) as two:
        assert one
        assert two
        with locked(lock, patience=0) as alone_here:
            assert alone_here is False
    with locked(lock, patience=0) as alone_here:
        assert alone_here


def test_a_directory_can_be_locked(tmp_path: Path) -> None:
    with locked(tmp_path) as first, locked(tmp_path, patience=0) as second:
        assert first
        assert second is False
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_locked_is_said(tmp_path: Path) -> None:
    with locked(tmp_path / "missing" / "lock") as nowhere:
        assert nowhere is None
