"""Requests to registries: where each one's API is, what it asks for as proof of identity, what a refusal of it means.

OCI distribution specification 1.1. A registry gets its own credentials only, and only at its own address.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from hatch_docker.errors import NetworkError, RegistryError
from hatch_docker.oci.reference import DOCKER_HUB, Reference
from hatch_docker.oci.registry import challenge
from hatch_docker.oci.registry.auth import Credential, Credentials
from hatch_docker.oci.registry.refusal import refusal, unreachable
from hatch_docker.support.http import Http, final_url, is_loopback, redact, translate

# The specification has registries take manifests of 4 MiB at least; no answer of the API is larger.
LARGEST_ANSWER = 4 << 20
_HUB_HOST = "registry-1.docker.io"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a request is for: an image, whether it is pushed, and the repository that a blob of it is mounted from."""

    reference: Reference
    push: bool = False
    mount_from: str = ""

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes of a token for it (distribution: Token scope documentation)."""
        own = f"repository:{self.reference.repository}:{'pull,push' if self.push else 'pull'}"
        return (own, f"repository:{self.mount_from}:pull") if self.mount_from else (own,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response that has been read: an answer of the API, never a blob."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Session:
    """Authenticated requests to any number of registries. Thread-safe.

    `insecure` holds the hosts, with or without a port, that are spoken to over plain HTTP besides the loopback ones.
    """

    def __init__(self, http: Http, credentials: Credentials, insecure: frozenset[str] = frozenset()) -> None:
        self._http = http
        self._credentials = credentials
        self._insecure = insecure
        self._lock = threading.Lock()
        self._authorizations: dict[tuple[str, tuple[str, ...]], str] = {}
        self._found: dict[tuple[str, str], Credential] = {}
        self._secrets: set[str] = set()

    def url(self, reference: Reference, path: str) -> str:
        """The URL of `path` in a repository's API: `manifests/latest`, `blobs/uploads/`."""
        host = _HUB_HOST if reference.registry == DOCKER_HUB else reference.registry
        scheme = "http" if self._plain_http(reference.registry) else "https"
        return f"{scheme}://{host}/v2/{reference.repository}/{path}"

    def call(
        self,
        method: str,
        url: str,
        access: Access,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterator[bytes] | None = None,
        retry: bool = True,
    ) -> Answer:
        """`open`, and read the answer; raises RegistryError where it is larger than `LARGEST_ANSWER`."""
        return self.read(self.open(method, url, access, headers=headers, body=body, retry=retry), url, access)

    def open(
        self,
        method: str,
        url: str,
        access: Access,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterator[bytes] | None = None,
        retry: bool = True,
    ) -> BaseHTTPResponse:
        """Send a request, authorized as the registry asks; return the response of any status with its body unread.

        After a 401 it is sent once more with a new token, unless its body is an iterator, which cannot be sent twice:
        the caller repeats that. Raises RegistryError when the registry or its token service does not answer, or the
        latter refuses.
        """
        ours = self._is_registry(url, access.reference)
        used = self._authorizations.get((access.reference.registry, access.scopes), "") if ours else ""
        response = self._send(method, url, access, headers, body, used, retry=retry)
        # Where a redirect led elsewhere, what is there must not learn our credentials by asking for them.
        if response.status != 401 or not self._is_registry(final_url(response, url), access.reference):
            return response
        try:
            renewed = self._authorize(response.headers.get("WWW-Authenticate", ""), access, used)
        except RegistryError:
            response.close()
            raise
        if not renewed or not (body is None or isinstance(body, bytes)):
            return response
        self.read(response, url, access)
        return self._send(method, url, access, headers, body, renewed, retry=retry)

    def refusal(self, answer: Answer, access: Access) -> RegistryError:
        """The error for an answer that is not the one asked for, with the registry's words but none of our secrets."""
        return refusal(
            answer.status,
            answer.body,
            reference=access.reference,
            push=access.push,
            credential=self._credential(access.reference),
            asked=self._credentials.files,
            secrets=frozenset(self._secrets),
        )

    def is_plain_http(self, reference: Reference) -> bool:
        """Whether the reference's registry is spoken to over plain HTTP."""
        return self._plain_http(reference.registry)

    def _send(
        self,
        method: str,
        url: str,
        access: Access,
        headers: Mapping[str, str] | None,
        body: bytes | Iterator[bytes] | None,
        authorization: str,
        *,
        retry: bool,
    ) -> BaseHTTPResponse:
        sent = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
        try:
            return self._http.request(method, url, headers=sent, body=body, retry=retry)
        except NetworkError as error:
            raise unreachable(error, access.reference) from None

    def read(self, response: BaseHTTPResponse, url: str, access: Access) -> Answer:
        """Read what `open` returned; raises RegistryError where it is larger than `LARGEST_ANSWER`."""
        try:
            body = response.read(LARGEST_ANSWER + 1)
        except HTTPError as error:
            raise unreachable(translate(error, url), access.reference) from None
        finally:
            # A connection whose response has been read to its end is in the pool again; any other is of no more use.
            response.close()
        if len(body) > LARGEST_ANSWER:
            raise RegistryError("the registry's answer is larger than any can be", place=redact(url))
        return Answer(status=response.status, headers=response.headers, body=body)

    def _authorize(self, header: str, access: Access, refused: str) -> str:
        """The Authorization header for a challenge; empty where there is none but the one that was `refused`."""
        key = (access.reference.registry, access.scopes)
        with self._lock:
            current = self._authorizations.get(key, "")
            if current != refused:  # another thread was faster
                return current
            renewed = self._respond(challenge.parse(header), access)
            if renewed == refused:
                return ""
            self._authorizations[key] = renewed
            self._secrets.add(renewed.partition(" ")[2])
            return renewed

    def _respond(self, challenges: Mapping[str, Mapping[str, str]], access: Access) -> str:
        credential = self._credential(access.reference)
        bearer = challenges.get("bearer", {})
        if "bearer" in challenges and credential.registry_token:
            return f"Bearer {credential.registry_token}"
        if bearer.get("realm"):
            return f"Bearer {self._token(bearer, access, credential)}"
        if "basic" in challenges and credential.username:
            return challenge.basic(credential)
        return ""

    def _token(self, bearer: Mapping[str, str], access: Access, credential: Credential) -> str:
        plain_http = self.is_plain_http(access.reference)
        place = str(access.reference)
        request = challenge.token_request(bearer, access.scopes, credential, plain_http=plain_http, place=place)
        try:
            response = self._http.request(
                request.method,
                request.url,
                headers=request.headers,
                body=request.body or None,
                redirect=not request.body,  # a refresh token goes where the registry said, and nowhere else
            )
        except NetworkError as error:
            raise unreachable(error, access.reference) from None
        answer = self.read(response, request.url, access)
        if answer.status == 404:
            raise RegistryError(
                f"the registry's token service is not at {redact(request.url)}", status=401, place=place
            )
        if answer.status != 200:
            raise self.refusal(answer, access)
        return challenge.token_of(answer.body, place)

    def _credential(self, reference: Reference) -> Credential:
        key = (reference.registry, reference.repository)
        if key not in self._found:
            found = self._credentials.for_registry(*key)
            self._secrets |= {found.password, found.identity_token, found.registry_token}
            self._found[key] = found
        return self._found[key]

    def _plain_http(self, registry: str) -> bool:
        host = re.sub(r":[0-9]+$", "", registry)
        return is_loopback(host) or not self._insecure.isdisjoint({registry, host})

    def _is_registry(self, url: str, reference: Reference) -> bool:
        return _origin(url) == _origin(self.url(reference, ""))


def _origin(url: str) -> tuple[str, str, int] | None:
    # By urllib3, which makes the connections: urllib.parse finds another host in some URLs.
    try:
        parts = parse_url(url)
        scheme = parts.scheme or ""
        return scheme, (parts.host or "").lower(), parts.port or _DEFAULT_PORTS.get(scheme, 0)
    except ValueError:
        return None
