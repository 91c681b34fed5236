"""Layers of bytecode: what they have, when they are made, and what an image is without them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import marshal
import platform
import posixpath
import sys
import time
from collections.abc import Mapping
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from base_maker import FakeBase
from builds import Bench, Made, archive_of, command, environment, read, result_of

from hatch_docker.image.bytecode.chunks import Ended
from hatch_docker.image.bytecode.frames import answers
from hatch_docker.image.bytecode.process import talk
from hatch_docker.wheels.distinfo import hash_text

VERSION = platform.python_version()
MINOR = ".".join(VERSION.split(".")[:2])
TAG = f"cpython-{MINOR.replace('.', '')}"
LIB = f"usr/local/lib/python{MINOR}"
SITE = f"app/.venv/lib/python{MINOR}/site-packages"
DATA = "_sysconfigdata__linux_x86_64-linux-gnu.py"
LIBRARY = "bytecode of the standard library"
# It has the Python that runs the tests, so that this can compile for it.
BASE = FakeBase(
    python=VERSION,
    files={
        f"{LIB}/os.py": b"name = 'posix'\n",
        f"{LIB}/json/__init__.py": b"loads = 1\n",
        f"{LIB}/{DATA}": b"x = 1\n",
    },
)
LIBRARY_FILES = (f"{LIB}/os.py", f"{LIB}/json/__init__.py", f"{LIB}/{DATA}")
UNCHECKED, CHECKED = 1, 3


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def project_of(bench: Bench, *wheels: Path, base: FakeBase = BASE, **options: Any) -> Path:
    return bench.project(wheels=list(wheels), base=bench.base(base), **options)


def with_bytecode(bench: Bench, project: Path, **env: str) -> Made:
    return bench.made(project, **{"HATCH_DOCKER_BYTECODE": "true", **env})


def contents(project: Path) -> list[str]:
    return [", ".join(layer["contents"]) for layer in result_of(project)["layers"]]


def digests(project: Path) -> dict[str, str]:
    return {", ".join(layer["contents"]): layer["digest"] for layer in result_of(project)["layers"]}


def pyc(path: str, level: str = "") -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{TAG}{level}.pyc"


def flags(data: bytes) -> int:
    assert data[:4] == MAGIC_NUMBER
    return int.from_bytes(data[4:8], "little")


def code(data: bytes) -> CodeType:
    loaded = marshal.loads(data[16:])
    assert isinstance(loaded, CodeType)
    return loaded


def bytecode_of(made: Made) -> set[str]:
    return {path for path in made.contents if path.endswith(".pyc")}


def records(made: Made, name: str) -> Mapping[str, list[str]]:
    text = made.text(f"{SITE}/{name}-1.0.dist-info/RECORD")
    return {row[0]: row[1:] for row in csv.reader(io.StringIO(text))}


class TestContent:
    @pytest.fixture
    def made(self, bench: Bench) -> Made:
        files = {
            "alpha/__init__.py": "import alpha.core\n",
            "alpha/core.py": "def answer():\n    return 42\n",
            "alpha/migrations/0001_initial.py": "",
            "alpha/broken.py": "def (:\n",
            "alpha/old.py2": "",
            "alpha/te-st/x.py": "",
            "space/name/module.py": "",
            "alpha-1.0.data/scripts/tool.py": "print()\n",
            "alpha-1.0.data/data/share/x.py": "",
            "alpha-1.0.data/platlib/native.py": "",
        }
        return with_bytecode(bench, project_of(bench, bench.wheel("alpha", files=files)))

    def test_every_importable_module_has_bytecode(self, made: Made) -> None:
        modules = ["alpha.py", "alpha/__init__.py", "alpha/core.py", "alpha/migrations/0001_initial.py"]
        modules += ["space/name/module.py", "native.py", "shop/__init__.py"]
        assert bytecode_of(made) == {pyc(path) for path in (*(f"{SITE}/{name}" for name in modules), *LIBRARY_FILES)}

    def test_is_what_python_makes_of_the_source(self, made: Made) -> None:
        path = f"{SITE}/alpha/core.py"
        data = made.contents[pyc(path)]
        assert (flags(data), data[8:16]) == (UNCHECKED, source_hash(made.contents[path]))
        assert code(data).co_filename == f"/{path}"
        space: dict[str, Any] = {}
        exec(code(data), space)
        assert space["answer"]() == 42

    def test_only_the_project_s_is_compared_with_its_source(self, made: Made) -> None:
        compared = {path for path in bytecode_of(made) if flags(made.contents[path]) == CHECKED}
        assert compared == {pyc(f"{SITE}/shop/__init__.py")}

    def test_files_are_as_in_other_layers(self, made: Made) -> None:
        member, folder = made.members[pyc(f"{SITE}/alpha/core.py")], made.members[f"{SITE}/alpha/__pycache__"]
        source = made.members[f"{SITE}/alpha/core.py"]
        assert (member.mode, member.uid, member.gid, member.mtime) == (0o644, 0, 0, source.mtime)
        assert (folder.mode, folder.uid, folder.isdir()) == (0o755, 0, True)

    def test_record_lists_it(self, made: Made) -> None:
        rows = records(made, "alpha")
        path = "alpha/__pycache__/core." + f"{TAG}.pyc"
        data = made.contents[f"{SITE}/{path}"]
        assert rows[path] == [hash_text("sha256", hashlib.sha256(data).digest()), str(len(data))]
        assert rows["alpha/core.py"][1] == str(len(made.contents[f"{SITE}/alpha/core.py"]))
        assert {f"{SITE}/{each}" for each in rows if not each.startswith("..")} <= made.contents.keys()
        assert f"shop/__pycache__/__init__.{TAG}.pyc" in records(made, "shop")


class TestLayers:
    def test_are_apart_and_leave_the_others_as_they_are(self, bench: Bench) -> None:
        noise = b"x = 1\n" + b"#" * 200_000 + bytes(1 << 20)
        wheels = [bench.wheel("big", files={"big.bin": noise * 2}, method=0), bench.wheel("small")]
        project = project_of(bench, *wheels, docker='extra-files = [{from = "pyproject.toml", into = "/x"}]')
        bench.made(project)
        without = digests(project)
        with_bytecode(bench, project)
        assert contents(project) == [
            LIBRARY,
            "big 1.0",
            "bytecode of big",
            "small 1.0",
            "bytecode of small",
            "extra files",
            "shop 1.0",
            "bytecode of shop",
        ]
        assert {name: digest for name, digest in digests(project).items() if "bytecode" not in name} == without

    def test_a_changed_wheel_changes_its_two_layers(self, bench: Bench) -> None:
        others = [bench.wheel("big", files={"big.bin": bytes(1_100_000)}, method=0), bench.wheel("delta")]
        large = {"alpha.bin": bytes(1_200_000)}
        first = project_of(bench, bench.wheel("alpha", files=large, method=0), *others)
        with_bytecode(bench, first)
        alpha = bench.wheel("alpha", files={**large, "more.py": ""}, method=0)
        second = bench.project("second", wheels=[alpha, *others], base=bench.base(BASE))
        with_bytecode(bench, second)
        before, after = digests(first), digests(second)
        assert {name for name in before if before[name] != after[name]} == {"alpha 1.0", "bytecode of alpha"}

    def test_nothing_is_compiled_twice(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        project = project_of(bench, bench.wheel("alpha"))
        first = with_bytecode(bench, project)

        def opened(*_arguments: Any, **_options: Any) -> Any:
            raise AssertionError("a compiler was opened")

        monkeypatch.setattr("hatch_docker.image.bytecode.ways.open_compiler", opened)
        monkeypatch.setattr("hatch_docker.image.bytecode.make.standard_library", opened)
        again = with_bytecode(bench, project)
        assert again.manifest == first.manifest
        assert all(layer["reused"] for layer in result_of(project)["layers"])

    def test_the_base_s_standard_library_is_compiled_once_for_all_bases_that_have_it(self, bench: Bench) -> None:
        wheel = bench.wheel("alpha")
        layers: list[dict[str, Any]] = []
        for files in ({}, {"opt/more/readme": b"hello"}):
            base = FakeBase(python=VERSION, files={**BASE.files, **files})
            project = bench.project(str(len(layers)), wheels=[wheel], base=bench.base(base))
            with_bytecode(bench, project)
            layers.append(next(each for each in result_of(project)["layers"] if each["contents"] == [LIBRARY]))
        assert layers[0]["digest"] == layers[1]["digest"]
        assert layers[1]["reused"]

    @pytest.mark.parametrize("tk", ["lib/libtk8.6.so", "lib/libtcl9tk9.0.so", "share/tcltk/tk8.6"])
    def test_modules_for_tk_are_compiled_where_its_library_is(self, bench: Bench, tk: str) -> None:
        lib = posixpath.dirname(LIBRARY_FILES[0])
        modules = [f"{lib}/{name}" for name in ("turtle.py", "tkinter/ttk.py", "idlelib/run.py", "turtledemo/tree.py")]
        files = {**BASE.files, **dict.fromkeys(modules, b"")}
        found: list[set[str]] = []
        for more in ({}, {f"usr/{tk}": b""}):
            base = FakeBase(python=VERSION, files={**files, **more})
            project = bench.project(str(len(found)), wheels=[bench.wheel("alpha")], base=bench.base(base))
            found.append(bytecode_of(with_bytecode(bench, project)))
        assert found[1] - found[0] == {pyc(path) for path in modules}

    def test_are_the_same_for_all_platforms(self, bench: Bench) -> None:
        arm = FakeBase(python=VERSION, architecture="arm64", files=BASE.files)
        project = bench.project(wheels=[bench.wheel("alpha")], base=bench.base(BASE, arm))
        outcome = bench.build(project, HATCH_DOCKER_PLATFORMS="linux/amd64,linux/arm64", HATCH_DOCKER_BYTECODE="true")
        assert outcome.code == 0, outcome.err
        amd64, arm64 = ([each["digest"] for each in image["layers"]] for image in result_of(project)["images"])
        assert amd64 == arm64

    def test_depend_on_optimization_and_pruning(self, bench: Bench) -> None:
        wheel = bench.wheel("alpha", files={"alpha/__init__.py": "assert False\n", "alpha/tests/test_x.py": ""})
        project = project_of(bench, wheel, docker='env = {PYTHONOPTIMIZE = "1"}')
        made = with_bytecode(bench, project)
        optimized = pyc(f"{SITE}/alpha/__init__.py", ".opt-1")
        exec(code(made.contents[optimized]))
        assert {path for path in bytecode_of(made) if ".opt-1." not in path} == set()
        kept = with_bytecode(bench, project, HATCH_DOCKER_KEEP="alpha")
        assert pyc(f"{SITE}/alpha/tests/test_x.py", ".opt-1") in kept.contents

    def test_no_more_interpreters_than_threads_run_at_once(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        running: list[int] = []
        most = 0

        def counted(given: bytes, **options: Any) -> Ended:
            nonlocal most
            running.append(0)
            most = max(most, len(running))
            # Others would start meanwhile.
            time.sleep(0.02)
            ended = talk(given, **options)
            running.pop()
            return ended

        monkeypatch.setattr("hatch_docker.image.bytecode.host.talk", counted)
        monkeypatch.setattr("hatch_docker.image.bytecode.make._CHUNK", 1)
        wheels = [bench.wheel(f"w{number}", files={f"w{number}/{name}.py": "" for name in "ab"}) for number in range(4)]
        with_bytecode(bench, project_of(bench, *wheels), HATCH_DOCKER_THREADS="2")
        assert most == 2

    def test_modules_of_several_wheels_share_an_interpreter(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given: list[int] = []

        def counted(text: bytes, **options: Any) -> Ended:
            given.append(len(answers(text)[2::2]))
            return talk(text, **options)

        monkeypatch.setattr("hatch_docker.image.bytecode.host.talk", counted)
        wheels = [bench.wheel(f"w{number}") for number in range(7)]
        with_bytecode(bench, project_of(bench, *wheels), HATCH_DOCKER_MAX_LAYERS="3")
        # The first is a trial; the others compile all modules but the project's own, and this.
        assert given == [1, 7 + len(LIBRARY_FILES), 1]

    def test_a_wheel_in_another_group_is_not_compiled_again(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given: list[str] = []

        def noted(text: bytes, **options: Any) -> Ended:
            given.extend(bytes(each).decode() for each in answers(text)[2::2])
            return talk(text, **options)

        monkeypatch.setattr("hatch_docker.image.bytecode.host.talk", noted)
        wheels = [
            bench.wheel(name, files={f"{name}/__init__.py": f"{name} = 1\n", f"{name}/broken.py": "def (:\n"})
            for name in ("one", "two", "three")
        ]
        projects = [bench.project(f"{number}", wheels=wheels[:number], base=bench.base(BASE)) for number in (2, 3)]
        projects.append(bench.project("removed", wheels=wheels[1:], base=bench.base(BASE)))
        with_bytecode(bench, projects[0])
        new = {"three.py", "three/__init__.py", "three/broken.py"}
        for project, compiled in zip(projects[1:], (new, set[str]()), strict=True):
            given.clear()
            made = with_bytecode(bench, project)
            of_wheels = {path.removeprefix(f"/{SITE}/") for path in given if "shop" not in path}
            assert of_wheels - {"/hatch_docker.py"} == compiled
            assert (
                made.manifest
                == with_bytecode(bench, project, HATCH_DOCKER_CACHE_DIR=str(bench.root / "other")).manifest
            )

    def test_a_damaged_layer_is_of_no_use_to_others(self, bench: Bench) -> None:
        wheels = [bench.wheel(name) for name in ("one", "two", "three")]
        first, second = (bench.project(f"{n}", wheels=wheels[:n], base=bench.base(BASE)) for n in (2, 3))
        with_bytecode(bench, first)
        digest = next(value for name, value in digests(first).items() if name == "bytecode of one and two")
        (blob,) = bench.cache.glob(f"blobs/sha256/{digest.partition(':')[2]}")
        blob.write_bytes(b"x" * blob.stat().st_size)
        made = with_bytecode(bench, second)
        assert made.manifest == with_bytecode(bench, second, HATCH_DOCKER_CACHE_DIR=str(bench.root / "other")).manifest

    @pytest.mark.parametrize("most", [3, 5, 40])
    def test_do_not_exceed_max_layers(self, bench: Bench, most: int) -> None:
        wheels = [bench.wheel(f"w{number}") for number in range(7)]
        project = project_of(bench, *wheels, docker=f"max-layers = {most}")
        made = with_bytecode(bench, project)
        assert len(contents(project)) <= most
        assert (contents(project)[-1] == "bytecode") == (most < 5)
        modules = [f"{SITE}/w{number}.py" for number in range(7)] + [f"{SITE}/shop/__init__.py", f"{LIB}/os.py"]
        assert {pyc(path) for path in modules} <= bytecode_of(made)

    def test_the_least_number_is_named(self, bench: Bench) -> None:
        extra = 'extra-files = [{from = "pyproject.toml", into = "/x"}]'
        project = project_of(bench, bench.wheel("alpha"), docker=f"max-layers = 3\n{extra}")
        outcome = bench.build(project, HATCH_DOCKER_BYTECODE="true")
        assert outcome.code == 1
        assert "max-layers: this image needs 4 layers above its base, not 3: set 4" in outcome.err
        assert len(with_bytecode(bench, project, HATCH_DOCKER_MAX_LAYERS="4").layers) == 5
        assert bench.build(project).code == 0

    def test_are_described_in_the_history(self, bench: Bench) -> None:
        made = with_bytecode(bench, project_of(bench, bench.wheel("alpha")))
        assert made.document["history"][1]["created_by"] == f"hatch-docker: {LIBRARY}"


class TestLibraryThatIsReplaced:
    JSON = f"{LIB}/json/__init__.py"

    @pytest.mark.parametrize("most", ["3", "40"])
    def test_extra_files_take_effect(self, bench: Bench, most: str) -> None:
        other = f"{LIB}/__pycache__/os.{TAG}.pyc"
        extra = f'[{{from = "json.py", into = "/{self.JSON}"}}, {{from = "os.pyc", into = "/{other}"}}]'
        project = project_of(bench, docker=f"extra-files = {extra}", files={"json.py": "loads = 2\n", "os.pyc": "mine"})
        made = with_bytecode(bench, project, HATCH_DOCKER_MAX_LAYERS=most)
        assert made.text(self.JSON) == "loads = 2\n"
        assert {path for path in bytecode_of(made) if path.startswith(LIB)} == {pyc(f"{LIB}/{DATA}"), other}
        assert made.text(other) == "mine"

    def test_they_change_no_other_image(self, bench: Bench) -> None:
        files = {"json.py": ""}
        replacing = f'extra-files = [{{from = "json.py", into = "/{self.JSON}"}}]'
        adding = f'extra-files = [{{from = "json.py", into = "/{LIB}/more.py"}}]'
        found = []
        for name, docker in (("first", ""), ("second", replacing), ("third", adding), ("fourth", "")):
            project = bench.project(name, base=bench.base(BASE), docker=docker, files=files)
            with_bytecode(bench, project)
            found.append(digests(project)[LIBRARY])
        assert found[0] == found[2] == found[3] != found[1]

    def test_what_the_base_loses_has_none(self, bench: Bench) -> None:
        base = FakeBase(python=VERSION, files={**BASE.files, f"{LIB}/ensurepip/__init__.py": b""})
        project = project_of(bench, base=base)
        assert pyc(f"{LIB}/ensurepip/__init__.py") in bytecode_of(with_bytecode(bench, project))
        made = with_bytecode(bench, project, HATCH_DOCKER_PRUNE_BASE="ensurepip")
        assert bytecode_of(made) == {pyc(path) for path in (*LIBRARY_FILES, f"{SITE}/shop/__init__.py")}


class TestDirectoriesOfTheBase:
    """Engines that unpack each layer by itself give a directory that a layer has no entry for to root."""

    @pytest.mark.parametrize("most", ["3", "40"])
    def test_keep_their_mode(self, bench: Bench, most: str) -> None:
        base = FakeBase(python=VERSION, files=BASE.files, folders={LIB: 0o775, f"{LIB}/json": 0o711, "opt": 0o700})
        project = project_of(bench, base=base)
        made = with_bytecode(bench, project, HATCH_DOCKER_MAX_LAYERS=most)
        (layer,) = (set(each) for each in made.layers if pyc(f"{LIB}/os.py") in each)
        assert {path for path in layer if f"{LIB}/".startswith(f"{path}/")} == {LIB}
        assert f"{LIB}/json" in layer
        assert "opt" not in layer
        assert (made.members[LIB].mode, made.members[f"{LIB}/json"].mode) == (0o775, 0o711)

    def test_shape_the_layer(self, bench: Bench) -> None:
        found = []
        for mode in (0o775, 0o711, 0o755):
            base = FakeBase(python=VERSION, files=BASE.files, folders={LIB: mode})
            project = bench.project(f"{mode}", base=bench.base(base))
            assert with_bytecode(bench, project).members[LIB].mode == mode
            found.append(digests(project)[LIBRARY])
        assert len(set(found)) == 3


class TestTwoWheelsWithOnePath:
    def test_the_bytecode_is_that_of_the_source_on_top(self, bench: Bench) -> None:
        wheels = [bench.wheel(name, files={"shared/__init__.py": f"OWNER = {name!r}\n"}) for name in ("one", "two")]
        made = with_bytecode(bench, project_of(bench, *wheels))
        space: dict[str, Any] = {}
        exec(code(made.contents[pyc(f"{SITE}/shared/__init__.py")]), space)
        assert made.text(f"{SITE}/shared/__init__.py") == f"OWNER = {space['OWNER']!r}\n"

    def test_none_is_left_of_a_file_that_was_replaced(self, bench: Bench) -> None:
        """The highest file does not compile; bytecode of the lower one would hide that."""
        texts = {"one": "VALUE = 1\n", "two": "def (:\n"}
        for upper, lower in (("one", "two"), ("two", "one")):
            chosen = {"one": texts[upper], "two": texts[lower]}
            wheels = [bench.wheel(name, files={"shared/__init__.py": text}) for name, text in chosen.items()]
            made = with_bytecode(bench, bench.project(upper, wheels=wheels, base=bench.base(BASE)))
            compiles = made.text(f"{SITE}/shared/__init__.py") == texts["one"]
            assert (pyc(f"{SITE}/shared/__init__.py") in made.contents) == compiles

    def test_bytecode_of_a_wheel_is_left_alone(self, bench: Bench) -> None:
        own = f"alpha/__pycache__/core.{TAG}.pyc"
        wheel = bench.wheel("alpha", files={"alpha/core.py": "", own: b"theirs", "alpha/legacy.pyc": b"sourceless"})
        project = project_of(bench, wheel)
        assert with_bytecode(bench, project, HATCH_DOCKER_PRUNE="tests").contents[f"{SITE}/{own}"] == b"theirs"
        made = with_bytecode(bench, project)
        assert flags(made.contents[f"{SITE}/{own}"]) == UNCHECKED
        assert made.contents[f"{SITE}/alpha/legacy.pyc"] == b"sourceless"


class TestRecordThatIsWrong:
    def test_is_corrected_as_in_the_layer_of_the_wheel(self, bench: Bench) -> None:
        def wrong(rows: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
            other = hash_text("sha256", hashlib.sha256(b"other").digest())
            return [(path, other if path in ("alpha.py", "alpha.bin") else digest, size) for path, digest, size in rows]

        wheel = bench.wheel("alpha", files={"alpha.bin": b"\0" * 9}, record=wrong)
        project = project_of(bench, wheel)
        bench.made(project)
        before = records(read(archive_of(project)), "alpha")
        rows = records(with_bytecode(bench, project), "alpha")
        assert {path: row for path, row in rows.items() if "__pycache__" not in path} == before
        assert f"__pycache__/alpha.{TAG}.pyc" in rows


class TestNoWay:
    NOWHERE = FakeBase(python="3.13.99", files={"usr/local/lib/python3.13/os.py": b""})

    def test_is_a_warning_without_the_key(self, bench: Bench) -> None:
        project = project_of(bench, bench.wheel("alpha"), base=self.NOWHERE)
        bench.made(project)
        digest = result_of(project)["digest"]
        outcome = bench.build(project, HATCH_DOCKER_BYTECODE="")
        assert outcome.code == 0
        assert outcome.err.count("the image has no bytecode, so it starts slower, and its digest is not that") == 1
        assert "neither PATH nor uv has this Python" in outcome.err
        assert result_of(project)["digest"] == digest

    def test_is_an_error_with_the_key(self, bench: Bench) -> None:
        outcome = bench.build(project_of(bench, bench.wheel("alpha"), base=self.NOWHERE), HATCH_DOCKER_BYTECODE="true")
        assert outcome.code == 1
        assert "nothing here compiles modules for CPython 3.13.99" in outcome.err
        assert "Traceback" not in outcome.err

    def test_all_platforms_are_without(self, bench: Bench) -> None:
        other = FakeBase(python=f"{MINOR}.99", architecture="arm64", files=BASE.files)
        project = bench.project(wheels=[bench.wheel("alpha")], base=bench.base(BASE, other))
        platforms = {"HATCH_DOCKER_PLATFORMS": "linux/amd64,linux/arm64"}
        outcome = bench.build(project, HATCH_DOCKER_BYTECODE="", **platforms)
        assert outcome.code == 0
        assert "linux/arm64: the image has no bytecode" in outcome.err
        for image in result_of(project)["images"]:
            assert not any("bytecode" in name for each in image["layers"] for name in each["contents"])
        failed = bench.build(project, HATCH_DOCKER_BYTECODE="true", **platforms)
        assert failed.code == 1
        assert "linux/arm64" in failed.err


class TestFilesOfAProject:
    def test_are_compared_with_their_source(self, bench: Bench) -> None:
        folder = bench.root / "files"
        folder.mkdir()
        (folder / "main.py").write_text("import lib.core\n")
        (folder / "lib").mkdir()
        (folder / "lib/core.py").write_text("VALUE = 1\n")
        (folder / "requirements.txt").write_text("")

        def build() -> Made:
            base = {"HATCH_DOCKER_BASE": f"oci:{bench.base(BASE)}", "HATCH_DOCKER_OUTPUTS": "archive"}
            outcome = command(
                "build", env=environment(bench.cache, **base, HATCH_DOCKER_BYTECODE="true"), folder=folder
            )
            assert outcome.code == 0, outcome.err
            return read(archive_of(folder))

        made = build()
        assert flags(made.contents[pyc("app/lib/core.py")]) == CHECKED
        assert code(made.contents[pyc("app/lib/core.py")]).co_filename == "/app/lib/core.py"
        (folder / "lib/core.py").write_text("VALUE = 2\n")
        again = build()
        assert again.contents[pyc("app/lib/core.py")][8:16] == source_hash(b"VALUE = 2\n")
        assert again.contents[pyc("app/main.py")] == made.contents[pyc("app/main.py")]


class TestPlan:
    @pytest.mark.parametrize("most", ["4", "40"])
    def test_has_the_layers_of_the_build(self, bench: Bench, most: str) -> None:
        wheels = [bench.wheel("big", files={"big.bin": bytes(1_100_000)}, method=0), bench.wheel("small")]
        project = project_of(bench, *wheels)
        env = environment(bench.cache, HATCH_DOCKER_BYTECODE="true", HATCH_DOCKER_MAX_LAYERS=most)

        def planned() -> list[dict[str, Any]]:
            outcome = command("plan", "--json", env=env, folder=project)
            assert outcome.code == 0, outcome.err
            layers: list[dict[str, Any]] = json.loads(outcome.out)["images"][0]["layers"]
            return layers

        before = [", ".join(each["contents"]) for each in planned()]
        with_bytecode(bench, project, HATCH_DOCKER_MAX_LAYERS=most)
        assert before == contents(project)
        after = planned()
        assert [", ".join(each["contents"]) for each in after] == contents(project)
        known = [each for each in after if each["cached"] is True]
        sizes = {", ".join(each["contents"]): each["size"] for each in result_of(project)["layers"]}
        assert all(each["size"] == sizes[", ".join(each["contents"])] for each in known)
        assert len(known) == (2 if most == "4" else len(after) - 2)


def test_names_are_those_that_this_python_uses() -> None:
    from importlib.util import cache_from_source

    from prepared_maker import TARGET

    from hatch_docker.base.target import TargetPython
    from hatch_docker.image.bytecode.select import cache_name

    python = TargetPython(
        version=VERSION, interpreter="/usr/bin/python3", platform=TARGET.platform, libc=TARGET.libc, free_threaded=True
    )
    assert sys.implementation.cache_tag == TAG
    for level in (0, 1, 2, 3):
        expected = cache_from_source("a/b.py", optimization=level or "")
        assert cache_name("a/b.py", python, level) == expected.replace("\\", "/")
