"""The image of a record, and the same with other layers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import BinaryIO

from hatch_docker.edits.record import ImageRecord
from hatch_docker.errors import ImageError
from hatch_docker.oci.config import ImageConfig, diff_ids_of, history_of
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.spec import Manifest, dump
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace


def restored(record: ImageRecord, cache: Cache) -> Image:
    """The image that was recorded, whose layers are read from the cache. Raises ImageError."""
    manifest = Manifest.from_json(record.manifest)
    layers = zip(manifest.layers, diff_ids_of(record.config), record.unpacked, strict=True)
    return Image(
        config=ImageConfig.from_json(record.config),
        layers=tuple(
            Layer(descriptor=each, diff_id=diff_id, unpacked=size, open=partial(_opened, cache, each.digest))
            for each, diff_id, size in layers
        ),
        history=history_of(record.config),
        annotations=manifest.annotations,
    )


def with_layers(image: Image, layers: Mapping[int, Layer]) -> Image:
    """The image with other layers, by number."""
    return replace(image, layers=tuple(layers.get(number, each) for number, each in enumerate(image.layers)))


def recorded(record: ImageRecord, image: Image) -> ImageRecord:
    """The record of an image that `with_layers` made."""
    return replace(
        record,
        config=json.loads(image.config_bytes),
        manifest=json.loads(dump(image.manifest.to_json())),
        unpacked=[each.unpacked for each in image.layers],
    )


def _opened(cache: Cache, digest: str) -> BinaryIO:
    path = cache.blob(digest)
    if path is None:
        raise ImageError(f"the cache has lost the layer {digest}")
    return path.open("rb")
