"""Projects of any build backend: which they are, their metadata, and their images on a base made here."""

from __future__ import annotations

import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import builds
import pytest
from backend_projects import EVERY, MATURIN, write
from builds import Bench
from git_server import git
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker
from packaging.requirements import Requirement
from prepared_maker import TARGET
from tree_bench import BACKEND, IN_TREE, PROJECT, TreeBench
from uv_projects import needs_current_uv

from hatch_docker.compiling.archive import pack
from hatch_docker.compiling.compile import obtain
from hatch_docker.compiling.dist_info import BuiltMetadata
from hatch_docker.compiling.metadata import build_metadata
from hatch_docker.compiling.trees import build_tree
from hatch_docker.config import parse
from hatch_docker.errors import CompileError, ConfigError, EngineError, HatchDockerError, LockError
from hatch_docker.index.access import FileFinder, Indexes, ResolverSettings
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.client import IndexFile
from hatch_docker.locks.build_requirements import BuildResolver
from hatch_docker.locks.uv import find_uv
from hatch_docker.project.core import built_project
from hatch_docker.project.model import Project, ProjectSource
from hatch_docker.project.open import open_project, satisfied
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.threads import together

SYSTEM = '[build-system]\nrequires = {requires}\nbuild-backend = "{backend}"\n'
HATCHLING = SYSTEM.format(requires='["hatchling"]', backend="hatchling.build")
SETUPTOOLS = '[build-system]\nrequires = ["setuptools"]\n'
NAMED = PROJECT.format(name="app", version="1.0")
HOOK = "\n[tool.hatch.build.targets.wheel.hooks.version]\npath = 'a.py'\ndependencies = ['{}']\n"
# A `prepare_metadata_for_build_wheel` for a backend in the tree.
PREPARE = """
def prepare_metadata_for_build_wheel(directory, config_settings=None):
    info = os.path.join(directory, "app-1.0.dist-info")
    os.mkdir(info)
    with open(os.path.join(info, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: app\\nVersion: 1.0\\nRequires-Dist: prepared\\n")
    return "app-1.0.dist-info"
"""


def opened(folder: Path, pyproject: str = "", **files: str) -> ProjectSource:
    """The project with these files; `__` in a name stands for a dot."""
    named = {name.replace("__", "."): text for name, text in files.items()}
    return open_project(write({**({"pyproject.toml": pyproject} if pyproject else {}), **named}, folder))


def unused(_artifact: Artifact, _python: str) -> BuiltMetadata:
    pytest.fail("the metadata is static")


