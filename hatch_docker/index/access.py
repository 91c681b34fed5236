"""Access to the package indexes: to find files, to resolve requirements, to download."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hatch_docker.index.artifact import Artifact
from hatch_docker.index.client import Index, IndexFile
from hatch_docker.index.download import FetchedFile, download
from hatch_docker.index.settings import IndexSettings, discover
from hatch_docker.index.uv_config import UvTable, uv_tables
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http, Network
from hatch_docker.support.progress import Progress
from hatch_docker.support.threads import once

# The main index URL, empty if a lock names none, and extra index URLs.
NamedIndexes = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFinder:
    """Finds the files of a lock that holds no URLs.

    `files` lists an index's files of one normalized name, and is called from several threads; `indexes` gives the URLs
    of the indexes, which are part of the cache key without their credentials. `files_at` lists the files of one name in
    the indexes with these URLs only.
    """

    files: Callable[[str], Sequence[IndexFile]]
    files_at: Callable[[str, tuple[str, ...]], Sequence[IndexFile]] = lambda _name, _urls: ()
    indexes: Callable[[], Sequence[str]] = tuple
    cache: Cache | None = None
    threads: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverSettings:
    """The settings that uv resolves with: `indexes` gives URLs without logins, `embed` adds a login to one.

    `configured` are the indexes that the project itself names, `uv_tables` gives the tables of uv's own configuration,
    the strongest first.
    """

    environ: Mapping[str, str]
    configured: Sequence[str]
    indexes: Callable[[], Sequence[str]]
    embed: Callable[[str], str]
    uv_tables: Callable[[], Sequence[UvTable]] = tuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexes:
    """The package indexes of a project, as three steps use them: reading a lock, resolving, and downloading."""

    finder: FileFinder
    resolver: ResolverSettings
    download: Callable[[Sequence[Artifact]], list[FetchedFile]]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexAccess:
    """Opens the indexes of the project at `root`; `index_url` is its own setting, empty if it has none."""

    root: Path
    home: Path
    index_url: str
    environ: Mapping[str, str]
    network: Network
    cache: Cache
    progress: Progress

    def open(self, named: NamedIndexes) -> Indexes:
        """The project's indexes, with those that its lock names.

        The settings are discovered when they are first needed, since that may run pip, for half a second. Cache keys
        contain only the URLs that are known without it: those of the project and of two environment variables.
        """
        url, extra_urls = named
        settings = once(lambda: self._discover(self.index_url or url, extra_urls))
        index = once(lambda: self._connect(settings()))
        configured = [each for each in (self.index_url or url, *extra_urls) if each]
        variables = [self.environ.get(each, "") for each in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL")]
        keys = [*configured, *filter(None, variables)]
        return Indexes(
            finder=FileFinder(files=lambda name: index().files(name), indexes=lambda: keys, cache=self.cache),
            resolver=ResolverSettings(
                environ=self.environ,
                configured=configured,
                indexes=lambda: settings().urls_for_uv(),
                embed=lambda url: settings().credentials.embed(url),  # noqa: PLW0108 (not discovered before)
                uv_tables=partial(uv_tables, self.root, self.environ, home=self.home),
            ),
            download=partial(
                download,
                cache=self.cache,
                http=Http(self.network),
                headers=lambda url: settings().credentials.headers(url),  # noqa: PLW0108
                progress=self.progress,
            ),
        )

    def _discover(self, configured: str, extra_urls: Sequence[str]) -> IndexSettings:
        return discover(
            configured=configured,
            extra_urls=extra_urls,
            root=self.root,
            environ=self.environ,
            home=self.home,
            progress=self.progress,
        )

    def _connect(self, settings: IndexSettings) -> Index:
        # pip's own certificate setting applies to indexes alone, and is known only after pip has run.
        return Index(settings, Http(replace(self.network, ca_file=settings.ca_file)), progress=self.progress)
