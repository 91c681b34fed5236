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
from builds import entries_below
from fake_index import FakeIndex, Notes, serving

from hatch_docker.errors import ArtifactError, DigestMismatchError, HatchDockerError, NetworkError, OutputError
from hatch_docker.index.artifact import Artifact, SourceTree
from hatch_docker.index.client import Index
from hatch_docker.index.credentials import Credentials, Login
from hatch_docker.index.download import cached_file, download, locate
from hatch_docker.index.settings import discover
from hatch_docker.index.tool_settings import ca_file_of
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http, Network

pytestmark = pytest.mark.usefixtures("no_waiting")

CONTENT = bytes(range(256)) * 4096  # 1 MiB: several chunks


@pytest.fixture
def fake() -> Iterator[FakeIndex]:
    with serving() as index:
        yield index


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def artifact(fake: FakeIndex, name: str = "pkg", content: bytes = CONTENT, **fields: Any) -> Artifact:
    """The artifact of a wheel that the index has."""
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
    return [wheel.path.read_bytes() for wheel in download(artifacts, cache=cache, http=Http(), **options)]


def files_in(folder: Path) -> list[Path]:
    return list(entries_below(folder))


def test_files_are_in_the_order_of_the_artifacts(fake: FakeIndex, cache: Cache) -> None:
    artifacts = [artifact(fake, f"pkg{number}", b"x" * (1000 * (5 - number))) for number in range(5)]
    wheels = download(artifacts, cache=cache, http=Http())
    assert [wheel.artifact for wheel in wheels] == artifacts
    assert [wheel.digest for wheel in wheels] == [f"sha256:{each.hashes['sha256']}" for each in artifacts]


def test_cached_files_need_no_request_and_no_headers(fake: FakeIndex, cache: Cache) -> None:
    pkg = artifact(fake)
    assert get(cache, pkg) == [CONTENT]
    fake.requests.clear()

    def headers(url: str) -> Mapping[str, str]:
        raise AssertionError(url)

    for again in (cache, Cache(cache.root)):
        assert get(again, pkg, headers=headers) == [CONTENT]
    assert fake.requests == []


def test_corrupt_cache_entry_is_downloaded_again(fake: FakeIndex, cache: Cache) -> None:
    [wheel] = download([artifact(fake)], cache=cache, http=Http())
    wheel.path.write_bytes(CONTENT[:-1] + b"?")
    assert get(Cache(cache.root), wheel.artifact) == [CONTENT]


def test_duplicate_artifacts_are_downloaded_once(fake: FakeIndex, cache: Cache) -> None:
    pkg = artifact(fake)
    assert get(cache, pkg, pkg) == [CONTENT, CONTENT]
    assert len(fake.requests) == 1


def test_located_files_are_downloaded_when_they_are_needed(fake: FakeIndex, cache: Cache) -> None:
    pkg, other = artifact(fake), artifact(fake, "other")
    first, second, _ = locate([pkg, pkg, other], cache=cache, http=Http())
    assert fake.requests == []
    assert first.path.read_bytes() == second.path.read_bytes() == CONTENT
    assert len(fake.requests) == 1


def test_facts_are_of_a_file_that_has_all_hashes(fake: FakeIndex, cache: Cache) -> None:
    both = {"sha256": "0" * 64, "sha512": "1" * 128}
    one, two = locate(
        [artifact(fake, hashes={"sha256": "0" * 64}), artifact(fake, hashes=both)], cache=cache, http=Http()
    )
    assert one.digest == two.digest
    assert one.identity == one.digest != two.identity


def test_no_artifacts(cache: Cache) -> None:
    assert get(cache) == []


def test_sha512_is_enough(fake: FakeIndex, cache: Cache) -> None:
    pkg = artifact(fake, hashes={"sha512": hashlib.sha512(CONTENT).hexdigest()})
    assert get(cache, pkg) == [CONTENT]
    with pytest.raises(DigestMismatchError):
        get(cache, artifact(fake, "other", hashes={"sha512": "0" * 128}))


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_download_is_resumed(fake: FakeIndex, cache: Cache, ranges: bool) -> None:
    pkg = artifact(fake)
    fake.ranges = ranges
    fake.broken.add(f"/files/{pkg.filename}")
    assert get(cache, pkg) == [CONTENT]
    assert fake.requests[1][1]["Range"].startswith("bytes=")


