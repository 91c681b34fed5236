"""Read `extra-files` and the files of a project from the host as layer entries."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from pathspec import GitIgnoreSpec

from hatch_docker.base.target import VENV, TargetPython
from hatch_docker.config import ExtraFiles
from hatch_docker.errors import ConfigError, HatchDockerError, ImageError
from hatch_docker.oci.layer import Entry, Plain
from hatch_docker.project.model import SourceFiles
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.paths import SymlinkLoopError, parents, resolve
from hatch_docker.support.progress import Progress

# How many paths that are left out a note names, and what is left out without one.
_MAX_PATHS = 5
_SILENT = frozenset(("version control", "caches"))
PATH_FILE = "hatch-docker-project.pth"
_OWN_VENV = "the image has its own, and packages are added by dependencies"


def check_sources(files: Sequence[ExtraFiles], root: Path, place: str) -> None:
    """Raise ConfigError with each source that does not exist, or cannot be reached."""
    problems = []
    for position, each in enumerate(files):
        try:
            (root / each.source).stat()
        except (FileNotFoundError, ValueError):
            problems.append((f"{place}[{position}].from", f"{each.source!r} does not exist in {root}"))
        except OSError as error:
            problems.append((f"{place}[{position}].from", _unread(error)))
    if problems:
        raise ConfigError(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beneath:
    """What extra files are put on: the image's symbolic `links`, its `directories`, and the project's own files.

    `sources` has the files of the host by their paths in the image.
    """

    links: Mapping[str, str]
    directories: Collection[str]
    sources: Mapping[str, Path] = field(default_factory=dict)


def extra_entries(
    files: Sequence[ExtraFiles], root: Path, output: Path, beneath: Beneath, place: str, progress: Progress
) -> list[Entry]:
    """The layer entries of `extra-files`, whose sources exist. Later tables win.

    The image's symbolic links are followed. `output` is the directory that builds write to. Raises one ConfigError for
    all sources that cannot be read or are not regular files, tables that match no file, and files that would replace
    one of the image's directories, the virtual environment or the project's own files. Warns about files of secrets
    that are named, and notes what folders leave out.
    """
    if not files:
        return []
    from hatch_docker.project.unwanted import is_environment_file, is_version_control, is_virtual_environment

    output = output.resolve()
    problems: list[tuple[str, str]] = []
    entries: dict[str, Entry] = {}
    for position, each in enumerate(files):
        where = f"{place}[{position}]"
        source = root / each.source
        if is_virtual_environment(source):
            problems.append((f"{where}.from", f"{each.source!r} is a virtual environment of this machine: {_OWN_VENV}"))
            continue
        if not source.is_dir() and is_environment_file(source):
            advice = "give variables to the container when it starts (docker run --env-file)"
            progress.warn(f"{where}.from: everyone who has the image can read {each.source!r}: {advice}")
        if is_version_control(source):
            advice = "leave it out, unless the program needs it"
            progress.warn(f"{where}.from: everyone who has the image can read the history in {each.source!r}: {advice}")
        folder = _Folder(source=source, output=output, within=source.resolve().is_relative_to(output))
        try:
            added = {entry.path: entry for entry in _entries(each, folder, beneath)}
        except OSError as error:
            problems.append((f"{where}.from", _unread(error)))
            continue
        if not added and not folder.repeated:
            more = f"; {folder.summary()} are left out of folders: name the file itself" if folder.left_out else ""
            problems.append((f"{where}.from", f"no file below {each.source!r} matches include and exclude{more}"))
        elif folder.left_out:
            progress.note(f"{where}: {each.source!r} without {folder.summary()}")
        problems += [(f"{where}.into", reason) for path in added if (reason := _conflict(path, beneath))]
        entries |= added
    if problems:
        raise ConfigError(_shortened(problems))
    return list(entries.values())


def _unread(error: OSError) -> str:
    return f"{error.filename} cannot be read: {error.strerror}"


def _conflict(path: str, beneath: Beneath) -> str:
    """Why no extra file may have a path; empty if one may."""
    if path in beneath.directories or not path:
        return f"/{path} is a directory of the base image or of the build: name the file"
    if f"{path}/".startswith(f"{VENV}/"):
        return f"/{path} is in the virtual environment: {_OWN_VENV}"
    if path in beneath.sources:
        return f"/{path} is a file of the project, which would hide it: choose another path"
    return ""


def _shortened(problems: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The problems, without the many of one folder."""
    seen: Counter[str] = Counter()
    kept = []
    for where, text in problems:
        seen[where] += 1
        if seen[where] <= _MAX_PATHS:
            kept.append((where, text))
    return kept + [(where, f"and {count - _MAX_PATHS} more") for where, count in seen.items() if count > _MAX_PATHS]


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
    path_file = f"{VENV}/lib/{target.lib_name}/site-packages/{PATH_FILE}"
    return [*entries, Entry(path=path_file, content=b"/app\n")]


