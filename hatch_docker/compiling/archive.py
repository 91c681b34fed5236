"""Pack a directory's sources for the builder, if its build backend makes no sdist on this machine.

The sdists of some backends need a compiler, or the repository. The archive has what Git tracks or would track.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Set
from pathlib import Path

from hatch_docker.compiling.directory import BINARY, source_files
from hatch_docker.compiling.git import tracked_files
from hatch_docker.compiling.sdist import UNKNOWN_VERSION
from hatch_docker.errors import SourceError

# Cargo and other tools mark their caches (Cache Directory Tagging Specification).
_CACHE = "CACHEDIR.TAG"
# Outputs of builds, ours too, if Git does not track them.
_OUTPUTS = frozenset(("build", "dist", "target"))
_IMAGES = (".docker.json", ".docker.tar")


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


def _sources(directory: Path, environ: Mapping[str, str]) -> list[str]:
    """The paths of the files, relative to the directory, sorted."""
    tracked, others = tracked_files(directory, environ)
    if not tracked and not others:
        others = [relative for relative, _ in source_files(directory)]
    caches = {Path(each).parent for each in others if Path(each).name == _CACHE}
    found = {*tracked, *(each for each in others if not _is_output(Path(each), caches))}
    return sorted(each for each in found if (directory / each).is_file())


def _is_output(path: Path, caches: Set[Path]) -> bool:
    top = path.parts[0]
    return (
        top in _OUTPUTS
        or top.endswith(".egg-info")
        or path.name.endswith(_IMAGES)
        or bool(BINARY.fullmatch(path.name))
        or not caches.isdisjoint(path.parents)
    )
