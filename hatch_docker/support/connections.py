"""Connections of urllib3 with our retries, times and certificate authorities, for `support.http`."""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import math
import os
import random
import socket
import ssl
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, MaxRetryError, NewConnectionError

from hatch_docker.errors import NetworkError
from hatch_docker.support import silence

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

ATTEMPTS = 5
# In seconds.
LONGEST_WAIT = 30.0
_BUSY = 429
# Statuses after which a request may be sent again.
FAILURES = (_BUSY, 500, 502, 503, 504)
# Few, so that a mistyped host is reported soon.
_CONNECTION_ATTEMPTS = 2
_CONNECT_SECONDS = 15
# For each of a host's addresses.
_LEAST_CONNECT_SECONDS = 1
# In bytes: what is given to a socket at once.
_PIECE = 1 << 16
# In bytes. Sending more than this may take long, which is no silence.
_SHORT = 1 << 16
# In bytes. Larger bodies of skipped answers are not read to keep the connection.
_MAX_SKIPPED = 1 << 16


class _Retry(urllib3.Retry):
    """Retries, but fails if an answer requires a wait longer than `LONGEST_WAIT`, or the `wait` for one is over.

    An invalid Retry-After is ignored. Bodies of skipped answers may be endless, and are read in part only.
    """

    wait: silence.Wait | None = None

    def new(self, **kw: Any) -> Self:
        retry = super().new(**kw)
        retry.wait = self.wait
        return retry

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: urllib3.BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        left = self.wait.left if self.wait else LONGEST_WAIT
        # A host that answers "later" has as much time as a silent one.
        if response is not None and _pool and (self.get_retry_after(response) or 0) > min(LONGEST_WAIT, max(0, left)):
            raise MaxRetryError(_pool, url or "", None)
        retry = super().increment(method, url, response, error, _pool, _stacktrace)
        if response is not None:
            _skip(response)
        if _pool and left <= 0:
            raise MaxRetryError(_pool, url or "", error)
        return retry

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        try:
            return super().get_retry_after(response)
        except (HTTPError, ValueError, OverflowError):
            return None


def retry_after(response: urllib3.BaseHTTPResponse) -> float:
    """How many seconds an answer says to wait (RFC 9110, 10.2.3); 0 if it does not, or longer than we would."""
    seconds = _Retry().get_retry_after(response) or 0
    return seconds if seconds <= LONGEST_WAIT else 0


def backoff(attempt: int) -> float:
    """How many seconds to wait before a request is sent again that was refused so many times before."""
    return min(LONGEST_WAIT, 0.3 * (1 << attempt) + random.uniform(0, 0.2))  # noqa: S311 (jitter)


def is_too_long(response: urllib3.BaseHTTPResponse) -> bool:
    """Whether an answer says to wait longer than we would."""
    return (_Retry().get_retry_after(response) or 0) > LONGEST_WAIT


def connect(proxy: str, ca_file: str) -> urllib3.PoolManager:
    """The connections through a proxy, empty for none; `ca_file` is trusted besides the system's authorities.

    The first connection with TLS raises NetworkError if that cannot be read.
    """
    if not proxy:
        return _patient(urllib3.PoolManager(maxsize=16, ca_certs=ca_file))
    user = urlsplit(proxy)
    auth = {}
    if user.username:
        auth = urllib3.make_headers(proxy_basic_auth=f"{unquote(user.username)}:{unquote(user.password or '')}")
    return _patient(urllib3.ProxyManager(proxy, proxy_headers=auth, maxsize=16, ca_certs=ca_file))


def _of_system() -> dict[str, str]:
    """The variables by which OpenSSL finds the system's authorities."""
    return {name: os.environ.get(name, "") for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}


def _trusting_the_system(ca_file: str) -> ssl.SSLContext:
    """A context that trusts the authorities of the system. The caller adds those of `ca_file`.

    truststore finds them everywhere, but reads OpenSSL's file, with SSL_CERT_FILE, again for each connection.
    """
    paths = ssl.get_default_verify_paths()
    if sys.platform in ("darwin", "win32") or not paths.cafile:
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if paths.cafile != ca_file:
        context.set_default_verify_paths()
    elif paths.capath:
        context.load_verify_locations(capath=paths.capath)
    return context


@functools.cache
def _authorities(ca_file: str, **_system: str) -> ssl.SSLContext:
    """What all connections with TLS share, since reading the authorities takes 30 ms."""
    context = _trusting_the_system(ca_file)
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
    except OSError as error:
        raise NetworkError(
            f"the certificate authorities cannot be read: {error.strerror or error}",
            place=ca_file,
            hint="PIP_CERT, REQUESTS_CA_BUNDLE or pip's 'cert' setting names that file",
        ) from None
    return context


class Limits(urllib3.Timeout):
    """The limits of a request whose answer may begin `patience` seconds later than usual.

    A short request is part of a `wait`. One that takes long to send has the usual time after that.
    """

    def __init__(self, wait: silence.Wait, patience: float, *, short: bool) -> None:
        super().__init__()
        self._wait, self._patience, self._short = wait, patience, short

    def clone(self) -> Limits:
        """A copy, for one attempt."""
        return Limits(self._wait, self._patience, short=self._short)

    @property
    def connect_timeout(self) -> float:
        """How many seconds a connection may take."""
        return min(_CONNECT_SECONDS, self._wait.next)

    @property
    def read_timeout(self) -> float:
        """How many seconds may pass until the answer begins, and between its parts."""
        usual = self._wait.next if self._short else min(silence.OF_CONNECTION, self._wait.most)
        return usual + self._patience


