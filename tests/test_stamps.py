"""Stamps: a build without changes is not run again, and one with changes is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import builds
import pytest
from base_maker import FakeBase, serve
from builds import Bench, Outcome
from fake_engine import FakeEngine
from fake_registry import Failure, FakeRegistry

from hatch_docker.build import build as make
from hatch_docker.dependence import all_inputs, project_inputs
from hatch_docker.edits.make import make as make_edited
from hatch_docker.index.artifact import Artifact, SourceTree
from hatch_docker.plan import plan as decide
from hatch_docker.project.backend import BackendProject
from hatch_docker.project.model import Reads
from hatch_docker.stamps.files import TooLargeError, are_same, changed, states_of
from hatch_docker.stamps.repository import commit_files
from hatch_docker.stamps.values import Inputs
from hatch_docker.support.dataclasses import dataclass, field

HOUR = 3600 * 10**9
NEVER = 2**62


@dataclass
class Runs:
    """Runs of `hatch-docker build` in a project, whose base and engine are fakes; `plans` counts those that built."""

    bench: Bench
    project: Path
    registry: FakeRegistry
    engine: FakeEngine
    plans: list[int] = field(default_factory=list)

    def __call__(self, *arguments: str | Path, **env: str) -> Outcome:
        environ = builds.environment(self.bench.cache, DOCKER_HOST=self.engine.address, **{"BUILD": "0", **env})
        now = time.time_ns

        def plan(*given: Any, **options: Any) -> Any:
            self.plans.append(1)
            return decide(*given, **options)

        def edited(*given: Any, **options: Any) -> Any:
            self.plans.append(1)
            return make_edited(*given, **options)

        # The files of this test are older than any build.
        with (
            mock.patch("hatch_docker.session.plan", plan),
            mock.patch("hatch_docker.edits.finish.make", edited),
            mock.patch("time.time_ns", side_effect=lambda: now() + HOUR),
        ):
            outcome = builds.command("build", *arguments, env=environ, folder=self.project)
        assert outcome.code == 0, outcome.err
        return outcome

    def built(self, *arguments: str | Path, **env: str) -> bool:
        """Run it; whether it was more than a replay."""
        before = len(self.plans)
        self(*arguments, **env)
        return len(self.plans) > before


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def run(bench: Bench) -> Iterator[Runs]:
    with FakeRegistry() as registry, FakeEngine() as engine:
        serve(bench.base(), registry, "team/base", "1")
        project = bench.project(
            base="", wheels=[bench.wheel("alpha")], docker=f'base = "{registry.host}/team/base:1"', folder="project"
        )
        yield Runs(bench, project, registry, engine)


def source(project: Path) -> Path:
    return next(path for path in project.rglob("*.py") if "dist" not in path.parts)


class TestWithoutChanges:
    def test_a_build_is_not_run_again(self, run: Runs) -> None:
        first, second, third = run(), run(), run()
        assert len(run.plans) == 1
        assert first.out == second.out == third.out
        assert " made" not in second.err
        made = [line.removesuffix("made").split() for line in first.err.splitlines() if line.endswith(" made")]
        assert made == [line.removesuffix("reused").split() for line in second.err.splitlines() if "reused" in line]
        assert third.err == second.err

    def test_it_asks_the_registry_and_the_engine_once(self, run: Runs) -> None:
        run()
        run.engine.requests.clear()
        run.registry.requests.clear()
        run()
        assert len(run.engine.requests) == 1
        assert [request.method for request in run.registry.requests] == ["HEAD"]

    def test_an_archive_stays(self, run: Runs) -> None:
        run("-o", "type=oci,dest=app.tar")
        assert not run.built("-o", "type=oci,dest=app.tar")

    def test_a_push_is_not_repeated(self, run: Runs) -> None:
        arguments = ("-t", f"{run.registry.host}/team/app:1", "--push")
        first = run(*arguments)
        assert run(*arguments).out == first.out
        assert len(run.plans) == 1

    def test_options_for_the_terminal_do_not_matter(self, run: Runs) -> None:
        run()
        quiet = run("-q", "--progress", "plain", TERM="dumb")
        assert len(run.plans) == 1
        assert quiet.err == ""

    def test_notes_and_warnings_are_repeated(self, run: Runs) -> None:
        text = (run.project / "pyproject.toml").read_text()
        (run.project / "pyproject.toml").write_text(text.partition("[project.scripts]")[0])
        note = "no entrypoint"
        assert note in run().err
        assert note in run().err
        assert len(run.plans) == 1

    def test_files_that_were_only_touched_are_the_same(self, run: Runs) -> None:
        run()
        for path in run.project.rglob("*.py"):
            path.touch()
        assert not run.built()

    def test_the_cache_may_be_in_the_project(self, run: Runs) -> None:
        cache = str(run.project / ".cache")
        run(HATCH_DOCKER_CACHE_DIR=cache)
        assert not run.built(HATCH_DOCKER_CACHE_DIR=cache)

    def test_a_repository_may_have_no_commit(self, run: Runs) -> None:
        subprocess.run(["git", "init", "-q"], cwd=run.project, check=True)
        run()
        assert not run.built()

    def test_no_login_of_an_option_is_stored(self, run: Runs) -> None:
        option = ("--set", "index-url=https://user:s3cret@index.example/simple")
        run(*option)
        assert not run.built(*option)
        assert not [path for path in builds.files_below(run.bench.cache) if b"s3cret" in path.read_bytes()]

    def test_files_that_options_ask_for_are_written_again(self, run: Runs) -> None:
        arguments = ("--metadata-file", "meta.json", "--iidfile", "iid")
        run(*arguments)
        for name in ("meta.json", "iid"):
            (run.project / name).unlink()
        assert not run.built(*arguments)
        digest = json.loads((run.project / "meta.json").read_text())["containerimage.config.digest"]
        assert (run.project / "iid").read_text() == digest

    def test_the_result_file_is_written_again(self, run: Runs) -> None:
        run()
        (result,) = (run.project / "dist").glob("*.docker.json")
        result.unlink()
        assert not run.built()
        assert all(layer["reused"] for layer in builds.result_of(run.project)["layers"])


def _append(path: Path) -> None:
    path.write_text(path.read_text() + "\n# changed\n")


def _same_times(path: Path) -> None:
    """Change a file, and give it its old size and time."""
    found, text = path.stat(), path.read_text()
    path.write_text(f"{text[:-1]} ")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _settings(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("offline = true\n")


CHANGES: dict[str, Callable[[Runs], object]] = {
    "a line": lambda run: _append(source(run.project)),
    "one byte, with the old time": lambda run: _same_times(source(run.project)),
    "a new file": lambda run: (source(run.project).parent / "new.py").write_text("NEW = 1\n"),
    "a file less": lambda run: (run.project / "README.md").unlink(),
    "a mode": lambda run: source(run.project).chmod(0o755),
    "the configuration": lambda run: _append(run.project / "pyproject.toml"),
    "settings of uv of the user": lambda run: _settings(run.bench.cache.parent / "home" / ".config/uv/uv.toml"),
    "settings of uv above the project": lambda run: (run.project.parent / "uv.toml").write_text("offline = true\n"),
    "the base": lambda run: serve(run.bench.base(FakeBase(python="3.12.1")), run.registry, "team/base", "1"),
    "no image in the engine": lambda run: run.engine.images.clear(),
    "an extra file that is no source": lambda run: (run.project / "data" / "a.pyc").write_bytes(b"2"),
    "a commit": lambda run: _commit(run.project),
}


def _commit(project: Path, *options: str) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.example", *arguments],
            cwd=project,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first", *options)


class TestAfter:
    @pytest.mark.parametrize("change", CHANGES)
    def test_a_build_is_run(self, run: Runs, change: str) -> None:
        (run.project / "README.md").write_text("# App\n")
        (run.project / "data").mkdir()
        (run.project / "data" / "a.pyc").write_bytes(b"1")
        text = (run.project / "pyproject.toml").read_text()
        extra = '[[tool.hatch.build.targets.docker.extra-files]]\nfrom = "data"\ninto = "/data"\n'
        (run.project / "pyproject.toml").write_text(f"{text}\n{extra}")
        run()
        assert not run.built()
        CHANGES[change](run)
        assert run.built(), change
        assert not run.built()

    def test_another_commit(self, run: Runs) -> None:
        _commit(run.project)
        run()
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "-q", "--allow-empty", "-m", "x"],
            cwd=run.project,
            check=True,
        )
        assert run.built()

    def test_another_environment(self, run: Runs) -> None:
        run()
        assert run.built(SOURCE_DATE_EPOCH="1000000000")
        assert not run.built(SOURCE_DATE_EPOCH="1000000000")

    def test_other_options(self, run: Runs) -> None:
        run()
        assert run.built("--label", "a=b")

    @pytest.mark.parametrize("option", ["--no-cache", "--pull"])
    def test_being_asked_for(self, run: Runs, option: str) -> None:
        run()
        assert run.built(option)
        assert not run.built()

    def test_another_archive_at_its_place(self, run: Runs) -> None:
        arguments = ("-o", "type=oci,dest=app.tar")
        run(*arguments)
        (run.project / "app.tar").write_bytes(b"another")
        assert run.built(*arguments)
        (run.project / "app.tar").unlink()
        assert run.built(*arguments)

    def test_another_image_under_the_tag_of_a_push(self, run: Runs) -> None:
        arguments = ("-t", f"{run.registry.host}/team/app:1", "--push")
        run(*arguments)
        serve(run.bench.base(), run.registry, "team/app", "1")
        assert run.built(*arguments)

    def test_a_refusal_of_the_registry(self, run: Runs) -> None:
        run()
        run.registry.failures += [Failure(method, "/manifests/", 403, times=9) for method in ("HEAD", "GET")]
        environ = builds.environment(run.bench.cache, DOCKER_HOST=run.engine.address, BUILD="0")
        outcome = builds.command("build", env=environ, folder=run.project)
        assert outcome.code == 1
        assert run.registry.host in outcome.err

    def test_a_directory_that_the_lock_names_without_a_package(self, run: Runs) -> None:
        (base := run.bench.root / "base").mkdir()
        document = '[project]\nname = "common"\nversion = "1"\n'
        (base / "pyproject.toml").write_text(document)
        project = run.bench.project(
            base="", dependencies=["common"], folder="other", docker=f'base = "{run.registry.host}/team/base:1"',
            more='[tool.uv.sources]\ncommon = { path = "../base", package = false }\n',
        )  # fmt: skip
        (project / "uv.lock").write_text(_VIRTUAL_LOCK)
        run.project = project
        run()
        assert not run.built()
        (base / "pyproject.toml").write_text(f'{document}dependencies = ["alpha"]\n')
        environ = builds.environment(run.bench.cache, DOCKER_HOST=run.engine.address, BUILD="0")
        outcome = builds.command("build", env=environ, folder=run.project)
        assert outcome.code == 1
        assert "the lock is stale" in outcome.err

    def test_a_change_during_the_build(self, run: Runs) -> None:
        path = source(run.project)

        def build(*arguments: Any, **options: Any) -> Any:
            _append(path)
            return make(*arguments, **options)

        with mock.patch("hatch_docker.session.build", build):
            run()
        assert run.built()


class TestWithoutAStamp:
    @pytest.mark.parametrize(
        "table",
        ["[tool.hatch.build.hooks.custom]\n", '[tool.hatch.build.targets.wheel.hooks.custom]\npath = "hook.py"\n'],
    )
    def test_hooks_run_each_time(self, run: Runs, table: str) -> None:
        hook = (
            "from hatchling.builders.hooks.plugin.interface import BuildHookInterface\n\n\n"
            "class Hook(BuildHookInterface):\n    pass\n"
        )
        for name in ("hatch_build.py", "hook.py"):
            (run.project / name).write_text(hook)
        (run.project / "pyproject.toml").write_text((run.project / "pyproject.toml").read_text() + table)
        run()
        assert run.built()

    def test_a_project_that_includes_what_is_not_compared(self, run: Runs) -> None:
        table = '[tool.hatch.build.targets.wheel.force-include]\n".tox/data" = "shop/data"\n'
        (run.project / ".tox").mkdir()
        (run.project / ".tox" / "data").write_text("1")
        (run.project / "pyproject.toml").write_text((run.project / "pyproject.toml").read_text() + table)
        run()
        assert run.built()

    @pytest.mark.parametrize("name", [".svn/data", "example/pyvenv.cfg"])
    def test_a_package_with_files_that_are_not_compared(self, run: Runs, name: str) -> None:
        path = source(run.project).parent / name
        path.parent.mkdir()
        path.write_text("1")
        run()
        path.write_text("2")
        assert run.built()

    def test_a_project_with_a_licence_outside_of_it(self, run: Runs) -> None:
        text = (run.project / "pyproject.toml").read_text()
        named = text.replace("version =", 'license.file = "../TERMS"\nversion =', 1)
        (run.project / "pyproject.toml").write_text(named)
        (run.project.parent / "TERMS").write_text("1")
        run()
        (run.project.parent / "TERMS").write_text("2")
        assert run.built()

    def test_a_time_that_is_now_is_new_each_time(self, run: Runs) -> None:
        run("--set", "created=now")
        assert run.built("--set", "created=now")

    def test_a_version_with_the_date_of_the_day(self, run: Runs) -> None:
        # As hatch-vcs gives it if there are changes that are not committed.
        text = (run.project / "pyproject.toml").read_text()
        dated = text.replace('version = "1.0"', 'version = "1.1.dev3+g1234567.d20261127"', 1)
        (run.project / "pyproject.toml").write_text(dated)
        run()
        assert run.built()

    def test_a_commit_that_git_refused_to_read(self, run: Runs) -> None:
        _commit(run.project)
        refused = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
        assert "records no commit" in run(**refused).err
        (home := run.bench.cache.parent / "home").mkdir(exist_ok=True)
        (home / ".gitconfig").write_text(f"[safe]\n\tdirectory = {run.project}\n")
        assert "records no commit" not in run(**refused).err

    def test_a_commit_for_want_of_git(self, run: Runs, tmp_path: Path) -> None:
        _commit(run.project)
        (programs := tmp_path / "programs").mkdir()
        run(PATH=str(programs))
        git = shutil.which("git")
        assert git
        (programs / "git").symlink_to(git)
        assert run.built(PATH=str(programs))
        assert not run.built(PATH=str(programs))

    def test_an_archive_for_want_of_an_engine_is_not_kept(self, run: Runs) -> None:
        environ = {"DOCKER_HOST": builds.NOWHERE}
        before = builds.environment(run.bench.cache, BUILD="0", **environ)
        assert builds.command("build", env=before, folder=run.project).code == 0
        assert builds.command("build", env=before, folder=run.project).out.endswith(".docker.tar\n")
        assert run.built()


class TestStates:
    def test_of_the_same_files_are_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_text("1")
        states = states_of([str(path), str(tmp_path / "absent")], {}, 0)
        assert are_same(states, states_of(states, states, NEVER))

    def test_a_file_that_may_have_changed_at_once_is_read_again(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_text("1")
        states = states_of([str(path)], {}, 0)
        forged = {str(path): [*states[str(path)][:5], "other"]}
        newest = int(states[str(path)][3])
        assert changed(states, states_of([str(path)], forged, newest)) == []
        # It is older than what is known, so that it is not read.
        assert changed(states, states_of([str(path)], forged, NEVER)) == [str(path)]

    def test_a_link_is_another_file_than_its_target(self, tmp_path: Path) -> None:
        path, link = tmp_path / "a", tmp_path / "b"
        path.write_text("1")
        link.symlink_to("a")
        before = states_of([str(link)], {}, 0)
        link.unlink()
        link.write_text("1")
        assert changed(before, states_of([str(link)], before, NEVER)) == [str(link)]

    def test_too_many_files_are_not_compared(self, tmp_path: Path) -> None:
        with mock.patch("hatch_docker.stamps.files._MOST_FILES", 2), pytest.raises(TooLargeError):
            states_of([str(tmp_path / str(number)) for number in range(3)], {}, 0)


_VIRTUAL_LOCK = """\
version = 1
requires-python = ">=3.10"

