"""Connections to the engine by http.client, for `plain`."""

from __future__ import annotations

import socket
from http.client import HTTPConnection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatch_docker.support.plain_http import Place


class _Unix(HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connect(place: Place, seconds: float) -> HTTPConnection:
    """A connection to a Unix socket, or a host and a port, on which the engine may be silent for so many `seconds`."""
    return _Unix(place, seconds) if isinstance(place, str) else HTTPConnection(*place, timeout=seconds)
