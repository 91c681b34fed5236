"""Images as files: OCI image layouts (a folder, or a tar of it) and what `docker save` writes.

What we write is both at once: `oci-layout`, `index.json` and `blobs/` (image-layout.md), and the `manifest.json` that
`docker load` reads. Archives are read in place, never unpacked.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from hatch_docker.errors import ImageError
from hatch_docker.oci import spec
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Index
from hatch_docker.support.paths import rooted
from hatch_docker.support.streams import chunks_of, digest_of, verified

_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of an image layout or archive; `open` takes a name in it and raises KeyError where it is missing."""

    place: str
    open: Callable[[str], BinaryIO]

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file's bytes; raises ImageError where it is missing or cannot be read."""
        try:
            with self.open(name) as file:
                yield from chunks_of(file)
        except (KeyError, OSError):
            raise ImageError(f"it has no readable {name}", place=self.place) from None

    def read(self, name: str, limit: int = spec.LARGEST_DOCUMENT) -> bytes:
        """A small file; raises ImageError where it is missing or larger than `limit` bytes."""
        data = bytearray()
        for chunk in self.chunks(name):
            data += chunk
            if len(data) > limit:
                raise ImageError(f"{name} is larger than such a document can be", place=self.place)
        return bytes(data)


def open_files(path: Path) -> Files:
    """A layout's folder, or a tar of one or of `docker save`; raises ImageError where it is neither."""
    if path.is_dir():
        return Files(place=str(path), open=lambda name: _inside(path, name))
    try:
        with tarfile.open(path, mode="r:") as tar:
            members = {member.name.removeprefix("./"): member for member in tar if not member.isdir()}
    except OSError as error:
        raise ImageError(
            f"it cannot be read: {error.strerror or error}", place=str(path), hint="check the path"
        ) from None
    except (tarfile.TarError, ValueError, RecursionError) as error:
        raise ImageError(
            f"not an image layout or an uncompressed tar of one: {error}", place=str(path), hint="check the path"
        ) from None

    def open_member(name: str) -> BinaryIO:
        member = members[name]
        if member.issym() or member.islnk():
            # docker save before version 25 links layers that two images share.
            parent = name.rpartition("/")[0] if member.issym() else ""
            member = members[rooted(f"{parent}/{member.linkname}")]
        return io.BufferedReader(_Section(path.open("rb"), member.offset_data, member.size))

    return Files(place=str(path), open=open_member)


def root_of_layout(files: Files, ref_name: str) -> bytes:
    """The index of a layout, narrowed to the one manifest that `ref_name` names where it is given.

    Raises ImageError, with the names there are, when none or several fit.
    """
    index = Index.from_json(spec.load(files.read("index.json"), "index.json"))
    names = {m.annotations.get(_REF_NAME, "") for m in index.manifests}
    chosen = [m for m in index.manifests if not ref_name or ref_name in (m.annotations.get(_REF_NAME), m.digest)]
    images = {m.digest: m.platform for m in chosen if m.platform is None or m.platform.os != "unknown"}
    if len(images) == 1:
        # What stands in for an image may be an index itself: the document tells.
        return _document_of(files, next(iter(images)))
    platforms = set(images.values())
    if not images or None in platforms or len(platforms) < len(images):
        raise not_one(files, len(images), ref_name, names)
    return spec.dump(replace(index, manifests=tuple(chosen)).to_json())


def _document_of(files: Files, digest: str) -> bytes:
    name = blob_name(digest)
    data = files.read(name)
    if digest_of(data, digest.partition(":")[0]) != digest:
        raise ImageError(f"{name} has other content than its name says", place=files.place)
    return data


def not_one(files: Files, count: int, wanted: str, names: Iterable[str]) -> ImageError:
    """The error for a place that holds no image, or several, where one is `wanted`."""
    known = sorted(filter(None, names))
    several = "several images" if count else "no image"
    return ImageError(
        f"it has {several} named {wanted!r}" if wanted else f"it has {several}",
        place=files.place,
        hint=f"add the name of one, as in {files.place}:{known[0]} (it has {', '.join(known)})" if known else "",
    )


