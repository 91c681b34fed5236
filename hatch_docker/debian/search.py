"""Search for packages that satisfy all dependencies and do not conflict.

Goals with one solution are decided first. Choices come last, as by then packages chosen for other goals satisfy most of
them. If a choice fails, the search returns to the last choice that contributed to the failure (conflict-directed
backjumping), so an unsatisfiable dependency is found after a few steps instead of after all combinations of choices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator

from hatch_docker.debian.candidates import Candidates, conflicts_with, satisfies
from hatch_docker.debian.control import Alternatives, Relation
from hatch_docker.debian.packages import Package
from hatch_docker.debian.version import compare
from hatch_docker.errors import DependencyError
from hatch_docker.support.dataclasses import dataclass

# Large installations take a few thousand.
_MAX_STEPS = 20_000


@dataclass(frozen=True, slots=True)
class _Goal:
    """Alternatives of which one must be installed, for the package `needed_by`, or for the user if that is empty.

    `because_of` is the package whose choice made this goal necessary again.
    """

    alternatives: Alternatives
    needed_by: str
    because_of: str = ""


@dataclass(frozen=True, slots=True)
class _State:
    """A node of the search.

    `packages` are those installed or chosen, by name. `levels` maps each chosen one to the choices, counted from 1, on
    which it depends, and `parents` to the package that needed it. `forced` goals have at most one solution, `choices`
    several.
    """

    packages: dict[str, Package]
    levels: dict[str, frozenset[int]]
    parents: dict[str, str]
    forced: deque[_Goal]
    choices: deque[_Goal]

    def copy(self) -> _State:
        return _State(
            self.packages.copy(), self.levels.copy(), self.parents.copy(), self.forced.copy(), self.choices.copy()
        )


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a goal cannot be satisfied, and the choices that contributed to it."""

    reason: str
    blamed: frozenset[int]


@dataclass(slots=True)
class _Choice:
    """A goal with several solutions: those not tried yet, the state before the choice, and what failed so far."""

    goal: _Goal
    options: Iterator[Package]
    before: _State
    blamed: set[int]
    reason: str = ""

    def blame(self, failure: _Failure) -> None:
        """Record a failure, with the reason of the first one, as that was the best option."""
        self.blamed |= failure.blamed
        self.reason = self.reason or failure.reason


