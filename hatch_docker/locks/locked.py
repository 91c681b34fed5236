"""From what a project requires to the artifacts of its image: by its lock, or resolved and written down."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from hatch_docker.base.target import TargetPython
from hatch_docker.config import ALL
from hatch_docker.errors import HatchDockerError, LockError, ResolveError
from hatch_docker.index.access import FileFinder, ResolverSettings
from hatch_docker.index.artifact import Artifact
from hatch_docker.locks import InstallRequest, check_fresh, overridden, read_lock, select
from hatch_docker.locks.formats import lock_format
from hatch_docker.locks.readers.requirements_file import read_constraints
from hatch_docker.locks.uv import find_uv, is_current, resolve, versions_of
from hatch_docker.support.atomic import replacing
from hatch_docker.support.http import redact
from hatch_docker.support.progress import Progress

_OTHER = "lock another version, or one that has a wheel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """What a lock says for the target. `path` is None where nothing is required, `resolved` where this build made it.

    `overridden` are names whose requirements the lock's maker was told to disregard.
    """

    path: Path | None = None
    artifacts: tuple[Artifact, ...] = ()
    overridden: frozenset[str] = frozenset()
    resolved: bool = False


def artifacts_of(
    wanted: InstallRequest,
    *,
    root: Path,
    lock: Path | None,
    lookup: FileFinder,
    resolver: ResolverSettings,
    written: Path,
    no_binary: Set[str] = frozenset(),
    progress: Progress,
) -> Locked:
    """The artifacts that the lock names for the target: sdists where there is no wheel, or where `no_binary` says so.

    Where there is no lock the requirements are resolved and the result written to `written`, which later builds read
    while it fits. `no_binary` does not shape that: uv would have to build those packages here to read their metadata.
    Raises LockError and what reading locks raises.
    """
    if lock is None and not wanted.requirements:
        return Locked()
    resolved = lock is None
    path = lock or _resolved(wanted, root, resolver, written, progress)
    if lock:
        progress.note(f"lock: {_shown(lock, root)}")
    refresh = f"delete {path.name}" if resolved else lock_format(path).refresh(path.name, wanted.target)
    pylock = read_lock(path, wanted, lookup)
    artifacts = select(
        pylock,
        wanted.target,
        lock=path,
        project=wanted.project,
        extras=frozenset() if resolved else wanted.extras,
        groups=frozenset() if resolved else wanted.groups,
        no_binary=no_binary,
        refresh=refresh,
        complete=resolved,
    )
    for name in sorted(no_binary - {ALL, *(artifact.name for artifact in artifacts)}):
        progress.note(f"no-binary names {name}, which is not among the dependencies")
    check_fresh(
        artifacts,
        wanted.requirements,
        wanted.target,
        lock=path,
        project=wanted.project,
        refresh=refresh,
        overridden=overridden(pylock),
    )
    return Locked(path=path, artifacts=tuple(artifacts), overridden=overridden(pylock), resolved=resolved)


def resolve_alone(
    requirements: Sequence[str],
    *,
    target: TargetPython,
    root: Path,
    lookup: FileFinder,
    resolver: ResolverSettings,
    constraints: Path | None,
) -> tuple[Artifact, ...]:
    """The artifacts of requirements that are no project's, such as those that an sdist is built with.

    uv resolves them in the folder `root`, within the versions and hashes of the file `constraints`. Raises LockError,
    also for a requirement with a URL, and what resolving raises.
    """
    wanted = InstallRequest(project="", target=target, requirements=_of_an_index(requirements))
    allowed = read_constraints(constraints) if constraints else {}
    with tempfile.TemporaryDirectory(prefix="hatch-docker-") as folder:
        path = Path(folder) / "pylock.toml"
        path.write_text(_alone(wanted, root, resolver, constraints), encoding="utf-8")
        try:
            artifacts = select(read_lock(path, wanted, lookup), target, lock=path, project="", complete=True)
        except HatchDockerError as error:
            # The file is ours, and gone when the message is read.
            error.place, error.hint = "", ""
            raise
    _check_allowed(artifacts, allowed, constraints)
    return tuple(artifacts)


def _alone(wanted: InstallRequest, root: Path, resolver: ResolverSettings, constraints: Path | None) -> str:
    """Out of wheels if that can be, since uv may have to run an sdist to read it."""
    try:
        return _uv(wanted.requirements, wanted.target, root, resolver, constraints, build=False)
    except ResolveError:
        return _uv(wanted.requirements, wanted.target, root, resolver, constraints)


def _of_an_index(requirements: Sequence[str]) -> tuple[Requirement, ...]:
    """Requirements that an sdist names, which nobody vouches for.

    uv runs what is at a URL, here and with all logins, to learn what it requires in turn.
    """
    try:
        found = tuple(Requirement(text) for text in requirements)
    except (InvalidRequirement, TypeError, RecursionError):
        raise LockError("a build requirement is none (PEP 508)", hint=_OTHER) from None
    if urls := [each for each in found if each.url]:
        raise LockError(
            f"{urls[0].name} is a build requirement by URL ({redact(urls[0].url or '')!r}), which no index vouches for",
            hint=_OTHER,
        )
    return found


def _check_allowed(
    artifacts: Sequence[Artifact], allowed: Mapping[str, frozenset[str]], constraints: Path | None
) -> None:
    """Compare files with the hashes that constraints give; uv does not."""
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
            hint="take its hashes out if another file will do",
        )


def _resolved(
    wanted: InstallRequest, root: Path, resolver: ResolverSettings, written: Path, progress: Progress
) -> Path:
    """The written result of an earlier build while its inputs are the same, else that of a new resolution."""
    if current_text(written, wanted, resolver):
        progress.note(f"lock: {_shown(written, root)}, resolved earlier (delete it to resolve again)")
        return written
    text = resolve_wanted(wanted, root=root, resolver=resolver, progress=progress)
    with replacing(written) as partial:
        partial.write_text(text, encoding="utf-8")
    progress.note(f"lock: none, so the requirements were resolved into {_shown(written, root)}")
    return written


def current_text(path: Path, wanted: InstallRequest, resolver: ResolverSettings) -> str:
    """What a file holds that `resolve_wanted` gave for the same; empty for any other, or none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    texts = [str(requirement) for requirement in wanted.requirements]
    return text if is_current(text, texts, wanted.target, resolver.configured) else ""


