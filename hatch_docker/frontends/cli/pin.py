"""Choose the Debian packages that an image is made of: pins that fit stay, the others are chosen anew."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

from hatch_docker.base.image import Base, open_base
from hatch_docker.base.init import has_no_init, init_request_of
from hatch_docker.base.packages import packages_request_of, plan_packages
from hatch_docker.base.transports import BaseRequest, debian_request, locate
from hatch_docker.compiling.builder import is_another_debian, toolchain_request
from hatch_docker.config import BaseSpec, Compiling, Config, OSPackages
from hatch_docker.dpkg.architectures import ARCHITECTURES
from hatch_docker.dpkg.archives import Archives, architecture_of
from hatch_docker.dpkg.debian_image import debian_image, python_of
from hatch_docker.dpkg.lockfile import FILE, PURPOSES, Pins, Selection
from hatch_docker.dpkg.provide import Request, newest, pinned
from hatch_docker.errors import BaseError, LockError
from hatch_docker.oci.image import Image
from hatch_docker.oci.spec import Platform
from hatch_docker.services import Services
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.progress import Progress
from hatch_docker.support.several import for_each
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
    request: BaseRequest,
    platforms: Sequence[Platform],
    config: Config,
    services: Services,
    *,
    upgrade: bool,
) -> Pinned:
    """Choose packages for the base, `runtime-packages`, `init` and the builder; pins for other than `platforms` stay.

    Pins that fit stay, unless `upgrade` is set. Those of a purpose are chosen anew for all platforms or for none, so
    that these are of one date. Only the archive's indexes are read, but packages on top of a base need that base.
    Raises what builds raise for packages that do not exist or do not go together.
    """
    pinning = _Pinning(request, platforms, config.compiling, services, upgrade=upgrade)
    pinning.choose_base()
    if config.os_packages.runtime_packages:
        pinning.choose_runtime_packages(config.os_packages, place=config.place("runtime-installer"))
    if config.runtime.init:
        pinning.choose_init(config.os_packages, place=config.place("runtime-installer"))
    pinning.choose_toolchain()
    return Pinned(before=pinning.before, after=pinning.pins())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Packages for one purpose and platform, on top of `image` if that is given."""

    request: Request
    image: Callable[[], Image] | None = None


