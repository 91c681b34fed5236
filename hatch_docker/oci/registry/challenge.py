"""How a registry asks who we are (WWW-Authenticate), and what is answered. Pure: nothing here does I/O.

RFC 9110 section 11 for the header, RFC 7617 for Basic, the distribution project's token specification for Bearer.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from hatch_docker.errors import ImageError, RegistryError
from hatch_docker.oci import spec
from hatch_docker.oci.registry.auth import Credential

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 (RFC 9110's word)
_PART = re.compile(rf'({_TOKEN})(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?', re.DOTALL)
_SENDABLE = re.compile(r"[\x21-\x7e]+")
_CLIENT = "hatch-docker"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """The request that a token is got by."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


def parse(header: str) -> dict[str, dict[str, str]]:
    """The challenges of a WWW-Authenticate header: parameters by scheme, names in lower case, the first of each.

    Whatever is malformed is skipped: a registry may offer a scheme that we know beside others.
    """
    challenges: dict[str, dict[str, str]] = {}
    parameters: dict[str, str] = {}
    for match in _PART.finditer(header):
        name, quoted, plain = match.groups()
        if quoted is None and plain is None:
            parameters = challenges.setdefault(name.lower(), {})
        else:
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
            parameters.setdefault(name.lower(), value)
    return challenges


def basic(credential: Credential) -> str:
    """The Authorization header of RFC 7617."""
    return "Basic " + base64.b64encode(f"{credential.username}:{credential.password}".encode(errors="replace")).decode()


def token_request(
    bearer: Mapping[str, str], scopes: Sequence[str], credential: Credential, *, plain_http: bool, place: str
) -> TokenRequest:
    """How to get a token for `scopes`, and for what else the challenge asks, from the service that it names.

    Raises RegistryError for a service that is no URL, or that would get a password over plain HTTP although the
    registry is not `plain_http` itself; `place` is where the error says it happened.
    """
    realm = bearer.get("realm", "")
    try:
        scheme, host = urlsplit(realm)[:2]
    except ValueError:
        scheme = host = ""
    if not host or scheme not in ("https", "http") or not realm.isprintable():
        raise RegistryError("the registry names a token service that is not a URL", status=401, place=place)
    if scheme == "http" and not plain_http:
        raise RegistryError(
            "the registry names a token service that speaks plain HTTP",
            status=401,
            place=place,
            hint="name the registry in HATCH_DOCKER_INSECURE_REGISTRIES if that is meant",
        )
    ours = {scope.rpartition(":")[0] for scope in scopes}
    # A registry may know the repository by another name than its URL does.
    wanted = [*scopes, *(scope for scope in bearer.get("scope", "").split() if scope.rpartition(":")[0] not in ours)]
    service = [("service", bearer["service"])] if bearer.get("service") else []
    if credential.identity_token:
        form = [
            *service,
            ("grant_type", "refresh_token"),
            ("client_id", _CLIENT),
            ("scope", " ".join(wanted)),
            ("refresh_token", credential.identity_token),
        ]
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return TokenRequest(method="POST", url=realm, headers=headers, body=urlencode(form, errors="replace").encode())
    query = urlencode([*service, *(("scope", scope) for scope in wanted)])
    headers = {"Authorization": basic(credential)} if credential.username else {}
    return TokenRequest(method="GET", url=f"{realm}{'&' if '?' in realm else '?'}{query}", headers=headers)


def token_of(body: bytes, place: str) -> str:
    """The token in a token service's answer; raises RegistryError, at `place`, where there is none."""
    try:
        document = spec.load(body, "the answer of the registry's token service")
    except ImageError as error:
        raise RegistryError(error.message, status=401, place=place) from None
    for name in ("token", "access_token"):
        token = document.get(name)
        if isinstance(token, str) and _SENDABLE.fullmatch(token):
            return token
    raise RegistryError("the registry's token service answers without a token", status=401, place=place)
