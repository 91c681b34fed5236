"""Write an image that was made after an edit, as the stamp's build wrote the earlier one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hatch_docker.edits.record import EditRecord
from hatch_docker.oci.image import Image
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Manifest
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.progress import Progress

Write = Callable[[Image], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    """What outputs are opened with: what is recorded of them, the build's questions (`stamps.values.Asked`), and
    whether registries still have the image that was `pushed`. Uploads are noted in the directory `uploads`.
    """

    record: EditRecord
    asked: Mapping[str, Any]
    pushed: Callable[[], bool]
    environ: Mapping[str, str]
    progress: Progress
    uploads: Path

    @property
    def references(self) -> list[Reference]:
        """The names of the image."""
        return [Reference.parse(each) for each in self.record.output.references]


def open_outputs(
    record: EditRecord,
    asked: Mapping[str, Any],
    pushed: Callable[[], bool],
    environ: Mapping[str, str],
    progress: Progress,
    uploads: Path,
) -> list[Write]:
    """Connect to where the outputs go; each function writes an image, and raises HatchDockerError, as this does."""
    opening = _Opening(record=record, asked=asked, pushed=pushed, environ=environ, progress=progress, uploads=uploads)
    return [_OUTPUTS[name](opening, path) for name, path in record.output.outputs]


def _engine(opening: _Opening, _path: str) -> Write:
    from hatch_docker.engine.client import Engine

    engine, base = Engine.connect(opening.environ), opening.record.output.base

    def load(image: Image) -> None:
        platform = image.config.platform
        if platform != engine.platform:
            opening.progress.note(f"the image is for {platform}, and the engine for {engine.platform}")
        engine.load(image, opening.references, base=base, progress=opening.progress)

    return load


def _registry(opening: _Opening, _path: str) -> Write:
    # The first request would import it, when nothing is left to wait for.
    import hatch_docker.support.connections  # noqa: F401
    from hatch_docker.stamps.questions import registry_of

    record, origin, network = opening.record, opening.record.output.origin, opening.asked["network"]
    registry = registry_of(network, opening.environ, network["mirrors"], uploads=opening.uploads)
    layers = Manifest.from_json(record.image.manifest).layers
    kept = [each for number, each in enumerate(layers) if number not in (record.image.own, record.image.code)]
    # If the tags still name the image that was pushed, the registries have what it is made of.
    (registry.assume if opening.pushed() else registry.expect)(opening.references, kept)

    def push(image: Image) -> None:
        registry.push(
            image.node,
            opening.references,
            mount_from=[Reference.parse(origin)] if origin else [],
            threads=record.threads,
            progress=opening.progress,
        )

    return push


def _archive(opening: _Opening, path: str) -> Write:
    from hatch_docker.oci.archive import archive
    from hatch_docker.support.atomic import replacing
    from hatch_docker.support.progress import counted

    def write(image: Image) -> None:
        total = sum(each.descriptor.size for each in image.node.walk())
        task = opening.progress.task("archive", Path(path).name, total)
        with task as advance, replacing(Path(path)) as file:
            for chunk in counted(archive(image.node, opening.references), advance):
                file.write(chunk)

    return write


_OUTPUTS: Mapping[str, Callable[[_Opening, str], Write]] = {"archive": _archive, "load": _engine, "push": _registry}
