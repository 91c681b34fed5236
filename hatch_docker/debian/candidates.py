"""Find the packages that satisfy a relation (Debian policy 7), by name, version, architecture and Provides."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from hatch_docker.debian.control import Alternatives, Relation
from hatch_docker.debian.packages import Package, PackageIndex
from hatch_docker.debian.version import key

# Qualifiers that mean packages of the own architecture.
_OWN = ("", "any", "native")


def satisfies(package: Package, relation: Relation) -> bool:
    """Whether a package satisfies a relation, by its own name or by one in its Provides.

    A relation with a version is satisfied only by a versioned Provides (policy 7.5), and `name:any` only by packages
    with Multi-Arch: allowed. Packages of architecture `all` satisfy relations to any named architecture.
    """
    if relation.architecture == "any" and package.multi_arch != "allowed":
        return False
    if relation.architecture not in {*_OWN, package.architecture} and package.architecture != "all":
        return False
    if package.name == relation.name and relation.allows(package.version):
        return True
    provided = (each for (each, *_) in package.provides if each.name == relation.name)
    return any(not relation.operator or (each.version and relation.allows(each.version)) for each in provided)


def conflicts_with(package: Package, other: Package) -> bool:
    """Whether one of two packages has the other in its Breaks or Conflicts."""
    # Comparing names is fast, and decides for almost all pairs.
    return (not package.conflict_names.isdisjoint(other.names) and _excludes(package, other)) or (
        not other.conflict_names.isdisjoint(package.names) and _excludes(other, package)
    )


def _excludes(package: Package, other: Package) -> bool:
    relations = (relation for field in (package.breaks, package.conflicts) for (relation, *_) in field)
    # Relations to other architectures are irrelevant, such as `libc6-dev-x32:i386`.
    qualifiers = {*_OWN, package.architecture, other.architecture}
    return any(relation.architecture in qualifiers and satisfies(other, relation) for relation in relations)


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
        """The suites of the indexes, for messages."""
        return ", ".join(dict.fromkeys(index.suite for index in self._indexes)) or "the archive"

    def names(self) -> set[str]:
        """The names of all packages."""
        return {name for index in self._indexes for name in index.names()}

    def named(self, name: str) -> list[Package]:
        """The packages of that name, newest first."""
        return self._find(name)[0]

    def of(self, relation: Relation) -> list[Package]:
        """The packages that satisfy the relation: those of that name, newest first, then those that provide it."""
        if relation not in self._of:
            own, providers = self._find(relation.name)
            # No index has packages of another architecture, as in `name:i386`.
            foreign = relation.architecture not in {*_OWN, self._architecture}
            self._of[relation] = [] if foreign else [each for each in own + providers if satisfies(each, relation)]
        return self._of[relation]

    def of_any(self, alternatives: Alternatives) -> list[Package]:
        """The packages that satisfy any of the alternatives, in the order of the alternatives."""
        if len(alternatives) == 1:
            return self.of(alternatives[0])
        packages: dict[tuple[str, str], Package] = {}
        for relation in alternatives:
            for package in self.of(relation):
                packages.setdefault((package.name, package.version), package)
        return list(packages.values())

    def _find(self, name: str) -> tuple[list[Package], list[Package]]:
        """The packages of that name, and those that provide it."""
        if name not in self._named:
            own = self._usable(package for index in self._indexes for package in index.packages(name))
            providers = self._usable(package for index in self._indexes for package in index.providers(name))
            providers.sort(key=lambda package: package.rank)
            self._named[name] = own, [each for each in providers if each.name != name]
        return self._named[name]

    def _usable(self, packages: Iterable[Package]) -> list[Package]:
        """Packages for the architecture, newest first; of equal versions the one in the first index."""
        usable: dict[tuple[str, str], Package] = {}
        for package in packages:
            if package.architecture in {"all", self._architecture} and package.name not in self._assume_installed:
                usable.setdefault((package.name, package.version), package)
        return sorted(usable.values(), key=lambda package: key(package.version), reverse=True)
