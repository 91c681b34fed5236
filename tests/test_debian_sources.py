from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.debian.aptsources import read_sources
from hatch_docker.debian.sources import Mirrors, find_mirrors, named_mirrors, suites_of
from hatch_docker.errors import DebianError

DEB822 = """\
# Written by an installer.
Types: deb deb-src
URIs: http://deb.example/debian/ http://other.example/debian
Suites: trixie trixie-updates
# Components other than main are ignored.
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.example/debian-security
Suites: trixie-security
Components: main
"""
ONE_LINE = """\
# deb cdrom:[Debian GNU/Linux 13]/ trixie main
deb http://deb.example/debian trixie main contrib # here
deb [ arch=amd64,arm64 signed-by=/etc/apt/keyrings/ours.asc ] https://deb.example/debian-security trixie-security main
deb-src http://deb.example/debian trixie main
deb http://flat.example/debian ./
deb cdrom:[x]/ trixie main
"""
UBUNTU = """\
Types: deb
URIs: http://archive.example/ubuntu
Suites: noble noble-updates noble-security
Components: main universe
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
"""


def machine(root: Path, **files: str) -> Path:
    """A root directory with these files in sources.list.d; `list` is sources.list itself."""
    folder = root / "etc/apt"
    (folder / "sources.list.d").mkdir(parents=True)
    for name, text in files.items():
        path = folder / "sources.list" if name == "list" else folder / "sources.list.d" / name.replace("_", ".")
        path.write_text(text, "utf-8")
    return root


def urls(mirrors: Mirrors) -> tuple[list[str], list[str]]:
    return [each.url for each in mirrors.main], [each.url for each in mirrors.security]


def found(root: Path, suite: str = "trixie") -> tuple[list[str], list[str]]:
    return urls(find_mirrors("", suite=suite, architecture="amd64", root=root))


class TestImage:
    """The sources of an image are used if the machine has none."""

    def of(self, root: Path, files: dict[str, bytes]) -> tuple[list[str], list[str]]:
        return urls(find_mirrors("", suite="trixie", architecture="amd64", root=root, image=files))

    def test_reads_sources_of_an_image(self, tmp_path: Path) -> None:
        files = {"etc/apt/sources.list.d/debian.sources": DEB822.encode(), "etc/hostname": b"x"}
        assert self.of(tmp_path, files) == (
            ["http://deb.example/debian", "http://other.example/debian"],
            ["http://security.example/debian-security"],
        )

    def test_sources_of_the_machine_come_first(self, tmp_path: Path) -> None:
        root = machine(tmp_path, list="deb http://here.example/debian trixie main\n")
        assert self.of(root, {"etc/apt/sources.list": ONE_LINE.encode()})[0] == ["http://here.example/debian"]

    def test_paths_in_an_image_are_not_read_on_the_machine(self, tmp_path: Path) -> None:
        listed = tmp_path / "mirrors.list"
        listed.write_text("http://here.example/debian\n")
        text = f"deb mirror+file:{listed} trixie main\n"
        with pytest.raises(DebianError, match="no mirror of Debian is configured"):
            self.of(tmp_path, {"etc/apt/sources.list": text.encode()})


