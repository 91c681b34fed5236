from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import pytest
from dpkg_maker import data_of, directory, file, listing, make_deb

from hatch_docker.debian.deb import Deb
from hatch_docker.dpkg import database
from hatch_docker.dpkg.generated import (
    BUNDLE,
    alternative_links,
    certificates,
    copies,
    file_types,
    font_maps,
    pam_settings,
    skeleton,
    timezone,
)
from hatch_docker.dpkg.loader import with_entries
from hatch_docker.dpkg.scripts import Alternative, Copy
from hatch_docker.dpkg.unpack import SymlinkResolver, Unpacked, unpack
from hatch_docker.errors import PackageError
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.layer import Entry


def of(*entries: Entry) -> dict[str, Entry]:
    return {entry.path: entry for entry in entries}


def text(entry: Entry) -> str:
    return data_of(entry).decode()


class TestSkeleton:
    def test_accounts(self) -> None:
        made = of(*skeleton({}))
        users = dict(line.split(":", 1) for line in text(made["etc/passwd"]).splitlines())
        groups = dict(line.split(":", 1) for line in text(made["etc/group"]).splitlines())
        assert users["root"].startswith("x:0:0:")
        assert users["nobody"].startswith("x:65534:65534:")
        assert users["nonroot"] == "x:65532:65532:nonroot:/home/nonroot:/usr/sbin/nologin"
        assert groups["nonroot"] == "x:65532:"
        home = made["home/nonroot"]
        assert (home.is_directory, home.uid, home.gid, home.mode) == (True, 65532, 0, 0o775)

    def test_accounts_of_base_passwd(self) -> None:
        master = Entry(path="usr/share/base-passwd/passwd.master", content=b"root:*:0:0:root:/root:/bin/bash\n")
        made = of(*skeleton(of(master)))
        assert text(made["etc/passwd"]).startswith("root:x:0:0:root:/root:/bin/bash\nnonroot:")

    def test_directories(self) -> None:
        made = of(*skeleton({}))
        assert made["tmp"].mode == made["var/tmp"].mode == made["run/lock"].mode == 0o1777
        assert made["root"].mode == 0o700
        assert {path: made[path].link for path in ("bin", "lib", "sbin", "var/run")} == {
            "bin": "usr/bin",
            "lib": "usr/lib",
            "sbin": "usr/sbin",
            "var/run": "/run",
        }

    def test_links_to_existing_directories_only(self) -> None:
        assert not {"lib64", "etc/os-release", "usr/bin/python3"} & of(*skeleton({})).keys()
        there = [Entry(path=path, content=b"") for path in ("usr/lib/os-release", "usr/bin/python3.13")]
        made = of(*skeleton(of(*there, Entry(path="usr/lib64", mode=0o755))))
        assert made["lib64"].link == "usr/lib64"
        assert made["etc/os-release"].link == "../usr/lib/os-release"
        assert made["usr/bin/python3"].link == "python3.13"


class TestCertificates:
    ENTRIES = of(
        Entry(path="usr/share/ca-certificates/mozilla/B.crt", content=b"bee"),
        Entry(path="usr/share/ca-certificates/mozilla/A.crt", content=b"ay\n"),
        Entry(path="usr/lib/x86_64-linux-gnu/libssl.so.3", content=b""),
    )

    def test_bundle(self) -> None:
        made = of(*certificates(listing({}), self.ENTRIES))
        assert data_of(made[BUNDLE]) == b"ay\nbee\n"
        assert text(made["etc/ca-certificates.conf"]) == "mozilla/A.crt\nmozilla/B.crt\n"
        assert made["usr/lib/ssl/cert.pem"].link == f"/{BUNDLE}"
        assert made["usr/lib/ssl/certs"].link == "/etc/ssl/certs"

    def test_bundle_has_certificates_of_the_image(self) -> None:
        below = listing({"usr/local/share/ca-certificates/mine.crt": b"mine"})
        assert data_of(of(*certificates(below, self.ENTRIES))[BUNDLE]) == b"ay\nbee\nmine\n"

    def test_links_of_an_image_stay(self) -> None:
        below = listing({"usr/lib/ssl/certs": "/elsewhere", BUNDLE: b"old"})
        ssl = of(Entry(path="usr/lib/x86_64-linux-gnu/libssl.so.3", content=b""))
        assert of(*certificates(below, ssl)).keys() == {"usr/lib/ssl/cert.pem", "usr/lib/ssl/private"}
        assert not list(certificates(below, {}))


