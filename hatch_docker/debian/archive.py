"""Debian's archive, as its mirrors have it: releases and indexes, verified; and files of packages, by their hashes.

A Release that was seen lately is not asked for again, nor is an index whose text is in the cache, nor the file of a
package. So a second run within the hour asks for nothing, and one with a lock only for what the cache lacks.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from hatch_docker.debian.packages import Package
from hatch_docker.debian.release import File, Release, check_not_older, check_release, packages_paths, parse_release
from hatch_docker.debian.signature import detached_text, read_keyring, shipped_keyring, signed_text
from hatch_docker.debian.sources import CODENAMES, SETTING, Mirror, Mirrors
from hatch_docker.debian.transfer import AbsentError, Transfer, url_of
from hatch_docker.errors import DebianError
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress
from hatch_docker.support.threads import together

_T = TypeVar("_T")
_KIND = "debian-release"
# Mirrors of Debian ask not to be asked by more at once.
_THREADS = 4
# The best first. What is not listed in a Release is not there.
_SUFFIXES = (".xz", ".gz", "")
FRESH = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """The text of one Packages file, in the cache."""

    suite: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A Release, and the mirror that it is of."""

    release: Release
    mirror: Mirror


class Archive:
    """The archive behind some mirrors. Thread-safe.

    `now` is the time that releases must be valid at: this machine's, or that of a snapshot. `keyring` takes the place
    of Debian's own keys where it is not empty. `fresh` is how long a Release is believed to be the newest.
    """

    def __init__(
        self,
        mirrors: Mirrors,
        *,
        http: Http,
        cache: Cache,
        now: datetime,
        keyring: Sequence[bytes] = (),
        fresh: timedelta = FRESH,
        progress: Progress | None = None,
    ) -> None:
        self._mirrors = mirrors
        self._http = http
        self._cache = cache
        self._now = now
        self._keyring = tuple(keyring)
        self._fresh = fresh
        self._progress = progress or Progress()
        self._found: dict[str, _Found] = {}

    def release(self, suite: str) -> Release:
        """The Release of a suite, verified.

        Raises DebianError where no mirror gives one that is signed, of that suite, valid, and no older than before.
        """
        return self._release(suite).release

    def state(self, suites: Sequence[str], *, architecture: str, components: Sequence[str] = ("main",)) -> str:
        """What the indexes of packages of some suites are now: as long as that is the same, so are they.

        Raises as `indexes` does, none of which is read.
        """
        return " ".join(
            found.release.files[path].sha256 for _, found, path in self._wanted(suites, architecture, components)
        )

    def indexes(
        self, suites: Sequence[str], *, architecture: str, components: Sequence[str] = ("main",)
    ) -> list[IndexFile]:
        """The indexes of packages of some suites, in their order.

        Raises DebianError as `release` does, and for an architecture or component that a suite does not have.
        """
        wanted = self._wanted(suites, architecture, components)
        transfer = self._transfer()
        paths = together(lambda item: self._index(transfer, *item), wanted, threads=_THREADS, stop=transfer.stop)
        return [IndexFile(suite=suite, path=path) for (suite, _, _), path in zip(wanted, paths, strict=True)]

    def _wanted(
        self, suites: Sequence[str], architecture: str, components: Sequence[str]
    ) -> list[tuple[str, _Found, str]]:
        """The indexes of some suites, each with its suite and Release, by path."""
        found = together(self._release, suites, threads=_THREADS)
        return [
            (suite, each, path)
            for suite, each in zip(suites, found, strict=True)
            for component in components
            for path in packages_paths(each.release, component, architecture, place=_place(each.mirror, suite))
        ]

    def fetch(self, packages: Sequence[Package]) -> list[Path]:
        """The .deb files of packages, in their order, in the cache; nothing is asked of an index.

        Raises DebianError for one that no mirror has, or that is not what its hash says. Nothing of it is kept then.
        """
        wanted = {f"sha256:{package.sha256}": package for package in packages}
        cached = together(self._cache.blob, list(wanted), threads=_THREADS)
        paths = {digest: path for digest, path in zip(wanted, cached, strict=True) if path is not None}
        # The largest first, so that none is left to run alone at the end.
        missing = sorted(wanted.keys() - paths.keys(), key=lambda digest: (-wanted[digest].size, digest))
        transfer = self._transfer()
        fetched = together(
            lambda digest: self._file(transfer, wanted[digest]), missing, threads=_THREADS, stop=transfer.stop
        )
        paths |= dict(zip(missing, fetched, strict=True))
        return [paths[f"sha256:{package.sha256}"] for package in packages]

    def _transfer(self) -> Transfer:
        return Transfer(http=self._http, cache=self._cache, progress=self._progress)

    def _release(self, suite: str) -> _Found:
        if suite not in self._found:
            self._found[suite] = _first(self._mirrors.of(suite), lambda mirror: self._release_at(mirror, suite))
        return self._found[suite]

    def _release_at(self, mirror: Mirror, suite: str) -> _Found:
        """The Release that the cache has of a mirror and suite, while it is fresh; else the mirror's."""
        key = f"{mirror.url} {suite}"
        seen = _Seen.of(self._cache.get(_KIND, key))
        if seen is not None and timedelta(0) <= self._now - seen.asked < self._fresh:
            # What has expired since, or was signed by a key that is not trusted now, is asked for again.
            with contextlib.suppress(DebianError):
                return _Found(release=self._checked(mirror, suite, seen.text, seen.signature), mirror=mirror)
        text, signature = _ask(self._transfer(), mirror, suite)
        release = self._checked(mirror, suite, text, signature)
        if seen is not None:
            check_not_older(release, seen.date, place=_place(mirror, suite))
        asked = _Seen(text=text, signature=signature, date=release.date, asked=self._now)
        self._cache.put(_KIND, key, asked.document())
        return _Found(release=release, mirror=mirror)

    def _checked(self, mirror: Mirror, suite: str, text: bytes, signature: bytes) -> Release:
        place = _place(mirror, suite)
        keyring = self._keyring or (*shipped_keyring(), *_keys(mirror))
        if signature:
            signed = detached_text(text, signature, keyring=keyring, now=self._now, place=place)
        else:
            signed = signed_text(text, keyring=keyring, now=self._now, place=place)
        release = parse_release(signed, place=place)
        check_release(release, suite, now=self._now, place=place)
        return release

    def _index(self, transfer: Transfer, suite: str, found: _Found, path: str) -> Path:
        """An index's text: known by the hash that the Release gives of it without compression."""
        plain = found.release.files[path]
        digest = f"sha256:{plain.sha256}"
        if (cached := self._cache.blob(digest)) is not None:
            return cached
        if not plain.size:
            return self._cache.add([], digest, what=path)
        suffix = next(suffix for suffix in _SUFFIXES if f"{path}{suffix}" in found.release.files)
        packed = found.release.files[f"{path}{suffix}"]
        where = [f"dists/{suite}/{path}{suffix}"]
        if found.release.acquire_by_hash:
            # Which stays what it is while the mirror is being updated.
            where.insert(0, f"dists/{suite}/{path.rpartition('/')[0]}/by-hash/SHA256/{packed.sha256}")
        return transfer.decompressed(found.mirror, where, packed, plain, suffix=suffix)

    def _file(self, transfer: Transfer, package: Package) -> Path:
        file = File(size=package.size, sha256=package.sha256)
        what = f"{package.name} {package.version}"
        try:
            return _first(
                self._mirrors_for(package), lambda mirror: transfer.blob(mirror, package.filename, file, what=what)
            )
        except AbsentError as error:
            raise DebianError(
                f"{what} is not on the mirror any more",
                place=error.place,
                hint=f"a newer version has taken its place: lock again; or {SETTING}, to one that has snapshots",
            ) from None

    def _mirrors_for(self, package: Package) -> list[Mirror]:
        """Where a package's file may be: its hash decides whether it is the right one, whoever gives it."""
        security = package.suite.endswith("-security") or package.filename.startswith("pool/updates/")
        main, updates = self._mirrors.main, self._mirrors.security
        first = [self._found[package.suite].mirror] if package.suite in self._found else []
        return list({each.url: each for each in (*first, *(updates + main if security else main + updates))}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A Release as it was got of a mirror; `signature` is empty where it is in the text. `date` is its own."""

    text: bytes
    signature: bytes
    date: datetime
    asked: datetime

    def document(self) -> dict[str, str]:
        return {
            "text": self.text.decode("latin-1"),
            "signature": self.signature.decode("latin-1"),
            "date": self.date.isoformat(),
            "asked": self.asked.isoformat(),
        }

    @classmethod
    def of(cls, document: dict[str, str] | None) -> _Seen | None:
        """What `document` gave; None for anything else."""
        try:
            document = document or {}
            seen = cls(
                text=document["text"].encode("latin-1"),
                signature=document["signature"].encode("latin-1"),
                date=datetime.fromisoformat(document["date"]),
                asked=datetime.fromisoformat(document["asked"]),
            )
        except (KeyError, AttributeError, TypeError, ValueError):
            return None
        return seen if seen.date.tzinfo and seen.asked.tzinfo else None


def _ask(transfer: Transfer, mirror: Mirror, suite: str) -> tuple[bytes, bytes]:
    """A mirror's InRelease; where it has none its Release, and the signature beside it."""
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
            hint=f"is {near[0]!r} meant?" if near and near[0] != suite else f"{SETTING}, to a mirror that has it",
        ) from None
    try:
        return text, transfer.text(mirror, f"{folder}/Release.gpg")
    except AbsentError as error:
        raise DebianError(
            "is not signed: there is no Release.gpg beside it", place=_place(mirror, suite), hint=error.hint
        ) from None


def _first(mirrors: Sequence[Mirror], attempt: Callable[[Mirror], _T]) -> _T:
    """What the first mirror gives that gives something good. Raises the first one's error, and mentions the others'."""
    errors: list[DebianError] = []
    for mirror in mirrors:
        try:
            return attempt(mirror)
        except DebianError as error:
            errors.append(error)
    # A mirror that merely has not got it says nothing of why another one does not give it.
    failed = [error for error in errors if not isinstance(error, AbsentError)]
    if len(failed) > 1:
        others = [f"    {error.place}: {error.message}" for error in failed[1:]]
        message = "\n".join([failed[0].message, "  No other mirror gives it, either:", *others])
        raise DebianError(message, place=failed[0].place, hint=failed[0].hint)
    raise (failed or errors)[0]


def _keys(mirror: Mirror) -> list[bytes]:
    """The keys that this machine trusts for a mirror; those that cannot be read are left out."""
    keys: list[bytes] = []
    for each in mirror.keyring:
        try:
            keys += [each] if isinstance(each, bytes) else read_keyring(each)
        except DebianError:
            continue
    return keys


def _place(mirror: Mirror, suite: str) -> str:
    return url_of(mirror, f"dists/{suite}/Release")
