"""The build hook `docker`, and images of wheels that are given."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from builds import Bench, Outcome, check_clean, command, environment, result_of
from tree_bench import BACKEND, IN_TREE

from hatch_docker.project.hatchling import HatchlingProject, Target
from hatch_docker.project.wheel import WheelProject

HOOK = "[tool.hatch.build.targets.wheel.hooks.docker]\n"
OTHER_FILES = """
exclude = ["src/shop/data.txt"]
force-include = { "other.txt" = "src/shop/data.txt", "more.txt" = "src/shop/more.txt" }
"""
ON = {"HATCH_BUILD_HOOK_ENABLE_DOCKER": "1", "HATCH_DOCKER_OUTPUTS": "archive"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench whose cache all tests share."""
    return Bench(tmp_path_factory.mktemp("hook"))


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> str:
    """A directory of the test's own."""
    return str(request.node.name)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unpacked(sdist: Path, folder: Path) -> Path:
    """The directory of an sdist's files, unpacked as build frontends do."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


def commit(project: Path) -> None:
    """Make the project a Git repository with one commit."""
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=n", "-c", "user.email=n@example.org", "commit", "-qm", "first"],
    ):
        subprocess.run(["git", *arguments], cwd=project, check=True)


class TestEnabling:
    @pytest.mark.parametrize(
        ("table", "variables", "enabled"),
        [
            ("", {}, False),
            ("enable-by-default = false", {}, False),
            ("enable-by-default = true", {}, True),
            ("", {"HATCH_BUILD_HOOK_ENABLE_DOCKER": "true"}, True),
            ("enable-by-default = false", {"HATCH_BUILD_HOOK_ENABLE_DOCKER": "1"}, True),
            ("enable-by-default = true", {"HATCH_BUILD_HOOK_ENABLE_DOCKER": "false"}, False),
            ("enable-by-default = false", {"HATCH_BUILD_HOOKS_ENABLE": "true"}, True),
            ("enable-by-default = true", {"HATCH_BUILD_NO_HOOKS": "true"}, False),
            ("enable-by-default = true", {"PIP_BUILD_TRACKER": "/tmp/tracker"}, False),
        ],
    )
    def test_hook_is_off_unless_enabled(
        self, bench: Bench, folder: str, table: str, variables: Mapping[str, str], enabled: bool
    ) -> None:
        project = bench.project(folder, more=HOOK + table)
        outcome = bench.build(project, target="wheel", HATCH_DOCKER_OUTPUTS="archive", **variables)
        assert outcome.code == 0, outcome.err
        names = {path.name for path in (project / "dist").iterdir()}
        more = {"shop-1.0.docker.json", "shop-1.0.docker.tar"} if enabled else set()
        assert names == {"shop-1.0-py2.py3-none-any.whl", *more}

    def test_editable_wheels_have_no_image(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder, more=f'{HOOK}[tool.hatch.build]\ndev-mode-dirs = ["src"]')
        outcome = bench.build(project, target="wheel:editable", **ON)
        assert outcome.code == 0, outcome.err
        assert [path.suffix for path in (project / "dist").iterdir()] == [".whl"]

    def test_hook_of_all_targets_makes_one_image_for_the_target_docker(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder, more="[tool.hatch.build.hooks.docker]\nenable-by-default = true")
        outcome = bench.build(project)
        assert outcome.code == 0, outcome.err
        assert {path.name for path in (project / "dist").iterdir()} == {"shop-1.0.docker.json", "shop-1.0.docker.tar"}

    def test_mistake_in_the_table_of_all_targets_is_found_there(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder, more="[tool.hatch.build.hooks.docker]\ntags = []")
        text = check_clean(bench.build(project, target="wheel"))
        assert text.startswith("tool.hatch.build.hooks.docker: unknown key tags;")

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ("enable_by_default = true", "unknown key enable_by_default"),
            ('base = "alpine"', "unknown key base"),
            ('enable-by-default = "yes"', "enable-by-default must be true or false"),
            ('outputs = "push"', "outputs must be a list of strings"),
        ],
    )
    def test_mistakes_in_the_table_are_errors_also_if_it_is_off(
        self, bench: Bench, folder: str, table: str, message: str
    ) -> None:
        project = bench.project(folder, more=HOOK + table)
        text = check_clean(bench.build(project, target="wheel", HATCH_BUILD_HOOK_ENABLE_DOCKER="0"))
        assert f"tool.hatch.build.targets.wheel.hooks.docker: {message}" in text
        assert not list((project / "dist").iterdir())


class TestImages:
    def test_image_is_that_of_the_target(self, bench: Bench, folder: str) -> None:
        dependency = bench.wheel("dependency")
        project = bench.project(folder, wheels=[dependency], more=HOOK)
        commit(project)
        assert bench.build(project).code == 0
        expected = result_of(project)
        shutil.rmtree(project / "dist")
        outcome = bench.build(project, target="wheel", **ON)
        assert outcome.code == 0, outcome.err
        made = result_of(project)
        assert made["digest"] == expected["digest"]
        assert outcome.out.splitlines()[0] == made["reference"]
        wheel = project / "dist" / "shop-1.0-py2.py3-none-any.whl"
        assert made["wheel"] == {"filename": wheel.name, "sha256": sha256(wheel)}
        assert made["sdist"] is None
        # The target's own build gives the same wheel.
        assert expected["wheel"] == made["wheel"]

    def test_table_of_any_project_configures_it(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder, more=HOOK)
        file = project / "pyproject.toml"
        file.write_text(file.read_text().replace("[tool.hatch.build.targets.docker]", "[tool.hatch-docker]"))
        outcome = bench.build(project, target="wheel", **ON)
        assert outcome.code == 0, outcome.err
        assert result_of(project)["base"]["name"].startswith("oci:")

    def test_two_tables_are_an_error(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder, more=HOOK + "[tool.hatch-docker]")
        assert "two tables" in check_clean(bench.build(project, target="wheel", **ON))

    def test_outputs_of_the_hook_replace_those_of_the_target(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder, docker='outputs = ["push"]', more=HOOK + 'outputs = ["archive"]')
        outcome = bench.build(project, target="wheel", HATCH_BUILD_HOOK_ENABLE_DOCKER="1")
        assert outcome.code == 0, outcome.err
        assert list(result_of(project)["outputs"]) == ["archive"]

    def test_unknown_output_is_an_error_before_the_wheel_is_built(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder, more=HOOK + 'outputs = ["archiv"]')
        text = check_clean(bench.build(project, target="wheel", HATCH_BUILD_HOOK_ENABLE_DOCKER="1"))
        assert "tool.hatch.build.targets.wheel.hooks.docker.outputs[0]" in text
        assert not list((project / "dist").iterdir())

    def test_mistake_in_the_configuration_is_an_error_before_the_wheel_is_built(
        self, bench: Bench, folder: str
    ) -> None:
        project = bench.project(folder, docker='user = ""', more=HOOK)
        text = check_clean(bench.build(project, target="wheel", **ON))
        assert "tool.hatch.build.targets.docker.user" in text
        assert not list((project / "dist").iterdir())

    def test_failed_image_leaves_no_result_of_an_earlier_wheel(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder, more=HOOK)
        assert bench.build(project, target="wheel", **ON).code == 0
        (result,) = (project / "dist").glob("*.docker.json")
        text = check_clean(bench.build(project, target="wheel", **ON, HATCH_DOCKER_BASE=f"oci:{project}/nothing"))
        assert "nothing" in text
        assert not result.exists()

    def test_clean_removes_the_results(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder, more=HOOK)
        assert bench.build(project, target="wheel", **ON).code == 0
        outcome = bench.build(project, "--clean-only", target="wheel", **ON)
        assert outcome.code == 0, outcome.err
        assert list((project / "dist").iterdir()) == []

    def test_compiled_wheel_is_refused(self, bench: Bench, folder: str) -> None:
        hook = """
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
class Hook(BuildHookInterface):
    def initialize(self, version, build_data):
        build_data["pure_python"] = False
        build_data["tag"] = "cp313-cp313-linux_x86_64"
