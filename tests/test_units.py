from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from unit_maker import TARGET, make_unit
from wheel_maker import make_wheel

from hatch_docker.errors import LockError, NoWheelError, WheelError
from hatch_docker.image.checks import check_wheels
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile, own_file
from hatch_docker.locks import InstallRequest
from hatch_docker.locks.locked import Locked
from hatch_docker.support.cache import Cache
from hatch_docker.support.progress import Progress
from hatch_docker.support.streams import file_digest
from hatch_docker.wheels.prepare import PreparedWheel, prepare_wheels, scripts_of


@dataclass
class Notes(Progress):
    texts: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.texts.append(text)


def artifact(unit: PreparedWheel) -> Artifact:
    return Artifact(
        name=unit.facts.key,
        version=unit.facts.version,
        filename=unit.filename,
        url="",
        hashes={"sha256": ""},
        size=None,
    )


def check(
    units: Sequence[PreparedWheel],
    own: PreparedWheel,
    *requirements: str,
    resolved: bool = False,
    overridden: Sequence[str] = (),
) -> list[str]:
    """What is noted of these wheels."""
    notes = Notes()
    locked = Locked(
        artifacts=tuple(map(artifact, units)), resolved=resolved, overridden=frozenset(overridden), path=Path("uv.lock")
    )
    wanted = InstallRequest(
        project="app",
        target=TARGET,
        requirements=tuple(map(Requirement, requirements)),
        extras=frozenset(),
        groups=frozenset(),
    )
    check_wheels(units, own, locked, wanted, notes)
    return notes.texts


@pytest.fixture
def own(tmp_path: Path) -> PreparedWheel:
    return make_unit(tmp_path, "app")


class TestClashes:
    def test_one_path_with_two_contents_is_noted(self, tmp_path: Path, own: PreparedWheel) -> None:
        units = [make_unit(tmp_path, name, {"shared/x.py": name, f"{name}.py": ""}) for name in ("one", "two")]
        path = "app/.venv/lib/python3.13/site-packages/shared/x.py"
        assert check(units, own) == [f"warning: one and two both install {path}, with different content"]

    def test_the_same_content_is_nothing_to_speak_of(self, tmp_path: Path, own: PreparedWheel) -> None:
        assert check([make_unit(tmp_path, name, {"google/__init__.py": ""}) for name in ("one", "two")], own) == []

    def test_what_is_pruned_does_not_clash(self, tmp_path: Path, own: PreparedWheel) -> None:
        one, two = (make_unit(tmp_path, name, {"tests/x.py": name}) for name in ("one", "two"))
        assert check([replace(one, pruned=frozenset({"tests/x.py"})), two], own) == []

    def test_of_many_some_are_shown(self, tmp_path: Path, own: PreparedWheel) -> None:
        units = [make_unit(tmp_path, name, {f"x/{n}.py": f"{name}{n}" for n in range(9)}) for name in ("one", "two")]
        (note,) = check(units, own)
        assert note.count("site-packages") == 5
        assert " and 4 more" in note

    def test_scripts_and_the_project_itself_clash_too(self, tmp_path: Path) -> None:
        entry_points = "[console_scripts]\nrun = {0}:main\n"
        units = [
            make_unit(tmp_path, name, {f"{name}.py": ""}, entry_points=entry_points.format(name))
            for name in ("a", "app")
        ]
        (note,) = check(units[:1], units[1])
        assert note.startswith("warning: a and app both install app/.venv/bin/run,")


class TestOwnWheel:
    def test_for_another_machine_is_refused(self, tmp_path: Path, own: PreparedWheel) -> None:
        for tag in (
            "cp313-cp313-macosx_11_0_arm64",
            "cp312-cp312-manylinux_2_17_x86_64",
            "cp313-cp313-musllinux_1_2_x86_64",
        ):
            foreign = replace(own, filename=f"app-1.0-{tag}.whl")
            with pytest.raises(NoWheelError, match=rf"own wheel is for {tag}, not for CPython 3\.13\.5") as caught:
                check([], foreign)
            assert caught.value.place == foreign.filename

    @pytest.mark.parametrize("tag", ["py3-none-any", "cp313-cp313-manylinux_2_17_x86_64", "cp310-abi3-linux_x86_64"])
    def test_for_this_one_is_taken(self, own: PreparedWheel, tag: str) -> None:
        assert check([], replace(own, filename=f"app-1.0-{tag}.whl")) == []

    def test_of_no_wheels_name_is_refused(self, own: PreparedWheel) -> None:
        with pytest.raises(NoWheelError, match="strange name"):
            check([], replace(own, filename="app.zip"))


