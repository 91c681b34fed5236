import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from builds import files_below
from fake_index import FakeIndex, Notes, serving

from hatch_docker.errors import ArtifactError, DigestMismatchError, HatchDockerError, NetworkError, OutputError
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.client import Index
from hatch_docker.index.credentials import Credentials, Login
from hatch_docker.index.download import obtain
from hatch_docker.index.settings import ca_file_of, discover
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http, Network

pytestmark = pytest.mark.usefixtures("no_waiting")

CONTENT = bytes(range(256)) * 4096  # a megabyte: several chunks


@pytest.fixture
def fake() -> Iterator[FakeIndex]:
    with serving() as index:
        yield index


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def artifact(fake: FakeIndex, name: str = "pkg", content: bytes = CONTENT, **fields: Any) -> Artifact:
    """A wheel that the index serves, as a lock names it."""
    filename = f"{name}-1.0-py3-none-any.whl"
    fake.add(name, filename, content)
    values = {
        "name": name,
        "version": "1.0",
        "filename": filename,
        "url": fake.file_url(filename),
        "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
        "size": len(content),
    }
    return Artifact(**{**values, **fields})


def get(cache: Cache, *artifacts: Artifact, **options: Any) -> list[bytes]:
    return [wheel.path.read_bytes() for wheel in obtain(artifacts, cache=cache, http=Http(), **options)]


def files_in(folder: Path) -> list[Path]:
    return list(files_below(folder))


def test_wheels_come_in_the_order_of_the_artifacts(fake: FakeIndex, cache: Cache) -> None:
    artifacts = [artifact(fake, f"pkg{number}", b"x" * (1000 * (5 - number))) for number in range(5)]
    wheels = obtain(artifacts, cache=cache, http=Http())
    assert [wheel.artifact for wheel in wheels] == artifacts
    assert [wheel.digest for wheel in wheels] == [f"sha256:{each.hashes['sha256']}" for each in artifacts]


def test_second_time_nothing_is_requested_nor_are_headers_made(fake: FakeIndex, cache: Cache) -> None:
    wanted = artifact(fake)
    assert get(cache, wanted) == [CONTENT]
    fake.requests.clear()

    def headers(url: str) -> Mapping[str, str]:
        raise AssertionError(url)

    for again in (cache, Cache(cache.root)):
        assert get(again, wanted, headers=headers) == [CONTENT]
    assert fake.requests == []


def test_corrupt_cache_entry_is_fetched_anew(fake: FakeIndex, cache: Cache) -> None:
    [wheel] = obtain([artifact(fake)], cache=cache, http=Http())
    wheel.path.write_bytes(CONTENT[:-1] + b"?")
    assert get(Cache(cache.root), wheel.artifact) == [CONTENT]


def test_one_file_wanted_twice_is_fetched_once(fake: FakeIndex, cache: Cache) -> None:
    wanted = artifact(fake)
    assert get(cache, wanted, wanted) == [CONTENT, CONTENT]
    assert len(fake.requests) == 1


def test_no_artifacts(cache: Cache) -> None:
    assert get(cache) == []


def test_sha512_will_do(fake: FakeIndex, cache: Cache) -> None:
    wanted = artifact(fake, hashes={"sha512": hashlib.sha512(CONTENT).hexdigest()})
    assert get(cache, wanted) == [CONTENT]
    with pytest.raises(DigestMismatchError):
        get(cache, artifact(fake, "other", hashes={"sha512": "0" * 128}))


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_connection_is_taken_up_again(fake: FakeIndex, cache: Cache, ranges: bool) -> None:
    wanted = artifact(fake)
    fake.ranges = ranges
    fake.broken.add(f"/files/{wanted.filename}")
    assert get(cache, wanted) == [CONTENT]
    assert fake.requests[1][1]["Range"].startswith("bytes=")


def test_passing_faults_are_retried(fake: FakeIndex, cache: Cache) -> None:
    wanted = artifact(fake)
    fake.statuses[f"/files/{wanted.filename}"] = [429, 503]
    assert get(cache, wanted) == [CONTENT]


