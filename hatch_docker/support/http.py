"""HTTP for package indexes and registries: connection reuse, retries with back-off, resumption, errors with hints.

It knows neither API. Callers add credentials; no error shows a URL's user part or query.
"""

from __future__ import annotations

import ipaddress
import random
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import proxy_bypass

import truststore
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import HTTPError, LocationParseError, MaxRetryError

from hatch_docker.errors import NetworkError
from hatch_docker.support.network_errors import translate
from hatch_docker.support.redaction import redact
from hatch_docker.support.streams import CHUNK

if TYPE_CHECKING:
    from typing_extensions import Self

_RETRIED = (429, 500, 502, 503, 504)
_ATTEMPTS = 5
# Few, so that a mistyped host is reported soon.
_CONNECTION_ATTEMPTS = 2
_LONGEST_WAIT = 30.0
_CONNECT_SECONDS = 15
_READ_SECONDS = 90
# There, `proxy_bypass` reads the system's settings, as `getproxies` does, and takes no mapping.
_SYSTEM_SETTINGS = sys.platform in ("darwin", "win32")
# In bytes. Larger bodies of skipped answers are not read to keep the connection.
_MAX_SKIPPED = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The network settings of the environment.

    `ca_file` is trusted in addition to the system's authorities; `proxies` is as from `urllib.request.getproxies()`.
    """

    ca_file: str = ""
    proxies: Mapping[str, str] = field(default_factory=dict)


class _Retry(urllib3.Retry):
    """Retries, but fails if an answer requires a wait longer than `_LONGEST_WAIT`.

    An invalid Retry-After is ignored. Bodies of skipped answers may be endless, and are read in part only.
    """

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: urllib3.BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        if response is not None and _pool and (self.get_retry_after(response) or 0) > _LONGEST_WAIT:
            raise MaxRetryError(_pool, url or "", None)
        retry = super().increment(method, url, response, error, _pool, _stacktrace)
        if response is not None:
            _skip(response)
        return retry

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        try:
            return super().get_retry_after(response)
        except (HTTPError, ValueError, OverflowError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """How a request is sent.

    `redirect` follows redirects. `retry` repeats it after broken connections and failures of the server; a body that
    cannot be sent twice needs False. `patience` is how many seconds later than usual the answer may begin.
    """

    redirect: bool = True
    retry: bool = True
    patience: float = 0


USUALLY = Sending()


class Http:
    """A pool of connections. Thread-safe."""

    def __init__(self, network: Network | None = None, *, user_agent: str = "hatch-docker") -> None:
        self._network = network or Network()
        self._headers = {"User-Agent": user_agent}
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | BinaryIO | Iterable[bytes] | None = None,
        sending: Sending = USUALLY,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and return the response, of any status, with its body unread.

        Statuses 429 and 5xx and broken connections are retried with back-off (RFC 9110; a Retry-After of up to half a
        minute is honoured), failed connection attempts once and soon. Authorization is not sent to another host after a
        redirect. Raises NetworkError if the host does not answer within a minute and a half.
        """
        try:
            return self._pool(url).request(
                method,
                url,
                headers={**self._headers, **(headers or {})},
                body=body,
                redirect=sending.redirect,
                retries=_retries(redirect=sending.redirect) if sending.retry else False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS + sending.patience),
            )
        except HTTPError as error:
            raise translate(error, url) from None
        except ValueError:
            # A malformed URL, here or in a redirect, that urllib3 accepts and urllib.parse does not.
            raise translate(LocationParseError(""), url) from None

    def read(self, url: str, *, headers: Mapping[str, str] | None = None, limit: int = 1 << 28) -> tuple[int, bytes]:
        """The status and whole body of a GET; raises NetworkError if the body is longer than `limit` bytes."""
        response = self.request("GET", url, headers=headers)
        try:
            body = response.read(limit + 1)
        except HTTPError as error:
            raise translate(error, url) from None
        finally:
            response.close()
        if len(body) > limit:
            raise NetworkError("the answer is larger than anything expected there", place=redact(url))
        return response.status, body

    def resume(
        self,
        response: urllib3.BaseHTTPResponse,
        url: str,
        headers: Mapping[str, str],
        *,
        again: Callable[[Mapping[str, str]], urllib3.BaseHTTPResponse] | None = None,
    ) -> Iterator[bytes]:
        """The body of a GET's response in chunks; if the connection breaks, the rest is requested (RFC 9110, 14.2).

        `url` and `headers` are those of the request; `again` sends it with other headers if a plain request is not
        enough. The caller verifies the bytes.
        """
        again = again or (lambda changed: self.request("GET", url, headers=changed))
        received = 0
        for attempt in range(_ATTEMPTS):
            try:
                for chunk in _after(response, received):
                    received += len(chunk)
                    yield chunk
                return
            except HTTPError as error:
                if attempt == _ATTEMPTS - 1:
                    raise translate(error, url) from None
                time.sleep(min(_LONGEST_WAIT, 0.3 * 2**attempt + random.random() * 0.2))  # noqa: S311 (jitter)
            finally:
                # The connection is in the pool again if the body was read to its end; otherwise it is useless.
                response.close()
            response = again({**headers, "Range": f"bytes={received}-"})
            if response.status not in (200, 206):
                response.close()
                raise NetworkError(
                    f"the download broke off and cannot go on: HTTP {response.status}", place=redact(url)
                )

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise LocationParseError(url)
        proxies = dict(self._network.proxies)
        proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
        # Loopback hosts need no proxy, as in programs written in Go, such as Docker.
        if is_loopback(parts.hostname or ""):
            proxy = ""
        if proxy and _bypasses(parts.netloc.rpartition("@")[2], proxies):
            proxy = ""
        if proxy and "://" not in proxy:
            proxy = f"http://{proxy}"
        with self._lock:
            if proxy not in self._pools:
                self._pools[proxy] = self._connect(proxy)
            return self._pools[proxy]

    def _connect(self, proxy: str) -> urllib3.PoolManager:
        # On Linux, OpenSSL trusts SSL_CERT_FILE by default; on macOS and Windows, the system's store is used.
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self._network.ca_file:
                context.load_verify_locations(self._network.ca_file)
        except OSError as error:
            raise NetworkError(
                f"the certificate authorities cannot be read: {error.strerror or error}",
                place=self._network.ca_file,
                hint="PIP_CERT, REQUESTS_CA_BUNDLE or pip's 'cert' setting names that file",
            ) from None
        if not proxy:
            return _patient(urllib3.PoolManager(maxsize=16, ssl_context=context))
        user = urlsplit(proxy)
        auth = {}
        if user.username:
            auth = urllib3.make_headers(proxy_basic_auth=f"{unquote(user.username)}:{unquote(user.password or '')}")
        return _patient(urllib3.ProxyManager(proxy, proxy_headers=auth, maxsize=16, ssl_context=context))


