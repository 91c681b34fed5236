from __future__ import annotations

import io
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.errors import HatchDockerError
from hatch_docker.support import terminal
from hatch_docker.support.terminal import Terminal, human


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def plain(lines: list[str]) -> Terminal:
    """Output to a pipe."""
    return Terminal(lines.append, None)


def shown(stream: io.StringIO) -> str:
    """The text of the live line."""
    return stream.getvalue().split("\r\x1b[K")[-1]


def becomes(stream: io.StringIO, text: str) -> bool:
    """Whether the live line becomes `text` within some seconds."""
    for _ in range(10_000):
        if shown(stream) == text:
            return True
        time.sleep(0.001)
    return False


class TestLines:
    def test_reports_a_step_when_the_next_begins(self, plain: Terminal, lines: list[str], clock: list[float]) -> None:
        for size in (3000, 4000):
            with plain.task("download", "a", size) as advance:
                advance(size)
                clock[0] += 1
        assert lines == []
        with plain.task("layer", "b") as advance:
            advance(10)
        assert lines == ["  downloaded 2 files, 7.0 kB in 2.0 s"]
        clock[0] += 60
        plain.close()
        assert lines[1:] == ["  made layer b, 10 B in 0.0 s"]
        plain.close()
        assert len(lines) == 2

    def test_reports_the_start_of_large_tasks_in_a_pipe(self, plain: Terminal, lines: list[str]) -> None:
        with plain.task("download", "small.whl", 1000), plain.task("download", "big.whl", 12_345_678):
            assert lines == ["  downloading file big.whl (12.3 MB)"]
        with plain.task("load", "shop:1.0", 5_000_000):
            assert lines[2:] == ["  loading shop:1.0 (5.0 MB)"]

    def test_does_not_report_a_failed_task_as_finished(self, plain: Terminal, lines: list[str]) -> None:
        with pytest.raises(KeyError), plain.task("download", "big.whl", 12_345_678):
            raise KeyError
        plain.close()
        assert lines == ["  downloading file big.whl (12.3 MB)"]
        with plain.task("download", "other", 1) as advance:
            advance(1)
        with pytest.raises(KeyboardInterrupt), plain.task("download", "big.whl", 12_345_678):
            raise KeyboardInterrupt
        plain.close()
        assert lines[-1].startswith("  downloaded 1/2 files, 1 B in ")

    def test_inner_step_does_not_end_the_outer_one(self, plain: Terminal, lines: list[str], clock: list[float]) -> None:
        with plain.task("push", "one", 5) as push:
            for _ in range(2):
                with plain.task("pull", "base", 10) as pull:
                    pull(10)
            push(5)
        with plain.task("push", "two", 5) as push:
            push(5)
        plain.close()
        assert sorted(lines) == ["  pulled 2 layers, 20 B in 0.0 s", "  pushed 2 blobs, 10 B in 0.0 s"]

    def test_reports_steps_in_the_order_of_their_ends(
        self, plain: Terminal, lines: list[str], clock: list[float]
    ) -> None:
        with plain.task("compile", "shop 1.0"):
            with plain.task("download", "setuptools 80", 7) as advance:
                advance(7)
            clock[0] += 30
        plain.close()
        assert lines == ["  downloaded file setuptools 80, 7 B in 0.0 s", "  compiled package shop 1.0 in 30.0 s"]

    def test_step_without_sizes_and_with_an_unknown_verb(
        self, plain: Terminal, lines: list[str], clock: list[float]
    ) -> None:
        with plain.task("polish", "it"):
            pass
        plain.close()
        assert lines == ["  polish it in 0.0 s"]

    def test_reports_tasks_without_a_noun_one_by_one(self, plain: Terminal, lines: list[str]) -> None:
        for name in ("Debian trixie", "3 requirements"):
            with plain.task("resolve", name):
                pass
        with plain.task("install", "gcc"), plain.task("install", "make"):
            pass
        plain.close()
        assert lines == [
            "  resolved Debian trixie in 0.0 s",
            "  resolved 3 requirements in 0.0 s",
            "  installed make in 0.0 s",
        ]

    def test_notes(self, plain: Terminal, lines: list[str]) -> None:
        plain.note("lock: pylock.toml")
        assert lines == ["  lock: pylock.toml"]

    def test_note_follows_the_steps_before_it(self, plain: Terminal, lines: list[str], clock: list[float]) -> None:
        with plain.task("resolve", "3 requirements"):
            pass
        plain.note("it is in pylock.toml")
        assert lines == ["  resolved 3 requirements in 0.0 s", "  it is in pylock.toml"]

    def test_counts_all_tasks_of_all_threads(self, plain: Terminal, lines: list[str]) -> None:
        started = threading.Barrier(8)

        def work(number: int) -> None:
            started.wait()
            with plain.task("layer", f"layer {number}", 1000) as advance:
                for _ in range(1000):
                    advance(1)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        plain.close()
        assert [line.partition(" in ")[0] for line in lines] == ["  made 8 layers, 8.0 kB"]


