"""Debian packages' files as entries of a layer: what dpkg would unpack, less what a container does not read.

Contents are kept one after the other in one temporary file, and nothing is written by its own path.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from hatch_docker.debian.control import Relation, relations
from hatch_docker.debian.deb import Deb
from hatch_docker.debian.tar import Member
from hatch_docker.errors import PackageError
from hatch_docker.oci.layer import Entry, Plain
from hatch_docker.oci.spool import Spool
from hatch_docker.support.paths import SymlinkLoopError, resolve
from hatch_docker.support.threads import together

# What /bin and the like have been links to since bookworm, whatever a package calls its paths (usrmerge).
USRMERGE: Mapping[str, str] = {name: f"usr/{name}" for name in ("bin", "lib", "lib32", "lib64", "libx32", "sbin")}
# What Debian's slim images leave out, and the completions of shells that nobody types in. The folders themselves stay.
_LEFT_OUT = re.compile(
    r"""usr/share/(?: doc/[^/]+/(?!copyright$).+ | locale/(?!locale\.alias$).+ | lintian/.+
    | (?:man|info|groff|linda|doc-base|bug|gtk-doc|help|gnome/help|bash-completion|zsh|fish)/.+ )
    | usr/lib/debug/.+ | etc/bash_completion\.d/.+""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """The files of packages: `entries` for a layer, by path; `owners` are the packages that each file is of.

    `names` are, for each package, the paths of what it has, as the package calls them and as the layer does.
    """

    entries: Mapping[str, Entry]
    owners: Mapping[str, str]
    names: Mapping[str, Mapping[str, str]]

    def without(self, paths: Collection[str], *, forgotten: bool = True) -> Unpacked:
        """The same without some files, which their packages still have unless they are `forgotten`."""
        entries = {path: entry for path, entry in self.entries.items() if path not in paths}
        names = {
            package: {name: path for name, path in each.items() if path not in paths}
            for package, each in self.names.items()
        }
        return replace(self, entries=entries, names=names if forgotten else self.names)


def unpacked(
    debs: Sequence[Deb],
    spool: BinaryIO,
    links: Mapping[str, str] = USRMERGE,
    *,
    present: Collection[str] = (),
    threads: int = 1,
) -> Unpacked:
    """Unpack `debs`, in the order that they would be installed in.

    `links` are symbolic links to directories that are there already, by path: files go to where these lead. `present`
    are directories that are there, whose mode and owner stay. `spool` is an empty file for contents. Hard links become
    files of their own. Raises PackageError for a path that two packages have with different content, unless one says
    that it Replaces the other, and DebianError for what is damaged.
    """
    store, ways = Spool(spool), SymlinkResolver(links)
    # The largest first, so that none is left to run alone at the end.
    order = sorted(range(len(debs)), key=lambda number: -debs[number].size)
    found = together(lambda number: _read(debs[number], ways, store), order, threads=threads)
    trees = dict(zip(order, found, strict=True))
    return _Union(present).of([trees[number] for number in sorted(trees)])


class SymlinkResolver:
    """Resolves paths by a mapping of symbolic links, and caches resolved directories."""

    def __init__(self, links: Mapping[str, str]) -> None:
        self._links = links
        self._resolved: dict[str, str] = {}

    def directory(self, path: str) -> str:
        """Follow all links in `path`. Raises PackageError for a loop."""
        if path not in self._resolved:
            try:
                self._resolved[path] = resolve(path, self._links.get)
            except SymlinkLoopError as error:
                raise PackageError(str(error)) from None
        return self._resolved[path]

    def file(self, path: str) -> str:
        """Follow all links in `path` except its last component. Raises PackageError for a loop."""
        parent, _, name = path.rpartition("/")
        parent = self.directory(parent) if parent else ""
        return f"{parent}/{name}" if parent else name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tree:
    """One package's entries by path, and for each how the package itself calls it."""

    deb: Deb
    entries: dict[str, Entry] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.deb.control["Package"]

    def replaces(self, other: _Tree) -> bool:
        """Whether the package says that it may overwrite files of another (policy 7.6.1)."""
        field = relations(self.deb.control.get("Replaces", ""))
        return any(_means(relation, other.deb) for alternatives in field for relation in alternatives)


def _means(relation: Relation, deb: Deb) -> bool:
    return relation.name == deb.control["Package"] and relation.allows(deb.control["Version"])