[[package]]
name = "common"
version = "1"
source = { virtual = "../base" }

[[package]]
name = "shop"
version = "1.0"
source = { editable = "." }
dependencies = [{ name = "common" }]

[package.metadata]
requires-dist = [{ name = "common", virtual = "../base" }]
"""


def tracked(root: Path, home: Path, environ: Mapping[str, str] = {}) -> Inputs:
    reads = Reads(is_tracked=True)
    return project_inputs(root, reads, home=home, output=root / "dist", cache=home / "cache", environ=environ)


class TestOtherFiles:
    def test_of_a_poetry_project_are_those_that_git_ignores(self, tmp_path: Path) -> None:
        system = '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
        (tmp_path / "pyproject.toml").write_text(f'{system}[project]\nname = "a"\nversion = "1"\n')
        reads = BackendProject(tmp_path).reads
        assert reads
        assert reads.is_tracked

    def test_of_local_directories_are_the_ignore_files_above_them(self, tmp_path: Path) -> None:
        (tree := tmp_path / "other" / "lib").mkdir(parents=True)
        (tmp_path / "other" / ".git").mkdir()
        artifact = Artifact(name="lib", version="1", tree=SourceTree(url=tree.as_uri()))
        plan: Any = SimpleNamespace(images=[SimpleNamespace(locked=SimpleNamespace(artifacts=[artifact]))])
        with mock.patch("hatch_docker.dependence._paths", return_value=[]):
            inputs = all_inputs(Inputs(), plan, mock.Mock(), written=[])
        above = tmp_path / "other"
        assert inputs.directories == [str(tree)]
        assert {str(above / ".gitignore"), str(above / ".git" / "info" / "exclude")} <= {*inputs.paths}


class TestARepository:
    def test_its_head_decides_which_commit_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("1")
        _commit(tmp_path)
        before = states_of(commit_files(str(tmp_path)), {}, 0)
        assert are_same(before, states_of(commit_files(str(tmp_path)), before, NEVER))
        subprocess.run(["git", "checkout", "-q", "-b", "other"], cwd=tmp_path, check=True)
        assert not are_same(before, states_of(commit_files(str(tmp_path)), before, NEVER))

    def test_of_a_worktree_is_that_of_its_own_head(self, tmp_path: Path) -> None:
        main, tree = tmp_path / "main", tmp_path / "tree"
        main.mkdir()
        (main / "a").write_text("1")
        _commit(main)
        subprocess.run(["git", "worktree", "add", "-q", str(tree)], cwd=main, check=True, stderr=subprocess.DEVNULL)
        files = [*commit_files(str(tree))]
        assert str(main / ".git" / "refs" / "heads" / "tree") in files
        assert any("worktrees" in path and path.endswith("HEAD") for path in files)

    @pytest.mark.parametrize("change", ["tag v1", "tag a/b", "tag -d v0", "rm -q --cached a"])
    def test_tags_and_the_index_are_tracked(self, tmp_path: Path, change: str) -> None:
        (root := tmp_path / "project").mkdir()
        (root / "a").write_text("1")
        _commit(root)
        subprocess.run(["git", "tag", "v0"], cwd=root, check=True)
        inputs = tracked(root, tmp_path)
        before = inputs.states({}, 0)
        assert are_same(before, inputs.states(before, NEVER))
        subprocess.run(["git", *change.split()], cwd=root, check=True, stdout=subprocess.DEVNULL)
        assert not are_same(before, inputs.states(before, NEVER))

    @pytest.mark.parametrize("variable", ["", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"])
    def test_the_ignore_files_that_settings_name_are_tracked(self, tmp_path: Path, variable: str) -> None:
        (root := tmp_path / "project").mkdir()
        _commit(root, "--allow-empty")
        settings = tmp_path / {"": ".gitconfig", "XDG_CONFIG_HOME": "git/config", "GIT_CONFIG_GLOBAL": "x"}[variable]
        settings.parent.mkdir(exist_ok=True)
        settings.write_text('[user]\n\tname = a\n[include]\n\tpath = "more"\n')
        (settings.parent / "more").write_text("[core] excludesFile = ~/ignored ; mine\n")
        inputs = tracked(root, tmp_path, {variable: str(settings if "GIT" in variable else tmp_path)})
        assert str(tmp_path / "ignored") in inputs.paths
        assert str(settings) in inputs.paths

    def test_a_repository_with_reftables_is_known(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("1")
        _commit(tmp_path)
        assert str(tmp_path / ".git" / "reftable" / "tables.list") in [*commit_files(str(tmp_path))]

    def test_a_directory_without_one_may_get_one(self, tmp_path: Path) -> None:
        assert str(tmp_path / ".git") in [*commit_files(str(tmp_path))]


class TestWithHatch:
    def test_a_build_without_changes_is_not_run_again(self, bench: Bench) -> None:
        project, now = bench.project(wheels=[bench.wheel("alpha")]), time.time_ns
        with mock.patch("time.time_ns", side_effect=lambda: now() + HOUR):
            first = bench.build(project, BUILD="0")
            with mock.patch("hatch_docker.session.plan", side_effect=AssertionError("it is run")):
                second = bench.build(project, BUILD="0")
            assert second.code == 0, second.err
            assert second.out == first.out
            assert second.err.count("reused") == first.err.count(" made\n")
            _append(source(project))
            assert bench.build(project, BUILD="0").out != first.out

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not say when a process began")
    def test_the_age_of_a_process_is_known(self) -> None:
        # The age first: a process that has to wait between the two would count as older than it is.
        program = "import time; from hatch_docker.stamps.host import process_age as age; print(-age() + time.time_ns())"
        before = time.time_ns()
        began = int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
        # A tick of the kernel's clock may be a hundredth of a second.
        assert before - 2 * 10**7 < began < time.time_ns()
