"""`hatch-docker lock`: write the packages of a project's image to lock files beside the project.

`debian.lock` has the packages from Debian's archive, `pylock.docker.toml` those of the package index. Locks that fit
stay as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from packaging.utils import canonicalize_name

from hatch_docker.base.transports import BaseRequest, locate, pull
from hatch_docker.config import ALL
from hatch_docker.dpkg.lockfile import FILE, Selection, write_pins
from hatch_docker.errors import LockError
from hatch_docker.frontends.cli.pin import Pinned, pin
from hatch_docker.image.files import shown_path
from hatch_docker.locks import InstallRequest
from hatch_docker.locks.commands import OWN_COMMAND
from hatch_docker.locks.formats import find_requirement_files, upgrade_command
from hatch_docker.locks.inputs import versions_of
from hatch_docker.locks.locked import Locked, LockSource, foreign_lock, relock, text_of, writable_lock
from hatch_docker.plan import base_request, platforms_of
from hatch_docker.services import Services
from hatch_docker.session import Session
from hatch_docker.support.atomic import replace_text
from hatch_docker.support.dataclasses import dataclass, replace


def command(chosen: argparse.Namespace) -> Callable[[Session], tuple[str, int]]:
    """The command that a command line asks for."""
    return partial(lock, _options(chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to lock anew: the `base` packages, and Python packages by normalized name, or `:all:`. `check` only asks.

    `needs_python` says that Python packages were named, so that a lock of another tool is an error.
    """

    base: bool = False
    python: frozenset[str] = frozenset()
    needs_python: bool = False
    check: bool = False


def _options(chosen: argparse.Namespace) -> Options:
    kinds = set(chosen.upgrade)
    names = {canonicalize_name(each) for each in chosen.upgrade_package}
    return Options(
        base=not kinds.isdisjoint({ALL, "base"}),
        python=frozenset({ALL} if kinds & {ALL, "python"} else names),
        needs_python="python" in kinds or bool(names),
        check=chosen.check,
    )


def lock(options: Options, session: Session) -> tuple[str, int]:
    """Lock the packages of the image that are not locked or do not fit; returns the paths that were written, and 0.

    With `check` nothing is written: the status is 1 if a file would be. Nothing is written before all packages are
    chosen. Raises what builds raise, and LockError if another tool's lock is to be upgraded.
    """
    session.check_configuration()
    services, config = session.services, session.config
    request = base_request(session.metadata, config, services.host.platform)
    platforms = platforms_of(config.base, lambda: locate(request, services).platforms(), services)
    pinned = pin(request, platforms, config, services, upgrade=options.base)
    python = _lock_python(session, pinned, options)
    files: dict[Path, Callable[[], object]] = {}
    if pinned.changed and pinned.after.selections:
        path = session.metadata.root / FILE
        files[path] = partial(write_pins, path, pinned.after.selections)
    if python.path and python.after != python.before:
        files[python.path] = partial(replace_text, python.path, python.after)
    if not options.check:
        for write in files.values():
            write()
    for line in _report(pinned, python, changed=bool(files), options=options):
        services.progress.note(line)
    if hint := _digest_hint(replace(request, platform=platforms[0]), services):
        services.progress.note(hint)
    return "\n".join(map(shown_path, files)), int(options.check and bool(files))


@dataclass(frozen=True, slots=True, kw_only=True)
class _PythonLock:
    """The lock of the Python packages, before and after; or the `reason` not to lock them."""

    path: Path | None = None
    before: str = ""
    after: str = ""
    target: str = ""
    reason: str = ""


def _lock_python(session: Session, pinned: Pinned, options: Options) -> _PythonLock:
    """Lock the Python packages for the base with the new pins. Without any to lock, the base is not opened."""
    packages, services = session.config.packages, session.services
    requirements = session.metadata.requirements(packages.extras, packages.dependency_groups)
    pinned_services = replace(services, archives=replace(services.archives, pins=lambda: pinned.after))
    path = foreign_lock(services.root, packages.lock)
    if path and options.needs_python:
        session.plan_images(services=pinned_services, lock=partial(_refuse_upgrade, path))
    if path:
        return _PythonLock(reason=f"{path.name}, which another tool makes, has the Python packages")
    if (
        not requirements
        and not find_requirement_files(services.root, packages.lock)
        and not text_of(writable_lock(services.root, packages.lock))
    ):
        return _PythonLock(reason="the project requires nothing")
    images = session.plan_images(services=pinned_services, lock=partial(relock, options.python))
    versions = sorted({image.request.target.version for image in images})
    path, text = images[0].locked.path, images[0].locked.text
    return _PythonLock(
        path=path,
        before=text_of(path) if path else "",
        after=text,
        target=f"Python {' and '.join(versions)}",
    )


def _refuse_upgrade(path: Path, request: InstallRequest, _source: LockSource) -> Locked:
    command = upgrade_command(path, request)
    raise LockError("another tool makes this lock", place=str(path), hint=f"upgrade it: {command}")


def _report(pinned: Pinned, python: _PythonLock, *, changed: bool, options: Options) -> Iterator[str]:
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
        reasons.insert(0, "everything is up to date" if options.base or options.python else "nothing to do")
    elif options.check:
        reasons.insert(0, f"to write it: {OWN_COMMAND}")
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
