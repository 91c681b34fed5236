from __future__ import annotations

import contextlib
import gzip
import itertools
import lzma
import re
import tracemalloc
from pathlib import Path

import pytest
from debian_maker import damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many
from packages_maker import index_of, paragraph_of

from hatch_docker.debian.compression import decompressed
from hatch_docker.debian.control import Relation, relations
from hatch_docker.debian.packages import Package, PackageIndex, read_index, read_status
from hatch_docker.errors import DebianError

CURL = """\
Package: curl
Version: 8.14.1-2
Installed-Size: 494
Maintainer: Debian Curl Maintainers <team+curl@tracker.debian.org>
Architecture: amd64
Source: curl-source (8.14.1)
Pre-Depends: init-system-helpers (>= 1.54~)
Depends: libc6 (>= 2.34), libcurl4t64 (= 8.14.1-2), zlib1g (>= 1:1.1.4) | zlib
Provides: http-client, curl-api (= 8)
Breaks: old (<< 2)
Conflicts: other
Description: command line tool
Multi-Arch: foreign
Tag: implemented-in::c,
 role::program
Section: web
Priority: Required
Essential: yes
Filename: pool/main/c/curl/curl_8.14.1-2_amd64.deb
Size: 269636
MD5sum: 95006c68ab3ee6f4d7acf53c8e681af3
SHA256: 135636bd8b713c582d33e50ec4e36ea55cc3c5da3f12bbeb6b87d2bcbd3a0649
"""


def test_reads_a_package_from_its_paragraph() -> None:
    index = index_of(paragraph_of("a"), CURL, paragraph_of("z"), suite="trixie-security")
    assert index.packages("curl") == [
        Package(
            name="curl",
            version="8.14.1-2",
            architecture="amd64",
            suite="trixie-security",
            filename="pool/main/c/curl/curl_8.14.1-2_amd64.deb",
            size=269636,
            sha256="135636bd8b713c582d33e50ec4e36ea55cc3c5da3f12bbeb6b87d2bcbd3a0649",
            source="curl-source",
            priority="required",
            essential=True,
            multi_arch="foreign",
            pre_depends=relations("init-system-helpers (>= 1.54~)"),
            depends=relations("libc6 (>= 2.34), libcurl4t64 (= 8.14.1-2), zlib1g (>= 1:1.1.4) | zlib"),
            provides=((Relation(name="http-client"),), (Relation(name="curl-api", operator="=", version="8"),)),
            breaks=relations("old (<< 2)"),
            conflicts=relations("other"),
        )
    ]
    assert (len(index), "curl" in index, "cur" in index, sorted(index.names())) == (3, True, False, ["a", "curl", "z"])
    assert str(index.packages("curl")[0]) == "curl 8.14.1-2"


def test_source_defaults_to_the_package_name() -> None:
    assert index_of(paragraph_of("a")).packages("a")[0].source == "a"


def test_finds_all_versions_of_a_package() -> None:
    index = index_of(paragraph_of("a", "1"), paragraph_of("b"), paragraph_of("a", "2"))
    assert [each.version for each in index.packages("a")] == ["1", "2"]
    assert index.packages("missing") == []


def test_finds_providers_of_a_name() -> None:
    index = index_of(
        paragraph_of("mawk", Provides="awk"),
        paragraph_of("gawk", Provides="gnu-awk (= 5),awk:amd64 (= 1) ,\n awk-too"),
        paragraph_of("awkward", Provides="awkish"),
    )
    assert [each.name for each in index.providers("awk")] == ["mawk", "gawk"]
    assert [each.name for each in index.providers("awk-too")] == ["gawk"]
    assert index.providers("mawk") == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"Version": ""}, "'' is not a version"),
        ({"Version": "1_0"}, "'1_0' is not a version"),
        ({"Architecture": ""}, "has no Architecture"),
        ({"Depends": "b [amd64]"}, "is not a relation"),
        ({"Filename": ""}, "has a Filename outside of the archive"),
        ({"Filename": "/etc/passwd"}, "has a Filename outside of the archive"),
        ({"Filename": "pool/../../a.deb"}, "has a Filename outside of the archive"),
        ({"Filename": "pool//a.deb"}, "has a Filename outside of the archive"),
        ({"Size": ""}, "has no Size"),
        ({"Size": "-1"}, "has an invalid Size"),
        ({"Size": "1" * 5000}, "has an invalid Size"),
        ({"SHA256": ""}, "has no SHA256"),
        ({"SHA256": "0" * 63}, "has an invalid SHA256"),
    ],
)
def test_rejects_an_invalid_paragraph_when_it_is_requested(fields: dict[str, str], message: str) -> None:
    index = index_of(paragraph_of("good"), paragraph_of("bad", **fields))
    assert index.packages("good")
    with pytest.raises(DebianError, match=message) as error:
        index.packages("bad")
    assert error.value.place == "trixie: Packages: bad"


def test_rejects_two_paragraphs_without_an_empty_line() -> None:
    index = index_of(paragraph_of("a") + paragraph_of("b"))
    with pytest.raises(DebianError, match="a second time"):
        index.packages("a")


def test_rejects_too_large_paragraphs() -> None:
    line = b"Tag: " + b"x" * 1000 + b"\n"
    for text in (b"Package: a\n" + line * 5000, line * 5000 + b"Package: a\n"):
        with pytest.raises(DebianError, match="too large a paragraph"):
            PackageIndex([text], suite="trixie").packages("a")


