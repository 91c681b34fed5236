"""HTTP for package indexes and registries: connection reuse, retries with back-off, resumption, errors with hints.

It knows neither API. Callers add credentials; no error shows a URL's user part or query.
"""

from __future__ import annotations

import ipaddress
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urljoin, urlsplit
from urllib.request import proxy_bypass

from hatch_docker.errors import NetworkError
from hatch_docker.support import silence
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.redaction import redact
from hatch_docker.support.streams import CHUNK

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager
    from urllib3.exceptions import HTTPError

# There, `proxy_bypass` reads the system's settings, as `getproxies` does, and takes no mapping.
_SYSTEM_SETTINGS = sys.platform in ("darwin", "win32")

# In bytes: the first chunk of a body. Each next one is twice as large, unless one took longer than this, in seconds.
_FIRST_CHUNK = 1 << 14
_QUICK_SECONDS = 1.0


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
    cannot be sent twice needs False. `patience` is how many seconds later than usual the answer may begin. `behalf` is
    a URL of the host that the request is made for, if that is another one: their silences count together.
    """

    redirect: bool = True
    retry: bool = True
    paced: bool = False
    patience: float = 0
    behalf: str = ""


USUALLY = Sending()


class Http:
    """A pool of connections. Thread-safe. urllib3 is imported for the first request, since many builds send none.

    A host that was silent until a request ended is not asked again. `patience` is for how many seconds it may be, if
    that is less than usual.
    """

    def __init__(
        self, network: Network | None = None, *, user_agent: str = "hatch-docker", patience: float = math.inf
    ) -> None:
        self._network = network or Network()
        self._headers = {"User-Agent": user_agent}
        self._pools: dict[str, PoolManager] = {}
        self._patience = patience
        self._silences = silence.Silences()
        self._silent: dict[str, NetworkError] = {}
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
        redirect. Raises NetworkError, also for a host that brings nothing for `silence.OF_HOST` seconds.
        """
        from urllib3.exceptions import HTTPError, LocationParseError

        from hatch_docker.support.connections import FAILURES, Limits, is_short, retries
        from hatch_docker.support.network_errors import translate

        host, began = _host(sending.behalf or url), silence.now()
        if earlier := self._silent.get(host):
            raise NetworkError(earlier.message, place=redact(url), hint=earlier.hint)
        wait = self._silences.wait(host, began, self._patience)
        try:
            response = self._pool(url).request(
                method,
                url,
                headers={**self._headers, **(headers or {})},
                body=body,
                redirect=sending.redirect,
                retries=sending.retry and retries(wait, redirect=sending.redirect, paced=sending.paced),
                preload_content=False,
                timeout=Limits(wait, sending.patience, short=is_short(body)),
            )
        except HTTPError as error:
            if not is_short(body):
                # Until then, it was being sent.
                began = max(began, silence.now() - silence.OF_CONNECTION - sending.patience)
            failure = self._failure(error, url, host, began)
            if sending.retry and failure.silence and self._silences.is_over(host, self._patience):
                self._give_up(host, failure)
            raise failure from None
        except ValueError:
            # A malformed URL, here or in a redirect, that urllib3 accepts and urllib.parse does not.
            raise translate(LocationParseError(""), url) from None
        if response.status in FAILURES:
            self._silences.missed(host, began)
        return response

    def share(self, *urls: str) -> None:
        """Let the hosts of URLs, which are asked one after the other for the same, share the time that one has."""
        self._silences.share(map(_host, urls))

    def may_wait(self, url: str, seconds: float) -> bool:
        """Whether there is so much time left for the host of a URL, which brought nothing the last time."""
        return self._silences.wait(_host(url), silence.now(), self._patience).left >= seconds

    def give_up(self, url: str, failure: NetworkError) -> None:
        """Ask the host of a URL nothing any more, since its answers do not come to their ends."""
        self._give_up(_host(url), failure)

    def read(self, url: str, *, headers: Mapping[str, str] | None = None, limit: int = 1 << 28) -> tuple[int, bytes]:
        """The status and whole body of a GET; raises NetworkError if the body is longer than `limit` bytes."""
        response = self.request("GET", url, headers=headers)
        try:
            body = self.body(response, url, limit=limit)
        finally:
            response.close()
        if len(body) > limit:
            raise NetworkError("the answer is larger than anything expected there", place=redact(url))
        return response.status, body

    def body(self, response: BaseHTTPResponse, url: str, *, limit: int, behalf: str = "") -> bytes:
        """The body of a response to a request for `url`, and one byte more than `limit` if it is longer.

        Raises NetworkError if it breaks off.
        """
        from urllib3.exceptions import HTTPError

        from hatch_docker.support.connections import FAILURES

        host, began = _host(behalf or url), silence.now()
        try:
            body = response.read(limit + 1)
        except HTTPError as error:
            failure = self._failure(error, url, host, began)
            if failure.silence and self._silences.is_over(host, self._patience):
                self._give_up(host, failure)
            raise failure from None
        if response.status not in FAILURES:
            self._silences.heard(host)
        return body

    def resume(
        self,
        response: BaseHTTPResponse,
        url: str,
        headers: Mapping[str, str],
        *,
        again: Callable[[Mapping[str, str]], BaseHTTPResponse] | None = None,
        received: int = 0,
    ) -> Iterator[bytes]:
        """The body of a GET's response in chunks; if the connection breaks, the rest is requested (RFC 9110, 14.2).

        `url` and `headers` are those of the request; `again` sends it with other headers if a plain request is not
        enough. The first bytes may have been `received` before. The caller verifies the bytes.
        """
        from urllib3.exceptions import HTTPError

        from hatch_docker.support.connections import ATTEMPTS, backoff

        again = again or (lambda changed: self.request("GET", url, headers=changed))
        host, attempt, progressed = _host(url), 0, 0
        wait = self._silences.wait(host, silence.now(), self._patience)
        while not _is_at_end(response, received):
            try:
                for chunk in _after(response, received):
                    # It is empty if the server sends once more what is there already.
                    if chunk:
                        received, attempt = received + len(chunk), 0
                        yield chunk
                    progressed += len(chunk)
                    if progressed >= silence.LEAST or not chunk:
                        progressed = 0
                        self._silences.heard(host)
                        wait = self._silences.wait(host, silence.now(), self._patience)
                self._silences.heard(host)
                return
            except HTTPError as error:
                failure = self._failure(error, final_url(response, url), host, wait.since)
                if wait.left <= 0:
                    self._give_up(host, failure)
                if attempt == ATTEMPTS - 1 or wait.left <= 0:
                    raise failure from None
                time.sleep(backoff(attempt))
                attempt += 1
            finally:
                # The connection is in the pool again if the body was read to its end; otherwise it is useless.
                response.close()
            response = again({**headers, "Range": f"bytes={received}-"})
            if response.status not in (200, 206) and not _is_at_end(response, received):
                response.close()
                raise NetworkError(
                    f"the download broke off and cannot go on: HTTP {response.status}", place=redact(url)
                )
        response.close()

    def _failure(self, error: HTTPError, url: str, host: str, began: float) -> NetworkError:
        """The NetworkError for an exception, of a host that was waited for since `began`."""
        from hatch_docker.support.network_errors import is_silence, translate

        failure = translate(error, url)
        if is_silence(error):
            self._silences.missed(host, began)
            failure.silence = silence.now() - began
        return failure

    def _give_up(self, host: str, failure: NetworkError) -> None:
        self._silences.give_up(host)
        self._silent[host] = failure

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


