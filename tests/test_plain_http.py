"""Requests without an HTTP library: usual answers are understood, and all others are left to a full client."""

from __future__ import annotations

import http.client
import io
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.support.plain_http import UnusualAnswerError, ask

_DIGEST = "sha256:" + 64 * "a"


class Server:
    """A server that gives one answer, and keeps the request."""

    def __init__(self, listener: socket.socket, answer: bytes, *, stays: bool = False) -> None:
        self.request = b""
        self._listener, self._answer, self._stays = listener, answer, stays
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            while b"\r\n\r\n" not in self.request:
                self.request += connection.recv(1 << 16)
            connection.sendall(self._answer)
            if self._stays:
                self._ended.wait(10)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def answered(listener: socket.socket, answer: bytes, method: str = "GET", **options: Any) -> tuple[int, Any, bytes]:
    server = Server(listener, answer, stays=options.pop("stays", False))
    try:
        return ask(listener.getsockname(), method, "/a", {"Host": "x.example"}, **{"seconds": 5, "most": 99} | options)
    finally:
        server.end()


class TestUsualAnswers:
    def test_end_with_the_connection(self, listener: socket.socket) -> None:
        status, headers, body = answered(listener, b"HTTP/1.0 200 OK\r\nContent-Type: a/b\r\n\r\n{}")
        assert (status, headers, body) == (200, {"content-type": "a/b"}, b"{}")

    def test_end_where_their_length_says(self, listener: socket.socket) -> None:
        # The server does not close the connection.
        answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"
        assert answered(listener, answer, stays=True)[::2] == (404, b"no")

    def test_to_a_head_have_no_body(self, listener: socket.socket) -> None:
        answer = f"HTTP/1.1 200 OK\r\nContent-Length: 500\r\nDocker-Content-Digest: {_DIGEST}\r\n\r\n".encode()
        status, headers, body = answered(listener, answer, "HEAD", stays=True)
        assert (status, headers["docker-content-digest"], body) == (200, _DIGEST, b"")

    @pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
    def test_come_from_unix_sockets(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # The path of a socket is short.
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("s")
            listener.listen()
            server = Server(listener, b"HTTP/1.0 200 OK\r\n\r\n{}")
            assert ask("s", "GET", "/a", {"Host": "x"}, seconds=5, most=9)[2] == b"{}"
            server.end()
        assert server.request == b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n"


UNUSUAL = {
    "nothing": b"",
    "no status": b"SSH-2.0-OpenSSH\r\n\r\n",
    "another version": b"HTTP/2 200\r\n\r\n{}",
    "a head that is cut off": f"HTTP/1.1 200 OK\r\nDocker-Content-Digest: {_DIGEST}".encode(),
    "a head without an end": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50_000,
    "a malformed header": b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
    "a folded header": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a body that is cut off": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
    "too long a body": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}{}",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a large body": b"HTTP/1.1 200 OK\r\n\r\n" + 100 * b"a",
    "a body that will be large": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + 100 * b"a",
}


class TestOtherAnswers:
    @pytest.mark.parametrize("kind", UNUSUAL)
    def test_are_refused(self, listener: socket.socket, kind: str) -> None:
        with pytest.raises((UnusualAnswerError, ConnectionError)):
            answered(listener, UNUSUAL[kind])

    def test_that_will_be_large_are_not_read(self, listener: socket.socket) -> None:
        with pytest.raises(UnusualAnswerError):
            answered(listener, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", stays=True)

    def test_that_do_not_come_end_in_time(self, listener: socket.socket) -> None:
        with pytest.raises(OSError, match="timed out"):
            answered(listener, b"HTTP/1.1 200 OK\r\n", seconds=0.05, stays=True)

    def test_of_nobody_are_errors_of_the_system(self, listener: socket.socket) -> None:
        place = listener.getsockname()
        listener.close()
        with pytest.raises(OSError, match="refused"):
            ask(place, "GET", "/", {}, seconds=5)

    @pytest.mark.parametrize("port", [0, 65536 + 80])
    def test_of_no_port_are_errors_too(self, port: int) -> None:
        with pytest.raises(OSError, match="is no port"):
            ask(("127.0.0.1", port), "GET", "/", {}, seconds=5)

    @given(
        st.lists(
            st.sampled_from(
                [b"HTTP/1.1 200 OK", b"Content-Length: 3", b"Vary: a", b": b", b"abc", b"\r\n", b"\n", b" "]
            )
        )
    )
    def test_are_read_as_http_client_reads_them_or_not_at_all(self, parts: list[bytes]) -> None:
        answer = b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(parts) + b"\r\n\r\nabc"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            try:
                status, headers, body = answered(listener, answer)
            except (UnusualAnswerError, OSError):
                return
        known = http.client.HTTPResponse(_Socket(answer), method="GET")  # type: ignore[arg-type]
        known.begin()
        assert (known.status, known.read()) == (status, body)
        assert {name.lower(): ", ".join(known.headers.get_all(name, [])) for name in known.headers} == headers


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)
