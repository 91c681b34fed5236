"""What the SDK and its HTTP library raise, as our errors: translated once, here."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from hatch_docker.errors import EngineError


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn whatever the SDK and its HTTP library raise into an EngineError."""
    import requests
    import urllib3
    from docker.errors import DockerException

    try:
        yield
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise EngineError(f"{what}: {text(error)}", hint=hint(str(error))) from None


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
        found = found.__cause__ or found.__context__
    return error


def hint(reason: str) -> str:
    """What to do about the engine's reason; empty where nothing is known."""
    return "the engine's disk is full: 'docker system prune'" if "no space left" in reason else ""
