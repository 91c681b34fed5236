from __future__ import annotations

import errno
import fcntl
import io
import itertools
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.errors import HatchDockerError
from hatch_docker.support import terminal
from hatch_docker.support.logs import last_line, logging_to
from hatch_docker.support.steps import Rate, RunningTask
from hatch_docker.support.terminal import ProgressMode, Terminal, human, live_stream


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


class Screen:
    """What a terminal shows, for the control sequences that rich uses."""

    def __init__(self) -> None:
        self._lines = [""]
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n\x1b]|[^\x1b\r\n]+", text):
            if part == "\n":
                self._row, self._column = self._row + 1, 0
                self._lines += [""] * (self._row + 1 - len(self._lines))
            elif part == "\r":
                self._column = 0
            elif part == "\x1b[1A":
                self._row -= 1
                assert self._row >= 0
            elif part == "\x1b[2K":
                self._lines[self._row] = ""
            elif part.startswith("\x1b"):
                assert re.fullmatch(r"\x1b\[(\?25h|[0-9;]*m)", part), part
            else:
                line, start = self._lines[self._row], self._column
                self._column += len(part)
                self._lines[self._row] = line[:start].ljust(start) + part + line[self._column :]

    @property
    def lines(self) -> list[str]:
        """The lines with text; the spinner is an asterisk."""
        return [re.sub("[\u2800-\u28ff]", "*", line).rstrip() for line in [*self._lines] if line.strip()]


def screen(text: str) -> list[str]:
    """The lines that a terminal shows after `text`."""
    shown = Screen()
    shown.feed(text)
    return shown.lines


def wait_for(condition: Callable[[], bool]) -> bool:
    """Whether the condition holds within a minute."""
    for _ in range(6000):
        if condition():
            return True
        time.sleep(0.01)
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
            assert lines == ["  downloading big.whl (12.3 MB)"]
        with plain.task("load", "shop:1.0", 5_000_000):
            assert lines[2:] == ["  loading shop:1.0 (5.0 MB)"]

    def test_does_not_report_a_failed_task_as_finished(self, plain: Terminal, lines: list[str]) -> None:
        with pytest.raises(KeyError), plain.task("download", "big.whl", 12_345_678):
            raise KeyError
        plain.close()
        assert lines == ["  downloading big.whl (12.3 MB)"]
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

    def test_shows_a_report_after_the_steps(self, plain: Terminal, lines: list[str], clock: list[float]) -> None:
        with plain.task("resolve", "3 requirements"):
            pass
        plain.show(["", "a  report"])
        assert lines == ["  resolved 3 requirements in 0.0 s", "", "a  report"]

    def test_goes_on_if_lines_cannot_be_printed(self) -> None:
        def refused(text: str) -> None:
            raise BrokenPipeError

        plain = Terminal(refused, None)
        with plain.task("download", "big.whl", 12_345_678):
            plain.note("something")
        plain.warn("something")
        plain.show(["a report"])

    def test_notes(self, plain: Terminal, lines: list[str]) -> None:
        plain.note("lock: pylock.toml")
        assert lines == ["  lock: pylock.toml"]

    def test_each_note_and_warning_once(self, plain: Terminal, lines: list[str]) -> None:
        for _ in range(2):
            plain.note("a")
            plain.warn("a")
        plain.note("b")
        assert lines == ["  a", "  warning: a", "  b"]

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


class Tty(io.StringIO):
    """A terminal that is drawn on."""

    def __init__(self) -> None:
        super().__init__()
        self.screen = Screen()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.screen.feed(text)
        return super().write(text)

    def shows(self, *expected: str) -> bool:
        """Whether it shows these lines within a minute."""
        wait_for(lambda: self.screen.lines == [*expected])
        assert self.screen.lines == [*expected]
        return True