class _Connection(HTTPConnection):
    """A connection that may send as slowly as it may receive. In urllib3, the time to connect limits each send, too."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_READ_SECONDS)


class _SecureConnection(HTTPSConnection):
    """`_Connection` with TLS."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_READ_SECONDS)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


def _patient(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return manager


def is_loopback(host: str) -> bool:
    """Whether a host without a port is this machine itself; an IPv6 address may be in brackets."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _bypasses(host: str, proxies: Mapping[str, str]) -> bool:
    """Whether `host` is reached without a proxy, by the system's settings if there are any, else by NO_PROXY."""
    return bool(proxy_bypass(host) if _SYSTEM_SETTINGS else proxy_bypass(host, proxies))


def retry_after(response: urllib3.BaseHTTPResponse) -> float:
    """How many seconds an answer says to wait (RFC 9110, 10.2.3); 0 if it does not, or longer than we would."""
    seconds = _Retry().get_retry_after(response) or 0
    return seconds if seconds <= _LONGEST_WAIT else 0


def final_url(response: urllib3.BaseHTTPResponse, url: str) -> str:
    """The URL of the response to a request for `url`, after redirects. Relative links are relative to it."""
    for step in response.retries.history if response.retries else ():
        url = urljoin(url, step.redirect_location or "")
    return url


def _retries(*, redirect: bool) -> _Retry:
    return _Retry(
        total=_ATTEMPTS,
        connect=_CONNECTION_ATTEMPTS,
        redirect=10 if redirect else 0,
        status_forcelist=_RETRIED,
        allowed_methods=None,
        backoff_factor=0.3,
        backoff_max=_LONGEST_WAIT,
        backoff_jitter=0.2,
        raise_on_status=False,
        raise_on_redirect=False,
    )


def _skip(response: urllib3.BaseHTTPResponse) -> None:
    """Read a short body to its end, so that the connection can be reused; close the connection of a long one."""
    try:
        if len(response.read(_MAX_SKIPPED, decode_content=False)) == _MAX_SKIPPED:
            response.close()
    except HTTPError:
        response.close()


def _after(response: urllib3.BaseHTTPResponse, received: int) -> Iterator[bytes]:
    """The body's chunks from byte `received` on, even if the server ignored the Range header."""
    skip = received if response.status == 200 else 0
    # A Content-Encoding must not change bytes whose digest is verified.
    for chunk in response.stream(CHUNK, decode_content=False):
        if skip >= len(chunk):
            skip -= len(chunk)
            continue
        yield chunk[skip:] if skip else chunk
        skip = 0
