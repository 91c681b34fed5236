"""Choose a lock's artifacts for a target."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace as replace_package  # noqa: TID251 (of the data classes of packaging)
from pathlib import Path, PurePosixPath
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
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from hatch_docker.base.target import TargetPython
from hatch_docker.config import ALL
from hatch_docker.errors import HatchDockerError, LockError, NoWheelError, join_hints
from hatch_docker.index.artifact import Artifact, SourceTree
from hatch_docker.index.credentials import split_login
from hatch_docker.locks.explain import describe_files, fits, for_one_platform, has_glibc_wheel, missing_wheel, tags_of
from hatch_docker.locks.model import MARKER_ERRORS, InstallRequest, is_universal, parse_filename
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.patterns import regex
from hatch_docker.support.redaction import redact
from hatch_docker.support.regular import open_regular
from hatch_docker.support.streams import file_digest

File: TypeAlias = PackageArchive | PackageWheel | PackageSdist
Source: TypeAlias = PackageVcs | PackageDirectory | File

# The algorithms whose hashes identify a file, with the length of their hexadecimal digests.
_STRONG = {"sha256": 64, "sha384": 96, "sha512": 128}
_COMMIT = regex(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")
_SUFFIX = regex(r"\.(zip|tar\.gz|tgz)$", re.IGNORECASE)
_AGAIN = "lock it again with its tool"


def select(
    pylock: Pylock,
    request: InstallRequest,
    *,
    lock: Path,
    no_binary: Set[str] = frozenset(),
    refresh: str = "",
    complete: bool = False,
) -> list[Artifact]:
    """The artifacts that a lock names for the request's target, sorted by name, without the project itself.

    `lock` is the lock's path: messages name it, and relative files are relative to it. `refresh` is the command that
    locks for the target. Packages in `no_binary` (normalized names, or `:all:`) are selected as sdists even if a wheel
    fits, as are packages without a fitting wheel. `complete` says that the lock was made for this target, and lists
    every file that fits it.

    The lock's default groups are always selected: tools keep the project's own dependencies there. Raises LockError if
    the lock does not cover the target, or names anything but files with a hash; NoWheelError, for all packages at once,
    if there is no file for the target, or if the lock may lack a wheel for it because it was made for another platform.
    """
    target = request.target
    groups = frozenset(pylock.default_groups or ()) | request.groups
    try:
        _check_scope(pylock, request)
        packages = [
            package
            for package in pylock.packages
            if package.name != request.project and _applies(package.marker, target, request.extras, groups)
        ]
        _check_single(packages, target)
        exhaustive = complete or is_universal(pylock)
        sdists = _sdists(packages, no_binary)
        _check_wheels(
            [package for package in packages if package.name not in sdists],
            target,
            certain=exhaustive or not for_one_platform(pylock),
            refresh="" if exhaustive else refresh,
        )
        return _artifacts(_select(packages, target, sdists), target, lock, sdists=sdists, complete=complete)
    except HatchDockerError as error:
        error.place = error.place or str(lock)
        error.hint = error.hint or (f"lock for this target: {refresh}" if refresh else "")
        raise
    except MARKER_ERRORS as error:
        raise LockError(f"a marker cannot be evaluated: {error}", place=str(lock)) from None


def _check_scope(pylock: Pylock, request: InstallRequest) -> None:
    """Raise LockError if the lock does not cover the target, or lacks an extra or group of the request.

    A lock need not list its default groups among its dependency groups (PyPA: pylock.toml, `default-groups`).
    """
    target = request.target
    if pylock.requires_python and not pylock.requires_python.contains(target.version, prereleases=True):
        raise LockError(f"the lock is for Python {pylock.requires_python}, the image has {target.version}")
    environments = pylock.environments or ()
    if environments and not any(_applies(each, target, frozenset(), frozenset()) for each in environments):
        made_for = "; or ".join(str(each) for each in environments)
        raise LockError(f"the lock does not cover {target}: it is for {made_for}")
    groups = pylock.dependency_groups
    if groups is not None:
        groups = [*groups, *(pylock.default_groups or ())]
    _check_listed("extra", request.extras, pylock.extras)
    _check_listed("dependency group", request.groups, groups)


def _check_listed(kind: str, names: Set[str], listed: Sequence[str] | None) -> None:
    """Raise LockError if a lock that lists its extras or groups does not list `names`."""
    if listed is None:
        return
    known = list(dict.fromkeys(map(canonicalize_name, listed)))
    if missing := sorted({canonicalize_name(name) for name in names} - set(known)):
        raise LockError(f"the lock has no {kind} {', '.join(missing)}; it has {', '.join(known) or 'none'}")


def _check_single(packages: Iterable[Package], target: TargetPython) -> None:
    """Raise LockError if several packages have one name: only one of them can be installed."""
    by_name: dict[str, list[Package]] = {}
    for package in packages:
        by_name.setdefault(package.name, []).append(package)
    several = [
        f"{name} ({' and '.join(_from(each) for each in found)})" for name, found in by_name.items() if len(found) > 1
    ]
    if several:
        raise LockError(
            f"several packages have the same name for {target}: {'; '.join(several)}",
            hint="their markers must exclude each other: remove one of the sources from the project, and lock again",
        )


def _from(package: Package) -> str:
    """A package's version and where it comes from."""
    direct = package.vcs or package.archive
    where = (direct.url or direct.path) if direct else package.directory.path if package.directory else package.index
    return " from ".join(filter(None, (str(package.version or ""), redact(where or ""))))


