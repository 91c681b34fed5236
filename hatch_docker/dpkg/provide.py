"""Turn requested Debian packages into one cached layer: the pinned packages, or the archive's newest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from hatch_docker.debian.archive import Archive
from hatch_docker.debian.deb import Deb, open_deb
from hatch_docker.debian.packages import Package, PackageIndex, read_index
from hatch_docker.debian.resolve import resolve
from hatch_docker.debian.sources import suites_of
from hatch_docker.debian.version import compare
from hatch_docker.dpkg import database
from hatch_docker.dpkg.archives import Archives
from hatch_docker.dpkg.assemble import Assembled, added_files, needs_content, root_files
from hatch_docker.dpkg.lockfile import FILE, UPGRADE, Selection
from hatch_docker.dpkg.package_sets import PYTHON
from hatch_docker.errors import DebianError, DependencyError, LockError
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import WriteOptions
from hatch_docker.oci.layercache import MadeLayer, make_layer, make_once, recall
from hatch_docker.oci.merging import merge
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.package_names import requested_first
from hatch_docker.support.threads import once

# Parts of the cache keys: raise one when the same packages give another layer, or the same indexes other packages.
_LAYOUT = 4
_CHOICE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Debian packages to install for a purpose (lockfile.PURPOSES).

    `requested` are names, or `NAME=VERSION`; packages in `assume_installed` count as installed. The packages go on top
    of the image `parent`; without a parent they are a root file system of their own. `snapshot` is a day of the
    archive, empty for the newest. `apt_sources` is an image whose apt sources name a mirror if nothing else does, by
    default the parent.
    """

    purpose: str
    suite: str
    architecture: str
    requested: tuple[str, ...]
    assume_installed: tuple[str, ...] = ()
    snapshot: str = ""
    parent: Image | None = None
    apt_sources: Image | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provided:
    """The selected packages and their layer, None if all of them are installed already."""

    made: MadeLayer | None
    selection: Selection


def provide(
    request: Request, archives: Archives, *, chosen: Selection | None = None, compression: str = "gzip"
) -> Provided:
    """Make the layer of the packages that are pinned, or `chosen`, or else of the newest ones in the archive.

    If the cache has the layer, no package is downloaded. Raises DebianError if the archive is unreachable or invalid,
    DependencyError for unknown packages and unmet dependencies, PackageError for packages that do not work unless their
    maintainer scripts run, and LockError for pins that do not match the request.
    """
    parent_files = once(partial(merged_files, request.parent))
    pins = pinned(request, archives)
    archive = once(partial(archive_for, request, archives, parent_files, pins.dated if pins else ""))
    selection = pins or chosen or select(request, archive(), parent_files, archives)
    if not selection.packages:
        if pins:
            _check_pins(request, [], pins, parent_files)
        return Provided(made=None, selection=selection)

    def make() -> MadeLayer:
        debs = _opened(selection.packages, archive().fetch(selection.packages))
        if pins:
            _check_pins(request, debs, selection, parent_files)
        return _made(request, debs, parent_files, archives, compression)

    made = make_once(archives.cache, "debian-layers", _key(request, selection, compression), make)
    return Provided(made=made, selection=selection)


def pinned(request: Request, archives: Archives) -> Selection | None:
    """The project's pins for a request, None as in `Pins.of`. Raises LockError for pins that do not match it."""
    return archives.pins().of(request.purpose, request.suite, request.architecture, request.requested, request.snapshot)


def cached_layer(request: Request, selection: Selection, cache: Cache, *, compression: str) -> MadeLayer | None:
    """The layer of selected packages, if the cache has it."""
    return recall(cache, "debian-layers", _key(request, selection, compression))


def choose(request: Request, archives: Archives) -> Selection:
    """The packages that `provide` would install: pinned, or the newest. Downloads indexes, no package."""
    return pinned(request, archives) or newest(request, archives)


def newest(request: Request, archives: Archives) -> Selection:
    """The newest packages in the archive for a request; pins are ignored. Raises as `provide` does."""
    parent_files = once(partial(merged_files, request.parent))
    return select(request, archive_for(request, archives, parent_files), parent_files, archives)


