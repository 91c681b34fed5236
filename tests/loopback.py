"""The base of the fakes: a server on loopback for the duration of a `with` block."""

from __future__ import annotations

import selectors
import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, TypeVar

_T = TypeVar("_T", bound="Loopback")


class QuietServer(ThreadingHTTPServer):
    """A server that ignores closed connections: clients close them after other failures.

    It is woken to end, instead of looking again and again whether it shall: hundreds of tests start one.
    """

    # `handle_request` does not wait for a client that is gone again.
    timeout = 0

    def __init__(self, *arguments: Any) -> None:
        self._woken, self._waker = socket.socketpair()
        super().__init__(*arguments)

    def serve_forever(self, poll_interval: float = 0) -> None:
        """Answer requests until `shutdown`."""
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while all(key.fileobj is self for key, _ in selector.select()):
                self.handle_request()

    def shutdown(self) -> None:
        """End `serve_forever`, which is joined before the server is closed."""
        self._waker.send(b"x")

    def server_close(self) -> None:
        super().server_close()
        self._woken.close()
        self._waker.close()

    def handle_error(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: tuple[str, int] | str
    ) -> None:
        """Print any other error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Loopback:
    """A base for fakes: `handler` answers requests; its `fake` is the instance. `context` is that of TLS, if any."""

    handler: ClassVar[type[QuietHandler]]
    server: ClassVar[type[ThreadingHTTPServer]] = QuietServer
    context: ssl.SSLContext | None = None
    _server: ThreadingHTTPServer
    _thread: threading.Thread

    def __enter__(self: _T) -> _T:
        handler = type("Handler", (self.handler,), {"fake": self})
        self._server = self.server(("127.0.0.1", 0), handler)
        if self.context:
            self._server.socket = self.context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def host(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self._server.server_address[1]}"


class QuietHandler(BaseHTTPRequestHandler):
    """A handler that keeps connections open and logs nothing."""

    fake: Any
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Log nothing."""
