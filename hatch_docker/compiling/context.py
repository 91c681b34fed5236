"""What builds need for one target: the builder, the resolver of build requirements, caches, settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import TypeAlias

from hatch_docker.base.image import Base
from hatch_docker.base.target import TargetPython
from hatch_docker.compiling.builder import Builder, open_builder
from hatch_docker.compiling.jobs import Job
from hatch_docker.compiling.requirements import Resolve
from hatch_docker.compiling.wheel_cache import WheelCache
from hatch_docker.config import ALL, BaseSpec, Compiling
from hatch_docker.index.artifact import Artifact, SourceTree
from hatch_docker.index.download import FetchedFile
from hatch_docker.locks.build_requirements import BuildResolver
from hatch_docker.services import Services
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.progress import Progress
from hatch_docker.support.threads import once

# Pure wheels of source trees, by the tree and the name of the Python's library directory.
PureWheels: TypeAlias = dict[tuple[SourceTree, str], FetchedFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileContext:
    """What compiling needs for one target.

    `root` is the project's directory. `builder` opens the builder when it is first called. `resolve_for` returns the
    resolver of the build requirements of a directory, whose own sources apply; `for_host` replaces files by those for
    this machine, for builds here. `scope` is a digest of all settings, besides the target, that decide what `resolve`
    returns. `exclude` are shared libraries of the image, which wheels
    must not bundle; packages in `network` (normalized names, or `:all:`) may use the network while they are compiled.
    Source trees of the packages in `no_binary` are always built in the builder; with `only_in_builder` all sdists and
    commits are, so that none of their code runs on this machine. `built` has the pure wheels of source
    trees that this run has built, which suit all its platforms.
    """

    root: Path
    target: TargetPython
    builder: Callable[[], Builder]
    resolve: Resolve
    resolve_for: Callable[[Path], Resolve]
    scope: str
    locate: Callable[[Sequence[Artifact]], Sequence[FetchedFile]]
    environ: Mapping[str, str]
    exclude: tuple[str, ...]
    network: Set[str]
    cache: Cache
    threads: int
    progress: Progress
    for_host: Callable[[Sequence[Artifact]], Sequence[Artifact]] = tuple
    no_binary: Set[str] = frozenset()
    only_in_builder: bool = False
    built: PureWheels = field(default_factory=dict)

    @property
    def wheels(self) -> WheelCache:
        """The cache of compiled wheels."""
        return WheelCache(cache=self.cache, target=self.target, scope=self.scope, exclude=self.exclude)

    def has_network(self, job: Job) -> bool:
        """Whether a compilation may use the network."""
        return not self.network.isdisjoint({ALL, job.sdist.name})

    def log_path(self, job: Job) -> Path:
        """The log of a compilation."""
        return self.cache.log_path(job.label.replace(" ", "-"))


def open_context(
    bare: Base, base: Base, spec: BaseSpec, options: Compiling, resolver: BuildResolver, services: Services
) -> CompileContext:
    """The context for an image on `base`; `bare` is the base without the image's OS packages."""
    return CompileContext(
        root=services.root,
        target=base.facts.python,
        builder=once(partial(open_builder, bare, spec, options, services)),
        resolve=resolver,
        resolve_for=resolver.for_tree,
        for_host=resolver.for_host,
        scope=resolver.scope,
        locate=resolver.indexes.locate,
        environ=services.host.environ,
        exclude=tuple(sorted(base.facts.libraries - bare.facts.libraries)),
        network=frozenset(options.build_network),
        no_binary=frozenset(options.no_binary),
        only_in_builder=options.only_in_builder,
        cache=services.cache,
        threads=services.threads,
        progress=services.progress,
    )
