"""The package indexes as the steps use them: to find files, to resolve, to download."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hatch_docker.index.artifact import Artifact
from hatch_docker.index.client import IndexFile
from hatch_docker.index.download import FetchedFile
from hatch_docker.support.cache import Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFinder:
    """Where a lock that holds no URLs finds its files.

    `files` lists an index's files of one normalized name, and is called from several threads; `indexes` gives the
    URLs it asks, which are part of the cache's key without their credentials.
    """

    files: Callable[[str], Sequence[IndexFile]]
    indexes: Callable[[], Sequence[str]] = tuple
    cache: Cache | None = None
    threads: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverSettings:
    """What resolving takes from the machine: `indexes` gives URLs without logins, `embed` puts a login in.

    `configured` are the indexes that the project itself names.
    """

    environ: Mapping[str, str]
    configured: Sequence[str]
    indexes: Callable[[], Sequence[str]]
    embed: Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexes:
    """The package indexes as three steps need them: locks without URLs, a resolution, and downloads."""

    lookup: FileFinder
    resolver: ResolverSettings
    obtain: Callable[[Sequence[Artifact]], list[FetchedFile]]
