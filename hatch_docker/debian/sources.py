"""Where Debian's archive is: as a setting says, else as this machine's own apt sources do (sources.list(5)).

No host is written here. A mirror of somebody else's packages may be among the candidates: the signature tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3

from hatch_docker.debian.aptsources import Source, image_sources, read_sources
from hatch_docker.errors import DebianError

CODENAMES = ("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid")
_ALIASES = ("oldoldstable", "oldstable", "stable", "testing", "unstable", "experimental")
_SUITE = re.compile(
    rf"({'|'.join((*CODENAMES, *_ALIASES))})(-updates|-security|-backports|-proposed-updates|/updates)?"
)
_SECURITY = ("-security", "/updates")
_DATE = "{date}"
SETTING = "set debian-mirror, or HATCH_DOCKER_DEBIAN_MIRROR"
_WANTED = f"{SETTING}, to the URL of a mirror, such as http://HOST/debian"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The root of an archive: what has `dists/` and `pool/`.

    `url` has no login and no trailing slash; `headers` are sent with each request. `keyring` is trusted for it besides
    Debian's own keys.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    keyring: tuple[Path | bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrors:
    """The mirrors of the archive, and of the archive of security updates, each the first one to be asked first."""

    main: tuple[Mirror, ...]
    security: tuple[Mirror, ...]

    def of(self, suite: str) -> tuple[Mirror, ...]:
        """The mirrors that may have a suite."""
        return self.security if suite.endswith(_SECURITY) else self.main

    @property
    def have_snapshots(self) -> bool:
        """Whether they know the archive at a date, and only then."""
        return any(_DATE in mirror.url for mirror in self.main)

    def at(self, date: datetime | None) -> Mirrors:
        """The mirrors as they were at a time: `{date}` in their URLs is replaced by it (20260131T000000Z).

        Raises DebianError where a date is wanted of mirrors that know only today, or none of mirrors that ask for one.
        """
        return Mirrors(
            main=tuple(_dated(mirror, date) for mirror in self.main),
            security=tuple(_dated(mirror, date) for mirror in self.security),
        )


def find_mirrors(
    setting: str,
    *,
    suite: str,
    architecture: str,
    root: Path = Path("/"),
    place: str = "",
    image: Mapping[str, bytes] | None = None,
) -> Mirrors:
    """The mirrors of `setting` where it is one, else those of the apt sources under `root`, else those of an `image`.

    `place` says where the setting stands; `image` has the content of an image's files by path. Raises DebianError where
    no mirror is known.
    """
    if setting.strip():
        return named_mirrors(setting, place=place)
    # What an image trusts is for the image: Debian's own keys have to do.
    theirs = (replace(each, keyring=()) for each in image_sources(image or {}))
    for sources in (read_sources(root / "etc/apt"), theirs):
        if mirrors := _mirrors_of(sources, suite, architecture):
            return mirrors
    raise DebianError("no mirror of Debian is known: the apt sources of this machine name none", hint=_WANTED)


def named_mirrors(setting: str, *, place: str = "") -> Mirrors:
    """The mirrors of a setting: the URL of the archive, and after a space that of the archive of security updates.

    The latter is told from the former where that has a folder `debian`, as most have: it is `debian-security` there.
    `{date}` stands for a time (`Mirrors.at`). Raises DebianError for what is no such URL.
    """
    urls = setting.split()
    if len(urls) > 2:
        raise DebianError("at most two URLs: the archive's, and the one of its security updates", place=place)
    main = _mirror(urls[0], place)
    security = _mirror(urls[1], place) if len(urls) == 2 else _sibling(main)
    if security is None:
        raise DebianError(
            "the mirror of security updates cannot be told from that URL, which has no folder 'debian'",
            place=place,
            hint="write both, with a space between: the archive's URL, and the one of its security updates",
        )
    return Mirrors(main=(main,), security=(security,))


def _mirrors_of(sources: Iterable[Source], suite: str, architecture: str) -> Mirrors | None:
    """The mirrors of Debian among sources, whatever release they ask for; None where there are none."""
    found = [each for each in sources if _may_have(each, suite)]
    main = _ranked([each for each in found if not each.suite.endswith(_SECURITY)], suite, architecture)
    security = _ranked([each for each in found if each.suite.endswith(_SECURITY)], suite, architecture)
    security = security or tuple(filter(None, map(_sibling, main)))
    return Mirrors(main=main, security=security) if main and security else None


def suites_of(suite: str) -> tuple[str, ...]:
    """A release and what updates it: `trixie`, `trixie-updates`, `trixie-security`. Unstable has only itself."""
    alone = suite in ("sid", "unstable", "experimental") or "-" in suite or "/" in suite
    return (suite,) if alone else (suite, f"{suite}-updates", f"{suite}-security")


def _may_have(source: Source, suite: str) -> bool:
    """Whether a source may be a mirror of Debian: others have suites named `stable` too."""
    if "main" not in source.components:
        return False
    if suite not in _ALIASES and source.suite in suites_of(suite):
        return True
    found = _SUITE.fullmatch(source.suite)
    return found is not None and (found[1] in CODENAMES or _is_debian(source))


def _is_debian(source: Source) -> bool:
    """Whether a source looks like Debian's own, by its keyring or path."""
    theirs = any(isinstance(each, Path) and "debian-archive" in each.name for each in source.keyring)
    return theirs or urlsplit(source.url).path.rpartition("/")[2].startswith("debian")


