from __future__ import annotations

import base64
import contextlib
import gc
import io
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar, NoReturn
from urllib.parse import urlsplit
from urllib.request import _proxy_bypass_macosx_sysconf  # type: ignore[attr-defined]

import pytest
import truststore
import urllib3.util.connection
from hypothesis import given
from hypothesis import strategies as st
from loopback import QuietServer
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NameResolutionError, ReadTimeoutError, SSLError

from hatch_docker.debian.archive import Archive, Trust
from hatch_docker.debian.sources import Mirror, Mirrors
from hatch_docker.errors import DebianError, NetworkError
from hatch_docker.index.client import Index
from hatch_docker.index.settings import IndexSettings
from hatch_docker.oci import spec
from hatch_docker.oci.graph import Node
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry import session, upload
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.registry.pace import Pace
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support import connections, silence
from hatch_docker.support import http as http_module
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http, Network, Sending, final_url
from hatch_docker.support.network_errors import translate
from hatch_docker.support.redaction import redact, redact_text
from hatch_docker.support.streams import digest_of

BODY = bytes(range(256)) * 40
# Certificates.
DATA = Path(__file__).parent / "data" / "certificates"
ONE, TWO = DATA / "one.pem", DATA / "two.pem"

Answer = Callable[[BaseHTTPRequestHandler], object]


def answer(status: int = 200, body: bytes = b"", *, sent: int | None = None, **headers: str) -> Answer:
    """An answer; with `sent`, the connection breaks after so many bytes of the body."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:sent])
        handler.close_connection = sent is not None

    return send


def endless(status: int, **headers: str) -> Answer:
    """An answer with an endless body."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.close_connection = True
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(BODY)

    return send


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


class Server(QuietServer):
    """Gives `answers` in order, repeating the last one, and records the requests."""

    # The client closes persistent connections; the server does not wait for them.
    daemon_threads = True

    # Of all servers.
    ports: ClassVar[set[int]] = set()

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ports.add(self.server_port)
        self.answers: list[Answer] = [answer()]
        self.seen: list[BaseHTTPRequestHandler] = []
        self.pause = 0.0  # in seconds, before the body of a PUT is read, and before the answer
        self.reading = 0.0  # in seconds, after each megabyte of the body

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append(self)
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    do_HEAD = do_POST = do_GET  # noqa: N815 (http.server's names)

    def do_PUT(self) -> None:
        time.sleep(self.server.pause)
        left = int(self.headers["Content-Length"])
        while left and (data := self.rfile.read(min(left, 1 << 20))):
            left -= len(data)
            time.sleep(self.server.reading)
        time.sleep(self.server.pause)
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with Server() as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits before retries in seconds, recorded instead of waiting; those of servers in other threads are not."""
    seconds: list[float] = []
    ours, sleep = threading.current_thread(), time.sleep

    def record(wait: float) -> None:
        if threading.current_thread() is ours:
            seconds.append(wait)
        else:
            sleep(wait)

    monkeypatch.setattr(time, "sleep", record)
    return seconds


class Clock:
    """Time that passes only where a client waits for a server, or before it asks again.

    `quiet` are the ports of clients that get no more. The others get at most `most` bytes in each `seconds`, and
    send no more if `sends_slowly`.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.quiet: set[int] = set()
        self.most, self.seconds, self.sends_slowly = 1 << 20, 0.0, False

    @staticmethod
    def is_client(own: socket.socket) -> bool:
        return own.family == socket.AF_INET and own.getpeername()[1] in Server.ports

    def readinto(self, receive: Callable[[Any, Any], Any], connection: Any, buffer: Any) -> Any:
        own = connection._sock
        if not self.is_client(own):
            return receive(connection, buffer)
        while not select.select([own], [], [], 0.001)[0]:
            # What was sent before may have arrived since.
            if own.getsockname()[1] in self.quiet and not select.select([own], [], [], 0.01)[0]:
                self.now += own.gettimeout()
                raise TimeoutError("timed out")
        self.now += self.seconds
        return receive(connection, memoryview(buffer)[: self.most])

    def send(self, send: Callable[[Any, Any], int], own: Any, data: Any) -> int:
        if self.sends_slowly and self.is_client(own):
            self.now += self.seconds
            data = data[: self.most]
        return send(own, data)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    ours, sleep = threading.current_thread(), time.sleep
    receive, send = socket.SocketIO.readinto, socket.socket.send

    def wait(seconds: float) -> None:
        if threading.current_thread() is ours:
            made.now += seconds
        else:
            sleep(seconds)

    monkeypatch.setattr(socket.SocketIO, "readinto", lambda *found: made.readinto(receive, *found))
    monkeypatch.setattr(socket.socket, "send", lambda *found: made.send(send, *found))
    monkeypatch.setattr(silence, "now", lambda: made.now)
    monkeypatch.setattr(time, "sleep", wait)
    return made