def test_time_zone_is_utc_unless_it_is_set() -> None:
    entries = of(Entry(path="usr/share/zoneinfo/Etc/UTC", content=b""))
    assert [entry.link for entry in timezone(listing({}), entries)] == ["/usr/share/zoneinfo/Etc/UTC"]
    assert not list(timezone(listing({"etc/localtime": "/usr/share/zoneinfo/Asia/Tokyo"}), entries))
    assert not list(timezone(listing({}), {}))


class TestFontMaps:
    FOLDER = "var/lib/ghostscript/fonts"

    def test_joins_files_of_packages_and_the_image(self) -> None:
        below = listing({"etc/ghostscript/fontmap.d/20-b.conf": b"b\n", self.FOLDER: None})
        new = of(Entry(path="etc/ghostscript/fontmap.d/10-a.conf", content=b"a\n"))
        made = of(*font_maps(with_entries(below, new.values()), new))
        assert {path: data_of(entry) for path, entry in made.items()} == {f"{self.FOLDER}/Fontmap": b"a\nb\n"}

    def test_ignores_links_to_missing_files(self) -> None:
        parent = listing({"etc/ghostscript/fontmap.d/20-b.conf": "/nowhere", self.FOLDER: None})
        new = of(Entry(path="etc/ghostscript/fontmap.d/10-a.conf", content=b"a\n"))
        made = of(*font_maps(with_entries(parent, new.values()), new))
        assert data_of(made[f"{self.FOLDER}/Fontmap"]) == b"a\n"

    def test_with_ghostscript_itself(self) -> None:
        new = of(Entry(path=self.FOLDER))
        made = of(*font_maps(with_entries(None, new.values()), new))
        assert {path: data_of(entry) for path, entry in made.items()} == {
            f"{self.FOLDER}/cidfmap": b"",
            f"{self.FOLDER}/Fontmap": b"",
        }

    def test_without_ghostscript(self) -> None:
        new = of(Entry(path="etc/ghostscript/fontmap.d/10-a.conf", content=b"a\n"))
        assert not list(font_maps(with_entries(None, new.values()), new))


class TestCopies:
    CONFFILE = Copy(source="usr/share/x/a", target="etc/x/a")
    NEW = of(
        Entry(path="usr/share/x/a", mode=0o600, content=b"a\n"), Entry(path="usr/share/x/b", content=b"[b]\nc=d\n")
    )

    def test_conffiles(self) -> None:
        made = of(*copies(with_entries(None, self.NEW.values()), self.NEW, [self.CONFFILE]))
        assert {path: (data_of(entry), entry.mode) for path, entry in made.items()} == {"etc/x/a": (b"a\n", 0o600)}

    def test_a_file_of_the_image_stays(self) -> None:
        files = with_entries(listing({"etc/x/a": b"mine\n"}), self.NEW.values())
        assert not list(copies(files, self.NEW, [self.CONFFILE]))

    def test_ignores_missing_files(self) -> None:
        assert not list(copies(with_entries(None, []), {}, [self.CONFFILE]))

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (None, b"[b]\nc=d\n"),
            (b"[a]\nc=e\n", b"[a]\nc=e\n\n[b]\nc=d\n"),
            (b"[b]\nc=e\n", b"[b]\nc=e\n"),
        ],
    )
    def test_drivers(self, before: bytes | None, after: bytes) -> None:
        parent = listing({"etc/odbcinst.ini": before} if before else {})
        call = Copy(source="usr/share/x/b", target="etc/odbcinst.ini", is_driver=True)
        made = of(*copies(with_entries(parent, self.NEW.values()), self.NEW, [call]))
        assert {path: data_of(entry) for path, entry in made.items()} == {"etc/odbcinst.ini": after}


