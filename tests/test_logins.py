"""Logins that other programs keep, and to whom they are sent."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_index import FakeIndex, Notes, serving

from hatch_docker.errors import ArtifactError
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.client import Index
from hatch_docker.index.credentials import Credentials, Login
from hatch_docker.index.download import download
from hatch_docker.index.settings import IndexSettings, discover
from hatch_docker.index.stores import Keyring, read_uv_store
from hatch_docker.index.tool_settings import ToolSettings
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http

posix_only = pytest.mark.skipif(os.name == "nt", reason="the programs are shell scripts")
WHEEL = "demo-1.0-py3-none-any.whl"


@pytest.fixture
def closed() -> Iterator[FakeIndex]:
    """An index that needs a login."""
    with serving(login=("ann", "s3cret")) as index:
        index.add("demo", WHEEL, b"wheel")
        yield index


def program(folder: Path, body: str) -> dict[str, str]:
    """The environment with a program `keyring`, whose arguments are in the file `asked`, one call per line."""
    folder.mkdir(exist_ok=True)
    path = folder / "keyring"
    path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n{body}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def asked(folder: Path) -> list[str]:
    path = folder / "asked"
    return path.read_text().splitlines() if path.exists() else []


def settings(tmp_path: Path, url: str, environ: dict[str, str], progress: Notes | None = None) -> IndexSettings:
    return discover(
        own=ToolSettings(url=url), root=tmp_path, environ=environ, home=tmp_path, progress=progress or Notes()
    )


def fetched(tmp_path: Path, index: FakeIndex, credentials: Credentials) -> bytes:
    artifact = Artifact(
        name="demo",
        version="1.0",
        filename=WHEEL,
        url=index.file_url(WHEEL),
        hashes={"sha256": hashlib.sha256(b"wheel").hexdigest()},
    )
    (file,) = download([artifact], cache=Cache(tmp_path / "cache"), http=Http(), headers=credentials.headers)
    return file.path.read_bytes()


@posix_only
@pytest.mark.parametrize("variable", ["UV_KEYRING_PROVIDER", "PIP_KEYRING_PROVIDER"])
def test_keyring_is_asked_for_the_user_of_an_index_after_a_refusal(
    tmp_path: Path, closed: FakeIndex, variable: str
) -> None:
    environ = {**program(tmp_path / "bin", 'echo "s3cret"'), variable: "subprocess"}
    found = settings(tmp_path, f"http://ann@{closed.host}/simple/", environ)
    assert asked(tmp_path / "bin") == []
    assert Index(found, Http()).files("demo")
    assert fetched(tmp_path, closed, found.credentials) == b"wheel"
    assert asked(tmp_path / "bin") == [f"get {closed.url} ann"]


@posix_only
def test_keyring_is_asked_for_the_host_if_it_has_no_login_for_the_url(tmp_path: Path, closed: FakeIndex) -> None:
    body = f'[ "$2" = "{closed.host}" ] && echo s3cret || exit 1'
    environ = {**program(tmp_path / "bin", body), "UV_KEYRING_PROVIDER": "subprocess"}
    found = settings(tmp_path, f"http://ann@{closed.host}/simple/", environ)
    assert fetched(tmp_path, closed, found.credentials) == b"wheel"
    assert asked(tmp_path / "bin") == [f"get {closed.url} ann", f"get {closed.host} ann"]


@posix_only
def test_keyring_gives_a_user_name_too(tmp_path: Path, closed: FakeIndex) -> None:
    environ = {**program(tmp_path / "bin", "echo ann; echo s3cret"), "UV_KEYRING_PROVIDER": "subprocess"}
    assert Index(settings(tmp_path, closed.url, environ), Http()).files("demo")
    assert asked(tmp_path / "bin") == [f"get {closed.url} --mode creds"]


@posix_only
@pytest.mark.parametrize("table", ['keyring-provider = "subprocess"', '[pip]\nkeyring-provider = "subprocess"'])
def test_keyring_of_a_configuration_file(tmp_path: Path, closed: FakeIndex, table: str) -> None:
    (tmp_path / "uv.toml").write_text(table)
    found = settings(tmp_path, closed.url, program(tmp_path / "bin", "echo ann; echo s3cret"))
    assert Index(found, Http()).files("demo")


@posix_only
@pytest.mark.parametrize("environ", [{}, {"UV_KEYRING_PROVIDER": "disabled"}, {"PIP_KEYRING_PROVIDER": "import"}])
def test_keyring_is_not_asked_unless_it_is_configured(
    tmp_path: Path, closed: FakeIndex, environ: dict[str, str]
) -> None:
    found = settings(tmp_path, closed.url, {**program(tmp_path / "bin", "echo ann; echo s3cret"), **environ})
    with pytest.raises(ArtifactError, match="requires a login"):
        Index(found, Http()).files("demo")
    assert asked(tmp_path / "bin") == []


@posix_only
def test_wrong_login_of_keyring_is_tried_once(tmp_path: Path, closed: FakeIndex) -> None:
    environ = {**program(tmp_path / "bin", "echo ann; echo wr0ng"), "UV_KEYRING_PROVIDER": "subprocess"}
    found = settings(tmp_path, closed.url, environ)
    with pytest.raises(ArtifactError, match="requires a login") as caught:
        Index(found, Http()).files("demo")
    assert "wr0ng" not in str(caught.value)
    assert len(closed.requests) == 2
    with pytest.raises(ArtifactError, match="requires a login"):
        fetched(tmp_path, closed, found.credentials)
    assert len(asked(tmp_path / "bin")) == 1


@posix_only
@pytest.mark.parametrize(
    ("body", "note"), [("exec sleep 60", "did not answer within"), ("echo s3cret >&2; exit 3", ""), ("exit 0", "")]
)
def test_keyring_that_fails_does_not_stop_anything(tmp_path: Path, body: str, note: str) -> None:
    progress = Notes()
    keyring = Keyring(program(tmp_path / "bin", body), progress, seconds=0.5 if "sleep" in body else 60)
    assert keyring("https://h.example/simple/", "ann") is None
    assert keyring("https://h.example/simple/", "ann") is None
    assert keyring("https://other.example/simple/", "") is None
    assert "".join(progress.notes).count("keyring is not used") == bool(note)
    assert note in "".join(progress.notes)
    assert "s3cret" not in "".join(progress.notes)


def test_keyring_that_is_not_installed_is_noted_once(tmp_path: Path) -> None:
    progress = Notes()
    keyring = Keyring({"PATH": str(tmp_path)}, progress)
    assert keyring("https://h.example/", "") is None
    assert keyring("https://i.example/", "") is None
    assert progress.notes == ["keyring is not used for logins: it is not installed"]


@posix_only
def test_open_indexes_do_not_wait_for_keyring(tmp_path: Path) -> None:
    environ = {**program(tmp_path / "bin", "exec sleep 60"), "UV_KEYRING_PROVIDER": "subprocess"}
    with serving() as index:
        index.add("demo", WHEEL, b"wheel")
        assert Index(settings(tmp_path, index.url, environ), Http()).files("demo")
    assert asked(tmp_path / "bin") == []


def test_login_of_keyring_stays_with_its_host(tmp_path: Path, closed: FakeIndex) -> None:
    credentials = Credentials(keyring=lambda url, _user: Login(username="ann", password=f"s3cret{url[:0]}"))
    assert fetched(tmp_path, closed, credentials) == b"wheel"
    assert credentials.headers(closed.url)
    assert not credentials.headers("http://other.example/simple/")


@pytest.mark.skipif(not shutil.which("uv"), reason="needs uv")
def test_login_of_uv_auth(tmp_path: Path, closed: FakeIndex) -> None:
    environ = {**os.environ, "UV_CREDENTIALS_DIR": str(tmp_path / "store"), "UV_NO_CONFIG": "1"}
    command = ["uv", "auth", "login", closed.url, "--username", "ann", "--password", "s3cret"]
    subprocess.run(command, env=environ, capture_output=True, check=True)
    found = settings(tmp_path, closed.url, {"UV_CREDENTIALS_DIR": str(tmp_path / "store")})
    assert Index(found, Http()).files("demo")
    assert fetched(tmp_path, closed, found.credentials) == b"wheel"


def test_store_of_uv_is_where_uv_has_it(tmp_path: Path) -> None:
    if shutil.which("uv") is None:
        pytest.skip("needs uv")
    environ = {**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    folder = subprocess.run(["uv", "auth", "dir"], env=environ, capture_output=True, text=True, check=True)
    file = Path(folder.stdout.strip()) / "credentials.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('[[credential]]\nservice = "h.example"\nusername = "ann"\nscheme = "basic"\npassword = "x"\n')
    stored = read_uv_store(environ, home=tmp_path, progress=Notes())
    assert stored == (("https://h.example", Login(username="ann", password="x")),)


@pytest.mark.parametrize("content", ["[[credential", "credential = 3\n", "[[credential]]\nservice = 1\n", "\x00"])
def test_damaged_store_of_uv_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "credentials.toml").write_text(content)
    environ = {"UV_CREDENTIALS_DIR": str(tmp_path)}
    assert read_uv_store(environ, home=tmp_path, progress=Notes()) == ()


def test_user_name_of_an_index_is_completed_by_other_logins() -> None:
    ann, bob = Login(username="ann", password="x"), Login(username="bob", password="y")
    credentials = Credentials(
        by_url=(("https://h.example/simple", Login(username="ann", password="")),),
        by_host={"h.example": bob},
        stored=(("https://h.example/", ann),),
    )
    assert credentials.login("https://h.example/files/x.whl") == ann
    assert credentials.login("https://bob@h.example/files/x.whl") == bob
    assert credentials.login("https://token@h.example/x.whl") == Login(username="token", password="")


def test_no_login_follows_a_redirect_to_another_host(tmp_path: Path, closed: FakeIndex) -> None:
    credentials = Credentials(by_url=((closed.url, Login(username="ann", password="s3cret")),))
    with serving() as other:
        other.add("demo", WHEEL, b"wheel")
        closed.redirects[f"/files/{WHEEL}"] = other.file_url(WHEEL)
        closed.redirects["/simple/demo/"] = f"{other.url}demo/"
        assert fetched(tmp_path, closed, credentials) == b"wheel"
        assert Index(IndexSettings(url=closed.url, credentials=credentials), Http()).files("demo")
        assert len(other.requests) == 2
        assert all("Authorization" not in headers for _, headers in other.requests)


def test_login_in_the_url_of_a_lock_s_index_is_used_for_its_files(tmp_path: Path, closed: FakeIndex) -> None:
    found = settings(tmp_path, "http://unused.example/simple/", {})
    assert Index(found, Http()).files_at("demo", [closed.url_with("ann", "s3cret")])
    assert fetched(tmp_path, closed, found.credentials) == b"wheel"
    with pytest.raises(ArtifactError) as caught:
        Index(found, Http()).files_at("gone", [closed.url_with("ann", "s3cret")])
    assert "s3cret" not in str(caught.value)


def test_settings_show_no_logins(tmp_path: Path) -> None:
    found = settings(tmp_path, "https://ann:s3cret@h.example/simple", {"UV_INDEX": "x=https://bob:s3cret@i.example/"})
    assert "s3cret" not in repr(found)
    assert "s3cret" in found.variables_for_uv({})["UV_DEFAULT_INDEX"]
