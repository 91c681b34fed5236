"""Where files of a user go who has no name, no home, or a home that cannot be written to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from builds import Bench, archive_of, build, environment, read
from services_maker import make_host, make_services

from hatch_docker.config import OSPackages, Settings
from hatch_docker.errors import OutputError
from hatch_docker.services import open_services, this_host
from hatch_docker.support.directories import NO_HOME, cache_directory, home_directory, private_directory, uv_environment
from hatch_docker.support.progress import Progress

UID = 12345

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no uids")
pytestmark = posix_only


class Warnings(Progress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files, in which nothing is yet."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user is not in passwd, and the variables that name a home or directories in it are not set."""

    def missing(uid: object) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", missing)
    monkeypatch.setattr("pwd.getpwnam", missing)
    for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "UV_CACHE_DIR", "UV_NO_CACHE"):
        monkeypatch.delenv(name, raising=False)


def own_of(temporary: Path) -> Path:
    return temporary / f"hatch-docker-{os.getuid()}"


class TestHome:
    def test_is_the_users(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        assert home_directory() == tmp_path

    @pytest.mark.usefixtures("nameless")
    def test_is_one_that_does_not_exist_without_a_name(self) -> None:
        assert home_directory() == this_host().home == NO_HOME
        assert not NO_HOME.exists()


class TestCache:
    def test_is_the_usual_directory_if_it_can_be_made(self, tmp_path: Path, temporary: Path) -> None:
        (tmp_path / "there").mkdir()
        warnings = Warnings()
        for usual in (tmp_path / "there", tmp_path / "a" / "b"):
            assert cache_directory(usual, warnings) == usual
        assert warnings.texts == [] == list(temporary.iterdir())

    @pytest.mark.usefixtures("nameless")
    def test_is_a_temporary_one_of_the_user_without_a_home(
        self, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        usual, warnings = this_host().cache_dir, Warnings()
        found = cache_directory(usual, warnings)
        assert found == own_of(temporary) / "cache"
        assert own_of(temporary).stat().st_mode & 0o7777 == 0o700
        (warning,) = warnings.texts
        assert str(found) in warning
        assert "HATCH_DOCKER_CACHE_DIR" in warning
        assert cache_directory(usual, warnings) == found
        assert [path.name for path in tmp_path.iterdir()] == ["temporary"]  # and no directory "~"

    def test_is_a_temporary_one_if_the_usual_cannot_be_made(self, tmp_path: Path, temporary: Path) -> None:
        (tmp_path / "file").touch()
        assert cache_directory(tmp_path / "file" / "cache", Progress()) == own_of(temporary) / "cache"

    def test_is_the_one_that_is_named(self, tmp_path: Path, temporary: Path) -> None:
        (tmp_path / "file").touch()
        warnings = Warnings()
        settings = Settings(cache_dir=str(tmp_path / "named"))
        assert make_services(tmp_path / "file", settings, progress=warnings).cache.root == tmp_path / "named"
        assert warnings.texts == []
        assert make_services(tmp_path / "file", progress=warnings).cache.root == own_of(temporary) / "cache"
        assert len(warnings.texts) == 1

    @pytest.mark.parametrize("kind", ["link", "file", "open", "shared"])
    def test_never_is_a_directory_of_others(self, tmp_path: Path, temporary: Path, kind: str) -> None:
        path = own_of(temporary)
        if kind == "link":
            (tmp_path / "target").mkdir(mode=0o700)
            path.symlink_to(tmp_path / "target")
        elif kind == "file":
            path.touch(mode=0o600)
        else:
            path.mkdir()
            path.chmod({"open": 0o777, "shared": 0o750}[kind])
        with pytest.raises(OutputError, match="not a directory of this user alone") as caught:
            private_directory()
        assert caught.value.place == str(path)
        assert "HATCH_DOCKER_CACHE_DIR" in (caught.value.hint or "")

    @pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give directories away")
    def test_never_is_a_directory_of_another_user(self, temporary: Path) -> None:
        own_of(temporary).mkdir(mode=0o700)
        os.chown(own_of(temporary), UID, UID)
        with pytest.raises(OutputError, match="not a directory of this user alone"):
            private_directory()

    def test_no_directory_for_temporary_files_is_an_error(
        self, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        temporary.rmdir()
        with pytest.raises(OutputError, match="cannot write"):
            private_directory()


class TestUv:
    def test_has_its_own_cache_if_it_can_make_it(self, tmp_path: Path, temporary: Path) -> None:
        (tmp_path / "file").touch()
        nowhere = str(tmp_path / "file" / "x")
        for environ in ({}, {"UV_CACHE_DIR": nowhere}, {"UV_NO_CACHE": "1"}):
            assert uv_environment(environ, tmp_path) is environ
        assert uv_environment({"XDG_CACHE_HOME": str(tmp_path)}, NO_HOME) == {"XDG_CACHE_HOME": str(tmp_path)}
        assert list(temporary.iterdir()) == []

    def test_has_a_temporary_one_otherwise(self, tmp_path: Path, temporary: Path) -> None:
        (tmp_path / "file").touch()
        expected = {"A": "1", "UV_CACHE_DIR": str(own_of(temporary) / "uv")}
        assert uv_environment({"A": "1"}, tmp_path / "file") == expected

    def test_gets_it_from_the_services(self, tmp_path: Path, temporary: Path) -> None:
        (tmp_path / "file").touch()
        host = make_host(tmp_path / "file")
        services = open_services(
            Settings(cache_dir=str(tmp_path / "named")),
            host,
            root=tmp_path,
            index_url="",
            debian=OSPackages(),
            progress=Progress(),
        )
        assert services.host.environ["UV_CACHE_DIR"] == str(own_of(temporary) / "uv")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "bench").mkdir()
    return Bench(tmp_path / "bench")


@pytest.mark.usefixtures("nameless")
def test_build_of_a_user_without_name_and_home(bench: Bench, temporary: Path) -> None:
    project = bench.project(wheels=[bench.wheel("alpha")])
    outcome = bench.build(project)
    assert outcome.code == 0, outcome.err
    for home in ({}, {"HOME": "/nonexistent/home"}):
        env = {**environment(bench.cache), **home}
        for name in ("HATCH_DOCKER_CACHE_DIR", "USERPROFILE", *(() if home else ("HOME",))):
            del env[name]
        again = build(project, env=env)
        assert again.code == 0, again.err
        assert again.err.count("HATCH_DOCKER_CACHE_DIR") == 1
        assert again.out == outcome.out
    assert (own_of(temporary) / "cache" / "CACHEDIR.TAG").is_file()
    assert read(archive_of(project)).contents
    assert not (project / "~").exists()


@pytest.fixture
def visible() -> Iterator[Path]:
    """A directory that every user can write to."""
    folder = Path(tempfile.mkdtemp(prefix="hatch-docker-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can become another user")
def test_home_that_only_others_can_look_into(visible: Path) -> None:
    home = visible / "home"
    home.mkdir(mode=0o700)
    # Other users may not be able to read this Python or this checkout: everything is imported as root.
    code = (
        "import os, tempfile; from hatch_docker.services import this_host; "
        "from hatch_docker.support.directories import *; from hatch_docker.support.progress import Progress; "
        f"this_host(); os.setgroups([]); os.setgid({UID}); os.setuid({UID}); "
        "host = this_host(); print(host.home, cache_directory(host.cache_dir, Progress()), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HOME": str(home), "TMPDIR": str(visible), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [str(home), str(visible / f"hatch-docker-{UID}" / "cache")], done.stderr
