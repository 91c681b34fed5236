from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from deb_maker import CONTROL, PACK, ar_of, deb_of, entry, tar_of, write
from debian_maker import damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many

from hatch_docker.debian import tar
from hatch_docker.debian.compression import decompressed
from hatch_docker.debian.deb import open_deb
from hatch_docker.debian.tar import Member, members
from hatch_docker.errors import DebianError

LONG = "usr/share/" + "/".join(["a" * 60] * 5)
ENTRIES = (
    entry("./usr/"),
    entry("./usr/bin/"),
    entry("./usr/bin/hello", b"#!/bin/sh\n" * 100, mode=0o4755, uid=5, gid=42),
    entry("./usr/bin/again", kind=tarfile.LNKTYPE, linkname="./usr/bin/hello"),
    entry("./usr/bin/other", kind=tarfile.SYMTYPE, linkname="../../bin/hello"),
    entry("./usr/share/Főtanúsítvány.crt", b""),
    entry(f"./{LONG}", b"x" * 70_000),
    entry("./usr/long", kind=tarfile.SYMTYPE, linkname=f"/{LONG}"),
)


def contents(path: Path) -> list[tuple[Member, bytes]]:
    return [(member, b"".join(content)) for member, content in open_deb(path).members()]


@pytest.mark.parametrize("suffix", PACK)
def test_reads_packages_of_every_compression(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / "hello.deb", deb_of(*ENTRIES, suffix=suffix, control_suffix=suffix))
    found = contents(path)
    assert [(each.path, each.kind, oct(each.mode), each.uid, each.gid, each.link) for each, _ in found] == [
        ("usr", "directory", "0o755", 0, 0, ""),
        ("usr/bin", "directory", "0o755", 0, 0, ""),
        ("usr/bin/hello", "file", "0o4755", 5, 42, ""),
        ("usr/bin/again", "hardlink", "0o644", 0, 0, "usr/bin/hello"),
        ("usr/bin/other", "symlink", "0o644", 0, 0, "../../bin/hello"),
        ("usr/share/Főtanúsítvány.crt", "file", "0o644", 0, 0, ""),
        (LONG, "file", "0o644", 0, 0, ""),
        ("usr/long", "symlink", "0o644", 0, 0, f"/{LONG}"),
    ]
    assert [content for _, content in found] == [content for _, content in ENTRIES]
    assert all(each.size == len(content) for each, content in found)


def test_reads_control_files(tmp_path: Path) -> None:
    control = {
        "md5sums": b"0123  usr/bin/hello\n4567  usr/share/with  spaces\n",
        "conffiles": b"/etc/hello.conf\nremove-on-upgrade /etc/old\n/etc/hello.d/a\n",
        "postinst": b"#!/bin/sh\nldconfig\n",
        "triggers": b"activate-noawait ldconfig\n",
    }
    deb = open_deb(write(tmp_path / "hello.deb", deb_of(control=control)))
    assert dict(deb.control) == {
        "Package": "hello",
        "Version": "1.0-1",
        "Architecture": "amd64",
        "Description": "says hello",
    }
    assert deb.files == {"control": CONTROL} | control
    assert deb.md5sums == {"usr/bin/hello": "0123", "usr/share/with  spaces": "4567"}
    assert deb.conffiles == ("etc/hello.conf", "etc/hello.d/a")
    assert deb.scripts == {"postinst": control["postinst"]}


def test_package_with_only_a_control_file(tmp_path: Path) -> None:
    deb = open_deb(write(tmp_path / "hello.deb", deb_of()))
    assert (deb.md5sums, deb.conffiles, deb.scripts, list(deb.members())) == ({}, (), {}, [])


def test_unread_content_is_skipped_and_can_be_read_again(tmp_path: Path) -> None:
    deb = open_deb(write(tmp_path / "hello.deb", deb_of(*ENTRIES)))
    assert len([member for member, _ in deb.members()]) == len(ENTRIES)
    parts = [next(content, b"") for _, content in deb.members()]
    assert all(whole.startswith(part) for part, (_, whole) in zip(parts, ENTRIES, strict=True))
    assert len(list(deb.members())) == len(ENTRIES)


