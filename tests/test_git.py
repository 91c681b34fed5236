"""Commits of Git repositories, with the real git: from local repositories, and through HTTPS."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from git_server import ISOLATED, GitServer, commit, git

from hatch_docker.compiling.git import Git, is_dirty
from hatch_docker.errors import SourceError
from hatch_docker.index.artifact import SourceTree
from hatch_docker.support.cache import Cache
from hatch_docker.support.progress import Progress

STATIC = '[build-system]\nrequires = ["hatchling"]\n[project]\nname = "demo"\nversion = "1.0"\n'
DYNAMIC = '[project]\nname = "demo"\ndynamic = ["version"]\n'
ALLOW_FILE = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.file.allow", "GIT_CONFIG_VALUE_0": "always"}
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, to make a certificate")


def client(folder: Path, environ: Mapping[str, str] = {}) -> Git:
    return Git(environ={**ISOLATED, **environ}, cache=Cache(folder / "cache"), progress=Progress())


def tree(url: Path | str, revision: str, subdirectory: str = "") -> SourceTree:
    url = url.as_uri() if isinstance(url, Path) else url
    return SourceTree(url=url, commit=revision, subdirectory=subdirectory)


def refused(folder: Path, source: SourceTree, environ: Mapping[str, str] = {}) -> SourceError:
    """The error for a commit, of which nothing is kept."""
    with pytest.raises(SourceError) as caught, client(folder, environ).directory(source, "demo"):
        pass
    assert str(caught.value).count("demo comes from") == 1
    assert not list((folder / "cache").glob("git/*"))
    return caught.value


class TestACommit:
    def test_is_checked_out(self, tmp_path: Path) -> None:
        first = commit(tmp_path / "repo", {"a.txt": "one", "pyproject.toml": STATIC})
        commit(tmp_path / "repo", {"a.txt": "two"})
        with client(tmp_path).directory(tree(tmp_path / "repo", first), "demo") as directory:
            assert (directory / "a.txt").read_text() == "one"
            assert git(directory, "rev-parse", "HEAD") == first
            assert git(directory, "status", "--porcelain") == ""

    def test_is_fetched_once_whatever_the_url(self, tmp_path: Path) -> None:
        revision = commit(tmp_path / "repo", {"a.txt": "one"})
        with client(tmp_path).directory(tree(tmp_path / "repo", revision), "demo") as directory:
            (directory / "a.txt").write_text("a build changed it")
        shutil.rmtree(tmp_path / "repo")
        with client(tmp_path).directory(tree("https://127.0.0.1:1/other", revision), "demo") as directory:
            assert (directory / "a.txt").read_text() == "one"

    def test_is_fetched_again_if_the_cache_is_damaged(self, tmp_path: Path) -> None:
        source = tree(tmp_path / "repo", commit(tmp_path / "repo", {"a.txt": "one"}))
        with client(tmp_path).directory(source, "demo"):
            pass
        (blob,) = (tmp_path / "cache" / "blobs" / "sha256").iterdir()
        blob.write_bytes(blob.read_bytes()[:-600])
        with client(tmp_path).directory(source, "demo") as directory:
            assert (directory / "a.txt").read_text() == "one"

    def test_may_be_fetched_by_several_builds_at_once(self, tmp_path: Path) -> None:
        source = tree(tmp_path / "repo", commit(tmp_path / "repo", {"a.txt": "one"}))

        def text(_number: int) -> str:
            with client(tmp_path).directory(source, "demo") as directory:
                return (directory / "a.txt").read_text()

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(text, range(4))) == ["one"] * 4

    def test_comes_without_its_history_if_the_version_is_written_down(self, tmp_path: Path) -> None:
        commit(tmp_path / "repo", {"pyproject.toml": STATIC}, tag="v1.0")
        second = commit(tmp_path / "repo", {"a.txt": "two"})
        with client(tmp_path).directory(tree(tmp_path / "repo", second), "demo") as directory:
            assert git(directory, "rev-list", "--count", "HEAD") == "1"

    @pytest.mark.parametrize("files", [{"pyproject.toml": DYNAMIC}, {"setup.py": ""}])
    @pytest.mark.parametrize("subdirectory", ["", "sub"])
    def test_has_tags_if_the_version_may_come_from_them(
        self, tmp_path: Path, files: dict[str, str], subdirectory: str
    ) -> None:
        files = {f"{subdirectory}/{path}".lstrip("/"): text for path, text in files.items()}
        commit(tmp_path / "repo", files, tag="v1.0")
        second = commit(tmp_path / "repo", {"a.txt": "two"})
        tagged = commit(tmp_path / "repo", {"a.txt": "three"}, tag="v2.0")
        for revision, version in ((second, f"v1.0-1-g{second[:7]}"), (tagged, "v2.0")):
            with client(tmp_path).directory(tree(tmp_path / "repo", revision, subdirectory), "demo") as directory:
                assert git(directory, "describe", "--tags") == version

    def test_has_tags_even_if_another_of_its_packages_did_not_need_them(self, tmp_path: Path) -> None:
        files = {"static/pyproject.toml": STATIC, "dynamic/pyproject.toml": DYNAMIC}
        revision = commit(tmp_path / "repo", files, tag="v1.0")
        with client(tmp_path).directory(tree(tmp_path / "repo", revision, "static"), "demo"):
            pass
        with client(tmp_path).directory(tree(tmp_path / "repo", revision, "dynamic"), "demo") as directory:
            assert git(directory, "describe", "--tags") == "v1.0"
        shutil.rmtree(tmp_path / "repo")
        for subdirectory in ("static", "dynamic"):
            with client(tmp_path).directory(tree(tmp_path / "repo", revision, subdirectory), "demo") as directory:
                assert git(directory, "describe", "--tags") == "v1.0"

    def test_may_be_in_a_subdirectory(self, tmp_path: Path) -> None:
        revision = commit(tmp_path / "repo", {"packages/demo/a.txt": "one"})
        with client(tmp_path).directory(tree(tmp_path / "repo", revision, "packages/demo"), "demo") as directory:
            assert (directory / "a.txt").read_text() == "one"
            assert git(directory, "rev-parse", "HEAD") == revision

    def test_has_its_submodules(self, tmp_path: Path) -> None:
        commit(tmp_path / "lib", {"b.txt": "b"})
        commit(tmp_path / "repo", {"a.txt": "a"})
        git(tmp_path / "repo", "submodule", "--quiet", "add", (tmp_path / "lib").as_uri(), "vendor/lib", **ALLOW_FILE)
        revision = commit(tmp_path / "repo", {})
        source = tree(tmp_path / "repo", revision)
        assert "protocol.file.allow" in refused(tmp_path, source).hint
        with client(tmp_path, ALLOW_FILE).directory(source, "demo") as directory:
            assert (directory / "vendor" / "lib" / "b.txt").read_text() == "b"

    def test_does_not_depend_on_the_users_settings(self, tmp_path: Path) -> None:
        """Line ends are those of the commit, hooks do not run, and another repository in the environment is ignored."""
        revision = commit(tmp_path / "repo", {"a.txt": "one\n"})
        hooks = tmp_path / "hooks"
        hooks.mkdir()
        (hooks / "post-checkout").write_text("#!/bin/sh\necho >hooked\n")
        (hooks / "post-checkout").chmod(0o755)
        (tmp_path / "config").write_text(f"[core]\nautocrlf = true\nhooksPath = {hooks.as_posix()}\n")
        environ = {"GIT_CONFIG_GLOBAL": str(tmp_path / "config"), "GIT_DIR": str(tmp_path / "nowhere")}
        with client(tmp_path, environ).directory(tree(tmp_path / "repo", revision), "demo") as directory:
            assert (directory / "a.txt").read_bytes() == b"one\n"
            assert not (directory / "hooked").exists()

    def test_url_may_have_the_prefix_of_requirements(self, tmp_path: Path) -> None:
        revision = commit(tmp_path / "repo", {"a.txt": "one"})
        source = tree(f"git+{(tmp_path / 'repo').as_uri()}", revision)
        with client(tmp_path).directory(source, "demo") as directory:
            assert (directory / "a.txt").exists()


class TestFailures:
    def test_unknown_commit(self, tmp_path: Path) -> None:
        commit(tmp_path / "repo", {"a.txt": "one"})
        error = refused(tmp_path, tree(tmp_path / "repo", "0123456789" * 4))
        assert f"the repository does not have commit {'0123456789' * 4}" in error.message
        assert error.place == (tmp_path / "repo").as_uri()
        assert "push the commit" in error.hint

    @pytest.mark.parametrize("revision", ["main", "0123abc", "--upload-pack=touch x", ""])
    def test_anything_but_a_full_hash(self, tmp_path: Path, revision: str) -> None:
        commit(tmp_path / "repo", {"a.txt": "one"})
        assert "is not the full hash of a commit" in refused(tmp_path, tree(tmp_path / "repo", revision)).message

    def test_url_that_is_an_option(self, tmp_path: Path) -> None:
        assert "invalid URL" in refused(tmp_path, tree("--upload-pack=touch x", "0" * 40)).message

    def test_repository_that_is_gone(self, tmp_path: Path) -> None:
        error = refused(tmp_path, tree(tmp_path / "gone", "0" * 40))
        assert "does not appear to be a git repository" in error.message
        assert "check the URL" in error.hint

    def test_unreachable_host(self, tmp_path: Path) -> None:
        error = refused(tmp_path, tree("https://user:secret@127.0.0.1:1/demo.git", "0" * 40))
        assert "check the network" in error.hint
        assert "secret" not in str(error)
        assert error.place == "https://127.0.0.1:1/demo.git"

    def test_missing_git(self, tmp_path: Path) -> None:
        error = refused(tmp_path, tree(tmp_path / "repo", "0" * 40), {"PATH": str(tmp_path)})
        assert (error.message.split(": ")[1], error.hint) == ("git cannot be run", "install Git")

    @pytest.mark.parametrize("subdirectory", ["missing", "a.txt", "out", "../../.."])
    def test_subdirectory_that_the_commit_does_not_have(self, tmp_path: Path, subdirectory: str) -> None:
        commit(tmp_path / "repo", {"a.txt": "one"})
        (tmp_path / "repo" / "out").symlink_to("/")
        source = tree(tmp_path / "repo", commit(tmp_path / "repo", {}), subdirectory)
        with pytest.raises(SourceError, match="which has none"), client(tmp_path).directory(source, "demo"):
            pass


@needs_openssl
class TestHTTPS:
    def test_is_fetched_and_redirected(self, tmp_path: Path) -> None:
        first = commit(tmp_path / "repo", {"pyproject.toml": DYNAMIC}, tag="v1.0")
        second = commit(tmp_path / "repo", {"a.txt": "two"})
        with GitServer(tmp_path) as server:
            environ = {"GIT_SSL_CAINFO": str(server.certificate)}
            urls = {first: f"{server.url}/repo/.git", second: f"{server.url}/moved/repo/.git"}
            for revision, url in urls.items():
                with client(tmp_path, environ).directory(tree(url, revision), "demo") as directory:
                    assert git(directory, "rev-parse", "HEAD") == revision
            assert any(path.startswith("/moved/") for path in server.requests)

    def test_unknown_certificate(self, tmp_path: Path) -> None:
        revision = commit(tmp_path / "repo", {"a.txt": "one"})
        with GitServer(tmp_path) as server:
            assert "certificate" in refused(tmp_path, tree(f"{server.url}/repo/.git", revision)).message

    @pytest.mark.skipif(os.name == "nt", reason="netrc has another name")
    def test_takes_logins_from_where_git_has_them(self, tmp_path: Path) -> None:
        revision = commit(tmp_path / "repo", {"a.txt": "one"})
        with GitServer(tmp_path, username="me", password="hunter2") as server:
            source = tree(f"{server.url}/repo/.git", revision)
            environ = {"GIT_SSL_CAINFO": str(server.certificate), "HOME": str(tmp_path)}
            error = refused(tmp_path, source, environ)
            assert "give Git a login" in error.hint
            (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
            with client(tmp_path, environ).directory(source, "demo") as directory:
                assert (directory / "a.txt").read_text() == "one"
                assert not [path for path in directory.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


class TestDirtyDirectories:
    def test_are_those_with_changes(self, tmp_path: Path) -> None:
        repository = tmp_path / "repo"
        commit(repository, {"a/x.txt": "one", "b/x.txt": "one"})
        assert not is_dirty(repository / "a", ISOLATED)
        (repository / "b" / "x.txt").write_text("two")
        assert (is_dirty(repository / "a", ISOLATED), is_dirty(repository / "b", ISOLATED)) == (False, True)

    def test_need_a_repository_and_git(self, tmp_path: Path) -> None:
        assert not is_dirty(tmp_path, {**ISOLATED, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)})
        assert not is_dirty(tmp_path, {"PATH": ""})