def problems(act: Callable[[], object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        act()
    return [f"{Path(place).name}: {message}" for place, message in caught.value.problems]


class TestTheKindOfAProject:
    @pytest.mark.parametrize(
        ("kind", "pyproject"),
        {
            "hatchling": ("HatchlingProject", HATCHLING + NAMED),
            "a plugin that is not installed": (
                "BackendProject",
                SYSTEM.format(requires='["hatchling", "no-such-plugin"]', backend="hatchling.build") + NAMED,
            ),
            "a newer hatchling": (
                "BackendProject",
                SYSTEM.format(requires='["hatchling>=9999"]', backend="hatchling.build") + NAMED,
            ),
            "a dependency of a hook that is not installed": (
                "BackendProject",
                HATCHLING + NAMED + HOOK.format("no-such-package"),
            ),
            "a dependency of a hook that is installed": (
                "HatchlingProject",
                HATCHLING + NAMED + HOOK.format("hatchling"),
            ),
            "hatchling in the tree": ("BackendProject", HATCHLING + 'backend-path = ["tools"]\n' + NAMED),
            "no backend": ("BackendProject", SETUPTOOLS + NAMED),
            "no build-system": ("FilesProject", NAMED),
            "uv says that it is a package": ("BackendProject", NAMED + "[tool.uv]\npackage = true\n"),
            "uv says that it is none": ("FilesProject", SETUPTOOLS + NAMED + "[tool.uv]\npackage = false\n"),
            "Poetry says that it is none": ("FilesProject", SETUPTOOLS + "[tool.poetry]\npackage-mode = false\n"),
            "PDM says that it is none": ("FilesProject", SETUPTOOLS + NAMED + "[tool.pdm]\ndistribution = false\n"),
        }.values(),
    )
    def test_is_that_of_its_pyproject(self, tmp_path: Path, kind: str, pyproject: str) -> None:
        assert type(opened(tmp_path, pyproject)).__name__ == kind

    @pytest.mark.parametrize(
        ("kind", "files"),
        [
            ("BackendProject", {"setup__py": "", "requirements__txt": ""}),
            ("BackendProject", {"pyproject__toml": "[tool.black]\n", "setup__cfg": "[metadata]\nname = app\n"}),
            ("FilesProject", {"pyproject__toml": NAMED, "setup__cfg": "[flake8]\nmax-line-length = 100\n"}),
            ("FilesProject", {"requirements__txt": ""}),
        ],
    )
    def test_of_setuptools_is_that_of_its_files(self, tmp_path: Path, kind: str, files: dict[str, str]) -> None:
        assert type(opened(tmp_path, **files)).__name__ == kind

    def test_of_every_backend(self, tmp_path: Path) -> None:
        kinds = {name: type(open_project(write(files, tmp_path / name))).__name__ for name, files in EVERY.items()}
        in_process = {"hatchling"} | ({"hatch-vcs"} if satisfied(["hatch-vcs"]) else set())
        assert kinds == {name: "HatchlingProject" if name in in_process else "BackendProject" for name in EVERY}

    @pytest.mark.parametrize(
        ("requirement", "is_satisfied"),
        [
            ("packaging", True),
            ("Packaging>=1", True),
            ("packaging<1", False),
            ("no-such-package", False),
            ("no-such-package; python_version < '3'", True),
            ("pytest-xdist[psutil]", satisfied(["psutil"])),
            ("packaging @ https://index.example/packaging.whl", False),
            ("not a requirement", False),
        ],
    )
    def test_depends_on_what_is_installed(self, requirement: str, is_satisfied: bool) -> None:
        assert satisfied([requirement]) == is_satisfied


class TestStaticMetadata:
    def test_is_read_without_a_build(self, tmp_path: Path) -> None:
        more = 'dependencies = ["idna"]\n[project.optional-dependencies]\nMy_Extra = ["b; extra == \'c\'"]\n'
        scripts = '[project.scripts]\napp = "app:main"\n[dependency-groups]\ndev = ["pytest"]\n'
        source = opened(tmp_path, SETUPTOOLS + NAMED + more + scripts)
        source.check()
        source.prepare(unused)
        project = source.read(source.version())
        assert (project.name, project.version, project.dependencies) == ("app", "1.0", ("idna",))
        assert list(project.optional_dependencies) == ["my-extra"]
        assert project.scripts == {"app": "app:main"}
        assert project.dependency_groups == {"dev": ["pytest"]}

    def test_without_a_version_is_not_built(self, tmp_path: Path) -> None:
        """The wheel of the image has it; what is resolved does not depend on it."""
        dynamic = NAMED.replace('version = "1.0"', 'dynamic = ["version", "readme"]')
        source = opened(tmp_path, SETUPTOOLS + dynamic)
        source.prepare(unused)
        assert (source.version(), source.read("").has_version) == ("", True)

    def test_of_a_compiled_project_is_not_built_for_its_labels(self, tmp_path: Path) -> None:
        pyproject = MATURIN["pyproject.toml"].replace('["version"]', '["version", "description", "license"]')
        opened(tmp_path, pyproject).prepare(unused)

    def test_that_is_not_static_is_built_once(self, tmp_path: Path) -> None:
        asked = []

        def build(artifact: Artifact, python: str) -> BuiltMetadata:
            asked.append((artifact.tree, python))
            return BuiltMetadata(
                metadata="Metadata-Version: 2.1\nName: App\nVersion: 1.0.0+L\nRequires-Python: >=3.8\n"
            )

        dynamic = NAMED.replace(
            'version = "1.0"', 'version = "1"\ndynamic = ["dependencies"]\nrequires-python = ">=3.9"'
        )
        source = opened(tmp_path, SETUPTOOLS + dynamic)
        source.prepare(build)
        source.prepare(build)
        ((tree, python),) = asked
        assert tree is not None
        assert (tree.url, python) == (tmp_path.as_uri(), ">=3.9")
        project = source.read(source.version())
        assert (project.name, project.version, project.requires_python) == ("App", "1.0.0+l", ">=3.8")


MARKERS = ["python_version < '3.9'", "python_version >= '3.9'", "sys_platform == 'linux'"]
EXTRAS = ["extra == 'one'", "'two' == extra", "extra == 'o_n_e' or extra == 'two'", "extra != 'one'"]


def markers() -> st.SearchStrategy[str]:
    atoms = st.sampled_from([*MARKERS, *EXTRAS])
    return st.recursive(
        atoms, lambda inner: st.builds("({}) {} ({})".format, inner, st.sampled_from(["and", "or"]), inner)
    )


def _environment(extra: str) -> dict[str, str]:
    return {**{key: str(value) for key, value in TARGET.environment.items()}, "extra": extra}


class TestBuiltMetadata:
    def built(self, root: Path, *lines: str, entry_points: str = "") -> Project:
        head = ("Metadata-Version: 2.4", "Name: app", "Version: 1.0")
        return built_project(
            BuiltMetadata(metadata="\n".join([*head, *lines, "", "the readme"]), entry_points=entry_points), root, {}
        )

    def test_becomes_a_project(self, tmp_path: Path) -> None:
        project = self.built(
            tmp_path,
            "Summary: an app",
            "License: UNKNOWN",
            "License-Expression: MIT",
            "Author: One",
            "Author-email: Two <two@example.org>, three@example.org",
            "Home-page: https://app.example",
            "Project-URL: Docs, https://docs.example",
            entry_points="[console_scripts]\napp = app:main\n[gui_scripts]\nwin = app:win [more]\n[other]\na = b\n",
        )
        assert (project.description, project.license) == ("an app", "MIT")
        assert project.authors == ("One", "Two <two@example.org>", "three@example.org")
        assert project.urls == {"Homepage": "https://app.example", "Docs": "https://docs.example"}
        assert (project.scripts, project.gui_scripts) == ({"app": "app:main"}, {"win": "app:win [more]"})

    def test_has_no_text_of_a_licence(self, tmp_path: Path) -> None:
        assert self.built(tmp_path, "License: Permission is hereby", "        granted").license == ""
        assert self.built(tmp_path, "License: UNKNOWN", "Summary: UNKNOWN").license == ""

    def test_has_extras_without_extra_in_their_markers(self, tmp_path: Path) -> None:
        project = self.built(
            tmp_path,
            "Provides-Extra: Two_Words",
            "Requires-Dist: a",
            "Requires-Dist: b[x]>=1; extra == 'two-words'",
            "Requires-Dist: c @ https://index.example/c.whl ; python_version >= '3' and extra == 'Two_Words'",
            "Requires-Dist: d; extra == 'other'",
        )
        assert project.dependencies == ("a",)
        assert project.optional_dependencies == {
            "two-words": ("b[x]>=1", 'c @ https://index.example/c.whl ; python_version >= "3"')
        }

    @given(st.lists(markers(), max_size=4))
    def test_requires_the_same_with_each_extra(self, found: list[str]) -> None:
        lines = [f"Requires-Dist: p{number}; {marker}" for number, marker in enumerate(found)]
        project = self.built(Path(), "Provides-Extra: o-n-e", "Provides-Extra: one", "Provides-Extra: two", *lines)
        for extra in ("one", "two", "o-n-e"):
            environment = _environment(extra)
            expected = {
                f"p{number}"
                for number, marker in enumerate(found)
                if "extra" in marker and Marker(marker).evaluate(environment)
            }
            added = map(Requirement, project.optional_dependencies[extra])
            plain = _environment("")
            assert {each.name for each in added if not each.marker or each.marker.evaluate(plain)} == expected

    @given(st.lists(markers(), max_size=4))
    def test_requires_the_same_without_an_extra(self, found: list[str]) -> None:
        lines = [f"Requires-Dist: p{number}; {marker}" for number, marker in enumerate(found)]
        environment = _environment("")
        expected = {f"p{number}" for number, marker in enumerate(found) if Marker(marker).evaluate(environment)}
        plain = map(Requirement, self.built(Path(), "Provides-Extra: one", *lines).dependencies)
        assert {each.name for each in plain if not each.marker or each.marker.evaluate(environment)} == expected

    @pytest.mark.parametrize(
        ("name", "message"),
        [("UNKNOWN", "the project has no name"), ("", "the project has no name"), ("a b", "name is invalid: 'a b'")],
    )
    def test_without_a_name(self, tmp_path: Path, name: str, message: str) -> None:
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"
        (found,) = problems(lambda: built_project(BuiltMetadata(metadata=text), tmp_path, {}))
        assert message in found

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("Version: none", "the metadata of app: 'none' is not a version (PEP 440)"),
            ("Requires-Dist: a b", "the metadata of app: Expected"),
        ],
    )
    def test_that_is_not_valid(self, tmp_path: Path, line: str, message: str) -> None:
        text = f"Metadata-Version: 2.1\nName: app\n{line}\n" + ("" if "Version:" in line else "Version: 1\n")
        (found,) = problems(lambda: built_project(BuiltMetadata(metadata=text), tmp_path, {}))
        assert found.startswith(message)