"""
        more = "[tool.hatch.build.targets.wheel.hooks.custom]\n" + HOOK
        project = bench.project(folder, more=more, files={"hatch_build.py": hook})
        text = check_clean(bench.build(project, target="wheel", **ON))
        assert "compiled for the machine that built it (linux_x86_64)" in text
        assert "hatch build -t docker" in text

    def test_wheel_for_another_platform_is_refused(self, bench: Bench, folder: str) -> None:
        hook = """
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
class Hook(BuildHookInterface):
    def initialize(self, version, build_data):
        build_data["pure_python"] = False
        build_data["tag"] = "cp313-cp313-manylinux_2_28_aarch64"
"""
        more = "[tool.hatch.build.targets.wheel.hooks.custom]\n" + HOOK
        project = bench.project(folder, more=more, files={"hatch_build.py": hook})
        text = check_clean(bench.build(project, target="wheel", **ON))
        assert "is for cp313-cp313-manylinux_2_28_aarch64, not for" in text

    def test_requirements_of_a_new_wheel_are_those_of_the_project(self, bench: Bench, folder: str) -> None:
        dependencies = [
            "Foo_Bar[b,A] <2,>=1.0 ; python_version>'3' and (os_name=='nt' or os_name == 'posix')",
            "archive@https://files.example/archive-1.0.zip",
            "nearby @ {root:uri}/nearby",
            "shop[more]",
        ]
        more = (
            HOOK
            + '[tool.hatch.metadata]\nallow-direct-references = true\n[project.optional-dependencies]\nmore = ["six"]'
        )
        project = bench.project(folder, dependencies=dependencies, more=more)
        assert bench.build(project, target="wheel").code == 0
        (wheel,) = (project / "dist").iterdir()
        WheelProject(wheel, HatchlingProject(Target(str(project)))).check()

    def test_requirements_of_build_hooks_are_refused(self, bench: Bench, folder: str) -> None:
        hook = """
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
class Hook(BuildHookInterface):
    def initialize(self, version, build_data):
        build_data["dependencies"].append("six")
