"""Our reading of uv.lock, compared with uv's own commands on the projects of uv_projects.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from packaging.pylock import Package, PackageArchive, PackageDirectory, PackageSdist, PackageVcs, PackageWheel
from tool_locks import changes_of
from uv_projects import UvProject, World, projects, request_of, serving_world

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.errors import LockError
from hatch_docker.index.access import FileFinder, ResolverSettings
from hatch_docker.index.artifact import Artifact
from hatch_docker.locks import check_fresh, overridden, read_lock, select
from hatch_docker.locks.formats import find_lock
from hatch_docker.locks.model import InstallRequest, recorded
from hatch_docker.locks.resolve import resolve
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import replace


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
# An export without what the project requires does not say why; nor that it lists the wheels for all platforms.
OVERRIDING = (
    *("override-direct", "exclude-direct", "directory-virtual", "directory-not-a-package"),
    *("workspace-virtual-member", "wheel-for-one-platform"),
)


def supported() -> list[UvProject]:
    return [each for each in projects() if each.name not in REFUSED]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with serving_world(tmp_path_factory.mktemp("uv")) as found:
        yield found


@pytest.mark.parametrize("project", projects()[::5], ids=lambda each: each.name)
def test_uv_lock_selects_what_uv_exports(world: World, project: UvProject) -> None:
    check_lock(world, project)


@pytest.mark.network
@pytest.mark.parametrize("project", projects(), ids=lambda each: each.name)
def test_all_uv_locks_select_what_uv_exports(world: World, project: UvProject) -> None:
    """No index is needed, but it takes a while."""
    check_lock(world, project)


def check_lock(world: World, project: UvProject) -> None:
    folder = world.locked(project) / project.member
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
            assert not list(changes_of(lock, request))
            if project.name not in OVERRIDING:
                assert chosen(exported, request) == theirs


@pytest.mark.parametrize("project", supported()[::8], ids=lambda each: each.name)
def test_without_a_lock_uv_resolves_what_it_locks(world: World, project: UvProject) -> None:
    """Compared with `uv lock` followed by `uv export`, for some projects, each choice for another target."""
    check_resolutions(world, project, [(*choice, TARGETS[at % 5]) for at, choice in enumerate(project.choices)])


@pytest.mark.network
@pytest.mark.parametrize("project", supported(), ids=lambda each: each.name)
def test_resolutions_for_all_targets(world: World, project: UvProject) -> None:
    """All projects and choices for all targets: no index is needed, but it takes a minute."""
    check_resolutions(world, project, [(*choice, to) for choice in project.choices for to in TARGETS])


def check_resolutions(world: World, project: UvProject, cases: Sequence[tuple[Any, Any, TargetPython]]) -> None:
    folder = world.lay_out(project) / project.member
    resolver = ResolverSettings(environ=world.environ, configured=())
    resolution = folder / "dist" / "pylock.app.toml"
    resolution.parent.mkdir(exist_ok=True)
    ours = []
    for extras, groups, to in cases:
        request = request_of(world, folder, to, extras, groups)
        resolution.write_text(resolve(request, resolver, directory=resolution.parent))
        plain = replace(request, extras=frozenset(), groups=frozenset())
        ours.append(chosen(resolution, plain, resolved=True))
    world.lock(folder)
    for (extras, groups, to), found in zip(cases, ours, strict=True):
        assert found == expected(world.export(folder, extras, groups), to)


@pytest.mark.parametrize(
    ("name", "extras", "groups", "said"),
    [
        ("conflicting-extras", ["cpu", "gpu"], [], "extra cpu of app and extra gpu of app conflict"),
        ("conflicting-extras", ["gpu"], ["gcpu"], "extra cpu of app and extra gpu of app conflict"),
        ("conflicting-groups", [], ["old", "newer"], "group newer of app and group old of app conflict"),
        ("conflicting-extra-and-group", ["cpu"], ["gpu"], "extra cpu of app and group gpu of app conflict"),
        ("conflicting-project-and-group", [], ["new"], "group new of app and project app conflict"),
        ("workspace-conflicting-extras", ["a", "c"], [], "extra b of mylib and extra a of svc conflict"),
    ],
)
def test_conflicts_are_errors(world: World, name: str, extras: list[str], groups: list[str], said: str) -> None:
    project = next(each for each in projects() if each.name == name)
    folder = world.locked(project) / project.member
    lock = find_lock(folder)
    assert lock is not None
    with pytest.raises(LockError, match=rf"{said}(.|\n)*hint: choose extras and dependency-groups"):
        read_lock(lock, request_of(world, folder, TARGETS[0], extras, groups), FileFinder(files=lambda _: []))


def chosen(lock: Path, request: InstallRequest, *, resolved: bool = False) -> dict[str, tuple[str, ...]]:
    """What we select, in comparable form by name. A lock that is not `resolved` must be fresh."""
    pylock = read_lock(lock, request, FileFinder(files=lambda _: []))
    found = select(pylock, request, lock=lock)
    if not resolved:
        check_fresh(found, request, lock=lock, refresh="", overridden=overridden(recorded(pylock)))
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


# A project of the table, a file of it, a change of it (a pattern and its replacement), and what we say of that: it has
# changed if `uv lock --check` says so, and if that matters to the image.
CHANGES = [
    ("plain", r'"alpha"', '"alpha", "third"', "requires third, which is not locked"),
    ("plain", r'"beta"', "", "no longer requires beta"),
    ("plain", r'"beta"', '"beta>0.5"', "requires beta>0.5 instead of beta"),
    ("plain", r">=3\.10", ">=3.11", "requires Python >=3.11 instead of >=3.10"),
    ("plain", r"\[build-system", 'description = "x"\n[build-system', ""),
    ("nothing", r"\[\]", '["third"]', "requires third, which is not locked"),
    ("versions", r"alpha<2", "Alpha < 2", ""),
    ("extras-of-dependencies", r"gamma\[fast\]", "gamma", "requires gamma, which is not locked"),
    ("own-extras", r"numpyish", "numpyish>1", "requires numpyish>1 instead of numpyish"),
    ("groups", r'"delta"', '"delta", "third"', "requires third, which is not locked"),
    ("bound-python", r">=3\.9,<4", "<4,>=3.9", ""),
    ("override", r"leaf>=2", "leaf>=3", "has another tool.uv.override-dependencies"),
    ("override", r'"leaf>=2"', '"leaf>=2", "third"', ""),
    ("constraint", r'"alpha<2"', '"alpha<1.1"', "has another tool.uv.constraint-dependencies"),
    ("exclude", r'"leaf"', "", "has another tool.uv.exclude-dependencies"),
    ("plain", r"\[build-system", '[tool.uv]\nexclude-dependencies = ["leaf"]\n[build-system', "exclude-dependencies"),
    ("dependency-metadata", r'\["delta"\]', '["leaf"]', "has another tool.uv.dependency-metadata"),
    ("index", r'url = ".*"', 'url = "@cuda@"', "takes tor from index http"),
    ("index", r"\[tool.uv.sources\]\n.*", "", "takes tor from the index instead of index http"),
    ("url", r"1\.0-py3", "1.1-py3", "takes viaurl from http"),
    ("url-of-source", r"1\.1-py3", "1.0-py3", "takes viaurl from http"),
    ("git-tag", r"v1\.0", "v2.0", "(tag=v2.0) instead of"),
    ("git-rev", r"rev = .*?\"", 'branch = "', "(branch="),
    ("git-by-reference-with-tag", r"@v1\.0", "", "(subdirectory=sub) instead of"),
    ("git-subdirectory", r', subdirectory = "sub"', "", "takes gitsub from"),
    ("directory", r'path = "lib"', 'path = "./lib"', ""),
    ("directory", r"\[tool.uv.sources\]\n.*", "", "takes mylib from the index instead of "),
    ("directory", r'path = "lib"', 'path = "lib", editable = true', ""),
    ("wheel", r"\[tool.uv.sources\]\n.*", "", "takes flat from the index instead of "),
]
# Changes of other files than the project's own.
OTHERS = [
    ("directory", "lib", r'"delta"', '"delta", "third"', "mylib requires third, which is not locked"),
    ("directory", "lib", r'"delta"', '"delta<3"', "mylib requires delta<3 instead of delta"),
    ("directory", "lib", r'version = "1\.0"', 'version = "2.0"', ""),
    ("directory-with-extra", "lib", r'"delta"', '"leaf"', "mylib requires leaf, which is not locked"),
    ("directory-of-directory", "other", r'"\.\./lib/third"', '"../lib"', "other takes third from"),
    ("workspace-member", "packages/lib", r'"leaf<2"', '"leaf"', "mylib requires leaf instead of leaf<2"),
    (
        "workspace-member",
        "packages/lib",
        r"\[build",
        "[tool.uv]\npackage = false\n[build",
        "mylib is no longer a package",
    ),
    ("workspace-member", "packages/lib", r">=3\.10", ">=3.12", "requires Python >=3.10,>=3.12 instead of >=3.10"),
    ("workspace-member", "packages/lib", r"gamma\[fast\]", "gamma", ""),
    ("workspace-settings-of-root", ".", r"leaf>=2", "leaf>=3", "has another tool.uv.override-dependencies"),
    ("workspace-sources-of-root", ".", r'url = ".*"', 'url = "@cuda@"', "takes tor from index"),
]
# uv notices these, but they do not change the image.
IRRELEVANT = {"editable", 'version = "2.0"', "gamma"}


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "phrase"),
    [*((name, "", *change) for name, *change in CHANGES), *OTHERS],
    ids=lambda each: re.sub(r"\W+", "-", str(each)),
)
def test_changes_are_noticed_that_uv_notices(
    world: World, name: str, file: str, old: str, new: str, phrase: str
) -> None:
    project = next(each for each in projects() if each.name == name)
    root = world.copy(project)
    folder = root / project.member
    path = (root / file if file else folder) / "pyproject.toml"
    changed, count = re.subn(old, new, path.read_text())
    assert count
    path.write_text(world.filled(changed))
    if not any(each in new for each in IRRELEVANT):
        check = world.uv("lock", "--check", cwd=folder, check=False)
        assert bool(phrase) == (check.returncode != 0), check.stderr
    lock = find_lock(folder)
    assert lock is not None
    found = {
        change
        for choice in project.choices
        for to in TARGETS
        for change in changes_of(lock, request_of(world, folder, to, *choice))
    }
    assert any(phrase in each for each in found) if phrase else not found


def test_lock_of_a_later_revision_is_exported_by_uv(world: World) -> None:
    project = next(each for each in projects() if each.name == "workspace-member")
    folder = world.copy(project) / project.member
    lock = find_lock(folder)
    assert lock is not None
    request = request_of(world, folder, TARGETS[0])
    before = chosen(lock, request)
    lock.write_text(re.sub("revision = .*", "revision = 99", lock.read_text()))
    exported = read_lock(lock, request, FileFinder(files=lambda _: []))
    assert exported.packages[0].wheels
    assert chosen(lock, request) == before
