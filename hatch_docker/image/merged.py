"""The files of an image, all its layers together, as its user reaches them: base, wheels, extra files, the project.

Only listings are read, and the first bytes of the files that a check asks for. Rights are those of mode bits
(path_resolution(7)); root has CAP_DAC_OVERRIDE, as engines grant it.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping, Sequence

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import ContentError
from hatch_docker.oci.content import plain_chunks
from hatch_docker.oci.filesystem import HEAD, Filesystem, Node
from hatch_docker.oci.layer import Entry
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.paths import SymlinkLoopError, parents, resolve
from hatch_docker.support.progress import Progress
from hatch_docker.wheels.install import correct_records, installed, lay_out
from hatch_docker.wheels.prepare import PreparedWheel
from hatch_docker.wheels.wheelfile import WheelFile

_KIND, _OWN_KIND = "programs", "own-programs"
# Part of the cache key of what is read of a wheel's file: raise it if that changes.
_FORMAT = 1
READ, WRITE, SEARCH = 4, 2, 1
_DIRECTORY = Node(kind="dir")
# Whether a wheel's file is executable is known when it is looked at.
_OF_WHEEL = Node(kind="file", mode=0o644)


class UnreachableError(Exception):
    """A path does not lead to a file, or the user may not follow it. `missing` says that something does not exist."""

    def __init__(self, what: str, *, missing: bool = False, denied: str = "") -> None:
        super().__init__(what)
        self.missing, self.denied = missing, denied


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The IDs that a container's processes have: of the user, and of all its groups."""

    uid: int
    groups: frozenset[int]

    def may(self, node: Node, bits: int) -> bool:
        """Whether it has rights to a file or directory: READ, WRITE, or SEARCH, which for files is to execute them."""
        if self.uid == 0:
            return bits != SEARCH or node.kind == "dir" or bool(node.mode & 0o111)
        shift = 6 if node.uid == self.uid else 3 if node.gid in self.groups else 0
        return node.mode >> shift & bits == bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The files of an image. `entries` and `wheels` have the origin of those that are not the base's, by path.

    `cache` remembers what was read of files of wheels.
    """

    files: Filesystem
    target: TargetPython
    cache: Cache
    entries: Mapping[str, Entry]
    wheels: Mapping[str, PreparedWheel]

    def examined(self, path: str) -> tuple[Node, bytes | None]:
        """The node of a resolved path with its mode, and the start of its content; None if that is not known."""
        if entry := self.entries.get(path):
            return node_of(entry), _head(entry)
        if wheel := self.wheels.get(path):
            return self._of_wheel(path, wheel)
        node = self.files.nodes[path]
        return node, node.head or None

    def _of_wheel(self, path: str, wheel: PreparedWheel) -> tuple[Node, bytes | None]:
        key = json.dumps([_FORMAT, wheel.digest, self.target.lib_name, path])
        kind = _OWN_KIND if wheel.own else _KIND
        known = self.cache.get(kind, key)
        if known is None:
            with WheelFile(wheel.path, wheel.filename) as file:
                correct_records([file], Progress())
                found = next(each for each in lay_out(file, self.target, pruned=wheel.pruned) if each.path == path)
                head = _head(found)
            known = {"mode": found.mode, "head": None if head is None else head.decode("latin-1")}
            self.cache.put(kind, key, known)
        text: str | None = known["head"]
        return replace(_OF_WHEEL, mode=known["mode"]), None if text is None else text.encode("latin-1")

    def reach(self, path: str, identity: Identity) -> tuple[str, Node]:
        """`reach` in these files."""
        return reach(self.files, path, identity)


def reach(files: Filesystem, path: str, identity: Identity) -> tuple[str, Node]:
    """The resolved path and the node of an absolute path, with the rights of a user. Raises UnreachableError."""
    nodes = files.nodes

    def target_of(candidate: str) -> str | None:
        parent = candidate.rpartition("/")[0]
        holder = nodes.get(parent) if parent else _DIRECTORY
        if holder is None:
            raise UnreachableError(f"/{parent} does not exist", missing=True)
        if holder.kind != "dir":
            raise UnreachableError(f"/{parent} is not a directory")
        if not identity.may(holder, SEARCH):
            raise UnreachableError(
                f"{described(parent, holder)} cannot be entered by the user {identity.uid}", denied=parent
            )
        node = nodes.get(candidate)
        return node.link if node is not None and node.kind == "link" else None

    try:
        resolved = resolve(path, target_of)
    except SymlinkLoopError as error:
        raise UnreachableError(str(error)) from None
    node = nodes.get(resolved) if resolved else _DIRECTORY
    if node is None:
        through = f" (/{resolved})" if f"/{resolved}" != posixpath.normpath(path) else ""
        raise UnreachableError(f"{path}{through} does not exist", missing=True)
    return resolved, node


def merge_files(
    base: Filesystem, wheels: Sequence[PreparedWheel], entries: Iterable[Entry], target: TargetPython, cache: Cache
) -> Merged:
    """The files of an image: a base with its OS packages, wheels over it, and `entries` of other layers over both."""
    nodes = dict(base.nodes)
    owners = {path: wheel for wheel in wheels for path in installed(wheel.facts, target, pruned=wheel.pruned)}
    nodes.update(dict.fromkeys(owners, _OF_WHEEL))
    folders = {posixpath.dirname(path) for path in owners}
    made = {}
    for entry in entries:
        owners.pop(entry.path, None)
        if entry.removed:
            nodes.pop(entry.path, None)
            continue
        made[entry.path] = entry
        nodes[entry.path] = node_of(entry)
        folders.add(posixpath.dirname(entry.path))
    for folder in folders:
        for each in (folder, *parents(folder)):
            if each and (each not in nodes or nodes[each].kind not in ("dir", "link")):
                nodes[each] = _DIRECTORY
    return Merged(files=Filesystem(nodes), target=target, cache=cache, entries=made, wheels=owners)


def node_of(entry: Entry) -> Node:
    """The node of a layer's entry."""
    kind = "link" if entry.link else "dir" if entry.is_directory else "file"
    return Node(kind=kind, link=entry.link, mode=entry.mode, uid=entry.uid, gid=entry.gid)


def _head(entry: Entry) -> bytes | None:
    """The start of a file; None if it is damaged, which is reported where it is written."""
    try:
        return bytes(next(plain_chunks(entry.path, entry.content or b""), b"")[:HEAD])
    except ContentError:
        return None


def described(path: str, node: Node) -> str:
    """A file or directory as messages name it, with what decides about rights to it."""
    return f"/{path} (mode {node.mode & 0o7777:04o}, owner {node.uid}:{node.gid})"
