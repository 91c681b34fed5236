"""An init process for images: `tini-static` of Debian's package tini, linked statically for any base."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from hatch_docker.debian.deb import open_deb
from hatch_docker.debian.packages import Package
from hatch_docker.dpkg import database
from hatch_docker.dpkg.archives import Archives, architecture_of
from hatch_docker.dpkg.lockfile import Selection
from hatch_docker.dpkg.provide import Request, archive_for, merged_files, newest, pinned
from hatch_docker.dpkg.unpack import unpack
from hatch_docker.errors import BaseError, PackageError
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.threads import once

PACKAGE = "tini"
PROGRAM = "usr/bin/tini-static"
_COPYRIGHT = "usr/share/doc/tini/copyright"
_WITHOUT = "leave init out, and run containers with: docker run --init"


def init_request(suite: str, platform: Platform, *, snapshot: str, apt_sources: Image | None) -> Request:
    """The request for the package; its dependency libc6 is for its other program, which is left out.

    `apt_sources` is an image whose apt sources name a mirror if nothing else does. Raises BaseError for a platform
    that Debian packages are not supported for.
    """
    try:
        architecture = architecture_of(platform)
    except BaseError:
        problem = f"Debian's archive has no {PACKAGE} for {platform}, as far as is known here"
        raise BaseError(problem, place="init", hint=_WITHOUT) from None
    return Request(
        purpose="init",
        suite=suite,
        architecture=architecture,
        requested=(PACKAGE,),
        assume_installed=("libc6",),
        snapshot=snapshot,
        apt_sources=apt_sources,
    )


def choose_init(request: Request, archives: Archives) -> Selection:
    """The pinned package, or the newest. Raises as `dpkg.provide` does."""
    return pinned(request, archives) or newest(request, archives)


def package_of(selection: Selection) -> Package:
    """The package in a selection. Raises PackageError if it is not there, as in a lock that was edited."""
    for each in selection.packages:
        if each.name == PACKAGE:
            return each
    raise PackageError(f"the packages for {selection.purpose!r} lack {PACKAGE}", hint="refresh them: hatch-docker lock")


def init_entries(
    request: Request, selection: Selection, archives: Archives, spool: BinaryIO, *, status: bool
) -> Iterator[Entry]:
    """The program and its copyright; with `status`, also what scanners of Debian images read (`status.d`).

    `spool` is an empty file for the contents. Raises DebianError if the package cannot be downloaded or is damaged,
    PackageError if it lacks the program.
    """
    package = package_of(selection)
    parent_files = once(partial(merged_files, request.apt_sources))
    archive = archive_for(request, archives, parent_files, selection.dated if archives.pins().path else "")
    (path,) = archive.fetch([package])
    deb = open_deb(path, place=f"{package.name} {package.version}")
    unpacked = unpack([deb], spool, {})
    unpacked = unpacked.without(unpacked.entries.keys() - {PROGRAM, _COPYRIGHT})
    program = unpacked.entries.get(PROGRAM)
    if program is None or not program.size:
        raise PackageError(
            f"{package.name} {package.version} of Debian {request.suite} has no /{PROGRAM}",
            hint=_WITHOUT,
        )
    yield replace(program, mode=0o755, uid=0, gid=0)
    if copyright_file := unpacked.entries.get(_COPYRIGHT):
        yield copyright_file
    if status:
        yield from database.database_files(unpacked, [deb], {}, None)
