"""Translates the exceptions of requests to an engine to EngineError."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator

from hatch_docker.engine.plain import RefusedError
from hatch_docker.errors import EngineError

# Hints by parts of engines' messages.
_FULL = "the engine's disk is full: 'docker system prune'"
_OTHER_CPU = (
    "the engine's machine has another CPU than the image: set up emulation of that CPU (QEMU by binfmt_misc), or name "
    "an engine with that CPU in DOCKER_HOST"
)
_HINTS = {
    "no space left": _FULL,
    "exec format error": _OTHER_CPU,
    "range of cpus": "HATCH_DOCKER_BUILD_CPUS says how many to use",
    "minimum memory limit": "HATCH_DOCKER_BUILD_MEMORY says how much to use",
}


class ForeignError(EngineError):
    """The engine answers, but runs no containers of a platform."""


def missed(error: EngineError, what: str, *, instead: str = "") -> EngineError:
    """An error of an engine that does not answer, extended by what it is needed for and an alternative to it."""
    if isinstance(error, ForeignError):
        error.message += f", which is needed to {what}"
        error.hint += f"; or {instead}" if instead else ""
        return error
    return EngineError(
        f"{error.message}; it is needed to {what}",
        place=error.place,
        hint="start Docker, or name another engine with DOCKER_HOST (a remote one and Podman's socket will do)"
        + (f", or {instead}" if instead else ""),
    )


@contextlib.contextmanager
def translated(what: str, *, away: str = "", place: str = "", advice: str = "") -> Iterator[None]:
    """Turn exceptions of `plain`, the SDK and its HTTP library into EngineErrors of the form `what`: reason.

    `away`, if given, replaces `what` if the engine did not answer at all. `advice` is the hint for reasons without one.
    """
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        if not isinstance(error, (RefusedError, OSError, ValueError, *_of_http(), *_of_sdk())):
            raise
        problem = what if hasattr(error, "explanation") or not away else away
        raise EngineError(f"{problem}: {text(error)}", place=place, hint=hint(str(error)) or advice) from None


def _of_http() -> tuple[type[BaseException], ...]:
    """The exceptions of http.client, if that is imported."""
    imported = sys.modules.get("http.client")
    return (imported.HTTPException,) if imported else ()


def _of_sdk() -> tuple[type[BaseException], ...]:
    """The exceptions of the SDK and its HTTP library, if that is imported."""
    if "docker" not in sys.modules:
        return ()
    import requests
    import urllib3
    from docker.errors import DockerException

    return DockerException, requests.RequestException, urllib3.exceptions.HTTPError


def text(error: BaseException) -> str:
    """The innermost reason, on one line, without logins in addresses."""
    explanation = getattr(error, "explanation", None)
    lines = str(explanation or _cause(error)).strip().splitlines()
    return re.sub(r"//[^/@\s]*@", "//", lines[-1])[:300] if lines else type(error).__name__


def _cause(error: BaseException) -> BaseException | str:
    """The operating system's message, if there is one below the exceptions of requests and urllib3."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if isinstance(cause, _of_http()):
            return "the connection broke"
        cause = cause.__cause__ or cause.__context__
    return error


def hint(reason: str) -> str:
    """The hint for an engine's message, empty if there is none."""
    return next((advice for part, advice in _HINTS.items() if part in reason.lower()), "")
