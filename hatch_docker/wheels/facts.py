"""The facts of a wheel that a build needs, small, so that they are cached by the wheel's hash."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.errors import ContentError
from hatch_docker.oci.content import plain_chunks
from hatch_docker.support.elf import Library, read_library
from hatch_docker.wheels.distinfo import EntryPoint, Script, parse_entry_points, script_of
from hatch_docker.wheels.scan import Reach, reach, surroundings, test_directory, tests_of_module
from hatch_docker.wheels.wheelfile import WheelFile, split_scheme
from hatch_docker.wheels.zipmembers import READ_LIMIT

# Part of the cache key of facts: raise it if the facts, or the way to find them, change.
FORMAT = 6

# Scripts are scanned like modules, except larger ones, which may be compiled programs.
_SCRIPT_BYTES = 1 << 20
_LIBRARY = re.compile(r"\.so(?:\.\d[^/]*)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFacts:
    """The facts of one wheel.

    `name` and the other strings of METADATA are as written there. `scripts` are those to generate: the object reference
    (`module:attribute`) by file name. `files` has the hash of every member (as RECORD writes it, empty if RECORD has
    none) by its path in the wheel. `reaches` has the test directories that modules use, by the test directory that the
    modules are in, `""` for modules outside of any. `sources` are the directories whose C sources are kept together,
    because a module names one of them. `libraries` are the shared libraries and extension modules, by path in the
    wheel.
    """

    name: str
    version: str
    requires_dist: tuple[str, ...]
    requires_python: str
    scripts: Mapping[str, str]
    data: str
    files: Mapping[str, str]
    reaches: Mapping[str, tuple[str, ...]]
    sources: tuple[str, ...]
    libraries: Mapping[str, Library] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The normalized name (PyPA: Names and normalization)."""
        return canonicalize_name(self.name)

    def split(self, path: str) -> tuple[str, str]:
        """A member's scheme, and its path in that."""
        return split_scheme(path, self.data)

    def site_path(self, path: str) -> str:
        """A member's path relative to site-packages; empty if it is installed elsewhere."""
        scheme, place = self.split(path)
        return place if scheme in {"purelib", "platlib"} else ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        libraries = {path: library.to_json() for path, library in self.libraries.items()}
        return {name: getattr(self, name) for name in _FIELDS} | {"libraries": libraries}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> WheelFacts | None:
        """The inverse of `to_json`; None for any other document, such as another version's."""
        if document.keys() != _FIELDS.keys():
            return None
        if not all(isinstance(document[name], kind) for name, kind in _FIELDS.items()):
            return None
        try:
            libraries = {path: Library.from_json(each) for path, each in document["libraries"].items()}
        except (TypeError, ValueError):
            return None
        reaches = document["reaches"].items()
        return cls(
            **dict(document)
            | {
                "requires_dist": tuple(document["requires_dist"]),
                "sources": tuple(document["sources"]),
                "reaches": {origin: tuple(tests) for origin, tests in reaches if isinstance(tests, (list, tuple))},
                "libraries": libraries,
            }
        )


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "version": str,
    "requires_dist": (list, tuple),
    "requires_python": str,
    "scripts": dict,
    "data": str,
    "files": dict,
    "reaches": dict,
    "sources": (list, tuple),
    "libraries": dict,
}


def entry_points_of(wheel: WheelFile) -> tuple[EntryPoint, ...]:
    """The entry points of a wheel. Raises WheelError if they cannot be parsed."""
    path = f"{wheel.dist_info}/entry_points.txt"
    return parse_entry_points(wheel.read(path), wheel.filename) if path in wheel.members else ()


def scripts_of(wheel: WheelFile) -> list[Script]:
    """The scripts that an installer generates. Raises WheelError if one is malformed or declared twice."""
    scripts: dict[str, Script] = {}
    for entry in entry_points_of(wheel):
        if entry.group in {"console_scripts", "gui_scripts"}:
            if entry.name in scripts:
                raise wheel.error(f"declares the script {entry.name!r} twice")
            scripts[entry.name] = script_of(entry, wheel.filename)
    return list(scripts.values())


def read_facts(wheel: WheelFile) -> WheelFacts:
    """Read a wheel's facts. Every module is read once. Raises WheelError for an invalid wheel."""
    if wheel.doubtful:
        wheel.correct()
    reaches: dict[str, set[str]] = {
        "": {tests_of_module(entry.value.partition(":")[0]) for entry in entry_points_of(wheel)}
    }
    sources: set[str] = set()
    for origin, found in _scan(wheel):
        reaches.setdefault(origin, set()).update(found.tests - {origin})
        sources |= found.sources
    return WheelFacts(
        name=wheel.metadata.name,
        version=wheel.metadata.version,
        requires_dist=wheel.metadata.requires_dist,
        requires_python=wheel.metadata.requires_python,
        scripts={script.name: f"{script.module}:{script.attribute}" for script in scripts_of(wheel)},
        data=wheel.data,
        files={path: wheel.records[path].hash if path in wheel.records else "" for path in sorted(wheel.members)},
        reaches={origin: tuple(sorted(tests - {""})) for origin, tests in sorted(reaches.items()) if tests - {""}},
        sources=tuple(sorted(sources)),
        libraries=dict(_libraries(wheel)),
    )


def _libraries(wheel: WheelFile) -> Iterator[tuple[str, Library]]:
    """The shared libraries of a wheel, not verified: that happens when their content is written."""
    for path in sorted(path for path in wheel.members if _LIBRARY.search(path)):
        try:
            library = read_library(partial(plain_chunks, path, wheel.content(path)))
        except ContentError as error:
            raise wheel.error(error.message, hint=error.hint) from None
        if library is not None:
            yield path, library


def _scan(wheel: WheelFile) -> Iterator[tuple[str, Reach]]:
    """The reach of each module, with the test directory that the module is in."""
    around = surroundings(
        place for scheme, place in map(wheel.split, wheel.members) if scheme in {"purelib", "platlib"}
    )
    for path, info in wheel.members.items():
        scheme, place = wheel.split(path)
        if scheme == "scripts":
            if info.file_size <= _SCRIPT_BYTES:
                yield "", reach(wheel.read(path), f"bin/{place}", around)
        elif path.endswith(".py") and info.file_size <= READ_LIMIT:
            if origin := test_directory(place):
                yield origin, Reach(tests=reach(wheel.read(path), place, around).tests)
            # Only pytest imports conftest.py, and what it uses are the tests.
            elif posixpath.basename(place) != "conftest.py":
                yield "", reach(wheel.read(path), place, around)
