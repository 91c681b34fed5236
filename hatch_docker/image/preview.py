"""The layers of wheels that a build would make, as far as they are known without downloading files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from hatch_docker.config import Packages
from hatch_docker.image.bytecode.labels import code_label
from hatch_docker.image.bytecode.parts import CodeOptions, CodePart, cached_code, library_code, wheels_code
from hatch_docker.image.bytecode.select import modules_of
from hatch_docker.image.layers import Budget, Group, Part, cached_layer, distribute, names_below_project, parts_of
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile, cached_file
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.threads import together
from hatch_docker.wheels.prepare import PreparedWheel, prepare_wheels
from hatch_docker.wheels.prune import Pruning


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLayer:
    """A layer of a build. `size` (compressed bytes) and `cached` are None if they are not known before the build."""

    contents: tuple[str, ...]
    size: int | None = None
    cached: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPreview:
    """Previews the layers of wheels for a target. `built` finds the cached wheel of an sdist or a source tree.

    A wheel that is not cached leaves its layer unknown, and counts as one layer. If its size is not in the lock either,
    it counts as small, although a big wheel has a layer of its own, and a very large one several. Pruning is decided by
    the cached wheels alone: another wheel of the image, or the project's own, may keep files that are counted as pruned
    here. `code` has the target, and how bytecode is made.
    """

    code: CodeOptions
    packages: Packages
    pruning: Pruning
    built: Callable[[Artifact, FetchedFile | None], FetchedFile | None]
    cache: Cache
    threads: int

    def files(self, artifacts: Sequence[Artifact]) -> dict[str, FetchedFile]:
        """The cached files of artifacts, by the artifacts' names. A source tree has none."""
        named = [each for each in artifacts if not each.tree]
        found = together(lambda each: cached_file(each, self.cache), named, threads=self.threads)
        return {each.name: file for each, file in zip(named, found, strict=True) if file}

    def layers(
        self, artifacts: Sequence[Artifact], files: Mapping[str, FetchedFile], budget: Budget
    ) -> tuple[list[PlannedLayer], list[PlannedLayer]]:
        """The layers that the artifacts are distributed over, the lowest first, with those of their bytecode.

        And the layers of those that were built from local directories, which are below the project's, if there are any.
        `files` are those that `files` returned for the artifacts.
        """
        wheels = self.wheels(artifacts, files)
        labels = {each.name: f"{each.name} {each.version}".rstrip() for each in artifacts}
        labels |= {name: f"{wheel.facts.name} {wheel.facts.version}" for name, wheel in wheels.items()}
        sizes = {each.name: (each.size or 0) if each.is_wheel else 0 for each in artifacts}
        sizes |= {name: wheel.facts.zipped for name, wheel in wheels.items()}
        local = {each.name: each.tree is not None and each.tree.is_local for each in artifacts}
        below = names_below_project(local, budget.wheels)
        groups = distribute({name: size for name, size in sizes.items() if name not in below}, budget.wheels)
        own = [Group(names=tuple(sorted(below)))] if below else []
        order = [name for each in (*groups, *own) for name in each.names]
        code = self._code([wheels[name] for name in order if name in wheels], local, budget)

        def layers(group: Group) -> Iterator[PlannedLayer]:
            known = [wheels[name] for name in group.names if name in wheels]
            if len(known) == len(group.names):
                yield from map(self._layer, parts_of(known, group.pieces))
            else:
                yield PlannedLayer(contents=tuple(map(labels.__getitem__, group.names)))
            if found := code(group.names):
                yield found

        return [each for group in groups for each in layers(group)], [each for group in own for each in layers(group)]

    def library(self) -> PlannedLayer:
        """The layer with the standard library's bytecode, unless `extra-files` replace some of its modules."""
        part = library_code()
        return _planned(part, cached_code(part, self.code, self.cache))

    def _code(
        self, wheels: Sequence[PreparedWheel], local: Mapping[str, bool], budget: Budget
    ) -> Callable[[Sequence[str]], PlannedLayer | None]:
        """Gives the layer of bytecode of wheels by their names, which need not be known; None if it has none."""
        if self.packages.bytecode is False or budget.joint:
            return lambda _names: None
        checked = [name for name, is_local in local.items() if is_local]
        modules = modules_of(wheels, self.code.target, self.code.optimization, checked)

        def code(names: Sequence[str]) -> PlannedLayer | None:
            if any(name not in modules for name in names):
                # Wheels without modules are rare.
                return PlannedLayer(contents=(code_label(names),))
            part = wheels_code([modules[name] for name in names])
            return _planned(part, cached_code(part, self.code, self.cache)) if part else None

        return code

    def wheels(self, artifacts: Sequence[Artifact], files: Mapping[str, FetchedFile]) -> dict[str, PreparedWheel]:
        """The wheels that the cache has, by name."""
        found = [self._wheel(each, files.get(each.name)) for each in artifacts]
        present = [file for file in found if file]
        wheels = prepare_wheels(present, self.cache, self.pruning, threads=self.threads)
        return {wheel.facts.key: wheel for wheel in wheels}

    def _wheel(self, artifact: Artifact, file: FetchedFile | None) -> FetchedFile | None:
        if artifact.is_wheel:
            return file
        return self.built(artifact, file) if file or artifact.tree else None

    def _layer(self, part: Part) -> PlannedLayer:
        return _planned(part, cached_layer(part, self.code.target, self.code.compression, self.cache))


def _planned(part: Part | CodePart, made: MadeLayer | None) -> PlannedLayer:
    size = made.layer.descriptor.size if made else None
    return PlannedLayer(contents=part.contents, size=size, cached=made is not None)
