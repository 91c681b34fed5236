"""Temporary directories: removed at the end, and by a later run if their process was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from hatch_docker.support import scratch
from hatch_docker.support.cache import Cache
from hatch_docker.support.scratch import diverted, sweep, temporary_directory, usual_directory


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of temporary files."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def test_is_empty_and_removed_at_the_end(place: Path) -> None:
    with temporary_directory() as path:
        assert path.is_relative_to(place)
        assert not list(path.iterdir())
        (path / "kept").mkdir(mode=0o500)
        sweep()
        assert (path / "kept").is_dir()
    assert not list(place.iterdir())


def test_other_code_s_temporary_files_are_diverted(place: Path) -> None:
    with temporary_directory() as path, diverted(path):
        with tempfile.NamedTemporaryFile() as file, temporary_directory() as ours:
            assert Path(file.name).parent == path
            assert ours.parent.parent == place
            sweep()
            assert ours.is_dir()
        with diverted(path / "deeper"):
            assert usual_directory() == str(place)
    assert tempfile.gettempdir() == usual_directory() == str(place)
    assert not list(place.iterdir())


KILLED = """
import os, signal, sys, tempfile
from hatch_docker.support.scratch import temporary_directory
tempfile.tempdir = sys.argv[1]
with temporary_directory() as path:
    (path / "file").write_text("left")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="there it is not seen whether a process goes on")
def test_next_build_removes_that_of_a_killed_one(place: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(place)], check=False)
    assert len(list(place.glob("hatch-docker-*/files/file"))) == 1
    Cache(tmp_path / "cache").put("kind", "key", {})
    assert not list(place.iterdir())


def test_nothing_else_is_removed(place: Path, tmp_path: Path) -> None:
    (place / "hatch-docker-abcdefgh").mkdir()
    for name in ("hatch-docker-mine", "hatch-docker-0", "other-abcdefgh"):
        (place / name).mkdir()
        (place / name / ".hatch-docker.lock").touch()
    (tmp_path / ".hatch-docker.lock").touch()
    (place / "hatch-docker-linklink").symlink_to(tmp_path)
    (place / "hatch-docker-lockfile").mkdir()
    (place / "hatch-docker-lockfile" / ".hatch-docker.lock").symlink_to(tmp_path / ".hatch-docker.lock")
    before = sorted(place.rglob("*"))
    sweep()
    assert sorted(place.rglob("*")) == before
    assert (tmp_path / ".hatch-docker.lock").exists()


def test_without_locks_it_is_removed_after_a_day(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "try_lock", lambda _: None)
    for name in ("hatch-docker-old_old_", "hatch-docker-youngone"):
        (place / name).mkdir()
        (place / name / ".hatch-docker.lock").touch()
    os.utime(place / "hatch-docker-old_old_", (time.time() - 30 * 3600,) * 2)
    sweep()
    assert [path.name for path in place.iterdir()] == ["hatch-docker-youngone"]
