"""Pull base images from their sources: registries, files, the engine, and Debian's archive."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from hatch_docker.base.families import BASES, PYTHONS, admitted_of, family_pythons
from hatch_docker.config import BaseSpec
from hatch_docker.dpkg.archives import Archives
from hatch_docker.dpkg.debian_image import base_request, debian_image
from hatch_docker.dpkg.lockfile import Selection
from hatch_docker.dpkg.provide import Request
from hatch_docker.errors import BaseError, ImageError, NetworkError, RegistryError
from hatch_docker.oci import source
from hatch_docker.oci.archive import open_files
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.source import Pulled
from hatch_docker.oci.spec import Platform
from hatch_docker.services import Services

_NO_REGISTRY = 'base = "debian" needs no registry: it is made from Debian\'s archive'


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRequest:
    """A request for a base image: `python` is `X.Y`, or empty for the newest version that `requires_python` admits.

    `place` is the place of the key `python` in messages.
    """

    spec: BaseSpec
    platform: Platform
    python: str = ""
    requires_python: str = ""
    place: str = "python"


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledBase:
    """A pulled base image. `reference` is its name in a registry, None if it comes from elsewhere.

    `selection` has the packages of a base that is made from Debian's archive.
    """

    pulled: Pulled
    reference: Reference | None = None
    selection: Selection | None = None


def pull(request: BaseRequest, services: Services) -> PulledBase:
    """Pull the image that a request names, for its platform.

    The Python of a family's image is chosen by its tag; the image's contents are not checked here. Raises ImageError,
    with the image's name as the place, and the errors of registries, engines and Debian's archive.
    """
    with locate_errors(name_of(request.spec)):
        return _TRANSPORTS[request.spec.transport](request, services)


def _from_family(request: BaseRequest, services: Services) -> PulledBase:
    """The image of the newest admitted Python that the registry has."""
    family = request.spec.value
    missing: RegistryError | None = None
    for python in family_pythons(request.requires_python, request.python):
        reference = _image_of(family, python)
        try:
            return PulledBase(reference=reference, pulled=_pull(reference, request.platform, services))
        except RegistryError as error:
            if error.status != 404:
                raise
            services.progress.note(f"{reference.familiar} is not in the registry")
            missing = missing or error
    available = ", ".join(each for each in PYTHONS if _exists(_image_of(family, each), services.registry))
    raise BaseError(
        f"the base {family!r} has no Python that fits: {missing.message if missing else ''}",
        hint=f"it has {available}: set python, or widen requires-python" if available else "set another base",
    )


def _image_of(family: str, python: str) -> Reference:
    return Reference.parse(BASES[family].image.format(python=python))


def _from_registry(request: BaseRequest, services: Services) -> PulledBase:
    reference = request.spec.reference or Reference.parse(request.spec.value)
    return PulledBase(reference=reference, pulled=_pull(reference, request.platform, services))


def _from_layout(request: BaseRequest, services: Services) -> PulledBase:
    files = open_files(services.root / request.spec.value)
    layout = source.layout_source(files, request.spec.name)
    return PulledBase(pulled=source.pull(layout, request.platform, services.cache, progress=services.progress))


def _from_saved(request: BaseRequest, services: Services) -> PulledBase:
    files, cache = open_files(services.root / request.spec.value), services.cache
    pulled = source.pull_saved(files, request.spec.name, request.platform, cache, progress=services.progress)
    return PulledBase(pulled=pulled)


def _from_engine(request: BaseRequest, services: Services) -> PulledBase:
    engine, cache, name = services.engine(), services.cache, request.spec.value
    identity = engine.image_id(name)
    pulled = source.recall(cache, identity) if identity else None
    if pulled is None:
        with cache.temporary() as path:
            with path.open("wb") as file:
                file.writelines(engine.save(name))
            files = replace(open_files(path), place=f"docker-daemon:{name}")
            pulled = source.pull_saved(files, "", request.platform, cache, progress=services.progress)
        # The name may have moved between the two requests: then the saved image is not `identity`.
        if engine.image_id(name) == identity:
            source.remember(cache, identity, pulled)
    source.check_platform(f"docker-daemon:{name}", pulled.image.config, request.platform)
    return PulledBase(pulled=pulled)


def _from_debian(request: BaseRequest, services: Services) -> PulledBase:
    made = debian_image(debian_request(request, services.archives), request.platform, services.archives)
    return PulledBase(pulled=Pulled(image=made.image, digest=made.image.digest), selection=made.selection)


def debian_request(request: BaseRequest, archives: Archives) -> Request:
    """The packages to make a base from Debian's archive of. Raises what `base_request` raises."""
    spec = request.spec
    return base_request(
        spec.value,
        debug=spec.name == "debug",
        snapshot=spec.date,
        platform=request.platform,
        choose=partial(_python_of, spec.value, request.python, request.requires_python),
        archives=archives,
    )


def _python_of(suite: str, python: str, requires_python: str, available: Sequence[str]) -> str:
    """The newest of a suite's Pythons that requires-python admits, or `python` if it is one of them."""
    admitted = admitted_of(available, requires_python)
    if python and python in admitted:
        return python
    if admitted and not python:
        return admitted[0]
    admissible = f'Python that requires-python = "{requires_python}" admits'
    missing = f"Python {python}" if python and python not in available else admissible
    raise BaseError(
        f"Debian {suite} has no {missing}; it has {' and '.join(available)}"
        if available
        else f"Debian {suite} has no Python 3",
        hint=f'set python = "{admitted[0]}", or leave it out; or set another base, such as "slim"'
        if admitted
        else 'set another base, such as "slim", which has all supported Python versions',
    )


_TRANSPORTS: Mapping[str, Callable[[BaseRequest, Services], PulledBase]] = {
    "family": _from_family,
    "registry": _from_registry,
    "oci": _from_layout,
    "oci-archive": _from_layout,
    "docker-archive": _from_saved,
    "docker-daemon": _from_engine,
    "debian": _from_debian,
}


def _pull(reference: Reference, platform: Platform, services: Services) -> Pulled:
    """Pull, and record the digest of a tag for the hint of later errors, when the registry cannot be reached."""
    cache, key = services.cache, f"{reference} {platform}"
    try:
        image_source = source.registry_source(services.registry, reference, cache)
        pulled = source.pull(image_source, platform, cache, progress=services.progress)
    except NetworkError as error:
        if getattr(error, "status", 0) != 404:
            error.add_hint(_NO_REGISTRY)
        if last := None if reference.digest else cache.get("tags", key):
            pinned = f"{reference.familiar}@{last['digest']}"
            error.add_hint(f'the last image of this tag is cached, and by digest needs no registry: base = "{pinned}"')
        raise
    if not reference.digest:
        cache.put("tags", key, {"digest": pulled.digest})
    return pulled


def name_of(base: BaseSpec) -> str:
    """The display name of a base."""
    if base.transport == "debian":
        return "".join(("debian:", base.value, base.name and f"-{base.name}", base.date and f"@{base.date}"))
    return base.value if base.reference or base.transport == "family" else f"{base.transport}:{base.value}"


@contextlib.contextmanager
def locate_errors(name: str) -> Iterator[None]:
    """Add the image's name as the place, and a hint, to an ImageError that has none."""
    try:
        yield
    except ImageError as error:
        error.place = error.place or name
        error.hint = error.hint or "the image is broken: make or copy it again, or use another one"
        raise


def _exists(reference: Reference, registry: Registry) -> bool:
    try:
        registry.resolve(reference)
    except NetworkError:
        return False
    return True
