"""uv.lock → Pylock, for one target. Neither uv nor a network is needed, unless the lock's version is not known.

The Pylock has the packages that the project's requirements, extras and groups reach for the target; the tests compare
it with `uv export --frozen`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from packaging.markers import UndefinedEnvironmentName
from packaging.pylock import Pylock
from packaging.version import Version

from hatch_docker.errors import LockError, ResolveError
from hatch_docker.index.access import FileFinder
from hatch_docker.locks.model import InstallRequest, Record, filename_of, is_file_of, read_toml
from hatch_docker.locks.readers.pylock import validated
from hatch_docker.locks.readers.uv_graph import LOCAL, Reached, reach
from hatch_docker.locks.uv import find_uv, run_uv
from hatch_docker.support import toml

Table = Mapping[str, Any]

# The version of the format that is read here, and its newest known revision. Later revisions can be read, too (uv:
# lockfile versioning), but uv may know better.
_VERSION = 1
_REVISION = 5
_REFRESH = "refresh it: uv lock"


def read_uv(path: Path, request: InstallRequest, finder: FileFinder) -> Pylock:  # noqa: ARG001
    """Read a uv.lock for a target, with the project's chosen extras and groups.

    The Pylock's record says that the lock is for all platforms, which requirements `tool.uv` replaces, and in `lock`
    what `uv_metadata.changes` compares with the project; in `exported` if uv read the lock. Raises LockError if the
    lock is invalid, or if the chosen extras and groups conflict.
    """
    document = read_toml(path)
    with translated(path):
        if document.get("version") != _VERSION:
            return _exported(path, request, document)
        root, reached = reach(document, request)
        compared = _compared(document, root, reached)
        if document.get("revision", 0) > _REVISION:
            with contextlib.suppress(ResolveError):
                return _exported(path, request, document, lock=compared)
        return _read(document, reached, compared)


def is_read_here(record: Record) -> bool:
    """Whether a uv.lock was read here, given its record, so that the result does not depend on the installed uv."""
    return "exported" not in record


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise errors of reading a damaged lock as LockErrors with its place."""
    try:
        yield
    except LockError as error:
        error.place = error.place or str(path)
        error.hint = error.hint or _REFRESH
        raise
    except (ValueError, UndefinedEnvironmentName) as error:
        raise LockError(f"the lock is damaged: {error}", place=str(path), hint="make it again: uv lock") from None
    except (AttributeError, KeyError, TypeError, RecursionError):
        raise LockError(
            "the lock is damaged, or not a uv.lock", place=str(path), hint="make it again: uv lock"
        ) from None


def _exported(path: Path, request: InstallRequest, document: Table, **record: Table) -> Pylock:
    """Let uv read a lock of a version that is not known here. Raises ResolveError."""
    version = f"version {document.get('version')!r} of uv.lock"
    try:
        find_uv(os.environ)
    except ResolveError:
        raise ResolveError(
            f"{version} can be read only by uv, which is not installed",
            hint="install uv (pip install uv), or export the lock: uv export --format pylock.toml -o pylock.toml",
        ) from None
    parts = [f"--extra={extra}" for extra in sorted(request.extras)]
    parts += [f"--group={group}" for group in sorted(request.groups)]
    fixed = ("--frozen", "--no-emit-project", "--no-default-groups", "--format=pylock.toml")
    try:
        text = run_uv(
            ["export", *fixed, f"--package={request.project}", *parts],
            directory=path.parent,
            environ=os.environ,
            purpose=f"{version} can be read only by uv, which cannot export it",
        )
    except ResolveError as error:
        error.hint = error.hint or "use the version of uv that made it, or remove the file and lock again: uv lock"
        raise
    table = {"hatch-docker": {"universal": True, "exported": True, **record}}
    return validated({**toml.loads(text), "tool": table}, place=str(path))


