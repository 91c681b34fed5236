"""One file to install, as a lock names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file to install. `name` is normalized, `size` in bytes, None if the lock does not say.

    `hashes` are lower-case hexadecimal digests by algorithm, of strong algorithms only, never empty. `reason` says why
    the file must be built from source; it is empty for a wheel.
    """

    name: str
    version: str
    filename: str
    url: str = field(repr=False)
    hashes: Mapping[str, str]
    size: int | None = None
    reason: str = ""

    @property
    def is_wheel(self) -> bool:
        """Whether the file can be installed without a build."""
        return self.filename.endswith(".whl")
