from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from debian_maker import damaged
from elf_maker import make_library
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.dpkg.ldcache import FLAGS, CacheEntry, ld_so_cache, read_ld_so_cache, version_key
from hatch_docker.dpkg.loader import Loader, libraries_of, loader_of, with_entries
from hatch_docker.errors import ImageError
from hatch_docker.oci.layer import Entry

LDCONFIG = shutil.which("ldconfig") or shutil.which("ldconfig", path="/sbin:/usr/sbin")
_HWCAP = ', hwcap: "{}"'
AMD64 = FLAGS["x86_64"]

NAMES = st.builds(
    "lib{}.so{}".format, st.sampled_from(["a", "b-2", "b-10", "Z", "é"]), st.sampled_from(["", ".1", ".10", ".9"])
)
ENTRIES = st.lists(
    st.builds(
        CacheEntry,
        name=NAMES,
        path=st.builds("/{}/{}".format, st.sampled_from(["lib", "usr/lib", "opt/é"]), NAMES),
        flags=st.sampled_from([AMD64, 3, 0x0803]),
        hwcaps=st.sampled_from(["", "x86-64-v2", "x86-64-v3"]),
    ),
    max_size=20,
    unique=True,
)


def entry(name: str, path: str = "", hwcaps: str = "", flags: int = AMD64) -> CacheEntry:
    return CacheEntry(name=name, path=path or f"/lib/{name}", flags=flags, hwcaps=hwcaps)


def printed(cache: Path) -> list[str]:
    """The entries that ldconfig prints of a cache."""
    assert LDCONFIG is not None
    done = subprocess.run([LDCONFIG, "-p", "-C", str(cache)], capture_output=True, encoding="utf-8", check=True)
    return [line.strip() for line in done.stdout.splitlines() if " => " in line]


@given(ENTRIES, st.sampled_from(["x86_64", "s390x"]))
def test_reads_what_was_written(entries: list[CacheEntry], machine: str) -> None:
    data = ld_so_cache(entries, machine=machine)
    found = read_ld_so_cache(data)
    assert sorted(found, key=repr) == sorted(entries, key=repr)
    assert ld_so_cache(found, machine=machine) == data


def test_has_the_byte_order_of_the_cpu() -> None:
    one = [entry("libc.so.6", flags=FLAGS["s390x"])]
    little, big = ld_so_cache(one), ld_so_cache(one, machine="s390x")
    assert len(little) == len(big)
    assert (little[20:24], big[20:24]) == (b"\1\0\0\0", b"\0\0\0\1")
    assert (little[28], big[28]) == (2, 3)


@given(ENTRIES, st.randoms())
def test_order_of_entries_matters_between_equals_only(entries: list[CacheEntry], random: object) -> None:
    other = entries.copy()
    random.shuffle(other)  # type: ignore[attr-defined]

    def shape(found: list[CacheEntry]) -> list[tuple[str, int, str]]:
        return [(each.name, each.flags, each.hwcaps) for each in found]

    assert shape(read_ld_so_cache(ld_so_cache(entries))) == shape(read_ld_so_cache(ld_so_cache(other)))


def test_sorts_names_by_numbers_and_entries_for_cpus_first() -> None:
    entries = [
        entry("libz.so.9"),
        entry("libz.so.10"),
        entry("libz.so.10", "/a/glibc-hwcaps/x86-64-v3/libz.so.10", "x86-64-v3"),
        entry("libz.so.10", "/a/glibc-hwcaps/x86-64-v2/libz.so.10", "x86-64-v2"),
        entry("libz.so.10", "/usr/lib/libz.so.10"),
        entry("libz.so"),
    ]
    found = read_ld_so_cache(ld_so_cache(entries))
    assert [each.path for each in found] == [
        "/a/glibc-hwcaps/x86-64-v2/libz.so.10",
        "/a/glibc-hwcaps/x86-64-v3/libz.so.10",
        "/lib/libz.so.10",
        "/usr/lib/libz.so.10",
        "/lib/libz.so.9",
        "/lib/libz.so",
    ]


@given(st.lists(NAMES, min_size=3, max_size=3))
def test_names_have_a_total_order(names: list[str]) -> None:
    one, two, three = sorted(names, key=version_key)
    assert version_key(one) <= version_key(two) <= version_key(three)


def test_reads_a_cache_after_one_in_the_older_format() -> None:
    data = ld_so_cache([entry("liba.so.1")])
    old = struct.pack("<12sL", b"ld.so-1.7.0\0", 3) + bytes(36)
    assert read_ld_so_cache(old + bytes(-len(old) % 8) + data) == [entry("liba.so.1")]


@given(st.data())
def test_reads_or_rejects_damaged_caches(data: st.DataObject) -> None:
    whole = ld_so_cache([entry("liba.so.1"), entry("libb.so.1", hwcaps="x86-64-v3")])
    try:
        read_ld_so_cache(data.draw(damaged(whole, [b"\xff\xff\xff\xff", b"\0"])))
    except ImageError:
        return


