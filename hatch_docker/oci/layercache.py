"""A cache of the layers that we write, by cache keys that cover everything that shapes a layer."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, BinaryIO

from hatch_docker.errors import ImageError, InvalidReferenceError, RemoteCacheError
from hatch_docker.oci.image import plain_tar
from hatch_docker.oci.layer import Entry, Layer, WriteOptions, write_layer
from hatch_docker.oci.spec import Descriptor, check_digest
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.flocks import PATIENCE
from hatch_docker.support.progress import Advance
from hatch_docker.support.streams import chunks_of
from hatch_docker.support.threads import once

_WITHOUT = "HATCH_DOCKER_CACHE=[] switches the cache off"


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeLayer:
    """A layer that we wrote, and its contents as display names. `reused` is true if it came from the cache."""

    layer: Layer
    contents: tuple[str, ...]
    reused: bool


def make_layer(
    entries: Iterable[Entry],
    cache: Cache,
    options: WriteOptions,
    *,
    contents: tuple[str, ...],
    present: Collection[str] = (),
    advance: Advance | None = None,
) -> MadeLayer:
    """Write a layer into the cache; `contents` are display names. Raises as `oci.layer.write_layer` does."""
    with cache.temporary() as partial_file:
        with cache.open(partial_file) as out:
            written = write_layer(entries, out, options, present=present, advance=advance)
        path = cache.adopt(partial_file, written.descriptor.digest)
    layer = Layer.of_file(path, written.descriptor, written.diff_id, written.unpacked)
    return MadeLayer(layer=layer, contents=contents, reused=False)


def make_once(
    cache: Cache, kind: str, key: str, make: Callable[[], MadeLayer], *, patience: float = PATIENCE
) -> MadeLayer:
    """The layer of a cache key; if it is not cached, the one that `make` makes, as `Cache.once` does, remembered."""

    def made() -> MadeLayer:
        layer = make()
        remember(cache, kind, key, layer)
        return layer

    return cache.once(f"{kind} {key}", lambda: recall(cache, kind, key), made, patience=patience)


def remember(cache: Cache, kind: str, key: str, made: MadeLayer) -> None:
    """Store a layer under its cache key, for `recall`."""
    document = {
        "descriptor": made.layer.descriptor.to_json(),
        "diff_id": made.layer.diff_id,
        "unpacked": made.layer.unpacked,
        "contents": list(made.contents),
    }
    cache.put(kind, key, document)


def recall(cache: Cache, kind: str, key: str) -> MadeLayer | None:
    """The layer of a cache key; None if it is not cached, or its blob is missing or damaged.

    A layer of the remote cache is fetched when it is opened, which raises RemoteCacheError unless it is what the cache
    says it is.
    """
    made = _described(cache.stored(kind, key))
    if made and (path := cache.blob(made.layer.descriptor.digest)):
        return replace(made, layer=replace(made.layer, open=lambda: path.open("rb")))
    document = cache.distant(kind, key)
    made = _described(document)
    if document is None or made is None or not (cache.remote and cache.remote.has(made.layer.descriptor.digest)):
        return None
    # It is stored when it has been verified: until then it is only what somebody says.
    opened = partial(_fetched, cache, made.layer, once(lambda: cache.put(kind, key, document)))
    return replace(made, layer=replace(made.layer, open=opened))


def _described(document: dict[str, Any] | None) -> MadeLayer | None:
    """What a document says of a layer, which cannot be opened yet."""
    found = document or {}
    try:
        layer = Layer(
            descriptor=Descriptor.from_json(found["descriptor"]),
            diff_id=check_digest(str(found["diff_id"])),
            unpacked=int(found["unpacked"]),
            open=io.BytesIO,
        )
        return MadeLayer(layer=layer, contents=tuple(map(str, found["contents"])), reused=True)
    except (KeyError, TypeError, ValueError, ImageError, InvalidReferenceError):
        return None


def _fetched(cache: Cache, layer: Layer, verified: Callable[[], object]) -> BinaryIO:
    """Open a layer of the remote cache, after all that this says of it has been compared with its content."""
    path = cache.obtain(layer.descriptor.digest)
    if path is None:
        raise RemoteCacheError(
            f"the registry cache does not give {layer.descriptor.digest}, which it says it has", hint=_WITHOUT
        )
    with path.open("rb") as file:
        left = layer.unpacked if path.stat().st_size == layer.descriptor.size else -1
        try:
            for chunk in plain_tar(chunks_of(file), layer.descriptor.media_type, layer.diff_id):
                left -= len(chunk)
                if left < 0:
                    break
        except ImageError as error:
            raise _wrong(layer, error.message) from None
    if left:
        raise _wrong(layer, "it has another size")
    verified()
    return path.open("rb")


def _wrong(layer: Layer, why: str) -> RemoteCacheError:
    return RemoteCacheError(f"{layer.descriptor.digest} is not what the registry cache says: {why}", hint=_WITHOUT)