def _compared(document: Table, root: Table, reached: Sequence[Reached]) -> dict[str, Any]:
    """What a lock says of the project and of the directories that it depends on, as far as the request reaches."""
    local = [each for each in reached if not each.package["source"].keys().isdisjoint(LOCAL)]
    return {
        "requires-python": document.get("requires-python"),
        "manifest": document.get("manifest", {}),
        "names": sorted({str(package["name"]) for package in document.get("package", [])}),
        "metadata": root.get("metadata", {}),
        "directories": [
            {
                **{key: each.package[key] for key in ("name", "source", "metadata") if key in each.package},
                "extras": sorted(each.extras),
            }
            for each in local
        ],
    }


def _read(document: Table, reached: Sequence[Reached], compared: Table) -> Pylock:
    # The values are those of the file, or None: validation checks their types.
    pylock = {
        "lock-version": "1.0",
        "created-by": "uv",
        "packages": [_package(each.package) for each in reached if "virtual" not in each.package["source"]],
        "environments": document.get("supported-markers"),
        "requires-python": document.get("requires-python"),
        "tool": {
            "hatch-docker": {
                "universal": True,
                **_replaced(document.get("manifest", {}), reached),
                "lock": compared,
            }
        },
    }
    return validated(pylock, place="")


def _replaced(manifest: Table, reached: Sequence[Reached]) -> dict[str, list[str]]:
    """The names whose requirements, and the packages whose metadata, the project's configuration of uv replaces.

    Virtual packages are required, and not installed.
    """
    names = [*(each["name"] for each in manifest.get("overrides", [])), *manifest.get("excludes", [])]
    names += [each.package["name"] for each in reached if "virtual" in each.package["source"]]
    packages = [each["name"] for each in manifest.get("dependency-metadata", [])]
    return {"overridden": sorted(set(map(str, names))), "replaced": sorted(set(map(str, packages)))}


def _package(package: Table) -> dict[str, Any]:
    """A package of the lock as a package of pylock.toml."""
    source = package["source"]
    common = {key: package[key] for key in ("name", "version") if key in package}
    if "git" in source:
        return {**common, "vcs": _vcs(package["name"], source["git"])}
    for key in LOCAL:
        if key in source:
            return {**common, "directory": {"path": source[key], "editable": key == "editable"}}
    if "url" in source or "path" in source:
        file = next(iter(package.get("wheels", [])), None) or package.get("sdist", {})
        archive = _file(file, **{key: source.get(key) for key in ("url", "path")})
        return {**common, "archive": {**archive, "subdirectory": source.get("subdirectory")}}
    return {**common, **_registry_files(package, source["registry"])}


def _vcs(name: str, source: str) -> dict[str, Any]:
    """A commit in uv's encoding: `URL?subdirectory=DIRECTORY&rev=REVISION#COMMIT`."""
    parts = urlsplit(source)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    if query.get("lfs") == "true":
        raise LockError(f"{name} comes from Git with lfs = true, which is not supported", hint="set lfs = false")
    return {
        "type": "git",
        "url": urlunsplit(parts._replace(query="", fragment="")),
        "commit-id": parts.fragment,
        "requested-revision": next((query[key] for key in ("rev", "tag", "branch") if key in query), None),
        "subdirectory": query.get("subdirectory"),
    }


def _registry_files(package: Table, registry: str) -> dict[str, Any]:
    """The wheels and sdist in an index, or in a directory (find-links), to which paths are relative."""
    listed = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    files = [
        _file(file, url=file.get("url"), path=Path(registry, file["path"]).as_posix() if "path" in file else None)
        for file in listed
    ]
    # A pylock must not have file names that precede the specification.
    named = [(filename_of(file), file) for file in files]
    proper = [(name, file) for name, file in named if is_file_of(name, package["name"], Version(package["version"]))]
    if not proper:
        raise LockError(f"{package['name']} has no file whose name follows the specification")
    wheels = [file for name, file in proper if name.endswith(".whl")]
    sdist = next((file for name, file in proper if not name.endswith(".whl")), None)
    index = registry if "://" in registry else None
    return {"index": index, "wheels": wheels, "sdist": sdist}


def _file(file: Table, *, url: str | None, path: str | None) -> dict[str, Any]:
    algorithm, _, value = file.get("hash", "").partition(":")
    return {"url": url, "path": path, "size": file.get("size"), "hashes": {algorithm: value} if value else {}}
