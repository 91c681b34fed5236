"""Image references by the grammar of distribution/reference, with Docker Hub's short names."""

from __future__ import annotations

from hatch_docker.errors import InvalidReferenceError
from hatch_docker.oci.spec import Platform, check_digest
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.patterns import regex

DOCKER_HUB = "docker.io"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = regex(rf"{_COMPONENT}(?:/{_COMPONENT})*")
LONGEST_TAG = 128
_TAG = regex(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{LONGEST_TAG - 1}}}")
_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_HOST = regex(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The name of an image: registry host (with port), repository, and a tag, a digest, both or neither."""

    registry: str = DOCKER_HUB
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse `[registry/]repository[:tag][@digest]`; raises InvalidReferenceError.

        `python:3.13-slim` is `docker.io/library/python:3.13-slim`. The first part is a host if it has a dot, a colon or
        is `localhost`. No tag or digest is added.
        """
        name, at, digest = text.partition("@")
        if at:
            check_digest(digest)
        head, slash, tail = name.rpartition("/")
        last, colon, tag = tail.partition(":")
        if colon:
            check_tag(tag)
        registry, repository = _split_host(head + slash + last)
        if not _REPOSITORY.fullmatch(repository):
            raise InvalidReferenceError(f"{text!r} is not an image reference: {_why(repository)}")
        if len(registry) + 1 + len(repository) > 255:
            raise InvalidReferenceError(f"{text!r} is not an image reference: its name is longer than 255 characters")
        return cls(registry=registry, repository=repository, tag=tag, digest=digest)

    @property
    def identifier(self) -> str:
        """The digest or tag to request from the registry: the digest if there is one, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    def with_tag(self, tag: str) -> Reference:
        """The same repository with another tag."""
        return replace(self, tag=check_tag(tag), digest="")

    def with_digest(self, digest: str) -> Reference:
        """The same repository with a digest and no tag."""
        return replace(self, tag="", digest=check_digest(digest))

    def for_platform(self, platform: Platform) -> Reference:
        """The tag for one platform of the images that a tag names together: `app:1.0-linux-arm-v7`."""
        return self.with_tag("-".join((self.tag or "latest", *str(platform).split("/"))))

    def __str__(self) -> str:
        """The whole name, with registry."""
        return f"{self.registry}/{self.repository}{self._suffix()}"

    @property
    def familiar(self) -> str:
        """The name as `docker images` shows it: without `docker.io/` and `library/`, unless that is ambiguous."""
        if self.registry != DOCKER_HUB:
            return str(self)
        short = self.repository.removeprefix("library/")
        first, slash, _ = short.partition("/")
        if slash and (short != self.repository or _is_host(first)):
            return str(self)
        return short + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def check_tag(tag: str) -> str:
    """Return `tag` if it follows the grammar; raises InvalidReferenceError otherwise."""
    if not _TAG.fullmatch(tag):
        raise InvalidReferenceError(
            f"{tag!r} is not a tag",
            hint="a tag has 1 to 128 letters, digits, '_', '.' and '-', and starts with a letter, digit or '_'",
        )
    return tag


def check_host(host: str) -> str:
    """Return `host`, which may have a port, if it is valid; raises InvalidReferenceError otherwise."""
    if "@" in host:
        raise InvalidReferenceError("a registry's host must not include a login", hint="log in with 'docker login'")
    if not _HOST.fullmatch(host):
        raise InvalidReferenceError(
            f"{host!r} is not a registry's host", hint="write it like 'registry.example' or '127.0.0.1:5000'"
        )
    return host


def _split_host(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and _is_host(first):
        check_host(first)
        # Docker Hub has two names; credentials and images use the first one.
        if first.lower() in (DOCKER_HUB, "index.docker.io"):
            first = DOCKER_HUB
        return (first, rest) if first != DOCKER_HUB or "/" in rest else (first, f"library/{rest}")
    return DOCKER_HUB, name if slash else f"library/{name}"


def _is_host(first: str) -> bool:
    return "." in first or ":" in first or first == "localhost"


def _why(repository: str) -> str:
    if not repository.removeprefix("library/"):
        return "it names no repository"
    if repository != repository.lower():
        return f"a repository is in lower case ({repository.lower()!r}?)"
    return f"{repository!r} is not a repository (lower-case letters, digits, and single separators '.', '_', '-', '/')"
