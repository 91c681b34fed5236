from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.config import ExtraFiles, Packages, Runtime
from hatch_docker.errors import ConfigError, HatchDockerError, ImageError
from hatch_docker.image.extra_files import Beneath, check_sources, extra_entries, through
from hatch_docker.image.pruning import pruning_of
from hatch_docker.oci.layer import Entry, Plain
from hatch_docker.support.progress import Progress

PLACE = "tool.hatch.build.targets.docker.extra-files"
posix_only = pytest.mark.skipif(os.name == "nt", reason="needs links and modes")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in {"a.txt": "a", "conf/app.toml": "app", "conf/sub/b.txt": "b", "conf/.git/x": "never"}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def entries(
    root: Path,
    *tables: dict[str, Any],
    links: Mapping[str, str] = {},
    present: frozenset[str] = frozenset(),
    sources: Mapping[str, Path] = {},
    progress: Progress | None = None,
) -> list[Entry]:
    files = [ExtraFiles(**table) for table in tables]
    check_sources(files, root, PLACE)
    beneath = Beneath(links=links, directories=present, sources=sources)
    return extra_entries(files, root, root / "dist", beneath, PLACE, progress or Progress())


def content(entry: Entry) -> bytes:
    assert isinstance(entry.content, Plain)
    return entry.content.read(0, entry.content.size)


def contents(entries: list[Entry]) -> dict[str, bytes]:
    return {entry.path: content(entry) for entry in entries}


class TestFiles:
    def test_into_names_a_file(self, project: Path) -> None:
        assert contents(entries(project, {"source": "a.txt", "into": "/etc/b.txt"})) == {"etc/b.txt": b"a"}

    def test_into_names_the_directory_for_files_of_a_directory(self, project: Path) -> None:
        added = contents(entries(project, {"source": "conf", "into": "/srv/conf/"}))
        assert added == {"srv/conf/app.toml": b"app", "srv/conf/sub/b.txt": b"b"}
        assert set(contents(entries(project, {"source": "conf", "into": "/"}))) == {"app.toml", "sub/b.txt"}

    @pytest.mark.parametrize(
        ("include", "exclude", "expected"),
        [
            (["*.txt"], [], {"sub/b.txt"}),
            ([], ["*.txt"], {"app.toml"}),
            (["sub/"], [], {"sub/b.txt"}),
            (["/*.toml", "sub"], ["b.*"], {"app.toml"}),
        ],
    )
    def test_globs_are_those_of_gitignore(
        self, project: Path, include: list[str], exclude: list[str], expected: set[str]
    ) -> None:
        table = {"source": "conf", "into": "/x", "include": tuple(include), "exclude": tuple(exclude)}
        assert {path.removeprefix("x/") for path in contents(entries(project, table))} == expected

    def test_follows_links_of_the_base(self, project: Path) -> None:
        links = {"lib": "usr/lib", "usr/lib/here": "/srv/there"}
        added = contents(entries(project, {"source": "a.txt", "into": "/lib/here/a"}, links=links))
        assert added == {"srv/there/a": b"a"}
        assert through("/lib/x/../y", links) == "usr/lib/y"

    @posix_only
    def test_follows_links_to_files_and_directories(self, project: Path) -> None:
        (project / "conf" / "link.txt").symlink_to("../a.txt")
        (project / "conf" / "linked").symlink_to("sub")
        added = contents(entries(project, {"source": "conf", "into": "/x"}))
        assert added["x/link.txt"] == b"a"
        assert added["x/linked/b.txt"] == b"b"

    @posix_only
    def test_skips_cycles_of_several_links(self, project: Path) -> None:
        (project / "conf" / "other").mkdir()
        (project / "conf" / "other" / "sub").symlink_to("../sub")
        (project / "conf" / "sub" / "other").symlink_to("../other")
        added = contents(entries(project, {"source": "conf", "into": "/srv"}))
        assert set(added) == {"srv/app.toml", "srv/sub/b.txt", "srv/other/sub/b.txt"}

    def test_skips_cycles_of_links(self, project: Path) -> None:
        (project / "conf" / "sub" / "up").symlink_to("..")
        (project / "conf" / "self").symlink_to(".")
        assert set(contents(entries(project, {"source": "conf", "into": "/"}))) == {"app.toml", "sub/b.txt"}

    @posix_only
    def test_mode_depends_on_the_executable_bit_alone(self, project: Path) -> None:
        (project / "a.txt").chmod(0o666)
        (project / "conf" / "app.toml").chmod(0o710)
        tables: list[dict[str, Any]] = [{"source": "a.txt", "into": "/a"}, {"source": "conf/app.toml", "into": "/b"}]
        assert [entry.mode for entry in entries(project, *tables)] == [0o644, 0o755]
        (entry,) = entries(project, {**tables[0], "mode": 0o600, "uid": 5, "gid": 6})
        assert (entry.mode, entry.uid, entry.gid) == (0o600, 5, 6)


