"""Where base images come from: registries, files, the engine, and Debian's archive."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hatch_docker.base.families import BASES, PYTHONS, admitted, fit
from hatch_docker.config import BaseSpec
from hatch_docker.dpkg.archives import Archives
from hatch_docker.dpkg.debian_image import base_request, debian_image
from hatch_docker.dpkg.lockfile import Selection
from hatch_docker.dpkg.provide import Request
from hatch_docker.engine import Engine
from hatch_docker.errors import BaseError, ImageError, NetworkError, RegistryError
from hatch_docker.oci import source
from hatch_docker.oci.archive import open_files
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.source import Pulled
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.progress import Progress

_NO_REGISTRY = 'base = "debian" needs no registry: it is made out of Debian\'s archive'


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where bases come from. `engine` connects when it is called, since most builds need none."""

    registry: Registry
    archives: Archives
    engine: Callable[[], Engine]
    cache: Cache
    root: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A base image that was found. `reference` is where it can be pulled from, None where that is no registry.

    `selection` are the packages of one that is out of Debian's archive.
    """

    pulled: Pulled
    reference: Reference | None = None
    selection: Selection | None = None


def pull(
    base: BaseSpec, *, python: str, requires_python: str, platform: Platform, places: Places, progress: Progress
) -> Found:
    """The image that `base` names, for `platform`.

    A family's is that of `python`, or where that is empty the newest that `requires_python` admits. What the image
    holds is not looked at. Raises ImageError, with its name as the place, and what registries, engines and Debian's
    archive raise.
    """
    with placed(name_of(base)):
        return _TRANSPORTS[base.transport](base, python, requires_python, platform, places, progress)


def _from_family(
    base: BaseSpec, python: str, requires_python: str, platform: Platform, places: Places, progress: Progress
) -> Found:
    """The image of the newest admitted Python that the registry has."""
    missing: RegistryError | None = None
    for each in admitted(requires_python, python):
        reference = _image_of(base.value, each)
        try:
            return Found(reference=reference, pulled=_pull(reference, platform, places, progress))
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
) -> Found:
    reference = base.reference or Reference.parse(base.value)
    return Found(reference=reference, pulled=_pull(reference, platform, places, progress))


def _from_layout(
    base: BaseSpec, _python: str, _requires: str, platform: Platform, places: Places, progress: Progress
) -> Found:
    files = open_files(places.root / base.value)
    return Found(pulled=source.pull(source.layout_source(files, base.name), platform, places.cache, progress=progress))


def _from_saved(
    base: BaseSpec, _python: str, _requires: str, platform: Platform, places: Places, progress: Progress
) -> Found:
    files = open_files(places.root / base.value)
    return Found(pulled=source.pull_saved(files, base.name, platform, places.cache, progress=progress))


def _from_engine(
    base: BaseSpec, _python: str, _requires: str, platform: Platform, places: Places, progress: Progress
) -> Found:
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
    return Found(pulled=pulled)


def _from_debian(
    base: BaseSpec, python: str, requires_python: str, platform: Platform, places: Places, _progress: Progress
) -> Found:
    request = debian_request(
        base, python=python, requires_python=requires_python, platform=platform, archives=places.archives
    )
    made = debian_image(request, platform, places.archives)
    return Found(pulled=Pulled(image=made.image, digest=made.image.digest), selection=made.selection)


def debian_request(
    base: BaseSpec, *, python: str, requires_python: str, platform: Platform, archives: Archives
) -> Request:
    """Which packages a base out of Debian's archive is made of; the rest is as in `pull`."""
    return base_request(
        base.value,
        debug=base.name == "debug",
        snapshot=base.date,
        platform=platform,
        choose=partial(_python_of, base.value, python, requires_python),
        archives=archives,
    )


def _python_of(suite: str, python: str, requires_python: str, there: Sequence[str]) -> str:
    """The newest of a suite's Pythons that a project admits, or `python` where that is one of them."""
    fitting = fit(requires_python, there)
    if python and python in fitting:
        return python
    if fitting and not python:
        return fitting[0]
    admitted_ones = f'Python that requires-python = "{requires_python}" admits'
    wanted = f"Python {python}" if python and python not in there else admitted_ones
    has = " and ".join(there)
    raise BaseError(
        f"Debian {suite} has no {wanted}; it has {has}" if there else f"Debian {suite} has no Python 3",
        hint=f'set python = "{fitting[0]}", or leave it out; or take another base, such as "slim"'
        if fitting
        else 'take another base, such as "slim", which has a Python of each version',
    )


_TRANSPORTS: Mapping[str, Callable[[BaseSpec, str, str, Platform, Places, Progress], Found]] = {
    "family": _from_family,
    "registry": _from_registry,
    "oci": _from_layout,
    "oci-archive": _from_layout,
    "docker-archive": _from_saved,
    "docker-daemon": _from_engine,
    "debian": _from_debian,
}


def _pull(reference: Reference, platform: Platform, places: Places, progress: Progress) -> Pulled:
    """Pull, and remember which digest a tag had, for the hint when its registry cannot be reached."""
    key = f"{reference} {platform}"
    try:
        pulled = source.pull(
            source.registry_source(places.registry, reference, places.cache), platform, places.cache, progress=progress
        )
    except NetworkError as error:
        if getattr(error, "status", 0) != 404:
            error.hint = "\n  hint: ".join(filter(None, (error.hint, _NO_REGISTRY)))
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


def name_of(base: BaseSpec) -> str:
    """What people call it."""
    if base.transport == "debian":
        return "".join(("debian:", base.value, base.name and f"-{base.name}", base.date and f"@{base.date}"))
    return base.value if base.reference or base.transport == "family" else f"{base.transport}:{base.value}"


@contextlib.contextmanager
def placed(name: str) -> Iterator[None]:
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
