"""Settings of the Debian archive: mirrors, keys, cache and pins, from which each build opens its `Archive`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.debian.suites import FRESH
from hatch_docker.dpkg.architectures import ARCHITECTURES
from hatch_docker.errors import BaseError
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.progress import Progress

if TYPE_CHECKING:
    from hatch_docker.debian.archive import Archive
    from hatch_docker.debian.release import Release
    from hatch_docker.dpkg.lockfile import Pins
    from hatch_docker.support.http import Http

# Delays between a Release file and the first snapshot with its packages, the most likely one first.
_SNAPSHOT_DELAYS = (timedelta(hours=6), timedelta(days=1), timedelta(0))


def _no_pins() -> Pins:
    from hatch_docker.dpkg.lockfile import Pins

    return Pins()


@dataclass(frozen=True, slots=True, kw_only=True)
class Archives:
    """Location of the Debian archive, and the project's pins.

    `mirror` is a setting (debian.sources.named_mirrors) from `place`; if it is empty, mirrors come from the apt sources
    below `root`. `keyring` is a file of keys that replace Debian's own. `now` is the time at which the archive's files
    must be valid; a cached Release file younger than `fresh` is not requested again. `pins` reads the project's pins
    on its first call. `seen` are the Release files of this run, by `fresh`.
    """

    http: Http
    cache: Cache
    now: datetime
    threads: int = 1
    mirror: str = field(default="", repr=False)
    place: str = ""
    keyring: Path | None = None
    root: Path = Path("/")
    fresh: timedelta = FRESH
    pins: Callable[[], Pins] = _no_pins
    progress: Progress = field(default_factory=Progress)
    seen: dict[timedelta, dict[str, tuple[Release, datetime]]] = field(default_factory=dict, compare=False, repr=False)

    def unpinned(self) -> Archives:
        """The same settings without pins."""
        return replace(self, pins=_no_pins)

    def revalidated(self) -> Archives:
        """The same settings without pins, with every cached Release file checked against the mirror."""
        return replace(self, pins=_no_pins, fresh=timedelta(0))

    def of(
        self,
        suite: str,
        architecture: str,
        *,
        snapshot: str = "",
        dated: str = "",
        image: Mapping[str, bytes] | None = None,
    ) -> Archive:
        """The archive of a suite, as of the day `snapshot` (`2026-11-01`) if that is set.

        `dated` is the date of the archive from which pinned packages were chosen: mirrors with snapshots serve
        packages from that time. `image` maps paths to files of an image, whose apt sources are used if no other mirror
        is configured. Raises DebianError if no mirror is configured, or if `snapshot` is set and a mirror has no
        snapshots.
        """
        from hatch_docker.debian.archive import Archive, Trust
        from hatch_docker.debian.signature import read_keyring
        from hatch_docker.debian.sources import Mirrors, find_mirrors

        mirrors = find_mirrors(
            self.mirror, suite=suite, architecture=architecture, root=self.root, place=self.place, image=image
        )
        day = _time(snapshot) if snapshot else None
        times: list[datetime | None] = [day]
        if mirrors.have_snapshots and not day:
            # All builds of a day use the same snapshot.
            today = self.now.replace(hour=0, minute=0, second=0, microsecond=0)
            times = [_time(dated) + delay for delay in _SNAPSHOT_DELAYS] if dated else [today]
        snapshots = [mirrors.at(time) for time in times]
        return Archive(
            Mirrors(
                main=tuple(mirror for each in snapshots for mirror in each.main),
                security=tuple(mirror for each in snapshots for mirror in each.security),
            ),
            Trust(
                now=day or self.now,
                keyring=read_keyring(self.keyring) if self.keyring else (),
                fresh=self.fresh,
                seen=self.seen.setdefault(self.fresh, {}),
            ),
            http=self.http,
            cache=self.cache,
            progress=self.progress,
        )


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def architecture_of(platform: Platform) -> str:
    """Debian's name of a platform. Raises BaseError if Debian packages for it are not supported."""
    for name, architecture in ARCHITECTURES.items():
        if architecture.platform == platform:
            return name
    supported = ", ".join(str(each.platform) for each in ARCHITECTURES.values())
    raise BaseError(
        f"Debian packages are supported for {supported}, not for {platform}",
        hint='try base = "slim", with runtime-installer = "engine" for its packages',
    )