class TestMistakes:
    @pytest.mark.parametrize(
        ("pyproject", "message"),
        [
            (SETUPTOOLS + '[project]\nversion = "1"\n', "pyproject.toml: Missing required field `project.name`"),
            (SETUPTOOLS + '[project]\nname = "app"\n', "Field `project.version` can only be resolved dynamically"),
            (
                SETUPTOOLS + NAMED + "dependencies = ['a b']\n",
                "Dependency #1 of field `project.dependencies` is invalid",
            ),
            (SETUPTOOLS + NAMED.replace("1.0", "x"), "'x' is not a version (PEP 440)"),
            ("[build-system]\nbuild-backend = 'a'\n" + NAMED, "pyproject.toml: build-system.requires is missing"),
            ("[build-system]\nrequires = 'a'\n" + NAMED, "build-system.requires: 'a' is not a list of strings"),
            ("[build-system]\nrequires = ['a b']\n" + NAMED, "build-system.requires: Expected"),
            (
                "[build-system]\nrequires = []\nbackend-path = ['../a']\n" + NAMED,
                "build-system.backend-path: '../a' is not in the sources",
            ),
            ("build-system = []\n" + NAMED, "pyproject.toml: build-system is not a table"),
            ("project = 1\n" + SETUPTOOLS, "project: expected a table"),
            (SETUPTOOLS + NAMED + "dynamic = 1\n", "project.dynamic: expected a list of strings"),
        ],
    )
    def test_in_a_pyproject(self, tmp_path: Path, pyproject: str, message: str) -> None:
        source = opened(tmp_path, pyproject)
        (found,) = problems(source.check)
        assert message in found

    @pytest.mark.parametrize("backend", [HATCHLING, SETUPTOOLS])
    def test_two_tables(self, tmp_path: Path, backend: str) -> None:
        ours, hatch = "[tool.hatch-docker]\nbase = 'slim'\n", "[tool.hatch.build.targets.docker]\nbase = 'slim'\n"
        named = "tool.hatch-docker: the project has two tables of configuration: move the keys of one to the other"
        assert problems(opened(tmp_path / "a", backend + NAMED + ours + hatch).check) == [
            f"{named} (tool.hatch.build.targets.docker)"
        ]
        in_file = opened(tmp_path / "b", backend + NAMED + ours, hatch__toml="[build.targets.docker]\nbse = ''\n")
        assert problems(in_file.check) == [f"{named} (hatch.toml: build.targets.docker)"]

    @pytest.mark.parametrize("backend", [HATCHLING, SETUPTOOLS])
    def test_table_beside_one_for_hatch_alone(self, tmp_path: Path, backend: str) -> None:
        ours, hatch = "[tool.hatch-docker]\nbase = 'a'\n", "[{}build.targets.docker]\ndependencies = ['hatch-docker']\n"
        beside = opened(tmp_path / "a", backend + NAMED + ours + hatch.format("tool.hatch."))
        in_file = opened(tmp_path / "b", backend + NAMED + ours, hatch__toml=hatch.format("") + "directory = 'out'\n")
        for source in (beside, in_file):
            source.check()
            assert source.table == ("tool.hatch-docker", {"base": "a"})
        assert in_file.directory == tmp_path / "b" / "out"

    def test_one_table(self, tmp_path: Path) -> None:
        ours, hatch = "[tool.hatch-docker]\nbase = 'a'\n", "[tool.hatch.build.targets.docker]\nbase = 'b'\n"
        for number, backend in enumerate([HATCHLING, SETUPTOOLS]):
            folder = tmp_path / str(number)
            assert opened(folder / "a", backend + NAMED + ours).table == ("tool.hatch-docker", {"base": "a"})
            replaced = opened(folder / "b", backend + NAMED + hatch, hatch__toml="[build]\ndirectory = 'out'\n")
            # hatch.toml replaces the table `build` of pyproject.toml.
            assert replaced.table[1] == {}
            assert replaced.directory == folder / "b" / "out"

    @pytest.mark.parametrize("backend", [HATCHLING, SETUPTOOLS])
    def test_table_of_hatch_toml(self, tmp_path: Path, backend: str) -> None:
        table = "[build.targets.docker]\nuser = 'root'\ncmdd = []\ndependencies = ['hatch-docker']\n"
        name, value = opened(tmp_path, backend + NAMED, hatch__toml=table).table
        assert [place for place, _ in parse(value, {}, name=name)[2]["cmdd"]] == [
            "hatch.toml: build.targets.docker.cmdd"
        ]
        assert parse(value, {}, name=name)[2].keys() == {"cmdd"}

    def test_without_a_project(self, tmp_path: Path) -> None:
        assert "there is no such directory" in problems(lambda: open_project(tmp_path / "gone"))[0]
        (tmp_path / "file").write_text("")
        assert "it is not a directory" in problems(lambda: open_project(tmp_path / "file"))[0]
        assert "Expected" in problems(lambda: opened(tmp_path, "[project"))[0]

    def test_that_pip_and_uv_do_not_build_either(self, tmp_path: Path) -> None:
        source = opened(tmp_path, setup__cfg="[metadata]\nname = app\n")
        assert problems(source.check)[0].startswith("setup.cfg: add a pyproject.toml with the line build-system = {")