def _host(url: str) -> str:
    """The host of a URL, with its port."""
    return url.partition("://")[2].partition("/")[0].rpartition("@")[2].lower()


def is_loopback(host: str) -> bool:
    """Whether a host without a port is this machine itself; an IPv6 address may be in brackets."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _bypasses(host: str, proxies: Mapping[str, str]) -> bool:
    """Whether `host` is reached without a proxy, by the system's settings if there are any, else by NO_PROXY."""
    if not _SYSTEM_SETTINGS:
        return bool(proxy_bypass(host, proxies))
    # On macOS, no pattern matches a host with its port.
    return bool(proxy_bypass(host) or proxy_bypass(re.sub(r":[0-9]+$", "", host)))


def final_url(response: BaseHTTPResponse, url: str) -> str:
    """The URL of the response to a request for `url`, after redirects. Relative links are relative to it."""
    for step in response.retries.history if response.retries else ():
        url = urljoin(url, step.redirect_location or "")
    return url


def _after(response: BaseHTTPResponse, received: int) -> Iterator[bytes]:
    """The body's chunks from byte `received` on; if the server ignored the Range header, empty ones until then.

    They are small where they come slowly: what was received of one is lost if the connection breaks.
    """
    skip = received if response.status == 200 else 0
    size = _FIRST_CHUNK
    began = silence.now()
    # A Content-Encoding must not change bytes whose digest is verified.
    while chunk := response.read(min(size, CHUNK), decode_content=False):
        size = size * 2 if silence.now() - began < _QUICK_SECONDS else silence.LEAST
        size = min(size, CHUNK)
        yield chunk[skip:]
        skip = max(0, skip - len(chunk))
        began = silence.now()


def _is_at_end(response: BaseHTTPResponse, received: int) -> bool:
    """Whether nothing is left: the length that was announced before the connection broke was wrong."""
    return response.status == 416 and response.headers.get("Content-Range", "") == f"bytes */{received}"
