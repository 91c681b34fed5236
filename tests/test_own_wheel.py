"""The project's own wheel: where it is built, how often, and when it is not built again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from builds import Bench
from fake_index import Notes
from hatchling.builders.wheel import WheelBuilder

from hatch_docker.errors import HatchDockerError
from hatch_docker.index.download import FetchedFile
from hatch_docker.project.hatchling import HatchlingProject, Target
from hatch_docker.support.cache import Cache

HOOK = """\
from pathlib import Path
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

class Hook(BuildHookInterface):
    def initialize(self, version, build_data):
        with open({ran!r}, "a") as file:
            file.write(self.target_name[0])
        {code}
"""
HOOKS = "[tool.hatch.build.hooks.custom]\n"
TAG = "build_data.update(pure_python=False, infer_tag=True)"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The wheels that hatchling builds."""
    made: list[str] = []
    build = WheelBuilder.build

    def counted(self: WheelBuilder, **options: object) -> object:
        made.append(self.metadata.version)
        return build(self, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(WheelBuilder, "build", counted)
    return made


def hooked(bench: Bench, code: str, more: str = HOOKS, **options: str) -> Path:
    """A project with a build hook, which records the targets that it ran for."""
    hook = HOOK.format(ran=str(bench.root / "ran"), code=code)
    return bench.project(more=more, files={"hatch_build.py": hook}, **options)


def ran(bench: Bench) -> str:
    path = bench.root / "ran"
    return path.read_text() if path.exists() else ""


def own(bench: Bench, project: Path, *, compiled: bool = False, notes: Notes | None = None) -> FetchedFile:
    source = HatchlingProject(Target(str(project)))
    with source.distribution(compiled, Cache(bench.cache), notes or Notes()) as file:
        assert file.path.is_file()
        return file


def interrupted(bench: Bench, project: Path) -> str:
    """The reason for the sdist of a build that fails later."""
    distribution = HatchlingProject(Target(str(project))).distribution(False, Cache(bench.cache), Notes())
    reason = distribution.__enter__().artifact.reason
    error = HatchDockerError("later")
    assert not distribution.__exit__(HatchDockerError, error, None)
    return reason


class TestAPureProject:
    def test_is_not_built_again(self, bench: Bench, builds: list[str]) -> None:
        project = bench.project()
        first, second = own(bench, project), own(bench, project)
        assert first.artifact == second.artifact
        assert first.artifact.filename == "shop-1.0-py2.py3-none-any.whl"
        assert builds == ["1.0"]

    @pytest.mark.parametrize(
        "change",
        [
            lambda project: (project / "src" / "shop" / "__init__.py").write_text("changed = 1\n"),
            lambda project: (project / "src" / "shop" / "new.py").write_text(""),
            lambda project: (project / "src" / "shop" / "__init__.py").chmod(0o755),
            lambda project: (project / "README.md").write_text("changed"),
            lambda project: (project / "LICENSE").write_text("changed"),
            lambda project: (project / ".gitignore").write_text("data.txt\n"),
        ],
    )
    def test_is_built_again_after_a_change(
        self, bench: Bench, builds: list[str], change: Callable[[Path], object]
    ) -> None:
        files = {"README.md": "text", "LICENSE": "text", "src/shop/data.txt": ""}
        project = bench.project(project='readme = "README.md"\nlicense-files = ["LICENSE"]\n', files=files)
        first = own(bench, project)
        change(project)
        assert own(bench, project).digest != first.digest
        assert builds == ["1.0", "1.0"]

    @pytest.mark.parametrize(
        "more",
        [
            HOOKS,
            "[tool.hatch.metadata.hooks.custom]\n",
            '[tool.hatch.build.targets.wheel.force-include]\n"pyproject.toml" = "shop/data.toml"\n',
        ],
    )
    def test_is_built_again_if_more_than_its_files_count(self, bench: Bench, builds: list[str], more: str) -> None:
        meta = "from hatchling.metadata.plugin.interface import MetadataHookInterface\n\n"
        meta += "class Hook(MetadataHookInterface):\n    def update(self, metadata):\n        pass\n"
        hook = meta if "metadata" in more else HOOK.format(ran=str(bench.root / "ran"), code="pass")
        project = bench.project(more=more, files={"hatch_build.py": hook})
        own(bench, project)
        own(bench, project)
        assert len(builds) == 2

    def test_that_is_named_in_no_binary_goes_to_the_builder(self, bench: Bench, builds: list[str]) -> None:
        file = own(bench, bench.project(), compiled=True)
        assert (file.artifact.filename, file.artifact.reason) == ("shop-1.0.tar.gz", "it is named in no-binary")
        assert builds == []

    def test_with_a_mistake_is_an_error(self, bench: Bench) -> None:
        project = bench.project(wheel='[tool.hatch.build.targets.wheel.force-include]\n"missing" = "missing"\n')
        with pytest.raises(HatchDockerError, match="the project's own wheel cannot be built"):
            own(bench, project)


class TestHooks:
    @pytest.mark.parametrize("target", ["docker:archive", "docker:archive,archive"])
    def test_run_once_for_all_outputs(self, bench: Bench, target: str) -> None:
        bench.made(hooked(bench, "pass"), target=target)
        assert ran(bench) == "w"

    def test_of_the_target_docker_run_once_before_the_image_is_made(self, bench: Bench) -> None:
        generate = "Path(self.root, 'made').write_text('text')"
        more = "[tool.hatch.build.targets.docker.hooks.custom]\n"
        project = hooked(bench, generate, more=more, docker='extra-files = [{ from = "made", into = "/etc/made" }]\n')
        (project / "made").write_text("old")
        assert bench.made(project, target="docker:archive,archive").text("etc/made") == "text"
        assert ran(bench) == "d"

    def test_run_alone_if_hatch_is_asked_to(self, bench: Bench) -> None:
        assert bench.build(hooked(bench, "pass"), "--hooks-only").code == 0
        assert ran(bench) == "d"

    @pytest.mark.parametrize(
        ("code", "sign"),
        [
            (TAG, "cp"),
            ("Path(self.root, 'src/shop/_x.so').touch(); build_data['artifacts'].append('*.so')", "shop/_x.so"),
        ],
    )
    def test_that_compile_run_in_the_builder(self, bench: Bench, code: str, sign: str) -> None:
        project = hooked(bench, code, more="[tool.hatch.build.targets.wheel.hooks.custom]\n")
        for _ in range(2):
            file = own(bench, project)
            assert file.artifact.filename == "shop-1.0.tar.gz"
            assert file.artifact.reason.startswith(f"its wheel is not pure ({sign}")
            # The second build knows it.
            assert ran(bench) == "w"
        assert not list(project.rglob("*.so"))

    def test_that_fail_are_quoted(self, bench: Bench) -> None:
        notes = Notes()
        project = hooked(bench, "if self.target_name == 'wheel': raise SystemExit('no compiler')")
        file = own(bench, project, notes=notes)
        why = "its build on this machine failed (the project's own wheel cannot be built: no compiler)"
        assert file.artifact.reason == why
        assert f"shop: {why}" in notes.notes

    def test_that_fail_are_tried_again_until_the_builder_succeeds(self, bench: Bench) -> None:
        project = hooked(bench, "if self.target_name == 'wheel': raise ValueError('no luck')")
        assert "no luck" in interrupted(bench, project)
        assert "no luck" in interrupted(bench, project)
        assert ran(bench) == "wsws"
        own(bench, project)
        own(bench, project)
        assert ran(bench) == "wswswss"

    def test_that_change_are_tried_again(self, bench: Bench) -> None:
        project = hooked(bench, TAG)
        own(bench, project)
        (project / "hatch_build.py").write_text(HOOK.format(ran=str(bench.root / "ran"), code="pass"))
        assert own(bench, project).artifact.is_wheel

    def test_that_fail_for_both_are_an_error(self, bench: Bench) -> None:
        project = hooked(bench, "raise SystemExit('a mistake')")
        with pytest.raises(HatchDockerError, match="the project's own wheel cannot be built: a mistake"):
            own(bench, project)


def test_temporary_files_of_hooks_are_in_a_directory_that_is_removed_after_a_kill(bench: Bench) -> None:
    code = f"import tempfile; Path({str(bench.root / 'place')!r}).write_text(tempfile.gettempdir())"
    bench.made(hooked(bench, code))
    assert "hatch-docker-" in (bench.root / "place").read_text()
