"""The builder: the image that sdists are compiled in. Choosing it needs no engine, using it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from hatch_docker.base.families import BASES
from hatch_docker.base.image import Base
from hatch_docker.base.system_files import trusting
from hatch_docker.base.transports import BaseRequest, name_of, pull
from hatch_docker.config import BaseSpec, Compiling
from hatch_docker.dpkg.archives import Archives
from hatch_docker.dpkg.debian_image import packages_request, with_debian_packages
from hatch_docker.dpkg.package_sets import ASSUME_INSTALLED
from hatch_docker.dpkg.package_sets import toolchain as debian_toolchain
from hatch_docker.dpkg.provide import Request
from hatch_docker.engine.client import Engine, local_name
from hatch_docker.engine.container import Container
from hatch_docker.engine.limits import Limits
from hatch_docker.errors import BuilderError, PackageError
from hatch_docker.oci.image import Image
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform
from hatch_docker.os_packages.install import InstallOptions, install
from hatch_docker.services import Services
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.threads import once

# The number of OS packages that a builder's display name lists; it is part of a line for each sdist.
_NAMED = 3
_OTHER = 'there is also builder = "slim", where build-packages are installed by its apt, in a container'

# An image with its OS packages, and their names and versions.
_Completed = Callable[[], tuple[Image, tuple[str, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """An image to compile in.

    `name` is its display name; `reference` is recorded in results, by digest if it comes from a registry; `origin` is
    the image in a registry that it is made from, None if there is none. `identity` is the cache key of the image and
    its OS packages. `engine()` is one that runs containers of its platform. `image()` returns the image with its OS
    packages, `packages()` these with their versions: both need an engine unless they are cached. `provide()` loads the
    image into the engine and returns its name there.
    """

    name: str
    reference: str
    origin: Reference | None
    identity: str
    platform: Platform
    limits: Limits
    engine: Callable[[], Engine]
    image: Callable[[], Image]
    packages: Callable[[], tuple[str, ...]]
    provide: Callable[[], str]

    @contextmanager
    def container(self, what: str, *, network: bool) -> Iterator[Container]:
        """A container of the builder, removed at the end of the block. Raises EngineError."""
        with self.engine().container(
            self.provide(), what=what, network=network, limits=self.limits, platform=self.platform
        ) as container:
            yield container


def builder_spec(base: BaseSpec, builder: BaseSpec | None, python: str) -> tuple[BaseSpec, bool]:
    """The image to compile in for `base`, and whether it needs a toolchain first.

    `builder` is the project's own choice, if it has one: a complete image, or a family, which stands for that family's
    builder. If the builder is the base itself, `base` is returned unchanged. `python` is the target's, like `3.13`.
    """
    if builder is not None and builder.transport not in ("family", "debian"):
        return builder, False
    chosen = base if builder is None or builder == base else builder
    own = BASES[chosen.value].builder.format(python=python) if chosen.transport == "family" else ""
    if not own:
        return chosen, True
    return BaseSpec(transport="registry", value=own, reference=Reference.parse(own)), False


def builder_name(base: Base, spec: BaseSpec, options: Compiling) -> str:
    """The display name of the builder for a base, without contacting a registry or an engine."""
    python = base.facts.python.minor
    chosen, toolchain = builder_spec(spec, options.builder, python)
    name = name_of(chosen)
    if chosen is spec:
        name = base.name
    elif chosen.transport == "family":
        name = BASES[chosen.value].image.format(python=python)
    elif chosen.reference:
        name = chosen.reference.familiar
    return _label(name, options.build_packages, toolchain)


def _label(name: str, packages: Sequence[str], toolchain: bool) -> str:
    shown = packages if len(packages) <= _NAMED else [f"{len(packages)} OS packages"]
    return " + ".join(filter(None, (name, *shown, "a toolchain" if toolchain else "")))


def open_builder(base: Base, spec: BaseSpec, options: Compiling, services: Services) -> Builder:
    """The builder for a base, given without its OS packages, that `spec` names.

    Raises BuilderError if there is no such image, and what `pull` raises.
    """
    python, packages = base.facts.python, options.build_packages
    chosen, toolchain = builder_spec(spec, options.builder, python.minor)
    request = BaseRequest(spec=chosen, platform=python.platform, python=python.minor)
    certificates = services.authorities()
    if chosen.transport == "docker-daemon" and not packages and not toolchain and not certificates:
        return _of_engine(request, services)
    if chosen is spec:
        # The image that was opened as the base; its tag may point to another one by now.
        name, reference, image, digest = base.name, base.reference, base.image, base.digest
    else:
        if is_another_debian(spec, chosen):
            services = replace(services, archives=services.archives.unpinned())
        found = pull(request, services)
        reference, image, digest = found.reference, found.pulled.image, found.pulled.digest
        name = reference.familiar if reference else name_of(chosen)
    # Package managers may reach their archives, and sdists what they download, only through hosts that these certify.
    below = once(lambda: trusting(image, certificates, services) if certificates else image)
    if chosen.transport == "debian":
        complete = _unpacked(below, toolchain_request(request, packages), services.archives)
    else:
        complete = _installed(below, name, packages, toolchain=toolchain, services=services)
    parts = [image.config_descriptor.digest, " ".join(sorted(packages))]
    parts += ["toolchain"] if toolchain else []
    parts += [f"certificates {certificates.digest}"] if certificates else []
    return Builder(
        name=_label(name, packages, toolchain),
        reference=str(reference.with_digest(digest)) if reference else f"{name_of(chosen)}@{digest}",
        origin=reference,
        identity=" ".join(parts),
        platform=python.platform,
        limits=services.limits,
        engine=partial(_engine_for, python.platform, services),
        image=lambda: complete()[0],
        packages=lambda: complete()[1],
        provide=lambda: _provide(complete()[0], reference, services),
    )


def _engine_for(platform: Platform, services: Services) -> Engine:
    """The engine, if it runs containers of a platform. Raises EngineError."""
    engine = services.engine()
    engine.require(platform)
    return engine


def _provide(image: Image, origin: Reference | None, services: Services) -> str:
    base = origin.familiar if origin else ""
    return services.engine().provide(image, local_name(image), base=base, progress=services.progress)


def _of_engine(request: BaseRequest, services: Services) -> Builder:
    """A builder that the engine has already: it is transferred only if it is needed as an image."""
    name = request.spec.value
    identity = services.engine().image_id(name)
    if not identity:
        raise BuilderError(
            f"the engine has no image {name}",
            hint="build it with 'hatch-docker builder', or set another one as builder",
        )
    anything = replace(request, python="")
    return Builder(
        name=name,
        reference=f"{request.spec.transport}:{name}@{identity}",
        origin=None,
        identity=identity,
        platform=request.platform,
        limits=services.limits,
        engine=partial(_engine_for, request.platform, services),
        image=once(lambda: pull(anything, services).pulled.image),
        packages=lambda: (),
        provide=lambda: identity,
    )


def _installed(
    below: Callable[[], Image], name: str, packages: Sequence[str], *, toolchain: bool, services: Services
) -> _Completed:
    """The image with OS packages that its own package manager installs."""

    def complete() -> tuple[Image, tuple[str, ...]]:
        if not packages and not toolchain:
            return below(), ()
        options = InstallOptions(names=tuple(packages), label=name, log="builder", toolchain=toolchain)
        installed = install(below(), options, services.installer)
        return installed.image, installed.made.contents

    return once(complete)


def _unpacked(below: Callable[[], Image], request: Request, archives: Archives) -> _Completed:
    """The image with OS packages from Debian's archive: the base `debian` has no package manager."""

    def complete() -> tuple[Image, tuple[str, ...]]:
        try:
            added = with_debian_packages(below(), request, archives=archives, compression="gzip")
        except PackageError as error:
            error.add_hint(_OTHER)
            raise
        return added.image, added.made.contents if added.made else ()

    return once(complete)


def is_another_debian(base: BaseSpec, builder: BaseSpec) -> bool:
    """Whether base and builder are different bases from Debian's archive: pins exist for one of them only."""
    return base.transport == builder.transport == "debian" and base != builder


def toolchain_request(request: BaseRequest, packages: Sequence[str]) -> Request:
    """The Debian packages that a base from Debian's archive needs to compile for the Python of `request`."""
    return packages_request(
        [*debian_toolchain(request.python), *packages],
        assume_installed=ASSUME_INSTALLED,
        purpose="builder",
        suite=request.spec.value,
        platform=request.platform,
        snapshot=request.spec.date,
    )
