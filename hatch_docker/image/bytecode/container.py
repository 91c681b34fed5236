"""The base's own interpreter in a container of the engine, for any CPU that it runs or emulates."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from functools import partial

from hatch_docker.base.image import Base
from hatch_docker.engine.client import local_name
from hatch_docker.engine.container import Container
from hatch_docker.engine.limits import Limits
from hatch_docker.errors import BytecodeUnavailableError, EngineError
from hatch_docker.image.bytecode.chunks import Ended, compiler_of, identify
from hatch_docker.image.bytecode.compiler import Code, Compiler, Source
from hatch_docker.image.bytecode.frames import LARGEST_OUTPUT
from hatch_docker.services import Services
from hatch_docker.support.threads import at_most

_FOLDER = "/hatch-docker"
_FLAGS = ("-S", "-s", "-B", "-c")
# The main process needs no shell, which small images do not have.
_WAIT = "print(flush=True); input()"
# Neither the image's user nor root: without capabilities.
_NOBODY = "65534:65534"
_SECONDS = 3600
# Opens the file with the input in place of standard input, and keeps messages out of the output.
_START = """\
import posix
posix.dup2(posix.open({path!r}, posix.O_RDONLY), 0)
posix.dup2(posix.open("/dev/null", posix.O_WRONLY), 2)
"""


def open_container(base: Base, services: Services, script: str, *, optimization: int) -> Compiler:
    """A compiler by the base's interpreter in a container, which runs while chunks are compiled.

    Raises BytecodeUnavailableError or EngineError.
    """
    image, python = base.merged, base.facts.python
    engine = services.engine()
    engine.require(python.platform)
    name = engine.provide(image, local_name(image), base=base.name, progress=services.progress)
    limits = Limits(memory=services.limits.memory, cpus=services.limits.cpus, seconds=_SECONDS)
    opened = partial(
        engine.container,
        name,
        what=f"compiling modules in {base.name}",
        network=False,
        limits=limits,
        platform=python.platform,
        main=(python.interpreter, *_FLAGS, _WAIT),
    )

    # Its other variables for Python would change the bytes, or what is written.
    environ = {name: "" for name in image.config.env if name.startswith("PYTHON")} | {"PYTHONHASHSEED": "0"}
    talk = at_most(services.threads, partial(_talk, interpreter=python.interpreter, script=script, environ=environ))
    with opened() as container:
        identity = identify(partial(talk, container=container), python)
    way = "a container"

    def run(chunks: Sequence[Sequence[Source]]) -> list[list[Code | None]]:
        with opened() as container:
            inside = partial(talk, container=container)
            return compiler_of(way, inside, identity, optimization=optimization, threads=services.threads).run(chunks)

    return Compiler(way=way, magic=identity.magic, optimization=optimization, run=run)


def _talk(given: bytes, *, container: Container, interpreter: str, script: str, environ: Mapping[str, str]) -> Ended:
    """Run the script on its input, which is copied into the container. Raises BytecodeUnavailableError."""
    path = f"{_FOLDER}/{secrets.token_hex(8)}"
    chunks: list[bytes] = []
    room = LARGEST_OUTPUT

    def write(chunk: bytes) -> None:
        nonlocal room
        room -= len(chunk)
        if room < 0:
            raise BytecodeUnavailableError("it writes without end")
        chunks.append(chunk)

    try:
        container.put({path: given})
        status = container.run(
            (interpreter, *_FLAGS, _START.format(path=path) + script),
            write=write,
            environ=environ,
            user=_NOBODY,
        )
    except EngineError as error:
        raise BytecodeUnavailableError(error.message) from None
    output = b"".join(chunks)
    return Ended(output, status, output[-200:].decode("utf-8", "replace") if status else "")
