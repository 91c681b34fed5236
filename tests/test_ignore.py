"""Ignore files against the tools whose dialects they have: BuildKit's answers, recorded and anew, and Git's."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_docker.errors import ConfigError
from hatch_docker.project.dockerignore import read_dockerignore
from hatch_docker.project.gitignore import Gitignore
from hatch_docker.project.selection import Rules

# What `COPY . /` of Docker 26.1 leaves out of `tree` with these lines; null if it refuses them.
RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("data").joinpath("dockerignore.json").read_text())
TREE: list[str] = RECORDED["tree"]
CASES = [pytest.param(each["lines"], each["out"], id=" ".join(each["lines"])) for each in RECORDED["cases"]]
ATOMS = (
    *("a", "b", "d", "e", "f", "x", "y", "foo", "b.txt", ".txt", "é", "*", "**", "?", "*.txt", "[ab]", "[^a]", "[a-f]"),
    *("foo*", "**foo", "f**", "*a*", "..", ".", "\\b.txt"),
)


def make_tree(root: Path, paths: Sequence[str] = TREE) -> Path:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    return root


def left_out(root: Path, rules: Rules) -> list[str]:
    """The files below a directory that are left out, by a walk of our own."""

    def walk(folder: str, state: Any, closed: bool) -> Iterator[str]:
        for entry in os.scandir(root / folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            out, inside, below = (True, True, None) if closed else rules.enter(path, entry.is_dir(), state)
            if entry.is_dir():
                yield from walk(path, below, inside)
            elif out:
                yield path

    return sorted(walk("", None, False))


def dockerignore_of(root: Path, lines: Sequence[str]) -> Path:
    path = root / ".dockerignore"
    path.write_text("\n".join(lines) + "\n", newline="")
    return path


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"))


class TestDockerignore:
    @pytest.mark.parametrize(("lines", "out"), CASES)
    def test_leaves_out_what_docker_leaves_out(self, tree: Path, lines: list[str], out: list[str] | None) -> None:
        path = dockerignore_of(tree, lines)
        if out is None:
            with pytest.raises(ConfigError, match=r"\.dockerignore:1: .* is not a valid pattern"):
                read_dockerignore(path)
        else:
            assert left_out(tree, read_dockerignore(path)) == out

    def test_all_lines_that_are_not_valid_are_reported_at_once(self, tree: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            read_dockerignore(dockerignore_of(tree, ["[", "ok", "!"]))
        assert [place.rpartition(":")[2] for place, _ in caught.value.problems] == ["1", "3"]

    def test_a_directory_of_that_name_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / ".dockerignore").mkdir()
        with pytest.raises(ConfigError, match="it cannot be read: Is a directory"):
            read_dockerignore(tmp_path / ".dockerignore")

    def test_nothing_is_read_below_a_directory_that_no_exception_can_reach(self, tree: Path) -> None:
        rules = read_dockerignore(dockerignore_of(tree, ["d", "x", "!x/y"]))
        assert rules.enter("d", True, None)[:2] == (True, True)
        assert rules.enter("x", True, None)[:2] == (True, False)

    @given(text=st.text(alphabet="ab*?[]^-!/\\.#\r\n\t :é", max_size=40))
    def test_any_text_gives_patterns_or_an_error(self, tree: Path, text: str) -> None:
        path = tree / ".dockerignore"
        path.write_text(text, newline="")
        try:
            rules = read_dockerignore(path)
        except ConfigError:
            return
        left_out(tree, rules)


@pytest.mark.engine
@pytest.mark.seeds  # needs the program docker
class TestDocker:
    """What the engine at hand leaves out."""

    def out(self, root: Path, scratch: Path) -> list[str] | None:
        image = scratch / f"{root.name}.tar"
        done = subprocess.run(
            ["docker", "build", "--quiet", "--file", "-", "--output", f"type=tar,dest={image}", str(root)],
            input=b"FROM scratch\nCOPY . /\n",
            capture_output=True,
        )
        if done.returncode:
            assert b"pattern" in done.stderr or b"canceled" in done.stderr.lower(), done.stderr.decode()
            return None
        with tarfile.open(image) as tar:
            left = {member.name for member in tar if not member.isdir()}
        return sorted({*TREE} - left)

    def test_leaves_out_what_was_recorded(self, tmp_path: Path) -> None:
        def answer(number: int) -> dict[str, Any]:
            lines = RECORDED["cases"][number]["lines"]
            root = make_tree(tmp_path / str(number))
            dockerignore_of(root, lines)
            return {"lines": lines, "out": self.out(root, tmp_path)}

        with ThreadPoolExecutor(8) as pool:
            assert [*pool.map(answer, range(len(RECORDED["cases"])))] == RECORDED["cases"]

    @given(
        lines=st.lists(
            st.tuples(
                st.sampled_from(("", "", "!", "! ")),
                st.sampled_from(("", "", "/")),
                st.lists(st.sampled_from(ATOMS), min_size=1, max_size=3).map("/".join),
                st.sampled_from(("", "", "/", "/**", "/*")),
            ).map("".join),
            min_size=1,
            max_size=4,
        )
    )
    @settings(max_examples=20)
    def test_leaves_out_what_we_leave_out(self, tree: Path, tmp_path: Path, lines: list[str]) -> None:
        ours: list[str] | None
        try:
            ours = left_out(tree, read_dockerignore(dockerignore_of(tree, lines)))
        except ConfigError:
            ours = None
        assert self.out(tree, tmp_path) == ours


GIT_ATOMS = (
    *ATOMS,
    *(
        "[!a]",
        "[[:alpha:]]",
        "[]a]",
        "[a-]",
        "[b-a]",
        "[",
        "\\",
        "***",
        "t ",
        "t\\ ",
        "[\\]b]",
        "[[:x:]]",
        "[[a]",
        "x**",
    ),
    *("?o*", "foo**"),
)
GIT_TREE = [path for path in TREE if path != ".dockerignore"] + ["foobar", "xfoo/bar", "x/t "]
FOLDERS = ("", "d/", "d/foo/", "x/", "x/y/")
LINES = st.lists(
    st.tuples(
        st.sampled_from(("", "", "", "!", "!", "#", "\\#", "\\!")),
        st.sampled_from(("", "", "/")),
        st.lists(st.sampled_from(GIT_ATOMS), min_size=1, max_size=3).map("/".join),
        st.sampled_from(("", "", "/", "/**", "/*", " ", "\r")),
    ).map("".join),
    max_size=4,
).map("\n".join)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_tree(tmp_path_factory.mktemp("repository"), GIT_TREE)
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    return root


def git_out(root: Path) -> list[str]:
    """The files of a directory that Git ignores."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--others", "--ignored", "--exclude-standard"],
        cwd=root,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "XDG_CONFIG_HOME": os.devnull},
        check=True,
        capture_output=True,
    )
    return sorted(os.fsdecode(each) for each in done.stdout.split(b"\0") if each)


