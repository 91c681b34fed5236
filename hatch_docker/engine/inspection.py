"""Inspect an image without the SDK, whose import takes longer than all else that a build without changes does."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

_DEFAULT = "unix:///var/run/docker.sock"
_SECONDS = 15


def plain_address(environ: Mapping[str, str]) -> str:
    """The address of the engine if it needs neither TLS nor SSH; empty for others, and for that of a Docker context."""
    if environ.get("DOCKER_TLS_VERIFY") or environ.get("DOCKER_CERT_PATH"):
        return ""
    host = environ.get("DOCKER_HOST", "")
    if not host and (os.name == "nt" or _names_context(environ)):
        return ""
    address = host or _DEFAULT
    return address if address.startswith(("unix:///", "tcp://")) else ""


def inspect_image(address: str, name: str) -> dict[str, Any]:
    """An image as the engine at a `plain_address` describes it; empty if it does not, for whatever reason."""
    connection = _Unix(address) if address.startswith("unix:") else _tcp(address)
    try:
        connection.request("GET", f"/images/{quote(name)}/json")
        answer = connection.getresponse()
        document = json.loads(answer.read()) if answer.status == 200 else {}
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return document if isinstance(document, dict) else {}


class _Unix(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, address: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = address.removeprefix("unix://")

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)


def _tcp(address: str) -> http.client.HTTPConnection:
    parts = urlsplit(address)
    return http.client.HTTPConnection(parts.hostname or "", parts.port or 2375, timeout=_SECONDS)


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