def _applies(marker: Marker | None, target: TargetPython, extras: Set[str], groups: Set[str]) -> bool:
    if marker is None:
        return True
    environment: dict[str, str | Set[str]] = {
        **cast("Mapping[str, str]", target.environment),
        "extras": frozenset(extras),
        "dependency_groups": frozenset(groups),
    }
    return marker.evaluate(environment, context="lock_file")


def _select(packages: Iterable[Package], target: TargetPython, sdists: Set[str]) -> list[tuple[Package, Source]]:
    """The source of each package, whose markers hold: the best wheel, else the sdist. `sdists` names those without."""
    candidates = [replace_package(each, marker=None, wheels=_wheels(each, sdists)) for each in packages]
    pylock = Pylock(lock_version=Version("1.0"), created_by="hatch-docker", packages=candidates)
    try:
        return list(pylock.select(environment=target.environment, tags=target.tags))
    except PylockSelectError as error:
        raise LockError(f"the lock does not fit {target}: {error}") from None


def _wheels(package: Package, sdists: Set[str]) -> Sequence[PackageWheel] | None:
    """The wheels to select from, the newest build of the same tags first (PEP 427): the first of the best is taken."""
    wheels = None if package.name in sdists else package.wheels
    if wheels and any(wheel.filename.count("-") == 5 for wheel in wheels):
        return sorted(wheels, key=lambda wheel: parse_wheel_filename(wheel.filename)[2], reverse=True)
    return wheels


def _sdists(packages: Iterable[Package], no_binary: Set[str]) -> frozenset[str]:
    """The names of the packages that `no_binary` names. Raises LockError for all of them that have only wheels."""
    named = [package for package in packages if ALL in no_binary or package.name in no_binary]
    lacking = [
        f"{_label(package)} is named in no-binary, and the lock has no sdist of it"
        for package in named
        if (package.wheels and not package.sdist) or (package.archive and _basename(package.archive).endswith(".whl"))
    ]
    if lacking:
        raise LockError("; ".join(lacking), hint="remove it from no-binary, or lock a version that has an sdist")
    return frozenset(package.name for package in named)


