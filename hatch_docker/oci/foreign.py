"""Images in files of any tool as graphs of descriptors, to be pushed."""

from __future__ import annotations

import io
from functools import partial

from hatch_docker.errors import ImageError
from hatch_docker.oci import spec
from hatch_docker.oci.config import diff_ids_of
from hatch_docker.oci.graph import Node
from hatch_docker.oci.layout import Files, graph_of
from hatch_docker.oci.saved import saved_entry
from hatch_docker.oci.source import compressed_layer
from hatch_docker.oci.spec import Descriptor, Manifest
from hatch_docker.support.cache import Cache
from hatch_docker.support.progress import Progress
from hatch_docker.support.streams import digest_of
from hatch_docker.support.threads import together


def open_graph(files: Files, name: str, cache: Cache, *, progress: Progress) -> Node:
    """The image or index of a layout, of a tar of one, or of an archive of `docker save`; `name` chooses among several.

    A layout's content is not changed. An archive of `docker save` without a layout (Docker before version 25, Podman)
    gets a manifest, and its layers are compressed; its config, and so the image ID, stays. Raises ImageError.
    """
    try:
        if _has(files, "index.json"):
            return graph_of(files, name)
        if _has(files, "manifest.json"):
            return _graph_of_saved(files, name, cache, progress)
    except ImageError as error:
        error.place = error.place or files.place
        raise
    raise ImageError(
        "it is not an image: it has neither index.json nor manifest.json",
        place=files.place,
        hint="name an image layout, a tar of one, or an archive of 'docker save'",
    )


def _graph_of_saved(files: Files, name: str, cache: Cache, progress: Progress) -> Node:
    entry = saved_entry(files, name)
    config = files.read(entry["Config"])
    diff_ids = diff_ids_of(spec.load(config, f"the config of {files.place}"))
    if len(entry["Layers"]) != len(diff_ids):
        raise ImageError("the config has another number of layers than the archive", place=files.place)
    what = "an archive of 'docker save' without a manifest"
    progress.note(f"{files.place} is {what}: it gets one, and its layers are compressed")
    named = list(zip(entry["Layers"], diff_ids, strict=True))
    layers = together(lambda each: compressed_layer(files, *each, cache, progress), named, threads=4)
    descriptor = Descriptor(media_type=spec.CONFIG, digest=digest_of(config), size=len(config))
    manifest = Manifest(config=descriptor, layers=tuple(layer.descriptor for layer in layers))
    data = spec.dump(manifest.to_json())
    return Node(
        descriptor=Descriptor(media_type=spec.MANIFEST, digest=digest_of(data), size=len(data)),
        open=partial(io.BytesIO, data),
        children=(
            Node(descriptor=descriptor, open=partial(io.BytesIO, config)),
            *(Node(descriptor=layer.descriptor, open=layer.open) for layer in layers),
        ),
    )


def _has(files: Files, name: str) -> bool:
    try:
        files.open(name).close()
    except (KeyError, OSError):
        return False
    return True
