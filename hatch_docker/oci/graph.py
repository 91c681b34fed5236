"""Content as a graph of descriptors: an index names manifests, a manifest names its config and layers.

Whatever is written or pushed is such a graph, whoever made it. A node is written after its children, so that nothing
names content that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from hatch_docker.oci import spec
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A blob, manifest or index. `open` reads its bytes, which nothing has verified; `children` is what it names."""

    descriptor: Descriptor
    open: Callable[[], BinaryIO]
    children: tuple[Node, ...] = ()

    @property
    def is_document(self) -> bool:
        """Whether it is a manifest or an index, which registries keep apart from blobs."""
        return self.descriptor.media_type in (*spec.MANIFESTS, *spec.INDEXES)

    def walk(self) -> Iterator[Node]:
        """All nodes of the graph, each digest once, children before what names them."""
        yield from self._walk(set())

    def _walk(self, seen: set[str]) -> Iterator[Node]:
        if self.descriptor.digest not in seen:
            seen.add(self.descriptor.digest)
            for child in self.children:
                yield from child._walk(seen)
            yield self
