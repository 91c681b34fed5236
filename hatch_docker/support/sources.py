"""The source files of a directory: no caches, environments or repositories. It imports nothing of ours."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

# Not sources: version control, environments, caches of tools. Outputs of builds may be: a wheel may contain a frontend
# from `dist`.
LEFT_OUT = frozenset(
    (".git", ".hg", ".svn", ".bzr", ".venv", ".tox", ".nox", "__pycache__", ".mypy_cache", ".pytest_cache",
     ".ruff_cache", ".hypothesis", ".import_linter_cache", ".pdm-build")
)  # fmt: skip

# What builds write into their output directory.
OUTPUT = re.compile(
    r"[^/]+\.docker\.(?:json|tar)|[^/]+\.oci(?:/.*)?"
    r"|pylock\.[^/]+\.toml|build-constraints\.[^/]+\.txt|debian\.[^/]+\.lock"
)


def source_files(directory: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """The source files below a directory, sorted by directory, each with its relative path and its path.

    Links are followed, but not to a directory that contains them. Raises OSError.
    """
    return _files(os.fspath(directory), "", frozenset())


def _files(directory: str, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, str]]:
    real = os.path.realpath(directory)
    if real in above:
        return
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = entry.name
        if entry.is_dir():
            # The file that makes a directory a virtual environment.
            if name not in LEFT_OUT and not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                yield from _files(entry.path, f"{prefix}{name}/", above | {real})
        elif entry.is_file() and not name.endswith((".pyc", ".pyo")):
            yield f"{prefix}{name}", entry.path
