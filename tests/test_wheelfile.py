from __future__ import annotations

import hashlib
import json
import stat
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many
from wheel_maker import WHEEL, Rows, make_wheel, member_info, row

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.errors import WheelError
from hatch_docker.oci.layer import Deflated, Plain
from hatch_docker.oci.spec import Platform
from hatch_docker.wheels.facts import WheelFacts, read_facts
from hatch_docker.wheels.install import lay_out
from hatch_docker.wheels.wheelfile import WheelFile
from hatch_docker.wheels.zipmembers import name_of, start_of_directory

TARGET = TargetPython(
    version="3.13.5",
    interpreter="/usr/local/bin/python3.13",
    platform=Platform.parse("linux/amd64"),
    libc=Libc(kind="glibc", version=(2, 41)),
)
INFO = "demo-1.0.dist-info"


def link(path: str) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(path)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, b"/etc/passwd"


def with_row(*rows: tuple[str, str, str]) -> Callable[[Rows], Rows]:
    return lambda known: [*known, *rows]


def test_deflated_content_is_returned_as_compressed(tmp_path: Path) -> None:
    text = b"spam and eggs\n" * 1000
    with WheelFile(make_wheel(tmp_path, files={"demo.py": text})) as wheel:
        content = wheel.content("demo.py")
        assert isinstance(content, Deflated)
        raw = content.read(0, content.compressed_size)
        assert zlib.decompress(raw, wbits=-15) == text
        assert (content.size, content.crc32) == (len(text), zlib.crc32(text))
        assert content.read(3, 5) == raw[3:8]
        assert content.read(content.compressed_size - 1, 1000) == raw[-1:]
        assert wheel.checksum("demo.py") == ("sha256", hashlib.sha256(text).digest())


def test_stored_content_is_read_from_any_offset(tmp_path: Path) -> None:
    text = bytes(range(256)) * 100
    with WheelFile(make_wheel(tmp_path, files={"data.bin": text}, method=zipfile.ZIP_STORED)) as wheel:
        content = wheel.content("data.bin")
        assert isinstance(content, Plain)
        assert (content.read(1000, 10), content.read(5, 5), content.size) == (text[1000:1010], text[5:10], len(text))
        assert wheel.read("data.bin") == text


@pytest.mark.parametrize(("method", "number"), [(zipfile.ZIP_BZIP2, 12), (zipfile.ZIP_LZMA, 14)])
def test_other_methods_are_refused(tmp_path: Path, method: int, number: int) -> None:
    path = make_wheel(tmp_path, files={"data.bin": bytes(1 << 20)}, method=method)
    with pytest.raises(WheelError, match=f"is compressed by method {number}, not stored or deflated") as caught:
        WheelFile(path)
    assert caught.value.place == path.name
    assert caught.value.hint


def test_content_is_read_by_several_threads(tmp_path: Path) -> None:
    files = {f"m{number}.py": f"{number}\n" * 500 for number in range(60)}
    with WheelFile(make_wheel(tmp_path, files=files)) as wheel, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(wheel.read, files)) == [text.encode() for text in files.values()]


def test_file_name_may_differ_from_that_of_the_path(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, filename="abcdef")
    with WheelFile(path, "demo-1.0-py3-none-any.whl") as wheel:
        assert (wheel.metadata.name, wheel.dist_info) == ("demo", INFO)


@pytest.mark.parametrize(
    "wheel", [WHEEL.replace("1.0", "1.9"), WHEEL.replace("true", "false"), WHEEL + "Build: 7\nUnknown: yes\n"]
)
def test_newer_minor_versions_and_unknown_fields_are_accepted(tmp_path: Path, wheel: str) -> None:
    with WheelFile(make_wheel(tmp_path, wheel=wheel)) as opened:
        assert opened.metadata.version == "1.0"


def test_names_and_versions_are_compared_normalized(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "Zope.Demo", "1.0.0", filename="zope_demo-1.0-py3-none-any.whl")
    with WheelFile(path) as wheel:
        assert wheel.metadata.name == "Zope.Demo"


UNSAFE = ["../evil", "a/../../evil", "/etc/evil", "C:/evil", "C:evil", "a\\b", "a//b", "./a", "a/./b", "a\nb", "a\x7fb",
          "demo/.wh.other"]  # fmt: skip


