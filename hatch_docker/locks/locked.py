"""From a project's requirements to its artifacts: as its lock names them, or resolved without a lock."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from packaging.pylock import Pylock
from packaging.requirements import InvalidRequirement, Requirement

from hatch_docker.base.target import TargetPython
from hatch_docker.config import ALL
from hatch_docker.errors import HatchDockerError, LockError, ResolveError
from hatch_docker.index.access import Indexes, NamedIndexes, ResolverSettings
from hatch_docker.index.artifact import Artifact
from hatch_docker.locks import InstallRequest, check_fresh, find_lock, overridden, read_lock, select
from hatch_docker.locks.formats import lock_format, named_indexes
from hatch_docker.locks.model import read_text
from hatch_docker.locks.readers.requirements_file import read_constraints
from hatch_docker.locks.uv import is_current, is_ours, resolution_scope, resolve, versions_of
from hatch_docker.support.http import redact
from hatch_docker.support.progress import Progress

PYTHON_LOCK = "pylock.docker.toml"
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
    written there. `overridden` has the names whose requirements the lock's tool overrides.
    """

    path: Path | None = None
    artifacts: tuple[Artifact, ...] = ()
    overridden: frozenset[str] = frozenset()
    resolved: bool = False
    text: str = field(default="", repr=False)


Keep = Callable[[Path, str], None]


def read_artifacts(request: InstallRequest, source: LockSource, *, keep: Keep | None = None) -> Locked:
    """The artifacts that the project's lock names for the target; without a lock, those of a resolution.

    A resolution is used again while its inputs are the same. Packages without a wheel for the target, and those in
    `no_binary`, are sdists; `no_binary` does not change a resolution, since uv would have to build those packages to
    read their metadata. `keep` writes a new resolution to a file; without it nothing is written. Raises LockError,
    ResolveError, and what reading a lock raises.
    """
    progress = source.progress
    path = find_lock(source.root, source.configured, progress=progress)
    if path:
        progress.note(f"lock: {_shown(path, source.root)}")
        finder = source.indexes(named_indexes(path)).finder
        refresh = lock_format(path).refresh(_shown(path, source.root), request)
        return _selected(read_lock(path, request, finder), request, source, Locked(path=path), refresh)
    if not request.requirements:
        return Locked()
    indexes, earlier = source.indexes(named_indexes(None)), source.earlier
    text = current_text(earlier, request, indexes.resolver)
    if text:
        progress.note(f"lock: {_shown(earlier, source.root)}, resolved earlier (delete it to resolve again)")
        locked = Locked(path=earlier, resolved=True)
    else:
        text = resolve_request(request, source)
        if keep:
            keep(earlier, text)
        where = f"into {_shown(earlier, source.root)}" if keep else "for this plan"
        progress.note(f"lock: none, so the requirements were resolved {where}")
        locked = Locked(path=earlier, resolved=True, text="" if keep else text)
    with _as_file(text, str(earlier)) as file:
        pylock = read_lock(file, request, indexes.finder)
    # A resolution contains the chosen extras and groups as plain packages.
    plain = replace(request, extras=frozenset(), groups=frozenset())
    return _selected(pylock, plain, source, locked, f"delete {earlier.name}")


def foreign_lock(root: Path, configured: str) -> Path | None:
    """The project's lock if another tool makes it. An empty file has no maker."""
    path = writable_lock(root, configured)
    text = read_text(path) if path.is_file() else ""
    return path if text and not is_ours(text) else None


def relock(upgrade: bool, request: InstallRequest, source: LockSource) -> Locked:
    """The pylock.toml that `hatch-docker lock` writes, as `path` and `text`, without its artifacts.

    A lock that fits the request stays as it is; the packages of a stale one keep their versions if possible, unless
    `upgrade` is set. Raises ResolveError.
    """
    path = writable_lock(source.root, source.configured, progress=source.progress)
    before = read_text(path) if path.is_file() else ""
    resolver = source.indexes(named_indexes(None)).resolver
    current = current_text(path, request, resolver)
    if before and not current and not upgrade:
        changed = "the requirements, Python, platform or index have changed"
        source.progress.note(f"{path.name} is stale ({changed}): packages keep their versions if possible")
    text = "" if upgrade else current or current_text(source.earlier, request, resolver)
    text = text or resolve_request(request, source, before="" if upgrade else before)
    return Locked(path=path, resolved=True, text=text)


