"""The files of a base image with all contents that a build may need: for its facts, and to compile for its Python.

They are cached, since reading the layers takes seconds.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence

from hatch_docker.base import files
from hatch_docker.base.interpreter import needs_content
from hatch_docker.oci.filesystem import Filesystem, KeptFiles, Node
from hatch_docker.oci.image import Image
from hatch_docker.oci.merging import merge
from hatch_docker.oci.source import fetch
from hatch_docker.support.cache import Cache
from hatch_docker.support.patterns import regex
from hatch_docker.support.streams import Digester

# The kind of the cached document that names the files' blob. Its format is part of the key: raise it when other files
# matter, or when they are written in another way.
_KIND, _FORMAT = "contents", 1
# In bytes, of all contents. Those of a base take about 30 MB; what takes more is not cached.
_LARGEST = 128 << 20

_SITE = regex(r"(?:site|dist)-packages/")
_LIBRARY = regex(r"(?:.*/)?python3\.\d+t?/.*")
_MODULES = (".py", ".pyc")
# Of the extension modules, those that an interpreter loads to read sources: names of characters, and codecs.
_EXTENSIONS = regex(r".*/lib-dynload/(?:unicodedata|_multibytecodec|_codecs_[a-z0-9]+)\.[^/]*so")
# The loader, and libraries that interpreters link to.
_LIKELY = regex(r"(?:.*/)?(?:ld-|ld64|lib(?:c|m|dl|util|pthread|rt|z|crypt|expat|gcc_s|python3[^/]*)[.-])[^/]*so[^/]*")


def read_files(image: Image, kept: KeptFiles, cache: Cache, threads: int) -> Filesystem:
    """The listing of an image, with the contents of the files that matter. It is kept, and cached.

    Only the layers above those that are kept or cached are read. Raises ImageError for layers that cannot be read.
    """
    layers = [layer.diff_id for layer in image.layers]
    with kept.lock:
        count, below = kept.lowest(layers)
        if below is None:
            count, below = _stored(layers, cache)
        if below is None or count < len(layers):
            fetch(image, threads=threads)
            below = merge(image.layers[count:], _matters, below)
            # Of a base that grew, its own are cached.
            if not count:
                _store(layers, below, cache)
        kept.keep(layers, below)
        return below


def _key(layers: Sequence[str]) -> str:
    return json.dumps([_FORMAT, *layers])


def _stored(layers: Sequence[str], cache: Cache) -> tuple[int, Filesystem | None]:
    """How many of the lowest layers have files in the cache, and these; 0 and None if none have."""
    for count in range(len(layers), 0, -1):
        known = cache.stored(_KIND, _key(layers[:count]))
        if known and (path := cache.blob(str(known.get("files")))):
            with contextlib.suppress(OSError, ValueError, TypeError):
                return count, _decoded(path.read_bytes())
    return 0, None


def _store(layers: Sequence[str], found: Filesystem, cache: Cache) -> None:
    parts = _encoded(found)
    if sum(map(len, parts)) <= _LARGEST:
        digester = Digester()
        for part in parts:
            digester.update(part)
        cache.add(parts, digester.digest, what="a listing of files")
        cache.put(_KIND, _key(layers), {"files": digester.digest})


def _encoded(found: Filesystem) -> list[bytes]:
    """A line of JSON with a row for each path, and the contents of those that have a size, one after the other."""
    rows = [
        [path, node.kind, node.link, node.mode, node.uid, node.gid, node.head.decode("latin-1"), node.mtime]
        + ([] if node.data is None else [len(node.data)])
        for path, node in found.nodes.items()
    ]
    contents = (node.data for node in found.nodes.values() if node.data is not None)
    return [json.dumps(rows).encode(), b"\n", *contents]


def _decoded(data: bytes) -> Filesystem:
    """The inverse of `_encoded`. Raises TypeError or ValueError for other bytes."""
    start = data.index(b"\n") + 1
    nodes: dict[str, Node] = {}
    for path, kind, link, mode, uid, gid, head, mtime, *sizes in json.loads(data[:start]):
        content = None
        if sizes:
            content = data[start : start + sizes[0]]
            start += len(content)
        nodes[path] = Node(
            kind=kind, link=link, data=content, mode=mode, uid=uid, gid=gid, head=head.encode("latin-1"), mtime=mtime
        )
    return Filesystem(nodes)


def _matters(path: str) -> bool:
    return needs_content(path) or files.needs_text(path) or needed_to_compile(path)


def needed_to_compile(path: str) -> bool:
    """Whether a file is likely to be one that the image's Python needs to compile, or one of its standard library."""
    if _LIKELY.fullmatch(path):
        return True
    if not _LIBRARY.fullmatch(path):
        return False
    return bool((path.endswith(_MODULES) and not _SITE.search(path)) or _EXTENSIONS.fullmatch(path))
