"""What a build takes from the machine it runs on: where things come from, who is asked, and how many at once."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.bases import Places
from hatch_docker.cache import Cache
from hatch_docker.config import Settings
from hatch_docker.dependencies import Resolver
from hatch_docker.engine import Engine
from hatch_docker.http import Http, Network
from hatch_docker.index import Index
from hatch_docker.index_settings import IndexSettings, ca_file_of, discover
from hatch_docker.locks import Lookup
from hatch_docker.oci.auth import Credentials
from hatch_docker.oci.registry import Registry
from hatch_docker.oci.spec import Platform
from hatch_docker.progress import Progress
from hatch_docker.wheels import Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Clients and limits. `platform` is the machine's own, which images are for unless the project says otherwise."""

    places: Places
    http: Http
    headers: Headers
    lookup: Lookup
    resolver: Resolver
    platform: Platform
    threads: int
    progress: Progress


def machine_of(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    proxies: Mapping[str, str],
    root: Path,
    home: Path,
    cache_dir: Path,
    index_url: str,
    platform: Platform,
    processors: int,
    progress: Progress,
) -> Machine:
    """The clients of a build. Nothing is connected, and no other program asked, before it is needed."""
    http = Http(Network(ca_file=ca_file_of(environ), proxies=proxies))
    cache = Cache(Path(settings.cache_dir) if settings.cache_dir else cache_dir)
    registry = Registry(
        http,
        credentials=Credentials.from_environment(environ, home),
        mirrors=settings.registry_mirrors,
        insecure=settings.insecure_registries,
    )

    @functools.cache
    def found() -> IndexSettings:
        return discover(configured=index_url, root=root, environ=environ, home=home, progress=progress)

    @functools.cache
    def index() -> Index:
        # pip's own certificate setting is known only once pip was asked, and it counts for indexes alone.
        return Index(found(), Http(Network(ca_file=found().ca_file, proxies=proxies)), progress=progress)

    return Machine(
        places=Places(
            registry=registry, engine=functools.cache(lambda: Engine.connect(environ)), cache=cache, root=root
        ),
        http=http,
        headers=lambda url: found().credentials.headers(url),  # noqa: PLW0108 (found() asks pip: when it must)
        lookup=Lookup(files=lambda name: index().files(name), cache=cache),
        resolver=Resolver(
            environ=environ,
            configured=(index_url,) if index_url else (),
            # What uv's own configuration names, uv finds by itself.
            indexes=lambda: () if found().by_uv else found().urls(),
            embed=lambda url: found().credentials.embed(url),  # noqa: PLW0108
        ),
        platform=platform,
        threads=settings.threads or processors,
        progress=progress,
    )
