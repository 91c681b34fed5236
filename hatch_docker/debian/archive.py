"""Client of the Debian archive: verified releases and indexes, and package files by their hashes.

Releases are cached for an hour, indexes and package files by hash. So a second run within the hour sends no request,
and a run with a lock requests only files that the cache lacks.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from hatch_docker.debian.packages import Package
from hatch_docker.debian.release import File, Release, check_not_older, check_release, packages_paths, parse_release
from hatch_docker.debian.signature import detached_text, read_keyring, shipped_keyring, signed_text
from hatch_docker.debian.sources import SETTING, Mirror, Mirrors
from hatch_docker.debian.suites import CODENAMES, FRESH
from hatch_docker.debian.transfer import AbsentError, Transfer, url_of
from hatch_docker.errors import DebianError
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress
from hatch_docker.support.threads import together

_T = TypeVar("_T")
_KIND = "debian-release"
# Debian's mirrors ask clients to open few connections.
_THREADS = 4
# The preferred one first; a Release lists those that exist.
_SUFFIXES = (".xz", ".gz", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """The text of one Packages file, in the cache."""

    suite: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Located:
    """A Release, and the mirror that served it."""

    release: Release
    mirror: Mirror


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Which Release files are accepted.

    They must be valid at `now`: the current time, or that of a snapshot. `keyring` replaces Debian's own keys if it is
    not empty. Cached Release files younger than `fresh` are not requested again. `seen` has those of this run, by
    mirror and suite, and when each was received: all its images, for any architecture, are made from the same ones.
    """

    now: datetime
    keyring: tuple[bytes, ...] = ()
    fresh: timedelta = FRESH
    seen: dict[str, tuple[Release, datetime]] = field(default_factory=dict, compare=False)


