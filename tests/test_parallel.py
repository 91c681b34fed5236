import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.support.threads import begun, once, together


@given(st.lists(st.integers(), max_size=40), st.integers(1, 8))
def test_results_are_in_the_order_of_the_items(items: list[int], threads: int) -> None:
    assert together(lambda item: item * 2, items, threads=threads) == [item * 2 for item in items]


def test_runs_no_more_threads_than_given() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(_item: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1

    together(work, range(200), threads=3)
    assert most <= 3


def test_first_error_is_raised_and_stops_waiting_items() -> None:
    done: list[int] = []
    stop = threading.Event()

    def work(item: int) -> None:
        done.append(item)
        if item == 1:
            raise KeyError(item)

    with pytest.raises(KeyError):
        together(work, range(100), threads=1, stop=stop)
    assert done == [0, 1]
    assert stop.is_set()


def test_error_does_not_wait_for_an_endless_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatch_docker.support.threads._GRACE_SECONDS", 0)
    never = threading.Event()

    def work(item: int) -> None:
        if item:
            raise KeyError(item)
        never.wait(60)

    with pytest.raises(KeyError):
        together(work, [0, 1], threads=2)
    never.set()


def test_what_was_begun_runs_beside_and_is_waited_for() -> None:
    started, may_end = threading.Event(), threading.Event()

    def work() -> str:
        started.set()
        assert may_end.wait(10)
        return "done"

    result = begun(work)
    assert started.wait(10)
    may_end.set()
    assert result() == result() == "done"


def test_error_of_what_was_begun_is_raised_where_it_is_waited_for() -> None:
    def work() -> None:
        raise ValueError("failed")

    result = begun(work)
    for _ in range(2):
        with pytest.raises(ValueError, match="failed"):
            result()


def test_those_that_wait_for_a_failure_fail_with_it() -> None:
    calls, began, waiting = [], threading.Event(), threading.Event()

    def fail() -> int:
        calls.append(1)
        began.set()
        waiting.wait(60)
        raise ValueError(f"attempt {len(calls)}")

    get = once(fail)
    errors: list[str] = []

    def ask() -> None:
        try:
            get()
        except ValueError as error:
            errors.append(str(error))

    first, *others = threads = [threading.Thread(target=ask) for _ in range(4)]
    first.start()
    assert began.wait(60)
    for each in others:
        each.start()
    # They wait for the lock, which is held, or begin to.
    while not all(each.is_alive() for each in others):
        pass
    threading.Timer(0.05, waiting.set).start()
    for each in threads:
        each.join(60)
    assert errors == ["attempt 1"] * 4
    # Whoever asks later asks again.
    with pytest.raises(ValueError, match="attempt 2"):
        get()
