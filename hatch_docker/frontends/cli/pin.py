"""Which packages out of Debian's archive a project's image is made of: those pinned where they fit, else the newest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from hatch_docker.base.image import Base
from hatch_docker.base.transports import debian_request
from hatch_docker.compiling.builder import is_another_debian, toolchain_request
from hatch_docker.config import BaseSpec, Config
from hatch_docker.dpkg.archives import Archives, architecture_of
from hatch_docker.dpkg.debian_image import debian_image, python_of
from hatch_docker.dpkg.lockfile import FILE, PURPOSES, Pins, Selection
from hatch_docker.dpkg.provide import Request, newest, pinned
from hatch_docker.errors import BaseError, LockError
from hatch_docker.oci.image import Image
from hatch_docker.plan import base_of, runtime_request
from hatch_docker.project.model import Project
from hatch_docker.services import Machine
from hatch_docker.support.threads import once


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """The pins that a project has, and those that it should have; `base` opens its base as these have it."""

    before: Pins
    after: Pins
    base: Callable[[], Base]

    @property
    def changed(self) -> bool:
        """Whether they are not the same."""
        return set(self.before.selections) != set(self.after.selections)

    def pairs(self) -> list[tuple[Selection | None, Selection | None]]:
        """What there was and what there should be, for each purpose and architecture of either."""
        old, new = (
            {(PURPOSES.index(each.purpose), each.architecture): each for each in pins.selections}
            for pins in (self.before, self.after)
        )
        return [(old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys())]


def pin(project: Project, config: Config, machine: Machine, *, anew: bool) -> Pinned:
    """Choose what is not pinned or does not fit, and if `anew` whatever is for the image's platform.

    What is pinned for other platforms stays. Only the archive's indexes are read, but that what goes on a base takes
    the base itself. Raises what builds raise for packages that there are not, or that do not go together.
    """
    pinning = _Pinning(project, config, machine, anew=anew)
    pinning.base_packages()
    pinning.runtime_packages()
    pinning.builder_packages()
    return Pinned(before=pinning.before, after=pinning.pins(), base=pinning.base)


class _Pinning:
    """Chooses for one purpose after the other, each on what was chosen before."""

    def __init__(self, project: Project, config: Config, machine: Machine, *, anew: bool) -> None:
        self._project = project
        self._config = config
        self._machine = machine
        self._platform = next(iter(config.platforms), machine.platform)
        self._anew = anew
        self._asked: Request | None = None
        self._found: list[Selection] = []
        self.before = machine.places.archives.pins()
        self.base = once(self._open_base)

    def pins(self) -> Pins:
        """What is chosen by now, and what is pinned for other platforms."""
        try:
            architecture = architecture_of(self._platform)
        except BaseError:
            architecture = ""
        others = (each for each in self.before.selections if each.architecture != architecture)
        return Pins(selections=(*others, *self._found), path=self._project.root / FILE)

    def base_packages(self) -> None:
        """The base, where it is out of Debian's archive; else that of the builder."""
        config = self._config
        if config.base.transport == "debian":
            self._asked = self._request(config.base, config.python, self._project.requires_python)
        elif builder := self._builder():
            self._asked = self._request(builder, self.base().facts.python.minor, "")
        if self._asked:
            self._choose(self._asked)
            # What goes on another base now may need other packages.
            self._anew = self._anew or self._found[0] not in self.before.selections

    def runtime_packages(self) -> None:
        """What the image gets besides, where that comes out of Debian's archive."""
        if self._config.runtime_packages and (request := runtime_request(self.base(), self._config)):
            self._choose(request, lambda: self.base().image)

    def builder_packages(self) -> None:
        """What is compiled with, where the builder is out of Debian's archive."""
        asked, builder = self._asked, self._builder()
        if asked and builder:
            request = toolchain_request(builder, python_of(asked), self._config.build_packages, self._platform)
            self._choose(request, lambda: debian_image(asked, self._platform, self._pinned()).image)

    def _builder(self) -> BaseSpec | None:
        """The base that wheels are compiled on, where that is out of Debian's archive and can be pinned."""
        spec = self._config.builder or self._config.base
        return spec if spec.transport == "debian" and not is_another_debian(self._config.base, spec) else None

    def _request(self, spec: BaseSpec, python: str, requires_python: str) -> Request:
        """What a base is made of: with the Python that is pinned where that fits, else the newest that does."""
        asked = partial(debian_request, spec, python=python, requires_python=requires_python, platform=self._platform)
        if not self._anew:
            with contextlib.suppress(LockError):
                return asked(archives=self._machine.places.archives)
        return asked(archives=self._newest())

    def _choose(self, request: Request, image: Callable[[], Image] | None = None) -> None:
        """Keep what is pinned for a purpose, where it fits; else choose, for what is on an `image` on that."""
        old = self.before.find(request.purpose, request.architecture)
        if not self._anew and old and self._fits(request):
            self._found.append(old)
            return
        new = newest(replace(request, parent=image()) if image else request, self._newest())
        self._found.append(old if old and _contents(old) == _contents(new) else new)

    def _fits(self, request: Request) -> bool:
        try:
            return pinned(request, self._machine.places.archives) is not None
        except LockError:
            return False

    def _newest(self) -> Archives:
        """The archive without pins, as it is at this moment where that is asked for."""
        archives = self._machine.places.archives
        return archives.revalidated() if self._anew else archives.unpinned()

    def _pinned(self) -> Archives:
        """The archive with what is chosen by now as its pins."""
        return replace(self._machine.places.archives, pins=self.pins)

    def _open_base(self) -> Base:
        places = replace(self._machine.places, archives=self._pinned())
        return base_of(self._project.requires_python, self._config, replace(self._machine, places=places))


def _contents(selection: Selection) -> tuple[object, ...]:
    """What makes the image: when packages were chosen does not."""
    packages = [(each.name, each.version, each.sha256) for each in selection.packages]
    return selection.suite, selection.snapshot, selection.requested, packages