class TestLive:
    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(terminal, "_REDRAW_SECONDS", 0.01)
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in (("TERM", "xterm"), ("COLUMNS", "103"), ("LINES", "24")):
            monkeypatch.setenv(name, value)

    @pytest.fixture
    def stream(self) -> Tty:
        return Tty()

    @pytest.fixture
    def live(self, stream: Tty) -> Iterator[Terminal]:
        live = Terminal(lambda line: print(line, file=stream), stream)
        yield live
        live.close()

    def test_draws_nothing_for_what_takes_less_than_a_second(
        self, live: Terminal, stream: Tty, clock: list[float]
    ) -> None:
        for _ in range(3):
            with live.task("resolve", "3 requirements"), live.task("download", "a.whl", 2000) as advance:
                clock[0] += 0.9
                advance(2000)
                time.sleep(0.05)
                assert "\x1b" not in stream.getvalue()
        live.close()
        assert "\x1b" not in stream.getvalue()

    def test_shows_bar_rate_and_time_left(self, live: Terminal, stream: Tty, clock: list[float]) -> None:
        with live.task("download", "a.whl", 10_000_000) as advance:
            advance(2_500_000)
            clock[0] += 5
            left = "  * downloading a.whl  ━━━━━━╺━━━━━━━━━━━━━━━━━"
            assert stream.shows(f"{left}   2.5/10.0 MB   500 kB/s  0:15 left")
            advance(7_500_000)
            left = "  * downloading a.whl  ━━━━━━━━━━━━━━━━━━━━━━━━"
            assert stream.shows(f"{left}  10.0/10.0 MB   2.0 MB/s  0:05")

    def test_shows_several_tasks_of_a_step_and_the_step(self, live: Terminal, stream: Tty, clock: list[float]) -> None:
        with live.task("download", "a.whl", 2000), live.task("download", "b.whl", 4000) as advance:
            advance(1000)
            clock[0] += 1
            with live.task("download", "new.whl", 1):
                assert stream.shows(
                    "  * downloading files  0:01  1.0 kB  1.0 kB/s",
                    "      a.whl            ━━━━━━━━━━━━━━━━━━━━━━━━    0.0/2.0 kB             0:01",
                    "      b.whl            ━━━━━━╺━━━━━━━━━━━━━━━━━    1.0/4.0 kB   1.0 kB/s  0:03 left",
                )

    def test_shows_a_step_of_many_short_tasks(self, live: Terminal, stream: Tty, clock: list[float]) -> None:
        for number in range(24):
            with live.task("look up", f"package {number}"):
                clock[0] += 0.125
        assert stream.shows("  * looking up packages, 24 done  0:03")
        clock[0] += 1
        assert stream.shows()

    def test_shows_the_last_line_of_output(self, live: Terminal, stream: Tty, clock: list[float]) -> None:
        with live.task("compile", "shop 1.0") as task:
            clock[0] += 75
            assert stream.shows("  * compiling shop 1.0  1:15")
            task.output(b"gcc a.c\n\x1b[1;31mgcc\x1b[0m b.c\r\n")
            assert stream.shows("  * compiling shop 1.0  1:15  gcc b.c")
            task.output(b"x" * 500 + b"\n\n")
            assert stream.shows("  * compiling shop 1.0  1:15  " + "x" * 69 + "…")

    def test_shows_what_waits_and_what_it_waits_for(self, live: Terminal, stream: Tty, clock: list[float]) -> None:
        with live.task("compile", "shop 1.0"):
            with live.task("fetch", "sources"):
                clock[0] += 2
                assert stream.shows("  * compiling shop 1.0  0:02", "  * fetching sources    0:02")
            assert stream.shows("  * compiling shop 1.0  0:02")

    def test_prints_lines_above(self, live: Terminal, stream: Tty, clock: list[float]) -> None:
        with live.task("download", "a.whl") as advance:
            clock[0] += 7200
            assert stream.shows("  * downloading a.whl  2.0 h")
            live.note("something")
            assert stream.screen.lines == ["  something", "  * downloading a.whl  2.0 h"]
            advance(9_000_000)
            live.warn("bad")
        assert stream.shows("  something", "  warning: bad")
        live.close()
        assert stream.screen.lines == [
            "  something",
            "  warning: bad",
            "  downloaded file a.whl, 9.0 MB in 7200.0 s",
        ]
        # Who kills or suspends the process would not get a hidden cursor back.
        assert "\x1b[?25l" not in stream.getvalue()

    def test_clears_the_area_after_a_failure(self, live: Terminal, stream: Tty, clock: list[float]) -> None:
        def fail() -> None:
            with live.task("resolve", "3 requirements"):
                clock[0] += 1
                assert stream.shows("  * resolving 3 requirements  0:01")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail()
        live.close()
        assert stream.screen.lines == []

    def test_does_not_draw_after_the_end(self, live: Terminal, stream: Tty, clock: list[float]) -> None:
        with live.task("download", "a.whl", 2000) as advance:
            clock[0] += 1
            assert wait_for(lambda: stream.screen.lines != [])
            live.close()
            # Abandoned threads may still run for a moment.
            advance(1000)
            time.sleep(0.05)
            assert stream.screen.lines == []
        with live.task("resolve", "again"):
            clock[0] += 1
            assert stream.shows("  * resolving again  0:01")
        live.close()

    def test_draws_again_after_a_pause(self, live: Terminal, stream: Tty, clock: list[float]) -> None:
        for number in range(3):
            with live.task("resolve", str(number)):
                clock[0] += 1
                earlier = [[f"  resolved {each} in 1.0 s", f"  next {each}"] for each in range(number)]
                assert stream.shows(*itertools.chain(*earlier), f"  * resolving {number}  0:01")
            live.note(f"next {number}")
            threads = [thread for thread in threading.enumerate() if thread.name == "progress"]
            assert wait_for(lambda ended=threads: not any(thread.is_alive() for thread in ended))  # type: ignore[misc]

    @pytest.mark.parametrize(("columns", "rows"), [(1, 1), (4, 2), (20, 3), (52, 6), (80, 24), (250, 60)])
    def test_fits_the_terminal(
        self, live: Terminal, stream: Tty, clock: list[float], monkeypatch: pytest.MonkeyPatch, columns: int, rows: int
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", str(rows))
        with ExitStack() as tasks:
            for step in ("download", "compile"):
                for number in range(20):
                    total = 5_000_000_000 if step == "download" else 0
                    task = tasks.enter_context(live.task(step, f"{number} " + "long name" * 9, total))
                    task(4_000_000_000)
                    task.output(b"word " * 99)
            clock[0] += 1
            assert wait_for(lambda: "\x1b" in stream.getvalue())
            if columns >= 80:
                assert wait_for(lambda: stream.screen.lines[-1:] == ["      and 35 more"])
            else:
                time.sleep(0.05)
            shown = stream.screen.lines or [""]
        # What the terminal echoes for an interrupt must not wrap, and the line above the area stays visible.
        assert max(map(len, shown)) <= max(columns - 3, 1)
        assert len(shown) <= max(min(rows - 1, 8), 1)
        if columns >= 80:
            assert shown[0].startswith("  * downloading files ")
            assert shown[4].startswith("  * compiling packages ")

    def test_shows_names_as_they_are(self, live: Terminal, stream: Tty, clock: list[float]) -> None:
        with live.task("resolve", "a\n\x1b[2J[red]b[/red] :smile:"):
            clock[0] += 1
            assert stream.shows(r"  * resolving a \x1b[2J[red]b[/red] :smile:  0:01")

    @pytest.mark.parametrize("no_color", ["", "1"])
    def test_no_color(
        self, live: Terminal, stream: Tty, clock: list[float], monkeypatch: pytest.MonkeyPatch, no_color: str
    ) -> None:
        if no_color:
            monkeypatch.setenv("NO_COLOR", no_color)
        with live.task("download", "a.whl", 2000) as advance:
            advance(1000)
            clock[0] += 1
            assert wait_for(lambda: "0:01 left" in stream.getvalue())
        assert bool(re.search(r"\x1b\[[0-9;]*[34][0-9]", stream.getvalue())) == (not no_color)

    def test_draws_in_ascii_if_the_terminal_is_not_unicode(self, clock: list[float]) -> None:
        class Ascii(io.TextIOWrapper):
            def isatty(self) -> bool:
                return True

        drawn = io.BytesIO()
        live = Terminal(lambda line: None, Ascii(drawn, encoding="ascii", errors="strict"))
        with live.task("download", "a.whl", 2000) as advance:
            advance(1000)
            clock[0] += 1
            assert wait_for(lambda: b"0:01 left" in drawn.getvalue())

    def test_goes_on_if_the_terminal_is_closed(self, clock: list[float]) -> None:
        class Closed(Tty):
            closed_now = False

            def write(self, text: str) -> int:
                if self.closed_now:
                    raise OSError(errno.EIO, "Input/output error")
                return super().write(text)

        stream = Closed()
        live = Terminal(lambda line: print(line, file=stream), stream)
        with live.task("download", "a.whl", 2000) as advance:
            clock[0] += 1
            assert wait_for(lambda: stream.screen.lines != [])
            stream.closed_now = True
            live.note("something")
            advance(2000)
            time.sleep(0.05)
        live.warn("something")
        live.close()


class Run:
    """A program on a terminal of its own: standard input and standard error; standard output is a pipe."""

    def __init__(
        self, program: str, environ: Mapping[str, str] | None = None, size: tuple[int, int] = (80, 24)
    ) -> None:
        self.master, slave = pty.openpty()
        self.resize(*size)
        self.drawn = b""
        code = f"from hatch_docker.support.terminal import *\nimport os, sys, time\n{textwrap.dedent(program)}"
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=slave,
            env={**inherited, "TERM": "xterm", **(environ or {})},
            preexec_fn=_own_terminal,
        )
        os.close(slave)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, until: bytes = b"") -> str:
        """What it draws from now on, until there is `until`, or until it ends."""
        drawn, end = b"", time.time() + 60
        while time.time() < end and not (until and until in drawn):
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    data = os.read(self.master, 1 << 16)
                except OSError:
                    break
                if not data:
                    break
                drawn += data
        self.drawn += drawn
        return drawn.decode()

    def draws(self, expected: Callable[[list[str]], bool]) -> bool:
        """Whether its screen becomes what is expected before it ends."""
        while self.read(b"word"):
            if expected(self.screen):
                return True
        return False

    def end(self) -> tuple[int, str]:
        """Its exit status and standard output."""
        output, _ = self.process.communicate(timeout=60)
        with suppress(OSError):
            os.close(self.master)
        return self.process.returncode, output.decode()

    @property
    def screen(self) -> list[str]:
        return screen(self.drawn.decode())


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


