"""Files that a build writes where its user wants them: whether they can be written, and writing them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from hatch_docker.config import as_mistake, fail
from hatch_docker.oci.archive import layout_entries
from hatch_docker.support.atomic import existing_part, is_writable, replacing, writable, writing


@contextlib.contextmanager
def opened(path: Path, stream: BinaryIO | None = None) -> Iterator[BinaryIO]:
    """Open a file to write, whole or not at all; what a link names, a pipe or a device is written to as it is.

    Raises OutputError.
    """
    if stream:
        place = Path("standard output")
        with writing(place):
            stream.flush()
        with writable(os.dup(stream.fileno()), place) as file:
            yield file
    elif path.is_symlink() or (path.exists() and not path.is_file()):
        # Such as /dev/stderr, which must not be replaced.
        with writable(_opened(path), path) as file:
            yield file
    else:
        with replacing(path) as file:
            yield file


def _opened(path: Path) -> Path | int:
    """Open what a link names, a pipe or a device.

    If a standard stream goes to the same file, its position is shared: both would write to the file's beginning else.
    """
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(number)):
                return os.dup(number)
    return path


def write_text(path: Path, text: str) -> None:
    """Write a text file as `opened` does. Raises OutputError."""
    with opened(path) as file:
        file.write(text.encode())


def check_writable(path: Path, place: str, *, is_folder: bool = False) -> None:
    """Raise ConfigError at `place` if a file at `path`, or an image layout in a folder, cannot be written."""
    kind = "folder" if is_folder else "file"
    folder = path if is_folder and path.is_dir() else path.parent
    if path.exists() and path.is_dir() != is_folder:
        fail(place, f"{path} is a {'folder' if path.is_dir() else 'file'}: name a {kind}")
    if not folder.is_dir():
        fail(place, f"{folder} is not a folder: make it, or name another {kind}")
    if is_folder and path.is_dir():
        as_mistake(place, partial(layout_entries, path))
    if not os.access(path if path.exists() and not path.is_file() else folder, os.W_OK):
        fail(place, f"{path} cannot be written: check the permissions of {folder}, or name another {kind}")


def check_folder(path: Path) -> None:
    """Raise ConfigError if the folder cannot be made, or written to."""
    if not is_writable(path):
        fail(
            str(path),
            f"files cannot be written there: check the permissions of {existing_part(path)}, or write the image "
            "elsewhere by --output type=oci,dest=FILE",
        )


def shown_path(path: Path) -> str:
    """A path for a user: relative to the current directory if it is below that."""
    path, here = path.absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
