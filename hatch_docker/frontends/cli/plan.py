"""`hatch-docker plan`: what a build would do, without downloading a wheel."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from hatch_docker.base.additions import add_to_base, preview_layers
from hatch_docker.base.image import Base
from hatch_docker.base.target import VENV
from hatch_docker.build import build_resolver
from hatch_docker.compiling.builder import builder_name
from hatch_docker.compiling.compile import cached_wheel
from hatch_docker.compiling.context import open_context
from hatch_docker.compiling.trees import is_package, tree_place
from hatch_docker.image.bytecode.labels import code_label
from hatch_docker.image.bytecode.parts import code_options, joint_code
from hatch_docker.image.preview import LayerPreview, PlannedLayer
from hatch_docker.image.pruning import pruned_files, pruning_of
from hatch_docker.image.runtime import with_init
from hatch_docker.image.table import aligned, shortened
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile
from hatch_docker.oci.reference import Reference
from hatch_docker.plan import ImagePlan, Plan
from hatch_docker.project.model import Project
from hatch_docker.services import Services
from hatch_docker.session import Session
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.package_names import requested_first
from hatch_docker.support.redaction import redact
from hatch_docker.support.terminal import human

# Raise it if a reader of an earlier version would misread the document (docs/plan.md).
SCHEMA_VERSION = 1
UNKNOWN = "unknown"


def command(chosen: argparse.Namespace) -> Callable[[Session], tuple[str, int]]:
    """The command that a command line asks for."""
    return partial(show_plan, chosen.json, chosen.pruned)


def show_plan(as_json: bool, pruned: bool, session: Session) -> tuple[str, int]:
    """The plan of a build as text, or as JSON, with all files that are `pruned`; and 0. Raises what planning raises."""
    session.check()
    document = describe(session.plan(), session.services, pruned=pruned)
    return json.dumps(document, indent=2) if as_json else "\n".join(_text(document)), 0


def describe(plan: Plan, services: Services, *, pruned: bool = False) -> dict[str, Any]:
    """The JSON document of a plan (docs/plan.md), with the files that are `pruned`; sizes in bytes."""
    return {
        "schema-version": SCHEMA_VERSION,
        "name": plan.project.normalized_name,
        "version": _version(plan.project),
        "references": [str(reference) for reference in plan.references],
        "created": plan.created,
        "images": [_image(plan, image, services, pruned=pruned) for image in plan.images],
    }


def _image(plan: Plan, image: ImagePlan, services: Services, *, pruned: bool) -> dict[str, Any]:
    base = _known_base(plan, image, services)
    options = code_options(
        base or image.base, plan.config.runtime, image.request.target, plan.config.output.compression
    )
    preview = LayerPreview(
        # The standard library is that of the base with its additions.
        code=options if base else replace(options, library=""),
        packages=plan.config.packages,
        pruning=pruning_of(
            plan.config.packages, plan.config.runtime, plan.config.output.extra_files, plan.project.root, None
        ),
        built=_built_wheels(plan, image, base, services),
        cache=services.cache,
        threads=services.threads,
    )
    artifacts = [each for each in image.locked.artifacts if is_package(each)]
    files = preview.files(artifacts)
    wheels = preview.wheels(artifacts, files) if pruned else {}
    return {
        "platform": str(image.platform),
        "base": _base(image),
        "os-packages": _os_packages(image),
        "pruned": list(image.additions.pruned),
        "init": _init(image),
        "ca-certificates": _certificates(image),
        "lock": str(image.locked.path) if image.locked.path else None,
        "lock-resolved": image.locked.resolved,
        "distributions": [
            _distribution(each, plan, image, cached=each.name in files)
            | ({"pruned": pruned_files(wheels[each.name]) if each.name in wheels else UNKNOWN} if pruned else {})
            for each in artifacts
        ],
        "layers": [_layer(each) for each in _layers(plan, image, preview, files, services)],
        "start": _start(plan, image),
    }


def _known_base(plan: Plan, image: ImagePlan, services: Services) -> Base | None:
    """The base with its additions; None if one of their layers is not cached."""
    spec, compression = plan.config.base.spec, plan.config.output.compression
    if any(made is None for _, made in preview_layers(image.base, image.additions, compression, services)):
        return None
    return add_to_base(image.base, image.additions, spec=spec, compression=compression, services=services)[0]


def _built_wheels(
    plan: Plan, image: ImagePlan, base: Base | None, services: Services
) -> Callable[[Artifact, FetchedFile | None], FetchedFile | None]:
    """A function that finds the cached wheel of a source tree, or of an sdist, given its file.

    It finds none before the image's OS packages are cached, since wheels do not bundle the libraries that these have.
    """
    config = plan.config
    if base is None or all(each.is_wheel for each in image.locked.artifacts):
        return lambda _artifact, _file: None
    resolver = build_resolver(plan, image, services)
    context = open_context(image.base, base, config.base.spec, config.compiling, resolver, services)
    return lambda artifact, file: cached_wheel(artifact, file, context)


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


def _init(image: ImagePlan) -> dict[str, Any] | None:
    """The package of the init process; None if the image gets none, or its base has it."""
    init = image.additions.system.init
    return {"name": init.package.name, "version": init.package.version, "size": init.package.size} if init else None


def _certificates(image: ImagePlan) -> int:
    """The number of certificates that are added to those that the image trusts."""
    certificates = image.additions.system.certificates
    return len(certificates.texts) if certificates else 0


def _distribution(artifact: Artifact, plan: Plan, image: ImagePlan, *, cached: bool) -> dict[str, Any]:
    tree = artifact.tree
    builder = builder_name(image.base, plan.config.base.spec, plan.config.compiling)
    hashes = [f"{algorithm}:{value}" for algorithm, value in sorted(artifact.hashes.items())]
    return {
        "name": artifact.name,
        "version": artifact.version or UNKNOWN,
        "filename": artifact.filename or UNKNOWN,
        "url": tree_place(tree, image.request.root) if tree else redact(artifact.url),
        "commit": tree.commit or None if tree else None,
        "hash": hashes[0] if hashes else None,
        "size": UNKNOWN if artifact.size is None else artifact.size,
        "cached": cached,
        "compile": None if artifact.is_wheel else {"reason": artifact.reason, "builder": builder},
    }


def _layers(
    plan: Plan, image: ImagePlan, preview: LayerPreview, files: Mapping[str, FetchedFile], services: Services
) -> Iterator[PlannedLayer]:
    """The layers of an image above its base, the lowest first."""
    project, output = plan.project, plan.config.output
    for contents, made in preview_layers(image.base, image.additions, output.compression, services):
        yield PlannedLayer(
            contents=contents, size=made.layer.descriptor.size if made else None, cached=made is not None
        )
    artifacts = [each for each in image.locked.artifacts if is_package(each)]
    wheels, below = preview.layers(artifacts, files, image.budget)
    has_code, joint = plan.config.packages.bytecode is not False, image.budget.joint
    if has_code and not joint:
        yield preview.library()
    yield from wheels
    if output.extra_files:
        yield PlannedLayer(contents=("extra files",), cached=False)
    yield from below
    yield PlannedLayer(contents=(f"{project.normalized_name} {_version(project)}".rstrip(),))
    if has_code:
        yield PlannedLayer(contents=joint_code().contents if joint else (code_label([project.normalized_name]),))


def _version(project: Project) -> str:
    """The project's version; empty if it has none."""
    return project.version or (UNKNOWN if project.has_version else "")


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
    kept = base.entrypoint if entrypoint is None else tuple(entrypoint)
    started = replace(base, entrypoint=kept, cmd=None if cmd is None else tuple(cmd))
    started = with_init(started) if runtime.init else started
    return {
        "entrypoint": None if started.entrypoint is None else list(started.entrypoint),
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
    for number, image in enumerate(document["images"]):
        if number:
            yield ""
        yield f"{' '.join(filter(None, (document['name'], document['version'])))} for {image['platform']}"
        yield ""
        yield from aligned(list(_facts(document, image)))
        yield ""
        if image["distributions"]:
            rows = [("distribution", "size", "source", "state", ""), *map(_distribution_row, image["distributions"])]
            yield from aligned(rows, right=(1,))
            yield ""
        yield from aligned([("layer", "size", "state"), *map(_layer_row, image["layers"])], right=(1,))
        yield from _pruned_lines(image["distributions"])


def _pruned_lines(distributions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The files that are pruned, if they are in the plan, below their distribution."""
    for each in distributions:
        pruned = each.get("pruned")
        if not pruned:
            continue
        label = f"{each['name']} {each['version']}"
        yield ""
        if pruned == UNKNOWN:
            yield f"  pruned of {label}: unknown until its wheel is cached"
            continue
        yield f"  pruned of {label}: {human(sum(file['size'] for file in pruned))}"
        yield from aligned([(file["path"], human(file["size"]), file["rule"]) for file in pruned], right=(1,))


def _facts(document: Mapping[str, Any], image: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    base, packages = image["base"], image["os-packages"]
    python = f"Python {base['python']}{' free-threaded' if base['free-threaded'] else ''}"
    yield "base", f"{base['name']} ({human(base['size'])}), {python}, {base['libc']}"
    yield "", base["digest"]
    if base["packages"]:
        yield "", f"{len(base['packages'])} packages from Debian's archive"
    if packages["requested"]:
        yield "OS packages", _packages(packages)
    if image["pruned"]:
        yield "without", f"the base's {', '.join(image['pruned'])}"
    if init := image["init"]:
        yield "init", f"{init['name']} {init['version']}"
    if count := image["ca-certificates"]:
        yield "trusts", f"{count} more certificate{'s' if count != 1 else ''}"
    if image["lock"]:
        yield "lock", f"{image['lock']}{', a resolution of the requirements' if image['lock-resolved'] else ''}"
    names = [Reference.parse(text).familiar for text in document["references"]]
    yield "names", " · ".join(names) or UNKNOWN
    yield "starts", _started(image["start"])


def _packages(packages: Mapping[str, Any]) -> str:
    chosen = packages["packages"]
    if chosen == UNKNOWN:
        return f"{' · '.join(packages['requested'])}, installed by an engine: versions unknown"
    if not chosen:
        return f"{' · '.join(packages['requested'])}: in the base already"
    names = requested_first([f"{each['name']} {each['version']}" for each in chosen], packages["requested"])
    return f"{shortened(names)} ({human(sum(each['size'] for each in chosen))} to download)"


def _started(start: Mapping[str, Any]) -> str:
    if UNKNOWN in (start["entrypoint"], start["cmd"]):
        command = "the `__main__` of the project, or the base's command"
    else:
        command = " ".join([*(start["entrypoint"] or []), *(start["cmd"] or [])])
    return f"{command}, as {start['user']}, in {start['working-dir']}"


def _distribution_row(each: Mapping[str, Any]) -> tuple[str, ...]:
    state = "cached" if each["cached"] else ""
    why = each["compile"]
    built = f"{why['reason']}: built in {why['builder']}, or here if it is pure" if why else ""
    return f"{each['name']} {each['version']}", _size(each["size"]), _origin(each), state, built


def _origin(each: Mapping[str, Any]) -> str:
    """Where a package comes from: a file of an index, a commit, or a directory relative to the project."""
    host = urlsplit(each["url"]).hostname or "a local file"
    if each["commit"]:
        return f"{each['commit'][:12]} of {each['url']}"
    if each["hash"] is None:
        return each["url"] or "."
    return f"{'wheel' if each['compile'] is None else 'sdist'} from {host}"


def _layer_row(each: Mapping[str, Any]) -> tuple[str, ...]:
    state = {True: "cached", False: "to be made"}.get(each["cached"], UNKNOWN)
    return shortened(each["contents"]), _size(each["size"]), state


def _size(size: int | str) -> str:
    return size if isinstance(size, str) else human(size)
