"""Parse and check a Release file: the index files of a suite with their hashes (Debian wiki, DebianRepository/Format).

Callers verify its signature first (`signature.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

from hatch_docker.debian.control import Paragraph, paragraph
from hatch_docker.errors import DebianError
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.patterns import regex

_FILE = regex(r"([0-9a-f]{64})\s+([0-9]{1,12})\s+(\S+)")
_DATE = regex(
    r"(?:[A-Z][a-z]{2}, +)?([0-9]{1,2}) +([A-Z][a-z]{2}) +([0-9]{4}) +([0-9]{1,2}):([0-9]{2}):([0-9]{2}) +(.+)"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UTC = ("UTC", "GMT", "Z", "+0000")
# How far clocks may differ.
_TOLERANCE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """The expected `size` in bytes and `sha256` in hexadecimal digits of a file."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A suite at one time. `files` maps paths below `dists/SUITE/`; times are aware, in UTC.

    `separate_all` is true if packages of architecture `all` are only in an index of their own.
    """

    suite: str
    codename: str
    date: datetime
    valid_until: datetime | None
    architectures: tuple[str, ...]
    components: tuple[str, ...]
    acquire_by_hash: bool
    separate_all: bool
    version: str = ""
    files: Mapping[str, File] = field(repr=False)


def parse_release(text: bytes, *, place: str) -> Release:
    """Parse a Release whose signature was verified. Raises DebianError, with `place`, if it is invalid."""
    try:
        fields = paragraph(text.decode("utf-8"), place=place)
    except UnicodeDecodeError:
        raise DebianError("is not a Release file: it is not UTF-8", place=place) from None
    date = _time(fields, "Date", place)
    if date is None:
        raise DebianError("is not a Release file: it has no Date", place=place)
    architectures = tuple(fields.get("Architectures", "").split())
    return Release(
        suite=fields.get("Suite", ""),
        codename=fields.get("Codename", ""),
        version=fields.get("Version", ""),
        date=date,
        valid_until=_time(fields, "Valid-Until", place),
        architectures=architectures,
        # The security archive calls it `updates/main`; in paths it is `main`.
        components=tuple(name.rpartition("/")[2] for name in fields.get("Components", "").split()),
        acquire_by_hash=fields.get("Acquire-By-Hash", "no").strip().lower() == "yes",
        separate_all="all" in architectures
        and "Packages" not in fields.get("No-Support-for-Architecture-all", "").split(),
        files=_files(fields, place),
    )


def check_release(release: Release, suite: str, *, now: datetime, place: str) -> None:
    """Raise DebianError for a Release of another suite than `suite`, or one that is not valid at `now`.

    A Date after `now` means that the clock is behind, and then nothing would ever expire.
    """
    if suite not in (release.suite, release.codename):
        actual = release.codename or release.suite or "an unnamed suite"
        raise DebianError(
            f"is the Release of {actual}, not of {suite}",
            place=place,
            hint="the mirror is damaged, or someone replaces one suite by another",
        )
    if release.valid_until is not None and release.valid_until < now:
        raise DebianError(
            f"has expired: it was valid until {release.valid_until:%Y-%m-%d %H:%M} UTC",
            place=place,
            hint="the mirror is not up to date, or this machine's clock is wrong; try another mirror",
        )
    if release.date - now > _TOLERANCE:
        raise DebianError(
            f"is of {release.date:%Y-%m-%d %H:%M} UTC, which is in the future",
            place=place,
            hint=f"check this machine's clock: it says {now:%Y-%m-%d %H:%M} UTC",
        )


def check_not_older(release: Release, seen: datetime, *, place: str) -> None:
    """Raise DebianError for a Release that is older than `seen`, the date of an earlier one of that mirror."""
    if release.date < seen:
        raise DebianError(
            f"is of {release.date:%Y-%m-%d %H:%M} UTC, older than an earlier one: {seen:%Y-%m-%d %H:%M} UTC",
            place=place,
            hint="the mirror is behind, or someone withholds updates: try again later, or another mirror",
        )


def packages_paths(release: Release, component: str, architecture: str, *, place: str) -> list[str]:
    """The paths of a component's indexes for an architecture, uncompressed: `main/binary-amd64/Packages`.

    Raises DebianError if the suite does not have the component or architecture.
    """
    architectures = (architecture, "all") if release.separate_all else (architecture,)
    paths = [f"{component}/binary-{each}/Packages" for each in architectures]
    if missing := [path for path in paths if path not in release.files]:
        all_architectures, components = ", ".join(release.architectures), ", ".join(release.components)
        hint = f"its architectures are {all_architectures}; its components {components}"
        raise DebianError(f"has no {missing[0]}", place=place, hint=hint)
    return paths


def _files(fields: Paragraph, place: str) -> dict[str, File]:
    """Parse the field SHA256; weaker checksums are ignored."""
    files: dict[str, File] = {}
    for line in fields.get("SHA256", "").split("\n"):
        if not line.strip():
            continue
        match = _FILE.fullmatch(line.strip())
        if match is None:
            raise DebianError(f"is not a Release file: invalid line in SHA256: {line.strip()[:80]!r}", place=place)
        sha256, size, path = match.groups()
        if any(part in {"", ".", ".."} for part in path.split("/")):
            raise DebianError(
                f"is not a Release file: it lists a file outside of its suite: {path[:80]!r}", place=place
            )
        files[path] = File(size=int(size), sha256=sha256)
    if not files:
        raise DebianError("is not a Release file: it lists no file in SHA256", place=place)
    return files


def _time(fields: Paragraph, name: str, place: str) -> datetime | None:
    """Parse a time in RFC 5322 format with the zone UTC; None if the field is missing."""
    value = fields.get(name)
    if value is None:
        return None
    match = _DATE.fullmatch(value.strip())
    try:
        if match is None or match[7] not in _UTC:
            raise ValueError
        day, month, year, hour, minute, second = match.groups()[:6]
        when = (int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second))
        return datetime(*when, tzinfo=timezone.utc)
    except ValueError:
        raise DebianError(f"has an invalid {name}, which must be a time in UTC: {value[:80]!r}", place=place) from None
