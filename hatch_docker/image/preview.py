"""The layers of wheels that a build would make, as far as they are known without downloading files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hatch_docker.base.target import TargetPython
from hatch_docker.config import Packages
from hatch_docker.image.layers import Part, cached_layer, distribute
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile, cached_file
from hatch_docker.support.cache import Cache
from hatch_docker.support.threads import together
from hatch_docker.wheels.prepare import PreparedWheel, prepare_wheels


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLayer:
    """A layer of a build. `size` (compressed bytes) and `cached` are None if they are not known before the build."""

    contents: tuple[str, ...]
    size: int | None = None
    cached: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPreview:
    """Previews the layers of wheels for a target. `compiled` finds the cached wheel of an sdist.

    A wheel that is not cached leaves its layer unknown. If its size is not in the lock either, it counts as small,
    although a big wheel has a layer of its own. Pruning is decided by the cached wheels alone: another wheel of the
    image, or the project's own, may keep files that are counted as pruned here.
    """

    target: TargetPython
    packages: Packages
    compression: str
    compiled: Callable[[FetchedFile], FetchedFile | None]
    cache: Cache
    threads: int

    def files(self, artifacts: Sequence[Artifact]) -> dict[str, FetchedFile]:
        """The cached files of artifacts, by the artifacts' names."""
        found = together(lambda each: cached_file(each, self.cache), artifacts, threads=self.threads)
        return {each.name: file for each, file in zip(artifacts, found, strict=True) if file}

    def layers(
        self, artifacts: Sequence[Artifact], files: Mapping[str, FetchedFile], budget: int
    ) -> list[PlannedLayer]:
        """The layers of at most `budget` that the artifacts are distributed over, the lowest first.

        `files` are those that `files` returned for the artifacts.
        """
        wheels = self._wheels(files)
        labels = {each.name: f"{each.name} {each.version}" for each in artifacts}
        labels |= {name: f"{wheel.facts.name} {wheel.facts.version}" for name, wheel in wheels.items()}
        sizes = {each.name: (each.size or 0) if each.is_wheel else 0 for each in artifacts}
        sizes |= {name: wheel.path.stat().st_size for name, wheel in wheels.items()}
        layers = []
        for names in distribute(sizes, budget):
            contents = tuple(labels[name] for name in names)
            known = [wheels[name] for name in names if name in wheels]
            layers.append(self._layer(contents, known if len(known) == len(names) else ()))
        return layers

    def _wheels(self, files: Mapping[str, FetchedFile]) -> dict[str, PreparedWheel]:
        """The wheels that the cache has, by name."""
        found = [file if file.artifact.is_wheel else self.compiled(file) for file in files.values()]
        prune, keep = self.packages.prune, self.packages.keep
        present = [file for file in found if file]
        wheels = prepare_wheels(present, self.cache, prune=prune, keep=keep, threads=self.threads)
        return {wheel.facts.key: wheel for wheel in wheels}

    def _layer(self, contents: tuple[str, ...], wheels: Sequence[PreparedWheel]) -> PlannedLayer:
        if not wheels:
            return PlannedLayer(contents=contents)
        part = Part(contents=contents, wheels=tuple(wheels))
        made = cached_layer(part, self.target, self.compression, self.cache)
        size = made.layer.descriptor.size if made else None
        return PlannedLayer(contents=contents, size=size, cached=made is not None)
