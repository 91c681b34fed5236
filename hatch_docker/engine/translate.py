"""What the SDK and its HTTP library raise, as our errors: translated once, here."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from http.client import HTTPException

from hatch_docker.errors import EngineError

# What engines say, and what can be done about it.
_FULL = "the engine's disk is full: 'docker system prune'"
_OTHER_CPU = (
    "the engine's machine has another CPU than the image: have it emulate that one (QEMU by binfmt_misc), or name an "
    "engine with that CPU by DOCKER_HOST"
)
_HINTS = {
    "no space left": _FULL,
    "exec format error": _OTHER_CPU,
    "range of cpus": "HATCH_DOCKER_BUILD_CPUS says how many to use",
    "minimum memory limit": "HATCH_DOCKER_BUILD_MEMORY says how much to use",
}


def missed(error: EngineError, what: str, *, instead: str = "") -> EngineError:
    """The error of an engine that does not answer, with what it is needed for, and what would do `instead`."""
    return EngineError(
        f"{error.message}; it is needed to {what}",
        place=error.place,
        hint="start Docker, or name another engine with DOCKER_HOST (a remote one and Podman's socket will do)"
        + (f", or {instead}" if instead else ""),
    )


@contextlib.contextmanager
def translated(what: str, *, away: str = "") -> Iterator[None]:
    """Turn whatever the SDK and its HTTP library raise into an EngineError: `what` and the reason.

    With `away`, that is said in place of `what` where there is no answer at all.
    """
    import requests
    import urllib3
    from docker.errors import APIError, DockerException

    try:
        yield
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        said = what if isinstance(error, APIError) or not away else away
        raise EngineError(f"{said}: {text(error)}", hint=hint(str(error))) from None


def text(error: BaseException) -> str:
    """The innermost reason, on one line, without the user and password that an address may have."""
    explanation = getattr(error, "explanation", None)
    lines = str(explanation or _cause(error)).strip().splitlines()
    return re.sub(r"//[^/@\s]*@", "//", lines[-1])[:300] if lines else type(error).__name__


def _cause(error: BaseException) -> BaseException | str:
    """What the system said, where it is below what requests and urllib3 wrap around it."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        if isinstance(found, HTTPException):
            return "the connection broke"
        found = found.__cause__ or found.__context__
    return error


def hint(reason: str) -> str:
    """What to do about the engine's reason; empty where nothing is known."""
    return next((advice for said, advice in _HINTS.items() if said in reason.lower()), "")
