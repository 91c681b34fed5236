"""The search for packages that meet all dependencies and do not conflict.

What has only one solution is decided first, and choices among alternatives last, when most of them are met by what is
there anyway. Where a choice turns out wrong, the search goes back to the last choice that had a part in it (conflict
directed backjumping), so what is missing is found out after some steps and not after all combinations of choices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from hatch_docker.debian.candidates import Candidates, hostile, meets
from hatch_docker.debian.control import Alternatives, Relation
from hatch_docker.debian.packages import Package
from hatch_docker.debian.version import compare
from hatch_docker.errors import DependencyError

# Large installations of Debian take some thousand.
_MOST_STEPS = 20_000


@dataclass(frozen=True, slots=True)
class _Goal:
    """Alternatives of which one is wanted, by the package of that name; it is empty for what was asked for.

    `since` is another package without which they would not be wanted.
    """

    wanted: Alternatives
    by: str
    since: str = ""


@dataclass(frozen=True, slots=True)
class _State:
    """What is there, what of it was chosen, by whom it is wanted, and what is still to be met.

    `levels` has after which choices, counted from 1, each was chosen.
    """

    there: dict[str, Package]
    levels: dict[str, frozenset[int]]
    parents: dict[str, str]
    forced: deque[_Goal]
    choices: deque[_Goal]

    def copy(self) -> _State:
        return _State(
            self.there.copy(), self.levels.copy(), self.parents.copy(), self.forced.copy(), self.choices.copy()
        )


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a goal cannot be met, and which choices had a part in that."""

    why: str
    blamed: frozenset[int]


@dataclass(slots=True)
class _Choice:
    """A goal that several packages meet: those not yet tried, the state before, and what failed of it so far."""

    goal: _Goal
    options: Iterator[Package]
    before: _State
    blamed: set[int]
    why: str = ""

    def blame(self, failure: _Failure) -> None:
        """Keep the first reason: what comes after the best option says less."""
        self.blamed |= failure.blamed
        self.why = self.why or failure.why


