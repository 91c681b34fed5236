"""Find mirrors of the Debian archive: in a setting, or in apt's sources (sources.list(5)).

No default host is built in. Candidates may be mirrors of other archives; signatures decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3

from hatch_docker.debian.aptsources import Source, image_sources, read_sources
from hatch_docker.debian.suites import CODENAMES
from hatch_docker.errors import DebianError
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.patterns import regex

_ALIASES = ("oldoldstable", "oldstable", "stable", "testing", "unstable", "experimental")
_SUITE = regex(rf"({'|'.join((*CODENAMES, *_ALIASES))})(-updates|-security|-backports|-proposed-updates|/updates)?")
_SECURITY = ("-security", "/updates")
_DATE = "{date}"
SETTING = "set debian-mirror, or HATCH_DOCKER_DEBIAN_MIRROR"
_HINT = f"{SETTING}, to the URL of a mirror, such as http://HOST/debian"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The root URL of an archive, below which `dists/` and `pool/` are.

    `url` has no login and no trailing slash; `headers` are sent with each request. `keyring` is trusted besides
    Debian's own keys.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    keyring: tuple[Path | bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrors:
    """The mirrors of the main and the security archive, in order of preference."""

    main: tuple[Mirror, ...]
    security: tuple[Mirror, ...]

    def of(self, suite: str) -> tuple[Mirror, ...]:
        """The mirrors that may have a suite."""
        return self.security if suite.endswith(_SECURITY) else self.main

    @property
    def have_snapshots(self) -> bool:
        """Whether the mirrors have snapshots; then each request needs a date."""
        return any(_DATE in mirror.url for mirror in self.main)

    def at(self, date: datetime | None) -> Mirrors:
        """The mirrors at a time, which replaces `{date}` in their URLs (20260131T000000Z).

        Raises DebianError for a date if the mirrors have no snapshots, and for None if they have.
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
    """The mirrors in `setting` if it is not empty, else in the apt sources below `root`, else in those of `image`.

    `place` is where the setting is from; `image` maps paths to contents of an image's files. Raises DebianError if no
    mirror is configured.
    """
    if setting.strip():
        return named_mirrors(setting, place=place)
    # Keys in an image are trusted in the image only; here Debian's own keys apply.
    image_entries = (replace(each, keyring=()) for each in image_sources(image or {}))
    for sources in (read_sources(root / "etc/apt"), image_entries):
        if mirrors := _mirrors_of(sources, suite, architecture):
            return mirrors
    raise DebianError("no mirror of Debian is configured, and this machine's apt sources have none", hint=_HINT)


def named_mirrors(setting: str, *, place: str = "") -> Mirrors:
    """Parse a setting: the URL of the archive, and after a space that of the security archive.

    The second may be omitted if the path of the first has a component `debian`: the default replaces it by
    `debian-security`. `{date}` stands for a time (`Mirrors.at`). Raises DebianError for invalid URLs.
    """
    urls = setting.split()
    if len(urls) > 2:
        raise DebianError("expected at most two URLs: of the archive, and of its security updates", place=place)
    main = _mirror(urls[0], place)
    security = _mirror(urls[1], place) if len(urls) == 2 else _sibling(main)
    if security is None:
        raise DebianError(
            "the mirror of security updates is unknown, as the URL has no component 'debian'",
            place=place,
            hint="set both URLs, separated by a space: of the archive, and of its security updates",
        )
    return Mirrors(main=(main,), security=(security,))


def _mirrors_of(sources: Iterable[Source], suite: str, architecture: str) -> Mirrors | None:
    """The mirrors of Debian among sources, regardless of the suite they name; None if there are none."""
    candidates = [each for each in sources if _may_have(each, suite)]
    main = _ranked([each for each in candidates if not each.suite.endswith(_SECURITY)], suite, architecture)
    security = _ranked([each for each in candidates if each.suite.endswith(_SECURITY)], suite, architecture)
    security = security or tuple(filter(None, map(_sibling, main)))
    return Mirrors(main=main, security=security) if main and security else None


