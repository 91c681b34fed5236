"""Read the modules of a wheel: what they use of tests, test suites, sources of compiled modules, and more."""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from itertools import chain, repeat

from hatch_docker.errors import ContentError
from hatch_docker.oci.content import Chunk, plain_chunks
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.elf import Library, read_library
from hatch_docker.support.patterns import regex
from hatch_docker.wheels.findings import (
    NO_USES,
    Opened,
    Suite,
    Uses,
    folders_named,
    folders_with,
    of_tests,
    test_directory,
    tests_of_module,
)
from hatch_docker.wheels.opened import opened_libraries
from hatch_docker.wheels.scan import imported_names, uses_by_import, uses_of_binary
from hatch_docker.wheels.sources import built_files, names_of, take_named
from hatch_docker.wheels.suites import find_suites
from hatch_docker.wheels.texts import TEXT_BYTES, is_text, uses_of_file, uses_of_module
from hatch_docker.wheels.wheelfile import WheelFile, entry_points_of
from hatch_docker.wheels.zipmembers import READ_LIMIT

# What tools for development read, but no program.
_DEVELOPMENT = {"pyproject.toml", "setup.cfg", "tox.ini", "pytest.ini", "mypy.ini"}
_BINARIES = (".a", ".gif", ".gz", ".jpg", ".mo", ".npy", ".npz", ".png", ".pyc", ".so")
_LIBRARY = regex(r"\.so(?:\.\d[^/]*)?$")
# Extension modules and modules without a source; not libraries, which import nothing.
_COMPILED = regex(r"(?:^|/)(?!lib)[^/]*\.(?:so|pyd)$|^(?!(?:.*/)?__pycache__/).*\.pyc$")
# The byte in front tells a whole string: of C, or the length of one in bytecode. Others may be prose.
_WORD = regex(rb"\x00tests(?=\x00)|\x05tests|[\w./\\]{5,4096}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelContent:
    """What a wheel's modules use of tests, by their origin: the test folder that they are in, `""` outside of any, and
    `of_tests(folder)` for the modules of tests that `suites` name.

    `suites` are the test suites by folder, `built` the sources and static libraries that no other file names,
    `opens` the shared libraries that modules open by name, `libraries` those that the wheel has, by path in it.
    """

    uses: Mapping[str, Uses]
    suites: Mapping[str, Suite]
    built: frozenset[str]
    opens: tuple[Opened, ...] = ()
    libraries: Mapping[str, Library] = field(default_factory=dict)


def read_content(wheel: WheelFile) -> WheelContent:
    """Read the content of a wheel. Raises WheelError for a damaged member or malformed entry points."""
    places = dict(_places(wheel))
    sizes = {place: wheel.members[path].file_size for place, path in places.items()}
    suites, imports = find_suites(sizes, lambda place: wheel.read(places[place]))
    built = _unnamed(wheel, built_files(places), places)
    entry_points = frozenset(tests_of_module(entry.value.partition(":")[0]) for entry in entry_points_of(wheel))
    binaries = {path: _read_binary(wheel, path) for path in sorted(wheel.members) if _is_binary(wheel, path)}
    words = {path: found for path, (found, _) in binaries.items()}
    found = {"": [Uses(holds=entry_points - {""}), *_uses_of_others(wheel, words)]}
    # What modules of tests need, they import. They also search for tests, and their strings are data of tests.
    for folder, suite in suites.items():
        found[of_tests(folder)] = [uses_by_import(imports[place], place) for place in suite.tests]
    tests = frozenset(place for suite in suites.values() for place in suite.tests)
    opens: list[Opened] = []
    for folder, place, source in _sources(wheel, places, tests):
        opens += opened_libraries(source, place) if not folder else []
        if posixpath.basename(place) == "conftest.py":
            found.setdefault(folder, []).append(uses_by_import(imported_names(source), place))
        else:
            found.setdefault(folder, []).append(uses_of_module(source, place))
    joined = {origin: _without(origin, _resolved(Uses.joined(each), places)) for origin, each in sorted(found.items())}
    return WheelContent(
        uses={origin: each for origin, each in joined.items() if each != NO_USES},
        suites=dict(sorted(suites.items())),
        built=frozenset(built),
        opens=tuple(sorted(opens, key=lambda each: each.place)),
        libraries={path: library for path, (_, library) in binaries.items() if library},
    )


def _places(wheel: WheelFile) -> Iterator[tuple[str, str]]:
    """The paths relative to site-packages, without metadata, and those in the wheel."""
    for path in wheel.members:
        scheme, place = wheel.split(path)
        if scheme in {"purelib", "platlib"} and not path.startswith(f"{wheel.dist_info}/"):
            yield place, path


def _sources(wheel: WheelFile, places: Mapping[str, str], tests: Collection[str]) -> Iterator[tuple[str, str, bytes]]:
    """The test folder, path and source of each script and module, except `tests`."""
    for path, info in wheel.members.items():
        if wheel.split(path)[0] == "scripts" and info.file_size <= TEXT_BYTES:
            yield "", f"bin/{posixpath.basename(path)}", wheel.read(path)
    for place, path in places.items():
        if place.endswith(".py") and place not in tests and wheel.members[path].file_size <= READ_LIMIT:
            yield test_directory(place), place, wheel.read(path)


def _uses_of_others(wheel: WheelFile, words: Mapping[str, Set[bytes]]) -> Iterator[Uses]:
    """What files use that are no modules with sources; `words` are those of binary files."""
    for path, info in wheel.members.items():
        place = wheel.split(path)[1]
        if test_directory(place) or path.startswith(f"{wheel.dist_info}/"):
            continue
        if posixpath.basename(place) in _DEVELOPMENT:
            continue
        if _COMPILED.search(place):
            yield uses_of_binary(words[path], place)
        elif not place.endswith(".py") and is_text(place) and info.file_size <= TEXT_BYTES:
            yield uses_of_file(place, wheel.read(path))


def _unnamed(wheel: WheelFile, built: set[str], places: Mapping[str, str]) -> set[str]:
    """Those of the files that no other text of the wheel names, be it a module, a header or data."""
    names = names_of(built)
    of_package = (path for path in wheel.members if not path.startswith(f"{wheel.dist_info}/"))
    waiting = [path for path in of_package if wheel.split(path)[1] not in built] if built else []
    while waiting and names:
        path = waiting.pop()
        limit = READ_LIMIT if path.endswith(".py") else TEXT_BYTES
        if path.endswith(_BINARIES) or wheel.members[path].file_size > limit:
            continue
        source = wheel.read(path)
        if b"\0" not in source:
            named = take_named(source, names)
            built.difference_update(named)
            waiting += [places[each] for each in named]
    return built


def _is_binary(wheel: WheelFile, path: str) -> bool:
    """Whether a member is an extension module, a shared library, or a module without its source."""
    return bool(_LIBRARY.search(path) or _COMPILED.search(wheel.split(path)[1]))


def _read_binary(wheel: WheelFile, path: str) -> tuple[set[bytes], Library | None]:
    """The words in a binary file, as `_words` finds them, and what it is if that is a shared library.

    It is not verified: that happens when its content is written. Both are found in one pass, since it may be large.
    """
    found: set[bytes] = set()
    content = wheel.content(path)
    first = plain_chunks(path, content)
    if _COMPILED.search(wheel.split(path)[1]):
        first = _words(first, found)
    passes = chain([first], repeat(None))
    try:
        library = read_library(lambda: next(passes) or plain_chunks(path, content)) if _LIBRARY.search(path) else None
        # What is left of the words, if they are read.
        deque(first if _COMPILED.search(wheel.split(path)[1]) else (), maxlen=0)
    except ContentError as error:
        raise wheel.error(error.message, hint=error.hint) from None
    return found, library


def _words(chunks: Iterable[Chunk], found: set[bytes]) -> Iterator[Chunk]:
    """The same chunks; adds their words to `found` that have `tests` in them, and may be names or paths."""
    tail = b""
    for chunk in chunks:
        data = tail + chunk
        if b"tests" in data:
            found.update(word for word in _WORD.findall(data) if b"tests" in word)
        tail = data[-256:]
        yield chunk


def _resolved(found: Uses, paths: Collection[str]) -> Uses:
    """The same with the test folders of this wheel that have one of the paths, or are named."""
    folders = set(map(test_directory, paths)) - {""} if found.loads else set()
    named = folders_named(found.loads, folders)
    return replace(found, holds=found.holds.union(folders_with(found.holds, paths), named))


def _without(folder: str, found: Uses) -> Uses:
    """The same without what modules of a folder use of it: `Suite.tests` leaves out what its other modules import."""
    return replace(found, holds=found.holds - {folder}, touches=found.touches - {folder})