def test_pam_settings_unless_the_image_has_them() -> None:
    new = of(Entry(path="usr/share/pam/common-auth", content=b""))
    parent = listing({"etc/pam.d/common-session": b"mine", "etc/passwd": b"root:x:0:0::/root:/bin/sh\nme:x:1:1::/:\n"})
    made = of(*pam_settings(parent, new))
    assert data_of(made["etc/shadow"]) == b"root:*:::::::\nme:*:::::::\n"
    assert made.pop("etc/shadow").mode == 0o600
    names = {"common-account", "common-auth", "common-password", "common-session-noninteractive"}
    assert made.keys() == {f"etc/pam.d/{name}" for name in names}
    assert b"auth [success=1 default=ignore] pam_unix.so nullok\n" in data_of(made["etc/pam.d/common-auth"])
    assert "etc/shadow" not in of(*pam_settings(listing({"etc/shadow": b""}), new))
    assert not list(pam_settings(listing({}), {}))


class TestFileTypes:
    SPACE = 'xmlns="http://www.freedesktop.org/standards/shared-mime-info"'
    PATH = "usr/share/mime/packages/{}.xml"

    def made(self, *kinds: str, parent: Filesystem | None = None) -> dict[str, str]:
        texts = (f"<mime-info {self.SPACE}>{kind}</mime-info>".encode() for kind in kinds)
        new = of(*(Entry(path=self.PATH.format(number), content=each) for number, each in enumerate(texts)))
        made = of(*file_types(parent or listing({}), new))
        return {path.removeprefix("usr/share/mime/"): data_of(entry).decode("latin-1") for path, entry in made.items()}

    def test_of_all_packages(self) -> None:
        made = self.made(
            """<mime-type type="image/x-a"><alias type="image/a"/><sub-class-of type="text/plain"/><icon name="i"/>
            <glob pattern="*.A"/><glob pattern="*.Ab" weight="60"/><generic-icon name="g"/></mime-type>""",
            """<mime-type type="text/x-c"><glob pattern="*.C" case-sensitive="true"/></mime-type>""",
        )
        assert made["aliases"] == "image/a image/x-a\n"
        assert made["subclasses"] == "image/x-a text/plain\n"
        assert made["icons"] == "image/x-a:i\n"
        assert made["generic-icons"] == "image/x-a:g\n"
        assert made["types"] == "image/x-a\ntext/x-c\n"
        globs = ["60:image/x-a:*.ab", "50:image/x-a:*.a", "50:text/x-c:*.C", "50:text/x-c:*.C:cs"]
        assert made["globs2"].splitlines()[2:] == globs

    def test_rules_for_first_bytes(self) -> None:
        rules = """<magic priority="{}"><match type="string" offset="0:4" value="\\x89P\\12" mask="0xff00ff">
            <match type="little16" offset="9" value="0x0102"/><match type="host16" offset="2" value="010"/>
            </match></magic>"""
        types = [f'<mime-type type="a/{name}">{rules.format(name)}</mime-type>' for name in (40, 70)]
        lines = ">0=\0\3\x89P\n&\xff\0\xff+5\n1>9=\0\2\2\1\n1>2=\0\2\0\x08~2\n"
        assert self.made(*types)["magic"] == f"MIME-Magic\0\n[70:a/70]\n{lines}[40:a/40]\n{lines}"

    def test_later_packages_remove_those_of_earlier_ones(self) -> None:
        rule = '<glob pattern="*.x"/><magic><match type="byte" offset="0" value="1"/></magic>'
        made = self.made(
            f'<mime-type type="a/b">{rule}</mime-type>',
            '<mime-type type="a/b"><glob-deleteall/><magic-deleteall/></mime-type>',
        )
        assert len(made["globs2"].splitlines()) == 2
        assert made["magic"] == "MIME-Magic\0\n"

    def test_only_of_new_packages_and_without_replacing_files(self) -> None:
        assert self.made() == {}
        parent = listing({"usr/share/mime/magic": b"theirs"})
        assert "magic" not in self.made('<mime-type type="a/b"/>', parent=parent)

    @pytest.mark.parametrize(
        "kind",
        [
            "<",
            '<mime-type type="a"/>',
            '<mime-type type="a/b&#10;c/d"/>',
            "<mime-type/>",
            '<mime-type type="a/b"><glob/></mime-type>',
            '<mime-type type="a/b"><glob pattern="x&#10;y"/></mime-type>',
            '<mime-type type="a/b"><glob pattern="x" weight="x"/></mime-type>',
            *(
                f'<mime-type type="a/b"><magic><match {each}/></magic></mime-type>'
                for each in (
                    'type="string" value="a"',
                    'type="string" value="a" offset="x"',
                    'type="words" value="a" offset="0"',
                    'type="byte" value="256" offset="0"',
                    'type="byte" value="-1" offset="0"',
                    'type="byte" value="" offset="0"',
                    'type="string" value="ab" mask="0xff" offset="0"',
                    'type="string" value="a" mask="0xfg" offset="0"',
                    f'type="string" value="{"a" * 70_000}" offset="0"',
                )
            ),
            '<mime-type type="a/b"><magic>'
            + '<match type="byte" value="1" offset="0">' * 60
            + "</match>" * 60
            + "</magic></mime-type>",
        ],
    )
    def test_invalid_ones(self, kind: str) -> None:
        with pytest.raises(PackageError, match="the file types that packages define in /usr/share/mime/packages are"):
            self.made(kind)


