from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from elf_maker import CPUS, make_library
from fake_index import Notes
from hypothesis import given
from hypothesis import strategies as st
from prepared_maker import TARGET, make_prepared

from hatch_docker.base.facts import BaseFacts
from hatch_docker.base.target import MACHINES, Libc
from hatch_docker.errors import LinkageError
from hatch_docker.image.linkage import check_linkage, problems_of
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.elf import Library
from hatch_docker.wheels.prepare import PreparedWheel

SLIM = BaseFacts(
    python=TARGET,
    links={},
    directories=frozenset({"etc/apt", "opt/oracle/lib", "usr/lib/x86_64-linux-gnu"}),
    occupied=False,
    libraries=frozenset({"libz.so.1", "libssl.so.3", "libstdc++.so.6"}),
)
ALPINE = replace(
    SLIM,
    python=replace(TARGET, libc=Libc(kind="musl", version=(1, 2))),
    directories=frozenset({"etc/apk"}),
    libraries=frozenset({"libz.so.1"}),
)
GLIBC, MUSL = "manylinux_2_28_x86_64", "musllinux_1_2_x86_64"


def wheel(folder: Path, files: Mapping[str, bytes], name: str = "demo", platform: str = GLIBC) -> PreparedWheel:
    python = "py3-none" if platform == "any" else "cp313-cp313"
    return make_prepared(folder, name, files, filename=f"{name}-1.0-{python}-{platform}.whl")


def missing(base: BaseFacts, *wheels: PreparedWheel) -> list[str]:
    """The libraries that are missing, and the messages of other problems."""
    return [each.library or each.message for each in problems_of(wheels, base)]


class TestSearch:
    @pytest.mark.parametrize(
        "needed",
        [
            ["libz.so.1", "libssl.so.3"],
            ["libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2", "libdl.so.2", "librt.so.1"],
            ["libcuda.so.1", "libnvidia-ml.so.1"],
            ["/usr/lib/libz.so.1"],
        ],
    )
    def test_finds_libraries_of_the_base_the_c_library_and_the_gpu_driver(
        self, tmp_path: Path, needed: list[str]
    ) -> None:
        assert missing(SLIM, wheel(tmp_path, {"demo/a.so": make_library(needed)})) == []

    def test_musl_reserves_some_names(self, tmp_path: Path) -> None:
        library = make_library(["libc.musl-x86_64.so.1", "libpthread.so.0", "ld-musl-x86_64.so.1", "libcrypt.so.2"])
        assert missing(ALPINE, wheel(tmp_path, {"demo/a.so": library}, platform=MUSL)) == ["libcrypt.so.2"]

    def test_finds_libraries_that_auditwheel_added_to_the_wheel(self, tmp_path: Path) -> None:
        files = {
            "demo/a.so": make_library(["libpq-1a2b.so.5.17"], runpath="$ORIGIN/../demo.libs"),
            "demo.libs/libpq-1a2b.so.5.17": make_library(soname="libpq-1a2b.so.5.17"),
        }
        assert missing(SLIM, wheel(tmp_path, files)) == []

    def test_finds_libraries_of_other_wheels(self, tmp_path: Path) -> None:
        user = wheel(tmp_path, {"demo/a.so": make_library(["libcublas.so.12", "libtorch.so"])})
        cuda = wheel(tmp_path, {"nvidia/cublas/lib/libcublas.so.12": make_library()}, "nvidia_cublas")
        torch = wheel(tmp_path, {"torch/lib/libtorch-x.so": make_library(soname="libtorch.so")}, "torch")
        assert missing(SLIM, user, cuda, torch) == []
        assert missing(SLIM, user, cuda) == ["libtorch.so"]

    def test_ignores_pruned_files(self, tmp_path: Path) -> None:
        files = {"demo/a.so": make_library(["libb.so"]), "demo/libb.so": make_library(["libgone.so.1"])}
        whole = wheel(tmp_path, files)
        assert missing(SLIM, whole) == ["libgone.so.1"]
        assert missing(SLIM, replace(whole, pruned={"demo/libb.so": "globs"})) == ["libb.so"]
        assert missing(SLIM, replace(whole, pruned=dict.fromkeys(files, "globs"))) == []

    @pytest.mark.parametrize(
        ("rpath", "runpath", "accepted"),
        [
            ("", "/opt/oracle/lib", True),
            ("/none:/opt/oracle/lib/", "", True),
            ("/opt/oracle/lib", "/opt/other", False),
            ("", "/usr/lib/x86_64-linux-gnu/", False),
            ("", "$ORIGIN", False),
        ],
    )
    def test_accepts_libraries_in_other_directories_of_the_base(
        self, tmp_path: Path, rpath: str, runpath: str, accepted: bool
    ) -> None:
        library = make_library(["libclntsh.so.19.1"], rpath=rpath, runpath=runpath)
        assert missing(SLIM, wheel(tmp_path, {"demo/a.so": library})) == ([] if accepted else ["libclntsh.so.19.1"])

    def test_ignores_libraries_for_another_cpu(self, tmp_path: Path) -> None:
        files = {"demo/a.so": make_library(["libb.so"]), "demo/arm/libb.so": make_library(machine="aarch64")}
        assert missing(SLIM, wheel(tmp_path, files, platform="any")) == ["libb.so"]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


