"""Where a project takes packages from: `[tool.uv.sources]`, and their counterparts of Poetry and PDM.

A package with a source is never looked up in any other index.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from packaging.utils import canonicalize_name

from hatch_docker.index.foreign_sources import pdm_indexes, pdm_sources, poetry_indexes, poetry_sources
from hatch_docker.index.source import KINDS, NO_SOURCES, NamedIndex, Source, Sources
from hatch_docker.index.uv_config import uv_tables
from hatch_docker.index.uv_sources import no_sources, read_document, table_of, uv_indexes, uv_sources, without_sources
from hatch_docker.support.directories import home_directory

__all__ = ["KINDS", "NO_SOURCES", "NamedIndex", "Source", "Sources", "read_sources"]


def read_sources(root: Path, environ: Mapping[str, str], *, project: str, home: Path | None = None) -> Sources:
    """The sources of the project in `root`, whose normalized name is `project`.

    They are those of uv if pyproject.toml, or that of the workspace, has `[tool.uv.sources]` or named indexes; else
    those of Poetry; else those of PDM. uv's settings `no-sources` and `no-sources-package` apply to all. Raises
    ConfigError for all entries that are not valid; a valid one that cannot be used has a `problem`.
    """
    root = root.absolute()
    tables = uv_tables(root, environ, home=home or home_directory())
    if no_sources(environ, tables):
        return NO_SOURCES
    ignored = without_sources(environ, tables) | {canonicalize_name(project)}
    found = _read(root, environ)
    by_name = {name: sources for name, sources in found.by_name.items() if name not in ignored}
    return Sources(by_name=by_name, tool=found.tool, indexes=found.indexes)


def _read(root: Path, environ: Mapping[str, str]) -> Sources:
    document = read_document(root)
    indexes = uv_indexes(root, environ)
    by_name = uv_sources(root, indexes)
    # Indexes of the environment alone are not those of the project.
    if by_name or any(each.place.startswith("tool.") for each in indexes):
        return Sources(by_name=by_name, tool="tool.uv", indexes=indexes)
    for tool, find_indexes, find_sources in (
        ("tool.poetry", poetry_indexes, poetry_sources),
        ("tool.pdm", pdm_indexes, pdm_sources),
    ):
        table = table_of(document, *tool.split("."))
        indexes = find_indexes(table, root, environ)
        by_name = find_sources(table, root, indexes)
        if by_name or indexes:
            return Sources(by_name=by_name, tool=tool, indexes=indexes)
    return NO_SOURCES