_BUILD = """
shown = Terminal(lambda line: print(line, file=sys.stderr), live_stream("auto", sys.stderr, os.environ))
try:
    with shown.task("compile", "shop 1.0") as task:
        for number in range({tenths}):
            task.output(b"word " * 90)
            time.sleep(0.1)
except KeyboardInterrupt:
    pass
shown.close()
print("the result", "rich" in sys.modules)
"""


class TestRealTerminal:
    def test_short_builds_do_not_import_rich(self) -> None:
        run = Run("import hatch_docker.session\ntime.monotonic = lambda: 0.0" + _BUILD.format(tenths=5))
        run.read()
        assert run.end() == (0, "the result False\n")
        assert run.screen == ["  compiled package shop 1.0 in 0.0 s"]
        assert b"\x1b" not in run.drawn

    def test_follows_the_size(self) -> None:
        run = Run(_BUILD.format(tenths=600))
        assert run.draws(lambda lines: max(map(len, lines)) == 77)
        run.resize(40, 10)
        assert run.draws(lambda lines: max(map(len, lines)) == 37)
        os.write(run.master, b"\x03")
        run.read()
        assert run.end() == (0, "the result True\n")

    def test_interrupt(self) -> None:
        run = Run(_BUILD.format(tenths=600))
        run.read(b"word")
        os.write(run.master, b"\x03")
        run.read()
        assert run.end() == (0, "the result True\n")
        assert run.screen == []
        assert b"?25l" not in run.drawn

    def test_closed(self) -> None:
        run = Run("import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)" + _BUILD.format(tenths=20))
        run.read(b"word")
        os.close(run.master)
        output = run.end()[1]
        assert output == "the result True\n"

    def test_terminal_without_a_cursor(self) -> None:
        run = Run(_BUILD.format(tenths=12), {"TERM": "dumb"})
        run.read()
        assert run.end() == (0, "the result False\n")
        assert b"\x1b" not in run.drawn


