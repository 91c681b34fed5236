"""The table of lock formats, and the search for a project's lock."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from packaging.pylock import Pylock

from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder, NamedIndexes
from hatch_docker.index.workspace import find_workspace
from hatch_docker.locks import commands
from hatch_docker.locks.inputs import changes_since
from hatch_docker.locks.model import OWN_LOCK, InstallRequest, Record
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex
from hatch_docker.support.progress import Progress

# Requirements files for development: used only if `lock` names them.
_FOR_DEVELOPMENT = regex(r"(^|[-_.])(dev\w*|tests?|testing|docs?|documentation|lint\w*)($|[-_.])")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockFormat:
    """A lock format.

    `name` is its name in messages, `names` matches the file names that it may have. `search` are the glob patterns by
    which `find_lock` searches a project, the preferred one first, in the directory that `home` returns. `read` reads a
    file. `changes` compares a file with the project, given what reading it recorded: what changed since it was made,
    one phrase each (`the project requires idna>=3, which is not locked`). `refresh` returns the command that makes or
    refreshes a file; `upgrade` is the command for the newest versions, empty if that is the same with `--upgrade`.
    `indexes` returns the package indexes that a file names. `is_lock` is false for a file without hashes, which is
    input to resolving. `is_complete` says that a lock has all that its packages require, except what it says to be
    overridden; other formats may be exported without that. `is_pure` says, given the record, whether `read` depended on
    nothing but the file's text and the request's `scope`, so that the result may be cached; None if it never does.
    `writable` says whether `hatch-docker lock` may create a file.
    """

    name: str
    names: re.Pattern[str]
    search: tuple[str, ...]
    read: Callable[[Path, InstallRequest, FileFinder], Pylock]
    refresh: Callable[[Path, InstallRequest], str]
    upgrade: str = ""
    changes: Callable[[Path, InstallRequest, Record], Sequence[str]] = lambda _path, _request, _record: ()
    indexes: Callable[[Path], NamedIndexes] = lambda _: NamedIndexes()
    home: Callable[[Path], Path] = lambda root: root
    is_lock: Callable[[Path], bool] = lambda _: True
    is_complete: bool = True
    is_pure: Callable[[Record], bool] | None = None
    writable: bool = False


def _reader(module: str, name: str) -> Callable[..., Any]:
    """A function of a reader, which is imported when it is called: a project has one lock."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(f"hatch_docker.locks.readers.{module}"), name)(*arguments)

    return call


def _without_record(changes: Callable[[Path, InstallRequest], Sequence[str]]) -> Callable[..., Sequence[str]]:
    """The `changes` of a format whose reader records nothing that they need."""
    return lambda path, request, _record: changes(path, request)


# In the order of the search for a project's lock.
LOCK_FORMATS = (
    LockFormat(
        name="pylock.toml",
        names=regex(r"pylock(\.[^.]+)?\.toml"),
        search=("pylock.docker.toml", "pylock.toml"),
        read=_reader("pylock", "read_pylock"),
        changes=_without_record(changes_since),
        refresh=commands.refresh_pylock,
        is_complete=False,
        is_pure=lambda _: True,
        writable=True,
    ),
    LockFormat(
        name="uv.lock",
        names=regex(r"uv\.lock"),
        search=("uv.lock",),
        read=_reader("uv_lock", "read_uv"),
        changes=_reader("uv_metadata", "changes"),
        refresh=commands.refresh_uv,
        is_pure=_reader("uv_lock", "is_read_here"),
        home=lambda root: find_workspace(root) or root,
    ),
    LockFormat(
        name="poetry.lock",
        names=regex(r"poetry\.lock"),
        search=("poetry.lock",),
        read=_reader("poetry_lock", "read_poetry"),
        changes=_without_record(_reader("poetry_lock", "poetry_changes")),
        refresh=_reader("poetry_lock", "refresh_poetry"),
        upgrade="poetry update --lock",
    ),
    LockFormat(
        name="pdm.lock",
        names=regex(r"pdm(\.[^.]+)?\.lock"),
        search=("pdm.lock",),
        read=_reader("pdm_lock", "read_pdm"),
        changes=_without_record(_reader("pdm_lock", "pdm_changes")),
        refresh=_reader("pdm_lock", "refresh_pdm"),
        upgrade="pdm update --no-sync",
    ),
    LockFormat(
        name="Pipfile.lock",
        names=regex(r"Pipfile\.lock"),
        search=("Pipfile.lock",),
        read=_reader("pipfile_lock", "read_pipfile"),
        changes=_without_record(_reader("pipfile_lock", "pipfile_changes")),
        refresh=_reader("pipfile_lock", "refresh_pipfile"),
        upgrade="pipenv lock",
        indexes=_reader("pipfile_lock", "pipfile_indexes"),
    ),
    LockFormat(
        name="requirements.txt",
        names=regex(r".*\.(txt|in)"),
        search=("requirements.txt", "requirements*.txt"),
        read=_reader("requirements", "read_requirements"),
        refresh=commands.refresh_requirements,
        indexes=_reader("requirements_file", "index_options"),
        is_lock=_reader("requirements_file", "is_lock"),
        is_complete=False,
    ),
)


