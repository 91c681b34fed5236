"""The outputs of a build. The keys of OUTPUTS are the versions of Hatch's target: `-t docker:archive,push`.

Another output is one function and one row.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hatch_docker.config import fail
from hatch_docker.dpkg.lockfile import write_pins
from hatch_docker.engine import Engine, answers
from hatch_docker.image.report import Built, document
from hatch_docker.oci.archive import archive, write_layout
from hatch_docker.oci.registry.client import Registry
from hatch_docker.support.atomic import replace_text, replacing, writing
from hatch_docker.support.progress import Progress, counted

# What the result file records of an archive on standard output.
STREAM = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The clients that outputs write with. `engine` connects when it is called; `directory` is usually `dist/`.

    `path` is the file or folder to write, None for the default name in `directory`; an archive is written to `stream`
    instead, if that is given.
    """

    directory: Path
    engine: Callable[[], Engine]
    registry: Registry
    threads: int
    progress: Progress
    path: Path | None = None
    stream: BinaryIO | None = None

    def named(self, name: str) -> Path:
        """The path to write: `name` in `directory` unless another one is given."""
        return self.path or self.directory / name

    def recorded(self, path: Path) -> str:
        """What the result file records of `path`: its name if it is beside that file."""
        return path.name if path.parent == self.directory else os.path.abspath(path)  # noqa: PTH100 (links are kept)


def to_archive(built: Built, to: Destination) -> list[str]:
    """Write one tar for `docker load`, `podman load` and skopeo's `oci-archive:`; returns its name."""
    path = to.named(f"{stem(built)}.docker.tar")
    total = sum(node.descriptor.size for node in built.node.walk())
    with to.progress.task("archive", path.name, total) as advance, _opened(path, to.stream) as file:
        for chunk in counted(archive(built.node, built.references), advance):
            file.write(chunk)
    return [STREAM] if to.stream else [to.recorded(path)]


def to_layout(built: Built, to: Destination) -> list[str]:
    """Write an image layout in a folder, for skopeo's `oci:` and others; returns its name."""
    path = to.named(f"{stem(built)}.oci")
    total = sum(node.descriptor.size for node in built.node.walk())
    with to.progress.task("archive", path.name, total) as advance:
        write_layout(path, built.node, built.references, advance=advance)
    return [to.recorded(path)]


def to_engine(built: Built, to: Destination) -> list[str]:
    """Load the image into the engine, under every tag; returns the names."""
    image, base = built.images[0].image, built.images[0].base
    # A base from a file has no name in an engine.
    name = base.reference.familiar if base.reference else base.name.partition("docker-daemon:")[2]
    to.engine().load(image, built.references, base=name, progress=to.progress)
    return [built.references[0].familiar]


def to_registry(built: Built, to: Destination) -> list[str]:
    """Push the image to the registries that its names have; returns the names by digest."""
    bases = [each.base.reference for each in built.images if each.base.reference]
    to.registry.push(built.node, built.references, mount_from=bases, threads=to.threads, progress=to.progress)
    return built.digest_references


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """An output. `write` returns what the result file records of it: the file's name if the output `is_file`.

    `is_default` says, given the environment, whether a plain build makes it. An output with `needs_engine` connects to
    the engine before the build, so that it fails early; for one with `needs_registry` the image's name must have a
    registry.
    """

    write: Callable[[Built, Destination], list[str]]
    is_default: Callable[[Mapping[str, str]], bool] = lambda _environ: False
    is_file: bool = False
    needs_engine: bool = False
    needs_registry: bool = False


OUTPUTS: Mapping[str, Output] = {
    "archive": Output(write=to_archive, is_default=lambda _environ: True, is_file=True),
    "oci": Output(write=to_layout, is_file=True),
    "load": Output(write=to_engine, is_default=answers, needs_engine=True),
    "push": Output(write=to_registry, needs_registry=True),
}


@contextlib.contextmanager
def _opened(path: Path, stream: BinaryIO | None = None) -> Iterator[BinaryIO]:
    """Open a file to write, whole or not at all; a pipe or device is written to as it is. Raises OutputError."""
    if stream:
        with writing(Path("standard output")):
            yield stream
            stream.flush()
    elif path.exists() and not path.is_file():
        with writing(path), path.open("wb") as file:
            yield file
    else:
        with replacing(path) as partial, partial.open("wb") as file:
            yield file


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; a pipe or device is written to as it is. Raises OutputError."""
    with _opened(path) as file:
        file.write(text.encode())


def check_writable(path: Path, place: str, *, is_folder: bool = False) -> None:
    """Raise ConfigError at `place` if a file at `path`, or a folder, cannot be written."""
    kind = "folder" if is_folder else "file"
    folder = path if is_folder and path.is_dir() else path.parent
    if path.exists() and path.is_dir() != is_folder:
        fail(place, f"{path} is a {'folder' if path.is_dir() else 'file'}: name a {kind}")
    if not folder.is_dir():
        fail(place, f"{folder} is not a folder: make it, or name another {kind}")
    if not os.access(path if path.exists() and not path.is_file() else folder, os.W_OK):
        fail(place, f"{path} cannot be written: check the permissions of {folder}, or name another {kind}")


def check_folder(path: Path) -> None:
    """Raise ConfigError if the folder cannot be made, or written to."""
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        fail(str(path), f"files cannot be written there: check the permissions of {existing}")


def write_result(built: Built, outputs: Mapping[str, Sequence[str]], directory: Path) -> Path:
    """Write the result file, `<name>-<version>.docker.json`; returns its path."""
    path = directory / f"{stem(built)}.docker.json"
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
