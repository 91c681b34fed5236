"""From a project's requirements to its artifacts: as its lock names them, or resolved without a lock."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from packaging.pylock import Pylock
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hatch_docker.base.target import TargetPython
from hatch_docker.config import ALL
from hatch_docker.errors import HatchDockerError, LockError, ResolveError
from hatch_docker.index.access import Indexes, NamedIndexes
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.sources import read_sources
from hatch_docker.locks import InstallRequest, check_fresh, find_lock, overridden, read_lock, select
from hatch_docker.locks.check import applies
from hatch_docker.locks.commands import shown
from hatch_docker.locks.formats import find_requirement_files, lock_format, named_indexes
from hatch_docker.locks.inputs import changed_inputs, is_ours, project_overrides
from hatch_docker.locks.model import NO_OVERRIDES, OWN_LOCK, Overrides, is_own, read_text
from hatch_docker.locks.readers.requirements_file import read_constraints
from hatch_docker.locks.resolve import moved, resolution_scope, resolve, resolve_for_target
from hatch_docker.support.http import redact
from hatch_docker.support.progress import Progress

_OTHER = "lock another version, or one that has a wheel"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockSource:
    """The ways to a project's artifacts, for the project at `root`.

    `configured` is the configured path of its lock, empty to search for one. `earlier` is the file that earlier builds
    without a lock wrote their resolution to. `indexes` opens the package indexes, given those that the lock names.
    Packages in `no_binary` (normalized names, or `:all:`) are taken as sdists.
    """

    root: Path
    configured: str
    earlier: Path
    indexes: Callable[[NamedIndexes], Indexes]
    no_binary: Set[str] = frozenset()
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """The artifacts of a project for a target.

    `path` is the lock that names them, None if the project requires nothing. `resolved` says that the project has no
    lock of its own: then `path` is a resolution's file in the output directory, and `text` its content if it is not yet
    written there. `overridden` is what the lock's tool overrides, `is_complete` that of its format.
    """

    path: Path | None = None
    artifacts: tuple[Artifact, ...] = ()
    overridden: Overrides = NO_OVERRIDES
    is_complete: bool = False
    resolved: bool = False
    text: str = field(default="", repr=False)


Keep = Callable[[Path, str], None]


def read_artifacts(request: InstallRequest, source: LockSource, *, keep: Keep | None = None) -> Locked:
    """The artifacts that the project's lock names for the target; without a lock, those of a resolution.

    A resolution is used again while its inputs are the same. Packages without a wheel for the target, and those in
    `no_binary`, are sdists. `keep` writes a new resolution to a file; without it nothing is written. Raises LockError,
    ResolveError, and what reading a lock raises.
    """
    progress = source.progress
    request = _checked(request, source)
    path = find_lock(source.root, source.configured, progress=progress)
    if path:
        progress.note(f"lock: {shown(path, source.root)}")
        applying = request.sources.applying(request.target.environment, extras=request.extras, groups=request.groups)
        finder = source.indexes(named_indexes(path)).finder.with_sources(applying)
        return _selected(read_lock(path, request, finder), request, source, Locked(path=path))
    if not request.requirements and not request.requirement_files:
        return Locked()
    locked = _resolved(request, source, keep)
    with _as_file(locked.text or read_text(source.earlier), str(source.earlier)) as file:
        pylock = read_lock(file, request, source.indexes(named_indexes(None)).finder)
    # A resolution contains the chosen extras and groups as plain packages.
    plain = replace(request, extras=frozenset(), groups=frozenset())
    return _selected(pylock, plain, source, locked)


def _resolved(request: InstallRequest, source: LockSource, keep: Keep | None) -> Locked:
    """The resolution of a project without a lock: the one of an earlier build if it is current, else a new one."""
    progress, earlier = source.progress, source.earlier
    for file in request.requirement_files:
        progress.note(f"{shown(file, source.root)} has no hashes: its requirements are resolved")
    before = _readable(earlier)
    if is_ours(before) and not changed_inputs(before, request):
        progress.note(f"lock: {shown(earlier, source.root)}, resolved earlier (delete it to resolve again)")
        return Locked(path=earlier, resolved=True)
    text = resolve_request(request, source, directory=earlier.parent)
    if keep:
        keep(earlier, text)
    where = f"into {shown(earlier, source.root)}" if keep else "for this plan"
    progress.note(f"lock: none, so the requirements were resolved {where}")
    return Locked(path=earlier, resolved=True, text="" if keep else text)


def _readable(path: Path) -> str:
    """The text of a file that builds write; empty if it is damaged, or if there is none."""
    with contextlib.suppress(LockError):
        return text_of(path)
    return ""


def _checked(request: InstallRequest, source: LockSource) -> InstallRequest:
    """The request with the requirements files that it is resolved with. Raises ConfigError for unusable sources."""
    sources = request.sources.applying(request.target.environment, extras=request.extras, groups=request.groups)
    needed = [each for each in request.requirements if applies(each, request.target, extra="")]
    sources.check(canonicalize_name(each.name) for each in needed if not each.url)
    return replace(request, requirement_files=find_requirement_files(source.root, source.configured))


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
    request = _checked(request, source)
    path = writable_lock(source.root, source.configured, progress=source.progress)
    before, earlier = text_of(path), _readable(source.earlier)
    if before and not upgrade:
        if is_ours(before) and not (changes := changed_inputs(before, request)):
            return Locked(path=path, resolved=True, text=before)
        why = f"{path.name} is stale: {'; '.join(changes)}" if is_ours(before) else f"{path.name} was empty"
        source.progress.note(f"{why}; packages keep their versions if possible")
    elif is_ours(earlier) and not upgrade and not changed_inputs(earlier, request):
        return Locked(path=path, resolved=True, text=moved(earlier, source.earlier.parent, path.parent))
    text = resolve_request(request, source, directory=path.parent, before=before, upgrade=upgrade)
    return Locked(path=path, resolved=True, text=text)


def writable_lock(root: Path, configured: str, *, progress: Progress | None = None) -> Path:
    """The project's lock; if it has none, the path where `hatch-docker lock` creates one."""
    path = root / configured
    if configured and not path.is_file() and lock_format(path).writable:
        return path
    return find_lock(root, configured, progress=progress) or root / OWN_LOCK