def test_temporary_errors_are_retried(fake: FakeIndex, cache: Cache) -> None:
    pkg = artifact(fake)
    fake.statuses[f"/files/{pkg.filename}"] = [429, 503]
    assert get(cache, pkg) == [CONTENT]


def test_wrong_content_is_reported_and_not_kept(fake: FakeIndex, cache: Cache) -> None:
    pkg = artifact(fake)
    fake.add("pkg", pkg.filename, CONTENT[:-1] + b"?")
    with pytest.raises(DigestMismatchError, match=pkg.filename) as caught:
        get(cache, pkg)
    assert fake.host in str(caught.value)
    assert files_in(cache.root) == []


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1, 1, 0])
def test_wrong_size_is_reported_and_not_kept(fake: FakeIndex, cache: Cache, size: int) -> None:
    with pytest.raises(DigestMismatchError, match="wrong size"):
        get(cache, artifact(fake, size=size))
    assert files_in(cache.root) == []


def test_unknown_size_is_not_checked(fake: FakeIndex, cache: Cache) -> None:
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
def test_error_for_a_status_has_a_hint_and_no_login(fake: FakeIndex, cache: Cache, status: int) -> None:
    pkg = artifact(fake)
    pkg = artifact(fake, url=pkg.url.replace("//", "//ann:s3cret@") + "?token=s3cret")
    fake.statuses[f"/files/{pkg.filename}"] = [status] * 9
    with pytest.raises(ArtifactError, match=pkg.filename) as caught:
        get(cache, pkg)
    assert str(status) in caught.value.message
    assert caught.value.hint
    assert "s3cret" not in str(caught.value)


def test_login_is_not_sent_to_the_target_of_a_redirect(fake: FakeIndex, cache: Cache) -> None:
    fake.login = ("ann", "s3cret")
    pkg = artifact(fake)
    credentials = Credentials(by_url=((fake.url, Login(username="ann", password="s3cret")),))
    with serving() as store, serving() as stranger:
        store.add("pkg", "stored", CONTENT)
        fake.login = None
        fake.redirects[f"/files/{pkg.filename}"] = store.file_url("stored")
        elsewhere = artifact(stranger, "elsewhere", b"else")
        progress = Notes()
        assert get(cache, pkg, elsewhere, headers=credentials.headers, progress=progress) == [CONTENT, b"else"]
        assert "Authorization" in fake.requests[0][1]
        assert all("Authorization" not in headers for _, headers in store.requests + stranger.requests)
    assert sorted(progress.tasks) == [
        ("download", f"{elsewhere.name} {elsewhere.version}", 4),
        ("download", f"{pkg.name} {pkg.version}", len(CONTENT)),
    ]
    assert not any(b"s3cret" in path.read_bytes() for path in files_in(cache.root))


def test_login_in_the_url_of_a_lock_is_sent(fake: FakeIndex, cache: Cache) -> None:
    fake.login = ("ann", "s3cret")
    pkg = artifact(fake)
    pkg = artifact(fake, url=pkg.url.replace("//", "//ann:s3cret@"))
    assert get(cache, pkg, headers=Credentials().headers) == [CONTENT]


def test_local_files_are_copied(fake: FakeIndex, cache: Cache, tmp_path: Path) -> None:
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
def test_unsupported_or_invalid_url_is_an_error(fake: FakeIndex, cache: Cache, url: str) -> None:
    with pytest.raises(HatchDockerError):
        get(cache, artifact(fake, url=url))
    assert files_in(cache.root) == []


def test_unreachable_host_is_an_error_at_once(fake: FakeIndex, cache: Cache) -> None:
    with serving() as gone:
        artifacts = [artifact(gone, f"pkg{number}", b"%d" % number) for number in range(20)]
    with pytest.raises(NetworkError, match="cannot be reached"):
        get(cache, *artifacts, threads=1)


