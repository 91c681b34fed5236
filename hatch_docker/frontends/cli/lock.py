"""`hatch-docker lock`: what the image of a project is made of, written down beside the project.

`debian.lock` has the packages out of Debian's archive, `pylock.docker.toml` those of the package index. What is written
down and fits stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hatch_docker.base.image import Base
from hatch_docker.base.transports import pull
from hatch_docker.config import Config
from hatch_docker.dpkg.lockfile import FILE, Selection, write_pins
from hatch_docker.errors import LockError
from hatch_docker.frontends.cli.pin import Pinned, pin
from hatch_docker.image.outputs import lock_path
from hatch_docker.locks import find_lock
from hatch_docker.locks.formats import lock_format
from hatch_docker.locks.locked import current_text, resolve_wanted
from hatch_docker.locks.model import read_text
from hatch_docker.locks.uv import is_ours, versions_of
from hatch_docker.plan import wanted_of
from hatch_docker.project.model import Project
from hatch_docker.services import Machine
from hatch_docker.support.atomic import replacing

UPGRADES = ("base", "python")
PYTHON_LOCK = "pylock.docker.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Distributions:
    """Python's lock at `path`: its text as it is, empty where there is none, and as it should be."""

    path: Path
    before: str
    after: str
    target: str


def lock(
    upgrade: Collection[str], project: Project, config: Config, machine: Machine, directory: Path
) -> tuple[str, int]:
    """Write down what the image is made of, where that is not written down or does not fit; the rest stays.

    `upgrade` has those of UPGRADES that are chosen anew all the same; `directory` is where builds left what they
    resolved. Returns the paths that were written, one a line, and 0. Nothing is written before all is chosen. Raises
    what builds raise, and LockError for a lock of Python's that another tool makes and that is to be upgraded.
    """
    pinned = pin(project, config, machine, anew="base" in upgrade)
    written = lock_path(project.normalized_name, directory)
    python = _distributions(project, config, machine, pinned.base, written, anew="python" in upgrade)
    paths = []
    if pinned.changed and pinned.after.selections:
        write_pins(project.root / FILE, pinned.after.selections)
        paths.append(project.root / FILE)
    if not isinstance(python, str) and python.after != python.before:
        with replacing(python.path) as partial:
            partial.write_text(python.after, encoding="utf-8")
        paths.append(python.path)
    for line in _told(pinned, python, changed=bool(paths), upgrade=upgrade):
        machine.progress.note(line)
    _tell_of_base(project, config, machine)
    return "\n".join(map(str, paths)), 0


def _distributions(
    project: Project, config: Config, machine: Machine, base: Callable[[], Base], written: Path, *, anew: bool
) -> _Distributions | str:
    """The lock that Python's packages should have; or why there is none of ours."""
    path = _python_lock(project, config, machine)
    before = read_text(path) if path.is_file() else ""
    if before and not is_ours(before):
        if anew:
            refresh = lock_format(path).refresh(path.name, base().facts.python)
            raise LockError(
                "another tool makes this lock", place=str(path), hint=f"upgrade it by that: {refresh} --upgrade"
            )
        return f"{path.name}, which another tool makes, has Python's packages"
    if not before and not project.requirements(config.extras, config.dependency_groups):
        return "the project requires nothing"
    wanted = wanted_of(project, config, base().facts.python)
    resolver = machine.indexes(None).resolver
    known = "" if anew else current_text(path, wanted, resolver) or current_text(written, wanted, resolver)
    if before and not anew and not current_text(path, wanted, resolver):
        what = "requirements, Python, platform or index are others now"
        machine.progress.note(f"{path.name} is stale ({what}): what can stay does")
    after = known or resolve_wanted(
        wanted, root=project.root, resolver=resolver, progress=machine.progress, before="" if anew else before
    )
    return _Distributions(path=path, before=before, after=after, target=str(wanted.target))


def _python_lock(project: Project, config: Config, machine: Machine) -> Path:
    """Where the project's lock of Python's packages is, or goes if there is none."""
    configured = project.root / config.lock
    if config.lock and not configured.is_file() and lock_format(configured).writable:
        return configured
    return find_lock(project.root, config.lock, progress=machine.progress) or project.root / PYTHON_LOCK


def _told(pinned: Pinned, python: _Distributions | str, *, changed: bool, upgrade: Collection[str]) -> Iterator[str]:
    """What there is now, and what is another than before; one line where nothing is ours to write."""
    reasons = [python] if isinstance(python, str) else []
    if not pinned.after.selections:
        reasons.append("nothing of the image comes out of Debian's archive")
        if pinned.before.selections:
            reasons.append(f"{FILE} is not needed any more")
    else:
        yield from (_selection(*pair) for pair in pinned.pairs())
    if not isinstance(python, str):
        after = versions_of(python.after)
        before = versions_of(python.before) if python.before else None
        same = python.before == python.after
        yield _changes(f"python: {_many(after)} for {python.target}", before, after, same=same)
    if not changed:
        reasons.insert(0, "there is nothing newer" if upgrade else "nothing was to do")
    if reasons:
        yield "; ".join(reasons)


def _selection(before: Selection | None, after: Selection | None) -> str:
    old, new = ({each.name: each.version for each in pins.packages} if pins else None for pins in (before, after))
    pins = after or before
    if pins is None or new is None:
        return f"{pins.purpose if pins else ''}: not asked for any more"
    suite = f"{pins.suite}@{pins.snapshot}" if pins.snapshot else pins.suite
    head = f"{pins.purpose}: {_many(new)} of Debian {suite} ({pins.architecture})"
    return _changes(head, old, new, same=before == after)


def _changes(head: str, before: Mapping[str, str] | None, after: Mapping[str, str], *, same: bool) -> str:
    """The line of what there is, and below it what is another than `before`."""
    if same:
        return f"{head}, as before"
    lines = []
    for name in sorted({*(before or {}), *after} if before is not None else ()):
        old, new = (before or {}).get(name), after.get(name)
        if old != new:
            change = f"{old} → {new}" if old and new else f"{new} (added)" if new else f"{old} (removed)"
            lines.append(f"    {name} {change}")
    return "\n".join([head, *lines])


def _many(packages: Mapping[str, str]) -> str:
    return f"{len(packages)} package{'s' if len(packages) != 1 else ''}"


def _tell_of_base(project: Project, config: Config, machine: Machine) -> None:
    """Suggest to name a base of a registry by its digest, where it is named by a tag: that is how it is pinned."""
    base = config.base
    if base.transport not in ("family", "registry") or (base.reference and base.reference.digest):
        return
    found = pull(
        base,
        python=config.python,
        requires_python=project.requires_python,
        platform=next(iter(config.platforms), machine.platform),
        places=machine.places,
        progress=machine.progress,
    )
    if found.reference:
        name = replace(found.reference, digest=found.pulled.digest).familiar
        machine.progress.note(f'the base is named by a tag, which may come to mean another image; this one is "{name}"')