def suites_of(suite: str) -> tuple[str, ...]:
    """A suite with its updates: `trixie`, `trixie-updates`, `trixie-security`. Unstable is one suite."""
    alone = suite in ("sid", "unstable", "experimental") or "-" in suite or "/" in suite
    return (suite,) if alone else (suite, f"{suite}-updates", f"{suite}-security")


def _may_have(source: Source, suite: str) -> bool:
    """Whether a source may be a mirror of Debian; suites named `stable` exist elsewhere too."""
    if "main" not in source.components:
        return False
    if suite not in _ALIASES and source.suite in suites_of(suite):
        return True
    match = _SUITE.fullmatch(source.suite)
    return match is not None and (match[1] in CODENAMES or _is_debian(source))


def _is_debian(source: Source) -> bool:
    """Whether a source looks like a mirror of Debian by its keyring or path."""
    by_keyring = any(isinstance(each, Path) and "debian-archive" in each.name for each in source.keyring)
    return by_keyring or urlsplit(source.url).path.rpartition("/")[2].startswith("debian")


def _ranked(sources: Sequence[Source], suite: str, architecture: str) -> tuple[Mirror, ...]:
    """The mirrors of sources, first those that look like Debian's, and then those with the suite and architecture.

    A mirror may have architectures that the source does not list. If one looks like Debian's, the keys of the others
    are not trusted: otherwise an attacker who breaks connections could choose whose packages are installed.
    """
    any_debian = any(map(_is_debian, sources))

    def rank(source: Source) -> tuple[bool, bool, bool]:
        lists_it = not source.architectures or architecture in source.architectures
        return (not _is_debian(source), not source.suite.startswith(suite), not lists_it)

    mirrors: dict[str, Mirror] = {}
    for source in sorted(sources, key=rank):
        try:
            mirror = _mirror(source.url, "")
        except DebianError:
            continue
        earlier = mirrors.setdefault(mirror.url, mirror)
        trusted = source.keyring if _is_debian(source) or not any_debian else ()
        keyring = tuple(dict.fromkeys((*earlier.keyring, *trusted)))
        mirrors[mirror.url] = replace(earlier, keyring=keyring)
    return tuple(mirrors.values())


def _mirror(url: str, place: str) -> Mirror:
    """Make the mirror of a URL; a login in it becomes a header (RFC 7617)."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if "@" in parts.netloc else ""
        _ = parts.port
    except ValueError:
        valid, login = False, ""
    if not valid or not url.isprintable():
        raise DebianError(
            "this is not the URL of a mirror",
            place=place,
            hint="use a URL such as http://HOST/debian, with http or https",
        )
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
    return Mirror(url=bare, headers=urllib3.make_headers(basic_auth=login) if login else {})


def _sibling(mirror: Mirror) -> Mirror | None:
    """The security mirror beside a mirror; None if its path has no component `debian`."""
    parts = urlsplit(mirror.url)
    before, separator, after = f"{parts.path}/".rpartition("/debian/")
    if not separator:
        return None
    path = f"{before}/debian-security/{after}".rstrip("/")
    return replace(mirror, url=urlunsplit((parts.scheme, parts.netloc, path, "", "")))


def _dated(mirror: Mirror, date: datetime | None) -> Mirror:
    if (_DATE in mirror.url) == (date is not None):
        stamp = date.astimezone(timezone.utc).strftime("%Y%m%dT%H%M%SZ") if date else ""
        return replace(mirror, url=mirror.url.replace(_DATE, stamp))
    if date is None:
        raise DebianError("this mirror has snapshots, and no date is set", place=mirror.url)
    raise DebianError(
        "this mirror has no snapshots, but a date is set",
        place=mirror.url,
        hint=f"{SETTING}, to a URL that contains {_DATE}",
    )
