from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from elf_maker import CPUS, make_library
from fake_index import Notes
from hypothesis import given
from hypothesis import strategies as st
from prepared_maker import TARGET, make_prepared

from hatch_docker.base.interpreter import BaseFacts
from hatch_docker.base.target import MACHINES, Libc
from hatch_docker.errors import LinkageError
from hatch_docker.image.linkage import check_linkage, problems_of
from hatch_docker.oci.spec import Platform
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


@pytest.fixture
def own(tmp_path: Path) -> PreparedWheel:
    return make_prepared(tmp_path / "own", "app")


def wheel(folder: Path, files: Mapping[str, bytes], name: str = "demo", platform: str = GLIBC) -> PreparedWheel:
    python = "py3-none" if platform == "any" else "cp313-cp313"
    return make_prepared(folder, name, files, filename=f"{name}-1.0-{python}-{platform}.whl")


def missing(base: BaseFacts, own: PreparedWheel, *wheels: PreparedWheel) -> list[str]:
    """The libraries that are missing, and the messages of what else is wrong."""
    return [each.library or each.message for each in problems_of([*wheels, own], base)]


class TestFound:
    @pytest.mark.parametrize(
        "needed",
        [
            ["libz.so.1", "libssl.so.3"],
            ["libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2", "libdl.so.2", "librt.so.1"],
            ["libcuda.so.1", "libnvidia-ml.so.1"],
            ["/usr/lib/libz.so.1"],
        ],
    )
    def test_in_the_base_or_brought_by_what_runs_it(
        self, tmp_path: Path, own: PreparedWheel, needed: list[str]
    ) -> None:
        assert missing(SLIM, own, wheel(tmp_path, {"demo/a.so": make_library(needed)})) == []

    def test_musl_takes_some_names_for_its_own(self, tmp_path: Path, own: PreparedWheel) -> None:
        library = make_library(["libc.musl-x86_64.so.1", "libpthread.so.0", "ld-musl-x86_64.so.1", "libcrypt.so.2"])
        assert missing(ALPINE, own, wheel(tmp_path, {"demo/a.so": library}, platform=MUSL)) == ["libcrypt.so.2"]

    def test_in_the_wheel_itself_as_auditwheel_puts_it(self, tmp_path: Path, own: PreparedWheel) -> None:
        files = {
            "demo/a.so": make_library(["libpq-1a2b.so.5.17"], runpath="$ORIGIN/../demo.libs"),
            "demo.libs/libpq-1a2b.so.5.17": make_library(soname="libpq-1a2b.so.5.17"),
        }
        assert missing(SLIM, own, wheel(tmp_path, files)) == []

    def test_in_another_wheel_that_is_loaded_by_hand(self, tmp_path: Path, own: PreparedWheel) -> None:
        user = wheel(tmp_path, {"demo/a.so": make_library(["libcublas.so.12", "libtorch.so"])})
        cuda = wheel(tmp_path, {"nvidia/cublas/lib/libcublas.so.12": make_library()}, "nvidia_cublas")
        torch = wheel(tmp_path, {"torch/lib/libtorch-x.so": make_library(soname="libtorch.so")}, "torch")
        assert missing(SLIM, own, user, cuda, torch) == []
        assert missing(SLIM, own, user, cuda) == ["libtorch.so"]

    def test_what_is_pruned_is_not_there_and_needs_nothing(self, tmp_path: Path, own: PreparedWheel) -> None:
        files = {"demo/a.so": make_library(["libb.so"]), "demo/libb.so": make_library(["libgone.so.1"])}
        whole = wheel(tmp_path, files)
        assert missing(SLIM, own, whole) == ["libgone.so.1"]
        assert missing(SLIM, own, replace(whole, pruned=frozenset({"demo/libb.so"}))) == ["libb.so"]
        assert missing(SLIM, own, replace(whole, pruned=frozenset(files))) == []

    @pytest.mark.parametrize(
        ("rpath", "runpath", "found"),
        [
            ("", "/opt/oracle/lib", True),
            ("/none:/opt/oracle/lib/", "", True),
            ("/opt/oracle/lib", "/opt/other", False),
            ("", "/usr/lib/x86_64-linux-gnu/", False),
            ("", "$ORIGIN", False),
        ],
    )
    def test_in_a_directory_of_the_base_that_it_names(
        self, tmp_path: Path, own: PreparedWheel, rpath: str, runpath: str, found: bool
    ) -> None:
        library = make_library(["libclntsh.so.19.1"], rpath=rpath, runpath=runpath)
        assert missing(SLIM, own, wheel(tmp_path, {"demo/a.so": library})) == ([] if found else ["libclntsh.so.19.1"])

    def test_one_for_another_machine_helps_nobody(self, tmp_path: Path, own: PreparedWheel) -> None:
        files = {"demo/a.so": make_library(["libb.so"]), "demo/arm/libb.so": make_library(machine="aarch64")}
        assert missing(SLIM, own, wheel(tmp_path, files, platform="any")) == ["libb.so"]


