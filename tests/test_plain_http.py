"""Requests without an HTTP library: usual answers are understood, and all others are left to a full client."""

from __future__ import annotations

import http.client
import http.server
import io
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.support.plain_http import UnusualAnswerError, ask, post

_DIGEST = "sha256:" + 64 * "a"


class Server:
    """A server that gives one answer, and keeps the request, whose end in chunks it waits for if it `reads`."""

    def __init__(self, listener: socket.socket, answer: bytes, *, stays: bool = False, reads: bool = False) -> None:
        self.request, self._reads = b"", reads
        self._listener, self._answer, self._stays = listener, answer, stays
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            # Data that is not read would reset the connection.
            end = b"\r\n\r\n0\r\n\r\n" if self._reads else b"\r\n\r\n"
            while end not in self.request:
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


class _Echo(http.server.BaseHTTPRequestHandler):
    """Answers with what it was sent, in chunks of three bytes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(body), 3):
            chunk = body[start : start + 3]
            self.wfile.write(b"%X;of=3\r\n%b\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def echo() -> Iterator[tuple[str, int]]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield "127.0.0.1", server.server_port
        server.shutdown()
        thread.join()


class TestPost:
    @given(st.lists(st.binary(max_size=20), max_size=5))
    def test_sends_and_receives_chunks(self, echo: tuple[str, int], body: list[bytes]) -> None:
        status, _, answer = post(echo, "/a", {"Host": "x.example"}, body, seconds=5, most=2000)
        assert (status, answer) == (200, b"".join(body))

    def test_is_what_servers_expect(self, listener: socket.socket) -> None:
        server = Server(listener, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", reads=True)
        assert post(listener.getsockname(), "/a", {"Host": "x"}, [], seconds=5, most=9)[::2] == (200, b"{}")
        server.end()
        head = b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert server.request.startswith(head)

    def test_that_is_refused_halfway_has_an_answer(self) -> None:
        # A Unix socket: for TCP, the system may discard an answer that was not read before the connection is reset.
        listener, place = socket.socketpair()
        with listener, place, mock.patch("hatch_docker.support.plain_http._connected", return_value=place):
            listener.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\nno")
            listener.shutdown(socket.SHUT_RD)
            listener.shutdown(socket.SHUT_WR)
            assert post("/s", "/a", {}, [b"a"], seconds=5, most=9)[::2] == (403, b"no")

    @pytest.mark.parametrize(
        "chunks",
        [b"", b"2\r\n{}\r\n", b"2\r\n{", b"-2\r\n{}\r\n0\r\n\r\n", b"3\r\n{}\r\n0\r\n\r\n", b"x\r\n", b"99\r\n"],
    )
    def test_refuses_chunks_that_are_not_complete(self, listener: socket.socket, chunks: bytes) -> None:
        server = Server(listener, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, reads=True)
        with pytest.raises(UnusualAnswerError):
            post(listener.getsockname(), "/a", {}, [], seconds=5, most=99)
        server.end()

    def test_refuses_a_large_answer(self, echo: tuple[str, int]) -> None:
        with pytest.raises(UnusualAnswerError):
            post(echo, "/a", {"Host": "x.example"}, [1000 * b"a"], seconds=5, most=100)


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)
