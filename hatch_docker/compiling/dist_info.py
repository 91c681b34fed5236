"""The metadata that a build backend makes: `METADATA` and `entry_points.txt` of a wheel's `.dist-info`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatch_docker.errors import CompileError
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.wheels.wheelfile import WheelFile

_LARGEST = 4 << 20
# The hint if a build backend makes something that breaks a specification.
REPORT = "report it to the authors of the build backend"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltMetadata:
    """The texts of METADATA, and of entry_points.txt, which is empty without that file."""

    metadata: str = field(repr=False)
    entry_points: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {"metadata": self.metadata, "entry-points": self.entry_points}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> BuiltMetadata | None:
        """The inverse of `to_json`; None for any other document."""
        texts = document.get("metadata"), document.get("entry-points")
        if not isinstance(texts[0], str) or not isinstance(texts[1], str):
            return None
        return cls(metadata=texts[0], entry_points=texts[1])


def read_dist_info(path: Path, place: str) -> BuiltMetadata:
    """The metadata in the directory that a build backend made. Raises CompileError if it has no METADATA."""
    try:
        metadata, entry_points = path / "METADATA", path / "entry_points.txt"
        return BuiltMetadata(
            metadata=_text(metadata.read_bytes()),
            entry_points=_text(entry_points.read_bytes()) if entry_points.is_file() else "",
        )
    except OSError as error:
        raise CompileError(
            f"its build backend made metadata that cannot be read: {error.strerror or error}",
            place=place,
            hint=REPORT,
        ) from None


def wheel_metadata(wheel: WheelFile) -> BuiltMetadata:
    """The metadata of a wheel. Raises WheelError if it is broken."""
    entry_points = f"{wheel.dist_info}/entry_points.txt"
    return BuiltMetadata(
        metadata=_text(wheel.read(f"{wheel.dist_info}/METADATA", _LARGEST)),
        entry_points=_text(wheel.read(entry_points, _LARGEST)) if entry_points in wheel.members else "",
    )


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
