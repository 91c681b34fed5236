"""The package indexes that a project uses on this machine, and the logins for them.

In this order: the configured `index-url`, uv's settings (environment, then configuration files), the indexes of Poetry
or PDM, pip's settings. No index is built in: the last resort is the default of the installed pip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from hatch_docker.index.credentials import Credentials, read_netrc, split_login
from hatch_docker.index.pip_config import Pip, read_pip_configuration
from hatch_docker.index.sources import NO_SOURCES, Sources
from hatch_docker.index.stores import Keyring, read_uv_store
from hatch_docker.index.tool_settings import (
    ToolSettings,
    ca_file_of,
    clean_url,
    environment_settings,
    foreign_settings,
    pip_settings,
    uv_settings,
)
from hatch_docker.index.uv_config import project_table, uv_files
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.progress import Progress

_SILENT = Progress()
_NOTHING = ToolSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """The package indexes (PEP 503 roots) and how to reach them. No URL in it has a login.

    `url` is the main index, empty if none is configured: then `urls()` uses pip's default. `flat_urls` are directories
    or pages of files, which `no_index` says to use alone. `for_uv` are the settings that uv does not find by itself.
    `ca_file` is the environment's, else pip's `cert` if pip's settings count.
    """

    url: str = ""
    extra_urls: tuple[str, ...] = ()
    flat_urls: tuple[str, ...] = ()
    no_index: bool = False
    for_uv: ToolSettings = field(default_factory=ToolSettings)
    credentials: Credentials = field(default_factory=Credentials)
    ca_file: str = ""
    pip: Pip = field(default_factory=lambda: Pip({}), repr=False, compare=False)

    def urls(self) -> tuple[str, ...]:
        """All indexes, the main one first. Raises ArtifactError if none is configured and pip is not installed."""
        return () if self.no_index else tuple(dict.fromkeys((self.default_url, *self.extra_urls)))

    @property
    def default_url(self) -> str:
        """The main index. Raises ArtifactError if none is configured and pip is not installed."""
        return self.url or clean_url(self.pip.default_index)

    def variables_for_uv(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment variables that tell uv what it does not find by itself. They may have logins."""
        given = self.for_uv
        # uv looks up the logins of the indexes in UV_INDEX by the names that they have there.
        named = [self.credentials.embed(url or self.default_url) for url in given.extra_urls]
        extra = [*environ.get("UV_INDEX", "").split(), *named]
        flat = [*filter(None, [environ.get("UV_FIND_LINKS", "")]), *map(self.credentials.embed, given.flat_urls)]
        settings = {
            "UV_DEFAULT_INDEX": self.credentials.embed(given.url) if given.url else "",
            "UV_INDEX": " ".join(extra) if given.extra_urls else "",
            "UV_FIND_LINKS": ",".join(flat) if given.flat_urls else "",
            "UV_INDEX_STRATEGY": given.strategy,
            "UV_KEYRING_PROVIDER": given.keyring,
        }
        return {name: value for name, value in settings.items() if value}

    def arguments_for_uv(self) -> tuple[str, ...]:
        """The arguments that tell uv what has no variable."""
        return ("--no-index",) if self.for_uv.no_index else ()


def discover(
    *,
    own: ToolSettings = _NOTHING,
    sources: Sources = NO_SOURCES,
    root: Path,
    environ: Mapping[str, str],
    home: Path,
    progress: Progress = _SILENT,
) -> IndexSettings:
    """The indexes of the project in `root`.

    `own` are its own `index-url` and the indexes that its lock names, without relative paths; `sources` has the named
    indexes of Poetry and PDM. The first of configuration, uv, these and pip that has a main index ends the search. The
    extra indexes of those before it count, too. Files that cannot be read are skipped with a note. No program is run.
    """
    uv = uv_settings(environ, uv_files(root, environ, home=home, progress=progress), root)
    pip = partial(read_pip_configuration, environ, home=home, progress=progress)
    used = [*_in_order(own, uv, foreign_settings(sources), pip, root)]
    found = [*used, uv, environment_settings(environ, root)]
    urls = [url for each in found for url in each.all_urls]
    urls += [each.url for each in sources.indexes if each.url]
    return IndexSettings(
        url=clean_url(used[-1].url),
        extra_urls=_unique(clean_url(url) for each in used for url in each.extra_urls),
        flat_urls=_unique(clean_url(url) for each in found for url in each.flat_urls),
        no_index=any(each.no_index for each in found),
        for_uv=_for_uv(own, uv, [_main_alone(each) if project_table(root) else each for each in used[2:]]),
        credentials=_credentials(urls, found, environ, home, progress),
        ca_file=ca_file_of(environ) or next((each.ca_file for each in used if each.ca_file), ""),
        pip=Pip(environ),
    )


def _in_order(
    own: ToolSettings, uv: ToolSettings, foreign: ToolSettings, pip: Callable[[], Mapping[str, str]], root: Path
) -> Iterator[ToolSettings]:
    """The settings by precedence, until there is a main index."""
    for settings in (own, uv, foreign):
        yield settings
        if settings.url or settings.no_index:
            return
    yield pip_settings(pip(), root)


def _for_uv(own: ToolSettings, uv: ToolSettings, others: Sequence[ToolSettings]) -> ToolSettings:
    """The settings to tell uv, without logins: the project's own, and those of `others` that uv's configuration lacks.

    The built-in default of pip is not among them.
    """
    order = next((each.order for each in others if each.order), ())
    main = next((each.url for each in others if each.url), "")
    extra = tuple(url for each in others for url in each.extra_urls)
    if order:
        # uv asks its default index last.
        main, extra = order[-1] or main, (*order[:-1], *(url for url in extra if url not in order))
    has_own = bool(uv.url or uv.extra_urls)
    # pip and PDM take the best version of all indexes; uv would stop at the first index that has the package. Of one
    # version it takes the files of the first index alone, so the main index, which has them all, goes first.
    strategy = next((each.strategy for each in others if each.extra_urls), "")
    if strategy and extra:
        extra = (main, *extra)
    return ToolSettings(
        url=own.url or ("" if uv.url else main),
        extra_urls=own.extra_urls if has_own else (*own.extra_urls, *extra),
        flat_urls=own.flat_urls + (() if uv.flat_urls else tuple(url for each in others for url in each.flat_urls)),
        no_index=own.no_index or (not has_own and any(each.no_index for each in others)),
        keyring="" if uv.keyring else next((each.keyring for each in others if each.keyring), ""),
        strategy="" if uv.strategy or has_own else strategy,
    ).clean()


def _main_alone(settings: ToolSettings) -> ToolSettings:
    """The main index alone: in a project with settings for uv, other tools' extra indexes and files do not count."""
    return ToolSettings(url=settings.url, order=settings.order, keyring=settings.keyring)


def _credentials(
    urls: Sequence[str],
    found: Sequence[ToolSettings],
    environ: Mapping[str, str],
    home: Path,
    progress: Progress,
) -> Credentials:
    split = [split_login(url) for url in urls]
    return Credentials(
        by_url=tuple((url, login) for url, login in split if login),
        by_host=read_netrc(environ, home=home, progress=progress),
        stored=read_uv_store(environ, home=home, progress=progress),
        keyring=Keyring(environ, progress) if any(each.keyring for each in found) else None,
        indexes=tuple(url for url, _ in split),
    )


def _unique(urls: Iterator[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(urls))
