from __future__ import annotations

import re
from typing import Any

import pytest
from dpkg_maker import data_of, listing
from hypothesis import example, given
from hypothesis import strategies as st

from hatch_docker.base import files as base_files
from hatch_docker.image.accounts import Account, account_of, folders
from hatch_docker.oci.filesystem import Filesystem, Node
from hatch_docker.oci.layer import Entry
from hatch_docker.support.dataclasses import replace

ROOT = b"root:x:0:0:root:/root:/bin/sh\n"
PASSWD = (
    ROOT
    + b"www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
)
GROUP = b"root:x:0:\nwww-data:x:33:\nstaff:x:50:www-data\nnogroup:x:65534:\n"
NONROOT = "nonroot:*:65532:65532:nonroot:/home/nonroot:/usr/sbin/nologin\n"
NONROOT_GROUP = "nonroot:x:65532:\n"
DEFAULT = "65532:65532"


def base(passwd: bytes = PASSWD, group: bytes = GROUP, **others: bytes | str | None) -> Filesystem:
    """A base with accounts and a directory /home; `_` is written for `/` in the names of other paths."""
    paths = {name.replace("_", "/"): what for name, what in others.items()}
    return listing({"etc/passwd": passwd, "etc/group": group, "home": None, **paths})


def with_node(files: Filesystem, path: str, **changes: Any) -> Filesystem:
    return Filesystem({**files.nodes, path: replace(files.nodes[path], **changes)})


def made(account: Account) -> dict[str, Entry]:
    return {entry.path: entry for entry in account.entries}


def added(account: Account, path: str, text: bytes) -> str:
    """The lines that were added to a file; everything else is as it was."""
    entry = made(account).get(path)
    if entry is None:
        return ""
    new = data_of(entry)
    assert new.startswith(text)
    return new[len(text) :].decode()


def applied(files: Filesystem, entries: tuple[Entry, ...]) -> Filesystem:
    """The files with a layer of entries on top."""
    nodes = {
        each.path: Node(
            kind="dir" if each.is_directory else "file",
            data=None if each.is_directory else data_of(each),
            mode=each.mode,
            uid=each.uid,
            gid=each.gid,
        )
        for each in entries
    }
    return Filesystem({**files.nodes, **nodes})


class TestNonroot:
    @pytest.mark.parametrize("user", [DEFAULT, "65532", "nonroot", "nonroot:nonroot", "065532"])
    def test_is_added_with_a_home_that_group_0_may_write_to(self, user: str) -> None:
        account = account_of(base(), user)
        assert (account.user.name, account.user.uid, account.gid, account.groups) == (
            "nonroot",
            65532,
            65532,
            frozenset({65532}),
        )
        assert added(account, "etc/passwd", PASSWD) == NONROOT
        assert added(account, "etc/group", GROUP) == NONROOT_GROUP
        home = made(account)["home/nonroot"]
        assert (home.is_directory, home.mode, home.uid, home.gid) == (True, 0o775, 65532, 0)
        assert set(made(account)) == {"etc/passwd", "etc/group", "home/nonroot"}, "etc/shadow needs no line for *"
        assert (account.warnings, account.notes) == ((), ())

    @pytest.mark.parametrize("user", ["root", "0:0", "www-data", "1000"])
    def test_is_in_every_image(self, user: str) -> None:
        account = account_of(base(), user)
        assert NONROOT in added(account, "etc/passwd", PASSWD)
        assert made(account)["home/nonroot"].uid == 65532

    def test_nothing_is_added_to_a_base_that_has_it(self) -> None:
        files = base(PASSWD + NONROOT.encode(), GROUP + NONROOT_GROUP.encode(), home_nonroot=None)
        files = with_node(files, "home/nonroot", mode=0o775, uid=65532)
        assert account_of(files, DEFAULT).entries == ()

    def test_group_0_may_write_to_the_home_that_the_base_has(self) -> None:
        files = base(PASSWD + NONROOT.encode(), GROUP + NONROOT_GROUP.encode(), home_nonroot=None)
        (home,) = account_of(with_node(files, "home/nonroot", mode=0o700, uid=65532, gid=65532), DEFAULT).entries
        assert (home.path, home.mode, home.uid, home.gid) == ("home/nonroot", 0o770, 65532, 0)

    def test_files_keep_their_mode_and_owner(self) -> None:
        files = with_node(with_node(base(), "etc/passwd", mode=0o664, uid=1, gid=2), "etc/group", mode=0o640)
        entries = made(account_of(files, DEFAULT))
        assert (entries["etc/passwd"].mode, entries["etc/passwd"].uid, entries["etc/passwd"].gid) == (0o664, 1, 2)
        assert entries["etc/group"].mode == 0o640

    def test_takes_another_name_if_that_is_taken(self) -> None:
        passwd = PASSWD + b"nonroot:x:1000:1000::/home/nonroot:/bin/sh\nnonroot65532:x:7:7:::\n"
        account = account_of(base(passwd, GROUP + b"nonroot:x:5:\n"), DEFAULT)
        assert added(account, "etc/passwd", passwd).startswith("nonroot65532_:*:65532:65532:")
        assert account.user.home == "/home/nonroot65532_"
        assert "nonroot65532_:x:65532:\n" in added(account, "etc/group", GROUP + b"nonroot:x:5:\n")

    def test_the_name_of_the_base_stays(self) -> None:
        passwd, group = PASSWD + b"svc:x:65532:50::/srv:/bin/sh\n", GROUP + b"svcs:x:65532:\n"
        account = account_of(base(passwd, group, srv=None), DEFAULT)
        assert (account.user.name, account.gid, account.entries) == ("svc", 65532, ())
        (note,) = account.notes
        assert note.startswith("the user 'svc' (65532) has the home '/srv', which it cannot write to: ")


