from __future__ import annotations

import io
import posixpath
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from dpkg_maker import Item, data_of, directory, file, link, make_deb
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.debian.deb import Deb
from hatch_docker.dpkg import unpack as module
from hatch_docker.dpkg.unpack import USRMERGE, SymlinkResolver, Unpacked
from hatch_docker.errors import PackageError
from hatch_docker.oci.filesystem import Filesystem, Node
from hatch_docker.oci.layer import Entry, arrange, write_layer


def unpack(
    *debs: Deb, links: Mapping[str, str] = USRMERGE, present: tuple[str, ...] = (), threads: int = 1
) -> Unpacked:
    return module.unpack(debs, io.BytesIO(), links, present=present, threads=threads)


class TestOnePackage:
    def test_keeps_all_attributes(self, tmp_path: Path) -> None:
        items = {
            "usr/bin": directory(),
            "usr/bin/su": file(b"\x7fELF", mode=0o4755),
            "usr/bin/write": file(b"w", mode=0o2755, gid=5),
            "usr/bin/w": link("write"),
            "var/lib/thing": Item(mode=0o1770, uid=7, gid=8),
            "etc/empty": file(b""),
        }
        entries = unpack(make_deb(tmp_path, "thing", items)).entries
        assert entries.keys() == items.keys()
        assert (entries["usr/bin/su"].mode, data_of(entries["usr/bin/su"])) == (0o4755, b"\x7fELF")
        assert (entries["usr/bin/write"].mode, entries["usr/bin/write"].gid) == (0o2755, 5)
        assert entries["usr/bin/w"].link == "write"
        assert entries["var/lib/thing"].is_directory
        assert (entries["var/lib/thing"].mode, entries["var/lib/thing"].uid, entries["var/lib/thing"].gid) == (
            0o1770,
            7,
            8,
        )
        assert data_of(entries["etc/empty"]) == b""

    def test_follows_the_links_of_usrmerge(self, tmp_path: Path) -> None:
        items = {
            "bin": directory(),
            "bin/sh": link("dash"),
            "lib": directory(),
            "lib/x86_64-linux-gnu/libz.so.1": file(),
            "usr/lib": directory(),
            "libexec": file(),
        }
        found = unpack(make_deb(tmp_path, "thing", items))
        assert {*found.entries} == {"usr/bin", "usr/bin/sh", "usr/lib", "usr/lib/x86_64-linux-gnu/libz.so.1", "libexec"}
        # dpkg lists the paths in the package.
        assert "bin/sh" in found.names["thing"]

    def test_does_not_follow_the_last_component(self, tmp_path: Path) -> None:
        entries = unpack(make_deb(tmp_path, "base-files", {"bin": link("usr/bin"), "usr/bin": directory()})).entries
        assert entries["bin"].link == "usr/bin"

    def test_hard_links_become_files(self, tmp_path: Path) -> None:
        items = {"usr/bin/perl": file(b"perl", mode=0o755), "usr/bin/perl5": Item(same="usr/bin/perl", mode=0o755)}
        entries = unpack(make_deb(tmp_path, "perl", items)).entries
        assert data_of(entries["usr/bin/perl5"]) == b"perl"
        assert entries["usr/bin/perl5"].mode == 0o755

    def test_hard_link_to_a_file_that_is_left_out(self, tmp_path: Path) -> None:
        items = {"usr/share/man/a": file(b"text"), "usr/share/x/a": Item(same="usr/share/man/a")}
        entries = unpack(make_deb(tmp_path, "odd", items)).entries
        assert {path: data_of(entry) for path, entry in entries.items()} == {"usr/share/x/a": b"text"}

    def test_leaves_out_documentation(self, tmp_path: Path) -> None:
        kept = {
            "usr/share/doc/a/copyright": file(),
            "usr/share/doc/b": link("a"),
            "usr/share/man": directory(),
            "usr/share/locale/locale.alias": file(),
            "usr/lib/locale/C.utf8/LC_CTYPE": file(),
            "usr/share/zoneinfo/UTC": file(),
            # A shell does not work without these.
            "usr/share/fish/config.fish": file(),
            "usr/share/zsh/functions/Completion/compinit": file(),
        }
        left = [
            "usr/share/doc/a/changelog.gz",
            "usr/share/doc/a/examples/copyright",
            "usr/share/man/man1/a.1.gz",
            "usr/share/info/a.gz",
            "usr/share/locale/de/LC_MESSAGES/a.mo",
            "usr/share/lintian/overrides/a",
            "usr/share/bash-completion/completions/a",
            "usr/share/fish/completions/a.fish",
            "usr/share/fish/vendor_completions.d/a.fish",
            "usr/share/zsh/vendor-completions/_a",
        ]
        found = unpack(make_deb(tmp_path, "a", {**kept, **{path: file() for path in left}}))
        assert {*found.entries} == {*kept}
        assert {*found.names["a"]} == {*kept}

    @pytest.mark.parametrize("path", ["usr/.wh.bin", "usr/.wh..wh..opq", ".wh.usr/a"])
    def test_rejects_whiteouts(self, tmp_path: Path, path: str) -> None:
        with pytest.raises(PackageError, match="is a whiteout") as caught:
            unpack(make_deb(tmp_path, "a", {path: file()}))
        assert caught.value.place == "a"

    def test_rejects_one_file_under_two_names(self, tmp_path: Path) -> None:
        items = {"bin/a": file(b"1"), "usr/bin/a": file(b"2")}
        with pytest.raises(PackageError, match="/usr/bin/a twice"):
            unpack(make_deb(tmp_path, "a", items))


