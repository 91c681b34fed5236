"""Images as files: OCI image layouts (a directory or a tar of one) and archives of `docker save`.

Our archives are both: they have `oci-layout`, `index.json` and `blobs/` (image-layout.md), and the `manifest.json` that
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
    if path.is_dir():
        return Files(place=str(path), open=lambda name: _open_below(path, name))
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
            # Before version 25, docker save links layers that two images share.
            parent = name.rpartition("/")[0] if member.issym() else ""
            member = members[rooted(f"{parent}/{member.linkname}")]
        return io.BufferedReader(_Section(path.open("rb"), member.offset_data, member.size))

    return Files(place=str(path), open=open_member)


def root_of_layout(files: Files, ref_name: str) -> bytes:
    """The index of a layout, or the document of its only image; with `ref_name`, of the image of that name or digest.

    Raises ImageError, which lists the available names, if no image or several match.
    """
    index = Index.from_json(spec.load(files.read("index.json"), "index.json"))
    names = {m.annotations.get(_REF_NAME, "") for m in index.manifests}
    chosen = [m for m in index.manifests if not ref_name or ref_name in (m.annotations.get(_REF_NAME), m.digest)]
    images = {m.digest: m.platform for m in chosen if not m.is_attestation}
    if len(images) == 1:
        # The document may be an index itself.
        return _document_of(files, next(iter(images)))
    platforms = set(images.values())
    if not images or None in platforms or len(platforms) < len(images):
        raise not_exactly_one(files, len(images), ref_name, names)
    return spec.dump(replace(index, manifests=tuple(chosen)).to_json())


def _document_of(files: Files, digest: str) -> bytes:
    name = blob_name(digest)
    data = files.read(name)
    if digest_of(data, digest.partition(":")[0]) != digest:
        raise ImageError(f"{name} has other content than its name says", place=files.place)
    return data


def not_exactly_one(files: Files, count: int, name: str, names: Iterable[str]) -> ImageError:
    """The error if no image or several match `name`, which may be empty; the hint lists all `names`."""
    available = sorted(filter(None, names))
    images = "several images" if count else "no image"
    example = f"{files.place}:{available[0]} (it has {', '.join(available)})" if available else ""
    return ImageError(
        f"it has {images} named {name!r}" if name else f"it has {images}",
        place=files.place,
        hint=f"add the name of one, as in {example}" if example else "",
    )


def saved_images(files: Files) -> list[dict[str, Any]]:
    """The entries of manifest.json in an archive of `docker save`, with `Config`, `RepoTags` and `Layers`.

    Raises ImageError if it is malformed.
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
    """The file name of a blob in a layout (image-layout.md)."""
    return "blobs/" + digest.replace(":", "/", 1)


def archive(image: Image, references: Sequence[Reference], *, without: frozenset[str] = frozenset()) -> Iterator[bytes]:
    """The tar of `image` in chunks, for `docker load`, `podman load` and skopeo's `oci-archive:`.

    `references` are the image's names with tags. index.json has one entry, with the first of them: skopeo requires a
    choice among several. `without` are digests of layers that the reader has already; they are omitted. Raises
    ImageError if a layer does not match its descriptor.
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
    """A layer's blob; raises ImageError at its end if it does not match the descriptor."""
    digest, size = layer.descriptor.digest, layer.descriptor.size

    def mismatch(_actual: str) -> ImageError:
        return ImageError(
            f"layer {digest} changed while it was read", hint="build again: the layer is then made or pulled again"
        )

    with layer.open() as file:
        yield from verified(chunks_of(file), digest, mismatch, size=size)


def _open_below(directory: Path, name: str) -> BinaryIO:
    try:
        return (directory / rooted(name)).open("rb")
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
