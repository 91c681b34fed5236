"""The facts of a wheel that a build needs, small, so that they are cached by the wheel's hash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.elf import Library
from hatch_docker.wheels.findings import Opened, Suite, Uses
from hatch_docker.wheels.wheelfile import WheelFile, scripts_of, split_scheme

# Part of the cache key of facts: raise it if the facts, or the way to find them, change.
FORMAT = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFacts:
    """The facts of one wheel.

    `name` and the other strings of METADATA are as written there. `scripts` are those to generate: the object reference
    (`module:attribute`) by file name. `files` has the hash of every member (as RECORD writes it, empty if RECORD has
    none) by its path in the wheel, and `sizes` has their sizes in bytes, in the same order; `zipped` is that of the
    wheel. `uses` are what modules use of tests, by their origin (`content.WheelContent`). `suites` are the test suites
    by folder, and `built` the sources and static libraries that nothing reads at run time, both relative to
    site-packages. `libraries` are the shared libraries and extension modules, by path in the wheel, and `opens` those
    that modules open by name.
    """

    name: str
    version: str
    requires_dist: tuple[str, ...]
    requires_python: str
    scripts: Mapping[str, str]
    data: str
    files: Mapping[str, str]
    sizes: tuple[int, ...]
    zipped: int
    uses: Mapping[str, Uses]
    suites: Mapping[str, Suite]
    built: frozenset[str]
    libraries: Mapping[str, Library] = field(default_factory=dict)
    opens: tuple[Opened, ...] = ()

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
        values = {name: getattr(self, name) for name in _FIELDS}
        for name in ("libraries", "uses", "suites"):
            values[name] = {key: value.to_json() for key, value in values[name].items()}
        return values | {"built": sorted(self.built), "opens": [each.to_json() for each in self.opens]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> WheelFacts | None:
        """The inverse of `to_json`; None for any other document, such as another version's."""
        if document.keys() != _FIELDS.keys():
            return None
        if not all(isinstance(document[name], kind) for name, kind in _FIELDS.items()):
            return None
        try:
            libraries = {path: Library.from_json(each) for path, each in document["libraries"].items()}
            uses = {origin: Uses.from_json(each) for origin, each in document["uses"].items()}
            suites = {folder: Suite.from_json(each) for folder, each in document["suites"].items()}
            opens = tuple(map(Opened.from_json, document["opens"]))
        except (TypeError, ValueError):
            return None
        return cls(
            **dict(document)
            | {
                "requires_dist": tuple(document["requires_dist"]),
                "sizes": tuple(document["sizes"]),
                "uses": uses,
                "suites": suites,
                "built": frozenset(document["built"]),
                "libraries": libraries,
                "opens": opens,
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
    "sizes": (list, tuple),
    "zipped": int,
    "uses": dict,
    "suites": dict,
    "built": list,
    "libraries": dict,
    "opens": list,
}


def read_facts(wheel: WheelFile) -> WheelFacts:
    """Read a wheel's facts. Every module is read once. Raises WheelError for an invalid wheel."""
    from hatch_docker.wheels.content import read_content

    if wheel.doubtful:
        wheel.correct()
    content = read_content(wheel)
    return WheelFacts(
        name=wheel.metadata.name,
        version=wheel.metadata.version,
        requires_dist=wheel.metadata.requires_dist,
        requires_python=wheel.metadata.requires_python,
        scripts={script.name: f"{script.module}:{script.attribute}" for script in scripts_of(wheel)},
        data=wheel.data,
        files={path: wheel.records[path].hash if path in wheel.records else "" for path in sorted(wheel.members)},
        sizes=tuple(wheel.members[path].file_size for path in sorted(wheel.members)),
        zipped=wheel.size,
        uses=content.uses,
        suites=content.suites,
        built=content.built,
        opens=content.opens,
        libraries=content.libraries,
    )
