"""HTTP for package indexes and registries: kept-alive, retried with back-off, resumed, and errors with a hint.

It knows neither API. Credentials are the callers'; no error of ours ever shows a URL's user part or query.
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
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
from urllib.request import proxy_bypass

import truststore
import urllib3
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    LocationValueError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ProxySchemeUnknown,
    ReadTimeoutError,
    SSLError,
)

from hatch_docker.errors import NetworkError
from hatch_docker.support.streams import CHUNK

if TYPE_CHECKING:
    from typing_extensions import Self

_RETRIED = (429, 500, 502, 503, 504)
_ATTEMPTS = 5
# A host that is unknown or refuses the connection will do so again: a person who mistyped it should learn it soon.
_CONNECTION_ATTEMPTS = 2
_LONGEST_WAIT = 30.0
# There, `proxy_bypass` reads the exceptions from the same settings as `getproxies` the proxies, and takes no mapping.
_SYSTEM_SETTINGS = sys.platform in ("darwin", "win32")
# The body of an answer that is not the last one is read only to keep the connection: at most this many bytes of it.
_WORTH_READING = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How this machine reaches others, as its environment says.

    `ca_file` is trusted besides the system's authorities; `proxies` is as `urllib.request.getproxies()` gives it.
    """

    ca_file: str = ""
    proxies: Mapping[str, str] = field(default_factory=dict)


class _Retry(urllib3.Retry):
    """Retries, but for an answer that asks for a longer wait than a person would take without a word.

    A Retry-After that cannot be read is as good as none. Bodies of answers that are passed over may have no end.
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
            _pass_over(response)
        return retry

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        try:
            return super().get_retry_after(response)
        except (HTTPError, ValueError, OverflowError):
            return None


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
        redirect: bool = True,
        retry: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and return the response, whatever its status, with its body unread.

        Statuses 429 and 5xx and broken connections are retried with back-off (RFC 9110, Retry-After honoured up to half
        a minute), connections that cannot be made twice and soon; but not for a `body` that cannot be sent twice: pass
        `retry=False` and repeat it from its beginning. Authorization is not sent on to another host. Raises
        NetworkError when the host does not answer.
        """
        retries = _Retry(
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
        try:
            return self._pool(url).request(
                method,
                url,
                headers={**self._headers, **(headers or {})},
                body=body,
                redirect=redirect,
                retries=retries if retry else False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=15, read=90),
            )
        except HTTPError as error:
            raise translate(error, url) from None
        except ValueError:
            # A malformed URL, here or in a redirect, of which urllib.parse thinks less than urllib3.
            raise translate(LocationParseError(""), url) from None

    def read(self, url: str, *, headers: Mapping[str, str] | None = None, limit: int = 1 << 28) -> tuple[int, bytes]:
        """The status and whole body of a GET; raises NetworkError when the body is longer than `limit` bytes."""
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
        """The body of a GET's response in chunks; where the connection breaks, the rest is asked for (RFC 9110, 14.2).

        `url` and `headers` are the request's; `again` sends it with other headers where a plain request would not do.
        The bytes are not checked here: hash them.
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
                # A connection whose body was read to its end is back in the pool; any other cannot be used again.
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
        # As Go's programs, Docker among them: what is meant for this machine does not leave it.
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
        # What SSL_CERT_FILE names is trusted by OpenSSL's own default; on macOS and Windows it is the system's store.
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
            return urllib3.PoolManager(maxsize=16, ssl_context=context)
        user = urlsplit(proxy)
        auth = {}
        if user.username:
            auth = urllib3.make_headers(proxy_basic_auth=f"{unquote(user.username)}:{unquote(user.password or '')}")
        return urllib3.ProxyManager(proxy, proxy_headers=auth, maxsize=16, ssl_context=context)


def is_loopback(host: str) -> bool:
    """Whether a host, without a port, is this machine itself; IPv6 addresses with brackets or without."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _bypasses(host: str, proxies: Mapping[str, str]) -> bool:
    """Whether `host` is reached without a proxy: an exception of the system's settings if it has them, or NO_PROXY."""
    return bool(proxy_bypass(host) if _SYSTEM_SETTINGS else proxy_bypass(host, proxies))


def redact(url: str) -> str:
    """The URL without its user part, query and fragment, where secrets travel."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a malformed URL)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def final_url(response: urllib3.BaseHTTPResponse, url: str) -> str:
    """Where the response to a request for `url` came from, after redirects: what its relative links are relative to."""
    for step in response.retries.history if response.retries else ():
        url = urljoin(url, step.redirect_location or "")
    return url


def translate(error: HTTPError, url: str) -> NetworkError:
    """Our error for one of urllib3's, with the cause in plain words."""
    cause: BaseException = error
    while isinstance(cause, MaxRetryError) and cause.reason is not None:
        cause = cause.reason
    proxied = isinstance(cause, ProxyError)
    if isinstance(cause, ProxyError) and cause.original_error is not None:
        cause = cause.original_error
    host = "the proxy" if proxied else urlsplit(redact(url)).netloc
    what, hint = f"the connection to {host} broke", "try again; if it stays so, check the network in between"
    for kind, (text, advice) in _CAUSES.items():
        if isinstance(cause, kind):
            what, hint = text.format(host=host), advice
            break
    if proxied:
        hint = "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
    return NetworkError(what, place=redact(url), hint=hint)


_CAUSES: dict[type[BaseException], tuple[str, str]] = {
    NameResolutionError: ("{host} is unknown to this machine", "check its name, and that this machine is online"),
    NewConnectionError: ("{host} cannot be reached", "check its name and port, and that it is running"),
    ConnectTimeoutError: ("{host} does not answer", "check its name, and the network or proxy between here and there"),
    ReadTimeoutError: ("{host} stopped answering", "try again"),
    SSLError: (
        "no trusted TLS connection to {host}",
        "trust its certificate authority with SSL_CERT_FILE, PIP_CERT or REQUESTS_CA_BUNDLE",
    ),
    ProxySchemeUnknown: ("the proxy is none that speaks HTTP", "check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"),
    LocationValueError: ("that is not a URL", "check how it is written"),
}


def _pass_over(response: urllib3.BaseHTTPResponse) -> None:
    """Read a short body to its end, so that the connection can be used again; close the connection of any other."""
    try:
        if len(response.read(_WORTH_READING, decode_content=False)) == _WORTH_READING:
            response.close()
    except HTTPError:
        response.close()


def _after(response: urllib3.BaseHTTPResponse, received: int) -> Iterator[bytes]:
    """The body's chunks from byte `received` on, also where the server ignored the Range header."""
    skip = received if response.status == 200 else 0
    # Bodies are compared by digest: never let a Content-Encoding change them.
    for chunk in response.stream(CHUNK, decode_content=False):
        if skip >= len(chunk):
            skip -= len(chunk)
            continue
        yield chunk[skip:] if skip else chunk
        skip = 0
