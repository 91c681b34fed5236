"""How the packages of an image are reached: Debian's archive behind the mirrors that are known, and the pins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from hatch_docker.debian.archive import FRESH, Archive
from hatch_docker.debian.signature import read_keyring
from hatch_docker.debian.sources import Mirrors, find_mirrors
from hatch_docker.dpkg.loader import MACHINES
from hatch_docker.dpkg.lockfile import Pins
from hatch_docker.errors import BaseError
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress

# How long after a Release was made a snapshot may be made that has its packages; the likeliest first.
_LATER = (timedelta(hours=6), timedelta(days=1), timedelta(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Archives:
    """Where Debian's archive is, and which of its packages the project has pinned.

    `mirror` is a setting (debian.sources.named_mirrors), which stands at `place`; where it is empty, `root` is where
    this machine's apt sources are. `keyring` is a file of keys that take the place of Debian's own. `now` is the time
    that the archive's files must be valid at, `fresh` how long one that was seen is believed to be the newest. `pins`
    reads the project's pins when it is first called.
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
    pins: Callable[[], Pins] = Pins
    progress: Progress = field(default_factory=Progress)

    def unpinned(self) -> Archives:
        """The same, without pins."""
        return replace(self, pins=Pins)

    def asked_now(self) -> Archives:
        """The same, without pins, and without what was seen before: for those who ask what there is by now."""
        return replace(self, pins=Pins, fresh=timedelta(0))

    def of(
        self,
        suite: str,
        architecture: str,
        *,
        snapshot: str = "",
        dated: str = "",
        image: Mapping[str, bytes] | None = None,
    ) -> Archive:
        """The archive for a suite, of a day (`2026-11-01`) where `snapshot` names one.

        `dated` is when packages were chosen that are still wanted: mirrors with snapshots are asked for those of then.
        `image` has the files of an image whose own sources do where no others are known. Raises DebianError where no
        mirror is known, or one has no snapshots and one is asked for.
        """
        mirrors = find_mirrors(
            self.mirror, suite=suite, architecture=architecture, root=self.root, place=self.place, image=image
        )
        day = _time(snapshot) if snapshot else None
        times: list[datetime | None] = [day]
        if mirrors.have_snapshots and not day:
            # Of today there is one for all builds.
            today = self.now.replace(hour=0, minute=0, second=0, microsecond=0)
            times = [_time(dated) + after for after in _LATER] if dated else [today]
        found = [mirrors.at(time) for time in times]
        return Archive(
            Mirrors(
                main=tuple(mirror for each in found for mirror in each.main),
                security=tuple(mirror for each in found for mirror in each.security),
            ),
            http=self.http,
            cache=self.cache,
            now=day or self.now,
            keyring=read_keyring(self.keyring) if self.keyring else (),
            fresh=self.fresh,
            progress=self.progress,
        )


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def architecture_of(platform: Platform) -> str:
    """Debian's name of a platform; raises BaseError for one that its packages are not laid out for."""
    if platform.architecture not in MACHINES or platform.os != "linux":
        raise BaseError(
            f"Debian's packages are laid out for {' and '.join(MACHINES)}, and not for {platform}",
            hint='base = "slim" may be there for it, and runtime-installer = "engine" for its packages',
        )
    return platform.architecture
