"""Base images: the families that have a name of their own, and where else a base may come from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.specifiers import SpecifierSet

from hatch_docker.cache import Cache
from hatch_docker.config import BaseSpec
from hatch_docker.engine import Engine
from hatch_docker.errors import BaseError, ImageError, InvalidReferenceError, NetworkError, RegistryError
from hatch_docker.interpreter import BaseFacts, read_facts, wanted
from hatch_docker.oci import source
from hatch_docker.oci.archive import open_files
from hatch_docker.oci.filesystem import merge
from hatch_docker.oci.image import Image
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry import Registry
from hatch_docker.oci.source import Pulled
from hatch_docker.oci.spec import Platform
from hatch_docker.progress import Progress

PYTHONS = ("3.14", "3.13", "3.12", "3.11", "3.10")

_FACTS = "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Images of docker-library, named by Python version; `builder` is what to compile in, empty for the base itself."""

    image: str
    builder: str = ""


BASES: Mapping[str, Family] = {
    "slim": Family(image="python:{python}-slim", builder="python:{python}"),
    "alpine": Family(image="python:{python}-alpine"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A base image. `name` is for people; `reference` is where it can be pulled from, None where it is no registry."""

    name: str
    image: Image
    digest: str
    reference: Reference | None
    facts: BaseFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where bases come from. `engine` connects when it is called, since most builds need none."""

    registry: Registry
    engine: Callable[[], Engine]
    cache: Cache
    root: Path


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
    reference, pulled = pull(
        base, python=python, requires_python=requires_python, platform=platform, places=places, progress=progress
    )
    name = reference.familiar if reference else _name(base)
    with _placed(name):
        facts = facts_of(pulled.image, venv, places.cache, threads)
        _check(name, facts, python, requires_python, venv)
    return Base(name=name, image=pulled.image, digest=pulled.digest, reference=reference, facts=facts)


def pull(
    base: BaseSpec, *, python: str, requires_python: str, platform: Platform, places: Places, progress: Progress
) -> tuple[Reference | None, Pulled]:
    """The image that `base` names, for `platform`, and where it can be pulled from; None where that is no registry.

    A family's is that of `python`, or where that is empty the newest that `requires_python` admits. What the image
    holds is not looked at. Raises ImageError, with its name as the place, and what registries and engines raise.
    """
    with _placed(_name(base)):
        return _TRANSPORTS[base.transport](base, python, requires_python, platform, places, progress)


def builder_spec(base: BaseSpec, builder: BaseSpec | None, python: str) -> tuple[BaseSpec, bool]:
    """Which image to compile in for `base`, and whether a toolchain must be put into it first.

    `builder` is what the project names, if it does: an image that has all it takes, or a family, whose own builder is
    meant. The base itself is given back as it is. `python` is the target's, like `3.13`.
    """
    if builder is not None and builder.transport != "family":
        return builder, False
    chosen = base if builder is None or builder == base else builder
    own = BASES[chosen.value].builder.format(python=python) if chosen.transport == "family" else ""
    if not own:
        return chosen, True
    return BaseSpec(transport="registry", value=own, reference=Reference.parse(own)), False


def admitted(requires_python: str, python: str = "") -> list[str]:
    """The families' Python versions that a project admits, newest first; raises BaseError where there are none."""
    specifier = SpecifierSet(requires_python)
    # Which patch release a family has is not known yet: any that is admitted will do.
    fitting = [p for p in PYTHONS if any(specifier.contains(f"{p}.{patch}") for patch in range(100))]
    if python and python not in fitting:
        raise BaseError(
            f'Python {python} is excluded by requires-python = "{requires_python}"'
            if python in PYTHONS
            else f"the base families have no Python {python}; they have {', '.join(PYTHONS)}",
            hint=f"take one of {', '.join(fitting)}" if fitting else "",
        )
    if not fitting:
        raise BaseError(
            f'requires-python = "{requires_python}" admits no Python that the base families have',
            hint=f"they have {', '.join(PYTHONS)}; another base image can be named with base",
        )
    return [python] if python else fitting


_Found = tuple[Reference | None, Pulled]


def _from_family(
    base: BaseSpec, python: str, requires_python: str, platform: Platform, places: Places, progress: Progress
) -> _Found:
    """The image of the newest admitted Python that the registry has."""
    missing: RegistryError | None = None
    for each in admitted(requires_python, python):
        reference = _image_of(base.value, each)
        try:
            return reference, _pull(reference, platform, places, progress)
        except RegistryError as error:
            if error.status != 404:
                raise
            progress.note(f"{reference.familiar} is not in the registry")
            missing = missing or error
    there = ", ".join(each for each in PYTHONS if _exists(_image_of(base.value, each), places))
    raise BaseError(
        f"the base {base.value!r} has no Python that fits: {missing.message if missing else ''}",
        hint=f"it has {there}: set python, or widen requires-python" if there else "name another base",
    )


def _image_of(family: str, python: str) -> Reference:
    return Reference.parse(BASES[family].image.format(python=python))


def _from_registry(
    base: BaseSpec, _python: str, _requires: str, platform: Platform, places: Places, progress: Progress
) -> _Found:
    reference = base.reference or Reference.parse(base.value)
    return reference, _pull(reference, platform, places, progress)


def _from_layout(
    base: BaseSpec, _python: str, _requires: str, platform: Platform, places: Places, progress: Progress
) -> _Found:
    files = open_files(places.root / base.value)
    return None, source.pull(source.layout_source(files, base.name), platform, places.cache, progress=progress)


def _from_saved(
    base: BaseSpec, _python: str, _requires: str, platform: Platform, places: Places, progress: Progress
) -> _Found:
    files = open_files(places.root / base.value)
    return None, source.pull_saved(files, base.name, platform, places.cache, progress=progress)


def _from_engine(
    base: BaseSpec, _python: str, _requires: str, platform: Platform, places: Places, progress: Progress
) -> _Found:
    engine = places.engine()
    identity = engine.image_id(base.value)
    pulled = source.recall(places.cache, identity) if identity else None
    if pulled is None:
        with places.cache.temporary() as partial:
            with partial.open("wb") as file:
                file.writelines(engine.save(base.value))
            files = replace(open_files(partial), place=f"docker-daemon:{base.value}")
            pulled = source.pull_saved(files, "", platform, places.cache, progress=progress)
        # A name may have got another image between the two questions: what was saved is then not the first one's.
        if engine.image_id(base.value) == identity:
            source.remember(places.cache, identity, pulled)
    source.check_platform(f"docker-daemon:{base.value}", pulled.image.config, platform)
    return None, pulled


_TRANSPORTS: Mapping[str, Callable[[BaseSpec, str, str, Platform, Places, Progress], _Found]] = {
    "family": _from_family,
    "registry": _from_registry,
    "oci": _from_layout,
    "oci-archive": _from_layout,
    "docker-archive": _from_saved,
    "docker-daemon": _from_engine,
}


def _pull(reference: Reference, platform: Platform, places: Places, progress: Progress) -> Pulled:
    """Pull, and remember which digest a tag had, for the hint when its registry cannot be reached."""
    key = f"{reference} {platform}"
    try:
        pulled = source.pull(
            source.registry_source(places.registry, reference, places.cache), platform, places.cache, progress=progress
        )
    except NetworkError as error:
        known = None if reference.digest else places.cache.get("tags", key)
        if known:
            error.hint += (
                f'\n  hint: by digest it needs no registry: base = "{reference.familiar}@{known["digest"]}" '
                "is what it was when it was last reached"
            )
        raise
    if not reference.digest:
        places.cache.put("tags", key, {"digest": pulled.digest})
    return pulled


def _name(base: BaseSpec) -> str:
    return base.value if base.reference or base.transport == "family" else f"{base.transport}:{base.value}"


@contextlib.contextmanager
def _placed(name: str) -> Iterator[None]:
    """Give an error of an image its name as the place, and a hint."""
    try:
        yield
    except ImageError as error:
        error.place = error.place or name
        error.hint = error.hint or "the image is broken: make or copy it again, or take another one"
        raise


def _exists(reference: Reference, places: Places) -> bool:
    try:
        places.registry.resolve(reference)
    except NetworkError:
        return False
    return True


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
