"""`hatch-docker cache`: show what the cache takes on disk, and remove what is not needed."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from hatch_docker.config import disk_size, fail
from hatch_docker.errors import OutputError
from hatch_docker.frontends.cli.commands import CACHE_KINDS
from hatch_docker.session import Session
from hatch_docker.support import room
from hatch_docker.support.cache import Cache
from hatch_docker.support.documents import BLOBS
from hatch_docker.support.patterns import regex
from hatch_docker.support.room import Entry
from hatch_docker.support.terminal import human

_DAYS = 30
_NANOSECONDS_OF_A_DAY = 24 * 3600 * 10**9
# The kinds of documents that name blobs, and of which kind these are. Blobs that nothing names were downloaded.
_NAMING: Mapping[str, str] = {
    **dict.fromkeys(("saved", "compressed", "interpreters", "contents"), "bases"),
    **dict.fromkeys(("layers", "own-layers", "bytecode", "pruned-bases"), "layers"),
    **dict.fromkeys(("debian-layers", "system-layers", "packages"), "layers"),
    **dict.fromkeys(("compiled", "own-wheels", "tree-wheels", "tree-sdists", "git"), "built"),
}
_DIGEST = regex(rb"(sha\d+):([0-9a-f]{64,128})")
# In bytes: no manifest is larger.
_LARGEST_MANIFEST = 4 << 20


def command(chosen: argparse.Namespace) -> Callable[[Session], tuple[str, int]]:
    """The command. Raises ConfigError for options that do not fit."""
    if chosen.action != "prune" and (chosen.size is not None or chosen.unused_for is not None):
        fail("--size" if chosen.size is not None else "--unused-for", "only 'prune' has this option")
    if chosen.unused_for is not None and chosen.unused_for < 0:
        fail("--unused-for", "write a number of days")
    if chosen.action not in ("prune", "clear") and (chosen.dry_run or chosen.kind):
        fail("--dry-run" if chosen.dry_run else "--kind", "only 'prune' and 'clear' have this option")
    most = None if chosen.size is None else disk_size(chosen.size, "--size")
    if chosen.action == "dir":
        return lambda session: (str(_cache(session).root), 0)
    if chosen.action == "info":
        return partial(show, chosen.json)
    kinds = frozenset(chosen.kind or CACHE_KINDS)
    select = _everything if chosen.action == "clear" else partial(_unneeded, chosen.unused_for, most)
    return partial(remove, kinds, select, chosen.dry_run, chosen.json)


def show(as_json: bool, session: Session) -> tuple[str, int]:
    """The sizes of the cache, as text or JSON, and 0."""
    cache = _cache(session)
    kinds = _by_kind(cache.root)
    sizes = {kind: (len(entries), sum(entry.size for entry in entries)) for kind, entries in kinds.items()}
    total = sum(size for _, size in sizes.values())
    if as_json:
        listed = [{"kind": kind, "entries": count, "bytes": size} for kind, (count, size) in sizes.items()]
        document = {"directory": str(cache.root), "limit": cache.most or None, "bytes": total, "kinds": listed}
        return json.dumps(document, indent=2), 0
    limit = human(cache.most) if cache.most else "none"
    rows = [f"{kind:<10} {human(size):>8}  {CACHE_KINDS[kind]}" for kind, (_, size) in sizes.items()]
    return "\n".join([f"{cache.root}", *rows, f"{'total':<10} {human(total):>8}  of at most {limit}"]), 0


def remove(
    kinds: frozenset[str],
    select: Callable[[Cache, Sequence[Entry]], Iterable[Entry]],
    dry_run: bool,
    as_json: bool,
    session: Session,
) -> tuple[str, int]:
    """Remove the entries of some kinds that `select` selects; what was removed, as text or JSON, and 0.

    Raises OutputError if the directory is not a cache of ours, or another process removes entries.
    """
    cache = _cache(session)
    with cache.removing() as before:
        if not before:
            raise OutputError(
                "nothing can be removed from here",
                place=str(cache.root),
                hint="it has no CACHEDIR.TAG of hatch-docker, or another process cleans it: try again later",
            )
        listed = [entry for kind, entries in _by_kind(cache.root).items() if kind in kinds for entry in entries]
        chosen = list(select(cache, listed))
        if dry_run:
            free = [entry for entry in chosen if entry.used < before]
            size = sum(entry.size for entry in free)
            used = sum(entry.size for entry in chosen) - size
            removed = room.Removed(entries=len(free), size=size, in_use=used)
        else:
            removed = room.remove(chosen, before=before)
            room.make_room(cache.root, cache.most or 2**63, before=before)
    if as_json:
        return json.dumps({"entries": removed.entries, "bytes": removed.size, "in_use": removed.in_use}), 0
    word = "would remove" if dry_run else "removed"
    rest = f"; {human(removed.in_use)} are in use" if removed.in_use else ""
    return f"{word} {removed.entries} entries, {human(removed.size)}{rest}", 0


def _cache(session: Session) -> Cache:
    session.check_settings()
    return session.services.cache


def _everything(_cache: Cache, entries: Sequence[Entry]) -> Sequence[Entry]:
    return entries


def _unneeded(days: int | None, most: int | None, cache: Cache, entries: Sequence[Entry]) -> Sequence[Entry]:
    """What was not used for so many days, and then what is more than the limit."""
    oldest = time.time_ns() - (_DAYS if days is None else days) * _NANOSECONDS_OF_A_DAY
    limit = cache.most if most is None else most
    old = [entry for entry in entries if entry.used < oldest]
    new = [entry for entry in entries if entry.used >= oldest]
    return [*old, *(room.excess(new, limit) if limit else ())]


def _by_kind(root: Path) -> dict[str, list[Entry]]:
    """The entries of each of CACHE_KINDS."""
    entries = list(room.entries_of(root))
    kinds: dict[Path, str] = {}
    for entry in entries:
        naming = _NAMING.get(entry.folder) or ("bases" if entry.folder == BLOBS and _is_manifest(entry) else "")
        for named in _named(entry) if naming else ():
            # What this machine made is not a base's, also if it is one, too.
            if kinds.setdefault(root / BLOBS / named, naming) == "bases":
                kinds[root / BLOBS / named] = naming
        if naming == "bases" and entry.folder == BLOBS:
            kinds.setdefault(entry.path, naming)
    found: dict[str, list[Entry]] = {kind: [] for kind in CACHE_KINDS}
    for entry in entries:
        if entry.folder == BLOBS:
            found[kinds.get(entry.path, "downloads")].append(entry)
        else:
            found["logs" if entry.folder == "logs" else "facts"].append(entry)
    return found


def _is_manifest(entry: Entry) -> bool:
    """Whether a blob is a JSON document."""
    try:
        with entry.path.open("rb") as file:
            return file.read(1) == b"{" and entry.size <= _LARGEST_MANIFEST
    except OSError:
        return False


def _named(entry: Entry) -> list[Path]:
    """The places of the blobs that a document names, below that of all blobs."""
    try:
        text = entry.path.read_bytes()
        if entry.folder != BLOBS:
            # Its key names what it was made of.
            text = json.dumps(json.loads(text.partition(b"\n")[2])["value"]).encode()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return [Path(algorithm.decode(), value.decode()) for algorithm, value in _DIGEST.findall(text)]
