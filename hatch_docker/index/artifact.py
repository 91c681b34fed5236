"""One file to install, as a lock names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file to install. `name` is normalized, `size` in bytes where the lock says it.

    `hashes` are lower-case hexadecimal digests by algorithm, of algorithms that are safe to trust; never empty.
    `reason` says why it must be built from source; empty for a wheel.
    """

    name: str
    version: str
    filename: str
    url: str
    hashes: Mapping[str, str]
    size: int | None = None
    reason: str = ""

    @property
    def is_wheel(self) -> bool:
        """Whether it can be installed without being built."""
        return self.filename.endswith(".whl")
