"""Record for its stamp what edits need of a build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hatch_docker.base.target import VENV
from hatch_docker.edits.image import restored
from hatch_docker.edits.record import EditRecord, ImageRecord, MessageRecord, OutputRecord, WheelRecord
from hatch_docker.image.bytecode.labels import code_label
from hatch_docker.image.bytecode.parts import code_options
from hatch_docker.image.bytecode.start import known_python
from hatch_docker.image.report import Built, BuiltImage
from hatch_docker.plan import ImagePlan, Plan
from hatch_docker.services import Services
from hatch_docker.support.dataclasses import replace

# In bytes: layers are read into memory, and written again for each edit.
_LARGEST = 64 << 20
_DAEMON = "docker-daemon"
# The outputs that `edits.outputs` makes.
_OUTPUTS = frozenset(("archive", "load", "push"))


def record_of(
    plan: Plan,
    built: Built,
    services: Services,
    files: Mapping[str, str],
    output: OutputRecord,
    message: MessageRecord,
) -> EditRecord | None:
    """What the stamp of a build records; None if any edit needs a whole build.

    `files` are those that an edit may change: members of the project's wheel, by absolute path.
    """
    if len(built.images) != 1 or services.caches or plan.config.base.spec.transport == _DAEMON:
        return None
    if not _OUTPUTS.issuperset(name for name, _ in output.outputs):
        return None
    if not _has_start(plan, built.images[0]):
        return None
    image = _image(plan, built.images[0], plan.images[0], services)
    wheel = _wheel(built.images[0], services, files)
    if image is None or wheel is None:
        return None
    base = built.images[0].base
    named = base.reference
    return EditRecord(
        wheel=wheel,
        image=image,
        output=replace(output, base=named.familiar if named else "", origin=str(named) if named else ""),
        message=message,
        threads=services.threads,
        most=services.cache.most,
    )


def _has_start(plan: Plan, built: BuiltImage) -> bool:
    """Whether the project says what the image starts: otherwise a note is made of what its modules look like."""
    runs_module = f"/{VENV}/bin/python" in (built.image.config.entrypoint or ())
    return plan.entrypoint is not None or plan.config.runtime.cmd is not None or runs_module


def _image(plan: Plan, built: BuiltImage, image: ImagePlan, services: Services) -> ImageRecord | None:
    layers, made = built.image.layers, built.layers
    own = next((each for each in reversed(made) if each.contents and _is_own(plan, built, each.contents)), None)
    if own is None:
        return None
    code = made[-1] if made[-1].contents == (code_label([plan.project.name]),) else None
    if made[-1] not in (own, code) or max(each.layer.unpacked for each in (own, code) if each) > _LARGEST:
        return None
    options = code_options(built.base, plan.config.runtime, image.request.target, plan.config.output.compression)
    python = known_python(built.base, services, optimization=options.optimization) if code else None
    if code and python is None:
        return None
    numbers = [each.descriptor.digest for each in layers]
    record = ImageRecord(
        config=built.image.config.to_json(tuple(each.diff_id for each in layers), built.image.history),
        manifest=built.image.manifest.to_json(),
        unpacked=[each.unpacked for each in layers],
        own=numbers.index(own.layer.descriptor.digest),
        code=numbers.index(code.layer.descriptor.digest) if code else -1,
        compression=plan.config.output.compression,
        python=python.to_json() if python else None,
    )
    same = restored(record, services.cache).manifest_bytes == built.image.manifest_bytes
    return record if same else None


def _is_own(plan: Plan, built: BuiltImage, contents: Sequence[str]) -> bool:
    return tuple(contents) == (f"{plan.project.name} {built.version}".rstrip(),)


def _wheel(built: BuiltImage, services: Services, files: Mapping[str, str]) -> WheelRecord | None:
    if built.wheel is None or not files:
        return None
    digest = f"sha256:{built.wheel.sha256}"
    if services.cache.blob(digest) is None:
        return None
    name, version, *_ = built.wheel.filename.split("-")
    return WheelRecord(
        digest=digest,
        record=f"{name}-{version}.dist-info/RECORD",
        site=built.base.facts.python.site_packages,
        files=files,
    )
