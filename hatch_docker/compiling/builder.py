"""The image to compile in: which one it is, told without an engine, and how it gets into one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hatch_docker.base.image import Base, builder_spec
from hatch_docker.base.transports import Places, name_of, pull
from hatch_docker.config import BaseSpec
from hatch_docker.dpkg.archives import Archives
from hatch_docker.dpkg.debian_image import packages_request, with_debian_packages
from hatch_docker.dpkg.package_sets import ASSUME_INSTALLED
from hatch_docker.dpkg.package_sets import toolchain as debian_toolchain
from hatch_docker.dpkg.provide import Request
from hatch_docker.engine import Container, Engine, Limits
from hatch_docker.errors import BuilderError, PackageError
from hatch_docker.oci.image import Image
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform
from hatch_docker.os_packages import install
from hatch_docker.support.progress import Progress
from hatch_docker.support.threads import once

# How many OS packages are part of what people call a builder; it is told with every sdist.
_NAMED = 3
_OTHER = 'there is also builder = "slim", where build-packages are installed by its apt, in a container'


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """An image to compile in.

    `name` is what people call it, `reference` what is recorded: by digest where a registry has it; `origin` is the
    image in a registry that it is made of, None where it is of another kind. `identity` is everything that it is made
    of, as a key. `image` puts the OS packages into it, which takes an engine the first time, as `packages` does, which
    tells what came in, with versions. `provide` gives the name that the engine runs it by.
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
        """A container of it. Raises EngineError."""
        with self.engine().container(
            self.provide(), what=what, network=network, limits=self.limits, platform=self.platform
        ) as container:
            yield container


def open_builder(
    base: Base,
    spec: BaseSpec,
    builder: BaseSpec | None,
    packages: Sequence[str],
    *,
    places: Places,
    limits: Limits,
    progress: Progress,
) -> Builder:
    """The builder for a base that `spec` names: the one that `builder` names, else the one that goes with the base.

    Raises BuilderError where there is no such image, and what a registry raises.
    """
    python = base.facts.python
    chosen, toolchain = builder_spec(spec, builder, python.minor)
    if chosen.transport == "docker-daemon" and not packages and not toolchain:
        return _of_engine(chosen, python.platform, places, limits, progress)
    if chosen is spec:
        # The image that the base was opened as, not what its tag means by now.
        reference, image = base.reference, base.image
        name, digest = base.name, base.digest
    else:
        if is_another_debian(spec, chosen):
            places = replace(places, archives=places.archives.unpinned())
        found = pull(
            chosen, python=python.minor, requires_python="", platform=python.platform, places=places, progress=progress
        )
        reference, image, digest = found.reference, found.pulled.image, found.pulled.digest
        name = reference.familiar if reference else name_of(chosen)
    identity = f"{image.config_descriptor.digest} {' '.join(sorted(packages))}{' toolchain' if toolchain else ''}"
    shown = packages if len(packages) <= _NAMED else [f"{len(packages)} OS packages"]
    label = " + ".join(filter(None, (name, *shown, "a toolchain" if toolchain else "")))
    if chosen.transport == "debian":
        request = toolchain_request(chosen, python.minor, packages, python.platform)
        complete = _laid_out(image, request, places.archives)
    else:
        complete = _completed(image, packages, toolchain, name, places, limits, progress)
    return Builder(
        name=label,
        reference=str(reference.with_digest(digest)) if reference else f"{name_of(chosen)}@{digest}",
        origin=reference,
        identity=identity,
        platform=python.platform,
        limits=limits,
        engine=places.engine,
        image=lambda: complete()[0],
        packages=lambda: complete()[1],
        provide=lambda: places.engine().provide(
            complete()[0], local_name(complete()[0]), base=reference.familiar if reference else "", progress=progress
        ),
    )


def _of_engine(spec: BaseSpec, platform: Platform, places: Places, limits: Limits, progress: Progress) -> Builder:
    """An image that the engine has already: it need not travel, unless it is asked for as an image."""
    name = spec.value
    identity = places.engine().image_id(name)
    if not identity:
        raise BuilderError(
            f"the engine has no image {name}",
            hint="build it with 'hatch-docker builder', or name another one in builder",
        )

    def fetched() -> Image:
        return pull(
            spec, python="", requires_python="", platform=platform, places=places, progress=progress
        ).pulled.image

    return Builder(
        name=name,
        reference=f"{spec.transport}:{name}@{identity}",
        origin=None,
        identity=identity,
        platform=platform,
        limits=limits,
        engine=places.engine,
        image=once(fetched),
        packages=lambda: (),
        provide=lambda: identity,
    )


def _completed(
    image: Image,
    packages: Sequence[str],
    toolchain: bool,
    name: str,
    places: Places,
    limits: Limits,
    progress: Progress,
) -> Callable[[], tuple[Image, tuple[str, ...]]]:
    """The image with its OS packages, and which came in, when it is first asked for."""

    def complete() -> tuple[Image, tuple[str, ...]]:
        if not packages and not toolchain:
            return image, ()
        installed = install(
            image,
            packages,
            toolchain=toolchain,
            label=name,
            engine=places.engine,
            reference=local_name(image),
            limits=limits,
            cache=places.cache,
            log=log_path(places.cache.root, "builder"),
            compression="gzip",
            progress=progress,
        )
        return installed.image, installed.made.contents

    return once(complete)


def is_another_debian(base: BaseSpec, builder: BaseSpec) -> bool:
    """Whether base and builder are two bases out of Debian's archive: only one can be pinned, the image's own."""
    return base.transport == builder.transport == "debian" and base != builder


def toolchain_request(spec: BaseSpec, python: str, packages: Sequence[str], platform: Platform) -> Request:
    """What is put on a base out of Debian's archive to compile for `python`, as `3.13`."""
    return packages_request(
        [*debian_toolchain(python), *packages],
        assume_installed=ASSUME_INSTALLED,
        purpose="builder",
        suite=spec.value,
        platform=platform,
        snapshot=spec.date,
    )


def _laid_out(image: Image, request: Request, archives: Archives) -> Callable[[], tuple[Image, tuple[str, ...]]]:
    """The same of an image out of Debian's archive, which has no package manager: they come out of the archive, too."""

    def complete() -> tuple[Image, tuple[str, ...]]:
        try:
            added = with_debian_packages(image, request, archives=archives, compression="gzip")
        except PackageError as error:
            error.hint = "\n  hint: ".join(filter(None, (error.hint, _OTHER)))
            raise
        return added.image, added.made.contents if added.made else ()

    return once(complete)


def local_name(image: Image) -> Reference:
    """The name that an image of ours has in an engine: by its content."""
    return Reference.parse(f"hatch-docker/builder:{image.config_descriptor.digest.partition(':')[2][:16]}")


def log_path(root: Path, name: str) -> Path:
    """Where the log of a container's work is kept: in the cache, so that nothing lands beside what is released."""
    return root / "logs" / f"{name}.log"