class _Pinning:
    """Chooses packages for one purpose after the other, each on top of what was chosen before."""

    def __init__(
        self,
        request: BaseRequest,
        platforms: Sequence[Platform],
        compiling: Compiling,
        services: Services,
        *,
        upgrade: bool,
    ) -> None:
        self._request = request
        self._compiling = compiling
        self._services = services
        self._upgrade = upgrade
        self._platforms = {str(each): each for each in platforms}
        self._base_packages: dict[Platform, Request] = {}
        self._selections: list[Selection] = []
        self.before = services.archives.pins()
        self._source = once(lambda: locate(request, self._pinned()))
        self._bases = {each: once(partial(self._open_base, each)) for each in platforms}

    def pins(self) -> Pins:
        """The selections so far, and the pins for other platforms."""
        architectures = set()
        for platform in self._platforms.values():
            with contextlib.suppress(BaseError):
                architectures.add(architecture_of(platform))
        others = (each for each in self.before.selections if each.architecture not in architectures)
        return Pins(selections=(*others, *self._selections), path=self._services.root / FILE)

    def choose_base(self) -> None:
        """Choose the packages of the base, if it comes from Debian's archive; else those of such a builder."""
        found = for_each(self._platforms, self._base_request, self._services.progress)
        self._base_packages = {
            platform: request for platform, request in zip(self._platforms.values(), found, strict=True) if request
        }
        self.choose([_Wanted(request=request) for request in self._base_packages.values()])
        # Another base may need other packages on top of it.
        self._upgrade = self._upgrade or not set(self._selections) <= set(self.before.selections)

    def choose_runtime_packages(self, packages: OSPackages, *, place: str) -> None:
        """Choose the packages that images get on top of their base. `place` is that of `runtime-installer`."""
        wanted = []
        for platform in self._platforms.values():
            base = self._bases[platform]
            if request := packages_request_of(base(), self._request.spec, packages, place=place):
                wanted.append(_Wanted(request=request, image=lambda base=base: base().image))  # type: ignore[misc]
        self.choose(wanted)

    def choose_init(self, packages: OSPackages, *, place: str) -> None:
        """Choose the package of the init process, for images that do not have one. `place` is as above."""
        wanted, services, spec = [], self._pinned(), self._request.spec
        for platform in self._platforms.values():
            base = self._bases[platform]()
            planned = plan_packages(base, spec, packages, services, place=place)
            if has_no_init(base, planned, services):
                wanted.append(_Wanted(request=init_request_of(base, spec)))
        self.choose(wanted)

    def choose_toolchain(self) -> None:
        """Choose the packages to compile with, if the builder comes from Debian's archive."""
        builder = self._builder()
        wanted = []
        for platform, base in self._base_packages.items() if builder else ():
            compiler = BaseRequest(spec=builder or self._request.spec, platform=platform, python=python_of(base))
            wanted.append(
                _Wanted(
                    request=toolchain_request(compiler, self._compiling.build_packages),
                    image=partial(self._bare_image, base, platform),
                )
            )
        self.choose(wanted)

    def _bare_image(self, base: Request, platform: Platform) -> Image:
        return debian_image(base, platform, self._pinned().archives).image

    def _builder(self) -> BaseSpec | None:
        """The base that wheels are compiled on, if it comes from Debian's archive and can be pinned."""
        base = self._request.spec
        spec = self._compiling.builder or base
        return spec if spec.transport == "debian" and not is_another_debian(base, spec) else None

    def _base_request(self, platform: Platform, _progress: Progress) -> Request | None:
        """The packages of a base or builder: with the pinned Python if that fits, else the newest that does."""
        request = replace(self._request, platform=platform)
        if request.spec.transport != "debian":
            builder = self._builder()
            if builder is None:
                return None
            request = BaseRequest(spec=builder, platform=platform, python=self._bases[platform]().facts.python.minor)
        if not self._upgrade:
            with contextlib.suppress(LockError):
                return debian_request(request, self._services.archives)
        return debian_request(request, self._newest())

    def choose(self, wanted: Sequence[_Wanted]) -> None:
        """Keep the pins for a purpose if they fit and are of one date; else choose them anew, for all platforms."""
        old = [self.before.find(each.request.purpose, each.request.architecture) for each in wanted]
        dates = {(each.snapshot, each.dated) for each in old if each}
        if not self._upgrade and all(old) and len(dates) == 1 and all(self._fits(each.request) for each in wanted):
            self._selections += filter(None, old)
            return
        named = {str(ARCHITECTURES[each.request.architecture].platform): each for each in wanted}
        new = for_each(named, lambda each, _: self._chosen(each), self._services.progress) if named else []
        same = len(dates) == 1 and [each and _contents(each) for each in old] == [_contents(each) for each in new]
        self._selections += filter(None, old) if same else new

    def _chosen(self, wanted: _Wanted) -> Selection:
        request = wanted.request
        return newest(replace(request, parent=wanted.image()) if wanted.image else request, self._newest())

    def _fits(self, request: Request) -> bool:
        try:
            return pinned(request, self._services.archives) is not None
        except LockError:
            return False

    def _newest(self) -> Archives:
        """The archive without pins; for an upgrade, without the indexes that were downloaded before, too."""
        archives = self._services.archives
        return archives.revalidated() if self._upgrade else archives.unpinned()

    def _pinned(self) -> Services:
        """The services with the archive pinned to the selections so far."""
        return replace(self._services, archives=replace(self._services.archives, pins=self.pins))

    def _open_base(self, platform: Platform) -> Base:
        return open_base(replace(self._request, platform=platform), self._pinned(), self._source())


def _contents(selection: Selection) -> tuple[object, ...]:
    """The part of a selection that decides the image, without the time when it was made."""
    packages = [(each.name, each.version, each.sha256) for each in selection.packages]
    return selection.suite, selection.snapshot, selection.requested, packages
