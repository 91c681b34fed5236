"""Read images in files: OCI image layouts (a directory or a tar of one) and archives of `docker save`.

Archives are read in place, never unpacked. OCI image specification 1.1, image-layout.md.
"""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from hatch_docker.errors import ImageError, InvalidReferenceError
from hatch_docker.oci import spec
from hatch_docker.oci.graph import Node
from hatch_docker.oci.members import Member
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Descriptor, Index
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.paths import rooted
from hatch_docker.support.patterns import regex
from hatch_docker.support.streams import chunks_of, digest_of, reader, verified

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
# Layers that registries need not have (layer.md: non-distributable layers; Docker's foreign layers).
_FOREIGN = regex(r"nondistributable|rootfs\.foreign")
# Indexes may be in indexes; deeper ones would exhaust the stack.
_DEEPEST = 10
# In hints.
_MOST_NAMES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of an image layout or archive at `place`. `open` takes a file's name, and raises KeyError."""

    place: str
    open: Callable[[str], BinaryIO]

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file's bytes; raises ImageError if it is missing or cannot be read."""
        try:
            with self.open(name) as file:
                yield from chunks_of(file)
        except (KeyError, OSError):
            raise ImageError(f"it has no readable {name}", place=self.place) from None

    def read(self, name: str, limit: int = spec.LARGEST_DOCUMENT) -> bytes:
        """A small file; raises ImageError if it is missing or larger than `limit` bytes."""
        data = bytearray()
        for chunk in self.chunks(name):
            data += chunk
            if len(data) > limit:
                raise ImageError(f"{name} is larger than such a document can be", place=self.place)
        return bytes(data)


def open_files(path: Path) -> Files:
    """The files of a layout's directory, a tar of one, or an archive of `docker save`; raises ImageError."""
    if path.exists() and not (path.is_dir() or path.is_file()):
        raise ImageError("it is neither a file nor a directory", place=str(path), hint="check the path")
    if path.is_dir():
        return Files(place=str(path), open=lambda name: _open_below(path, name))
    try:
        with tarfile.open(path, mode="r:", tarinfo=Member) as tar:
            members = {member.name.removeprefix("./"): member for member in tar if not member.isdir()}
    except OSError as error:
        raise ImageError(
            f"it cannot be read: {error.strerror or error}", place=str(path), hint="check the path"
        ) from None
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        hint = "decompress it first" if _is_compressed(path) else "check the path"
        raise ImageError(
            f"not an image layout or an uncompressed tar of one: {error}", place=str(path), hint=hint
        ) from None

    def open_member(name: str) -> BinaryIO:
        member = members[name]
        if member.issym() or member.islnk():
            # Before version 25, docker save links layers that two images share.
            parent = name.rpartition("/")[0] if member.issym() else ""
            member = members[rooted(f"{parent}/{member.linkname}")]
        return io.BufferedReader(_Section(path.open("rb"), member.offset_data, member.size))

    return Files(place=str(path), open=open_member)


def root_of_layout(files: Files, ref_name: str) -> bytes:
    """The index of a layout, or the document of its only image; with `ref_name`, of the image of that name or digest.

    Raises ImageError, which lists the available names, if no image or several match.
    """
    index = Index.from_json(_index_document(files))
    chosen = [index.manifests[number] for number in _chosen(files, index, ref_name)]
    if len({m.digest for m in chosen}) == 1:
        # The document may be an index itself.
        return _document_of(files, chosen[0].digest)
    return spec.dump(replace(index, manifests=tuple(chosen)).to_json())


def graph_of(files: Files, ref_name: str) -> Node:
    """The image or index of a layout as a graph, whoever wrote it, without a change of any byte.

    `ref_name` is as for `root_of_layout`, or the digest of any image of an index. Documents are verified here, blobs
    when they are read to their end. Layers that must not be distributed may be missing. Raises ImageError, which lists
    what else is missing.
    """
    document = _index_document(files)
    index = Index.from_json(document)
    graph = _Graph(files)
    if spec.DIGEST.fullmatch(ref_name):
        root = graph.node({"digest": ref_name, "size": len(files.read(blob_name(ref_name)))}, 0)
        graph.check()
        return root
    chosen = _chosen(files, index, ref_name)
    raw = [document["manifests"][number] for number in chosen]
    if len({index.manifests[number].digest for number in chosen}) == 1:
        root = graph.node(raw[0], 0)
    else:
        # The images are for several platforms, without an index of their own.
        all_of_it = len(raw) == len(index.manifests)
        data = files.read("index.json") if all_of_it else spec.dump({**document, "manifests": raw})
        children = tuple(graph.node(each, 1) for each in raw)
        descriptor = Descriptor(media_type=spec.INDEX, digest=digest_of(data), size=len(data))
        root = Node(descriptor=descriptor, open=partial(io.BytesIO, data), children=children)
    graph.check()
    return root