class TestLive:
    @pytest.fixture
    def stream(self) -> io.StringIO:
        return io.StringIO()

    @pytest.fixture
    def live(self, lines: list[str], stream: io.StringIO) -> Terminal:
        def line(text: str) -> None:
            # Lines are printed after the live line was cleared.
            assert shown(stream) == ""
            lines.append(text)

        return Terminal(line, stream)

    def test_shows_a_running_step_at_once(self, live: Terminal, stream: io.StringIO, clock: list[float]) -> None:
        with live.task("resolve", "3 requirements"):
            assert shown(stream) == "  resolving 3 requirements"

    def test_shows_sizes(self, live: Terminal, stream: io.StringIO, clock: list[float]) -> None:
        with live.task("download", "a.whl", 2000), live.task("download", "b.whl", 4000) as advance:
            clock[0] += 1
            advance(1500)
            assert shown(stream) == "  downloading 0/2 files · 1.5 kB of 6.0 kB · a.whl, b.whl"

    def test_does_not_redraw_for_every_chunk(self, live: Terminal, stream: io.StringIO, clock: list[float]) -> None:
        with live.task("download", "a.whl", 2000) as advance:
            for _ in range(1000):
                advance(1)
        assert stream.getvalue().count("\r") == 1

    def test_shows_the_outer_step_again_after_the_inner_one(
        self, live: Terminal, stream: io.StringIO, clock: list[float]
    ) -> None:
        with live.task("compile", "shop 1.0"):
            clock[0] += 1
            with live.task("download", "setuptools 80", 2000):
                assert shown(stream) == "  downloading file setuptools 80 · 0 B of 2.0 kB"
                clock[0] += 1
            assert shown(stream) == "  compiling package shop 1.0 · 2 s"

    def test_shows_the_time_of_steps_without_sizes(
        self, live: Terminal, stream: io.StringIO, clock: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(terminal, "_TICK_SECONDS", 0.001)
        with live.task("compile", "shop 1.0"):
            clock[0] += 35
            assert becomes(stream, "  compiling package shop 1.0 · 35 s")
            live.note("something")
            clock[0] += 1
            assert becomes(stream, "  compiling package shop 1.0 · 36 s")

    def test_does_not_show_progress_after_the_end(
        self, live: Terminal, stream: io.StringIO, clock: list[float]
    ) -> None:
        with live.task("download", "a.whl", 2000) as advance:
            live.close()
            clock[0] += 1
            advance(1000)
            assert shown(stream) == ""

    def test_clears_the_live_line_for_lines(
        self, live: Terminal, lines: list[str], stream: io.StringIO, clock: list[float]
    ) -> None:
        with live.task("download", "a.whl", 9_000_000) as advance:
            live.note("something")
            clock[0] += 1
            advance(9_000_000)
        with live.task("layer", "a"):
            pass
        live.close()
        assert lines == ["  something", "  downloaded file a.whl, 9.0 MB in 1.0 s", "  made layer a in 0.0 s"]
        assert shown(stream) == ""

    def test_clears_the_live_line_after_a_failure(self, live: Terminal, lines: list[str], stream: io.StringIO) -> None:
        with pytest.raises(ValueError, match="no"), live.task("download", "a.whl", 2000):
            raise ValueError("no")
        live.close()
        assert (lines, shown(stream)) == ([], "")

    @pytest.mark.parametrize(("columns", "longest"), [(30, 27), (1, 1), (0, 77)])
    def test_fits_the_terminal_with_room_for_an_interrupt(
        self, live: Terminal, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, columns: int, longest: int
    ) -> None:
        monkeypatch.setattr(stream, "fileno", lambda: 2, raising=False)
        monkeypatch.setattr(os, "get_terminal_size", lambda _number: os.terminal_size((columns, 24)))
        with live.task("download", "a long name.whl" * 9, 2000):
            assert len(shown(stream)) <= longest
            assert shown(stream).endswith("…")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (123_456_789, "123 MB"),
        (999_500_000, "1.0 GB"),
        (5_000_000_000_000, "5000 GB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert human(size) == text


@given(st.integers(0, 10**15))
def test_shown_size_is_close_to_the_size(size: int) -> None:
    number, unit = human(size).split()
    value = float(number) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
    assert abs(value - size) <= 0.051 * size
    assert re.fullmatch(r"\d{1,3}(\.\d)? [kM]?B|\d+(\.\d)? GB", human(size))


@given(st.text(alphabet=st.sampled_from("ab\u00e9 \n\r\t\x1b\x07\x7f\x9b\u202e\ud800")))
def test_escapes_control_characters(text: str) -> None:
    lines: list[str] = []
    Terminal(lines.append, None).note(text)
    lines.append(str(HatchDockerError(text, place=text, hint=text)))
    assert all(each.isprintable() or each == "\n" for line in lines for each in line)


def test_keeps_printable_text() -> None:
    text = str(HatchDockerError("no café\n  at all", place="/tmp/a b", hint="→ 1"))
    assert text == "/tmp/a b: no café\n  at all\n  hint: → 1"
    assert str(HatchDockerError("a\x1b[2J")) == r"a\x1b[2J"