@pytest.fixture
def bench(tmp_path: Path) -> TreeBench:
    (tmp_path / "app").mkdir()
    return TreeBench(tmp_path)


class TestMetadataOfABackend:
    """By the real uv, from backends in the tree."""

    def test_is_what_its_hook_prepares(self, bench: TreeBench) -> None:
        artifact = bench.in_tree("app")
        backend = bench.root / "app" / "backend.py"
        backend.write_text(backend.read_text() + PREPARE)
        built = build_metadata(artifact, bench.context())
        assert "Requires-Dist: prepared" in built.metadata
        assert bench.builds("app") == ""

    def test_is_that_of_the_wheel_without_a_hook(self, bench: TreeBench) -> None:
        built = build_metadata(bench.in_tree("app"), bench.context())
        assert "Name: app" in built.metadata
        assert bench.builds("app") == "w"

    def test_may_take_more_requirements(self, bench: TreeBench) -> None:
        bench.wheel("helper")
        artifact = bench.in_tree("app", more=["helper"])
        backend = bench.root / "app" / "backend.py"
        backend.write_text(backend.read_text() + PREPARE.replace("    info", "    import helper\n    info", 1))
        assert "Name: app" in build_metadata(artifact, bench.context()).metadata
        assert bench.resolved[-1] == (bench.root / "app", ("helper",))

    def test_leaves_no_bytecode_and_does_not_depend_on_hash_seeds(self, bench: TreeBench) -> None:
        artifact = bench.in_tree("app")
        backend = bench.root / "app" / "backend.py"
        # A file of the sources that has the name of a module of the standard library.
        (bench.root / "app" / "json.py").write_text("raise RuntimeError")
        backend.write_text(
            backend.read_text() + PREPARE.replace("prepared", "prepared-{hash('a')}").replace('("M', '(f"M')
        )
        before = sorted((bench.root / "app").rglob("*"))
        first = build_metadata(artifact, bench.context())
        assert build_metadata(artifact, bench.context()) == first
        assert sorted((bench.root / "app").rglob("*")) == before

    def test_is_cached_if_it_depends_on_files_alone(self, bench: TreeBench) -> None:
        bench.installed("hatchling")
        artifact = bench.hatch("app")
        first = build_metadata(artifact, bench.context())
        resolved = len(bench.resolved)
        assert build_metadata(artifact, bench.context()) == first
        assert len(bench.resolved) == resolved
        (bench.root / "app" / "pyproject.toml").write_text(
            (bench.root / "app" / "pyproject.toml").read_text().replace("1.0", "2.0")
        )
        assert "Version: 2.0" in build_metadata(artifact, bench.context()).metadata

    @pytest.mark.parametrize(
        ("code", "line", "hint"),
        [
            ("import no_such_module", "No module named 'no_such_module'", "add the package that has the module"),
            (
                "raise LookupError('unable to detect version')",
                "unable to detect version",
                "SETUPTOOLS_SCM_PRETEND_VERSION",
            ),
            ("raise RuntimeError('a mistake')", "RuntimeError: a mistake", "'uv build' in this directory fails"),
        ],
    )
    def test_that_fails_shows_the_last_lines_and_the_log(
        self, bench: TreeBench, code: str, line: str, hint: str
    ) -> None:
        artifact = bench.in_tree("app")
        (bench.root / "app" / "backend.py").write_text(code)
        with pytest.raises(CompileError) as caught:
            build_metadata(artifact, bench.context())
        error = caught.value
        assert (error.place, line in error.message, hint in error.hint) == (str(bench.root / "app"), True, True)
        log = Path(error.hint.rpartition("the whole log is ")[2])
        assert line in log.read_text()
        assert len(error.message.splitlines()) == 2

    def test_of_one_directory_is_made_one_at_a_time(self, bench: TreeBench) -> None:
        """Backends write to it, and images of several platforms are made at once."""
        log = "import time; open('../log', 'a').write('<'); time.sleep(0.1); open('../log', 'a').write('>')"
        artifact = bench.in_tree("app", build=log)
        together(lambda _: build_metadata(artifact, bench.context()), range(3), threads=3)
        assert (bench.root / "log").read_text() == "<><><>"

    def test_of_a_backend_that_is_not_found(self, bench: TreeBench) -> None:
        artifact = bench.tree("app", {"pyproject.toml": SYSTEM.format(requires='["absent"]', backend="absent") + NAMED})
        with pytest.raises(CompileError, match="app is built with absent: no solution found for absent"):
            build_metadata(artifact, bench.context())


