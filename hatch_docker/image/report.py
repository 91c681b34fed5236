"""The report of a build: a table for the terminal, and the result file for pipelines."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hatch_docker.base.image import Base
from hatch_docker.compiling.wheel_cache import CompiledWheel
from hatch_docker.index.artifact import SourceTree
from hatch_docker.oci.graph import Node
from hatch_docker.oci.image import Image, ImageIndex
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform
from hatch_docker.support.terminal import human

# Raise it if a reader of an earlier version would misread the result file.
SCHEMA_VERSION = 1
_SHOWN = 3
_WIDTH = 58


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltSource:
    """A distribution that was built from a source tree; `place` is a path relative to the project, or a URL."""

    name: str
    version: str
    place: str
    tree: SourceTree


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """An image for one platform, and the facts for its report.

    `version` is that of the project's wheel. `layers` are those above the base. `lock` is the file name of the lock.
    """

    version: str
    image: Image
    base: Base
    layers: tuple[MadeLayer, ...]
    lock: str
    compiled: tuple[CompiledWheel, ...] = ()
    sources: tuple[BuiltSource, ...] = ()

    @property
    def platform(self) -> Platform:
        """The platform of the image."""
        return self.image.config.platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The result of a build: an image for each platform, in the order of the plan.

    `references` are their common names, with tags. `annotations` are those of the index, if there are several images.
    """

    name: str
    version: str
    references: tuple[Reference, ...]
    images: tuple[BuiltImage, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

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
    def digest_reference(self) -> str:
        """The name by digest, which a pipeline passes on."""
        return str(self.references[0].with_digest(self.digest))


def document(built: Built, outputs: Mapping[str, str]) -> dict[str, Any]:
    """The result file of a build; sizes in bytes. `outputs` maps each output to what it made."""
    return {
        "schema-version": SCHEMA_VERSION,
        "name": built.name,
        "version": built.version,
        "reference": built.digest_reference,
        "references": [str(reference) for reference in built.references],
        "digest": built.digest,
        "images": [_image(image) for image in built.images],
        "outputs": dict(sorted(outputs.items())),
    }


def _image(built: BuiltImage) -> dict[str, Any]:
    image = built.image
    return {
        "digest": image.digest,
        "image-id": image.config_descriptor.digest,
        "platform": str(image.config.platform),
        "created": image.config.created,
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
        "unpacked": made.unpacked,
        "contents": list(made.contents),
        "reused": made.reused,
    }


def table(built: BuiltImage) -> list[str]:
    """The lines of a table of the layers: contents, sizes, and whether each was made or reused."""
    ours = [made.layer for made in built.layers]
    below = built.image.layers[: len(built.image.layers) - len(ours)]
    base = re.sub(r"(?<=@sha256:[0-9a-f]{12})[0-9a-f]{52}", "…", built.base.name)
    rows = [
        (f"{base} (base, {len(below)} layer{'s' if len(below) != 1 else ''})", human(_size(below)), "", ""),
        *(_row(made) for made in built.layers),
        (f"total, {human(_size(ours))} above the base", human(_size(built.image.layers)), "", ""),
    ]
    head, *lines = aligned([("layer", "size", "unpacked", ""), *rows], right=(1, 2))
    return [head, "  " + "─" * (max(map(len, [head, *lines])) - 2), *lines]


def _row(made: MadeLayer) -> tuple[str, ...]:
    size, state = human(made.layer.descriptor.size), "reused" if made.reused else "made"
    return shortened(made.contents), size, human(made.unpacked), state


def aligned(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """The lines of a table, indented; the columns `right` are aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            f"{cell:>{width}}" if column in right else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def how_to_run(built: Built) -> str:
    """The command that runs the image, with its TCP ports published."""
    config = built.images[0].image.config
    ports = [port.partition("/")[0] for port in config.exposed_ports if not port.endswith("/udp")]
    published = "".join(f" -p {port}:{port}" for port in ports)
    interactive = "" if config.entrypoint else " -it"
    return f"docker run --rm{interactive}{published} {built.references[0].familiar}"


def shortened(names: Sequence[str]) -> str:
    """The first of some names, in a width that fits a terminal, and the number of the others."""
    shown = " · ".join(names[:_SHOWN])
    while len(shown) > _WIDTH and "·" in shown:
        shown = shown.rpartition(" · ")[0]
    more = len(names) - shown.count(" · ") - 1
    shown = shown if len(shown) <= _WIDTH else shown[: _WIDTH - 1] + "…"
    return f"{shown} · {more} more" if more else shown


def _size(layers: Sequence[Layer]) -> int:
    return sum(layer.descriptor.size for layer in layers)
