"""The states of files, compared as Git compares those of its index (git: racy-git)."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping

from hatch_docker.support.sources import OUTPUT, source_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

# Mode, size, mtime and ctime in nanoseconds, inode, and the SHA-256 of the content followed by the target of a link; a
# list, as JSON has it. Mode and hash say whether the file is the same, the others whether it has to be read for that.
State = list[int | str]
States = Mapping[str, State]

# A file system may round times to two seconds: what is newer may have changed again without another time.
_RACY_NANOSECONDS = 2 * 10**9
# More would take longer to compare than a build does.
_MOST_FILES = 20_000
_MOST_BYTES = 512 * 10**6
_CHUNK = 1 << 20
_HEX_DIGITS = 64
_ABSENT: State = [0, 0, 0, 0, 0, ""]


class TooLargeError(Exception):
    """There are too many files to compare."""


def states_of(paths: Iterable[str], known: States, taken: int) -> dict[str, State]:
    """The states of files, which need not exist. Raises OSError, TooLargeError.

    Only those are read that are not as they are `known`, or that had changed just before the known states were `taken`
    (nanoseconds since the epoch).
    """
    states: dict[str, State] = {}
    read = 0
    for path in paths:
        if len(states) >= _MOST_FILES:
            raise TooLargeError
        state = _state(path)
        earlier = known.get(path)
        if earlier is not None and earlier[:5] == state[:5] and not is_recent(earlier, taken):
            state = earlier
        elif stat.S_ISREG(int(state[0])):
            read += int(state[1])
            if read > _MOST_BYTES:
                raise TooLargeError
            state[5] = f"{_digest(path)}{state[5]}"
        states[path] = state
    return states


def paths_of(inputs: Mapping[str, Any]) -> Iterator[str]:
    """The paths of a build's inputs, by the document of `values.Inputs`. Raises OSError."""
    for directory in inputs["directories"]:
        yield from _below(directory, inputs)
    for folder in inputs["folders"]:
        yield from _below(folder, inputs, everything=True)
    yield from inputs["paths"]


def are_same(some: States, others: States) -> bool:
    """Whether files have the same paths, modes and contents."""
    return some.keys() == others.keys() and not changed(some, others)


def changed(some: States, others: States) -> list[str]:
    """The paths of files that are in both, with other modes or contents."""
    return [path for path, state in some.items() if path in others and _identity(state) != _identity(others[path])]


def edited(earlier: States, now: States) -> list[str]:
    """The files whose contents alone changed; none if anything else did: modes, links, or which files there are."""
    if earlier.keys() != now.keys():
        return []
    paths = changed(earlier, now)
    plain = all(
        earlier[path][0] == now[path][0] and _is_plain(earlier[path]) and _is_plain(now[path]) for path in paths
    )
    return paths if plain else []


def is_recent(state: State, taken: int) -> bool:
    """Whether a file may have changed since its state was taken, although its times are the same."""
    return is_newer(state, taken - _RACY_NANOSECONDS)


def is_newer(state: State, time: int) -> bool:
    """Whether a file changed after a time, in nanoseconds since the epoch."""
    return max(int(state[2]), int(state[3])) > time


def _below(directory: str, inputs: Mapping[str, Any], *, everything: bool = False) -> Iterator[str]:
    """The paths of the source files of a directory; with `everything`, of all its files."""
    output = os.path.join(inputs["output"], "")
    for _, path in source_files(directory, besides=inputs["besides"], everything=everything):
        if not (path.startswith(output) and OUTPUT.fullmatch(path[len(output) :].replace(os.sep, "/"))):
            yield path


def _is_plain(state: State) -> bool:
    """Whether a file is one that nobody executes, and no link."""
    mode = int(state[0])
    return stat.S_ISREG(mode) and not mode & 0o111 and len(str(state[5])) == _HEX_DIGITS


def _identity(state: State) -> tuple[object, object]:
    return state[0], state[5]


def _state(path: str) -> State:
    try:
        found, link = os.lstat(path), ""
        if stat.S_ISLNK(found.st_mode):
            found, link = os.stat(path), os.readlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return [*_ABSENT]
    # A directory is there or not: its files are compared by themselves.
    if stat.S_ISDIR(found.st_mode):
        return [found.st_mode, 0, 0, 0, 0, link]
    return [found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, link]


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
