"""A base image out of Debian's archive: the packages that a Python needs, with nothing to install more of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hatch_docker.dpkg.archives import Archives, architecture_of
from hatch_docker.dpkg.lockfile import Selection, stale
from hatch_docker.dpkg.provide import Request, provide, pythons
from hatch_docker.dpkg.roots import PYTHON, base_roots, base_without
from hatch_docker.errors import BaseError, PackageError
from hatch_docker.oci.config import History, ImageConfig
from hatch_docker.oci.image import Image, append
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.oci.spec import Platform

_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WithPackages:
    """An image, and the packages that were put into it: their layer, None where it had them all, and which they are."""

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
    """What a minimal Debian is made of, with the Python that `choose` takes of those that there are, newest first.

    These are the one that is pinned, else those that the suite has. `debug` adds a shell and the small tools;
    `snapshot` is the archive's day, empty for the newest. Raises LockError for pins of something else, BaseError as
    `choose` does for what the suite has, and DebianError.
    """
    architecture = architecture_of(platform)
    pins = archives.pins()
    found = pins.find("base", architecture)
    # Whether its Python fits is a question only where the rest does.
    pins.of("base", suite, architecture, found.roots if found else (), snapshot)
    try:
        python = choose(
            [each[1] for name in found.roots if (each := PYTHON.fullmatch(name))]
            if found
            else pythons(suite, architecture, archives.of(suite, architecture, snapshot=snapshot), archives.cache)
        )
    except BaseError as error:
        raise stale(pins, error.message) if found else error from None
    return Request(
        purpose="base",
        suite=suite,
        architecture=architecture,
        roots=base_roots(python, debug=debug),
        without=base_without(debug=debug),
        snapshot=snapshot,
    )


def python_of(request: Request) -> str:
    """The Python of a base, as `3.13`."""
    return next(found[1] for name in request.roots if (found := PYTHON.fullmatch(name)))


def debian_image(request: Request, platform: Platform, archives: Archives) -> WithPackages:
    """A base of what `base_request` says. Raises as `provide` does."""
    provided = provide(request, archives)
    if provided.made is None:
        raise PackageError("a base of no packages is none")
    config = ImageConfig(platform=platform, env=_ENV, cmd=("python3",))
    many = len(provided.selection.packages)
    said = f"hatch-docker: Debian {request.suite}, Python {python_of(request)}, {many} packages"
    image = append(Image(config=config), (provided.made.layer,), (History(created_by=said),), config)
    return WithPackages(image=image, made=provided.made, selection=provided.selection)


def packages_request(
    names: Sequence[str], *, without: Sequence[str], purpose: str, suite: str, platform: Platform, snapshot: str
) -> Request:
    """What more packages on an image of Debian's are, which are not to bring those in `without`.

    Raises BaseError for a platform that Debian has no packages for.
    """
    return Request(
        purpose=purpose,
        suite=suite,
        architecture=architecture_of(platform),
        roots=tuple(sorted(set(names))),
        without=tuple(sorted(set(without) - {name.partition("=")[0] for name in names})),
        snapshot=snapshot,
    )


def with_debian_packages(image: Image, request: Request, *, archives: Archives, compression: str) -> WithPackages:
    """An image with what `packages_request` says. Raises as `provide` does."""
    provided = provide(replace(request, below=image), archives, compression=compression)
    if provided.made is not None:
        history = History(created_by=f"hatch-docker: {', '.join(request.roots)}"[:200])
        image = append(image, (provided.made.layer,), (history,), image.config)
    return WithPackages(image=image, made=provided.made, selection=provided.selection)
