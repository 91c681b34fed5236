"""Pull images from registries, layouts and archives into the cache.

Documents and blobs are cached by digest, so an image that is named by digest needs its source only once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from hatch_docker.errors import BaseError, DigestMismatchError, ImageError
from hatch_docker.oci import spec
from hatch_docker.oci.compression import batches_of, codec
from hatch_docker.oci.config import ImageConfig, diff_ids_of, history_of
from hatch_docker.oci.image import Image, plain_tar
from hatch_docker.oci.layer import Layer, WriteOptions
from hatch_docker.oci.layout import Files, blob_name, root_of_layout
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.saved import saved_entry
from hatch_docker.oci.spec import Descriptor, Index, Manifest, Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.progress import Progress, counted
from hatch_docker.support.streams import Digester, digest_of
from hatch_docker.support.threads import together

# The kind of documents that say what a tag named, and when that was requested.
_ASKED = "tags-asked"
# In messages: platforms, and characters of each.
_LONGEST_SHOWN = 40
_MAGIC = {b"\x1f\x8b": spec.LAYER_GZIP, b"\x28\xb5\x2f\xfd": spec.LAYER_ZSTD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The source of an image. `root` returns its index or manifest; `document` and `blob` what these refer to.

    Nothing that they return is verified. `origin` has the same image without a mirror; it is None if there is none.
    """

    name: str
    root: Callable[[], bytes]
    document: Callable[[Descriptor], bytes]
    blob: Callable[[Descriptor], Iterator[bytes]]
    origin: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """An image and its digest at the source: that of the index if there is one, else of the manifest."""

    image: Image
    digest: str


def registry_source(registry: Registry, reference: Reference, cache: Cache) -> Source:
    """An image in a registry. A cached manifest is not requested again: a tag costs a HEAD, a digest nothing.

    Builds that begin at the same time share the answer for a tag: it was requested after each of them began.
    """

    def cached(digest: str) -> bytes | None:
        path = cache.blob(digest)
        return path.read_bytes() if path else None

    key = f"{reference} {sorted(registry.mirrors.items())}"

    def ask() -> bytes:
        now = time.time_ns()
        data = registry.manifest(reference, known=None if reference.digest else cached)[1]
        _remember(cache, data, reference.familiar)
        if not reference.digest:
            cache.put(_ASKED, key, {"digest": digest_of(data), "at": now})
        return data

    def known() -> bytes | None:
        if reference.digest:
            return cached(reference.digest)
        asked = cache.get(_ASKED, key) or {}
        digest, at = str(asked.get("digest")), asked.get("at")
        data = cached(digest) if isinstance(at, int) and cache.opened <= at <= time.time_ns() else None
        if data is not None:
            registry.answers[str(reference)] = digest
        return data

    def root() -> bytes:
        return cache.once(f"{_ASKED} {key}", known, ask)

    def source(*, mirrored: bool, origin: Source | None = None) -> Source:
        blob = partial(registry.blob, reference, mirrored=mirrored)
        document = partial(_document, registry, reference, blob)
        return Source(name=reference.familiar, root=root, document=document, blob=blob, origin=origin)

    origin = source(mirrored=False)
    return source(mirrored=True, origin=origin) if reference.registry in registry.mirrors else origin


def layout_source(files: Files, ref_name: str) -> Source:
    """An image in an OCI image layout: a directory or a tar of one."""
    return Source(
        name=files.place,
        root=lambda: root_of_layout(files, ref_name),
        document=lambda descriptor: files.read(blob_name(descriptor.digest)),
        blob=lambda descriptor: files.chunks(blob_name(descriptor.digest)),
    )


def pull(source: Source, platform: Platform, cache: Cache, *, progress: Progress) -> Pulled:
    """Cache the documents of the image for `platform`. Layers are pulled when they are first opened.

    Raises BaseError, which lists the available platforms, if the source has no image for it.
    """
    data = _remember(cache, source.root(), source.name)
    root = spec.load(data, f"the manifest of {source.name}")
    document: Mapping[str, Any] = root
    if "manifests" in root:
        chosen = _choose(Index.from_json(root), platform, source.name)
        document = spec.load(_cached(cache, source, chosen), f"the manifest of {source.name}")
    manifest = Manifest.from_json(document)
    config_document = spec.load(_cached(cache, source, manifest.config), f"the config of {source.name}")
    config = ImageConfig.from_json(config_document)
    check_platform(source.name, config, platform)
    diff_ids = diff_ids_of(config_document)
    if len(diff_ids) != len(manifest.layers):
        raise ImageError("the config has another number of layers than the manifest", place=source.name)
    layers = tuple(
        Layer(
            descriptor=descriptor,
            diff_id=diff_id,
            open=partial(_open, cache, source, descriptor, progress),
        )
        for descriptor, diff_id in zip(manifest.layers, diff_ids, strict=True)
    )
    history = history_of(config_document)
    return Pulled(image=Image(config=config, layers=layers, history=history), digest=digest_of(data))


