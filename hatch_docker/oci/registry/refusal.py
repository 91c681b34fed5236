"""Errors for the refusals of registries, with hints. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from hatch_docker.errors import ImageError, NetworkError, RegistryError
from hatch_docker.oci import spec
from hatch_docker.oci.reference import DOCKER_HUB, Reference
from hatch_docker.oci.registry.auth import Credential
from hatch_docker.support.dataclasses import dataclass

_LONGEST_DETAIL = 200
NOT_A_REGISTRY = "check its host and port, and whether a proxy or a login page answers in its place"
# Codes for a manifest or index that names content which the registry does not have.
UNKNOWN_CONTENT = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})
# Codes of registries that do not know the type of a document.
_UNKNOWN_DOCUMENT = frozenset({"MANIFEST_INVALID", "UNSUPPORTED", "UNSUPPORTED_MEDIA_TYPE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What a registry refused: a pull from `reference` or a push to it, with `credential`.

    `files` were searched for credentials. `secrets` must not appear in errors. `document` is the media type of a
    manifest or index that was pushed.
    """

    reference: Reference
    push: bool
    credential: Credential
    files: Sequence[Path]
    secrets: Collection[str] = ()
    document: str = ""

    @property
    def registry(self) -> str:
        """The registry's host."""
        return self.reference.registry

    @property
    def repository(self) -> str:
        """The repository's name, without the host."""
        return self.reference.repository

    @property
    def login(self) -> str:
        """The command that logs in."""
        return "docker login" if self.registry == DOCKER_HUB else f"docker login {self.registry}"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    codes: frozenset[str]
    detail: str = ""


_Meaning = Callable[[Attempt, _Answer], tuple[str, str]]


def refusal(status: int, body: bytes, attempt: Attempt) -> RegistryError:
    """The error for `status`, with the registry's own message from `body`: printable, short, and without secrets."""
    codes, detail = _read(body, attempt.secrets)
    answer = _Answer(status, codes, detail)
    special = _of_document(attempt, answer) if attempt.document and 400 <= status < 500 else None
    message, hint = special or _MEANINGS.get(status, _failed)(attempt, answer)
    place = str(attempt.reference)
    error = RegistryError(f"{message} ({detail})" if detail else message, status=status, place=place, hint=hint)
    error.codes = codes
    return error


def not_stored(what: str, reference: Reference, status: int) -> RegistryError:
    """The error for a registry that reports success although it did not store what was sent; `what` it has instead."""
    message = f"{reference.registry} answered that all is well, but it has {what}"
    return RegistryError(message, status=status, place=str(reference), hint=NOT_A_REGISTRY)


def unreachable(error: NetworkError, reference: Reference) -> RegistryError:
    """The error for a registry, or its token service, that does not answer."""
    if isinstance(error, RegistryError):
        return error
    hint = error.hint
    if "TLS" in error.message:
        hint += "; a registry without TLS is named in HATCH_DOCKER_INSECURE_REGISTRIES"
    translated = RegistryError(error.message, place=str(reference), hint=hint)
    translated.silence = error.silence
    return translated


def _unauthorized(attempt: Attempt, _answer: _Answer) -> tuple[str, str]:
    credential = attempt.credential
    if credential.source:
        return (
            f"{attempt.registry} does not accept the credentials from {credential.source}",
            f"log in again ({attempt.login}), and check the repository's name and permissions",
        )
    files = ", ".join(str(path) for path in attempt.files) or "no files at all"
    hints = [
        f"log in with '{attempt.login}' (looked in {files})",
        "registries also answer like this if the repository does not exist",
        *credential.problems,
    ]
    return f"{attempt.registry} asks for credentials, and there are none for it", "; ".join(hints)


def _forbidden(attempt: Attempt, _answer: _Answer) -> tuple[str, str]:
    credential = attempt.credential
    who = f"with the credentials from {credential.source}" if credential.source else "anonymously"
    verb = "push to" if attempt.push else "pull from"
    hints = [
        f"check the repository's name and permissions, or use another account ({attempt.login})",
        *credential.problems,
    ]
    return f"{attempt.registry} does not let us {verb} {attempt.repository} {who}", "; ".join(hints)


