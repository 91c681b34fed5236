"""The room that a cache takes on disk: how much, by kind, and what to remove if it is too much: what was used least.

An entry is a blob with its seal, a document, or a log. The time when it was last used is that of its file, or of the
seal: a blob's own times show whether it changed. Sizes are in bytes, in blocks of 4 KiB as on most disks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.documents import BLOBS

BLOCK = 4096
# The directory of seals, and those that hold no entries.
SEALS, TEMPORARY, LOCKS, RUNS, UPLOADS = "verified", "tmp", "locks", "running", "uploads"
_OTHERS = frozenset({BLOBS, SEALS, TEMPORARY, LOCKS, RUNS, UPLOADS})
# In the place of a run's name, in those of files of whoever removes entries: that is one run at a time.
_REMOVING = "0" * 32
_TOTAL = "size"
# How much is left of the limit after entries were removed, so that not every run removes some.
_KEPT_PART = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry: its file, the seal of a blob, the directory that it is in, and when it was used, in nanoseconds."""

    path: Path
    seal: Path | None
    folder: str
    size: int
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """How many entries were removed and how many bytes they had, and the bytes that running builds need."""

    entries: int = 0
    size: int = 0
    in_use: int = 0


def on_disk(size: int) -> int:
    """The size of a file on disk."""
    return -(-size // BLOCK) * BLOCK


def entries_of(root: Path) -> Iterator[Entry]:
    """All entries of a cache."""
    for folder in _folders(root):
        if folder.name not in _OTHERS:
            for item in _scan(folder):
                if (status := _status(item)) is not None:
                    yield _entry(item, status, folder.name)
        elif folder.name == BLOBS:
            for algorithm in _folders(folder):
                for item in _scan(algorithm):
                    if (status := _status(item)) is not None:
                        yield _blob(item, status, root / SEALS / algorithm.name / item.name)


def estimate(root: Path) -> int | None:
    """What the entries take on disk at most, from what was `counted` and `recorded`; None if that is not known."""
    try:
        return sum(map(int, (root / _TOTAL).read_text(encoding="ascii").split()))
    except (OSError, ValueError):
        return None


def counted(root: Path, total: int) -> None:
    """Note what all entries take on disk. Raises OSError."""
    partial = _temporary(root)
    partial.write_text(f"{total}\n", encoding="ascii")
    partial.replace(root / _TOTAL)


def recorded(root: Path, written: int) -> None:
    """Note that entries of so many bytes were written. Raises OSError, also before anything was `counted`."""
    descriptor = os.open(root / _TOTAL, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, f"{written}\n".encode())
    finally:
        os.close(descriptor)


def make_room(root: Path, most: int, *, before: int) -> None:
    """Remove entries that were not used at `before`, in nanoseconds, or later, if all take over `most` bytes on disk.

    Some more are removed than must be. It is noted what the others take.
    """
    entries = list(entries_of(root))
    total = sum(entry.size for entry in entries)
    chosen = excess(entries, int(most * _KEPT_PART)) if total > most else []
    total -= remove(chosen, before=before).size
    _remove_seals(root)
    with contextlib.suppress(OSError):
        counted(root, total)


def excess(entries: Iterable[Entry], most: int) -> list[Entry]:
    """The entries without which the others take `most` bytes: those whose last use is longest ago."""
    ordered = sorted(entries, key=lambda entry: entry.used)
    left = sum(entry.size for entry in ordered)
    chosen = []
    for entry in ordered:
        if left <= most:
            break
        chosen.append(entry)
        left -= entry.size
    return chosen


def remove(entries: Iterable[Entry], *, before: int) -> Removed:
    """Remove entries, except those that were used at `before`, in nanoseconds, or later: they are in use."""
    count = size = in_use = 0
    for entry in entries:
        if entry.used < before and _remove(entry):
            count += 1
            size += entry.size
        else:
            in_use += entry.size
    return Removed(entries=count, size=size, in_use=in_use)


def _remove(entry: Entry) -> bool:
    """Remove an entry, unless it was used since it was listed."""
    try:
        if entry.seal is None:
            entry.path.unlink()
            return True
        # Whoever uses a blob sets the time of its seal first, which fails once the seal is elsewhere.
        aside = _temporary(entry.path.parents[2])
        entry.seal.replace(aside)
        if aside.stat().st_mtime_ns > entry.used:
            aside.replace(entry.seal)
            return False
        entry.path.unlink()
        aside.unlink()
    except FileNotFoundError:
        return True
    except OSError:
        # Windows does not remove open files.
        return False
    return True


def _remove_seals(root: Path) -> None:
    """Remove seals of blobs that are gone."""
    for algorithm in (each for folder in _folders(root) if folder.name == SEALS for each in _folders(folder)):
        for seal in _scan(algorithm):
            if not (root / BLOBS / algorithm.name / seal.name).exists():
                with contextlib.suppress(OSError):
                    Path(seal.path).unlink()


def _entry(item: os.DirEntry[str], status: os.stat_result, folder: str) -> Entry:
    return Entry(path=Path(item.path), seal=None, folder=folder, size=on_disk(status.st_size), used=status.st_mtime_ns)


def _blob(item: os.DirEntry[str], status: os.stat_result, seal: Path) -> Entry:
    entry = _entry(item, status, BLOBS)
    try:
        used, more = seal.stat().st_mtime_ns, BLOCK
    except OSError:
        return entry
    return replace(entry, seal=seal, size=entry.size + more, used=used)


def _temporary(root: Path) -> Path:
    """A path for a file that the next run removes if this one is killed."""
    return root / TEMPORARY / f"{_REMOVING}-hatch-docker-{os.urandom(16).hex()}"


def _status(item: os.DirEntry[str]) -> os.stat_result | None:
    """The status of a regular file; None for others, and for one that is gone."""
    try:
        return item.stat(follow_symlinks=False) if item.is_file(follow_symlinks=False) else None
    except OSError:
        return None


def _folders(folder: Path) -> list[Path]:
    """The directories in a directory; links, and junctions on Windows, may lead to what is not ours."""
    found = []
    for item in _scan(folder):
        with contextlib.suppress(OSError):
            reparsed = getattr(item.stat(follow_symlinks=False), "st_reparse_tag", 0)
            if item.is_dir(follow_symlinks=False) and not reparsed:
                found.append(Path(item.path))
    return found


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return list(items)
    except OSError:
        return []