class Search:
    """A search, which `run` performs. Packages named in `assume_installed` count as installed."""

    def __init__(
        self, candidates: Candidates, *, installed: Iterable[Package], assume_installed: Collection[str]
    ) -> None:
        self._candidates = candidates
        self._installed = {package.name: package for package in installed}
        self._assume_installed = assume_installed
        self._providing: dict[str, list[str]] = {}
        for package in self._installed.values():
            for relation, *_ in package.provides:
                self._providing.setdefault(relation.name, []).append(package.name)
        self._state = _State(dict(self._installed), {}, {}, deque(), deque())
        self._choices: list[_Choice] = []
        self._requested: tuple[Alternatives, ...] = ()
        self._steps = 0

    def run(self, requested: Iterable[Alternatives]) -> list[Package]:
        """The packages to install for the requested ones and all their dependencies, in no order.

        Raises DependencyError, with the chain of dependencies to the first one that could not be satisfied.
        """
        self._requested = tuple(requested)
        for alternatives in self._requested:
            self._add(_Goal(alternatives, ""))
        while self._state.forced or self._state.choices:
            goal = (self._state.forced or self._state.choices).popleft()
            if not self._is_satisfied(goal.alternatives):
                self._satisfy(goal)
        return [self._state.packages[name] for name in self._state.levels]

    def _add(self, goal: _Goal) -> None:
        if self._is_satisfied(goal.alternatives):
            return
        names = {package.name for package in self._options(goal)}
        (self._state.forced if len(names) <= 1 else self._state.choices).append(goal)

    def _is_satisfied(self, alternatives: Alternatives) -> bool:
        return any(
            relation.name in self._assume_installed or any(self._satisfying(relation)) for relation in alternatives
        )

    def _satisfying(self, relation: Relation) -> Iterator[Package]:
        """The installed or chosen packages that satisfy the relation."""
        packages = self._state.packages
        names = [relation.name, *self._providing.get(relation.name, ())]
        names += [each.name for each in self._candidates.of(relation) if each.name in self._state.levels]
        return (packages[name] for name in names if name in packages and satisfies(packages[name], relation))

    def _options(self, goal: _Goal) -> list[Package]:
        """The packages in the archive that satisfy the goal, except those older than an installed one of that name."""
        installed = self._installed
        return [
            each
            for each in self._candidates.of_any(goal.alternatives)
            if each.name not in installed or compare(each.version, installed[each.name].version) > 0
        ]

    def _satisfy(self, goal: _Goal) -> None:
        options = self._options(goal)
        levels = self._levels(goal.needed_by, goal.because_of)
        if len(options) > 1:
            self._choices.append(_Choice(goal, iter(options), self._state.copy(), set(levels)))
            self._choose()
            return
        failure = self._take(options[0], goal, levels) if options else self._failure(goal, self._missing(goal))
        if failure is not None:
            self._go_back(_Failure(failure.reason, failure.blamed | levels))
            self._choose()

    def _go_back(self, failure: _Failure) -> None:
        """Undo the last choice that is blamed and all after it. Raises DependencyError if none is."""
        if not failure.blamed:
            raise DependencyError(failure.reason)
        last = max(failure.blamed)
        del self._choices[last:]
        self._choices[-1].blame(_Failure(failure.reason, failure.blamed - {last}))

    def _choose(self) -> None:
        """Take the next option of the last choice; if all failed, go back further."""
        while True:
            choice, levels = self._choices[-1], frozenset({len(self._choices)})
            for option in choice.options:
                self._state = choice.before.copy()
                failure = self._take(option, choice.goal, levels)
                if failure is None:
                    return
                choice.blame(failure)
            self._go_back(_Failure(choice.reason, frozenset(choice.blamed)))

    def _take(self, package: Package, goal: _Goal, levels: frozenset[int]) -> _Failure | None:
        """Add the package and goals for its dependencies; return a failure if it cannot be installed.

        It may conflict with installed packages that have newer versions: those are upgraded. If it replaces an
        installed version itself, dependencies on that version are checked again (`_repair`).

        For example, `lib 1` is installed, and `app` needs `lib (>= 2)`. Taking `lib 2` replaces `lib 1`. If `lib 2` has
        `Breaks: tool (<< 2)` and `tool 1` is installed, `tool (>> 1)` becomes a goal, which `tool 2` satisfies; it is a
        failure if the archive has no newer `tool`.
        """
        now = self._state
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise DependencyError(
                f"there are too many ways to satisfy the dependencies of {' → '.join(self._chain(goal.needed_by))}"
            )
        replaced = now.packages.get(package.name)
        if package.name in now.levels:
            return self._failure(goal, f"{replaced} is needed too{self._origin(package.name)}", package.name)
        conflicts = [
            each for each in now.packages.values() if each.name != package.name and conflicts_with(package, each)
        ]
        for each in conflicts:
            if each.name in now.levels or not self._options(_newer(each, package.name)):
                return self._failure(goal, f"{package} conflicts with {each}{self._origin(each.name)}", each.name)
        now.packages[package.name], now.levels[package.name] = package, levels
        now.parents[package.name] = goal.needed_by
        for each in conflicts:
            self._add(_newer(each, package.name))
        for alternatives in (*package.pre_depends, *package.depends):
            self._add(_Goal(alternatives, package.name))
        if replaced is not None:
            self._repair(replaced, package)
        return None

    def _repair(self, replaced: Package, package: Package) -> None:
        """Add goals for the dependencies that the replaced package satisfied, and the new one does not.

        For example, `lib 2` replaces `lib 1`, and the installed `tool 1` depends on `lib (<< 2) | compat`. Either a
        newer `tool` or `compat` has to be installed: the goal is `tool (>> 1) | lib (<< 2) | compat`. If `tool` was
        chosen in this search, it stays, and the goal is its dependency alone.
        """
        for alternatives in self._requested:
            self._add(_Goal(alternatives, "", because_of=package.name))
        for each in list(self._state.packages.values()):
            for alternatives in (*each.pre_depends, *each.depends):
                concerned = any(satisfies(replaced, relation) for relation in alternatives)
                if not concerned or self._is_satisfied(alternatives):
                    continue
                if each.name in self._state.levels:
                    self._add(_Goal(alternatives, each.name, because_of=package.name))
                else:
                    self._add(_Goal((*_newer(each, package.name).alternatives, *alternatives), package.name))

    def _failure(self, goal: _Goal, reason: str, *culprits: str) -> _Failure:
        shown = " | ".join(map(str, goal.alternatives)) if goal.needed_by else goal.alternatives[0].name
        chain = [*self._chain(goal.needed_by), shown]
        return _Failure(f"{' → '.join(chain)}: {reason}", self._levels(*culprits))

    def _levels(self, *names: str) -> frozenset[int]:
        """The choices on which these packages depend; none for installed and requested packages."""
        return frozenset(level for name in names for level in self._state.levels.get(name, ()))

    def _chain(self, name: str) -> list[str]:
        chain: list[str] = []
        while name and name not in chain:
            chain.append(name)
            name = self._state.parents.get(name, "")
        return chain[::-1]

    def _origin(self, name: str) -> str:
        """Why a package is installed or chosen, for messages."""
        if name not in self._state.levels:
            return ", which is installed"
        chain = self._chain(name)
        return f" ({' → '.join(chain)})" if len(chain) > 1 else ", which is requested"

    def _missing(self, goal: _Goal) -> str:
        """Why no package satisfies the goal: the installed version, or the versions in the archive."""
        suites = self._candidates.suites()
        for relation in goal.alternatives:
            if relation.name in self._installed:
                return f"{self._installed[relation.name]} is installed, and {suites} has no newer version that fits"
            if others := self._candidates.named(relation.name):
                fits = any(relation.allows(each.version) for each in others)
                return f"{suites} has {others[0]}{', but not for that architecture' if fits else ''}"
        return f"not in {suites}"


def _newer(package: Package, needed_by: str) -> _Goal:
    """The goal to upgrade an installed package, for the package `needed_by`."""
    return _Goal((Relation(name=package.name, operator=">>", version=package.version),), needed_by)