def is_short(body: object) -> bool:
    """Whether a request with this body is sent at once."""
    return body is None or (isinstance(body, (bytes, bytearray)) and len(body) <= _SHORT)


class _PacedRetry(_Retry):
    """Retries of a request whose sender decides when to repeat it after a 429."""

    RETRY_AFTER_STATUS_CODES = _Retry.RETRY_AFTER_STATUS_CODES - {_BUSY}


def retries(wait: silence.Wait, *, redirect: bool, paced: bool) -> _Retry:
    """How often and when a request is sent again, if it is `paced` not after a 429, until the `wait` is over."""
    kind = _PacedRetry if paced else _Retry
    retry = kind(
        total=ATTEMPTS,
        connect=_CONNECTION_ATTEMPTS,
        redirect=10 if redirect else 0,
        status_forcelist=[status for status in FAILURES if not (paced and status == _BUSY)],
        allowed_methods=None,
        backoff_factor=0.3,
        backoff_max=LONGEST_WAIT,
        backoff_jitter=0.2,
        raise_on_status=False,
        raise_on_redirect=False,
    )
    retry.wait = wait
    return retry


def _skip(response: urllib3.BaseHTTPResponse) -> None:
    """Read a short body to its end, so that the connection can be reused; close the connection of a long one."""
    try:
        if len(response.read(_MAX_SKIPPED, decode_content=False)) == _MAX_SKIPPED:
            response.close()
    except HTTPError:
        response.close()


class _Metered(io.RawIOBase):
    """What a socket receives, metered: a peer that sends next to nothing is as good as silent."""

    def __init__(self, connection: socket.socket) -> None:
        limit = connection.gettimeout()
        self._connection = connection
        self._file = connection.makefile("rb", buffering=0)
        self._meter = silence.Meter(math.inf if limit is None else limit)
        self._limit = self._meter.left

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Buffer, /) -> int | None:
        """Receive into `buffer`; return how many bytes that were, 0 at the end."""
        # Nobody else sets it while an answer is read; the next request sets its own.
        if self._limit != self._meter.left:
            self._limit = self._meter.left
            self._connection.settimeout(self._limit)
        began = silence.now()
        count = self._file.readinto(buffer)
        if count:
            self._meter.passed(count, silence.now() - began)
        return count

    def close(self) -> None:
        """Close it; the socket lives as long as its connection."""
        if not self.closed:
            self._file.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A response that is read through a meter, with its head."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Metered(sock))


class _Steady(HTTPConnection):
    """A connection that ends if next to nothing can be sent, or is received, for as long as that may take.

    In urllib3, the time to connect limits sending, too, and in `socket.sendall` a limit is that of all bytes together.
    """

    response_class = _Response

    def send(self, data: Any) -> None:
        """Send bytes in pieces, whose progress is metered."""
        if self.sock is None:
            self.connect()
        meter = silence.Meter(silence.OF_CONNECTION)
        view = memoryview(data).cast("B")
        while view:
            self.sock.settimeout(meter.left)
            began, waiting = silence.now(), _waiting(self.sock)
            try:
                count = self.sock.send(view[:_PIECE])
                view = view[count:]
            except TimeoutError:
                # A socket with a large buffer takes nothing more until much of it has got away.
                count = max(0, waiting - _waiting(self.sock))
                if count < silence.LEAST:
                    raise
            meter.passed(count, silence.now() - began)

    def _new_conn(self) -> socket.socket:
        """Connect to the first of the host's addresses that answers: all together have the time of one."""
        name, limit = self._dns_host, self.timeout
        addresses: list[str] = []
        with contextlib.suppress(OSError, UnicodeError):
            found = socket.getaddrinfo(name.strip("[]"), self.port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        if len(addresses) < 2 or not isinstance(limit, (int, float)):
            return super()._new_conn()
        until = silence.now() + limit
        try:
            while True:
                self._dns_host = addresses.pop(0)
                self.timeout = max(_LEAST_CONNECT_SECONDS, (until - silence.now()) / (len(addresses) + 1))
                try:
                    return super()._new_conn()
                except (ConnectTimeoutError, NewConnectionError):
                    if not addresses:
                        raise
        finally:
            self._dns_host, self.timeout = name, limit


def _waiting(connection: socket.socket) -> int:
    """How many bytes the peer of a socket has not received yet, as far as the system says: 0 if it does not."""
    if sys.platform != "linux":
        return 0
    import fcntl
    import termios

    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


class _SteadySecure(_Steady, HTTPSConnection):
    """`_Steady` with TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    """A pool that has its connection again before a redirect is followed: urllib3 loses it if the URL is malformed."""

    ConnectionCls = _Steady

    def urlopen(self, *args: Any, **options: Any) -> urllib3.BaseHTTPResponse:
        """Send a request as the base class does; the body of a redirect is skipped."""
        response = super().urlopen(*args, **options)
        if response.get_redirect_location():
            _skip(response)
        return response


class _SecurePool(_Pool, urllib3.HTTPSConnectionPool):
    """`_Pool` with TLS. `ca_certs` is trusted besides the system's authorities."""

    ConnectionCls = _SteadySecure

    def __init__(self, *args: Any, ca_certs: str = "", **options: Any) -> None:
        super().__init__(*args, ssl_context=_authorities(ca_certs, **_of_system()), **options)


def _patient(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return manager
