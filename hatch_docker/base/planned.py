"""What an image gets on top of its base, as a plan has it: values, without what chooses and adds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hatch_docker.support.dataclasses import dataclass, field

if TYPE_CHECKING:
    from hatch_docker.debian.packages import Package
    from hatch_docker.dpkg.lockfile import Selection
    from hatch_docker.dpkg.provide import Request
    from hatch_docker.support.certificates import Certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPackages:
    """The packages that an image gets.

    `request` and `selection` are set if they are unpacked from Debian's archive; otherwise an engine installs them, and
    their versions are known only then.
    """

    names: tuple[str, ...] = ()
    request: Request | None = None
    selection: Selection | None = None

    @property
    def by_engine(self) -> bool:
        """Whether an engine installs them."""
        return bool(self.names) and self.request is None

    @property
    def have_layer(self) -> bool:
        """Whether they add a layer: not if the base has all of them already."""
        return bool(self.selection.packages if self.selection else self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedInit:
    """The `package` with the init process, in its selection, and the request that these were chosen for.

    `status` is whether scanners find it where they look for Debian's packages.
    """

    request: Request
    selection: Selection
    package: Package
    status: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFiles:
    """The init process and the certificates; their layer is made only if there is something."""

    init: PlannedInit | None = None
    certificates: Certificates | None = None

    def __bool__(self) -> bool:
        return bool(self.init or self.certificates)

    @property
    def contents(self) -> tuple[str, ...]:
        """Display names of what the layer has."""
        names = []
        if self.init:
            names.append(f"{self.init.package.name} {self.init.package.version}")
        if self.certificates:
            count = len(self.certificates.texts)
            names.append(f"{count} certificate{'s' if count != 1 else ''} of {self.certificates.name}")
        return tuple(names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """The additions of an image: `pruned` are the members of LEFTOVERS that it loses."""

    pruned: tuple[str, ...] = ()
    packages: PlannedPackages = field(default_factory=PlannedPackages)
    system: SystemFiles = field(default_factory=SystemFiles)

    @property
    def layers(self) -> int:
        """The number of their layers."""
        return bool(self.pruned) + self.packages.have_layer + bool(self.system)
