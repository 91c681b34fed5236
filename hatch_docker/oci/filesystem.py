"""The root file system of a stack of layers: paths, symbolic links, and the content of a few files.

`oci.merging` reads it from the layers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

from hatch_docker.errors import ImageError
from hatch_docker.oci.layer import Entry
from hatch_docker.support.dataclasses import dataclass, field
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


@dataclass(slots=True)
class KeptFiles:
    """The listing of one stack of layers, by their diff IDs, with contents: for whoever needs it before it is dropped.

    Reading layers again takes longer than most of what needs them. Hold `lock` to `keep`, or to ask for the `lowest`.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    _layers: tuple[str, ...] = ()
    _files: Filesystem | None = None

    def keep(self, layers: Sequence[str], files: Filesystem) -> None:
        """Keep the listing of `layers`, lowest first, instead of the one before."""
        self._layers, self._files = tuple(layers), files

    def lowest(self, layers: Sequence[str]) -> tuple[int, Filesystem | None]:
        """How many of the lowest of `layers` the listing is of, and the listing; 0 and None for other layers."""
        count = len(self._layers)
        return (count, self._files) if self._files and tuple(layers[:count]) == self._layers else (0, None)

    def drop(self) -> None:
        """Forget the listing, which may have some ten megabytes."""
        with self.lock:
            self._layers, self._files = (), None
