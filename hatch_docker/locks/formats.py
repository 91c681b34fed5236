"""The table of lock formats, and which file of a project is its lock."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from packaging.pylock import Pylock

from hatch_docker.base.target import TargetPython
from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder
from hatch_docker.locks import commands
from hatch_docker.locks.model import InstallRequest
from hatch_docker.locks.readers.pylock import read_pylock
from hatch_docker.locks.readers.requirements import read_requirements
from hatch_docker.locks.readers.requirements_file import has_hashes, hashing_hint
from hatch_docker.locks.readers.uv_lock import read_uv
from hatch_docker.support.progress import Progress

# Requirements that are for developing, never chosen unless they are named.
_FOR_DEVELOPMENT = re.compile(r"(^|[-_.])(dev\w*|tests?|testing|docs?|documentation|lint\w*)($|[-_.])")
_FOUND_BY_NAME = ("pylock.docker.toml", "pylock.toml", "uv.lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockFormat:
    """A kind of lock: the names its files have, its reader, and the command that refreshes such a file."""

    names: re.Pattern[str]
    read: Callable[[Path, InstallRequest, FileFinder], Pylock]
    refresh: Callable[[str, TargetPython], str]


LOCK_READERS = (
    LockFormat(
        names=re.compile(r"pylock(\.[^.]+)?\.toml"),
        read=read_pylock,
        refresh=commands.refresh_pylock,
    ),
    LockFormat(names=re.compile(r"uv\.lock"), read=read_uv, refresh=commands.refresh_uv),
    LockFormat(names=re.compile(r".*\.txt"), read=read_requirements, refresh=commands.refresh_requirements),
)


def lock_format(path: Path) -> LockFormat:
    """The format of a lock, by its file's name. Raises LockError for a name that no format has."""
    for each in LOCK_READERS:
        if each.names.fullmatch(path.name):
            return each
    raise LockError(
        "this kind of lock is not known", place=str(path), hint="known are pylock.toml, uv.lock, requirements.txt"
    )


def read_lock(path: Path, wanted: InstallRequest, lookup: FileFinder) -> Pylock:
    """Read a lock of any known format. Raises LockError; the index's own errors pass through."""
    return lock_format(path).read(path, wanted, lookup)


def find_lock(root: Path, configured: str = "", *, progress: Progress | None = None) -> Path | None:
    """The project's lock: the configured one, else the first that there is; None where there is none.

    Raises LockError where the configured one does not exist or has no hashes, or several requirements files could
    be meant.
    """
    if configured:
        return _configured(root / configured)
    for name in _FOUND_BY_NAME:
        if (root / name).is_file():
            return root / name
    return _requirements(root, progress or Progress())


def _configured(path: Path) -> Path:
    if not path.is_file():
        raise LockError("there is no such lock", place=str(path), hint="name one, or none to have it found")
    if lock_format(path).read is read_requirements and not has_hashes(path):
        raise LockError("missing hashes", place=str(path), hint=f"add them: {hashing_hint(path)}")
    return path


def _requirements(root: Path, progress: Progress) -> Path | None:
    found = [path for path in sorted(root.glob("requirements*.txt")) if path.is_file()]
    candidates = [path for path in found if not _FOR_DEVELOPMENT.search(path.stem.lower())]
    hashed = [path for path in candidates if has_hashes(path)]
    for path in candidates:
        if path not in hashed:
            progress.note(f"{path.name} is passed over as a lock: it has no hashes ({hashing_hint(path)})")
    preferred = [path for path in hashed if path.name == "requirements.txt"] or hashed
    if len(preferred) > 1:
        raise LockError(
            f"several files could be the lock: {', '.join(path.name for path in preferred)}",
            place=str(root),
            hint="set `lock` in tool.hatch.build.targets.docker to one of them",
        )
    return preferred[0] if preferred else None
