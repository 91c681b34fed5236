"""Base images, opened: what a build needs to know of one; and which image to compile in goes with it."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from hatch_docker.base.families import BASES
from hatch_docker.base.interpreter import BaseFacts, read_facts, wanted
from hatch_docker.base.transports import Places, name_of, placed, pull
from hatch_docker.config import BaseSpec
from hatch_docker.dpkg.lockfile import Selection
from hatch_docker.errors import BaseError, InvalidReferenceError
from hatch_docker.oci import source
from hatch_docker.oci.filesystem import merge
from hatch_docker.oci.image import Image
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.progress import Progress

_FACTS = "3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A base image. `name` is for people; `reference` is where it can be pulled from, None where it is no registry.

    `selections` are the packages in it that were chosen out of Debian's archive.
    """

    name: str
    image: Image
    digest: str
    reference: Reference | None
    facts: BaseFacts
    selections: tuple[Selection, ...] = ()


def open_base(
    base: BaseSpec,
    *,
    python: str,
    requires_python: str,
    platform: Platform,
    venv: str,
    places: Places,
    threads: int,
    progress: Progress,
) -> Base:
    """Find the base image for `platform` and read which Python it has.

    Raises BaseError where it cannot carry the project: no such family or platform, another Python than `python` or
    `requires_python` ask for, no Python at all, or a venv that is there already.
    """
    found = pull(
        base, python=python, requires_python=requires_python, platform=platform, places=places, progress=progress
    )
    name, image = found.reference.familiar if found.reference else name_of(base), found.pulled.image
    with placed(name):
        facts = facts_of(image, venv, places.cache, threads)
        _check(name, facts, python, requires_python, venv)
    return Base(
        name=name,
        image=image,
        digest=found.pulled.digest,
        reference=found.reference,
        facts=facts,
        selections=(found.selection,) if found.selection else (),
    )


def builder_spec(base: BaseSpec, builder: BaseSpec | None, python: str) -> tuple[BaseSpec, bool]:
    """Which image to compile in for `base`, and whether a toolchain must be put into it first.

    `builder` is what the project names, if it does: an image that has all it takes, or a family, whose own builder is
    meant. The base itself is given back as it is. `python` is the target's, like `3.13`.
    """
    if builder is not None and builder.transport not in ("family", "debian"):
        return builder, False
    chosen = base if builder is None or builder == base else builder
    own = BASES[chosen.value].builder.format(python=python) if chosen.transport == "family" else ""
    if not own:
        return chosen, True
    return BaseSpec(transport="registry", value=own, reference=Reference.parse(own)), False


def facts_of(image: Image, venv: str, cache: Cache, threads: int) -> BaseFacts:
    """What the build needs to know of an image's contents, read once. Raises ImageError."""
    key = f"{_FACTS} {image.config_descriptor.digest} {venv}"
    known = cache.get("bases", key)
    if known is not None:
        try:
            return BaseFacts.from_json(known)
        except (KeyError, TypeError, ValueError, InvalidReferenceError):
            pass
    source.fetch(image, threads=threads)
    facts = read_facts(merge(image.layers, wanted), image.config, venv=venv)
    cache.put("bases", key, facts.to_json())
    return facts


def _check(name: str, facts: BaseFacts, python: str, requires_python: str, venv: str) -> None:
    found = facts.python
    if python and found.minor != python:
        raise BaseError(
            f"the base image {name} has Python {found.version}, not {python}",
            place="tool.hatch.build.targets.docker.python",
            hint=f'set python = "{found.minor}", or leave it out, or take another base',
        )
    if not SpecifierSet(requires_python).contains(found.version, prereleases=True):
        raise BaseError(
            f'the base image has Python {found.version}, which requires-python = "{requires_python}" excludes',
            hint="take another base, or widen requires-python",
        )
    parent = venv.partition("/")[0]
    if parent in facts.links:
        # Layers of wheels are the same for every base, so they cannot follow it, and would replace it.
        raise BaseError(
            f"in the base image /{parent} is a symbolic link, and the project's venv goes to /{venv}",
            hint=f"take a base without it: it leads to {facts.links[parent]}",
        )
    if facts.occupied:
        raise BaseError(
            f"the base image already has something at /{venv}, where the project's venv goes",
            hint="take a base without a venv of its own; an image made by hatch-docker is not a base for another",
        )
