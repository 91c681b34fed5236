"""Packages that are asked for → one layer: pinned or chosen out of the archive, laid out once, and cached."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from hatch_docker.dpkg.assemble import Assembled, added_files, root_files, wanted
from hatch_docker.dpkg.lockfile import FILE, UPGRADE, Selection
from hatch_docker.dpkg.roots import PYTHON
from hatch_docker.errors import DebianError, DependencyError, LockError
from hatch_docker.oci.filesystem import Filesystem, merge
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import fingerprint
from hatch_docker.oci.layercache import MadeLayer, make_layer, recall, remember
from hatch_docker.support.cache import Cache
from hatch_docker.support.threads import once

# Another way to lay out the same packages, or to choose them, has another number: a part of the keys.
_LAYOUT = 1
_CHOICE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What packages are asked for, by the names in `roots`; those in `without` are taken for there.

    They go on the image `below`; where that is None they are a root file system of their own. The rest is as in
    `pins.Selection`.
    """

    purpose: str
    suite: str
    architecture: str
    roots: tuple[str, ...]
    without: tuple[str, ...] = ()
    snapshot: str = ""
    below: Image | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provided:
    """The layer of what was asked for, None where all of it is there already; and which packages are in it."""

    made: MadeLayer | None
    selection: Selection


def provide(request: Request, archives: Archives, *, compression: str = "gzip") -> Provided:
    """Make the layer of the packages that are pinned, else of the newest that the archive has.

    Neither an index nor a package is asked for where the cache has the layer. Raises DebianError for an archive that
    is not reachable or not as it should be, DependencyError (also for unknown names), PackageError for packages that do
    not work without their scripts, and LockError for pins that do not fit.
    """
    below = once(partial(_merged, request.below))
    found = pinned(request, archives)
    archive = once(partial(archive_for, request, archives, below, found.dated if found else ""))
    selection = found or select(request, archive(), below, archives)
    if not selection.packages:
        if found:
            _check_pins(request, [], found, below)
        return Provided(made=None, selection=selection)
    key = _key(request, selection, compression)
    made = recall(archives.cache, "debian-layers", key)
    if made is None:
        debs = _opened(selection.packages, archive().fetch(selection.packages))
        if found:
            _check_pins(request, debs, selection, below)
        made = _made(request, debs, below, archives, compression)
        remember(archives.cache, "debian-layers", key, made)
    return Provided(made=made, selection=selection)


def pinned(request: Request, archives: Archives) -> Selection | None:
    """What the project has pinned of that; None as `Pins.of`. Raises LockError for pins of something else."""
    return archives.pins().of(request.purpose, request.suite, request.architecture, request.roots, request.snapshot)


def newest(request: Request, archives: Archives) -> Selection:
    """The newest packages that the archive has of what is asked for, whatever is pinned. Raises as `provide` does."""
    below = once(partial(_merged, request.below))
    return select(request, archive_for(request, archives, below), below, archives)


