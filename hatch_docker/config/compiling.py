"""Parse the keys of compiling and OS packages, and the settings that limit containers."""

from __future__ import annotations

import re
from fractions import Fraction

from hatch_docker.config.model import ALL
from hatch_docker.config.naming import normalized
from hatch_docker.config.times import nanoseconds
from hatch_docker.config.values import Parser, fail, list_of, nonempty, shown, text
from hatch_docker.support.package_names import OS_PACKAGE
from hatch_docker.support.patterns import regex

_NONE = ":none:"
# As Docker parses --memory: all units are powers of 1024.
_BYTES = regex(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ?([kmgt]?)i?b?", re.IGNORECASE)
_DISK = regex(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ?([kmgt]?)(i?)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MIN_MEMORY = 6 << 20  # engines refuse less
_CPUS = regex(r"[0-9]{1,4}(\.[0-9]{1,9})?")
_SECOND = 10**9


def os_package(value: object, place: str) -> str:
    """The name of an OS package, with or without a version, in the syntax of apk and apt."""
    string = nonempty(value, place)
    if not OS_PACKAGE.fullmatch(string):
        fail(place, f"{shown(string)} is not the name of an OS package: write it like 'libffi-dev' or 'curl=8.5.0-r0'")
    return string


def distributions(value: object, place: str) -> tuple[str, ...]:
    """Normalized names of distributions, or `:all:`; `:none:` means no names, as in pip's options."""
    names = _NAMES(value, place)
    for special in (ALL, _NONE):
        if special in names and len(names) > 1:
            fail(place, f"{special!r} cannot be combined with other names")
    return () if names == (_NONE,) else names


def disk_size(value: object, place: str) -> int:
    """A number of bytes on disk: `500MB`, `5GB`, `1.5GiB`; 0 is no limit. Units without an `i` are powers of 1000."""
    string = text(value, place)
    parts = _DISK.fullmatch(string)
    if not parts:
        fail(place, f"{shown(string)} is not a size: write it like '500MB' or '5GB'")
    size = int(Fraction(parts[1]) * (1024 if parts[3] else 1000) ** " kmgt".index(parts[2].lower() or " "))
    if size >= 2**63:
        fail(place, f"{shown(string)} is out of range; 0 is no limit")
    return size


def memory(value: object, place: str) -> int:
    """An amount of memory in bytes, in Docker's syntax: `512m`, `4g`, `1.5GiB`; 0 is no limit."""
    string = text(value, place)
    parts = _BYTES.fullmatch(string)
    if not parts:
        fail(place, f"{shown(string)} is not an amount of memory: write it like '512m', '4g' or '1.5GiB'")
    size = int(Fraction(parts[1]) * _UNITS[parts[2].lower()])
    if size and not _MIN_MEMORY <= size < 2**63:
        fail(place, f"{shown(string)} is out of range: engines take 6m and more")
    return size


def cpus(value: object, place: str) -> float:
    """A number of CPUs, which may be a fraction; 0 is no limit."""
    string = text(value, place)
    if not _CPUS.fullmatch(string):
        fail(place, f"{shown(string)} is not a number of CPUs: write it like '2' or '1.5'")
    count = float(string)
    if count and not 0.01 <= count <= 1024:
        fail(place, f"{shown(string)} is out of range: engines take 0.01 to 1024 CPUs")
    return count


def timeout(value: object, place: str) -> int:
    """A time limit in seconds, from a plain number of them or a duration like `30m`; 0 is no limit."""
    string = text(value, place)
    if re.fullmatch(r"[0-9]{1,9}", string):
        return int(string)
    try:
        length = nanoseconds(string)
    except ValueError:
        fail(place, f"{shown(string)} is not a duration: write it like '90s', '30m' or '1h30m'")
    if 0 < length < _SECOND or length >= 2**63:
        fail(place, f"{shown(string)} is out of range: set 1s or more, or 0 for no limit")
    return length // _SECOND


def _distribution(value: object, place: str) -> str:
    return str(value) if value in (ALL, _NONE) else normalized(value, place)


_NAMES: Parser[tuple[str, ...]] = list_of(_distribution)