class TestFiles:
    def test_missing_files_are_made(self) -> None:
        account = account_of(Filesystem({}), DEFAULT)
        assert data_of(made(account)["etc/passwd"]).decode() == NONROOT
        assert data_of(made(account)["etc/group"]).decode() == NONROOT_GROUP
        assert made(account)["etc/passwd"].mode == 0o644

    @pytest.mark.parametrize(
        ("links", "path"),
        [
            ({"etc/passwd": "../usr/lib/passwd"}, "usr/lib/passwd"),
            ({"etc/passwd": "/nix/store/1-passwd"}, "nix/store/1-passwd"),
            ({"etc/passwd": "a", "etc/a": "b"}, "etc/b"),
            ({"etc": "usr/etc"}, "usr/etc/passwd"),
        ],
    )
    def test_links_are_followed(self, links: dict[str, str], path: str) -> None:
        files = listing({path: PASSWD})
        files.nodes.update({name: Node(kind="link", link=link) for name, link in links.items()})
        account = account_of(files, DEFAULT)
        assert added(account, path, PASSWD) == NONROOT
        assert not set(links) & set(made(account))

    def test_the_listing_has_the_content_of_what_links_lead_to(self) -> None:
        files = listing({"etc/passwd": "../opt/users", "opt/users": PASSWD, "opt/other": b"x"})
        assert base_files.linked_accounts(files) == {"opt/users"}
        listed = base_files.listing(files)
        assert (listed.nodes["opt/users"].data, listed.nodes["opt/other"].data) == (PASSWD, None)

    @pytest.mark.parametrize(
        "node", [Node(kind="dir"), Node(kind="other"), Node(kind="file", data=None), Node(kind="link", link="passwd")]
    )
    def test_says_that_users_cannot_be_read(self, node: Node) -> None:
        account = account_of(Filesystem({"etc/passwd": node, "etc/group": node}), "1000:app")
        assert (account.user.uid, account.entries) == (1000, ())
        assert all("the image's users cannot be read" in warning for warning in account.warnings)
        assert len(account.warnings) == 2

    def test_adds_the_last_newline(self) -> None:
        account = account_of(base(PASSWD.rstrip(b"\n")), DEFAULT)
        assert data_of(made(account)["etc/passwd"]) == PASSWD + NONROOT.encode()

    def test_lines_go_before_those_of_nis(self) -> None:
        account = account_of(base(PASSWD + b"+::::::\nlast:x:9:9:::\n", GROUP + b"-x\n+:::"), DEFAULT)
        assert data_of(made(account)["etc/passwd"]) == PASSWD + NONROOT.encode() + b"+::::::\nlast:x:9:9:::\n"
        assert data_of(made(account)["etc/group"]) == GROUP + NONROOT_GROUP.encode() + b"-x\n+:::"

    @pytest.mark.parametrize("line", [b"#me:x:65532:65532:::\n", b"+me:x:65532:65532:::\n", b"\n", b":x:65532\n"])
    def test_comments_and_lines_without_a_name_are_no_entries(self, line: bytes) -> None:
        entry = made(account_of(base(line + PASSWD), DEFAULT))["etc/passwd"]
        assert NONROOT.encode() in data_of(entry)

    def test_reads_other_line_ends_and_encodings(self) -> None:
        passwd = "müller:x:1000:50:Müller:/home/müller:/bin/sh\r\nold:x:2000:5::/:\r\n".encode("latin-1")
        account = account_of(base(passwd), "2000")
        assert (account.user.name, account.gid) == ("old", 5)
        assert added(account, "etc/passwd", passwd) == NONROOT

    def test_extra_files_are_on_top_of_the_base(self) -> None:
        mine = ROOT + b"nonroot:x:65532:65532::/tmp:/bin/sh\nme:x:1234:65532:::\n"
        extra = [Entry(path="etc/passwd", mode=0o600, content=mine), Entry(path="etc/x", content=b"")]
        account = account_of(base(tmp=None), "me", extra)
        assert (account.user.uid, account.gid) == (1234, 65532)
        assert set(made(account)) == {"etc/group"}


