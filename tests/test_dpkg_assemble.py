from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from dpkg_maker import Item, data_of, directory, file, link, listing, make_deb
from elf_maker import make_library

from hatch_docker.debian.deb import Deb
from hatch_docker.dpkg.assemble import Assembled, added_files, needs_content, root_files
from hatch_docker.dpkg.ldcache import FLAGS, CacheEntry, ld_so_cache, read_ld_so_cache
from hatch_docker.errors import PackageError
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.layer import Entry, write_layer

LIB = "usr/lib/x86_64-linux-gnu"
CONF = {"etc/ld.so.conf": b"include /etc/ld.so.conf.d/*.conf\n", "etc/ld.so.conf.d/a.conf": b"/lib/x86_64-linux-gnu\n"}
IMAGE: dict[str, bytes | str | None] = {
    **CONF,
    "bin": "usr/bin",
    "lib": "usr/lib",
    "usr/bin/sh": b"",
    f"{LIB}/libc.so.6": b"",
    "tmp": None,
    "var/lib/dpkg/status": b"Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.41\n",
}

Make = Callable[..., Deb]


@pytest.fixture
def deb(tmp_path: Path) -> Make:
    numbers = itertools.count()

    def make(items: Mapping[str, Item], name: str = "", **options: object) -> Deb:
        return make_deb(tmp_path, name or f"package{next(numbers)}", items, **options)  # type: ignore[arg-type]

    return make


def root(*debs: Deb) -> dict[str, Entry]:
    return by_path(root_files(debs, io.BytesIO(), architecture="amd64"))


def added(image: Mapping[str, bytes | str | None], *debs: Deb) -> dict[str, Entry]:
    return by_path(added_files(listing(image), debs, io.BytesIO(), architecture="amd64"))


def by_path(made: Assembled) -> dict[str, Entry]:
    paths = [entry.path for entry in made.entries]
    assert len(paths) == len({*paths})
    # The entries are a valid layer.
    write_layer(made.entries, io.BytesIO())
    return {entry.path: entry for entry in made.entries}


def library(*needed: str, soname: str = "", runpath: str = "", rpath: str = "") -> Item:
    return file(make_library(needed, soname=soname, runpath=runpath, rpath=rpath), mode=0o755)


def cache_of(entries: Mapping[str, Entry]) -> dict[str, str]:
    return {each.name: each.path for each in read_ld_so_cache(data_of(entries["etc/ld.so.cache"]))}


class TestRoot:
    def libc(self, deb: Make) -> Deb:
        return deb(
            {f"{LIB}/libc.so.6": library(soname="libc.so.6"), **{path: file(data) for path, data in CONF.items()}}
        )

    def test_has_files_of_packages_and_the_skeleton(self, deb: Make) -> None:
        tool = deb({"bin/tool": library("libc.so.6"), "var/run": directory(), "tmp": directory(0o1777)}, name="tool")
        made = root(self.libc(deb), tool)
        assert data_of(made["usr/bin/tool"]).startswith(b"\x7fELF")
        assert made["bin"].link == "usr/bin"
        assert made["var/run"].link == "/run"
        assert made["run"].is_directory
        assert b"nonroot" in data_of(made["etc/passwd"])
        assert cache_of(made) == {"libc.so.6": "/lib/x86_64-linux-gnu/libc.so.6"}
        assert "var/lib/dpkg/status.d/tool" in made

    def test_leaves_out_scripts_without_an_interpreter(self, deb: Make) -> None:
        items = {"usr/bin/script": file(b"#!/bin/sh\n", mode=0o755), "usr/bin/text": file(b"#!/bin/sh\n")}
        package = deb(items, name="tool")
        result = root_files([package], io.BytesIO(), architecture="amd64")
        made = by_path(result)
        assert "usr/bin/script" not in made
        assert "usr/bin/text" in made
        assert b"usr/bin/script" not in data_of(made["var/lib/dpkg/status.d/tool.md5sums"])
        assert result.notes == ("scripts without an interpreter are left out: /usr/bin/script",)
        assert "usr/bin/script" in root(package, deb({"bin/dash": library(), "bin/sh": link("dash")}))

    def test_unsupported_architecture(self, deb: Make) -> None:
        with pytest.raises(PackageError, match="'mips'"):
            root_files([self.libc(deb)], io.BytesIO(), architecture="mips")


