"""A base image out of Debian's archive: the packages that a Python needs, with nothing to install more of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hatch_docker.errors import PackageError
from hatch_docker.layercache import MadeLayer
from hatch_docker.oci.config import History, ImageConfig
from hatch_docker.oci.image import Image, append
from hatch_docker.oci.spec import Platform
from hatch_docker.system.archives import Archives, architecture_of
from hatch_docker.system.pins import Selection
from hatch_docker.system.provide import Request, provide, pythons
from hatch_docker.system.roots import PYTHON, base_roots, base_without

_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WithPackages:
    """An image, and the packages that were put into it: their layer, None where it had them all, and which they are."""

    image: Image
    made: MadeLayer | None
    selection: Selection


def debian_image(
    suite: str,
    *,
    debug: bool,
    snapshot: str,
    platform: Platform,
    choose: Callable[[Sequence[str]], str],
    archives: Archives,
) -> WithPackages:
    """A minimal Debian with the Python that `choose` takes of those that the suite has, given newest first.

    `debug` adds a shell and the small tools; `snapshot` is the archive's day, empty for the newest. Raises as
    `provide` does.
    """
    architecture = architecture_of(platform)
    pinned = archives.pins().find("base", architecture)
    if pinned:
        there = [found[1] for name in pinned.roots if (found := PYTHON.fullmatch(name))]
    else:
        there = pythons(suite, architecture, archives.of(suite, architecture, snapshot=snapshot), archives.cache)
    python = choose(there)
    request = Request(
        purpose="base",
        suite=suite,
        architecture=architecture,
        roots=base_roots(python, debug=debug),
        without=base_without(debug=debug),
        snapshot=snapshot,
    )
    provided = provide(request, archives)
    if provided.made is None:
        raise PackageError("a base of no packages is none")
    config = ImageConfig(platform=platform, env=_ENV, cmd=("python3",))
    said = f"hatch-docker: Debian {suite}, Python {python}, {len(provided.selection.packages)} packages"
    image = append(Image(config=config), (provided.made.layer,), (History(created_by=said),), config)
    return WithPackages(image=image, made=provided.made, selection=provided.selection)


def with_debian_packages(
    image: Image,
    names: Sequence[str],
    *,
    without: Sequence[str],
    purpose: str,
    suite: str,
    snapshot: str,
    archives: Archives,
    compression: str,
) -> WithPackages:
    """More packages on an image of Debian's, which are not to bring those in `without`. Raises as `provide` does."""
    request = Request(
        purpose=purpose,
        suite=suite,
        architecture=architecture_of(image.config.platform),
        roots=tuple(sorted(set(names))),
        without=tuple(sorted(set(without) - {name.partition("=")[0] for name in names})),
        snapshot=snapshot,
        below=image,
    )
    provided = provide(request, archives, compression=compression)
    if provided.made is not None:
        history = History(created_by=f"hatch-docker: {', '.join(request.roots)}"[:200])
        image = append(image, (provided.made.layer,), (history,), image.config)
    return WithPackages(image=image, made=provided.made, selection=provided.selection)