class TestSeveral:
    def test_shares_directories_and_keeps_the_first_mode(self, tmp_path: Path) -> None:
        one = make_deb(tmp_path, "one", {"tmp": directory(0o1777)})
        # Also if the first package is smaller, and so unpacked later.
        noise = random.Random(1).randbytes(50_000)
        two = make_deb(tmp_path, "two", {"tmp": directory(0o755), "usr/share/noise": file(noise)})
        assert two.size > one.size
        assert unpack(one, two).entries["tmp"].mode == 0o1777

    def test_accepts_equal_files_of_two_packages(self, tmp_path: Path) -> None:
        debs = [make_deb(tmp_path, name, {"etc/a": file(b"same")}) for name in ("one", "two")]
        found = unpack(*debs)
        assert data_of(found.entries["etc/a"]) == b"same"
        assert all("etc/a" in names for names in found.names.values())

    @pytest.mark.parametrize("other", [file(b"b"), file(b"a", mode=0o755), link("a"), directory()])
    def test_rejects_different_files_at_one_path(self, tmp_path: Path, other: Item) -> None:
        debs = [make_deb(tmp_path, "one", {"etc/a": file(b"a")}), make_deb(tmp_path, "two", {"etc/a": other})]
        with pytest.raises(PackageError, match="/etc/a is both in one and in two") as caught:
            unpack(*debs)
        assert "leave one" in caught.value.hint

    @pytest.mark.parametrize("turned", [False, True])
    def test_replaces_wins_in_any_order(self, tmp_path: Path, turned: bool) -> None:
        one = make_deb(tmp_path, "one", {"etc/a": file(b"old")})
        two = make_deb(tmp_path, "two", {"etc/a": file(b"new")}, Replaces="zero, one (<< 2)")
        found = unpack(*([two, one] if turned else [one, two]))
        assert data_of(found.entries["etc/a"]) == b"new"
        assert found.owners["etc/a"] == "two"
        assert found.names == {"one": {}, "two": {"etc/a": "etc/a"}}

    def test_replaces_with_another_version(self, tmp_path: Path) -> None:
        one = make_deb(tmp_path, "one", {"etc/a": file(b"old")}, version="3")
        two = make_deb(tmp_path, "two", {"etc/a": file(b"new")}, Replaces="one (<< 2)")
        with pytest.raises(PackageError):
            unpack(one, two)

    @pytest.mark.parametrize("other", [link("/etc"), file(b"a")])
    @pytest.mark.parametrize("turned", [False, True])
    def test_rejects_a_file_below_a_link_of_another_package(self, tmp_path: Path, other: Item, turned: bool) -> None:
        one = make_deb(tmp_path, "one", {"usr/lib/a": other})
        two = make_deb(tmp_path, "two", {"usr/lib/a/b/passwd": file(b"root")})
        with pytest.raises(PackageError, match="/usr/lib/a/b/passwd of two is below /usr/lib/a of one") as caught:
            unpack(*([two, one] if turned else [one, two]))
        assert "leave one" in caught.value.hint

    def test_result_does_not_depend_on_threads(self, tmp_path: Path) -> None:
        debs = [
            make_deb(
                tmp_path,
                f"p{number}",
                {f"usr/share/p{number}/{each}": file(bytes([number]) * each * 999) for each in range(9)},
            )
            for number in range(12)
        ]
        digests = set()
        for threads in (1, 4):
            out = io.BytesIO()
            write_layer(unpack(*debs, threads=threads).entries.values(), out)
            digests.add(out.getvalue())
        assert len(digests) == 1


