"""What is left out of the environment: a table of rules, and what spares a file from them. Pure.

Nothing is pruned that something installed needs, as far as its source tells: metadata, test packages that a module,
a script or an entry point of any wheel reaches into, and C sources beside a module that names one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from packaging.utils import canonicalize_name
from pathspec import GitIgnoreSpec

from hatch_docker.errors import ConfigError
from hatch_docker.wheels.facts import WheelFacts
from hatch_docker.wheels.scan import test_directory

_METADATA = re.compile(r"[^/]+\.(?:dist|egg)-info(?:/|$)")
_MODULE = re.compile(r"\.(?:py|pyc|so|pyd)$")

# A file's path below site-packages, the wheel it is of, the test directories that stay → whether it is needed.
Needed = Callable[[str, WheelFacts, Collection[str]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Files by their path below site-packages, and which of them stay all the same."""

    pattern: re.Pattern[str]
    needed: Needed


def _reached(path: str, _facts: WheelFacts, kept: Collection[str]) -> bool:
    return test_directory(path) in kept


def _sourceless(path: str, facts: WheelFacts, _kept: Collection[str]) -> bool:
    """A .pyc outside of `__pycache__` without its source is the module itself."""
    return "__pycache__/" not in path and path[:-1] not in facts.files


def _named(path: str, facts: WheelFacts, _kept: Collection[str]) -> bool:
    """Sources that a module compiles; those of tests go or stay with their tests."""
    if test_directory(path):
        return True
    return any(not directory or path.startswith(f"{directory}/") for directory in facts.sources)


RULES: dict[str, Rule] = {
    # Never `test` or `testing`: those are interfaces (django.test, numpy.testing).
    "tests": Rule(pattern=re.compile(r"(?:^|/)tests/"), needed=_reached),
    "caches": Rule(pattern=re.compile(r"(?:^|/)__pycache__/|\.py[co]$"), needed=_sourceless),
    # Headers, Cython and Fortran too: only a compiler reads them. Not CUDA's or OpenCL's: drivers compile those.
    "c-sources": Rule(pattern=re.compile(r"\.(?:c|cc|cpp|cxx|h|hh|hpp|hxx|pyx|pxd|pxi|f|f90|for)$"), needed=_named),
    # Not .lib: on Linux that is nobody's library, but may be somebody's data.
    "static-libraries": Rule(pattern=re.compile(r"\.a$"), needed=_named),
}


def plan(
    wheels: Sequence[WheelFacts], *, prune: Sequence[str] = tuple(RULES), keep: Sequence[str] = ()
) -> list[frozenset[str]]:
    """For each wheel the members (by their path in the wheel) that are left out of the environment.

    `prune` names rules; what is no rule is a glob, as .gitignore has them, relative to site-packages, and goes whatever
    needs it. `keep` has such globs, and names of distributions. All the wheels of the image have to be given at once:
    any of them may need what another one brings. Raises ConfigError for a malformed glob.
    """
    rules = [RULES[name] for name in prune if name in RULES]
    unwanted = _globs("prune", [item for item in prune if item not in RULES])
    names = {canonicalize_name(item) for item in keep} & {facts.key for facts in wheels}
    wanted = _globs("keep", [item for item in keep if canonicalize_name(item) not in names])
    spared = [_spared(facts, wanted, whole=facts.key in names) for facts in wheels]
    kept = _kept_tests(wheels, spared)
    return [
        frozenset(
            path
            for path in facts.files
            if path not in stays and _prunable(path, facts, rules=rules, unwanted=unwanted, kept=kept)
        )
        for facts, stays in zip(wheels, spared, strict=True)
    ]


def _globs(key: str, patterns: Sequence[str]) -> GitIgnoreSpec | None:
    try:
        return GitIgnoreSpec.from_lines(patterns) if patterns else None
    except ValueError as error:
        raise ConfigError([(key, f"a malformed glob: {error}")]) from None


def _spared(facts: WheelFacts, wanted: GitIgnoreSpec | None, *, whole: bool) -> Collection[str]:
    if whole:
        return facts.files.keys()
    if wanted is None:
        return frozenset()
    return frozenset(path for path in facts.files if (place := facts.site_path(path)) and wanted.match_file(place))


def _kept_tests(wheels: Sequence[WheelFacts], spared: Sequence[Collection[str]]) -> frozenset[str]:
    """The test directories that stay: those that are reached into, and those that these reach into in turn."""
    reaches: dict[str, set[str]] = {}
    for facts in wheels:
        for origin, found in facts.reaches.items():
            reaches.setdefault(origin, set()).update(found)
    waiting = ["", *(directory for facts in wheels for directory in _only_tests(facts))]
    for facts, paths in zip(wheels, spared, strict=True):
        origins = {test_directory(facts.site_path(path)) for path in paths if path.endswith(".py")}
        waiting.extend(directory for origin in origins for directory in reaches.get(origin, ()))
    kept: set[str] = set()
    while waiting:
        origin = waiting.pop()
        if origin not in kept:
            kept.add(origin)
            waiting.extend(reaches.get(origin, ()))
    return frozenset(kept)


def _only_tests(facts: WheelFacts) -> set[str]:
    """The test directories of a wheel that has modules nowhere else: they are what it is for."""
    directories = {test_directory(facts.site_path(path)) for path in facts.files if _MODULE.search(path)}
    return set() if "" in directories else directories


def _prunable(
    path: str, facts: WheelFacts, *, rules: Iterable[Rule], unwanted: GitIgnoreSpec | None, kept: Collection[str]
) -> bool:
    headers = f"{facts.data}/headers/"
    place = path[len(facts.data) + 1 :] if path.startswith(headers) else facts.site_path(path)
    if not place or _METADATA.match(place):
        return False
    if unwanted is not None and unwanted.match_file(place):
        return True
    return any(rule.pattern.search(place) and not rule.needed(place, facts, kept) for rule in rules)