def platforms_of(source: Source, cache: Cache) -> list[Platform]:
    """The platforms that a source has images for, sorted, without attestations. Raises ImageError."""
    root: Mapping[str, Any] = spec.load(_remember(cache, source.root(), source.name), f"the manifest of {source.name}")
    if "manifests" in root:
        index = Index.from_json(root)
        if index.platforms() or not index.manifests:
            return [Platform.parse(each) for each in index.platforms()]
        root = spec.load(_cached(cache, source, index.manifests[0]), f"the manifest of {source.name}")
    config = _cached(cache, source, Manifest.from_json(root).config)
    return [ImageConfig.from_json(spec.load(config, f"the config of {source.name}")).platform]


def saved_platform(files: Files, tag: str) -> Platform:
    """The platform of an image of a `docker save` archive. Raises ImageError."""
    document = spec.load(files.read(saved_entry(files, tag)["Config"]), f"the config of {files.place}")
    return ImageConfig.from_json(document).platform


def pull_saved(files: Files, tag: str, platform: Platform, cache: Cache, *, progress: Progress) -> Pulled:
    """An image of a `docker save` archive, by `tag` if it has several. Its layers are compressed into the cache.

    Raises ImageError, BaseError.
    """
    entry = saved_entry(files, tag)
    document = spec.load(files.read(entry["Config"]), f"the config of {files.place}")
    config = ImageConfig.from_json(document)
    check_platform(files.place, config, platform)
    diff_ids = diff_ids_of(document)
    names = entry["Layers"]
    if len(names) != len(diff_ids):
        raise ImageError("the config has another number of layers than the archive", place=files.place)
    named = list(zip(names, diff_ids, strict=True))
    layers = together(lambda each: compressed_layer(files, *each, cache, progress), named, threads=4)
    image = Image(config=config, layers=tuple(layers), history=history_of(document))
    return Pulled(image=image, digest=image.digest)


def check_platform(name: str, config: ImageConfig, platform: Platform) -> None:
    """Raise BaseError if an image is not for `platform`."""
    if (config.platform.os, config.platform.architecture) != (platform.os, platform.architecture):
        raise _lacks(name, platform, [str(config.platform)])


def remember(cache: Cache, identity: str, pulled: Pulled) -> None:
    """Store which cached blobs are an engine's image, under its ID as `identity`."""
    image = pulled.image
    config = cache.add([image.config_bytes], image.config_descriptor.digest, what="a config")
    layers = [layer.descriptor.to_json() for layer in image.layers]
    cache.put("saved", identity, {"config": f"sha256:{config.name}", "layers": layers})


def recall(cache: Cache, identity: str) -> Pulled | None:
    """The image that `remember` stored; None if any of it is missing."""
    entry = cache.get("saved", identity)
    config_path = cache.blob(str(entry.get("config"))) if entry else None
    if entry is None or config_path is None:
        return None
    try:
        document = spec.load(config_path.read_bytes(), "a cached config")
        descriptors = [Descriptor.from_json(each) for each in entry["layers"]]
        paths = [cache.blob(descriptor.digest) for descriptor in descriptors]
        layers = [
            Layer.of_file(path, descriptor, diff_id)
            for descriptor, diff_id, path in zip(descriptors, diff_ids_of(document), paths, strict=True)
            if path is not None
        ]
    except (ImageError, KeyError, TypeError, ValueError):
        return None
    config = ImageConfig.from_json(document)
    image = Image(config=config, layers=tuple(layers), history=history_of(document))
    return Pulled(image=image, digest=image.digest) if len(layers) == len(descriptors) else None


