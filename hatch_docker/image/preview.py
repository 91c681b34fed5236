"""The layers that a build would make, as far as they are known without downloading wheels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hatch_docker.base.target import TargetPython
from hatch_docker.config import Output, Packages
from hatch_docker.image.layers import Part, cached_layer, distribute
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import cached_file
from hatch_docker.support.cache import Cache
from hatch_docker.wheels.prepare import PreparedWheel, prepare_wheels


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLayer:
    """A layer of a build. `size` (compressed bytes) and `cached` are None if they are not known before the build."""

    contents: tuple[str, ...]
    size: int | None = None
    cached: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPreview:
    """Previews the layers of wheels for a target.

    A wheel that is not cached, or still to be compiled, leaves its layer unknown. If its size is not in the lock
    either, the layer that it goes into may differ, since a big wheel has a layer of its own. Pruning is decided without
    the project's own wheel, which is not built: it may keep files that are counted as pruned here.
    """

    target: TargetPython
    packages: Packages
    output: Output
    cache: Cache
    threads: int

    def wheels(self, artifacts: Sequence[Artifact], budget: int) -> list[PlannedLayer]:
        """The layers of at most `budget` that the artifacts are distributed over, the lowest first."""
        prepared = self._prepared(artifacts)
        by_name = {each.name: each for each in artifacts}
        sizes = {
            name: prepared[name].path.stat().st_size if name in prepared else each.size or 0
            for name, each in by_name.items()
        }
        layers = []
        for names in distribute(sizes, budget):
            contents = tuple(f"{by_name[name].name} {by_name[name].version}" for name in names)
            known = [prepared[name] for name in names if name in prepared]
            layers.append(self._layer(contents, known if len(known) == len(names) else ()))
        return layers

    def _prepared(self, artifacts: Sequence[Artifact]) -> dict[str, PreparedWheel]:
        """The wheels that the cache has, by name."""
        files = {each.name: cached_file(each, self.cache) for each in artifacts if each.is_wheel}
        present = [file for file in files.values() if file]
        prune, keep = self.packages.prune, self.packages.keep
        wheels = prepare_wheels(present, self.cache, prune=prune, keep=keep, threads=self.threads)
        return {wheel.facts.key: wheel for wheel in wheels}

    def _layer(self, contents: tuple[str, ...], wheels: Sequence[PreparedWheel]) -> PlannedLayer:
        if not wheels:
            return PlannedLayer(contents=contents)
        part = Part(contents=contents, wheels=tuple(wheels))
        made = cached_layer(part, self.target, self.output.compression, self.cache)
        size = made.layer.descriptor.size if made else None
        return PlannedLayer(contents=contents, size=size, cached=made is not None)
