from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from prepared_maker import TARGET, make_prepared
from wheel_maker import make_wheel

from hatch_docker.errors import LockError, NoWheelError, WheelError
from hatch_docker.image.checks import check_wheels
from hatch_docker.index.artifact import Artifact, SourceTree
from hatch_docker.index.download import FetchedFile, own_file
from hatch_docker.locks import InstallRequest
from hatch_docker.locks.locked import Locked
from hatch_docker.locks.model import Overrides
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.progress import Progress
from hatch_docker.support.streams import file_digest
from hatch_docker.wheels.prepare import PreparedWheel, prepare_wheels, scripts_of
from hatch_docker.wheels.prune import Pruning


@dataclass
class Notes(Progress):
    texts: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.texts.append(text)


def artifact(wheel: PreparedWheel) -> Artifact:
    return Artifact(
        name=wheel.locked_name or wheel.facts.key,
        version=wheel.facts.version,
        filename=wheel.filename,
        url="",
        hashes={"sha256": ""},
        size=None,
        tree=wheel.tree,
    )


def check(
    wheels: Sequence[PreparedWheel],
    own: PreparedWheel,
    *requirements: str,
    resolved: bool = False,
    overridden: Sequence[str] = (),
    versions: Mapping[str, str] = {},
) -> list[str]:
    """Check wheels; returns the notes. `versions` are those that the lock has, by name, if they are others."""
    notes = Notes()
    found = [artifact(each) for each in wheels]
    locked = Locked(
        artifacts=tuple(replace(each, version=versions.get(each.name, each.version)) for each in found),
        resolved=resolved,
        overridden=Overrides(names=frozenset(overridden)),
        path=Path("uv.lock"),
    )
    request = InstallRequest(
        project="app",
        target=TARGET,
        requirements=tuple(map(Requirement, requirements)),
        extras=frozenset(),
        groups=frozenset(),
    )
    check_wheels(wheels, own, locked, request, notes)
    return notes.texts


@pytest.fixture
def own(tmp_path: Path) -> PreparedWheel:
    return make_prepared(tmp_path, "app")


class TestNames:
    def test_wheels_that_the_lock_names_are_accepted(self, tmp_path: Path, own: PreparedWheel) -> None:
        wheels = [
            replace(make_prepared(tmp_path, "Two_Words"), locked_name="two-words"),
            replace(make_prepared(tmp_path, "local", version="1.0+cpu.1"), locked_name="local"),
        ]
        assert check(wheels, own, versions={"two-words": "1", "local": "1.0+CPU-1"}) == []

    def test_all_wheels_of_other_packages_are_named(self, tmp_path: Path, own: PreparedWheel) -> None:
        wheels = [
            replace(make_prepared(tmp_path, "zeta"), locked_name="alpha"),
            replace(make_prepared(tmp_path, "beta", version="1.0+cpu"), locked_name="beta"),
            make_prepared(tmp_path, "gamma"),
        ]
        with pytest.raises(LockError) as caught:
            check(wheels, own, versions={"alpha": "1.0", "beta": "1.0"})
        assert "alpha 1.0 is zeta 1.0 (zeta-1.0-py3-none-any.whl), beta 1.0 is beta 1.0+cpu" in caught.value.message
        assert "gamma" not in caught.value.message
        assert caught.value.place == "uv.lock"

    def test_directory_has_the_version_of_its_files(self, tmp_path: Path, own: PreparedWheel) -> None:
        wheel = replace(make_prepared(tmp_path, "lib"), locked_name="lib", tree=SourceTree(url="file:///lib"))
        assert check([wheel], own, versions={"lib": "0.9"}) == []


class TestClashes:
    def test_different_content_of_a_path_is_noted(self, tmp_path: Path, own: PreparedWheel) -> None:
        wheels = [make_prepared(tmp_path, name, {"shared/x.py": name, f"{name}.py": ""}) for name in ("one", "two")]
        path = "app/.venv/lib/python3.13/site-packages/shared/x.py"
        assert check(wheels, own) == [f"warning: one and two both install {path}, with different content"]

    def test_same_content_of_a_path_is_not_noted(self, tmp_path: Path, own: PreparedWheel) -> None:
        assert check([make_prepared(tmp_path, name, {"google/__init__.py": ""}) for name in ("one", "two")], own) == []

    def test_pruned_files_do_not_clash(self, tmp_path: Path, own: PreparedWheel) -> None:
        one, two = (make_prepared(tmp_path, name, {"tests/x.py": name}) for name in ("one", "two"))
        assert check([replace(one, pruned={"tests/x.py": "tests"}), two], own) == []

    def test_long_lists_are_shortened(self, tmp_path: Path, own: PreparedWheel) -> None:
        wheels = [
            make_prepared(tmp_path, name, {f"x/{n}.py": f"{name}{n}" for n in range(9)}) for name in ("one", "two")
        ]
        (note,) = check(wheels, own)
        assert note.count("site-packages") == 5
        assert " and 4 more" in note

    def test_scripts_and_the_wheel_of_the_project_clash(self, tmp_path: Path) -> None:
        entry_points = "[console_scripts]\nrun = {0}:main\n"
        wheels = [
            make_prepared(tmp_path, name, {f"{name}.py": ""}, entry_points=entry_points.format(name))
            for name in ("a", "app")
        ]
        (note,) = check(wheels[:1], wheels[1])
        assert note.startswith("warning: a and app both install app/.venv/bin/run,")


