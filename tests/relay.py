"""A relay on loopback to the engine, which can hang or break."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from types import TracebackType


class Relay:
    """Forwards bytes to the engine of DOCKER_HOST and back, for the duration of its `with` block."""

    def __init__(self) -> None:
        self._target = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        self._still = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._cut = False

    @property
    def address(self) -> str:
        """The value for DOCKER_HOST."""
        return f"tcp://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Relay:
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
                back = threading.Thread(target=self._copy, args=(engine, client), daemon=True)
                back.start()
                self._copy(client, engine)
                back.join()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 16):
                if not self._still:
                    target.sendall(chunk)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
