"""Notes of what goes on elsewhere, which later processes find if it did not end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hatch_docker.support.unfinished import NOWHERE, Unfinished

_KILLED = """
import sys, time
from pathlib import Path
from hatch_docker.support.unfinished import Unfinished
with Unfinished(Path(sys.argv[1])).noted("killed"):
    print(flush=True)
    time.sleep(100)
"""


def texts(notes: Unfinished) -> list[str]:
    return sorted(note.text for note in notes.left())


def test_what_ended_leaves_nothing(tmp_path: Path) -> None:
    notes = Unfinished(tmp_path / "a" / "b")
    with notes.noted("one"):
        assert [path.stat().st_mode & 0o777 for path in (tmp_path / "a" / "b").iterdir()] == [0o600]
        assert texts(notes) == []
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_what_failed_is_left_until_it_is_removed(tmp_path: Path) -> None:
    notes = Unfinished(tmp_path)
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), notes.noted(error.__name__):
            raise error
    assert texts(notes) == texts(notes) == ["KeyboardInterrupt", "ValueError"]
    for note in notes.left():
        note.remove()
        note.remove()
    assert texts(notes) == []


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_what_was_killed_is_left(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        notes = Unfinished(tmp_path)
        assert texts(notes) == []
        process.send_signal(signal.SIGKILL)
    assert texts(notes) == ["killed"]


def test_without_a_directory_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for notes in (NOWHERE, Unfinished(tmp_path / "file" / "below")):
        with pytest.raises(ValueError, match="mine"), notes.noted("x"):
            raise ValueError("mine")
        assert texts(notes) == []


def test_files_of_others_are_no_notes(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "bytes").write_bytes(b"\xff\0")
    assert texts(Unfinished(tmp_path)) == ["\ufffd\0"]
