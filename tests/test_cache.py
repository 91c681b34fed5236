from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest
from builds import entries_below, files_below
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_docker.errors import DigestMismatchError, OutputError
from hatch_docker.oci.layer import Entry, WriteOptions
from hatch_docker.oci.layercache import make_layer
from hatch_docker.support.cache import Cache
from hatch_docker.support.streams import digest_of, file_digest

DATA = b"content" * 1000
DIGEST = digest_of(DATA)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def files(cache: Cache) -> list[Path]:
    return list(entries_below(cache.root))


def chunks_then(error: BaseException) -> Iterator[bytes]:
    yield DATA
    raise error


def entries_then(error: BaseException) -> Iterator[Entry]:
    yield Entry(path="a", content=DATA)
    raise error


class TestBlobs:
    def test_finds_an_added_blob(self, cache: Cache) -> None:
        path = cache.add([DATA[:10], DATA[10:]], DIGEST, what="it")
        assert path.read_bytes() == DATA
        assert cache.blob(DIGEST) == path
        assert Cache(cache.root).blob(DIGEST) == path
        assert files(cache) == [path]

    def test_missing_blob_is_a_miss(self, cache: Cache) -> None:
        assert cache.blob(DIGEST) is None

    @pytest.mark.parametrize("damage", [b"", DATA[:-1], DATA + b"x"])
    def test_damaged_blob_is_a_miss_and_can_be_replaced(self, cache: Cache, damage: bytes) -> None:
        cache.add([DATA], DIGEST, what="it").write_bytes(damage)
        later = Cache(cache.root)
        assert later.blob(DIGEST) is None
        assert later.add([DATA], DIGEST, what="it").read_bytes() == DATA
        assert later.blob(DIGEST) is not None

    def test_keeps_a_blob_that_another_process_replaced_meanwhile(
        self, cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = cache.add([DATA], DIGEST, what="it")
        path.write_bytes(b"damaged")

        def digest_before_the_other_replaces_it(file: object, algorithm: str) -> str:
            other.add([DATA], DIGEST, what="it")
            return digest_of(b"damaged")

        other = Cache(cache.root)
        monkeypatch.setattr("hatch_docker.support.cache.file_digest", digest_before_the_other_replaces_it)
        assert Cache(cache.root).blob(DIGEST) is None
        assert path.read_bytes() == DATA

    def test_open_files_are_not_replaced_on_windows(self, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: Path, target: Path) -> Path:
            raise PermissionError(errno.EACCES, "Access is denied")

        path = cache.add([DATA], DIGEST, what="it")
        cache.put("facts", "k", {"a": 1})
        monkeypatch.setattr(Path, "replace", refuse)
        later = Cache(cache.root)
        assert later.add([DATA], DIGEST, what="it") == path
        later.put("facts", "k", {"a": 1})
        path.write_bytes(b"damaged")
        with pytest.raises(OutputError, match="Access is denied"):
            Cache(cache.root).add([DATA], DIGEST, what="it")
        with pytest.raises(OutputError, match="Access is denied"):
            cache.put("facts", "another", {})

    def test_blob_that_disappears_is_a_miss(self, cache: Cache) -> None:
        cache.add([DATA], DIGEST, what="it").unlink()
        assert cache.blob(DIGEST) is None

    def test_stores_nothing_of_wrong_content(self, cache: Cache) -> None:
        with pytest.raises(DigestMismatchError, match=r"app\.whl has the wrong content: expected sha256:") as caught:
            cache.add([b"other"], DIGEST, what="app.whl")
        assert digest_of(b"other") in caught.value.message
        assert caught.value.hint
        assert files(cache) == []
        assert cache.blob(DIGEST) is None

    @pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512", "blake2b", "md5"])
    def test_accepts_other_hash_algorithms(self, cache: Cache, algorithm: str) -> None:
        data = cache.root.parent / "data"
        data.write_bytes(DATA)
        with data.open("rb") as file:
            digest = file_digest(file, algorithm)
        cache.add([DATA], digest, what="it")
        assert Cache(cache.root).blob(digest) is not None

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError()])
    def test_stores_nothing_after_an_interruption(self, cache: Cache, error: BaseException) -> None:
        with pytest.raises(type(error)):
            cache.add(chunks_then(error), DIGEST, what="it")
        assert files(cache) == []

    def test_adopts_a_file_that_was_hashed_while_it_was_written(self, cache: Cache) -> None:
        with cache.temporary() as partial:
            partial.write_bytes(DATA)
            path = cache.adopt(partial, DIGEST)
        assert cache.blob(DIGEST) == path
        assert files(cache) == [path]

    def test_several_threads_can_store_one_blob(self, cache: Cache) -> None:
        def add(_turn: int) -> bytes:
            path = cache.blob(DIGEST) or cache.add([DATA], DIGEST, what="it")
            return path.read_bytes()

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(add, range(40))) == {DATA}
        assert len(files(cache)) == 1

    def test_killed_process_leaves_no_partial_entry(self, cache: Cache) -> None:
        program = (
            "import os, pathlib, sys; from hatch_docker.support.cache import Cache\n"
            "def chunks():\n    yield b'half'\n    os._exit(9)\n"
            "Cache(pathlib.Path(sys.argv[1])).add(chunks(), sys.argv[2], what='it')"
        )
        root = Path(__file__).parent.parent
        ended = subprocess.run([sys.executable, "-c", program, str(cache.root), DIGEST], cwd=root, check=False)
        assert ended.returncode == 9
        assert Cache(cache.root).blob(DIGEST) is None
        assert cache.add([DATA], DIGEST, what="it").read_bytes() == DATA

    def test_next_run_removes_what_a_thread_wrote_when_its_run_had_ended(self, cache: Cache) -> None:
        used = Cache(cache.root)
        with cache.temporary() as partial, used.temporary() as other:
            # As at the exit of an interrupted process.
            run = cache.root / "running" / partial.name.partition("-")[0]
            assert run.exists()
            run.unlink()
            Cache(cache.root).put("kind", "key", {})
            assert not partial.exists()
            assert other.exists()

    def test_next_run_removes_what_was_left_while_room_was_made(self, cache: Cache) -> None:
        cache.put("kind", "key", {})
        program = (
            "import os, pathlib, sys; from hatch_docker.support import room\n"
            "pathlib.Path.replace = lambda *_: os._exit(9)\n"
            "room.counted(pathlib.Path(sys.argv[1]), 1)"
        )
        root = Path(__file__).parent.parent
        ended = subprocess.run([sys.executable, "-c", program, str(cache.root)], cwd=root, check=False)
        assert ended.returncode == 9
        assert list((cache.root / "tmp").iterdir())
        Cache(cache.root).put("kind", "other", {})
        assert not list((cache.root / "tmp").iterdir())

    @pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
    def test_files_have_the_umasks_mode(self, cache: Cache) -> None:
        created = cache.root.parent / "created"
        created.touch()
        path = cache.add([DATA], DIGEST, what="it")
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(created.stat().st_mode)


