"""Local directories and Git commits become wheels, built by the real uv."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from git_server import commit, git
from hypothesis import given
from hypothesis import strategies as st
from sdist_maker import make_sdist
from test_local import job_of
from tree_bench import HATCH, PROJECT, TreeBench

from hatch_docker.compiling.directory import content_digest, copied, read_directory
from hatch_docker.compiling.jobs import Compiled, Origin
from hatch_docker.compiling.requirements import BuildLock
from hatch_docker.compiling.trees import build_tree, cached_tree, is_package, origin_scope, tree_key
from hatch_docker.errors import CompileError, EngineError, SourceError
from hatch_docker.index.artifact import SourceTree
from hatch_docker.index.download import FetchedFile
from hatch_docker.support.dataclasses import replace

STATIC = PROJECT.format(name="lib", version="1.0")
POETRY = '[tool.poetry]\nname = "lib"\nversion = "1.0"\n'


def _system(backend: str, *requires: str) -> str:
    return f'[build-system]\nrequires = {[*requires]}\nbuild-backend = "{backend}"\n'


@pytest.fixture
def bench(tmp_path: Path) -> TreeBench:
    (tmp_path / "app").mkdir()
    return TreeBench(tmp_path)


def members(file: FetchedFile) -> list[str]:
    with zipfile.ZipFile(file.path) as wheel:
        return wheel.namelist()


def text(file: FetchedFile, path: str) -> str:
    with zipfile.ZipFile(file.path) as wheel:
        return wheel.read(path).decode()


class TestADirectory:
    def test_becomes_a_wheel(self, bench: TreeBench) -> None:
        (file,) = bench.obtain(bench.in_tree("lib"))
        assert (file.artifact.name, file.artifact.version) == ("lib", "1.0")
        assert file.artifact.filename == "lib-1.0-py3-none-any.whl"
        assert file.artifact.tree == SourceTree(url=(bench.root / "lib").as_uri())
        assert text(file, "lib.py") == "ANSWER = 42\n"
        assert "local directories are taken as they are: lib (../lib)" in bench.notes.notes

    def test_leaves_nothing_behind(self, bench: TreeBench) -> None:
        artifact = bench.in_tree("lib")
        before = sorted((bench.root / "lib").rglob("*"))
        bench.obtain(artifact)
        assert [each for each in sorted((bench.root / "lib").rglob("*")) if "__pycache__" not in each.parts] == before

    def test_of_setuptools_does_not_have_modules_that_were_removed(self, bench: TreeBench) -> None:
        bench.installed("setuptools", "wheel")  # wheel requires packaging
        pyproject = '[build-system]\nrequires = ["setuptools", "wheel", "packaging"]\n'
        files = {"pyproject.toml": pyproject + PROJECT.format(name="lib", version="1"), "lib/__init__.py": ""}
        (first,) = bench.obtain(bench.tree("lib", {**files, "lib/old.py": ""}))
        (bench.root / "lib" / "lib" / "old.py").unlink()
        (second,) = bench.obtain(bench.locked("lib"))
        assert text(first, "lib/old.py") == ""
        with pytest.raises(KeyError):
            text(second, "lib/old.py")
        assert not (bench.root / "lib" / "build").exists()

    def test_that_cannot_be_written_is_copied(self, bench: TreeBench, monkeypatch: pytest.MonkeyPatch) -> None:
        # Root may write everywhere.
        monkeypatch.setattr("hatch_docker.compiling.trees.is_writable", lambda _folder: False)
        artifact = bench.in_tree("lib", build="open('made', 'w').close()")
        before = sorted((bench.root / "lib").rglob("*"))
        (file,) = bench.obtain(artifact)
        assert text(file, "lib.py") == "ANSWER = 42\n"
        assert sorted((bench.root / "lib").rglob("*")) == before
        assert "lib: its directory cannot be written to, so a copy is built" in bench.notes.notes

    def test_gets_the_version_that_the_environment_has(self, bench: TreeBench) -> None:
        """setuptools-scm asks for that variable if it finds no repository."""
        build = "FILES['lib_version.py'] = repr({each for each in os.environ if 'SCM' in each or 'TOKEN' in each})"
        environ = {"SETUPTOOLS_SCM_PRETEND_VERSION": "7.0", "PDM_BUILD_SCM_VERSION": "7.0", "TOKEN": "secret"}
        (file,) = bench.obtain(bench.in_tree("lib", build=build), environ=environ)
        seen = text(file, "lib_version.py")
        assert sorted(each.strip("{}' ") for each in seen.split(",")) == sorted(environ.keys() - {"TOKEN"})

    def test_keeps_the_order_of_the_lock(self, bench: TreeBench) -> None:
        bench.wheel("alpha")
        alpha, zeta = bench.artifact("alpha"), bench.in_tree("zeta")
        lib = bench.in_tree("lib")
        assert [file.artifact.name for file in bench.obtain(zeta, alpha, lib)] == ["zeta", "alpha", "lib"]

    def test_with_changes_is_named(self, bench: TreeBench) -> None:
        artifact = bench.in_tree("lib")
        git(bench.root / "lib", "init")
        git(bench.root / "lib", "add", "--all")
        git(bench.root / "lib", "commit", "--message", "one")
        (bench.root / "lib" / "more.py").write_text("")
        bench.obtain(artifact)
        note = "local directories are taken as they are: lib (../lib, with changes that are not committed)"
        assert note in bench.notes.notes

    def test_has_the_same_bytes_on_every_machine(self, bench: TreeBench, tmp_path: Path) -> None:
        bench.installed("hatchling")
        (first,) = bench.obtain(bench.hatch("lib"))
        (tmp_path / "elsewhere").mkdir()
        other = TreeBench(tmp_path / "elsewhere")
        other.installed("hatchling")
        before = os.umask(0o077)
        try:
            environ = {"TZ": "Pacific/Kiritimati", "SOURCE_DATE_EPOCH": "1", "PYTHONHASHSEED": "7"}
            (second,) = other.obtain(other.hatch("lib"), environ=environ)
        finally:
            os.umask(before)
        assert first.digest == second.digest

    def test_that_is_not_a_package_contributes_nothing(self, bench: TreeBench) -> None:
        artifact = bench.tree(
            "lib", {"pyproject.toml": PROJECT.format(name="lib", version="1") + "[tool.uv]\npackage = false\n"}
        )
        assert not is_package(artifact)
        assert bench.obtain(artifact) == []
        assert any(note.startswith("lib has tool.uv.package = false") for note in bench.notes.notes)

    def test_adds_requirements_of_its_backend(self, bench: TreeBench) -> None:
        bench.wheel("helper")
        (file,) = bench.obtain(bench.in_tree("lib", more=["helper"], build="import helper"))
        assert text(file, "lib.py") == "ANSWER = 42\n"
        assert bench.resolved == [(bench.root / "lib", ()), (bench.root / "lib", ("helper",))]

    def test_requirement_of_its_backend_that_is_not_found(self, bench: TreeBench) -> None:
        with pytest.raises(CompileError, match="lib is built with helper: no solution found"):
            bench.obtain(bench.in_tree("lib", more=["helper"]))


class TestTheCache:
    def test_of_a_static_project_depends_on_its_files(self, bench: TreeBench) -> None:
        bench.installed("hatchling")
        artifact = bench.hatch("lib")
        (first,) = bench.obtain(artifact)
        bench.resolved.clear()
        bench.wheels.clear()
        (second,) = bench.obtain(artifact)
        assert (second, bench.resolved) == (first, [])
        assert cached_tree(artifact, bench.context()) == first
        bench.installed("hatchling")
        (bench.root / "lib" / "src" / "lib" / "__init__.py").write_text("ANSWER = 43\n")
        assert cached_tree(artifact, bench.context()) is None
        (third,) = bench.obtain(artifact)
        assert text(third, "lib/__init__.py") == "ANSWER = 43\n"
        assert bench.resolved == []

    def test_of_a_static_project_depends_on_the_outputs_of_other_tools(self, bench: TreeBench) -> None:
        bench.installed("hatchling")
        more = '[tool.hatch.build.targets.wheel.force-include]\n"dist/app.js" = "lib/app.js"\n'
        bench.obtain(bench.hatch("lib", more=more, files={"dist/app.js": "one"}))
        (second,) = bench.obtain(bench.hatch("lib", more=more, files={"dist/app.js": "two"}))
        assert text(second, "lib/app.js") == "two"

    def test_of_a_poetry_project_depends_on_what_git_tracks(self, bench: TreeBench) -> None:
        """Poetry leaves ignored files out unless they are tracked."""
        pyproject = _system("poetry.core.masonry.api", "poetry-core") + POETRY
        artifact = bench.tree("lib", {"pyproject.toml": pyproject, "lib/made.py": "", ".gitignore": "made.py\n"})
        git(bench.root / "lib", "init")

        def content() -> str:
            return tree_key(artifact, read_directory(bench.root / "lib", "lib"), bench.context()).content

        before = content()
        assert content() == before != ""
        git(bench.root / "lib", "add", "--force", "lib/made.py")
        assert content() != before

    def test_of_other_projects_is_not_used(self, bench: TreeBench) -> None:
        artifact = bench.in_tree("lib")
        for number in (1, 2):
            bench.obtain(artifact)
            assert bench.builds("lib") == "w" * number
        assert len(bench.resolved) == 1

    @pytest.mark.parametrize(
        ("more", "closed"),
        [
            ("", True),
            ('[tool.hatch.build.targets.wheel]\npackages = ["src/lib"]\n', True),
            ('readme = "../README.md"\n', False),
            ('dependencies = ["other @ {root:parent:uri}/other"]\n[tool.hatch.metadata]\n', False),
            ("[tool.hatch.build.hooks.custom]\n", False),
            ("[tool.hatch.build.targets.wheel.hooks.vcs]\n", False),
            ("[tool.hatch.metadata.hooks.custom]\n", False),
            ('[tool.hatch.build.targets.wheel.force-include]\n"/etc/hosts" = "hosts"\n', False),
            ('[tool.hatch.build.targets.wheel.force-include]\n"../data" = "data"\n', False),
        ],
    )
    def test_is_only_for_closed_directories(self, bench: TreeBench, more: str, closed: bool) -> None:
        bench.hatch("lib", more=more)
        assert read_directory(bench.root / "lib", "lib").is_closed is closed

    @pytest.mark.parametrize(
        ("text", "declarative", "closed"),
        [
            ("[envs.default]\n", True, True),
            ("[build.hooks.custom]\n", False, False),
            ('[build.targets.wheel.force-include]\n"../data" = "data"\n', True, False),
            ("[build", True, True),
        ],
    )
    def test_knows_what_is_in_hatch_toml(self, bench: TreeBench, text: str, declarative: bool, closed: bool) -> None:
        bench.hatch("lib", files={"hatch.toml": text})
        found = read_directory(bench.root / "lib", "lib")
        assert (found.is_declarative, found.is_closed) == (declarative, closed)

    @pytest.mark.parametrize(
        ("pyproject", "declarative", "closed"),
        [
            (_system("hatchling.build", "hatchling", "hatch-vcs") + STATIC, False, False),
            (_system("flit_core.buildapi", "flit_core>=3,<4"), True, False),
            (_system("uv_build", "uv_build") + STATIC + '[tool.uv.sources]\nb = { path = "../b" }\n', True, True),
            (_system("poetry.core.masonry.api", "poetry-core") + POETRY, True, True),
            (_system("poetry.core.masonry.api", "poetry-core") + POETRY + 'build = "build.py"\n', False, False),
            (_system("pdm.backend", "pdm-backend") + STATIC + '[tool.pdm.build]\ncustom-hook = "x.py"\n', False, False),
            (_system("setuptools.build_meta", "setuptools") + STATIC, False, False),
            ("", False, False),
        ],
    )
    def test_knows_what_backends_run(self, bench: TreeBench, pyproject: str, declarative: bool, closed: bool) -> None:
        bench.tree("lib", {"pyproject.toml": pyproject})
        found = read_directory(bench.root / "lib", "lib")
        assert (found.is_declarative, found.is_closed) == (declarative, closed)
        bench.tree("lib", {"setup.py": ""})
        assert not read_directory(bench.root / "lib", "lib").is_declarative


_NAMES = st.sampled_from(["a.py", "b.txt", "src/lib/a.py", "src/build/b.py", "dist/app.js", "x/dist/y"])
_FILES = st.dictionaries(_NAMES, st.sampled_from(["", "1", "22"]), max_size=4)


class TestContent:
    @given(one=_FILES, other=_FILES)
    def test_digests_are_equal_if_the_files_are(
        self, tmp_path_factory: pytest.TempPathFactory, one: dict[str, str], other: dict[str, str]
    ) -> None:
        folders = []
        for files in (one, other):
            folder = tmp_path_factory.mktemp("content")
            for path, content in files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(content)
            folders.append(content_digest(folder))
        assert (folders[0] == folders[1]) == (one == other)

    @pytest.mark.parametrize(
        "path",
        [".git/HEAD", ".venv/x.py", "env/pyvenv.cfg", "src/lib/__pycache__/x.pyc", "x.pyc", ".mypy_cache/x", ".tox/x"],
    )  # fmt: skip
    def test_does_not_contain_what_is_not_a_source(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "a.py").write_text("")
        before = content_digest(tmp_path)
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
        assert content_digest(tmp_path) == before

    def test_contains_modes_and_the_targets_of_links(self, tmp_path: Path) -> None:
        outside, folder = tmp_path / "outside", tmp_path / "lib"
        outside.mkdir()
        folder.mkdir()
        (outside / "x.py").write_text("1")
        (folder / "a.py").write_text("")
        (folder / "link").symlink_to(outside)
        (folder / "loop").symlink_to(folder)
        (folder / "broken").symlink_to("nowhere")
        seen = {content_digest(folder)}
        (outside / "x.py").write_text("2")
        seen.add(content_digest(folder))
        (folder / "a.py").chmod(0o755)
        seen.add(content_digest(folder))
        assert len(seen) == 3

    def test_contains_ignore_files_of_the_repository(self, tmp_path: Path) -> None:
        folder = tmp_path / "packages" / "lib"
        folder.mkdir(parents=True)
        (tmp_path / ".git").mkdir()
        before = content_digest(folder)
        (tmp_path / ".gitignore").write_text("*.txt\n")
        assert content_digest(folder) != before


class TestCopies:
    def test_git_sees_no_change(self, tmp_path: Path) -> None:
        folder, outside = tmp_path / "lib", tmp_path / "outside.txt"
        (folder / "src").mkdir(parents=True)
        outside.write_text("outside")
        (folder / "src" / "run.sh").write_text("a")
        (folder / "src" / "run.sh").chmod(0o755)
        (folder / "inside").symlink_to("src/run.sh")
        git(folder, "init")
        git(folder, "add", "--all")
        git(folder, "commit", "--message", "one")
        (folder / "LICENSE").symlink_to(outside)
        for path in folder.rglob("*"):
            if ".git" not in path.parts and not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o555)
        copy = copied(folder, tmp_path / "copies" / "lib")
        assert (copy / "LICENSE").read_text() == "outside"
        status = subprocess.run(
            ["git", "-C", copy, "status", "--porcelain"], capture_output=True, text=True, check=True
        )
        assert status.stdout == "?? LICENSE\n"
        (copy / "src" / "new").write_text("")
        (copy / "src" / "run.sh").write_text("changed")
        assert (folder / "src" / "run.sh").read_text() == "a"

    def test_file_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="cannot be copied"):
            copied(tmp_path / "absent", tmp_path / "copy")


class TestBuildRequirements:
    def test_may_be_directories(self, bench: TreeBench) -> None:
        bench.sources["tool"] = bench.in_tree("tool")
        (file,) = bench.obtain(bench.in_tree("lib", requires=["tool"], build="import tool; assert tool.ANSWER == 42"))
        assert file.artifact.name == "lib"
        assert (bench.builds("tool"), bench.builds("lib")) == ("w", "w")

    def test_are_locked_again_if_the_sources_of_the_workspace_change(self, bench: TreeBench) -> None:
        bench.wheel("helper")
        workspace = '[tool.uv.workspace]\nmembers = ["lib"]\n[tool.uv.sources]\nhelper = { path = "PATH" }\n'
        root = bench.root / "pyproject.toml"
        artifact = bench.in_tree("lib", requires=["helper"])
        with (bench.root / "lib" / "pyproject.toml").open("a") as file:
            file.write(PROJECT.format(name="lib", version="1.0"))
        for path in ("one", "two", "two"):
            bench.tree(path, {"pyproject.toml": HATCH})
            root.write_text(workspace.replace("PATH", path))
            bench.obtain(artifact)
        assert bench.resolved == [(bench.root / "lib", ("helper",))] * 2

    def test_decide_which_compiled_wheel_is_used(self, bench: TreeBench) -> None:
        """The sdist is the same, but not what it is built with."""
        root = bench.root / "pyproject.toml"
        artifact = bench.in_tree("lib", requires=["helper"])
        with (bench.root / "lib" / "pyproject.toml").open("a") as file:
            file.write(PROJECT.format(name="lib", version="1.0"))

        def scope(sources: str) -> str:
            root.write_text('[tool.uv.workspace]\nmembers = ["lib"]\n' + sources)
            return origin_scope(artifact, read_directory(bench.root / "lib", "lib"), bench.context())

        none, other = scope(""), scope('[tool.uv.sources]\nother = { path = "one" }\n')
        one, two = (scope(f'[tool.uv.sources]\nhelper = {{ path = "{path}" }}\n') for path in ("one", "two"))
        index = scope('[[tool.uv.index]]\nname = "corp"\nurl = "https://index.example/simple/"\n')
        assert none == other
        assert len({none, one, two, index}) == 4
        job = job_of(make_sdist(bench.root, "lib"))
        job, again, changed = (replace(job, origin=Origin(scope=each)) for each in (one, one, two))
        wheels, lock = bench.context().wheels, BuildLock(requirements=())
        bench.wheel("lib")
        wheels.store(job, "builder", "", bench.wheels["lib"], Compiled(filename=bench.wheels["lib"].name, lock=lock))
        assert (wheels.build_lock(again, "builder"), wheels.build_lock(changed, "builder")) == (lock, None)

    def test_that_are_directories_may_change(self, bench: TreeBench) -> None:
        bench.installed("hatchling")
        pyproject = HATCH + PROJECT.format(name="lib", version="1.0")
        lib = bench.tree(
            "lib", {"pyproject.toml": pyproject.replace('"hatchling"]', '"hatchling", "tool"]'), "lib.py": ""}
        )
        bench.sources = {"tool": bench.in_tree("tool")}
        bench.obtain(lib)
        bench.obtain(lib)
        assert bench.builds("tool") == "ww"

    def test_in_a_circle_are_an_error(self, bench: TreeBench) -> None:
        bench.sources = {"a": bench.in_tree("a", requires=["b"]), "b": bench.in_tree("b", requires=["a"])}
        with pytest.raises(CompileError, match="a is built with b is built with a") as caught:
            bench.obtain(bench.sources["a"])
        assert "build-system.requires" in caught.value.hint

    def test_circles_at_run_time_are_fine(self, bench: TreeBench) -> None:
        names = [file.artifact.name for file in bench.obtain(bench.in_tree("a"), bench.in_tree("b"))]
        assert names == ["a", "b"]


class TestImpure:
    def reason(self, bench: TreeBench, error: EngineError) -> str:
        return error.message.partition("it is needed to compile\n  ")[2]

    @pytest.mark.parametrize("options", [{"tag": "cp311-cp311-linux_x86_64"}, {"files": {"lib/_x.so": "ELF"}}])
    def test_wheel_is_compiled_in_the_builder(self, bench: TreeBench, options: dict[str, Mapping[str, str]]) -> None:
        artifact = bench.in_tree("lib", **options)  # type: ignore[arg-type]
        sign = options.get("tag", "lib/_x.so")
        for builds in ("ws", "wss"):
            with pytest.raises(EngineError) as caught:
                bench.obtain(artifact)
            assert self.reason(bench, caught.value) == f"lib 1.0: its wheel is not pure ({sign})"
            assert bench.builds("lib") == builds

    def test_failure_is_quoted_and_not_remembered_until_the_builder_succeeds(self, bench: TreeBench) -> None:
        artifact = bench.in_tree("lib", build="raise SystemExit('no compiler')")
        for builds in ("ws", "wsws"):
            with pytest.raises(EngineError) as caught:
                bench.obtain(artifact)
            assert self.reason(bench, caught.value) == "lib 1.0: its build on this machine failed (no compiler)"
            assert bench.builds("lib") == builds

    def test_sdist_does_not_contain_what_the_build_left_in_the_directory(self, bench: TreeBench) -> None:
        build = "open('_new.so', 'w').close(); raise SystemExit(1)"
        artifact = bench.in_tree("lib", build=build)
        (bench.root / "lib" / "_old.so").write_text("")
        with pytest.raises(EngineError):
            bench.obtain(artifact)
        assert ((bench.root / "lib" / "_old.so").exists(), (bench.root / "lib" / "_new.so").exists()) == (True, False)

    def test_sdists_of_equal_files_are_equal(self, bench: TreeBench) -> None:
        artifact = bench.in_tree("lib", tag="cp311-cp311-linux_x86_64")
        for time in (1, 2):
            os.utime(bench.root / "lib" / "backend.py", (time, time))
            with pytest.raises(EngineError):
                bench.obtain(artifact)
        assert len([*(bench.root / "cache" / "blobs" / "sha256").iterdir()]) == 1


class TestFailures:
    def test_of_a_static_project_are_not_left_to_the_builder(self, bench: TreeBench) -> None:
        bench.installed("hatchling")
        artifact = bench.hatch("lib")
        shutil.rmtree(bench.root / "lib" / "src")
        with pytest.raises(CompileError, match="lib cannot be built on this machine:") as caught:
            bench.obtain(artifact)
        assert "Unable to determine which files to ship" in caught.value.message
        assert caught.value.place == "../lib"
        assert "the whole log is " in caught.value.hint

    def test_are_reported_together(self, bench: TreeBench) -> None:
        bench.tree("empty", {"README.md": ""})
        (bench.root / "file").write_text("")
        bench.tree("broken", {"pyproject.toml": "[build-system"})
        artifacts = [bench.locked(name) for name in ("gone", "empty", "file", "broken")]
        with pytest.raises(CompileError) as caught:
            bench.obtain(*artifacts)
        for message in (
            f"{bench.root / 'gone'}: the directory of gone is gone\n  hint: ",
            f"{bench.root / 'empty'}: the directory of empty has neither a pyproject.toml nor a setup.py\n  hint: ",
            f"{bench.root / 'file'}: the directory of file is not a directory\n  hint: ",
            f"{bench.root / 'broken' / 'pyproject.toml'}: broken cannot be built: its pyproject.toml cannot be read",
        ):
            assert message in caught.value.message

    def test_wheel_of_another_package(self, bench: TreeBench) -> None:
        artifact = bench.in_tree("lib", builds="other")
        with pytest.raises(CompileError, match=r"lib was built into other-1\.0-py3-none-any\.whl") as caught:
            bench.obtain(artifact)
        assert "lock again" in caught.value.hint

    def test_a_single_one_keeps_its_kind(self, bench: TreeBench) -> None:
        with pytest.raises(SourceError):
            bench.obtain(bench.locked("gone"))


class TestGit:
    def test_commit_is_built_once(self, bench: TreeBench) -> None:
        bench.in_tree("lib")
        (bench.root / "repo").mkdir()
        shutil.move(bench.root / "lib", bench.root / "repo" / "lib")
        git(bench.root / "repo", "init")
        revision = commit(bench.root / "repo", {})
        tree = SourceTree(url=(bench.root / "repo").as_uri(), commit=revision, subdirectory="lib")
        artifact = bench.locked("lib", tree=tree)
        assert cached_tree(artifact, bench.context()) is None
        (first,) = bench.obtain(artifact)
        assert first.artifact.tree == tree
        assert not (bench.root / "repo" / "lib.builds").exists()
        shutil.rmtree(bench.root / "repo")
        assert bench.obtain(artifact) == [first]
        assert cached_tree(artifact, bench.context()) == first
        assert cached_tree(artifact, bench.context(environ={"UV_GIT_LFS": "1"})) is None
        assert not any("taken as they are" in note for note in bench.notes.notes)

    def test_code_of_a_commit_does_not_run_here_if_it_may_not(self, bench: TreeBench) -> None:
        local = bench.in_tree("local")
        bench.in_tree("lib")
        ran = bench.root / "ran"
        with (bench.root / "lib" / "backend.py").open("a") as file:
            file.write(f"open({str(ran)!r}, 'w').close()\n")
        git(bench.root / "lib", "init")
        revision = commit(bench.root / "lib", {})
        tree = SourceTree(url=(bench.root / "lib").as_uri(), commit=revision)
        context = replace(bench.context(), only_in_builder=True)
        built = build_tree(bench.locked("lib", version="2.5", tree=tree), context, lambda _artifacts: [])
        assert built is not None
        assert not ran.exists()
        with tarfile.open(built.file.path) as archive:
            assert "lib-2.5/backend.py" in archive.getnames()
            info = archive.extractfile("lib-2.5/PKG-INFO")
            assert info is not None
            assert "\nVersion: 2.5\n" in info.read().decode()
        # A local directory is as trusted as the project.
        here = build_tree(local, context, lambda _artifacts: [])
        assert here is not None
        assert here.file.artifact.is_wheel
