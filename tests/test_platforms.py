"""Builds for several platforms: one lock and one base for all, an index of their images, and one error for all."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from base_maker import INDEX, MANIFEST, FakeBase
from builds import Bench, archive_of, check_clean, result_of
from command_bench import CommandBench, whole_debian
from compilations import lock_of_sdists
from debian_bench import FakeDebian
from debian_maker import NOW, written
from fake_index import serving
from fake_registry import FakeRegistry
from hypothesis import given
from hypothesis import strategies as st
from project_maker import lock_of
from sdist_maker import make_compiled_sdist

from hatch_docker.engine.client import Engine
from hatch_docker.engine.translate import ForeignError
from hatch_docker.errors import BaseError, EngineError, HatchDockerError, NetworkError, NoWheelError
from hatch_docker.oci.spec import Platform
from hatch_docker.support.progress import Progress
from hatch_docker.support.several import for_each, steps

BOTH = "linux/amd64, linux/arm64"
CPUS = {"amd64": "x86_64", "arm64": "aarch64", "s390x": "s390x"}

pytestmark = pytest.mark.usefixtures("no_waiting")


def documents(archive: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The index in an archive, and its manifests by platform."""
    with tarfile.open(archive) as tar:
        blobs = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]

    def read(descriptor: Mapping[str, Any]) -> Any:
        return json.loads(blobs["blobs/" + descriptor["digest"].replace(":", "/")])

    (entry,) = json.loads(blobs["index.json"])["manifests"]
    index = read(entry)
    return index, {each["platform"]["architecture"]: read(each) for each in index["manifests"]}


class PlatformBench(Bench):
    """Makes wheels for single platforms, and builds for several."""

    def native(self, name: str, *architectures: str) -> list[Path]:
        """A wheel of a distribution for each architecture."""
        return [
            self.wheel(
                name,
                files={f"{name}_cpu.py": each},
                filename=f"{name}-1.0-cp313-cp313-manylinux_2_17_{CPUS[each]}.whl",
                wheel=f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp313-cp313-manylinux_2_17_{CPUS[each]}\n",
            )
            for each in architectures
        ]

    def locked(self, *wheels: Path, **options: Any) -> Path:
        """A project that locks and requires wheels; those of one distribution are one package."""
        by_name: dict[str, list[str]] = {}
        for each in wheels:
            head, package, rest = lock_of(each).partition("[[packages]]")
            stanza, _, file = rest.partition("[[packages.wheels]]")
            by_name.setdefault(each.name.partition("-")[0], [f"{package}{stanza}"]).append(f"[[packages.wheels]]{file}")
        project = self.project(dependencies=[*by_name], **options)
        (project / "pylock.toml").write_text(head + "".join(part for parts in by_name.values() for part in parts))
        return project

    def several(self, project: Path, platforms: str = BOTH, **env: str) -> dict[str, dict[str, Any]]:
        """Build for several platforms; the manifests by architecture."""
        outcome = self.build(project, HATCH_DOCKER_PLATFORMS=platforms, **env)
        assert outcome.code == 0, outcome.err
        return documents(archive_of(project))[1]

    def error(self, project: Path, platforms: str = BOTH, **env: str) -> str:
        """The error message of a build for several platforms."""
        return check_clean(self.build(project, HATCH_DOCKER_PLATFORMS=platforms, **env))


@pytest.fixture
def bench(tmp_path: Path) -> PlatformBench:
    return PlatformBench(tmp_path)


