"""What an image gets on top of its base, below the layers of wheels: planned first, added when the image is built.

Lowest first: whiteouts of what the image does not need of the base's Python, OS packages, the layer of system files.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from functools import partial

from hatch_docker.base.image import Base, files_of, grow
from hatch_docker.base.planned import Additions
from hatch_docker.base.transports import locate_errors
from hatch_docker.config import LEFTOVERS, BaseSpec
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Entry, WriteOptions
from hatch_docker.oci.layercache import MadeLayer, make_layer, make_once
from hatch_docker.services import Services
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.package_names import requested_first

# Part of the cache key: raise it when the same base and members give another layer.
_FORMAT = 1
_KIND = "pruned-bases"


def leftovers_to_prune(configured: tuple[str, ...] | None, base: Base, required: Collection[str]) -> tuple[str, ...]:
    """The members of LEFTOVERS to remove from a base: the configured ones that it has.

    By default these are the distributions that neither `required`, normalized names, has nor another distribution in
    the base requires; ensurepip stays.
    """
    facts = base.facts
    if configured is None:
        needed = facts.leftovers_needed.union(required)
        configured = tuple(name for name in LEFTOVERS if name != "ensurepip" and name not in needed)
    return tuple(name for name in LEFTOVERS if name in configured and name in facts.leftovers)


def add_to_base(
    base: Base, additions: Additions, *, spec: BaseSpec, compression: str, services: Services
) -> tuple[Base, list[MadeLayer]]:
    """The base with its additions, and their layers, lowest first. Raises as the additions do."""
    base, layers = _pruned(base, additions, compression, services)
    if additions.packages.names:
        from hatch_docker.base.packages import add_packages

        base, added = add_packages(
            base,
            additions.packages,
            spec=spec,
            compression=compression,
            services=services,
            inside=_inside(base, additions, services),
        )
        layers += added
    if additions.system:
        from hatch_docker.base.system_files import system_layer

        cache, threads = services.cache, services.threads
        listing = partial(files_of, base.merged, cache, threads)
        with locate_errors(base.name):
            made = system_layer(base.merged, additions.system, compression, services, listing=listing)
            base = grow(base, made, cache, threads)
        layers.append(made)
    if additions.system.init:
        base = replace(base, selections=(*base.selections, additions.system.init.selection))
    return base, layers


def _inside(base: Base, additions: Additions, services: Services) -> Image | None:
    """The image of the container that installs OS packages; None for the base, or if they are unpacked."""
    certificates = additions.system.certificates
    if certificates is None or not additions.packages.by_engine:
        return None
    from hatch_docker.base.system_files import trusting

    # The package manager may reach its archive only through a host that these certify.
    return trusting(base.merged, certificates, services)


def preview_layers(
    base: Base, additions: Additions, compression: str, services: Services
) -> Iterator[tuple[tuple[str, ...], MadeLayer | None]]:
    """The contents of each layer that `add_to_base` would make, and the layer if it is cached. Downloads nothing."""
    base, pruned = _pruned(base, additions, compression, services)
    yield from ((made.contents, made) for made in pruned)
    below: Image | None = base.merged
    if additions.packages.have_layer:
        contents, made = _previewed_packages(base, additions, compression, services)
        yield contents, made
        below = replace(base.merged, layers=(*base.merged.layers, made.layer)) if made else None
    if additions.system:
        from hatch_docker.base.system_files import cached_system_layer

        known = cached_system_layer(below, additions.system, compression, services) if below else None
        yield additions.system.contents, known


def _previewed_packages(
    base: Base, additions: Additions, compression: str, services: Services
) -> tuple[tuple[str, ...], MadeLayer | None]:
    """The contents of the layer of OS packages, and the layer if it is cached."""
    from hatch_docker.base.packages import cached_packages_layer
    from hatch_docker.base.system_files import cached_trusting

    packages = additions.packages
    certificates = additions.system.certificates if packages.by_engine else None
    inside = cached_trusting(base.merged, certificates, services) if certificates else base.merged
    if inside and (made := cached_packages_layer(base, packages, compression, services, inside=inside)):
        return made.contents, made
    selected = packages.selection.packages if packages.selection else ()
    names = [f"{each.name} {each.version}" for each in selected] or packages.names
    return requested_first(names, packages.names), None


def _pruned(base: Base, additions: Additions, compression: str, services: Services) -> tuple[Base, list[MadeLayer]]:
    """The base without the members that are pruned, and the layer with the whiteouts (layer.md)."""
    members, cache = additions.pruned, services.cache
    if not members:
        return base, []
    options = WriteOptions(compression=compression, splice=False)
    key = json.dumps([_FORMAT, options.fingerprint, base.image.config_descriptor.digest, members])

    def make() -> MadeLayer:
        paths = {path for member in members for path in base.facts.leftovers[member]}
        with locate_errors(base.name):
            listing = files_of(base.image, cache, services.threads)
        return make_layer(
            listing.with_directories(Entry(path=path, removed=True) for path in sorted(paths)),
            cache,
            options,
            contents=(f"without the base's {', '.join(members)}",),
            present=base.facts.directories,
        )

    made = make_once(cache, _KIND, key, make)
    return grow(base, made, cache, services.threads), [made]
