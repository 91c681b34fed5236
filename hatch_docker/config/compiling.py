"""The keys and settings that say what is compiled, with which OS packages, and what that may take of the machine."""

from __future__ import annotations

import re
from fractions import Fraction

from hatch_docker.config.model import ALL
from hatch_docker.config.naming import normalized
from hatch_docker.config.times import nanoseconds
from hatch_docker.config.values import Parser, fail, list_of, shown, text, word
from hatch_docker.support.package_names import OS_PACKAGE

_NONE = ":none:"
# As Docker reads --memory: the units are powers of 1024, however they are written.
_BYTES = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ?([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_LEAST_MEMORY = 6 << 20  # an engine refuses less
_CPUS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,9})?")
_SECOND = 10**9


def os_package(value: object, place: str) -> str:
    """The name of an OS package, with or without a version, as apk and apt both write it."""
    found = word(value, place)
    if not OS_PACKAGE.fullmatch(found):
        fail(place, f"{shown(found)} is not the name of an OS package: write it like 'libffi-dev' or 'curl=8.5.0-r0'")
    return found


def distributions(value: object, place: str) -> tuple[str, ...]:
    """Normalized names of distributions; `:all:` alone is kept, `:none:` is no name at all, as with pip's options."""
    found = _NAMES(value, place)
    for special in (ALL, _NONE):
        if special in found and len(found) > 1:
            fail(place, f"{special!r} stands alone, without names beside it")
    return () if found == (_NONE,) else found


def memory(value: object, place: str) -> int:
    """An amount of memory in bytes, written as Docker writes it: `512m`, `4g`, `1.5GiB`; 0 is no limit."""
    found = text(value, place)
    parts = _BYTES.fullmatch(found)
    if not parts:
        fail(place, f"{shown(found)} is not an amount of memory: write it like '512m', '4g' or '1.5GiB'")
    size = int(Fraction(parts[1]) * _UNITS[parts[2].lower()])
    if size and not _LEAST_MEMORY <= size < 2**63:
        fail(place, f"{shown(found)} is out of range: engines take 6m and more")
    return size


def cpus(value: object, place: str) -> float:
    """How many CPUs, of which there may be fractions; 0 is no limit."""
    found = text(value, place)
    if not _CPUS.fullmatch(found):
        fail(place, f"{shown(found)} is not a number of CPUs: write it like '2' or '1.5'")
    count = float(found)
    if count and not 0.01 <= count <= 1024:
        fail(place, f"{shown(found)} is out of range: engines take 0.01 to 1024 CPUs")
    return count


def timeout(value: object, place: str) -> int:
    """A time limit in seconds: these alone, or a duration like `30m`; 0 is no limit."""
    found = text(value, place)
    if re.fullmatch(r"[0-9]{1,9}", found):
        return int(found)
    try:
        length = nanoseconds(found)
    except ValueError:
        fail(place, f"{shown(found)} is not a duration: write it like '90s', '30m' or '1h30m'")
    if 0 < length < _SECOND or length >= 2**63:
        fail(place, f"{shown(found)} is out of range: it is 1s or more, or 0 for no limit")
    return length // _SECOND


def _distribution(value: object, place: str) -> str:
    return str(value) if value in (ALL, _NONE) else normalized(value, place)


_NAMES: Parser[tuple[str, ...]] = list_of(_distribution)
