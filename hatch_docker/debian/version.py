"""How Debian orders versions (Debian policy 5.6.12): `[epoch:]upstream[-revision]`, and `~` sorts before the end."""

from __future__ import annotations

import functools
import re

from hatch_docker.errors import DebianError

Key = tuple[int, tuple[int, ...], tuple[int, ...]]

_LONGEST = 500
_MAX_EPOCH = 2**31 - 1
_EPOCH = re.compile(r"[0-9]{1,10}")
_UPSTREAM = re.compile(r"[A-Za-z0-9.+:~-]+")
_REVISION = re.compile(r"[A-Za-z0-9.+~]+")
_PAIR = re.compile(r"([^0-9]*)([0-9]*)")
_NOT_A_LETTER = 256


def compare(first: str, second: str) -> int:
    """Negative where `first` is the earlier version, 0 where both are the same one, positive where it is the later.

    Raises DebianError for what is not a version.
    """
    one, other = key(first), key(second)
    return (one > other) - (one < other)


@functools.lru_cache(maxsize=1 << 12)
def key(text: str) -> Key:
    """What sorts as the version does; equal for versions that Debian takes for the same (`1.0`, `0:1.00-0`).

    Raises DebianError for what is not a version.
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
    """One number for each character that is no digit, a 0 where a run of them ends, then the value of the digits.

    So two parts that are equal up to some place have the same kind of thing there.
    """
    order: list[int] = []
    for text, digits in _PAIR.findall(part):
        order.extend(map(_weight, text))
        order.extend((0, int(digits or "0")))
    return tuple(order)


def _weight(character: str) -> int:
    """`~` is less than the end of a run, which is 0; letters are less than everything else."""
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + _NOT_A_LETTER