def test_large_members_are_read_in_pieces(tmp_path: Path) -> None:
    deb = open_deb(write(tmp_path / "hello.deb", deb_of(entry("./zeros", bytes(5 << 20)))))
    ((_, content),) = [(member, [len(piece) for piece in pieces]) for member, pieces in deb.members()]
    assert sum(content) == 5 << 20
    assert max(content) <= 1 << 18


def parts() -> list[tuple[str, bytes]]:
    """The members of a small package's ar archive."""
    return [
        ("debian-binary", b"2.0\n"),
        ("control.tar", tar_of(entry("./"), entry("./control", CONTROL))),
        ("data.tar", tar_of(entry("./"), entry("./a", b"content"))),
    ]


def test_ignores_unknown_members(tmp_path: Path) -> None:
    binary, control, data = parts()
    ar = ar_of([binary, ("_before", b"odd"), control, ("_between", b"x"), data, ("_after", b"x"), ("later", b"x")])
    assert [member.path for member, _ in contents(write(tmp_path / "a.deb", ar))] == ["a"]


def test_rejects_invalid_packages(tmp_path: Path) -> None:
    binary, control, data = parts()
    whole = ar_of(parts())
    for broken, message in (
        (b"", "is not a Debian package"),
        (b"!<thin>\n", "is not a Debian package"),
        (whole[:8], "truncated or damaged"),
        (whole[:100], "truncated or damaged"),
        (whole[:-1], "truncated or damaged"),
        (ar_of([control, binary, data]), "an unknown package format"),
        (ar_of([("debian-binary", b"3.0\n"), control, data]), "an unknown package format"),
        (ar_of([binary, data, control]), "has 'data.tar' instead of control.tar"),
        (ar_of([binary, control, ("data.tar.bz2", b"")]), "has 'data.tar.bz2' instead of data.tar"),
        (ar_of([binary, control, ("other", b""), data]), "has 'other' instead of data.tar"),
        (ar_of([binary, control]), "truncated or damaged"),
        (ar_of([binary, ("control.tar", tar_of(entry("./"))), data]), "no Package|paragraphs"),
        (ar_of([binary, ("control.tar.gz", b"nonsense"), data]), "cannot be decompressed"),
    ):
        with pytest.raises(DebianError, match=message) as error:
            open_deb(write(tmp_path / "hello.deb", broken))
        assert error.value.place == "hello.deb"
    with pytest.raises(DebianError, match="cannot be read"):
        open_deb(tmp_path / "none.deb")


@pytest.mark.parametrize(
    ("control", "message"),
    [
        (b"Package: a\nVersion: 1\n", "has no Architecture in its control file"),
        (CONTROL + b"\n" + CONTROL, "2 paragraphs"),
        (b"Package: \xff\n", "not UTF-8"),
        (b"nonsense", "line 1 is not a field"),
        (b"Package: ../../etc\nVersion: 1\nArchitecture: amd64\n", "has an invalid Package in its control file"),
        (b"Package: a\n b\nVersion: 1\nArchitecture: amd64\n", "has an invalid Package in its control file"),
        (b"Package: a\nVersion: 1\nArchitecture: a/b\n", "has an invalid Architecture in its control file"),
        (b"Package: a\nVersion: 1_0\nArchitecture: amd64\n", "'1_0' is not a version"),
    ],
)
def test_rejects_invalid_control_files(tmp_path: Path, control: bytes, message: str) -> None:
    with pytest.raises(DebianError, match=message):
        open_deb(write(tmp_path / "hello.deb", deb_of(control={"control": control})))


