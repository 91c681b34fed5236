"""Which packages of Debian's archive a few of them need: what apt does without its recommendations."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from hatch_docker.debian.candidates import Candidates, meets
from hatch_docker.debian.control import NAME, Alternatives, Relation
from hatch_docker.debian.packages import Package, PackageIndex
from hatch_docker.debian.search import Search
from hatch_docker.debian.version import compare, key
from hatch_docker.errors import DependencyError

_ROOT = re.compile(rf"({NAME.pattern})(?:=(\S+))?")
_SHOWN = 3


def resolve(
    requested: Iterable[str],
    indexes: Sequence[PackageIndex],
    *,
    architecture: str,
    installed: Iterable[Package] = (),
    assume_installed: Collection[str] = (),
) -> list[Package]:
    """The packages to install so that `requested` (`name` or `name=version`) are there, each after what it depends on.

    The newest version over all indexes is taken, of equal ones the first index's; alternatives in the order that they
    are written in, but rather what is there anyway. What is `installed` stays, also where the archive has a newer one,
    unless that is asked for or needed: then a package of the same name is in the result. Dependencies on the names in
    `assume_installed` count as met, and no package of these names is chosen; essential packages are not assumed to be
    installed. The result does not depend on the order of `requested`.

    Raises DependencyError for unknown names, all of them at once, and for dependencies that cannot be met; DebianError
    for an index that is not as Debian policy says.
    """
    candidates = Candidates(indexes, architecture=architecture, assume_installed=assume_installed)
    there = list(installed)
    relations = [_root(text) for text in sorted(set(requested))]
    problems = [problem for each in relations if (problem := _problem(each, candidates, there, assume_installed))]
    if problems:
        raise DependencyError("\n  ".join(problems))
    wanted = [_wanted(each, candidates, there) for each in relations]
    found = Search(candidates, installed=there, assume_installed=assume_installed).run(wanted)
    return _ordered({package.name: package for package in found})


def _root(text: str) -> Relation:
    found = _ROOT.fullmatch(text)
    if found is None:
        raise DependencyError(f"{text[:80]!r} is not the name of a Debian package", hint="write NAME or NAME=VERSION")
    name, version = found.groups("")
    if version:
        key(version)
    return Relation(name=name, operator="=" if version else "", version=version)


def _wanted(root: Relation, candidates: Candidates, installed: Iterable[Package]) -> Alternatives:
    """What is asked for, as apt takes it: a package of that name itself where there is one, and brought up to date."""
    if root.operator:
        return (root,)
    versions = [each.version for each in candidates.named(root.name)]
    there = [each.version for each in installed if each.name == root.name]
    if there:
        versions = versions[:1] if versions and compare(versions[0], there[0]) > 0 else there
    return tuple(Relation(name=root.name, operator="=", version=each) for each in versions) or (root,)


def _problem(
    root: Relation, candidates: Candidates, installed: Iterable[Package], assume_installed: Collection[str]
) -> str:
    """Why that package cannot be asked for; empty where it can."""
    if root.name in assume_installed:
        return f"{root.name!r} is both asked for and left out"
    if any(meets(each, root) for each in installed):
        return ""
    if candidates.of(root):
        providers = sorted({each.name for each in candidates.of(root)} - {root.name})
        if len(providers) > 1 and not candidates.named(root.name):
            return f"{root.name!r} is provided by several packages: name one of {', '.join(providers)}"
        return ""
    if others := candidates.named(root.name):
        versions = ", ".join(each.version for each in others[:_SHOWN])
        return f"there is no {root.name!r} of version {root.version}; {candidates.suites()} has {versions}"
    near = difflib.get_close_matches(root.name, sorted(candidates.names()), n=_SHOWN, cutoff=0.6)
    similar = f"; similar are {', '.join(near)}" if near else ""
    return f"there is no package {root.name!r} in {candidates.suites()}{similar}"


def _ordered(packages: Mapping[str, Package]) -> list[Package]:
    """Each after what it depends on, as far as that does not go round in circles, which Pre-Depends never do."""
    providing: dict[str, list[str]] = {}
    for package in packages.values():
        for name in package.names:
            providing.setdefault(name, []).append(package.name)

    def before(fields: Iterable[Alternatives]) -> Iterator[str]:
        for relation in (relation for wanted in fields for relation in wanted):
            for name in providing.get(relation.name, ()):
                if meets(packages[name], relation):
                    yield name

    whole = _after(sorted(packages), lambda name: before((*packages[name].pre_depends, *packages[name].depends)))
    return [packages[name] for name in _after(whole, lambda name: before(packages[name].pre_depends))]


def _after(names: Iterable[str], before: Callable[[str], Iterator[str]]) -> list[str]:
    """The names depth-first, each after those `before` it."""
    done: list[str] = []
    seen: set[str] = set()
    for root in names:
        path = [] if root in seen else [(root, before(root))]
        seen.add(root)
        while path:
            name = next((each for each in path[-1][1] if each not in seen), None)
            if name is None:
                done.append(path.pop()[0])
            else:
                seen.add(name)
                path.append((name, before(name)))
    return done
