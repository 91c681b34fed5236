"""Several processes with one cache: one maker for each thing, a limit of its size, and directories that refuse."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import builds
import pytest
from base_maker import serve
from builds import Bench, entries_below, files_below
from fake_index import serving
from fake_registry import FakeRegistry

from hatch_docker.errors import OutputError
from hatch_docker.support import room
from hatch_docker.support.cache import Cache
from hatch_docker.support.streams import digest_of

DAY = 86400


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def blob_of(number: int, size: int = 9000) -> tuple[bytes, str]:
    data = b"%d" % number * size
    return data, digest_of(data)


def add(cache: Cache, number: int) -> str:
    data, digest = blob_of(number)
    cache.add([data], digest, what="it")
    return digest


def left(root: Path, number: int, *, days: float = 9) -> str:
    """The digest of a blob that a build left in a cache and used last so many days ago."""
    cache = Cache(root, most=1 << 40)
    digest = add(cache, number)
    cache.close()
    when = time.time() - days * DAY
    path = root / "blobs" / "sha256" / digest.partition(":")[2]
    os.utime(path, (when - 60, when - 60))
    assert Cache(root).blob(digest)
    os.utime(root / "verified" / "sha256" / path.name, (when, when))
    return digest


def size_of(root: Path) -> int:
    return sum(entry.size for entry in room.entries_of(root))


def digests(root: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in files_below(root / "blobs")}


# A process that uses the blob of its second argument until it may read, or is killed.
_USER = """
import sys
from pathlib import Path
from hatch_docker.support.cache import Cache
cache = Cache(Path(sys.argv[1]))
def wait():
    print(cache.blob(sys.argv[2]), flush=True)
    sys.stdin.read(1)
with cache.temporary():
    cache.once("key", lambda: None, wait)
