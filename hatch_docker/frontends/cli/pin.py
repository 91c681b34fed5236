"""Choose the Debian packages that an image is made of: pins that fit stay, the others are chosen anew."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from hatch_docker.base.image import Base, open_base
from hatch_docker.base.packages import packages_request_of
from hatch_docker.base.transports import BaseRequest, debian_request
from hatch_docker.compiling.builder import is_another_debian, toolchain_request
from hatch_docker.config import BaseSpec, Compiling, OSPackages
from hatch_docker.dpkg.archives import Archives, architecture_of
from hatch_docker.dpkg.debian_image import debian_image, python_of
from hatch_docker.dpkg.lockfile import FILE, PURPOSES, Pins, Selection
from hatch_docker.dpkg.provide import Request, newest, pinned
from hatch_docker.errors import BaseError, LockError
from hatch_docker.oci.image import Image
from hatch_docker.services import Services
from hatch_docker.support.threads import once


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """The pins that a project has, and those that it should have."""

    before: Pins
    after: Pins

    @property
    def changed(self) -> bool:
        """Whether they differ."""
        return set(self.before.selections) != set(self.after.selections)

    def pairs(self) -> list[tuple[Selection | None, Selection | None]]:
        """The selections before and after, for each purpose and architecture."""
        old, new = (
            {(PURPOSES.index(each.purpose), each.architecture): each for each in pins.selections}
            for pins in (self.before, self.after)
        )
        return [(old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys())]


def pin(
    request: BaseRequest, packages: OSPackages, compiling: Compiling, services: Services, *, upgrade: bool, place: str
) -> Pinned:
    """Choose packages for the base, `runtime-packages` and the builder; pins for other platforms stay.

    Pins that fit stay, unless `upgrade` is set. `place` is that of `runtime-installer`. Only the archive's indexes are
    read, but packages on top of a base need that base. Raises what builds raise for packages that do not exist or do
    not go together.
    """
    pinning = _Pinning(request, compiling, services, upgrade=upgrade)
    pinning.choose_base()
    if packages.runtime_packages:
        spec = request.spec
        if wanted := packages_request_of(pinning.base(), spec, packages, place=place):
            pinning.choose(wanted, lambda: pinning.base().image)
    pinning.choose_toolchain()
    return Pinned(before=pinning.before, after=pinning.pins())


class _Pinning:
    """Chooses packages for one purpose after the other, each on top of what was chosen before."""

    def __init__(self, request: BaseRequest, compiling: Compiling, services: Services, *, upgrade: bool) -> None:
        self._request = request
        self._compiling = compiling
        self._services = services
        self._upgrade = upgrade
        self._base_packages: Request | None = None
        self._selections: list[Selection] = []
        self.before = services.archives.pins()
        self.base = once(self._open_base)

    def pins(self) -> Pins:
        """The selections so far, and the pins for other platforms."""
        try:
            architecture = architecture_of(self._request.platform)
        except BaseError:
            architecture = ""
        others = (each for each in self.before.selections if each.architecture != architecture)
        return Pins(selections=(*others, *self._selections), path=self._services.root / FILE)

    def choose_base(self) -> None:
        """Choose the packages of the base, if it comes from Debian's archive; else those of such a builder."""
        request = self._request
        if request.spec.transport == "debian":
            self._base_packages = self._debian_request(request)
        elif builder := self._builder():
            python = self.base().facts.python.minor
            self._base_packages = self._debian_request(
                BaseRequest(spec=builder, platform=request.platform, python=python)
            )
        if self._base_packages:
            self.choose(self._base_packages)
            # Another base may need other packages on top of it.
            self._upgrade = self._upgrade or self._selections[0] not in self.before.selections

    def choose_toolchain(self) -> None:
        """Choose the packages to compile with, if the builder comes from Debian's archive."""
        base, builder = self._base_packages, self._builder()
        if base and builder:
            platform = self._request.platform
            compiler = BaseRequest(spec=builder, platform=platform, python=python_of(base))
            request = toolchain_request(compiler, self._compiling.build_packages)
            self.choose(request, lambda: debian_image(base, platform, self._pinned()).image)

    def _builder(self) -> BaseSpec | None:
        """The base that wheels are compiled on, if it comes from Debian's archive and can be pinned."""
        base = self._request.spec
        spec = self._compiling.builder or base
        return spec if spec.transport == "debian" and not is_another_debian(base, spec) else None

    def _debian_request(self, request: BaseRequest) -> Request:
        """The packages of a base: with the pinned Python if that fits, else the newest that does."""
        if not self._upgrade:
            with contextlib.suppress(LockError):
                return debian_request(request, self._services.archives)
        return debian_request(request, self._newest())

    def choose(self, request: Request, image: Callable[[], Image] | None = None) -> None:
        """Keep the pins for a request if they fit; else choose, on top of `image` if that is given."""
        old = self.before.find(request.purpose, request.architecture)
        if not self._upgrade and old and self._fits(request):
            self._selections.append(old)
            return
        new = newest(replace(request, parent=image()) if image else request, self._newest())
        self._selections.append(old if old and _contents(old) == _contents(new) else new)

    def _fits(self, request: Request) -> bool:
        try:
            return pinned(request, self._services.archives) is not None
        except LockError:
            return False

    def _newest(self) -> Archives:
        """The archive without pins; for an upgrade, without the indexes that were downloaded before, too."""
        archives = self._services.archives
        return archives.revalidated() if self._upgrade else archives.unpinned()

    def _pinned(self) -> Archives:
        """The archive, pinned to the selections so far."""
        return replace(self._services.archives, pins=self.pins)

    def _open_base(self) -> Base:
        return open_base(self._request, replace(self._services, archives=self._pinned()))


def _contents(selection: Selection) -> tuple[object, ...]:
    """The part of a selection that decides the image, without the time when it was made."""
    packages = [(each.name, each.version, each.sha256) for each in selection.packages]
    return selection.suite, selection.snapshot, selection.requested, packages
