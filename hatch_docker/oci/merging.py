"""Read the layers of an image, and merge them into the listing of its root file system.

Layers are read, never unpacked. Whiteouts follow the image specification (layer.md).
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Set

from hatch_docker.errors import ImageError
from hatch_docker.oci.filesystem import HEAD, Filesystem, Node
from hatch_docker.oci.image import plain_tar
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.members import members, open_stream
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.paths import parents, resolve, rooted
from hatch_docker.support.streams import CHUNK, ChunkReader, chunks_of

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_NO_WHITEOUTS = (_WHITEOUT, f"{_WHITEOUT}.", f"{_WHITEOUT}..")
# A few hundred kilobytes of a hostile layer can inflate to gigabytes of names or files: one path of 4 kB has up to two
# thousand directories. No real image comes near these limits. Paths (all together) and contents are in bytes.
_MAX_MEMBERS = 4_000_000
_MAX_PATHS = 128 << 20
_MAX_CONTENT = 512 << 20
_MAX_FILE_CONTENT = 64 << 20
# Seconds since the epoch: the largest time that a tar without extended headers can have.
_LATEST = 8**11 - 1


def merge(layers: Iterable[Layer], needs_content: Callable[[str], bool], onto: Filesystem | None = None) -> Filesystem:
    """Merge the listings of `layers`, lowest first, with the content of the files for which `needs_content` is true.

    They are on top of the files `onto`, if these are given, which stay as they are.
    Files larger than 64 MiB, and those beyond 512 MiB in total, have no content. Parent directories without an entry
    are listed too. Raises ImageError for layers that are invalid, too large to list, or have another diff ID.
    """
    nodes = dict(onto.nodes) if onto else {}
    room = _MAX_CONTENT
    for layer in layers:
        changes = _read(layer, needs_content, room, nodes)
        room -= sum(len(node.data or b"") + len(node.head) for node in changes.added.values())
        nodes = changes.kept(nodes)
        left = _MAX_PATHS - sum(map(len, nodes))
        for path in _put(changes.added, nodes):
            left -= len(path)
            if len(nodes) > _MAX_MEMBERS or left < 0:
                raise _unreadable(layer, "the image has too many files")
    return Filesystem(nodes)


def _put(added: Mapping[str, Node], nodes: dict[str, Node]) -> Iterator[str]:
    """Put a layer's entries into `nodes`, with the directories above them. Yields each path that is put there.

    Time is linear in the paths: nothing above a directory is looked at again, as long as no file takes its place.
    """
    above: set[str] = set()
    for path, node in added.items():
        nodes[path] = node
        yield path
        if node.kind in ("file", "other") and path in above:
            above.clear()
        for parent in parents(path):
            if parent in above:
                break
            above.add(parent)
            if parent not in nodes or nodes[parent].kind in ("file", "other"):
                nodes[parent] = Node(kind="dir")
                yield parent


@dataclass(frozen=True, slots=True)
class _Changes:
    """A layer's entries, and its whiteouts for lower layers: paths to remove, directories to empty.

    `names` are the paths of all its members as they are written.

    Paths are those of the merged file system: an entry below a symbolic link is where the link leads, as container
    runtimes that apply a layer to the lower ones write it (containerd, CRI-O).
    """

    added: dict[str, Node] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    emptied: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    _links: dict[str, str] = field(default_factory=dict)
    _directories: dict[str, str] = field(default_factory=dict)
    _above: set[str] = field(default_factory=set)

    @classmethod
    def to(cls, lower: Mapping[str, Node]) -> _Changes:
        """No changes to the lower layers."""
        return cls(_links={path: node.link for path, node in lower.items() if node.kind == "link"})

    def add(self, path: str, node: Node) -> None:
        """Add an entry, which may be a link or replace one. Raises ReadError for a directory that has other entries."""
        self._enter(path)
        if node.kind != "dir" and path in self._above:
            raise _ambiguous(path)
        self.added[path] = node
        was_link = self._links.pop(path, None) is not None
        if node.kind == "link":
            self._links[path] = node.link
        # Whatever is known of directories below it is known of itself, too.
        if (was_link or node.kind == "link") and path in self._directories:
            self._directories.clear()

    def remove(self, path: str) -> None:
        """Remove a path of the lower layers. Raises ReadError for one that is in this layer, or removed already."""
        self._enter(path)
        if path in self.added or path in self.removed:
            raise tarfile.ReadError(f"it has {path[:80]!r} and its removal")
        self.removed.add(path)

    def _enter(self, path: str) -> None:
        """Remember the directories of an entry. Raises ReadError if one of them is something else in this layer."""
        parent = path.rpartition("/")[0]
        while parent and parent not in self._above:
            if (node := self.added.get(parent)) and node.kind != "dir":
                raise _ambiguous(parent)
            self._above.add(parent)
            parent = parent.rpartition("/")[0]

    def place(self, path: str) -> str:
        """Where the links of its directory lead a path. Raises SymlinkLoopError."""
        parent, name = posixpath.split(path)
        return posixpath.join(self.directory(parent), name)

    def directory(self, path: str) -> str:
        """Where links lead a directory; each one above it is looked at once. Raises SymlinkLoopError."""
        unknown, known = [], ""
        while path and (known := self._directories.get(path, "")) == "":
            path, _, name = path.rpartition("/")
            unknown.append(name)
        for name in reversed(unknown):
            path, known = posixpath.join(path, name), posixpath.join(known, name)
            if self._target_of(known) is not None:
                # What a link leads to has no links above it, and is known from now on.
                known = self.directory(resolve(known, self._target_of))
            self._directories[path] = self._directories[known] = known
        return known

    def _target_of(self, path: str) -> str | None:
        link = self._links.get(path)
        # Only for links, of which there are few in a path, all directories above are looked at.
        return link if link is not None and (path in self.added or self._stays(path)) else None

    def _stays(self, path: str) -> bool:
        """Whether a path of the lower layers is still there."""
        above = (*parents(path), "")
        return path not in self.removed and self.removed.isdisjoint(above) and self.emptied.isdisjoint(above)

    def kept(self, nodes: dict[str, Node]) -> dict[str, Node]:
        """The nodes of lower layers that stay."""
        removed = self.removed | {path for path, node in self.added.items() if node.kind != "dir"}
        emptied = self.emptied | removed
        if "" in emptied:
            return {}
        if emptied.isdisjoint(nodes):
            return nodes
        # For each directory, whether it is emptied by itself or above. Each is looked at once, however deep it is.
        empty = dict.fromkeys(emptied, True) | {"": False}
        return {path: node for path, node in nodes.items() if path not in removed and not _is_below(path, empty)}


def _ambiguous(path: str) -> tarfile.ReadError:
    return tarfile.ReadError(f"it has {path[:80]!r} as a file and as a directory")


def _is_below(path: str, empty: dict[str, bool]) -> bool:
    """Whether a directory above `path` is empty, given what is known of directories, to which the others are added."""
    unknown = []
    parent = path.rpartition("/")[0]
    while (known := empty.get(parent)) is None:
        unknown.append(parent)
        parent = parent.rpartition("/")[0]
    empty.update(dict.fromkeys(unknown, known))
    return known


def _read(layer: Layer, needs_content: Callable[[str], bool], room: int, lower: Mapping[str, Node]) -> _Changes:
    changes = _Changes.to(lower)
    try:
        with layer.open() as blob:
            plain = ChunkReader(plain_tar(chunks_of(blob), layer.descriptor.media_type, layer.diff_id))
            with open_stream(plain) as tar:
                for member in members(tar, most=_MAX_MEMBERS):
                    room -= _add(tar, member, changes, needs_content, room)
            # The diff ID covers what follows the end of the tar.
            while plain.read(CHUNK):
                pass
    except (tarfile.TarError, EOFError, OSError, ValueError, RecursionError) as error:
        raise _unreadable(layer, str(error)) from None
    return changes


def _add(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    changes: _Changes,
    needs_content: Callable[[str], bool],
    room: int,
) -> int:
    """Add a member to `changes`; return how many of the `room` bytes its content takes."""
    path = rooted(member.name)
    parent, name = posixpath.split(path)
    if problem := _problem(member, path, changes.names):
        raise tarfile.ReadError(problem)
    changes.names.add(path)
    if name == _OPAQUE:
        changes.emptied.add(changes.directory(parent))
    elif name.startswith(_WHITEOUT):
        changes.remove(posixpath.join(changes.directory(parent), name[len(_WHITEOUT) :]))
    elif path:
        path = changes.place(path)
        node = _node(tar, member, changes, with_content=member.size <= room and needs_content(path))
        changes.add(path, node)
        return len(node.data or b"") + len(node.head)
    return 0


def _problem(member: tarfile.TarInfo, path: str, names: Set[str]) -> str:
    """Why Docker refuses a member whose path is none of the earlier `names`; empty if it does not."""
    if not path:
        return "" if member.isdir() else "it has a file in the place of the root directory"
    if path in names:
        return f"it has {path[:80]!r} twice"
    if path.endswith(_NO_WHITEOUTS) and posixpath.basename(path) in _NO_WHITEOUTS:
        return f"it has a whiteout of nothing: {path[:80]!r}"
    if member.issym() and not member.linkname:
        return f"it has a link to nothing: {path[:80]!r}"
    return ""


def _node(tar: tarfile.TarFile, member: tarfile.TarInfo, changes: _Changes, *, with_content: bool) -> Node:
    if member.islnk():
        linked = changes.added.get(changes.place(rooted(member.linkname)))
        if linked is None or linked.kind == "dir":
            raise tarfile.ReadError(f"it has a hard link to no file of it: {member.linkname[:80]!r}")
        return linked
    kinds = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link"}
    kind = "file" if member.isreg() else kinds.get(member.type, "other")
    data, head = None, b""
    if kind == "file" and (file := tar.extractfile(member)):
        if with_content and member.size <= _MAX_FILE_CONTENT:
            data = file.read()
        if member.mode & 0o111:
            head = _head(data[:HEAD] if data is not None else file.read(HEAD))
    return Node(
        kind=kind,
        link=member.linkname if kind == "link" else "",
        data=data,
        mode=member.mode & 0o7777,
        uid=member.uid,
        gid=member.gid,
        head=head,
        mtime=int(member.mtime) if abs(member.mtime) <= _LATEST else 0,
    )


def _head(start: bytes) -> bytes:
    """What is kept of the start of an executable file: all of it for a script or a program."""
    return start if start.startswith((b"#!", b"\x7fELF")) else start[:4]


def _unreadable(layer: Layer, reason: str) -> ImageError:
    return ImageError(f"layer {layer.descriptor.digest} cannot be read: {reason}")
