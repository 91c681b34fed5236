"""Ctrl-C at any moment ends the command without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

# Runs the console script in child processes, each of which interrupts itself at another import.
STARTS = """
import os, signal, sys

def run(moment, log):
    events = 0
    def audit(event, _arguments):
        nonlocal events
        if event == "import":
            events += 1
            if events == moment:
                os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["hatch-docker", "build", "-q"]
    import importlib.metadata
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="hatch-docker")
    import _signal
    # The packages around the module that begins.
    import hatch_docker.frontends.cli
    sys.addaudithook(audit)
    sys.exit(script.load()())

for moment in map(int, sys.argv[2:]):
    child = os.fork()
    if child == 0:
        run(moment, os.path.join(sys.argv[1], str(moment)))
    print(moment, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_interrupted_while_modules_are_imported(tmp_path: Path) -> None:
    # Until `start` has imported `_signal`, it is Python that is starting.
    moments = [3, 20, 60, 160, 300, 10**6]
    logs = tmp_path / "logs"
    logs.mkdir()
    command = [sys.executable, "-c", STARTS, str(logs), *map(str, moments)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    ends = {int(moment): int(status) for moment, status in map(str.split, done.stdout.splitlines())}
    shown = {moment: (logs / str(moment)).read_text() for moment in moments}
    assert not {moment: text for moment, text in shown.items() if "Traceback" in text or "KeyboardInterrupt" in text}
    # Ended by the signal, then with a message; at last there was no such moment, and no project in that directory.
    assert ends[3] == -2
    assert 130 in ends.values()
    assert all(shown[moment] == "interrupted\n" for moment in moments if ends[moment] == 130)
    assert (ends[10**6], set(ends.values())) == (1, {-2, 130, 1})


BLOCK = """
import os, signal, sys, time
from hatch_docker.frontends.cli.signals import ended_by_signals
with ended_by_signals():
    try:
        BODY
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        try:
            AFTER
        finally:
            print("cleaned up", flush=True)
        sys.exit(130)
"""
SEND = "os.kill(os.getpid(), signal.SIGINT)"


def run(body: str, after: str = "pass") -> tuple[int, str, str]:
    code = BLOCK.replace("BODY", body).replace("AFTER", after)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_second_interrupt_does_not_stop_the_cleaning_up() -> None:
    assert run(SEND, SEND) == (130, "interrupted\ncleaned up\n", "")


def test_later_interrupt_ends_it_at_once() -> None:
    later = f"import hatch_docker.frontends.cli.signals as s; s._SAME_SECONDS = -1; {SEND}"
    assert run(SEND, later) == (-2, "interrupted\n", "")


def test_interrupt_that_python_cannot_raise_is_not_lost() -> None:
    lost = f'type("Lost", (), dict(__del__=lambda self: {SEND}))(); time.sleep(60)'
    assert run(lost) == (130, "interrupted\ncleaned up\n", "")


def test_ignored_signals_stay_ignored() -> None:
    ignoring = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code = BLOCK.replace("with ended", f"{ignoring}with ended").replace("BODY", SEND).replace("AFTER", "pass")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_interrupted_while_a_class_is_made(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from hatch_docker.frontends.cli import main

class Name:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.SIGINT)

def read_build(arguments):
    class Owner:
        name = Name()

signal.signal(signal.SIGINT, signal.default_int_handler)
main.read_build = read_build
main.main(["build"])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
