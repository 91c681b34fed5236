"""Choose a lock's artifacts for a target."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
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
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from hatch_docker.errors import HatchDockerError, LockError, NoWheelError
from hatch_docker.locks.reading import MARKER_ERRORS, is_universal
from hatch_docker.target import TargetPython

Source: TypeAlias = PackageVcs | PackageDirectory | PackageArchive | PackageWheel | PackageSdist

# Algorithms that vouch for a file, with the length of their hexadecimal digests.
_STRONG = {"sha256": 64, "sha384": 96, "sha512": 128}
_SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file to install. `name` is normalized, `size` in bytes where the lock says it.

    `hashes` are lower-case hexadecimal digests by algorithm, of algorithms that are safe to trust; never empty.
    """

    name: str
    version: str
    filename: str
    url: str
    hashes: Mapping[str, str]
    size: int | None = None

    @property
    def is_wheel(self) -> bool:
        """Whether it can be installed without being built."""
        return self.filename.endswith(".whl")


def select(
    pylock: Pylock,
    target: TargetPython,
    *,
    lock: Path,
    project: str,
    extras: Set[str] = frozenset(),
    groups: Set[str] = frozenset(),
    refresh: str = "",
) -> list[Artifact]:
    """The artifacts that the lock names for the target, sorted by name; never the project itself.

    `lock` is the lock's path: messages name it, relative files are relative to it. `refresh` is the command that
    locks for the target. Raises LockError where the lock does not fit the target or names something that is no
    hashed file, NoWheelError for all packages without a wheel for the target. The lock's default groups are always
    in: tools keep the project's own dependencies there.
    """
    chosen_groups = frozenset(pylock.default_groups or ()) | groups
    try:
        _check_scope(pylock, target, extras, chosen_groups)
        packages = [
            package
            for package in pylock.packages
            if package.name != project and _applies(package.marker, target, extras, chosen_groups)
        ]
        _check_wheels(packages, target, "" if is_universal(pylock) else refresh)
        chosen = _select(pylock, packages, target, extras, chosen_groups)
        return _artifacts(chosen, target, lock)
    except HatchDockerError as error:
        error.place = error.place or str(lock)
        error.hint = error.hint or (f"lock for this target: {refresh}" if refresh else "")
        raise
    except MARKER_ERRORS as error:
        raise LockError(f"a marker cannot be evaluated: {error}", place=str(lock)) from None


def _check_scope(pylock: Pylock, target: TargetPython, extras: Set[str], groups: Set[str]) -> None:
    """Raise LockError for what the lock as a whole does not cover."""
    if pylock.requires_python and not pylock.requires_python.contains(target.version, prereleases=True):
        raise LockError(f"the lock is for Python {pylock.requires_python}, the image has {target.version}")
    environments = pylock.environments or ()
    if environments and not any(_applies(each, target, frozenset(), frozenset()) for each in environments):
        made_for = "; or ".join(str(each) for each in environments)
        raise LockError(f"the lock does not cover {target}: it is for {made_for}")
    for kind, asked, known in (
        ("extra", extras, pylock.extras),
        ("dependency group", groups, pylock.dependency_groups),
    ):
        if known is not None and (missing := sorted(asked - set(known))):
            raise LockError(f"the lock has no {kind} {', '.join(missing)}; it has {', '.join(known) or 'none'}")


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
    narrowed = Pylock(lock_version=pylock.lock_version, created_by=pylock.created_by, packages=packages)
    try:
        return list(
            narrowed.select(environment=target.environment, tags=target.tags, extras=extras, dependency_groups=groups)
        )
    except PylockSelectError as error:
        raise LockError(f"the lock does not fit {target}: {error}") from None


def _check_wheels(packages: Iterable[Package], target: TargetPython, refresh: str) -> None:
    """Raise NoWheelError for every package that has files but no wheel for the target."""
    tags = frozenset(target.tags)
    lacking = [package for package in packages if not package.is_direct and not _fitting(package, tags)]
    if not lacking:
        return
    lines = [f"{package.name} {package.version or ''}".rstrip() + f" has {_offer(package)}" for package in lacking]
    raise NoWheelError(
        f"no wheel for {target}: " + (lines[0] if len(lines) == 1 else "".join(f"\n  {line}" for line in lines)),
        hint=_wheel_hint(lacking, target, refresh),
    )