class TestOnAnImage:
    def test_follows_the_links_of_the_image(self, tmp_path: Path) -> None:
        deb = make_deb(tmp_path, "a", {"var/run": directory(), "var/run/a/socket": file(), "opt/x/y": file()})
        found = unpack(deb, links={"var/run": "/run", "opt": "srv/opt", "srv/opt": "../data"}, present=("run",))
        assert {*found.entries} == {"run/a/socket", "data/x/y"}

    def test_existing_directories_keep_their_mode(self, tmp_path: Path) -> None:
        deb = make_deb(
            tmp_path, "a", {"etc": directory(0o700), "etc/a": directory(0o700), "usr/share/doc/b": link("a")}
        )
        found = unpack(deb, present=("etc", "usr/share/doc/b"))
        assert {*found.entries} == {"etc/a"}
        assert {*found.names["a"]} == {"etc", "etc/a", "usr/share/doc/b"}

    def test_link_to_the_root(self, tmp_path: Path) -> None:
        deb = make_deb(tmp_path, "a", {"opt": directory(), "opt/a": file()})
        assert {*unpack(deb, links={"opt": "/"}).entries} == {"a"}

    def test_follows_as_many_links_as_linux(self) -> None:
        links = {f"l{number}": f"l{number + 1}" for number in range(41)}
        assert SymlinkResolver(links).directory("l1") == "l41"
        with pytest.raises(PackageError, match="too many levels of symbolic links in /l0"):
            SymlinkResolver(links).directory("l0")

    def test_loop_of_links(self, tmp_path: Path) -> None:
        deb = make_deb(tmp_path, "a", {"opt/a": file()})
        with pytest.raises(PackageError, match="too many levels of symbolic links"):
            unpack(deb, links={"opt": "srv", "srv": "/opt"})


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@given(links=st.dictionaries(PATHS, st.tuples(st.sampled_from(["", "/", "../"]), PATHS).map("".join)), path=PATHS)
def test_resolves_links_as_a_file_system_does(links: dict[str, str], path: str) -> None:
    files = Filesystem({name: Node(kind="link", link=target) for name, target in links.items()})
    try:
        there = SymlinkResolver(links).directory(path)
    except PackageError:
        return
    assert there == files.resolve(path)
    parent = files.resolve(posixpath.dirname(path))
    assert SymlinkResolver(links).file(path) == posixpath.join(parent, posixpath.basename(path))


def test_unpacked_files_are_a_valid_layer(tmp_path: Path) -> None:
    deb = make_deb(tmp_path, "a", {"usr/bin/a": file(mode=0o755), "usr/share/a": link("../bin/a")})
    entries: list[Entry] = arrange(unpack(deb).entries.values())
    assert [entry.path for entry in entries] == ["usr", "usr/bin", "usr/bin/a", "usr/share", "usr/share/a"]