def test_full_disk_is_an_error_and_leaves_no_file(
    fake: FakeIndex, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("hatch_docker.support.atomic.os.fsync", full)
    with pytest.raises(OutputError, match="free some space"):
        get(cache, artifact(fake))
    assert files_in(cache.root) == []


def test_concurrent_downloads_of_the_same_file(fake: FakeIndex, cache: Cache) -> None:
    pkg = artifact(fake)
    results: list[list[bytes]] = []
    runs = [threading.Thread(target=lambda: results.append(get(Cache(cache.root), pkg))) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert results == [[CONTENT]] * 4
    assert len(files_in(cache.root)) == 1


def test_umask_stays_unchanged(fake: FakeIndex, cache: Cache) -> None:
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
from hatch_docker.index.artifact import Artifact, SourceTree
from hatch_docker.index.download import cached_file, download
url, digest, root = sys.argv[1:]
pkg = Artifact(name="pkg", version="1.0", filename="pkg-1.0-py3-none-any.whl", url=url, hashes={"sha256": digest})
try:
    download([pkg], cache=Cache(Path(root)), http=Http())
except KeyboardInterrupt:
    sys.exit(7)
"""


def stalled_download(fake: FakeIndex, pkg: Artifact, cache: Cache) -> subprocess.Popen[bytes]:
    """A process that has downloaded half of a wheel and waits for the rest."""
    fake.stalled.add(f"/files/{pkg.filename}")
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, pkg.url, pkg.hashes["sha256"], str(cache.root)],
        cwd=Path(__file__).parent.parent,
    )
    while not any(path.stat().st_size for path in files_in(cache.root)):
        assert process.poll() is None
        time.sleep(0.01)
    return process


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_killed_or_interrupted_download_leaves_no_blob(fake: FakeIndex, cache: Cache, signum: int) -> None:
    pkg = artifact(fake)
    with stalled_download(fake, pkg, cache) as process:
        process.send_signal(signum)
        assert process.wait(timeout=60) == (7 if signum == signal.SIGINT else -signum)
    assert not (cache.root / "blobs").exists()
    fake.stalled.clear()
    assert get(cache, pkg) == [CONTENT]


def both(content: bytes = CONTENT, other: bytes = CONTENT) -> dict[str, str]:
    """Two hashes, of two contents."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "sha512": hashlib.sha512(other).hexdigest()}


def test_all_hashes_must_match(fake: FakeIndex, cache: Cache) -> None:
    assert get(cache, artifact(fake, hashes=both())) == [CONTENT]
    for wrong in (both(other=b"x"), both(content=b"x")):
        fresh = Cache(cache.root.parent / f"fresh-{wrong['sha512'][:8]}")
        with pytest.raises(DigestMismatchError, match=r"sha(256|512):"):
            get(fresh, artifact(fake, hashes=wrong))
        assert not (fresh.root / "blobs").exists()


def test_cached_file_must_match_all_hashes_too(fake: FakeIndex, cache: Cache) -> None:
    get(cache, artifact(fake))
    wrong = artifact(fake, hashes=both(other=b"x"))
    with pytest.raises(DigestMismatchError, match="matches only some of its hashes"):
        get(cache, wrong)
    with pytest.raises(DigestMismatchError, match="matches only some of its hashes"):
        cached_file(wrong, cache)
    assert cached_file(artifact(fake, hashes=both()), cache)


def test_several_hashes_are_compared_once(fake: FakeIndex, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    pkg = artifact(fake, hashes=both())
    get(cache, pkg)
    get(cache, pkg)
    monkeypatch.setattr("hatch_docker.index.download.chunks_of", lambda _: pytest.fail("it is read again"))
    assert cached_file(pkg, Cache(cache.root))


def test_source_tree_is_not_downloaded(cache: Cache) -> None:
    tree = Artifact(name="demo", version="1", tree=SourceTree(url="file:///demo"))
    with pytest.raises(ValueError, match="demo is a source tree"):
        get(cache, tree)


@pytest.mark.network
def test_wheels_of_a_real_index(tmp_path: Path, cache: Cache) -> None:
    settings = discover(root=tmp_path, environ=os.environ, home=Path.home())
    http = Http(Network(ca_file=settings.ca_file or ca_file_of(os.environ)))
    artifacts = [
        Artifact(name=name, version=version, filename=file.filename, url=file.url, hashes=file.hashes, size=file.size)
        for name, version in [("packaging", "24.0"), ("idna", "3.7"), ("six", "1.16.0")]
        for file in Index(settings, http).files(name)
        if file.filename.startswith(f"{name}-{version}-") and file.filename.endswith(".whl")
    ]
    wheels = download(artifacts, cache=cache, http=http, headers=settings.credentials.headers)
    assert {wheel.artifact.name for wheel in wheels} == {"packaging", "idna", "six"}