@pytest.fixture
def silent(clock: Clock) -> Iterator[Answer]:
    """An answer that never comes."""
    over = threading.Event()

    def be(handler: BaseHTTPRequestHandler) -> None:
        clock.quiet.add(handler.client_address[1])
        over.wait(60)

    yield be
    over.set()


class TestSlowness:
    """A PUT of more than the socket's buffers hold, which is read, and answered, after a third of a second."""

    @pytest.fixture(autouse=True)
    def _slow(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        server.pause = 0.3
        monkeypatch.setattr(connections, "_CONNECT_SECONDS", 0.1)

    @staticmethod
    def put(server: Server, body: bytes | list[bytes], patience: float = 0) -> int:
        headers = {"Content-Length": str(sum(map(len, body)) if isinstance(body, list) else len(body))}
        return (
            Http()
            .request("PUT", server.url, headers=headers, body=body, sending=Sending(retry=False, patience=patience))
            .status
        )

    @pytest.mark.parametrize("body", [bytes(20 << 20), [bytes(1 << 20)] * 20])
    def test_body_may_be_sent_slowly(self, server: Server, body: bytes | list[bytes]) -> None:
        assert self.put(server, body) == 200

    @pytest.mark.parametrize("body", [bytes(20 << 20), [bytes(1 << 20)] * 20])
    def test_so_may_it_on_a_connection_that_was_used_before(self, server: Server, body: bytes | list[bytes]) -> None:
        http = Http()
        assert http.read(server.url) == (200, b"")
        headers = {"Content-Length": str(20 << 20)}
        assert http.request("PUT", server.url, headers=headers, body=body, sending=Sending(retry=False)).status == 200
        assert len({handler.client_address for handler in server.seen}) == 1

    def test_a_piece_after_the_other_has_the_whole_time(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(silence, "OF_CONNECTION", 1.0)
        server.pause, server.reading = 0, 0.08
        assert self.put(server, bytes(20 << 20), patience=60) == 200

    def test_server_that_reads_no_more_is_named(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(silence, "OF_CONNECTION", 0.1)
        server.pause = 0.5
        with pytest.raises(NetworkError, match=f"{server.host} stopped answering"):
            self.put(server, bytes(20 << 20))

    def test_answer_may_be_late_if_the_caller_is_patient(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(silence, "OF_CONNECTION", 0.1)
        assert self.put(server, b"small", patience=60) == 200
        given_up = threading.Event()
        server.answers = [lambda _: given_up.wait(60)]
        with pytest.raises(NetworkError, match="stopped answering"):
            self.put(server, b"small")
        given_up.set()


class TestSilence:
    """A host that accepts connections and says nothing, or nothing more."""

    @pytest.fixture(autouse=True)
    def _never_waits(self, clock: Clock) -> None:
        self.clock = clock

    # In seconds, of callers that have less than usual.
    patience = 0.5

    @staticmethod
    def stalling(silent: Answer, sent: bytes = b"", status: int = 200) -> Answer:
        """An answer that ends in silence after some bytes of its body."""

        def send(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(BODY)))
            handler.end_headers()
            handler.wfile.write(sent)
            silent(handler)

        return send

    def test_ends_after_a_while_and_names_the_host(self, server: Server, silent: Answer) -> None:
        server.answers = [silent]
        with pytest.raises(NetworkError, match=f": {server.host} stopped answering\n"):
            Http().read(server.url)
        assert len(server.seen) == 3

    def test_caller_may_have_less_patience(self, server: Server, silent: Answer) -> None:
        server.answers = [silent]
        with pytest.raises(NetworkError, match="stopped answering"):
            Http(patience=self.patience).read(server.url)
        assert len(server.seen) == 1

    def test_host_is_not_asked_again_then(self, server: Server, silent: Answer) -> None:
        server.answers = [silent]
        http = Http()
        for path in ("a", "b"):
            with pytest.raises(NetworkError, match="stopped answering") as caught:
                http.read(f"{server.url}/{path}")
            assert caught.value.place == f"{server.url}/{path}"
        assert len(server.seen) == 3

    def test_answer_after_some_attempts_is_as_good(self, server: Server, silent: Answer) -> None:
        server.answers = [silent, silent, answer(200, b"x")]
        assert Http().read(server.url) == (200, b"x")

    def test_time_of_earlier_requests_counts(self, server: Server, silent: Answer) -> None:
        server.answers = [silent]
        http = Http()
        for _ in range(2):
            with pytest.raises(NetworkError):
                http.request("PUT", server.url, body=b"", headers={"Content-Length": "0"}, sending=Sending(retry=False))
        with pytest.raises(NetworkError):
            http.read(server.url)
        assert len(server.seen) == 3

    def test_answer_that_says_later_does_not_start_the_time_again(self, server: Server, silent: Answer) -> None:
        server.answers = [silent, silent, answer(503), silent, answer(200, b"x")]
        with pytest.raises(NetworkError, match="stopped answering"):
            Http().read(server.url)

    def test_any_other_answer_starts_the_time_again(self, server: Server, silent: Answer) -> None:
        server.answers = [silent, silent, answer(404), silent, silent, answer(200, b"x")]
        http = Http()
        assert http.read(server.url) == (404, b"")
        assert http.read(server.url) == (200, b"x")

    def test_within_a_body_ends_after_a_while(self, server: Server, silent: Answer) -> None:
        server.answers = [self.stalling(silent)]
        http = Http()
        with pytest.raises(NetworkError, match=f": {server.host} stopped answering\n"):
            b"".join(http.resume(http.request("GET", server.url), server.url, {}))
        # The first minute may have begun before the body was waited for.
        asked = len(server.seen)
        assert asked in (3, 4)
        with pytest.raises(NetworkError, match="stopped answering"):
            http.request("GET", f"{server.url}/other")
        assert len(server.seen) == asked

    def test_each_piece_of_a_body_starts_the_time_again(
        self, server: Server, silent: Answer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http_module, "CHUNK", silence.LEAST)
        starts = [number * silence.LEAST for number in range(8)]
        answers = [self.stalling(silent, BODY[at : at + silence.LEAST], 206 if at else 200) for at in starts]
        server.answers = [*answers, answer(206, BODY[8 * silence.LEAST :])]
        http = Http()
        assert b"".join(http.resume(http.request("GET", server.url), server.url, {})) == BODY

    def test_host_that_a_redirect_led_to_is_named(self, server: Server, silent: Answer) -> None:
        with serving() as storage:
            storage.answers = [silent]
            server.answers = [answer(307, Location=f"{storage.url}/x?signature=secret")]
            with pytest.raises(NetworkError, match=f": {storage.host} stopped answering\n") as caught:
                Http().read(f"{server.url}/x")
        assert "secret" not in str(caught.value)

    def test_proxy_is_not_named_for_the_host_behind_it(self, server: Server, silent: Answer) -> None:
        server.answers = [silent]
        with pytest.raises(NetworkError, match=r": index\.example stopped answering\n"):
            Http(Network(proxies={"http": server.url})).read("http://index.example/")


class TestTrickles:
    """A server that sends or takes very little at a time."""

    @pytest.fixture(autouse=True)
    def _trickling(self, clock: Clock, server: Server) -> None:
        clock.most, clock.seconds = 1, 20
        server.answers = [answer(200, BODY)]

    def test_head_counts_as_silence(self, server: Server, clock: Clock) -> None:
        with pytest.raises(NetworkError, match=f"{server.host} stopped answering"):
            Http().read(server.url)
        assert clock.now < 200

    @pytest.mark.parametrize("whole", [True, False])
    def test_body_counts_as_silence(self, server: Server, clock: Clock, whole: bool) -> None:
        def slowly(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(BODY)))
            handler.end_headers()
            # It is read alone, and all of the body byte by byte.
            passed.wait(60)
            handler.wfile.write(BODY)

        passed = threading.Event()
        server.answers = [slowly]
        clock.most, clock.seconds = 1 << 20, 0
        http = Http()
        response = http.request("GET", server.url)
        clock.most, clock.seconds = 1, 20
        server.answers = [answer(200, BODY)]
        passed.set()
        with pytest.raises(NetworkError, match=f"{server.host} stopped answering"):
            http.body(response, server.url, limit=1 << 20) if whole else list(http.resume(response, server.url, {}))
        response.close()
        assert clock.now < 200

    def test_slow_answer_comes(self, server: Server, clock: Clock) -> None:
        clock.most = silence.LEAST // 2
        assert Http().read(server.url) == (200, BODY)
        assert clock.now > 180

    def test_what_is_taken_byte_by_byte_counts_as_silence(self, server: Server, clock: Clock) -> None:
        clock.sends_slowly = True
        with pytest.raises(NetworkError, match=f"{server.host} stopped answering"):
            Http().request("PUT", server.url, body=iter([BODY]), sending=Sending(retry=False))
        assert clock.now < 100

    def test_what_is_taken_slowly_gets_there(self, server: Server, clock: Clock) -> None:
        clock.most, clock.sends_slowly = silence.LEAST // 2, True
        headers = {"Content-Length": str(len(BODY))}
        sending = Sending(retry=False)
        assert Http().request("PUT", server.url, headers=headers, body=iter([BODY]), sending=sending).status == 200
        assert clock.now > 180

    def test_buffer_that_empties_slowly_is_progress(
        self, server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A socket that takes nothing for minutes, since it has much to send."""
        clock.seconds, clock.most = 0, 1 << 20
        left, send = [20 * silence.LEAST], clock.send

        def full(real: Callable[[Any, Any], int], own: Any, data: Any) -> int:
            if clock.is_client(own) and left[0]:
                left[0] -= silence.LEAST
                clock.now += own.gettimeout()
                raise TimeoutError("timed out")
            return send(real, own, data)

        monkeypatch.setattr(clock, "send", full)
        monkeypatch.setattr(connections, "_waiting", lambda _socket: left[0])
        assert Http().read(server.url) == (200, BODY)
        assert clock.now > 180


class TestTimeOfAll:
    """Nobody waits for more than three minutes, and a little, for all hosts that could have something."""

    @pytest.fixture
    def other(self) -> Iterator[Server]:
        with serving() as running:
            yield running

    @pytest.mark.parametrize("stalls", [False, True])
    @pytest.mark.parametrize("kind", ["mirror", "index", "debian"])
    def test_silent_hosts_that_stand_in_for_each_other(
        self, server: Server, other: Server, silent: Answer, clock: Clock, tmp_path: Path, kind: str, stalls: bool
    ) -> None:
        for each in (server, other):
            each.answers = [TestSilence.stalling(silent, b"some") if stalls else silent]
        http = Http()
        if kind == "mirror":
            registry = Registry(http, credentials=Credentials(), mirrors={server.host: f"{other.host}/prefix"})
            with pytest.raises(NetworkError) as caught:
                registry.manifest(Reference(registry=server.host, repository="x", tag="1"))
            assert server.host in str(caught.value)
        elif kind == "index":
            settings = IndexSettings(url=server.url, extra_urls=(other.url,))
            with pytest.raises(NetworkError) as caught:
                Index(settings, http).files("x")
            assert server.host in str(caught.value)
        else:
            mirrors = Mirrors(main=(Mirror(url=server.url), Mirror(url=other.url)), security=())
            archive = Archive(mirrors, Trust(now=datetime.now(timezone.utc)), http=http, cache=Cache(tmp_path))
            with pytest.raises(DebianError) as debian:
                archive.release("trixie")
            assert server.host in str(debian.value)
            assert other.host in str(debian.value)
        assert server.seen
        assert other.seen
        assert 120 <= clock.now < 200

    def test_host_has_the_time_that_another_one_did_not_take(
        self, server: Server, other: Server, silent: Answer, clock: Clock
    ) -> None:
        server.answers, other.answers = [answer(200)], [silent, answer(200, b"x")]
        http = Http()
        http.share(server.url, other.url)
        assert http.read(other.url) == (200, b"x")
        assert http.read(server.url) == (200, b"")

    def test_hosts_that_say_later_every_time(self, server: Server, clock: Clock) -> None:
        server.answers = [answer(503, Retry_After="25")]
        http = Http()
        for _ in range(4):
            assert http.read(server.url)[0] == 503
        assert clock.now < 200
        server.answers = [answer(200, b"x")]
        assert http.read(server.url) == (200, b"x")

    def test_too_many_requests_every_time(self, server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(session, "Pace", lambda: Pace(clock=lambda: clock.now))
        server.answers = [answer(429, Retry_After="25")]
        registry = Registry(Http(), credentials=Credentials())
        for _ in range(4):
            with pytest.raises(NetworkError, match="too many requests"):
                registry.manifest(Reference(registry=server.host, repository="x", tag="1"))
        assert clock.now < 200

    def test_slow_redirects_without_end(self, server: Server, clock: Clock) -> None:
        clock.seconds = 50
        server.answers = [answer(307, Location="/")]
        with contextlib.suppress(NetworkError):
            Http().read(server.url)
        assert clock.now < 240

    def test_addresses_of_a_host_share_the_time_of_one(self, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
        tried: list[str] = []

        def connect(address: tuple[str, int], timeout: float, **_: object) -> NoReturn:
            tried.append(address[0])
            clock.now += timeout
            raise TimeoutError("timed out")

        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{number}", 80)) for number in range(8)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        monkeypatch.setattr(urllib3.util.connection, "create_connection", connect)
        with pytest.raises(NetworkError, match="does not answer"):
            Http().read("http://many.example/")
        assert set(tried) == {f"192.0.2.{number}" for number in range(8)}
        assert clock.now < 60

    def test_upload_whose_end_is_never_answered(
        self, server: Server, silent: Answer, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(upload, "_FIRST_WAIT", 0)

        def registry(handler: BaseHTTPRequestHandler) -> None:
            kind = handler.command
            silent(handler) if kind == "PUT" else answer(202 if kind == "POST" else 404, Location="/upload")(handler)

        server.answers = [registry]
        client = Registry(Http(), credentials=Credentials())
        config = Descriptor(media_type=spec.CONFIG, digest=digest_of(b"{}"), size=2)
        image = Node(descriptor=config, open=lambda: io.BytesIO(b"{}"))
        with pytest.raises(NetworkError, match=f"{server.host} stopped answering"):
            client.push(image, [Reference(registry=server.host, repository="x", tag="1")])
        assert clock.now < 200


class TestRequests:
    def test_returns_an_answer(self, server: Server) -> None:
        server.answers = [answer(200, BODY)]
        assert Http(user_agent="test/1").read(f"{server.url}/a", headers={"Accept": "x/y"}) == (200, BODY)
        assert server.seen[0].headers["User-Agent"] == "test/1"
        assert server.seen[0].headers["Accept"] == "x/y"

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_retries_temporary_failures(self, server: Server, waits: list[float], status: int) -> None:
        server.answers = [answer(status), hang_up, answer(200, b"x")]
        assert Http().read(server.url) == (200, b"x")
        assert len(server.seen) == 3

    @pytest.mark.parametrize("status", [400, 401, 403, 404])
    def test_does_not_retry_refusals(self, server: Server, status: int) -> None:
        server.answers = [answer(status, b"no")]
        assert Http().read(server.url) == (status, b"no")
        assert len(server.seen) == 1

    def test_returns_permanent_failures(self, server: Server, waits: list[float]) -> None:
        server.answers = [answer(503, b"down")]
        assert Http().read(server.url) == (503, b"down")
        assert len(server.seen) == 6
        assert waits == sorted(waits)

    def test_honours_retry_after(self, server: Server, waits: list[float]) -> None:
        server.answers = [answer(429, Retry_After="7"), answer(200, b"x")]
        assert Http().read(server.url) == (200, b"x")
        assert waits == [7]

    def test_does_not_wait_for_a_day(self, server: Server, waits: list[float]) -> None:
        server.answers = [answer(429, b"later", Retry_After="86400")]
        assert Http().read(server.url) == (429, b"later")
        assert waits == []

    @pytest.mark.parametrize("when", ["soon", "1.5", "9" * 5000, "Fri, 31 Dec 99999 23:59:59 GMT", ""])
    def test_ignores_an_invalid_retry_after(self, server: Server, waits: list[float], when: str) -> None:
        server.answers = [answer(503, Retry_After=when), answer(200, b"x")]
        assert Http().read(server.url) == (200, b"x")

    @pytest.mark.parametrize("first", [endless(503), endless(302, Location="/b")])
    def test_skipped_answer_may_have_an_endless_body(self, server: Server, waits: list[float], first: Answer) -> None:
        server.answers = [first, answer(200, b"x")]
        assert Http().read(server.url) == (200, b"x")

    def test_does_not_repeat_bodies_that_cannot_be_sent_twice(self, server: Server) -> None:
        server.answers = [answer(503)]
        response = Http().request("PUT", server.url, body=b"x", sending=Sending(retry=False))
        assert response.status == 503
        assert len(server.seen) == 1

    def test_reuses_connections(self, server: Server, waits: list[float]) -> None:
        server.answers = [answer(503, BODY), answer(307, BODY, Location="/"), answer(200, BODY)]
        http = Http()
        for _ in range(3):
            assert http.read(server.url) == (200, BODY)
        assert len({handler.client_address for handler in server.seen}) == 1

    def test_refuses_answers_larger_than_the_limit(self, server: Server) -> None:
        server.answers = [answer(200, BODY)]
        http = Http()
        with pytest.raises(NetworkError, match="larger than anything expected"):
            http.read(server.url, limit=10)
        assert http.read(server.url, limit=len(BODY)) == (200, BODY)


class TestRedirects:
    def test_are_followed(self, server: Server) -> None:
        server.answers = [answer(307, Location="/b/c"), answer(200, b"x")]
        response = Http().request("GET", f"{server.url}/a")
        assert response.read() == b"x"
        assert final_url(response, f"{server.url}/a") == f"{server.url}/b/c"

    def test_are_returned_if_the_caller_follows_them(self, server: Server) -> None:
        server.answers = [answer(307, Location="/b")]
        assert Http().request("GET", server.url, sending=Sending(redirect=False)).status == 307

    def test_do_not_send_credentials_to_another_host(self, server: Server) -> None:
        with serving() as second:
            server.answers = [answer(307, Location="/same"), answer(307, Location=f"{second.url}/")]
            Http().read(server.url, headers={"Authorization": "Bearer secret"})
        assert [handler.headers["Authorization"] for handler in server.seen] == ["Bearer secret"] * 2
        assert second.seen[0].headers["Authorization"] is None

    def test_endless_ones_are_refused(self, server: Server) -> None:
        server.answers = [answer(307, Location="/")]
        assert Http().read(server.url)[0] == 307


class TestResume:
    def body(self, server: Server, url: str = "") -> bytes:
        http, headers = Http(), {"Accept": "x/y"}
        url = url or f"{server.url}/blob"
        return b"".join(http.resume(http.request("GET", url, headers=headers), url, headers))

    @pytest.mark.parametrize("sent", [0, 1, 5000, len(BODY) - 1])
    def test_requests_only_the_rest(self, server: Server, waits: list[float], sent: int) -> None:
        server.answers = [answer(200, BODY, sent=sent), answer(206, BODY[sent:])]
        assert self.body(server) == BODY
        assert server.seen[1].headers["Range"] == f"bytes={sent}-"
        assert server.seen[1].headers["Accept"] == "x/y"

    def test_server_that_ignores_the_range(self, server: Server, waits: list[float]) -> None:
        server.answers = [answer(200, BODY, sent=1000), answer(200, BODY, sent=500), answer(200, BODY)]
        assert self.body(server) == BODY

    def test_progress_starts_the_count_of_attempts_again(self, server: Server, waits: list[float]) -> None:
        pieces = [answer(206 if at else 200, BODY[at:], sent=10) for at in range(0, 200, 10)]
        server.answers = [*pieces, answer(206, BODY[200:])]
        assert self.body(server) == BODY
        assert max(waits) < 1

    def test_length_that_is_larger_than_the_body(self, server: Server, waits: list[float]) -> None:
        rest = answer(416, Content_Range=f"bytes */{len(BODY)}")
        server.answers = [answer(200, BODY + b"x", sent=len(BODY)), rest]
        assert self.body(server) == BODY

    def test_server_that_breaks_every_connection(self, server: Server, waits: list[float]) -> None:
        server.answers = [answer(200, BODY, sent=10)]
        with pytest.raises(NetworkError, match=f"the connection to {server.host} broke"):
            self.body(server)
        assert len(server.seen) == 5

    def test_server_that_lost_the_file(self, server: Server, waits: list[float]) -> None:
        server.answers = [answer(200, BODY, sent=10), answer(404, BODY)]
        with pytest.raises(NetworkError, match="cannot go on: HTTP 404"):
            self.body(server)
        # A connection that stays open causes a warning, which is an error in tests.
        gc.collect()

    def test_content_encoding_does_not_change_the_bytes(self, server: Server) -> None:
        server.answers = [answer(200, BODY, Content_Encoding="gzip")]
        assert self.body(server) == BODY

    def test_rest_of_a_body_is_not_taken_for_another_answer(self, server: Server) -> None:
        server.answers = [answer(200, b"old" * 1_000_000), answer(200, b"new")]
        http = Http()
        chunks = http.resume(http.request("GET", server.url), server.url, {})
        assert next(chunks).startswith(b"old")
        chunks.close()  # type: ignore[attr-defined]
        assert http.request("PUT", server.url, body=b"", sending=Sending(retry=False)).read() == b"new"

    @pytest.mark.parametrize("password", ["s/cret", "s#cret", "s?cret", "s@cret"])
    def test_password_that_is_not_quoted_is_not_shown(self, password: str) -> None:
        url = f"https://me:{password}@index.example/simple"
        assert "cret" not in redact(url)
        assert "cret" not in redact_text(f"error: invalid value '{url}' for x@y")

    @pytest.mark.parametrize(
        "text",
        [
            "http://127.0.0.1:8000/a@b, http://[::1]:80/a@b",
            "connection to 'https://index.example:443': mail me@index.example",
            "git+file:///x@v1 and https://git.example/x.git@v1",
        ],
    )
    def test_text_without_logins_is_shown_as_it_is(self, text: str) -> None:
        assert redact_text(text) == text


class TestProxies:
    @pytest.mark.parametrize("scheme", ["", "http://"])
    def test_proxy_gets_its_own_credentials(self, server: Server, scheme: str) -> None:
        network = Network(proxies={"http": f"{scheme}me:p%40ss@{server.host}"})
        assert Http(network).read("http://index.example/simple/")[0] == 200
        assert server.seen[0].path == "http://index.example/simple/"
        assert server.seen[0].headers["Proxy-Authorization"] == f"Basic {base64.b64encode(b'me:p@ss').decode()}"

    @pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST"])
    def test_loopback_hosts_need_no_proxy(self, server: Server, host: str) -> None:
        network = Network(proxies={"http": "http://proxy.example:1"})
        assert Http(network).read(f"http://{host}:{server.server_port}/x")[0] == 200
        assert server.seen[0].path == "/x"

    @pytest.fixture
    def proxied_loopback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As if 127.0.0.1 were another machine: the server is the proxy and the host."""
        monkeypatch.setattr(http_module, "is_loopback", lambda _host: False)

    @pytest.mark.usefixtures("proxied_loopback")
    @pytest.mark.parametrize(
        ("exceptions", "direct"),
        [("", False), ("other.example", False), ("127.0.0.1", True), ("a.example, {host}", True), ("*", True)],
    )
    def test_no_proxy_names_hosts_that_are_reached_directly(
        self, server: Server, exceptions: str, direct: bool
    ) -> None:
        network = Network(proxies={"all": server.url, "no": exceptions.format(host=server.host)})
        assert Http(network).read(f"{server.url}/x")[0] == 200
        assert server.seen[0].path == ("/x" if direct else f"{server.url}/x")

    @pytest.mark.usefixtures("proxied_loopback")
    @pytest.mark.parametrize("direct", [True, False])
    def test_the_systems_exceptions_count_where_it_has_them(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, direct: bool
    ) -> None:
        monkeypatch.setattr(http_module, "_SYSTEM_SETTINGS", True)
        monkeypatch.setattr(http_module, "proxy_bypass", lambda host: direct and host == server.host)
        assert Http(Network(proxies={"http": server.url})).read(f"{server.url}/x")[0] == 200
        assert server.seen[0].path == ("/x" if direct else f"{server.url}/x")

    @pytest.mark.parametrize(
        ("url", "direct"),
        [
            ("http://registry.corp.example:5000/x", True),
            ("http://registry.corp.example/x", True),
            ("http://registry:5000/x", True),
            ("http://10.1.2.3:5000/x", True),
            ("http://registry.example:5000/x", False),
        ],
    )
    def test_exceptions_of_macos_count_for_all_ports(
        self, monkeypatch: pytest.MonkeyPatch, url: str, direct: bool
    ) -> None:
        settings = {"exclude_simple": True, "exceptions": ["*.corp.example", "10.0.0.0/8"]}
        monkeypatch.setattr(http_module, "_SYSTEM_SETTINGS", True)
        monkeypatch.setattr(http_module, "proxy_bypass", lambda host: _proxy_bypass_macosx_sysconf(host, settings))

        class OpenedError(Exception):
            pass

        def connect(proxy: str, _ca_file: str) -> NoReturn:
            raise OpenedError(proxy)

        monkeypatch.setattr(connections, "connect", connect)
        with pytest.raises(OpenedError, match="^$" if direct else "proxy"):
            Http(Network(proxies={"http": "http://proxy.example:3128"})).read(url)

    def test_unreachable_proxy(self, waits: list[float]) -> None:
        with pytest.raises(NetworkError, match="the proxy cannot be reached") as caught:
            Http(Network(proxies={"http": "http://me:secret@127.0.0.1:1"})).read("http://index.example/")
        assert "NO_PROXY" in caught.value.hint
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        "proxy", ["socks5://me:secret@127.0.0.1:1", "http://me:secret@[::1", "http://me:secret@a:x"]
    )
    def test_invalid_proxy(self, proxy: str) -> None:
        with pytest.raises(NetworkError) as caught:
            Http(Network(proxies={"https": proxy})).read("https://index.example/")
        assert "secret" not in str(caught.value)


class TestErrors:
    def test_unreachable_host(self, waits: list[float]) -> None:
        with pytest.raises(NetworkError) as caught:
            Http().read("http://me:secret@127.0.0.1:1/path?token=secret#secret")
        assert caught.value.message == "127.0.0.1:1 cannot be reached"
        assert caught.value.place == "http://127.0.0.1:1/path"
        assert caught.value.hint

    @pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://nowhere.invalid/"])
    def test_unreachable_host_is_reported_soon(self, waits: list[float], url: str) -> None:
        with pytest.raises(NetworkError):
            Http().read(url)
        assert sum(waits) < 2

    def test_https_url_of_a_host_without_tls(self, server: Server, waits: list[float]) -> None:
        with pytest.raises(NetworkError, match="no trusted TLS connection") as caught:
            Http().read(f"https://{server.host}/")
        assert "SSL_CERT_FILE" in caught.value.hint

    def test_unreadable_certificate_authorities(self, tmp_path: Path) -> None:
        (tmp_path / "empty.pem").touch()
        for name in ("absent.pem", "empty.pem"):
            with pytest.raises(NetworkError, match="certificate authorities cannot be read") as caught:
                Http(Network(ca_file=str(tmp_path / name))).read("https://index.example/")
            assert caught.value.place.endswith(name)

    def test_the_system_s_certificate_authorities_are_read_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.platform", "linux")
        monkeypatch.setenv("SSL_CERT_FILE", str(ONE))
        contexts = [connections._authorities(ca, **connections._of_system()) for ca in ("", "", str(TWO), str(ONE))]
        assert [len(each.get_ca_certs()) for each in contexts] == [1, 1, 2, 1]
        assert contexts[0] is contexts[1]
        assert contexts[0].verify_mode is ssl.CERT_REQUIRED
        assert contexts[0].check_hostname
        # Another file, in one process, is another context.
        monkeypatch.setenv("SSL_CERT_FILE", str(TWO))
        assert connections._authorities("", **connections._of_system()) is not contexts[0]

    @pytest.mark.parametrize(("name", "file"), [("linux", None), ("darwin", "/etc/ssl/cert.pem"), ("win32", None)])
    def test_truststore_finds_the_authorities_elsewhere(
        self, monkeypatch: pytest.MonkeyPatch, name: str, file: str | None
    ) -> None:
        paths = ssl.get_default_verify_paths()._replace(cafile=file)  # type: ignore[arg-type]
        monkeypatch.setattr("sys.platform", name)
        monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
        assert isinstance(connections._trusting_the_system(""), truststore.SSLContext)

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "a",
            "ftp://a.example/",
            "http://",
            "http:///a",
            "http://[::1",
            "http://a:b/",
            "http://a..b/",
            "file:///etc",
        ],
    )
    def test_invalid_url(self, url: str, waits: list[float]) -> None:
        with pytest.raises(NetworkError, match="that is not a URL"):
            Http().read(url)

    def test_redirect_to_an_invalid_url(self, server: Server) -> None:
        server.answers = [answer(302, Location="http://[::1")]
        with pytest.raises(NetworkError):
            Http().read(server.url)

    def test_invalid_header_is_not_shown(self, server: Server) -> None:
        for wrong in ("secret\n", "secret\u2014"):
            with pytest.raises(NetworkError) as caught:
                Http().read(server.url, headers={"Authorization": wrong})
            assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (NameResolutionError("h", None, OSError()), "index.example:1 is unknown to this machine"),  # type: ignore[arg-type]
            (ConnectTimeoutError(), "index.example:1 does not answer"),
            (ReadTimeoutError(None, "", ""), "index.example:1 stopped answering"),  # type: ignore[arg-type]
            (SSLError(), "no trusted TLS connection to index.example:1"),
        ],
    )
    def test_messages_name_the_cause(self, error: Exception, message: str) -> None:
        wrapped = MaxRetryError(None, "", error)  # type: ignore[arg-type]
        translated = translate(wrapped, "https://me:secret@index.example:1/a?b=secret")
        assert translated.message == message
        assert translated.hint
        assert "secret" not in str(translated)

    @given(st.text(), st.sampled_from(["http://", "https://", ""]), st.text("@:/?#[]a", max_size=9))
    def test_redacted_urls_have_no_secrets(self, text: str, scheme: str, rest: str) -> None:
        redact(text)
        shown = redact(f"{scheme}me:secret@host.example/{rest}?secret")
        assert "secret" not in shown.partition("://")[2].partition("/")[0]
        assert "?" not in shown
        assert urlsplit(shown).username is None
