"""The base's Python in a sandbox of this machine, as an earlier build found it: it is not looked for again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from hatch_docker.errors import BytecodeUnavailableError
from hatch_docker.image.bytecode.chunks import compiler_of
from hatch_docker.image.bytecode.compiler import Source
from hatch_docker.image.bytecode.frames import identity_of
from hatch_docker.image.bytecode.process import script, talk


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPython:
    """A Python: the digest of the `archive` of its files, the `command` that starts it, without the script, and what
    it answered. `optimization` is the level to compile for, `ending` how the names of .pyc files end.
    """

    archive: str
    command: tuple[str, ...]
    answer: str
    optimization: int
    ending: str

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> KnownPython:
        """The inverse of `to_json`; raises TypeError for anything else."""
        return cls(**{**document, "command": tuple(document["command"])})

    def compile(self, sources: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """The .pyc files, to be checked against their sources, of texts with their paths in the image.

        None stands for what is no module. Raises BytecodeUnavailableError if it does not answer as it did. Whether the
        archive is still what it was is for the caller to see.
        """
        try:
            identity = identity_of(self.answer.encode())
        except ValueError as error:
            raise BytecodeUnavailableError(str(error)) from None
        run = partial(talk, command=(*self.command, script()), environ=os.environ)
        compiler = compiler_of("", run, identity, optimization=self.optimization, threads=1)
        return compiler.compile([[Source(path, text) for path, text in sources]], checked=True)[0]