class TestAnotherSystem:
    @pytest.mark.parametrize(
        ("base", "library", "why"),
        [
            (SLIM, make_library(machine="aarch64"), "is for aarch64, and the image for x86_64"),
            (SLIM, make_library(machine="i686"), "is for i686, and the image for x86_64"),
            (SLIM, make_library(["libc.musl-x86_64.so.1"]), "is linked to musl, and the image has glibc"),
            (ALPINE, make_library(["libc.so.6"]), "is linked to glibc, and the image has musl"),
            (ALPINE, make_library(["ld-linux-x86-64.so.2"]), "is linked to glibc, and the image has musl"),
        ],
    )
    def test_another_cpu_or_c_library_is_named(
        self, tmp_path: Path, own: PreparedWheel, base: BaseFacts, library: bytes, why: str
    ) -> None:
        assert missing(base, own, wheel(tmp_path, {"demo/a.so": library})) == [why]
        assert missing(base, own, wheel(tmp_path, {"demo/a.so": library}, platform="any")) == []

    @given(st.sampled_from([*MACHINES.items()]), st.sampled_from([*CPUS]))
    def test_the_machine_is_right_if_and_only_if_it_is_the_target_s(self, machine: tuple[str, str], its: str) -> None:
        base = replace(SLIM, python=replace(TARGET, platform=Platform(architecture=machine[0])))
        one = make(libraries={"a.so": Library(machine=its)})
        assert bool(problems_of([one, make()], base)) == (its != machine[1])

    def test_wheels_that_carry_something_for_several_systems(self, tmp_path: Path, own: PreparedWheel) -> None:
        files = {
            "demo/a.so": make_library(),
            "demo/x86.so": make_library(machine="i686"),
            "demo/m.so": make_library(["libc.so"]),
        }
        one, notes = wheel(tmp_path, files), Notes()
        assert [each.mixed for each in problems_of([one, own], SLIM)] == [True, True]
        check_linkage([one, own], SLIM, compiled=set(), progress=notes)
        assert notes.notes == []
        # What we compiled ought to be for one.
        check_linkage([one, own], SLIM, compiled={"demo"}, progress=notes)
        assert notes.notes == ["warning: demo: demo/m.so is linked to musl, and the image has glibc (and 1 more)"]


def make(libraries: Mapping[str, Library] = {}) -> PreparedWheel:
    """A unit without a file."""
    from hatch_docker.wheels.facts import WheelFacts

    facts = WheelFacts(
        name="demo",
        version="1",
        requires_dist=(),
        requires_python="",
        scripts={},
        data="demo-1.data",
        files=dict.fromkeys(libraries, ""),
        reaches={},
        sources=(),
        libraries=libraries,
    )
    return PreparedWheel(facts=facts, filename=f"demo-1-cp313-cp313-{GLIBC}.whl", path=Path(), digest="")


