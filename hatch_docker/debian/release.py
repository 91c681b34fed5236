"""A Release: what a suite of the archive holds, and until when that may be believed.

Debian's wiki describes it: DebianRepository/Format.

Nothing of a Release is looked at before its signature was (`signature.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from hatch_docker.debian.control import Paragraph, paragraph
from hatch_docker.errors import DebianError

_FILE = re.compile(r"([0-9a-f]{64})\s+([0-9]{1,12})\s+(\S+)")
_DATE = re.compile(
    r"(?:[A-Z][a-z]{2}, +)?([0-9]{1,2}) +([A-Z][a-z]{2}) +([0-9]{4}) +([0-9]{1,2}):([0-9]{2}):([0-9]{2}) +(.+)"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UTC = ("UTC", "GMT", "Z", "+0000")
# What clocks may differ by.
_TOLERANCE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What a file has to be: `size` in bytes, `sha256` in hexadecimal digits."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A suite at one time. `files` are by their paths below `dists/SUITE/`; times have a zone, which is UTC.

    `all_apart` tells that packages for all architectures have an index of their own, which others do not repeat.
    """

    suite: str
    codename: str
    date: datetime
    valid_until: datetime | None
    architectures: tuple[str, ...]
    components: tuple[str, ...]
    acquire_by_hash: bool
    all_apart: bool
    version: str = ""
    files: Mapping[str, File] = field(repr=False)


def parse_release(text: bytes, *, place: str) -> Release:
    """The Release that a signed text is. Raises DebianError for what is none, which names `place`."""
    try:
        fields = paragraph(text.decode("utf-8"), place=place)
    except UnicodeDecodeError:
        raise DebianError("is no Release: it is not UTF-8", place=place) from None
    date = _time(fields, "Date", place)
    if date is None:
        raise DebianError("is no Release: it has no Date", place=place)
    architectures = tuple(fields.get("Architectures", "").split())
    return Release(
        suite=fields.get("Suite", ""),
        codename=fields.get("Codename", ""),
        version=fields.get("Version", ""),
        date=date,
        valid_until=_time(fields, "Valid-Until", place),
        architectures=architectures,
        # The archive of security updates has `updates/main`, whose path is `main` all the same.
        components=tuple(name.rpartition("/")[2] for name in fields.get("Components", "").split()),
        acquire_by_hash=fields.get("Acquire-By-Hash", "no").strip().lower() == "yes",
        all_apart="all" in architectures
        and "Packages" not in fields.get("No-Support-for-Architecture-all", "").split(),
        files=_files(fields, place),
    )


def check_release(release: Release, suite: str, *, now: datetime, place: str) -> None:
    """Raise DebianError for a Release that is not of the suite that was asked for, or not of this time.

    `now` is the time that it must be valid at. A Date ahead of it tells of a clock that is behind, by which nothing
    ever expires.
    """
    if suite not in (release.suite, release.codename):
        found = release.codename or release.suite or "nothing that it names"
        raise DebianError(
            f"is the Release of {found}, and {suite} was asked for",
            place=place,
            hint="the mirror is damaged, or somebody in between has put one suite for another",
        )
    if release.valid_until is not None and release.valid_until < now:
        raise DebianError(
            f"has expired: it was valid until {release.valid_until:%Y-%m-%d %H:%M} UTC",
            place=place,
            hint="the mirror is not kept up to date, or this machine's clock is wrong; another mirror may do",
        )
    if release.date - now > _TOLERANCE:
        raise DebianError(
            f"is of {release.date:%Y-%m-%d %H:%M} UTC, which is in the future",
            place=place,
            hint=f"check this machine's clock: it says {now:%Y-%m-%d %H:%M} UTC",
        )


def check_not_older(release: Release, seen: datetime, *, place: str) -> None:
    """Raise DebianError for a Release that is older than one that was `seen` there before."""
    if release.date < seen:
        raise DebianError(
            f"is of {release.date:%Y-%m-%d %H:%M} UTC, older than what was there before: {seen:%Y-%m-%d %H:%M} UTC",
            place=place,
            hint="the mirror is behind, or somebody in between withholds updates: try again later, or another mirror",
        )


def packages_paths(release: Release, component: str, architecture: str, *, place: str) -> list[str]:
    """The paths of the indexes of a component's packages for an architecture: `main/binary-amd64/Packages`.

    They are as they are without compression. Raises DebianError for what the suite does not have.
    """
    architectures = (architecture, "all") if release.all_apart else (architecture,)
    paths = [f"{component}/binary-{each}/Packages" for each in architectures]
    if missing := [path for path in paths if path not in release.files]:
        there, parts = ", ".join(release.architectures), ", ".join(release.components)
        hint = f"its architectures are {there}; its components {parts}"
        raise DebianError(f"has no {missing[0]}", place=place, hint=hint)
    return paths


def _files(fields: Paragraph, place: str) -> dict[str, File]:
    """The field SHA256; weaker sums are not looked at."""
    files: dict[str, File] = {}
    for line in fields.get("SHA256", "").split("\n"):
        if not line.strip():
            continue
        found = _FILE.fullmatch(line.strip())
        if found is None:
            raise DebianError(f"is no Release: this is no line of its SHA256: {line.strip()[:80]!r}", place=place)
        sha256, size, path = found.groups()
        if any(part in {"", ".", ".."} for part in path.split("/")):
            raise DebianError(f"is no Release: it names a file outside of its suite: {path[:80]!r}", place=place)
        files[path] = File(size=int(size), sha256=sha256)
    if not files:
        raise DebianError("is no Release: it names no file by its SHA256", place=place)
    return files


def _time(fields: Paragraph, name: str, place: str) -> datetime | None:
    """A time as RFC 5322 has it, whose zone is UTC; None where the field is not there."""
    value = fields.get(name)
    if value is None:
        return None
    found = _DATE.fullmatch(value.strip())
    try:
        if found is None or found[7] not in _UTC:
            raise ValueError
        day, month, year, hour, minute, second = found.groups()[:6]
        when = (int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second))
        return datetime(*when, tzinfo=timezone.utc)
    except ValueError:
        raise DebianError(f"has a {name} that is no time in UTC: {value[:80]!r}", place=place) from None
