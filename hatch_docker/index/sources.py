"""Where a project takes packages from: `[tool.uv.sources]`, and their counterparts of Poetry and PDM.

A package with a source is never looked up in any other index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

KINDS = ("path", "workspace", "git", "url", "index")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One source of a package. `place` is its TOML path, for messages.

    `kind` is one of KINDS. `value` is by kind: an absolute path (of a directory, wheel or sdist; for `workspace` that
    of the member's directory), the URL of a repository, the URL of a file, or the URL of an index. `marker`, `extra`
    and `group` limit where the source applies; each is empty if it does not. `reference` (of a repository) is
    `branch=main`, `tag=v1` or `rev=0123abc`, empty for the default branch.
    """

    name: str
    kind: str
    value: str = field(repr=False)
    place: str = ""
    marker: str = ""
    extra: str = ""
    group: str = ""
    reference: str = ""
    subdirectory: str = ""
    editable: bool = False
    package: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The sources of a project: `by_name` has those of each package (normalized name), in the order to try them.

    `tool` is the table that they come from: `tool.uv`, `tool.poetry` or `tool.pdm`, empty if there are none.
    """

    by_name: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    tool: str = ""

    def __bool__(self) -> bool:
        return bool(self.by_name)


NO_SOURCES = Sources()
