"""Parse the image's names, its platform and Python, its creation time, and names of indexes and registries."""

from __future__ import annotations

import datetime
import re
from typing import Literal
from urllib.parse import urlsplit

from packaging.utils import InvalidName, canonicalize_name

from hatch_docker.config.base import reference
from hatch_docker.config.model import EVERY
from hatch_docker.config.times import rfc3339
from hatch_docker.config.values import fail, list_of, nearest, nonempty, shown, text
from hatch_docker.errors import InvalidReferenceError
from hatch_docker.oci.reference import Reference, check_host, check_tag
from hatch_docker.oci.spec import Platform
from hatch_docker.support.patterns import regex

PLACEHOLDERS = ("version", "name", "git-sha")
_SHORTEST_KEY = 16
_PLACEHOLDER = regex(r"\{([^{}]*)\}")


def image(value: object, place: str) -> Reference:
    """The image's repository, without tag or digest."""
    parsed = reference(nonempty(value, place), place)
    if parsed.tag:
        fail(place, f"{parsed.tag!r} is a tag: move it to `tags`")
    if parsed.digest:
        fail(place, "an image has no digest before it is built: write the repository alone")
    return parsed


def _cache(value: object, place: str) -> Reference:
    parsed = reference(nonempty(value, place), place)
    if parsed.tag or parsed.digest:
        fail(place, f"{shown(value)} has a tag or digest: a cache has tags of its own, so write the repository alone")
    return parsed


def caches(value: object, place: str) -> tuple[Reference, ...]:
    """Repositories for caches, each once; one may be a string, and none is none."""
    return list_of(_cache, "repositories")([value] if isinstance(value, str) else value, place)


def cache_key(value: object, place: str) -> str:
    """A secret that is hard to guess. Messages do not show it."""
    string = nonempty(value, place)
    if len(string) < _SHORTEST_KEY:
        fail(
            place,
            f"a key needs at least {_SHORTEST_KEY} characters; `openssl rand -hex 32` makes one",
        )
    return string


def whole_reference(value: object, place: str) -> Reference:
    """A whole name of the image; its default tag is `latest`."""
    parsed = reference(nonempty(value, place), place)
    if parsed.digest:
        fail(place, f"{shown(value)} has a digest: images are named by tags, and their digest follows from the content")
    return parsed.with_tag(parsed.tag or "latest")


def tag(value: object, place: str) -> str:
    """The template of a tag: a string with the placeholders `{version}`, `{name}` and `{git-sha}`."""
    string = nonempty(value, place)
    for name in _PLACEHOLDER.findall(string):
        if name not in PLACEHOLDERS:
            choices = ", ".join(f"{{{each}}}" for each in PLACEHOLDERS)
            fail(place, f"{shown('{' + name + '}')} is not a placeholder; the placeholders are {choices}")
    checked_tag(fill(string, dict.fromkeys(PLACEHOLDERS, "0")), place)
    return string


def fill(template: str, values: dict[str, str]) -> str:
    """The template with its placeholders replaced."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def checked_tag(string: str, place: str) -> str:
    """A valid tag."""
    try:
        return check_tag(string)
    except InvalidReferenceError as error:
        fail(place, f"{error.message}; {error.hint}")


def python(value: object, place: str) -> str:
    """A Python version of the form `X.Y`."""
    string = text(value, place, what='a string in quotes, like "3.13"')
    if not re.fullmatch(r"3\.[0-9]{1,3}", string):
        exact = re.fullmatch(r"(3\.[0-9]{1,3})\..*", string)
        advice = f'{exact[1]!r}, or set base = "python:{string}-slim" for a patch release' if exact else "like '3.13'"
        fail(place, f"{shown(string)} is not a Python version of the form X.Y; write {advice}")
    return string


def platform(value: object, place: str) -> Platform:
    """A platform of Linux, such as `linux/arm64`."""
    string = nonempty(value, place)
    try:
        parsed = Platform.parse(string)
    except InvalidReferenceError as error:
        fail(place, f"{error.message}; {error.hint}")
    if parsed.os != "linux":
        fail(place, f"{string!r} is not a Linux platform, and others are not supported")
    return parsed


def platforms(value: object, place: str) -> tuple[Platform, ...] | Literal["all"]:
    """Platforms, each once, in a list; or "all", alone or in a list, for all platforms of the base."""
    if value in (EVERY, [EVERY]):
        return EVERY
    if isinstance(value, list) and EVERY in value:
        fail(place, f"{EVERY!r} cannot be combined with other platforms")
    return tuple(dict.fromkeys(list_of(platform, empty=False)(value, place)))


def normalized(value: object, place: str) -> str:
    """The name of a distribution, extra or dependency group, normalized (PEP 503, PEP 685, PEP 735)."""
    string = nonempty(value, place)
    try:
        return canonicalize_name(string, validate=True)
    except InvalidName:
        fail(place, f"{shown(string)} is not a name: letters, digits, and '-', '_' and '.' between them")


def index_url(value: object, place: str) -> str:
    """The URL of a package index. Messages do not show it, since it may contain a password."""
    string = nonempty(value, place)
    try:
        parts = urlsplit(string)
        valid = parts.scheme in ("https", "http") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        valid = False
    if not valid or re.search(r"[\s\x00-\x1f]", string):
        fail(place, "expected the URL of an index, like 'https://pypi.example/simple/'")
    return string


def created(value: object, place: str) -> str:
    """`commit`, `epoch`, `now`, or a time as RFC 3339 in UTC.

    A time may be a TOML time or date, or a string; without an offset it is UTC. A date is its first second.
    """
    if value in ("commit", "epoch", "now"):
        return str(value)
    if isinstance(value, datetime.date):
        value = value.isoformat()
    string = text(value, place, what='"commit", "epoch", "now" or a time like "2026-01-31T12:00:00Z"')
    try:
        return rfc3339(string)
    except ValueError:
        hint = nearest(string, ("commit", "epoch", "now"))
        fail(place, f"{shown(string)} is not a time like '2026-01-31T12:00:00Z', nor 'commit', 'epoch' or 'now'{hint}")


def mirror(value: object, place: str) -> str:
    """The mirror of a registry: a host, or a host and a prefix for the names of repositories."""
    string = text(value, place)
    first, slash, path = string.partition("/")
    checked = host(first, place)
    if slash:
        try:
            Reference.parse(f"{checked}/{path}/repository")
        except InvalidReferenceError:
            fail(place, f"{shown(string)} is not a mirror: write a host or host/path")
    return string


def host(value: object, place: str) -> str:
    """The host of a registry, with or without a port."""
    try:
        return check_host(text(value, place))
    except InvalidReferenceError as error:
        fail(place, f"{error.message}; {error.hint}")