@pytest.mark.parametrize("path", UNSAFE)
def test_unsafe_paths_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(WheelError, match=r"unsafe path") as caught:
        WheelFile(make_wheel(tmp_path, files={path: "evil"}))
    assert caught.value.place == "demo-1.0-py3-none-any.whl"
    assert caught.value.hint


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a NUL in a path": ({"files": {"a\0b": ""}}, "unsafe path"),
    "a symbolic link": ({"members": [link("demo/passwd")]}, "symbolic link"),
    "a member twice": ({"files": {"a.py": ""}, "members": [(member_info("a.py"), b"other")]}, "twice"),
    "a file below a file": ({"files": {"a": "", "a/b": ""}}, "as a file and as a directory"),
    "two .dist-info": ({"files": {"other-1.0.dist-info/METADATA": ""}}, "2 .dist-info"),
    "another name": ({"filename": "other-1.0-py3-none-any.whl"}, "does not match its file name"),
    "another version": ({"filename": "demo-2.0-py3-none-any.whl"}, "does not match its file name"),
    "no wheel's name": ({"filename": "demo.whl"}, "Invalid wheel filename"),
    "no RECORD": ({"without": ["RECORD"]}, "has no RECORD"),
    "no WHEEL": ({"without": ["WHEEL"]}, "has no WHEEL"),
    "no METADATA": ({"without": ["METADATA"]}, "has no METADATA"),
    "a future major version": ({"wheel": WHEEL.replace("1.0", "2.0")}, "Wheel-Version 2.0"),
    "no Wheel-Version": ({"wheel": "Root-Is-Purelib: true\n"}, "no valid Wheel-Version"),
    "no root scheme": ({"wheel": WHEEL.replace("true", "maybe")}, "Root-Is-Purelib"),
    "a name with a path": ({"metadata": "Name: ../demo\nVersion: 1.0\n"}, "no valid Name"),
    "other metadata": ({"metadata": "Name: other\nVersion: 1.0\n"}, "METADATA names other"),
    "no version": ({"metadata": "Name: demo\n"}, "no Version"),
    "an unknown scheme": ({"files": {"demo-1.0.data/etc/passwd": ""}}, "not in a scheme"),
    "a file beside schemes": ({"files": {"demo-1.0.data/stray": ""}}, "not in a scheme"),
}


@pytest.mark.parametrize(("options", "message"), BROKEN.values(), ids=list(BROKEN))
def test_broken_wheels_are_refused_with_their_name(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = make_wheel(tmp_path, **options)
    with pytest.raises(WheelError, match=message) as caught:
        WheelFile(path)
    assert caught.value.place == path.name


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files={"a.py": "x"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(WheelError, match="encrypted"):
        WheelFile(path)


def test_different_local_header_is_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files={"first.py": "x" * 100})
    path.write_bytes(path.read_bytes().replace(b"first.py", b"thirst.p", 1))
    with WheelFile(path) as wheel, pytest.raises(WheelError, match=r"local header of 'first\.py' differs"):
        wheel.read("first.py")


def test_damaged_content_is_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files={"a.py": "".join(map(str, range(2000)))})
    data = bytearray(path.read_bytes())
    data[400:420] = bytes(20)
    path.write_bytes(data)
    with WheelFile(path) as wheel, pytest.raises(WheelError, match="damaged"):
        wheel.read("a.py")


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files={"a.py": "x" * 50, "b.py": "y" * 50})
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\1\2", 0, data.rindex(b"b.py"))
    data[second + 42 : second + 46] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(WheelError, match="overlaps"):
        WheelFile(path)


def test_zipfile_has_the_undocumented_attributes_that_zipmembers_uses(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files={"a\0b": ""})
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert start_of_directory(archive) == data.index(b"PK\1\2"), "zipfile changed: start_of_directory must too"
        assert name_of(archive.infolist()[0]) == "a\0b", "zipfile changed: name_of must too"


@pytest.mark.parametrize("end", [0, 10, 200, -30, -1])
def test_truncated_files_are_refused(tmp_path: Path, end: int) -> None:
    path = make_wheel(tmp_path, files={"a.py": "x"})
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(WheelError, match="not a zip file"):
        WheelFile(path)


def test_missing_file_is_a_wheel_error(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="cannot be read"):
        WheelFile(tmp_path / "demo-1.0-py3-none-any.whl")


def test_record_and_its_signatures_need_no_hash(tmp_path: Path) -> None:
    signature = (member_info(f"{INFO}/RECORD.jws"), b"{}")
    with WheelFile(make_wheel(tmp_path, members=[signature])) as wheel:
        assert wheel.checksum(f"{INFO}/RECORD.jws") is None
        assert wheel.read(f"{INFO}/RECORD.jws") == b"{}"


