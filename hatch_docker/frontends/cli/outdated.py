"""`hatch-docker outdated`: which packages of the image, as it would be built now, have newer versions.

Those that matter most come first: security updates of Debian's, then what is yanked from the package index (PEP 592).
What is told of Python is what `pip list --outdated` tells: also a version that something else in the image does not
take. One that the project itself excludes is marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from hatch_docker.base.image import Base
from hatch_docker.base.target import TargetPython
from hatch_docker.config import Config
from hatch_docker.debian.packages import Package, PackageIndex, read_index
from hatch_docker.debian.sources import suites_of
from hatch_docker.debian.version import key
from hatch_docker.dpkg import database
from hatch_docker.dpkg.archives import architecture_of
from hatch_docker.dpkg.assemble import needs_content as of_packages
from hatch_docker.dpkg.lockfile import UPGRADE
from hatch_docker.dpkg.provide import Request, archive_for
from hatch_docker.errors import ArtifactError, readable
from hatch_docker.image.outputs import lock_path
from hatch_docker.index.access import FileFinder
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.client import IndexFile
from hatch_docker.locks import InstallRequest, find_lock
from hatch_docker.locks.check import holds
from hatch_docker.locks.explain import tags_of
from hatch_docker.locks.formats import lock_format
from hatch_docker.locks.locked import Locked
from hatch_docker.locks.model import parsed, read_text
from hatch_docker.locks.uv import UPGRADE as UPGRADE_PYTHON
from hatch_docker.locks.uv import is_ours
from hatch_docker.oci.filesystem import merge
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.plan import base_of, locked_of, suite_of, wanted_of, with_packages
from hatch_docker.project.model import Project
from hatch_docker.services import Machine
from hatch_docker.support.progress import Progress
from hatch_docker.support.threads import together

_HEADS = ("package", "has", "newest", "from")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A package that is outdated: where the newest comes from, or why it is told; `urgent` ones are told first."""

    name: str
    has: str
    newest: str
    why: str
    urgent: bool = False


def outdated(check: bool, project: Project, config: Config, machine: Machine, directory: Path) -> tuple[str, int]:
    """The table of what has newer versions, empty where nothing has; and the exit status.

    That is 0, but 1 where `check` asks for it and a security update or a yanked version is among them. `directory` is
    where builds left what they resolved. Raises what builds raise, and what keeps the archive or the index from
    telling.
    """
    places = machine.places
    # What was seen within the hour would do for a build, and not for somebody who asks for news.
    machine = replace(machine, places=replace(places, archives=replace(places.archives, fresh=timedelta(0))))
    base, layers = with_packages(base_of(project.requires_python, config, machine), config, machine)
    system = _of_debian(base, layers, config, machine)
    wanted = wanted_of(project, config, base.facts.python)
    lock = find_lock(project.root, config.lock, progress=machine.progress)
    indexes = machine.indexes(lock)
    locked = locked_of(wanted, project, config, machine, indexes, lock, lock_path(project.normalized_name, directory))
    python = _of_python(locked.artifacts, wanted, indexes.lookup, machine.progress)
    rows = sorted((*system, *python), key=lambda row: not row.urgent)
    hints = [_refresh_system(base, config)] if system else []
    hints += [_refresh_python(locked, wanted.target)] if python else []
    machine.progress.note(f"how to get newer ones {'; '.join(hints)}" if hints else _all_new(base, locked))
    return "\n".join(_table(rows)), int(check and any(row.urgent for row in rows))


def _all_new(base: Base, locked: Locked) -> str:
    return f"there is nothing newer than {base.name} and the {len(locked.artifacts)} packages of Python have"


def _of_debian(base: Base, layers: Sequence[MadeLayer], config: Config, machine: Machine) -> list[_Row]:
    """The packages of Debian's in the image that the archive has newer ones of by now."""
    suite = suite_of(base, config)
    if not suite:
        machine.progress.note(f"{base.name} is not of Debian's: its OS packages are not looked at")
        return []
    image = base.image
    files = merge([*image.layers, *(made.layer for made in layers)], of_packages)
    architecture = architecture_of(image.config.platform)
    request = Request(purpose="base", suite=suite, architecture=architecture, requested=(), parent=image)
    archive = archive_for(request, machine.places.archives, lambda: files)
    suites = suites_of(suite)
    indexes = [read_index(each.path, suite=each.suite) for each in archive.indexes(suites, architecture=architecture)]
    return [row for each in database.read(files).packages() if (row := _newer_package(each, indexes, architecture))]


def _newer_package(installed: Package, indexes: Iterable[PackageIndex], architecture: str) -> _Row | None:
    """A fix that is among the security updates is one, also where something newer still is elsewhere."""
    newer = [
        each
        for index in indexes
        for each in index.packages(installed.name)
        if each.architecture in ("all", architecture) and key(each.version) > key(installed.version)
    ]
    if not newer:
        return None
    newest = max(newer, key=lambda each: key(each.version))
    urgent = any(each.suite.endswith("-security") for each in newer)
    why = f"{newest.suite}, security" if urgent else newest.suite
    return _Row(name=installed.name, has=installed.version, newest=newest.version, why=why, urgent=urgent)


