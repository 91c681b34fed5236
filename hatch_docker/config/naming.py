"""The keys that say what the image is called, what it is made of, and when."""

from __future__ import annotations

import datetime
import re
from urllib.parse import urlsplit

from packaging.utils import InvalidName, canonicalize_name

from hatch_docker.config.base import reference
from hatch_docker.config.times import rfc3339
from hatch_docker.config.values import fail, list_of, nearest, shown, text, word
from hatch_docker.errors import InvalidReferenceError
from hatch_docker.oci.reference import Reference, check_host, check_tag
from hatch_docker.oci.spec import Platform

PLACEHOLDERS = ("version", "name", "git-sha")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def image(value: object, place: str) -> Reference:
    """The repository that the image is named by, without tag or digest."""
    found = reference(word(value, place), place)
    if found.tag:
        fail(place, f"{found.tag!r} is a tag: tags go in `tags`")
    if found.digest:
        fail(place, "an image that is yet to be built has no digest: write the repository alone")
    return found


def tag(value: object, place: str) -> str:
    """A tag's template: text with `{version}`, `{name}` and `{git-sha}`."""
    found = word(value, place)
    for name in _PLACEHOLDER.findall(found):
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{each}}}" for each in PLACEHOLDERS)
            fail(place, f"{shown('{' + name + '}')} is not a placeholder; the known ones are {known}")
    checked_tag(fill(found, dict.fromkeys(PLACEHOLDERS, "0")), place)
    return found


def fill(template: str, values: dict[str, str]) -> str:
    """The template with its placeholders replaced."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def checked_tag(found: str, place: str) -> str:
    """A whole tag."""
    try:
        return check_tag(found)
    except InvalidReferenceError as error:
        fail(place, f"{error.message}; {error.hint}")


def python(value: object, place: str) -> str:
    """A Python as base families name it: `X.Y`."""
    found = text(value, place, what='a string in quotes, like "3.13"')
    if not re.fullmatch(r"3\.[0-9]{1,3}", found):
        exact = re.fullmatch(r"(3\.[0-9]{1,3})\..*", found)
        advice = f'{exact[1]!r}, and name a patch release with base = "python:{found}-slim"' if exact else "like '3.13'"
        fail(place, f"{shown(found)} is not a Python version of the form X.Y; write {advice}")
    return found


def platform(value: object, place: str) -> Platform:
    """A platform, such as `linux/arm64`; only Linux has wheels for images."""
    found = word(value, place)
    try:
        parsed = Platform.parse(found)
    except InvalidReferenceError as error:
        fail(place, f"{error.message}; {error.hint}")
    if parsed.os != "linux":
        fail(place, f"{found!r} is not a Linux platform, and no other can be built")
    return parsed


def platforms(value: object, place: str) -> tuple[Platform, ...]:
    """One platform, in a list."""
    found = list_of(platform, empty=False)(value, place)
    if len(found) > 1:
        fail(place, "one platform is built at a time: name one, and build again for the next")
    return found


def normalized(value: object, place: str) -> str:
    """The name of an extra or of a dependency group, normalized (PEP 685, PEP 735)."""
    found = word(value, place)
    try:
        return canonicalize_name(found, validate=True)
    except InvalidName:
        fail(place, f"{shown(found)} is not a name: letters, digits, and '-', '_' and '.' between them")


def index_url(value: object, place: str) -> str:
    """An index's URL. It may hold a password, so no message shows it."""
    found = word(value, place)
    try:
        parts = urlsplit(found)
        whole = parts.scheme in ("https", "http") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        whole = False
    if not whole or re.search(r"[\s\x00-\x1f]", found):
        fail(place, "expected the URL of an index, like 'https://pypi.example/simple/'")
    return found


def created(value: object, place: str) -> str:
    """`commit`, `epoch`, `now`, or a time: TOML's own or in a string. Without an offset it is UTC, a date its start."""
    if value in ("commit", "epoch", "now"):
        return str(value)
    if isinstance(value, datetime.date):
        value = value.isoformat()
    found = text(value, place, what='"commit", "epoch", "now" or a time like "2026-01-31T12:00:00Z"')
    try:
        return rfc3339(found)
    except ValueError:
        near = nearest(found, ("commit", "epoch", "now"))
        fail(place, f"{shown(found)} is not a time like '2026-01-31T12:00:00Z', nor 'commit', 'epoch' or 'now'{near}")


def mirror(value: object, place: str) -> str:
    """Where a registry is mirrored: a host, or a host and the path below which its repositories are there."""
    found = text(value, place)
    first, slash, path = found.partition("/")
    checked = host(first, place)
    if slash:
        try:
            Reference.parse(f"{checked}/{path}/repository")
        except InvalidReferenceError:
            fail(place, f"{shown(found)} is not a host, or host/path, to pull from instead")
    return found


def host(value: object, place: str) -> str:
    """A registry's host, with or without a port."""
    try:
        return check_host(text(value, place))
    except InvalidReferenceError as error:
        fail(place, f"{error.message}; {error.hint}")