class TestTwoPlatforms:
    @pytest.fixture
    def project(self, bench: PlatformBench) -> Path:
        base = bench.base(FakeBase(), FakeBase(architecture="arm64"))
        native = bench.native("fast", "amd64", "arm64")
        # It has a layer of its own.
        alpha = bench.wheel("alpha", files={"alpha.bin": bytes(1_100_000)}, method=0)
        return bench.locked(*native, alpha, base=base)

    def test_share_layers_of_pure_wheels_and_of_the_project(self, bench: PlatformBench, project: Path) -> None:
        made = bench.several(project, HATCH_DOCKER_MAX_LAYERS="40")
        layers = {name: [each["digest"] for each in manifest["layers"][1:]] for name, manifest in made.items()}
        assert layers["amd64"][-1] == layers["arm64"][-1]
        images = result_of(project)["images"]
        assert [each["platform"] for each in images] == ["linux/amd64", "linux/arm64"]
        contents = [{tuple(each["contents"]): each["digest"] for each in image["layers"]} for image in images]
        assert {key for key in contents[0] if contents[0][key] == contents[1][key]} == {("alpha 1.0",), ("shop 1.0",)}
        assert contents[0][("fast 1.0",)] != contents[1][("fast 1.0",)]

    def test_order_and_names_of_platforms_do_not_matter(self, bench: PlatformBench, project: Path) -> None:
        bench.several(project)
        digest = result_of(project)["digest"]
        bench.several(project, "linux/arm64/v8, linux/x86_64")
        assert result_of(project)["digest"] == digest
        bench.several(project, "all")
        assert result_of(project)["digest"] == digest

    def test_notes_are_printed_once(self, bench: PlatformBench, project: Path) -> None:
        outcome = bench.build(project, HATCH_DOCKER_PLATFORMS=BOTH)
        assert outcome.err.count("lock: pylock.toml") == 1

    def test_one_platform_is_a_plain_manifest(self, bench: PlatformBench, project: Path) -> None:
        made = bench.made(project, HATCH_DOCKER_PLATFORMS="linux/arm64")
        assert made.document["architecture"] == "arm64"


class TestAll:
    def test_stands_for_what_the_base_has_and_wheels_exist_for(self, bench: PlatformBench) -> None:
        bases = (FakeBase(architecture=each) for each in ("s390x", "mips64le", "arm64", "amd64"))
        project = bench.project(base=bench.base(*bases))
        outcome = bench.build(project, HATCH_DOCKER_PLATFORMS="all")
        assert outcome.code == 0, outcome.err
        assert "no wheels exist for linux/mips64le, which the base has too" in outcome.err
        index, _ = documents(archive_of(project))
        assert [each["platform"]["architecture"] for each in index["manifests"]] == ["amd64", "arm64", "s390x"]

    def test_base_has_one_platform(self, bench: PlatformBench) -> None:
        project = bench.project(base=bench.base(FakeBase(architecture="arm64")))
        assert bench.made(project, HATCH_DOCKER_PLATFORMS="all").document["architecture"] == "arm64"


class TestRegistry:
    def test_tag_is_resolved_once_for_all(self, bench: PlatformBench) -> None:
        layout = bench.base(FakeBase(), FakeBase(architecture="arm64"))
        with FakeRegistry() as registry:
            for path in (layout / "blobs" / "sha256").iterdir():
                data = path.read_bytes()
                registry.add_blob("team/base", data)
                if b"layers" in data[:1000]:
                    registry.add_manifest("team/base", "", data, MANIFEST)
            registry.add_manifest("team/base", "1", (layout / "index.json").read_bytes(), INDEX)
            project = bench.project(base="", docker=f'base = "{registry.host}/team/base:1"')
            made = bench.several(project, "all", HATCH_DOCKER_INSECURE_REGISTRIES=registry.host)
            assert made.keys() == {"amd64", "arm64"}
            tag = [each for each in registry.requests if each.path.endswith("/manifests/1")]
            assert len(tag) <= 2, "a HEAD, and a GET if it is new"


class TestRequests:
    def test_index_is_asked_once_for_all(self, bench: PlatformBench) -> None:
        wheels = [*bench.native("fast", "amd64", "arm64"), bench.wheel("alpha")]
        names, lines = ("fast", "alpha"), []
        with serving() as index:
            for name in names:
                files = [each for each in wheels if each.name.startswith(f"{name}-")]
                digests = [index.add(name, each.name, each.read_bytes()) for each in files]
                lines.append(" ".join([f"{name}==1.0", *(f"--hash=sha256:{each}" for each in digests)]))
            base = bench.base(FakeBase(), FakeBase(architecture="arm64"))
            project = bench.project(base=base, dependencies=names)
            (project / "requirements.txt").write_text("\n".join(lines))
            bench.several(project, HATCH_DOCKER_INDEX_URL=index.url)
            assert sorted(index.paths()) == sorted(
                ["/simple/alpha/", "/simple/fast/", *(f"/files/{each.name}" for each in wheels)]
            )