class Search:
    """One search, done by `run`. `installed` is there already, the names in `assume_installed` are taken for there."""

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
        self._now = _State(dict(self._installed), {}, {}, deque(), deque())
        self._choices: list[_Choice] = []
        self._roots: tuple[Alternatives, ...] = ()
        self._steps = 0

    def run(self, roots: Iterable[Alternatives]) -> list[Package]:
        """What has to be installed so that all roots are, with all that they depend on, in no order.

        Raises DependencyError, with the chain of dependencies to the first that could not be met.
        """
        self._roots = tuple(roots)
        for wanted in self._roots:
            self._want(_Goal(wanted, ""))
        while self._now.forced or self._now.choices:
            goal = (self._now.forced or self._now.choices).popleft()
            if not self._met(goal.wanted):
                self._meet(goal)
        return [self._now.there[name] for name in self._now.levels]

    def _want(self, goal: _Goal) -> None:
        if self._met(goal.wanted):
            return
        names = {package.name for package in self._options(goal)}
        (self._now.forced if len(names) <= 1 else self._now.choices).append(goal)

    def _met(self, wanted: Alternatives) -> bool:
        return any(relation.name in self._assume_installed or any(self._meeting(relation)) for relation in wanted)

    def _meeting(self, relation: Relation) -> Iterator[Package]:
        """What is there and meets the relation."""
        there = self._now.there
        names = [relation.name, *self._providing.get(relation.name, ())]
        names += [each.name for each in self._candidates.of(relation) if each.name in self._now.levels]
        return (there[name] for name in names if name in there and meets(there[name], relation))

    def _options(self, goal: _Goal) -> list[Package]:
        """What meets the goal and is newer than what is installed of that name."""
        installed = self._installed
        return [
            each
            for each in self._candidates.of_any(goal.wanted)
            if each.name not in installed or compare(each.version, installed[each.name].version) > 0
        ]

    def _meet(self, goal: _Goal) -> None:
        options = self._options(goal)
        levels = self._levels(goal.by, goal.since)
        if len(options) > 1:
            self._choices.append(_Choice(goal, iter(options), self._now.copy(), set(levels)))
            self._choose()
            return
        failure = self._take(options[0], goal, levels) if options else self._failure(goal, self._missing(goal))
        if failure is not None:
            self._go_back(_Failure(failure.why, failure.blamed | levels))
            self._choose()

    def _go_back(self, failure: _Failure) -> None:
        """Undo all choices after the last one that is blamed. Raises DependencyError where none is."""
        if not failure.blamed:
            raise DependencyError(failure.why)
        last = max(failure.blamed)
        del self._choices[last:]
        self._choices[-1].blame(_Failure(failure.why, failure.blamed - {last}))

    def _choose(self) -> None:
        """Take the next option of the last choice; where there is none, go back further."""
        while True:
            choice, levels = self._choices[-1], frozenset({len(self._choices)})
            for option in choice.options:
                self._now = choice.before.copy()
                failure = self._take(option, choice.goal, levels)
                if failure is None:
                    return
                choice.blame(failure)
            self._go_back(_Failure(choice.why, frozenset(choice.blamed)))

    def _take(self, package: Package, goal: _Goal, levels: frozenset[int]) -> _Failure | None:
        """Have the package there, and want what it depends on; or tell why it cannot be there."""
        now = self._now
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise DependencyError(
                f"there are too many ways to meet the dependencies of {' → '.join(self._chain(goal.by))}"
            )
        replaced = now.there.get(package.name)
        if package.name in now.levels:
            return self._failure(goal, f"{replaced} is wanted too{self._by(package.name)}", package.name)
        clashes = [each for each in now.there.values() if each.name != package.name and hostile(package, each)]
        for each in clashes:
            if each.name in now.levels or not self._options(_newer(each, package.name)):
                return self._failure(goal, f"{package} conflicts with {each}{self._by(each.name)}", each.name)
        now.there[package.name], now.levels[package.name], now.parents[package.name] = package, levels, goal.by
        for each in clashes:
            self._want(_newer(each, package.name))
        for wanted in (*package.pre_depends, *package.depends):
            self._want(_Goal(wanted, package.name))
        if replaced is not None:
            self._repair(replaced, package)
        return None

    def _repair(self, replaced: Package, package: Package) -> None:
        """Want anew what the installed package met and the one in its place does not."""
        for wanted in self._roots:
            self._want(_Goal(wanted, "", since=package.name))
        for each in list(self._now.there.values()):
            for wanted in (*each.pre_depends, *each.depends):
                if not any(meets(replaced, relation) for relation in wanted) or self._met(wanted):
                    continue
                if each.name in self._now.levels:
                    self._want(_Goal(wanted, each.name, since=package.name))
                else:
                    self._want(_Goal((*_newer(each, package.name).wanted, *wanted), package.name))

    def _failure(self, goal: _Goal, why: str, *culprits: str) -> _Failure:
        wanted = " | ".join(map(str, goal.wanted)) if goal.by else goal.wanted[0].name
        chain = [*self._chain(goal.by), wanted]
        return _Failure(f"{' → '.join(chain)}: {why}", self._levels(*culprits))

    def _levels(self, *names: str) -> frozenset[int]:
        """The choices after which these packages were chosen; none for what is installed or was asked for."""
        return frozenset(level for name in names for level in self._now.levels.get(name, ()))

    def _chain(self, name: str) -> list[str]:
        chain: list[str] = []
        while name and name not in chain:
            chain.append(name)
            name = self._now.parents.get(name, "")
        return chain[::-1]

    def _by(self, name: str) -> str:
        """Whose dependency something that is there is, as a message says it."""
        if name not in self._now.levels:
            return ", which is installed"
        chain = self._chain(name)
        return f" ({' → '.join(chain)})" if len(chain) > 1 else ", which was asked for"

    def _missing(self, goal: _Goal) -> str:
        """Why nothing meets the goal: what is installed, or what else the archive has of that name."""
        suites = self._candidates.suites()
        for relation in goal.wanted:
            if relation.name in self._installed:
                return f"{self._installed[relation.name]} is installed, and {suites} has nothing newer that fits"
            if others := self._candidates.named(relation.name):
                fits = any(relation.allows(each.version) for each in others)
                return f"{suites} has {others[0]}{', but not for that architecture' if fits else ''}"
        return f"not in {suites}"


def _newer(package: Package, by: str) -> _Goal:
    """That an installed package gives way to a newer one."""
    return _Goal((Relation(name=package.name, operator=">>", version=package.version),), by)