def select(
    request: Request,
    archive: Archive,
    parent_files: Callable[[], Filesystem | None],
    archives: Archives,
) -> Selection:
    """The newest packages in `archive` for a request, cached per state of the indexes. Raises as `provide` does."""
    suites = suites_of(request.suite)
    image = request.parent.config_descriptor.digest if request.parent else ""

    def resolved() -> dict[str, Any]:
        with archives.progress.task("resolve", _label(request)):
            packages = resolve(
                request.requested,
                _indexes(archive, suites, request.architecture),
                architecture=request.architecture,
                installed=_installed(parent_files()),
                assume_installed=request.assume_installed,
            )
        return {"packages": [_to_json(each) for each in packages]}

    shape = [_CHOICE, request.architecture, sorted(request.requested), sorted(request.assume_installed), image]
    state = [*suites, archive.state(suites, architecture=request.architecture)]
    document = _cached(archives.cache, "debian-selections", [*shape, *state], resolved)
    return Selection(
        purpose=request.purpose,
        suite=request.suite,
        architecture=request.architecture,
        requested=tuple(sorted(request.requested)),
        packages=tuple(Package(**each) for each in document["packages"]),
        snapshot=request.snapshot,
        dated=max(archive.release(suite).date for suite in suites).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def pythons(suite: str, architecture: str, archive: Archive, cache: Cache) -> list[str]:
    """The Python versions in a suite, such as `3.13`, newest first. Raises DebianError."""

    def listed() -> dict[str, Any]:
        names = (name for index in _indexes(archive, [suite], architecture) for name in index.names())
        return {"names": sorted({match[1] for name in names if (match := PYTHON.fullmatch(name))})}

    key = [suite, archive.state([suite], architecture=architecture)]
    names = _cached(cache, "debian-pythons", key, listed)["names"]
    return sorted(names, key=lambda name: tuple(map(int, name.split("."))), reverse=True)


def _cached(cache: Cache, kind: str, key: Sequence[object], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` derives from indexes, whose state is part of the key."""
    return cache.document(kind, json.dumps(key), make)


def archive_for(
    request: Request, archives: Archives, parent_files: Callable[[], Filesystem | None], dated: str = ""
) -> Archive:
    """The archive for a request; the parent image's apt sources are used if no mirror is configured.

    `parent_files` merges the parent's layers; `dated` and the errors are those of `Archives.of`.
    """
    of = partial(archives.of, request.suite, request.architecture, snapshot=request.snapshot, dated=dated)
    try:
        return of()
    except DebianError:
        if not (request.parent or request.apt_sources) or archives.mirror:
            raise
    files = parent_files() or merged_files(request.apt_sources)
    return of(image={path: node.data or b"" for path, node in files.nodes.items()} if files else {})


def _indexes(archive: Archive, suites: Sequence[str], architecture: str) -> list[PackageIndex]:
    return [read_index(each.path, suite=each.suite) for each in archive.indexes(suites, architecture=architecture)]


def merged_files(image: Image | None) -> Filesystem | None:
    """An image's files, with the contents that installing packages needs; None without an image."""
    return merge(image.layers, needs_content) if image else None


def _installed(parent_files: Filesystem | None) -> list[Package]:
    return database.read(parent_files).packages() if parent_files else []


def _opened(packages: Sequence[Package], paths: Sequence[Any]) -> list[Deb]:
    return [open_deb(path, place=f"{each.name} {each.version}") for each, path in zip(packages, paths, strict=True)]


def _check_pins(
    request: Request, debs: Sequence[Deb], selection: Selection, parent_files: Callable[[], Filesystem | None]
) -> None:
    """Check pins against the control files of the downloaded packages, and against the current parent image."""
    stanzas = "\n".join(_stanza(deb, each) for deb, each in zip(debs, selection.packages, strict=True))
    index = PackageIndex([stanzas.encode()], suite=FILE)
    installed = _installed(parent_files())
    versions = {each.name: each.version for each in installed}
    try:
        for deb, each in zip(debs, selection.packages, strict=True):
            if (deb.control["Package"], deb.control["Version"]) != (each.name, each.version):
                raise DependencyError(f"{each} is {deb.control['Package']} {deb.control['Version']}")
            if each.name in versions and compare(versions[each.name], each.version) > 0:
                raise DependencyError(f"{each} is older than the base's {versions[each.name]}")
        resolve(
            request.requested,
            [index],
            architecture=request.architecture,
            installed=installed,
            assume_installed=request.assume_installed,
        )
    except DependencyError as error:
        raise LockError(
            f"the packages pinned for {request.purpose!r} do not fit each other or the base: {error.message}",
            place=FILE,
            hint=f"refresh it: {UPGRADE}",
        ) from None


def _stanza(deb: Deb, package: Package) -> str:
    control = deb.files["control"].decode().strip("\n")
    return f"{control}\nFilename: {package.filename}\nSize: {package.size}\nSHA256: {package.sha256}\n"


def _made(
    request: Request,
    debs: Sequence[Deb],
    parent_files: Callable[[], Filesystem | None],
    archives: Archives,
    compression: str,
) -> MadeLayer:
    files, cache, progress = parent_files(), archives.cache, archives.progress
    with (
        cache.temporary() as contents,
        cache.open(contents) as spool,
        progress.task("layer", _label(request)) as advance,
    ):
        make: Callable[..., Assembled] = partial(added_files, files) if files else root_files
        assembled = make(debs, spool, architecture=request.architecture, threads=archives.threads)
        # A root file system leaves files out on purpose: no notes.
        for note in assembled.notes if files else ():
            progress.note(note)
        return make_layer(
            files.with_directories(assembled.entries) if files else assembled.entries,
            cache,
            WriteOptions(compression=compression, splice=False, threads=archives.threads),
            contents=requested_first(
                [f"{deb.control['Package']} {deb.control['Version']}" for deb in debs], request.requested
            ),
            present={path for path, node in files.nodes.items() if node.kind == "dir"} if files else (),
            advance=advance,
        )


def _label(request: Request) -> str:
    return f"Debian {request.suite}" if request.purpose == "base" else f"{request.purpose} of Debian {request.suite}"


def _key(request: Request, selection: Selection, compression: str) -> str:
    parent = request.parent.config_descriptor.digest if request.parent else ""
    # A hash identifies a package; its name and version are in the key because the cached layer is labelled by them.
    packages = [f"{each} {each.sha256}" for each in selection.packages]
    shape = [
        _LAYOUT,
        WriteOptions(compression=compression, splice=False).fingerprint,
        request.architecture,
        parent,
        sorted(request.requested),
        packages,
    ]
    return json.dumps(shape)


def _to_json(package: Package) -> Mapping[str, Any]:
    """The part of a package that a selection keeps."""
    return {
        "name": package.name,
        "version": package.version,
        "architecture": package.architecture,
        "suite": package.suite,
        "filename": package.filename,
        "size": package.size,
        "sha256": package.sha256,
    }
