import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_index import FakeIndex, Notes, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many

from hatch_docker.errors import ArtifactError, HatchDockerError, NetworkError
from hatch_docker.index.client import Index, IndexFile
from hatch_docker.index.credentials import Credentials, Login
from hatch_docker.index.pages import Page, files_of, parse_page
from hatch_docker.index.settings import IndexSettings, discover
from hatch_docker.index.tool_settings import ca_file_of
from hatch_docker.support.http import Http, Network
from hatch_docker.support.progress import Progress

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture(params=["json", "html"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeIndex]:
    with serving(json=request.param == "json") as index:
        index.add("my-pkg", "my_pkg-1.0-py3-none-any.whl", b"one")
        index.add("my-pkg", "my_pkg-1.1.yanked.tar.gz", b"two")
        yield index


def client(*urls: str, credentials: Credentials | None = None, progress: Progress | None = None) -> Index:
    found = IndexSettings(url=urls[0], extra_urls=urls[1:], credentials=credentials or Credentials())
    return Index(found, Http(), progress=progress)


def test_files_of_a_package(fake: FakeIndex) -> None:
    wheel, sdist = client(fake.url).files("My.Pkg")
    assert wheel == IndexFile(
        filename="my_pkg-1.0-py3-none-any.whl",
        url=fake.file_url("my_pkg-1.0-py3-none-any.whl"),
        hashes={"sha256": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"},
        size=3 if fake.json else None,
        requires_python=">=3.8",
    )
    assert sdist.yanked
    assert fake.paths() == ["/simple/my-pkg/"]


def test_links_are_relative_to_the_target_of_a_redirect(fake: FakeIndex) -> None:
    with serving() as front:
        front.redirects["/root/my-pkg/"] = f"{fake.url}my-pkg/"
        files = client(f"http://{front.host}/root").files("my-pkg")
    assert files[0].url == fake.file_url("my_pkg-1.0-py3-none-any.whl")


def test_all_indexes_are_searched_the_main_one_first(fake: FakeIndex) -> None:
    with serving() as extra:
        extra.add("my-pkg", "my_pkg-2.0-py3-none-any.whl", b"three")
        extra.add("other", "other-1.0-py3-none-any.whl", b"four")
        index = client(fake.url, extra.url)
        assert [file.url.rsplit("-", 3)[0][-3:] for file in index.files("my-pkg") if file.url.endswith("whl")] == [
            "1.0",
            "2.0",
        ]
        assert len(index.files("other")) == 1


def test_error_for_an_unknown_package_names_it_and_the_indexes(fake: FakeIndex) -> None:
    with pytest.raises(ArtifactError, match="no package index has nothing") as caught:
        client(fake.url, fake.url + "more/").files("nothing")
    assert caught.value.place == f"{fake.url}, {fake.url}more/"


def test_login_is_sent_only_to_its_index(fake: FakeIndex) -> None:
    fake.login = ("ann", "s3cret")
    with serving() as other:
        other.add("my-pkg", "my_pkg-3.0-py3-none-any.whl", b"x")
        credentials = Credentials(by_url=((fake.url, Login(username="ann", password="s3cret")),))
        assert len(client(fake.url, other.url, credentials=credentials).files("my-pkg")) == 3
        assert all("Authorization" not in headers for _, headers in other.requests)


@pytest.mark.parametrize(
    ("status", "message"), [(401, "netrc"), (403, "netrc"), (429, "wait"), (418, "unexpected"), (503, "failed")]
)
def test_error_for_a_status_has_a_hint_and_no_login(fake: FakeIndex, status: int, message: str) -> None:
    fake.statuses["/simple/my-pkg/"] = [status] * 9
    credentials = Credentials(by_url=((fake.url, Login(username="ann", password="s3cret")),))
    with pytest.raises(ArtifactError, match=message) as caught:
        client(fake.url, credentials=credentials).files("my-pkg")
    assert "s3cret" not in str(caught.value)
    assert str(status) in caught.value.message


@pytest.mark.parametrize("status", [429, 500, 503])
def test_temporary_errors_are_retried(fake: FakeIndex, status: int) -> None:
    fake.statuses["/simple/my-pkg/"] = [status, status]
    assert len(client(fake.url).files("my-pkg")) == 2


def test_failing_index_is_skipped_if_another_has_the_package(fake: FakeIndex) -> None:
    progress = Notes()
    with serving(login=("nobody", "knows")) as closed:
        index = client(closed.url, fake.url, progress=progress)
        assert len(index.files("my-pkg")) == 2
        assert len(index.files("my-pkg")) == 2
        assert len(closed.requests) == 1
        assert len(progress.notes) == 1
        with pytest.raises(ArtifactError, match="requires a login"):
            index.files("nothing")


def test_unreachable_index_is_an_error() -> None:
    with serving() as gone:
        url = gone.url
    with pytest.raises(NetworkError, match="cannot be reached"):
        client(url).files("my-pkg")


def test_newer_api_is_refused(fake: FakeIndex) -> None:
    fake.pages["/simple/json/"] = ("application/vnd.pypi.simple.v2+json", b'{"meta":{"api-version":"2.0"},"files":[]}')
    page = b'<meta name="pypi:repository-version" content="2.0"><a href="x.whl">'
    fake.pages["/simple/html/"] = ("text/html", page)
    for name in ("json", "html"):
        with pytest.raises(ArtifactError, match="version 2"):
            client(fake.url).files(name)


def test_other_media_type_is_an_error(fake: FakeIndex) -> None:
    fake.pages["/simple/my-pkg/"] = ("image/png", b"\x89PNG")
    with pytest.raises(ArtifactError, match="image/png"):
        client(fake.url).files("my-pkg")


class Pages(dict[str, tuple[str, bytes]]):
    """Pages for one path, each sent once, and the last one again and again."""

    def __init__(self, path: str, *bodies: bytes) -> None:
        self[path] = ("text/html", b"")
        self._left = list(bodies)

    def __getitem__(self, path: str) -> tuple[str, bytes]:
        return "text/html", self._left.pop(0) if len(self._left) > 1 else self._left[0]


LINKS = b"<!DOCTYPE html><HTML><body><a href='a-1.tar.gz'>a-1.tar.gz</a><a href='a-2.tar.gz'>a-2.tar.gz</a>"


def test_html_that_was_cut_with_the_right_length_is_requested_again(fake: FakeIndex) -> None:
    fake.pages = Pages("/simple/a/", LINKS[:60], LINKS + b"</body></HTML> <!-- from a cache -->")
    assert [file.filename for file in client(fake.url).files("a")] == ["a-1.tar.gz", "a-2.tar.gz"]
    assert len(fake.requests) == 2


@pytest.mark.parametrize(("page", "requests"), [(LINKS, 2), (LINKS.replace(b"<HTML>", b""), 1)])
def test_html_may_have_no_end(fake: FakeIndex, page: bytes, requests: int) -> None:
    fake.pages = Pages("/simple/a/", page)
    assert len(client(fake.url).files("a")) == 2
    assert len(fake.requests) == requests


def test_html_base_and_unusual_links(fake: FakeIndex) -> None:
    page = """<base href="/elsewhere/"><A HREF=" a-1-py3-none-any.whl#md5=0 ">a</A><a name=x>b</a>
        <a href="https://u:p@h.example/b%2B1.tar.gz?sig=1#sha256=AB">c</a><a href="http://[x/c.whl">d</a>"""
    fake.pages["/simple/odd/"] = ("text/html", page.encode())
    first, second = client(fake.url).files("odd")
    assert first.url == f"http://{fake.host}/elsewhere/a-1-py3-none-any.whl"
    assert first.hashes == {"md5": "0"}
    assert (second.filename, second.url) == ("b+1.tar.gz", "https://h.example/b%2B1.tar.gz?sig=1")


def test_local_index(tmp_path: Path) -> None:
    (tmp_path / "simple" / "my-pkg").mkdir(parents=True)
    (tmp_path / "simple" / "my-pkg" / "index.html").write_text(
        '<a href="../../files/my_pkg-1.0-py3-none-any.whl#sha256=00">x</a>'
    )
    index = client((tmp_path / "simple").as_uri())
    [file] = index.files("my-pkg")
    assert file.url == (tmp_path / "files" / "my_pkg-1.0-py3-none-any.whl").as_uri()
    with pytest.raises(ArtifactError, match="no package index has other"):
        index.files("other")


def test_missing_local_index_is_skipped_with_a_note(fake: FakeIndex, tmp_path: Path) -> None:
    progress = Notes()
    assert client(fake.url, (tmp_path / "gone").as_uri(), progress=progress).files("my-pkg")
    assert "gone" in progress.notes[0]


@pytest.mark.parametrize("url", ["http://[x/simple", "ftp://h.example/simple", "file:///a%00b", "nonsense", "http://"])
def test_invalid_url_is_an_error(url: str) -> None:
    with pytest.raises(HatchDockerError):
        client(url).files("my-pkg")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["filename", "url", "hashes", "size", "x"]), inner),
    max_leaves=12,
)


