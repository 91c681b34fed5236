"""From a project's requirements to its artifacts: as its lock names them, or resolved without a lock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Set
from pathlib import Path

from packaging.utils import canonicalize_name

from hatch_docker.config import ALL
from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder, Indexes, NamedIndexes
from hatch_docker.index.artifact import Artifact
from hatch_docker.locks import InstallRequest, check_fresh, find_lock, overridden, read_lock, select
from hatch_docker.locks.check import applies
from hatch_docker.locks.choice import Choice, cached_choice
from hatch_docker.locks.commands import shown
from hatch_docker.locks.environments import check_environments
from hatch_docker.locks.formats import find_requirement_files, lock_format, named_indexes
from hatch_docker.locks.inputs import changed_inputs, is_ours, project_overrides
from hatch_docker.locks.model import NO_OVERRIDES, OWN_LOCK, Overrides, Record, as_file, is_own, read_text, recorded
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.progress import Progress
from hatch_docker.support.streams import digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LockSource:
    """The ways to a project's artifacts, for the project at `root`.

    `configured` is the configured path of its lock, empty to search for one. `earlier` is the file that earlier builds
    without a lock wrote their resolution to. `indexes` opens the package indexes, given those that the lock names.
    Packages in `no_binary` (normalized names, or `:all:`) are taken as sdists. `resolved` has the resolutions of this
    run by path, which hold for all its platforms.
    """

    root: Path
    configured: str
    earlier: Path
    indexes: Callable[[NamedIndexes], Indexes]
    no_binary: Set[str] = frozenset()
    progress: Progress = field(default_factory=Progress)
    resolved: dict[Path, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """The artifacts of a project for a target.

    `path` is the lock that names them, None if the project requires nothing. `resolved` says that the project has no
    lock of its own: then `path` is a resolution's file in the output directory, and `text` its content if it is not yet
    written there. `overridden` is what the lock's tool overrides, `is_complete` that of its format. `indexes` are those
    that the lock names, or the requirements files that it was resolved from.
    """

    path: Path | None = None
    artifacts: tuple[Artifact, ...] = ()
    overridden: Overrides = NO_OVERRIDES
    is_complete: bool = False
    resolved: bool = False
    indexes: NamedIndexes = field(default_factory=NamedIndexes)
    text: str = field(default="", repr=False)

    @property
    def digest(self) -> str:
        """The digest of the lock's text, the same with any newlines; empty if there is no lock."""
        if self.path is None:
            return ""
        return digest_of((self.text or read_text(self.path)).replace("\r\n", "\n").encode())


Keep = Callable[[Path, str], None]


def read_artifacts(
    request: InstallRequest, source: LockSource, *, keep: Keep | None = None, renew: bool = False
) -> Locked:
    """The artifacts that the project's lock names for the target; without a lock, those of a resolution.

    A resolution is used again while its inputs are the same, unless `renew` is given. Packages without a wheel for the
    target, and those in `no_binary`, are sdists. `keep` writes a new resolution to a file; without it nothing is
    written. Raises LockError, ResolveError, and what reading a lock raises.
    """
    progress = source.progress
    path = find_lock(source.root, source.configured, progress=progress)
    if path is None or is_ours(_text_of_pylock(path)):
        request = _with_files(request, source)
    _check_sources(request)
    if path:
        progress.note(f"lock: {shown(path, source.root)}")
        applying = request.sources.applying(request.target.environment, extras=request.extras, groups=request.groups)
        named = _indexes_of(request) if request.requirement_files else named_indexes(path)
        finder = source.indexes(named).finder.with_sources(applying)
        return _chosen(path, request, source, Locked(path=path, indexes=named), finder)
    if not request.requirements and not request.requirement_files:
        return Locked()
    check_environments(request)
    locked = replace(_resolved(request, source, keep, renew=renew), indexes=_indexes_of(request))
    # A resolution contains the chosen extras and groups as plain packages.
    plain = replace(request, extras=frozenset(), groups=frozenset())
    with as_file(locked.text or read_text(source.earlier), str(source.earlier)) as file:
        return _chosen(file, plain, source, locked, source.indexes(locked.indexes).finder)


def _indexes_of(request: InstallRequest) -> NamedIndexes:
    """The indexes that the requirements files name which a request is resolved with."""
    return named_indexes(next(iter(request.requirement_files), None))


def _text_of_pylock(path: Path) -> str:
    """The text of a pylock.toml; empty for a lock of another format."""
    return read_text(path) if lock_format(path).writable else ""


def _resolved(request: InstallRequest, source: LockSource, keep: Keep | None, *, renew: bool) -> Locked:
    """The resolution of a project without a lock: the one of an earlier build if it is current, else a new one."""
    progress, earlier = source.progress, source.earlier
    if earlier in source.resolved:
        return Locked(path=earlier, resolved=True, text="" if keep else source.resolved[earlier])
    for file in request.requirement_files:
        progress.note(f"{shown(file, source.root)} has no hashes: its requirements are resolved")
    before = "" if renew else _readable(earlier)
    if is_ours(before) and not changed_inputs(before, request, here=True):
        progress.note(f"lock: {shown(earlier, source.root)}, resolved earlier (delete it to resolve again)")
        return Locked(path=earlier, resolved=True)
    text = source.resolved[earlier] = resolve_request(request, source, directory=earlier.parent)
    if keep:
        keep(earlier, text)
    where = f"into {shown(earlier, source.root)}" if keep else "for this run alone"
    progress.note(f"lock: none, so the requirements were resolved {where}")
    return Locked(path=earlier, resolved=True, text="" if keep else text)


def _readable(path: Path) -> str:
    """The text of a file that builds write; empty if it is damaged, or if there is none."""
    with contextlib.suppress(LockError):
        return text_of(path)
    return ""


