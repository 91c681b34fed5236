from __future__ import annotations

import errno
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest

from hatch_docker.errors import OutputError
from hatch_docker.support import atomic
from hatch_docker.support.atomic import replacing, writable, writing


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class TestReplacing:
    def test_file_appears_when_it_is_complete(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "folder" / "file.tar"
        with replacing(path) as file:
            file.write(b"half")
            file.flush()
            assert not path.exists()
            assert len(names(path.parent)) == 1
            file.write(b" whole")
        assert path.read_text() == "half whole"
        assert names(path.parent) == ["file.tar"]

    @pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
    def test_failure_leaves_the_old_file_and_nothing_else(self, tmp_path: Path, error: BaseException) -> None:
        path = tmp_path / "file"
        path.write_text("old")

        def fail() -> None:
            with replacing(path) as file:
                file.write(b"half")
                raise error

        with pytest.raises(type(error)):
            fail()
        assert path.read_text() == "old"
        assert names(tmp_path) == ["file"]

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_full_disk_is_an_error_of_the_file_that_is_written(self, tmp_path: Path) -> None:
        for file in (writable(Path("/dev/full"), tmp_path), writable(os.open("/dev/full", os.O_WRONLY), tmp_path)):
            file.write(b"x")
            with pytest.raises(OutputError, match="No space left on device") as caught:
                file.close()
            assert caught.value.place == str(tmp_path)
            assert file.closed

    @pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
    def test_new_file_has_the_umasks_mode(self, tmp_path: Path) -> None:
        (tmp_path / "other").touch()
        with replacing(tmp_path / "file"):
            pass
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        assert len(modes) == 1

    @pytest.mark.skipif(os.name != "posix", reason="Windows itself refuses")
    def test_flushes_as_windows_requires(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import fcntl

        flushed = []

        def fsync(handle: int) -> None:
            if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            flushed.append(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        with replacing(tmp_path / "file") as file:
            file.write(b"whole")
        assert (tmp_path / "file").read_text() == "whole"
        assert flushed

    def test_one_of_several_concurrent_writers_wins(self, tmp_path: Path) -> None:
        path = tmp_path / "file"

        def write(number: int) -> None:
            with replacing(path) as file:
                file.write(f"{number:02}".encode() * 5000)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(40)))
        text = path.read_text()
        assert text == text[:2] * 5000
        assert names(tmp_path) == ["file"]

    @pytest.mark.skipif(os.name == "nt", reason="there it is not seen who writes a file")
    def test_a_file_that_is_made_again_meanwhile_stays(self, tmp_path: Path) -> None:
        left = tmp_path / f".file.hatch-docker-{32 * '0'}"
        left.touch()

        def lock(_descriptor: int) -> bool:
            # Another process removed it, and its writer has not noticed the lock of that one.
            left.unlink()
            left.write_text("again")
            return True

        with mock.patch("hatch_docker.support.atomic.try_lock", lock):
            atomic._remove_free(left)
        assert left.read_text() == "again"

    @pytest.mark.skipif(os.name == "nt", reason="there it is not seen who writes a file")
    def test_removes_files_of_killed_processes(self, tmp_path: Path) -> None:
        with replacing(tmp_path / "file"):
            (written,) = names(tmp_path)
            ours = written.removeprefix(".file.")[:-2]
            left = [f".file.{ours}00", f".other-1.0.docker.tar.{ours}11"]
            others = [f"file.{ours}00", f"{ours}00", ".file.sha256", f".file.{ours}00.txt", f"..{ours}00.d"]
            for name in [*left, *others]:
                (tmp_path / name).touch()
            (tmp_path / "elsewhere").write_text("kept")
            (tmp_path / f".link.{ours}00").symlink_to(tmp_path / "elsewhere")
            (tmp_path / f".folder.{ours}00").mkdir()
            with replacing(tmp_path / "another"):
                pass
            assert written in names(tmp_path)
        kept = ["another", "elsewhere", "file", f".link.{ours}00", f".folder.{ours}00", *others]
        assert names(tmp_path) == sorted(kept)

    def test_without_locks_they_are_removed_after_a_day(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(atomic, "try_lock", lambda _: None)
        with replacing(tmp_path / "file"):
            (name,) = names(tmp_path)
        old, young = f"{name[:-2]}00", f"{name[:-2]}11"
        for each in (old, young):
            (tmp_path / each).touch()
            os.utime(tmp_path / each, (time.time() - (1 if each == young else 30) * 3600,) * 2)
        with replacing(tmp_path / "file"):
            pass
        assert names(tmp_path) == sorted([young, "file"])


class TestRefusals:
    def test_directory_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "dist").touch()
        with pytest.raises(OutputError, match="cannot write") as caught, replacing(tmp_path / "dist" / "file"):
            pass
        assert caught.value.place == str(tmp_path / "dist" / "file")

    def test_directory_at_the_files_path(self, tmp_path: Path) -> None:
        (tmp_path / "file").mkdir()
        with pytest.raises(OutputError, match="cannot write"), replacing(tmp_path / "file"):
            pass
        assert names(tmp_path) == ["file"]

    @pytest.mark.parametrize(
        ("number", "hint"),
        [
            (errno.ENOSPC, "the disk is full: free some space, or go elsewhere"),
            (errno.EACCES, "check the permissions of that directory, or go elsewhere"),
            (errno.EROFS, "that file system is read-only, or go elsewhere"),
            (errno.EIO, "go elsewhere"),
        ],
    )
    def test_each_error_has_a_hint(self, number: int, hint: str) -> None:
        with pytest.raises(OutputError) as caught, writing(Path("place"), otherwise="go elsewhere"):
            raise OSError(number, os.strerror(number))
        assert caught.value.message == f"cannot write: {os.strerror(number)}"
        assert caught.value.place == "place"
        assert caught.value.hint == hint

    def test_other_errors_are_not_translated(self) -> None:
        with pytest.raises(ValueError, match="other"), writing(Path("place")):
            raise ValueError("other")
