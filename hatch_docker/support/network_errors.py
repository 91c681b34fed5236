"""What went wrong on the way to a host, from the exceptions of urllib3, and what to do about it."""

from __future__ import annotations

from urllib.parse import urlsplit

from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
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
    """The NetworkError for an exception of urllib3."""
    cause: BaseException = error
    while isinstance(cause, MaxRetryError) and cause.reason is not None:
        cause = cause.reason
    proxied = isinstance(cause, ProxyError)
    if isinstance(cause, ProxyError) and cause.original_error is not None:
        cause = cause.original_error
    host = "the proxy" if proxied else urlsplit(redact(url)).netloc
    what, hint = f"the connection to {host} broke", "try again; if that does not help, check the network in between"
    for kind, (text, advice) in _CAUSES.items():
        if isinstance(cause, kind):
            what, hint = text.format(host=host), advice
            break
    if proxied:
        hint = "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
    return NetworkError(what, place=redact(url), hint=hint)