def _read(deb: Deb, ways: SymlinkResolver, store: Spool) -> _Tree:
    tree = _Tree(deb=deb)
    wanted: dict[str, Member] = {}
    contents: dict[str, Plain | bytes] = {}
    for member, content in deb.members():
        if _LEFT_OUT.fullmatch(ways.file(member.path)):
            continue
        if member.kind == "hardlink":
            wanted[member.path] = member
            continue
        if member.kind == "file":
            contents[member.path] = store.add(content, member.size) if member.size else b""
        _put(tree, member, ways, contents.get(member.path))
    targets = {member.link for member in wanted.values()} - contents.keys()
    if targets:
        # What a hard link is to, and is left out itself: seldom, so that it is worth another reading.
        again = ((member, content) for member, content in deb.members() if member.path in targets)
        contents |= {member.path: store.add(content, member.size) for member, content in again}
    for member in wanted.values():
        _put(tree, member, ways, contents[member.link])
    return tree


def _put(tree: _Tree, member: Member, ways: SymlinkResolver, content: Plain | bytes | None) -> None:
    path = ways.directory(member.path) if member.kind == "directory" else ways.file(member.path)
    if not path:
        # A link of the image leads to its root.
        return
    if "/.wh." in f"/{path}":
        raise PackageError(f"has /{path}, which in a layer would take away files", place=tree.deb.place)
    link = member.link if member.kind == "symlink" else ""
    entry = Entry(path=path, mode=member.mode, uid=member.uid, gid=member.gid, content=content, link=link)
    before = tree.entries.setdefault(path, entry)
    if before is not entry and not (before.is_directory and entry.is_directory):
        raise PackageError(f"has /{path} twice, by two names", place=tree.deb.place)
    tree.names.setdefault(path, member.path)


class _Union:
    """All packages' entries, while one after the other is added."""

    def __init__(self, present: Collection[str]) -> None:
        self._present = present
        self._entries: dict[str, Entry] = {}
        self._owner: dict[str, _Tree] = {}
        self._lost: set[tuple[str, str]] = set()

    def of(self, trees: Sequence[_Tree]) -> Unpacked:
        for tree in trees:
            for entry in tree.entries.values():
                self._add(tree, entry)
        self._check_parents()
        names = {
            tree.name: {name: path for path, name in tree.names.items() if (tree.name, path) not in self._lost}
            for tree in trees
        }
        owners = {path: tree.name for path, tree in self._owner.items()}
        return Unpacked(entries=self._entries, owners=owners, names=names)

    def _check_parents(self) -> None:
        """Refuse what lies below another package's file or link, through which dpkg would write elsewhere."""
        for path in self._entries:
            parent = path.rpartition("/")[0]
            while parent and parent not in self._entries:
                parent = parent.rpartition("/")[0]
            if parent and not self._entries[parent].is_directory:
                raise PackageError(
                    f"/{path} of {self._owner[path].name} lies below /{parent} of {self._owner[parent].name}, "
                    "which is no directory",
                    hint="these packages cannot be installed together: leave one of them out",
                )

    def _add(self, tree: _Tree, entry: Entry) -> None:
        path = entry.path
        if path in self._present and (entry.is_directory or entry.link):
            # A directory stays what it is, also where a package has a link in its place, as with dpkg.
            return
        other = self._owner.get(path)
        if other is None:
            self._entries[path], self._owner[path] = entry, tree
        elif not _same(self._entries[path], entry):
            self._decide(path, other, tree, entry)

    def _decide(self, path: str, other: _Tree, tree: _Tree, entry: Entry) -> None:
        """Which of two packages' files it is."""
        if tree.replaces(other):
            self._entries[path], self._owner[path] = entry, tree
            self._lost.add((other.name, path))
        elif other.replaces(tree):
            self._lost.add((tree.name, path))
        else:
            raise PackageError(
                f"/{path} is both in {other.name} and in {tree.name}, and is not the same",
                hint="these packages cannot be installed together: leave one of them out",
            )


def _same(one: Entry, other: Entry) -> bool:
    """Whether it makes no difference which of two entries is taken. The first one's directory is as good as another."""
    if one.is_directory and other.is_directory:
        return True
    plain = replace(one, content=None), replace(other, content=None)
    return plain[0] == plain[1] and one.size == other.size and _digest(one) == _digest(other)


def _digest(entry: Entry) -> bytes:
    return hashlib.sha256(entry.read()).digest()