@contextlib.contextmanager
def _as_file(text: str, place: str = "") -> Iterator[Path]:
    """A pylock.toml with this text, for the duration of the block; errors in it get `place` instead of its path."""
    with tempfile.TemporaryDirectory(prefix="hatch-docker-") as folder:
        path = Path(folder) / "pylock.toml"
        path.write_text(text, encoding="utf-8")
        try:
            yield path
        except HatchDockerError as error:
            error.place = place if error.place == str(path) else error.place
            raise


def _selected(pylock: Pylock, request: InstallRequest, source: LockSource, locked: Locked) -> Locked:
    """`locked` with the artifacts for the request, checked against its requirements."""
    path = locked.path
    if path is None:
        return locked
    kind = lock_format(path)
    refresh = f"delete {path.name}" if locked.resolved else kind.refresh(path, request)
    if changes := () if locked.resolved else kind.changes(path, request):
        raise LockError(f"the lock is stale: {'; '.join(changes)}", place=str(path), hint=f"refresh it: {refresh}")
    artifacts = select(
        pylock,
        request,
        lock=path,
        no_binary=source.no_binary,
        refresh=refresh,
        complete=locked.resolved,
    )
    for name in sorted(source.no_binary - {ALL, *(artifact.name for artifact in artifacts)}):
        source.progress.note(f"no-binary names {name}, which is not a dependency")
    overrides = overridden(pylock) | project_overrides(request)
    check_fresh(artifacts, request, lock=path, refresh=refresh, overridden=overrides)
    complete = kind.is_complete or is_own(pylock)
    return replace(locked, artifacts=tuple(artifacts), overridden=overrides, is_complete=complete)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResolver:
    """Resolves requirements that do not belong to a project, such as those that an sdist is built with.

    uv runs in the directory `root`, and keeps to the versions and hashes of the file `constraints`, whose text is
    `constraints_text`. `tree` is the local directory whose build requirements these are, None for an sdist: its sources
    apply.
    """

    target: TargetPython
    root: Path
    indexes: Indexes
    constraints: Path | None = None
    constraints_text: str = ""
    tree: Path | None = None

    @property
    def scope(self) -> str:
        """A digest of the settings, besides the target, that decide what requirements resolve to."""
        return resolution_scope(self.indexes.resolver, self.constraints_text)

    def for_tree(self, directory: Path) -> BuildResolver:
        """The resolver of the build requirements of a local directory, which has sources of its own."""
        return replace(self, tree=directory)

    def __call__(self, requirements: Sequence[str]) -> tuple[Artifact, ...]:
        """The artifacts of `requirements` for the target.

        Raises LockError, also for an sdist's requirement with a URL, and ResolveError.
        """
        request = self._request(requirements)
        allowed = read_constraints(self.constraints) if self.constraints else {}
        with _as_file(self._resolve(request)) as path:
            try:
                artifacts = select(read_lock(path, request, self.indexes.finder), request, lock=path, complete=True)
            except HatchDockerError as error:
                # The hints are about a project's own lock.
                error.hint = ""
                raise
        _check_allowed(artifacts, allowed, self.constraints)
        return tuple(artifacts)

    def _request(self, requirements: Sequence[str]) -> InstallRequest:
        if self.tree is None:
            found = _without_urls(requirements)
            return InstallRequest(project="", target=self.target, root=self.root, requirements=found)
        sources = read_sources(self.tree, self.indexes.resolver.environ, project="")
        found = _parsed(requirements)
        return InstallRequest(project="", target=self.target, root=self.tree, requirements=found, sources=sources)

    def _resolve(self, request: InstallRequest) -> str:
        """Resolve to wheels alone if possible, since uv may have to run an sdist to read its requirements."""
        resolve_ = partial(resolve_for_target, request, self.indexes.resolver, constraints=self.constraints)
        try:
            return resolve_(build=False)
        except ResolveError:
            return resolve_()