class TestLiveStream:
    @pytest.mark.parametrize(
        ("mode", "stream", "environ", "is_live"),
        [
            ("auto", Tty(), {}, True),
            ("auto", Tty(), {"TERM": "xterm"}, True),
            ("auto", Tty(), {"TERM": "dumb"}, False),
            ("auto", Tty(), {"TERM": "unknown"}, False),
            ("auto", io.StringIO(), {"FORCE_COLOR": "1"}, False),
            ("auto", None, {}, False),
            ("tty", Tty(), {}, True),
            ("plain", Tty(), {}, False),
            ("quiet", Tty(), {}, False),
            ("plain", io.StringIO(), {}, False),
        ],
    )
    def test_modes(
        self, mode: ProgressMode, stream: io.StringIO | None, environ: Mapping[str, str], is_live: bool
    ) -> None:
        assert live_stream(mode, stream, environ) is (stream if is_live else None)

    def test_closed_stream(self) -> None:
        stream = io.StringIO()
        stream.close()
        assert live_stream("auto", stream, {}) is None

    @pytest.mark.parametrize(
        ("stream", "environ", "why"),
        [
            (io.StringIO(), {"TERM": "xterm"}, "it is not a terminal"),
            (None, {}, "it is not a terminal"),
            (Tty(), {"TERM": "dumb"}, "TERM is dumb"),
        ],
    )
    def test_tty_needs_a_terminal(self, stream: io.StringIO | None, environ: Mapping[str, str], why: str) -> None:
        with pytest.raises(HatchDockerError, match=why) as raised:
            live_stream("tty", stream, environ)
        assert "--progress=plain" in raised.value.hint