def test_wrong_content_is_named_and_not_kept(fake: FakeIndex, cache: Cache) -> None:
    wanted = artifact(fake)
    fake.add("pkg", wanted.filename, CONTENT[:-1] + b"?")
    with pytest.raises(DigestMismatchError, match=wanted.filename) as caught:
        get(cache, wanted)
    assert fake.host in str(caught.value)
    assert files_in(cache.root) == []


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1, 1, 0])
def test_wrong_size_is_named_and_not_kept(fake: FakeIndex, cache: Cache, size: int) -> None:
    with pytest.raises(DigestMismatchError, match="wrong size"):
        get(cache, artifact(fake, size=size))
    assert files_in(cache.root) == []


def test_unknown_size_is_none_of_our_business(fake: FakeIndex, cache: Cache) -> None:
    assert get(cache, artifact(fake, size=None), artifact(fake, "empty", b"", size=None)) == [CONTENT, b""]


def test_all_failures_are_reported_and_the_rest_is_kept(fake: FakeIndex, cache: Cache) -> None:
    good = artifact(fake, "good")
    bad = artifact(fake, "bad", b"bad", hashes={"sha256": "0" * 64})
    gone = artifact(fake, "gone", b"gone", url=fake.file_url("gone-0.9-py3-none-any.whl"))
    with pytest.raises(ArtifactError) as caught:
        get(cache, bad, gone, good)
    assert not isinstance(caught.value, DigestMismatchError)
    assert "bad-1.0" in caught.value.message
    assert "gone-1.0" in caught.value.message
    assert "lock again" in caught.value.hint
    fake.requests.clear()
    assert get(cache, good) == [CONTENT]
    assert fake.requests == []


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500])
def test_refusals_are_clean_and_show_no_login(fake: FakeIndex, cache: Cache, status: int) -> None:
    wanted = artifact(fake)
    wanted = artifact(fake, url=wanted.url.replace("//", "//ann:s3cret@") + "?token=s3cret")
    fake.statuses[f"/files/{wanted.filename}"] = [status] * 9
    with pytest.raises(ArtifactError, match=wanted.filename) as caught:
        get(cache, wanted)
    assert str(status) in caught.value.message
    assert caught.value.hint
    assert "s3cret" not in str(caught.value)


def test_login_goes_to_its_host_and_not_along_with_a_redirect(fake: FakeIndex, cache: Cache) -> None:
    fake.login = ("ann", "s3cret")
    wanted = artifact(fake)
    credentials = Credentials(by_url=((fake.url, Login(username="ann", password="s3cret")),))
    with serving() as store, serving() as stranger:
        store.add("pkg", "stored", CONTENT)
        fake.login = None
        fake.redirects[f"/files/{wanted.filename}"] = store.file_url("stored")
        elsewhere = artifact(stranger, "elsewhere", b"else")
        progress = Notes()
        assert get(cache, wanted, elsewhere, headers=credentials.headers, progress=progress) == [CONTENT, b"else"]
        assert "Authorization" in fake.requests[0][1]
        assert all("Authorization" not in headers for _, headers in store.requests + stranger.requests)
    assert sorted(progress.tasks) == [
        ("download", f"{elsewhere.name} {elsewhere.version}", 4),
        ("download", f"{wanted.name} {wanted.version}", len(CONTENT)),
    ]
    assert not any(b"s3cret" in path.read_bytes() for path in files_in(cache.root))


def test_login_of_a_lock_s_own_url(fake: FakeIndex, cache: Cache) -> None:
    fake.login = ("ann", "s3cret")
    wanted = artifact(fake)
    wanted = artifact(fake, url=wanted.url.replace("//", "//ann:s3cret@"))
    assert get(cache, wanted, headers=Credentials().headers) == [CONTENT]


def test_local_files(fake: FakeIndex, cache: Cache, tmp_path: Path) -> None:
    path = tmp_path / "my wheels" / "pkg-1.0-py3-none-any.whl"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert get(cache, artifact(fake, url=path.as_uri())) == [CONTENT]
    path.unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        get(Cache(tmp_path / "other"), artifact(fake, url=path.as_uri()))
    assert fake.requests == []


