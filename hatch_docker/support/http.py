"""HTTP for package indexes and registries: connection reuse, retries with back-off, resumption, errors with hints.

It knows neither API. Callers add credentials; no error shows a URL's user part or query.
"""

from __future__ import annotations

import ipaddress
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urljoin, urlsplit
from urllib.request import proxy_bypass

from hatch_docker.errors import NetworkError
from hatch_docker.support.redaction import redact
from hatch_docker.support.streams import CHUNK

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

# There, `proxy_bypass` reads the system's settings, as `getproxies` does, and takes no mapping.
_SYSTEM_SETTINGS = sys.platform in ("darwin", "win32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The network settings of the environment.

    `ca_file` is trusted in addition to the system's authorities; `proxies` is as from `urllib.request.getproxies()`.
    """

    ca_file: str = ""
    proxies: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """How a request is sent.

    `redirect` follows redirects. `retry` repeats it after broken connections and failures of the server; a body that
    cannot be sent twice needs False. `patience` is how many seconds later than usual the answer may begin.
    """

    redirect: bool = True
    retry: bool = True
    paced: bool = False
    patience: float = 0


USUALLY = Sending()


class Http:
    """A pool of connections. Thread-safe. urllib3 is imported for the first request, since many builds send none."""

    def __init__(self, network: Network | None = None, *, user_agent: str = "hatch-docker") -> None:
        self._network = network or Network()
        self._headers = {"User-Agent": user_agent}
        self._pools: dict[str, PoolManager] = {}
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | BinaryIO | Iterable[bytes] | None = None,
        sending: Sending = USUALLY,
    ) -> BaseHTTPResponse:
        """Send a request and return the response, of any status, with its body unread.

        Statuses 429 and 5xx and broken connections are retried with back-off (RFC 9110; a Retry-After of up to half a
        minute is honoured), failed connection attempts once and soon. Authorization is not sent to another host after a
        redirect. Raises NetworkError if the host does not answer within a minute and a half.
        """
        from urllib3.exceptions import HTTPError, LocationParseError

        from hatch_docker.support.connections import retries, timeout
        from hatch_docker.support.network_errors import translate

        try:
            return self._pool(url).request(
                method,
                url,
                headers={**self._headers, **(headers or {})},
                body=body,
                redirect=sending.redirect,
                retries=retries(redirect=sending.redirect, paced=sending.paced) if sending.retry else False,
                preload_content=False,
                timeout=timeout(sending.patience),
            )
        except HTTPError as error:
            raise translate(error, url) from None
        except ValueError:
            # A malformed URL, here or in a redirect, that urllib3 accepts and urllib.parse does not.
            raise translate(LocationParseError(""), url) from None

    def read(self, url: str, *, headers: Mapping[str, str] | None = None, limit: int = 1 << 28) -> tuple[int, bytes]:
        """The status and whole body of a GET; raises NetworkError if the body is longer than `limit` bytes."""
        from urllib3.exceptions import HTTPError

        from hatch_docker.support.network_errors import translate

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
        response: BaseHTTPResponse,
        url: str,
        headers: Mapping[str, str],
        *,
        again: Callable[[Mapping[str, str]], BaseHTTPResponse] | None = None,
    ) -> Iterator[bytes]:
        """The body of a GET's response in chunks; if the connection breaks, the rest is requested (RFC 9110, 14.2).

        `url` and `headers` are those of the request; `again` sends it with other headers if a plain request is not
        enough. The caller verifies the bytes.
        """
        from urllib3.exceptions import HTTPError

        from hatch_docker.support.connections import ATTEMPTS, backoff
        from hatch_docker.support.network_errors import translate

        again = again or (lambda changed: self.request("GET", url, headers=changed))
        received = 0
        for attempt in range(ATTEMPTS):
            try:
                for chunk in _after(response, received):
                    received += len(chunk)
                    yield chunk
                return
            except HTTPError as error:
                if attempt == ATTEMPTS - 1:
                    raise translate(error, url) from None
                time.sleep(backoff(attempt))
            finally:
                # The connection is in the pool again if the body was read to its end; otherwise it is useless.
                response.close()
            response = again({**headers, "Range": f"bytes={received}-"})
            if response.status not in (200, 206):
                response.close()
                raise NetworkError(
                    f"the download broke off and cannot go on: HTTP {response.status}", place=redact(url)
                )

    def _pool(self, url: str) -> PoolManager:
        from hatch_docker.support.connections import connect

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise ValueError(url)
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
                self._pools[proxy] = connect(proxy, self._network.ca_file)
            return self._pools[proxy]


def is_loopback(host: str) -> bool:
    """Whether a host without a port is this machine itself; an IPv6 address may be in brackets."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _bypasses(host: str, proxies: Mapping[str, str]) -> bool:
    """Whether `host` is reached without a proxy, by the system's settings if there are any, else by NO_PROXY."""
    return bool(proxy_bypass(host) if _SYSTEM_SETTINGS else proxy_bypass(host, proxies))


def final_url(response: BaseHTTPResponse, url: str) -> str:
    """The URL of the response to a request for `url`, after redirects. Relative links are relative to it."""
    for step in response.retries.history if response.retries else ():
        url = urljoin(url, step.redirect_location or "")
    return url


def _after(response: BaseHTTPResponse, received: int) -> Iterator[bytes]:
    """The body's chunks from byte `received` on, even if the server ignored the Range header."""
    skip = received if response.status == 200 else 0
    # A Content-Encoding must not change bytes whose digest is verified.
    for chunk in response.stream(CHUNK, decode_content=False):
        if skip >= len(chunk):
            skip -= len(chunk)
            continue
        yield chunk[skip:] if skip else chunk
        skip = 0