def _not_found(attempt: Attempt, answer: _Answer) -> tuple[str, str]:
    if attempt.push or "NAME_UNKNOWN" in answer.codes:
        hint = "create the repository first, or check its name" if attempt.push else "check the repository's name"
        return f"{attempt.registry} has no repository {attempt.repository}", hint
    image = attempt.reference
    separator = "@" if image.digest else ":"
    return (
        f"{attempt.registry} has no image {attempt.repository}{separator}{image.identifier}",
        "check its name and its tag or digest",
    )


def _too_many(attempt: Attempt, _answer: _Answer) -> tuple[str, str]:
    mirror = f"HATCH_DOCKER_REGISTRY_MIRRORS={attempt.registry}=<host of the mirror>"
    hint = f"wait, or log in ({attempt.login})"
    if not attempt.push:
        hint = f"wait, log in ({attempt.login}), or pull from a mirror ({mirror})"
    return f"{attempt.registry} has had too many requests from here", hint


def _too_large(attempt: Attempt, answer: _Answer) -> tuple[str, str]:
    hint = "a proxy in front of it may limit the size of requests (nginx: client_max_body_size)" if attempt.push else ""
    return _failed(attempt, answer)[0], hint


def _of_document(attempt: Attempt, answer: _Answer) -> tuple[str, str] | None:
    """The meaning of a refused manifest or index, if other requests are not refused in the same way."""
    tag = attempt.reference.tag
    if tag and ("TAG_INVALID" in answer.codes or "immutab" in answer.detail.lower()):
        # ECR; Harbor and Google's registry say it in words.
        return (
            f"{attempt.registry} does not move the tag {tag}",
            f"tags are immutable there, and {tag} names another image: leave it out of `tags` or --tag",
        )
    if answer.codes & UNKNOWN_CONTENT:
        return f"{attempt.registry} lacks content that it has just been sent", "push again"
    # Before an index, it accepted its images: it has nothing against the repository.
    without_reason = answer.status in (400, 405) and not answer.codes
    is_unknown = answer.status == 415 or without_reason or answer.codes & _UNKNOWN_DOCUMENT
    if attempt.document in spec.INDEXES and is_unknown:
        return (
            f"{attempt.registry} does not accept an index, which holds the images of several platforms",
            "push an image for one platform (`platforms` or --platform), or use another registry",
        )
    return None


def _failed(attempt: Attempt, answer: _Answer) -> tuple[str, str]:
    if answer.status >= 500:
        return f"{attempt.registry} failed: HTTP {answer.status}", "try again later"
    if answer.status < 400:
        return f"{attempt.registry} does not answer as a registry: HTTP {answer.status}", NOT_A_REGISTRY
    verb = "push" if attempt.push else "pull"
    return f"{attempt.registry} refused the {verb}: HTTP {answer.status}", ""


_MEANINGS: dict[int, _Meaning] = {
    401: _unauthorized,
    403: _forbidden,
    404: _not_found,
    413: _too_large,
    416: _too_large,
    429: _too_many,
}


def _read(body: bytes, secrets: Collection[str]) -> tuple[frozenset[str], str]:
    """The error codes of the distribution specification in an answer, and its text on one line."""
    try:
        document = spec.load(body, "the answer")
    except ImageError:
        return frozenset(), ""
    listed = document.get("errors")
    errors = [error for error in listed if isinstance(error, dict)] if isinstance(listed, list) else []
    codes = frozenset(error["code"] for error in errors if isinstance(error.get("code"), str))
    texts = [_text(error, "code", "message") for error in errors]
    # No specification covers the errors of token services. Known ones use these names.
    texts += [_text(document, name) for name in ("details", "message", "error_description")]
    return codes, _clean("; ".join(text for text in texts if text), secrets)


def _text(error: dict[str, Any], *names: str) -> str:
    return ": ".join(error[name] for name in names if isinstance(error.get(name), str) and error[name])


def _clean(text: str, secrets: Collection[str]) -> str:
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= _LONGEST_DETAIL else text[:_LONGEST_DETAIL] + "…"
