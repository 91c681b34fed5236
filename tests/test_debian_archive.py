from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from builds import entries_below
from debian_maker import NOW, WEEK, DebianArchive, keyring, signer, written
from fake_index import Notes
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many

from hatch_docker.debian.archive import Archive, Trust
from hatch_docker.debian.packages import Package, read_index
from hatch_docker.debian.sources import Mirrors, find_mirrors, named_mirrors, suites_of
from hatch_docker.debian.suites import FRESH
from hatch_docker.errors import DebianError, HatchDockerError
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress

pytestmark = pytest.mark.usefixtures("no_waiting")

INDEX = "debian/dists/trixie/main/binary-amd64"
SECOND = timedelta(seconds=1)


@pytest.fixture
def server() -> Iterator[DebianArchive]:
    with DebianArchive() as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def archive(
    server: DebianArchive,
    cache: Cache,
    *,
    mirrors: Mirrors | None = None,
    later: timedelta = timedelta(0),
    keys: tuple[bytes, ...] | None = None,
    progress: Progress | None = None,
) -> Archive:
    return Archive(
        mirrors or server.mirrors,
        Trust(now=NOW + later, keyring=keyring() if keys is None else keys),
        http=Http(),
        # A new Cache, as in another process.
        cache=Cache(cache.root),
        progress=progress,
    )


def names(found: Archive, *suites: str, architecture: str = "amd64") -> list[list[str]]:
    """The names of the packages in the indexes of suites."""
    indexes = found.indexes(suites or ("trixie",), architecture=architecture)
    return [sorted(read_index(each.path, suite=each.suite).names()) for each in indexes]


def blobs(cache: Cache) -> list[Path]:
    return [path for path in entries_below(cache.root) if "debian-release" not in path.parts]


def refusal(found: Archive, *suites: str) -> DebianError:
    with pytest.raises(DebianError) as caught:
        names(found, *suites)
    return caught.value