def test_rejects_too_large_control_files(tmp_path: Path) -> None:
    with pytest.raises(DebianError, match="too large"):
        open_deb(write(tmp_path / "hello.deb", deb_of(control={"md5sums": bytes(65 << 20)})))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry("/etc/passwd", b"")], "a path outside of its tar archive: '/etc/passwd'"),
        ([entry("./../a", b"")], "a path outside of its tar archive"),
        ([entry("a/../../b", b"")], "a path outside of its tar archive"),
        ([entry("./a//b", b"")], "a path outside of its tar archive"),
        ([entry("..")], "a path outside of its tar archive"),
        ([entry("./null", kind=tarfile.CHRTYPE)], "has a device in its tar archive: './null'"),
        ([entry("./disk", kind=tarfile.BLKTYPE)], "has a device"),
        ([entry("./pipe", kind=tarfile.FIFOTYPE)], "has a named pipe"),
        ([entry("./sparse", b"", kind=tarfile.GNUTYPE_SPARSE)], "has a sparse file"),
        ([entry("./pax", b"", kind=tarfile.XHDTYPE)], "has a pax header"),
        ([entry("./odd", b"", kind=b"Z")], "has a member of kind b'Z'"),
        ([entry("./a", b""), entry("./a", b"")], "has 'a' in its tar archive twice"),
        ([entry("./a"), entry("./a", b"")], "has 'a' in its tar archive twice"),
        ([entry("./a", b""), entry("./a/b", b"")], "has 'a/b' in its tar archive, which is below a file"),
        (
            [entry("./a", kind=tarfile.SYMTYPE, linkname="/etc"), entry("./a/b/c", b"")],
            "has 'a/b/c' in its tar archive, which is below a file",
        ),
        ([entry("./a", kind=tarfile.SYMTYPE)], "has an invalid symlink in its tar archive"),
        (
            [entry("./a", kind=tarfile.LNKTYPE, linkname="./b")],
            "a hard link to a missing file in its tar archive: 'a' to 'b'",
        ),
        ([entry("./a", kind=tarfile.LNKTYPE, linkname="/etc/shadow")], "a path outside of its tar archive"),
        ([entry("./a"), entry("./b", kind=tarfile.LNKTYPE, linkname="./a")], "a hard link to a missing file"),
        ([entry("./" + "a" * 5000, b"")], "has too long a name in its tar archive"),
        ([entry("./" + "a/" * 200 + "b", b"")], "has too long a path in its tar archive"),
        ([entry("./a\nb", b"")], "has an invalid name in its tar archive"),
        ([entry("./a", kind=tarfile.SYMTYPE, linkname="b" * 200 + "\0c")], "has an invalid name in its tar archive"),
        ([entry("./a", b"", uid=1 << 40)], "has an invalid owner in its tar archive"),
    ],
)
def test_rejects_members_that_cannot_be_unpacked_as_written(
    tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], message: str
) -> None:
    path = write(tmp_path / "hello.deb", deb_of(*entries))
    with pytest.raises(DebianError, match=message) as error:
        contents(path)
    assert error.value.place == "hello.deb"


def test_directories_may_be_repeated(tmp_path: Path) -> None:
    path = write(tmp_path / "hello.deb", deb_of(entry("./a/"), entry("./a/b", b""), entry("./a/")))
    assert [member.path for member, _ in contents(path)] == ["a", "a/b", "a"]


def test_rejects_too_large_members_before_reading_them() -> None:
    huge = bytearray(tar_of(entry("./a", b"")))
    huge[124:136] = b"\x80" + (1 << 60).to_bytes(11, "big")
    huge[148:156] = b"%06o\0 " % (sum(huge[:148]) + 8 * ord(" ") + sum(huge[156:512]))
    with pytest.raises(DebianError, match="has a tar archive that is too large"):
        list(members([bytes(huge)], place="a.deb"))


def test_rejects_too_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "_MOST_HEADERS", 1 << 16)
    assert list(members([tar_of(*(entry(f"./{number}") for number in range(100)))], place=""))
    with pytest.raises(DebianError, match="has too many files in its tar archive"):
        list(members([tar_of(*(entry(f"./{number}") for number in range(200)))], place=""))


def test_rejects_names_that_are_not_utf8() -> None:
    data = tar_of(entry("./\udcff", b""))
    with pytest.raises(DebianError, match="not UTF-8"):
        list(members([data], place="a.deb"))


TAR = tar_of(*ENTRIES)
WHOLE = [(member, b"".join(content)) for member, content in members([TAR], place="")]


def test_rejects_archives_truncated_at_any_place() -> None:
    end = len(TAR.rstrip(b"\0"))
    # One block of zeros ends an archive, as for dpkg.
    end += -end % 512 + 512
    for length in {*range(0, end, 512), *range(0, end, 997), end - 1}:
        with pytest.raises(DebianError, match="truncated"):
            list(members([TAR[:length]], place=""))
    assert len(list(members([TAR[:end]], place=""))) == len(ENTRIES)


