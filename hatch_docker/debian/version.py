"""Compare Debian versions (policy 5.6.12): `[epoch:]upstream[-revision]`; `~` sorts before the end of a part."""

from __future__ import annotations

import functools

from hatch_docker.errors import DebianError
from hatch_docker.support.patterns import regex

Key = tuple[int, tuple[int, ...], tuple[int, ...]]

_LONGEST = 500
_MAX_EPOCH = 2**31 - 1
_EPOCH = regex(r"[0-9]{1,10}")
_UPSTREAM = regex(r"[A-Za-z0-9.+:~-]+")
_REVISION = regex(r"[A-Za-z0-9.+~]+")
_PAIR = regex(r"([^0-9]*)([0-9]*)")
_NOT_A_LETTER = 256


def compare(first: str, second: str) -> int:
    """Negative if `first` is the earlier version, 0 if both are equal, positive if it is the later one.

    Raises DebianError for an invalid version.
    """
    one, other = key(first), key(second)
    return (one > other) - (one < other)


@functools.lru_cache(maxsize=1 << 12)
def key(text: str) -> Key:
    """The sort key of a version; equal for versions that Debian treats as equal (`1.0`, `0:1.00-0`).

    Raises DebianError for an invalid version.
    """
    epoch, colon, rest = text.partition(":")
    if not colon:
        epoch, rest = "0", text
    upstream, hyphen, revision = rest.rpartition("-")
    if not hyphen:
        upstream, revision = rest, "0"
    well_formed = _EPOCH.fullmatch(epoch) and _UPSTREAM.fullmatch(upstream) and _REVISION.fullmatch(revision)
    if not well_formed or len(text) > _LONGEST or int(epoch) > _MAX_EPOCH:
        raise DebianError(f"{text[:80]!r} is not a version of a Debian package")
    return int(epoch), _order(upstream), _order(revision)


def _order(part: str) -> tuple[int, ...]:
    """The parts of a version as integers that compare correctly as tuples.

    Each run of non-digits gives the weights of its characters and a 0; the digits after it give their value.
    """
    order: list[int] = []
    for text, digits in _PAIR.findall(part):
        order.extend(map(_weight, text))
        order.extend((0, int(digits or "0")))
    return tuple(order)


def _weight(character: str) -> int:
    """`~` sorts before the end of a run, which is 0; letters sort before all other characters."""
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + _NOT_A_LETTER
