"""Pull base images from their sources: registries, files, the engine, and Debian's archive."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from hatch_docker.base.families import BASES, PYTHONS, admitted_of, family_pythons
from hatch_docker.config import BaseSpec
from hatch_docker.errors import BaseError, ImageError, NetworkError, RegistryError
from hatch_docker.oci import source
from hatch_docker.oci.layout import open_files
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.source import Pulled, Source
from hatch_docker.oci.spec import Platform
from hatch_docker.services import Services
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, replace

if TYPE_CHECKING:
    from hatch_docker.dpkg.archives import Archives
    from hatch_docker.dpkg.lockfile import Selection
    from hatch_docker.dpkg.provide import Request
    from hatch_docker.engine.client import Engine

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


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseSource:
    """The place that a base comes from, which is asked once for all platforms.

    `pull` pulls the image for a platform, `platforms` are those that it has images for.
    """

    pull: Callable[[Platform], PulledBase]
    platforms: Callable[[], Sequence[Platform]]


def locate(request: BaseRequest, services: Services) -> BaseSource:
    """Find the base that a request names, for any platform.

    The Python of a family's image is chosen by its tag; the image's contents are not checked here. Finding and pulling
    raise ImageError, with the image's name as the place, and the errors of registries, engines and Debian's archive.
    """
    name = name_of(request.spec)
    with locate_errors(name):
        found = _TRANSPORTS[request.spec.transport](request, services)

    def located(platform: Platform) -> PulledBase:
        with locate_errors(name):
            return found.pull(platform)

    return replace(found, pull=located)


def pull(request: BaseRequest, services: Services) -> PulledBase:
    """Pull the image that a request names, for its platform. Raises as `locate`."""
    return locate(request, services).pull(request.platform)


def _from_family(request: BaseRequest, services: Services) -> BaseSource:
    """The images of the newest admitted Python that the registry has."""
    family = request.spec.value
    missing: dict[str, RegistryError] = {}
    for python in family_pythons(request.requires_python, request.python):
        reference = _image_of(family, python)
        try:
            found = _registry_source(reference, services)
        except RegistryError as error:
            if error.status != 404:
                raise
            missing[reference.familiar] = error
            continue
        if missing:
            services.progress.note(f"the base is {reference.familiar}: the registry has no {', '.join(missing)}")
        return found
    available = ", ".join(each for each in PYTHONS if _exists(_image_of(family, each), services.registry))
    raise BaseError(
        f"the base {family!r} has no Python that fits: {next((each.message for each in missing.values()), '')}",
        hint=f"it has {available}: set python, or widen requires-python" if available else "set another base",
    )


def _image_of(family: str, python: str) -> Reference:
    return Reference.parse(BASES[family].image.format(python=python))


def _from_registry(request: BaseRequest, services: Services) -> BaseSource:
    return _registry_source(request.spec.reference or Reference.parse(request.spec.value), services)


def _registry_source(reference: Reference, services: Services) -> BaseSource:
    """The image of a registry. Its tag is resolved once, so that all platforms are of one index.

    The digest of a tag is recorded for the hint of later errors, when the registry cannot be reached.
    """
    image_source = source.registry_source(services.registry, reference, services.cache)
    with _hints(reference, services.cache):
        root = image_source.root()
    found = _image_source(replace(image_source, root=lambda: root), services)

    def pulled(platform: Platform) -> PulledBase:
        with _hints(reference, services.cache):
            base = replace(found.pull(platform), reference=reference)
        if not reference.digest:
            services.cache.put("tags", str(reference), {"digest": base.pulled.digest})
        return base

    return replace(found, pull=pulled)


def _image_source(image_source: Source, services: Services) -> BaseSource:
    def pulled(platform: Platform) -> PulledBase:
        return PulledBase(pulled=source.pull(image_source, platform, services.cache, progress=services.progress))

    return BaseSource(pull=pulled, platforms=partial(source.platforms_of, image_source, services.cache))


def _from_layout(request: BaseRequest, services: Services) -> BaseSource:
    files = open_files(services.root / request.spec.value)
    return _image_source(source.layout_source(files, request.spec.name), services)


def _from_saved(request: BaseRequest, services: Services) -> BaseSource:
    files, name = open_files(services.root / request.spec.value), request.spec.name

    def pulled(platform: Platform) -> PulledBase:
        cache, progress = services.cache, services.progress
        return PulledBase(pulled=source.pull_saved(files, name, platform, cache, progress=progress))

    return BaseSource(pull=pulled, platforms=lambda: [source.saved_platform(files, name)])


def _from_engine(request: BaseRequest, services: Services) -> BaseSource:
    engine, name = services.engine(), request.spec.value
    return BaseSource(
        pull=lambda platform: _saved_by_engine(engine, name, platform, services),
        platforms=lambda: [engine.image_platform(name)],
    )


def _saved_by_engine(engine: Engine, name: str, platform: Platform, services: Services) -> PulledBase:
    cache = services.cache
    identity = engine.image_id(name)
    pulled = source.recall(cache, identity) if identity else None
    if pulled is None:
        with cache.temporary() as path:
            with cache.open(path) as file:
                file.writelines(engine.save(name))
            files = replace(open_files(path), place=f"docker-daemon:{name}")
            pulled = source.pull_saved(files, "", platform, cache, progress=services.progress)
        # The name may have moved between the two requests: then the saved image is not `identity`.
        if engine.image_id(name) == identity:
            source.remember(cache, identity, pulled)
    source.check_platform(f"docker-daemon:{name}", pulled.image.config, platform)
    return PulledBase(pulled=pulled)


def _from_debian(request: BaseRequest, services: Services) -> BaseSource:
    from hatch_docker.dpkg.debian_image import debian_image, platforms_of

    archives, spec = services.archives, request.spec

    def pulled(platform: Platform) -> PulledBase:
        made = debian_image(debian_request(replace(request, platform=platform), archives), platform, archives)
        return PulledBase(pulled=Pulled(image=made.image, digest=made.image.digest), selection=made.selection)

    return BaseSource(pull=pulled, platforms=lambda: platforms_of(spec.value, spec.date, archives))


def debian_request(request: BaseRequest, archives: Archives) -> Request:
    """The packages to make a base from Debian's archive of. Raises what `base_request` raises."""
    from hatch_docker.dpkg.debian_image import base_request

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


_TRANSPORTS: Mapping[str, Callable[[BaseRequest, Services], BaseSource]] = {
    "family": _from_family,
    "registry": _from_registry,
    "oci": _from_layout,
    "oci-archive": _from_layout,
    "docker-archive": _from_saved,
    "docker-daemon": _from_engine,
    "debian": _from_debian,
}


@contextlib.contextmanager
def _hints(reference: Reference, cache: Cache) -> Iterator[None]:
    """Add hints to the error of a registry that cannot be reached."""
    try:
        yield
    except NetworkError as error:
        if getattr(error, "status", 0) != 404:
            error.add_hint(_NO_REGISTRY)
        if last := None if reference.digest else cache.get("tags", str(reference)):
            pinned = f"{reference.familiar}@{last['digest']}"
            error.add_hint(f'the last image of this tag is cached, and by digest needs no registry: base = "{pinned}"')
        raise


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