class TestErrors:
    def test_list_what_all_platforms_lack(self, bench: PlatformBench) -> None:
        bases = [FakeBase(architecture=each) for each in ("amd64", "arm64", "s390x")]
        wheels = [*bench.native("fast", "amd64"), *bench.native("swift", "amd64", "arm64")]
        project = bench.locked(*wheels, base=bench.base(*bases))
        message = bench.error(project, "linux/amd64, linux/arm64, linux/s390x")
        assert "2 of 3 platforms cannot be built:" in message
        arm64, _, s390x = message.partition("linux/s390x: ")
        assert "linux/arm64: no wheel for CPython 3.13.5 on linux/arm64" in arm64
        assert "fast 1.0 has wheels for cp313-cp313 on manylinux_2_17_x86_64" in arm64
        assert "swift" not in arm64
        assert "fast 1.0 has wheels" in s390x
        assert "swift 1.0 has wheels for cp313-cp313 on manylinux_2_17_aarch64, manylinux_2_17_x86_64" in s390x

    def test_hint_is_one_lock_for_all(self, bench: PlatformBench) -> None:
        bases = [FakeBase(architecture=each) for each in ("amd64", "arm64", "s390x")]
        project = bench.locked(*bench.native("fast", "amd64"), base=bench.base(*bases))
        message = bench.error(project, "linux/amd64, linux/arm64, linux/s390x")
        assert message.count("hint: ") == 1
        assert "uv pip compile pyproject.toml --universal --python-version 3.13 -o pylock.toml" in message

    def test_platform_without_base_and_platform_without_wheel(self, bench: PlatformBench) -> None:
        base = bench.base(FakeBase(), FakeBase(architecture="arm64"))
        project = bench.locked(*bench.native("fast", "amd64"), base=base)
        message = bench.error(project, "linux/amd64, linux/arm64, linux/riscv64")
        assert "linux/arm64: " in message
        assert "the base image has nothing for linux/riscv64; it has linux/amd64, linux/arm64" in message

    def test_same_error_for_all_is_reported_once(self, bench: PlatformBench) -> None:
        base = bench.base(FakeBase(), FakeBase(architecture="arm64"))
        project = bench.project(base=base)
        (project / "pylock.toml").write_text("not a lock")
        message = bench.error(project)
        assert message.count("pylock.toml") == 1
        assert "platforms cannot" not in message


class NativeEngine:
    """An engine without emulation. Whatever it is asked for besides is recorded in `asked`."""

    platform = Platform(architecture="amd64")

    def __init__(self) -> None:
        self.asked: list[str] = []

    def require(self, platform: Platform) -> None:
        if platform != self.platform:
            raise ForeignError(f"the engine runs no container of {platform}", hint="emulate it")

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        raise EngineError(f"it is asked to {name}")