class TestRate:
    @given(st.integers(1, 10**9), st.lists(st.floats(0.01, 5), min_size=1, max_size=200))
    def test_of_a_steady_task_is_its_speed(self, speed: int, waits: Sequence[float]) -> None:
        rate, now = Rate(0.0), 0.0
        for wait in waits:
            now += wait
            assert rate.at(now, int(speed * now)) == pytest.approx(speed, rel=0.01, abs=200)

    def test_forgets_what_is_long_ago(self) -> None:
        rate = Rate(0.0)
        for second in range(1, 31):
            rate.at(second, min(second, 10) * 100)
        assert rate.at(30, 1000) == 0

    def test_is_never_negative(self) -> None:
        rate = Rate(0.0)
        rate.at(1, 500)
        rate.at(11, 500)
        assert rate.at(12, 100) == 0

    def test_is_unknown_at_first(self) -> None:
        assert Rate(1.0).at(1.0, 5) == 0


class TestOutput:
    @pytest.mark.parametrize(
        ("output", "line"),
        [
            (b"", ""),
            (b"\n\r\n", ""),
            (b"one\ntwo", "two"),
            (b"one\ntwo\r\n\n", "two"),
            (b"10%\r20%\r30%\r", "30%"),
            (b"\x1b[1m\x1b[32m   Compiling\x1b[0m shop\x1b[K\n", "Compiling shop"),
            (b"\x1b]0;title\x07gcc \x1b]8;;http://a\x1b\\x.c\x1b]8;;\x1b\\\n", "gcc x.c"),
            (b"one\n\x1b[2K\x1b(B", "one"),
            (b"one\x1b[3", "one"),
            (b"caf\xc3\xa9 caf\xc3", "café caf"),
            (b"bell\x07 tab\t  \xc2\x9b2J", r"bell\x07 tab \x9b2J"),
            (b"a.c:7: warning\n  7 |  int x;\n    |      ^~~\n", "7 | int x;"),
            (b"get https://user:secret@host.example/a", "get https://host.example/a"),
        ],
    )
    def test_last_line(self, output: bytes, line: str) -> None:
        assert last_line(output) == line

    @given(st.binary() | st.text("a\x1b[]m0;\r\n\x07\\ (B\u202e", max_size=60).map(str.encode))
    def test_last_line_is_printable(self, output: bytes) -> None:
        assert last_line(output).isprintable()

    @given(st.integers(0, 9000), st.integers(1, 5000))
    def test_never_shows_logins(self, before: int, size: int) -> None:
        task = RunningTask("shop", 0, 0.0)
        output = b"x " * (before // 2) + b"y" * 4000 + b" http://user:" + b"secret" * 50 + b"@host.example/ end"
        for start in range(0, len(output), size):
            task.output(output[start : start + size])
        assert last_line(task.tail).endswith("http://host.example/ end")
        assert "secret" not in last_line(task.tail)

    def test_keeps_the_end_only(self) -> None:
        task = RunningTask("shop", 0, 0.0)
        for _ in range(100):
            task.output(b"z" * 100_000)
            assert len(task.tail) <= 4096
        task.output(b"\nlast\n")
        assert last_line(task.tail) == "last"

    def test_logs_are_followed(self, tmp_path: Path) -> None:
        task = RunningTask("shop", 0, 0.0)
        with logging_to(tmp_path / "log", task.output) as log:
            log.write(b"one\n")
            log.write(b"two\n")
        assert last_line(task.tail) == "two"
        assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"

    @pytest.mark.skipif(os.name == "nt", reason="there it is not seen who writes a file")
    def test_two_builds_have_logs_of_their_own(self, tmp_path: Path) -> None:
        with logging_to(tmp_path / "six.log") as first, logging_to(tmp_path / "six.log") as second:
            first.write(b"one")
            second.write(b"two")
            assert [first.path.name, second.path.name] == ["six.log", "six.2.log"]
        assert [each.path.read_bytes() for each in (first, second)] == [b"one", b"two"]
        (tmp_path / "elsewhere").write_text("kept")
        first.path.unlink()
        first.path.symlink_to(tmp_path / "elsewhere")
        with logging_to(tmp_path / "six.log") as third:
            assert third.path == first.path
        assert (tmp_path / "elsewhere").read_text() == "kept"


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
