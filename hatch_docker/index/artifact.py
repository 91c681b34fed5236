"""One package to install, as a lock names it: a file, or a source tree to build it from."""

from __future__ import annotations

from collections.abc import Mapping

from hatch_docker.support.dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """A directory to build a package from: a local one, or one of a commit in a Git repository.

    `url` is the file URL of the local directory, or the URL of the repository, without a login. `commit` is the full
    hash of the commit, empty for a local directory. `subdirectory` is the package's directory in the repository.
    """

    url: str = field(repr=False)
    commit: str = ""
    subdirectory: str = ""

    @property
    def is_local(self) -> bool:
        """Whether this is a directory of this machine, whose content may change at any time."""
        return not self.commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One package to install. `name` is normalized, `size` in bytes, None if the lock does not say.

    It is a file, or a `tree` to build; then `filename` and `url` are empty, and `version` is empty if only a build
    tells it. `hashes` are lower-case hexadecimal digests by algorithm, of strong algorithms only, never empty for a
    file, which must match all of them. `index` is the URL of the index that the file came from, empty if the lock does
    not say. `reason` says why the package must be built from source, and `others` which wheels there are; both are
    empty for a wheel.
    """

    name: str
    version: str
    filename: str = ""
    url: str = field(default="", repr=False)
    hashes: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    index: str = field(default="", repr=False)
    tree: SourceTree | None = None
    reason: str = ""
    others: str = ""

    @property
    def is_wheel(self) -> bool:
        """Whether the file can be installed without a build."""
        return self.filename.endswith(".whl")
