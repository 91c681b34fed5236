"""What a stack of layers looks like when an engine mounts it: names, links, and the bytes of a few files.

Layers are read, never unpacked. Whiteouts follow the image specification (layer.md).
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from hatch_docker.errors import ImageError
from hatch_docker.oci.image import plain_tar
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.members import Member, members
from hatch_docker.support.paths import SymlinkLoopError, parents, resolve, rooted
from hatch_docker.support.streams import CHUNK, ChunkReader, chunks_of

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_LARGEST_READ = 64 << 20
# A few hundred kilobytes of a hostile layer are gigabytes of names or files when they are inflated. No path that Linux
# opens is longer than this, and no image that a person made comes near the other limits.
_LONGEST_PATH = 4096
_MOST_MEMBERS = 4_000_000
_MOST_READ = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One name: `kind` is `file`, `dir`, `link` (symbolic) or `other`; `data` only where it was asked for."""

    kind: str
    link: str = ""
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Filesystem:
    """The merged listing; paths are relative and have no trailing slash."""

    nodes: dict[str, Node] = field(default_factory=dict)

    def resolve(self, path: str) -> str:
        """Follow every symbolic link on the way to `path`; what does not exist is taken as it is.

        Raises ImageError on a loop.
        """
        try:
            return resolve(path, self._target_of)
        except SymlinkLoopError as error:
            raise ImageError(str(error)) from None

    def resolve_parent(self, path: str) -> str:
        """Like `resolve`, but the last component is not followed."""
        parent, _, name = path.rpartition("/")
        return f"{self.resolve(parent)}/{name}".lstrip("/")

    def _target_of(self, path: str) -> str | None:
        node = self.nodes.get(path)
        return node.link if node is not None and node.kind == "link" else None

    def get(self, path: str) -> Node | None:
        """What `path` is, links followed; None where nothing is."""
        resolved = self.resolve(path)
        return self.nodes.get(resolved) if resolved else Node(kind="dir")

    def is_file(self, path: str) -> bool:
        """Whether `path` is a file or a link to one; false for loops."""
        return self._kind(path) == "file"

    def is_directory(self, path: str) -> bool:
        """Whether `path` is a directory or a link to one; false for loops."""
        return self._kind(path) == "dir"

    def _kind(self, path: str) -> str:
        try:
            node = self.get(path)
        except ImageError:
            return ""
        return node.kind if node else ""

    def below(self, path: str) -> Iterator[str]:
        """The names right below a directory."""
        directory = self.resolve(path)
        prefix = f"{directory}/" if directory else ""
        for name in self.nodes:
            if name.startswith(prefix) and "/" not in name[len(prefix) :]:
                yield name[len(prefix) :]


def merge(layers: Iterable[Layer], wanted: Callable[[str], bool]) -> Filesystem:
    """List `layers`, lowest first, keeping the content of the files that `wanted(path)` names.

    Of a file larger than 64 MiB, and of what is beyond 512 MiB altogether, no content is kept. Directories that no
    layer names, but that files lie in, are listed too. Raises ImageError for what is no layer, no sane one, or
    not the one that its diff ID says.
    """
    nodes: dict[str, Node] = {}
    room = _MOST_READ
    for layer in layers:
        added, removed, emptied = _list(layer, wanted, room)
        room -= sum(len(node.data or b"") for node in added.values())
        removed |= {path for path, node in added.items() if node.kind != "dir"}
        emptied |= removed
        nodes = {
            path: node
            for path, node in nodes.items()
            if path not in removed and "" not in emptied and emptied.isdisjoint(parents(path))
        }
        for path, node in added.items():
            nodes[path] = node
            for parent in parents(path):
                if parent not in nodes or nodes[parent].kind in ("file", "other"):
                    nodes[parent] = Node(kind="dir")
            if len(nodes) > _MOST_MEMBERS:
                raise ImageError(f"layer {layer.descriptor.digest} cannot be read: the image has too many files")
    return Filesystem(nodes)


def _list(layer: Layer, wanted: Callable[[str], bool], room: int) -> tuple[dict[str, Node], set[str], set[str]]:
    """A layer's entries, and its whiteouts, which concern lower layers only: names removed, directories emptied."""
    added: dict[str, Node] = {}
    removed: set[str] = set()
    emptied: set[str] = set()
    try:
        with layer.open() as blob:
            plain = ChunkReader(plain_tar(chunks_of(blob), layer.descriptor.media_type, layer.diff_id))
            with tarfile.open(fileobj=plain, mode="r|", tarinfo=Member) as tar:
                for member in members(tar, most=_MOST_MEMBERS):
                    if len(member.name) > _LONGEST_PATH:
                        raise ValueError("it has too long a path")
                    path = rooted(member.name)
                    parent, name = posixpath.split(path)
                    if name == _OPAQUE:
                        emptied.add(parent)
                    elif name.startswith(_WHITEOUT):
                        removed.add(posixpath.join(parent, name[len(_WHITEOUT) :]))
                    elif path:
                        added[path] = _node(tar, member, added, wanted(path) and member.size <= room)
                        room -= len(added[path].data or b"")
            # What follows the tar's end belongs to the diff ID.
            while plain.read(CHUNK):
                pass
    except (tarfile.TarError, EOFError, OSError, ValueError, RecursionError) as error:
        raise ImageError(f"layer {layer.descriptor.digest} cannot be read: {error}") from None
    return added, removed, emptied


def _node(tar: tarfile.TarFile, member: tarfile.TarInfo, added: dict[str, Node], wanted: bool) -> Node:
    if member.isdir():
        return Node(kind="dir")
    if member.issym():
        return Node(kind="link", link=member.linkname)
    if member.islnk():
        return added.get(rooted(member.linkname), Node(kind="file"))
    if not member.isreg():
        return Node(kind="other")
    file: BinaryIO | None = tar.extractfile(member) if wanted and member.size <= _LARGEST_READ else None  # type: ignore[assignment]
    return Node(kind="file", data=file.read() if file is not None else None)
