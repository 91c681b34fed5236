"""The facts about a base image, as they are cached by its digest; `base.interpreter` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFacts:
    """What a build needs to know about the contents of a base image; cached by its digest.

    `links` are its symbolic links to directories, and `directories` its directories: no file may replace one.
    `occupied` is whether the path of the virtual environment exists already. `libraries` are the names of the shared
    libraries that the dynamic loader finds. `suite` is its release of Debian, such as `trixie`, or empty. `leftovers`
    are the paths of what can be removed, by the members of LEFTOVERS; other packages in it require `leftovers_needed`.
    """

    python: TargetPython
    links: Mapping[str, str]
    directories: frozenset[str]
    occupied: bool
    libraries: frozenset[str] = frozenset()
    suite: str = ""
    leftovers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    leftovers_needed: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """Encode for the cache."""
        python = self.python
        return {
            "version": python.version,
            "interpreter": python.interpreter,
            "platform": str(python.platform),
            "libc": [python.libc.kind, *python.libc.version],
            "free_threaded": python.free_threaded,
            "links": dict(self.links),
            "directories": sorted(self.directories),
            "occupied": self.occupied,
            "libraries": sorted(self.libraries),
            "suite": self.suite,
            "leftovers": {name: list(paths) for name, paths in self.leftovers.items()},
            "leftovers-needed": sorted(self.leftovers_needed),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> BaseFacts:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError for other documents."""
        kind, major, minor = document["libc"]
        python = TargetPython(
            version=document["version"],
            interpreter=document["interpreter"],
            platform=Platform.parse(document["platform"]),
            libc=Libc(kind=kind, version=(major, minor)),
            free_threaded=document["free_threaded"],
        )
        return cls(
            python=python,
            links=dict(document["links"]),
            directories=frozenset(document["directories"]),
            occupied=bool(document["occupied"]),
            libraries=frozenset(document["libraries"]),
            suite=str(document["suite"]),
            leftovers={str(name): tuple(map(str, paths)) for name, paths in document["leftovers"].items()},
            leftovers_needed=frozenset(map(str, document["leftovers-needed"])),
        )


def with_files(facts: BaseFacts, files: Filesystem) -> BaseFacts:
    """The facts of an image with other files that are neither of its Python nor of its shared libraries."""
    return replace(facts, links=links_of(files), directories=directories_of(files))


def links_of(files: Filesystem) -> dict[str, str]:
    """The symbolic links that matter to a build."""
    return {name: node.link for name, node in files.nodes.items() if node.kind == "link" and _matters(files, name)}


def directories_of(files: Filesystem) -> frozenset[str]:
    """The directories among files."""
    return frozenset(name for name, node in files.nodes.items() if node.kind == "dir")


def _matters(files: Filesystem, link: str) -> bool:
    """Whether a link leads to a directory, or is where files of the image may go."""
    return link.count("/") <= 1 or files.is_directory(link)