class TestOwnWheel:
    def test_wheel_for_another_target_is_refused(self, tmp_path: Path, own: PreparedWheel) -> None:
        for tag in (
            "cp313-cp313-macosx_11_0_arm64",
            "cp312-cp312-manylinux_2_17_x86_64",
            "cp313-cp313-musllinux_1_2_x86_64",
        ):
            foreign = replace(own, filename=f"app-1.0-{tag}.whl")
            with pytest.raises(NoWheelError, match=rf"own wheel is for {tag}, not for CPython 3\.13\.5") as caught:
                check([], foreign)
            assert caught.value.place == foreign.filename
            assert ("python=3.12" in str(caught.value)) == tag.startswith("cp312")

    @pytest.mark.parametrize("tag", ["py3-none-any", "cp313-cp313-manylinux_2_17_x86_64", "cp310-abi3-linux_x86_64"])
    def test_wheel_for_the_target_is_accepted(self, own: PreparedWheel, tag: str) -> None:
        assert check([], replace(own, filename=f"app-1.0-{tag}.whl")) == []

    def test_invalid_file_name_is_refused(self, own: PreparedWheel) -> None:
        with pytest.raises(NoWheelError, match="an invalid name"):
            check([], replace(own, filename="app.zip"))


class TestCompleteness:
    @pytest.fixture
    def requiring(self, tmp_path: Path) -> PreparedWheel:
        return make_prepared(tmp_path, "needy", requires=["missing>=2", "other; python_version < '3'"])

    def test_missing_requirement_is_a_warning(self, requiring: PreparedWheel, own: PreparedWheel) -> None:
        (note,) = check([requiring], own, "needy")
        assert note == (
            "warning: the lock lacks what its packages require: needy 1.0 requires missing>=2: it is not in the lock"
        )

    def test_other_version_of_a_requirement_is_a_warning(
        self, tmp_path: Path, requiring: PreparedWheel, own: PreparedWheel
    ) -> None:
        (note,) = check([requiring, make_prepared(tmp_path, "missing", version="1.0")], own, "needy")
        assert note.endswith("needy 1.0 requires missing>=2: the lock has 1.0")
        assert check([requiring, make_prepared(tmp_path, "missing", version="2.0")], own, "needy") == []

    def test_overridden_requirement_is_not_an_error(self, requiring: PreparedWheel, own: PreparedWheel) -> None:
        assert check([requiring], own, "needy", overridden=["missing"]) == []


SUITE = "from {} import x\ndef test_x():\n    assert x\n"


class TestPrepareWheels:
    def prepared(self, tmp_path: Path, cache: Cache) -> tuple[list[PreparedWheel], PreparedWheel]:
        files = []
        for name in ("one", "two"):
            wheel = make_prepared(
                tmp_path, name, {f"{name}/__init__.py": "", f"{name}/tests/test_x.py": SUITE.format(name)}
            )
            files.append(FetchedFile.at(wheel.path, artifact(wheel), wheel.digest))
        own = make_wheel(tmp_path, "app", files={"app.py": "import one.tests.test_x"})
        *others, own_wheel = prepare_wheels(
            [*files, own_file(own, "app", "1.0")], cache, Pruning(prune=["tests"]), own=True, threads=2
        )
        return others, own_wheel

    def test_wheels_keep_their_order_and_are_pruned_together(self, tmp_path: Path) -> None:
        wheels, own = self.prepared(tmp_path, Cache(tmp_path / "cache"))
        assert [wheel.facts.name for wheel in [*wheels, own]] == ["one", "two", "app"]
        # The project imports the tests of one.
        assert [wheel.pruned for wheel in wheels] == [{}, {"two/tests/test_x.py": "tests"}]
        with own.path.open("rb") as file:
            assert own.digest == file_digest(file)

    def test_facts_are_cached_and_damaged_ones_read_again(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path / "cache")
        first = self.prepared(tmp_path, cache)
        assert self.prepared(tmp_path, cache) == first
        for path in (cache.root / "wheels").iterdir():
            path.write_text(path.read_text().replace('"files"', '"fails"'))
        assert self.prepared(tmp_path, cache) == first

    def test_are_read_after_what_is_to_come_before(self, tmp_path: Path) -> None:
        own = make_wheel(tmp_path, "app", files={"app.py": ""})
        content = own.read_bytes()
        file = own_file(own, "app", "1.0")
        own.write_bytes(b"nonsense")
        before = partial(own.write_bytes, content)
        (wheel,) = prepare_wheels([file], Cache(tmp_path / "cache"), Pruning(prune=[]), threads=1, before=before)
        assert wheel.facts.name == "app"

    def test_error_names_the_invalid_wheel(self, tmp_path: Path) -> None:
        own = make_wheel(tmp_path, "app", files={"app.py": ""})
        own.write_bytes(b"nonsense")
        with pytest.raises(WheelError, match=r"app-1\.0-py3-none-any\.whl"):
            prepare_wheels([own_file(own, "app", "1.0")], Cache(tmp_path / "cache"), Pruning(prune=[]), threads=1)


def test_scripts_are_generated_ones_and_those_in_wheels(tmp_path: Path) -> None:
    wheels = [
        make_prepared(
            tmp_path, "a", {"a.py": ""}, entry_points="[console_scripts]\nrun = a:x\n[gui_scripts]\nshow = a:y\n"
        ),
        make_prepared(tmp_path, "b", {"b.py": "", "b-1.0.data/scripts/tool.sh": "#!/bin/sh"}),
    ]
    assert scripts_of(wheels) == ["run", "show", "tool.sh"]
