"""Which files of a project without a build backend are copied into its image.

Those that .dockerignore leaves, if there is one; else those that .gitignore leaves: Git lists them, or its files are
read as it does. Links are followed, as a checkout on another system may have files instead.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hatch_docker.errors import ConfigError
from hatch_docker.project.dockerignore import read_dockerignore
from hatch_docker.project.gitignore import Gitignore
from hatch_docker.project.unwanted import (
    is_environment_file,
    is_unwanted_directory,
    is_unwanted_file,
    may_be_secret,
)
from hatch_docker.support.dataclasses import dataclass, field

# Variables by which Git finds another repository than that of a directory. Hooks have them.
_LOCATIONS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
_SHOWN = 5
# Sources of more bytes are worth a note: mostly data that should be ignored.
_LARGE = 100 << 20


class Rules(Protocol):
    """The patterns of ignore files, of any dialect."""

    def enter(self, path: str, is_directory: bool, above: Any) -> tuple[bool, bool, Any]:
        """Whether a path is left out, whether nothing below it can be in, and the state for what is below it.

        `above` is the state of the directory that contains it, None in the root.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The files to copy: paths relative to the project, sorted. `notes` and `warnings` are for the user."""

    paths: tuple[str, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Found:
    """What a walk has come across, besides files."""

    environment: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    cycles: list[str] = field(default_factory=list)
    submodules: list[str] = field(default_factory=list)


def select_files(root: Path, output: Path, environ: Mapping[str, str]) -> Selection:
    """The files of the project at `root`, whose builds write to `output`.

    Raises ConfigError for a .dockerignore that is not valid, and OSError for a directory that cannot be read.
    """
    # A link to the project may be outside of its repository.
    root, output = root.resolve(), output.resolve()
    found = _Found()
    ignore = root / ".dockerignore"
    if os.path.lexists(ignore):
        name, paths = ".dockerignore", _walk(root, output, read_dockerignore(ignore), found)
    elif (listed := _listed_by_git(root, environ)) is not None:
        name, paths = ".gitignore", _existing(root, output, listed, found)
    else:
        rules = Gitignore.of(root)
        name, paths = ".gitignore", _walk(root, output, None if rules.is_root_ignored() else rules, found)
    selected = tuple(sorted({*paths}))
    _check_names(selected, name)
    return Selection(
        paths=selected,
        notes=tuple(_notes(root, selected, found, name)),
        warnings=tuple(_warnings(root, selected, name)),
    )


def _walk(root: Path, output: Path, rules: Rules | None, found: _Found, *, below: str = "") -> Iterator[str]:
    """The files of a directory that `rules` leave, as paths relative to `root`."""
    pending: list[tuple[str, Any]] = [(below, None)]
    while pending:
        folder, state = pending.pop()
        with os.scandir(root / folder) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            path = f"{folder}/{name}" if folder else name
            # A link to a directory is no directory for patterns.
            is_directory = _is_directory(root / path)
            out, closed, inner = rules.enter(path, is_directory, state) if rules else (False, False, None)
            if is_directory:
                if not closed and not is_unwanted_directory(root / path):
                    pending.append((path, inner))
            elif not out:
                yield from _taken(root, output, path, found)


def _existing(root: Path, output: Path, listed: Sequence[str], found: _Found) -> Iterator[str]:
    """The files among those that Git lists: it lists removed ones, and has no names below links."""
    unwanted: dict[str, bool] = {"": False}

    def is_unwanted(folder: str) -> bool:
        if folder not in unwanted:
            unwanted[folder] = is_unwanted(folder.rpartition("/")[0]) or is_unwanted_directory(root / folder)
        return unwanted[folder]

    for path in dict.fromkeys(listed):
        if os.path.lexists(root / path) and not is_unwanted(path.rpartition("/")[0]):
            yield from _taken(root, output, path, found)


def _taken(root: Path, output: Path, path: str, found: _Found) -> Iterator[str]:
    """A path that the patterns leave, if it is a file that is wanted; of a directory, the files below it.

    It is a link to a directory, or a repository that Git did not read.
    """
    file = root / path
    if is_environment_file(file):
        found.environment.append(path)
        return
    try:
        mode = file.stat().st_mode
    except OSError as error:
        if not file.is_symlink():
            raise
        (found.broken if isinstance(error, FileNotFoundError) else found.cycles).append(path)
        return
    if stat.S_ISDIR(mode):
        if leads_up(root, file):
            found.cycles.append(path)
        elif not file.is_symlink() and not any(file.iterdir()):
            found.submodules.append(path)
        elif not is_unwanted_directory(file):
            yield from _walk(root, output, None, found, below=path)
    elif not stat.S_ISREG(mode):
        found.special.append(path)
    elif not is_unwanted_file(file, output):
        yield path


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def leads_up(root: Path, link: Path) -> bool:
    """Whether a link below `root` leads to a directory that it is in, by whatever links."""
    target = link.resolve()
    folders = [root, *(each for each in link.parents if each.is_relative_to(root))]
    return any(each.resolve().is_relative_to(target) for each in folders)


def _listed_by_git(root: Path, environ: Mapping[str, str]) -> list[str] | None:
    """The files that Git tracks, and the others that it does not ignore; None without a repository or without Git.

    None, too, if the repository ignores the directory itself: then it says nothing about what is in it.
    """
    if not any((each / ".git").exists() for each in (root, *root.parents)):
        return None
    if _git(root, environ, "check-ignore", "-q", "--", ".") is not None:
        return None
    listed = _git(root, environ, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".")
    # In a submodule that is not checked out, Git lists only the directory itself.
    return None if listed in (None, b"./\0") else list(_expanded(root, environ, listed))


def _expanded(root: Path, environ: Mapping[str, str], listed: bytes) -> Iterator[str]:
    """The paths that Git lists, with those of repositories inside, of which it has only the names.

    The name remains of one that Git does not read: of a submodule that is not checked out, for example.
    """
    for path in map(os.fsdecode, filter(None, listed.split(b"\0"))):
        folder = path.rstrip("/")
        inner = _listed_by_git(root / folder, environ) if (root / folder / ".git").exists() else None
        if inner is None or not _is_directory(root / folder):
            yield folder
        else:
            yield from (f"{folder}/{each}" for each in inner)


def _git(root: Path, environ: Mapping[str, str], *arguments: str) -> bytes | None:
    """The output of Git; None if it fails."""
    command = ["git", "-C", str(root), "-c", "core.fsmonitor=false", *arguments]
    kept = {name: value for name, value in environ.items() if name not in _LOCATIONS}
    try:
        done = subprocess.run(command, env={**kept, "LC_ALL": "C"}, capture_output=True, check=False)  # noqa: S603
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def _check_names(paths: Sequence[str], ignore: str) -> None:
    """Raise ConfigError for names that no layer can hold."""
    problems = []
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError:
            problems.append((os.fsencode(path).decode(errors="backslashreplace"), "its name is not valid Unicode"))
    if problems:
        place, message = problems[0]
        raise ConfigError([(place, f"{message}: rename the file, or list it in {ignore}"), *problems[1:]])


def _notes(root: Path, paths: Sequence[str], found: _Found, ignore: str) -> Iterator[str]:
    whats: tuple[tuple[str, list[str]], ...] = (
        ("files with variables are not copied; give them to the container (docker run --env-file)", found.environment),
        ("links without a target are not copied", found.broken),
        ("links to a directory around them are not copied", found.cycles),
        ("submodules are not checked out (git submodule update --init --recursive)", found.submodules),
        ("pipes, sockets and devices are not copied", found.special),
    )
    yield from (f"{what}: {_shown(names)}" for what, names in whats if names)
    sizes = {path: (root / path).stat().st_size for path in paths}
    if (total := sum(sizes.values())) > _LARGE:
        tops: dict[str, int] = {}
        for path, each in sizes.items():
            top = path.partition("/")[0]
            tops[top] = tops.get(top, 0) + each
        largest = sorted(tops, key=lambda top: -tops[top])[:3]
        shown = ", ".join(f"{top} {tops[top] >> 20} MiB" for top in largest)
        yield f"the project's files have {total >> 20} MiB ({shown}): list in {ignore} what the image does not need"


def _warnings(root: Path, paths: Sequence[str], ignore: str) -> Iterator[str]:
    if secrets := [path for path in paths if may_be_secret(root, path)]:
        tracked = " (and remove them from Git, if it tracks them)" if ignore == ".gitignore" else ""
        yield (
            f"files that may be secret are copied into the image: {_shown(secrets)}; whoever pulls it can read them: "
            f"list them in {ignore}{tracked}, and give them to the container when it starts"
        )


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(sorted(names)[:_SHOWN]) + more