def _without_urls(requirements: Sequence[str]) -> tuple[Requirement, ...]:
    """Parse the requirements of an sdist. Raises LockError for a URL, as no index vouches for it.

    uv would run the code at a URL, on this machine and with all logins, to read its requirements.
    """
    found = _parsed(requirements)
    if urls := [each for each in found if each.url]:
        raise LockError(
            f"{urls[0].name} is a build requirement by URL ({redact(urls[0].url or '')!r}), which no index vouches for",
            hint=_OTHER,
        )
    return found


def _parsed(requirements: Sequence[str]) -> tuple[Requirement, ...]:
    try:
        return tuple(Requirement(text) for text in requirements)
    except (InvalidRequirement, TypeError, RecursionError):
        raise LockError("a build requirement is not valid (PEP 508)", hint=_OTHER) from None


def _check_allowed(
    artifacts: Sequence[Artifact], allowed: Mapping[str, frozenset[str]], constraints: Path | None
) -> None:
    """Compare files with the hashes of the constraints, which uv ignores."""
    others = [
        f"{artifact.name} {artifact.version}"
        for artifact in artifacts
        if (hashes := allowed.get(artifact.name))
        and hashes.isdisjoint(f"{algorithm}:{value}" for algorithm, value in artifact.hashes.items())
    ]
    if others:
        raise LockError(
            f"the index has other files of {', '.join(others)} than the constraints name",
            place=str(constraints),
            hint="remove the hashes to accept another file",
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
    count = len(request.requirements)
    resolver = source.indexes(named_indexes(None)).resolver
    with source.progress.task("resolve", f"{count} requirement{'s' if count != 1 else ''}"):
        return resolve(request, resolver, directory=directory, before=before, upgrade=upgrade)


def text_of(path: Path) -> str:
    """The text of a file; empty if there is no such file. Raises LockError if it cannot be read."""
    return read_text(path) if path.is_file() else ""
