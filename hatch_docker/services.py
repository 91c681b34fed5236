"""The services of one run: its clients, each made once, and the limits of the machine."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import getproxies

from hatch_docker.config import OSPackages, Settings, variable
from hatch_docker.debian.suites import FRESH
from hatch_docker.dpkg.archives import Archives
from hatch_docker.engine.limits import Limits
from hatch_docker.index.access import IndexAccess, Indexes, NamedIndexes
from hatch_docker.index.sources import read_sources
from hatch_docker.index.tool_settings import ca_file_of
from hatch_docker.oci.filesystem import KeptFiles
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.directories import cache_directory, home_directory, usual_cache, uv_environment
from hatch_docker.support.http import Http, Network
from hatch_docker.support.progress import Progress
from hatch_docker.support.room import UPLOADS
from hatch_docker.support.threads import once
from hatch_docker.support.unfinished import Unfinished

if TYPE_CHECKING:
    from hatch_docker.caching.tier import RegistryCache
    from hatch_docker.dpkg.lockfile import Pins
    from hatch_docker.engine.client import Engine
    from hatch_docker.os_packages.install import Installer
    from hatch_docker.support.certificates import Certificates

# Kinds of documents that --no-cache keeps: the newest Release file that was seen protects against older ones, and the
# last digest of a tag is named in errors.
_KEPT = frozenset({"debian-release", "tags"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine that builds. `home` is the user's, and need not exist. `cache_dir` is our cache in the user's
    directory of caches, which may not be one that can be made. `now` is the current time in UTC.

    `platform` is the platform that images are for unless the project names another.
    """

    environ: Mapping[str, str]
    proxies: Mapping[str, str]
    home: Path
    cache_dir: Path
    now: datetime
    platform: Platform
    processors: int


def this_host() -> Host:
    """The machine and the environment of this process."""
    return Host(
        environ=os.environ,
        proxies=getproxies(),
        home=home_directory(),
        cache_dir=usual_cache(),
        now=datetime.now(timezone.utc),
        platform=Platform.of("linux", platform.machine()),
        processors=os.cpu_count() or 1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The clients that the steps share, for the project at `root`.

    `engine` connects when it is called, since most builds need none; `limits` are those of each container. `indexes`
    opens the package indexes, once for those that a lock names itself. `authorities` reads the certificates that images
    and builders trust besides their own, None if there are none; it raises ConfigError. `caches` are the registry
    caches behind `cache`, and `kept` are the files of the base that was read last.
    """

    host: Host
    root: Path
    cache: Cache
    registry: Registry
    archives: Archives
    engine: Callable[[], Engine]
    indexes: Callable[[NamedIndexes], Indexes]
    limits: Limits
    threads: int
    progress: Progress
    caches: RegistryCache | None = None
    authorities: Callable[[], Certificates | None] = lambda: None
    kept: KeptFiles = field(default_factory=KeptFiles)

    @property
    def installer(self) -> Installer:
        """The services that install OS packages by an engine."""
        from hatch_docker.os_packages.install import Installer

        return Installer(engine=self.engine, limits=self.limits, cache=self.cache, progress=self.progress)


def open_services(
    settings: Settings, host: Host, *, root: Path, index_url: str, debian: OSPackages, progress: Progress
) -> Services:
    """The services of a run for the project at `root`, whose own index is `index_url`, empty for the configured ones.

    No connection is made and no program is run before it is needed. Raises OutputError if there is no directory for
    the cache.
    """
    host = replace(host, environ=uv_environment(_without_key(host.environ), host.home))
    network = Network(ca_file=ca_file_of(host.environ), proxies=host.proxies)
    http = Http(network)
    folder = Path(settings.cache_dir) if settings.cache_dir else cache_directory(host.cache_dir, progress)
    cache = Cache(
        folder,
        kinds=_KEPT if settings.no_cache else None,
        verify=settings.verify,
        most=settings.cache_size,
        warn=progress.warn,
    )
    threads = settings.threads or host.processors
    registry = Registry(
        http,
        credentials=Credentials.from_environment(host.environ, host.home),
        mirrors=settings.registry_mirrors,
        insecure=settings.insecure_registries,
        unfinished=Unfinished(folder / UPLOADS),
    )
    caches = _open_caches(settings, registry, cache, progress) if settings.caching.repositories else None
    indexes = IndexAccess(
        root=root,
        home=host.home,
        index_url=index_url,
        environ=host.environ,
        network=network,
        cache=cache,
        progress=progress,
        sources=once(partial(read_sources, root, host.environ, project="", home=host.home)),
        resolver_builds=settings.resolver_builds,
    )
    return Services(
        host=host,
        root=root,
        cache=cache,
        registry=registry,
        caches=caches,
        archives=Archives(
            http=http,
            cache=cache,
            now=host.now,
            threads=threads,
            mirror=debian.debian_mirror,
            place="debian-mirror",
            keyring=root / debian.debian_keyring if debian.debian_keyring else None,
            pins=once(partial(_pins, root)),
            fresh=timedelta(0) if settings.pull else FRESH,
            progress=progress,
        ),
        engine=once(partial(_engine, host.environ)),
        indexes=functools.cache(indexes.open),
        limits=Limits(memory=settings.build_memory, cpus=settings.build_cpus, seconds=settings.build_timeout),
        threads=threads,
        progress=progress,
        authorities=once(partial(_certificates, root, debian.ca_certificates)),
    )


def _without_key(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment for other programs: the key of registry caches is for this process alone."""
    secret = variable("cache-key")
    return {name: value for name, value in environ.items() if name != secret} if secret in environ else environ


def _open_caches(settings: Settings, registry: Registry, cache: Cache, progress: Progress) -> RegistryCache:
    from hatch_docker.caching.opening import open_caches

    cache.remote = caches = open_caches(settings, registry.session, cache, progress)
    return caches


def _engine(environ: Mapping[str, str]) -> Engine:
    from hatch_docker.engine.client import Engine

    return Engine.connect(environ)


def _pins(root: Path) -> Pins:
    from hatch_docker.dpkg.lockfile import find_pins

    return find_pins(root)


def _certificates(root: Path, configured: str) -> Certificates | None:
    if not configured:
        return None
    from hatch_docker.support.certificates import read_certificates

    return read_certificates(root / configured, "ca-certificates")