@pytest.mark.skipif(LDCONFIG is None, reason="there is no ldconfig")
def test_rejects_overlapping_names() -> None:
    text = b"x" * 4000 + b"\0"
    count = 20_000
    header = struct.pack("<20sLLB3xL12x", b"glibc-ld.so.cache1.1", count, len(text), 2, 0)
    start = len(header) + 24 * count
    table = b"".join(struct.pack("<lLLLQ", 3, start + each % 2000, start, 0, 0) for each in range(count))
    with pytest.raises(ImageError, match="not a valid cache of the dynamic loader"):
        read_ld_so_cache(header + table + text)


def test_rejects_too_many_sections() -> None:
    header = struct.pack("<20sLLB3xL12x", b"glibc-ld.so.cache1.1", 0, 0, 2, 48)
    for count, size in ((1000, 0), (1, 1 << 20)):
        sections = struct.pack("<LL", 0xEAA42174, count) + struct.pack("<LLLL", 1, 0, 48, size) * count
        with pytest.raises(ImageError, match="not a valid cache of the dynamic loader"):
            read_ld_so_cache(header + sections + bytes(1 << 20))


class TestAgainstLdconfig:
    @given(entries=ENTRIES)
    def test_ldconfig_reads_our_cache(
        self, entries: list[CacheEntry], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        cache = tmp_path_factory.mktemp("cache") / "ld.so.cache"
        cache.write_bytes(ld_so_cache(entries))
        kinds = {AMD64: "libc6,x86-64", 3: "libc6", 0x0803: "libc6,x32"}
        expected = [
            f"{each.name} ({kinds[each.flags]}{_HWCAP.format(each.hwcaps) * bool(each.hwcaps)}) => {each.path}"
            for each in read_ld_so_cache(cache.read_bytes())
        ]
        assert printed(cache) == expected

    def test_finds_the_same_libraries_as_ldconfig(self, tmp_path: Path) -> None:
        files, loader = image(tmp_path)
        for each in files:
            path = tmp_path / each.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if each.link:
                path.symlink_to(each.link)
            elif isinstance(each.content, bytes):
                path.write_bytes(each.content)
        cache = tmp_path / "ld.so.cache"
        configuration = tmp_path / "conf"
        configuration.write_text(f"{tmp_path}/one\n{tmp_path}/two\n")
        assert LDCONFIG is not None
        # Without -X it would change links, also in the directories of this machine.
        command = [LDCONFIG, "-X", "-C", str(cache), "-f", str(configuration)]
        done = subprocess.run(command, capture_output=True, check=False)
        if not cache.exists():
            pytest.skip(f"ldconfig does not write there: {done.stderr.decode()}")
        found, _ = loader.new_entries()
        ours = tmp_path / "ours"
        ours.write_bytes(ld_so_cache(found))
        theirs = [line for line in printed(cache) if f"=> {tmp_path}/" in line]
        assert len(theirs) > 5
        assert printed(ours) == theirs


def image(root: Path) -> tuple[list[Entry], Loader]:
    """Libraries in two directories below `root`, and the loader of an image with them."""

    def library(path: str, soname: str = "") -> Entry:
        return Entry(path=path, content=make_library(soname=soname, padding=64))

    entries = [
        library("one/libz.so.1.2.13", "libz.so.1"),
        Entry(path="one/libz.so.1", link="libz.so.1.2.13"),
        Entry(path="one/libz.so", link="libz.so.1.2.13"),
        library("one/libnew.so.1.9", "libnew.so.1"),
        library("one/libnew.so.1.10", "libnew.so.1"),
        library("one/libdb-5.3.so", "libdb-5.3.so"),
        library("one/libnone.so.3"),
        library("one/plugin.so", "plugin.so"),
        Entry(path="one/libscript.so", content=b"INPUT(libz.so.1)"),
        Entry(path="one/libgone.so.1", link="nowhere"),
        library("two/libz.so.1.3", "libz.so.1"),
        library("two/sub/libsub.so.1", "libsub.so.1"),
    ]
    there = {f"{root}/{each.path}".lstrip("/"): each for each in entries}
    placed = {path: Entry(path=path, content=each.content, link=each.link) for path, each in there.items()}
    configuration = Entry(path="etc/ld.so.conf", content=f"{root}/one\n{root}/two # last\n".encode())
    all_of_them = {**placed, configuration.path: configuration}
    libraries = libraries_of(placed.values())
    loader = loader_of(with_entries(None, all_of_them.values()), all_of_them, libraries, "amd64")
    return entries, loader


def test_makes_missing_links(tmp_path: Path) -> None:
    _, loader = image(tmp_path)
    found, links = loader.new_entries()
    stem = str(tmp_path).lstrip("/")
    assert {each.path: each.link for each in links} == {
        f"{stem}/one/libnew.so.1": "libnew.so.1.10",
        f"{stem}/two/libz.so.1": "libz.so.1.3",
    }
    assert [each.name for each in found].count("libz.so.1") == 2
