"""Pack a directory's sources for the builder, if its build backend makes no sdist on this machine.

The sdists of some backends need a compiler, or the repository. The archive has what Git tracks or would track.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from hatch_docker.compiling.directory import BINARY, source_files
from hatch_docker.compiling.git import tracked_files
from hatch_docker.compiling.sdist import UNKNOWN_VERSION
from hatch_docker.errors import SourceError

# Cargo and other tools mark their caches (Cache Directory Tagging Specification).
_CACHE = "CACHEDIR.TAG"
# Outputs of builds, if there is no Git to say that they are ignored.
_OUTPUTS = frozenset(("build", "dist", "target"))


def pack(directory: Path, name: str, version: str, folder: Path, environ: Mapping[str, str]) -> Path:
    """Write the sources of the package `name` as an sdist into `folder`; its path.

    `version` is empty if only a build tells it. Raises SourceError if a file cannot be read.
    """
    stem = f"{name.replace('-', '_')}-{version or UNKNOWN_VERSION}"
    path = folder / f"{stem}.tar.gz"
    try:
        with tarfile.open(path, "w:gz", compresslevel=1, dereference=True) as tar:
            for relative in _sources(directory, environ):
                tar.add(directory / relative, arcname=f"{stem}/{relative}", recursive=False)
    except OSError as error:
        place = str(error.filename or directory)
        raise SourceError(f"a source file cannot be read: {error.strerror or error}", place=place) from None
    return path


def _sources(directory: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """The paths of the files, relative to the directory."""
    tracked = tracked_files(directory, environ)
    if tracked is not None:
        yield from (each for each in tracked if (directory / each).is_file())
        return
    files = [*source_files(directory)]
    caches = {path.parent for _, path in files if path.name == _CACHE}
    for relative, path in files:
        top = relative.partition("/")[0]
        if top in _OUTPUTS or top.endswith(".egg-info") or not caches.isdisjoint(path.parents):
            continue
        if not BINARY.fullmatch(path.name):
            yield relative
