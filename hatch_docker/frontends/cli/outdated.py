"""`hatch-docker outdated`: packages of the image, as it would be built now, that have newer versions.

Security updates of Debian and yanked Python packages (PEP 592) come first. Python packages are compared as in `pip list
--outdated`, also with versions that another package of the image excludes; versions that the project itself excludes
are marked.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from hatch_docker.base.image import suite_of
from hatch_docker.base.target import TargetPython
from hatch_docker.config import BaseSpec
from hatch_docker.debian.packages import Package, PackageIndex, read_index
from hatch_docker.debian.sources import suites_of
from hatch_docker.debian.version import key
from hatch_docker.dpkg import database
from hatch_docker.dpkg.archives import Archives, architecture_of
from hatch_docker.dpkg.assemble import needs_content
from hatch_docker.dpkg.lockfile import UPGRADE
from hatch_docker.dpkg.provide import Request, archive_for
from hatch_docker.errors import ArtifactError, readable
from hatch_docker.index.access import FileFinder
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.client import IndexFile
from hatch_docker.locks import InstallRequest
from hatch_docker.locks.check import applies
from hatch_docker.locks.commands import UPGRADE as UPGRADE_PYTHON
from hatch_docker.locks.explain import tags_of
from hatch_docker.locks.formats import upgrade_command
from hatch_docker.locks.inputs import is_ours
from hatch_docker.locks.locked import Locked
from hatch_docker.locks.model import parse_filename, read_text
from hatch_docker.oci.filesystem import Filesystem
from hatch_docker.oci.merging import merge
from hatch_docker.plan import ImagePlan
from hatch_docker.services import Services
from hatch_docker.session import Session
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.progress import Progress
from hatch_docker.support.threads import together

_HEADS = ("package", "has", "newest", "from")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """An outdated package: `source` is where the newest version comes from, and why the row is `urgent`, if it is."""

    name: str
    has: str
    newest: str
    source: str
    urgent: bool = False


def command(chosen: argparse.Namespace) -> Callable[[Session], tuple[str, int]]:
    """The command that a command line asks for."""
    return partial(outdated, chosen.check)


def outdated(check: bool, session: Session) -> tuple[str, int]:
    """A table of the packages that have newer versions, and the exit status.

    The status is 1 if `check` is set and a security update or a yanked version is listed, else 0. Raises what planning
    raises, and errors of the archive and the index.
    """
    session.check_configuration()
    services, spec = session.services, session.config.base.spec
    # Indexes that were downloaded within the last hour would do for a build, but not for news.
    archives = replace(services.archives, fresh=timedelta(0))
    images = session.plan_images(services=replace(services, archives=archives))
    debian = [_debian_rows(image, spec, archives, services.progress) for image in images]
    python = [_python_rows(image, services) for image in images]
    rows = sorted((*_merged(images, debian), *_merged(images, python)), key=lambda row: not row.urgent)
    hints = [_upgrade_debian(images[0], spec)] if any(debian) else []
    hints += [_upgrade_python(images[0].locked, images[0].request)] if any(python) else []
    for hint in hints:
        services.progress.note(hint)
    if not hints:
        count = len({each.name for image in images for each in image.locked.artifacts})
        packages = f"{count} Python package{'s' if count != 1 else ''}"
        services.progress.note(f"everything is up to date ({images[0].base.name}, {packages})")
    return "\n".join(_table(rows)), int(check and any(row.urgent for row in rows))


def _merged(images: Sequence[ImagePlan], rows: Sequence[Sequence[_Row]]) -> Iterator[_Row]:
    """The rows of all images, each once; those that not all images have name their platforms."""
    for row in dict.fromkeys(each for some in rows for each in some):
        having = [str(image.platform) for image, some in zip(images, rows, strict=True) if row in some]
        yield row if len(having) == len(images) else replace(row, name=f"{row.name} ({', '.join(having)})")


def _debian_rows(image: ImagePlan, spec: BaseSpec, archives: Archives, progress: Progress) -> list[_Row]:
    """The Debian packages of the image that have newer versions in the archive."""
    init, parent = image.additions.system.init, image.base.image
    suite = suite_of(image.base, spec)
    if not suite:
        progress.note(f"{image.base.name} is not a Debian image: its OS packages are not checked")
        if init is None:
            return []
    files = merge(parent.layers, needs_content) if suite else Filesystem()
    architecture = architecture_of(parent.config.platform)
    suite = suite or (init.selection.suite if init else "")
    request = Request(purpose="base", suite=suite, architecture=architecture, requested=(), parent=parent)
    archive = archive_for(request, archives, lambda: files)
    suites = suites_of(suite)
    indexes = [read_index(each.path, suite=each.suite) for each in archive.indexes(suites, architecture=architecture)]
    installed = {each.name: each for each in database.read(files).packages()} if files.nodes else {}
    if init:
        installed |= {each.name: each for each in init.selection.packages}
    if image.packages.selection:
        installed |= {each.name: each for each in image.packages.selection.packages}
    elif image.packages.names:
        progress.note("runtime-packages are not checked: an engine installs them when the image is built")
    return [row for each in installed.values() if (row := _newer_package(each, indexes, architecture))]


def _newer_package(installed: Package, indexes: Iterable[PackageIndex], architecture: str) -> _Row | None:
    """The row of a package; urgent if a security update is newer, even if another suite has a newer version still."""
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
    source = f"{newest.suite}, security" if urgent else newest.suite
    return _Row(name=installed.name, has=installed.version, newest=newest.version, source=source, urgent=urgent)


def _python_rows(image: ImagePlan, services: Services) -> list[_Row]:
    """The Python packages that have newer versions for the target, or that were yanked from the index.

    Each is compared with the index that it came from; a source tree or a file of a URL came from none.
    """
    request, progress = image.request, services.progress
    artifacts: Sequence[Artifact] = image.locked.artifacts
    finder = services.indexes(image.locked.indexes).finder
    applying = request.sources.applying(request.target.environment, extras=request.extras, groups=request.groups)
    direct = {canonicalize_name(each.name) for each in request.requirements if each.url} | {
        name for name, sources in applying.by_name.items() if all(each.kind != "index" for each in sources)
    }
    # A lock that names indexes names them for all files of an index.
    names_indexes = any(each.index for each in artifacts)
    others = [each for each in artifacts if each.tree or (not each.index and (names_indexes or each.name in direct))]
    if others:
        names = ", ".join(sorted(each.name for each in others))
        progress.note(f"not compared with an index: {names} (from a directory, Git or a URL)")
    artifacts = [each for each in artifacts if each not in others]
    finder = finder.with_sources(applying)
    answers = together(lambda each: _files(each, finder), artifacts, threads=finder.threads)
    failed = [each for each in answers if isinstance(each, ArtifactError)]
    if failed and len(failed) == len(answers):
        raise failed[0]
    rows = []
    for artifact, files in zip(artifacts, answers, strict=True):
        if isinstance(files, ArtifactError):
            progress.note(f"{artifact.name} is not checked: {files.message}")
        elif row := _newer_distribution(artifact, files, request):
            rows.append(row)
    return rows


def _files(artifact: Artifact, finder: FileFinder) -> Sequence[IndexFile] | ArtifactError:
    """The files in the index that an artifact came from; in those that its lock or its source allows if unknown."""
    try:
        return finder.files_at(artifact.name, (artifact.index,)) if artifact.index else finder.files(artifact.name)
    except ArtifactError as error:
        return error


def _newer_distribution(artifact: Artifact, files: Sequence[IndexFile], request: InstallRequest) -> _Row | None:
    try:
        has = Version(artifact.version)
    except InvalidVersion:
        return None
    own = next((file for file in files if file.yanked and file.filename == artifact.filename), None)
    there = _fitting(artifact.name, files, request.target, pre=has.is_prerelease)
    newest = next(there, None)
    if own is None and (newest is None or newest <= has):
        return None
    sources = [f"Python, yanked{own.reason and f': {own.reason}'}" if own else "Python"]
    if newest and (limit := _excluding(artifact.name, newest, request)):
        admitted = next((each for each in there if each > has and not _excluding(artifact.name, each, request)), None)
        sources.append(f"the project requires {limit}{f', as {admitted} is' if admitted else ''}")
    return _Row(
        name=artifact.name,
        has=artifact.version,
        newest=str(newest or "none"),
        source=", ".join(sources),
        urgent=own is not None,
    )


def _fitting(name: str, files: Iterable[IndexFile], target: TargetPython, *, pre: bool) -> Iterator[Version]:
    """The versions with a file for the target that is not yanked, newest first; with `pre`, pre-releases too."""
    tags = frozenset(target.tags)
    found: dict[Version, list[IndexFile]] = {}
    for file in files:
        known = parse_filename(file.filename)
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
        # As pip does: an invalid specifier excludes nothing.
        pass
    return not file.filename.endswith(".whl") or not tags.isdisjoint(tags_of(file.filename))


def _excluding(name: str, version: Version, request: InstallRequest) -> str:
    """The project's own requirement that excludes a version; empty if none does."""
    return next(
        (
            f"{name}{requirement.specifier}"
            for requirement in request.requirements
            if canonicalize_name(requirement.name) == name
            and applies(requirement, request.target, extra="")
            and not requirement.specifier.contains(version, prereleases=True)
        ),
        "",
    )