"""
        more = "[tool.hatch.build.hooks.custom]\n" + HOOK
        project = bench.project(folder, more=more, files={"hatch_build.py": hook})
        text = check_clean(bench.build(project, target="wheel", **ON))
        assert "the wheel requires six, which the project does not" in text
        assert "add it to project.dependencies" in text
        outcome = bench.build(project)
        assert outcome.code == 1
        assert "wheel requires six, which the project and its lock do not" in outcome.err


class TestUnpackedSdists:
    """`python -m build` and `uv build` build the wheel where the sdist was unpacked, and write it to `dist`."""

    def release(self, bench: Bench, project: Path, *arguments: str, **env: str) -> Any:
        assert bench.build(project, target="sdist", **ON).code == 0
        (sdist,) = (project / "dist").glob("*.tar.gz")
        scratch = bench.root / f"{project.name}-unpacked"
        scratch.mkdir()
        root = unpacked(sdist, scratch)
        return bench.build(root, *(arguments or ("-d", str(project / "dist"))), target="wheel", **{**ON, **env})

    def test_image_has_commit_and_lock_of_the_project(self, bench: Bench, folder: str) -> None:
        dependency = bench.wheel("dependency")
        # Neither the lock nor this file is in the sdist.
        more = HOOK + '[tool.hatch.build.targets.sdist]\nonly-include = ["src"]'
        docker = 'extra-files = [{ from = "settings.ini", into = "/etc/settings.ini" }]'
        project = bench.project(folder, wheels=[dependency], more=more, docker=docker, files={"settings.ini": "[a]"})
        commit(project)
        assert bench.build(project).code == 0
        expected = result_of(project)
        shutil.rmtree(project / "dist")
        outcome = self.release(bench, project)
        assert outcome.code == 0, outcome.err
        made = result_of(project)
        assert made["digest"] == expected["digest"]
        assert made["lock"] == "pylock.toml"
        assert made["wheel"] == expected["wheel"]
        assert f"docker load -i {project}/dist/shop-1.0.docker.tar" in outcome.err

    def test_wheel_outside_of_the_project_is_refused(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder, more=HOOK)
        text = check_clean(self.release(bench, project, "-d", str(bench.root / f"{folder}-out")))
        assert "unpacked sdist" in text
        assert "python -m build --wheel" in text
        assert not list((bench.root / f"{folder}-out").iterdir())

    def test_another_project_above_the_wheel_is_refused(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder, more=HOOK)
        other = bench.project(f"{folder}-other", more=HOOK, version="1.1")
        text = check_clean(self.release(bench, project, "-d", str(other / "dist")))
        assert "unpacked sdist" in text

    def test_member_of_a_workspace_is_found(self, bench: Bench, folder: str) -> None:
        project = bench.project(f"{folder}/packages/shop", more=HOOK)
        workspace = project.parent.parent
        (workspace / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["packages/*"]\n')
        outcome = self.release(bench, project, "-d", str(workspace / "dist"))
        assert outcome.code == 0, outcome.err
        assert result_of(workspace)["wheel"]["filename"] == "shop-1.0-py2.py3-none-any.whl"

    @pytest.mark.parametrize(
        ("sdist", "message"),
        [
            ('exclude = ["src/shop/data.txt"]', "without shop/data.txt"),
            (OTHER_FILES, "with shop/more.txt; with another content of shop/data.txt"),
        ],
    )
    def test_sdist_with_other_files_is_refused(self, bench: Bench, folder: str, sdist: str, message: str) -> None:
        files = {"src/shop/data.txt": "data", "other.txt": "other", "more.txt": "more"}
        more = f"{HOOK}[tool.hatch.build.targets.sdist]\n{sdist}"
        project = bench.project("sdist-" + hashlib.sha256(sdist.encode()).hexdigest()[:8], more=more, files=files)
        text = check_clean(self.release(bench, project))
        assert message in text
        assert "tool.hatch.build.targets.sdist" in text


class TestSdists:
    HOOK = "[tool.hatch.build.targets.sdist.hooks.docker]\n"

    def test_image_is_made_of_the_wheel_of_the_sdist(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder, more=self.HOOK)
        commit(project)
        assert bench.build(project).code == 0
        expected = result_of(project)
        shutil.rmtree(project / "dist")
        outcome = bench.build(project, target="sdist", **ON)
        assert outcome.code == 0, outcome.err
        made = result_of(project)
        sdist = project / "dist" / "shop-1.0.tar.gz"
        assert made["sdist"] == {"filename": sdist.name, "sha256": sha256(sdist)}
        assert made["wheel"] == expected["wheel"]
        assert made["digest"] == expected["digest"]

    def test_sdist_that_lacks_files_is_refused(self, bench: Bench, folder: str) -> None:
        more = self.HOOK + '[tool.hatch.build.targets.sdist]\nexclude = ["src/shop/data.txt"]'
        project = bench.project(folder, more=more, files={"src/shop/data.txt": "data"})
        assert "without shop/data.txt" in check_clean(bench.build(project, target="sdist", **ON))


class TestGivenWheels:
    """`hatch-docker build --wheel FILE`."""

    def wheel_of(self, bench: Bench, project: Path) -> Path:
        """The wheel that Hatch builds of a project, moved out of it."""
        outcome = bench.build(project, target="wheel")
        assert outcome.code == 0, outcome.err
        (wheel,) = (project / "dist").iterdir()
        folder = bench.root / "given" / project.name
        folder.mkdir(parents=True)
        return Path(shutil.move(wheel, folder))

    def run(self, bench: Bench, wheel: Path, project: Path, *more: str) -> Outcome:
        """The outcome of a build of an archive that ends up beside the wheel."""
        env = environment(bench.cache, HATCH_DOCKER_OUTPUTS="archive", HATCH_DOCKER_PLATFORMS="linux/amd64")
        return command("build", "--wheel", wheel, *more, project, env=env, folder=bench.root)

    def failure(self, bench: Bench, wheel: Path, project: Path, *more: str) -> str:
        return check_clean(self.run(bench, wheel, project, *more))

    def result(self, wheel: Path) -> dict[str, Any]:
        (path,) = wheel.parent.glob("*.docker.json")
        document: dict[str, Any] = json.loads(path.read_text())
        return document

    def test_image_is_that_of_the_project(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder, wheels=[bench.wheel("dependency")])
        commit(project)
        assert bench.build(project).code == 0
        expected = result_of(project)
        shutil.rmtree(project / "dist")
        wheel = self.wheel_of(bench, project)
        outcome = self.run(bench, wheel, project)
        assert outcome.code == 0, outcome.err
        made = self.result(wheel)
        assert made["digest"] == expected["digest"]
        assert made["wheel"] == {"filename": wheel.name, "sha256": sha256(wheel)}

    def test_wheel_without_a_project_has_its_own_metadata(self, bench: Bench, folder: str) -> None:
        dependency = bench.wheel("dependency")
        project = bench.project(
            folder,
            wheels=[dependency],
            project='description = "A shop"\nauthors = [{ name = "A" }, { name = "B", email = "b@example.org" }]',
        )
        assert bench.build(project).code == 0
        expected = result_of(project)
        shutil.rmtree(project / "dist")
        wheel = self.wheel_of(bench, project)
        shutil.copyfile(project / "pylock.toml", wheel.parent / "pylock.toml")
        outcome = self.run(bench, wheel, wheel.parent, "--set", f"base=oci:{bench.base()}")
        assert outcome.code == 0, outcome.err
        assert self.result(wheel)["digest"] == expected["digest"]

    def test_wheel_of_another_project_is_refused(self, bench: Bench, folder: str) -> None:
        wheel = self.wheel_of(bench, bench.project(folder, name="other"))
        text = self.failure(bench, wheel, bench.project(f"{folder}-2"))
        assert "the wheel is other, and the project is shop" in text

    def test_wheel_of_another_version_is_refused(self, bench: Bench, folder: str) -> None:
        wheel = self.wheel_of(bench, bench.project(folder, version="0.9"))
        text = self.failure(bench, wheel, bench.project(f"{folder}-2"))
        assert "the wheel has version 0.9, and the project has 1.0" in text
        assert "build it again" in text

    def test_wheel_with_other_requirements_is_refused(self, bench: Bench, folder: str) -> None:
        wheel = self.wheel_of(bench, bench.project(folder, dependencies=["one>=1"]))
        text = self.failure(bench, wheel, bench.project(f"{folder}-2", dependencies=["two"]))
        assert "the wheel requires one>=1, which the project does not and does not require two" in text

    def test_files_that_are_no_wheels_are_refused(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder)
        wheel = self.wheel_of(bench, project)
        data = wheel.read_bytes()
        for name, content, message in [
            ("shop-1.0.tar.gz", b"", "this is an sdist, not a wheel"),
            ("shop.txt", b"", "this is not a wheel"),
            ("shop.whl", data, "Invalid wheel filename"),
            ("shop-1.0-py3-none-any.whl", b"not a zip", "build it again"),
            ("shop-1.0-py3-none-any.whl", data[: len(data) // 2], "build it again"),
            ("shop-1.1-py3-none-any.whl", data, "does not match its file name"),
        ]:
            path = bench.root / "given" / name
            path.write_bytes(content)
            text = self.failure(bench, path, project)
            assert str(path) in text
            assert message in text
        assert "the wheel is not there" in self.failure(bench, bench.root / "none.whl", project)
        assert "the wheel is a directory" in self.failure(bench, project, project)

    def test_changed_wheel_is_refused(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder)
        wheel = self.wheel_of(bench, project)
        changed = wheel.with_name("changed.zip")
        with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(changed, "w") as new:
            for info in old.infolist():
                content = old.read(info)
                new.writestr(info, content + b"# changed\n" if info.filename == "shop/__init__.py" else content)
        changed.replace(wheel)
        text = self.failure(bench, wheel, project)
        assert "RECORD has other hashes than the files of the wheel: shop/__init__.py" in text

    def test_wheel_cannot_be_compiled(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder, docker='no-binary = ["shop"]')
        text = self.failure(bench, self.wheel_of(bench, project), project)
        assert "tool.hatch.build.targets.docker.no-binary: it names shop" in text

    @pytest.mark.parametrize("platform", ["linux_x86_64", "macosx_14_0_arm64", "win_amd64"])
    def test_wheel_of_one_machine_is_refused(self, bench: Bench, folder: str, platform: str) -> None:
        project = bench.project(folder)
        wheel = bench.wheel("shop", filename=f"shop-1.0-cp313-cp313-{platform}.whl")
        text = self.failure(bench, wheel, project)
        assert f"compiled for the machine that built it ({platform})" in text

    def test_wheel_with_compiled_code_for_any_machine_is_refused(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder)
        wheel = bench.wheel("shop", files={"shop/fast.so": b"\x7fELF"})
        assert "the wheel has compiled code (shop/fast.so)" in self.failure(bench, wheel, project)

    def test_compiled_wheel_of_the_platform_is_installed(self, bench: Bench, folder: str) -> None:
        project = bench.project(folder)
        wheel = bench.wheel("shop", filename="shop-1.0-cp313-cp313-manylinux_2_17_x86_64.whl")
        outcome = self.run(bench, wheel, project)
        assert outcome.code == 0, outcome.err
        assert self.result(wheel)["wheel"]["sha256"] == sha256(wheel)


class TestOtherBackends:
    @pytest.fixture
    def project(self, bench: Bench, folder: str) -> Path:
        """A project with a build backend of its own, which alone knows the version."""
        project = bench.project(f"{folder}/project", scripts={})
        backend = BACKEND.format(name="shop", version="2.0", tag="py3-none-any", files={}, requires=[], build="pass")
        (project / "backend.py").write_text(backend)
        file = project / "pyproject.toml"
        text = file.read_text().replace('version = "1.0"', 'dynamic = ["version"]')
        file.write_text(IN_TREE.format(requires="[]") + text.partition('build-backend = "hatchling.build"')[2])
        return project

    def test_backend_builds_the_project_for_the_target(self, bench: Bench, project: Path) -> None:
        outcome = bench.build(project)
        assert outcome.code == 0, outcome.err
        assert result_of(project)["wheel"]["filename"] == "shop-2.0-py3-none-any.whl"
        assert {path.name for path in (project / "dist").iterdir()} == {"shop-2.0.docker.json", "shop-2.0.docker.tar"}
        assert bench.build(project, "--clean-only").code == 0
        assert list((project / "dist").iterdir()) == []

    def test_given_wheel_is_not_built_again(self, bench: Bench, project: Path) -> None:
        assert bench.build(project).code == 0
        expected = result_of(project)
        shutil.rmtree(project / "dist")
        builds = project.parent / "shop.builds"
        builds.unlink()
        made = subprocess.run([sys.executable, "-c", "import backend; print(backend.build_wheel('.'))"], cwd=project)
        assert made.returncode == 0
        builds.unlink()
        wheel = project / "shop-2.0-py3-none-any.whl"
        env = environment(bench.cache, HATCH_DOCKER_OUTPUTS="archive")
        outcome = command("build", "--wheel", wheel, project, env=env, folder=project)
        assert outcome.code == 0, outcome.err
        result = json.loads((project / "shop-2.0.docker.json").read_text())
        assert result["digest"] == expected["digest"]
        assert not builds.exists()