"""


@pytest.fixture
def user(root: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    started = []

    def start(digest: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", _USER, str(root), digest],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout
        assert digest.partition(":")[2] in process.stdout.readline().decode()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


class TestLimit:
    def test_what_was_used_least_recently_goes_first(self, root: Path) -> None:
        old = [left(root, number, days=9 - number) for number in range(6)]
        size = size_of(root)
        cache = Cache(root, most=size)
        assert cache.blob(old[0])
        new = add(cache, 7)
        cache.close()
        # Ten per cent are made free: two of seven.
        assert digests(root) == {old[0], *old[3:], new}
        assert size_of(root) <= size
        seals = {f"sha256:{path.name}" for path in files_below(root / "verified")}
        assert seals == digests(root)

    def test_documents_count_and_go_too(self, root: Path) -> None:
        before = Cache(root)
        for number in range(20):
            before.put("facts", str(number), {"a": number})
        before.close()
        del before
        for path in files_below(root / "facts"):
            os.utime(path, (0, 0))
        cache = Cache(root, most=10 * 4096)
        cache.put("facts", "new", {})
        assert cache.get("facts", "0") == {"a": 0}
        cache.close()
        assert len(files_below(root / "facts")) == 9
        assert cache.get("facts", "0") == {"a": 0}
        assert cache.get("facts", "new") == {}

    @pytest.mark.parametrize("most", [0, 1 << 30])
    def test_nothing_is_removed_below_the_limit(self, root: Path, most: int) -> None:
        old = left(root, 1, days=900)
        cache = Cache(root, most=most)
        new = add(cache, 2)
        cache.close()
        assert digests(root) == {old, new}

    def test_entries_are_listed_only_if_all_that_was_written_is_too_much(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = left(root, 1)
        monkeypatch.setattr(room, "entries_of", lambda _: pytest.fail("all entries are listed"))
        reading = Cache(root, most=1)
        assert reading.blob(old)
        reading.close()
        writing = Cache(root, most=1 << 30)
        add(writing, 2)
        writing.close()

    def test_what_this_run_used_stays(self, root: Path) -> None:
        """Also if it is more than the limit: the next build needs it first."""
        old, other = left(root, 1), left(root, 2, days=1)
        cache = Cache(root, most=1)
        assert cache.blob(old)
        new = add(cache, 3)
        cache.close()
        assert digests(root) == {old, new}
        assert not cache.blob(other)

    @pytest.mark.skipif(os.name == "nt", reason="Windows does not say which processes ended")
    def test_what_another_run_uses_stays_until_it_ends(
        self, root: Path, user: Callable[[str], subprocess.Popen[bytes]]
    ) -> None:
        used, other = left(root, 1), left(root, 2, days=1)
        process = user(used)
        cache = Cache(root, most=1)
        new = add(cache, 3)
        cache.close()
        del cache
        assert digests(root) == {used, new}
        assert other not in digests(root)
        process.kill()
        process.communicate()
        cache = Cache(root, most=1)
        last = add(cache, 4)
        cache.close()
        assert digests(root) == {last}

    def test_an_entry_that_is_used_while_others_are_removed_stays(self, root: Path) -> None:
        """A build that began before takes it after it was listed, and before it is removed."""
        used, other = left(root, 1), left(root, 2)
        running = Cache(root)
        assert running.blob(other)
        listed = list(room.entries_of(root))
        assert running.blob(used)
        removed = room.remove(listed, before=time.time_ns() - DAY * 10**9)
        assert digests(root) == {used, other}
        assert (removed.entries, removed.size, removed.in_use) == (0, 0, size_of(root))

    @pytest.mark.parametrize("damage", [b"x\n", b"1\n\xff", None])
    def test_a_damaged_total_is_counted_again(self, root: Path, damage: bytes | None) -> None:
        for number in range(5):
            left(root, number)
        (root / "size").unlink()
        if damage is not None:
            (root / "size").write_bytes(damage)
        cache = Cache(root, most=5 * 4096)
        new = add(cache, 7)
        cache.close()
        assert digests(root) == {new}

    @pytest.mark.parametrize("existing", ["notes.txt", "blobs"])
    def test_removes_nothing_in_a_directory_with_other_files(self, root: Path, existing: str) -> None:
        (root / existing).mkdir(parents=True)
        old = left(root, 1)
        cache = Cache(root, most=1)
        new = add(cache, 2)
        cache.close()
        assert digests(root) == {old, new}

    @pytest.mark.skipif(os.name == "nt", reason="on Windows not everybody may make links")
    def test_follows_no_links(self, root: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        (other / "sha256").mkdir(parents=True)
        mine = other / "sha256" / "mine"
        mine.touch()
        os.utime(mine, (0, 0))
        left(root, 1)
        (root / "facts").symlink_to(other / "sha256")
        (root / "blobs" / "md5").symlink_to(other / "sha256")
        (root / "verified" / "md5").symlink_to(other / "sha256")
        (root / "blobs" / "sha256" / "link").symlink_to(mine)
        cache = Cache(root, most=1)
        new = add(cache, 2)
        cache.close()
        assert mine.exists()
        assert {each for each in digests(root) if "link" not in each and "mine" not in each} == {new}


@pytest.mark.skipif(os.name == "nt", reason="Windows does not say which processes ended")
def test_the_next_run_removes_what_a_killed_one_left(
    root: Path, user: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    digest = left(root, 1)
    process = user(digest)
    with Cache(root).temporary():
        assert len(files_below(root / "tmp")) == 2
    assert len(files_below(root / "tmp")) == len(files_below(root / "locks")) == 1
    process.kill()
    process.communicate()
    cache = Cache(root)
    assert cache.blob(digest)
    assert files_below(root / "tmp") == files_below(root / "locks") == set()
    assert len(files_below(root / "running") - {root / "running" / "gate"}) == 1


class TestOnce:
    def test_one_of_many_threads_makes_it(self, root: Path) -> None:
        made, found = [], []
        ready = threading.Barrier(8)

        def make() -> dict[str, int]:
            made.append(1)
            time.sleep(0.05)
            return {"a": 1}

        def need() -> None:
            ready.wait()
            found.append(Cache(root).document("facts", "key", make))

        threads = [threading.Thread(target=need) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == [{"a": 1}] * 8
        assert made == [1]

    def test_a_failure_is_that_of_the_maker_alone(self, root: Path) -> None:
        cache = Cache(root)

        def fail() -> dict[str, int]:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            cache.document("facts", "key", fail)
        assert cache.document("facts", "key", lambda: {"a": 2}) == {"a": 2}
        assert cache.document("facts", "key", fail) == {"a": 2}


def test_builds_at_once_ask_for_everything_once(tmp_path: Path) -> None:
    """Reliability: together they make hardly more requests than one of them alone."""
    bench = Bench(tmp_path)
    with FakeRegistry() as registry, serving() as index:
        serve(bench.base(), registry, "team/base", "1")
        wheels = [bench.wheel(f"pkg{number}") for number in range(12)]
        project = bench.project(base="", wheels=wheels, docker=f'base = "{registry.host}/team/base:1"')
        lock = project / "pylock.toml"
        text = lock.read_text()
        for wheel in wheels:
            index.add(wheel.name.partition("-")[0], wheel.name, wheel.read_bytes())
            text = text.replace(wheel.as_uri(), index.file_url(wheel.name))
        lock.write_text(text)

        def requests(name: str, count: int) -> int:
            before = len(registry.requests) + len(index.requests)
            program = "from hatch_docker.frontends.cli.main import main; main()"
            running = [
                subprocess.Popen(
                    [
                        sys.executable,
                        "-c",
                        program,
                        "build",
                        "-q",
                        "-o",
                        f"type=oci,dest={name}{number}.tar",
                    ],
                    cwd=project,
                    env=builds.environment(tmp_path / name, PYTHONPATH=str(Path(__file__).parent.parent)),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
                for number in range(count)
            ]
            outcomes = [(*process.communicate(timeout=300), process.returncode) for process in running]
            assert {code for _, _, code in outcomes} == {0}, outcomes
            assert len({(project / f"{name}{number}.tar").read_bytes() for number in range(count)}) == 1
            return len(registry.requests) + len(index.requests) - before

        assert requests("four", 4) <= 1.3 * requests("one", 1)


@pytest.fixture
def spares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(folder))
    return folder


@pytest.fixture
def read_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with entries on a file system that cannot be written: root may write to any other directory."""
    left(root, 1)
    Cache(root).put("facts", "old", {"a": 1})
    real = os.access

    def access(path: Path, mode: int) -> bool:
        inside = root in (Path(path), *Path(path).parents)
        return real(path, mode) and not (inside and mode & os.W_OK)

    monkeypatch.setattr(os, "access", access)
    return root


