"""A throw-away container: made to run a few commands in, gone whatever happens to us."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a container may use: `memory` in bytes, `cpus` (1.5 is one and a half), `seconds`; 0 is no limit."""

    memory: int = 0
    cpus: float = 0.0
    seconds: int = 0