def _of_python(
    artifacts: Sequence[Artifact], wanted: InstallRequest, lookup: FileFinder, progress: Progress
) -> list[_Row]:
    """The distributions that the index has newer ones of for the target, or that were yanked from it."""
    answers = together(lambda each: _files(each, lookup), artifacts, threads=lookup.threads)
    failed = [each for each in answers if isinstance(each, ArtifactError)]
    if failed and len(failed) == len(answers):
        raise failed[0]
    rows = []
    for artifact, files in zip(artifacts, answers, strict=True):
        if isinstance(files, ArtifactError):
            progress.note(f"{artifact.name} is not looked at: {files.message}")
        elif row := _newer_distribution(artifact, files, wanted):
            rows.append(row)
    return rows


def _files(artifact: Artifact, lookup: FileFinder) -> Sequence[IndexFile] | ArtifactError:
    try:
        return lookup.files(artifact.name)
    except ArtifactError as error:
        return error


def _newer_distribution(artifact: Artifact, files: Sequence[IndexFile], wanted: InstallRequest) -> _Row | None:
    try:
        has = Version(artifact.version)
    except InvalidVersion:
        return None
    own = next((file for file in files if file.yanked and file.filename == artifact.filename), None)
    there = _fitting(artifact.name, files, wanted.target, pre=has.is_prerelease)
    newest = next(there, None)
    if own is None and (newest is None or newest <= has):
        return None
    whys = [f"Python, yanked{own.reason and f': {own.reason}'}" if own else "Python"]
    if newest and (limit := _excluding(artifact.name, newest, wanted)):
        admitted = next((each for each in there if each > has and not _excluding(artifact.name, each, wanted)), None)
        whys.append(f"the project requires {limit}{f', as {admitted} is' if admitted else ''}")
    return _Row(
        name=artifact.name,
        has=artifact.version,
        newest=str(newest or "none"),
        why=", ".join(whys),
        urgent=own is not None,
    )


def _fitting(name: str, files: Iterable[IndexFile], target: TargetPython, *, pre: bool) -> Iterator[Version]:
    """The versions that have a file for the target and are not yanked, the newest first; if `pre`, pre-releases too."""
    tags = frozenset(target.tags)
    found: dict[Version, list[IndexFile]] = {}
    for file in files:
        known = parsed(file.filename)
        if known and known[0] == name and not file.yanked and (pre or not known[1].is_prerelease):
            found.setdefault(known[1], []).append(file)
    for version in sorted(found, reverse=True):
        if any(_fits(file, tags, target) for file in found[version]):
            yield version


def _fits(file: IndexFile, tags: frozenset[Tag], target: TargetPython) -> bool:
    try:
        if not SpecifierSet(file.requires_python).contains(target.version, prereleases=True):
            return False
    except InvalidSpecifier:
        # As pip does: what says nothing excludes nothing.
        pass
    return not file.filename.endswith(".whl") or not tags.isdisjoint(tags_of(file.filename))


def _excluding(name: str, version: Version, wanted: InstallRequest) -> str:
    """The project's own requirement that a version does not meet; empty where there is none."""
    return next(
        (
            f"{name}{requirement.specifier}"
            for requirement in wanted.requirements
            if canonicalize_name(requirement.name) == name
            and holds(requirement, wanted.target, extra="")
            and not requirement.specifier.contains(version, prereleases=True)
        ),
        "",
    )


def _refresh_system(base: Base, config: Config) -> str:
    """How the image gets newer packages of Debian's."""
    if config.base.date:
        return f"of Debian's: name a later day than {config.base.date} in base, then hatch-docker lock"
    if config.base.transport == "debian":
        return f"of Debian's: {UPGRADE}"
    own = f"; of runtime-packages: {UPGRADE}" if base.selections else ""
    return f"of Debian's: a newer image of {base.name}, or name them in runtime-packages{own}"


def _refresh_python(locked: Locked, target: TargetPython) -> str:
    """How the image gets newer distributions."""
    if locked.path is None or locked.resolved:
        return f"of Python: delete {locked.path}"
    ours = is_ours(read_text(locked.path))
    command = UPGRADE_PYTHON if ours else f"{lock_format(locked.path).refresh(locked.path.name, target)} --upgrade"
    return f"of Python: {command}"


def _table(rows: Sequence[_Row]) -> Iterator[str]:
    """The lines of a table with its heads, none where there are no rows."""
    cells = [_HEADS, *((readable(each.name), each.has, each.newest, readable(each.why)) for each in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADS))]
    for row in cells if rows else ():
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