def _upgrade_debian(image: ImagePlan, spec: BaseSpec) -> str:
    """How to upgrade the image's Debian packages."""
    if spec.date:
        return f"to upgrade Debian packages: name a later day than {spec.date} in base, then hatch-docker lock"
    if spec.transport == "debian":
        return f"to upgrade Debian packages: {UPGRADE}"
    chosen = {"runtime-packages": image.packages.selection, "init": image.additions.system.init}
    named = " and ".join(key for key, value in chosen.items() if value)
    own = f"; those of {named}: {UPGRADE}" if named else ""
    return f"to upgrade Debian packages: a newer image of {image.base.name}, or name them in runtime-packages{own}"


def _upgrade_python(locked: Locked, request: InstallRequest) -> str:
    """How to upgrade the image's Python packages."""
    if locked.path is None or locked.text:
        return "to upgrade Python packages: change the requirements, which each build resolves without a lock"
    if locked.resolved:
        return f"to upgrade Python packages: delete {locked.path}"
    ours = is_ours(read_text(locked.path))
    command = UPGRADE_PYTHON if ours else upgrade_command(locked.path, request)
    return f"to upgrade Python packages: {command}"


def _table(rows: Sequence[_Row]) -> Iterator[str]:
    """The lines of a table with its heads; none without rows."""
    cells = [_HEADS, *((readable(each.name), each.has, each.newest, readable(each.source)) for each in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADS))]
    for row in cells if rows else ():
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