def saved_images(files: Files) -> list[dict[str, Any]]:
    """The entries of a `docker save` archive's manifest.json: `Config`, `RepoTags` and `Layers`, of names.

    Raises ImageError where it is not as Docker writes it.
    """
    try:
        entries = json.loads(files.read("manifest.json"))
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list) or not all(map(_is_saved, entries)):
        raise ImageError("its manifest.json is not what 'docker save' writes", place=files.place)
    return [{**entry, "RepoTags": entry.get("RepoTags") or []} for entry in entries]


def _is_saved(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
        return False
    lists = (entry.get("Layers"), entry.get("RepoTags") or [])
    return all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists)


def blob_name(digest: str) -> str:
    """Where a layout keeps a blob (image-layout.md)."""
    return "blobs/" + digest.replace(":", "/", 1)


def archive(image: Image, references: Sequence[Reference], *, without: frozenset[str] = frozenset()) -> Iterator[bytes]:
    """The tar of `image` in chunks: for `docker load`, `podman load` and skopeo's `oci-archive:`.

    `references` are the image's names with tags. index.json has one entry, by the first of them, since skopeo takes a
    layout without choosing only then. `without` names layers by digest that the reader is known to have; their bytes
    are left out. Raises ImageError where a layer's bytes are not what its descriptor says.
    """
    for name, data in _documents(image, references):
        yield from _member(name, len(data), [data])
    written = set(without)
    for layer in image.layers:
        if layer.descriptor.digest not in written:
            written.add(layer.descriptor.digest)
            yield from _member(blob_name(layer.descriptor.digest), layer.descriptor.size, _verified(layer))
    yield bytes(2 * 512)


def _documents(image: Image, references: Sequence[Reference]) -> Iterator[tuple[str, bytes]]:
    config, manifest = image.config_bytes, image.manifest_bytes
    names = {_REF_NAME: references[0].tag, _CONTAINERD_NAME: str(references[0])} if references else {}
    index = Index(manifests=(replace(image.descriptor, annotations=names),), annotations=image.annotations)
    saved = [
        {
            "Config": blob_name(image.config_descriptor.digest),
            "RepoTags": [reference.familiar for reference in references],
            "Layers": [blob_name(layer.descriptor.digest) for layer in image.layers],
        }
    ]
    yield "oci-layout", spec.dump({"imageLayoutVersion": "1.0.0"})
    yield "index.json", spec.dump(index.to_json())
    yield "manifest.json", json.dumps(saved, sort_keys=True).encode()
    yield blob_name(image.config_descriptor.digest), config
    yield blob_name(image.digest), manifest


def _member(name: str, size: int, chunks: Iterator[bytes] | list[bytes]) -> Iterator[bytes]:
    header = tarfile.TarInfo(name)
    header.size = size
    header.mode = 0o644
    yield header.tobuf(tarfile.PAX_FORMAT)
    yield from chunks
    yield bytes(-size % 512)


def _verified(layer: Layer) -> Iterator[bytes]:
    """A layer's bytes; at their end, raise ImageError when they were not what the descriptor says."""
    digest, size = layer.descriptor.digest, layer.descriptor.size

    def mismatch(_actual: str) -> ImageError:
        return ImageError(f"layer {digest} changed while it was read", hint="build again: it is made or fetched anew")

    with layer.open() as file:
        yield from verified(chunks_of(file), digest, mismatch, size=size)


def _inside(folder: Path, name: str) -> BinaryIO:
    try:
        return (folder / rooted(name)).open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
        # ValueError for a name that no file can have.
        raise KeyError(name) from None


class _Section(io.RawIOBase):
    """A part of a file, as a file of its own."""

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
