"""Zoos of Debian's packages, and of ELF files: each is refused, or read as dpkg and the loader would."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
import tars
from deb_maker import CONTROL, PACK, ar_of
from elf_maker import CPUS, make_library
from packages_maker import paragraph_of
from tars import END, GNU, file
from zoo import Record, visit

from hatch_docker.debian.control import relations
from hatch_docker.debian.deb import open_deb
from hatch_docker.debian.packages import PackageIndex
from hatch_docker.debian.release import parse_release
from hatch_docker.debian.resolve import resolve
from hatch_docker.support.elf import machine_of, program_interpreter, read_library_at

_DOT = file(b"./", kind=b"5", magic=GNU)
_CONTROL = _DOT + file(b"./control", CONTROL, magic=GNU) + END


def deb(data: bytes = _DOT + END, control: bytes = _CONTROL, suffix: str = "") -> bytes:
    """A package of these tars."""
    packed = PACK[suffix]
    return ar_of(
        [("debian-binary", b"2.0\n"), (f"control.tar{suffix}", packed(control)), (f"data.tar{suffix}", packed(data))]
    )


def _tars() -> dict[str, bytes]:
    made = {f"number {name}": data for name, data in tars.numbers().items()}
    for kind in b"\00012345678gxLKSVMDNXA\xff":
        made[f"kind {bytes([kind])!r}"] = _DOT + file(b"./a", kind=bytes([kind]), link=b"./b", magic=GNU) + END
    names = (
        b"", b".", b"./", b"..", b"./..", b"../a", b"./../a", b"a/../../b", b"/etc/x", b"//a", b"./a//b", b"./a/./b",
        b"a",
        b"./a/", b"./\xff", b"./a\nb", b"./a b", b"./a\\b", b"./.wh.a", b"./a/.wh..wh..opq", b"./\x1b[2J", b"./proc/x",
        b"./var/lib/dpkg/status", b"./etc/passwd", b"./lib/x", b"./" + b"d/" * 40 + b"x",
    )  # fmt: skip
    made |= {f"name {name[:30]!r}": _DOT + file(name, b"x", magic=GNU) + END for name in names}
    trees = {
        "a file twice": file(b"./a") * 2,
        "a directory twice": file(b"./a", kind=b"5") * 2,
        "a file below a file": file(b"./a") + file(b"./a/b"),
        "a file below a link": file(b"./a", kind=b"2", link=b"b") + file(b"./a/b"),
        "a hard link to nothing": file(b"./a", kind=b"1", link=b"./b"),
        "a hard link to itself": file(b"./a", kind=b"1", link=b"./a"),
        "a hard link out": file(b"./a", kind=b"1", link=b"../b"),
        "a hard link to a directory": file(b"./b", kind=b"5") + file(b"./a", kind=b"1", link=b"./b"),
        "a link to nothing": file(b"./a", kind=b"2"),
        "a link out": file(b"./a", kind=b"2", link=b"../../../etc"),
        "a link to itself": file(b"./a", kind=b"2", link=b"a"),
        "a long name twice": file(b"L", b"./a\0", b"L") * 2 + file(b"./b"),
        "a long name of 5000 bytes": file(b"L", b"./" + b"a" * 5000 + b"\0", b"L") + file(b"./b"),
        "a long name of 300 bytes": file(b"L", b"./" + b"a" * 300 + b"\0", b"L") + file(b"./b"),
        "a long name at the end": file(b"L", b"./a\0", b"L"),
        "a long target": file(b"K", b"x" * 3000 + b"\0", b"K") + file(b"./b", kind=b"2", link=b"x"),
        "a directory with content": file(b"./a", b"x" * 600, b"5"),
        "a link with content": file(b"./a", b"x" * 600, b"2", link=b"b"),
        "a wrong checksum": tars.block(b"./a", checksum=b"0000000\0"),
        "half a header": tars.block(b"./a")[:300],
        "a lone zero block": bytes(512) + file(b"./a"),
    }
    return made | {name: _DOT + data + END for name, data in trees.items()}


def _parts() -> dict[str, bytes]:
    good = deb()
    control, data = ("control.tar", _CONTROL), ("data.tar", _DOT + END)
    binary = ("debian-binary", b"2.0\n")
    lists = {
        "no data": [binary, control],
        "no control": [binary, data],
        "data first": [binary, data, control],
        "control twice": [binary, control, control, data],
        "no version": [control, data],
        "an empty version": [("debian-binary", b""), control, data],
        "version 3": [("debian-binary", b"3.0\n"), control, data],
        "version 2.9": [("debian-binary", b"2.9\n"), control, data],
        "a version of letters": [("debian-binary", b"two\n"), control, data],
        "a long version": [("debian-binary", b"2." + b"0" * 5000 + b"\n"), control, data],
        "a member before": [("x", b"x"), binary, control, data],
        "an extra member": [binary, ("_x", b"x"), control, data],
        "an unknown member": [binary, ("x", b"x"), control, data],
        "a member after": [binary, control, data, ("x", b"x")],
        "names with slashes": [(f"{name}/", content) for name, content in (binary, control, data)],
        "bzip2": [binary, control, ("data.tar.bz2", b"BZh9")],
        "an unknown suffix": [binary, control, ("data.tar.x", b"")],
        "xz that is none": [binary, control, ("data.tar.xz", b"x" * 100)],
        "gzip that is none": [binary, ("control.tar.gz", b"x" * 100), data],
        "zstd that is none": [binary, control, ("data.tar.zst", b"x" * 100)],
        "half of xz": [binary, control, ("data.tar.xz", PACK[".xz"](_DOT + END)[:-20])],
        "data after gzip": [binary, control, ("data.tar.gz", PACK[".gz"](_DOT + END) + b"x")],
        "a bomb of xz": [binary, control, ("data.tar.xz", PACK[".xz"](bytes(50 << 20)))],
        "a bomb of controls": [binary, ("control.tar.gz", PACK[".gz"](file(b"./x", bytes(80 << 20)) + END)), data],
    }
    made = {name: ar_of(members) for name, members in lists.items()}
    at = good.index(b"control.tar")
    for name, start, text in (
        ("a size of letters", 48, b"x" * 10), ("a negative size", 48, b"-1".ljust(10)),
        ("a huge size", 48, b"9" * 10),
        ("no size", 48, b" " * 10), ("no end of a header", 58, b"xx"), ("a mode of letters", 40, b"x" * 8),
        ("a time of letters", 16, b"x" * 12), ("a name of bytes", 0, b"\xff" * 16),
        ("a name of GNU", 0, b"/0".ljust(16)),
        ("a name of BSD", 0, b"#1/20".ljust(16)), ("a size of 0", 48, b"0".ljust(10)),
        ("an odd size", 48, b"1".ljust(10)),
    ):  # fmt: skip
        made[name] = good[: at + start] + text + good[at + start + len(text) :]
    made |= {"nothing": b"", "only the magic": good[:8], "another magic": b"!<thin>\n" + good[8:], "half": good[:500]}
    return made


_FIELDS = {
    "Package": ("", "A", "../x", "a b", "a\x1b", "é", "a" * 5000),
    "Version": ("", "x", "1:", ":1", "-1", "1-", "1_0", "a" * 5000, "9" * 5000, "9" * 5000 + ":1", "1\x1b", "٣"),
    "Architecture": ("", "../x", "a b", "é"),
    "Depends": ("(", "a (", "a (= )", "a (~ 1)", "a |", "|", ",", "a [", "a <", "a:b:c", "(" * 5000, "a, " * 5000, "é"),
    "Multi-Arch": ("x", "yes"),
    "Installed-Size": ("x", "-1", "9" * 5000),
    "Essential": ("x",),
    "Provides": ("a (>= 1)", "a (= )", "a |b", "hello"),
    "Replaces": ("(", "hello"),
}


def _control() -> dict[str, bytes]:
    texts = {
        f"{field}: {value[:20]!r}{'…' * (len(value) > 20)}": b"".join(
            line for line in CONTROL.splitlines(keepends=True) if not line.startswith(field.encode())
        )
        + f"{field}: {value}\n".encode()
        for field, values in _FIELDS.items()
        for value in values
    }
    texts |= {
        "no control": b"",
        "a field twice": CONTROL + b"Package: other\n",
        "a field without a colon": CONTROL + b"broken\n",
        "a continuation first": b" x\n" + CONTROL,
        "two paragraphs": CONTROL + b"\n" + CONTROL,
        "a comment": b"# x\n" + CONTROL,
        "not UTF-8": CONTROL + b"X: \xff\n",
        "a NUL": CONTROL + b"X: \0\n",
        "lines of CR": CONTROL.replace(b"\n", b"\r"),
        "a name of a field with spaces": CONTROL + b"A B: c\n",
        "a million lines": CONTROL + b" x\n" * 1_000_000,
    }
    return texts


DEBS: Mapping[str, bytes] = {
    **{f"tar: {name}": deb(data) for name, data in _tars().items()},
    **{f"control tar: {name}": deb(control=data) for name, data in _tars().items() if name.startswith(("a ", "kind"))},
    **{f"part: {name}": data for name, data in _parts().items()},
    **{
        f"control: {name}": deb(control=_DOT + file(b"./control", text, magic=GNU) + END)
        for name, text in _control().items()
    },
}


@pytest.mark.parametrize("name", DEBS)
def test_deb(name: str, tmp_path: Path, record_property: Record) -> None:
    path = tmp_path / "a.deb"
    path.write_bytes(DEBS[name])

    def read() -> set[str]:
        opened = open_deb(path)
        for field in ("Depends", "Provides", "Replaces"):
            relations(opened.control.get(field, ""))
        _ = opened.conffiles, opened.md5sums, opened.scripts
        return {member.path for member, content in opened.members() for _ in (b"".join(content),)}

    for each in visit("debs", name, read, record_property) or ():
        assert not {"", ".", ".."} & {*each.split("/")}


_STANZA = {
    "Filename": ("", "../../etc/passwd", "/etc/passwd", "a b", "https://other.example/x", "a\x1b", "a" * 5000),
    "Size": ("", "x", "-1", "1.5", "9" * 30, "9" * 5000, "٣"),
    "SHA256": ("", "x", "a" * 63, "A" * 64, "g" * 64),
    **{key: value for key, value in _FIELDS.items() if key != "Architecture"},
}
INDEXES = {
    f"{field}: {value[:20]!r}{'…' * (len(value) > 20)}": (field, value)
    for field, values in _STANZA.items()
    for value in values
}


@pytest.mark.parametrize("name", INDEXES)
def test_index(name: str, record_property: Record) -> None:
    field, value = INDEXES[name]
    lines = paragraph_of("hello", "1.0").splitlines()
    text = "\n".join([*(line for line in lines if not line.startswith(f"{field}:")), f"{field}: {value}", ""])

    def read() -> object:
        return resolve(["hello"], [PackageIndex([text.encode()], suite="trixie")], architecture="amd64")

    visit("packages", name, read, record_property)


_RELEASE = "Origin: Debian\nSuite: stable\nCodename: trixie\nDate: Sat, 15 Nov 2025 10:00:00 UTC\nSHA256:\n"
_SUM = f" {'a' * 64} 12 main/binary-amd64/Packages\n"
RELEASES = {
    "nothing": "",
    "only sums": "SHA256:\n" + _SUM,
    "no sums": _RELEASE,
    "no date": _RELEASE.replace("Date", "X") + _SUM,
    "another date": _RELEASE.replace("Sat, 15 Nov 2025", "yesterday") + _SUM,
    "an impossible date": _RELEASE.replace("15 Nov", "99 Nov") + _SUM,
    "a date without a zone": _RELEASE.replace(" UTC", "") + _SUM,
    "a date of year 99999": _RELEASE.replace("2025", "99999") + _SUM,
    "a short sum": _RELEASE + " aaaa 12 x\n",
    "a sum of letters": _RELEASE + f" {'z' * 64} 12 x\n",
    "a negative size": _RELEASE + _SUM.replace("12", "-12"),
    "a huge size": _RELEASE + _SUM.replace("12", "9" * 5000),
    "a size of letters": _RELEASE + _SUM.replace("12", "x"),
    "no path": _RELEASE + f" {'a' * 64} 12\n",
    "a path that leaves it": _RELEASE + _SUM.replace("main/", "../../"),
    "a path with spaces": _RELEASE + _SUM.replace("main/", "ma in/"),
    "a path twice": _RELEASE + _SUM * 2,
    "a path twice, contradicting": _RELEASE + _SUM + _SUM.replace("a" * 64, "b" * 64),
    "a field twice": _RELEASE + _SUM + "Suite: other\n",
    "a bad Valid-Until": "Valid-Until: x\n" + _RELEASE + _SUM,
    "not UTF-8": _RELEASE + "\udcff" + _SUM,
    "no hash": _RELEASE.replace("SHA256", "MD5Sum") + _SUM,
}


@pytest.mark.parametrize("name", RELEASES)
def test_release(name: str, record_property: Record) -> None:
    text = RELEASES[name].encode("utf-8", "surrogateescape")
    visit("releases", name, lambda: parse_release(text, place="Release"), record_property)


# The places and formats of a header's fields in 64 bits, and those of its first two segments and dynamic entries.
_ELF = {
    "class": (4, "B"), "order": (5, "B"), "version": (6, "B"), "type": (16, "H"), "machine": (18, "H"),
    "segments": (32, "Q"),
    "sections": (40, "Q"), "header size": (52, "H"), "segment size": (54, "H"), "number of segments": (56, "H"),
    "section size": (58, "H"), "number of sections": (60, "H"), "type of segment": (64, "L"), "place": (72, "Q"),
    "address": (80, "Q"), "size": (96, "Q"), "size in memory": (104, "Q"), "type of dynamic": (120, "L"),
    "place of dynamic": (128, "Q"), "size of dynamic": (152, "Q"),
}  # fmt: skip
_NUMBERS = {"0": 0, "1": 1, "half": -2, "most": -1}


def _elves() -> dict[str, bytes]:
    good = make_library(("libc.so.6", "libm.so.6"), soname="liba.so", runpath="$ORIGIN/../lib:/opt")
    made = {}
    for field, (at, code) in _ELF.items():
        most = 256 ** struct.calcsize(f"<{code}") - 1
        for text, number in _NUMBERS.items():
            value = struct.pack(f"<{code}", {-1: most, -2: most // 2}.get(number, number))
            made[f"{field} is {text}"] = good[:at] + value + good[at + len(value) :]
    names = {
        "empty": "", "a path": "/etc/passwd", "leaving": "../../x", "long": "a" * 5000, "not printable": "\x1b[2J",
        "a newline": "a\nb", "spaces": " ", "Unicode": "é", "origin": "$ORIGIN", "a token": "$LIB/x", "colons": ":::",
    }  # fmt: skip
    for what, name in names.items():
        for place in ("soname", "rpath", "runpath"):
            made[f"{place} is {what}"] = make_library(**{place: name})  # type: ignore[arg-type]
        made[f"needed is {what}"] = make_library((name,))
    made |= {f"half of {cpu}": make_library(machine=cpu)[:100] for cpu in CPUS}
    made |= {f"header of {cpu}": make_library(machine=cpu)[:64] for cpu in CPUS}
    return {
        **made,
        "nothing": b"",
        "only the magic": b"\x7fELF",
        "two thousand names": make_library([f"lib{number}.so" for number in range(2000)]),
        "one name a thousand times": make_library(["libc.so.6"] * 1000),
        "a script": b"#!/bin/sh\n" + b"x" * 100,
        "a far dynamic section": make_library(padding=3 << 20, strings_first=False),
    }


ELVES = _elves()


@pytest.mark.parametrize("name", ELVES)
def test_elf(name: str, record_property: Record) -> None:
    data = ELVES[name]

    def read() -> object:
        library = read_library_at(lambda start, length: data[start : start + length])
        for each in (*(library.needed if library else ()), *(library.directories("/x") if library else ())):
            assert each.isprintable()
        return library, program_interpreter(data), machine_of(data)

    # Whatever is no library has no requirements: none is refused.
    visit("elves", name, read, record_property)
