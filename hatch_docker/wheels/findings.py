"""What is found in the modules of a wheel, as values that are cached with its facts.

Paths are relative to site-packages. A test folder is one named `tests`; if they are nested, the outermost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

from hatch_docker.support.dataclasses import dataclass

# In front of a path below some folder of tests, wherever that is.
ANYWHERE = "*/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uses:
    """What modules use. Each item of `holds` and `touches` is a folder, for all test folders in it.

    `holds` are the folders whose tests stay as they are, or `*/tests/…`: the beginning of a path in a test folder of
    the same wheel, or of any if the wheel is the user's own.
    `touches` are those of which some file may be used, but no test module: their modules look at the folder, or may
    reach it from theirs.
    `names` are all that modules name, import or are in that name `tests` alone: they touch a test folder if its package
    and its top-level package are among these. `loads` are those of modules that may load a test module: they hold such
    a folder of the same wheel, or of any if the wheel is the user's own. `demo/` holds all that are in `demo`.
    `sources` are the sources and static libraries that modules name (`sources.quoted`).
    """

    holds: frozenset[str] = frozenset()
    touches: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    loads: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()

    @classmethod
    def joined(cls, several: Iterable[Uses]) -> Uses:
        """All uses of several modules."""
        listed = list(several)
        return cls(**{name: frozenset().union(*(getattr(each, name) for each in listed)) for name in USES})

    def to_json(self) -> dict[str, list[str]]:
        """A JSON object that `from_json` reads."""
        return {each: sorted(getattr(self, each)) for each in USES if getattr(self, each)}

    @classmethod
    def from_json(cls, document: Mapping[str, Iterable[str]]) -> Uses:
        """The inverse of `to_json`; raises TypeError for anything else."""
        return cls(**{name: frozenset(values) for name, values in document.items()})


USES = ("holds", "touches", "names", "loads", "sources")
NO_USES = Uses()


def test_directory(path: str) -> str:
    """The outermost directory named `tests` that contains `path`; empty if there is none."""
    if path.startswith("tests/"):
        return "tests"
    before, found, _ = path.partition("/tests/")
    return f"{before}/tests" if found else ""


def of_tests(folder: str) -> str:
    """The origin of what the modules of tests in a folder use, other than that of its other modules."""
    return f"{folder}/*"


def tests_of_module(name: str) -> str:
    """The test directory that contains a module, by its dotted name; empty if there is none."""
    return test_directory(name.replace(".", "/") + "/")


def folders_with(beginnings: Iterable[str], paths: Iterable[str]) -> Iterator[str]:
    """The test folders of those `paths` that begin so in their folder: `tests/data/x` with `*/tests/data`, for example.

    `*/demo/tests` finds all that are in a folder `demo`. A beginning with an earlier one finds nothing new.
    """
    wanted = sorted(each[len(ANYWHERE) :] for each in beginnings if each.startswith(ANYWHERE))
    if not wanted:
        return
    folders = [(path, folder) for path in paths if (folder := test_directory(path))]
    files = sorted(
        {
            *((path[len(folder) - len("tests") :], folder) for path, folder in folders),
            *(("/".join(folder.split("/")[-2:]), folder) for _, folder in folders),
        }
    )
    last = None
    for beginning in wanted:
        if last is None or not beginning.startswith(last):
            last = beginning
            at = bisect_left(files, (beginning, ""))
            while at < len(files) and files[at][0].startswith(beginning):
                yield files[at][1]
                at += 1


def folders_named(names: Set[str], folders: Iterable[str]) -> Iterator[str]:
    """The test folders of which the package and the top-level package are among `names`; with any, the topmost."""
    for folder in folders if names else ():
        parts = folder.split("/")
        if len(parts) == 1 or f"{parts[0]}/" in names or names >= {parts[0], parts[-2]}:
            yield folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A test suite: its modules of `tests` that nothing else in it imports, and whether it is `whole`.

    `loads` says that other modules in it list modules and import what they find, which may be these tests.
    """

    tests: tuple[str, ...]
    whole: bool
    loads: bool

    def to_json(self) -> list[Any]:
        """A compact JSON array."""
        return [self.whole, self.loads, list(self.tests)]

    @classmethod
    def from_json(cls, document: Any) -> Suite:
        """The inverse of `to_json`; raises TypeError or ValueError for anything else."""
        whole, loads, tests = document
        return cls(tests=tuple(tests), whole=bool(whole), loads=bool(loads))


@dataclass(frozen=True, slots=True)
class Opened:
    """The alternative names of a library that the module at `place` opens, as sonames or `libNAME.so`.

    `imported` is true if importing the module does it.
    """

    place: str
    names: tuple[str, ...]
    imported: bool

    def to_json(self) -> list[Any]:
        """A JSON array that `from_json` reads."""
        return [self.place, list(self.names), self.imported]

    @classmethod
    def from_json(cls, document: Any) -> Opened:
        """The inverse of `to_json`. Raises TypeError or ValueError for anything else."""
        place, names, imported = document
        return cls(str(place), tuple(map(str, names)), bool(imported))
