"""Choose a lock's artifacts for a target."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, cast
from urllib.parse import unquote, urljoin, urlsplit

from packaging.markers import Marker
from packaging.pylock import (
    Package,
    PackageArchive,
    PackageDirectory,
    PackageSdist,
    PackageVcs,
    PackageWheel,
    Pylock,
    PylockSelectError,
)
from packaging.utils import canonicalize_name

from hatch_docker.base.target import TargetPython
from hatch_docker.config import ALL
from hatch_docker.errors import HatchDockerError, LockError, NoWheelError
from hatch_docker.index.artifact import Artifact
from hatch_docker.locks.explain import fits, for_one_platform, has_glibc_wheel, lack, offered, tags_of
from hatch_docker.locks.model import MARKER_ERRORS, is_universal, parsed

Source: TypeAlias = PackageVcs | PackageDirectory | PackageArchive | PackageWheel | PackageSdist

# Algorithms that vouch for a file, with the length of their hexadecimal digests.
_STRONG = {"sha256": 64, "sha384": 96, "sha512": 128}


def select(
    pylock: Pylock,
    target: TargetPython,
    *,
    lock: Path,
    project: str,
    extras: Set[str] = frozenset(),
    groups: Set[str] = frozenset(),
    no_binary: Set[str] = frozenset(),
    refresh: str = "",
    complete: bool = False,
) -> list[Artifact]:
    """The artifacts that the lock names for the target, sorted by name; never the project itself.

    `lock` is the lock's path: messages name it, relative files are relative to it. `refresh` is the command that
    locks for the target. `no_binary` has normalized names, or `:all:`, of what is taken as an sdist even where a wheel
    fits; so is what has no wheel that fits. `complete` says that the lock was made for this very target: what it does
    not have of a package, there is not.

    Raises LockError where the lock does not fit the target or names something that is no hashed file, NoWheelError for
    all packages that have nothing for the target, or that may have a wheel for it which a lock for another platform
    does not show. The lock's default groups are always in: tools keep the project's own dependencies there.
    """
    chosen_groups = frozenset(pylock.default_groups or ()) | groups
    try:
        _check_scope(pylock, target, extras, groups)
        packages = [
            package
            for package in pylock.packages
            if package.name != project and _applies(package.marker, target, extras, chosen_groups)
        ]
        known = complete or is_universal(pylock)
        named = _named(packages, no_binary)
        _check_wheels(
            [package for package in packages if package.name not in named],
            target,
            certain=known or not for_one_platform(pylock),
            refresh="" if known else refresh,
        )
        sources = [replace(each, wheels=None) if each.name in named else each for each in packages]
        chosen = _select(pylock, sources, target, extras, chosen_groups)
        return _artifacts(chosen, target, lock, named=named, complete=complete)
    except HatchDockerError as error:
        error.place = error.place or str(lock)
        error.hint = error.hint or (f"lock for this target: {refresh}" if refresh else "")
        raise
    except MARKER_ERRORS as error:
        raise LockError(f"a marker cannot be evaluated: {error}", place=str(lock)) from None


def _check_scope(pylock: Pylock, target: TargetPython, extras: Set[str], groups: Set[str]) -> None:
    """Raise LockError for what the lock as a whole does not cover.

    `groups` are those that the configuration names: a lock need not list its default groups among its dependency
    groups (PyPA: pylock.toml, `default-groups`).
    """
    if pylock.requires_python and not pylock.requires_python.contains(target.version, prereleases=True):
        raise LockError(f"the lock is for Python {pylock.requires_python}, the image has {target.version}")
    environments = pylock.environments or ()
    if environments and not any(_applies(each, target, frozenset(), frozenset()) for each in environments):
        made_for = "; or ".join(str(each) for each in environments)
        raise LockError(f"the lock does not cover {target}: it is for {made_for}")
    known_groups = pylock.dependency_groups
    if known_groups is not None:
        known_groups = [*known_groups, *(pylock.default_groups or ())]
    for kind, asked, known in (("extra", extras, pylock.extras), ("dependency group", groups, known_groups)):
        if known is None:
            continue
        names = list(dict.fromkeys(map(canonicalize_name, known)))
        if missing := sorted({canonicalize_name(name) for name in asked} - set(names)):
            raise LockError(f"the lock has no {kind} {', '.join(missing)}; it has {', '.join(names) or 'none'}")


def _applies(marker: Marker | None, target: TargetPython, extras: Set[str], groups: Set[str]) -> bool:
    if marker is None:
        return True
    environment: dict[str, str | Set[str]] = {
        **cast("Mapping[str, str]", target.environment),
        "extras": frozenset(extras),
        "dependency_groups": frozenset(groups),
    }
    return marker.evaluate(environment, context="lock_file")


def _select(
    pylock: Pylock, packages: Sequence[Package], target: TargetPython, extras: Set[str], groups: Set[str]
) -> list[tuple[Package, Source]]:
    # It declares what is asked for: `_check_scope` has compared that with the lock, and packaging refuses the rest.
    narrowed = Pylock(
        lock_version=pylock.lock_version,
        created_by=pylock.created_by,
        packages=packages,
        extras=sorted(map(canonicalize_name, extras)),
        dependency_groups=sorted(groups),
    )
    try:
        return list(
            narrowed.select(environment=target.environment, tags=target.tags, extras=extras, dependency_groups=groups)
        )
    except PylockSelectError as error:
        raise LockError(f"the lock does not fit {target}: {error}") from None


def _named(packages: Iterable[Package], no_binary: Set[str]) -> frozenset[str]:
    """The names of the packages that `no_binary` names; raises LockError for all that have only wheels."""
    named = [package for package in packages if ALL in no_binary or package.name in no_binary]
    lacking = [
        f"{_label(package)} is named in no-binary, and the lock has no sdist of it"
        for package in named
        if (package.wheels and not package.sdist)
        or (package.archive and _archive_name(package.archive).endswith(".whl"))
    ]
    if lacking:
        raise LockError("; ".join(lacking), hint="take it out of no-binary, or lock a version that has an sdist")
    return frozenset(package.name for package in named)


def _check_wheels(packages: Iterable[Package], target: TargetPython, *, certain: bool, refresh: str) -> None:
    """Raise NoWheelError for every package that has files, but no wheel for the target and no use for its sdist.

    Where it is not `certain` that the lock lists every wheel, a package that lists some may have a fitting one.
    """
    tags = frozenset(target.tags)
    lacking = [
        package
        for package in packages
        if not package.is_direct
        and not fits(package, tags)
        and (package.sdist is None or (package.wheels and not certain))
    ]
    if not lacking:
        return
    lines = [f"{_label(package)} has {offered(package)}" for package in lacking]
    raise NoWheelError(
        f"no wheel for {target}: " + (lines[0] if len(lines) == 1 else "".join(f"\n  {line}" for line in lines)),
        hint=_wheel_hint(lacking, target, refresh),
    )


def _label(package: Package) -> str:
    return f"{package.name} {package.version or ''}".rstrip()


def _wheel_hint(lacking: Sequence[Package], target: TargetPython, refresh: str) -> str:
    glibc = target.libc.kind == "musl" and all(has_glibc_wheel(package, target) for package in lacking)
    if sources := [f'"{package.name}"' for package in lacking if package.sdist]:
        return (
            f"the lock may have been made for another platform; lock for this one{refresh and f': {refresh}'}"
            + ('; or use base = "slim", for which there are wheels' if glibc else "")
            + f"; or have it compiled all the same: no-binary = [{', '.join(sources)}]"
        )
    if glibc:
        return 'there are wheels for glibc: use base = "slim"'
    if refresh:
        return f"the lock may have been made for another platform; lock for this one: {refresh}"
    # A lock that was resolved for one target does not tell what there is for others.
    other = (
        'base = "slim", since most have wheels for glibc' if target.libc.kind == "musl" else "another base or Python"
    )
    return f"choose versions that have a wheel for this target, or {other}"


def _artifacts(
    chosen: Iterable[tuple[Package, Source]], target: TargetPython, lock: Path, *, named: Set[str], complete: bool
) -> list[Artifact]:
    """Artifacts of what was selected; all that are no hashed file are reported at once."""
    artifacts, problems = [], []
    for package, source in chosen:
        problem = _unusable(package, source, target)
        if problem or isinstance(source, PackageVcs | PackageDirectory):
            problems.append(f"{package.name} {problem}")
            continue
        artifact = _artifact(package, source, lock)
        if not artifact.is_wheel:
            artifact = replace(artifact, reason=_reason(package, target, named=named, complete=complete))
        artifacts.append(artifact)
    if problems:
        raise LockError("; ".join(problems), hint=_DIRECT_HINT if any("hash" not in each for each in problems) else "")
    return sorted(artifacts, key=lambda artifact: artifact.name)


_DIRECT_HINT = "an image is made of files that a hash vouches for: publish the package to an index, and lock again"


def _unusable(package: Package, source: Source, target: TargetPython) -> str:
    """Why a source cannot be installed; empty when it can, if need be after it was compiled."""
    if isinstance(source, PackageVcs):
        return f"comes from version control ({source.type})"
    if isinstance(source, PackageDirectory):
        return f"is a local directory ({source.path})"
    if isinstance(source, PackageArchive):
        if problem := _unusable_archive(package, source, target):
            return problem
    elif "/" in source.filename or "\\" in source.filename:
        return f"has a file name that is a path ({source.filename})"
    if not _usable_hashes(source.hashes):
        return f"{package.version or ''} has no SHA-2 hash".lstrip()
    return ""


def _unusable_archive(package: Package, source: PackageArchive, target: TargetPython) -> str:
    name = _archive_name(source)
    if source.subdirectory:
        return f"is in a folder of an archive ({source.subdirectory} of {name})"
    if name.endswith(".whl"):
        return f"is a wheel for another platform ({name})" if tags_of(name).isdisjoint(target.tags) else ""
    found = parsed(name)
    if found is None or found[0] != package.name or (package.version or found[1]) != found[1]:
        return f"is an archive that is not named as an sdist of it is ({name})"
    return ""


def _reason(package: Package, target: TargetPython, *, named: Set[str], complete: bool) -> str:
    """Why an sdist was chosen."""
    if package.archive:
        return "it is a source archive"
    return "named in no-binary" if package.name in named else lack(package, target, complete=complete)


def _artifact(package: Package, source: PackageArchive | PackageWheel | PackageSdist, lock: Path) -> Artifact:
    filename = _archive_name(source) if isinstance(source, PackageArchive) else source.filename
    found = parsed(filename)
    # A path is relative to the lock (PEP 751); where both are given, the path is the nearer copy, the URL the surer.
    url = source.url or (lock.absolute().parent / (source.path or "")).as_uri()
    return Artifact(
        name=package.name,
        version=str(package.version or (found[1] if found else "")),
        filename=filename,
        url=urljoin((package.index or "").rstrip("/") + "/", url),
        hashes=_usable_hashes(source.hashes),
        size=source.size,
    )


def _archive_name(source: PackageArchive) -> str:
    path = source.path.replace("\\", "/") if source.path else unquote(urlsplit(source.url or "").path)
    return path.rsplit("/", 1)[-1]


def _usable_hashes(hashes: Mapping[str, str]) -> dict[str, str]:
    return dict(_strong(hashes))


def _strong(hashes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The hashes that vouch for a file. They become file names in the cache: nothing but hexadecimal passes."""
    for algorithm, value in hashes.items():
        length = _STRONG.get(algorithm.lower())
        if length and re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", value):
            yield algorithm.lower(), value.lower()
