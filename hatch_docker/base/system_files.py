"""One layer with the files of an init process, and with certificates that the image is to trust: `init`,
`ca-certificates`.

It is on top of the OS packages, which may bring the bundle of certificates, and below all that changes with a project.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO

from hatch_docker.base.planned import PlannedInit, SystemFiles
from hatch_docker.base.trust import trust_entries, trusted_files
from hatch_docker.dpkg.archives import Archives
from hatch_docker.dpkg.tini import init_entries
from hatch_docker.oci.config import History
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.image import Image, append
from hatch_docker.oci.layer import Entry, WriteOptions
from hatch_docker.oci.layercache import MadeLayer, make_layer, make_once, recall
from hatch_docker.services import Services
from hatch_docker.support.certificates import Certificates
from hatch_docker.support.dataclasses import replace

# Part of the cache key: raise it when the same inputs give another layer.
_FORMAT = 1
_KIND = "system-layers"


def _cache_key(image: Image, wanted: SystemFiles, compression: str) -> str:
    """The cache key of the layer on top of `image`."""
    shape = [
        _FORMAT,
        WriteOptions(compression=compression, splice=False).fingerprint,
        [layer.diff_id for layer in image.layers],
        [wanted.init.package.sha256, wanted.init.status] if wanted.init else None,
        wanted.certificates.digest if wanted.certificates else None,
    ]
    return json.dumps(shape)


def cached_system_layer(image: Image, wanted: SystemFiles, compression: str, services: Services) -> MadeLayer | None:
    """The layer that `system_layer` would make, if the cache has it."""
    return recall(services.cache, _KIND, _cache_key(image, wanted, compression))


def system_layer(
    image: Image, wanted: SystemFiles, compression: str, services: Services, *, listing: Callable[[], Filesystem]
) -> MadeLayer:
    """The layer on top of `image`; `listing` lists its files.

    Raises as `dpkg.tini` and `base.trust` do, and OutputError if the cache cannot be written.
    """
    make = partial(_made, image, wanted, compression, services, listing=listing)
    return make_once(services.cache, _KIND, _cache_key(image, wanted, compression), make)


def _made(
    image: Image, wanted: SystemFiles, compression: str, services: Services, *, listing: Callable[[], Filesystem]
) -> MadeLayer:
    cache, certificates = services.cache, wanted.certificates
    files = trusted_files(image, threads=services.threads) if certificates else listing()
    with cache.temporary() as contents, cache.open(contents) as spool:
        entries = list(_init(files, wanted.init, services.archives, spool)) if wanted.init else []
        if certificates:
            entries += trust_entries(image, files, certificates)
        return make_layer(
            files.with_directories(entries),
            cache,
            WriteOptions(compression=compression, splice=False),
            contents=wanted.contents,
            present={path for path, node in files.nodes.items() if node.kind == "dir"},
        )


def trusting(image: Image, certificates: Certificates, services: Services) -> Image:
    """An image for containers, with certificates on top. Raises as `base.trust` does."""
    wanted = SystemFiles(certificates=certificates)
    return _with(image, system_layer(image, wanted, "gzip", services, listing=Filesystem))


def cached_trusting(image: Image, certificates: Certificates, services: Services) -> Image | None:
    """What `trusting` would return, if its layer is cached."""
    made = cached_system_layer(image, SystemFiles(certificates=certificates), "gzip", services)
    return _with(image, made) if made else None


def _with(image: Image, made: MadeLayer) -> Image:
    history = History.of_layer(", ".join(made.contents))
    return append(image, (made.layer,), (history,), image.config)


def _init(files: Filesystem, planned: PlannedInit, archives: Archives, spool: BinaryIO) -> Iterator[Entry]:
    """The files of the init process, where links of the image's directories lead to."""
    for entry in init_entries(planned.request, planned.selection, archives, spool, status=planned.status):
        yield replace(entry, path=files.resolve_parent(entry.path))
