"""Images made of Debian packages: a minimal base with Python, and packages on top of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hatch_docker.debian.archive import Archive
from hatch_docker.debian.sources import suites_of
from hatch_docker.dpkg.architectures import ARCHITECTURES
from hatch_docker.dpkg.archives import Archives, architecture_of
from hatch_docker.dpkg.lockfile import Selection, stale
from hatch_docker.dpkg.package_sets import PYTHON, base_assume_installed, base_packages
from hatch_docker.dpkg.provide import Request, provide, pythons
from hatch_docker.errors import BaseError, PackageError
from hatch_docker.oci.config import DEFAULT_PATH, History, ImageConfig
from hatch_docker.oci.image import Image, append
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import dataclass, replace

_ENV = {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WithPackages:
    """An image with Debian packages: their selection and layer, None if all of them were installed already."""

    image: Image
    made: MadeLayer | None
    selection: Selection


def base_request(
    suite: str,
    *,
    debug: bool,
    snapshot: str,
    platform: Platform,
    choose: Callable[[Sequence[str]], str],
    archives: Archives,
) -> Request:
    """The packages of a minimal base with a Python.

    `choose` gets the available Python versions and returns one: the pinned version if the base is pinned, else all of
    the suite, newest first. `debug` adds a shell and small tools. `snapshot` is the archive's day, empty for the
    newest. Raises LockError for pins that do not match, DebianError, and what `choose` raises.
    """
    architecture = architecture_of(platform)
    pins = archives.pins()
    base = pins.find("base", architecture)
    # Check suite and snapshot before Python: if they do not match either, this error comes first.
    pins.of("base", suite, architecture, base.requested if base else (), snapshot)
    if base:
        available = [match[1] for name in base.requested if (match := PYTHON.fullmatch(name))]
    else:
        archive = archives.of(suite, architecture, snapshot=snapshot)
        _check_architecture(suite, architecture, archive)
        available = pythons(suite, architecture, archive, archives.cache)
    try:
        python = choose(available)
    except BaseError as error:
        raise stale(pins, error.message) if base else error from None
    return Request(
        purpose="base",
        suite=suite,
        architecture=architecture,
        requested=base_packages(python, debug=debug),
        assume_installed=base_assume_installed(debug=debug),
        snapshot=snapshot,
    )


def platforms_of(suite: str, snapshot: str, archives: Archives) -> list[Platform]:
    """The platforms of a suite's architectures that have a Python, sorted. Raises DebianError."""
    platforms = []
    for name, architecture in ARCHITECTURES.items():
        archive = archives.of(suite, name, snapshot=snapshot)
        if name in _architectures(suite, archive) and pythons(suite, name, archive, archives.cache):
            platforms.append(architecture.platform)
    return sorted(platforms, key=str)


def _architectures(suite: str, archive: Archive) -> set[str]:
    """The architectures that a suite has, and its updates and security updates, too."""
    return set(ARCHITECTURES).intersection(*(archive.release(each).architectures for each in suites_of(suite)))


def _check_architecture(suite: str, architecture: str, archive: Archive) -> None:
    """Raise BaseError for an architecture that a suite does not have."""
    available = _architectures(suite, archive)
    if architecture not in available:
        platforms = sorted(str(ARCHITECTURES[name].platform) for name in available)
        raise BaseError(
            f"Debian {suite} has nothing for {ARCHITECTURES[architecture].platform}, or no security updates; "
            f"it has {', '.join(platforms)}",
            hint="leave this platform out, or set another base",
        )


def python_of(request: Request) -> str:
    """The Python version of a base, such as `3.13`."""
    return next(match[1] for name in request.requested if (match := PYTHON.fullmatch(name)))


def debian_image(request: Request, platform: Platform, archives: Archives) -> WithPackages:
    """Make the base that `base_request` describes. Raises as `provide` does."""
    provided = provide(request, archives)
    if provided.made is None:
        raise PackageError("a base needs at least one package")
    config = ImageConfig(platform=platform, env=_ENV, cmd=("python3",))
    count = len(provided.selection.packages)
    history = History.of_layer(f"Debian {request.suite}, Python {python_of(request)}, {count} packages")
    image = append(Image(config=config), (provided.made.layer,), (history,), config)
    return WithPackages(image=image, made=provided.made, selection=provided.selection)


def packages_request(
    names: Sequence[str],
    *,
    assume_installed: Sequence[str],
    purpose: str,
    suite: str,
    platform: Platform,
    snapshot: str,
) -> Request:
    """Packages to install on top of a Debian image. Requested names are never assumed to be installed.

    Raises BaseError for an unsupported platform.
    """
    return Request(
        purpose=purpose,
        suite=suite,
        architecture=architecture_of(platform),
        requested=tuple(sorted(set(names))),
        assume_installed=tuple(sorted(set(assume_installed) - {name.partition("=")[0] for name in names})),
        snapshot=snapshot,
    )


def with_debian_packages(
    image: Image, request: Request, *, archives: Archives, compression: str, chosen: Selection | None = None
) -> WithPackages:
    """Install what `packages_request` describes on top of `image`. Raises as `provide` does."""
    provided = provide(replace(request, parent=image), archives, chosen=chosen, compression=compression)
    if provided.made is not None:
        history = History.of_layer(", ".join(request.requested))
        image = append(image, (provided.made.layer,), (history,), image.config)
    return WithPackages(image=image, made=provided.made, selection=provided.selection)
