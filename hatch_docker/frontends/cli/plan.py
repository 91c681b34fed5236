"""`hatch-docker plan`: what a build would do, without downloading a wheel."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from hatch_docker.base.packages import cached_packages_layer
from hatch_docker.base.target import VENV
from hatch_docker.image.preview import LayerPreview, PlannedLayer
from hatch_docker.image.report import aligned, shortened
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import cached_file
from hatch_docker.oci.reference import Reference
from hatch_docker.plan import ImagePlan, Plan
from hatch_docker.services import Services
from hatch_docker.session import Session
from hatch_docker.support.http import redact
from hatch_docker.support.terminal import human

# Raise it if a reader of an earlier version would misread the document (docs/plan.md).
SCHEMA_VERSION = 1
UNKNOWN = "unknown"

DESCRIPTION = """\
Show what a build of the project's image would do: the base, its Python and C library, the OS packages, the Python
packages with their sources and the reasons to compile them, the layers and which of them are cached, and what the
image starts. Manifests, indexes and the base's layers are downloaded unless they are cached, wheels are not: what only
wheels can tell is "unknown" until they are cached.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--json", action="store_true", help="print a JSON document instead of text")
    parser.set_defaults(command=lambda chosen: partial(show_plan, chosen.json))


def show_plan(as_json: bool, session: Session) -> tuple[str, int]:
    """The plan of a build as text, or as JSON; and 0. Raises what planning raises."""
    session.check()
    document = describe(session.plan(), session.services)
    return json.dumps(document, indent=2) if as_json else "\n".join(_text(document)), 0


def describe(plan: Plan, services: Services) -> dict[str, Any]:
    """The JSON document of a plan (docs/plan.md); sizes in bytes."""
    return {
        "schema-version": SCHEMA_VERSION,
        "name": plan.project.normalized_name,
        "version": plan.project.version or UNKNOWN,
        "references": [str(reference) for reference in plan.references],
        "created": plan.created,
        "images": [_image(plan, image, services) for image in plan.images],
    }


def _image(plan: Plan, image: ImagePlan, services: Services) -> dict[str, Any]:
    return {
        "platform": str(image.platform),
        "base": _base(image),
        "os-packages": _os_packages(image),
        "lock": str(image.locked.path) if image.locked.path else None,
        "lock-resolved": image.locked.resolved,
        "distributions": [_distribution(each, image, services) for each in image.locked.artifacts],
        "layers": [_layer(each) for each in _layers(plan, image, services)],
        "start": _start(plan, image),
    }


def _base(image: ImagePlan) -> dict[str, Any]:
    base, target = image.base, image.request.target
    return {
        "name": base.name,
        "digest": base.digest,
        "python": target.version,
        "free-threaded": target.free_threaded,
        "libc": str(target.libc),
        "debian-suite": base.facts.suite or None,
        "layers": len(base.image.layers),
        "size": sum(layer.descriptor.size for layer in base.image.layers),
        "packages": [
            {"name": each.name, "version": each.version} for selection in base.selections for each in selection.packages
        ],
    }


def _os_packages(image: ImagePlan) -> dict[str, Any]:
    planned = image.packages
    selected = planned.selection.packages if planned.selection else ()
    return {
        "requested": list(planned.names),
        "installer": ("archive" if planned.selection else "engine") if planned.names else None,
        "packages": [{"name": each.name, "version": each.version, "size": each.size} for each in selected]
        if planned.selection or not planned.names
        else UNKNOWN,
    }


def _distribution(artifact: Artifact, image: ImagePlan, services: Services) -> dict[str, Any]:
    algorithm, value = next(iter(sorted(artifact.hashes.items())))
    return {
        "name": artifact.name,
        "version": artifact.version,
        "filename": artifact.filename,
        "url": redact(artifact.url),
        "hash": f"{algorithm}:{value}",
        "size": UNKNOWN if artifact.size is None else artifact.size,
        "cached": cached_file(artifact, services.cache) is not None,
        "compile": None if artifact.is_wheel else {"reason": artifact.reason, "builder": image.builder},
    }