class TestMismatch:
    @pytest.mark.parametrize(
        ("base", "library", "message"),
        [
            (SLIM, make_library(machine="aarch64"), "is for aarch64, and the image for x86_64"),
            (SLIM, make_library(machine="i686"), "is for i686, and the image for x86_64"),
            (SLIM, make_library(["libc.musl-x86_64.so.1"]), "is linked to musl, and the image has glibc"),
            (ALPINE, make_library(["libc.so.6"]), "is linked to glibc, and the image has musl"),
            (ALPINE, make_library(["ld-linux-x86-64.so.2"]), "is linked to glibc, and the image has musl"),
        ],
    )
    def test_names_the_other_cpu_or_c_library(
        self, tmp_path: Path, base: BaseFacts, library: bytes, message: str
    ) -> None:
        assert missing(base, wheel(tmp_path, {"demo/a.so": library})) == [message]
        assert missing(base, wheel(tmp_path, {"demo/a.so": library}, platform="any")) == []

    @given(st.sampled_from([*MACHINES.items()]), st.sampled_from([*CPUS]))
    def test_reports_every_cpu_but_the_target_s(self, machine: tuple[str, str], cpu: str) -> None:
        base = replace(SLIM, python=replace(TARGET, platform=Platform(architecture=machine[0])))
        one = make(libraries={"a.so": Library(machine=cpu)})
        assert bool(problems_of([one, make()], base)) == (cpu != machine[1])

    def test_accepts_ready_made_wheels_with_libraries_for_several_systems(self, tmp_path: Path, cache: Cache) -> None:
        files = {
            "demo/a.so": make_library(),
            "demo/x86.so": make_library(machine="i686"),
            "demo/m.so": make_library(["libc.so"]),
        }
        one, notes = wheel(tmp_path, files), Notes()
        assert [each.mixed for each in problems_of([one], SLIM)] == [True, True]
        check_linkage([one], SLIM, cache=cache, compiled=set(), progress=notes)
        assert notes.notes == []
        # A wheel that was compiled for the image should be for one system.
        check_linkage([one], SLIM, cache=cache, compiled={"demo"}, progress=notes)
        assert notes.notes == ["warning: demo: demo/m.so is linked to musl, and the image has glibc (and 1 more)"]


def make(libraries: Mapping[str, Library] = {}) -> PreparedWheel:
    """A prepared wheel without a file."""
    from hatch_docker.wheels.facts import WheelFacts

    facts = WheelFacts(
        name="demo",
        version="1",
        requires_dist=(),
        requires_python="",
        scripts={},
        data="demo-1.data",
        files=dict.fromkeys(libraries, ""),
        sizes=(),
        zipped=0,
        uses={},
        suites={},
        built=frozenset(),
        libraries=libraries,
    )
    return PreparedWheel(facts=facts, filename=f"demo-1-cp313-cp313-{GLIBC}.whl", digest="", get=lambda _stop: Path())


