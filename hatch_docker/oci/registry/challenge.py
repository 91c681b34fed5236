"""The challenges of registries (WWW-Authenticate) and the answers to them. No I/O.

RFC 9110 section 11 specifies the header, RFC 7617 Basic, the distribution project's token specification Bearer.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode, urlsplit

from hatch_docker.errors import ImageError, RegistryError
from hatch_docker.oci import spec
from hatch_docker.oci.registry.auth import Credential
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 (RFC 9110's word)
_PART = regex(rf'({_TOKEN})(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?', re.DOTALL)
_SENDABLE = regex(r"[\x21-\x7e]+")
_CLIENT = "hatch-docker"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A request to a token service."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


def parse(header: str) -> dict[str, dict[str, str]]:
    """The challenges of a WWW-Authenticate header: parameters by scheme, names in lower case, the first of each.

    Malformed parts are skipped, since a registry may offer several schemes.
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
    """The request for a token with `scopes`, and the challenge's other ones, to the token service of the challenge.

    Raises RegistryError, at `place`, if the service is not a URL, or would get a password over plain HTTP although the
    registry is not `plain_http` itself.
    """
    realm = bearer.get("realm", "")
    _check_realm(realm, plain_http=plain_http, place=place)
    scopes = [*scopes, *_other_scopes(bearer, scopes)]
    service = [("service", bearer["service"])] if bearer.get("service") else []
    if credential.identity_token:
        form = [
            *service,
            ("grant_type", "refresh_token"),
            ("client_id", _CLIENT),
            ("scope", " ".join(scopes)),
            ("refresh_token", credential.identity_token),
        ]
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return TokenRequest(method="POST", url=realm, headers=headers, body=urlencode(form, errors="replace").encode())
    query = urlencode([*service, *(("scope", scope) for scope in scopes)])
    headers = {"Authorization": basic(credential)} if credential.username else {}
    return TokenRequest(method="GET", url=f"{realm}{'&' if '?' in realm else '?'}{query}", headers=headers)


def _check_realm(realm: str, *, plain_http: bool, place: str) -> None:
    try:
        scheme, host = urlsplit(realm)[:2]
    except ValueError:
        scheme = host = ""
    if not host or scheme not in ("https", "http") or not realm.isprintable():
        raise RegistryError("the registry names a token service that is not a URL", status=401, place=place)
    if scheme == "http" and not plain_http:
        raise RegistryError(
            "the registry names a token service that uses plain HTTP",
            status=401,
            place=place,
            hint="if that is intended, name the registry in HATCH_DOCKER_INSECURE_REGISTRIES",
        )


def _other_scopes(bearer: Mapping[str, str], scopes: Sequence[str]) -> list[str]:
    """The challenge's scopes for other repositories: a registry may know this one by another name than its URL."""
    ours = {scope.rpartition(":")[0] for scope in scopes}
    return [scope for scope in bearer.get("scope", "").split() if scope.rpartition(":")[0] not in ours]


def token_of(body: bytes, place: str) -> str:
    """The token in a token service's answer; raises RegistryError, at `place`, if there is none."""
    try:
        document = spec.load(body, "the answer of the registry's token service")
    except ImageError as error:
        raise RegistryError(error.message, status=401, place=place) from None
    for name in ("token", "access_token"):
        token = document.get(name)
        if isinstance(token, str) and _SENDABLE.fullmatch(token):
            return token
    raise RegistryError("the registry's token service answers without a token", status=401, place=place)