def digests_of(files: Files, entries: Sequence[Mapping[str, Any]]) -> set[str]:
    """The digests of all content of entries of a layout's index, as far as it is there."""
    graph = _Graph(files)
    for entry in entries:
        try:
            graph.node(entry, 0)
        except ImageError:
            continue
    return set(graph.nodes)


def _chosen(files: Files, index: Index, ref_name: str) -> list[int]:
    """The positions of the only image in an index, or of the one named `ref_name`. Raises ImageError."""
    chosen = [number for number, m in enumerate(index.manifests) if not ref_name or _is_named(m, ref_name)]
    images = {m.digest: m for m in (index.manifests[each] for each in chosen) if not m.is_attestation}
    if len(images) == 1:
        only = next(iter(images))
        return [number for number in chosen if index.manifests[number].digest == only]
    platforms = {m.platform for m in images.values()}
    names = {_name_of(m) for m in images.values()}
    if not images or None in platforms or len(platforms) < len(images) or len(names) > 1:
        raise not_exactly_one(files, len(images), ref_name, _names(index))
    return chosen


def _name_of(descriptor: Descriptor) -> str:
    """The name of an entry, whole if it has a whole one; empty if it has none."""
    return descriptor.annotations.get(CONTAINERD_NAME) or descriptor.annotations.get(REF_NAME, "")


def _names(index: Index) -> set[str]:
    """A name for each image, its digest if it has none of its own."""
    images = {(_name_of(m), m.digest) for m in index.manifests if not m.is_attestation}
    used = Counter(name for name, _ in images)
    return {name if name and used[name] == 1 else digest for name, digest in images}


def _is_named(descriptor: Descriptor, name: str) -> bool:
    annotations = descriptor.annotations
    names = [annotations[key] for key in (REF_NAME, CONTAINERD_NAME) if annotations.get(key)]
    return name == descriptor.digest or any(same_name(name, each) for each in names)


def same_name(name: str, other: str) -> bool:
    """Whether two names are of one image: Docker saves short names, skopeo full ones."""
    try:
        return Reference.parse(name) == Reference.parse(other)
    except InvalidReferenceError:
        return name == other