class TestLoad:
    @pytest.fixture
    def loaded(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The platforms of the images that an engine for amd64 gets."""
        loaded: list[str] = []
        engine = NativeEngine()
        engine.load = lambda image, *_, **_options: loaded.append(image.config.platform.architecture)  # type: ignore[attr-defined]
        monkeypatch.setattr(Engine, "connect", lambda _environ: engine)
        return loaded

    @pytest.mark.parametrize(("platforms", "architecture"), [(BOTH, "amd64"), ("linux/arm64", "arm64")])
    def test_image_of_another_platform_is_mentioned(
        self, bench: PlatformBench, loaded: list[str], platforms: str, architecture: str
    ) -> None:
        project = bench.project(base=bench.base(FakeBase(), FakeBase(architecture="arm64")))
        outcome = bench.build(project, target="docker:load", HATCH_DOCKER_PLATFORMS=platforms)
        assert outcome.code == 0, outcome.err
        assert loaded == [architecture]
        foreign = "the image is for linux/arm64, and the engine for linux/amd64" in outcome.err
        assert foreign == (architecture == "arm64")

    def test_several_need_the_platform_of_the_engine(self, bench: PlatformBench, loaded: list[str]) -> None:
        bases = [FakeBase(architecture=each) for each in ("arm64", "s390x")]
        project = bench.project(base=bench.base(*bases))
        for names in ("linux/arm64, linux/s390x", "all"):
            outcome = bench.build(project, target="docker:load", HATCH_DOCKER_PLATFORMS=names)
            assert "the image is for linux/arm64, linux/s390x, and the engine for linux/amd64" in check_clean(outcome)
        assert loaded == []


class TestCompiling:
    def test_nothing_is_compiled_if_one_platform_cannot_be(
        self, bench: PlatformBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = NativeEngine()
        monkeypatch.setattr(Engine, "connect", lambda _environ: engine)
        project = bench.project(base=bench.base(FakeBase(), FakeBase(architecture="arm64")), dependencies=["demo"])
        (project / "pylock.toml").write_text(lock_of_sdists(make_compiled_sdist(bench.root)))
        message = bench.error(project)
        assert "1 of 2 platforms cannot be built:" in message
        assert "linux/arm64: the engine runs no container of linux/arm64, which is needed to compile" in message
        assert "demo 1.0: " in message
        assert engine.asked == []


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> FakeDebian:
    return whole_debian(tmp_path_factory.mktemp("debian"))


class TestDebian:
    @pytest.fixture
    def bench(self, archive: FakeDebian, tmp_path: Path) -> Iterator[CommandBench]:
        with archive.copy() as debian, serving() as index:
            yield CommandBench(tmp_path, debian, index)

    def built(self, bench: CommandBench, project: Path, platforms: str = BOTH) -> list[dict[str, Any]]:
        outcome = bench.build(project, HATCH_DOCKER_PLATFORMS=platforms)
        assert outcome.code == 0, outcome.err
        images: list[dict[str, Any]] = result_of(project)["images"]
        return images

    def test_reads_one_release_for_all(self, bench: CommandBench) -> None:
        # A rebuild of one architecture only.
        bench.archive.put("netbase", {}, version="1.0-1+b1", architecture="arm64")
        bench.archive.release()
        images = self.built(bench, bench.project(), "all")
        assert [each["platform"] for each in images] == ["linux/amd64", "linux/arm64"]
        releases = [path for path in bench.archive.requests if path.endswith("InRelease")]
        assert len(releases) == len(set(releases)) == 3
        versions = [{one["name"]: one["version"] for one in image["os-packages"]} for image in images]
        assert [each["netbase"] for each in versions] == ["1.0-1", "1.0-1+b1"]

    def test_pins_are_for_all_platforms_or_an_error(self, bench: CommandBench) -> None:
        project = bench.project()
        assert bench.hatch("lock", project=project).code == 0
        outcome = bench.build(project, HATCH_DOCKER_PLATFORMS=BOTH)
        message = check_clean(outcome)
        assert "linux/arm64: " in message
        assert "it has no packages of arm64 for 'base'" in message
        assert "hint: refresh it: hatch-docker lock" in message
        assert bench.hatch("lock", project=project, HATCH_DOCKER_PLATFORMS=BOTH).code == 0
        pinned = [each["digest"] for each in self.built(bench, project)]
        bench.archive.put("netbase", {}, version="2", architecture="arm64")
        bench.archive.release()
        assert [each["digest"] for each in self.built(bench, project)] == pinned

    def test_another_platform_is_pinned_with_the_others_at_one_date(self, bench: CommandBench) -> None:
        project = bench.project()
        assert bench.hatch("lock", project=project).code == 0
        before = (project / "debian.lock").read_text()
        for each in ("amd64", "arm64"):
            bench.archive.put("netbase", {}, version="2", architecture=each)
        bench.archive.release(Date=written(NOW + timedelta(hours=1)))
        (bench.cache / "debian-release").rename(bench.root / "old-releases")
        outcome = bench.hatch("lock", project=project, HATCH_DOCKER_PLATFORMS="linux/arm64")
        assert outcome.code == 0, outcome.err
        mixed = (project / "debian.lock").read_text()
        assert mixed != before
        assert bench.hatch("lock", project=project, HATCH_DOCKER_PLATFORMS=BOTH).code == 0
        images = self.built(bench, project)
        versions = [{one["name"]: one["version"] for one in image["os-packages"]} for image in images]
        assert [each["netbase"] for each in versions] == ["2", "2"]

    def test_pins_of_several_dates_are_refused(self, bench: CommandBench) -> None:
        project = bench.project()
        assert bench.hatch("lock", project=project, HATCH_DOCKER_PLATFORMS=BOTH).code == 0
        path = project / "debian.lock"
        head, middle, tail = path.read_text().partition('purpose = "base"')
        first, second, rest = tail.partition('purpose = "base"')
        path.write_text(head + middle + first + second + rest.replace('dated = "2', 'dated = "1', 1))
        message = check_clean(bench.build(project, HATCH_DOCKER_PLATFORMS=BOTH))
        assert "the lock is stale, the packages for 'base' are of several dates: amd64 of 2" in message
        assert self.built(bench, project, "linux/arm64")
        assert bench.hatch("lock", project=project, HATCH_DOCKER_PLATFORMS=BOTH).code == 0
        assert self.built(bench, project)

    def test_package_that_one_platform_lacks(self, bench: CommandBench) -> None:
        bench.archive.put("other", {}, architecture="amd64")
        bench.archive.release()
        project = bench.project(docker='runtime-packages = ["other"]')
        for outcome in (
            bench.build(project, HATCH_DOCKER_PLATFORMS=BOTH),
            bench.hatch("lock", project=project, HATCH_DOCKER_PLATFORMS=BOTH),
        ):
            message = check_clean(outcome)
            assert "1 of 2 platforms cannot be built:\n  linux/arm64: there is no package 'other' in trixie" in message

    def test_plans_are_apart(self, bench: CommandBench) -> None:
        outcome = bench.hatch("plan", project=bench.project(), HATCH_DOCKER_PLATFORMS=BOTH)
        assert "\n\nshop 1.0 for linux/arm64\n" in outcome.out

    def test_outdated_names_the_platform_of_a_package(self, bench: CommandBench) -> None:
        project = bench.project()
        assert bench.hatch("lock", project=project, HATCH_DOCKER_PLATFORMS=BOTH).code == 0
        bench.archive.put("netbase", {}, version="2", architecture="arm64")
        for each in ("amd64", "arm64"):
            bench.archive.put("tzdata", {}, version="3", architecture=each)
        bench.archive.release()
        outcome = bench.hatch("outdated", project=project, HATCH_DOCKER_PLATFORMS=BOTH)
        assert outcome.code == 0, outcome.err
        names = [line.split("  ")[0] for line in outcome.out.splitlines()[1:]]
        assert names == ["tzdata", "netbase (linux/arm64)"]

    def test_a_resolution_is_made_once(self, bench: CommandBench) -> None:
        bench.offer("alpha")
        project = bench.project(dependencies=["alpha"])
        outcome = bench.hatch("plan", "--json", project=project, HATCH_DOCKER_PLATFORMS=BOTH)
        assert outcome.code == 0, outcome.err
        assert outcome.err.count("resolved 1 requirement") == 1
        assert [each["platform"] for each in json.loads(outcome.out)["images"]] == ["linux/amd64", "linux/arm64"]


_errors = st.sampled_from([None, BaseError("b"), NoWheelError("n", place="p", hint="h"), EngineError("e")])


class Notes(Progress):
    """Keeps notes and warnings."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class TestForEach:
    @given(st.dictionaries(st.text("abc", min_size=1), _errors, min_size=1))
    def test_fails_with_all_errors_or_has_all_results(self, items: dict[str, HatchDockerError | None]) -> None:
        def work(item: HatchDockerError | None, _progress: Progress) -> int:
            if item:
                raise item
            return len(items)

        failed = {name: error for name, error in items.items() if error}
        if not failed:
            assert for_each(items, work, Progress()) == [len(items)] * len(items)
            return
        with pytest.raises(HatchDockerError) as caught:
            for_each(items, work, Progress())
        if len(items) == 1 or (len(failed) == len(items) and len({str(each) for each in failed.values()}) == 1):
            assert caught.value in failed.values()
            return
        assert all(f"\n  {name}: " in str(caught.value) for name in failed)
        assert {error.hint for error in failed.values()} - {""} == set(filter(None, [caught.value.hint]))

    def test_other_errors_end_all(self) -> None:
        tried = []

        def work(item: int, _progress: Progress) -> None:
            tried.append(item)
            raise NetworkError("no answer")

        with pytest.raises(NetworkError, match=r"^no answer$"):
            for_each({"a": 1, "b": 2}, work, Progress())
        assert tried == [1]

    def test_a_step_begins_when_all_items_have_done_the_one_before(self) -> None:
        notes, done = Notes(), list[str]()

        def work(step: str) -> Callable[[int, Progress], int]:
            def one(item: int, progress: Progress) -> int:
                done.append(f"{step}{item}")
                progress.warn(f"{step} of {item}")
                return item + 1

            return one

        with steps(["x", "y"], notes) as step:
            assert step(work("b"), step(work("a"), [1, 5])) == [3, 7]
        assert done == ["a1", "a5", "b2", "b6"]
        assert notes.notes == [f"warning: {each}" for each in ("x: a of 1", "y: a of 5", "x: b of 2", "y: b of 6")]

    def test_warnings_name_those_that_have_them(self) -> None:
        notes = Notes()

        def work(item: int, progress: Progress) -> None:
            progress.note("fact")
            progress.warn("all have it")
            if item:
                progress.warn("some have it")

        for_each({"a": 0, "b": 1, "c": 2}, work, notes)
        assert notes.notes == ["fact", "warning: all have it", "warning: b, c: some have it"]
