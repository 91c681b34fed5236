"""Authenticated requests to registries (OCI distribution specification 1.1).

A registry gets its own credentials only, and only at its own address.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from hatch_docker.errors import NetworkError, RegistryError
from hatch_docker.oci.reference import DOCKER_HUB, Reference
from hatch_docker.oci.registry import challenge
from hatch_docker.oci.registry.auth import Credential, Credentials
from hatch_docker.oci.registry.pace import Pace
from hatch_docker.oci.registry.refusal import Attempt, refusal, unreachable
from hatch_docker.oci.spec import DIGEST
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.http import USUALLY, Http, Sending, final_url, is_loopback
from hatch_docker.support.redaction import redact
from hatch_docker.support.unfinished import NOWHERE, Unfinished

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

# In bytes. Registries must accept manifests of at least 4 MiB; no answer of the API is larger.
LARGEST_ANSWER = 4 << 20
_BUSY = 429
_HUB_HOST = "registry-1.docker.io"
_READ_ATTEMPTS = 3
_T = TypeVar("_T")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Access to an image's repository, to push if `push`, and to `mount_from`, a repository to mount blobs from.

    `delete`: to end uploads, too. `document` is the media type of the manifest or index that is pushed, for messages.
    """

    reference: Reference
    push: bool = False
    mount_from: str = ""
    delete: bool = False
    document: str = ""

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes of a token for it (distribution: Token scope documentation)."""
        actions = ",".join(("pull", *(["push"] if self.push else []), *(["delete"] if self.delete else [])))
        own = f"repository:{self.reference.repository}:{actions}"
        return (own, f"repository:{self.mount_from}:pull") if self.mount_from else (own,)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a registry's API."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] | None = None
    sending: Sending = USUALLY


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response of the API whose body has been read. Blobs are never read whole.

    `url` is where it came from, after redirects; `retry_after` as in RegistryError.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    retry_after: float = 0


class Session:
    """Authenticated requests to any number of registries. Thread-safe.

    `insecure` names hosts, with or without a port, that use plain HTTP, as loopback hosts do. `unfinished` has the
    uploads that go on, or were left.
    """

    def __init__(
        self,
        http: Http,
        credentials: Credentials,
        insecure: frozenset[str] = frozenset(),
        unfinished: Unfinished = NOWHERE,
    ) -> None:
        self.unfinished = unfinished
        self._http = http
        self._credentials = credentials
        self._insecure = insecure
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._paces: dict[str, Pace] = {}
        self._authorizations: dict[tuple[str, tuple[str, ...]], str] = {}
        self._credential_of: dict[tuple[str, str], Credential] = {}
        self._secrets: set[str] = set()

    def url(self, reference: Reference, path: str) -> str:
        """The URL of `path` in a repository's API: `manifests/latest`, `blobs/uploads/`."""
        host = _HUB_HOST if reference.registry == DOCKER_HUB else reference.registry
        scheme = "http" if self.is_plain_http(reference) else "https"
        return f"{scheme}://{host}/v2/{reference.repository}/{path}"

    def call(self, request: Request, access: Access) -> Answer:
        """`open`, and read the answer, which is requested again if it breaks off.

        Raises RegistryError, also if the answer is larger than `LARGEST_ANSWER`.
        """
        attempts = _READ_ATTEMPTS if request.sending.retry else 1
        return self._again(lambda: self.read(self.open(request, access), request.url, access), attempts)

    def blob(self, url: str, headers: Mapping[str, str], access: Access) -> BaseHTTPResponse:
        """The response to a GET of a blob or, with a Range header, of its rest, with its body unread.

        Raises RegistryError for a refusal, but not if nothing is left to send (416).
        """
        expected = (200, 206, 416) if headers else (200,)

        def attempt() -> BaseHTTPResponse:
            response = self.open(Request("GET", url, headers), access)
            if response.status not in expected:
                raise self.refusal(self.read(response, url, access), access)
            return response

        return self._again(attempt, _READ_ATTEMPTS)

    def open(self, request: Request, access: Access) -> BaseHTTPResponse:
        """Send an authorized request; return the response, of any status, with its body unread.

        After a 401 it is sent once more with a new token, unless its body is an iterator: the caller repeats that one.
        Raises RegistryError if the registry or its token service does not answer, or the token service refuses.
        """
        ours = self.is_of_registry(request.url, access.reference)
        used = self._authorizations.get((access.reference.registry, access.scopes), "") if ours else ""
        response = self._send(request, access, used)
        # A host that a redirect led to must not obtain our credentials by asking for them.
        if response.status != 401 or not self.is_of_registry(final_url(response, request.url), access.reference):
            return response
        try:
            renewed = self._authorize(response.headers.get("WWW-Authenticate", ""), access, used)
        except RegistryError:
            response.close()
            raise
        if not renewed or isinstance(request.body, Iterator):
            return response
        self.read(response, request.url, access)
        return self._send(request, access, renewed)

    def read(self, response: BaseHTTPResponse, url: str, access: Access) -> Answer:
        """Read a response of `open`; raises RegistryError if it is larger than `LARGEST_ANSWER`."""
        from hatch_docker.support.connections import retry_after

        behalf = self.url(access.reference, "")
        try:
            body = self._http.body(response, url, limit=LARGEST_ANSWER, behalf=behalf)
        except NetworkError as error:
            raise _BrokenAnswerError(unreachable(error, access.reference), error, behalf) from None
        finally:
            # The connection is in the pool again if the response was read to its end; otherwise it is useless.
            response.close()
        if len(body) > LARGEST_ANSWER:
            message = "the registry's answer is larger than any can be"
            raise RegistryError(message, status=response.status, place=redact(url))
        return Answer(
            status=response.status,
            headers=response.headers,
            body=body,
            url=final_url(response, url),
            retry_after=retry_after(response),
        )

    def refusal(self, answer: Answer, access: Access) -> RegistryError:
        """The error for an answer with an unexpected status, with the registry's message but without our secrets."""
        attempt = Attempt(
            reference=access.reference,
            push=access.push,
            credential=self._credential(access.reference),
            files=self._credentials.files,
            secrets=frozenset(self._secrets),
            document=access.document,
        )
        error = refusal(answer.status, answer.body, attempt)
        error.retry_after = answer.retry_after
        return error

    def is_plain_http(self, reference: Reference) -> bool:
        """Whether requests to the reference's registry use plain HTTP."""
        host = re.sub(r":[0-9]+$", "", reference.registry)
        return is_loopback(host) or not self._insecure.isdisjoint({reference.registry, host})

    def _send(self, request: Request, access: Access, authorization: str) -> BaseHTTPResponse:
        """Send a request as soon as the registry may get one more, and again after a 429."""
        from hatch_docker.support.connections import ATTEMPTS, backoff, is_too_long, retry_after

        headers = {**request.headers, **({"Authorization": authorization} if authorization else {})}
        sending = replace(request.sending, paced=True, behalf=self.url(access.reference, ""))
        pace = self._pace_of(access.reference.registry)
        for attempt in count(1):
            with pace.slot() as began:
                try:
                    response = self._http.request(
                        request.method, request.url, headers=headers, body=request.body, sending=sending
                    )
                except NetworkError as error:
                    raise unreachable(error, access.reference) from None
            if response.status != _BUSY:
                pace.accepted()
                break
            wait = retry_after(response) or backoff(attempt)
            may_wait = self._http.may_wait(sending.behalf, wait)
            last = attempt == ATTEMPTS or not sending.retry or is_too_long(response) or not may_wait
            pause = retry_after(response) if last else wait
            pace.refused(began, pause if may_wait else 0)
            if last:
                break
            response.close()
        return response

    def _pace_of(self, registry: str) -> Pace:
        with self._lock:
            return self._paces.setdefault(registry, Pace())

    def _again(self, attempt: Callable[[], _T], attempts: int) -> _T:
        """The result of one of so many attempts, which are repeated if an answer breaks off."""
        left = attempts
        while True:
            try:
                return attempt()
            except _BrokenAnswerError as error:
                left -= 1
                is_over = bool(error.silence) and not self._http.may_wait(error.behalf, 0)
                if left and not is_over:
                    continue
                if error.silence and attempts > 1:
                    # Other requests would wait for it as long, one after another.
                    self._http.give_up(error.behalf, error.failure)
                raise

    def _lock_of(self, registry: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(registry, threading.Lock())

    def _authorize(self, header: str, access: Access, refused: str) -> str:
        """The Authorization header for a challenge; empty if there is no other than `refused`."""
        key = (access.reference.registry, access.scopes)
        # Of this registry alone: its token service, or a credential helper, may be slow.
        with self._lock_of(access.reference.registry):
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

        def attempt() -> Answer:
            try:
                response = self._http.request(
                    request.method,
                    request.url,
                    headers=request.headers,
                    body=request.body or None,
                    # A refresh token is sent to the realm only.
                    sending=Sending(redirect=not request.body, behalf=self.url(access.reference, "")),
                )
            except NetworkError as error:
                raise unreachable(error, access.reference) from None
            return self.read(response, request.url, access)

        answer = self._again(attempt, _READ_ATTEMPTS)
        if answer.status == 404:
            raise RegistryError(
                f"the registry's token service is not at {redact(request.url)}", status=401, place=place
            )
        if answer.status != 200:
            raise self.refusal(answer, access)
        return challenge.token_of(answer.body, place)

    def _credential(self, reference: Reference) -> Credential:
        key = (reference.registry, reference.repository)
        if key not in self._credential_of:
            credential = self._credentials.for_registry(*key)
            self._secrets |= {credential.password, credential.identity_token, credential.registry_token}
            self._credential_of[key] = credential
        return self._credential_of[key]

    def is_of_registry(self, url: str, reference: Reference) -> bool:
        """Whether a URL is on the host of the reference's registry."""
        return _origin(url) == _origin(self.url(reference, ""))


class _BrokenAnswerError(RegistryError):
    """The connection broke within an answer, which is a `failure` of the host of the URL `behalf`."""

    def __init__(self, error: RegistryError, failure: NetworkError, behalf: str) -> None:
        super().__init__(error.message, place=error.place, hint=error.hint)
        self.silence = failure.silence
        self.failure = failure
        self.behalf = behalf


def names_other(answer: Answer, digest: str) -> bool:
    """Whether an answer says that the content has another digest; the registry may compute it by another algorithm."""
    header = answer.headers.get("Docker-Content-Digest", "") or digest
    same_algorithm = header.partition(":")[0] == digest.partition(":")[0]
    return header != digest and (same_algorithm or not DIGEST.fullmatch(header))


def _origin(url: str) -> tuple[str, str, int] | None:
    from urllib3.util import parse_url

    # By urllib3, which makes the connections: urllib.parse reads another host from some URLs.
    try:
        parts = parse_url(url)
        scheme = parts.scheme or ""
        return scheme, (parts.host or "").lower(), parts.port or _DEFAULT_PORTS.get(scheme, 0)
    except ValueError:
        return None
