"""What a build takes from the machine it runs on: where things come from, who is asked, and how many at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from hatch_docker.base.transports import Places
from hatch_docker.config import Settings
from hatch_docker.dpkg.archives import Archives
from hatch_docker.dpkg.lockfile import find_pins
from hatch_docker.engine import Engine, Limits
from hatch_docker.index.access import FileFinder, Indexes, ResolverSettings
from hatch_docker.index.client import Index
from hatch_docker.index.download import FetchedFile, obtain
from hatch_docker.index.settings import IndexSettings, ca_file_of, discover
from hatch_docker.locks import named_indexes
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.http import Http, Network
from hatch_docker.support.progress import Progress
from hatch_docker.support.threads import once


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Clients and limits. `platform` is the machine's own, which images are for unless the project says otherwise;
    `limits` are those of a container.

    `indexes` is called with the project's lock, since a requirements file may name indexes of its own.
    """

    places: Places
    http: Http
    indexes: Callable[[Path | None], Indexes]
    platform: Platform
    limits: Limits
    threads: int
    progress: Progress


def services_of(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    proxies: Mapping[str, str],
    root: Path,
    home: Path,
    cache_dir: Path,
    index_url: str,
    debian_mirror: str,
    debian_keyring: Path | None,
    now: datetime,
    platform: Platform,
    processors: int,
    progress: Progress,
) -> Machine:
    """The clients of a build. Nothing is connected, and no other program asked, before it is needed.

    `debian_mirror` and `debian_keyring` are as `system.archives.Archives` has them; `now` is the time.
    """
    http = Http(Network(ca_file=ca_file_of(environ), proxies=proxies))
    cache = Cache(Path(settings.cache_dir) if settings.cache_dir else cache_dir)
    threads = settings.threads or processors
    archives = Archives(
        http=http,
        cache=cache,
        now=now,
        threads=threads,
        mirror=debian_mirror,
        place="debian-mirror",
        keyring=debian_keyring,
        pins=once(partial(find_pins, root)),
        progress=progress,
    )

    def indexes(lock: Path | None) -> Indexes:
        url, extra = named_indexes(lock)
        discovered = once(
            lambda: discover(
                configured=index_url or url, extra_urls=extra, root=root, environ=environ, home=home, progress=progress
            )
        )
        named = (index_url or url, *extra)
        return _indexes(discovered, named, environ, proxies, partial(obtain, cache=cache, http=http), cache, progress)

    return Machine(
        places=_places(settings, environ, http, cache, root, home, archives),
        http=http,
        indexes=indexes,
        platform=platform,
        limits=Limits(memory=settings.build_memory, cpus=settings.build_cpus, seconds=settings.build_timeout),
        threads=threads,
        progress=progress,
    )


def _places(
    settings: Settings,
    environ: Mapping[str, str],
    http: Http,
    cache: Cache,
    root: Path,
    home: Path,
    archives: Archives,
) -> Places:
    registry = Registry(
        http,
        credentials=Credentials.from_environment(environ, home),
        mirrors=settings.registry_mirrors,
        insecure=settings.insecure_registries,
    )
    engine = once(lambda: Engine.connect(environ))
    return Places(registry=registry, archives=archives, engine=engine, cache=cache, root=root)


def _indexes(
    discovered: Callable[[], IndexSettings],
    named: Sequence[str],
    environ: Mapping[str, str],
    proxies: Mapping[str, str],
    fetch: Callable[..., list[FetchedFile]],
    cache: Cache,
    progress: Progress,
) -> Indexes:
    """Functions that discover the settings when they are first called: that may take asking pip, half a second.

    What the project and the environment name (`named` and two variables) is known without, so it alone is part of keys.
    """

    def connect() -> Index:
        # pip's own certificate setting is known only once pip was asked, and it counts for indexes alone.
        settings = discovered()
        return Index(settings, Http(Network(ca_file=settings.ca_file, proxies=proxies)), progress=progress)

    index = once(connect)
    configured = [url for url in named if url]
    keys = [*configured, *(environ[each] for each in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL") if environ.get(each))]
    return Indexes(
        lookup=FileFinder(files=lambda name: index().files(name), indexes=lambda: keys, cache=cache),
        resolver=ResolverSettings(
            environ=environ,
            configured=configured,
            indexes=lambda: discovered().urls_for_uv(),
            embed=lambda url: discovered().credentials.embed(url),  # noqa: PLW0108 (not discovered before)
        ),
        obtain=partial(fetch, headers=lambda url: discovered().credentials.headers(url), progress=progress),  # noqa: PLW0108
    )
