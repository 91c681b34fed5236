"""The user that an image runs as: passwd(5), group(5), the home, and the directories that belong to it. No I/O.

What the image's files have is used as it is. What they lack is added, as lines of the same files. The password of a new
user is `*`: it admits no login and needs no line in etc/shadow. With `x` and no such line PAM refuses the account, even
to root's `su`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from hatch_docker.errors import ImageError
from hatch_docker.oci.filesystem import Filesystem, Node
from hatch_docker.oci.layer import Entry
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.paths import parents, rooted
from hatch_docker.support.patterns import regex

# The user and group that every image has, as distroless images do.
NONROOT = 65532
_NONROOT_NAME = "nonroot"
_NONROOT_HOME = f"/home/{_NONROOT_NAME}"
# The name of a user that is configured by a number without a name in the image.
_UNNAMED = "app"
# Where useradd starts to look for a free ID (login.defs: UID_MIN).
_FIRST_ID = 1000
_SHELLS = ("/usr/sbin/nologin", "/sbin/nologin")
# Group 0 may write: containers with arbitrary user IDs run in it.
_HOME_MODE = 0o775
_NUMBER = regex(rb"\+?[0-9]{1,18}")
_LAST_ID = 2**32 - 2
_NIS = regex(rb"^[+-]", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user as passwd(5) describes it; `home` is empty if no line does. `added` if the image had no such line."""

    name: str
    uid: int
    gid: int
    home: str = ""
    added: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group as group(5) describes it."""

    name: str
    gid: int
    members: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The user and group that an image runs as, with all its groups.

    `entries` are the files and homes that the image lacks, of `nonroot` too. `warnings` are likely problems, `notes`
    facts.
    """

    user: User
    gid: int
    groups: frozenset[int] = frozenset()
    entries: tuple[Entry, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def can_write(self, directory: Node) -> bool:
        """Whether it may make files in a directory."""
        shift = 6 if directory.uid == self.user.uid else 3 if directory.gid in self.groups else 0
        return self.user.uid == 0 or directory.mode >> shift & 0o3 == 0o3


def account_of(files: Filesystem, configured: str, extra: Iterable[Entry] = ()) -> Account:
    """The account that `user` of the configuration names, and what an image lacks of it and of `nonroot`.

    `files` are the image's, with the content of etc/passwd and etc/group; `extra` are entries that are put on top of
    them. Names and numbers mean what they mean to engines (config.md, User): a number is always an ID, the first line
    wins, and without a group it is that of the user's line.
    """
    users, groups = (_Database.read(files, path, extra) for path in ("etc/passwd", "etc/group"))
    directory = _Directory(users, groups, next((each for each in _SHELLS if files.is_file(each)), _SHELLS[0]))
    nonroot = directory.user(str(NONROOT), str(NONROOT))
    directory.group(str(nonroot.gid), nonroot)
    name, _, group = configured.partition(":")
    user = directory.user(name or "0", group)
    gid = directory.group(group or str(user.gid), user).gid
    ids = frozenset({gid} if group else {gid, *directory.memberships(user.name)})
    account = Account(user=user, gid=gid, groups=ids)
    homes = [home for each in dict.fromkeys((nonroot, user)) if (home := _home(files, each))]
    return replace(
        account,
        entries=(*users.entries(), *groups.entries(), *homes),
        warnings=(*users.problems, *groups.problems, *directory.warnings),
        notes=tuple(_notes(files, account, homes)),
    )


def folders(files: Filesystem, working_dir: str, volumes: Sequence[str], account: Account) -> list[Entry]:
    """The working directory and volumes that the image lacks. They belong to the account.

    Engines that give a container an arbitrary user ID make the working directory its home. So that belongs to group 0,
    as homes do, unless the account has a group that others may be in.
    """
    uid, gid = account.user.uid, account.gid
    shared = (0o755, 0) if uid == 0 else (_HOME_MODE, 0 if gid == uid else gid)
    wanted = {files.resolve(working_dir): shared} | {files.resolve(volume): (0o755, gid) for volume in volumes}
    own = {entry.path for entry in account.entries if entry.uid == uid}
    return [
        Entry(path=path, mode=mode, uid=uid, gid=group)
        for path, (mode, group) in wanted.items()
        if path and path not in own and not files.is_directory(path)
    ]


@dataclass(slots=True, kw_only=True)
class _Database:
    """A file of accounts: where its links lead, its text, None if no line can be added, and the lines to add."""

    path: str
    node: Node
    text: bytes | None
    problems: tuple[str, ...] = ()
    added: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, files: Filesystem, path: str, extra: Iterable[Entry]) -> _Database:
        """Read a file from an image, or from the entries on top of it. A missing one is empty."""
        new = Node(kind="file", mode=0o644)
        try:
            resolved = files.resolve(path)
            node = files.nodes.get(resolved) or (new if _can_hold(files, resolved) else Node(kind="other"))
        except ImageError as error:
            return cls(path=path, node=new, text=None, problems=(f"the image's users cannot be read: {error}",))
        for entry in extra:
            if entry.path == resolved:
                node = Node(kind="file", data=entry.read(), mode=entry.mode, uid=entry.uid, gid=entry.gid)
        text = b"" if node is new else node.data
        problem = f"the image's users cannot be read: /{path} is not a file, or is larger than 1 MiB"
        return cls(path=resolved, node=node, text=text, problems=(problem,) if text is None else ())

    def lines(self) -> Iterator[list[bytes]]:
        """The fields of each entry, at least six. Comments and lines of NIS are none."""
        for line in (self.text or b"").split(b"\n"):
            fields = line.strip().split(b":")
            if fields[0] and fields[0][:1] not in (b"#", b"+", b"-"):
                yield [*fields, *[b""] * 6]

    def entries(self) -> Iterator[Entry]:
        """The file with the added lines, if there are any: before lines of NIS, as useradd puts them."""
        if not self.added or self.text is None:
            return
        nis = _NIS.search(self.text)
        before, after = (self.text[: nis.start()], self.text[nis.start() :]) if nis else (self.text, b"")
        ended = before if before.endswith(b"\n") or not before else before + b"\n"
        content = ended + "".join(f"{line}\n" for line in self.added).encode() + after
        yield Entry(path=self.path, content=content, mode=self.node.mode, uid=self.node.uid, gid=self.node.gid)