@pytest.mark.parametrize(
    "url", ["ftp://h.example/x.whl", "x.whl", "", "http://[x/x.whl", "http://", "file://", "file:///a%00b", "http:x"]
)
def test_urls_that_cannot_be_fetched(fake: FakeIndex, cache: Cache, url: str) -> None:
    with pytest.raises(HatchDockerError):
        get(cache, artifact(fake, url=url))
    assert files_in(cache.root) == []


def test_host_that_does_not_answer_ends_the_rest(fake: FakeIndex, cache: Cache) -> None:
    with serving() as gone:
        artifacts = [artifact(gone, f"pkg{number}", b"%d" % number) for number in range(20)]
    with pytest.raises(NetworkError, match="cannot be reached"):
        get(cache, *artifacts, threads=1)


def test_full_disk_is_clean_and_leaves_nothing(fake: FakeIndex, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("hatch_docker.support.atomic.os.fsync", full)
    with pytest.raises(OutputError, match="free some space"):
        get(cache, artifact(fake))
    assert files_in(cache.root) == []


def test_two_at_once_for_the_same_file(fake: FakeIndex, cache: Cache) -> None:
    wanted = artifact(fake)
    results: list[list[bytes]] = []
    runs = [threading.Thread(target=lambda: results.append(get(Cache(cache.root), wanted))) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert results == [[CONTENT]] * 4
    assert len(files_in(cache.root)) == 1


def test_threads_leave_the_umask_alone(fake: FakeIndex, cache: Cache) -> None:
    before = os.umask(0o027)
    try:
        get(cache, *(artifact(fake, f"pkg{number}", b"%d" % number) for number in range(20)))
    finally:
        assert os.umask(before) == 0o027


SCRIPT = """
import sys
from pathlib import Path
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import obtain
url, digest, root = sys.argv[1:]
wanted = Artifact(name="pkg", version="1.0", filename="pkg-1.0-py3-none-any.whl", url=url, hashes={"sha256": digest})
try:
    obtain([wanted], cache=Cache(Path(root)), http=Http())
except KeyboardInterrupt:
    sys.exit(7)
"""


def stalled_download(fake: FakeIndex, wanted: Artifact, cache: Cache) -> subprocess.Popen[bytes]:
    """A process that has half of a wheel and waits for the rest."""
    fake.stalled.add(f"/files/{wanted.filename}")
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, wanted.url, wanted.hashes["sha256"], str(cache.root)],
        cwd=Path(__file__).parent.parent,
    )
    while not any(path.stat().st_size for path in files_in(cache.root)):
        assert process.poll() is None
        time.sleep(0.01)
    return process


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_killed_or_interrupted_half_way(fake: FakeIndex, cache: Cache, signum: int) -> None:
    wanted = artifact(fake)
    with stalled_download(fake, wanted, cache) as process:
        process.send_signal(signum)
        assert process.wait(timeout=30) == (7 if signum == signal.SIGINT else -signum)
    assert not (cache.root / "blobs").exists()
    fake.stalled.clear()
    assert get(cache, wanted) == [CONTENT]


@pytest.mark.network
def test_wheels_of_the_index_of_this_machine(tmp_path: Path, cache: Cache) -> None:
    settings = discover(root=tmp_path, environ=os.environ, home=Path.home())
    http = Http(Network(ca_file=settings.ca_file or ca_file_of(os.environ)))
    artifacts = [
        Artifact(name=name, version=version, filename=file.filename, url=file.url, hashes=file.hashes, size=file.size)
        for name, version in [("packaging", "24.0"), ("idna", "3.7"), ("six", "1.16.0")]
        for file in Index(settings, http).files(name)
        if file.filename.startswith(f"{name}-{version}-") and file.filename.endswith(".whl")
    ]
    wheels = obtain(artifacts, cache=cache, http=http, headers=settings.credentials.headers)
    assert {wheel.artifact.name for wheel in wheels} == {"packaging", "idna", "six"}