def _layers(plan: Plan, image: ImagePlan, services: Services) -> Iterator[PlannedLayer]:
    config, project = plan.config, plan.project
    output = config.output
    packages = 1 if image.packages.names else 0
    if packages:
        made = cached_packages_layer(image.base, image.packages, output.compression, services)
        size = made.layer.descriptor.size if made else None
        yield PlannedLayer(contents=image.packages.names, size=size, cached=made is not None)
    preview = LayerPreview(
        target=image.request.target,
        packages=config.packages,
        output=output,
        cache=services.cache,
        threads=services.threads,
    )
    yield from preview.wheels(image.locked.artifacts, output.max_layers - packages - 1 - bool(output.extra_files))
    if output.extra_files:
        yield PlannedLayer(contents=("extra files",), cached=False)
    yield PlannedLayer(contents=(f"{project.normalized_name} {project.version or UNKNOWN}",))


def _layer(layer: PlannedLayer) -> dict[str, Any]:
    return {
        "contents": list(layer.contents),
        "size": UNKNOWN if layer.size is None else layer.size,
        "cached": UNKNOWN if layer.cached is None else layer.cached,
    }


def _start(plan: Plan, image: ImagePlan) -> dict[str, Any]:
    runtime, base = plan.config.runtime, image.base.image.config
    entrypoint, cmd = _command(plan.entrypoint), _command(runtime.cmd)
    if entrypoint is None and cmd is None:
        # Only the project's wheel says whether it has a `__main__`; else the base's command stays.
        return {"entrypoint": UNKNOWN, "cmd": UNKNOWN, "user": runtime.user, "working-dir": runtime.working_dir}
    kept = list(base.entrypoint) if base.entrypoint is not None else None
    return {
        "entrypoint": entrypoint if entrypoint is not None else kept,
        "cmd": cmd,
        "user": runtime.user,
        "working-dir": runtime.working_dir,
    }


def _command(configured: tuple[str, ...] | str | None) -> list[str] | None:
    if isinstance(configured, str):
        return [f"/{VENV}/bin/{configured}"]
    return None if configured is None else list(configured)


def _text(document: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a plan for a terminal."""
    for image in document["images"]:
        yield f"{document['name']} {document['version']} for {image['platform']}"
        yield ""
        yield from aligned(list(_facts(document, image)))
        yield ""
        if image["distributions"]:
            rows = [("distribution", "size", "source", "", ""), *map(_distribution_row, image["distributions"])]
            yield from aligned(rows, right=(1,))
            yield ""
        yield from aligned([("layer", "size", ""), *map(_layer_row, image["layers"])], right=(1,))


def _facts(document: Mapping[str, Any], image: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    base, packages = image["base"], image["os-packages"]
    python = f"Python {base['python']}{' free-threaded' if base['free-threaded'] else ''}"
    yield "base", f"{base['name']} ({human(base['size'])}), {python}, {base['libc']}"
    yield "", base["digest"]
    if base["packages"]:
        yield "", f"{len(base['packages'])} packages from Debian's archive"
    if packages["requested"]:
        yield "OS packages", _packages(packages)
    if image["lock"]:
        yield "lock", f"{image['lock']}{', a resolution of the requirements' if image['lock-resolved'] else ''}"
    names = [Reference.parse(text).familiar for text in document["references"]]
    yield "names", " · ".join(names) or UNKNOWN
    yield "starts", _started(image["start"])


def _packages(packages: Mapping[str, Any]) -> str:
    chosen = packages["packages"]
    if chosen == UNKNOWN:
        return f"{' · '.join(packages['requested'])}, installed by an engine: versions unknown"
    return shortened([f"{each['name']} {each['version']}" for each in chosen]) if chosen else "in the base already"


def _started(start: Mapping[str, Any]) -> str:
    words = [] if start["entrypoint"] in (None, UNKNOWN) else [*start["entrypoint"]]
    words += [] if start["cmd"] in (None, UNKNOWN) else [*start["cmd"]]
    return f"{' '.join(words) or UNKNOWN}, as {start['user']}, in {start['working-dir']}"


def _distribution_row(each: Mapping[str, Any]) -> tuple[str, ...]:
    kind = "wheel" if each["compile"] is None else "sdist"
    host = urlsplit(each["url"]).hostname or "a local file"
    why = f"compiled in {each['compile']['builder']}: {each['compile']['reason']}" if each["compile"] else ""
    state = "cached" if each["cached"] else ""
    return f"{each['name']} {each['version']}", _size(each["size"]), f"{kind} from {host}", state, why


def _layer_row(each: Mapping[str, Any]) -> tuple[str, ...]:
    state = {True: "cached", False: "to be made"}.get(each["cached"], UNKNOWN)
    return shortened(each["contents"]), _size(each["size"]), state


def _size(size: int | str) -> str:
    return size if isinstance(size, str) else human(size)