def _with_files(request: InstallRequest, source: LockSource) -> InstallRequest:
    """The request with the requirements files that it is resolved with.

    uv applies sources to what a project requires, and not to files: what has a source in these is the project's, too.
    """
    from hatch_docker.locks.readers.requirements_file import included_files, requirements_of

    files = find_requirement_files(source.root, source.configured)
    listed = [each for file in files for each in requirements_of(file)]
    sourced = [each for each in listed if request.sources.of(canonicalize_name(each.name))]
    return replace(
        request,
        requirements=tuple(dict.fromkeys([*request.requirements, *sourced])),
        requirement_files=files,
        included_files=tuple(each for file in files for each in included_files(file)),
    )


def _check_sources(request: InstallRequest) -> None:
    """Raise ConfigError for sources that cannot be used."""
    sources = request.sources.applying(request.target.environment, extras=request.extras, groups=request.groups)
    needed = [each for each in request.requirements if applies(each, request.target, extra="")]
    sources.check(canonicalize_name(each.name) for each in needed if not each.url)


def foreign_lock(root: Path, configured: str) -> Path | None:
    """The project's lock if another tool makes it. An empty file has no maker."""
    path = writable_lock(root, configured)
    text = text_of(path)
    return path if text and not is_ours(text) else None


def relock(upgrade: Collection[str], request: InstallRequest, source: LockSource) -> Locked:
    """The pylock.toml that `hatch-docker lock` writes, as `path` and `text`, without its artifacts.

    A lock that fits the request stays as it is; the packages of a stale one keep their versions if possible, except
    those in `upgrade` (normalized names, or `:all:`). Raises ResolveError.
    """
    request = _with_files(request, source)
    _check_sources(request)
    check_environments(request)
    path = writable_lock(source.root, source.configured, progress=source.progress)
    before, earlier = text_of(path), _readable(source.earlier)
    if path in source.resolved:
        return Locked(path=path, resolved=True, text=source.resolved[path])
    if before and not upgrade:
        if is_ours(before) and not (changes := changed_inputs(before, request)):
            return Locked(path=path, resolved=True, text=before)
        why = f"{path.name} is stale: {'; '.join(changes)}" if is_ours(before) else f"{path.name} was empty"
        source.progress.note(f"{why}; packages keep their versions if possible")
    elif is_ours(earlier) and not upgrade and not changed_inputs(earlier, request, here=True):
        from hatch_docker.locks.resolve import moved

        return Locked(path=path, resolved=True, text=moved(earlier, source.earlier.parent, path.parent))
    text = source.resolved[path] = resolve_request(
        request, source, directory=path.parent, before=before, upgrade=upgrade
    )
    return Locked(path=path, resolved=True, text=text)


def writable_lock(root: Path, configured: str, *, progress: Progress | None = None) -> Path:
    """The project's lock; if it has none, the path where `hatch-docker lock` creates one."""
    path = root / configured
    if configured and not path.is_file() and lock_format(path).writable:
        return path
    return find_lock(root, configured, progress=progress) or root / OWN_LOCK


def _chosen(file: Path, request: InstallRequest, source: LockSource, locked: Locked, finder: FileFinder) -> Locked:
    """`locked` with the artifacts that `file` names for the request, checked against its requirements."""
    path = locked.path or file
    kind, no_binary = lock_format(path), source.no_binary
    refresh = f"delete {path.name}" if locked.resolved else kind.refresh(path, request)

    def check_changes(record: Record) -> None:
        if changes := () if locked.resolved else kind.changes(path, request, record):
            raise LockError(f"the lock is stale: {'; '.join(changes)}", place=str(path), hint=f"refresh it: {refresh}")

    # The reader and the selection know no more than the key of the cache.
    scope = request.scope if kind.is_pure else request
    cached = cached_choice(file, kind, scope, no_binary=no_binary, complete=locked.resolved, cache=finder.cache)
    choice = cached.find()
    if choice:
        check_changes(choice.record)
    else:
        pylock = read_lock(file, scope, finder)
        check_changes(recorded(pylock))
        found = select(pylock, scope, lock=path, no_binary=no_binary, refresh=refresh, complete=locked.resolved)
        choice = Choice(artifacts=tuple(found), record=recorded(pylock))
        cached.keep(choice)
    for name in sorted(source.no_binary - {ALL, *(artifact.name for artifact in choice.artifacts)}):
        source.progress.note(f"no-binary names {name}, which is not a dependency")
    overrides = overridden(choice.record) | project_overrides(request)
    check_fresh(choice.artifacts, request, lock=path, refresh=refresh, overridden=overrides)
    return replace(
        locked,
        artifacts=choice.artifacts,
        overridden=overrides,
        is_complete=kind.is_complete or is_own(choice.record),
    )


def resolve_request(
    request: InstallRequest,
    source: LockSource,
    *,
    directory: Path,
    before: str = "",
    upgrade: Collection[str] = (),
) -> str:
    """Resolve a request now, to the text of a pylock.toml in `directory`; see `resolve`. Raises ResolveError."""
    from hatch_docker.locks.readers.requirements_file import requirements_of
    from hatch_docker.locks.resolve import resolve

    count = len(
        {*request.requirements, *(each for file in request.requirement_files for each in requirements_of(file))}
    )
    resolver = source.indexes(_indexes_of(request)).resolver
    with source.progress.task("resolve", f"{count} requirement{'s' if count != 1 else ''}"):
        return resolve(request, resolver, directory=directory, before=before, upgrade=upgrade)


def text_of(path: Path) -> str:
    """The text of a file; empty if there is no such file. Raises LockError if it cannot be read."""
    return read_text(path) if path.is_file() else ""
