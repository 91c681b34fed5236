"""Flat indexes: directories and pages of files."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from fake_index import Notes, serving

from hatch_docker.errors import ArtifactError
from hatch_docker.index.client import Index
from hatch_docker.index.flat import FlatIndexes, name_of
from hatch_docker.index.pages import Page
from hatch_docker.index.settings import IndexSettings
from hatch_docker.support.http import Http
from hatch_docker.support.threads import begun

PAGE = """
<a href="files/my_pkg-1.0-py3-none-any.whl#sha256=00">a</a> <a href="/files/my-pkg-2.0.tar.gz">b</a>
<a href="files/other-1.0-py3-none-any.whl#sha256=01">c</a> <a href="notes.html">d</a>
"""


def flat(*urls: str, progress: Notes | None = None) -> Index:
    return Index(IndexSettings(flat_urls=urls, no_index=True), Http(), progress=progress)


def test_files_of_a_directory_are_hashed(tmp_path: Path) -> None:
    for name in ("my_pkg-1.0-py3-none-any.whl", "My.Pkg-2.0.tar.gz", "other-1.0-py3-none-any.whl", "README", "x.whl"):
        (tmp_path / name).write_bytes(name.encode())
    wheel = tmp_path / "my_pkg-1.0-py3-none-any.whl"
    sdist, file = flat(tmp_path.as_uri()).files("my-pkg")
    assert (file.filename, file.url, file.size) == (wheel.name, wheel.as_uri(), len(wheel.name))
    assert file.hashes == {"sha256": hashlib.sha256(wheel.name.encode()).hexdigest()}
    assert sdist.filename == "My.Pkg-2.0.tar.gz"


def test_page_is_read_once(tmp_path: Path) -> None:
    with serving() as fake:
        fake.pages["/links/"] = ("text/html", PAGE.encode())
        index = flat(f"http://{fake.host}/links/")
        wheel, sdist = index.files("My_Pkg")
        assert wheel.url == f"http://{fake.host}/links/files/my_pkg-1.0-py3-none-any.whl"
        assert (wheel.hashes, sdist.hashes) == ({"sha256": "00"}, {})
        assert [each.filename for each in index.files("other")] == ["other-1.0-py3-none-any.whl"]
        assert fake.paths() == ["/links/"]


def test_slow_page_does_not_hold_up_others() -> None:
    reached, release = threading.Event(), threading.Event()

    def get(url: str) -> Page:
        if "slow" in url:
            reached.set()
            release.wait(60)
        return Page(url=url, media_type="text/html", body=PAGE.encode())

    indexes = FlatIndexes(get)
    slow = begun(lambda: indexes.files("http://slow.example/", "other"))
    assert reached.wait(60)
    assert len(indexes.files("http://index.example/", "other")) == 1
    release.set()
    assert len(slow()) == 1


def test_local_page(tmp_path: Path) -> None:
    (tmp_path / "links.html").write_text(PAGE)
    assert len(flat((tmp_path / "links.html").as_uri()).files("my-pkg")) == 2


def test_files_are_found_beside_the_indexes(tmp_path: Path) -> None:
    (tmp_path / "my_pkg-1.0-py3-none-any.whl").write_bytes(b"x")
    with serving() as fake:
        fake.add("my-pkg", "my_pkg-2.0-py3-none-any.whl", b"y")
        index = Index(IndexSettings(url=fake.url, flat_urls=(tmp_path.as_uri(),)), Http())
        assert [file.filename.split("-")[1] for file in index.files("my-pkg")] == ["2.0", "1.0"]
        assert index.urls == (fake.url, tmp_path.as_uri())


def test_missing_directory_is_an_error_unless_others_have_the_package(tmp_path: Path) -> None:
    progress = Notes()
    gone = (tmp_path / "gone").as_uri()
    with pytest.raises(ArtifactError, match="find-links cannot be listed") as caught:
        flat(gone).files("my-pkg")
    assert caught.value.place == str(tmp_path / "gone")
    (tmp_path / "my_pkg-1.0-py3-none-any.whl").write_bytes(b"x")
    assert flat(gone, tmp_path.as_uri(), progress=progress).files("my-pkg")
    assert len(progress.notes) == 1


def test_package_that_no_flat_index_has(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no package index has nothing") as caught:
        flat(tmp_path.as_uri()).files("nothing")
    assert tmp_path.name in caught.value.place


def test_page_that_does_not_exist() -> None:
    with serving() as fake, pytest.raises(ArtifactError, match="the host does not have it"):
        flat(f"http://{fake.host}/gone").files("my-pkg")


def test_no_index_at_all() -> None:
    with pytest.raises(ArtifactError, match="no package index has my-pkg"):
        flat().files("my-pkg")


def test_local_index_without_hashes_is_hashed(tmp_path: Path) -> None:
    (tmp_path / "simple" / "my-pkg").mkdir(parents=True)
    (tmp_path / "my_pkg-1.0-py3-none-any.whl").write_bytes(b"x")
    (tmp_path / "simple" / "my-pkg" / "index.html").write_text('<a href="../../my_pkg-1.0-py3-none-any.whl">x</a>')
    (file,) = Index(IndexSettings(url=(tmp_path / "simple").as_uri()), Http()).files("my-pkg")
    assert file.hashes == {"sha256": hashlib.sha256(b"x").hexdigest()}


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("my_pkg-1.0-py3-none-any.whl", "my-pkg"),
        ("My.Pkg-1.0.zip", "my-pkg"),
        ("my-pkg-1.0.tar.gz", "my-pkg"),
        ("pkg.whl", ""),
        ("pkg-1.0.exe", ""),
        ("", ""),
    ],
)
def test_names_of_files(filename: str, name: str) -> None:
    assert name_of(filename) == name
