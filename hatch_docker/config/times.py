"""Parse times and durations as images record them. No function reads a clock."""

from __future__ import annotations

import datetime
import re

from hatch_docker.config.values import fail, shown
from hatch_docker.support.patterns import regex

_TIME = regex(r"\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:[Zz]|[+-]\d{2}:\d{2})?)?", re.ASCII)
_DURATION = regex(r"(?:[0-9]+(?:\.[0-9]+)?(?:h|ms|m|s|us|ns))+")
_LAST_SECOND = 253402300799  # 9999-12-31T23:59:59Z, the last one in RFC 3339
_NANOSECONDS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def nanoseconds(duration: str) -> int:
    """The length of a duration such as `1h30m` or `1.5s` (Go's time.ParseDuration). Raises ValueError."""
    if not _DURATION.fullmatch(duration) or len(duration) > 40:
        raise ValueError(duration)
    from fractions import Fraction

    parts = re.findall(r"([0-9.]+)([a-z]+)", duration)
    return int(sum(Fraction(number) * _NANOSECONDS[unit] for number, unit in parts))


def rfc3339(text: str) -> str:
    """An ISO 8601 time as RFC 3339 in UTC, in whole seconds. A time without an offset is UTC. Raises ValueError."""
    if not _TIME.fullmatch(text):
        raise ValueError(text)
    plain = re.sub(r"\.\d+", "", text.upper().replace(" ", "T")).replace("Z", "+00:00")
    time = datetime.datetime.fromisoformat(plain)
    if time.tzinfo is None:
        time = time.replace(tzinfo=datetime.timezone.utc)
    try:
        return _format(time.astimezone(datetime.timezone.utc))
    except OverflowError as error:
        raise ValueError(text) from error


def created_time(created: str, *, source_date_epoch: str | None, commit_time: int | None, now: float) -> str:
    """The image's creation time, RFC 3339 in UTC, for the key `created`.

    SOURCE_DATE_EPOCH (reproducible-builds.org) overrides the key unless it is empty. `commit_time` and `now` are
    seconds since the epoch; without a commit, `commit` is the epoch. Raises ConfigError for an invalid
    SOURCE_DATE_EPOCH.
    """
    if source_date_epoch:
        if not re.fullmatch(r"[0-9]{1,12}", source_date_epoch) or int(source_date_epoch) > _LAST_SECOND:
            fail("SOURCE_DATE_EPOCH", f"expected whole seconds since 1970, got {shown(source_date_epoch)}")
        return _since_epoch(int(source_date_epoch))
    if created in ("commit", "epoch", "now"):
        return _since_epoch({"commit": commit_time or 0, "epoch": 0, "now": now}[created])
    return created


def _since_epoch(seconds: float) -> str:
    whole = min(max(int(seconds), 0), _LAST_SECOND)
    return _format(datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=whole))


def _format(time: datetime.datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