class TestCompleteness:
    @pytest.fixture
    def needy(self, tmp_path: Path) -> PreparedWheel:
        return make_unit(tmp_path, "needy", requires=["missing>=2", "other; python_version < '3'"])

    def test_a_lock_that_lacks_what_a_wheel_requires(self, needy: PreparedWheel, own: PreparedWheel) -> None:
        with pytest.raises(LockError, match=r"needy 1\.0 requires missing>=2") as caught:
            check([needy], own, "needy")
        assert "lock again, for CPython 3.13.5" in caught.value.hint

    def test_a_lock_that_has_another_version(self, tmp_path: Path, needy: PreparedWheel, own: PreparedWheel) -> None:
        with pytest.raises(LockError, match=r"needy 1\.0 requires missing>=2"):
            check([needy, make_unit(tmp_path, "missing", version="1.0")], own, "needy")
        assert check([needy, make_unit(tmp_path, "missing", version="2.0")], own, "needy") == []

    def test_what_was_overridden_on_purpose(self, needy: PreparedWheel, own: PreparedWheel) -> None:
        assert check([needy], own, "needy", overridden=["missing"]) == []
        (note,) = check([needy], own, "needy", resolved=True)
        assert note.startswith("warning: overridden in uv's configuration: needy 1.0 requires missing>=2")


class TestReading:
    def units(self, tmp_path: Path, cache: Cache) -> tuple[list[PreparedWheel], PreparedWheel]:
        wheels = []
        for name in ("one", "two"):
            unit = make_unit(tmp_path, name, {f"{name}/__init__.py": "", f"{name}/tests/x.py": ""})
            wheels.append(FetchedFile(artifact=artifact(unit), path=unit.path, digest=unit.digest))
        own = make_wheel(tmp_path, "app", files={"app.py": "import one.tests.x"})
        return prepare_wheels([*wheels, own_file(own, "app", "1.0")], cache, prune=["tests"], keep=[], threads=2)

    def test_wheels_come_in_order_and_are_pruned_together(self, tmp_path: Path) -> None:
        units, own = self.units(tmp_path, Cache(tmp_path / "cache"))
        assert [unit.facts.name for unit in [*units, own]] == ["one", "two", "app"]
        # The project imports the tests of one.
        assert [unit.pruned for unit in units] == [frozenset(), frozenset({"two/tests/x.py"})]
        with own.path.open("rb") as file:
            assert own.digest == file_digest(file)

    def test_facts_are_read_once_and_damaged_ones_again(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path / "cache")
        first = self.units(tmp_path, cache)
        assert self.units(tmp_path, cache) == first
        for path in (cache.root / "wheels").iterdir():
            path.write_text(path.read_text().replace('"files"', '"fails"'))
        assert self.units(tmp_path, cache) == first

    def test_a_wheel_that_is_none_is_named(self, tmp_path: Path) -> None:
        own = make_wheel(tmp_path, "app", files={"app.py": ""})
        own.write_bytes(b"nonsense")
        with pytest.raises(WheelError, match=r"app-1\.0-py3-none-any\.whl"):
            prepare_wheels([own_file(own, "app", "1.0")], Cache(tmp_path / "cache"), prune=[], keep=[], threads=1)


def test_scripts_are_those_that_are_made_and_those_that_come_along(tmp_path: Path) -> None:
    units = [
        make_unit(
            tmp_path, "a", {"a.py": ""}, entry_points="[console_scripts]\nrun = a:x\n[gui_scripts]\nshow = a:y\n"
        ),
        make_unit(tmp_path, "b", {"b.py": "", "b-1.0.data/scripts/tool.sh": "#!/bin/sh"}),
    ]
    assert scripts_of(units) == ["run", "show", "tool.sh"]
