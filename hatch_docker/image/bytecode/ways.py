"""The ways to an interpreter that compiles for a base's Python, tried in order."""

from __future__ import annotations

from hatch_docker.base.image import Base
from hatch_docker.base.transports import BaseRequest
from hatch_docker.errors import BytecodeUnavailableError
from hatch_docker.image.bytecode.compiler import Compiler
from hatch_docker.services import Services


def open_compiler(base: Base, request: BaseRequest, services: Services, *, optimization: int) -> Compiler:
    """A compiler for the Python of `base`; `request` is what the base was found by, to find it for other platforms.

    Raises BytecodeUnavailableError, whose message says for each way why it is not open.
    """
    raise BytecodeUnavailableError(f"no interpreter compiles for {base.facts.python}")