def fetch(image: Image, *, threads: int) -> None:
    """Pull all layers into the cache, `threads` at once."""

    def touch(layer: Layer) -> None:
        layer.open().close()

    together(touch, image.layers, threads=threads)


def _document(
    registry: Registry, reference: Reference, blob: Callable[[Descriptor], Iterator[bytes]], descriptor: Descriptor
) -> bytes:
    if descriptor.media_type in (*spec.MANIFESTS, *spec.INDEXES):
        return registry.manifest(reference.with_digest(descriptor.digest))[1]
    return b"".join(blob(descriptor))


def _choose(index: Index, platform: Platform, name: str) -> Descriptor:
    chosen = index.select(platform)
    if chosen is None:
        raise _lacks(name, platform, index.platforms())
    return chosen


def _lacks(name: str, platform: Platform, available: list[str]) -> BaseError:
    available = [each[:_LONGEST_SHOWN] for each in available[:_LONGEST_SHOWN]]
    return BaseError(
        f"the base image has nothing for {platform}; it has {', '.join(available) or 'no platforms at all'}",
        place=name,
        hint=f'set platforms = ["{available[0]}"], or use another base' if available else "use another base",
    )


def _remember(cache: Cache, data: bytes, name: str) -> bytes:
    digest = digest_of(data)
    cache.fetch(digest, lambda: cache.add([data], digest, what=name))
    return data


def _cached(cache: Cache, source: Source, descriptor: Descriptor) -> bytes:
    if descriptor.size > spec.LARGEST_DOCUMENT:
        raise ImageError(f"{descriptor.digest} is larger than such a document can be", place=source.name)
    what = f"a document of {source.name}"

    def add(source: Source) -> Path:
        return cache.add([source.document(descriptor)], descriptor.digest, what=what)

    return cache.fetch(descriptor.digest, partial(_from_either, source, add)).read_bytes()


def _from_either(source: Source, add: Callable[[Source], Path]) -> Path:
    """What is added to the cache from a source; if a mirror sends something else, then from its origin."""
    try:
        return add(source)
    except DigestMismatchError:
        if source.origin is None:
            raise
    return add(source.origin)


def _open(cache: Cache, source: Source, descriptor: Descriptor, progress: Progress) -> BinaryIO:
    def add(source: Source) -> Path:
        with progress.task("pull", f"{source.name} {descriptor.digest[7:19]}", descriptor.size) as advance:
            return cache.add(
                counted(source.blob(descriptor), advance), descriptor.digest, what=f"a layer of {source.name}"
            )

    path = cache.fetch(descriptor.digest, partial(_from_either, source, add))
    size = path.stat().st_size
    if size != descriptor.size:
        # Our manifest would have the same wrong size, and engines would refuse to pull the layer.
        raise ImageError(
            f"the layer {descriptor.digest} has {size} bytes, not the {descriptor.size} of its manifest",
            place=source.name,
        )
    return path.open("rb")


def compressed_layer(files: Files, name: str, diff_id: str, cache: Cache, progress: Progress) -> Layer:
    """The layer `name` of an archive, compressed with gzip; its diff ID is verified."""
    key = f"{diff_id} {WriteOptions(splice=False).fingerprint}"
    entry = cache.get("compressed", key)
    digest = str(entry.get("digest")) if entry else ""
    path = cache.blob(digest) if entry else None
    if path is None:
        with progress.task("pull", f"{files.place} {diff_id[7:19]}") as advance, cache.temporary() as partial_file:
            batches = batches_of(counted(_plain(files, name, diff_id), advance))
            blob = Digester()
            with cache.open(partial_file) as out:
                out.writelines(blob.passing(map(codec("gzip").compress, batches)))
            digest = blob.digest
            path = cache.adopt(partial_file, digest)
        cache.put("compressed", key, {"digest": digest})
    descriptor = Descriptor(media_type=spec.LAYER_GZIP, digest=digest, size=path.stat().st_size)
    return Layer.of_file(path, descriptor, diff_id)


def _plain(files: Files, name: str, diff_id: str) -> Iterator[bytes]:
    """The plain tar of a layer in an archive. As in Docker, the first bytes show if it is compressed."""
    chunks = files.chunks(name)
    first = next(chunks, b"")
    media_type = next((kind for magic, kind in _MAGIC.items() if first.startswith(magic)), spec.LAYER_TAR)
    return plain_tar(chain([first], chunks), media_type, diff_id)
