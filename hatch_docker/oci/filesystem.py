"""The root file system of a stack of layers: paths, symbolic links, and the content of a few files.

`oci.merging` reads it from the layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hatch_docker.errors import ImageError
from hatch_docker.oci.layer import Entry
from hatch_docker.support.paths import SymlinkLoopError, parents, resolve

# Of an executable file: a shebang, and the headers of an ELF file with the path of its interpreter.
HEAD = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A path's `kind` is `file`, `dir`, `link` (symbolic) or `other`. `data` is its content, if that was requested.

    `mode` has the permission bits. A directory that no layer has an entry for belongs to root, with mode 0755. `head`
    is the start of a file that someone may execute, up to HEAD bytes. `mtime` is in seconds since the epoch.
    """

    kind: str
    link: str = ""
    data: bytes | None = None
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    head: bytes = b""
    mtime: int = 0


@dataclass(frozen=True, slots=True)
class Filesystem:
    """The merged listing. Paths are relative and have no trailing slash."""

    nodes: dict[str, Node] = field(default_factory=dict)

    def resolve(self, path: str) -> str:
        """Follow all symbolic links in `path`; components that do not exist stay as they are.

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
        """The node of `path` after following links; None if there is none."""
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

    def with_directories(self, entries: Iterable[Entry]) -> list[Entry]:
        """Entries of a layer on top, and those of the directories above them that have another mode or owner than 0755.

        Engines that unpack each layer by itself (Docker's overlay2) make a directory without an entry root's, with mode
        0755, in the container too.
        """
        wanted = {entry.path: entry for entry in entries}
        above = {parent for path in wanted for parent in parents(path)}
        for path in sorted(above.difference(wanted)):
            node = self.nodes.get(path)
            if node and node.kind == "dir" and (node.mode, node.uid, node.gid) != (0o755, 0, 0):
                wanted[path] = Entry(path=path, mode=node.mode, uid=node.uid, gid=node.gid)
        return [*wanted.values()]

    def below(self, path: str) -> Iterator[str]:
        """The names in a directory, without those in its subdirectories."""
        directory = self.resolve(path)
        prefix = f"{directory}/" if directory else ""
        for name in self.nodes:
            if name.startswith(prefix) and "/" not in name[len(prefix) :]:
                yield name[len(prefix) :]