class TestAlternatives:
    FILES = listing({"usr/bin/mawk": b"", "usr/bin/gawk": b"", "usr/lib/a/blas/libblas.so.3": b"", "lib": "usr/lib"})

    def test_the_highest_priority(self) -> None:
        alternatives = [
            Alternative("/usr/bin/awk", "awk", "/usr/bin/mawk", 5),
            Alternative("/usr/bin/awk", "awk", "/usr/bin/gawk", 10),
        ]
        entries, notes = alternative_links(self.FILES, alternatives, parent=None)
        assert {entry.path: entry.link for entry in entries} == {
            "usr/bin/awk": "/etc/alternatives/awk",
            "etc/alternatives/awk": "/usr/bin/gawk",
        }
        assert not notes

    def test_through_the_links_of_directories(self) -> None:
        alternatives = [Alternative("/lib/a/libblas.so.3", "libblas.so.3-a", "/lib/a/blas/libblas.so.3", 10)]
        entries, _ = alternative_links(self.FILES, alternatives, parent=None)
        assert entries[0].path == "usr/lib/a/libblas.so.3"

    def test_no_link_for_equal_priorities(self) -> None:
        alternatives = [
            Alternative("/usr/bin/awk", "awk", "/usr/bin/mawk", 5),
            Alternative("/usr/bin/awk", "awk", "/usr/bin/gawk", 5),
        ]
        entries, notes = alternative_links(self.FILES, alternatives, parent=None)
        assert not entries
        assert notes == [
            "no link for awk, as several packages provide it with the same priority: /usr/bin/gawk, /usr/bin/mawk"
        ]

    def test_no_link_to_files_that_are_left_out(self) -> None:
        alternatives = [Alternative("/usr/share/man/man1/awk.1.gz", "awk.1.gz", "/usr/share/man/man1/mawk.1.gz", 5)]
        assert alternative_links(self.FILES, alternatives, parent=None) == ([], [])

    def test_links_of_an_image_stay(self) -> None:
        below = listing({"etc/alternatives/awk": "/usr/bin/other"})
        alternatives = [Alternative("/usr/bin/awk", "awk", "/usr/bin/mawk", 5)]
        assert alternative_links(self.FILES, alternatives, parent=below) == ([], [])


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def stanza(name: str, version: str, rest: str = "") -> str:
    head = f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n"
    return f"{head}{rest}Description: x\n"


