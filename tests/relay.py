"""A relay on loopback, to the engine or another host, which can hang or break."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from types import TracebackType
from typing import TypeVar

_T = TypeVar("_T", bound="Relay")


class Relay:
    """Forwards bytes to `target` and back, for the duration of its `with` block; by default to that of DOCKER_HOST."""

    def __init__(self, target: str = "") -> None:
        self._target = target or os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        self._still = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._cut = False

    @property
    def host(self) -> str:
        """Its own host and port."""
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    @property
    def address(self) -> str:
        """The value for DOCKER_HOST."""
        return f"tcp://{self.host}"

    def __enter__(self: _T) -> _T:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()

    def cut(self) -> None:
        """Break every connection, and accept no more."""
        self._cut = True
        for each in [self._server, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def stand_still(self) -> None:
        """Forward nothing any more, without breaking connections."""
        self._still = True

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        kind, _, place = self._target.partition("://")
        with contextlib.suppress(OSError), client:
            if kind == "unix":
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(place)
            else:
                host, _, port = place.partition(":")
                engine = socket.create_connection((host, int(port)))
            with client, engine:
                self._open += [client, engine]
                if self._cut:
                    return
                asked = threading.Event()
                back = threading.Thread(target=self._copy, args=(engine, client, asked, True), daemon=True)
                back.start()
                self._copy(client, engine, asked, False)
                back.join()

    def _copy(self, source: socket.socket, target: socket.socket, asked: threading.Event, back: bool) -> None:
        """Forward one direction; `asked` is for both of a connection."""
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 13):
                if not self._still:
                    self.forward(chunk, target, asked, back)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def forward(self, chunk: bytes, target: socket.socket, asked: threading.Event, back: bool) -> None:
        """Send what was received on."""
        target.sendall(chunk)