@settings(max_examples=many(60))
@given(
    body=st.binary()
    | st.text().map(lambda text: f"<a href='{text}'><![{text}".encode(errors="replace"))
    | JSON.map(lambda value: json.dumps({"meta": {"api-version": "1.0"}, "files": value}).encode())
    | JSON.map(lambda value: json.dumps({"meta": value, "files": [value, {"filename": value, "url": value}]}).encode()),
    media_type=st.sampled_from(["text/html", "application/vnd.pypi.simple.v1+json"]),
)
def test_any_page_gives_files_or_a_hatch_docker_error(body: bytes, media_type: str) -> None:
    page = Page(url="https://h.example/simple/x/", media_type=media_type, body=body)
    try:
        files = files_of(page.url, lambda _url: page)
    except HatchDockerError:
        return
    assert all(file.url.encode() and file.filename.encode() for file in files or [])


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"files":[],"meta":{"api-version":' + b"1" * 9000 + b"}}", b"<![", b"<!" * 1000]
)
def test_hostile_pages_give_nothing(body: bytes) -> None:
    for media_type in ("text/html", "application/json"):
        page = Page(url="https://h.example/simple/x/", media_type=media_type, body=body)
        with contextlib.suppress(ArtifactError):
            assert parse_page(page) == []


@pytest.mark.network
def test_real_index(tmp_path: Path) -> None:
    found = discover(root=tmp_path, environ=os.environ, home=Path.home())
    index = Index(found, Http(Network(ca_file=found.ca_file or ca_file_of(os.environ))))
    files = index.files("Packaging")
    assert any(file.filename.startswith("packaging-24.0-py3-none-any") and file.hashes.get("sha256") for file in files)