def _fitting(package: Package, tags: Set[Tag]) -> bool:
    return any(not tags.isdisjoint(_tags(wheel.filename)) for wheel in package.wheels or ())


def _tags(filename: str) -> frozenset[Tag]:
    try:
        return parse_wheel_filename(filename)[-1]
    except InvalidWheelFilename as error:
        raise LockError(str(error)) from None


def _offer(package: Package) -> str:
    """What a package has instead of a fitting wheel: its wheels' Pythons and platforms, or its sdist."""
    if not package.wheels:
        return "only an sdist in the lock"
    tags = [tag for wheel in package.wheels for tag in _tags(wheel.filename)]
    pythons = _shortened({tag.interpreter if tag.abi == "none" else f"{tag.interpreter}-{tag.abi}" for tag in tags})
    platforms = _shortened({tag.platform for tag in tags})
    return f"wheels for {pythons} on {platforms}" + (", and an sdist" if package.sdist else "")


def _shortened(names: Set[str]) -> str:
    shown = sorted(names, key=_natural)
    more = len(shown) - _SHOWN
    return ", ".join(shown[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts cp39 before cp313."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"([0-9]+)", text)]


def _wheel_hint(lacking: Sequence[Package], target: TargetPython, refresh: str) -> str:
    if target.libc.kind == "musl" and all(_has_glibc_wheel(package, target) for package in lacking):
        return 'there are wheels for glibc: use base = "slim"'
    if refresh and any(package.wheels for package in lacking):
        return f"the lock may have been made for another platform; lock for this one: {refresh}"
    # A lock that was resolved for one target does not tell what there is for others.
    other = (
        'base = "slim", since most have wheels for glibc' if target.libc.kind == "musl" else "another base or Python"
    )
    return f"choose versions that have a wheel for this target, or {other}"


def _has_glibc_wheel(package: Package, target: TargetPython) -> bool:
    pythons = {(tag.interpreter, tag.abi) for tag in target.tags}
    return any(
        (tag.interpreter, tag.abi) in pythons
        and tag.platform.startswith("manylinux")
        and tag.platform.endswith(f"_{target.machine}")
        for wheel in package.wheels or ()
        for tag in _tags(wheel.filename)
    )


def _artifacts(chosen: Iterable[tuple[Package, Source]], target: TargetPython, lock: Path) -> list[Artifact]:
    """Artifacts of what was selected; all that are no hashed wheel are reported at once."""
    artifacts, problems = [], []
    for package, source in chosen:
        problem = _unusable(package, source, target)
        if problem or isinstance(source, PackageVcs | PackageDirectory):
            problems.append(f"{package.name} {problem}")
        else:
            artifacts.append(_artifact(package, source, lock))
    if problems:
        raise LockError("; ".join(problems), hint=_DIRECT_HINT if any("hash" not in each for each in problems) else "")
    return sorted(artifacts, key=lambda artifact: artifact.name)


_DIRECT_HINT = "an image is made of wheels that a hash vouches for: publish the package to an index, and lock again"


def _unusable(package: Package, source: Source, target: TargetPython) -> str:
    """Why a source cannot be installed as it is; empty when it can."""
    if isinstance(source, PackageVcs):
        return f"comes from version control ({source.type})"
    if isinstance(source, PackageDirectory):
        return f"is a local directory ({source.path})"
    if isinstance(source, PackageArchive):
        name = _archive_name(source)
        if not name.endswith(".whl"):
            return f"is a source archive ({name})"
        if _tags(name).isdisjoint(target.tags):
            return f"is a wheel for another platform ({name})"
    elif "/" in source.filename or "\\" in source.filename:
        return f"has a file name that is a path ({source.filename})"
    if not _usable_hashes(source.hashes):
        return f"{package.version or ''} has no SHA-2 hash".lstrip()
    return ""


def _artifact(package: Package, source: PackageArchive | PackageWheel | PackageSdist, lock: Path) -> Artifact:
    filename = _archive_name(source) if isinstance(source, PackageArchive) else source.filename
    version = str(package.version or (parse_wheel_filename(filename)[1] if filename.endswith(".whl") else ""))
    # A path is relative to the lock (PEP 751); where both are given, the path is the nearer copy, the URL the surer.
    url = source.url or (lock.absolute().parent / (source.path or "")).as_uri()
    return Artifact(
        name=package.name,
        version=version,
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
