"""Which packages a relation between packages means (Debian policy 7), by name, version, architecture and Provides."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from hatch_docker.debian.control import Alternatives, Relation
from hatch_docker.debian.packages import Package, PackageIndex
from hatch_docker.debian.version import key

_HERE = ("", "any", "native")


def meets(package: Package, relation: Relation) -> bool:
    """Whether the relation means that package, by its own name or by one that it provides.

    A relation with a version is met only by what is provided in a version (policy 7.5). `name:any` means packages that
    say Multi-Arch: allowed. What is for all architectures is for the one that is named.
    """
    if relation.architecture == "any" and package.multi_arch != "allowed":
        return False
    if relation.architecture not in {*_HERE, package.architecture} and package.architecture != "all":
        return False
    if package.name == relation.name and relation.allows(package.version):
        return True
    provided = (each for (each, *_) in package.provides if each.name == relation.name)
    return any(not relation.operator or (each.version and relation.allows(each.version)) for each in provided)


def hostile(package: Package, other: Package) -> bool:
    """Whether one of two packages breaks the other, or conflicts with it."""
    # Nearly all pairs have nothing to do with each other, which is told fast.
    return (not package.refused.isdisjoint(other.names) and _refuses(package, other)) or (
        not other.refused.isdisjoint(package.names) and _refuses(other, package)
    )


def _refuses(package: Package, other: Package) -> bool:
    relations = (relation for field in (package.breaks, package.conflicts) for (relation, *_) in field)
    # Some conflict with themselves of another architecture, which there is nothing of: `libc6-dev-x32:i386`.
    here = {*_HERE, package.architecture, other.architecture}
    return any(relation.architecture in here and meets(other, relation) for relation in relations)


class Candidates:
    """The packages of several indexes for one architecture, the best first, except the names in `assume_installed`."""

    def __init__(
        self, indexes: Sequence[PackageIndex], *, architecture: str, assume_installed: Collection[str] = ()
    ) -> None:
        self._indexes = indexes
        self._architecture = architecture
        self._assume_installed = frozenset(assume_installed)
        self._of: dict[Relation, list[Package]] = {}
        self._named: dict[str, tuple[list[Package], list[Package]]] = {}

    def suites(self) -> str:
        """The indexes as a message calls them."""
        return ", ".join(dict.fromkeys(index.suite for index in self._indexes)) or "the archive"

    def names(self) -> set[str]:
        """The names of all packages."""
        return {name for index in self._indexes for name in index.names()}

    def named(self, name: str) -> list[Package]:
        """The packages of that name, the newest first."""
        return self._find(name)[0]

    def of(self, relation: Relation) -> list[Package]:
        """The packages that the relation means: of that name, the newest first, then what provides it."""
        if relation not in self._of:
            own, providers = self._find(relation.name)
            # `name:i386` is of another architecture, which there is nothing of.
            foreign = relation.architecture not in {*_HERE, self._architecture}
            self._of[relation] = [] if foreign else [each for each in own + providers if meets(each, relation)]
        return self._of[relation]

    def of_any(self, alternatives: Alternatives) -> list[Package]:
        """The packages that any of the alternatives means, in the order of these."""
        if len(alternatives) == 1:
            return self.of(alternatives[0])
        found: dict[tuple[str, str], Package] = {}
        for relation in alternatives:
            for package in self.of(relation):
                found.setdefault((package.name, package.version), package)
        return list(found.values())

    def _find(self, name: str) -> tuple[list[Package], list[Package]]:
        """What has that name, and what provides it."""
        if name not in self._named:
            own = self._usable(package for index in self._indexes for package in index.packages(name))
            providers = self._usable(package for index in self._indexes for package in index.providers(name))
            providers.sort(key=lambda package: package.rank)
            self._named[name] = own, [each for each in providers if each.name != name]
        return self._named[name]

    def _usable(self, packages: Iterable[Package]) -> list[Package]:
        """The newest first; what two indexes have is of the first."""
        found: dict[tuple[str, str], Package] = {}
        for package in packages:
            if package.architecture in {"all", self._architecture} and package.name not in self._assume_installed:
                found.setdefault((package.name, package.version), package)
        return sorted(found.values(), key=lambda package: key(package.version), reverse=True)