class Archive:
    """The archive on some mirrors. Thread-safe."""

    def __init__(
        self,
        mirrors: Mirrors,
        trust: Trust,
        *,
        http: Http,
        cache: Cache,
        progress: Progress | None = None,
    ) -> None:
        self._mirrors = mirrors
        self._http = http
        self._cache = cache
        self._trust = trust
        self._progress = progress or Progress()
        self._releases: dict[str, _Located] = {}
        http.share(*(mirror.url for mirror in (*mirrors.main, *mirrors.security)))

    def release(self, suite: str) -> Release:
        """The verified Release of a suite.

        Raises DebianError unless a mirror has one that is signed, of that suite, valid, and no older than a cached one.
        """
        return self._release(suite).release

    def state(self, suites: Sequence[str], *, architecture: str, components: Sequence[str] = ("main",)) -> str:
        """The hashes of the current indexes of some suites, for cache keys. Downloads Release files only.

        Raises as `indexes` does.
        """
        return " ".join(
            located.release.files[path].sha256 for _, located, path in self._paths(suites, architecture, components)
        )

    def indexes(
        self, suites: Sequence[str], *, architecture: str, components: Sequence[str] = ("main",)
    ) -> list[IndexFile]:
        """Download the package indexes of some suites, in their order.

        Raises DebianError as `release` does, and for an architecture or component that a suite does not have.
        """
        located = self._paths(suites, architecture, components)
        transfer = self._transfer()
        paths = together(lambda item: self._index(transfer, *item), located, threads=_THREADS, stop=transfer.stop)
        return [IndexFile(suite=suite, path=path) for (suite, _, _), path in zip(located, paths, strict=True)]

    def _paths(
        self, suites: Sequence[str], architecture: str, components: Sequence[str]
    ) -> list[tuple[str, _Located, str]]:
        """The paths of the indexes of some suites, each with its suite and Release."""
        releases = together(self._release, suites, threads=_THREADS)
        return [
            (suite, each, path)
            for suite, each in zip(suites, releases, strict=True)
            for component in components
            for path in packages_paths(each.release, component, architecture, place=_place(each.mirror, suite))
        ]

    def fetch(self, packages: Sequence[Package]) -> list[Path]:
        """Download the .deb files of packages into the cache; return their paths in order. Needs no index.

        Raises DebianError for files that no mirror has, or that do not match their hash, of which nothing is kept.
        """
        by_digest = {f"sha256:{package.sha256}": package for package in packages}
        cached = together(self._cache.blob, list(by_digest), threads=_THREADS)
        paths = {digest: path for digest, path in zip(by_digest, cached, strict=True) if path is not None}
        # The largest first, so that no large download runs alone at the end.
        missing = sorted(by_digest.keys() - paths.keys(), key=lambda digest: (-by_digest[digest].size, digest))
        transfer = self._transfer()

        def fetch(digest: str) -> Path:
            return self._cache.fetch(digest, partial(self._file, transfer, by_digest[digest]))

        fetched = together(fetch, missing, threads=_THREADS, stop=transfer.stop)
        paths |= dict(zip(missing, fetched, strict=True))
        return [paths[f"sha256:{package.sha256}"] for package in packages]

    def _transfer(self) -> Transfer:
        return Transfer(http=self._http, cache=self._cache, progress=self._progress)

    def _release(self, suite: str) -> _Located:
        if suite not in self._releases:
            self._releases[suite] = _first(self._mirrors.of(suite), lambda mirror: self._release_at(mirror, suite))
        return self._releases[suite]

    def _release_at(self, mirror: Mirror, suite: str) -> _Located:
        """The Release of a mirror and suite: the one of this run, else the cached one if it is fresh, or a new one."""
        key = f"{mirror.url} {suite}"
        if key not in self._trust.seen:
            self._trust.seen[key] = self._fresh_release(mirror, suite, key)
        return _Located(release=self._trust.seen[key][0], mirror=mirror)

    def _fresh_release(self, mirror: Mirror, suite: str, key: str) -> tuple[Release, datetime]:
        """A Release, and the time of the request."""
        kept, new = partial(self._kept_release, mirror, suite, key), partial(self._new_release, mirror, suite, key)
        return self._cache.once(f"{_KIND} {key}", kept, new)

    def _kept_release(self, mirror: Mirror, suite: str, key: str) -> tuple[Release, datetime] | None:
        cached = _CachedRelease.of(self._cache.get(_KIND, key))
        # Another build may have requested it after this one began.
        if cached is not None and abs(self._trust.now - cached.received) < self._trust.fresh:
            # Request it again if it expired, or was signed by a key that is not trusted now.
            with contextlib.suppress(DebianError):
                return self._checked(mirror, suite, cached.text, cached.signature), cached.received
        return None

    def _new_release(self, mirror: Mirror, suite: str, key: str) -> tuple[Release, datetime]:
        cached = _CachedRelease.of(self._cache.get(_KIND, key))
        text, signature = _download(self._transfer(), mirror, suite)
        release = self._checked(mirror, suite, text, signature)
        if cached is not None:
            check_not_older(release, cached.date, place=_place(mirror, suite))
        received = _CachedRelease(text=text, signature=signature, date=release.date, received=self._trust.now)
        self._cache.put(_KIND, key, received.document())
        return release, received.received

    def _checked(self, mirror: Mirror, suite: str, text: bytes, signature: bytes) -> Release:
        place = _place(mirror, suite)
        keyring = self._trust.keyring or (*shipped_keyring(), *_keys(mirror))
        if signature:
            signed = detached_text(text, signature, keyring=keyring, now=self._trust.now, place=place)
        else:
            signed = signed_text(text, keyring=keyring, now=self._trust.now, place=place)
        release = parse_release(signed, place=place)
        check_release(release, suite, now=self._trust.now, place=place)
        return release

    def _index(self, transfer: Transfer, suite: str, located: _Located, path: str) -> Path:
        """Download an index; the cache has it by the hash of its uncompressed text, which the Release lists."""
        digest = f"sha256:{located.release.files[path].sha256}"
        return self._cache.fetch(digest, partial(self._new_index, transfer, suite, located, path))

    def _new_index(self, transfer: Transfer, suite: str, located: _Located, path: str) -> Path:
        plain = located.release.files[path]
        if not plain.size:
            return self._cache.add([], f"sha256:{plain.sha256}", what=path)
        suffix = next(suffix for suffix in _SUFFIXES if f"{path}{suffix}" in located.release.files)
        packed = located.release.files[f"{path}{suffix}"]
        paths = [f"dists/{suite}/{path}{suffix}"]
        if located.release.acquire_by_hash:
            # This path stays valid while the mirror is being updated.
            paths.insert(0, f"dists/{suite}/{path.rpartition('/')[0]}/by-hash/SHA256/{packed.sha256}")
        return transfer.decompressed(located.mirror, paths, packed, plain, suffix=suffix)

    def _file(self, transfer: Transfer, package: Package) -> Path:
        file = File(size=package.size, sha256=package.sha256)
        what = f"{package.name} {package.version}"
        try:
            return _first(
                self._mirrors_for(package), lambda mirror: transfer.blob(mirror, package.filename, file, what=what)
            )
        except AbsentError as error:
            raise DebianError(
                f"the mirror no longer has {what}",
                place=error.place,
                hint=f"a newer version has replaced it: lock again; or {SETTING}, to a mirror with snapshots",
            ) from None

    def _mirrors_for(self, package: Package) -> list[Mirror]:
        """The mirrors that may have a package's file; any of them will do, as its hash is verified."""
        security = package.suite.endswith("-security") or package.filename.startswith("pool/updates/")
        main, updates = self._mirrors.main, self._mirrors.security
        first = [self._releases[package.suite].mirror] if package.suite in self._releases else []
        return list({each.url: each for each in (*first, *(updates + main if security else main + updates))}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _CachedRelease:
    """A cached Release: `signature` is empty if it is inline, `date` its own, `received` the time of the request."""

    text: bytes
    signature: bytes
    date: datetime
    received: datetime

    def document(self) -> dict[str, str]:
        return {
            "text": self.text.decode("latin-1"),
            "signature": self.signature.decode("latin-1"),
            "date": self.date.isoformat(),
            "asked": self.received.isoformat(),
        }

    @classmethod
    def of(cls, document: dict[str, str] | None) -> _CachedRelease | None:
        """The inverse of `document`; None for invalid documents."""
        try:
            document = document or {}
            seen = cls(
                text=document["text"].encode("latin-1"),
                signature=document["signature"].encode("latin-1"),
                date=datetime.fromisoformat(document["date"]),
                received=datetime.fromisoformat(document["asked"]),
            )
        except (KeyError, AttributeError, TypeError, ValueError):
            return None
        return seen if seen.date.tzinfo and seen.received.tzinfo else None


def _download(transfer: Transfer, mirror: Mirror, suite: str) -> tuple[bytes, bytes]:
    """Download a suite's InRelease, or its Release and the signature in Release.gpg."""
    folder = f"dists/{suite}"
    try:
        return transfer.text(mirror, f"{folder}/InRelease"), b""
    except AbsentError:
        pass
    try:
        text = transfer.text(mirror, f"{folder}/Release")
    except AbsentError:
        near = difflib.get_close_matches(suite, CODENAMES, 1)
        raise DebianError(
            f"the mirror has no suite {suite!r}",
            place=mirror.url,
            hint=f"did you mean {near[0]!r}?" if near and near[0] != suite else f"{SETTING}, to a mirror that has it",
        ) from None
    try:
        return text, transfer.text(mirror, f"{folder}/Release.gpg")
    except AbsentError as error:
        raise DebianError(
            "is not signed: the mirror has no Release.gpg", place=_place(mirror, suite), hint=error.hint
        ) from None


def _first(mirrors: Sequence[Mirror], attempt: Callable[[Mirror], _T]) -> _T:
    """The result of the first mirror for which `attempt` succeeds.

    Raises the first error, whose message lists the others.
    """
    errors: list[DebianError] = []
    for mirror in mirrors:
        try:
            return attempt(mirror)
        except DebianError as error:
            errors.append(error)
    # That one mirror lacks the file does not explain why another one failed.
    failed = [error for error in errors if not isinstance(error, AbsentError)]
    if len(failed) > 1:
        others = [f"    {error.place}: {error.message}" for error in failed[1:]]
        message = "\n".join([failed[0].message, "  The other mirrors failed too:", *others])
        raise DebianError(message, place=failed[0].place, hint=failed[0].hint)
    raise (failed or errors)[0]


def _keys(mirror: Mirror) -> list[bytes]:
    """The keys that this machine trusts for a mirror, except unreadable ones."""
    keys: list[bytes] = []
    for each in mirror.keyring:
        try:
            keys += [each] if isinstance(each, bytes) else read_keyring(each)
        except DebianError:
            continue
    return keys


def _place(mirror: Mirror, suite: str) -> str:
    return url_of(mirror, f"dists/{suite}/Release")
