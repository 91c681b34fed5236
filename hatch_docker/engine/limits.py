"""Resource limits and privileges of containers."""

from __future__ import annotations

from typing import Any

from hatch_docker.support.dataclasses import dataclass

# More processes than any compiler starts. Without a limit, a container could exhaust the engine's machine.
_PROCESSES = 8192
# For root to read and write all files, and to change their owners. Package managers, which need a network, need more.
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Resource limits of a container: `memory` in bytes, `cpus` (may be 1.5), `seconds`; 0 is no limit."""

    memory: int = 0
    cpus: float = 0.0
    seconds: int = 0

    @property
    def duration(self) -> str:
        """`seconds` as they are configured, such as 1h30m."""
        parts = ((self.seconds // 3600, "h"), (self.seconds // 60 % 60, "m"), (self.seconds % 60, "s"))
        return "".join(f"{count}{unit}" for count, unit in parts if count)

    def options(self, *, network: bool) -> dict[str, Any]:
        """The limits as options of the engine's API, with others that remove unneeded privileges."""
        options: dict[str, Any] = {
            "pids_limit": _PROCESSES,
            "security_opt": ["no-new-privileges"],
            # The engine need not store the output of the main process.
            "log_config": {"Type": "none"},
        }
        if not network:
            options |= {"network_mode": "none", "cap_drop": ["ALL"], "cap_add": [*_CAPABILITIES]}
        if self.memory:
            # By default, a container may use as much swap as memory in addition.
            options |= {"mem_limit": self.memory, "memswap_limit": self.memory}
        if self.cpus:
            options["nano_cpus"] = round(self.cpus * 10**9)
        return options