class TestGitignore:
    @given(files=st.fixed_dictionaries(dict.fromkeys(FOLDERS, LINES)), exclude=LINES, last=st.booleans())
    def test_leaves_out_what_git_ignores(
        self, repository: Path, files: dict[str, str], exclude: str, last: bool
    ) -> None:
        for folder, text in files.items():
            path = repository / folder / ".gitignore"
            path.unlink(missing_ok=True)
            if text:
                path.write_text(text + "\n" * last, newline="")
        (repository / ".git" / "info" / "exclude").write_text(exclude, newline="")
        for root in (repository, repository / "d"):
            rules = Gitignore.of(root)
            if not rules.is_root_ignored():
                found = [path for path in left_out(root, rules) if not path.startswith(".git/")]
                assert found == git_out(root)

    def test_knows_that_the_repository_ignores_the_project(self, tmp_path: Path) -> None:
        (tmp_path / ".git").mkdir()
        (tmp_path / ".gitignore").write_text("scratch/\n")
        (tmp_path / "scratch" / "project").mkdir(parents=True)
        assert Gitignore.of(tmp_path / "scratch" / "project").is_root_ignored()
        assert not Gitignore.of(tmp_path).is_root_ignored()

    def test_a_directory_without_a_repository_has_its_own_files_only(self, tmp_path: Path) -> None:
        (tmp_path / ".gitignore").write_text("*\n")
        project = make_tree(tmp_path / "project", ["a", "b/c"])
        (project / ".gitignore").write_text("a\n")
        assert left_out(project, Gitignore.of(project)) == ["a"]

    def test_a_link_is_not_read_as_gitignore(self, tmp_path: Path) -> None:
        (tmp_path / "rules").write_text("a\n")
        (tmp_path / ".gitignore").symlink_to("rules")
        make_tree(tmp_path, ["a"])
        assert left_out(tmp_path, Gitignore.of(tmp_path)) == []
