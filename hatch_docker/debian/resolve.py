"""Resolve dependencies in the Debian archive, as apt does without recommended packages."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from hatch_docker.debian.candidates import Candidates, satisfies
from hatch_docker.debian.control import NAME, Alternatives, Relation
from hatch_docker.debian.packages import Package, PackageIndex
from hatch_docker.debian.search import Search
from hatch_docker.debian.version import compare, key
from hatch_docker.errors import DependencyError
from hatch_docker.support.patterns import regex

_REQUESTED = regex(rf"({NAME.pattern})(?:=(\S+))?")
_SHOWN = 3


def resolve(
    requested: Iterable[str],
    indexes: Sequence[PackageIndex],
    *,
    architecture: str,
    installed: Iterable[Package] = (),
    assume_installed: Collection[str] = (),
) -> list[Package]:
    """The packages to install for `requested` (`name` or `name=version`), each after its dependencies.

    The newest version in all indexes is chosen, of equal versions the one in the first index. Alternatives are tried in
    their order, but packages that are installed or chosen anyway come first. Installed packages are upgraded only if
    they are requested, or if a dependency needs it. Dependencies on the names in `assume_installed` count as satisfied,
    and no package of these names is chosen. Essential packages are not assumed to be installed. The result does not
    depend on the order of `requested`.

    Raises DependencyError for unknown names, all of them at once, and for dependencies that cannot be satisfied;
    DebianError for an invalid index.
    """
    candidates = Candidates(indexes, architecture=architecture, assume_installed=assume_installed)
    installed = list(installed)
    relations = [_relation(text) for text in sorted(set(requested))]
    problems = [problem for each in relations if (problem := _problem(each, candidates, installed, assume_installed))]
    if problems:
        raise DependencyError("\n  ".join(problems))
    goals = [_alternatives(each, candidates, installed) for each in relations]
    packages = Search(candidates, installed=installed, assume_installed=assume_installed).run(goals)
    return _ordered({package.name: package for package in packages})


def _relation(text: str) -> Relation:
    match = _REQUESTED.fullmatch(text)
    if match is None:
        raise DependencyError(f"{text[:80]!r} is not the name of a Debian package", hint="write NAME or NAME=VERSION")
    name, version = match.groups("")
    if version:
        key(version)
    return Relation(name=name, operator="=" if version else "", version=version)


def _alternatives(requested: Relation, candidates: Candidates, installed: Iterable[Package]) -> Alternatives:
    """What a request stands for, as in apt: a package of that name itself if current is one, upgraded if installed."""
    if requested.operator:
        return (requested,)
    versions = [each.version for each in candidates.named(requested.name)]
    current = [each.version for each in installed if each.name == requested.name]
    if current:
        versions = versions[:1] if versions and compare(versions[0], current[0]) > 0 else current
    return tuple(Relation(name=requested.name, operator="=", version=each) for each in versions) or (requested,)


def _problem(
    requested: Relation, candidates: Candidates, installed: Iterable[Package], assume_installed: Collection[str]
) -> str:
    """Why a package cannot be requested; empty if it can."""
    if requested.name in assume_installed:
        return f"{requested.name!r} is requested, but this image leaves it out"
    if any(satisfies(each, requested) for each in installed):
        return ""
    if candidates.of(requested):
        providers = sorted({each.name for each in candidates.of(requested)} - {requested.name})
        if len(providers) > 1 and not candidates.named(requested.name):
            return f"{requested.name!r} is provided by several packages: name one of {', '.join(providers)}"
        return ""
    if others := candidates.named(requested.name):
        versions = ", ".join(each.version for each in others[:_SHOWN])
        return f"there is no version {requested.version} of {requested.name!r}; {candidates.suites()} has {versions}"
    near = difflib.get_close_matches(requested.name, sorted(candidates.names()), n=_SHOWN, cutoff=0.6)
    similar = f"; similar are {', '.join(near)}" if near else ""
    return f"there is no package {requested.name!r} in {candidates.suites()}{similar}"


def _ordered(packages: Mapping[str, Package]) -> list[Package]:
    """Each package after its dependencies. Depends may be circular; Pre-Depends never are, and always hold."""
    providing: dict[str, list[str]] = {}
    for package in packages.values():
        for name in package.names:
            providing.setdefault(name, []).append(package.name)

    def before(fields: Iterable[Alternatives]) -> Iterator[str]:
        for relation in (relation for alternatives in fields for relation in alternatives):
            for name in providing.get(relation.name, ()):
                if satisfies(packages[name], relation):
                    yield name

    whole = _after(sorted(packages), lambda name: before((*packages[name].pre_depends, *packages[name].depends)))
    return [packages[name] for name in _after(whole, lambda name: before(packages[name].pre_depends))]


def _after(names: Iterable[str], before: Callable[[str], Iterator[str]]) -> list[str]:
    """The names in depth-first order, each after those that `before` yields for it."""
    done: list[str] = []
    seen: set[str] = set()
    for start in names:
        path = [] if start in seen else [(start, before(start))]
        seen.add(start)
        while path:
            name = next((each for each in path[-1][1] if each not in seen), None)
            if name is None:
                done.append(path.pop()[0])
            else:
                seen.add(name)
                path.append((name, before(name)))
    return done
