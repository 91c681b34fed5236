"""Where an image goes. The keys of OUTPUTS are the versions of Hatch's target: `-t docker:archive,push`.

Another place is one function and one row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.dpkg.lockfile import write_pins
from hatch_docker.engine import Engine
from hatch_docker.image.report import Built, document
from hatch_docker.oci.archive import archive
from hatch_docker.oci.registry.client import Registry
from hatch_docker.support.atomic import replacing
from hatch_docker.support.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """What outputs write to. `engine` connects when it is called; `directory` is Hatch's, usually `dist/`."""

    directory: Path
    engine: Callable[[], Engine]
    registry: Registry
    threads: int
    progress: Progress


def to_archive(built: Built, to: Destination) -> str:
    """One tar for `docker load`, `podman load` and skopeo's `oci-archive:`; returns its name."""
    path = to.directory / f"{stem(built)}.docker.tar"
    total = sum(layer.descriptor.size for layer in built.image.layers)
    with (
        to.progress.task("archive", path.name, total) as advance,
        replacing(path) as partial,
        partial.open("wb") as file,
    ):
        for chunk in archive(built.image, built.references):
            file.write(chunk)
            advance(len(chunk))
    return path.name


def to_engine(built: Built, to: Destination) -> str:
    """The engine's store, under every tag; returns the first."""
    # A base out of a file has no name that an engine could know it by.
    base = built.base_reference.familiar if built.base_reference else built.base.partition("docker-daemon:")[2]
    to.engine().load(built.image, built.references, base=base, progress=to.progress)
    return built.references[0].familiar


def to_registry(built: Built, to: Destination) -> str:
    """The registry that `image` names, under every tag; returns the name by digest."""
    to.registry.push(
        built.image, built.references, mount_from=built.base_reference, threads=to.threads, progress=to.progress
    )
    return built.digest_reference


OUTPUTS: Mapping[str, Callable[[Built, Destination], str]] = {
    "archive": to_archive,
    "load": to_engine,
    "push": to_registry,
}


def write_result(built: Built, outputs: Mapping[str, str], directory: Path) -> Path:
    """Write `<name>-<version>.docker.json`, which says what was built and where it went; returns its path."""
    path = directory / f"{stem(built)}.docker.json"
    with replacing(path) as partial:
        partial.write_text(json.dumps(document(built, outputs), indent=2) + "\n", encoding="utf-8")
    return path


def write_constraints(built: Built, directory: Path) -> None:
    """Write what wheels were built with, for `build-constraints`; no file where nothing was built.

    The format is pip's constraints file. What two of them need in two versions cannot be in it.
    """
    lines = {line for wheel in built.compiled for line in wheel.requirements}
    versions: dict[str, set[str]] = {}
    for line in lines:
        versions.setdefault(line.partition("==")[0], set()).add(line)
    kept = sorted(line for each in versions.values() if len(each) == 1 for line in each)
    path = constraints_path(built.name, directory)
    if kept:
        with replacing(path) as partial:
            partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    else:
        path.unlink(missing_ok=True)


def write_selections(built: Built, directory: Path) -> None:
    """Write which packages of Debian's archive are in the image, for `debian.lock`; no file where there are none."""
    path = selections_path(built.name, directory)
    if built.selections:
        write_pins(path, built.selections)
    else:
        path.unlink(missing_ok=True)


def selections_path(name: str, directory: Path) -> Path:
    """Where a build says which packages of Debian's archive it took."""
    return directory / f"debian.{name}.lock"


def constraints_path(name: str, directory: Path) -> Path:
    """Where a build says what it compiled with."""
    return directory / f"build-constraints.{name}.txt"


def lock_path(name: str, directory: Path) -> Path:
    """Where the lock that a build resolves is written, and found again by the next."""
    return directory / f"pylock.{name}.toml"


def stem(built: Built) -> str:
    """The beginning of the result's file names, escaped as a wheel's is (PyPA: binary distribution format)."""
    return f"{built.name.replace('-', '_')}-{built.version}"
