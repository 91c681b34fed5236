"""The base's Python in a sandbox of this machine, as an earlier build found it: it is not looked for again."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hatch_docker.errors import BytecodeUnavailableError
from hatch_docker.image.bytecode.chunks import compiler_of
from hatch_docker.image.bytecode.compiler import Source
from hatch_docker.image.bytecode.frames import identity_of
from hatch_docker.image.bytecode.process import Programs
from hatch_docker.support.dataclasses import asdict, dataclass
from hatch_docker.support.foreign import SANDBOX

# The directory of all shared libraries in an archive of files, for LD_LIBRARY_PATH.
LIBRARIES = "hatch-docker"
# Where an interpreter in a sandbox finds `main`. For `-c`, Python 3.13 would import some modules more.
_SCRIPT = f"/{LIBRARIES}/main.py"


def environ() -> Mapping[str, str]:
    """The whole environment of the interpreter."""
    return {"LD_LIBRARY_PATH": f"/{LIBRARIES}", "PYTHONHASHSEED": "0"}


def sandboxed(files: Path, program: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a program of an archive of files in a sandbox."""
    variables = [f"{name}={value}" for name, value in environ().items()]
    main = str(Path(__file__).with_name("main.py"))
    return (sys.executable, "-I", "-S", str(SANDBOX), str(files), main, _SCRIPT, *variables, program, *arguments)


def compiling_command(files: Path, interpreter: str) -> tuple[str, ...]:
    """The command that compiles by the interpreter in an archive of files."""
    return sandboxed(files, interpreter, "-S", "-s", "-B", _SCRIPT)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPython:
    """A Python: the digest of the `archive` of its files, the path of the `interpreter` among them, and what it
    answered. `optimization` is the level to compile for, `ending` how the names of .pyc files end.
    """

    archive: str
    interpreter: str
    answer: str
    optimization: int
    ending: str

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> KnownPython:
        """The inverse of `to_json`; raises TypeError for anything else."""
        return cls(**document)

    def compile(self, files: Path, sources: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """The .pyc files, to be checked against their sources, of texts with their paths in the image.

        `files` is the archive, which the caller verifies. None stands for a text that is not a module. Raises
        BytecodeUnavailableError if the interpreter does not answer as it did.
        """
        try:
            identity = identity_of(self.answer.encode())
        except ValueError as error:
            raise BytecodeUnavailableError(str(error)) from None
        # It ends when it likes: only its answers are waited for.
        run = Programs(compiling_command(files, self.interpreter), os.environ, 1).talk
        compiler = compiler_of("", run, identity, optimization=self.optimization, threads=1)
        return compiler.compile([[Source(path, text) for path, text in sources]], checked=True)[0]