class TestVerifiedOnce:
    """A blob whose file did not change since it was verified is not hashed again."""

    @pytest.fixture
    def hashed(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The digests of the files that caches hash."""
        digests: list[str] = []

        def count(file: BinaryIO, algorithm: str) -> str:
            digests.append(file_digest(file, algorithm))
            return digests[-1]

        monkeypatch.setattr("hatch_docker.support.cache.file_digest", count)
        return digests

    @pytest.fixture
    def blob(self, cache: Cache) -> Path:
        """A blob that was written a while ago, and read since."""
        path = aged(cache.add([DATA], DIGEST, what="it"))
        assert Cache(cache.root).blob(DIGEST) == path
        return path

    def test_unchanged_blob_is_not_hashed(self, cache: Cache, blob: Path, hashed: list[str]) -> None:
        assert Cache(cache.root).blob(DIGEST) == blob
        assert hashed == []

    def test_blob_that_was_just_written_is_hashed_once_at_most(self, cache: Cache, hashed: list[str]) -> None:
        path = cache.add([DATA], DIGEST, what="it")
        # The next timestamp of the file system: what was written before is old now.
        while (cache.root / "clock").write_bytes(b"") or (cache.root / "clock").stat().st_mtime <= path.stat().st_mtime:
            pass
        assert [Cache(cache.root).blob(DIGEST) for _ in range(3)] == [path] * 3
        assert len(hashed) <= 1

    @pytest.mark.parametrize("change", ["content", "size", "time", "file"])
    def test_changed_file_is_hashed(self, cache: Cache, blob: Path, hashed: list[str], change: str) -> None:
        before = blob.stat()
        data = {"content": b"x" + DATA[1:], "size": DATA + b"x"}.get(change, DATA)
        if change == "file":
            blob.rename(cache.root / "other")
        if change != "time":
            blob.write_bytes(data)
        os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns + (change == "time")))
        found = Cache(cache.root).blob(DIGEST)
        assert (found is None) == (data != DATA)
        assert hashed == [digest_of(data)]

    def test_file_that_may_have_changed_in_the_instant_of_its_seal_is_hashed(
        self, cache: Cache, blob: Path, hashed: list[str]
    ) -> None:
        later = time.time() + 3600
        os.utime(blob, (later, later))
        assert [Cache(cache.root).blob(DIGEST) for _ in range(3)] == [blob] * 3
        assert len(hashed) == 3

    def test_verify_hashes_always(self, cache: Cache, blob: Path, hashed: list[str]) -> None:
        assert Cache(cache.root, verify=True).blob(DIGEST) == blob
        assert hashed == [DIGEST]

    @pytest.mark.parametrize("damage", [b"", b"\n", b"\xff\n", b"1 2 3 4\n"])
    def test_damaged_seal_is_made_anew(self, cache: Cache, blob: Path, hashed: list[str], damage: bytes) -> None:
        (seal,) = files_below(cache.root / "verified")
        seal.write_bytes(damage)
        assert Cache(cache.root).blob(DIGEST) == Cache(cache.root).blob(DIGEST) == blob
        assert hashed == [DIGEST]

    def test_blob_is_found_where_no_seal_can_be_written(self, cache: Cache, blob: Path, hashed: list[str]) -> None:
        (seal,) = files_below(cache.root / "verified")
        seal.unlink()
        seal.mkdir()
        assert Cache(cache.root).blob(DIGEST) == Cache(cache.root).blob(DIGEST) == blob
        assert hashed == [DIGEST] * 2


class TestTemporaryFiles:
    def test_removes_old_files_and_keeps_new_ones(self, cache: Cache) -> None:
        with cache.temporary() as kept:
            old = aged(kept.with_name(kept.name[:-2] + "00"))
            with cache.temporary():
                assert kept.exists()
                assert not old.exists()
        assert files(cache) == []

    def test_directory_has_a_cachedir_tag(self, cache: Cache) -> None:
        cache.add([DATA], DIGEST, what="it")
        # Cache Directory Tagging Specification
        assert (cache.root / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55")

    @pytest.mark.parametrize("existing", ["notes.txt", "tmp", "CACHEDIR.TAG"])
    def test_removes_nothing_in_a_directory_with_other_files(self, cache: Cache, existing: str) -> None:
        ours = "hatch-docker-0123456789abcdef0123456789abcdef"
        if existing == "tmp":
            (cache.root / existing).mkdir(parents=True)
        else:
            cache.root.mkdir()
            (cache.root / existing).write_text("Signature: 8a477f597d28d172789f06886806bc55")
            (cache.root / "tmp").mkdir()
        old = [aged(cache.root / "tmp" / name) for name in (ours, "notes.txt")]
        cache.add([DATA], DIGEST, what="it")
        assert all(path.exists() for path in old)

    def test_keeps_files_with_other_names(self, cache: Cache) -> None:
        with cache.temporary() as ours:
            names = ("notes.txt", "0123456789abcdef0123456789abcdef", f"{ours.name}.txt", f"my-{ours.name}")
            old = [aged(ours.parent / name) for name in names]
            directory = ours.with_name(ours.name[:-2] + "00")
            directory.mkdir()
            aged(directory)
        cache.add([DATA], DIGEST, what="it")
        assert all(path.exists() for path in [*old, directory])

    @pytest.mark.skipif(os.name != "posix", reason="on Windows not everybody may make links")
    def test_removes_nothing_through_a_link(self, cache: Cache, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        with cache.temporary() as ours:
            pass
        elsewhere.mkdir()
        old = aged(elsewhere / ours.name)
        ours.parent.rmdir()
        ours.parent.symlink_to(elsewhere)
        cache.add([DATA], DIGEST, what="it")
        assert old.exists()
        # Nor the link itself.
        ours.parent.unlink()
        with cache.temporary():
            ours.symlink_to(old)
        cache.add([DATA], DIGEST, what="it")
        assert ours.is_symlink()
        assert old.exists()

    def test_completes_a_partial_tag(self, cache: Cache) -> None:
        cache.root.mkdir()
        (cache.root / "CACHEDIR.TAG").write_text("Signature: 8a477f")
        with cache.temporary() as ours:
            old = aged(ours.with_name(ours.name[:-2] + "00"))
        cache.add([DATA], DIGEST, what="it")
        assert not old.exists()


def aged(path: Path) -> Path:
    """Create a file, or take an existing directory, and make it two days old."""
    if not path.exists():
        path.touch()
    os.utime(path, (time.time() - 2 * 86400,) * 2)
    return path


class TestDocuments:
    @settings(max_examples=10)
    @given(st.text(), st.dictionaries(st.text(), st.recursive(st.integers() | st.text() | st.none(), st.lists)))
    def test_documents_round_trip(
        self, tmp_path_factory: pytest.TempPathFactory, key: str, value: dict[str, object]
    ) -> None:
        cache = Cache(tmp_path_factory.getbasetemp() / "documents")
        cache.put("facts", key, value)
        assert Cache(cache.root).get("facts", key) == value
        assert cache.get("others", key) is None
        assert cache.get("facts", key + "x") is None

    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"{",
            b"[]",
            b"\xff",
            b"{}",
            b'{"key": "other", "value": {}}',
            b'{"key": "k", "value": []}',
            b"[" * 100_000,
        ],
    )
    def test_damaged_document_is_a_miss(self, cache: Cache, damage: bytes) -> None:
        cache.put("facts", "k", {"a": 1})
        (path,) = files(cache)
        path.write_bytes(damage)
        assert cache.get("facts", "k") is None
        cache.put("facts", "k", {"a": 2})
        assert cache.get("facts", "k") == {"a": 2}

    def test_one_flipped_bit_is_a_miss(self, cache: Cache) -> None:
        cache.put("facts", "k", {"a": 1})
        (path,) = files(cache)
        path.write_bytes(path.read_bytes().replace(b'"a": 1', b'"a": 3'))
        assert cache.get("facts", "k") is None


class TestRefusals:
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_full_disk(self, cache: Cache) -> None:
        with cache.temporary() as partial:
            partial.unlink()
            partial.symlink_to("/dev/full")
            file = cache.open(partial)
            file.write(DATA)
            with pytest.raises(OutputError, match="cannot write: No space left on device") as caught:
                file.close()
        assert "HATCH_DOCKER_CACHE_DIR" in caught.value.hint
        assert str(cache.root) in caught.value.place
        assert files(cache) == []

    def test_error_of_a_reader_is_not_one_of_the_cache(self, cache: Cache) -> None:
        error = OSError(errno.EIO, os.strerror(errno.EIO), "the source")
        for add in (
            lambda: cache.add(chunks_then(error), DIGEST, what="it"),
            lambda: make_layer(entries_then(error), cache, WriteOptions(), contents=()),
        ):
            with pytest.raises(OSError, match="the source") as caught:
                add()
            assert caught.value is error
        with pytest.raises(OSError, match="the source"), cache.temporary():
            raise error
        assert files(cache) == []

    def test_directory_that_cannot_be_created(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        cache = Cache(tmp_path / "file" / "cache")
        assert cache.blob(DIGEST) is None
        assert cache.get("facts", "k") is None
        with pytest.raises(OutputError, match="cannot write"):
            cache.add([DATA], DIGEST, what="it")
        with pytest.raises(OutputError, match="cannot write"):
            cache.put("facts", "k", {})

    def test_directory_at_a_blobs_path(self, cache: Cache) -> None:
        (cache.root / "blobs" / "sha256" / DIGEST.removeprefix("sha256:") / "x").mkdir(parents=True)
        assert cache.blob(DIGEST) is None
        with pytest.raises(OutputError, match="cannot write"):
            cache.add([DATA], DIGEST, what="it")


class TestKinds:
    def test_others_are_found_only_if_this_run_stored_them(self, tmp_path: Path) -> None:
        before, cache = Cache(tmp_path), Cache(tmp_path, kinds=frozenset({"kept"}))
        before.put("kept", "key", {"a": 1})
        before.put("layers", "key", {"a": 1})
        assert (cache.get("kept", "key"), cache.get("layers", "key")) == ({"a": 1}, None)
        cache.put("layers", "key", {"a": 2})
        assert cache.get("layers", "key") == {"a": 2}
        assert Cache(tmp_path).get("layers", "key") == {"a": 2}
