from __future__ import annotations

import io
import json
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
from elf_maker import CPUS, make_library
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many
from wheel_maker import make_wheel

from hatch_docker.base.target import MACHINES
from hatch_docker.errors import WheelError
from hatch_docker.support.elf import Library, read_library, read_library_at
from hatch_docker.wheels.facts import WheelFacts, read_facts
from hatch_docker.wheels.wheelfile import WheelFile

CHUNK = 1 << 18


def chunks(data: bytes, size: int = CHUNK) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def read(data: bytes, size: int = CHUNK) -> Library | None:
    return read_library(partial(chunks, data, size))


def oracle(data: bytes) -> tuple[str, list[str], list[str]] | None:
    """As pyelftools reads it: soname, needed, search path."""
    elf = ELFFile(io.BytesIO(data))
    section = next((each for each in elf.iter_segments() if isinstance(each, DynamicSegment)), None)
    if section is None:
        return None
    tags = list(section.iter_tags())
    names = {kind: [getattr(tag, kind) for tag in tags if hasattr(tag, kind)] for kind in ("needed", "soname")}
    search = [tag.runpath for tag in tags if hasattr(tag, "runpath")] or [t.rpath for t in tags if hasattr(t, "rpath")]
    return "".join(names["soname"]), names["needed"], [each for path in search for each in path.split(":") if each]


def compare(data: bytes) -> None:
    library = read(data)
    assert (library and (library.soname, [*library.needed], [*library.search])) == oracle(data)


REAL = sorted(
    {
        path.resolve()
        for directory in {Path(sysconfig.get_path("stdlib")) / "lib-dynload", Path(sysconfig.get_path("platlib"))}
        for path in directory.rglob("*.so*")
        if path.is_file() and path.stat().st_size < 20 << 20
    }
)[:60]


@pytest.mark.skipif(sys.platform != "linux", reason="its libraries are not in ELF")
def test_reads_the_hosts_libraries_as_pyelftools_does() -> None:
    assert REAL
    for path in REAL:
        if (data := path.read_bytes()).startswith(b"\x7fELF"):
            compare(data)


@pytest.mark.network
def test_reads_libraries_of_real_wheels_as_pyelftools_does(tmp_path: Path) -> None:
    # Repaired by auditwheel; musl; another byte order.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    for name, platform in (
        ("cffi==1.17.1", "manylinux2014_x86_64"),
        ("markupsafe==3.0.2", "musllinux_1_2_aarch64"),
        ("cffi==1.17.1", "manylinux2014_s390x"),
    ):
        subprocess.run(
            [*command, "-d", str(tmp_path), "--python-version=3.13", f"--platform={platform}", name], check=True
        )
    found = []
    for wheel in sorted(tmp_path.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for path in archive.namelist():
                if ".so" in path:
                    compare(archive.read(path))
                    found.append(read(archive.read(path)))
    assert {library.machine for library in found if library} == {"x86_64", "aarch64", "s390x"}
    assert {library.libc for library in found if library} == {"glibc", "musl"}


names = st.text("abcdefghijklmnopqrstuvwxyz-_.0123456789+", min_size=1, max_size=40)


@given(
    st.lists(names, max_size=5),
    st.one_of(st.just(""), names),
    st.sampled_from([*CPUS]),
    st.integers(0, 9000),
    st.booleans(),
    st.integers(1, 5000),
)
def test_round_trips_with_chunks_of_any_size(
    needed: list[str], soname: str, machine: str, padding: int, strings_first: bool, size: int
) -> None:
    data = make_library(needed, soname=soname, machine=machine, padding=padding, strings_first=strings_first)
    assert read(data, size) == Library(machine=machine, needed=tuple(needed), soname=soname)
    assert read_library_at(lambda start, length: data[start : start + length]) == read(data)
    compare(data)


def test_knows_the_machine_of_every_target() -> None:
    assert {*CPUS} == {*MACHINES.values()}


def test_runpath_takes_precedence_over_rpath() -> None:
    library = read(make_library(rpath="/old", runpath="$ORIGIN/../x.libs:/opt/lib"))
    assert library
    assert library.search == ("$ORIGIN/../x.libs", "/opt/lib")
    old = read(make_library(rpath="${ORIGIN}::/opt"))
    assert old
    assert old.search == ("${ORIGIN}", "/opt")


@pytest.mark.parametrize(
    ("needed", "libc"),
    [
        (["libm.so.6", "libc.so.6"], "glibc"),
        (["ld-linux-x86-64.so.2"], "glibc"),
        (["libc.musl-x86_64.so.1"], "musl"),
        (["libc.so"], "musl"),
        (["libfoo.so.1"], ""),
        ([], ""),
    ],
)
def test_recognizes_the_c_library(needed: list[str], libc: str) -> None:
    library = read(make_library(needed))
    assert library
    assert library.libc == libc


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF",
        b"INPUT(libfoo.so.1)",
        b"\x7fELF" + bytes(60),
        b"\x7fELF\2\1" + bytes(1000),
        make_library()[:-1],
        make_library(["lib\x1b[2Jevil.so"]),
        make_library(["a" * 5000]),
    ],
)
def test_ignores_other_files_and_truncated_libraries(data: bytes) -> None:
    assert read(data) is None