class TestMistakes:
    def test_reports_all_at_once(self, project: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            entries(
                project, {"source": "no", "into": "/"}, {"source": "a.txt", "into": "/"}, {"source": "x", "into": "/"}
            )
        assert [place for place, _ in caught.value.problems] == [f"{PLACE}[0].from", f"{PLACE}[2].from"]
        with pytest.raises(ConfigError) as caught:
            entries(
                project,
                {"source": "conf", "into": "/", "include": ("*.png",)},
                {"source": "a.txt", "into": "/etc"},
                {"source": "a.txt", "into": "/"},
                present=frozenset({"etc"}),
            )
        assert caught.value.problems == [
            (f"{PLACE}[0].from", "no file below 'conf' matches include and exclude"),
            (f"{PLACE}[1].into", "/etc is a directory of the base image or of the build: name the file"),
            (f"{PLACE}[2].into", "/ is a directory of the base image or of the build: name the file"),
        ]

    @posix_only
    def test_broken_link(self, project: Path) -> None:
        (project / "conf" / "broken").symlink_to("nowhere")
        with pytest.raises(ConfigError, match=r"conf/broken cannot be read: No such file or directory") as caught:
            entries(project, {"source": "conf", "into": "/"})
        assert caught.value.problems[0][0] == f"{PLACE}[0].from"

    @posix_only
    def test_does_not_open_a_pipe(self, project: Path) -> None:
        os.mkfifo(project / "conf" / "pipe")
        for source in ("conf", "conf/pipe"):
            with pytest.raises(ConfigError, match=r"conf/pipe cannot be read: it is not a regular file"):
                entries(project, {"source": source, "into": "/x"})

    def test_file_changes_or_disappears_while_it_is_read(self, project: Path) -> None:
        (entry,) = entries(project, {"source": "a.txt", "into": "/a"})
        (project / "a.txt").write_text("")
        with pytest.raises(HatchDockerError, match="it changed while it was read"):
            content(entry)
        (project / "a.txt").unlink()
        with pytest.raises(HatchDockerError, match="it cannot be read") as caught:
            content(entry)
        assert caught.value.place == str(project / "a.txt")


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Without root's rights."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@posix_only
class TestUnreadable:
    """What a user may not read, or nothing can be read of, is a mistake of its key."""

    @pytest.fixture
    def root(self) -> Iterator[Path]:
        # Outside of pytest's directories, which other users may not enter.
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            root.chmod(0o755)
            write(root, "conf/a.txt", "locked/a.txt", "conf/sub/bin/b.txt", "conf/x.py")
            yield root

    @pytest.mark.parametrize("mode", [0, 0o444, 0o111])
    @pytest.mark.parametrize("path", ["conf", "conf/sub", "conf/sub/bin"])
    def test_folders(self, root: Path, path: str, mode: int) -> None:
        (root / path).chmod(mode)
        with nobody():
            problem = self.problem(root, "conf")
        (root / path).chmod(0o755)
        assert re.search(rf"{path}(/a\.txt|/sub|/bin|/b\.txt)? cannot be read: Permission denied", problem)

    def test_links_to_folders(self, root: Path) -> None:
        (root / "conf" / "link").symlink_to("../locked")
        (root / "locked").chmod(0)
        with nobody():
            problem = self.problem(root, "conf")
        assert "cannot be read: Permission denied" in problem

    @pytest.mark.parametrize("source", ["conf", "conf/x.py"])
    def test_files(self, root: Path, source: str) -> None:
        (root / "conf" / "x.py").chmod(0)
        with nobody():
            problem = self.problem(root, source)
        assert problem.endswith("conf/x.py cannot be read: Permission denied")

    def test_files_below_folders(self, root: Path) -> None:
        (root / "locked").chmod(0)
        with nobody():
            problem = self.problem(root, "locked/a.txt")
        assert problem.endswith("locked/a.txt cannot be read: Permission denied")

    def test_loops_and_names_that_are_too_long(self, root: Path) -> None:
        (root / "loop").symlink_to("loop")
        (root / "conf" / "loop").symlink_to("../loop")
        assert "loop cannot be read: Too many levels" in self.problem(root, "loop")
        assert "conf/loop cannot be read: Too many levels" in self.problem(root, "conf")
        assert "cannot be read: File name too long" in self.problem(root, "x" * 300)

    @staticmethod
    def problem(root: Path, source: str) -> str:
        def read() -> None:
            files = [ExtraFiles(source=source, into="/srv")]
            check_sources(files, root, PLACE)
            # What is pruned is decided before the files are listed.
            pruning_of(Packages(), Runtime(), files, root, None)
            entries(root, {"source": source, "into": "/srv"})

        with pytest.raises(ConfigError) as caught:
            read()
        ((place, problem),) = caught.value.problems
        assert place == f"{PLACE}[0].from"
        return problem


class TestMany:
    def test_time_is_linear_in_files_and_links(self, tmp_path: Path) -> None:
        links = {f"usr/lib/{number}": f"../{number}" for number in range(20_000)}
        write(tmp_path, *(f"conf/{number}" for number in range(500)))
        started = time.process_time()
        assert len(entries(tmp_path, {"source": "conf", "into": "/lib"}, links=links)) == 500
        # A copy of the links for each file would take seconds.
        assert time.process_time() - started < 2

    def test_loop_of_links(self) -> None:
        with pytest.raises(ImageError, match="too many levels of symbolic links"):
            through("/a/x", {"a": "b", "b": "a"})


class Said(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def write(root: Path, *names: str, text: str = "x") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


class TestLeftOut:
    """What a folder never takes."""

    def test_environments_secrets_and_version_control(self, tmp_path: Path) -> None:
        write(tmp_path, ".venv/x", "py/pyvenv.cfg", "py/bin/python", "conda/conda-meta/history", "ours/oci-layout")
        write(
            tmp_path, ".env", ".env.local", "sub/.envrc", ".git/config", ".jj/x", "sub/CVS/x", "sub/.svn/x", "_darcs/x"
        )
        write(tmp_path, "a.py", ".env.example", "cache/CACHEDIR.TAG", "cache/model", "b.pyc", "node_modules/x.js")
        said = Said()
        added = entries(tmp_path, {"source": ".", "into": "/srv"}, progress=said)
        assert {each.path.removeprefix("srv/") for each in added} == {
            *("a.py", ".env.example", "cache/CACHEDIR.TAG", "cache/model", "b.pyc", "node_modules/x.js"),
        }
        (line,) = said.lines
        assert line == (
            f"{PLACE}[0]: '.' without ours (images), .env, .env.local, sub/.envrc (variables that may be secret), "
            ".venv, conda, py (virtual environments)"
        )

    def test_what_builds_write(self, tmp_path: Path) -> None:
        ours = ("app.docker.tar", "app.docker.json", "pylock.app.toml", "debian.app.lock")
        write(tmp_path, *(f"dist/{name}" for name in (*ours, "app-1.whl", "app-1.tar.gz", "index.html")))
        write(tmp_path, "image.txt", text="sha256:" + "0" * 64 + "\n")
        whole = {each.path for each in entries(tmp_path, {"source": ".", "into": "/"})}
        assert whole == {"dist/index.html"}
        # A folder that is named is wanted: but never an image in itself.
        named = {each.path for each in entries(tmp_path, {"source": "dist", "into": "/"})}
        assert named == {"app-1.whl", "app-1.tar.gz", "index.html"}

    @posix_only
    def test_links_to_environments(self, tmp_path: Path) -> None:
        write(tmp_path, "py/pyvenv.cfg", "conf/a")
        (tmp_path / "conf" / "env").symlink_to("../py")
        assert [each.path for each in entries(tmp_path, {"source": "conf", "into": "/"})] == ["a"]

    def test_what_patterns_leave_out_is_not_reported(self, tmp_path: Path) -> None:
        write(tmp_path, ".env", ".venv/pyvenv.cfg", "a.py", "b.txt")
        for table in ({"include": ("*.py",)}, {"exclude": (".*",)}):
            said = Said()
            entries(tmp_path, {"source": ".", "into": "/", **table}, progress=said)
            assert said.lines == []

    def test_a_file_that_is_named_is_taken(self, tmp_path: Path) -> None:
        write(tmp_path, ".env", ".env.example")
        said = Said()
        added = entries(
            tmp_path, {"source": ".env", "into": "/a"}, {"source": ".env.example", "into": "/b"}, progress=said
        )
        assert [each.path for each in added] == ["a", "b"]
        (line,) = said.lines
        assert "warning: " in line
        assert f"{PLACE}[0].from: everyone who has the image can read '.env'" in line

    def test_version_control_that_is_named(self, tmp_path: Path) -> None:
        write(tmp_path, "repo/.git/HEAD")
        said = Said()
        added = entries(tmp_path, {"source": "repo/.git", "into": "/srv/git"}, progress=said)
        assert [each.path for each in added] == ["srv/git/HEAD"]
        (line,) = said.lines
        assert "warning: " in line
        assert "everyone who has the image can read the history in 'repo/.git': leave it out" in line

    def test_an_environment_that_is_named(self, tmp_path: Path) -> None:
        write(tmp_path, "py/pyvenv.cfg", "py/x")
        with pytest.raises(ConfigError, match=r"\[0\].from: 'py' is a virtual environment of this machine"):
            entries(tmp_path, {"source": "py", "into": "/opt/py"})

    def test_nothing_else_matches(self, tmp_path: Path) -> None:
        write(tmp_path, "conf/.env")
        with pytest.raises(
            ConfigError, match=r"matches .*; .env \(variables that may be secret\) are left out"
        ) as caught:
            entries(tmp_path, {"source": "conf", "into": "/"})
        assert "name the file itself" in str(caught.value)


class TestConflicts:
    """Where extra files never land."""

    @pytest.mark.parametrize("into", ["/app/.venv", "/app/.venv/lib/x.py", "/link/x"])
    def test_virtual_environment(self, project: Path, into: str) -> None:
        with pytest.raises(ConfigError, match=r"\[0\].into: /app/.venv.* is in the virtual environment"):
            entries(project, {"source": "a.txt", "into": into}, links={"link": "app/.venv/bin"})

    def test_many_files_are_one_mistake(self, project: Path) -> None:
        write(project, *(f"many/{number}" for number in range(20)))
        with pytest.raises(ConfigError) as caught:
            entries(project, {"source": "many", "into": "/app/.venv"})
        assert len(caught.value.problems) == 6
        assert caught.value.problems[-1] == (f"{PLACE}[0].into", "and 15 more")

    def test_file_of_the_project(self, project: Path) -> None:
        write(project, "main.py", "other/main.py")
        sources = {"app/main.py": project / "main.py"}
        with pytest.raises(ConfigError, match=r"/app/main.py is a file of the project, which would hide it"):
            entries(project, {"source": "other", "into": "/app"}, sources=sources)
        # The same file is no conflict: the project's layer has it.
        added = entries(project, {"source": ".", "into": "/app", "include": ("*.py", "*.txt")}, sources=sources)
        assert "app/main.py" not in {each.path for each in added}
        assert "app/a.txt" in {each.path for each in added}
        assert entries(project, {"source": ".", "into": "/app", "include": ("/main.py",)}, sources=sources) == []
