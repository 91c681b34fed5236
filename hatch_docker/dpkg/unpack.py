"""Turn the files of Debian packages into layer entries, as dpkg unpacks them, without documentation and the like.

Contents go to one temporary file; nothing is written at its own path.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import BinaryIO

from hatch_docker.debian.control import Relation, relations
from hatch_docker.debian.deb import Deb
from hatch_docker.debian.tar import Member
from hatch_docker.errors import PackageError
from hatch_docker.oci.layer import Entry, Plain
from hatch_docker.oci.spool import Spool
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.paths import SymlinkLoopError, parents, resolve
from hatch_docker.support.patterns import regex
from hatch_docker.support.threads import together

# Links of usrmerge, since bookworm; packages may still have files in /bin.
USRMERGE: Mapping[str, str] = {name: f"usr/{name}" for name in ("bin", "lib", "lib32", "lib64", "libx32", "sbin")}
# What Debian's slim images leave out, and shell completions, but not a shell's own functions; directories stay.
_LEFT_OUT = regex(
    r"""usr/share/(?: doc/[^/]+/(?!copyright$).+ | locale/(?!locale\.alias$).+ | lintian/.+
    | (?:man|info|groff|linda|doc-base|bug|gtk-doc|help|gnome/help|bash-completion)/.+
    | fish/(?:completions|vendor_completions\.d)/.+ | zsh/(?:site-functions|vendor-completions)/.+ )
    | usr/lib/debug/.+ | etc/bash_completion\.d/.+""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """The files of packages: `entries` of a layer and the `owners` of files, both by path.

    `names` maps each package to its files: the path in the package to the path in the layer, with links followed.
    """

    entries: Mapping[str, Entry]
    owners: Mapping[str, str]
    names: Mapping[str, Mapping[str, str]]

    def without(self, paths: Collection[str]) -> Unpacked:
        """The same without some files."""
        entries = {path: entry for path, entry in self.entries.items() if path not in paths}
        names = {
            package: {name: path for name, path in each.items() if path not in paths}
            for package, each in self.names.items()
        }
        return replace(self, entries=entries, names=names)


def unpack(
    debs: Sequence[Deb],
    spool: BinaryIO,
    links: Mapping[str, str] = USRMERGE,
    *,
    present: Collection[str] = (),
    threads: int = 1,
) -> Unpacked:
    """Unpack `debs`, which are in the order of installation.

    `links` are existing symbolic links to directories, by path, which paths in packages follow. `present` are existing
    directories, whose mode and owner stay. `spool` is an empty file for contents. Hard links become separate files.
    Raises PackageError for a path that two packages have with different content, unless one Replaces the other, and
    DebianError for damaged packages.
    """
    contents, resolver = Spool(spool), SymlinkResolver(links)
    # The largest first, so that no large package runs alone at the end.
    order = sorted(range(len(debs)), key=lambda number: -debs[number].size)
    trees = dict(
        zip(
            order, together(lambda number: _read(debs[number], resolver, contents), order, threads=threads), strict=True
        )
    )
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
    """One package's entries by path, and the path in the package of each."""

    deb: Deb
    entries: dict[str, Entry] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.deb.control["Package"]

    def replaces(self, other: _Tree) -> bool:
        """Whether the package may overwrite files of another (policy 7.6.1)."""
        field = relations(self.deb.control.get("Replaces", ""))
        return any(_matches(relation, other.deb) for alternatives in field for relation in alternatives)


def _matches(relation: Relation, deb: Deb) -> bool:
    return relation.name == deb.control["Package"] and relation.allows(deb.control["Version"])


def _read(deb: Deb, resolver: SymlinkResolver, spool: Spool) -> _Tree:
    tree = _Tree(deb=deb)
    hard_links: dict[str, Member] = {}
    contents: dict[str, Plain | bytes] = {}
    for member, content in deb.members():
        if _LEFT_OUT.fullmatch(resolver.file(member.path)):
            continue
        if member.kind == "hardlink":
            hard_links[member.path] = member
            continue
        if member.kind == "file":
            contents[member.path] = spool.add(content, member.size) if member.size else b""
        _put(tree, member, resolver, contents.get(member.path))
    targets = {member.link for member in hard_links.values()} - contents.keys()
    if targets:
        # Targets of hard links that are left out themselves are rare: read the package again.
        again = ((member, content) for member, content in deb.members() if member.path in targets)
        contents |= {member.path: spool.add(content, member.size) for member, content in again}
    for member in hard_links.values():
        _put(tree, member, resolver, contents[member.link])
    return tree


def _put(tree: _Tree, member: Member, resolver: SymlinkResolver, content: Plain | bytes | None) -> None:
    path = resolver.directory(member.path) if member.kind == "directory" else resolver.file(member.path)
    if not path:
        # The path resolves to the root directory.
        return
    if "/.wh." in f"/{path}":
        raise PackageError(f"has /{path}, which in a layer is a whiteout", place=tree.deb.place)
    link = member.link if member.kind == "symlink" else ""
    entry = Entry(path=path, mode=member.mode, uid=member.uid, gid=member.gid, content=content, link=link)
    earlier = tree.entries.setdefault(path, entry)
    if earlier is not entry and not (earlier.is_directory and entry.is_directory):
        raise PackageError(f"has /{path} twice, under two names", place=tree.deb.place)
    tree.names.setdefault(path, member.path)


class _Union:
    """The union of packages' entries, built one package after the other."""

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
        """Raise PackageError for paths below a file or link of another package, through which dpkg would write."""
        for path in self._entries:
            parent = next((each for each in parents(path) if each in self._entries), "")
            if parent and not self._entries[parent].is_directory:
                raise PackageError(
                    f"/{path} of {self._owner[path].name} is below /{parent} of {self._owner[parent].name}, "
                    "which is not a directory",
                    hint="these packages cannot be installed together: leave one of them out",
                )

    def _add(self, tree: _Tree, entry: Entry) -> None:
        path = entry.path
        if path in self._present and (entry.is_directory or entry.link):
            # Like dpkg, keep existing directories, also if a package has a link instead.
            return
        other = self._owner.get(path)
        if other is None:
            self._entries[path], self._owner[path] = entry, tree
        elif not _same(self._entries[path], entry):
            self._decide(path, other, tree, entry)

    def _decide(self, path: str, other: _Tree, tree: _Tree, entry: Entry) -> None:
        """Choose one of two packages' files at the same path."""
        if tree.replaces(other):
            self._entries[path], self._owner[path] = entry, tree
            self._lost.add((other.name, path))
        elif other.replaces(tree):
            self._lost.add((tree.name, path))
        else:
            raise PackageError(
                f"/{path} is both in {other.name} and in {tree.name}, with different content",
                hint="these packages cannot be installed together: leave one of them out",
            )


def _same(one: Entry, other: Entry) -> bool:
    """Whether two entries are interchangeable; all directories are."""
    if one.is_directory and other.is_directory:
        return True
    plain = replace(one, content=None), replace(other, content=None)
    return plain[0] == plain[1] and one.size == other.size and _digest(one) == _digest(other)


def _digest(entry: Entry) -> bytes:
    return hashlib.sha256(entry.read()).digest()
