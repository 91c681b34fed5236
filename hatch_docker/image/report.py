"""What was built, and how it is told: as a table for people, as JSON for pipelines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatch_docker.compiling.wheel_cache import CompiledWheel
from hatch_docker.dpkg.lockfile import Selection
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.oci.reference import Reference
from hatch_docker.support.terminal import human

_SHOWN = 3
_WIDTH = 58


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image and what is worth telling of it.

    `references` are its names, with tags. `base` is the base's name and `base_digest` what its source knows it by,
    `base_reference` where it can be mounted from. `lock` says which lock was used. `selections`
    are the packages out of Debian's archive.
    """

    name: str
    version: str
    image: Image
    references: tuple[Reference, ...]
    base: str
    base_digest: str
    base_reference: Reference | None
    layers: tuple[MadeLayer, ...]
    lock: str
    compiled: tuple[CompiledWheel, ...] = ()
    selections: tuple[Selection, ...] = ()

    @property
    def digest_reference(self) -> str:
        """The image's name by digest: what a pipeline hands on."""
        return str(self.references[0].with_digest(self.image.digest))


def document(built: Built, outputs: Mapping[str, str]) -> dict[str, Any]:
    """The result file of a build; sizes in bytes. `outputs` has what was made by which output."""
    image = built.image
    return {
        "name": built.name,
        "version": built.version,
        "reference": built.digest_reference,
        "references": [str(reference) for reference in built.references],
        "digest": image.digest,
        "image-id": image.config_descriptor.digest,
        "platform": str(image.config.platform),
        "created": image.config.created,
        "base": {"name": built.base, "digest": built.base_digest, "layers": len(image.layers) - len(built.layers)},
        "lock": built.lock,
        "compiled": [
            {
                "name": wheel.name,
                "version": wheel.version,
                "reason": wheel.reason,
                "sdist": wheel.sdist,
                "digest": wheel.digest,
                "builder": wheel.builder,
                "build-packages": list(wheel.packages),
                "build-requirements": list(wheel.requirements),
            }
            for wheel in built.compiled
        ],
        "os-packages": [
            {"name": each.name, "version": each.version, "suite": each.suite, "sha256": each.sha256}
            for selection in built.selections
            for each in selection.packages
        ],
        "size": _size(image.layers),
        "layers": [
            {
                "digest": made.layer.descriptor.digest,
                "diff-id": made.layer.diff_id,
                "size": made.layer.descriptor.size,
                "unpacked": made.unpacked,
                "contents": list(made.contents),
                "reused": made.reused,
            }
            for made in built.layers
        ],
        "outputs": dict(sorted(outputs.items())),
    }


def table(built: Built) -> list[str]:
    """The lines that a person sees at the end: each layer, what is in it, its size, whether it was made."""
    ours = [made.layer for made in built.layers]
    below = built.image.layers[: len(built.image.layers) - len(ours)]
    base = re.sub(r"(?<=@sha256:[0-9a-f]{12})[0-9a-f]{52}", "…", built.base)
    rows = [(f"{base} (base, {len(below)} layer{'s' if len(below) != 1 else ''})", human(_size(below)), "", "")]
    rows += [
        (
            _contents(made.contents),
            human(made.layer.descriptor.size),
            human(made.unpacked),
            "reused" if made.reused else "made",
        )
        for made in built.layers
    ]
    total = human(_size(built.image.layers))
    rows.append((f"total, {human(_size(ours))} above the base", total, "", ""))
    heads = ("layer", "size", "unpacked", "")
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(4)]
    lines = [
        f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip()
        for row in [heads, *rows]
    ]
    return [*lines[:1], "  " + "─" * (len(max(lines, key=len)) - 2), *lines[1:]]


def how_to_run(built: Built) -> str:
    """A command that runs the image, with its TCP ports published where they are."""
    config = built.image.config
    ports = [port.partition("/")[0] for port in config.exposed_ports if not port.endswith("/udp")]
    published = "".join(f" -p {port}:{port}" for port in ports)
    interactive = "" if config.entrypoint else " -it"
    return f"docker run --rm{interactive}{published} {built.references[0].familiar}"


def _contents(names: Sequence[str]) -> str:
    shown = " · ".join(names[:_SHOWN])
    while len(shown) > _WIDTH and "·" in shown:
        shown = shown.rpartition(" · ")[0]
    more = len(names) - shown.count(" · ") - 1
    shown = shown if len(shown) <= _WIDTH else shown[: _WIDTH - 1] + "…"
    return f"{shown} · {more} more" if more else shown


def _size(layers: Sequence[Layer]) -> int:
    return sum(layer.descriptor.size for layer in layers)
