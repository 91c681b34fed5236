"""The output of processes in containers, as the engine streams it in frames over a bidirectional connection.

https://docs.docker.com/reference/api/engine/, "Stream format". The SDK reads these streams too, but drops output that
arrived together with the response's headers, as it does through a slow tunnel.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

_HEADER = struct.Struct(">BxxxL")
_CHUNK = 1 << 16
_KEEPALIVE_SECONDS = 30


class Stream:
    """The stream of `attach_socket` or `exec_start(socket=True)`. Reading has no timeout: a compiler may be silent."""

    def __init__(self, made: Any) -> None:
        self._socket, self._file, self._response = parts_of(made)
        with contextlib.suppress(AttributeError, OSError):
            self._socket.settimeout(None)
        with contextlib.suppress(AttributeError, OSError):
            # Detects an engine whose machine disappeared.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)

    def __iter__(self) -> Iterator[bytes]:
        """The output, in order. Raises OSError if the connection breaks within a frame."""
        while header := self._file.read(_HEADER.size):
            if len(header) < _HEADER.size:
                raise ConnectionResetError("the connection broke")
            _, left = _HEADER.unpack(header)
            while left:
                chunk = self._file.read1(min(left, _CHUNK))
                if not chunk:
                    raise ConnectionResetError("the connection broke")
                left -= len(chunk)
                yield chunk

    def break_off(self) -> None:
        """Make a thread that reads the stream see its end."""
        with contextlib.suppress(Exception):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection in any state."""
        self.break_off()
        for each in (self._file, self._response, self._socket):
            with contextlib.suppress(Exception):
                each.close()


def parts_of(made: Any) -> tuple[Any, Any, Any]:
    """The socket, its buffered reader and its response, of what `attach_socket` and `exec_start(socket=True)` return.

    All private: `_response` is docker's (checked with 7.1 and 7.2), which keeps the connection open by it; `_fp` is
    urllib3's (2.6 to 2.8); `_sock` and `fp` are the standard library's (3.10 to 3.13). If there is no such reader, a
    new one reads the socket, and output that arrived with the response's headers is lost.
    """
    response = getattr(made, "_response", None)
    connection = getattr(made, "_sock", made)
    file = getattr(getattr(getattr(response, "raw", None), "_fp", None), "fp", None)
    return connection, file or connection.makefile("rb"), response
