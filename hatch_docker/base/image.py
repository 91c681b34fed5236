"""A base image and the facts about its contents that a build needs."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet

from hatch_docker.base import files
from hatch_docker.base.facts import BaseFacts, with_files
from hatch_docker.base.target import VENV
from hatch_docker.base.transports import BaseRequest, BaseSource, locate, locate_errors, name_of
from hatch_docker.errors import BaseError, InvalidReferenceError
from hatch_docker.oci.config import History
from hatch_docker.oci.filesystem import Filesystem, KeptFiles
from hatch_docker.oci.image import Image, append
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.oci.reference import Reference
from hatch_docker.services import Services
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.memory import return_memory

if TYPE_CHECKING:
    from hatch_docker.config import BaseSpec
    from hatch_docker.dpkg.lockfile import Selection

_FACTS = "5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A base image. `name` is its display name; `reference` its name in a registry, None if it comes from elsewhere.

    `selections` has the packages in it that come from Debian's archive. `grown` is the image with what was added to the
    base, such as OS packages; `facts` are those of `merged`.
    """

    name: str
    image: Image
    digest: str
    reference: Reference | None
    facts: BaseFacts
    selections: tuple[Selection, ...] = ()
    grown: Image | None = None

    @property
    def merged(self) -> Image:
        """The image that the layers of wheels go on: the base, with all that was added to it."""
        return self.grown or self.image


def open_base(request: BaseRequest, services: Services, source: BaseSource | None = None) -> Base:
    """Pull the base image for the request's platform from its `source`, and read which Python it has.

    Without a `source` it is located first. Raises BaseError if it does not suit the project: an unknown family, a
    missing platform, another Python than the request admits, no Python at all, or a virtual environment that exists
    already; and what `locate` raises.
    """
    found = (source or locate(request, services)).pull(request.platform)
    name, image = found.reference.familiar if found.reference else name_of(request.spec), found.pulled.image
    with locate_errors(name):
        facts = facts_of(image, services.cache, services.threads, services.kept)
        _check(name, facts, request)
    return Base(
        name=name,
        image=image,
        digest=found.pulled.digest,
        reference=found.reference,
        facts=facts,
        selections=(found.selection,) if found.selection else (),
    )


def suite_of(base: Base, spec: BaseSpec) -> str:
    """The Debian suite of a base; empty for other distributions. An image of unstable has the suite of testing."""
    return spec.value if spec.transport == "debian" else base.facts.suite


def facts_of(image: Image, cache: Cache, threads: int, kept: KeptFiles | None = None) -> BaseFacts:
    """The facts about an image's contents, read once and cached; what was read for them is kept. Raises ImageError."""
    make = partial(_read, image, cache, threads, kept or KeptFiles())
    return cache.once(f"bases {_key(image)}", partial(_facts, image, cache), lambda: make()[0])


def files_of(image: Image, cache: Cache, threads: int) -> Filesystem:
    """The listing of an image's files (base.files), read once and cached. Raises as `facts_of`."""
    make = partial(_read, image, cache, threads, KeptFiles())
    return cache.once(f"bases {_key(image)}", partial(_files, image, cache), lambda: make()[1])


def _facts(image: Image, cache: Cache) -> BaseFacts | None:
    known = cache.get("bases", _key(image))
    with contextlib.suppress(KeyError, TypeError, ValueError, InvalidReferenceError):
        return BaseFacts.from_json(known) if known is not None else None
    return None


def _files(image: Image, cache: Cache) -> Filesystem | None:
    known = cache.get("base-files", _key(image))
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        return files.from_json(known) if known is not None else None
    return None


def grow(base: Base, made: MadeLayer, cache: Cache, threads: int) -> Base:
    """The base with one more layer, which changes nothing of its Python and its shared libraries. Raises ImageError.

    Only that layer is read.
    """
    below = base.merged
    image = append(below, (made.layer,), (History.of_layer(", ".join(made.contents)),), below.config)
    if cache.get("base-files", _key(image)) is None or cache.get("bases", _key(image)) is None:
        from hatch_docker.oci.merging import merge

        merged = files.listing(merge((made.layer,), files.needs_text, files_of(below, cache, threads)))
        cache.put("bases", _key(image), with_files(base.facts, merged).to_json())
        cache.put("base-files", _key(image), files.to_json(merged))
    return replace(base, grown=image, facts=facts_of(image, cache, threads))


def _key(image: Image) -> str:
    return f"{_FACTS} {image.config_descriptor.digest} {VENV}"


def _read(image: Image, cache: Cache, threads: int, kept: KeptFiles) -> tuple[BaseFacts, Filesystem]:
    """Read an image's layers once, for all that is cached about it."""
    from hatch_docker.base.contents import read_files
    from hatch_docker.base.interpreter import read_facts
    from hatch_docker.oci.merging import merge

    # All that follows is made for the first time, by many threads.
    return_memory()
    merged = read_files(image, kept, cache, threads)
    if linked := files.linked_accounts(merged):
        # Which files these are is known only now, and few images have such links: reading twice is simple.
        again = merge(image.layers, linked.__contains__)
        merged = Filesystem({**merged.nodes, **{path: again.nodes[path] for path in linked}})
    facts, listing = read_facts(merged, image.config, venv=VENV), files.listing(merged)
    cache.put("bases", _key(image), facts.to_json())
    cache.put("base-files", _key(image), files.to_json(listing))
    return facts, listing


def _check(name: str, facts: BaseFacts, request: BaseRequest) -> None:
    python, found = request.python, facts.python
    if python and found.minor != python:
        raise BaseError(
            f"the base image {name} has Python {found.version}, not {python}",
            place=request.place,
            hint=f'set python = "{found.minor}", or remove it, or set another base',
        )
    if not SpecifierSet(request.requires_python).contains(found.version, prereleases=True):
        raise BaseError(
            f'the base image has Python {found.version}, which requires-python = "{request.requires_python}" excludes',
            hint="set another base, or widen requires-python",
        )
    parent = VENV.partition("/")[0]
    if parent in facts.links:
        # The layers of wheels are the same on every base: they cannot follow the link, and would replace it.
        raise BaseError(
            f"in the base image /{parent} is a symbolic link, and the project's venv goes to /{VENV}",
            hint=f"set a base without it: it leads to {facts.links[parent]}",
        )
    if facts.occupied:
        raise BaseError(
            f"the base image already has something at /{VENV}, where the project's venv goes",
            hint="set a base without a venv of its own; an image made by hatch-docker cannot be a base of another",
        )