def _ranked(sources: Sequence[Source], suite: str, architecture: str) -> tuple[Mirror, ...]:
    """The sources' mirrors: first those that look like Debian's own, and have the suite and the architecture.

    An architecture that the machine does not ask a mirror for may be there all the same. Beside Debian's mirrors, the
    keys of others are not trusted for what Debian has: those who break connections could choose whose packages it is.
    """
    theirs = any(map(_is_debian, sources))

    def rank(source: Source) -> tuple[bool, bool, bool]:
        asked = not source.architectures or architecture in source.architectures
        return (not _is_debian(source), not source.suite.startswith(suite), not asked)

    found: dict[str, Mirror] = {}
    for source in sorted(sources, key=rank):
        try:
            mirror = _mirror(source.url, "")
        except DebianError:
            continue
        known = found.setdefault(mirror.url, mirror)
        trusted = source.keyring if _is_debian(source) or not theirs else ()
        keyring = tuple(dict.fromkeys((*known.keyring, *trusted)))
        found[mirror.url] = replace(known, keyring=keyring)
    return tuple(found.values())


def _mirror(url: str, place: str) -> Mirror:
    """The mirror at a URL, whose login goes into a header (RFC 7617)."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if "@" in parts.netloc else ""
        _ = parts.port
    except ValueError:
        known, login = False, ""
    if not known or not url.isprintable():
        raise DebianError(
            "that is not the URL of a mirror", place=place, hint="it is such as http://HOST/debian, with http or https"
        )
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
    return Mirror(url=bare, headers=urllib3.make_headers(basic_auth=login) if login else {})


def _sibling(mirror: Mirror) -> Mirror | None:
    """The mirror of security updates beside a mirror; None where it has no folder `debian`."""
    parts = urlsplit(mirror.url)
    before, found, after = f"{parts.path}/".rpartition("/debian/")
    if not found:
        return None
    path = f"{before}/debian-security/{after}".rstrip("/")
    return replace(mirror, url=urlunsplit((parts.scheme, parts.netloc, path, "", "")))


def _dated(mirror: Mirror, date: datetime | None) -> Mirror:
    if (_DATE in mirror.url) == (date is not None):
        stamp = date.astimezone(timezone.utc).strftime("%Y%m%dT%H%M%SZ") if date else ""
        return replace(mirror, url=mirror.url.replace(_DATE, stamp))
    if date is None:
        raise DebianError("that mirror has snapshots, and no date is named", place=mirror.url)
    raise DebianError(
        "that mirror has no snapshots, and the archive at a date is asked for",
        place=mirror.url,
        hint=f"{SETTING}, to a URL with {_DATE} in it",
    )