def test_reads_only_what_is_needed_and_keeps_little() -> None:
    taken = 0

    def endless(of: bytes) -> Iterator[bytes]:
        nonlocal taken
        for chunk in [*chunks(of, 4096), *[bytes(4096)] * 1000]:
            taken += len(chunk)
            yield chunk

    data = make_library(padding=1 << 20)
    assert read_library(lambda: endless(data))
    # Twice, since the names are before the dynamic section. What follows that section is never read.
    assert taken < len(data) + 5 * 4096
    taken = 0
    assert read_library(lambda: endless(b"no library")) is None
    assert taken <= 4096 + len(b"no library")


SAMPLES = [make_library(["libc.so.6", "libm.so.6"], soname="libx.so.1", runpath="$ORIGIN", machine=cpu) for cpu in CPUS]
SAMPLES += [path.read_bytes() for path in REAL if path.stat().st_size < 40_000][:4]


@settings(max_examples=many(200))
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=9)), min_size=1, max_size=6),
    st.one_of(st.none(), st.integers(0, 4000)),
)
def test_damaged_library_is_read_or_ignored(sample: bytes, changes: list[tuple[int, bytes]], end: int | None) -> None:
    data = bytearray(sample)
    for place, bytes_ in changes:
        data[place : place + len(bytes_)] = bytes_
    library = read(bytes(data[:end]), 1000)
    if library is not None:
        assert Library.from_json(json.loads(json.dumps(library.to_json()))) == library
        assert all(each.isprintable() for each in (library.machine, library.soname, *library.needed, *library.search))


class TestFacts:
    FILES: Mapping[str, bytes] = {
        "demo/_a.cpython-313-x86_64-linux-gnu.so": make_library(["libz-1a2b.so.1"], runpath="$ORIGIN/../demo.libs"),
        "demo.libs/libz-1a2b.so.1.3": make_library(soname="libz-1a2b.so.1", padding=1 << 20),
        "demo/linker-script.so": b"INPUT(-lz)",
        "demo/elsewhere.so.py": make_library(),
        "demo-1.0.data/data/lib/libd.so": make_library([]),
    }

    @pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
    def test_facts_have_the_needs_of_a_wheels_libraries(self, tmp_path: Path, method: int) -> None:
        with WheelFile(make_wheel(tmp_path, files=self.FILES, method=method)) as wheel:
            facts = read_facts(wheel)
        assert facts.libraries == {
            "demo/_a.cpython-313-x86_64-linux-gnu.so": Library(
                machine="x86_64", needed=("libz-1a2b.so.1",), search=("$ORIGIN/../demo.libs",)
            ),
            "demo.libs/libz-1a2b.so.1.3": Library(machine="x86_64", needed=("libc.so.6",), soname="libz-1a2b.so.1"),
            "demo-1.0.data/data/lib/libd.so": Library(machine="x86_64"),
        }
        assert WheelFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts

    def test_damaged_libraries_in_the_cache_are_a_miss(self, tmp_path: Path) -> None:
        with WheelFile(make_wheel(tmp_path, files=self.FILES)) as wheel:
            document = read_facts(wheel).to_json()
        shapes: tuple[object, ...] = (
            [],
            {"a.so": []},
            {"a.so": None},
            {"a.so": ["x86_64", "", [1], []]},
            {"a.so": "abcd" * 2},
        )
        for damaged in shapes:
            assert WheelFacts.from_json({**document, "libraries": damaged}) is None

    def test_damaged_stream_of_a_library_is_a_wheel_error(self, tmp_path: Path) -> None:
        path = make_wheel(tmp_path, files={"demo/a.so": make_library(padding=1 << 20)})
        data = bytearray(path.read_bytes())
        place = data.index(b"demo/a.so") + 300
        data[place : place + 200] = b"\xff" * 200
        path.write_bytes(data)
        with WheelFile(path) as wheel, pytest.raises(WheelError, match=r"demo/a\.so.*damaged") as caught:
            read_facts(wheel)
        assert caught.value.place == path.name
