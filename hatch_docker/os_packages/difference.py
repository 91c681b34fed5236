"""What a container has that its image has not, as entries of a layer: the same for the same packages at any time.

The engine tells which names changed and gives the whole file system as a tar. Contents that the layer takes are kept
one after the other in one file, never by their own paths. What is left out: caches, logs, temporary and lock files,
backups, bytecode, and what the engine itself puts into a container.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from hatch_docker.engine import Change
from hatch_docker.errors import EngineError
from hatch_docker.oci.layer import Entry, Plain
from hatch_docker.oci.members import Member, members
from hatch_docker.oci.spool import Spool
from hatch_docker.support.paths import parents
from hatch_docker.support.streams import CHUNK, chunks_of, reader

_MOST_MEMBERS = 4_000_000
_BLOCK = 512
_CAPABILITY = "SCHILY.xattr.security.capability"
_LARGEST_REWRITTEN = 1 << 20
_NOTHING = re.compile(
    r"""(?: dev | proc | sys | tmp | var/tmp | root/\.cache
    | var/lib/apt/lists | var/log/apt | var/cache/(?:apt|apk|debconf|ldconfig)
    | \.dockerenv | etc/(?:hostname|hosts|resolv\.conf|mtab|machine-id|\.pwd\.lock) | var/lib/dbus/machine-id
    | etc/(?:passwd|group|shadow|gshadow|subuid|subgid)-
    | var/lib/dpkg/(?:[^/]+-old|lock|lock-frontend|triggers/Lock) | var/lib/apt/[^/]*lock | (?:usr/)?lib/apk/db/lock
    )(?:/.*)?""",
    re.VERBOSE,
)
# New directories alone: few programs make the one that they write to.
_EMPTY = re.compile(r"(?:run|var/run|var/cache|var/log)(?:/.*)?")
_BYTECODE = re.compile(r"(?:.*/)?__pycache__(?:/.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The entries of a layer, and the files that have capabilities (setcap) in the container: in a layer of ours none.

    The entries' contents are read from the spool that `difference` was given.
    """

    entries: tuple[Entry, ...]
    capable: tuple[str, ...]


def difference(
    changes: Iterable[Change],
    export: Callable[[], Iterator[bytes]],
    spool: BinaryIO,
    *,
    rewrite: Mapping[str, Callable[[bytes], bytes]] | None = None,
    owned: Collection[str] = (),
) -> Difference:
    """The layer that turns the image into what `export` gives, a tar, where `changes` names what differs.

    `spool` is an empty file for contents. `rewrite` gives another content to small files. `owned` is bytecode that is
    kept. Files with several names (hard links) become several files. Raises EngineError for what is no tar, not whole,
    or holds paths that no file system has.
    """
    kinds = {change.path: change.kind for change in changes if change.path}
    there = {path for path, kind in kinds.items() if kind != "removed" and not _is_left_out(path, owned)}
    store = Spool(spool)
    tree = _read(export(), there, store)
    elsewhere = {target for target in tree.links.values() if target not in tree.files}
    originals = {**tree.files, **(_read(export(), elsewhere, store).files if elsewhere else {})}
    files = _named(tree, originals)
    for path, make in (rewrite or {}).items():
        if path in files:
            files[path] = _rewritten(files[path], make)
    gone = _removed({path for path, kind in kinds.items() if kind == "removed" and not _is_left_out(path, owned)}, tree)
    folders = {path: entry for path, entry in tree.folders.items() if _is_kept(path, kinds.get(path, ""))}
    for path in (*files, *gone, *folders):
        folders |= {parent: tree.folders[parent] for parent in parents(path) if parent in tree.folders}
    removals = [Entry(path=path, removed=True) for path in gone]
    return Difference(entries=(*folders.values(), *files.values(), *removals), capable=tuple(sorted(tree.capable)))


def _is_left_out(path: str, owned: Collection[str]) -> bool:
    """Whether a file of that name never goes into the layer."""
    if _BYTECODE.fullmatch(path):
        return path not in owned
    return bool(_NOTHING.fullmatch(path) or _EMPTY.fullmatch(path))