class TestUser:
    def test_a_number_without_an_entry_gets_a_name_a_group_and_a_home(self) -> None:
        account = account_of(base(), "1000")
        assert (account.user.uid, account.gid, account.groups) == (1000, 1000, frozenset({1000}))
        assert added(account, "etc/passwd", PASSWD) == f"{NONROOT}app:*:1000:1000:app:/home/app:/usr/sbin/nologin\n"
        assert added(account, "etc/group", GROUP) == f"{NONROOT_GROUP}app:x:1000:\n"
        assert (made(account)["home/app"].uid, made(account)["home/app"].gid) == (1000, 0)
        assert account.warnings == account.notes == ()

    @pytest.mark.parametrize(
        ("user", "line", "group"),
        [
            ("1000:50", "app:*:1000:50:app:", ""),
            ("1000:staff", "app:*:1000:50:app:", ""),
            ("1000:0", "app:*:1000:0:app:", ""),
            ("1000:2000", "app:*:1000:2000:app:", "app:x:2000:\n"),
            ("50", "app:*:50:50:app:", ""),
        ],
    )
    def test_a_number_with_a_group(self, user: str, line: str, group: str) -> None:
        account = account_of(base(), user)
        assert added(account, "etc/passwd", PASSWD).removeprefix(NONROOT).startswith(line)
        assert added(account, "etc/group", GROUP).removeprefix(NONROOT_GROUP) == group
        assert account.warnings == ()

    def test_another_name_if_app_is_taken(self) -> None:
        passwd, group = PASSWD + b"app:x:999:999::/home/app:\n", GROUP + b"app:x:999:\n"
        account = account_of(base(passwd, group), "1000")
        assert added(account, "etc/passwd", passwd).endswith(
            "app1000:*:1000:1000:app1000:/home/app1000:/usr/sbin/nologin\n"
        )
        assert added(account, "etc/group", group).endswith("app1000:x:1000:\n")

    @pytest.mark.parametrize("user", ["appuser", "appuser:appuser", "appuser:1000"])
    def test_a_name_without_an_entry_gets_the_first_free_id_and_a_warning(self, user: str) -> None:
        account = account_of(base(), user)
        assert (account.user.uid, account.gid) == (1000, 1000)
        lines = added(account, "etc/passwd", PASSWD)
        assert lines.endswith("appuser:*:1000:1000:appuser:/home/appuser:/usr/sbin/nologin\n")
        (warning,) = account.warnings
        assert "no user 'appuser': it is added, with the ID 1000 and the group 1000" in warning
        assert 'write "1000:1000"' in warning
        assert account_of(base(), "1000:1000").warnings == ()

    def test_ids_that_a_user_or_a_group_has_are_not_free(self) -> None:
        account = account_of(base(PASSWD + b"a:x:1000:1:::\n", GROUP + b"b:x:1001:\n"), "appuser")
        assert (account.user.uid, account.gid) == (1002, 1002)

    def test_a_new_user_gets_the_group_of_its_name(self) -> None:
        assert account_of(base(group=GROUP + b"appuser:x:77:\n"), "appuser").gid == 77

    def test_a_new_group_gets_a_warning(self) -> None:
        account = account_of(base(), "www-data:web")
        assert (account.user.uid, account.gid, account.groups) == (33, 1000, frozenset({1000}))
        assert added(account, "etc/group", GROUP) == f"{NONROOT_GROUP}web:x:1000:\n"
        assert len(account.warnings) == 1
        assert "no group 'web': it is added, with the ID 1000" in account.warnings[0]

    def test_the_base_s_user_and_its_groups(self) -> None:
        account = account_of(base(), "www-data")
        assert (account.user.uid, account.gid, account.groups) == (33, 33, frozenset({33, 50}))
        assert account_of(base(), "33:nogroup").groups == {65534}, "only the group that is named"

    def test_the_first_line_wins_and_numbers_are_ids(self) -> None:
        passwd = PASSWD + b"twice:x:5:6:::\ntwice:x:7:8:::\nalso:x:5:9:::\n1000:x:4:4:::\n"
        assert account_of(base(passwd), "twice").user.uid == 5
        assert account_of(base(passwd), "5").gid == 6
        assert account_of(base(passwd), "1000").user.uid == 1000

    @pytest.mark.parametrize("user", ["0", "root", "0:0", "root:root"])
    def test_root_needs_no_entry(self, user: str) -> None:
        account = account_of(Filesystem({}) if user != "root" and user != "root:root" else base(), user)
        assert (account.user.uid, account.gid) == (0, 0)
        assert all("root:" not in line for line in added(account, "etc/passwd", PASSWD if "root" in user else b""))
        assert account.warnings == account.notes == ()

    @pytest.mark.parametrize("line", ["x", "x:y", "x:y:z:w", "x:" + "9" * 5000 + ":" + "9" * 5000])
    def test_malformed_lines_are_read_as_engines_do(self, line: str) -> None:
        account = account_of(base(PASSWD + line.encode()), "x")
        assert (account.user.uid, account.gid) == (0, 0)