class TestDatabase:
    STATUS = "\n".join(
        [
            stanza("zlib", "2"),
            stanza(
                "curl", "1", f"Conffiles:\n /etc/kept {md5(b'was')}\n /etc/same {md5(b'same')}\n /etc/gone {md5(b'')}\n"
            ),
            stanza("half", "1").replace("ok installed", "ok half-configured"),
        ]
    )
    IMAGE: Mapping[str, bytes | str | None] = {
        "var/lib/dpkg/status": STATUS.encode(),
        "var/lib/dpkg/info/curl.list": (
            b"/.\n/lib\n/lib/libcurl.so.1\n/usr/bin\n/usr/bin/curl\n/usr/bin/both\n/etc/kept\n/etc/gone\n"
        ),
        "var/lib/dpkg/info/curl.md5sums": b"",
        "var/lib/dpkg/info/curl.postinst": b"",
        "var/lib/dpkg/info/curl-doc.list": b"",
        "var/lib/dpkg/info/zlib:amd64.list": b"/usr/bin/both\n",
        "lib": "usr/lib",
        "usr/lib/libcurl.so.1": b"",
        "usr/bin/curl": b"",
        "usr/bin/both": b"",
        "etc/kept": b"changed",
        "etc/same": b"same",
    }

    def unpack(self, *debs: Deb) -> Unpacked:
        return unpack(debs, io.BytesIO(), {"lib": "usr/lib"})

    def test_installed_packages(self) -> None:
        found = database.read(listing(self.IMAGE))
        assert [str(package) for package in found.packages()] == ["zlib 2", "curl 1"]

    def test_installed_packages_in_status_d(self) -> None:
        files = listing(
            {
                "var/lib/dpkg/status.d/zlib": b"Package: zlib\nVersion: 2\nArchitecture: amd64\n",
                "var/lib/dpkg/status.d/zlib.md5sums": b"0123  usr/lib/libz.so.1\n",
            }
        )
        found = database.read(files)
        assert [str(package) for package in found.packages()] == ["zlib 2"]
        assert found.lists == {"zlib": ("/usr/lib/libz.so.1",)}
        assert not found.has_dpkg

    def test_image_without_debian_packages(self) -> None:
        with pytest.raises(PackageError, match="no Debian packages"):
            database.read(listing({"lib/apk/db/installed": b""}))

    def test_status_and_info(self, tmp_path: Path) -> None:
        items = {"usr/bin/curl": file(b"new"), "etc/same": file(b"conf"), "usr/share/man/man1/curl.1": file(b"")}
        deb = make_deb(
            tmp_path,
            "curl",
            items,
            version="2",
            conffiles=["etc/same"],
            Multi_Arch="same",
            scripts={"prerm": "#!/bin/sh\n", "triggers": "activate-noawait ldconfig\n"},
        )
        found, below = self.unpack(deb), database.read(listing(self.IMAGE))
        made = of(*database.database_files(found, [deb], database.conffile_checksums(found, [deb]), below))
        status = text(made["var/lib/dpkg/status"])
        assert status.count("Package: ") == 3
        assert status.index("Package: curl") < status.index("Package: half") < status.index("Package: zlib")
        assert "Version: 2\n" in status.split("\n\n")[0]
        assert f"\nConffiles:\n /etc/same {md5(b'conf')}" in status.split("\n\n")[0]
        assert stanza("zlib", "2") in status
        stem = "var/lib/dpkg/info/curl:amd64"
        assert text(made[f"{stem}.list"]) == "/.\n/usr/bin/curl\n/etc/same\n"
        assert text(made[f"{stem}.md5sums"]) == f"{md5(b'new')}  usr/bin/curl\n"
        assert text(made[f"{stem}.conffiles"]) == "/etc/same\n"
        assert made[f"{stem}.prerm"].mode == 0o755
        assert text(made[f"{stem}.triggers"]) == "activate-noawait ldconfig\n"
        gone = {path for path, entry in made.items() if entry.removed}
        assert gone == {f"var/lib/dpkg/info/curl.{suffix}" for suffix in ("list", "md5sums", "postinst")}

    def test_status_d_without_dpkg(self, tmp_path: Path) -> None:
        deb = make_deb(tmp_path, "curl", {"usr/bin/curl": file(b"new"), "usr/share/man/man1/curl.1": file(b"")})
        made = of(*database.database_files(self.unpack(deb), [deb], {}, None))
        assert made.keys() == {"var/lib/dpkg/status.d/curl", "var/lib/dpkg/status.d/curl.md5sums"}
        assert text(made["var/lib/dpkg/status.d/curl"]).startswith("Package: curl\nVersion: 1.0-1\n")
        assert text(made["var/lib/dpkg/status.d/curl.md5sums"]) == f"{md5(b'new')}  usr/bin/curl\n"
        again = database.read(listing({path: data_of(entry) for path, entry in made.items()}))
        assert [str(package) for package in again.packages()] == ["curl 1.0-1"]

    def test_changed_and_removed_conffiles_stay(self, tmp_path: Path) -> None:
        items = {f"etc/{name}": file(b"new") for name in ("kept", "same", "gone", "fresh")}
        deb = make_deb(tmp_path, "curl", items, version="2", conffiles=items)
        kept = database.changed_conffiles(self.unpack(deb), [deb], database.read(listing(self.IMAGE)))
        assert kept == ["etc/gone", "etc/kept"]

    @pytest.mark.parametrize("path", ["usr/bin/both", "lib/libcurl.so.1"])
    def test_rejects_overwriting_files_of_other_packages(self, tmp_path: Path, path: str) -> None:
        owner = "zlib" if "both" in path else "curl"
        items = {path: file(b"new"), "usr/bin": directory(), "usr/bin/new": file()}
        below = database.read(listing(self.IMAGE))
        for replaced in ("", "other", f"{owner} (<< 1)"):
            deb = make_deb(tmp_path, "curl" if owner == "zlib" else "new", items, Replaces=replaced)
            with pytest.raises(PackageError, match=f"is in the image already, as part of {owner}") as caught:
                database.changed_conffiles(self.unpack(deb), [deb], below)
            assert "leave one" in caught.value.hint
        deb = make_deb(tmp_path, "new", items, Replaces="x, curl (<< 3), zlib")
        assert database.changed_conffiles(self.unpack(deb), [deb], below) == []

    def test_removes_files_of_the_replaced_version(self, tmp_path: Path) -> None:
        deb = make_deb(tmp_path, "curl", {"usr/bin/curl": file(b"new")}, version="2")
        gone = database.obsolete_files(
            self.unpack(deb), [deb], database.read(listing(self.IMAGE)), SymlinkResolver({"lib": "usr/lib"})
        )
        # Files of other packages and configuration files stay.
        assert [(entry.path, entry.removed) for entry in gone] == [("usr/lib/libcurl.so.1", True)]

    FOREIGN = stanza("libfoo", "1", "Multi-Arch: same\n").replace("amd64", "i386")

    def with_foreign(self, **more: bytes) -> Filesystem:
        """The image with packages for i386 besides."""
        wine = stanza("wine", "1").replace("amd64", "i386")
        tool = stanza("tool", "3", "Multi-Arch: foreign\n").replace("amd64", "i386")
        texts = [self.STATUS, self.FOREIGN, stanza("libfoo", "1", "Multi-Arch: same\n"), wine, tool]
        lists = {
            "libfoo:i386": b"/usr/lib/i386-linux-gnu/libfoo.so\n/usr/share/doc/libfoo\n",
            "libfoo:amd64": b"/usr/lib/x86_64-linux-gnu/libfoo.so\n/usr/share/doc/libfoo\n",
            "wine": b"/usr/bin/wine\n",
        }
        infos = {f"var/lib/dpkg/info/{name}.list": data for name, data in lists.items()}
        paths = {path.decode()[1:]: b"" for data in lists.values() for path in data.split()}
        return listing({**self.IMAGE, **infos, **paths, "var/lib/dpkg/status": "\n".join(texts).encode(), **more})

    @pytest.mark.parametrize("more", [{}, {"var/lib/dpkg/arch": b"amd64\ni386\n"}])
    def test_packages_of_a_foreign_architecture(self, tmp_path: Path, more: dict[str, bytes]) -> None:
        found = database.read(self.with_foreign(**more))
        # Only the one that says so can be used by packages of the native architecture.
        assert [str(each) for each in found.packages()] == ["zlib 2", "curl 1", "libfoo 1", "tool 3"]
        assert {name for name in found.lists if "foo" in name or "wine" in name} == {
            "libfoo", "libfoo:i386", "wine:i386"}  # fmt: skip
        items = {"usr/lib/x86_64-linux-gnu/libfoo.so": file(b"new")}
        deb = make_deb(tmp_path, "libfoo", items, version="1", Multi_Arch="same")
        made = of(*database.database_files(self.unpack(deb), [deb], {}, found))
        status = text(made["var/lib/dpkg/status"])
        assert self.FOREIGN in status
        assert status.count("Package: ") == 7
        assert not [path for path, entry in made.items() if entry.removed]
        assert database.changed_conffiles(self.unpack(deb), [deb], found) == []
        assert list(database.obsolete_files(self.unpack(deb), [deb], found, SymlinkResolver({}))) == []

    @pytest.mark.parametrize(("name", "version", "kind"), [("libfoo", "2", "same"), ("wine", "1", "no")])
    def test_rejects_what_does_not_fit_a_foreign_package(
        self, tmp_path: Path, name: str, version: str, kind: str
    ) -> None:
        deb = make_deb(tmp_path, name, {"usr/bin/new": file(b"")}, version=version, Multi_Arch=kind)
        with pytest.raises(PackageError, match=rf"{name} {version} does not fit {name} for i386") as caught:
            database.changed_conffiles(self.unpack(deb), [deb], database.read(self.with_foreign()))
        assert "runtime-installer" in caught.value.hint

    def test_rejects_files_of_foreign_packages(self, tmp_path: Path) -> None:
        deb = make_deb(tmp_path, "new", {"usr/bin/wine": file(b"")})
        with pytest.raises(PackageError, match="in the image already, as part of wine:i386"):
            database.changed_conffiles(self.unpack(deb), [deb], database.read(self.with_foreign()))

    def test_rejects_diverted_files(self, tmp_path: Path) -> None:
        image = {**self.IMAGE, "var/lib/dpkg/diversions": b"/usr/bin/curl\n/usr/bin/curl.real\nwrapper\n"}
        deb = make_deb(tmp_path, "curl", {"usr/bin/curl": file(b"new")}, version="2")
        with pytest.raises(PackageError, match=r"/usr/bin/curl of curl is diverted in the image by wrapper"):
            database.changed_conffiles(self.unpack(deb), [deb], database.read(listing(image)))


def test_with_entries() -> None:
    below = listing({"a/b": b"", "a/c": b"", "d": "a"})
    files: Filesystem = with_entries(
        below, [Entry(path="a/b", removed=True), Entry(path="x/y", content=b""), Entry(path="d", link="x")]
    )
    assert {*files.nodes} == {"a", "a/c", "d", "x", "x/y"}
    assert files.get("d/y") is not None
    assert "a/b" in below.nodes