class TestSeverity:
    LACKING: Mapping[str, bytes] = {
        "cv/a.so": make_library(["libGL.so.1", "libX11.so.6", "libc.so.6"]),
        "cv/b.so": make_library(["libGL.so.1"]),
    }

    def test_a_ready_made_wheel_gets_one_warning_with_what_to_write(self, tmp_path: Path, own: PreparedWheel) -> None:
        notes = Notes()
        check_linkage([wheel(tmp_path, self.LACKING, "Open_CV"), own], SLIM, compiled={"app"}, progress=notes)
        (note,) = notes.notes
        assert note.startswith("warning: open-cv needs libGL.so.1, libX11.so.6, which the image lacks: ")
        assert note.endswith('runtime-packages = ["libgl1", "libx11-6"]')

    def test_on_alpine_with_alpines_names(self, tmp_path: Path, own: PreparedWheel) -> None:
        notes, library = Notes(), make_library(["libstdc++.so.6", "libc.musl-x86_64.so.1"])
        check_linkage([wheel(tmp_path, {"a.so": library}, platform=MUSL), own], ALPINE, compiled=set(), progress=notes)
        assert notes.notes == [
            'warning: demo needs libstdc++.so.6, which the image lacks: runtime-packages = ["libstdc++"]'
        ]

    def test_without_a_package_manager_only_the_library_is_named(self, tmp_path: Path, own: PreparedWheel) -> None:
        notes, base = Notes(), replace(SLIM, directories=frozenset())
        check_linkage([wheel(tmp_path, self.LACKING), own], base, compiled=set(), progress=notes)
        assert notes.notes == ["warning: demo needs libGL.so.1, libX11.so.6, which the image lacks"]

    def test_many_plugins_do_not_fill_the_screen_and_what_most_need_comes_first(
        self, tmp_path: Path, own: PreparedWheel
    ) -> None:
        libraries = [f"libunheard{number}.so.1" for number in range(50)]
        files = {"a.so": make_library([*libraries, "libpq.so.5"]), "b.so": make_library(["libpq.so.5"])}
        notes = Notes()
        check_linkage([wheel(tmp_path, files), own], SLIM, compiled=set(), progress=notes)
        (note,) = notes.notes
        assert note.startswith("warning: demo needs libpq.so.5, libunheard0.so.1, libunheard1.so.1 and 48 more, which")
        assert note.endswith(': runtime-packages = ["libpq5"]')

    def test_what_we_compiled_has_to_be_right_all_of_it_at_once(self, tmp_path: Path) -> None:
        one = wheel(tmp_path, {"one/a.so": make_library(["libpq.so.5", "libodd.so.1"])}, "one")
        own = wheel(tmp_path, {"app/_x.so": make_library(["libffi.so.8", "libpq.so.5"])}, "app")
        other = wheel(tmp_path, self.LACKING, "other")
        notes = Notes()
        with pytest.raises(LinkageError) as caught:
            check_linkage([one, other, own], SLIM, compiled={"one", "app"}, progress=notes)
        assert caught.value.message.splitlines()[1:] == [
            "  one: one/a.so needs libpq.so.5, which the image lacks",
            "  one: one/a.so needs libodd.so.1, which the image lacks",
            "  app: app/_x.so needs libffi.so.8, which the image lacks",
            "  app: app/_x.so needs libpq.so.5, which the image lacks",
        ]
        assert caught.value.hint.startswith('runtime-packages = ["libpq5", "libffi8"]\n')
        assert "has libodd.so.1" in caught.value.hint
        assert [note.split()[1] for note in notes.notes] == ["other"]

    def test_what_we_compiled_for_another_system(self, tmp_path: Path, own: PreparedWheel) -> None:
        one = wheel(tmp_path, {"one/a.so": make_library(["libc.so.6"])}, "one")
        with pytest.raises(LinkageError, match=r"one: one/a\.so is linked to glibc, and the image has musl") as caught:
            check_linkage([one, own], ALPINE, compiled={"one"}, progress=Notes())
        assert "builder of the image's kind" in caught.value.hint

    def test_nothing_is_said_where_nothing_is_wrong(self, tmp_path: Path) -> None:
        own = wheel(tmp_path, {"app/_x.so": make_library(["libz.so.1"])}, "app")
        notes = Notes()
        check_linkage([make_prepared(tmp_path, "pure"), own], SLIM, compiled={"app"}, progress=notes)
        assert notes.notes == []
