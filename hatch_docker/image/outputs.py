"""The outputs of a build. The keys of OUTPUTS are the versions of Hatch's target: `-t docker:archive,push`.

Another output is one function and one row.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from hatch_docker.errors import EngineError
from hatch_docker.image.files import opened, shown_path
from hatch_docker.image.report import Built, BuiltImage, document, how_to_run
from hatch_docker.oci.archive import archive, write_layout
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.source import fetch
from hatch_docker.oci.spec import Platform
from hatch_docker.support.atomic import is_writable, replace_text
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.progress import Progress, counted

if TYPE_CHECKING:
    from hatch_docker.engine.client import Engine
    from hatch_docker.oci.registry.client import Registry

# Including the unfinished files of a build that was killed.
_UNFINISHED = "hatch-docker-" + "[0-9a-f]" * 32
_LEFT_BEHIND = ("*.docker.tar", "*.docker.json", f".*.docker.tar.{_UNFINISHED}", f".*.docker.json.{_UNFINISHED}")
# What the result file records of an archive on standard output.
STREAM = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The clients that outputs write with. `engine` connects when it is called; `directory` is usually `dist/`.

    `path` is the file or folder to write, None for the default name in `directory`; an archive is written to `stream`
    instead, if that is given. `place` returns the repository of a registry cache that has a blob, by its digest.
    """

    directory: Path
    engine: Callable[[], Engine]
    registry: Registry
    threads: int
    progress: Progress
    path: Path | None = None
    stream: BinaryIO | None = None
    place: Callable[[str], Reference | None] = lambda _digest: None

    def named(self, name: str) -> Path:
        """The path to write: `name` in `directory` unless another one is given."""
        return self.path or self.directory / name

    def recorded(self, path: Path) -> str:
        """What the result file records of `path`: its name if it is beside that file."""
        return path.name if path.parent == self.directory else os.path.abspath(path)  # noqa: PTH100 (links are kept)


def to_archive(built: Built, to: Destination) -> list[str]:
    """Write one tar for `docker load`, `podman load` and skopeo's `oci-archive:`; returns its name."""
    _fetch(built, to)
    path = to.named(f"{stem(built)}.docker.tar")
    total = sum(node.descriptor.size for node in built.node.walk())
    name = "standard output" if to.stream else path.name
    with to.progress.task("archive", name, total) as advance, opened(path, to.stream) as file:
        for chunk in counted(archive(built.node, built.references), advance):
            file.write(chunk)
    return [STREAM] if to.stream else [to.recorded(path)]


def to_layout(built: Built, to: Destination) -> list[str]:
    """Write an image layout in a folder, for skopeo's `oci:` and others; returns its name."""
    _fetch(built, to)
    path = to.named(f"{stem(built)}.oci")
    total = sum(node.descriptor.size for node in built.node.walk())
    with to.progress.task("archive", path.name, total) as advance:
        write_layout(path, built.node, built.references, advance=advance)
    return [to.recorded(path)]


def _fetch(built: Built, to: Destination) -> None:
    """Get all layers at the same time, before anything is written: one of a registry cache may turn out to be wrong."""
    for each in built.images:
        fetch(each.image, threads=to.threads)


def to_engine(built: Built, to: Destination) -> list[str]:
    """Load the image for the engine's platform into the engine, under every tag; returns the first."""
    engine = to.engine()
    chosen = built.images[0] if len(built.images) == 1 else _loadable(built, engine.platform)
    if chosen.platform != engine.platform:
        to.progress.note(f"the image is for {chosen.platform}, and the engine for {engine.platform}")
    image, base = chosen.image, chosen.base
    # A base from a file has no name in an engine.
    name = base.reference.familiar if base.reference else base.name.partition("docker-daemon:")[2]
    engine.load(image, built.references, base=name, progress=to.progress)
    return [built.references[0].familiar]


def _loadable(built: Built, platform: Platform) -> BuiltImage:
    """The image for the engine's platform, which runs without an emulation."""
    check_loadable([image.platform for image in built.images], platform)
    return next(image for image in built.images if image.platform == platform)


def check_loadable(platforms: Collection[Platform], engine: Platform) -> None:
    """Raise EngineError if none of several platforms is that of the engine."""
    if len(platforms) > 1 and engine not in platforms:
        names = ", ".join(map(str, platforms))
        raise EngineError(
            f"the image is for {names}, and the engine for {engine}",
            hint=f"add {engine} to the platforms, or write the image to a file or a registry",
        )


def to_registry(built: Built, to: Destination) -> list[str]:
    """Push the image to the registries that its names have; returns the names by digest."""
    bases = [each.base.reference for each in built.images if each.base.reference]
    to.registry.push(
        built.node, built.references, mount_from=bases, place=to.place, threads=to.threads, progress=to.progress
    )
    return built.digest_references


def to_index(built: Built, to: Destination) -> list[str]:
    """Push the image and join it with those of other machines; returns the name by digest of each index."""
    bases = [each.base.reference for each in built.images if each.base.reference]
    digests = to.registry.update_index(
        built.node, built.references, mount_from=bases, place=to.place, threads=to.threads, progress=to.progress
    )
    pairs = zip(built.references, digests, strict=True)
    return [str(reference.with_digest(digest)) for reference, digest in pairs]


