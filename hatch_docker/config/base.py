"""The key `base`: a family, a suite of Debian, an image reference, or a transport of containers-transports(5)."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable

from hatch_docker.config.model import FAMILIES, SUITE, BaseSpec
from hatch_docker.config.values import fail, nearest, shown, word
from hatch_docker.debian.sources import CODENAMES, named_mirrors
from hatch_docker.errors import DebianError, InvalidReferenceError
from hatch_docker.oci.reference import Reference

# A path up to its first colon, but for the one of a Windows drive, then the name of an image in there.
_PATH = re.compile(r"((?:[A-Za-z]:(?=[\\/]))?[^:]+)(?::(.+))?", re.DOTALL)
_DEBIAN = re.compile(rf"debian(?::({'|'.join(CODENAMES)})(?:-(debug))?(?:@([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}))?)?")
_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")


def base(value: object, place: str) -> BaseSpec:
    """Where the base comes from. Only the syntax is checked."""
    found = word(value, place)
    transport, colon, rest = found.partition(":")
    if colon and transport in _TRANSPORTS:
        return _TRANSPORTS[transport](transport, rest, place)
    if suite := _DEBIAN.fullmatch(found):
        return _debian(suite, place)
    if "://" in found:
        # A login in it is not shown.
        hint = re.sub("^[^/]*@(?=[^/]*/)", "", found.partition("://")[2])
        fail(place, f"not an image reference: write it without its scheme, like {shown(hint)}")
    if not re.search("[/:@]", found):
        return _family(found, place)
    return BaseSpec(transport="registry", value=found, reference=reference(found, place))


def debian_mirror(value: object, place: str) -> str:
    """One URL or two of mirrors of Debian; a login in them is not shown."""
    found = word(value, place)
    try:
        named_mirrors(found, place=place)
    except DebianError as error:
        fail(place, "; ".join(filter(None, (error.message, error.hint))))
    return found


def reference(found: str, place: str) -> Reference:
    """An image reference."""
    try:
        return Reference.parse(found)
    except InvalidReferenceError as error:
        fail(place, f"{error.message}; {error.hint}" if error.hint else error.message)


def _debian(found: re.Match[str], place: str) -> BaseSpec:
    suite, variant, date = found.groups("")
    if date:
        try:
            datetime.date.fromisoformat(date)
        except ValueError:
            fail(place, f"{date} is no day: write it like 2026-11-01")
    return BaseSpec(transport="debian", value=suite or SUITE, name=variant, date=date)


def _family(name: str, place: str) -> BaseSpec:
    if name not in FAMILIES:
        known = ", ".join(repr(family) for family in ("debian", *FAMILIES))
        image = f"; an image has its tag written, like {name + ':latest'!r}" if re.fullmatch(r"[\w.-]+", name) else ""
        fail(place, f"{shown(name)} is not a base family ({known}){nearest(name, ('debian', *FAMILIES))}{image}")
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