def test_a_repeated_name_takes_no_longer_than_many_names() -> None:
    count = 200_000
    index = PackageIndex([b"Package: a\nProvides: b\n\n" * count], suite="trixie")
    assert len(index) == 1
    with pytest.raises(DebianError, match="is not a version"):
        index.packages("a")


def test_rejects_paragraphs_that_are_not_utf8() -> None:
    index = PackageIndex([b"Package: a\nVersion: 1\nMaintainer: \xff\n"], suite="trixie")
    with pytest.raises(DebianError, match="not UTF-8"):
        index.packages("a")


@pytest.mark.parametrize(
    ("name", "pack"), [("Packages.xz", lzma.compress), ("Packages.gz", gzip.compress), ("Packages", bytes)]
)
def test_reads_an_index_from_a_file(tmp_path: Path, name: str, pack: type[bytes]) -> None:
    (tmp_path / name).write_bytes(pack(f"{CURL}\n{paragraph_of('a')}".encode()))
    assert sorted(read_index(tmp_path / name, suite="trixie").names()) == ["a", "curl"]


def test_reads_an_index_from_a_file_without_suffix(tmp_path: Path) -> None:
    (tmp_path / "0123").write_bytes(lzma.compress(CURL.encode()))
    assert "curl" in read_index(tmp_path / "0123", suite="trixie", suffix=".xz")


def test_empty_index(tmp_path: Path) -> None:
    (tmp_path / "Packages.xz").write_bytes(lzma.compress(b""))
    assert len(read_index(tmp_path / "Packages.xz", suite="trixie")) == 0


def test_rejects_damaged_and_missing_indexes(tmp_path: Path) -> None:
    path = tmp_path / "Packages.xz"
    whole = lzma.compress(CURL.encode())
    for data, message in (
        (whole[:-20], "is truncated"),
        (b"", "is truncated"),
        (whole[:40] + b"!" + whole[41:], "cannot be decompressed"),
        (whole + b"more", "there is data after its end"),
        (CURL.encode(), "cannot be decompressed"),
    ):
        path.write_bytes(data)
        with pytest.raises(DebianError, match=message):
            read_index(path, suite="trixie")
    with pytest.raises(DebianError, match="cannot be read"):
        read_index(tmp_path / "none.xz", suite="trixie")


def test_rejects_too_large_indexes_before_memory_is_exhausted() -> None:
    with pytest.raises(DebianError, match="larger than 256 MiB"):
        PackageIndex(itertools.repeat(bytes(1 << 20)), suite="trixie")


def test_keeps_only_the_text_of_a_large_index(tmp_path: Path) -> None:
    path = tmp_path / "Packages.xz"
    filler = "Description: " + "x" * 800
    text = "\n".join(f"{paragraph_of(f'package{number}')}{filler}\n" for number in range(20_000)).encode()
    path.write_bytes(lzma.compress(text, preset=0))
    tracemalloc.start()
    index = read_index(path, suite="trixie")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index) == 20_000
    assert peak < 1.6 * len(text)


STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41-12
Provides: libc6-alternative

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: half
Status: install reinstreq half-installed
Architecture: amd64
Version: 1

Package: held
Status: hold ok installed
Architecture: all
Version: 2
Conffiles:
 /etc/held 95006c68ab3ee6f4d7acf53c8e681af3
"""


def test_status_file() -> None:
    assert [str(each) for each in read_status(STATUS, place="status")] == ["libc6 2.41-12", "held 2"]
    assert read_status("", place="status") == []


def test_status_d_without_status_fields() -> None:
    (package,) = read_status("Package: tzdata\nVersion: 1\nArchitecture: all\n", place="status.d/tzdata")
    assert (package.name, package.filename, package.suite) == ("tzdata", "", "")


def test_rejects_invalid_status_files() -> None:
    with pytest.raises(DebianError, match="has no Architecture") as error:
        read_status("Package: a\nVersion: 1\n", place="var/lib/dpkg/status")
    assert error.value.place == "var/lib/dpkg/status: a"


WHOLE = "\n".join([CURL, paragraph_of("a", Depends="b (>= 1) | c"), paragraph_of("b", Provides="c (= 2)")]).encode()


@settings(max_examples=many(100))
@given(damaged(WHOLE, [b"\n\n", b"\n", b"Package: ", b"Size:", b"../", b"\0", b"\xff", b"Filename: "]))
def test_reads_or_rejects_damaged_indexes(data: bytes) -> None:
    with contextlib.suppress(DebianError):
        index = PackageIndex([data], suite="trixie")
        for name in index.names():
            for package in (*index.packages(name), *index.providers(name)):
                assert re.fullmatch(r"[0-9a-f]{64}", package.sha256)
                assert not {"", ".", ".."} & set(package.filename.split("/"))


@settings(max_examples=many(60))
@given(st.data())
def test_damaged_index_files_are_equal_or_rejected(data: st.DataObject) -> None:
    changed = data.draw(damaged(lzma.compress(WHOLE), [bytes(4)]))
    with contextlib.suppress(DebianError):
        assert b"".join(decompressed([changed], ".xz", place="Packages.xz")) == WHOLE
