"""A container's changes against its image as reproducible layer entries.

The engine reports which paths changed, and exports the whole file system as a tar. Contents go to one temporary file,
never to their own paths. Left out are caches, logs, temporary and lock files, backups, bytecode, and files that the
engine itself creates in a container.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import BinaryIO

from hatch_docker.engine.container import Change
from hatch_docker.errors import EngineError
from hatch_docker.oci.layer import Entry, Plain
from hatch_docker.oci.members import members, open_stream
from hatch_docker.oci.spool import Spool
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.paths import parents
from hatch_docker.support.patterns import regex
from hatch_docker.support.streams import CHUNK, chunks_of, reader

_MOST_MEMBERS = 4_000_000
_BLOCK = 512
_CAPABILITY = "SCHILY.xattr.security.capability"
_LARGEST_REWRITTEN = 1 << 20
_LEFT_OUT = regex(
    r"""(?: dev | proc | sys | tmp | var/tmp | root/\.cache
    | var/lib/apt/lists | var/log/apt | var/cache/(?:apt|apk|debconf|ldconfig)
    | \.dockerenv | etc/(?:hostname|hosts|resolv\.conf|mtab|machine-id|\.pwd\.lock) | var/lib/dbus/machine-id
    | etc/(?:passwd|group|shadow|gshadow|subuid|subgid)-
    | var/lib/dpkg/(?:[^/]+-old|lock|lock-frontend|triggers/Lock) | var/lib/apt/[^/]*lock | (?:usr/)?lib/apk/db/lock
    )(?:/.*)?""",
    re.VERBOSE,
)
# Only new directories are kept, without their files: few programs create the directory that they write to.
_EMPTIED = regex(r"(?:run|var/run|var/cache|var/log)(?:/.*)?")
_BYTECODE = regex(r"(?:.*/)?__pycache__(?:/.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The entries of a layer, whose contents are in the spool.

    `capable` are the paths of files with capabilities (setcap) in the container, which the layer does not have.
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
    """The layer with `changes`, whose files are in the tar that `export` yields.

    `spool` is an empty file for contents. `rewrite` replaces the content of small files. `owned` are the paths of
    bytecode to keep. Hard links become separate files. Raises EngineError for a tar that is invalid or truncated, or
    has invalid paths.
    """
    kinds = {change.path: change.kind for change in changes if change.path}
    changed = {path for path, kind in kinds.items() if kind != "removed" and not _is_left_out(path, owned)}
    contents = Spool(spool)
    tree = _read(export(), changed, contents)
    unchanged = {target for target in tree.links.values() if target not in tree.files}
    targets = {**tree.files, **(_read(export(), unchanged, contents).files if unchanged else {})}
    files = _with_hard_links(tree, targets)
    for path, make in (rewrite or {}).items():
        if path in files:
            files[path] = _rewritten(files[path], make)
    removed = _removed(
        {path for path, kind in kinds.items() if kind == "removed" and not _is_left_out(path, owned)}, tree
    )
    folders = {path: entry for path, entry in tree.folders.items() if _is_kept(path, kinds.get(path, ""))}
    for path in (*files, *removed, *folders):
        folders |= {parent: tree.folders[parent] for parent in parents(path) if parent in tree.folders}
    removals = [Entry(path=path, removed=True) for path in removed]
    return Difference(entries=(*folders.values(), *files.values(), *removals), capable=tuple(sorted(tree.capable)))


def _is_left_out(path: str, owned: Collection[str]) -> bool:
    """Whether a file at `path` is never part of the layer."""
    if _BYTECODE.fullmatch(path):
        return path not in owned
    return bool(_LEFT_OUT.fullmatch(path) or _EMPTIED.fullmatch(path))


def _is_kept(path: str, kind: str) -> bool:
    """Whether a directory itself is part of the layer: it is new, or its mode or owner may have changed."""
    if not kind or _LEFT_OUT.fullmatch(path) or _BYTECODE.fullmatch(path):
        return False
    return kind == "added" or not _EMPTIED.fullmatch(path)


@dataclass(frozen=True, slots=True)
class _Tree:
    """The contents of a tar: all directories, and the selected files, symbolic links and targets of hard links."""

    folders: dict[str, Entry] = field(default_factory=dict)
    files: dict[str, Entry] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    capable: set[str] = field(default_factory=set)


def _read(chunks: Iterator[bytes], selected: Collection[str], spool: Spool) -> _Tree:
    tree = _Tree()
    plain = reader(_whole(chunks))
    try:
        with open_stream(plain) as tar:
            for member in members(tar, most=_MOST_MEMBERS):
                path = _path(member.name)
                if path and (member.isdir() or path in selected):
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
    elif member.issparse():
        raise _broken(f"{path!r} is a sparse file")
    elif member.isreg():
        content = tar.extractfile(member)
        # extractfile returns None for members without content only.
        tree.files[path] = replace(entry, content=spool.add(chunks_of(content), member.size) if content else b"")
        if _CAPABILITY in member.pax_headers:
            tree.capable.add(path)


def _whole(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the chunks of a tar. Raises EngineError if its end is missing, which tarfile ignores."""
    end = b""
    for chunk in chunks:
        end = (end + chunk)[-_BLOCK:] if len(chunk) < _BLOCK else chunk[-_BLOCK:]
        yield chunk
    if len(end) < _BLOCK or any(end):
        raise _broken("it is truncated")


def _path(name: str) -> str:
    """A member's path, empty for the root directory."""
    path = name.removeprefix("./").rstrip("/") if name not in (".", "/") else ""
    parts = path.split("/")
    if path and any(part in ("", ".", "..") for part in parts):
        raise _broken(f"it holds the path {name!r}")
    return path


def _broken(reason: str) -> EngineError:
    return EngineError(f"the engine's tar of the container's files is invalid: {reason}")


def _with_hard_links(tree: _Tree, targets: Mapping[str, Entry]) -> dict[str, Entry]:
    """The files and symbolic links; hard links become files with the content of their target.

    Symbolic links would save space, but package managers would report them as damaged files.
    """
    files = dict(tree.files)
    for path, target in tree.links.items():
        if target not in targets:
            raise _broken(f"{path!r} is a link to {target!r}, which is not a file")
        files[path] = replace(targets[target], path=path)
    return files


def _rewritten(entry: Entry, make: Callable[[bytes], bytes]) -> Entry:
    content = entry.content
    if not isinstance(content, Plain) or content.size > _LARGEST_REWRITTEN:
        return entry
    return replace(entry, content=make(entry.read()))


def _removed(paths: Collection[str], tree: _Tree) -> list[str]:
    """The paths to remove, except those below a removed or replaced directory."""
    existing = tree.folders.keys() | tree.files.keys() | tree.links.keys()
    replaced = {*paths, *tree.files, *tree.links}
    return sorted(path for path in paths if path not in existing and replaced.isdisjoint(parents(path)))
