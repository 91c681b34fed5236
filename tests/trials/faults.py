"""A proxy in front of a fake, which applies one fault of a table to one of its requests, or to all from one on."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from types import TracebackType

from loopback import Loopback, QuietHandler

from hatch_docker.support.dataclasses import dataclass, field, replace

_DROPPED = frozenset(("connection", "date", "server"))
_PAGE = b"<!DOCTYPE html><html><body>Please log in to use this network.</body></html>"


@dataclass(frozen=True)
class Answer:
    """What a fake answers; `body` is empty for a HEAD, and `length` is that of the header."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    length: int

    @classmethod
    def of(cls, status: int, body: bytes = b"", **headers: str) -> Answer:
        """An answer of the proxy itself."""
        return cls(status, tuple((name.replace("_", "-"), text) for name, text in headers.items()), body, len(body))


class Handler(QuietHandler):
    """Passes one connection's requests on."""

    fake: FaultProxy
    timeout = 60

    def setup(self) -> None:
        super().setup()
        self.target = HTTPConnection(self.fake.target)

    def finish(self) -> None:
        self.target.close()
        with contextlib.suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        (self.fake.next_fault() or _pass)(self)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815 (http.server's names)

    def forward(self) -> Answer:
        """The fake's answer to the request."""
        # With its own host, a fake names itself in what it answers, and nobody would come back here.
        self.target.request(self.command, self.path, self.body, dict(self.headers.items()))
        response = self.target.getresponse()
        body = response.read()
        headers = [(name, text) for name, text in response.getheaders() if name.lower() not in _DROPPED]
        kept = tuple((name, text) for name, text in headers if name.lower() != "content-length")
        return Answer(response.status, kept, body, int(response.headers.get("Content-Length", len(body))))

    def reply(self, answer: Answer) -> None:
        """Send an answer."""
        self.head(answer)
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def head(self, answer: Answer) -> None:
        """Send the beginning of an answer, without its body."""
        self.send_response_only(answer.status)
        for name, text in answer.headers:
            self.send_header(name, text)
        self.send_header("Content-Length", str(answer.length))
        self.end_headers()

    def stall(self) -> None:
        """Say nothing until the client gives up."""
        self.wfile.flush()
        self.rfile.read(1)
        self.close_connection = True


Fault = Callable[[Handler], None]


@dataclass
class FaultProxy(Loopback):
    """A proxy in front of the host `target`. The request `number` gets the `fault`, and all later ones if `lasting`.

    `count` is the number of requests until now.
    """

    handler = Handler

    target: str
    number: int = 0
    fault: Fault | None = None
    lasting: bool = False
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self, number: int = 0, fault: Fault | None = None, *, lasting: bool = False) -> None:
        """Count from the beginning, to the next fault."""
        with self.lock:
            self.number, self.fault, self.lasting, self.count = number, fault, lasting, 0

    def next_fault(self) -> Fault | None:
        """The fault of the next request."""
        with self.lock:
            self.count += 1
            is_due = self.count >= self.number if self.lasting else self.count == self.number
            return self.fault if is_due else None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.prepare()
        super().__exit__(kind, error, trace)


def _pass(handler: Handler) -> None:
    handler.reply(handler.forward())


def _reset(handler: Handler) -> None:
    """The request is not obeyed."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    os.close(handler.connection.detach())


def _lost(handler: Handler) -> None:
    """The request is obeyed, and nobody hears of it."""
    handler.forward()
    _reset(handler)


def _hang_up(handler: Handler) -> None:
    handler.close_connection = True


def _cut_head(handler: Handler) -> None:
    handler.forward()
    handler.wfile.write(b"HTTP/1.1 20")
    handler.close_connection = True


def _cut_body(handler: Handler) -> None:
    answer = handler.forward()
    handler.reply(replace(answer, body=answer.body[: len(answer.body) // 2]))
    handler.close_connection = True


def _garbage(handler: Handler) -> None:
    handler.wfile.write(random.Random(0).randbytes(2000))
    handler.close_connection = True


def _garbage_body(handler: Handler) -> None:
    answer = handler.forward()
    handler.reply(replace(answer, body=random.Random(0).randbytes(len(answer.body))))


def _longer(handler: Handler) -> None:
    answer = handler.forward()
    handler.reply(replace(answer, length=answer.length + 10))
    handler.close_connection = True


def _shorter(handler: Handler) -> None:
    answer = handler.forward()
    half = len(answer.body) // 2
    handler.reply(replace(answer, body=answer.body[:half], length=answer.length // 2))


def _stall(handler: Handler) -> None:
    handler.stall()


def _stall_in_body(handler: Handler) -> None:
    answer = handler.forward()
    handler.reply(replace(answer, body=answer.body[: len(answer.body) // 2]))
    handler.stall()


def _trickle(handler: Handler) -> None:
    answer = handler.forward()
    handler.head(answer)
    size = max(1, len(answer.body) // 40)
    for start in range(0, len(answer.body) if handler.command != "HEAD" else 0, size):
        handler.wfile.write(answer.body[start : start + size])
        handler.wfile.flush()
        time.sleep(0.001)


def _drop_by_drop(handler: Handler, data: bytes) -> None:
    """Less than what may come in the time of a connection, until the client gives up."""
    handler.close_connection = True
    with contextlib.suppress(OSError):
        for byte in data:
            handler.wfile.write(bytes((byte,)))
            handler.wfile.flush()
            time.sleep(0.1)


def _drops(handler: Handler) -> None:
    answer = handler.forward()
    handler.head(answer)
    if handler.command != "HEAD":
        _drop_by_drop(handler, answer.body)


def _drops_of_head(handler: Handler) -> None:
    handler.forward()
    _drop_by_drop(handler, b"HTTP/1.1 200 OK\r\nX-Long: " + bytes(100).replace(b"\0", b"x"))


def _redirect(handler: Handler) -> None:
    handler.reply(Answer.of(307, Location=handler.path))


def _redirect_to_nobody(handler: Handler) -> None:
    handler.reply(Answer.of(302, Location="http://127.0.0.1:1/"))


def _html(handler: Handler) -> None:
    handler.reply(Answer.of(200, _PAGE, Content_Type="text/html"))


def _nothing(handler: Handler) -> None:
    handler.reply(Answer.of(200))


def _status(status: int, **headers: str) -> Fault:
    return lambda handler: handler.reply(Answer.of(status, b"no luck", **headers))


FAULTS: dict[str, Fault] = {
    "reset": _reset,
    "lost": _lost,
    "hang up": _hang_up,
    "cut head": _cut_head,
    "cut body": _cut_body,
    "garbage": _garbage,
    "garbage body": _garbage_body,
    "longer": _longer,
    "shorter": _shorter,
    "stall": _stall,
    "stall in body": _stall_in_body,
    "trickle": _trickle,
    "drops": _drops,
    "drops of head": _drops_of_head,
    "redirect": _redirect,
    "redirect to nobody": _redirect_to_nobody,
    "html": _html,
    "nothing": _nothing,
    "429 later": _status(429, Retry_After="2"),
    **{str(status): _status(status) for status in (400, 401, 403, 404, 410, 416, 429, 500, 502, 503, 504)},
}