def resolve_wanted(
    wanted: InstallRequest, *, root: Path, resolver: ResolverSettings, progress: Progress, before: str = ""
) -> str:
    """The text of a lock of what is wanted, resolved now.

    What `before`, the text of an earlier one, has stays at its version, where that goes for all. Raises ResolveError.
    """
    many = len(wanted.requirements)
    kept = [f"{name}=={version}\n" for name, version in versions_of(before).items() if version]
    with (
        progress.task("resolve", f"{many} requirement{'s' if many != 1 else ''}"),
        tempfile.TemporaryDirectory(prefix="hatch-docker-") as folder,
    ):
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(kept), encoding="utf-8")
        with contextlib.suppress(ResolveError):
            if kept:
                return _uv(wanted.requirements, wanted.target, root, resolver, constraints)
        return _uv(wanted.requirements, wanted.target, root, resolver)


def _uv(
    requirements: Sequence[Requirement],
    target: TargetPython,
    root: Path,
    resolver: ResolverSettings,
    constraints: Path | None = None,
    build: bool = True,
) -> str:
    return resolve(
        [str(requirement) for requirement in requirements],
        target=target,
        uv=find_uv(resolver.environ),
        root=root,
        environ=resolver.environ,
        indexes=resolver.indexes(),
        configured=resolver.configured,
        embed=resolver.embed,
        constraints=constraints,
        build=build,
    )


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
