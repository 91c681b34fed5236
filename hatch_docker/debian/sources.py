"""Where Debian's archive is: as a setting says, else as this machine's own apt sources do (sources.list(5)).

No host is written here. A mirror of somebody else's packages may be among the candidates: the signature tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3

from hatch_docker.debian.control import paragraphs
from hatch_docker.errors import DebianError

CODENAMES = ("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid")
_ALIASES = ("oldoldstable", "oldstable", "stable", "testing", "unstable", "experimental")
_SUITE = re.compile(
    rf"({'|'.join((*CODENAMES, *_ALIASES))})(-updates|-security|-backports|-proposed-updates|/updates)?"
)
_SECURITY = ("-security", "/updates")
_DATE = "{date}"
_ONE_LINE = re.compile(r"deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)((?:\s+\S+)*)\s*")
_LARGEST = 1 << 22
_NO = ("no", "false", "without", "off", "disable", "0")
SETTING = "set debian-mirror, or HATCH_DOCKER_DEBIAN_MIRROR"
_WANTED = f"{SETTING}, to the URL of a mirror, such as http://HOST/debian"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One entry of the machine's apt sources: a URI without trailing slash, and one suite there.

    `architectures` is empty where all are meant. `keyring` are the keys that Signed-By names: paths, or a key itself.
    """

    url: str
    suite: str
    components: tuple[str, ...]
    architectures: tuple[str, ...] = ()
    keyring: tuple[Path | bytes, ...] = ()


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


def find_mirrors(setting: str, *, suite: str, architecture: str, root: Path = Path("/"), place: str = "") -> Mirrors:
    """The mirrors of `setting` where it is one, else those of the apt sources under `root`.

    `place` says where the setting stands. Raises DebianError where no mirror is known.
    """
    return named_mirrors(setting, place=place) if setting.strip() else machine_mirrors(root, suite, architecture)


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


def machine_mirrors(root: Path, suite: str, architecture: str) -> Mirrors:
    """The mirrors of Debian that the apt sources under `root` name, whatever release the machine itself is of.

    Raises DebianError where there are none.
    """
    found = [each for each in read_sources(root / "etc/apt") if _may_have(each, suite)]
    main = _ranked([each for each in found if not each.suite.endswith(_SECURITY)], suite, architecture)
    security = _ranked([each for each in found if each.suite.endswith(_SECURITY)], suite, architecture)
    security = security or tuple(filter(None, map(_sibling, main)))
    if not main or not security:
        raise DebianError("no mirror of Debian is known: the apt sources of this machine name none", hint=_WANTED)
    return Mirrors(main=main, security=security)


def read_sources(folder: Path) -> list[Source]:
    """The sources of `sources.list` and `sources.list.d`; what cannot be read, or is of no use here, is left out."""
    found: list[Source] = []
    for path in (folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))):
        reader = {".list": _one_line, ".sources": _deb822}.get(path.suffix)
        if reader is None or not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                found += reader(file.read(_LARGEST).decode("utf-8", errors="replace"))
        except (OSError, DebianError, ValueError):
            # apt itself tells what is wrong there. The other files may do.
            continue
    return found


def suites_of(suite: str) -> tuple[str, ...]:
    """A release and what updates it: `trixie`, `trixie-updates`, `trixie-security`. Unstable has only itself."""
    alone = suite in ("sid", "unstable", "experimental") or "-" in suite or "/" in suite
    return (suite,) if alone else (suite, f"{suite}-updates", f"{suite}-security")


def _one_line(text: str) -> Iterator[Source]:
    """`deb [arch=amd64 signed-by=/a/keyring] URI SUITE COMPONENT…`, one in each line."""
    for line in text.splitlines():
        found = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if found is None:
            continue
        options, uri, suite, components = found.groups("")
        values = {name.lower(): value for name, _, value in (each.partition("=") for each in options.split())}
        yield from _sources(
            [uri],
            [suite],
            components=components.split(),
            architectures=values.get("arch", "").replace(",", " ").split(),
            keys=values.get("signed-by", "").split(","),
        )


def _deb822(text: str) -> Iterator[Source]:
    """`Types:`, `URIs:`, `Suites:`, `Components:` in paragraphs."""
    for each in paragraphs(text):
        if "deb" not in each.get("Types", "").split() or each.get("Enabled", "yes").strip().lower() in _NO:
            continue
        signed = each.get("Signed-By", "")
        keys: Sequence[str | bytes] = signed.split()
        if "BEGIN PGP" in signed:
            # An empty line of the key is written as a dot.
            keys = ["\n".join("" if line.strip() == "." else line for line in signed.strip().split("\n")).encode()]
        yield from _sources(
            each.get("URIs", "").split(),
            each.get("Suites", "").split(),
            components=each.get("Components", "").split(),
            architectures=each.get("Architectures", "").split(),
            keys=keys,
        )


def _sources(
    uris: Iterable[str],
    suites: Sequence[str],
    *,
    components: Sequence[str],
    architectures: Sequence[str],
    keys: Sequence[str | bytes],
) -> Iterator[Source]:
    keyring = tuple(each if isinstance(each, bytes) else Path(each) for each in keys if each)
    keyring = tuple(each for each in keyring if isinstance(each, bytes) or each.is_absolute())
    for uri in _listed(uris):
        for suite in suites:
            # A suite that ends so is no suite but a folder of packages.
            if not suite.endswith("/") and uri.startswith(("http://", "https://")):
                yield Source(
                    url=uri.rstrip("/"),
                    suite=suite,
                    components=tuple(components),
                    architectures=tuple(architectures),
                    keyring=keyring,
                )


def _listed(uris: Iterable[str]) -> Iterator[str]:
    """The URIs; of `mirror+file:/etc/apt/mirrors/debian.list`, as cloud images have it, those in that file."""
    for uri in uris:
        if not uri.startswith(("mirror+file:", "mirror:file:")):
            yield uri
            continue
        path = Path(urlsplit(uri.partition(":")[2] if uri.startswith("mirror:") else uri).path)
        for line in path.read_text("utf-8", errors="replace").splitlines():
            yield from line.partition("#")[0].split()[:1]


def _may_have(source: Source, suite: str) -> bool:
    """Whether a source may be a mirror of Debian: others have suites named `stable` too."""
    if "main" not in source.components:
        return False
    known = source.suite.startswith((suite, *CODENAMES)) if suite not in _ALIASES else False
    return known or (_is_debian(source) and _SUITE.fullmatch(source.suite) is not None)


def _is_debian(source: Source) -> bool:
    """Whether a source looks like Debian's own, by its keyring or path."""
    theirs = any(isinstance(each, Path) and "debian-archive" in each.name for each in source.keyring)
    return theirs or urlsplit(source.url).path.rpartition("/")[2].startswith("debian")


def _ranked(sources: Sequence[Source], suite: str, architecture: str) -> tuple[Mirror, ...]:
    """The sources' mirrors: first those that look like Debian's own, and have the suite and the architecture.

    An architecture that the machine does not ask a mirror for may be there all the same.
    """

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
        keyring = tuple(dict.fromkeys((*known.keyring, *source.keyring)))
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