def writable_lock(root: Path, configured: str, *, progress: Progress | None = None) -> Path:
    """The project's lock; if it has none, the path where `hatch-docker lock` creates one."""
    path = root / configured
    if configured and not path.is_file() and lock_format(path).writable:
        return path
    return find_lock(root, configured, progress=progress) or root / PYTHON_LOCK


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


def _selected(pylock: Pylock, request: InstallRequest, source: LockSource, locked: Locked, refresh: str) -> Locked:
    """`locked` with the artifacts for the request, checked against its requirements."""
    if locked.path is None:
        return locked
    artifacts = select(
        pylock,
        request,
        lock=locked.path,
        no_binary=source.no_binary,
        refresh=refresh,
        complete=locked.resolved,
    )
    for name in sorted(source.no_binary - {ALL, *(artifact.name for artifact in artifacts)}):
        source.progress.note(f"no-binary names {name}, which is not a dependency")
    check_fresh(artifacts, request, lock=locked.path, refresh=refresh, overridden=overridden(pylock))
    return replace(locked, artifacts=tuple(artifacts), overridden=overridden(pylock))


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResolver:
    """Resolves requirements that do not belong to a project, such as those that an sdist is built with.

    uv runs in the directory `root`, and keeps to the versions and hashes of the file `constraints`, whose text is
    `constraints_text`.
    """

    target: TargetPython
    root: Path
    indexes: Indexes
    constraints: Path | None = None
    constraints_text: str = ""

    @property
    def scope(self) -> str:
        """A digest of the settings, besides the target, that decide what requirements resolve to."""
        return resolution_scope(self.indexes.resolver, self.constraints_text)

    def __call__(self, requirements: Sequence[str]) -> tuple[Artifact, ...]:
        """The artifacts of `requirements` for the target.

        Raises LockError, also for a requirement with a URL, and ResolveError.
        """
        request = InstallRequest(project="", target=self.target, requirements=_without_urls(requirements))
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

    def _resolve(self, request: InstallRequest) -> str:
        """Resolve to wheels alone if possible, since uv may have to run an sdist to read its requirements."""
        uv = partial(_uv, request, self.root, self.indexes.resolver, self.constraints)
        try:
            return uv(build=False)
        except ResolveError:
            return uv()


def _without_urls(requirements: Sequence[str]) -> tuple[Requirement, ...]:
    """Parse the requirements of an sdist. Raises LockError for a URL, as no index vouches for it.

    uv would run the code at a URL, on this machine and with all logins, to read its requirements.
    """
    try:
        found = tuple(Requirement(text) for text in requirements)
    except (InvalidRequirement, TypeError, RecursionError):
        raise LockError("a build requirement is not valid (PEP 508)", hint=_OTHER) from None
    if urls := [each for each in found if each.url]:
        raise LockError(
            f"{urls[0].name} is a build requirement by URL ({redact(urls[0].url or '')!r}), which no index vouches for",
            hint=_OTHER,
        )
    return found


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


def current_text(path: Path, request: InstallRequest, resolver: ResolverSettings) -> str:
    """The content of a file that `resolve_request` returned for the same inputs; empty for any other file, or none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    requirements = [str(requirement) for requirement in request.requirements]
    return text if is_current(text, requirements, request.target, resolver.configured) else ""


def resolve_request(request: InstallRequest, source: LockSource, *, before: str = "") -> str:
    """Resolve a request now, to the text of a pylock.toml. Raises ResolveError.

    The packages of `before`, the text of an earlier lock, keep their versions if all of them can.
    """
    uv = partial(_uv, request, source.root, source.indexes(named_indexes(None)).resolver)
    count = len(request.requirements)
    kept = [f"{name}=={version}\n" for name, version in versions_of(before).items() if version]
    with (
        source.progress.task("resolve", f"{count} requirement{'s' if count != 1 else ''}"),
        tempfile.TemporaryDirectory(prefix="hatch-docker-") as folder,
    ):
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(kept), encoding="utf-8")
        with contextlib.suppress(ResolveError):
            if kept:
                return uv(constraints)
        return uv()


def _uv(
    request: InstallRequest,
    root: Path,
    resolver: ResolverSettings,
    constraints: Path | None = None,
    *,
    build: bool = True,
) -> str:
    requirements = [str(requirement) for requirement in request.requirements]
    return resolve(requirements, resolver, target=request.target, root=root, constraints=constraints, build=build)


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