class TestAMistakeOfABackend:
    """The user can correct the project, and has no lock to change."""

    def failed(self, bench: TreeBench, artifact: Artifact) -> HatchDockerError:
        with pytest.raises(HatchDockerError) as caught:
            bench.obtain(artifact)
        assert "lock another" not in str(caught.value)
        return caught.value

    def test_another_package(self, bench: TreeBench) -> None:
        artifact = replace(bench.in_tree("app", builds="other"), reason="it is the project itself")
        error = self.failed(bench, artifact)
        assert error.message == "app was built into other-1.0-py3-none-any.whl, which is another package"
        assert "project.name" in error.hint

    def test_that_no_builder_would_repair(self, bench: TreeBench) -> None:
        """Nothing is compiled: the builder would only fail in the same way, after its image was pulled."""
        artifact = bench.in_tree("app", build="raise RuntimeError('no wheel')")
        backend = bench.root / "app" / "backend.py"
        backend.write_text(backend.read_text().replace('file.write("s")', "raise RuntimeError('no sdist')"))
        error = self.failed(bench, artifact)
        assert error.message.endswith("│ RuntimeError: no wheel")
        assert "the whole log is" in error.hint

    def test_another_python_than_the_project_requires(self, bench: TreeBench) -> None:
        artifact = bench.in_tree("app", build="raise RuntimeError('no wheel')")
        pyproject = bench.root / "app" / "pyproject.toml"
        pyproject.write_text(pyproject.read_text() + NAMED + 'requires-python = ">=3.99"\n')
        with pytest.raises(CompileError) as caught:
            build_metadata(artifact, bench.context())
        assert "requires-python = '>=3.99' excludes the Python that hatch-docker runs with" in caught.value.hint
        assert "uvx --python 3.13 hatch-docker" in caught.value.hint
        # The builder has it.
        with pytest.raises(EngineError, match="its build on this machine failed"):
            bench.obtain(artifact)

    def test_a_broken_wheel(self, bench: TreeBench) -> None:
        artifact = bench.in_tree("app")
        backend = bench.root / "app" / "backend.py"
        backend.write_text(
            backend.read_text() + "def build_wheel(folder, *_):\n"
            "    open(folder + '/app-1.0-py3-none-any.whl', 'w').close()\n    return 'app-1.0-py3-none-any.whl'\n"
        )
        error = self.failed(bench, artifact)
        assert "app-1.0-py3-none-any.whl" in str(error)
        assert "build backend" in error.hint

    def test_requirements_that_are_not_valid(self, bench: TreeBench) -> None:
        error = self.failed(bench, bench.in_tree("app", more=["a b"], build="raise RuntimeError"))
        assert error.message == "its build backend did not return a list of requirements"

    def test_a_name_that_is_misspelled(self, bench: TreeBench) -> None:
        pyproject = SYSTEM.format(requires="[]", backend="flit_core.buildapis") + NAMED
        error = self.failed(bench, bench.tree("app", {"pyproject.toml": pyproject}))
        assert "or correct build-system.build-backend" in error.hint

    def test_a_path_that_does_not_exist(self, bench: TreeBench) -> None:
        pyproject = IN_TREE.format(requires="[]").replace('["."]', '["absent"]') + NAMED
        error = self.failed(bench, bench.tree("app", {"pyproject.toml": pyproject}))
        assert "Failed to build" not in error.message
        needs_current_uv()
        assert "`backend-path` entry `absent` does not exist" in error.message