class TestIndexes:
    def test_several_suites_in_order(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1"), server.add("zlib1g", b"2")])
        server.publish("trixie-updates")
        server.publish("trixie-security", [server.add("git", b"3", version="2", root="debian-security")])
        assert names(archive(server, cache), *suites_of("trixie")) == [["git", "zlib1g"], [], ["git"]]

    @pytest.mark.parametrize("suffixes", [(".xz",), (".gz",), ("",), (".gz", ".xz")])
    def test_every_compression(self, server: DebianArchive, cache: Cache, suffixes: tuple[str, ...]) -> None:
        server.publish("trixie", [server.add("git", b"1")], suffixes=suffixes)
        assert names(archive(server, cache)) == [["git"]]

    def test_uses_by_hash_paths_if_available(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        names(archive(server, cache))
        assert [path.startswith(f"{INDEX}/by-hash/SHA256/") for path in server.requests] == [False, True]

    def test_falls_back_to_names_if_a_by_hash_path_is_missing(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")], by_hash=False)
        assert names(archive(server, cache)) == [["git"]]
        assert server.requests[-1] == f"{INDEX}/Packages.xz"

    def test_uses_names_without_acquire_by_hash(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")], fields={"Acquire_By_Hash": ""})
        names(archive(server, cache))
        assert server.requests == ["debian/dists/trixie/InRelease", f"{INDEX}/Packages.xz"]

    def test_detached_signature(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        server.detach("trixie")
        assert names(archive(server, cache)) == [["git"]]
        server.requests.clear()
        assert names(archive(server, cache)) == [["git"]]
        assert not server.requests

    def test_architecture_missing_from_the_suite(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie")
        with pytest.raises(DebianError, match="has no main/binary-arm64/Packages") as caught:
            names(archive(server, cache), architecture="arm64")
        assert caught.value.place == f"{server.url}/dists/trixie/Release"

    def test_reports_progress(self, server: DebianArchive, cache: Cache) -> None:
        notes = Notes()
        server.publish("trixie", [server.add("git", b"1")])
        names(archive(server, cache, progress=notes))
        assert [task[0] for task in notes.tasks] == ["download"]


class TestCaching:
    def test_sends_no_request_within_an_hour(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        names(archive(server, cache))
        server.requests.clear()
        assert names(archive(server, cache, later=FRESH - SECOND)) == [["git"]]
        assert not server.requests

    def test_requests_only_the_release_after_an_hour(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        names(archive(server, cache))
        server.requests.clear()
        assert names(archive(server, cache, later=FRESH)) == [["git"]]
        assert server.requests == ["debian/dists/trixie/InRelease"]

    def test_newer_release_replaces_the_cached_one(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        names(archive(server, cache))
        server.publish("trixie", [server.add("git2", b"1")], fields={"Date": written(NOW + FRESH)})
        assert names(archive(server, cache, later=FRESH)) == [["git2"]]

    def test_requests_an_expired_release_again(self, server: DebianArchive, cache: Cache) -> None:
        soon = NOW + timedelta(minutes=10)
        server.publish("trixie", [server.add("git", b"1")], fields={"Valid_Until": written(soon)})
        names(archive(server, cache))
        server.publish("trixie", [server.add("git2", b"1")], fields={"Date": written(soon)})
        assert names(archive(server, cache, later=timedelta(minutes=20))) == [["git2"]]

    def test_clock_set_back_does_not_keep_a_release_forever(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        names(archive(server, cache))
        server.requests.clear()
        names(archive(server, cache, later=-timedelta(hours=2)))
        assert server.requests == ["debian/dists/trixie/InRelease"]

    def test_verifies_cached_releases_again(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        names(archive(server, cache))
        server.files.clear()
        assert "no suite" in str(refusal(archive(server, cache, keys=keyring(signer("another")))))

    def test_mirrors_have_separate_releases(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        names(archive(server, cache))
        server.files["other/dists/trixie/InRelease"] = server.files["debian/dists/trixie/InRelease"]
        other = named_mirrors(f"http://{server.host}/other http://{server.host}/security")
        server.requests.clear()
        assert names(archive(server, cache, mirrors=other)) == [["git"]]
        assert server.requests == ["other/dists/trixie/InRelease"]


class TestRejected:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"Valid_Until": written(NOW - SECOND)}, "has expired"),
            ({"Codename": "bookworm"}, "is the Release of bookworm, not of trixie"),
            ({"Date": written(NOW + WEEK)}, "is in the future"),
            ({"Date": "now"}, "must be a time in UTC"),
        ],
    )
    def test_invalid_release(self, server: DebianArchive, cache: Cache, fields: dict[str, str], message: str) -> None:
        server.publish("trixie", [server.add("git", b"1")], fields=fields)
        assert message in str(refusal(archive(server, cache)))
        assert not blobs(cache)

    def test_release_older_than_the_cached_one(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        names(archive(server, cache))
        server.publish("trixie", [server.add("git", b"0")], fields={"Date": written(NOW - SECOND)})
        for _ in range(2):
            error = refusal(archive(server, cache, later=FRESH))
            assert "older than an earlier one" in error.message
            assert error.hint

    def test_unknown_key(self, server: DebianArchive, cache: Cache) -> None:
        server.key = signer("mallory")
        server.publish("trixie", [server.add("git", b"1")])
        assert "signed by unknown keys" in str(refusal(archive(server, cache)))
        assert "signed by unknown keys" in str(refusal(archive(server, cache, keys=())))
        server.detach("trixie")
        assert "signed by unknown keys" in str(refusal(archive(server, cache)))
        assert not blobs(cache)

    def test_html_page_instead_of_a_release(self, server: DebianArchive, cache: Cache) -> None:
        server.files["debian/dists/trixie/InRelease"] = b"<html>Accept the terms of this hotel</html>"
        assert "is not signed" in str(refusal(archive(server, cache)))

    def test_unsigned_release(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        server.detach("trixie")
        del server.files["debian/dists/trixie/Release.gpg"]
        assert "no Release.gpg" in str(refusal(archive(server, cache)))

    @pytest.mark.parametrize(("suite", "hint"), [("trixy", "'trixie'"), ("nothing", "debian-mirror")])
    def test_missing_suite(self, server: DebianArchive, cache: Cache, suite: str, hint: str) -> None:
        error = refusal(archive(server, cache), suite)
        assert f"no suite {suite!r}" in error.message
        assert hint in error.hint

    @pytest.mark.parametrize("change", [b"other", b"", b"x" * 10**6])
    def test_index_that_does_not_match_the_release(self, server: DebianArchive, cache: Cache, change: bytes) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        for path in list(server.files):
            if "Packages" in path or "by-hash" in path:
                server.files[path] = change
        error = refusal(archive(server, cache))
        assert error.place.startswith(f"{server.url}/dists/trixie/main/")
        assert "try again" in error.hint
        assert not blobs(cache)

    def test_mirror_without_indexes(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        server.files = {path: data for path, data in server.files.items() if path.endswith("InRelease")}
        error = refusal(archive(server, cache))
        assert "the mirror has no such file" in error.message
        assert error.place == f"{server.url}/dists/trixie/main/binary-amd64/Packages.xz"
        assert "debian-mirror" in error.hint
        assert not blobs(cache)

    @pytest.mark.parametrize("missing", ["trixie-updates", "trixie-security"])
    def test_every_suite_is_required(self, server: DebianArchive, cache: Cache, missing: str) -> None:
        # Otherwise an attacker could withhold updates by withholding a whole suite.
        for suite in suites_of("trixie"):
            server.publish(suite, [server.add("git", b"1")])
        root = "debian-security" if missing.endswith("-security") else "debian"
        del server.files[f"{root}/dists/{missing}/InRelease"]
        assert f"has no suite {missing!r}" in refusal(archive(server, cache), *suites_of("trixie")).message

    def test_release_of_another_suite(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        whole = server.files["debian/dists/trixie/InRelease"]
        server.files["debian-security/dists/trixie-security/InRelease"] = whole
        error = refusal(archive(server, cache), "trixie-security")
        assert "is the Release of trixie, not of trixie-security" in error.message

    def test_fields_joined_by_a_carriage_return(self, server: DebianArchive, cache: Cache) -> None:
        # Carriage returns end lines when a signature is computed, so they could hide Valid-Until from a parser.
        server.publish("trixie", [server.add("git", b"1")], fields={"Valid_Until": written(NOW - SECOND)})
        path = "debian/dists/trixie/InRelease"
        server.files[path] = server.files[path].replace(b"\nValid-Until", b"\rValid-Until")
        assert "has carriage returns" in refusal(archive(server, cache)).message

    @settings(max_examples=many(40))
    @given(st.data())
    def test_detects_every_change_by_a_mirror(self, data: st.DataObject) -> None:
        made = _published()
        path = data.draw(st.sampled_from(("debian/dists/trixie/InRelease", f"{INDEX}/Packages.xz")))
        at, bit = data.draw(st.integers(0, len(made[path]) - 1)), data.draw(st.integers(0, 7))
        changed = made[path][:at] + bytes([made[path][at] ^ 1 << bit]) + made[path][at + 1 :]
        with DebianArchive(files={**made, path: changed}) as server, tempfile.TemporaryDirectory() as folder:
            try:
                found = names(archive(server, Cache(Path(folder))))
            except DebianError:
                return
        assert found == [["git", "less"]]


@functools.cache
def _published() -> dict[str, bytes]:
    """The files of an archive, signed once, as each signature is different."""
    made = DebianArchive()
    made.publish("trixie", [made.add("git", b"1"), made.add("less", b"2")], by_hash=False)
    return made.files


class TestMirrors:
    @pytest.mark.parametrize(
        ("status", "message"),
        [(401, "requires a login"), (403, "denies access"), (429, "limits the rate"), (500, "unexpected")],
    )
    def test_error_status(self, server: DebianArchive, cache: Cache, status: int, message: str) -> None:
        server.publish("trixie")
        server.statuses["debian/dists/trixie/InRelease"] = [status] * 9
        error = refusal(archive(server, cache))
        assert message in error.message
        assert f"HTTP {status}" in error.message
        assert error.hint

    def test_retries_after_a_temporary_failure(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        server.statuses["debian/dists/trixie/InRelease"] = [503, 502]
        assert names(archive(server, cache)) == [["git"]]

    def test_unreachable(self, server: DebianArchive, cache: Cache) -> None:
        gone = named_mirrors("http://127.0.0.1:1/debian")
        error = refusal(archive(server, cache, mirrors=gone))
        assert "127.0.0.1" in error.place
        assert "HATCH_DOCKER_DEBIAN_MIRROR" in error.hint

    def test_tries_the_next_mirror(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        ours = server.mirrors
        for wrong in ("http://127.0.0.1:1/debian", f"http://{server.host}/none/debian"):
            other = named_mirrors(wrong)
            both = Mirrors(main=other.main + ours.main, security=ours.security)
            assert names(archive(server, Cache(cache.root / "x"), mirrors=both)) == [["git"]]

    def test_reports_all_failed_mirrors(self, server: DebianArchive, cache: Cache) -> None:
        wrong = named_mirrors("http://127.0.0.1:1/debian").main + named_mirrors(server.url).main
        error = refusal(archive(server, cache, mirrors=Mirrors(main=wrong, security=wrong)))
        assert "127.0.0.1:1" in error.place
        assert server.url in error.message

    def test_login_is_sent_and_never_shown(self, server: DebianArchive, cache: Cache) -> None:
        server.publish("trixie", [server.add("git", b"1")])
        server.statuses["debian/dists/trixie/InRelease"] = [403]
        mirrors = named_mirrors(f"http://me:secret@{server.host}/debian")
        error = refusal(archive(server, cache, mirrors=mirrors))
        assert names(archive(server, cache, mirrors=mirrors)) == [["git"]]
        assert {each.get("authorization") for each in server.headers} == {"Basic bWU6c2VjcmV0"}
        assert "secret" not in str(error)
        assert not any(b"secret" in path.read_bytes() for path in cache.root.rglob("*") if path.is_file())

    def test_resumes_an_interrupted_download(self, server: DebianArchive, cache: Cache) -> None:
        package = server.add("git", os.urandom(10**6))
        server.publish("trixie", [package])
        server.broken = dict.fromkeys(server.files, 2)
        found = archive(server, cache)
        assert names(found) == [["git"]]
        assert found.fetch([package])[0].stat().st_size == 10**6

    def test_gives_up_if_every_download_is_interrupted(self, server: DebianArchive, cache: Cache) -> None:
        package = server.add("git", os.urandom(10**5))
        server.broken = {f"debian/{package.filename}": 99}
        with pytest.raises(DebianError, match="the Debian mirror") as caught:
            archive(server, cache).fetch([package])
        assert "debian-mirror" in caught.value.hint
        assert not blobs(cache)


class TestFiles:
    def test_returns_files_in_the_order_of_the_packages(self, server: DebianArchive, cache: Cache) -> None:
        packages = [server.add(name, name.encode() * 99) for name in ("git", "less", "zlib1g")]
        packages.append(packages[0])
        paths = archive(server, cache).fetch(packages)
        assert [path.read_bytes()[:3] for path in paths] == [b"git", b"les", b"zli", b"git"]
        assert len(server.requests) == 3

    def test_requests_no_index_and_no_file_twice(self, server: DebianArchive, cache: Cache) -> None:
        package = server.add("git", b"1")
        archive(server, cache).fetch([package])
        assert server.requests == [f"debian/{package.filename}"]
        server.requests.clear()
        archive(server, cache).fetch([package])
        assert not server.requests

    def test_downloads_a_damaged_cached_file_again(self, server: DebianArchive, cache: Cache) -> None:
        package = server.add("git", b"12345")
        archive(server, cache).fetch([package])[0].write_bytes(b"123")
        assert archive(server, cache).fetch([package])[0].read_bytes() == b"12345"

    def test_security_archive(self, server: DebianArchive, cache: Cache) -> None:
        locked = server.add("git", b"1", root="debian-security")
        named = server.add("less", b"2", root="debian-security", suite="trixie-security")
        archive(server, cache).fetch([locked, named])
        assert sorted(server.requests) == [f"debian-security/{each.filename}" for each in (locked, named)]

    def test_mirror_with_both_archives_at_one_url(self, server: DebianArchive, cache: Cache) -> None:
        package = server.add("git", b"1", suite="trixie-security")
        assert archive(server, cache).fetch([package])[0].read_bytes() == b"1"

    def test_quotes_a_plus_in_a_name(self, server: DebianArchive, cache: Cache) -> None:
        package = server.add("libstdc++6", b"1", version="14.2~rc1+deb13u1")
        assert archive(server, cache).fetch([package])[0].read_bytes() == b"1"

    @pytest.mark.parametrize("content", [b"123456", b"1234", b"54321", b""])
    def test_content_that_does_not_match_the_hash(self, server: DebianArchive, cache: Cache, content: bytes) -> None:
        package = server.add("git", b"12345")
        server.files[f"debian/{package.filename}"] = content
        with pytest.raises(DebianError) as caught:
            archive(server, cache).fetch([package])
        assert caught.value.place == f"{server.url}/{package.filename}"
        assert not blobs(cache)

    def test_file_removed_from_the_mirror(self, server: DebianArchive, cache: Cache) -> None:
        package = server.add("git", b"12345")
        server.files.clear()
        with pytest.raises(DebianError, match=r"the mirror no longer has git 1\.0-1") as caught:
            archive(server, cache).fetch([package])
        assert "lock again" in caught.value.hint
        assert "snapshots" in caught.value.hint

    def test_four_parallel_downloads_over_persistent_connections(self, server: DebianArchive, cache: Cache) -> None:
        packages = [server.add(f"package{number}", os.urandom(2000)) for number in range(24)]
        server.together = 4
        archive(server, cache).fetch(packages)
        assert server.most_active == 4
        assert server.connections == 4

    def test_a_failure_stops_the_other_downloads(self, server: DebianArchive, cache: Cache) -> None:
        packages = [server.add(f"package{number}", os.urandom(2000)) for number in range(400)]
        # The largest one is requested first.
        wrong = server.add("wrong", os.urandom(4000))
        server.files[f"debian/{wrong.filename}"] = os.urandom(4000)
        with pytest.raises(DebianError):
            archive(server, cache).fetch([*packages, wrong])
        assert len(server.requests) < 400
        assert not list((cache.root / "tmp").iterdir())


def real_mirrors() -> Mirrors:
    return find_mirrors(os.environ.get("HATCH_DOCKER_DEBIAN_MIRROR", ""), suite="trixie", architecture="amd64")


@pytest.mark.debian
class TestRealArchive:
    @pytest.mark.parametrize("architecture", ["amd64", "arm64"])
    def test_trixie(self, shared_cache: Path, architecture: str) -> None:
        now = datetime.now(timezone.utc)
        found = Archive(real_mirrors(), Trust(now=now), http=Http(), cache=Cache(shared_cache))
        indexes = [
            read_index(each.path, suite=each.suite)
            for each in found.indexes(suites_of("trixie"), architecture=architecture)
        ]
        assert len(indexes[0]) > 50_000
        packages: list[Package] = [
            each.packages(name)[0] for each in indexes for name in ("netbase", "tzdata") if name in each
        ]
        paths = found.fetch(packages)
        assert all(path.read_bytes().startswith(b"!<arch>\n") for path in paths)
        assert found.release("trixie").codename == "trixie"

    def test_suite_that_debian_does_not_have(self, shared_cache: Path) -> None:
        now = datetime.now(timezone.utc)
        with pytest.raises(HatchDockerError, match="no suite 'trixy'"):
            Archive(real_mirrors(), Trust(now=now), http=Http(), cache=Cache(shared_cache)).release("trixy")
