"""Access to the package indexes: to find files, to resolve requirements, to download."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile, locate
from hatch_docker.index.sources import NO_SOURCES, Sources
from hatch_docker.index.tool_settings import ToolSettings
from hatch_docker.index.uv_config import UvFile, uv_files
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.http import Http, Network
from hatch_docker.support.progress import Progress
from hatch_docker.support.redaction import redact_text
from hatch_docker.support.threads import once

if TYPE_CHECKING:
    from hatch_docker.index.client import Index
    from hatch_docker.index.pages import IndexFile
    from hatch_docker.index.settings import IndexSettings


@dataclass(frozen=True, slots=True)
class NamedIndexes:
    """The package indexes that a lock names: the main URL, empty if it names none, and extra ones.

    `find_links` are directories or pages of files, which `no_index` says to use alone.
    """

    url: str = field(default="", repr=False)
    extra_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    no_index: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFinder:
    """Finds the files of a lock that holds no URLs.

    `files` lists the files of one normalized name in the indexes where the project's sources have it, and `files_at`
    in the indexes with these URLs only; both are called from several threads. `files_from` is `files` for given
    sources. `indexes` gives the URLs of the indexes, which are part of the cache key without their credentials.
    """

    files: Callable[[str], Sequence[IndexFile]]
    files_at: Callable[[str, tuple[str, ...]], Sequence[IndexFile]] = lambda _name, _urls: ()
    files_from: Callable[[str, Sources], Sequence[IndexFile]] | None = None
    indexes: Callable[[], Sequence[str]] = tuple
    cache: Cache | None = None
    threads: int = 8

    def with_sources(self, sources: Sources) -> FileFinder:
        """The finder for one target, given the sources that apply to it, which are part of the cache key."""
        find, indexes = self.files_from, self.indexes
        if find is None:
            return self
        every = [each for found in sources.by_name.values() for each in found]
        shown = [redact_text(f"{each.place} {each.kind} {each.value}") for each in every]
        shown += [redact_text(f"{each.url} {each.include} {each.exclude}") for each in sources.indexes]
        return replace(self, files=lambda name: find(name, sources), indexes=lambda: [*indexes(), *sorted(shown)])


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverSettings:
    """The settings that uv resolves with.

    `configured` are the indexes that the project itself names. `variables` and `arguments` are for what uv does not
    find by itself, such as the project's own index and that of pip's configuration; variables may have logins.
    `default_url` is the main index, with its login. `uv_files` gives uv's own configuration, the strongest file
    first. `builds` says that uv may build an sdist, a directory or a commit to read its requirements.
    """

    environ: Mapping[str, str]
    configured: Sequence[str]
    variables: Callable[[], Mapping[str, str]] = dict
    arguments: Callable[[], Sequence[str]] = tuple
    default_url: Callable[[], str] = str
    uv_files: Callable[[], Sequence[UvFile]] = tuple
    builds: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexes:
    """The package indexes of a project, as three steps use them: reading a lock, resolving, and downloading.

    `locate` gives the files of artifacts, which are downloaded when they are needed.
    """

    finder: FileFinder
    resolver: ResolverSettings
    locate: Callable[[Sequence[Artifact]], list[FetchedFile]]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexAccess:
    """Opens the indexes of the project at `root`; `index_url` is its own setting, empty if it has none.

    `sources` says where the project takes packages from, other than the indexes. `resolver_builds` is the resolver's
    `builds`.
    """

    root: Path
    home: Path
    index_url: str
    environ: Mapping[str, str]
    network: Network
    cache: Cache
    progress: Progress
    sources: Callable[[], Sources] = lambda: NO_SOURCES
    resolver_builds: bool = True

    def open(self, named: NamedIndexes) -> Indexes:
        """The project's indexes, with those that its lock names.

        The settings are discovered when they are first needed: most builds need none. Cache keys contain only the URLs
        that are known without them: those of the project and of two environment variables.
        """
        own = ToolSettings(
            url=self.index_url or named.url,
            extra_urls=named.extra_urls,
            flat_urls=named.find_links,
            no_index=named.no_index,
        ).absolute(self.root)
        settings = once(lambda: self._discover(own))
        index = once(lambda: self._connect(settings()))
        configured = list(own.all_urls)
        variables = [self.environ.get(each, "") for each in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL")]
        keys = [*configured, *filter(None, variables)]
        return Indexes(
            finder=FileFinder(
                files=lambda name: index().files(name),
                files_at=lambda name, urls: index().files_at(name, urls),
                files_from=lambda name, sources: index().files(name, sources),
                indexes=lambda: keys,
                cache=self.cache,
            ),
            resolver=ResolverSettings(
                environ=self.environ,
                configured=configured,
                variables=lambda: settings().variables_for_uv(self.environ),
                arguments=lambda: settings().arguments_for_uv(),
                default_url=lambda: settings().credentials.embed(settings().default_url),
                uv_files=partial(uv_files, self.root, self.environ, home=self.home),
                builds=self.resolver_builds,
            ),
            locate=partial(
                locate,
                cache=self.cache,
                http=Http(self.network),
                headers=lambda url, *, refused=False: settings().credentials.headers(url, refused=refused),
                progress=self.progress,
            ),
        )

    def _discover(self, own: ToolSettings) -> IndexSettings:
        from hatch_docker.index.settings import discover

        return discover(
            own=own,
            sources=self.sources(),
            root=self.root,
            environ=self.environ,
            home=self.home,
            progress=self.progress,
        )

    def _connect(self, settings: IndexSettings) -> Index:
        from hatch_docker.index.client import Index

        # pip's own certificate setting applies to indexes alone, and only if its other settings count.
        http = Http(replace(self.network, ca_file=settings.ca_file))
        return Index(settings, http, sources=self.sources(), progress=self.progress)
