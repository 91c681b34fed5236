"""Layers of ours: each made once, and found again in the cache by a key that says all that shaped it."""

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
    """A layer of ours: what it holds, its size without compression in bytes, and whether the cache had it."""

    layer: Layer
    contents: tuple[str, ...]
    unpacked: int
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
    """Write a layer into the cache; `contents` says to people what it holds. Raises as `oci.layer.write_layer` does."""
    with cache.temporary() as partial_file:
        with partial_file.open("wb") as out:
            written = write_layer(entries, out, options, present=present, advance=advance)
        path = cache.adopt(partial_file, written.descriptor.digest)
    layer = Layer.of_file(path, written.descriptor, written.diff_id)
    return MadeLayer(layer=layer, contents=contents, unpacked=written.unpacked, reused=False)


def remember(cache: Cache, kind: str, key: str, made: MadeLayer) -> None:
    """Let `recall` find a layer by its key."""
    document = {
        "descriptor": made.layer.descriptor.to_json(),
        "diff_id": made.layer.diff_id,
        "unpacked": made.unpacked,
        "contents": list(made.contents),
    }
    cache.put(kind, key, document)


def recall(cache: Cache, kind: str, key: str) -> MadeLayer | None:
    """A layer that was remembered, if its bytes are still there."""
    known: dict[str, Any] = cache.get(kind, key) or {}
    try:
        descriptor = Descriptor.from_json(known["descriptor"])
        diff_id, unpacked = str(known["diff_id"]), int(known["unpacked"])
        contents = tuple(map(str, known["contents"]))
    except (KeyError, TypeError, ValueError, ImageError):
        return None
    path = cache.blob(descriptor.digest)
    if path is None:
        return None
    layer = Layer.of_file(path, descriptor, diff_id)
    return MadeLayer(layer=layer, contents=contents, unpacked=unpacked, reused=True)
