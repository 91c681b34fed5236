"""Images and image indexes as immutable values. Manifests, indexes and all digests are computed from these."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import partial

from isal import igzip, isal_zlib

from hatch_docker.errors import ImageError
from hatch_docker.oci import spec
from hatch_docker.oci.config import History, ImageConfig, diff_ids_of
from hatch_docker.oci.graph import Node
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.spec import Descriptor, Index, Manifest
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.streams import CHUNK, Digester, chunks_of, digest_of, reader, verified


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image for one platform."""

    config: ImageConfig
    layers: tuple[Layer, ...] = ()
    history: tuple[History, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def config_bytes(self) -> bytes:
        """The image config document; its digest is the image ID."""
        return spec.dump(self.config.to_json(tuple(layer.diff_id for layer in self.layers), self.history))

    @property
    def config_descriptor(self) -> Descriptor:
        """The descriptor of the config in the manifest."""
        data = self.config_bytes
        return Descriptor(media_type=spec.CONFIG, digest=digest_of(data), size=len(data))

    @property
    def manifest(self) -> Manifest:
        """The image's manifest."""
        return Manifest(
            config=self.config_descriptor,
            layers=tuple(layer.descriptor for layer in self.layers),
            annotations=self.annotations,
        )

    @property
    def manifest_bytes(self) -> bytes:
        """The manifest document; its digest is the image's."""
        return spec.dump(self.manifest.to_json())

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of the image in an index."""
        data = self.manifest_bytes
        return Descriptor(
            media_type=spec.MANIFEST, digest=digest_of(data), size=len(data), platform=self.config.platform
        )

    @property
    def digest(self) -> str:
        """The digest of the manifest, which names the image in registries."""
        return self.descriptor.digest

    @property
    def node(self) -> Node:
        """The image as a graph of descriptors."""
        config = Node(descriptor=self.config_descriptor, open=partial(io.BytesIO, self.config_bytes))
        layers = (Node(descriptor=layer.descriptor, open=layer.open) for layer in self.layers)
        return Node(
            descriptor=self.descriptor, open=partial(io.BytesIO, self.manifest_bytes), children=(config, *layers)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageIndex:
    """Images for several platforms under one name (image-index.md), in the order of their platforms."""

    images: tuple[Image, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def index_bytes(self) -> bytes:
        """The index document; its digest names all images together."""
        manifests = tuple(image.descriptor for image in self.images)
        return spec.dump(Index(manifests=manifests, annotations=self.annotations).to_json())

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of the index."""
        data = self.index_bytes
        return Descriptor(media_type=spec.INDEX, digest=digest_of(data), size=len(data))

    @property
    def node(self) -> Node:
        """The index as a graph of descriptors."""
        children = tuple(image.node for image in self.images)
        return Node(descriptor=self.descriptor, open=partial(io.BytesIO, self.index_bytes), children=children)


def append(image: Image, layers: tuple[Layer, ...], history: tuple[History, ...], config: ImageConfig) -> Image:
    """A new image: `layers` on top of those of `image`, under `config`. `history` has a step for each layer."""
    steps = image.history
    if sum(not step.empty_layer for step in steps) != len(image.layers):
        # Engines pair history with layers. If the base's history does not match, it gets a step for each layer.
        steps = tuple(History(comment="base") for _ in image.layers)
    return replace(image, layers=image.layers + layers, history=steps + history, config=config)


def validate(image: Image) -> list[str]:
    """Recompute every digest, size and diff ID; return the problems, none if the image is valid.

    Checks the image specification's rules: config.md (diff IDs, history), layer.md, manifest.md.
    """
    problems = []
    steps = sum(not step.empty_layer for step in image.history)
    if image.history and steps != len(image.layers):
        problems.append(f"history has {steps} steps with a layer, the image has {len(image.layers)} layers")
    for position, layer in enumerate(image.layers):
        problems += [f"layer {position} ({layer.descriptor.digest}): {text}" for text in _check(layer)]
    try:
        read_back = Manifest.from_json(spec.load(image.manifest_bytes, "the manifest"))
        if read_back != image.manifest:
            problems.append("the manifest does not survive being written and read")
        document = spec.load(image.config_bytes, "the config")
        if diff_ids_of(document) != tuple(layer.diff_id for layer in image.layers):
            problems.append("the config's diff IDs are not the layers'")
    except ImageError as error:
        problems.append(str(error))
    return problems


def _check(layer: Layer) -> Iterator[str]:
    blob, plain = Digester(), Digester()
    try:
        with layer.open() as file:
            for chunk in decompressed(blob.passing(chunks_of(file)), layer.descriptor.media_type):
                plain.update(chunk)
    except (ImageError, OSError) as error:
        yield f"cannot be read: {error}"
        return
    if blob.digest != layer.descriptor.digest:
        yield f"its digest is {blob.digest}"
    if blob.size != layer.descriptor.size:
        yield f"its size is {blob.size}, not {layer.descriptor.size}"
    if plain.digest != layer.diff_id:
        yield f"its diff ID is {plain.digest}, not {layer.diff_id}"


def decompressed(chunks: Iterator[bytes], media_type: str) -> Iterator[bytes]:
    """The plain tar of a layer's blob of any compression; raises ImageError if it cannot be decompressed."""
    source = reader(chunks)
    try:
        if media_type.endswith("zstd"):
            yield from _zstd(source)
        elif media_type.endswith("gzip"):
            yield from _read_all(igzip.IGzipFile(fileobj=source))  # type: ignore[no-untyped-call]
        else:
            yield from chunks_of(source)
    except (OSError, EOFError, isal_zlib.IsalError) as error:  # type: ignore[misc]  # a class, contrary to its stub
        raise ImageError(f"a layer cannot be decompressed: {error}") from None


def plain_tar(chunks: Iterator[bytes], media_type: str, diff_id: str) -> Iterator[bytes]:
    """The plain tar, as `decompressed` returns it; raises ImageError at its end if it has another diff ID."""

    def mismatch(_actual: str) -> ImageError:
        return ImageError(f"a layer's content is not {diff_id}, which the config names")

    return verified(decompressed(chunks, media_type), diff_id, mismatch)


def uncompressed(layer: Layer) -> Layer:
    """The layer with its plain tar as blob. Reads a layer whose unpacked size is unknown. Raises ImageError.

    Opened, it raises ImageError where the compressed blob is damaged; nothing else is verified.
    """

    def chunks() -> Iterator[bytes]:
        with layer.open() as file:
            yield from decompressed(chunks_of(file), layer.descriptor.media_type)

    size = layer.unpacked or sum(map(len, chunks()))
    descriptor = Descriptor(media_type=spec.LAYER_TAR, digest=layer.diff_id, size=size)
    return Layer(descriptor=descriptor, diff_id=layer.diff_id, open=lambda: reader(chunks()), unpacked=size)


def _zstd(source: io.BufferedReader) -> Iterator[bytes]:
    from hatch_docker.oci import zstd

    try:
        yield from _read_all(zstd.ZstdFile(source))
    except zstd.ZstdError as error:
        raise ImageError(f"a layer cannot be decompressed: {error}") from None


def _read_all(file: io.BufferedIOBase) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk
