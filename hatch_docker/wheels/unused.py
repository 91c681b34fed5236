"""Tell which test suites nothing in an image uses, from the facts of all its wheels. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from hatch_docker.wheels.facts import WheelFacts
from hatch_docker.wheels.findings import Uses, folders_named, folders_with, of_tests, test_directory

# Programs that find and run tests by themselves: with one of them, any suite may be used, as by numpy.test().
RUNNERS = ("pytest", "nose", "nose2")


def unused_suites(
    wheels: Sequence[WheelFacts], kept: Sequence[Collection[str]], own: Collection[str], used: Uses
) -> dict[str, frozenset[str]]:
    """The suites of which something is unused, by folder: the unused modules, or none of them if all files are.

    `kept` are the members of each wheel that stay in any case, `own` are the keys of the user's own wheels, and `used`
    is what files outside of the wheels use.
    """
    if any(runner in names for names in map(_modules, wheels) for runner in RUNNERS):
        return {}
    found: dict[str, list[str]] = {}
    stay: set[str] = set()
    whole: dict[str, bool] = {}
    tests: dict[str, list[str]] = {}
    loading: set[str] = set()
    for facts, kept_paths in zip(wheels, kept, strict=True):
        for path in facts.files:
            place = facts.site_path(path)
            if folder := test_directory(place):
                found.setdefault(folder, []).append(place)
                if folder not in facts.suites or (path in kept_paths and path.endswith(".py")):
                    stay.add(folder)
        for folder, suite in facts.suites.items():
            whole[folder] = whole.get(folder, True) and suite.whole
            tests.setdefault(folder, []).extend(suite.tests)
            loading.update({folder} if suite.loads else ())
    search = _Search({folder: paths for folder, paths in found.items() if folder not in stay}, loading)
    search.hold(stay)
    search.touch(folder for folder, is_whole in whole.items() if not is_whole)
    search.use([used])
    theirs = Uses.joined([used, *(facts.uses[""] for facts in wheels if facts.key in own and "" in facts.uses)])
    search.hold(
        folder
        for folder in folders_with(theirs.holds, (path for each in found.values() for path in each))
        if folder not in stay
    )
    search.hold(folders_named(theirs.loads, search.folders))
    search.follow(wheels)
    left = {folder: frozenset[str]() for folder in search.folders if folder not in search.held}
    touched = {folder: frozenset(tests[folder]) for folder in left if folder in search.touched}
    return {folder: each for folder, each in (left | touched).items() if each or folder not in touched}


def _modules(facts: WheelFacts) -> set[str]:
    """The names of the top-level modules and packages of a wheel."""
    return {facts.site_path(path).partition("/")[0].removesuffix(".py") for path in facts.files}


class _Search:
    """Finds the suites in `folders`, given with their files, that are used: `held` as they are, or `touched`.

    Those that are `loading` their tests cannot be without them: what touches them holds them.
    """

    def __init__(self, folders: Mapping[str, Iterable[str]], loading: Collection[str]) -> None:
        self.folders = folders
        self._loading = loading
        self.held: set[str] = set()
        self.touched: set[str] = set()
        self._origins = [""]
        self._within: dict[str, list[str]] = {}
        for folder in folders:
            parts = folder.split("/")
            for depth in range(1, len(parts) + 1):
                self._within.setdefault("/".join(parts[:depth]), []).append(folder)
        self._touches: set[str] = set()

    def follow(self, wheels: Sequence[WheelFacts]) -> None:
        """Take what the modules outside of tests use, and those in the suites that are used, until nothing is new."""
        while self._origins:
            origins, self._origins = self._origins, []
            self.use([facts.uses[origin] for origin in origins for facts in wheels if origin in facts.uses])

    def use(self, several: Iterable[Uses]) -> None:
        """Take what some modules use."""
        listed = list(several)
        for each in listed:
            self.touch(folders_named(each.names, self.folders))
        uses = Uses.joined(listed)
        self.hold(folder for name in uses.holds for folder in self._within.pop(name, ()))
        self.touch(folder for name in uses.touches - self._touches for folder in self._within.get(name, ()))
        self._touches |= uses.touches

    def hold(self, folders: Iterable[str]) -> None:
        """Let folders stay as they are."""
        for folder in folders:
            if folder not in self.held:
                self.held.add(folder)
                self._origins += [of_tests(folder)] if folder in self.touched else [folder, of_tests(folder)]

    def touch(self, folders: Iterable[str]) -> None:
        """Let all but the modules of tests stay."""
        for folder in folders:
            if folder in self._loading:
                self.hold([folder])
            elif folder not in self.held and folder not in self.touched:
                self.touched.add(folder)
                self._origins.append(folder)