class TestACompiledProject:
    def test_is_not_built_on_this_machine(self, bench: TreeBench) -> None:
        bench.wheel("cython")
        artifact = bench.in_tree("app", requires=["cython"])
        with pytest.raises(EngineError, match=r"app 1.0: it is compiled \(build-system.requires: cython\)"):
            bench.obtain(artifact)
        assert bench.builds("app") == "s"

    def test_is_packed_if_its_sdist_takes_a_compiler(self, bench: TreeBench) -> None:
        bench.wheel("maturin")
        pyproject = MATURIN["pyproject.toml"].replace("maturin>=1.5,<2", "maturin")
        artifact = bench.tree("app", {**MATURIN, "pyproject.toml": pyproject})
        before = sorted((bench.root / "app").rglob("*"))
        with pytest.raises(EngineError, match=r"app: it is compiled \(build-system.requires: maturin\)"):
            bench.obtain(artifact)
        assert sorted((bench.root / "app").rglob("*")) == before

    def test_is_packed_if_its_sdist_cannot_be_built(self, bench: TreeBench) -> None:
        artifact = bench.in_tree("app", build="raise RuntimeError('no compiler')")
        (bench.root / "app" / "native.c").write_text("")
        backend = bench.root / "app" / "backend.py"
        backend.write_text(backend.read_text().replace('file.write("s")', "raise RuntimeError('no pkg-config')"))
        with pytest.raises(EngineError, match="its build on this machine failed"):
            bench.obtain(artifact)
        assert any(
            "app: its sdist cannot be built here (RuntimeError: no pkg-config)" in each for each in bench.notes.notes
        )

    def test_is_not_compiled_again_for_our_own_outputs(self, bench: TreeBench) -> None:
        """scikit-build-core packs all that Git does not ignore."""
        bench.wheel("cython")
        artifact = bench.in_tree("app", requires=["cython"])
        context, digests = bench.context(), []
        for outputs in ((), ("app-1.0.docker.json", "pylock.app.toml", "app-1.0.docker.tar"), ("app.js",)):
            write({f"dist/{each}": each for each in outputs}, bench.root / "app")
            tree = build_tree(artifact, context, lambda artifacts: obtain(artifacts, context)[0])
            assert tree is not None
            digests.append(tree.file.digest)
        assert digests[0] == digests[1] != digests[2]

    def test_that_no_machine_can_build_is_an_error(self, bench: TreeBench) -> None:
        artifact = bench.in_tree("app")
        (bench.root / "app" / "backend.py").write_text("import no_such_module")
        with pytest.raises(CompileError, match="No module named 'no_such_module'"):
            bench.obtain(artifact)

    def test_in_no_binary_is_built_in_the_builder(self, bench: TreeBench) -> None:
        with pytest.raises(EngineError, match=r"app 1\.0: it is named in no-binary"):
            obtain([bench.in_tree("app")], replace(bench.context(), no_binary=frozenset({"app"})))

    def test_is_not_listed_as_a_local_directory(self, bench: TreeBench) -> None:
        bench.obtain(bench.in_tree("app"), bench.in_tree("lib"))
        (note,) = [each for each in bench.notes.notes if each.startswith("local directories")]
        assert note == "local directories are taken as they are: lib (../lib)"


