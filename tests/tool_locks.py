"""Helpers for tests of the locks of Poetry, PDM and Pipenv."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from containers import tool
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.index.access import FileFinder
from hatch_docker.index.client import IndexFile
from hatch_docker.index.pip_config import Pip
from hatch_docker.locks import InstallRequest, read_lock, select
from hatch_docker.locks.formats import lock_format
from hatch_docker.locks.model import read_toml, recorded
from hatch_docker.oci.spec import Platform
from hatch_docker.project.model import Project


def target(version: str = "3.11.2", platform: str = "linux/amd64", libc: str = "glibc") -> TargetPython:
    """The Python of Debian bookworm, or another one."""
    number = (2, 36) if libc == "glibc" else (1, 2)
    return TargetPython(
        version=version,
        interpreter="/usr/bin/python3",
        platform=Platform.parse(platform),
        libc=Libc(kind=libc, version=number),
    )


BOOKWORM = target()

# What to install for each tool, with uv's options. PDM does not always work with its newest dependencies.
TOOLS: Mapping[str, tuple[str, ...]] = {
    "poetry": ("poetry>=2.1",),
    "poetry1": ("poetry==1.8.*",),
    "pdm": ("--exclude-newer=2026-09-01", "pdm"),
    "pipenv": ("pipenv",),
}


def run(name: str, *command: str, project: Path) -> None:
    """Run one of the tools in the project, with this Python."""
    *options, package = TOOLS[name]
    tool("uv", "tool", "run", "--python", sys.executable, *options, "--from", package, *command, cwd=project)


def name_index(project: Path) -> None:
    """Name pip's index for Poetry, which would otherwise use an API that not all indexes have."""
    with (project / "pyproject.toml").open("a") as file:
        file.write(f'\n[[tool.poetry.source]]\nname = "mirror"\nurl = "{Pip(os.environ).default_index}"\n')


def digest(filename: str) -> str:
    """The sha256 that a made-up file has: a number for each name."""
    return f"{int.from_bytes(filename.encode(), 'big'):064x}"[-64:]


def request_for(
    root: Path,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    to: TargetPython = BOOKWORM,
    *requirements: str,
) -> InstallRequest:
    """The request for the project in `root`, with the requirements of its pyproject.toml, if it has any."""
    path = root / "pyproject.toml"
    document = read_toml(path) if path.is_file() else {}
    table = document.get("project", {})
    project = Project(
        root=root,
        name="demo",
        version="1",
        dependencies=(*table.get("dependencies", ()), *requirements),
        optional_dependencies=table.get("optional-dependencies", {}),
        dependency_groups=document.get("dependency-groups", {}),
    )
    standard = {canonicalize_name(each) for each in document.get("dependency-groups", {})}
    return InstallRequest(
        project="demo",
        target=to,
        root=root,
        requirements=project.requirements(extras, [each for each in groups if each in standard]),
        extras=frozenset(extras),
        groups=frozenset(groups),
    )


def chosen(lock: Path, request: InstallRequest, finder: FileFinder | None = None) -> list[str]:
    """The packages that a lock has for a request, as `name version`."""
    pylock = read_lock(lock, request, finder or serving(lock))
    return [f"{each.name} {each.version}".strip() for each in select(pylock, request, lock=lock)]


def serving(lock: Path, asked: list[tuple[str, tuple[str, ...]]] | None = None) -> FileFinder:
    """An index that has the files that a lock names, by their made-up hashes; `asked` collects names and indexes."""
    names = set(re.findall(r"[\w.+-]+\.(?:whl|tar\.gz)", lock.read_text(encoding="utf-8", errors="replace")))
    files = [
        IndexFile(filename=each, url=f"https://files.example/{each}", hashes={"sha256": digest(each)}) for each in names
    ]

    def files_at(name: str, urls: tuple[str, ...] = ()) -> list[IndexFile]:
        if asked is not None:
            asked.append((name, urls))
        return [each for each in files if canonicalize_name(each.filename.split("-")[0]) == name]

    return FileFinder(files=files_at, files_at=files_at)


def parsed(*requirements: str) -> list[Requirement]:
    """Requirements from their texts."""
    return [Requirement(each) for each in requirements]


def changes_of(lock: Path, request: InstallRequest) -> list[str]:
    """What has changed since a lock with URLs was made."""
    record = recorded(read_lock(lock, request, FileFinder(files=lambda _: [])))
    return list(lock_format(lock).changes(lock, request, record))