class TestOnAnImage:
    def test_new_libraries_are_in_the_cache(self, deb: Make) -> None:
        before = CacheEntry(name="libc.so.6", path="/lib/x86_64-linux-gnu/libc.so.6", flags=FLAGS["x86_64"])
        gone = CacheEntry(name="libgone.so.1", path="/lib/x86_64-linux-gnu/libgone.so.1", flags=FLAGS["x86_64"])
        image = {**IMAGE, "etc/ld.so.cache": ld_so_cache([before, gone])}
        made = added(image, deb({f"{LIB}/libpq.so.5.17": library("libc.so.6", soname="libpq.so.5")}))
        assert cache_of(made) == {
            "libpq.so.5": "/lib/x86_64-linux-gnu/libpq.so.5",
            "libc.so.6": "/lib/x86_64-linux-gnu/libc.so.6",
        }
        assert made[f"{LIB}/libpq.so.5"].link == "libpq.so.5.17"

    def test_the_cache_stays_without_new_libraries(self, deb: Make) -> None:
        made = added(IMAGE, deb({"usr/bin/tool": library("libc.so.6"), "tmp": directory()}))
        assert {path for path in made if not path.startswith("var/lib/dpkg")} == {"usr/bin/tool"}

    def test_rejects_a_file_in_place_of_a_directory(self, deb: Make) -> None:
        with pytest.raises(PackageError, match="/tmp of package0 is a directory"):
            added(IMAGE, deb({"tmp": file()}))

    def test_checks_scripts_first(self, deb: Make) -> None:
        with pytest.raises(PackageError, match="runs adduser"):
            added(IMAGE, deb({}, scripts={"postinst": "#!/bin/sh\nadduser x\n"}))

    def test_an_alternative_satisfies_a_library(self, deb: Make) -> None:
        script = f"#!/bin/sh\nupdate-alternatives --install /{LIB}/libblas.so.3 blas /{LIB}/blas/libblas.so.3 10\n"
        blas = deb({f"{LIB}/blas/libblas.so.3": library(soname="libblas.so.3")}, scripts={"postinst": script})
        made = added(IMAGE, blas, deb({"usr/bin/tool": library("libblas.so.3")}))
        assert made[f"{LIB}/libblas.so.3"].link == "/etc/alternatives/blas"
        assert cache_of(made) == {"libblas.so.3": "/lib/x86_64-linux-gnu/libblas.so.3"}


