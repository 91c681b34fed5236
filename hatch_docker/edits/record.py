"""What a stamp records for edits, as values that are JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hatch_docker.support.dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelRecord:
    """The project's wheel: its `digest` in the cache, the path of its RECORD, and where its members are in the image.

    `files` are those of the project that are members as they are: the member by absolute path.
    """

    digest: str
    record: str
    site: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """An image: its documents, the numbers of the layer of the project's wheel and of that of its bytecode, -1 without.

    `unpacked` are the sizes of all layers, and `python` is the interpreter that compiled (`KnownPython`), None without.
    """

    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    unpacked: Sequence[int]
    own: int
    code: int
    compression: str
    python: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRecord:
    """What a build wrote: each output with the path of its file, empty for others, under `references`.

    `base` is the name of the base in an engine, and `origin` that in a registry, both empty without one. `result` is
    the path of the result file, and `document` its text.
    """

    outputs: Sequence[tuple[str, str]]
    references: Sequence[str]
    result: str
    document: str
    base: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRecord:
    """What a build said: its notes and warnings, what was pruned, and how to run the image."""

    notes: Sequence[tuple[str, str]]
    pruned: str
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EditRecord:
    """All that a stamp records for edits. `most` is the size of the cache in bytes, 0 for any."""

    wheel: WheelRecord
    image: ImageRecord
    output: OutputRecord
    message: MessageRecord
    threads: int
    most: int

    @property
    def digests(self) -> frozenset[str]:
        """The digests of the wheel, and of the layers that edits replace."""
        layers, numbers = self.image.manifest["layers"], {self.image.own, self.image.code} - {-1}
        return frozenset((self.wheel.digest, *(str(layers[number]["digest"]) for number in numbers)))

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> EditRecord:
        """The inverse of `to_json`. Raises TypeError or KeyError for anything else."""
        parts = {"wheel": WheelRecord, "image": ImageRecord, "output": OutputRecord, "message": MessageRecord}
        return cls(**{**document, **{name: kind(**document[name]) for name, kind in parts.items()}})
