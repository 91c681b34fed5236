"""A cache of the layers that we write, by cache keys that cover everything that shapes a layer."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from hatch_docker.errors import ImageError
from hatch_docker.oci.layer import Entry, Layer, WriteOptions, write_layer
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.cache import Cache
from hatch_docker.support.progress import Advance


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
    """The layer of a cache key; None if it is not cached, or its blob is missing or damaged."""
    document: dict[str, Any] = cache.get(kind, key) or {}
    try:
        descriptor = Descriptor.from_json(document["descriptor"])
        diff_id, unpacked = str(document["diff_id"]), int(document["unpacked"])
        contents = tuple(map(str, document["contents"]))
    except (KeyError, TypeError, ValueError, ImageError):
        return None
    path = cache.blob(descriptor.digest)
    if path is None:
        return None
    layer = Layer.of_file(path, descriptor, diff_id, unpacked)
    return MadeLayer(layer=layer, contents=contents, reused=True)
