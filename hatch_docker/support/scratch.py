"""Temporary directories, which a later run removes if this one is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hatch_docker.support.atomic import STALE_SECONDS, writing
from hatch_docker.support.flocks import try_lock
from hatch_docker.support.patterns import regex

_PREFIX = "hatch-docker-"
# As mkdtemp names them.
_NAME = regex(rf"{_PREFIX}[a-z0-9_]{{8}}")
# Where temporary files are made, while those of other code are diverted.
_usual: list[str] = []
# The file that a process locks as long as it uses a directory, and the directory beside it that it uses.
_LOCK, _FILES = ".hatch-docker.lock", "files"


def usual_directory() -> str:
    """The directory for temporary files, whether or not those of other code are diverted."""
    return _usual[0] if _usual else tempfile.gettempdir()


@contextlib.contextmanager
def diverted(folder: Path) -> Iterator[None]:
    """A block in which other code makes its temporary files in a directory, which is removed after a kill, too."""
    # Blocks of several threads may end in any order.
    before = usual_directory()
    _usual.append(before)
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        _usual.pop()


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """A new directory, which is removed at the end of the block, or by `sweep` if this process is killed.

    Raises OutputError if it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        with writing(Path("the directory for temporary files")):
            made = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=usual_directory(), ignore_cleanup_errors=True)
            outer = Path(stack.enter_context(made))
        with writing(outer):
            stack.enter_context(_used(outer))
            (outer / _FILES).mkdir()
        yield outer / _FILES


def sweep() -> None:
    """Remove the temporary directories of processes that were killed. Only such a process made the file in them."""
    with contextlib.suppress(OSError), os.scandir(usual_directory()) as items:
        for item in items:
            if _NAME.fullmatch(item.name):
                with contextlib.suppress(OSError):
                    _sweep(item)


@contextlib.contextmanager
def _used(outer: Path) -> Iterator[None]:
    """Say that a directory is used, by a file that has its name once it is locked."""
    unnamed = outer / f"{_LOCK}.new"
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try_lock(descriptor)
        if os.name == "nt":
            # Which removes and renames no open file, and has no such locks.
            os.close(descriptor)
        unnamed.rename(outer / _LOCK)
        yield
    finally:
        if os.name != "nt":
            os.close(descriptor)


def _sweep(item: os.DirEntry[str]) -> None:
    """Remove a directory that nobody uses, if this user made it."""
    status = item.stat(follow_symlinks=False)
    if not item.is_dir(follow_symlinks=False) or (os.name != "nt" and status.st_uid != os.geteuid()):
        return
    with open(os.open(Path(item.path, _LOCK), os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))) as file:  # noqa: PTH123
        free = try_lock(file.fileno())
        if free is None:
            free = time.time() - status.st_mtime > STALE_SECONDS
    if free:
        # Nobody locks it again: its process has ended.
        shutil.rmtree(item.path, ignore_errors=True)
