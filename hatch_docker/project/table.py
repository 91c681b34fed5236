"""The project's configuration: `[tool.hatch-docker]`, or Hatch's own table in pyproject.toml or hatch.toml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatch_docker.config import HATCH_FILE_TABLE, HATCH_TABLE, HATCHLING, TABLE
from hatch_docker.errors import ConfigError
from hatch_docker.support import toml

Table = Mapping[str, Any]

# Where builds write to unless Hatch's configuration names another directory.
OUTPUT = "dist"


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; empty if there is none. Raises ConfigError if it cannot be read."""
    try:
        return toml.loads(path.read_bytes().decode())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", "") or str(error)
        raise ConfigError([(str(path), reason)]) from None


def subtable(table: object, *keys: str) -> Table:
    """The table at a path of keys; empty if there is none, or something else."""
    for key in keys:
        table = table.get(key) if isinstance(table, Mapping) else None
    return table if isinstance(table, Mapping) else {}


def configuration(root: Path, document: Table) -> tuple[str, object]:
    """The name and the value of the table that configures the image; an empty table if the project has none.

    `document` is the project's pyproject.toml. Hatch's table may be for Hatch alone. Raises ConfigError if both
    configure the image, since neither prevails.
    """
    own = subtable(document, "tool")
    hatch = subtable(_hatch_build(root, document), "targets")
    other = HATCH_FILE_TABLE if _in_file(root) else HATCH_TABLE
    if own.get("hatch-docker") is None:
        return (other, hatch["docker"]) if "docker" in hatch else (TABLE, {})
    table = hatch.get("docker", {})
    if not isinstance(table, Mapping) or not HATCHLING.issuperset(table):
        raise ConfigError(
            [(TABLE, f"the project has two tables of configuration: move the keys of one to the other ({other})")]
        )
    return TABLE, own["hatch-docker"]


def output_directory(root: Path, document: Table) -> Path:
    """The directory that builds write to: `dist`, or the one that Hatch's configuration names."""
    build = _hatch_build(root, document)
    named = [subtable(build, "targets", "docker").get("directory"), build.get("directory"), OUTPUT]
    return root / next(each for each in named if each and isinstance(each, str))


def _hatch_build(root: Path, document: Table) -> Table:
    """`[tool.hatch.build]`; the one of hatch.toml replaces it."""
    file = read_toml(root / "hatch.toml")
    return subtable(file, "build") if "build" in file else subtable(document, "tool", "hatch", "build")


def _in_file(root: Path) -> bool:
    return "build" in read_toml(root / "hatch.toml")
