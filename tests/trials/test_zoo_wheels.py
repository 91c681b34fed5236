"""A zoo of wheels: each is refused, or becomes a layer with the right content."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
from test_wheelfile import TARGET
from wheel_maker import Rows, make_wheel, member_info
from zoo import Record, visit

from hatch_docker.oci.layer import write_layer
from hatch_docker.wheels.facts import read_facts
from hatch_docker.wheels.install import lay_out
from hatch_docker.wheels.wheelfile import WheelFile

TEXT = b"VALUE = 1\n" * 20
_SITE = "app/.venv/lib/python3.13/site-packages/"

# The fields of zip's records: the place and format of each.
_CENTRAL = {
    "made": (4, "H"),
    "needed": (6, "H"),
    "flags": (8, "H"),
    "method": (10, "H"),
    "time": (12, "H"),
    "date": (14, "H"),
    "crc": (16, "L"),
    "packed": (20, "L"),
    "size": (24, "L"),
    "name": (28, "H"),
    "extra": (30, "H"),
    "comment": (32, "H"),
    "disk": (34, "H"),
    "internal": (36, "H"),
    "external": (38, "L"),
    "place": (42, "L"),
}
_LOCAL = {
    "needed": (4, "H"),
    "flags": (6, "H"),
    "method": (8, "H"),
    "time": (10, "H"),
    "date": (12, "H"),
    "crc": (14, "L"),
    "packed": (18, "L"),
    "size": (22, "L"),
    "name": (26, "H"),
    "extra": (28, "H"),
}
_END = {
    "disk": (4, "H"),
    "start": (6, "H"),
    "here": (8, "H"),
    "entries": (10, "H"),
    "size": (12, "L"),
    "place": (16, "L"),
    "comment": (20, "H"),
}
_PARTS = {"directory": (b"PK\1\2", _CENTRAL), "local header": (b"PK\3\4", _LOCAL), "end": (b"PK\5\6", _END)}
_VALUES: Mapping[str, Callable[[int, int], int]] = {
    "0": lambda _was, _most: 0,
    "1 more": lambda was, most: (was + 1) & most,
    "half": lambda was, _most: was // 2,
    "most": lambda _was, most: most,
}
_FLAGS = {"encrypted": 1, "sizes follow": 8, "patch": 0x20, "strong": 0x40, "UTF-8": 0x800, "masked": 0x2000}


def changed(part: str, field: str, value: Callable[[int, int], int]) -> Callable[[bytes], bytes]:
    """A change of a field of the first record of a kind."""

    def change(data: bytes) -> bytes:
        signature, fields = _PARTS[part]
        place, code = fields[field]
        at, form = data.index(signature) + place, f"<{code}"
        (was,) = struct.unpack_from(form, data, at)
        new = struct.pack(form, value(was, 0xFFFF if code == "H" else 0xFFFFFFFF))
        return data[:at] + new + data[at + len(new) :]

    return change


def _toggled(bit: int, was: int, _most: int) -> int:
    return was ^ bit


def _zips() -> Mapping[str, Callable[[bytes], bytes]]:
    made = {
        f"{part}: {field} is {text}": changed(part, field, value)
        for part, (_, fields) in _PARTS.items()
        for field in fields
        for text, value in _VALUES.items()
    }
    for name, bit in _FLAGS.items():
        one, other = (changed(part, "flags", partial(_toggled, bit)) for part in [*_PARTS][:2])
        made |= {f"flag {name} in the directory": one, f"flag {name} in the local header": other}
        made[f"flag {name} in both"] = lambda data, one=one, other=other: one(other(data))  # type: ignore[misc]
    return {
        **made,
        "nothing": lambda _: b"",
        "only an end": lambda data: data[data.rindex(b"PK\5\6") :],
        "no end": lambda data: data[: data.rindex(b"PK\5\6")],
        "bytes before": lambda data: b"#!/bin/sh\n" + data,
        "bytes after": lambda data: data + b"x" * 100,
        "a comment with an end in it": lambda data: data[:-2] + b"\x16\0" + data[-22:],
        "two zips": lambda data: data + data,
        "a byte less": lambda data: data[:-1],
        "no local header": lambda data: data.replace(b"PK\3\4", b"PK\3\5", 1),
        "no directory": lambda data: data.replace(b"PK\1\2", b"PK\1\3", 1),
        "another local name": lambda data: data.replace(b"demo.py", b"damo.py", 1),
        "another name in the directory": lambda data: b"damo.py".join(data.rsplit(b"demo.py", 1)),
        "damaged content": lambda data: data.replace(b"VALUE", b"VALVE", 1),
        "only zeros": lambda data: bytes(len(data)),
        "a tar": lambda _: bytes(10240),
    }


NAMES = [
    "", "/", ".", "./a", "..", "../a", "a/../b", "a/./b", "a//b", "/a", "//a", "~/a", "~", "C:/a", "C:a", "a:b", "a\\b",
    "\\\\server\\a", "a\nb", "a\rb", "a\tb", "\x1b[2J", "\x7f", " ", " a", "a ", "a.", "...", "-rf", "--", "*", "?",
    "a|b", "<a>", 'a"b', "a'b", "$(a)", "`a`", "a;b", "%00", "%2e%2e/a", "CON", "nul.py", "aux/a", "a" * 200, "\u202e",
    "\u200b", "\ufeffa", "\u0301", "é", "e\u0301", "\U0001f600", "\u2028", "\x85", "..a", ".wh.a", "a/.wh.b",
    ".wh..wh..opq", "a.wh.b", ".WH.a", "a/.wh..wh..opq", "lib64/a", "pyvenv.cfg", "bin/python", "demo.py/a",
    "demo-1.0.data/scripts/python", "demo-1.0.data/scripts/../a", "demo-1.0.data/data/pyvenv.cfg",
    "demo-1.0.data/data/lib64/x", "demo-1.0.data/data/lib64", "demo-1.0.data/data/bin", "demo-1.0.data/headers/a.h",
    "demo-1.0.data/data/lib/python3.13/site-packages/demo.py", "demo-1.0.data/a", "demo-1.0.data/none/a",
    "demo-1.0.data/purelib/demo.py", "demo-1.0.data/platlib/a.py", "demo-1.0.data/scripts/a/b", "Demo.py",
    "demo-1.0.dist-info/INSTALLER", "demo-1.0.dist-info/direct_url.json", "demo-1.0.dist-info/RECORD.jws",
    "other-1.0.dist-info/METADATA", "DEMO-1.0.dist-info/METADATA", "demo-1.0.DIST-INFO/METADATA", "a.dist-info",
    "demo-1.0.dist-info/a/b", "a/b.dist-info/METADATA", "__pycache__/demo.cpython-313.pyc", "demo.pth",
    "sitecustomize.py",
    "demo-1.0.data/scripts", "demo-1.0.data", "demo-1.0.dist-info/licenses/../../a",
]  # fmt: skip


def _named(name: str) -> Callable[[Path], Path]:
    return lambda folder: make_wheel(folder, files={"demo.py": TEXT}, members=[(member_info(name), b"x")])


_GOOD = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
_METADATA = {
    "no name": "Metadata-Version: 2.1\nVersion: 1.0\n",
    "no version": "Metadata-Version: 2.1\nName: demo\n",
    "two names": _GOOD + "Name: other\n",
    "two versions": _GOOD + "Version: 2.0\n",
    "another name": _GOOD.replace("demo", "other"),
    "another version": _GOOD.replace("1.0", "1.1"),
    "a name with a dot": _GOOD.replace("demo", "de.mo"),
    "a name with a path": _GOOD.replace("demo", "../demo"),
    "a name with a NUL": _GOOD.replace("demo", "de\0mo"),
    "no valid version": _GOOD.replace("Version: 1.0", "Version: one"),
    "a version with digits of Arabic": _GOOD.replace("Version: 1.0", "Version: ١.٠"),
    "a version of 5000 digits": _GOOD.replace("Version: 1.0", f"Version: {'1' * 5000}"),
    "no metadata version": _GOOD.replace("Metadata-Version: 2.1\n", ""),
    "metadata of version 9": _GOOD.replace("2.1", "9.9"),
    "a BOM": "\ufeff" + _GOOD,
    "a requirement that is none": _GOOD + "Requires-Dist: <<<\n",
    "a requirement with a bad marker": _GOOD + "Requires-Dist: six; x ==\n",
    "a requirement with a URL": _GOOD + "Requires-Dist: six @ file:///etc/passwd\n",
    "a requirement of 100 kB": _GOOD + f"Requires-Dist: six; {'(' * 100_000}\n",
    "a requirement with control characters": _GOOD + "Requires-Dist: \x1b[2J\n",
    "ten thousand requirements": _GOOD + "Requires-Dist: six\n" * 10_000,
    "a bad bound on Python": _GOOD + "Requires-Python: three\n",
    "a bound on Python of 100 kB": _GOOD + f"Requires-Python: {'>=3,' * 25_000}\n",
    "lines of CR": _GOOD.replace("\n", "\r"),
    "lines of CR and LF": _GOOD.replace("\n", "\r\n"),
    "only NULs": "\0" * 100,
    "an encoded name": _GOOD.replace("demo", "=?utf-8?q?demo?="),
    "MIME parts": _GOOD + "Content-Type: multipart/mixed; boundary=x\n\n--x\n" * 1000,
}
_WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_WHEELS = {
    "nothing": "",
    "no version": _WHEEL.partition("\n")[2],
    "version 2": _WHEEL.replace("1.0", "2.0"),
    "version 1.9": _WHEEL.replace("1.0", "1.9"),
    "version 1": _WHEEL.replace("1.0", "1"),
    "version of 5000 digits": _WHEEL.replace("1.0", "1" * 5000 + ".0"),
    "version of Arabic digits": _WHEEL.replace("1.0", "١.٠"),
    "a negative version": _WHEEL.replace("1.0", "-1.0"),
    "no root": _WHEEL.replace("Root-Is-Purelib: true\n", ""),
    "another root": _WHEEL.replace("true", "yes"),
    "two roots": _WHEEL + "Root-Is-Purelib: false\n",
    "no tag": _WHEEL.replace("Tag: py3-none-any\n", ""),
    "a BOM": "\ufeff" + _WHEEL,
    "a tag of 1 MB": _WHEEL + f"Tag: {'a' * 1_000_000}\n",
}
_RECORDS: Mapping[str, Callable[[Rows], Rows]] = {
    "nothing": lambda _: [],
    "no row of the module": lambda rows: rows[1:],
    "a row of a missing file": lambda rows: [*rows, ("gone.py", "", "")],
    "a row out of the environment": lambda rows: [*rows, ("../../../../etc/passwd", "", "")],
    "an absolute row": lambda rows: [*rows, ("/etc/passwd", "", "")],
    "a row twice": lambda rows: [rows[0], *rows],
    "a row twice, contradicting": lambda rows: [(rows[0][0], "", "9"), *rows],
    "another hash": lambda rows: [(rows[0][0], "sha256=" + "A" * 43, ""), *rows[1:]],
    "another size": lambda rows: [(*rows[0][:2], "7"), *rows[1:]],
    "a negative size": lambda rows: [(*rows[0][:2], "-1"), *rows[1:]],
    "a huge size": lambda rows: [(*rows[0][:2], "9" * 5000), *rows[1:]],
    "a size of Arabic digits": lambda rows: [(*rows[0][:2], "٢"), *rows[1:]],
    "md5": lambda rows: [(rows[0][0], "md5=" + "A" * 22, ""), *rows[1:]],
    "an unknown algorithm": lambda rows: [(rows[0][0], "none=AAAA", ""), *rows[1:]],
    "a hash without an algorithm": lambda rows: [(rows[0][0], "A" * 43, ""), *rows[1:]],
    "a hash in hexadecimal": lambda rows: [(rows[0][0], "sha256=" + "a" * 64, ""), *rows[1:]],
    "a hash of RECORD": lambda rows: [*rows[:-1], (rows[-1][0], "sha256=" + "A" * 43, "1")],
    "a NUL": lambda rows: [*rows, ("a\0b", "", "")],
    "a newline in a path": lambda rows: [*rows, ("a\nb", "", "")],
    "a field of 200 kB": lambda rows: [*rows, ("a" * 200_000, "", "")],
    "backslashes": lambda rows: [(path.replace("/", "\\"), *rest) for path, *rest in rows],  # type: ignore[misc]
    "one column": lambda rows: [(path,) for path, *_ in rows],  # type: ignore[misc]
    "nine columns": lambda rows: [(*each, *"abcdef") for each in rows],
}
_SCRIPTS = {
    "no section": "a = b:c\n",
    "half a section": "[console_scripts\na = b:c\n",
    "a section twice": "[console_scripts]\na = b:c\n[console_scripts]\nd = e:f\n",
    "a name twice": "[console_scripts]\na = b:c\na = e:f\n",
    "a name in both groups": "[console_scripts]\na = b:c\n[gui_scripts]\na = b:c\n",
    "no function": "[console_scripts]\na = b\n",
    "no value": "[console_scripts]\na\n",
    "code for a function": "[console_scripts]\na = b:c();import os\n",
    "code for a module": "[console_scripts]\na = b;x:c\n",
    "a keyword": "[console_scripts]\na = import:lambda\n",
    "a path as a name": "[console_scripts]\n../a = b:c\n",
    "an absolute name": "[console_scripts]\n/bin/sh = b:c\n",
    "two dots as a name": "[console_scripts]\n.. = b:c\n",
    "a whiteout as a name": "[console_scripts]\n.wh.a = b:c\n",
    "python as a name": "[console_scripts]\npython = b:c\n",
    "a NUL in a name": "[console_scripts]\na\0b = b:c\n",
    "a newline in a value": "[console_scripts]\na = b\n  :c\n",
    "a quotation mark": "[console_scripts]\na = b:c'''\n",
    "interpolation": "[console_scripts]\na = %(a)s:%(a)s\n",
    "extras of 1 MB": f"[console_scripts]\na = b:c [{'x,' * 400_000}]\n",
    "dots": "[console_scripts]\na = ...:...\n",
    "Unicode": "[console_scripts]\nä = ä:ä\n",
    "the default section": "[DEFAULT]\na = b:c\n[console_scripts]\n",
    "a BOM": "\ufeff[console_scripts]\na = b:c\n",
}
_FILENAMES = [
    "demo.whl", "demo-1.0.whl", "demo-1.0-py3-none.whl", "demo-1.0-1-py3-none-any.whl", "demo-1.0-x-py3-none-any.whl",
    "demo-1.0-1-2-py3-none-any.whl", "demo-one-py3-none-any.whl", "-1.0-py3-none-any.whl", "demo--py3-none-any.whl",
    "demo-1.0-py3-none-any.zip", "other-1.0-py3-none-any.whl", "demo-2.0-py3-none-any.whl", "DEMO-1.0-py3-none-any.whl",
    "demo-1.0.0-py3-none-any.whl", "demo-1!1.0-py3-none-any.whl", "de__mo-1.0-py3-none-any.whl", "demo-1.0-.-.-.whl",
    "demo-1.0-py3.py2-none-any.whl", "demo-1.0-" + "py3." * 50 + "py3-none-any.whl",
]  # fmt: skip
_MODES = {"set user": 0o104755, "sticky": 0o101644, "none": 0, "all": 0o107777, "no bits": 0o100000, "link": 0o120777}
_MODES |= {"directory": 0o040755, "device": 0o020644, "pipe": 0o010644, "socket": 0o140755, "unknown": 0o170000}


def _wheels() -> Mapping[str, Callable[[Path], Path]]:
    files = {"demo.py": TEXT}
    made: dict[str, Callable[[Path], Path]] = {}
    for name, change in _zips().items():

        def damaged(folder: Path, change: Callable[[bytes], bytes] = change) -> Path:
            path = make_wheel(folder, files=files)
            path.write_bytes(change(path.read_bytes()))
            return path

        made[f"zip: {name}"] = damaged
    made |= {f"name {name[:40]!r}": _named(name) for name in NAMES}
    for name, text in _METADATA.items():
        made[f"METADATA: {name}"] = lambda folder, text=text: make_wheel(folder, files=files, metadata=text)  # type: ignore[misc]
    for name, text in _WHEELS.items():
        made[f"WHEEL: {name}"] = lambda folder, text=text: make_wheel(folder, files=files, wheel=text)  # type: ignore[misc]
    for name, rows in _RECORDS.items():
        made[f"RECORD: {name}"] = lambda folder, rows=rows: make_wheel(folder, files=files, record=rows)  # type: ignore[misc]
    for name, text in _SCRIPTS.items():
        made[f"scripts: {name}"] = lambda folder, text=text: make_wheel(folder, files=files, entry_points=text)  # type: ignore[misc]
    for name in _FILENAMES:
        made[f"file {name[:40]}"] = lambda folder, name=name: make_wheel(folder, files=files, filename=name)  # type: ignore[misc]
    for name in ("METADATA", "WHEEL", "RECORD"):
        made[f"no {name}"] = lambda folder, name=name: make_wheel(folder, files=files, without=[name])  # type: ignore[misc]
        broken = (member_info(f"demo-1.0.dist-info/{name}"), b"\xff\xfe")
        made[f"{name} not in UTF-8"] = lambda folder, name=name, broken=broken: make_wheel(  # type: ignore[misc]
            folder, files=files, without=[name], members=[broken]
        )
    for name, mode in _MODES.items():
        info = member_info("other")
        info.external_attr = mode << 16
        made[f"mode: {name}"] = lambda folder, info=info: make_wheel(folder, files=files, members=[(info, b"x")])  # type: ignore[misc]
    return made


ZOO = _wheels()


def content_of(path: Path) -> dict[str, bytes]:
    """The files of the layer that a wheel becomes."""
    out = io.BytesIO()
    with WheelFile(path) as wheel:
        read_facts(wheel)
        write_layer(lay_out(wheel, TARGET), out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        return {each.name: tar.extractfile(each).read() for each in tar if each.isreg()}  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ZOO)
def test_wheel(name: str, tmp_path: Path, record_property: Record) -> None:
    path = ZOO[name](tmp_path)
    if (files := visit("wheels", name, lambda: content_of(path), record_property)) is not None:
        # One change renames the module, in both places that have its name.
        assert files[f"{_SITE}demo.py"] == TEXT
        assert zipfile.is_zipfile(path)
