"""The key `base`: a family, an image reference, or a transport of containers-transports(5)."""

from __future__ import annotations

import re
from collections.abc import Callable

from hatch_docker.config.model import FAMILIES, BaseSpec
from hatch_docker.config.values import fail, nearest, shown, word
from hatch_docker.errors import InvalidReferenceError
from hatch_docker.oci.reference import Reference

# A path up to its first colon, but for the one of a Windows drive, then the name of an image in there.
_PATH = re.compile(r"((?:[A-Za-z]:(?=[\\/]))?[^:]+)(?::(.+))?", re.DOTALL)
_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")


def base(value: object, place: str) -> BaseSpec:
    """Where the base comes from. Only the syntax is checked."""
    found = word(value, place)
    transport, colon, rest = found.partition(":")
    if colon and transport in _TRANSPORTS:
        return _TRANSPORTS[transport](transport, rest, place)
    if "://" in found:
        # A login in it is not shown.
        hint = re.sub("^[^/]*@(?=[^/]*/)", "", found.partition("://")[2])
        fail(place, f"not an image reference: write it without its scheme, like {shown(hint)}")
    if not re.search("[/:@]", found):
        return _family(found, place)
    return BaseSpec(transport="registry", value=found, reference=reference(found, place))


def reference(found: str, place: str) -> Reference:
    """An image reference."""
    try:
        return Reference.parse(found)
    except InvalidReferenceError as error:
        fail(place, f"{error.message}; {error.hint}" if error.hint else error.message)


def _family(name: str, place: str) -> BaseSpec:
    if name not in FAMILIES:
        known = ", ".join(repr(family) for family in FAMILIES)
        image = f"; an image has its tag written, like {name + ':latest'!r}" if re.fullmatch(r"[\w.-]+", name) else ""
        fail(place, f"{shown(name)} is not a base family ({known}){nearest(name, FAMILIES)}{image}")
    return BaseSpec(transport="family", value=name)


def _path(transport: str, rest: str, place: str) -> BaseSpec:
    parts = _PATH.fullmatch(rest)
    if not parts:
        fail(place, f"{transport}: needs a path, like '{transport}:path/of/it' or '{transport}:path/of/it:name'")
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