class TestAnArchive:
    FILES = ("pyproject.toml", "src/lib.rs", "target/CACHEDIR.TAG", "target/debug/app", "src/app.so",
             ".venv/pyvenv.cfg", "cache/CACHEDIR.TAG", "cache/a/b", "note.txt")  # fmt: skip

    def names(self, path: Path) -> list[str]:
        with tarfile.open(path) as tar:
            return tar.getnames()

    def test_has_what_git_would_track(self, tmp_path: Path) -> None:
        project = write(
            {**dict.fromkeys(self.FILES, ""), ".gitignore": "*.so\n/target\n/cache\n.venv\n"}, tmp_path / "app"
        )
        git(project, "init")
        git(project, "add", "pyproject.toml")
        write({"dist/app.docker.tar": "", "build/tracked.txt": "", "out/app.docker.json": ""}, project)
        git(project, "add", "build/tracked.txt")
        path = pack(project, "my-app", "1.0", tmp_path, os.environ)
        assert path.name == "my_app-1.0.tar.gz"
        expected = (".gitignore", "build/tracked.txt", "note.txt", "pyproject.toml", "src/lib.rs")
        assert self.names(path) == [f"my_app-1.0/{each}" for each in expected]

    def test_has_submodules(self, tmp_path: Path) -> None:
        library, project = write({"lib.c": ""}, tmp_path / "library"), write({"pyproject.toml": ""}, tmp_path / "app")
        for each in (library, project):
            git(each, "init")
            git(each, "add", "--all")
            git(each, "commit", "--message", "one")
        git(project, "-c", "protocol.file.allow=always", "submodule", "add", str(library), "vendor")
        path = pack(project, "app", "1", tmp_path, os.environ)
        assert self.names(path) == [f"app-1/{each}" for each in (".gitmodules", "pyproject.toml", "vendor/lib.c")]

    def test_leaves_out_caches_and_outputs_without_git(self, tmp_path: Path) -> None:
        project = write(dict.fromkeys(self.FILES, ""), tmp_path / "app")
        path = pack(project, "app", "", tmp_path, {"PATH": ""})
        assert self.names(path) == [f"app-0+unknown/{each}" for each in ("note.txt", "pyproject.toml", "src/lib.rs")]


def _listed(filename: str) -> IndexFile:
    return IndexFile(filename=filename, url=f"https://index.example/{filename}", hashes={"sha256": "a" * 64}, size=5)