def _is_kept(path: str, kind: str) -> bool:
    """Whether a directory goes into the layer for its own sake: one that is new, or may have another mode or owner."""
    if not kind or _NOTHING.fullmatch(path) or _BYTECODE.fullmatch(path):
        return False
    return kind == "added" or not _EMPTY.fullmatch(path)


@dataclass(frozen=True, slots=True)
class _Tree:
    """What was read of a tar: all directories; where wanted, files, symbolic links, and the targets of hard links."""

    folders: dict[str, Entry] = field(default_factory=dict)
    files: dict[str, Entry] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    capable: set[str] = field(default_factory=set)


def _read(chunks: Iterator[bytes], wanted: Collection[str], spool: Spool) -> _Tree:
    tree = _Tree()
    plain = reader(_whole(chunks))
    try:
        with tarfile.open(fileobj=plain, mode="r|", tarinfo=Member) as tar:
            for member in members(tar, most=_MOST_MEMBERS):
                path = _path(member.name)
                if path and (member.isdir() or path in wanted):
                    _take(tar, member, path, tree, spool)
        while plain.read(CHUNK):
            pass
    except (tarfile.TarError, EOFError, OSError, ValueError, RecursionError) as error:
        raise _broken(str(error)) from None
    return tree


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, tree: _Tree, spool: Spool) -> None:
    if path in tree.folders or path in tree.files or path in tree.links:
        raise _broken(f"it has {path!r} twice")
    entry = Entry(path=path, mode=member.mode & 0o7777, uid=member.uid, gid=member.gid)
    if member.isdir():
        tree.folders[path] = entry
    elif member.islnk():
        tree.links[path] = _path(member.linkname)
    elif member.issym():
        tree.files[path] = replace(entry, link=member.linkname)
    elif member.isreg():
        content = tar.extractfile(member)
        # For what is regular there is one.
        tree.files[path] = replace(entry, content=spool.add(chunks_of(content), member.size) if content else b"")
        if _CAPABILITY in member.pax_headers:
            tree.capable.add(path)


def _whole(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks of a tar; raise where its end is missing, which tarfile does not mind."""
    end = b""
    for chunk in chunks:
        end = (end + chunk)[-_BLOCK:] if len(chunk) < _BLOCK else chunk[-_BLOCK:]
        yield chunk
    if len(end) < _BLOCK or any(end):
        raise _broken("it ends early")


def _path(name: str) -> str:
    """A member's path, empty for the root's."""
    path = name.removeprefix("./").rstrip("/") if name not in (".", "/") else ""
    parts = path.split("/")
    if path and any(part in ("", ".", "..") for part in parts):
        raise _broken(f"it holds the path {name!r}")
    return path


def _broken(why: str) -> EngineError:
    return EngineError(f"the engine does not give the container's files as a sound tar: {why}")


def _named(tree: _Tree, originals: Mapping[str, Entry]) -> dict[str, Entry]:
    """Files and symbolic links, where each of a file's names has its content.

    A symbolic link in place of a hard one would save space, but package managers take it for a damaged file.
    """
    files = dict(tree.files)
    for path, target in tree.links.items():
        if target not in originals:
            raise _broken(f"{path!r} is a link to {target!r}, which is no file")
        files[path] = replace(originals[target], path=path)
    return files


def _rewritten(entry: Entry, make: Callable[[bytes], bytes]) -> Entry:
    content = entry.content
    if not isinstance(content, Plain) or content.size > _LARGEST_REWRITTEN:
        return entry
    return replace(entry, content=make(entry.read()))


def _removed(paths: Collection[str], tree: _Tree) -> list[str]:
    """What has to be taken away: what went with its directory goes with it."""
    there = tree.folders.keys() | tree.files.keys() | tree.links.keys()
    replaced = {*paths, *tree.files, *tree.links}
    return sorted(path for path in paths if path not in there and replaced.isdisjoint(parents(path)))
