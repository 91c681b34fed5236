"""`hatch-docker lock`: write the packages of a project's image to lock files beside the project.

`debian.lock` has the packages from Debian's archive, `pylock.docker.toml` those of the package index. Locks that fit
stay as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hatch_docker.base.image import open_base
from hatch_docker.base.transports import BaseRequest, pull
from hatch_docker.dpkg.lockfile import FILE, Selection, write_pins
from hatch_docker.errors import LockError
from hatch_docker.frontends.cli.pin import Pinned, pin
from hatch_docker.locks.formats import lock_format
from hatch_docker.locks.locked import foreign_lock, relock, writable_lock
from hatch_docker.locks.model import read_text
from hatch_docker.locks.uv import versions_of
from hatch_docker.plan import base_request
from hatch_docker.services import Services
from hatch_docker.session import Session
from hatch_docker.support.atomic import replace_text

UPGRADES = ("base", "python")

DESCRIPTION = """\
Lock the packages of the project's image: packages from Debian's archive in debian.lock, and Python packages in
pylock.docker.toml unless another tool locks them. Packages that are locked and fit stay as they are, except those
that --upgrade names.

Standard output has the paths of the files that were written, one per line.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "--upgrade", action="append", default=[], choices=UPGRADES, help="choose the newest; may be repeated"
    )
    parser.set_defaults(command=lambda chosen: partial(lock, frozenset(chosen.upgrade)))


def lock(upgrade: Collection[str], session: Session) -> tuple[str, int]:
    """Lock the packages of the image that are not locked or do not fit; returns the paths that were written, and 0.

    Packages of the kinds in `upgrade`, of UPGRADES, are chosen anew. Nothing is written before all are chosen. Raises
    what builds raise, and LockError if another tool's lock is to be upgraded.
    """
    session.check_configuration()
    services, config = session.services, session.config
    platform = next(iter(config.base.platforms), services.host.platform)
    request = base_request(session.metadata, config.base, platform)
    pinned = pin(
        request,
        config.os_packages,
        config.compiling,
        services,
        upgrade="base" in upgrade,
        place=config.place("runtime-installer"),
    )
    python = _lock_python(session, request, pinned, upgrade="python" in upgrade)
    paths = []
    if pinned.changed and pinned.after.selections:
        write_pins(session.metadata.root / FILE, pinned.after.selections)
        paths.append(session.metadata.root / FILE)
    if python.path and python.after != python.before:
        replace_text(python.path, python.after)
        paths.append(python.path)
    for line in _report(pinned, python, changed=bool(paths), upgrade=upgrade):
        services.progress.note(line)
    if hint := _digest_hint(request, services):
        services.progress.note(hint)
    return "\n".join(map(str, paths)), 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _PythonLock:
    """The lock of the Python packages, before and after; or the `reason` not to lock them."""

    path: Path | None = None
    before: str = ""
    after: str = ""
    target: str = ""
    reason: str = ""


def _lock_python(session: Session, request: BaseRequest, pinned: Pinned, *, upgrade: bool) -> _PythonLock:
    """Lock the Python packages for the base with the new pins. Without any to lock, the base is not opened."""
    packages, services = session.config.packages, session.services
    requirements = session.metadata.requirements(packages.extras, packages.dependency_groups)
    pinned_services = replace(services, archives=replace(services.archives, pins=lambda: pinned.after))
    path = foreign_lock(services.root, packages.lock)
    if path and upgrade:
        target = open_base(request, pinned_services).facts.python
        refresh = lock_format(path).refresh(path.name, target)
        raise LockError("another tool makes this lock", place=str(path), hint=f"upgrade it: {refresh} --upgrade")
    if path:
        return _PythonLock(reason=f"{path.name}, which another tool makes, has the Python packages")
    if not requirements and not _has_text(writable_lock(services.root, packages.lock)):
        return _PythonLock(reason="the project requires nothing")
    (image,) = session.plan_images(services=pinned_services, lock=partial(relock, upgrade))
    path = image.locked.path
    before = read_text(path) if path and path.is_file() else ""
    return _PythonLock(path=path, before=before, after=image.locked.text, target=str(image.request.target))


def _has_text(path: Path) -> bool:
    return path.is_file() and bool(read_text(path))


def _report(pinned: Pinned, python: _PythonLock, *, changed: bool, upgrade: Collection[str]) -> Iterator[str]:
    """The packages that are locked now, with their changes; then, in one line, why others are not."""
    reasons = [python.reason] if python.reason else []
    if not pinned.after.selections:
        reasons.append("the image has no packages from Debian's archive")
        if pinned.before.selections:
            reasons.append(f"{FILE} is not needed any more")
    else:
        yield from (_selection(*pair) for pair in pinned.pairs())
    if python.path:
        after = versions_of(python.after)
        before = versions_of(python.before) if python.before else None
        head = f"python: {_count(after)} for {python.target}"
        yield _changes(head, before, after, same=python.before == python.after)
    if not changed:
        reasons.insert(0, "everything is up to date" if upgrade else "nothing to do")
    if reasons:
        yield "; ".join(reasons)


def _selection(before: Selection | None, after: Selection | None) -> str:
    old, new = ({each.name: each.version for each in pins.packages} if pins else None for pins in (before, after))
    pins = after or before
    if pins is None or new is None:
        return f"{pins.purpose if pins else ''}: not needed any more"
    suite = f"{pins.suite}@{pins.snapshot}" if pins.snapshot else pins.suite
    head = f"{pins.purpose}: {_count(new)} of Debian {suite} ({pins.architecture})"
    return _changes(head, old, new, same=before == after)


def _changes(head: str, before: Mapping[str, str] | None, after: Mapping[str, str], *, same: bool) -> str:
    """A line with the packages, and one for each difference to `before`."""
    if same:
        return f"{head}, as before"
    lines = []
    for name in sorted({*(before or {}), *after} if before is not None else ()):
        old, new = (before or {}).get(name), after.get(name)
        if old != new:
            change = f"{old} → {new}" if old and new else f"{new} (added)" if new else f"{old} (removed)"
            lines.append(f"    {name} {change}")
    return "\n".join([head, *lines])


def _count(packages: Mapping[str, str]) -> str:
    return f"{len(packages)} package{'s' if len(packages) != 1 else ''}"


def _digest_hint(request: BaseRequest, services: Services) -> str:
    """Suggest to name a base from a registry by its digest; empty if it is, or comes from elsewhere."""
    spec = request.spec
    if spec.transport not in ("family", "registry") or (spec.reference and spec.reference.digest):
        return ""
    found = pull(request, services)
    if found.reference is None:
        return ""
    name = replace(found.reference, digest=found.pulled.digest).familiar
    return f'the base is named by a tag, which may move to another image; by digest this one is "{name}"'
