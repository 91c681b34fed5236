"""Read `extra-files` and the files of a project from the host as layer entries."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from pathspec import GitIgnoreSpec

from hatch_docker.base.target import VENV, TargetPython
from hatch_docker.config import ExtraFiles
from hatch_docker.errors import ConfigError, HatchDockerError
from hatch_docker.oci.filesystem import Filesystem, Node
from hatch_docker.oci.layer import Entry, Plain
from hatch_docker.project.model import SourceFiles
from hatch_docker.project.selection import leads_up
from hatch_docker.support.paths import parents

# Files of version control, Python and macOS that never go into an image.
_IGNORED = frozenset({".git", ".hg", ".svn", "__pycache__", ".DS_Store"})
_PATH_FILE = "hatch-docker-project.pth"


def check_sources(files: Sequence[ExtraFiles], root: Path, place: str) -> None:
    """Raise ConfigError for each source that does not exist."""
    problems = [
        (f"{place}[{position}].from", f"{each.source!r} does not exist in {root}")
        for position, each in enumerate(files)
        if not (root / each.source).exists()
    ]
    if problems:
        raise ConfigError(problems)


def extra_entries(
    files: Sequence[ExtraFiles], root: Path, links: Mapping[str, str], present: Collection[str], place: str
) -> list[Entry]:
    """The layer entries of `extra-files`, whose sources exist. Later tables win.

    The base's symbolic links, `links`, are followed. Raises one ConfigError for all sources that cannot be read or are
    not regular files, tables that match no file, and files that would replace one of the image's directories,
    `present`.
    """
    problems: list[tuple[str, str]] = []
    entries: dict[str, Entry] = {}
    for position, each in enumerate(files):
        where = f"{place}[{position}].from"
        try:
            added = {entry.path: entry for entry in _entries(each, root / each.source, links)}
        except OSError as error:
            problems.append((where, f"{error.filename} cannot be read: {error.strerror}"))
            continue
        if not added:
            problems.append((where, f"no file below {each.source!r} matches include and exclude"))
        problems += [
            (
                f"{place}[{position}].into",
                f"/{path} is a directory of the base image or of the build: name the file",
            )
            for path in added
            if path in present or not path
        ]
        entries |= added
    if problems:
        raise ConfigError(problems)
    return list(entries.values())


def source_entries(files: SourceFiles, links: Mapping[str, str], target: TargetPython) -> list[Entry]:
    """The entries of a project's files in /app, and of the file that makes its modules importable.

    As for an editable installation, that is a path file of the environment (Python: site). So a program of the venv
    finds the modules in any working directory, and they do not hide those of packages, as with PYTHONPATH; that
    variable stays free. `python main.py` has /app first anyway. Raises HatchDockerError for a file that cannot be read.
    """
    into = ExtraFiles(source="", into="/app")
    try:
        entries = [_entry(into, files.root / path, through(f"app/{path}", links)) for path in files.paths]
    except OSError as error:
        raise HatchDockerError(f"it cannot be read: {error.strerror}", place=str(error.filename)) from None
    path_file = f"{VENV}/lib/{target.lib_name}/site-packages/{_PATH_FILE}"
    return [*entries, Entry(path=path_file, content=b"/app\n")]


def directories_of(entries: Sequence[Entry]) -> frozenset[str]:
    """The directories among `entries`, and the parent directories of all entries."""
    implied = {parent for entry in entries for parent in parents(entry.path)}
    return frozenset(implied | {entry.path for entry in entries if entry.is_directory})


def through(path: str, links: Mapping[str, str]) -> str:
    """Resolve the base's symbolic links in a path: `lib/x` becomes `usr/lib/x` if /lib is a link to usr/lib."""
    return Filesystem({name: Node(kind="link", link=link) for name, link in links.items()}).resolve(path)


def _entries(files: ExtraFiles, source: Path, links: Mapping[str, str]) -> Iterator[Entry]:
    into = files.into.strip("/")
    if not source.is_dir():
        yield _entry(files, source, through(into, links))
        return
    include = GitIgnoreSpec.from_lines(files.include or ["*"])
    exclude = GitIgnoreSpec.from_lines(files.exclude)
    for path, name in _walk(source):
        if include.match_file(name) and not exclude.match_file(name):
            yield _entry(files, path, through(f"{into}/{name}" if into else name, links))


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files below a directory, with their names relative to it. Symbolic links are followed, except for cycles.

    Raises OSError for a directory that cannot be read.
    """
    for parent, folders, names in os.walk(folder, onerror=_fail, followlinks=True):
        folders[:] = sorted(name for name in folders if name not in _IGNORED and not _is_cycle(folder, parent, name))
        for name in sorted(names):
            path = Path(parent) / name
            if name not in _IGNORED:
                yield path, path.relative_to(folder).as_posix()


def _fail(error: OSError) -> None:
    raise error


def _is_cycle(root: Path, parent: str, name: str) -> bool:
    path = Path(parent, name)
    return path.is_symlink() and leads_up(root, path)


def _entry(files: ExtraFiles, path: Path, name: str) -> Entry:
    """The entry of one file. Its mode depends on the executable bit alone, not on the umask of a checkout.

    Raises OSError for a source that is not a regular file: reading a pipe could block.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    mode = files.mode if files.mode is not None else (0o755 if status.st_mode & 0o111 else 0o644)
    content = Plain(size=status.st_size, read=partial(_read, path))
    return Entry(path=name, mode=mode, content=content, uid=files.uid, gid=files.gid)


def _read(path: Path, offset: int, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(length)
    except OSError as error:
        raise HatchDockerError(f"it cannot be read: {error.strerror or error}", place=str(path)) from None
    if len(data) != length:
        raise HatchDockerError("it changed while it was read", place=str(path), hint="build again")
    return data