def _engine_answers(environ: Mapping[str, str]) -> bool:
    from hatch_docker.engine.client import answers

    return answers(environ)


def _check_joint(references: Sequence[Reference]) -> None:
    from hatch_docker.oci.registry.joining import check_joint

    check_joint(references)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """An output. `write` returns what the result file records of it: the file's name if the output `is_file`.

    `is_default` says, given the environment, whether a plain build makes it. An output with `needs_engine` connects to
    the engine before the build, so that it fails early; for one with `needs_registry` the image's name must have a
    registry. One that `joins` the image with those of other machines needs the lock's hash in its annotations.
    `check_names` raises InvalidReferenceError for names that it cannot write to.
    """

    write: Callable[[Built, Destination], list[str]]
    is_default: Callable[[Mapping[str, str]], bool] = lambda _environ: False
    is_file: bool = False
    needs_engine: bool = False
    needs_registry: bool = False
    joins: bool = False
    check_names: Callable[[Sequence[Reference]], None] = lambda _references: None


OUTPUTS: Mapping[str, Output] = {
    "archive": Output(write=to_archive, is_default=lambda _environ: True, is_file=True),
    "oci": Output(write=to_layout, is_file=True),
    "load": Output(write=to_engine, is_default=_engine_answers, needs_engine=True),
    "push": Output(write=to_registry, needs_registry=True),
    "update-index": Output(write=to_index, needs_registry=True, joins=True, check_names=_check_joint),
}


def how_to_start(built: Built, outputs: Mapping[str, Sequence[str]], directory: Path) -> str:
    """The command that starts the image where `outputs` put it; empty if only other tools can read it there."""
    if not outputs.keys().isdisjoint({"load", "push", "update-index"}):
        return how_to_run(built)
    # Build frontends run hooks in temporary directories.
    files = [shown_path(directory / name) for name in outputs.get("archive", ()) if name != STREAM]
    return f"docker load -i {shlex.quote(files[0])} && {how_to_run(built)}" if files else ""


def write_records(built: Built, outputs: Mapping[str, Sequence[str]], directory: Path) -> Path | None:
    """Write the files that describe a build: its result, packages and build requirements; returns the result file.

    None if they cannot be written: a checkout may be read-only if the image goes elsewhere.
    """
    if not is_writable(directory):
        return None
    write_constraints(built, directory)
    write_selections(built, directory)
    return write_result(built, outputs, directory)


def record_paths(built: Built, directory: Path) -> list[Path]:
    """The files that `write_records` writes, without the result file; they need not exist."""
    return [constraints_path(built.name, directory), selections_path(built.name, directory)]


def result_path(built: Built, directory: Path) -> Path:
    """The result file, `<name>-<version>.docker.json`."""
    return directory / f"{stem(built)}.docker.json"


def write_result(built: Built, outputs: Mapping[str, Sequence[str]], directory: Path) -> Path:
    """Write the result file; returns its path."""
    path = result_path(built, directory)
    replace_text(path, result_text(built, outputs))
    return path


def result_text(built: Built, outputs: Mapping[str, Sequence[str]]) -> str:
    """The text of a result file."""
    return json.dumps(document(built, outputs), indent=2) + "\n"


def write_constraints(built: Built, directory: Path) -> None:
    """Write the build requirements of compiled wheels, for `build-constraints`; no file if nothing was compiled.

    The format is pip's constraints file, which cannot hold two versions of a package: these are left out.
    """
    lines = {line for image in built.images for wheel in image.compiled for line in wheel.requirements}
    versions: dict[str, set[str]] = {}
    for line in lines:
        versions.setdefault(line.partition("==")[0], set()).add(line)
    kept = sorted(line for each in versions.values() if len(each) == 1 for line in each)
    path = constraints_path(built.name, directory)
    if kept:
        replace_text(path, "".join(f"{line}\n" for line in kept))
    else:
        path.unlink(missing_ok=True)


def write_selections(built: Built, directory: Path) -> None:
    """Write the image's packages from Debian's archive, for `debian.lock`; no file if there are none."""
    path = selections_path(built.name, directory)
    if selections := [selection for image in built.images for selection in image.base.selections]:
        from hatch_docker.dpkg.lockfile import write_pins

        write_pins(path, selections)
    else:
        path.unlink(missing_ok=True)


def selections_path(name: str, directory: Path) -> Path:
    """The file with the image's packages from Debian's archive."""
    return directory / f"debian.{name}.lock"


def constraints_path(name: str, directory: Path) -> Path:
    """The file with the build requirements of compiled wheels."""
    return directory / f"build-constraints.{name}.txt"


def stem(built: Built) -> str:
    """The beginning of the result's file names, escaped as a wheel's is (PyPA: binary distribution format)."""
    return "-".join(filter(None, (built.name.replace("-", "_"), built.version)))


def remove_outputs(name: str, directory: Path) -> None:
    """Remove what builds of the project `name` (normalized) left in `directory`."""
    for pattern in _LEFT_BEHIND:
        for path in directory.glob(pattern):
            path.unlink()
    for path in directory.glob(f"{name.replace('-', '_')}-*.oci"):
        if (path / "oci-layout").is_file():
            shutil.rmtree(path)
    for path in (constraints_path(name, directory), selections_path(name, directory)):
        path.unlink(missing_ok=True)
