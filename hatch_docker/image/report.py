"""The report of a build: tables for the terminal, and the result file for pipelines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hatch_docker.base.image import Base
from hatch_docker.image.layers import LAYOUT
from hatch_docker.image.pruning import PrunedWheel, summary
from hatch_docker.image.table import Beneath, Row, layer_table
from hatch_docker.index.artifact import Artifact, SourceTree
from hatch_docker.oci.graph import Node
from hatch_docker.oci.image import Image, ImageIndex
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.wheels.facts import WheelFacts

if TYPE_CHECKING:
    from hatch_docker.compiling.wheel_cache import CompiledWheel

# Raise it if a reader of an earlier version would misread the result file.
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltSource:
    """A distribution that was built from a source tree; `place` is a path relative to the project, or a URL."""

    name: str
    version: str
    place: str
    tree: SourceTree

    @classmethod
    def of(cls, facts: WheelFacts, tree: SourceTree, root: Path) -> BuiltSource:
        """The distribution of a wheel that was built from a source tree, for a project at `root`."""
        from hatch_docker.compiling.trees import tree_place

        return cls(name=facts.key, version=facts.version, place=tree_place(tree, root), tree=tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltFile:
    """A file that the image was made of, with its hash in lower-case hexadecimal."""

    filename: str
    sha256: str

    @classmethod
    def of(cls, artifact: Artifact) -> BuiltFile:
        """The file of an artifact."""
        return cls(filename=artifact.filename, sha256=artifact.hashes["sha256"])


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """An image for one platform, and the facts for its report.

    `version` is that of the project's wheel. `layers` are those above the base. `lock` is the file name of the lock.
    `wheel` is the project's own, None if it has none, and `editable` its members on whose contents nothing else of the
    image depends. `pruned` are the wheels of which files are left out.
    """

    version: str
    image: Image
    base: Base
    layers: tuple[MadeLayer, ...]
    lock: str
    compiled: tuple[CompiledWheel, ...] = ()
    sources: tuple[BuiltSource, ...] = ()
    wheel: BuiltFile | None = None
    editable: frozenset[str] = frozenset()
    pruned: tuple[PrunedWheel, ...] = ()

    @property
    def platform(self) -> Platform:
        """The platform of the image."""
        return self.image.config.platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The result of a build: an image for each platform, in the order of the plan.

    `references` are their common names, with tags. `annotations` are those of the index, if there are several images.
    `sdist` is the file that the project's wheel was built from, if one was given.
    """

    name: str
    version: str
    references: tuple[Reference, ...]
    images: tuple[BuiltImage, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    sdist: BuiltFile | None = None

    @property
    def node(self) -> Node:
        """The graph of what the references name: the image, or the index of several."""
        images = tuple(each.image for each in self.images)
        return images[0].node if len(images) == 1 else ImageIndex(images=images, annotations=self.annotations).node

    @property
    def digest(self) -> str:
        """The digest of the image, or of the index."""
        return self.node.descriptor.digest

    @property
    def wheel(self) -> BuiltFile | None:
        """The project's own wheel; None if the images have different ones, or the project has none."""
        wheels = {each.wheel for each in self.images}
        return wheels.pop() if len(wheels) == 1 else None

    @property
    def digest_reference(self) -> str:
        """The name by digest, which a pipeline passes on."""
        return self.digest_references[0]

    @property
    def digest_references(self) -> list[str]:
        """The names by digest: one for each repository of the references."""
        return list(dict.fromkeys(str(reference.with_digest(self.digest)) for reference in self.references))

    @property
    def image_id(self) -> str:
        """What BuildKit calls the image's ID: the digest of the config, or that of an index of several images."""
        return self.images[0].image.config_descriptor.digest if len(self.images) == 1 else self.digest


def again(built: Built) -> Built:
    """The result of the same build if nothing changed: all layers are reused."""
    images = [replace(each, layers=tuple(replace(made, reused=True) for made in each.layers)) for each in built.images]
    return replace(built, images=tuple(images))


def document(built: Built, outputs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The result file of a build; sizes in bytes. `outputs` maps each output to what it made.

    `image.name` and the keys that begin with `containerimage.` are those of BuildKit's metadata file.
    """
    config = {"containerimage.config.digest": built.image_id} if len(built.images) == 1 else {}
    return {
        "image.name": ",".join(map(str, built.references)),
        **config,
        "containerimage.descriptor": built.node.descriptor.to_json(),
        "containerimage.digest": built.digest,
        "schema-version": SCHEMA_VERSION,
        "layout": LAYOUT,
        "name": built.name,
        "version": built.version,
        "reference": built.digest_reference,
        "references": [str(reference) for reference in built.references],
        "digest": built.digest,
        "wheel": _file(built.wheel),
        "sdist": _file(built.sdist),
        "images": [_image(image) for image in built.images],
        "outputs": {name: made[0] if len(made) == 1 else list(made) for name, made in sorted(outputs.items())},
    }


def _file(file: BuiltFile | None) -> dict[str, str] | None:
    return {"filename": file.filename, "sha256": file.sha256} if file else None


def _image(built: BuiltImage) -> dict[str, Any]:
    image = built.image
    return {
        "digest": image.digest,
        "image-id": image.config_descriptor.digest,
        "platform": str(image.config.platform),
        "created": image.config.created,
        "wheel": _file(built.wheel),
        "base": {
            "name": built.base.name,
            "digest": built.base.digest,
            "layers": len(image.layers) - len(built.layers),
        },
        "lock": built.lock,
        "compiled": [_compiled(wheel) for wheel in built.compiled],
        "sources": [_source(each) for each in built.sources],
        "os-packages": [
            {"name": each.name, "version": each.version, "suite": each.suite, "sha256": each.sha256}
            for selection in built.base.selections
            for each in selection.packages
        ],
        "pruned-files": [
            {"name": each.name, "version": each.version, "size": each.size, "rules": each.sizes}
            for each in built.pruned
        ],
        "size": _size(image.layers),
        "layers": [_layer(made) for made in built.layers],
    }


def _compiled(wheel: CompiledWheel) -> dict[str, Any]:
    return {
        "name": wheel.name,
        "version": wheel.version,
        "reason": wheel.reason,
        "sdist": wheel.sdist,
        "digest": wheel.digest,
        "builder": wheel.builder,
        "build-packages": list(wheel.packages),
        "build-requirements": list(wheel.requirements),
    }


def _source(source: BuiltSource) -> dict[str, Any]:
    tree = source.tree
    return {
        "name": source.name,
        "version": source.version,
        "kind": "directory" if tree.is_local else "git",
        "url": source.place,
        "commit": tree.commit,
        "subdirectory": "" if tree.is_local else tree.subdirectory,
    }


def _layer(made: MadeLayer) -> dict[str, Any]:
    return {
        "digest": made.layer.descriptor.digest,
        "diff-id": made.layer.diff_id,
        "size": made.layer.descriptor.size,
        "unpacked": made.layer.unpacked,
        "contents": list(made.contents),
        "reused": made.reused,
    }


def tables(built: Built) -> list[str]:
    """The lines of a table for each image; the layers that an earlier image has, too, are one row."""
    if len(built.images) == 1:
        return table(built.images[0])
    lines: list[str] = []
    seen: dict[str, str] = {}
    for each in built.images:
        lines += ["", f"  {each.platform}", *table(each, seen)]
        seen = {**{made.layer.descriptor.digest: str(each.platform) for made in each.layers}, **seen}
    return lines[1:]


def table(built: BuiltImage, seen: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """The lines of a table of the layers: contents, sizes, and whether each was made or reused.

    `seen` maps the digests of layers that were shown already to the platform that they were shown for.
    """
    below = built.image.layers[: len(built.image.layers) - len(built.layers)]
    shared = [made for made in built.layers if made.layer.descriptor.digest in seen]
    return layer_table(
        Beneath(name=built.base.name, layers=len(below), size=_size(below)),
        [_row(made) for made in built.layers if made.layer.descriptor.digest not in seen],
        pruned=pruned_line(built),
        shared=[*_shared(shared, seen)],
    )


def pruned_line(built: BuiltImage) -> str:
    """What the table says of pruned files; empty if there are none."""
    return summary(built.pruned) if built.pruned else ""


def _shared(shared: Sequence[MadeLayer], seen: Mapping[str, str]) -> Iterator[tuple[str, list[Row]]]:
    """The layers of each platform that they are shared with."""
    for platform in dict.fromkeys(seen[made.layer.descriptor.digest] for made in shared):
        yield platform, [_row(made) for made in shared if seen[made.layer.descriptor.digest] == platform]


def _row(made: MadeLayer) -> Row:
    layer = made.layer
    return Row(contents=made.contents, size=layer.descriptor.size, unpacked=layer.unpacked, reused=made.reused)


def how_to_run(built: Built) -> str:
    """The command that runs the image, with its TCP ports published."""
    config = built.images[0].image.config
    ports = [port.partition("/")[0] for port in config.exposed_ports if not port.endswith("/udp")]
    published = "".join(f" -p {port}:{port}" for port in ports)
    interactive = "" if config.entrypoint else " -it"
    return f"docker run --rm{interactive}{published} {built.references[0].familiar}"


def _size(layers: Sequence[Layer]) -> int:
    return sum(layer.descriptor.size for layer in layers)
