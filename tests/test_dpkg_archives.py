"""Which snapshots are used for a day of the archive, and for pinned packages."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.debian.archive import Trust
from hatch_docker.dpkg.archives import Archives, architecture_of
from hatch_docker.errors import BaseError, DebianError
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http

NOW = datetime(2026, 11, 24, 12, 30, tzinfo=timezone.utc)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments with which the Archive was opened."""
    seen: dict[str, Any] = {}

    def archive(mirrors: object, trust: Trust, **options: object) -> None:
        seen.update(options, mirrors=mirrors, now=trust.now)

    monkeypatch.setattr("hatch_docker.debian.archive.Archive", archive)
    return seen


def of(folder: Path, mirror: str, *, snapshot: str = "", dated: str = "") -> None:
    archives = Archives(http=Http(), cache=Cache(folder), now=NOW, mirror=mirror, root=folder)
    archives.of("trixie", "amd64", snapshot=snapshot, dated=dated)


def stamps(opened: dict[str, Any]) -> list[str]:
    return [each.url.rpartition("/")[2] for each in opened["mirrors"].main]


SNAPSHOTS = "http://snapshot.example/archive/debian/{date}"


def test_uses_the_snapshot_of_today_without_a_day(opened: dict[str, Any], tmp_path: Path) -> None:
    of(tmp_path, SNAPSHOTS)
    assert stamps(opened) == ["20261124T000000Z"]
    assert opened["now"] == NOW


def test_uses_the_snapshot_of_a_day(opened: dict[str, Any], tmp_path: Path) -> None:
    of(tmp_path, SNAPSHOTS, snapshot="2026-11-01")
    assert stamps(opened) == ["20261101T000000Z"]
    assert opened["now"] == datetime(2026, 11, 1, tzinfo=timezone.utc)


def test_uses_snapshots_after_the_date_of_pins(opened: dict[str, Any], tmp_path: Path) -> None:
    of(tmp_path, SNAPSHOTS, dated="2026-09-30T20:00:00Z")
    assert stamps(opened) == ["20261001T020000Z", "20261001T200000Z", "20260930T200000Z"]


def test_mirror_without_snapshots_is_used_for_pins_of_any_date(opened: dict[str, Any], tmp_path: Path) -> None:
    of(tmp_path, "http://mirror.example/debian", dated="2026-09-30T20:00:00Z")
    assert stamps(opened) == ["debian"]


def test_rejects_a_day_without_snapshots(tmp_path: Path) -> None:
    with pytest.raises(DebianError, match="has no snapshots") as caught:
        of(tmp_path, "http://mirror.example/debian", snapshot="2026-11-01")
    assert "{date}" in caught.value.hint


def test_architecture_of_a_platform() -> None:
    assert architecture_of(Platform(architecture="amd64")) == "amd64"
    assert architecture_of(Platform.parse("linux/arm/v7")) == "armhf"
    assert architecture_of(Platform.parse("ppc64le")) == "ppc64el"
    with pytest.raises(BaseError, match=r"supported for linux/amd64, linux/arm64, .*, not for linux/arm/v6"):
        architecture_of(Platform.parse("linux/arm/v6"))
