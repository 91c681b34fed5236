"""The main path: a project in, an image out.

project ─▶ config ─▶ base image ─▶ target Python ─▶ lock ─▶ artifacts ─▶ wheels ─▶ layers ─▶ image

What is no wheel yet is compiled on the way from artifacts to wheels, in a builder container.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from hatch_docker.base.image import Base
from hatch_docker.base.interpreter import BaseFacts
from hatch_docker.compiling.compile import compile_all
from hatch_docker.config import Config, default_script, expand_tags, gather
from hatch_docker.image.checks import check_wheels
from hatch_docker.image.extra_files import directories_of, extra_entries, folders
from hatch_docker.image.layers import Part, files_part, group, make_layers, own_part
from hatch_docker.image.linkage import check_linkage
from hatch_docker.image.report import Built
from hatch_docker.image.runtime import command, configure, describe
from hatch_docker.index.download import own_file
from hatch_docker.locks import find_lock
from hatch_docker.oci.config import History
from hatch_docker.oci.image import Image, append
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.plan import VENV, base_of, locked_of, wanted_of, with_packages, workshop_of
from hatch_docker.project.model import Project
from hatch_docker.services import Machine
from hatch_docker.wheels.install import venv_skeleton
from hatch_docker.wheels.prepare import PreparedWheel, main_of, prepare_wheels, scripts_of


def build(project: Project, own: Path, config: Config, machine: Machine, *, created: str, written: Path) -> Built:
    """Make the image of `project`, whose own wheel is at `own`; or its sdist, where that must be compiled.

    `created` is RFC 3339; `written` is where the lock goes that is resolved when the project has none. Raises
    HatchDockerError for whatever keeps the image from being made.
    """
    lock = find_lock(project.root, config.lock, progress=machine.progress)
    bare = base_of(project.requires_python, config, machine)
    base, system = with_packages(bare, config, machine)
    wanted = wanted_of(project, config, base.facts.python)
    indexes = machine.indexes(lock)
    locked = locked_of(wanted, project, config, machine, indexes, lock, written)
    files = [*indexes.obtain(locked.artifacts), own_file(own, project.normalized_name, project.version)]
    wheels, compiled = compile_all(files, workshop_of(project, config, machine, indexes, bare, base))
    units, own_unit = prepare_wheels(
        wheels, machine.places.cache, prune=config.prune, keep=config.keep, threads=machine.threads
    )
    check_wheels(units, own_unit, locked, wanted, machine.progress)
    check_linkage(units, own_unit, base.facts, compiled={each.name for each in compiled}, progress=machine.progress)
    layers = system + make_layers(
        _parts(units, own_unit, project, config, base.facts, len(system)),
        target=wanted.target,
        venv=VENV,
        compression=config.compression,
        cache=machine.places.cache,
        threads=machine.threads,
        progress=machine.progress,
    )
    started = _started(project, config, own_unit)
    if started is None and config.cmd is None:
        machine.progress.note(
            f"the project has nothing to start, the image starts what its base does ({config.place('entrypoint')})"
        )
    image = _image(base, layers, project, config, created, started, scripts_of([*units, own_unit]))
    return Built(
        name=project.normalized_name,
        version=project.version,
        image=image,
        references=tuple(config.image.with_tag(tag) for tag in tags_of(project, config)),
        base=base.name,
        base_digest=base.digest,
        base_reference=base.reference,
        layers=tuple(layers),
        lock=locked.path.name if locked.path else "",
        compiled=tuple(compiled),
        selections=base.selections,
    )


def _parts(
    units: Sequence[PreparedWheel], own: PreparedWheel, project: Project, config: Config, base: BaseFacts, below: int
) -> list[Part]:
    """What each layer is made of, lowest first: wheels, other files, the project with the venv's skeleton."""
    skeleton = [
        *venv_skeleton(base.python, VENV),
        *folders(config.working_dir, config.volumes, config.user, base.links, base.directories),
    ]
    directories = base.directories | directories_of(skeleton)
    extra = extra_entries(config.extra_files, project.root, base.links, directories, config.place("extra-files"))
    return [
        *group(units, config.max_layers - 1 - below - bool(extra)),
        *files_part(extra, base.directories),
        own_part(own, skeleton, base.directories),
    ]


def tags_of(project: Project, config: Config) -> tuple[str, ...]:
    """The image's tags; raises ConfigError where a template has no value, or too long a one."""
    return expand_tags(
        config.tags,
        version=project.version,
        name=project.normalized_name,
        git_sha=project.revision[:12],
        place=config.place("tags"),
    )


def _started(project: Project, config: Config, own: PreparedWheel) -> tuple[str, ...] | str | None:
    """What the image starts: what it is told to, else the project's script or `__main__`, else what the base does."""
    if config.entrypoint is not None:
        return config.entrypoint
    if script := default_script(project.scripts, project=project.name):
        return script
    module = main_of(own) if config.cmd is None else ""
    return (f"/{VENV}/bin/python", "-m", module) if module else None


def _image(
    base: Base,
    layers: list[MadeLayer],
    project: Project,
    config: Config,
    created: str,
    started: tuple[str, ...] | str | None,
    scripts: list[str],
) -> Image:
    """The layers on the base, under the config and annotations that say how and what the image is."""
    reference = base.reference
    facts = describe(
        project,
        created=created,
        base_name=str(replace(reference, digest="")) if reference else "",
        base_digest=base.digest,
    )
    entrypoint, cmd = gather(
        partial(command, each, scripts, VENV, config.place(key))
        for key, each in (("entrypoint", started), ("cmd", config.cmd))
    )
    image_config = configure(
        base.image.config,
        venv=VENV,
        created=created,
        entrypoint=entrypoint,
        cmd=cmd,
        env=config.env,
        ports=config.ports,
        volumes=config.volumes,
        user=config.user,
        working_dir=config.working_dir,
        labels={**facts, **config.labels},
        stop_signal=config.stop_signal,
        healthcheck=config.healthcheck,
    )
    history = tuple(
        History(created=created, created_by=f"hatch-docker: {', '.join(made.contents)}"[:200]) for made in layers
    )
    image = append(base.image, tuple(made.layer for made in layers), history, image_config)
    return replace(image, annotations={**facts, **config.annotations})
