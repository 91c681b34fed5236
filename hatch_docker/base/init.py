"""Choose the package that gives an image its init process, unless the base has one."""

from __future__ import annotations

from hatch_docker.base.image import Base, files_of, suite_of
from hatch_docker.base.planned import PlannedInit, PlannedPackages
from hatch_docker.base.transports import locate_errors
from hatch_docker.config import SUITE, BaseSpec
from hatch_docker.debian.suites import CODENAMES
from hatch_docker.dpkg.provide import Request
from hatch_docker.dpkg.tini import PACKAGE, PROGRAM, choose_init, init_request, package_of
from hatch_docker.errors import DebianError, NetworkError
from hatch_docker.services import Services


def plan_init(base: Base, spec: BaseSpec, packages: PlannedPackages, services: Services) -> PlannedInit | None:
    """The init process that an image gets; None if the base or its OS packages have it already.

    Raises as `dpkg.provide` does, and BaseError for a platform that Debian does not have.
    """
    if not has_no_init(base, packages, services):
        return None
    request = init_request_of(base, spec)
    try:
        selection = choose_init(request, services.archives)
    except (DebianError, NetworkError) as error:
        error.add_hint(f"init takes {PACKAGE} from Debian's archive; without init, there is: docker run --init")
        raise
    return PlannedInit(
        request=request, selection=selection, package=package_of(selection), status=bool(suite_of(base, spec))
    )


def has_no_init(base: Base, packages: PlannedPackages, services: Services) -> bool:
    """Whether neither the base nor its OS packages have the init process. Raises ImageError for a broken base."""
    with locate_errors(base.name):
        program = files_of(base.image, services.cache, services.threads).get(PROGRAM)
    if program is not None and program.kind == "file" and program.mode & 0o111:
        return False
    named = {name.partition("=")[0] for name in packages.names} if base.facts.suite else set()
    selected = {each.name for each in packages.selection.packages} if packages.selection else set()
    return PACKAGE not in named | selected


def init_request_of(base: Base, spec: BaseSpec) -> Request:
    """The request for the init process: of the base's release of Debian, else of the newest stable one."""
    suite = suite_of(base, spec)
    image = base.image if base.facts.suite else None
    return init_request(
        suite if suite in CODENAMES else SUITE, base.image.config.platform, snapshot=spec.date, apt_sources=image
    )