class TestReadOnly:
    def test_serves_what_it_has_and_keeps_the_rest_for_the_run(self, read_only: Path, spares: Path) -> None:
        before = entries_below(read_only)
        warnings: list[str] = []
        cache = Cache(read_only, warn=warnings.append)
        assert cache.blob(digest_of(blob_of(1)[0]))
        assert cache.get("facts", "old") == {"a": 1}
        assert warnings == []
        data, digest = blob_of(2)
        assert cache.add([data], digest, what="it").read_bytes() == data
        cache.put("facts", "new", {"a": 2})
        cache.put("facts", "old", {"a": 3})
        assert cache.blob(digest)
        assert (cache.get("facts", "new"), cache.get("facts", "old")) == ({"a": 2}, {"a": 3})
        (warning,) = warnings
        assert f"{read_only} cannot be written" in warning
        assert entries_below(read_only) == before
        assert files_below(spares)
        cache.close()
        del cache
        assert not files_below(spares)

    def test_what_killed_runs_kept_elsewhere_is_removed(self, read_only: Path, spares: Path) -> None:
        first = Cache(read_only)
        first.put("facts", "new", {})
        (kept,) = spares.glob("*/cache-*")
        (kept.parent / "cache-old").mkdir()
        os.utime(kept.parent / "cache-old", (0, 0))
        second = Cache(read_only)
        second.put("facts", "new", {})
        assert not (kept.parent / "cache-old").exists()
        assert kept.exists()

    def test_no_place_at_all_is_an_error(self, read_only: Path, spares: Path) -> None:
        spares.rmdir()
        with pytest.raises(OutputError, match="cannot write"):
            Cache(read_only).put("facts", "new", {})