class TestHomes:
    def test_a_missing_home_below_home_is_made(self) -> None:
        account = account_of(base(PASSWD + b"me:x:1000:50::/home/me:/bin/sh\n"), "me")
        assert (made(account)["home/me"].uid, made(account)["home/me"].mode) == (1000, 0o775)
        assert account.notes == ()

    @pytest.mark.parametrize(
        ("user", "home"),
        [("nobody", "'/nonexistent', which the image does not"), ("www-data", "'/var/www', which the")],
    )
    def test_other_missing_homes_get_a_note(self, user: str, home: str) -> None:
        account = account_of(base(), user)
        assert len(account.notes) == 1
        assert home in account.notes[0]
        assert len(account.entries) == 3

    def test_homes_of_the_base_stay(self) -> None:
        files = with_node(base(PASSWD + b"me:x:9:9::/home/me:\n", home_me=None), "home/me", mode=0o700, uid=9)
        account = account_of(files, "me")
        assert "home/me" not in made(account)
        assert account.notes == ()

    def test_a_directory_where_a_new_home_goes_is_given_to_the_user(self) -> None:
        home = made(account_of(with_node(base(home_app=None), "home/app", mode=0o2700), "1000"))["home/app"]
        assert (home.mode, home.uid, home.gid) == (0o2770, 1000, 0)

    def test_links_are_followed(self) -> None:
        files = listing({"home": "var/home", "var/home": None})
        assert "var/home/nonroot" in made(account_of(files, DEFAULT))

    def test_what_a_home_links_to_stays(self) -> None:
        files = listing({"etc": None, "home/app": "/etc", "home/nonroot": "/srv/shared", "srv/shared": None})
        account = account_of(files, "1000")
        assert {entry.path for entry in account.entries if entry.is_directory} == set()
        assert len(account.notes) == 1

    def test_nothing_replaces_a_file(self) -> None:
        assert "home/nonroot" not in made(account_of(base(home_nonroot=b""), DEFAULT))
        account = account_of(listing({"home": b""}), DEFAULT)
        assert "home/nonroot" not in made(account)
        assert len(account.notes) == 1

    @pytest.mark.parametrize("home", ["", "/", "relative", "/home/../etc", "/home/", "//"])
    def test_odd_homes(self, home: str) -> None:
        account = account_of(base(PASSWD + f"me:x:9:50::{home}:\n".encode()), "me")
        assert {entry.path for entry in account.entries if entry.uid == 9} == set()

    def test_shell_of_the_image(self) -> None:
        files = base(sbin_nologin="/bin/busybox", bin_busybox=b"")
        assert added(account_of(files, DEFAULT), "etc/passwd", PASSWD).endswith(":/sbin/nologin\n")


