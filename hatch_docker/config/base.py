"""Parse `base` and `builder`: a family, a Debian suite, an image reference, or a transport of containers-transports(5).

The image is not resolved.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable

from hatch_docker.config.model import FAMILIES, SUITE, BaseSpec
from hatch_docker.config.values import fail, nearest, nonempty, shown
from hatch_docker.debian.suites import CODENAMES
from hatch_docker.errors import DebianError, InvalidReferenceError
from hatch_docker.oci.reference import Reference
from hatch_docker.support.patterns import regex

# A path and, after the first colon that does not belong to a Windows drive, the name of an image in it.
_PATH = regex(r"((?:[A-Za-z]:(?=[\\/]))?[^:]+)(?::(.+))?", re.DOTALL)
_DEBIAN = regex(rf"debian(?::({'|'.join(CODENAMES)})(?:-(debug))?(?:@([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}))?)?")
_IMAGE_ID = regex(r"sha256:[0-9a-f]{64}")


def base(value: object, place: str) -> BaseSpec:
    """A base image. Only the syntax is checked."""
    string = nonempty(value, place)
    transport, colon, rest = string.partition(":")
    if colon and transport in _TRANSPORTS:
        return _TRANSPORTS[transport](transport, rest, place)
    if suite := _DEBIAN.fullmatch(string):
        return _debian(suite, place)
    if not re.search("[/:@]", string):
        return _family(string, place)
    return BaseSpec(transport="registry", value=string, reference=reference(string, place))


def debian_mirror(value: object, place: str) -> str:
    """One or two URLs of Debian mirrors. Messages do not show credentials in them."""
    from hatch_docker.debian.sources import named_mirrors

    string = nonempty(value, place)
    try:
        named_mirrors(string, place=place)
    except DebianError as error:
        fail(place, "; ".join(filter(None, (error.message, error.hint))))
    return string


def reference(string: str, place: str) -> Reference:
    """A parsed image reference."""
    if "://" in string:
        # Messages do not show credentials.
        hint = re.sub("^[^/]*@(?=[^/]*/)", "", string.partition("://")[2])
        fail(place, f"not an image reference: write it without its scheme, like {shown(hint)}")
    try:
        return Reference.parse(string)
    except InvalidReferenceError as error:
        fail(place, f"{error.message}; {error.hint}" if error.hint else error.message)


def _debian(match: re.Match[str], place: str) -> BaseSpec:
    suite, variant, date = match.groups("")
    if date:
        try:
            datetime.date.fromisoformat(date)
        except ValueError:
            fail(place, f"{date} is not a date: write it like 2026-11-01")
    return BaseSpec(transport="debian", value=suite or SUITE, name=variant, date=date)


def _family(name: str, place: str) -> BaseSpec:
    if name not in FAMILIES:
        families = ("debian", *FAMILIES)
        image = f"; an image needs a tag, like {name + ':latest'!r}" if re.fullmatch(r"[\w.-]+", name) else ""
        choices = ", ".join(map(repr, families))
        fail(place, f"{shown(name)} is not a base family ({choices}){nearest(name, families)}{image}")
    return BaseSpec(transport="family", value=name)


def _path(transport: str, rest: str, place: str) -> BaseSpec:
    parts = _PATH.fullmatch(rest)
    if not parts:
        fail(place, f"{transport}: needs a path, like '{transport}:some/path' or '{transport}:some/path:name'")
    return BaseSpec(transport=transport, value=parts[1], name=parts[2] or "")


def _daemon(transport: str, rest: str, place: str) -> BaseSpec:
    if _IMAGE_ID.fullmatch(rest):
        return BaseSpec(transport=transport, value=rest)
    return BaseSpec(transport=transport, value=rest, reference=reference(rest, place))


_TRANSPORTS: dict[str, Callable[[str, str, str], BaseSpec]] = {
    "oci": _path,
    "oci-archive": _path,
    "docker-archive": _path,
    "docker-daemon": _daemon,
}