def test_members_beyond_the_limit_are_not_read(tmp_path: Path) -> None:
    with WheelFile(make_wheel(tmp_path, files={"a.py": "x" * 2000})) as wheel:
        with pytest.raises(WheelError, match="too large"):
            wheel.read("a.py", limit=1000)
        assert wheel.head("a.py", 3) == b"xxx"


def test_facts_survive_json(tmp_path: Path) -> None:
    files = {"demo/__init__.py": "from .tests import helper", "demo/tests/helper.py": "", "demo-1.0.data/data/x": "1"}
    scripts = "[console_scripts]\ndemo = demo:main [fast]\n[gui_scripts]\ndemo-gui = demo.gui:App.run\n[other]\na = b"
    path = make_wheel(tmp_path, files=files, requires=["spam >= 1", "eggs; extra == 'x'"], entry_points=scripts)
    with WheelFile(path) as wheel:
        facts = read_facts(wheel)
    assert facts.requires_dist == ("spam >= 1", "eggs; extra == 'x'")
    assert facts.scripts == {"demo": "demo:main", "demo-gui": "demo.gui:App.run"}
    assert facts.files["demo/__init__.py"] == row("", b"from .tests import helper")[1]
    assert facts.uses[""].holds == {"demo/tests"}
    assert WheelFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


@pytest.mark.parametrize("document", [{}, {"name": "demo"}])
def test_damaged_facts_are_ignored(document: dict[str, object]) -> None:
    assert WheelFacts.from_json(document) is None


@pytest.mark.parametrize(
    "text",
    ["[console_scripts]\na = b\n", "[console_scripts]\n../a = b:c\n", "[console_scripts]\n.wh.a = b:c\n",
     "[console_scripts]\n.. = b:c\n", "a = b", "[console_scripts]\na = b:c; d\n",
     "[console_scripts]\na = b:c\n[gui_scripts]\na = b:d\n", "\udcff"],
)  # fmt: skip
def test_malformed_entry_points_are_refused(tmp_path: Path, text: str) -> None:
    path = make_wheel(tmp_path, files={f"{INFO}/entry_points.txt": text.encode("utf-8", "surrogateescape")})
    with WheelFile(path) as wheel, pytest.raises(WheelError):
        read_facts(wheel)


PARTS = st.sampled_from(["a", "b.py", "tests", "..", ".", "", "demo-1.0.data", "scripts", "data", "bin", "python",
                         "lib64", "purelib", "lib", INFO, "RECORD", "é", "\\", "C:", "\0", "x" * 300])  # fmt: skip
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
FILES = st.dictionaries(PATHS, st.sampled_from([b"", b"#!python\nx", b"#!/bin/sh\n", b"\xff\0"]), max_size=5)


def check_lay_out(path: Path) -> None:
    """Any file raises only WheelError, and is laid out only inside the environment."""
    try:
        with WheelFile(path) as wheel:
            read_facts(wheel)
            for entry in lay_out(wheel, TARGET):
                parts = entry.path.split("/")
                assert parts[:2] == ["app", ".venv"]
                assert not {"", ".", ".."} & set(parts)
                assert not entry.link
                assert entry.mode in {0o644, 0o755}
            for member in wheel.members:
                wheel.read(member)
    except WheelError:
        pass


@settings(max_examples=many(40))
@given(files=FILES, entry_points=st.text(max_size=40), mode=st.integers(0, 0xFFFF))
def test_any_names_are_laid_out_inside_or_refused(
    tmp_path: Path, files: dict[str, bytes], entry_points: str, mode: int
) -> None:
    extra = zipfile.ZipInfo("odd")
    extra.external_attr = mode << 16
    text = f"[console_scripts]\n{entry_points}".encode("utf-8", "replace").decode()
    path = make_wheel(
        tmp_path, files=files, entry_points=text, members=[(extra, b"")], record=with_row(row("odd", b""))
    )
    check_lay_out(path)


@settings(max_examples=many(60))
@given(changes=st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=8)), max_size=4), cut=st.integers(0, 5000))
def test_any_damage_is_laid_out_inside_or_refused(tmp_path: Path, changes: list[tuple[int, bytes]], cut: int) -> None:
    files = {"demo/a.py": "import sys\n" * 50, "demo-1.0.data/scripts/run": "#!python\n"}
    path = make_wheel(tmp_path, files=files, entry_points="[console_scripts]\ndemo = demo:main\n")
    data = bytearray(path.read_bytes())
    for at, new in changes:
        at %= len(data)
        data[at : at + len(new)] = new
    path.write_bytes(data if cut > len(data) else data[:cut])
    check_lay_out(path)
