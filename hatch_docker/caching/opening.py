"""Open the registry caches of a run."""

from __future__ import annotations

from hatch_docker.caching.entry import Sealer
from hatch_docker.caching.repository import Repository
from hatch_docker.caching.source import Source
from hatch_docker.caching.tier import RegistryCache
from hatch_docker.config import Settings
from hatch_docker.oci.registry.session import Session
from hatch_docker.support.cache import Cache
from hatch_docker.support.progress import Progress

_TOLD = "registry-caches"


def open_caches(settings: Settings, session: Session, cache: Cache, progress: Progress) -> RegistryCache:
    """The registry caches that a run may use. Nothing is requested yet.

    Without a key, a note says once for each machine and cache who is trusted then.
    """
    caching = settings.caching
    for repository in caching.repositories:
        name = str(repository)
        if not settings.cache_key and cache.stored(_TOLD, name) is None:
            progress.note(
                f"whoever may write to the cache {name} can put files into this image: "
                "HATCH_DOCKER_CACHE_KEY is not set, so its entries are not signed"
            )
            cache.put(_TOLD, name, {})
    return RegistryCache(
        [Source(Repository(session=session, reference=each)) for each in caching.repositories],
        Sealer(settings.cache_key.encode()),
        progress.note,
        writes=caching.mode == "read-write",
    )
