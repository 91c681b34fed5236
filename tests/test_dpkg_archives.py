"""Which mirrors are asked for a day of the archive, and for packages that were chosen earlier."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.debian.archive import Trust
from hatch_docker.dpkg import archives as module
from hatch_docker.dpkg.archives import Archives, architecture_of
from hatch_docker.errors import BaseError, DebianError
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http

NOW = datetime(2026, 11, 24, 12, 30, tzinfo=timezone.utc)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the archive is made of."""
    seen: dict[str, Any] = {}

    def archive(mirrors: object, trust: Trust, **options: object) -> None:
        seen.update(options, mirrors=mirrors, now=trust.now)

    monkeypatch.setattr(module, "Archive", archive)
    return seen


def of(folder: Path, mirror: str, *, snapshot: str = "", dated: str = "") -> None:
    archives = Archives(http=Http(), cache=Cache(folder), now=NOW, mirror=mirror, root=folder)
    archives.of("trixie", "amd64", snapshot=snapshot, dated=dated)


def stamps(asked: dict[str, Any]) -> list[str]:
    return [each.url.rpartition("/")[2] for each in asked["mirrors"].main]


SNAPSHOTS = "http://snapshot.example/archive/debian/{date}"


def test_todays_where_no_day_is_named(asked: dict[str, Any], tmp_path: Path) -> None:
    of(tmp_path, SNAPSHOTS)
    assert stamps(asked) == ["20261124T000000Z"]
    assert asked["now"] == NOW


def test_a_day_of_the_archive(asked: dict[str, Any], tmp_path: Path) -> None:
    of(tmp_path, SNAPSHOTS, snapshot="2026-11-01")
    assert stamps(asked) == ["20261101T000000Z"]
    assert asked["now"] == datetime(2026, 11, 1, tzinfo=timezone.utc)


def test_what_was_chosen_earlier_is_looked_for_where_it_was_then(asked: dict[str, Any], tmp_path: Path) -> None:
    of(tmp_path, SNAPSHOTS, dated="2026-09-30T20:00:00Z")
    assert stamps(asked) == ["20261001T020000Z", "20261001T200000Z", "20260930T200000Z"]


def test_a_mirror_of_today_is_asked_whenever_that_was(asked: dict[str, Any], tmp_path: Path) -> None:
    of(tmp_path, "http://mirror.example/debian", dated="2026-09-30T20:00:00Z")
    assert stamps(asked) == ["debian"]


def test_a_mirror_without_snapshots_has_no_earlier_day(tmp_path: Path) -> None:
    with pytest.raises(DebianError, match="has no snapshots") as caught:
        of(tmp_path, "http://mirror.example/debian", snapshot="2026-11-01")
    assert "{date}" in caught.value.hint


def test_the_names_of_platforms() -> None:
    assert architecture_of(Platform(architecture="amd64")) == "amd64"
    with pytest.raises(BaseError, match="supported for amd64 and arm64, not for linux/arm/v7"):
        architecture_of(Platform(architecture="arm", variant="v7"))