def test_damaged_header_is_not_the_end() -> None:
    at = TAR.index(b"usr/bin/other")
    with pytest.raises(DebianError, match="damaged"):
        list(members([TAR[:at] + b"X" + TAR[at + 1 :]], place=""))


def test_rejects_data_after_the_end() -> None:
    with pytest.raises(DebianError, match="has data after the end of its tar archive"):
        list(members([TAR, bytes(512), b"more"], place=""))


@given(st.lists(st.integers(0, len(TAR)), max_size=8).map(sorted))
def test_members_do_not_depend_on_chunks(cuts: list[int]) -> None:
    chunks = [TAR[start:end] for start, end in zip([0, *cuts], [*cuts, len(TAR)], strict=True)]
    assert [(member, b"".join(content)) for member, content in members(chunks, place="")] == WHOLE


@pytest.mark.parametrize("suffix", PACK)
def test_decompresses_all_or_rejects(suffix: str) -> None:
    data = hashlib.sha256(b"").digest() * 40_000
    packed = PACK[suffix](data)
    pieces = [packed[at : at + 1000] for at in range(0, len(packed), 1000)]
    assert b"".join(decompressed(pieces, suffix, place="")) == data
    if suffix:
        for length in {0, 1, len(packed) // 2, len(packed) - 1}:
            with pytest.raises(DebianError, match="decompressed"):
                b"".join(decompressed([packed[:length]], suffix, place=""))
        with pytest.raises(DebianError, match="there is data after its end"):
            b"".join(decompressed([packed, b"more"], suffix, place=""))


def test_decompresses_a_file_that_inflates_a_lot_in_pieces() -> None:
    for suffix in (".gz", ".xz", ".zst"):
        sizes = [len(piece) for piece in decompressed([PACK[suffix](bytes(30 << 20))], suffix, place="")]
        assert (sum(sizes), max(sizes) <= 1 << 18) == (30 << 20, True)


DEB = {suffix: deb_of(*ENTRIES[:5], suffix=suffix, control_suffix=suffix) for suffix in PACK}


@settings(max_examples=many(40))
@given(st.sampled_from(sorted(PACK)), st.data())
def test_reads_or_rejects_damaged_packages(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = write(tmp_path / "a.deb", data.draw(damaged(DEB[suffix], [b"../", b"\0" * 512, b"`\n", b"!<arch>\n"])))
    with contextlib.suppress(DebianError):
        deb = open_deb(path)
        assert deb.control["Package"]
        assert deb.md5sums is not None
        for member, content in deb.members():
            assert not {"", ".", ".."} & set(member.path.split("/"))
            assert sum(map(len, content)) == member.size


@settings(max_examples=many(40))
@given(damaged(TAR, [b"../", b"\0" * 512, b"7", b"\x80"]))
def test_reads_or_rejects_damaged_archives(data: bytes) -> None:
    with contextlib.suppress(DebianError):
        for member, content in members([data], place=""):
            assert member.kind in {"file", "hardlink", "symlink", "directory"}
            assert not {"", ".", ".."} & set(member.path.split("/"))
            assert sum(map(len, content)) == member.size


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is not installed")
@pytest.mark.parametrize("kind", ["gzip", "xz", "none"])
def test_reads_packages_as_dpkg_does(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(f"{CONTROL.decode()}Maintainer: A <a@example.org>\n")
    (root / LONG).parent.mkdir(parents=True)
    (root / LONG).write_bytes(b"x" * 100_000)
    (root / "link").symlink_to("usr/share")
    (root / "hard").hardlink_to(root / LONG)
    path = tmp_path / "hello.deb"
    subprocess.run(["dpkg-deb", f"-Z{kind}", "--root-owner-group", "-b", root, path], check=True, capture_output=True)
    whole = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        expected = [
            (each.name.removeprefix("./"), each.mode, each.uid, each.linkname.removeprefix("./"))
            for each in archive
            if each.name not in {".", "./"}
        ]
    assert [(each.path, each.mode, each.uid, each.link) for each, _ in contents(path)] == expected
    assert open_deb(path).control["Maintainer"] == "A <a@example.org>"
