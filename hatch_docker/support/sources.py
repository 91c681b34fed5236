"""The source files of a directory: no caches, environments or repositories. It imports nothing of ours."""

from __future__ import annotations

import os

from hatch_docker.support.patterns import regex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# Not sources: version control, environments, caches of tools. Outputs of builds may be: a wheel may contain a frontend
# from `dist`.
LEFT_OUT = frozenset(
    (".git", ".hg", ".svn", ".bzr", ".venv", ".tox", ".nox", "__pycache__", ".mypy_cache", ".pytest_cache",
     ".ruff_cache", ".hypothesis", ".import_linter_cache", ".pdm-build")
)  # fmt: skip

# What builds write into their output directory.
OUTPUT = regex(
    r"[^/]+\.docker\.(?:json|tar)|[^/]+\.oci(?:/.*)?"
    r"|pylock\.[^/]+\.toml|build-constraints\.[^/]+\.txt|debian\.[^/]+\.lock"
)


def source_files(
    directory: str | os.PathLike[str], *, besides: Collection[str] = (), everything: bool = False
) -> Iterator[tuple[str, str]]:
    """The source files below a directory, sorted by directory, each with its relative path and its path.

    Links are followed, but not to a directory that contains them. Files and directories with a path in `besides` are
    left out; with `everything`, nothing else is. Raises OSError.
    """
    return _Walk(besides, everything).below(os.fspath(directory), "", frozenset())


class _Walk:
    def __init__(self, besides: Collection[str], everything: bool) -> None:
        self._besides, self._everything = besides, everything

    def below(self, directory: str, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, str]]:
        real = os.path.realpath(directory)
        if real in above:
            return
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            if entry.path in self._besides:
                continue
            if entry.is_dir():
                if self._everything or not _is_left_out(entry):
                    yield from self.below(entry.path, f"{prefix}{entry.name}/", above | {real})
            elif entry.is_file() and (self._everything or not entry.name.endswith((".pyc", ".pyo"))):
                yield f"{prefix}{entry.name}", entry.path


def _is_left_out(entry: os.DirEntry[str]) -> bool:
    # That file makes a directory a virtual environment.
    return entry.name in LEFT_OUT or os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))