def directories_of(entries: Sequence[Entry]) -> frozenset[str]:
    """The directories among `entries`, and the parent directories of all entries."""
    implied = {parent for entry in entries for parent in parents(entry.path)}
    return frozenset(implied | {entry.path for entry in entries if entry.is_directory})


def through(path: str, links: Mapping[str, str]) -> str:
    """Resolve the base's symbolic links in a path: `lib/x` becomes `usr/lib/x` if /lib is a link to usr/lib.

    Raises ImageError on a loop.
    """
    try:
        return resolve(path, links.get)
    except SymlinkLoopError as error:
        raise ImageError(str(error)) from None


@dataclass(slots=True, kw_only=True)
class _Folder:
    """A source on the host, and what was left out of it: the paths by what they are.

    `within` is whether it is in the directory `output` that builds write to.
    `repeated` is whether it has files that the project installs from the same source, which are in a layer above.
    """

    source: Path
    output: Path
    within: bool
    left_out: dict[str, list[str]] = field(default_factory=dict)
    repeated: bool = False

    def leaves_out(self, path: Path, name: str, *, matches: bool) -> bool:
        """Whether a path is left out. What patterns leave out anyway (not `matches`) is not reported."""
        from hatch_docker.project.unwanted import why_left_out

        reason = why_left_out(path.parent.resolve() / path.name, self.output, within_output=self.within)
        if reason and matches and reason not in _SILENT:
            self.left_out.setdefault(reason, []).append(name)
        return bool(reason)

    def summary(self) -> str:
        """What was left out, for a message."""
        parts = []
        for reason, names in sorted(self.left_out.items()):
            more = f" and {len(names) - _MAX_PATHS} more" if len(names) > _MAX_PATHS else ""
            parts.append(f"{', '.join(names[:_MAX_PATHS])}{more} ({reason})")
        return ", ".join(parts)


def _entries(files: ExtraFiles, folder: _Folder, beneath: Beneath) -> Iterator[Entry]:
    into = files.into.strip("/")
    if not folder.source.is_dir():
        yield _entry(files, folder.source, through(into, beneath.links))
        return
    include = GitIgnoreSpec.from_lines(files.include or ["*"])
    exclude = GitIgnoreSpec.from_lines(files.exclude)

    def matches(name: str) -> bool:
        return include.match_file(name) and not exclude.match_file(name)

    for path, name in _walk(folder, matches):
        place = through(f"{into}/{name}" if into else name, beneath.links)
        if place in beneath.sources and beneath.sources[place].resolve() == path.resolve():
            folder.repeated = True
            continue
        yield _entry(files, path, place)


def _walk(folder: _Folder, matches: Callable[[str], bool]) -> Iterator[tuple[Path, str]]:
    """The files of a directory that belong in an image and match, with their names relative to it.

    Symbolic links are followed, except for cycles. Raises OSError for a directory that cannot be read.
    """
    source = folder.source
    for parent, folders, names in os.walk(source, onerror=_fail, followlinks=True):
        above = Path(parent).relative_to(source)
        folders[:] = [
            name
            for name in sorted(folders)
            if not folder.leaves_out(Path(parent, name), f"{above / name}", matches=matches(f"{above / name}/x"))
            and not _is_cycle(source, parent, name)
        ]
        for name in sorted(names):
            path, relative = Path(parent, name), (above / name).as_posix()
            if not folder.leaves_out(path, relative, matches=matches(relative)) and matches(relative):
                yield path, relative


def _fail(error: OSError) -> None:
    raise error


def _is_cycle(root: Path, parent: str, name: str) -> bool:
    path = Path(parent, name)
    if not path.is_symlink():
        return False
    from hatch_docker.project.selection import leads_up

    return leads_up(root, path)


def _entry(files: ExtraFiles, path: Path, name: str) -> Entry:
    """The entry of one file. Its mode depends on the executable bit alone, not on the umask of a checkout.

    Raises OSError for a file that cannot be opened, or is not a regular one: reading a pipe could block.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    with path.open("rb"):
        # Its content is read when layers are made, after all checks.
        pass
    mode = files.mode if files.mode is not None else (0o755 if _is_executable(path, status) else 0o644)
    content = Plain(size=status.st_size, read=partial(_read, path))
    return Entry(path=name, mode=mode, content=content, uid=files.uid, gid=files.gid)


def _is_executable(path: Path, status: os.stat_result) -> bool:
    """Whether a file has the executable bit; on Windows, which has none, whether it is a script or a Linux program."""
    if os.name != "nt":
        return bool(status.st_mode & 0o111)
    with path.open("rb") as file:
        return file.read(4).startswith((b"#!", b"\x7fELF"))


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