class TestSeverity:
    LACKING: Mapping[str, bytes] = {
        "cv/a.so": make_library(["libGL.so.1", "libX11.so.6", "libc.so.6"]),
        "cv/b.so": make_library(["libGL.so.1"]),
    }

    def test_warns_once_about_a_ready_made_wheel_with_the_setting_to_add(self, tmp_path: Path, cache: Cache) -> None:
        notes = Notes()
        check_linkage([wheel(tmp_path, self.LACKING, "Open_CV")], SLIM, cache=cache, compiled={"app"}, progress=notes)
        (note,) = notes.notes
        assert note.startswith("warning: open-cv needs libGL.so.1, libX11.so.6, which the image lacks: ")
        assert note.endswith('runtime-packages = ["libgl1", "libx11-6"]')

    def test_suggests_alpine_s_packages_on_alpine(self, tmp_path: Path, cache: Cache) -> None:
        notes, library = Notes(), make_library(["libstdc++.so.6", "libc.musl-x86_64.so.1"])
        check_linkage(
            [wheel(tmp_path, {"a.so": library}, platform=MUSL)], ALPINE, cache=cache, compiled=set(), progress=notes
        )
        assert notes.notes == [
            'warning: demo needs libstdc++.so.6, which the image lacks: runtime-packages = ["libstdc++"]'
        ]

    def test_suggests_debian_s_packages_on_a_debian_without_apt(self, tmp_path: Path, cache: Cache) -> None:
        notes, base = Notes(), replace(SLIM, directories=frozenset(), suite="trixie")
        library = make_library(["libgomp.so.1.0.0", "libtbb.so.12"])
        check_linkage([wheel(tmp_path, {"a.so": library})], base, cache=cache, compiled=set(), progress=notes)
        assert notes.notes[0].endswith('which the image lacks: runtime-packages = ["libgomp1", "libtbb12"]')

    def test_suggests_nothing_without_a_package_manager(self, tmp_path: Path, cache: Cache) -> None:
        notes, base = Notes(), replace(SLIM, directories=frozenset())
        check_linkage([wheel(tmp_path, self.LACKING)], base, cache=cache, compiled=set(), progress=notes)
        assert notes.notes == ["warning: demo needs libGL.so.1, libX11.so.6, which the image lacks"]

    def test_limits_the_libraries_of_a_warning_to_those_that_most_files_need(
        self, tmp_path: Path, cache: Cache
    ) -> None:
        libraries = [f"libunheard{number}.so.1" for number in range(50)]
        files = {"a.so": make_library([*libraries, "libpq.so.5"]), "b.so": make_library(["libpq.so.5"])}
        notes = Notes()
        check_linkage([wheel(tmp_path, files)], SLIM, cache=cache, compiled=set(), progress=notes)
        (note,) = notes.notes
        assert note.startswith("warning: demo needs libpq.so.5, libunheard0.so.1, libunheard1.so.1 and 48 more, which")
        assert note.endswith(': runtime-packages = ["libpq5"]')

    def test_reports_all_problems_of_compiled_wheels_as_one_error(self, tmp_path: Path, cache: Cache) -> None:
        one = wheel(tmp_path, {"one/a.so": make_library(["libpq.so.5", "libodd.so.1"])}, "one")
        own = wheel(tmp_path, {"app/_x.so": make_library(["libffi.so.8", "libpq.so.5"])}, "app")
        other = wheel(tmp_path, self.LACKING, "other")
        notes = Notes()
        with pytest.raises(LinkageError) as caught:
            check_linkage([one, other, own], SLIM, cache=cache, compiled={"one", "app"}, progress=notes)
        assert caught.value.message.splitlines()[1:] == [
            "  one: one/a.so needs libpq.so.5, which the image lacks",
            "  one: one/a.so needs libodd.so.1, which the image lacks",
            "  app: app/_x.so needs libffi.so.8, which the image lacks",
            "  app: app/_x.so needs libpq.so.5, which the image lacks",
        ]
        assert caught.value.hint.startswith('runtime-packages = ["libpq5", "libffi8"]\n')
        assert "has libodd.so.1" in caught.value.hint
        assert [note.split()[1] for note in notes.notes] == ["other"]

    def test_reports_a_compiled_wheel_with_another_c_library(self, tmp_path: Path, cache: Cache) -> None:
        one = wheel(tmp_path, {"one/a.so": make_library(["libc.so.6"])}, "one")
        with pytest.raises(LinkageError, match=r"one: one/a\.so is linked to glibc, and the image has musl") as caught:
            check_linkage([one], ALPINE, cache=cache, compiled={"one"}, progress=Notes())
        assert "builder with the image's libc" in caught.value.hint

    OPTIONAL: Mapping[str, bytes] = {
        "demo/np/omp.cpython-313-x86_64-linux-gnu.so": make_library(["libgomp.so.1"]),
        "demo/tbb.so": make_library(["libtbb.so.12", "libgomp.so.1"]),
        "demo/__init__.py": b"try:\n    from . import tbb as lib\nexcept ImportError:\n    lib = None\n",
        "demo/np/parallel.py": b"try:\n if x:\n  from demo.np import omp as lib\nexcept (OSError, ImportError): x\n",
        "demo/tests/x.py": b"from demo.np import omp\n",
    }

    @pytest.mark.parametrize("compiled", [set(), {"demo"}])
    def test_notes_what_only_optional_modules_need(self, tmp_path: Path, cache: Cache, compiled: set[str]) -> None:
        notes = Notes()
        check_linkage([wheel(tmp_path, self.OPTIONAL)], SLIM, cache=cache, compiled=compiled, progress=notes)
        what = "demo has optional modules that need libgomp.so.1, libtbb.so.12, which the image lacks"
        assert notes.notes == [f'{what}: runtime-packages = ["libgomp1", "libtbb12"]']

    def test_warns_about_a_module_that_is_needed_elsewhere(self, tmp_path: Path, cache: Cache) -> None:
        notes = Notes()
        files = {**self.OPTIONAL, "demo/main.py": b"from .np.omp import run\n"}
        check_linkage([wheel(tmp_path, files)], SLIM, cache=cache, compiled=set(), progress=notes)
        assert [each.startswith("warning: demo needs libgomp.so.1, which") for each in notes.notes] == [False, True]

    def test_reports_nothing_without_a_problem(self, tmp_path: Path, cache: Cache) -> None:
        own = wheel(tmp_path, {"app/_x.so": make_library(["libz.so.1"])}, "app")
        notes = Notes()
        check_linkage([make_prepared(tmp_path, "pure"), own], SLIM, cache=cache, compiled={"app"}, progress=notes)
        assert notes.notes == []