def select(
    request: Request,
    archive: Archive,
    below: Callable[[], Filesystem | None],
    archives: Archives,
) -> Selection:
    """The newest packages that the archive has of what is asked for. Raises as `provide` does."""
    suites = suites_of(request.suite)
    image = request.below.config_descriptor.digest if request.below else ""

    def chosen() -> dict[str, Any]:
        indexes = _indexes(archive, suites, request.architecture)
        with archives.progress.task("resolve", _spoken(request)):
            found = resolve(
                request.roots,
                indexes,
                architecture=request.architecture,
                installed=_installed(below()),
                without=request.without,
            )
        return {"packages": [_to_json(each) for each in found]}

    shape = [_CHOICE, request.architecture, sorted(request.roots), sorted(request.without), image]
    document = _known(archives.cache, "debian-selections", shape, archive, suites, request.architecture, chosen)
    return Selection(
        purpose=request.purpose,
        suite=request.suite,
        architecture=request.architecture,
        roots=tuple(sorted(request.roots)),
        packages=tuple(Package(**each) for each in document["packages"]),
        snapshot=request.snapshot,
        dated=max(archive.release(suite).date for suite in suites).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def pythons(suite: str, architecture: str, archive: Archive, cache: Cache) -> list[str]:
    """The Pythons that a suite has, as `3.13`, the newest first. Raises DebianError."""

    def chosen() -> dict[str, Any]:
        names = (name for index in _indexes(archive, [suite], architecture) for name in index.names())
        return {"names": sorted({found[1] for name in names if (found := PYTHON.fullmatch(name))})}

    names = _known(cache, "debian-pythons", [], archive, [suite], architecture, chosen)["names"]
    return sorted(names, key=lambda name: tuple(map(int, name.split("."))), reverse=True)


def _known(
    cache: Cache,
    kind: str,
    shape: Sequence[object],
    archive: Archive,
    suites: Sequence[str],
    architecture: str,
    make: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """What follows from indexes: found again while they are the same."""
    key = json.dumps([*shape, *suites, archive.state(suites, architecture=architecture)])
    document = cache.get(kind, key)
    if document is None:
        document = make()
        cache.put(kind, key, document)
    return document


def archive_for(
    request: Request, archives: Archives, below: Callable[[], Filesystem | None], dated: str = ""
) -> Archive:
    """Where packages come from; an image's own sources are looked for where the machine has none.

    `below` gives the merged layers of the image below, `dated` is as in `Archives.of`, which this raises as.
    """
    of = partial(archives.of, request.suite, request.architecture, snapshot=request.snapshot, dated=dated)
    try:
        return of()
    except DebianError:
        if request.below is None or archives.mirror:
            raise
    files = below()
    return of(image={path: node.data or b"" for path, node in files.nodes.items()} if files else {})


def _indexes(archive: Archive, suites: Sequence[str], architecture: str) -> list[PackageIndex]:
    return [read_index(each.path, suite=each.suite) for each in archive.indexes(suites, architecture=architecture)]


def _merged(image: Image | None) -> Filesystem | None:
    return merge(image.layers, wanted) if image else None


def _installed(below: Filesystem | None) -> list[Package]:
    return database.read(below).packages() if below else []


def _opened(packages: Sequence[Package], paths: Sequence[Any]) -> list[Deb]:
    return [open_deb(path, place=f"{each.name} {each.version}") for each, path in zip(packages, paths, strict=True)]


def _check_pins(
    request: Request, debs: Sequence[Deb], selection: Selection, below: Callable[[], Filesystem | None]
) -> None:
    """Compare pins with what the packages themselves say, and with the image that they go on by now."""
    stanzas = "\n".join(_stanza(deb, each) for deb, each in zip(debs, selection.packages, strict=True))
    index = PackageIndex([stanzas.encode()], suite=FILE)
    installed = _installed(below())
    there = {each.name: each for each in installed}
    try:
        for deb, each in zip(debs, selection.packages, strict=True):
            if (deb.control["Package"], deb.control["Version"]) != (each.name, each.version):
                raise DependencyError(f"{each} is {deb.control['Package']} {deb.control['Version']}")
            if each.name in there and compare(there[each.name].version, each.version) > 0:
                raise DependencyError(f"{each} is older than the base's {there[each.name].version}")
        resolve(
            request.roots,
            [index],
            architecture=request.architecture,
            installed=installed,
            without=request.without,
        )
    except DependencyError as error:
        raise LockError(
            f"the packages for the purpose {request.purpose!r} do not go together, or with the base: {error.message}",
            place=FILE,
            hint=f"refresh it: {UPGRADE}",
        ) from None


def _stanza(deb: Deb, package: Package) -> str:
    control = deb.files["control"].decode().strip("\n")
    return f"{control}\nFilename: {package.filename}\nSize: {package.size}\nSHA256: {package.sha256}\n"


def _made(
    request: Request,
    debs: Sequence[Deb],
    below: Callable[[], Filesystem | None],
    archives: Archives,
    compression: str,
) -> MadeLayer:
    files, cache, progress = below(), archives.cache, archives.progress
    with (
        cache.temporary() as contents,
        contents.open("w+b") as spool,
        progress.task("layer", _spoken(request)) as advance,
    ):
        make: Callable[..., Assembled] = partial(added_files, files) if files else root_files
        assembled = make(debs, spool, architecture=request.architecture, threads=archives.threads)
        # What a base of its own is without is what it is meant to be without.
        for note in assembled.notes if files else ():
            progress.note(note)
        return make_layer(
            assembled.entries,
            cache,
            contents=_contents(request, debs),
            compression=compression,
            present={path for path, node in files.nodes.items() if node.kind == "dir"} if files else (),
            threads=archives.threads,
            advance=advance,
        )


def _contents(request: Request, debs: Sequence[Deb]) -> tuple[str, ...]:
    """What was asked for before what that needs: whoever is told of the layer knows it by these."""
    asked = {name.partition("=")[0] for name in request.roots}
    came = [(deb.control["Package"], deb.control["Version"]) for deb in debs]
    return tuple(f"{name} {version}" for name, version in sorted(came, key=lambda each: (each[0] not in asked, each)))


def _spoken(request: Request) -> str:
    return f"Debian {request.suite}" if request.purpose == "base" else f"{request.purpose} of Debian {request.suite}"


def _key(request: Request, selection: Selection, compression: str) -> str:
    below = request.below.config_descriptor.digest if request.below else ""
    # The hash alone says what is in a package; what it is called is told to people, and must be true.
    packages = [f"{each} {each.sha256}" for each in selection.packages]
    shape = [
        _LAYOUT,
        fingerprint(compression, splice=False),
        request.architecture,
        below,
        sorted(request.roots),
        packages,
    ]
    return json.dumps(shape)


def _to_json(package: Package) -> Mapping[str, Any]:
    """What a selection needs to know of a package."""
    return {
        "name": package.name,
        "version": package.version,
        "architecture": package.architecture,
        "suite": package.suite,
        "filename": package.filename,
        "size": package.size,
        "sha256": package.sha256,
    }
