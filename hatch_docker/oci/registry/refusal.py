"""What a registry's refusal means, in words that say what to do. Pure: nothing here does I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_docker.errors import ImageError, NetworkError, RegistryError
from hatch_docker.oci import spec
from hatch_docker.oci.reference import DOCKER_HUB, Reference
from hatch_docker.oci.registry.auth import Credential

_LONGEST_DETAIL = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    status: int
    codes: frozenset[str]
    reference: Reference
    push: bool
    credential: Credential
    asked: Sequence[Path]

    @property
    def registry(self) -> str:
        return self.reference.registry

    @property
    def repository(self) -> str:
        return self.reference.repository

    @property
    def login(self) -> str:
        return "docker login" if self.registry == DOCKER_HUB else f"docker login {self.registry}"


def refusal(
    status: int,
    body: bytes,
    *,
    reference: Reference,
    push: bool,
    credential: Credential,
    asked: Sequence[Path],
    secrets: Collection[str] = (),
) -> RegistryError:
    """The error for `status`, with what the registry says itself in `body`, printable, short, and without `secrets`.

    `asked` are the files in which credentials were looked for.
    """
    codes, detail = _read(body, secrets)
    refused = _Refusal(
        status=status,
        codes=codes,
        reference=reference,
        push=push,
        credential=credential,
        asked=asked,
    )
    message, hint = _MEANINGS.get(status, _failed)(refused)
    return RegistryError(f"{message} ({detail})" if detail else message, status=status, place=str(reference), hint=hint)


def unreachable(error: NetworkError, reference: Reference) -> RegistryError:
    """The error for a registry, or its token service, that does not answer."""
    if isinstance(error, RegistryError):
        return error
    hint = error.hint
    if "TLS" in error.message:
        hint += "; a registry without TLS is named in HATCH_DOCKER_INSECURE_REGISTRIES"
    return RegistryError(error.message, place=str(reference), hint=hint)


def _unauthorized(refused: _Refusal) -> tuple[str, str]:
    credential = refused.credential
    if credential.source:
        return (
            f"{refused.registry} does not accept the credentials from {credential.source}",
            f"log in again ({refused.login}), and check the repository's name and permissions",
        )
    files = ", ".join(str(path) for path in refused.asked) or "no files at all"
    return (
        f"{refused.registry} asks for credentials, and there are none for it",
        "; ".join(
            [
                f"log in with '{refused.login}' (looked in {files})",
                "registries answer so for a repository that does not exist, too",
                *credential.problems,
            ]
        ),
    )


def _forbidden(refused: _Refusal) -> tuple[str, str]:
    who = f"with the credentials from {refused.credential.source}" if refused.credential.source else "anonymously"
    verb = "push to" if refused.push else "pull from"
    return (
        f"{refused.registry} does not let us {verb} {refused.repository} {who}",
        "; ".join(
            [
                f"check the repository's name and permissions, or use another account ({refused.login})",
                *refused.credential.problems,
            ]
        ),
    )


def _not_found(refused: _Refusal) -> tuple[str, str]:
    if refused.push or "NAME_UNKNOWN" in refused.codes:
        hint = "create the repository first, or check its name" if refused.push else "check the repository's name"
        return f"{refused.registry} has no repository {refused.repository}", hint
    image = refused.reference
    separator = "@" if image.digest else ":"
    return (
        f"{refused.registry} has no image {refused.repository}{separator}{image.identifier}",
        "check its name and its tag or digest",
    )


def _too_many(refused: _Refusal) -> tuple[str, str]:
    mirror = f"HATCH_DOCKER_REGISTRY_MIRRORS={refused.registry}=<host of the mirror>"
    return (
        f"{refused.registry} has had too many requests from here",
        f"wait, log in ({refused.login}), or pull from a mirror ({mirror})",
    )


def _failed(refused: _Refusal) -> tuple[str, str]:
    if refused.status >= 500:
        return f"{refused.registry} failed: HTTP {refused.status}", "try again later"
    verb = "push" if refused.push else "pull"
    return f"{refused.registry} refused the {verb}: HTTP {refused.status}", ""


_MEANINGS: dict[int, Callable[[_Refusal], tuple[str, str]]] = {
    401: _unauthorized,
    403: _forbidden,
    404: _not_found,
    429: _too_many,
}


def _read(body: bytes, secrets: Collection[str]) -> tuple[frozenset[str], str]:
    """The error codes of the distribution specification in an answer, and one line of its text."""
    try:
        document = spec.load(body, "the answer")
    except ImageError:
        return frozenset(), ""
    listed = document.get("errors")
    errors = [error for error in listed if isinstance(error, dict)] if isinstance(listed, list) else []
    codes = frozenset(error["code"] for error in errors if isinstance(error.get("code"), str))
    texts = [_text(error, "code", "message") for error in errors]
    # Token services have no specified form; these are what the known ones say.
    texts += [_text(document, name) for name in ("details", "message", "error_description")]
    return codes, _clean("; ".join(text for text in texts if text), secrets)


def _text(error: dict[str, Any], *names: str) -> str:
    return ": ".join(error[name] for name in names if isinstance(error.get(name), str) and error[name])


def _clean(text: str, secrets: Collection[str]) -> str:
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= _LONGEST_DETAIL else text[:_LONGEST_DETAIL] + "…"
