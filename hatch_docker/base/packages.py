"""The OS packages that an image gets on top of its base: planned first, added when the image is built.

On a Debian base they are unpacked from Debian's archive, unless `runtime-installer` is `engine`. In that case, and on
any other base, the base's own package manager installs them in a container.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hatch_docker.base.image import Base, facts_of, suite_of
from hatch_docker.base.planned import PlannedPackages
from hatch_docker.config import BaseSpec, OSPackages
from hatch_docker.dpkg.debian_image import packages_request, with_debian_packages
from hatch_docker.dpkg.package_sets import ASSUME_INSTALLED
from hatch_docker.dpkg.provide import Request, cached_layer, choose
from hatch_docker.errors import DebianError, DependencyError, PackageError
from hatch_docker.oci.config import History
from hatch_docker.oci.image import Image, append
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.os_packages.install import InstallOptions, cached_install, install
from hatch_docker.services import Services
from hatch_docker.support.dataclasses import replace


def plan_packages(
    base: Base, spec: BaseSpec, options: OSPackages, services: Services, *, place: str
) -> PlannedPackages:
    """Choose the packages of `runtime-packages`; `place` is that of `runtime-installer`. Downloads indexes, no package.

    Raises PackageError if they cannot be installed in the configured way, DependencyError, DebianError and LockError as
    `dpkg.provide` does.
    """
    names = options.runtime_packages
    request = packages_request_of(base, spec, options, place=place)
    if request is None:
        return PlannedPackages(names=names)
    with _alternative(spec):
        selection = choose(replace(request, parent=base.image), services.archives)
    return PlannedPackages(names=names, request=request, selection=selection)


def packages_request_of(base: Base, spec: BaseSpec, options: OSPackages, *, place: str) -> Request | None:
    """The request to Debian's archive for `runtime-packages`; None without packages, or if an engine installs them.

    Raises PackageError if they cannot be installed in the configured way.
    """
    if not options.runtime_packages or not _from_archive(base, spec, options.runtime_installer, place):
        return None
    return packages_request(
        options.runtime_packages,
        assume_installed=ASSUME_INSTALLED if spec.transport == "debian" else (),
        purpose="runtime-packages",
        suite=suite_of(base, spec),
        platform=base.image.config.platform,
        snapshot=spec.date,
    )


def _from_archive(base: Base, spec: BaseSpec, installer: str, place: str) -> bool:
    """Whether packages are unpacked from Debian's archive. Raises PackageError as `packages_request_of` does."""
    if installer == "archive" and not suite_of(base, spec):
        raise PackageError(
            f"{base.name} is not a Debian release, and has no packages in Debian's archive",
            place=place,
            hint='remove it: then the image\'s own package manager installs them; or set base = "slim"',
        )
    if installer == "engine" and spec.transport == "debian":
        raise PackageError(
            f"{base.name} has no package manager that an engine could run",
            place=place,
            hint='remove it: then packages are unpacked without an engine; or set base = "slim"',
        )
    return installer != "engine" and bool(suite_of(base, spec))


def add_packages(
    base: Base,
    planned: PlannedPackages,
    *,
    spec: BaseSpec,
    compression: str,
    services: Services,
    inside: Image | None = None,
) -> tuple[Base, list[MadeLayer]]:
    """The base with the facts that its packages change, and their layer.

    An engine installs them in a container of the image `inside`, by default of the base. Raises PackageError,
    DependencyError and DebianError for packages that cannot be installed, EngineError if an engine is needed and none
    answers.
    """
    if not planned.names:
        return base, []
    if planned.request is None:
        options = _options(base, planned, compression)
        made: MadeLayer | None = (layer := install(inside or base.merged, options, services.installer).made)
        history = History.of_layer(options.summary)
        image = append(base.merged, (layer.layer,), (history,), base.merged.config)
        selections = base.selections
    else:
        with _alternative(spec):
            added = with_debian_packages(
                base.merged,
                planned.request,
                archives=services.archives,
                compression=compression,
                chosen=planned.selection,
            )
        if added.made is None:
            services.progress.note(f"{base.name} has {', '.join(planned.names)} already")
        image, made, selections = added.image, added.made, (*base.selections, added.selection)
    facts = facts_of(image, services.cache, services.threads, services.kept)
    return replace(base, facts=facts, selections=selections, grown=image), [made] if made else []


def _options(base: Base, planned: PlannedPackages, compression: str) -> InstallOptions:
    return InstallOptions(names=planned.names, label=base.name, log="runtime-packages", compression=compression)


def cached_packages_layer(
    base: Base, planned: PlannedPackages, compression: str, services: Services, *, inside: Image | None = None
) -> MadeLayer | None:
    """The layer that `add_packages` would use, if it is cached."""
    if planned.request is None or planned.selection is None:
        return cached_install(inside or base.merged, _options(base, planned, compression), services.cache)
    request = replace(planned.request, parent=base.merged)
    return cached_layer(request, planned.selection, services.cache, compression=compression)


@contextlib.contextmanager
def _alternative(spec: BaseSpec) -> Iterator[None]:
    """Add the hint that the base's own apt may install packages that cannot be unpacked."""
    try:
        yield
    except DependencyError:
        # apt finds no other packages.
        raise
    except (PackageError, DebianError) as error:
        way = 'runtime-installer = "engine": the base\'s own apt installs them, in a container'
        small = 'base = "slim" has a shell and the small tools'
        error.add_hint(f"{small}, and there is {way}" if spec.transport == "debian" else f"there is also {way}")
        raise