class TestFilesForThisMachine:
    """A build lock is for the image's Python; some backends have a wheel for each platform."""

    HOST = "backend-1.0-py3-none-any.whl"

    def resolver(self, *names: str, constraints: Path | None = None) -> BuildResolver:
        files = [_listed(each) for each in names]
        return BuildResolver(
            target=TARGET,
            root=Path(),
            indexes=Indexes(
                finder=FileFinder(files=lambda _name: files),
                resolver=ResolverSettings(environ={}, configured=()),
                locate=lambda _artifacts: [],
            ),
            constraints=constraints,
        )

    def artifact(self, filename: str) -> Artifact:
        return Artifact(name="backend", version="1.0", filename=filename, hashes={"sha256": "b" * 64})

    @pytest.fixture(autouse=True)
    def same_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hatch_docker.locks.build_requirements.python_version", lambda: TARGET.version)

    def test_are_those_of_the_lock_if_they_fit(self) -> None:
        fitting = self.artifact(self.HOST)
        assert self.resolver().for_host([fitting]) == [fitting]

    def test_replace_others_of_the_same_version(self) -> None:
        foreign = self.artifact("backend-1.0-py3-none-musllinux_1_1_riscv64.whl")
        listed = ("backend-2.0-py3-none-any.whl", self.HOST, "backend-1.0.tar.gz", foreign.filename)
        (found,) = self.resolver(*listed).for_host([foreign])
        assert (found.filename, found.version, found.hashes, found.size) == (self.HOST, "1.0", {"sha256": "a" * 64}, 5)

    def test_may_not_exist(self) -> None:
        foreign = self.artifact("backend-1.0-py3-none-musllinux_1_1_riscv64.whl")
        assert self.resolver("backend-1.0.tar.gz").for_host([foreign]) == [foreign]

    def test_have_a_hash_of_the_constraints(self, tmp_path: Path) -> None:
        constraints = tmp_path / "constraints.txt"
        constraints.write_text(f"backend==1.0 --hash=sha256:{'b' * 64}\n")
        foreign = self.artifact("backend-1.0-py3-none-musllinux_1_1_riscv64.whl")
        with pytest.raises(LockError, match=r"other files of backend 1\.0"):
            self.resolver(self.HOST, constraints=constraints).for_host([foreign])

    def test_include_what_this_python_needs_besides(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        resolver = self.resolver()
        cached = FileFinder(files=lambda _name: (), cache=Cache(tmp_path))
        resolver = BuildResolver(
            target=TARGET,
            root=Path(),
            indexes=Indexes(finder=cached, resolver=resolver.indexes.resolver, locate=resolver.indexes.locate),
        )
        asked: list[Any] = []

        def resolve(self: BuildResolver, requirements: list[str]) -> tuple[Artifact, ...]:
            asked.append((self.target.version, requirements))
            more = Artifact(name="tomli", version="2.0", filename="tomli-2.0-py3-none-any.whl", hashes={"sha256": "c"})
            return (TestFilesForThisMachine().artifact(TestFilesForThisMachine.HOST), more)

        monkeypatch.setattr("hatch_docker.locks.build_requirements.python_version", lambda: "3.10.1")
        monkeypatch.setattr(BuildResolver, "__call__", resolve)
        for _ in range(2):
            found = resolver.for_host([self.artifact(self.HOST)])
            assert [(each.name, each.hashes["sha256"][0]) for each in found] == [("backend", "b"), ("tomli", "c")]
        assert asked == [("3.10.1", ["backend==1.0"])]


class TestAnImage:
    """By the command line, from a backend in the tree, on a base made here."""

    def project(self, bench: Bench, pyproject: str, **files: str) -> Path:
        table = f'[tool.hatch-docker]\nbase = "oci:{bench.base()}"\n'
        backend = BACKEND.format(name="app", version="3.0", tag="py3-none-any", files=files, requires=[], build="pass")
        return write({"pyproject.toml": pyproject + table, "backend.py": backend}, bench.root / "project")

    def built(self, bench: Bench, project: Path, *arguments: str) -> tuple[builds.Made, builds.Outcome]:
        archive = bench.root / "app.tar"
        command: list[str | Path] = ["build", "-o", f"type=oci,dest={archive}", *arguments, project]
        outcome = builds.command(*command, env=builds.environment(bench.cache), folder=bench.root)
        assert outcome.code == 0, outcome.err
        return builds.read(archive), outcome

    def test_has_the_wheel_of_the_backend(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path)
        entry_points = {"app-3.0.dist-info/entry_points.txt": "[console_scripts]\nrun = app:main\n"}
        project = self.project(bench, IN_TREE.format(requires="[]"), **entry_points)
        made, _ = self.built(bench, project)
        assert made.text("app/.venv/lib/python3.13/site-packages/app.py") == "ANSWER = 42\n"
        assert made.config["Entrypoint"] == ["/app/.venv/bin/run"]
        assert made.config["Labels"]["org.opencontainers.image.version"] == "3.0"

    def test_has_the_version_of_the_wheel(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path)
        dynamic = '[project]\nname = "app"\ndynamic = ["version"]\n'
        project = self.project(bench, IN_TREE.format(requires="[]") + dynamic)
        plan = builds.command("plan", project, env=builds.environment(bench.cache), folder=bench.root)
        assert "app unknown for linux/amd64" in plan.out
        made, outcome = self.built(bench, project)
        assert made.config["Labels"]["org.opencontainers.image.version"] == "3.0"
        assert "local directories" not in outcome.err

    def test_has_the_version_that_the_project_states(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path)
        project = self.project(bench, IN_TREE.format(requires="[]") + NAMED)
        outcome = builds.command(
            "build",
            "-o",
            f"type=oci,dest={bench.root / 'app.tar'}",
            project,
            env=builds.environment(bench.cache),
            folder=bench.root,
        )
        assert outcome.code == 1
        assert "app-3.0-py3-none-any.whl: the project's own wheel has version 3.0, and its metadata 1.0" in outcome.err

    def test_is_the_same_again(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path)
        project = self.project(bench, IN_TREE.format(requires="[]") + NAMED.replace("1.0", "3.0"))
        first, _ = self.built(bench, project)
        second, _ = self.built(bench, project, "--no-cache")
        assert first.manifest == second.manifest


def test_uv_is_named_if_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    with pytest.raises(HatchDockerError) as caught:
        find_uv({"PATH": ""})
    assert "hatch-docker[uv]" in caught.value.hint
