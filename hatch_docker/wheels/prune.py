"""Choose the files to prune from the environment: a table of rules, and exceptions. No I/O.

A file is pruned if it can be told from the wheels that nothing uses it at run time; what cannot be told stays. Nothing
is pruned from the user's own wheels. Metadata is always kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set

from packaging.utils import canonicalize_name
from pathspec import GitIgnoreSpec

from hatch_docker.errors import ConfigError
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex
from hatch_docker.wheels.facts import WheelFacts
from hatch_docker.wheels.findings import NO_USES, Uses, test_directory
from hatch_docker.wheels.sources import STATIC, is_quoted
from hatch_docker.wheels.unused import unused_suites

# How files are reported that a glob of `prune` matches.
BY_GLOB = "globs"

_CACHE = regex(r"(?:^|/)__pycache__/")
_METADATA = regex(r"[^/]+\.(?:dist|egg)-info(?:/|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What rules know of a wheel: its facts, its paths relative to site-packages, the suites to prune, and the sources
    that other wheels name.
    """

    facts: WheelFacts
    places: Collection[str]
    suites: Mapping[str, Collection[str]]
    sources: Set[str]


# A file's path relative to site-packages, its wheel → whether it is pruned.
Rule = Callable[[str, _View], bool]


def _in_suite(path: str, view: _View) -> bool:
    folder = test_directory(path)
    tests = view.suites.get(folder) if folder else None
    return tests is not None and (not tests or path in tests)


def _is_cache(path: str, view: _View) -> bool:
    """Bytecode, unless it is the module itself: outside `__pycache__`, without its source."""
    return bool(_CACHE.search(path)) or (path.endswith((".pyc", ".pyo")) and path[:-1] in view.places)


def _is_source(path: str, view: _View) -> bool:
    return path in view.facts.built and not path.endswith(STATIC) and not is_quoted(path, view.sources)


def _is_static(path: str, view: _View) -> bool:
    return path in view.facts.built and path.endswith(STATIC) and not is_quoted(path, view.sources)


RULES: dict[str, Rule] = {
    "tests": _in_suite,
    "caches": _is_cache,
    "c-sources": _is_source,
    "static-libraries": _is_static,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """What to prune: names of rules, and globs as in .gitignore, relative to site-packages.

    Globs in `prune` remove files even if they are used. `keep` has exceptions, as such globs, and names of
    distributions. `used` is what the image's files outside of wheels use.
    """

    prune: Sequence[str] = tuple(RULES)
    keep: Sequence[str] = ()
    used: Uses = NO_USES


def members_to_prune(
    wheels: Sequence[WheelFacts], pruning: Pruning, *, own: Collection[str] = ()
) -> list[dict[str, str]]:
    """The members to prune of each wheel, by path in the wheel, each with its rule, or BY_GLOB.

    All wheels of the image must be given at once: any of them may use files of another. `own` has the keys of the
    user's own wheels, of which everything stays. Raises ConfigError for a malformed glob.
    """
    prune, keep = pruning.prune, pruning.keep
    rules = {name: RULES[name] for name in RULES if name in prune}
    globs = _globs("prune", [item for item in prune if item not in RULES])
    names = {canonicalize_name(item) for item in keep} & {facts.key for facts in wheels}
    keep_globs = _globs("keep", [item for item in keep if canonicalize_name(item) not in names])
    whole = names | set(own)
    kept = [facts.files.keys() if facts.key in whole else _kept(facts, keep_globs) for facts in wheels]
    suites = unused_suites(wheels, kept, own, pruning.used) if "tests" in rules else {}
    sources = _sources(wheels, own, pruning.used)
    return [
        dict(_pruned(_view(facts, suites, sources), rules, globs, kept_paths))
        for facts, kept_paths in zip(wheels, kept, strict=True)
    ]


def _globs(key: str, patterns: Sequence[str]) -> GitIgnoreSpec | None:
    try:
        return GitIgnoreSpec.from_lines(patterns) if patterns else None
    except ValueError as error:
        raise ConfigError([(key, f"a malformed glob: {error}")]) from None


def _kept(facts: WheelFacts, globs: GitIgnoreSpec | None) -> Collection[str]:
    """The members that globs of `keep` protect."""
    if globs is None:
        return frozenset()
    return frozenset(path for path in facts.files if (place := facts.site_path(path)) and globs.match_file(place))


def _sources(wheels: Sequence[WheelFacts], own: Collection[str], used: Uses) -> Set[str]:
    """The sources that any wheel names; suffixes alone count in the user's own."""
    theirs = [used, *(uses for facts in wheels if facts.key in own for uses in facts.uses.values())]
    named = Uses.joined(uses for facts in wheels for uses in facts.uses.values()).sources
    return {each for each in named if not each.startswith(".")} | Uses.joined(theirs).sources


def _view(facts: WheelFacts, suites: Mapping[str, Collection[str]], sources: Set[str]) -> _View:
    return _View(facts=facts, places=set(map(facts.site_path, facts.files)), suites=suites, sources=sources)


def _pruned(
    view: _View, rules: Mapping[str, Rule], globs: GitIgnoreSpec | None, kept: Collection[str]
) -> Iterator[tuple[str, str]]:
    headers = f"{view.facts.data}/headers/"
    for path in view.facts.files:
        place = view.facts.site_path(path)
        named = path[len(view.facts.data) + 1 :] if path.startswith(headers) else place
        if not named or path in kept or _METADATA.match(named):
            continue
        found = (name for name, rule in rules.items() if place and rule(place, view))
        by_glob = BY_GLOB if globs is not None and globs.match_file(named) else ""
        if rule := next(found, by_glob):
            yield path, rule
