"""Connections of urllib3 with our retries, times and certificate authorities, for `support.http`."""

from __future__ import annotations

import math
import random
import ssl
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import truststore
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import HTTPError, MaxRetryError

from hatch_docker.errors import NetworkError
from hatch_docker.support import silence

if TYPE_CHECKING:
    from typing_extensions import Self

ATTEMPTS = 5
# In seconds.
LONGEST_WAIT = 30.0
_BUSY = 429
_RETRIED = (_BUSY, 500, 502, 503, 504)
# Few, so that a mistyped host is reported soon.
_CONNECTION_ATTEMPTS = 2
_CONNECT_SECONDS = 15
# In bytes: so many have to get away before a connection counts as silent.
_PIECE = 1 << 16
# In bytes. Larger bodies of skipped answers are not read to keep the connection.
_MAX_SKIPPED = 1 << 16


class _Retry(urllib3.Retry):
    """Retries, but fails if an answer requires a wait longer than `LONGEST_WAIT`, or the host was silent for too long.

    `since` is when it began to be, and `most` for how many seconds it may be. An invalid Retry-After is ignored. Bodies
    of skipped answers may be endless, and are read in part only.
    """

    since: float = math.inf
    most: float = math.inf

    def new(self, **kw: Any) -> Self:
        retry = super().new(**kw)
        retry.since, retry.most = self.since, self.most
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
        if response is not None and _pool and (self.get_retry_after(response) or 0) > LONGEST_WAIT:
            raise MaxRetryError(_pool, url or "", None)
        retry = super().increment(method, url, response, error, _pool, _stacktrace)
        if response is not None:
            _skip(response)
            retry.since = silence.now()
        elif _pool and silence.now() - self.since >= self.most:
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

    Raises NetworkError if that cannot be read.
    """
    # On Linux, OpenSSL trusts SSL_CERT_FILE by default; on macOS and Windows, the system's store is used.
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
    except OSError as error:
        raise NetworkError(
            f"the certificate authorities cannot be read: {error.strerror or error}",
            place=ca_file,
            hint="PIP_CERT, REQUESTS_CA_BUNDLE or pip's 'cert' setting names that file",
        ) from None
    if not proxy:
        return _patient(urllib3.PoolManager(maxsize=16, ssl_context=context))
    user = urlsplit(proxy)
    auth = {}
    if user.username:
        auth = urllib3.make_headers(proxy_basic_auth=f"{unquote(user.username)}:{unquote(user.password or '')}")
    return _patient(urllib3.ProxyManager(proxy, proxy_headers=auth, maxsize=16, ssl_context=context))


def timeout(patience: float, most: float) -> urllib3.Timeout:
    """The limits of a request whose answer may begin `patience` seconds later than usual, which is `most` at most."""
    return urllib3.Timeout(connect=min(most, _CONNECT_SECONDS), read=min(most, silence.OF_CONNECTION) + patience)


class _PacedRetry(_Retry):
    """Retries of a request whose sender decides when to repeat it after a 429."""

    RETRY_AFTER_STATUS_CODES = _Retry.RETRY_AFTER_STATUS_CODES - {_BUSY}


def retries(*, redirect: bool, paced: bool, since: float, most: float) -> _Retry:
    """How often and when a request is sent again, if it is `paced` not after a 429.

    Its host is silent `since` then, and may be for `most` seconds.
    """
    kind = _PacedRetry if paced else _Retry
    retry = kind(
        total=ATTEMPTS,
        connect=_CONNECTION_ATTEMPTS,
        redirect=10 if redirect else 0,
        status_forcelist=[status for status in _RETRIED if not (paced and status == _BUSY)],
        allowed_methods=None,
        backoff_factor=0.3,
        backoff_max=LONGEST_WAIT,
        backoff_jitter=0.2,
        raise_on_status=False,
        raise_on_redirect=False,
    )
    retry.since, retry.most = since, most
    return retry


def _skip(response: urllib3.BaseHTTPResponse) -> None:
    """Read a short body to its end, so that the connection can be reused; close the connection of a long one."""
    try:
        if len(response.read(_MAX_SKIPPED, decode_content=False)) == _MAX_SKIPPED:
            response.close()
    except HTTPError:
        response.close()


class _Steady(HTTPConnection):
    """A connection that ends if nothing can be sent for as long as nothing may be received.

    In urllib3, the time to connect limits sending, too, and in `socket.sendall` a limit is that of all bytes together.
    """

    def send(self, data: Any) -> None:
        """Send bytes in pieces; each has the whole time."""
        if self.sock is None:
            self.connect()
        self.sock.settimeout(silence.OF_CONNECTION)
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            super().send(view[start : start + _PIECE])


class _SteadySecure(_Steady, HTTPSConnection):
    """`_Steady` with TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Steady


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SteadySecure


def _patient(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return manager
