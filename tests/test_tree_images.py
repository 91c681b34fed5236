"""Images of projects that require local directories and Git commits, and what a plan says of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builds
import pytest
from base_maker import FakeBase
from builds import Bench, archive_of, read, result_of
from fake_index import FakeIndex, serving
from git_server import ISOLATED, commit, git
from project_maker import lock_of
from tree_bench import TreeBench

LOCKED = '\n[[packages]]\nname = "{name}"\n{more}[packages.directory]\npath = "{path}"\n'
COMMIT = '\n[[packages]]\nname = "{name}"\nvcs = {{ type = "git", url = "{url}", commit-id = "{revision}" }}\n'
SITE = "app/.venv/lib/python3.13/site-packages"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def trees(tmp_path: Path) -> TreeBench:
    return TreeBench(tmp_path)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeIndex]:
    """An index with hatchling."""
    installed = TreeBench(tmp_path_factory.mktemp("installed"))
    installed.installed("hatchling")
    with serving() as found:
        for name, wheel in installed.wheels.items():
            found.add(name, wheel.name, wheel.read_bytes())
        yield found


def locked(bench: Bench, *directories: str, wheels: tuple[str, ...] = (), docker: str = "", more: str = "") -> Path:
    """A project whose lock names wheels and directories beside it."""
    paths = [bench.wheel(name) for name in wheels]
    project = bench.project(wheels=paths, dependencies=[*wheels, *directories], docker=docker)
    text = lock_of(*paths) if paths else 'lock-version = "1.0"\ncreated-by = "tests"\n'
    text += "".join(LOCKED.format(name=name, path=f"../{name}", more="") for name in directories)
    (project / "pylock.toml").write_text(text + more)
    return project


def build(bench: Bench, project: Path, index: FakeIndex | None = None, **env: str) -> builds.Outcome:
    outcome = bench.build(project, **environ(index, **env))
    assert outcome.code == 0, outcome.err
    return outcome


def environ(index: FakeIndex | None, **env: str) -> dict[str, str]:
    return {**env, "HATCH_DOCKER_INDEX_URL": index.url if index else "http://127.0.0.1:1/simple", "UV_NO_CACHE": "1"}


def planned(bench: Bench, project: Path, index: FakeIndex) -> dict[str, Any]:
    env = builds.environment(bench.cache, **environ(index))
    outcome = builds.command("plan", "--json", env=env, folder=project)
    assert outcome.code == 0, outcome.err
    (image,) = json.loads(outcome.out)["images"]
    return dict(image)


def contents(document: dict[str, Any]) -> list[list[str]]:
    return [layer["contents"] for layer in document["layers"]]


class TestLayers:
    def test_directories_are_just_below_the_project(self, bench: Bench, trees: TreeBench) -> None:
        for name in ("zlib", "lib"):
            trees.in_tree(name)
        (bench.root / "project").mkdir()
        (bench.root / "project" / "conf").write_text("")
        extra = 'extra-files = [{ from = "conf", into = "/etc/app" }]\n'
        project = locked(bench, "lib", "zlib", wheels=("alpha",), docker=extra)
        outcome = build(bench, project)
        assert contents(result_of(project)) == [["alpha 1.0"], ["extra files"], ["lib 1.0", "zlib 1.0"], ["shop 1.0"]]
        assert outcome.err.count("local directories are taken as they are: lib (../lib), zlib (../zlib)") == 1
        assert read(archive_of(project)).text(f"{SITE}/zlib.py") == "ANSWER = 42\n"

    def test_directories_are_built_once_for_all_platforms(self, bench: Bench, trees: TreeBench) -> None:
        trees.in_tree("lib")
        base = bench.base(FakeBase(), FakeBase(architecture="arm64"))
        project = locked(bench, "lib")
        build(bench, project, HATCH_DOCKER_BASE=f"oci:{base}", HATCH_DOCKER_PLATFORMS="linux/amd64,linux/arm64")
        assert trees.builds("lib") == "w"
        amd64, arm64 = (
            {tuple(each["contents"]): each["digest"] for each in image["layers"]}
            for image in result_of(project)["images"]
        )
        assert amd64 == arm64

    @pytest.mark.parametrize("most", [3, 4, 9])
    def test_are_within_the_limit(self, bench: Bench, trees: TreeBench, most: int) -> None:
        trees.in_tree("lib")
        wheels = tuple(f"w{number}" for number in range(6))
        project = locked(bench, "lib", wheels=wheels, docker=f"max-layers = {most}\n")
        build(bench, project)
        found = contents(result_of(project))
        assert len(found) <= most
        assert found[-2:] == [["lib 1.0"], ["shop 1.0"]]
        names = [name for layer in found for name in layer]
        assert sorted(names) == sorted([*(f"{each} 1.0" for each in wheels), "lib 1.0", "shop 1.0"])

    def test_a_change_makes_two_layers_anew(self, bench: Bench, trees: TreeBench) -> None:
        trees.in_tree("lib")
        project = locked(bench, "lib", wheels=("alpha",))
        build(bench, project)
        build(bench, project)
        assert [layer["reused"] for layer in result_of(project)["layers"]][:2] == [True, True]
        before = result_of(project)["layers"]
        trees.in_tree("lib", files={"lib/more.py": ""})
        build(bench, project)
        after = result_of(project)["layers"]
        assert [one["digest"] == two["digest"] for one, two in zip(before, after, strict=True)] == [True, False, True]


def test_digest_does_not_depend_on_where_the_checkout_is(tmp_path: Path) -> None:
    digests = set()
    for root in (tmp_path / "one", tmp_path / "two" / "deep"):
        root.mkdir(parents=True)
        bench = Bench(root)
        TreeBench(root).in_tree("lib")
        project = locked(bench, "lib")
        text = (project / "pyproject.toml").read_text().replace("'lib'", "'lib @ {root:parent:uri}/lib'")
        (project / "pyproject.toml").write_text(f"{text}\n[tool.hatch.metadata]\nallow-direct-references = true\n")
        build(bench, project)
        digests.add(result_of(project)["digest"])
        assert "file:" not in read(archive_of(project)).text(f"{SITE}/shop-1.0.dist-info/METADATA")
    assert len(digests) == 1


class TestThePlan:
    def test_has_the_layers_of_the_build(self, bench: Bench, trees: TreeBench, index: FakeIndex) -> None:
        trees.hatch("lib")
        project = locked(bench, "lib", wheels=("alpha",))
        first = planned(bench, project, index)
        assert contents(first) == [["alpha 1.0"], ["lib"], ["shop 1.0"]]
        lib = next(each for each in first["distributions"] if each["name"] == "lib")
        assert (lib["url"], lib["version"], lib["commit"], lib["hash"]) == ("../lib", "unknown", None, None)
        env = builds.environment(bench.cache, **environ(index))
        text = builds.command("plan", env=env, folder=project).out
        assert re.search(
            r"^  lib unknown +unknown  \.\./lib +it is a local directory: built in ", text, re.MULTILINE
        ), text
        build(bench, project, index)
        again = planned(bench, project, index)
        assert contents(again) == contents(result_of(project)) == [["alpha 1.0"], ["lib 1.0"], ["shop 1.0"]]
        assert [layer["cached"] for layer in again["layers"]] == [True, True, "unknown"]
        (bench.root / "lib" / "src" / "lib" / "__init__.py").write_text("changed = 1\n")
        assert [layer["cached"] for layer in planned(bench, project, index)["layers"]] == [True, "unknown", "unknown"]

    def test_builds_nothing(self, bench: Bench, trees: TreeBench, index: FakeIndex) -> None:
        trees.in_tree("lib")
        project = locked(bench, "lib")
        planned(bench, project, index)
        assert trees.builds("lib") == ""

    def test_leaves_out_what_is_not_a_package(self, bench: Bench, trees: TreeBench, index: FakeIndex) -> None:
        trees.tree("lib", {"pyproject.toml": '[project]\nname = "lib"\nversion = "1"\n[tool.uv]\npackage = false\n'})
        project = locked(bench, "lib")
        assert contents(planned(bench, project, index)) == [["shop 1.0"]]
        outcome = build(bench, project)
        assert contents(result_of(project)) == [["shop 1.0"]]
        assert "lib has tool.uv.package = false" in outcome.err


class TestTheResult:
    def test_names_directories_and_commits(self, bench: Bench, trees: TreeBench) -> None:
        trees.in_tree("lib")
        trees.in_tree("remote")
        git(bench.root / "remote", "init")
        revision = commit(bench.root / "remote", {})
        url = (bench.root / "remote").as_uri()
        project = locked(bench, "lib", more=COMMIT.format(name="remote", url=url, revision=revision))
        build(bench, project, None, **{name: value for name, value in ISOLATED.items() if name.startswith("GIT_")})
        assert result_of(project)["sources"] == [
            {"name": "lib", "version": "1.0", "kind": "directory", "url": "../lib", "commit": "", "subdirectory": ""},
            {"name": "remote", "version": "1.0", "kind": "git", "url": url, "commit": revision, "subdirectory": ""},
        ]
        assert contents(result_of(project)) == [["remote 1.0"], ["lib 1.0"], ["shop 1.0"]]


class TestFailures:
    def test_of_all_directories_are_one_message(self, bench: Bench) -> None:
        project = locked(bench, "gone", "lost")
        outcome = bench.build(project, **environ(None))
        assert outcome.code == 1
        assert "the directory of gone is gone" in outcome.err
        assert "the directory of lost is gone" in outcome.err
        assert "Traceback" not in outcome.err
        assert not list((project / "dist").glob("*.tar"))

    def test_wheel_needs_what_the_lock_lacks(self, bench: Bench, trees: TreeBench) -> None:
        more = {"lib-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: lib\nVersion: 1.0\nRequires-Dist: other\n"}
        trees.in_tree("lib", files=more)
        outcome = build(bench, locked(bench, "lib"))
        assert "warning: the lock lacks what its packages require: lib 1.0 requires other" in outcome.err


class TestBuildRequirements:
    @pytest.mark.parametrize("source", ['{ path = "../tool" }', '{ git = "GIT", rev = "REV" }'])
    def test_obey_the_sources_of_the_directory(
        self, bench: Bench, trees: TreeBench, index: FakeIndex, source: str
    ) -> None:
        """The index offers a higher version of the same name, and is not asked for it."""
        index.add("tool", "tool-9.0-py3-none-any.whl", b"a stranger's")
        trees.in_tree("tool")
        git(bench.root / "tool", "init")
        revision = commit(bench.root / "tool", {})
        source = source.replace("GIT", (bench.root / "tool").as_uri()).replace("REV", revision)
        trees.in_tree("lib", requires=["tool"], build="import tool; assert tool.ANSWER == 42")
        with (bench.root / "lib" / "pyproject.toml").open("a") as file:
            file.write(f"\n[tool.uv.sources]\ntool = {source}\n")
        settings = {name: value for name, value in ISOLATED.items() if name.startswith("GIT_")}
        build(bench, locked(bench, "lib"), index, **settings)
        assert not [path for path in index.paths() if "/tool/" in path]

    def test_in_a_circle_are_an_error(self, bench: Bench, trees: TreeBench, index: FakeIndex) -> None:
        for name, other in (("lib", "tool"), ("tool", "lib")):
            trees.in_tree(name, requires=[other])
            with (bench.root / name / "pyproject.toml").open("a") as file:
                file.write(f'\n[tool.uv.sources]\n{other} = {{ path = "../{other}" }}\n')
        outcome = bench.build(locked(bench, "lib"), **environ(index))
        assert outcome.code == 1
        assert "Traceback" not in outcome.err
        assert "\n  lib is needed" not in outcome.err
        assert ": lib is needed to build lib itself: lib is built with tool is built with lib\n" in outcome.err
        assert (trees.builds("lib"), trees.builds("tool")) == ("", "")