class TestChecks:
    def test_missing_library(self, deb: Make) -> None:
        tool = deb({"usr/bin/tool": library("libc.so.6", "libpq.so.5", "libz.so.1")}, name="tool")
        with pytest.raises(PackageError) as caught:
            added(IMAGE, tool)
        assert "tool: /usr/bin/tool needs libpq.so.5" in caught.value.message
        assert "libz.so.1" in caught.value.message
        assert "libc.so.6" not in caught.value.message

    @pytest.mark.parametrize(
        ("place", "search"),
        [
            ("opt/tool/lib", {"runpath": "$ORIGIN/../lib"}),
            ("opt/tool/lib", {"rpath": "${ORIGIN}/../lib"}),
            ("opt/tool/lib", {"runpath": "/nowhere:/opt/tool/lib"}),
            ("opt/tool/bin", {}),
        ],
    )
    def test_library_in_the_search_path_of_a_program(self, deb: Make, place: str, search: dict[str, str]) -> None:
        items = {
            "opt/tool/bin/tool": library("libown.so.1", **search),
            f"{place}/libown.so.1": library(soname="libown.so.1"),
        }
        assert "opt/tool/bin/tool" in added(IMAGE, deb(items))

    def test_library_outside_of_all_search_paths(self, deb: Make) -> None:
        items = {"opt/tool/bin/tool": library("libown.so.1"), "opt/other/libown.so.1": library(soname="libown.so.1")}
        with pytest.raises(PackageError, match=r"needs libown\.so\.1"):
            added(IMAGE, deb(items))

    @pytest.mark.parametrize("place", [1 << 40, (1 << 63) - 1, (1 << 64) - 1])
    def test_ignores_libraries_with_offsets_beyond_their_end(self, deb: Make, place: int) -> None:
        data = bytearray(make_library(("libnone.so.1",), soname="liba.so.1"))
        headers, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
        dynamic = next(
            at for at in (headers + 56 * each for each in range(count)) if struct.unpack_from("<L", data, at)[0] == 2
        )
        struct.pack_into("<Q", data, dynamic + 8, place)
        damaged = deb({f"{LIB}/liba.so.1": file(bytes(data))})
        assert f"{LIB}/liba.so.1" in root(damaged)

    def test_plugins_may_lack_libraries(self, deb: Make) -> None:
        package = deb({f"{LIB}/tool/plugin.so": library("libGLU.so.1")})
        made = added_files(listing(IMAGE), [package], io.BytesIO(), architecture="amd64")
        assert made.notes == (f"plugins that cannot be loaded: /{LIB}/tool/plugin.so needs libGLU.so.1",)

    @pytest.mark.parametrize(
        "line", [b"#!/bin/sh -e", b"#! /usr/bin/sh", b"#!/usr/bin/env sh", b"#!/bin/env -S A=1 sh x"]
    )
    def test_existing_interpreter(self, deb: Make, line: bytes) -> None:
        image = {**IMAGE, "usr/bin/env": b""}
        assert "usr/bin/script" in added(image, deb({"usr/bin/script": file(line + b"\n", mode=0o755)}))

    @pytest.mark.parametrize(
        ("line", "name", "package"),
        [(b"#!/usr/bin/perl -w", "/usr/bin/perl", "perl-base"), (b"#!/usr/bin/env bash", "bash", "bash")],
    )
    def test_missing_interpreter(self, deb: Make, line: bytes, name: str, package: str) -> None:
        with pytest.raises(PackageError) as caught:
            added(IMAGE, deb({"usr/bin/script": file(line + b"\n", mode=0o755)}, name="tool"))
        assert f"tool: /usr/bin/script is a script of {name}" in caught.value.message
        assert package in caught.value.hint

    def test_leaves_out_broken_scripts_beside_programs(self, deb: Make) -> None:
        items = {
            "usr/bin/curl": library("libc.so.6"),
            "usr/bin/wcurl": file(b"#!/bin/zsh\n", mode=0o755),
            "usr/share/curl/zsh.sh": file(b"#!/bin/zsh\n", mode=0o755),
        }
        made = added_files(listing(IMAGE), [deb(items, name="curl")], io.BytesIO(), architecture="amd64")
        paths = {entry.path: entry for entry in made.entries}
        assert {"usr/bin/curl", "usr/share/curl/zsh.sh"} <= paths.keys()
        assert "usr/bin/wcurl" not in paths
        assert data_of(paths["var/lib/dpkg/info/curl.list"]) == b"/.\n/usr/bin/curl\n/usr/share/curl/zsh.sh\n"
        assert made.notes == ("scripts without an interpreter are left out: /usr/bin/wcurl",)

    def test_rejects_broken_scripts_that_programs_may_call(self, deb: Make) -> None:
        items = {"usr/bin/git": library("libc.so.6"), "usr/lib/git-core/git-x": file(b"#!/bin/zsh\n", mode=0o755)}
        with pytest.raises(PackageError, match="/usr/lib/git-core/git-x is a script of /bin/zsh"):
            added(IMAGE, deb(items))

    @pytest.mark.parametrize(
        "path",
        [
            "etc/init.d/x",
            "etc/X11/Xsession",
            "usr/share/x/run",
            "usr/lib/python3/dist-packages/x/run.py",
            "usr/lib/postgresql/17/lib/pgxs/config/install-sh",
        ],
    )
    def test_files_that_are_not_started_may_lack_an_interpreter(self, deb: Make, path: str) -> None:
        assert path in added(IMAGE, deb({path: file(b"#!/bin/zsh\n", mode=0o755)}))

    def test_modules_stay_in_a_new_root(self, deb: Make) -> None:
        path = "usr/lib/python3.11/cgi.py"
        made = root_files(
            [deb({path: file(b"#!/usr/local/bin/python\n", mode=0o755)})], io.BytesIO(), architecture="amd64"
        )
        assert path in {entry.path for entry in made.entries}
        assert made.notes == ()

    def test_leaves_out_scripts_for_maintenance(self, deb: Make) -> None:
        items = {path: file(b"#!/bin/zsh\n", mode=0o755) for path in ("usr/sbin/service", "usr/libexec/dpkg/backup")}
        made = added(IMAGE, deb(items, name="init-system-helpers"))
        assert items.keys().isdisjoint(made)

    def test_counts_many_problems(self, deb: Make) -> None:
        items = {f"usr/bin/s{number}": file(b"#!/usr/bin/perl\n", mode=0o755) for number in range(9)}
        with pytest.raises(PackageError, match="and 4 more"):
            added(IMAGE, deb(items))


def test_needs_content() -> None:
    read = ["etc/ld.so.cache", "var/lib/dpkg/status", "var/lib/dpkg/status.d/libc6", "var/lib/dpkg/info/a:amd64.list"]
    read += ["var/lib/dpkg/diversions", "usr/local/share/ca-certificates/mine.crt"]
    assert all(needs_content(path) for path in read)
    assert not any(
        needs_content(path) for path in ("usr/bin/python3", "var/lib/dpkg/info/a.md5sums", "var/lib/dpkg/lock")
    )


def test_endless_configuration_of_the_loader(deb: Make) -> None:
    names = "".join(f"include ld.so.conf.d/{'*' * (number % 9)}{number}*\n" for number in range(5000))
    image = {
        **IMAGE,
        "loop": "loop",
        "etc/ld.so.conf": f"include ld.so.conf\ninclude [z-a]\n{names}".encode(),
        **{f"etc/ld.so.conf.d/{number}": b"include *\ninclude ../ld.so.conf\n/loop/x\n" for number in range(300)},
    }
    made = added(image, deb({f"{LIB}/libpq.so.5": library(soname="libpq.so.5")}))
    assert cache_of(made) == {"libpq.so.5": "/lib/x86_64-linux-gnu/libpq.so.5"}


def test_ignores_loops_of_links_in_the_parent_image(deb: Make) -> None:
    image: Filesystem = listing({**IMAGE, "opt/a": "b", "opt/b": "a"})
    made = added_files(image, [deb({"usr/bin/tool": library()})], io.BytesIO(), architecture="amd64")
    assert "usr/bin/tool" in by_path(made)