class _Directory:
    """The users and groups of an image, to which missing ones are added."""

    def __init__(self, users: _Database, groups: _Database, shell: str) -> None:
        """`shell` is the login shell of new users."""
        self._users_file, self._groups_file, self._shell = users, groups, shell
        self._users = [
            User(name=_text(line[0]), uid=_id(line[2]), gid=_id(line[3]), home=_text(line[5])) for line in users.lines()
        ]
        self._groups = [
            Group(name=_text(line[0]), gid=_id(line[2]), members=frozenset(_text(line[3]).split(",")))
            for line in groups.lines()
        ]
        self.warnings: list[str] = []

    def user(self, which: str, group: str) -> User:
        """The user with a name or ID. A missing one is added, with the given group or else one of its own."""
        number = _decimal(which)
        for user in self._users:
            if which == user.name if number is None else number == user.uid:
                return user
        if number == 0 or self._users_file.text is None:
            # An engine refuses a name that it does not find, and gives a number without an entry the group 0.
            return User(name="root" if number == 0 else which, uid=number or 0, gid=0)
        uid = self._free_id() if number is None else number
        name = which if number is None else _free(_name_of(number), uid, (user.name for user in self._users))
        user = User(name=name, uid=uid, gid=0, home=f"/home/{name}", added=True)
        # A user's own group has its name, if it has no number of its own.
        gid = self.group(group or (str(uid) if number is not None else name), user).gid
        user = replace(user, gid=gid)
        self._users.append(user)
        self._users_file.added.append(f"{name}:*:{uid}:{gid}:{name}:{user.home}:{self._shell}")
        if number is None:
            self.warnings.append(
                f"the base image has no user {name!r}: it is added, with the ID {uid} and the group {gid}; "
                f'to avoid this warning, write "{uid}:{gid}", or a user that the base has'
            )
        return user

    def group(self, which: str, user: User) -> Group:
        """The group with a name or ID. A missing one is added for a user."""
        number = _decimal(which)
        for group in self._groups:
            if which == group.name if number is None else number == group.gid:
                return group
        if number == 0 or self._groups_file.text is None:
            return Group(name="root" if number == 0 else which, gid=number or 0)
        taken = {group.gid for group in self._groups}
        free = user.uid if user.added and user.uid not in taken else self._free_id()
        gid = free if number is None else number
        preferred = user.name if user.uid else _UNNAMED
        name = which if number is None else _free(preferred, gid, (group.name for group in self._groups))
        group = Group(name=name, gid=gid)
        self._groups.append(group)
        self._groups_file.added.append(f"{name}:x:{gid}:")
        if number is None and name != user.name:
            self.warnings.append(
                f"the base image has no group {name!r}: it is added, with the ID {gid}; "
                f"to avoid this warning, write {gid} for it, or a group that the base has"
            )
        return group

    def memberships(self, name: str) -> Iterator[int]:
        """The IDs of the groups that list a user as a member."""
        return (group.gid for group in self._groups if name in group.members)

    def _free_id(self) -> int:
        """The first ID that neither a user nor a group has."""
        taken = {user.uid for user in self._users} | {group.gid for group in self._groups}
        return next(number for number in range(_FIRST_ID, _FIRST_ID + len(taken) + 1) if number not in taken)


