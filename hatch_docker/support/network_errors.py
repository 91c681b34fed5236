"""What went wrong on the way to a host, from the exceptions of urllib3, and what to do about it."""

from __future__ import annotations

from urllib.parse import urlsplit

from urllib3.connection import port_by_scheme
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    PoolError,
    ProtocolError,
    ProxyError,
    ProxySchemeUnknown,
    ReadTimeoutError,
    SSLError,
)

from hatch_docker.errors import NetworkError
from hatch_docker.support.redaction import redact

_CAUSES: dict[type[BaseException], tuple[str, str]] = {
    NameResolutionError: ("{host} is unknown to this machine", "check its name, and that this machine is online"),
    NewConnectionError: ("{host} cannot be reached", "check its name and port, and that it is running"),
    ConnectTimeoutError: ("{host} does not answer", "check its name, and the network or proxy between here and there"),
    ReadTimeoutError: ("{host} stopped answering", "try again"),
    SSLError: (
        "no trusted TLS connection to {host}",
        "trust its certificate authority with SSL_CERT_FILE, PIP_CERT or REQUESTS_CA_BUNDLE",
    ),
    ProxySchemeUnknown: ("the proxy is not an HTTP proxy", "check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"),
    LocationValueError: ("that is not a URL", "check how it is written"),
}


def translate(error: HTTPError, url: str) -> NetworkError:
    """The NetworkError for an exception of urllib3 at `url`, or at what redirected it, which the message names."""
    cause = _cause(error)
    proxied = isinstance(cause, ProxyError)
    if isinstance(cause, ProxyError) and cause.original_error is not None:
        cause = cause.original_error
    host = "the proxy" if proxied else _host(error, cause, url)
    what, hint = f"the connection to {host} broke", "try again; if that does not help, check the network in between"
    for kind, (text, advice) in _CAUSES.items():
        if isinstance(cause, kind):
            what, hint = text.format(host=host), advice
            break
    if proxied:
        hint = "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
    return NetworkError(what, place=redact(url), hint=hint)


def is_silence(error: HTTPError) -> bool:
    """Whether a host does not send what it should, or does not take what it is sent, without refusing anything."""
    cause = _cause(error)
    # A NewConnectionError is a ConnectTimeoutError, for historical reasons.
    return isinstance(cause, (ReadTimeoutError, ConnectTimeoutError)) and not isinstance(cause, NewConnectionError)


def _cause(error: HTTPError) -> BaseException:
    """What made a request fail. Sending that takes too long is a broken connection in urllib3."""
    cause: BaseException = error
    while isinstance(cause, MaxRetryError) and cause.reason is not None:
        cause = cause.reason
    if isinstance(cause, ProtocolError) and any(isinstance(each, TimeoutError) for each in cause.args):
        return ReadTimeoutError(None, "", "")  # type: ignore[arg-type]
    return cause


def _host(error: HTTPError, cause: BaseException, url: str) -> str:
    """The host that an error is about: a redirect may have led to another one than that of the URL."""
    pool = next((each.pool for each in (cause, error) if isinstance(each, PoolError) and each.pool is not None), None)
    asked = urlsplit(redact(url))
    if pool is None or getattr(pool, "proxy", None) is not None:
        return asked.netloc
    if (pool.host, pool.port) == (asked.hostname, asked.port or port_by_scheme.get(asked.scheme)):
        return asked.netloc
    is_usual = pool.port in (None, *port_by_scheme.values())
    return pool.host if is_usual else f"{pool.host}:{pool.port}"
