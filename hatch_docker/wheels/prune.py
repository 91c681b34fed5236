"""Choose the files to prune from the environment: a table of rules, and exceptions. No I/O.

Files are kept if the source of an installed module shows a use: test packages that a module, script or entry point of
any wheel uses, and C sources beside a module that names one of them. Metadata is always kept.
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

# A file's path relative to site-packages, its wheel, the test directories that are kept → whether it is needed.
Needed = Callable[[str, WheelFacts, Collection[str]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule: a pattern of paths relative to site-packages, and which of these files are needed."""

    pattern: re.Pattern[str]
    needed: Needed


def _reached(path: str, _facts: WheelFacts, kept: Collection[str]) -> bool:
    return test_directory(path) in kept


def _sourceless(path: str, facts: WheelFacts, _kept: Collection[str]) -> bool:
    """Whether a .pyc is the module itself: outside `__pycache__`, without its source."""
    return "__pycache__/" not in path and path[:-1] not in facts.files


def _named(path: str, facts: WheelFacts, _kept: Collection[str]) -> bool:
    """Whether a module may compile these sources. Those of tests are pruned only with their tests."""
    if test_directory(path):
        return True
    return any(not directory or path.startswith(f"{directory}/") for directory in facts.sources)


RULES: dict[str, Rule] = {
    # Never `test` or `testing`: those are interfaces (django.test, numpy.testing).
    "tests": Rule(pattern=re.compile(r"(?:^|/)tests/"), needed=_reached),
    "caches": Rule(pattern=re.compile(r"(?:^|/)__pycache__/|\.py[co]$"), needed=_sourceless),
    # Also headers, Cython and Fortran, which only compilers read. Not CUDA and OpenCL, which drivers compile.
    "c-sources": Rule(pattern=re.compile(r"\.(?:c|cc|cpp|cxx|h|hh|hpp|hxx|pyx|pxd|pxi|f|f90|for)$"), needed=_named),
    # Not .lib: on Linux it is not a library, but may be data.
    "static-libraries": Rule(pattern=re.compile(r"\.a$"), needed=_named),
}


def members_to_prune(
    wheels: Sequence[WheelFacts], *, prune: Sequence[str] = tuple(RULES), keep: Sequence[str] = ()
) -> list[frozenset[str]]:
    """The members to prune of each wheel, by path in the wheel.

    `prune` has names of rules, and globs as in .gitignore, relative to site-packages, whose files are pruned even if
    they are needed. `keep` has such globs, and names of distributions. All wheels of the image must be given at once:
    any of them may need files of another. Raises ConfigError for a malformed glob.
    """
    rules = [RULES[name] for name in prune if name in RULES]
    globs = _globs("prune", [item for item in prune if item not in RULES])
    names = {canonicalize_name(item) for item in keep} & {facts.key for facts in wheels}
    keep_globs = _globs("keep", [item for item in keep if canonicalize_name(item) not in names])
    protected = [_protected(facts, keep_globs, whole=facts.key in names) for facts in wheels]
    kept = _kept_tests(wheels, protected)
    return [
        frozenset(
            path
            for path in facts.files
            if path not in protected_paths and _prunable(path, facts, rules=rules, globs=globs, kept=kept)
        )
        for facts, protected_paths in zip(wheels, protected, strict=True)
    ]


def _globs(key: str, patterns: Sequence[str]) -> GitIgnoreSpec | None:
    try:
        return GitIgnoreSpec.from_lines(patterns) if patterns else None
    except ValueError as error:
        raise ConfigError([(key, f"a malformed glob: {error}")]) from None


def _protected(facts: WheelFacts, globs: GitIgnoreSpec | None, *, whole: bool) -> Collection[str]:
    """The members that `keep` protects."""
    if whole:
        return facts.files.keys()
    if globs is None:
        return frozenset()
    return frozenset(path for path in facts.files if (place := facts.site_path(path)) and globs.match_file(place))


def _kept_tests(wheels: Sequence[WheelFacts], protected: Sequence[Collection[str]]) -> frozenset[str]:
    """The test directories to keep: those that installed modules use, and those that these use in turn."""
    reaches: dict[str, set[str]] = {}
    for facts in wheels:
        for origin, found in facts.reaches.items():
            reaches.setdefault(origin, set()).update(found)
    waiting = ["", *(directory for facts in wheels for directory in _only_tests(facts))]
    for facts, paths in zip(wheels, protected, strict=True):
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
    """The test directories of a wheel that has modules nowhere else: these are its purpose."""
    directories = {test_directory(facts.site_path(path)) for path in facts.files if _MODULE.search(path)}
    return set() if "" in directories else directories


def _prunable(
    path: str, facts: WheelFacts, *, rules: Iterable[Rule], globs: GitIgnoreSpec | None, kept: Collection[str]
) -> bool:
    headers = f"{facts.data}/headers/"
    place = path[len(facts.data) + 1 :] if path.startswith(headers) else facts.site_path(path)
    if not place or _METADATA.match(place):
        return False
    if globs is not None and globs.match_file(place):
        return True
    return any(rule.pattern.search(place) and not rule.needed(place, facts, kept) for rule in rules)
