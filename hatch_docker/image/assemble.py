"""Assemble an image: the parts of its layers, and the layers with the image's config and annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from hatch_docker.base.image import Base
from hatch_docker.base.target import VENV, TargetPython
from hatch_docker.config import Runtime, gather
from hatch_docker.image.accounts import Account, folders
from hatch_docker.image.runtime import command, configure, describe, with_init
from hatch_docker.oci.config import History, ImageConfig
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.image import Image, append
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.project.model import Project
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.wheels.install import venv_skeleton
from hatch_docker.wheels.prepare import PreparedWheel, main_of, scripts_of


def skeleton(python: TargetPython, files: Filesystem, runtime: Runtime, account: Account) -> list[Entry]:
    """The entries that make a venv of the wheels, and what the image needs for its user: accounts and directories."""
    made = (*account.entries, *folders(files, runtime.working_dir, runtime.volumes, account))
    return [*venv_skeleton(python, VENV), *{entry.path: entry for entry in made}.values()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What an image starts: `entrypoint` and `cmd` as exec forms, None to keep the base's."""

    entrypoint: list[str] | None
    cmd: list[str] | None


def start_of(
    entrypoint: tuple[str, ...] | str | None,
    runtime: Runtime,
    wheels: Sequence[PreparedWheel],
    own: PreparedWheel | None,
    *,
    place: Callable[[str], str],
) -> Start:
    """Resolve the names of scripts to their paths; without an entrypoint, the project's `__main__` is started.

    `wheels` are those of the image, `own` is the project's among them; `place` gives the place of a key in messages.
    Raises ConfigError for a script that no wheel installs.
    """
    if entrypoint is None and runtime.cmd is None and own and (module := main_of(own)):
        entrypoint = (f"/{VENV}/bin/python", "-m", module)
    scripts = scripts_of(wheels)
    found = gather(
        partial(command, each, scripts, place(key)) for key, each in (("entrypoint", entrypoint), ("cmd", runtime.cmd))
    )
    return Start(entrypoint=found[0], cmd=found[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """The config of an image, and the annotations that come from the project's metadata."""

    config: ImageConfig
    annotations: Mapping[str, str]


def config_of(base: Base, project: Project, runtime: Runtime, start: Start, *, created: str) -> Described:
    """The config of an image on a base, known before its layers are."""
    reference = base.reference
    described = describe(
        project,
        created=created,
        base_name=str(replace(reference, digest="")) if reference else "",
        base_digest=base.digest,
    )
    config = configure(
        base.image.config,
        runtime,
        created=created,
        entrypoint=start.entrypoint,
        cmd=start.cmd,
        labels=described,
    )
    return Described(config=with_init(config) if runtime.init else config, annotations=described)


def assemble(base: Base, layers: Sequence[MadeLayer], runtime: Runtime, described: Described, *, created: str) -> Image:
    """The layers on the base, with the image's config and annotations."""
    history = tuple(History.of_layer(", ".join(made.contents), created=created) for made in layers)
    image = append(base.image, tuple(made.layer for made in layers), history, described.config)
    return replace(image, annotations={**described.annotations, **runtime.annotations, **runtime.manifest_annotations})
