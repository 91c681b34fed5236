"""Local directories that are built with each other, found before uv tries to build them to read their metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hatch_docker.compiling.directory import read_directory
from hatch_docker.errors import CompileError
from hatch_docker.index.sources import read_sources


def check_circle(directory: Path, name: str, environ: Mapping[str, str]) -> None:
    """Raise CompileError if the package `name` is a build requirement of itself, through its sources or theirs.

    Raises SourceError for a directory that is gone.
    """
    _follow(directory.resolve(), {}, name, environ)


def _follow(directory: Path, above: Mapping[Path, str], name: str, environ: Mapping[str, str]) -> None:
    if directory in above:
        names = [*above.values()][[*above].index(directory) :]
        raise circle([*names, names[0]], place=str(directory))
    for required, path in _required(directory, name, environ):
        _follow(path, {**above, directory: name}, required, environ)


def _required(directory: Path, name: str, environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """The build requirements that are directories themselves."""
    requires = read_directory(directory, name).system.requires
    if not requires:
        return
    sources = read_sources(directory, environ, project="").by_name
    for text in requires:
        required = canonicalize_name(Requirement(text).name)
        for source in sources.get(required, ()):
            if source.kind in ("path", "workspace") and (path := Path(source.value)).is_dir():
                yield required, path.resolve()


def circle(names: list[str], *, place: str) -> CompileError:
    """The error for packages that are each built with the next; the last is the first."""
    return CompileError(
        f"{names[0]} is needed to build {names[0]} itself: {' is built with '.join(names)}",
        place=place,
        hint="remove one of them from the build-system.requires of another",
    )