class _Graph:
    """Makes the nodes of a layout's content, each once, and collects what is missing."""

    def __init__(self, files: Files) -> None:
        self.nodes: dict[str, Node] = {}
        self._files = files
        self._missing: dict[str, str] = {}

    def node(self, raw: object, depth: int) -> Node:
        """The node of a descriptor, given as JSON. Raises ImageError."""
        descriptor = Descriptor.from_json(raw)
        # Its own media type, not OCI's name for it.
        media_type = str(raw.get("mediaType") or "") if isinstance(raw, dict) else ""
        descriptor = replace(descriptor, media_type=media_type)
        if depth > _DEEPEST:
            raise ImageError("its indexes are nested too deeply", place=self._files.place)
        if descriptor.digest not in self.nodes:
            is_document = media_type in (*spec.MANIFESTS, *spec.INDEXES) or depth == 0
            node = self._document(descriptor, depth) if is_document else self._blob(descriptor)
            self.nodes[descriptor.digest] = node
        return self.nodes[descriptor.digest]

    def check(self) -> None:
        """Raise ImageError if content is missing."""
        if self._missing:
            some = ", ".join(f"{what or 'a blob'} ({digest})" for digest, what in list(self._missing.items())[:3])
            more = f" and {len(self._missing) - 3} more" if len(self._missing) > 3 else ""
            hints = ["write it again with all of its content"]
            whole = next(filter(self._is_whole, self.nodes.values()), None)
            if whole:
                # As Docker saves an image of which it has pulled one platform.
                hints.append(f"or take an image of it that is there: {self._files.place}:{whole.descriptor.digest}")
            raise ImageError(
                f"it lacks content that it names: {some}{more}", place=self._files.place, hint=", ".join(hints)
            )

    def _is_whole(self, node: Node) -> bool:
        """Whether a node is an image, and all of it is here."""
        is_image = node.descriptor.media_type in spec.MANIFESTS
        return is_image and self._missing.keys().isdisjoint(each.descriptor.digest for each in node.walk())

    def _document(self, descriptor: Descriptor, depth: int) -> Node:
        if not self._has(descriptor):
            self._missing[descriptor.digest] = str(descriptor.platform or "")
            return Node(descriptor=descriptor, open=partial(io.BytesIO, b""))
        data = _document_of(self._files, descriptor.digest)
        document = spec.load(data, f"{descriptor.digest} in {self._files.place}")
        media_type = str(document.get("mediaType") or descriptor.media_type)
        if media_type in spec.INDEXES or (not media_type and "manifests" in document):
            raw = document.get("manifests")
            media_type = media_type or spec.INDEX
        elif media_type in spec.MANIFESTS or (not media_type and "layers" in document):
            layers = document.get("layers")
            raw = [document.get("config"), *filter(self._is_here, layers)] if isinstance(layers, list) else None
            media_type = media_type or spec.MANIFEST
        else:
            raise ImageError(f"it has no image but {media_type[:80]!r}", place=self._files.place)
        if not isinstance(raw, list) or len(data) != descriptor.size:
            raise ImageError(f"{descriptor.digest} is not what its descriptor says", place=self._files.place)
        children = tuple(self.node(each, depth + 1) for each in raw)
        descriptor = replace(descriptor, media_type=media_type)
        return Node(descriptor=descriptor, open=partial(io.BytesIO, data), children=children)

    def _blob(self, descriptor: Descriptor) -> Node:
        if not self._has(descriptor):
            self._missing[descriptor.digest] = ""
        return Node(descriptor=descriptor, open=partial(_open_blob, self._files, descriptor))

    def _is_here(self, raw: object) -> bool:
        """Whether a layer is here, or has to be: those of Windows, for one, come from their maker's servers."""
        is_foreign = isinstance(raw, dict) and bool(raw.get("urls")) and _FOREIGN.search(str(raw.get("mediaType")))
        return not is_foreign or self._has(Descriptor.from_json(raw))

    def _has(self, descriptor: Descriptor) -> bool:
        try:
            self._files.open(blob_name(descriptor.digest)).close()
        except (KeyError, OSError):
            return False
        return True


def _open_blob(files: Files, descriptor: Descriptor) -> BinaryIO:
    """A blob as a file, whose last bytes are only read if all are right. Raises ImageError while it is read."""
    name = blob_name(descriptor.digest)
    damaged = ImageError(f"{name} is damaged: it has other content", place=files.place)
    chunks = verified(files.chunks(name), descriptor.digest, lambda _actual: damaged, size=descriptor.size)
    # Nobody reads what should be empty.
    return reader(_one_behind(chunks) if descriptor.size else iter([*chunks]))


def _one_behind(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same chunks, each when the next one has been read: the end is checked before the last one is used."""
    previous = b""
    for chunk in chunks:
        yield previous
        previous = chunk
    yield previous


def _index_document(files: Files) -> dict[str, Any]:
    return spec.load(files.read("index.json"), f"index.json in {files.place}")


def _document_of(files: Files, digest: str) -> bytes:
    name = blob_name(digest)
    data = files.read(name)
    if digest_of(data, digest.partition(":")[0]) != digest:
        raise ImageError(f"{name} has other content than its name says", place=files.place)
    return data


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh"))


def not_exactly_one(files: Files, count: int, name: str, names: Iterable[str]) -> ImageError:
    """The error if no image or several match `name`, which may be empty; the hint lists `names`, but not too many."""
    available = sorted(filter(None, names))
    more = f" and {len(available) - _MOST_NAMES} more" if len(available) > _MOST_NAMES else ""
    images = "several images" if count else "no image"
    example = f"{files.place}:{available[0]} (it has {', '.join(available[:_MOST_NAMES])}{more})" if available else ""
    return ImageError(
        f"it has {images} named {name!r}" if name else f"it has {images}",
        place=files.place,
        hint=f"add the name of one, as in {example}" if example else "",
    )


def blob_name(digest: str) -> str:
    """The file name of a blob in a layout (image-layout.md)."""
    return "blobs/" + digest.replace(":", "/", 1)


def _open_below(directory: Path, name: str) -> BinaryIO:
    path = directory / rooted(name)
    try:
        # Whoever opens a named pipe waits for a writer.
        if not path.is_file():
            raise KeyError(name)
        return path.open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
        # ValueError: no file can have such a name.
        raise KeyError(name) from None


class _Section(io.RawIOBase):
    """A section of a file as a read-only file. It closes the whole file."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file = file
        self._file.seek(offset)
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