def _check_wheels(packages: Iterable[Package], target: TargetPython, *, certain: bool, refresh: str) -> None:
    """Raise NoWheelError for all packages that have files, but neither a fitting wheel nor an sdist to compile.

    Unless it is `certain` that the lock lists every wheel, a package with other wheels may have a fitting one, so its
    sdist is not compiled.
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
    lines = [f"{_label(package)} has {describe_files(package)}" for package in lacking]
    raise NoWheelError(
        f"no wheel for {target}:" + (f" {lines[0]}" if len(lines) == 1 else "".join(f"\n  {line}" for line in lines)),
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
            + f"; or compile it anyway: no-binary = [{', '.join(sources)}]"
        )
    if glibc:
        return 'there are wheels for glibc: use base = "slim"'
    if refresh:
        return f"the lock may have been made for another platform; lock for this one: {refresh}"
    # A lock that was resolved for one target does not list the wheels for others.
    other = (
        'base = "slim", since most have wheels for glibc' if target.libc.kind == "musl" else "another base or Python"
    )
    return f"choose versions that have a wheel for this target, or {other}"


def _artifacts(
    selected: Iterable[tuple[Package, Source]], target: TargetPython, lock: Path, *, sdists: Set[str], complete: bool
) -> list[Artifact]:
    """The artifacts of the selected sources. Raises LockError for all at once that cannot be used."""
    artifacts, problems, hints = [], [], dict[str, None]()
    for package, source in selected:
        try:
            if isinstance(source, PackageVcs | PackageDirectory):
                artifacts.append(_tree(package, source, lock))
                continue
            artifact = _file(package, source, target, lock)
            if not artifact.is_wheel:
                others = describe_files(replace_package(package, sdist=None)) if package.wheels else ""
                reason = _reason(package, target, sdists=sdists, complete=complete)
                artifact = replace(artifact, reason=reason, others=others)
            artifacts.append(artifact)
        except LockError as error:
            problems.append(f"{_label(package)} {error.message}")
            hints[error.hint] = None
    if problems:
        raise LockError("; ".join(problems), hint=join_hints(*hints))
    return sorted(artifacts, key=lambda artifact: artifact.name)


def _reason(package: Package, target: TargetPython, *, sdists: Set[str], complete: bool) -> str:
    """Why an sdist was selected."""
    if package.archive:
        return "it is a source archive"
    return "named in no-binary" if package.name in sdists else missing_wheel(package, target, complete=complete)


def _tree(package: Package, source: PackageVcs | PackageDirectory, lock: Path) -> Artifact:
    """The artifact of a directory or commit. Paths are relative to the lock. Raises LockError for another VCS."""
    # Unlike Path.resolve, realpath does not fail for links that form a loop.
    local = Path(os.path.realpath(lock.absolute().parent / source.path)).as_uri() if source.path else ""
    url = local or getattr(source, "url", "") or ""
    version, subdirectory = str(package.version or ""), source.subdirectory or ""
    if isinstance(source, PackageDirectory):
        tree = SourceTree(url=url, subdirectory=subdirectory)
        return Artifact(name=package.name, version=version, tree=tree, reason="it is a local directory")
    if source.type != "git":
        raise LockError(f"comes from a repository of {source.type}", hint="only Git's are supported")
    if not _COMMIT.fullmatch(source.commit_id):
        raise LockError(
            f"comes from Git, without the full hash of a commit ({source.commit_id!r})", hint="lock it with its tool"
        )
    if ".." in PurePosixPath(subdirectory).parts or subdirectory.startswith("/"):
        raise LockError(f"has a subdirectory that leaves its repository ({subdirectory})", hint=_AGAIN)
    # SSH needs the user's name, and the login of HTTPS is that of the machine's Git.
    url = split_login(url)[0] if url.startswith("http") else url
    tree = SourceTree(url=url, commit=source.commit_id.lower(), subdirectory=subdirectory)
    return Artifact(name=package.name, version=version, tree=tree, reason="it comes from Git")


def _file(package: Package, source: File, target: TargetPython, lock: Path) -> Artifact:
    """The artifact of a file. Raises LockError if it cannot be used, not even after it was compiled."""
    filename = _archive_name(package, source, target) if isinstance(source, PackageArchive) else source.filename
    if "/" in filename or "\\" in filename:
        raise LockError(f"has a file name that is a path ({filename})", hint=_AGAIN)
    # A path is relative to the lock (PEP 751). The URL goes first: the file at the path may not exist.
    local = Path(os.path.normpath(lock.absolute().parent / (source.path or "")))
    hashes = _strong(source.hashes) or ({} if source.url else _hashed(local))
    if not hashes:
        raise LockError(
            f"has no SHA-2 hash of {filename}", hint="lock again, from an index that publishes hashes of its files"
        )
    _, version = parse_filename(filename) or ("", "")
    return Artifact(
        name=package.name,
        version=str(package.version or version),
        filename=filename,
        url=urljoin((package.index or "").rstrip("/") + "/", source.url or local.as_uri()),
        hashes=hashes,
        size=source.size,
        index=package.index or "",
    )


def _hashed(path: Path) -> dict[str, str]:
    """The hash of a file of this machine, whose content nobody else can change."""
    try:
        with open_regular(path) as file:
            return {"sha256": file_digest(file).removeprefix("sha256:")}
    except OSError as error:
        raise LockError(f"cannot be read from {path}: {error.strerror or error}", hint=_AGAIN) from None


def _archive_name(package: Package, source: PackageArchive, target: TargetPython) -> str:
    """The file name of an archive as a wheel or sdist. Archives of a repository have other names than its sdists."""
    name = _basename(source)
    if source.subdirectory:
        raise LockError(
            f"is in a subdirectory of an archive ({source.subdirectory} of {name}), which is not supported",
            hint="require it from its Git repository, with the subdirectory, or from an index",
        )
    if name.endswith(".whl"):
        if tags_of(name).isdisjoint(target.tags):
            raise LockError(f"is a wheel for another platform ({name})", hint="choose another wheel for this platform")
        return name
    found, suffix = parse_filename(name), _SUFFIX.search(name)
    if found is None and package.version and suffix:
        return f"{package.name.replace('-', '_')}-{package.version}.{'zip' if suffix[1] == 'zip' else 'tar.gz'}"
    if found is None or found[0] != package.name or (package.version or found[1]) != found[1]:
        raise LockError(f"is an archive that is not named as its sdist ({name})", hint=_AGAIN)
    return name


def _basename(source: PackageArchive) -> str:
    path = source.path.replace("\\", "/") if source.path else unquote(urlsplit(source.url or "").path)
    return path.rsplit("/", 1)[-1]


def _strong(hashes: Mapping[str, str]) -> dict[str, str]:
    """The hashes of strong algorithms, in lower case. Their values become file names in the cache: only hexadecimal."""
    return {
        algorithm.lower(): value.lower()
        for algorithm, value in hashes.items()
        if (length := _STRONG.get(algorithm.lower())) and re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", value)
    }
