"""The part of the engine's API that is about images, over a Unix socket or loopback, without the SDK.

Importing the SDK takes longer than what most builds ask an engine, and so does http.client (`connection`): only what
receives images uses it, and answers that `plain_http` does not understand. The methods are those of the SDK's
`APIClient`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re

from hatch_docker.support.patterns import regex
from hatch_docker.support.plain_http import UnusualAnswerError, ask, post

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from http.client import HTTPResponse
    from typing import Any

    from hatch_docker.support.plain_http import Place

_DEFAULT = "unix:///var/run/docker.sock"
# Other hosts may be reached through proxies.
_LOOPBACK = regex(r"tcp://(127\.0\.0\.1|localhost)(?::([0-9]{1,5}))?/?")
_PORT = 2375
# What needs no quoting in a URL.
_USUAL_NAME = regex(r"[\w./:@-]+", re.ASCII)
# In bytes: no answer is larger.
_MOST = 1 << 26


class RefusedError(Exception):
    """The engine's answer to a request that it refuses. The attributes are those of the SDK's APIError."""

    def __init__(self, status: int, explanation: str) -> None:
        super().__init__(explanation)
        self.status_code = status
        self.explanation = explanation


def plain_address(environ: Mapping[str, str]) -> str:
    """The address of the engine if it is a Unix socket or on loopback without TLS; empty for any other."""
    if environ.get("DOCKER_TLS_VERIFY") or environ.get("DOCKER_CERT_PATH"):
        return ""
    host = environ.get("DOCKER_HOST", "")
    if not host and (os.name == "nt" or _names_context(environ)):
        return ""
    address = host or _DEFAULT
    if address.startswith("unix:///"):
        return address
    return address if _LOOPBACK.fullmatch(address) else ""


class PlainApi:
    """The engine at a `plain_address`. Thread-safe: each request has a connection of its own.

    `timeout` is for how many seconds the engine may be silent. All methods raise OSError, ValueError or RefusedError,
    and those that tag or receive images HTTPException.
    """

    def __init__(self, address: str, *, timeout: float) -> None:
        self._place = _place(address)
        self.timeout = timeout
        # As the SDK has it.
        tcp = address.removeprefix("tcp://")
        self.base_url = f"http://{tcp.rstrip('/')}" if tcp != address else "http+docker://localhost"

    def version(self, *, api_version: bool = False) -> dict[str, Any]:  # noqa: ARG002
        """The versions of the engine and of its API, and its platform."""
        return self._json("/version")

    def info(self) -> dict[str, Any]:
        """The engine's configuration and store."""
        return self._json("/info")

    def inspect_image(self, image: str) -> dict[str, Any]:
        """An image, by any name or ID."""
        return self._json(f"/images/{_name(image)}/json")

    def tag(self, image: str, repository: str, tag: str) -> None:
        """Give an image a name."""
        from urllib.parse import urlencode

        with self._open("POST", f"/images/{_name(image)}/tag?{urlencode({'repo': repository, 'tag': tag})}") as answer:
            answer.read(_MOST)

    def get_image(self, image: str, chunk_size: int) -> Iterator[bytes]:
        """An image as `docker save` writes it, in chunks."""
        with self._open("GET", f"/images/{_name(image)}/get") as answer:
            while chunk := answer.read(chunk_size):
                yield chunk
            if answer.length:
                from http.client import IncompleteRead

                raise IncompleteRead(b"", answer.length)

    def load_image(self, data: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        """Load an archive as `docker load` does; returns the engine's messages."""
        headers = {"Host": "localhost", "Content-Type": "application/x-tar"}
        _, _, answer = post(self._place, "/images/load", headers, data, seconds=self.timeout, most=_MOST)
        text = answer.decode("utf-8", "replace")
        decoder, start = json.JSONDecoder(), 0
        while (start := len(text) - len(text[start:].lstrip())) < len(text):
            message, start = decoder.raw_decode(text, start)
            yield message

    def close(self) -> None:
        """Nothing: no connection stays open."""

    def _json(self, path: str) -> dict[str, Any]:
        try:
            status, _, data = ask(self._place, "GET", path, {"Host": "localhost"}, seconds=self.timeout, most=_MOST)
            if status >= 400:
                raise RefusedError(status, _explanation(status, data))
        except UnusualAnswerError:
            data = self._data(path)
        document = json.loads(data)
        if not isinstance(document, dict):
            raise ValueError("the answer is not an object")
        return document

    def _data(self, path: str) -> bytes:
        from http.client import HTTPException

        try:
            with self._open("GET", path) as answer:
                return answer.read(_MOST)
        except HTTPException as error:
            raise ValueError(f"the answer breaks HTTP: {error!r}") from None

    @contextlib.contextmanager
    def _open(self, method: str, path: str) -> Iterator[HTTPResponse]:
        """The answer to a request."""
        from hatch_docker.engine.connection import connect

        connection = connect(self._place, self.timeout)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise RefusedError(answer.status, _explanation(answer.status, answer.read(_MOST)))
            yield answer
        finally:
            connection.close()


def _place(address: str) -> Place:
    found = _LOOPBACK.fullmatch(address)
    return (found[1], int(found[2] or _PORT)) if found else address.removeprefix("unix://")


def _name(image: str) -> str:
    if _USUAL_NAME.fullmatch(image):
        return image
    from urllib.parse import quote

    return quote(image, safe="/:@")


def _explanation(status: int, data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(ValueError, AttributeError):
        return str(json.loads(text).get("message") or text)
    return text or f"HTTP status {status}"


def _names_context(environ: Mapping[str, str]) -> bool:
    """Whether the engine is that of a Docker context."""
    if environ.get("DOCKER_CONTEXT"):
        return environ["DOCKER_CONTEXT"] != "default"
    folder = environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            return json.load(file).get("currentContext", "default") not in ("", "default")
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError):
        return True