def _home(files: Filesystem, user: User) -> Entry | None:
    """The home of a user, if the image lacks it: of new users and `nonroot`, and missing ones below /home."""
    ours = user.added or (user.uid == NONROOT and user.home == _NONROOT_HOME)
    try:
        path = files.resolve(user.home)
        is_link = path != files.resolve_parent(user.home.rstrip("/"))
    except ImageError:
        return None
    node = files.nodes.get(path)
    if node is None:
        is_missing = user.home.startswith("/home/") and bool(rooted(user.home)) and _can_hold(files, path)
        return Entry(path=path, mode=_HOME_MODE, uid=user.uid) if path and is_missing else None
    home = Entry(path=path, mode=node.mode | 0o770, uid=user.uid)
    is_right = (node.mode, node.uid, node.gid) == (home.mode, home.uid, home.gid)
    # What a link leads to may be anything, such as /etc.
    return home if ours and node.kind == "dir" and not is_link and not is_right else None


def _notes(files: Filesystem, account: Account, homes: Sequence[Entry]) -> Iterator[str]:
    """Say that the image's user has no home that it can write to."""
    user = account.user
    try:
        path = files.resolve(user.home)
    except ImageError:
        path = ""
    node = files.nodes.get(path) if path else Node(kind="dir")
    if user.uid == 0 or any(home.path == path for home in homes) or (node and account.can_write(node)):
        return
    what = "which it cannot write to" if node else "which the image does not have"
    yield (
        f"the user {user.name!r} ({user.uid}) has the home {user.home or '/'!r}, {what}: "
        "programs that keep files there need HOME in env"
    )


def _can_hold(files: Filesystem, path: str) -> bool:
    """Whether all parents of a resolved path are directories, or can be made."""
    return all(node.kind == "dir" for parent in parents(path) if (node := files.nodes.get(parent)))


def _decimal(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() else None


def _id(text: bytes) -> int:
    """An ID as engines read it: 0 if it is not a number. So is one out of range, with which no container starts."""
    number = int(text) if _NUMBER.fullmatch(text) else 0
    return number if number <= _LAST_ID else 0


def _text(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def _name_of(uid: int) -> str:
    return _NONROOT_NAME if uid == NONROOT else _UNNAMED


def _free(name: str, number: int, taken: Iterable[str]) -> str:
    """The name, with its number if it is taken, and as many underscores as needed."""
    names = frozenset(taken)
    name = f"{name}{number}" if name in names else name
    while name in names:
        name += "_"
    return name
