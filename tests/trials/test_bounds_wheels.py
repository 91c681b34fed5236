"""A zoo of hostile wheels: each is refused, naming the wheel, or installed in steps that are linear in its bytes."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from wheel_maker import make_wheel, member_info

from hatch_docker.errors import WheelError
from hatch_docker.wheels.facts import WheelFacts, read_facts
from hatch_docker.wheels.wheelfile import WheelFile

METADATA = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"


def facts_of(path: Path) -> WheelFacts:
    with WheelFile(path) as wheel:
        return read_facts(wheel)


def refused(path: Path, reason: str) -> None:
    with pytest.raises(WheelError, match=reason) as caught:
        facts_of(path)
    assert caught.value.place == path.name


NAMES = {
    "name of 256 bytes": ("demo/" + "a" * 256, "a name of more than 255 bytes: 'demo/aaa"),
    "directory of 256 bytes": ("a" * 256 + "/f", "a name of more than 255 bytes"),
    "name of 256 bytes in UTF-8": ("ü" * 128, "a name of more than 255 bytes"),
    "path of 4100 bytes": (("a" * 100 + "/") * 41 + "f", "a path of more than 3800 bytes"),
    "path of 60 000 bytes": (("a" * 100 + "/") * 600 + "f", "a path of more than 3800 bytes"),
    "129 directories": ("a/" * 129 + "f", "more than 128 directories"),
    "1900 directories": ("a/" * 1900 + "f", "more than 128 directories|a path of more than 3800 bytes"),
    "129 directories without a file": ("a/" * 130, "more than 128 directories"),
    "NUL": ("demo/a\0b", "an unsafe path"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_no_engine_unpacks_is_refused(name: str, tmp_path: Path) -> None:
    path, reason = NAMES[name]
    refused(make_wheel(tmp_path, members=[(member_info(path), b"")]), reason)


def test_the_longest_names_are_installed(tmp_path: Path) -> None:
    paths = ["a" * 255, "ü" * 127, "b/" * 128 + "f", ("c" * 200 + "/") * 18 + "f"]
    assert {*paths} <= facts_of(make_wheel(tmp_path, files=dict.fromkeys(paths, b""))).files.keys()


@pytest.mark.parametrize("name", ["s" * 256, "ü" * 128, "s" * 5000])
def test_a_script_s_name_is_that_of_a_file(name: str, tmp_path: Path) -> None:
    def make(text: str) -> Path:
        return make_wheel(tmp_path, entry_points=f"[console_scripts]\n{text} = a:b\n")

    assert len(facts_of(make("s" * 255)).scripts) == 1
    refused(make(name), "the name of the script '.*… has more than 255 bytes")


def test_many_fields_of_metadata_take_linear_time(tmp_path: Path) -> None:
    # 40 000 fields take packaging a minute.
    others = "".join(f"X-{number}: a\n folded\n" for number in range(40_000))
    text = f"{others}{METADATA}{others}Requires-Dist: six\nREQUIRES-DIST: idna\n (>=3)\nRequires-Python: >=3.9\n"
    facts = facts_of(make_wheel(tmp_path, metadata=text))
    assert (facts.name, facts.version, facts.requires_python) == ("demo", "1.0", ">=3.9")
    assert [each.replace("\n", "") for each in facts.requires_dist] == ["six", "idna (>=3)"]


@pytest.mark.parametrize("text", ["broken\n" + METADATA, "", "\n" + METADATA, "a" * 1_000_000 + "\n" + METADATA])
def test_metadata_that_does_not_begin_with_fields_has_no_name(text: str, tmp_path: Path) -> None:
    refused(make_wheel(tmp_path, metadata=text), "METADATA has no valid Name")


def test_large_entry_points_are_refused(tmp_path: Path) -> None:
    text = "".join(f"[group{number}]\na = b\n" for number in range(70_000))
    refused(make_wheel(tmp_path, entry_points=text), "entry_points.txt' is too large to be read")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_bombs_of_other_methods_are_refused_unread(method: int, tmp_path: Path) -> None:
    refused(make_wheel(tmp_path, files={"demo/a": bytes(1 << 20)}, method=method), "not stored or deflated")


def end_of(data: bytes) -> int:
    return data.rindex(b"PK\5\6")


def first_of(data: bytes) -> int:
    return data.index(b"PK\1\2")


def put(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def zip64(data: bytes, size: int, offset: int) -> bytes:
    """The same with a directory of another size and place in 64 bits."""
    end = end_of(data)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1 << 40, 1 << 40, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    tail = put(put(data[end:], 8, b"\xff" * 4), 12, b"\xff" * 8)
    return data[:end] + record + locator + tail


def read_all(path: Path) -> None:
    with WheelFile(path) as wheel:
        for member in wheel.members:
            wheel.read(member)


LIES: Mapping[str, Callable[[bytes], bytes]] = {
    "the directory's size": lambda data: put(data, end_of(data) + 12, b"\xfe\xff\xff\x7f"),
    "the directory's place": lambda data: put(data, end_of(data) + 16, b"\xfe\xff\xff\x7f"),
    "the directory's size in 64 bits": lambda data: zip64(data, 1 << 62, 0),
    "the directory's place in 64 bits": lambda data: zip64(data, 46, 1 << 63),
    "both in 64 bits": lambda data: zip64(data, (1 << 64) - 1, (1 << 64) - 1),
    "a member's unpacked size": lambda data: put(data, first_of(data) + 24, b"\xfe\xff\xff\x7f"),
    "a member's packed size": lambda data: put(data, first_of(data) + 20, b"\xfe\xff\xff\x7f"),
    "a member's place": lambda data: put(data, first_of(data) + 42, b"\xfe\xff\xff\x7f"),
    "the length of a name": lambda data: put(data, first_of(data) + 28, b"\xff\xff"),
    "half a file": lambda data: data[: len(data) // 2],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_zip_that_lies_is_refused(lie: str, tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files={"demo.py": "x" * 100})
    data = path.read_bytes()
    path.write_bytes(LIES[lie](data))
    with pytest.raises(WheelError) as caught:
        read_all(path)
    assert caught.value.place == path.name