class TestMachine:
    def test_deb822_format(self, tmp_path: Path) -> None:
        root = machine(tmp_path, debian_sources=DEB822)
        assert found(root) == (
            ["http://deb.example/debian", "http://other.example/debian"],
            ["http://security.example/debian-security"],
        )

    def test_one_line_format(self, tmp_path: Path) -> None:
        assert found(machine(tmp_path, list=ONE_LINE)) == (
            ["http://deb.example/debian"],
            ["https://deb.example/debian-security"],
        )

    def test_options_of_a_line(self, tmp_path: Path) -> None:
        security = read_sources(machine(tmp_path, list=ONE_LINE) / "etc/apt")[1]
        assert security.components == ("main",)
        assert security.architectures == ("amd64", "arm64")
        assert security.keyring == (Path("/etc/apt/keyrings/ours.asc"),)

    def test_sources_of_another_release(self, tmp_path: Path) -> None:
        root = machine(tmp_path, debian_sources=DEB822.replace("trixie", "bookworm"))
        assert found(root)[1] == ["http://security.example/debian-security"]

    def test_derives_the_security_mirror(self, tmp_path: Path) -> None:
        root = machine(tmp_path, list="deb http://deb.example/mirrors/debian sid main\n")
        assert found(root) == (
            ["http://deb.example/mirrors/debian"],
            ["http://deb.example/mirrors/debian-security"],
        )

    def test_debian_comes_before_other_archives_with_the_same_suites(self, tmp_path: Path) -> None:
        other = "deb [signed-by=/usr/share/keyrings/vpn.gpg] https://pkgs.example/stable trixie main\n"
        root = machine(tmp_path, a_list=other, debian_sources=DEB822)
        assert found(root)[0][-1] == "https://pkgs.example/stable"

    def test_keys_of_other_archives_are_not_trusted_beside_debian(self, tmp_path: Path) -> None:
        other = "deb [signed-by=/usr/share/keyrings/vpn.gpg] https://pkgs.example/stable trixie main\n"
        both = machine(tmp_path / "both", a_list=other, debian_sources=DEB822)
        mirrors = find_mirrors("", suite="trixie", architecture="amd64", root=both)
        assert {key for each in mirrors.main for key in each.keyring} == {
            Path("/usr/share/keyrings/debian-archive-keyring.gpg")
        }
        # A private mirror may be the only one.
        alone = machine(tmp_path / "alone", list=f"{other}{other.replace('trixie', 'trixie-security')}")
        mirrors = find_mirrors("", suite="trixie", architecture="amd64", root=alone)
        assert mirrors.main[0].keyring == (Path("/usr/share/keyrings/vpn.gpg"),)

    @pytest.mark.parametrize("suite", ["trixie-pgdg", "trixie/vendor/8.0", "trixienext", "stable-vendor"])
    def test_ignores_suites_that_only_start_like_those_of_debian(self, tmp_path: Path, suite: str) -> None:
        root = machine(tmp_path, a_list=f"deb https://pkgs.example/apt/debian {suite} main\n", debian_sources=DEB822)
        assert found(root)[0] == ["http://deb.example/debian", "http://other.example/debian"]

    def test_mirrors_may_have_architectures_that_the_sources_do_not_list(self, tmp_path: Path) -> None:
        text = "deb [arch=amd64] http://one.example/debian trixie main\ndeb http://two.example/debian trixie main\n"
        mirrors = find_mirrors("", suite="trixie", architecture="arm64", root=machine(tmp_path, list=text))
        assert urls(mirrors)[0] == ["http://two.example/debian", "http://one.example/debian"]

    def test_mirror_list_of_a_cloud_image(self, tmp_path: Path) -> None:
        listed = tmp_path / "debian.list"
        listed.write_text("# one\nhttps://cdn.example/debian priority:1\n")
        text = DEB822.replace("http://deb.example/debian/ http://other.example/debian", f"mirror+file:{listed}")
        assert found(machine(tmp_path, debian_sources=text))[0] == ["https://cdn.example/debian"]

    def test_inline_key(self, tmp_path: Path) -> None:
        key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----"
        text = DEB822.replace("/usr/share/keyrings/debian-archive-keyring.gpg", f"\n {key}")
        mirrors = find_mirrors("", suite="trixie", architecture="amd64", root=machine(tmp_path, debian_sources=text))
        lines = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----"
        assert mirrors.main[0].keyring == (lines,)

    @pytest.mark.parametrize("change", ["Enabled: no", "Enabled: false"])
    def test_ignores_disabled_sources(self, tmp_path: Path, change: str) -> None:
        text = DEB822.replace("Types: deb deb-src", f"Types: deb\n{change}")
        with pytest.raises(DebianError):
            found(machine(tmp_path, debian_sources=text))

    @pytest.mark.parametrize(
        "files",
        [
            {},
            {"ubuntu_sources": UBUNTU},
            {"chrome_list": "deb https://dl.example/chrome/deb stable main\n"},
            {"docker_list": "deb https://download.example/linux/debian trixie stable\n"},
            {"debian_sources": DEB822.replace("deb deb-src", "deb-src")},
            {"notes_txt": DEB822},
        ],
    )
    def test_requires_the_setting_without_a_mirror(self, tmp_path: Path, files: dict[str, str]) -> None:
        with pytest.raises(DebianError, match="no mirror of Debian is configured") as caught:
            found(machine(tmp_path, **files))
        assert "debian-mirror" in caught.value.hint
        assert "HATCH_DOCKER_DEBIAN_MIRROR" in caught.value.hint

    def test_requires_the_setting_without_apt(self, tmp_path: Path) -> None:
        with pytest.raises(DebianError, match="no mirror of Debian is configured"):
            find_mirrors("", suite="trixie", architecture="amd64", root=tmp_path)

    def test_a_damaged_file_does_not_hide_the_others(self, tmp_path: Path) -> None:
        root = machine(tmp_path, a_sources="this is none", debian_sources=DEB822)
        (root / "etc/apt/sources.list.d/b.list").write_bytes(b"\xff\xfe deb \x00")
        assert found(root)[0][0] == "http://deb.example/debian"

    @given(text=st.text() | st.text(alphabet="deb []=:/.\n#TypesURIsSuiteComponents main trixie http://h"))
    def test_reads_or_skips_any_text(self, tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
        root = machine(tmp_path_factory.mktemp("machine"))
        for name in ("any.list", "any.sources"):
            (root / "etc/apt/sources.list.d" / name).write_text(text, "utf-8", errors="replace")
        try:
            found(root)
        except DebianError:
            return


class TestSetting:
    def test_takes_precedence_over_the_machine(self, tmp_path: Path) -> None:
        root = machine(tmp_path, debian_sources=DEB822)
        mirrors = find_mirrors("https://ours.example/debian/", suite="trixie", architecture="amd64", root=root)
        assert urls(mirrors) == (["https://ours.example/debian"], ["https://ours.example/debian-security"])

    def test_separate_url_of_the_security_archive(self) -> None:
        mirrors = named_mirrors("https://ours.example/apt  https://ours.example/updates/")
        assert urls(mirrors) == (["https://ours.example/apt"], ["https://ours.example/updates"])

    def test_mirror_of_a_suite(self) -> None:
        mirrors = named_mirrors("https://ours.example/debian")
        assert mirrors.of("trixie-updates") == mirrors.main
        assert mirrors.of("trixie-security") == mirrors.security

    def test_login_is_sent_and_never_shown(self) -> None:
        mirror = named_mirrors("https://me:p%40ss@ours.example:8443/debian").main[0]
        assert mirror.url == "https://ours.example:8443/debian"
        assert mirror.headers == {"authorization": "Basic bWU6cEBzcw=="}
        assert "bWU6" not in repr(mirror)

    @pytest.mark.parametrize(
        "setting",
        [
            "deb.example/debian",
            "ftp://deb.example/debian",
            "http:///debian",
            "http://[::1/debian",
            "http://deb.example:port/debian",
            "http://deb.example/debian?x=y",
            "https://deb.example/apt",
            "http://a.example/debian http://b.example/debian http://c.example/debian",
        ],
    )
    def test_invalid_mirror(self, setting: str) -> None:
        with pytest.raises(DebianError) as caught:
            named_mirrors(setting, place="HATCH_DOCKER_DEBIAN_MIRROR")
        assert caught.value.place == "HATCH_DOCKER_DEBIAN_MIRROR"

    def test_messages_have_no_login(self) -> None:
        with pytest.raises(DebianError) as caught:
            named_mirrors("https://me:secret@ours.example/debian?query", place="there")
        assert "secret" not in str(caught.value)


class TestSnapshots:
    DATE = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)

    def test_date_is_part_of_both_urls(self) -> None:
        mirrors = named_mirrors("https://snapshots.example/archive/debian/{date}/")
        assert mirrors.have_snapshots
        assert urls(mirrors.at(self.DATE)) == (
            ["https://snapshots.example/archive/debian/20260131T120000Z"],
            ["https://snapshots.example/archive/debian-security/20260131T120000Z"],
        )

    def test_no_date_and_no_snapshots(self) -> None:
        mirrors = named_mirrors("https://ours.example/debian")
        assert not mirrors.have_snapshots
        assert mirrors.at(None) == mirrors

    def test_date_but_no_snapshots(self) -> None:
        with pytest.raises(DebianError, match="no snapshots") as caught:
            named_mirrors("https://ours.example/debian").at(self.DATE)
        assert "{date}" in caught.value.hint

    def test_snapshots_but_no_date(self) -> None:
        with pytest.raises(DebianError, match="no date"):
            named_mirrors("https://snapshots.example/debian/{date}").at(None)


def test_suites_with_their_updates() -> None:
    assert suites_of("trixie") == ("trixie", "trixie-updates", "trixie-security")
    assert suites_of("sid") == ("sid",)
    assert suites_of("trixie-backports") == ("trixie-backports",)
