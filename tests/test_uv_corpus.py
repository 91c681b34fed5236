"""Our reading of uv.lock, compared with uv's own commands on the projects of uv_projects.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from packaging.pylock import Package, PackageArchive, PackageDirectory, PackageSdist, PackageVcs, PackageWheel
from uv_projects import UvProject, World, projects, request_of, serving_world

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder
from hatch_docker.index.artifact import Artifact
from hatch_docker.locks import read_lock, select
from hatch_docker.locks.formats import find_lock, lock_format
from hatch_docker.locks.model import InstallRequest
from hatch_docker.oci.spec import Platform


def target(version: str, platform: str, libc: str, number: tuple[int, int]) -> TargetPython:
    return TargetPython(
        version=version,
        interpreter="/usr/local/bin/python3",
        platform=Platform.parse(platform),
        libc=Libc(kind=libc, version=number),
    )


TARGETS = (
    target("3.10.14", "linux/amd64", "glibc", (2, 36)),
    target("3.11.7", "linux/arm64", "glibc", (2, 36)),
    target("3.12.3", "linux/amd64", "musl", (1, 2)),
    target("3.13.5", "linux/arm64", "musl", (1, 2)),
    target("3.14.0", "linux/amd64", "glibc", (2, 41)),
)
# Not supported: a package in a subdirectory of an archive.
REFUSED = ("url-with-subdirectory", "url-of-source-with-subdirectory")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with serving_world(tmp_path_factory.mktemp("uv")) as found:
        yield found


@pytest.mark.parametrize("project", projects(), ids=lambda each: each.name)
def test_uv_lock_selects_what_uv_exports(world: World, project: UvProject) -> None:
    folder = world.lay_out(project) / project.member
    world.lock(folder)
    lock = find_lock(folder)
    assert lock is not None
    for extras, groups in project.choices:
        exported = world.export(folder, extras, groups)
        for to in TARGETS:
            request = request_of(world, folder, to, extras, groups)
            if project.name in REFUSED:
                with pytest.raises(LockError, match="in a subdirectory of an archive"):
                    chosen(lock, request)
                continue
            ours, theirs = chosen(lock, request), expected(exported, to)
            assert ours == theirs
            assert not list(lock_format(lock).changes(lock, request))


def chosen(lock: Path, request: InstallRequest) -> dict[str, tuple[str, ...]]:
    """What we select, in comparable form by name."""
    found = select(read_lock(lock, request, FileFinder(files=lambda _: [])), request, lock=lock)
    return {each.name: _comparable(each) for each in found}


def _comparable(artifact: Artifact) -> tuple[str, ...]:
    if artifact.tree:
        return (artifact.tree.url, artifact.tree.commit, artifact.tree.subdirectory)
    return (artifact.version, artifact.url, *artifact.hashes.values())


def expected(exported: Path, to: TargetPython) -> dict[str, tuple[str, ...]]:
    """What packaging selects from uv's export, in the same form."""
    pylock = read_lock(exported, InstallRequest(project="", target=to), FileFinder(files=lambda _: []))
    found = pylock.select(environment=to.environment, tags=to.tags)
    return {package.name: _of_package(package, source, exported.parent) for package, source in found}


def _of_package(
    package: Package,
    source: PackageVcs | PackageDirectory | PackageArchive | PackageWheel | PackageSdist,
    folder: Path,
) -> tuple[str, ...]:
    if isinstance(source, PackageDirectory):
        return ((folder / source.path).resolve().as_uri(), "", "")
    if isinstance(source, PackageVcs):
        return (source.url or "", source.commit_id, source.subdirectory or "")
    url = urljoin(package.index or "", source.url) if source.url else (folder / (source.path or "")).resolve().as_uri()
    return (str(package.version), url, *source.hashes.values())