class TestFolders:
    def owners(self, user: str, *volumes: str, files: Filesystem | None = None) -> dict[str, tuple[int, int, int]]:
        files = files or base()
        made = folders(files, "/app", volumes, account_of(files, user))
        assert all(entry.is_directory for entry in made)
        return {entry.path: (entry.uid, entry.gid, entry.mode) for entry in made}

    @pytest.mark.parametrize(
        ("user", "working_dir", "volume"),
        [
            (DEFAULT, (65532, 0, 0o775), (65532, 65532, 0o755)),
            ("1000:2000", (1000, 2000, 0o775), (1000, 2000, 0o755)),
            ("1000:staff", (1000, 50, 0o775), (1000, 50, 0o755)),
            ("1000", (1000, 0, 0o775), (1000, 1000, 0o755)),
            ("www-data", (33, 0, 0o775), (33, 33, 0o755)),
            ("appuser", (1000, 0, 0o775), (1000, 1000, 0o755)),
            ("root", (0, 0, 0o755), (0, 0, 0o755)),
            ("0:staff", (0, 0, 0o755), (0, 50, 0o755)),
        ],
    )
    def test_belong_to_the_user(
        self, user: str, working_dir: tuple[int, int, int], volume: tuple[int, int, int]
    ) -> None:
        assert self.owners(user, "/data") == {"app": working_dir, "data": volume}

    def test_links_are_followed_and_directories_of_the_base_stay(self) -> None:
        files = listing({"data": "/mnt/data", "var": "v", "v/lib": None, "app": None})
        assert set(self.owners("1", "/data", "/var/lib", files=files)) == {"mnt/data"}

    def test_a_home_stays_one_if_it_is_a_volume(self) -> None:
        assert set(self.owners(DEFAULT, "/home/nonroot")) == {"app"}
        assert self.owners("1000", "/home/nonroot")["home/nonroot"] == (1000, 1000, 0o755)


# Lines that look like accounts, and what else may be in such files.
_FIELD = st.sampled_from(
    ["", "x", "nonroot", "app", "appuser", "65532", "1000", "0", "-1", "+", "#", "/home/app", "/", "é", " ", "\r"]
)
_LINE = st.one_of(st.lists(_FIELD, max_size=8).map(":".join).map(str.encode), st.binary(max_size=20))
_TEXT = st.lists(_LINE, max_size=6).map(b"\n".join)
_USER = st.sampled_from([DEFAULT, "nonroot", "1000", "1000:0", "appuser", "appuser:web", "0", "65532:app", "x:1000"])


class TestAnyFile:
    @given(passwd=_TEXT, group=_TEXT, user=_USER)
    @example(passwd=b"", group=b"\n", user=DEFAULT)
    @example(passwd=b"x", group=b"+", user="appuser:web")
    @example(passwd=b"x::65532:-1", group=b"", user=DEFAULT)
    @example(passwd=b"x::65532:99999999999", group=b"", user=DEFAULT)
    def test_stays_line_for_line_and_has_the_account(self, passwd: bytes, group: bytes, user: str) -> None:
        files = base(passwd, group)
        account = account_of(files, user)
        for path, text in (("etc/passwd", passwd), ("etc/group", group)):
            if entry := made(account).get(path):
                remaining = data_of(entry).split(b"\n")
                for line in text.removesuffix(b"\n").split(b"\n") if text else ():
                    while remaining.pop(0) != line:
                        assert remaining
        after = applied(files, account.entries)
        again = account_of(after, user)
        assert {entry.path for entry in again.entries} == set(), "a second time adds nothing"
        assert again.warnings == ()
        assert (again.user.uid, again.gid, again.groups) == (account.user.uid, account.gid, account.groups)
        if account.user.uid:
            users = [line.split(b":") for line in (after.nodes["etc/passwd"].data or b"").split(b"\n")]
            assert any(len(line) > 2 and line[2].strip() in _spellings(account.user.uid) for line in users)
        if made(account).get("etc/passwd"):
            new = data_of(made(account)["etc/passwd"])
            assert re.search(rb"^[^:\n]+:\*:\d+:\d+:[^:\n]*:/home/[^:\n]+:/usr/sbin/nologin$", new, re.MULTILINE)


def _spellings(number: int) -> set[bytes]:
    return {str(number).encode(), b"+%d" % number}
