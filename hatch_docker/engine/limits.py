"""What a container may use of the engine's machine, and what it may do there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# More than any compiler starts; without an end, they would take all that the engine's machine can have.
_PROCESSES = 8192
# What root needs to read, write and give away files. Package managers, which have a network, need more.
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a container may use: `memory` in bytes, `cpus` (1.5 is one and a half), `seconds`; 0 is no limit."""

    memory: int = 0
    cpus: float = 0.0
    seconds: int = 0

    @property
    def duration(self) -> str:
        """`seconds` as they are configured, such as 1h30m."""
        parts = ((self.seconds // 3600, "h"), (self.seconds // 60 % 60, "m"), (self.seconds % 60, "s"))
        return "".join(f"{count}{unit}" for count, unit in parts if count)

    def options(self, *, network: bool) -> dict[str, Any]:
        """As the engine's API has them, with all else that keeps a container from what it does not need."""
        options: dict[str, Any] = {
            "pids_limit": _PROCESSES,
            "security_opt": ["no-new-privileges"],
            # What the main process prints is ours alone, and others may print there.
            "log_config": {"Type": "none"},
        }
        if not network:
            options |= {"network_mode": "none", "cap_drop": ["ALL"], "cap_add": [*_CAPABILITIES]}
        if self.memory:
            # With as much swap again, that would be no limit.
            options |= {"mem_limit": self.memory, "memswap_limit": self.memory}
        if self.cpus:
            options["nano_cpus"] = round(self.cpus * 10**9)
        return options