def lock_format(path: Path) -> LockFormat:
    """The format of a lock, by its file name. Raises LockError for a name that no format has."""
    for each in LOCK_FORMATS:
        if each.names.fullmatch(path.name):
            return each
    known = ", ".join(each.name for each in LOCK_FORMATS)
    raise LockError("this kind of lock is not known", place=str(path), hint=f"known are {known}")


def upgrade_command(path: Path, request: InstallRequest) -> str:
    """The command that locks the newest versions. Raises LockError for an unknown format."""
    kind = lock_format(path)
    return kind.upgrade or f"{kind.refresh(path, request)} --upgrade"


def read_lock(path: Path, request: InstallRequest, finder: FileFinder) -> Pylock:
    """Read a lock of any format. Raises LockError; the index's own errors pass through."""
    return lock_format(path).read(path, request, finder)


def named_indexes(lock: Path | None) -> NamedIndexes:
    """The index URL (empty if none) and extra index URLs that a lock names itself. Raises LockError."""
    return lock_format(lock).indexes(lock) if lock else NamedIndexes()


def find_lock(root: Path, configured: str = "", *, progress: Progress | None = None) -> Path | None:
    """The project's lock: the configured one, else the first that the formats' patterns find; None if there is none.

    Each format is searched where its tool keeps the lock. If the configured file has no hashes, the lock is the one
    that `hatch-docker lock` made of it. Raises LockError if the configured file does not exist, or if several files
    match equally well, and ConfigError for a workspace of uv that is not valid.
    """
    if configured:
        path = _configured(root / configured)
        return path if lock_format(path).is_lock(path) else _existing(root / OWN_LOCK)
    for each in LOCK_FORMATS:
        if found := _search(root, each, progress or Progress()):
            return found
    return None


def find_requirement_files(root: Path, configured: str = "") -> tuple[Path, ...]:
    """The requirements files without hashes that are resolved with the project's requirements if it has no lock.

    That is the configured file, else requirements.txt. Raises LockError for a file that cannot be read.
    """
    path = root / (configured or "requirements.txt")
    return () if not path.is_file() or lock_format(path).is_lock(path) else (path,)


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _configured(path: Path) -> Path:
    if path.is_file():
        return path
    raise LockError(
        "there is no such lock", place=str(path), hint="name an existing file, or remove `lock` to search for one"
    )


def _search(root: Path, kind: LockFormat, progress: Progress) -> Path | None:
    """The lock of one format: the usable file of the first pattern that matches one."""
    home = kind.home(root)
    for path in (path for paths in _candidates(root, kind) for path in paths if home != root):
        progress.note(f"{path.name} of this directory is not used: {kind.name} belongs in the workspace's root, {home}")
    matches = [[path for path in paths if kind.is_lock(path)] for paths in _candidates(home, kind)]
    usable = next(filter(None, matches), [])
    if len(usable) > 1:
        raise LockError(
            f"several files could be the lock: {', '.join(path.name for path in usable)}",
            place=str(root),
            hint="set the key `lock` to one of them",
        )
    return next(iter(usable), None)


def _candidates(folder: Path, kind: LockFormat) -> list[list[Path]]:
    """The files that each pattern of a format matches. Raises LockError for a lock that cannot be a file.

    Without it, the project would be resolved again, to other versions.
    """
    for path in (folder / name for name in kind.search if "*" not in name):
        if os.path.lexists(path) and not path.is_file():
            what = "is a link to a file that does not exist" if path.is_symlink() else "is not a file"
            raise LockError(f"the lock {what}", place=str(path), hint="restore the file, or remove it")
    return [[path for path in sorted(folder.glob(pattern)) if _is_candidate(path)] for pattern in kind.search]


def _is_candidate(path: Path) -> bool:
    return path.is_file() and not _FOR_DEVELOPMENT.search(path.stem.lower())
