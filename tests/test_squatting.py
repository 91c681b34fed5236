"""Name squatting: an index that offers a higher version of a package with a source is never asked for it."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fake_index import FakeIndex, Notes, serving
from packaging.requirements import Requirement
from prepared_maker import TARGET
from wheel_maker import make_wheel

from hatch_docker.errors import HatchDockerError, LockError, ResolveError
from hatch_docker.index.access import IndexAccess
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.sources import read_sources
from hatch_docker.locks import InstallRequest
from hatch_docker.locks.locked import LockSource, read_artifacts
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.http import Network

pytestmark = pytest.mark.skipif(not shutil.which("uv") or not shutil.which("git"), reason="needs uv and git")

NAME = "mylib"
LIBRARY = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "mylib"
version = "1.0"
dependencies = ["other"]
"""
UV, POETRY, PDM = "[tool.uv.sources]\nmylib = ", "[tool.poetry.dependencies]\nmylib = ", "[[tool.pdm.source]]\n"
CORP_OF_UV = '[[tool.uv.index]]\nname = "corp"\nurl = "CORP"\n'
CORP_OF_POETRY = '[[tool.poetry.source]]\nname = "corp"\nurl = "CORP"\n'
# The tables of a project by the kind of source, without those of indexes.
DIRECT = {
    "uv: path": f'{UV}{{ path = "../mylib" }}\n',
    "uv: editable path": f'{UV}{{ path = "../mylib", editable = true }}\n',
    "uv: path of a wheel": f'{UV}{{ path = "../mylib-1.0-py3-none-any.whl" }}\n',
    "uv: workspace": f'{UV}{{ workspace = true }}\n[tool.uv.workspace]\nmembers = ["member"]\n',
    "uv: git": f'{UV}{{ git = "GIT", tag = "v1" }}\n',
    "uv: url": f'{UV}{{ url = "FILES/mylib-1.0-py3-none-any.whl" }}\n',
    "poetry: path": f'{POETRY}{{ path = "../mylib", develop = true }}\n',
    "poetry: git": f'{POETRY}{{ git = "GIT", branch = "main" }}\n',
    "poetry: url": f'{POETRY}{{ url = "FILES/mylib-1.0-py3-none-any.whl" }}\n',
}
INDEX = {
    "uv: index": f'{UV}{{ index = "corp" }}\n{CORP_OF_UV}',
    "uv: explicit index": f'{UV}{{ index = "corp" }}\n{CORP_OF_UV}explicit = true\n',
    "uv: index for this platform": f"{UV}[{{ index = 'corp', marker = \"sys_platform == 'linux'\" }}]\n{CORP_OF_UV}",
    "poetry: index": f'{POETRY}{{ version = "*", source = "corp" }}\n{CORP_OF_POETRY}priority = "supplemental"\n',
    "poetry: explicit index": f'{POETRY}{{ version = "*", source = "corp" }}\n{CORP_OF_POETRY}priority = "explicit"\n',
    "pdm: included package": f'{PDM}name = "corp"\nurl = "CORP"\ninclude_packages = ["my*"]\n',
}


@dataclass
class Bench:
    """A project that requires mylib and other; `squatted` offers mylib 9.0 and other, `corp` and `files` mylib 1.0."""

    root: Path
    squatted: FakeIndex
    corp: FakeIndex
    files: FakeIndex
    notes: Notes = field(default_factory=Notes)

    @property
    def project(self) -> Path:
        return self.root / "app"

    def write(self, tables: str) -> None:
        """Write the project and its library in each form."""
        git = (self.root / "repository").as_uri()
        urls = {"GIT": git, "CORP": self.corp.url, "FILES": f"http://{self.files.host}/files"}
        for word, url in urls.items():
            tables = tables.replace(word, url)
        for folder in (self.root / "mylib", self.project / "member", self.root / "repository"):
            (folder / "mylib").mkdir(parents=True)
            (folder / "mylib" / "__init__.py").touch()
            (folder / "pyproject.toml").write_text(LIBRARY)
        head = '[project]\nname = "app"\nversion = "1"\ndependencies = ["mylib", "other"]\n'
        (self.project / "pyproject.toml").write_text(f"{head}{tables}")
        if git in tables:
            self._commit(self.root / "repository")

    def _commit(self, folder: Path) -> None:
        author = ("-c", "user.name=a", "-c", "user.email=a@a.example", "-c", "commit.gpgsign=false")
        for arguments in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-qm", "a"), ("tag", "v1")):
            subprocess.run(["git", *author, *arguments], cwd=folder, check=True)

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TEMP", "TMP") if name in os.environ}
        home = {"HOME": str(self.root / "home"), "USERPROFILE": str(self.root / "home")}
        return {**kept, **home, "PIP_CONFIG_FILE": os.devnull, "UV_NO_CACHE": "1", "PIP_INDEX_URL": self.squatted.url}

    def artifacts(self, *, names: Sequence[str] = (NAME, "other")) -> dict[str, Artifact]:
        """The artifacts of the project, from its lock or without one."""
        sources = read_sources(self.project, self.environ, project="app", home=self.root / "home")
        access = IndexAccess(
            root=self.project,
            home=self.root / "home",
            index_url="",
            environ=self.environ,
            network=Network(),
            cache=Cache(self.root / "cache"),
            progress=self.notes,
            sources=lambda: sources,
        )
        request = InstallRequest(
            project="app",
            target=TARGET,
            root=self.project,
            sources=sources,
            requirements=tuple(map(Requirement, names)),
        )
        source = LockSource(
            root=self.project,
            configured="",
            earlier=self.project / "dist" / "pylock.app.toml",
            indexes=access.open,
            progress=self.notes,
        )
        return {each.name: each for each in read_artifacts(request, source).artifacts}

    def check_not_asked(self) -> None:
        """Check that only corp, and no other index, was asked for mylib, and that it was asked for nothing else."""
        assert [path for path in self.squatted.paths() if NAME in path] == []
        assert [path for path in self.files.paths() if path.startswith("/simple/")] == []


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with serving() as squatted, serving() as corp, serving() as files:
        for index, version in ((squatted, "9.0"), (corp, "1.0"), (files, "1.0")):
            wheel = make_wheel(tmp_path, NAME, version, requires=["other"])
            index.add(NAME, wheel.name, wheel.read_bytes())
        wheel = make_wheel(tmp_path, "other", "1.0")
        squatted.add("other", wheel.name, wheel.read_bytes())
        yield Bench(tmp_path, squatted, corp, files)


@pytest.mark.parametrize("kind", [*DIRECT, *INDEX])
def test_without_a_lock(bench: Bench, kind: str) -> None:
    bench.write({**DIRECT, **INDEX}[kind])
    found = bench.artifacts()
    assert found[NAME].version in ("", "1.0")
    assert found[NAME].url.startswith(bench.corp.url.removesuffix("simple/")) == (kind in INDEX)
    assert found["other"].version == "1.0"
    bench.check_not_asked()


@pytest.mark.parametrize("kind", [kind for kind in [*DIRECT, *INDEX] if kind.startswith("uv")])
def test_with_the_lock_of_uv(bench: Bench, kind: str) -> None:
    bench.write({**DIRECT, **INDEX}[kind])
    environ = {**bench.environ, "UV_DEFAULT_INDEX": bench.squatted.url}
    subprocess.run(["uv", "lock", "-q", "--python", sys.executable], cwd=bench.project, env=environ, check=True)
    asked = bench.squatted.paths()
    found = bench.artifacts()
    assert found[NAME].version in ("", "1.0")
    assert found["other"].version == "1.0"
    assert bench.squatted.paths() == asked
    bench.check_not_asked()


def locked_by_hash(bench: Bench) -> None:
    """A requirements.txt with the hashes of all files in all indexes."""
    lines = []
    for name, version in ((NAME, "1.0"), ("other", "1.0")):
        hashes = {
            digest
            for index in (bench.squatted, bench.corp)
            for (owner, filename), content in index.files.items()
            if (owner == name and f"-{version}-" in filename)
            for digest in [f"--hash=sha256:{hashlib.sha256(content).hexdigest()}"]
        }
        lines.append(" ".join([f"{name}=={version}", *sorted(hashes)]))
    (bench.project / "requirements.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("kind", INDEX)
def test_files_found_by_hash(bench: Bench, kind: str) -> None:
    bench.write(INDEX[kind])
    locked_by_hash(bench)
    found = bench.artifacts()
    assert found[NAME].url == bench.corp.file_url(found[NAME].filename)
    bench.check_not_asked()
    if "explicit" in kind:
        assert bench.corp.paths() == ["/simple/mylib/"]


def test_a_source_for_another_platform_does_not_apply(bench: Bench) -> None:
    bench.write(f"{UV}{{ index = 'corp', marker = \"sys_platform == 'win32'\" }}\n{CORP_OF_UV}explicit = true\n")
    wheel = make_wheel(bench.root, NAME, "1.0", requires=["other"])
    bench.squatted.add(NAME, wheel.name, wheel.read_bytes())
    locked_by_hash(bench)
    assert bench.artifacts()[NAME].url.startswith(f"http://{bench.squatted.host}/")
    assert bench.corp.paths() == []


def test_files_found_before_a_source_was_added_do_not_count(bench: Bench) -> None:
    bench.write(INDEX["uv: index"])
    locked_by_hash(bench)
    assert bench.artifacts()
    text = (bench.project / "pyproject.toml").read_text().replace('index = "corp"', 'path = "../mylib"')
    (bench.project / "pyproject.toml").write_text(text)
    with pytest.raises(LockError, match="its source is path"):
        bench.artifacts()


# It needs no index, but takes a while.
@pytest.mark.network
@pytest.mark.parametrize("kind", [*DIRECT, *INDEX])
def test_requirements_file_without_hashes(bench: Bench, kind: str) -> None:
    bench.write({**DIRECT, **INDEX}[kind])
    (bench.project / "requirements.txt").write_text("-r base.in\nother\n")
    (bench.project / "base.in").write_text("MyLib>=0.1; python_version > '3'\n")
    found = bench.artifacts(names=[])
    assert found[NAME].version in ("", "1.0")
    bench.check_not_asked()


def test_requirements_file_beside_a_lock_requires_nothing(bench: Bench) -> None:
    bench.write('[tool.uv.sources]\nmylib = { path = "../mylib" }\n')
    locked_by_hash(bench)
    file = bench.project / "requirements.txt"
    _, other = file.read_text().splitlines()
    file.with_name("requirements-app.txt").write_text(f"{other}\n")
    file.write_text(f"{NAME}\n")
    assert set(bench.artifacts(names=["other"])) == {"other"}


def test_files_found_by_another_pattern_do_not_count(bench: Bench) -> None:
    bench.write(INDEX["pdm: included package"])
    locked_by_hash(bench)
    assert bench.artifacts()[NAME].url.startswith(f"http://{bench.corp.host}/")
    file = bench.project / "pyproject.toml"
    file.write_text(file.read_text().replace(bench.corp.url, bench.files.url))
    assert bench.artifacts()[NAME].url.startswith(f"http://{bench.files.host}/")


@pytest.mark.parametrize("kind", DIRECT)
def test_a_lock_by_hash_does_not_replace_a_source(bench: Bench, kind: str) -> None:
    bench.write(DIRECT[kind])
    locked_by_hash(bench)
    with pytest.raises(LockError) as caught:
        bench.artifacts()
    assert caught.value.place.endswith(("tool.uv.sources.mylib", "tool.poetry.dependencies.mylib"))
    assert caught.value.hint
    bench.check_not_asked()


@pytest.mark.parametrize("pattern", ["mylib", "my*"])
def test_pattern_is_also_for_what_packages_require(bench: Bench, tmp_path: Path, pattern: str) -> None:
    """PDM asks no other index for a name that matches, whoever requires it."""
    wheel = make_wheel(tmp_path, "top", "1.0", requires=[NAME])
    bench.squatted.add("top", wheel.name, wheel.read_bytes())
    bench.write(INDEX["pdm: included package"].replace("my*", pattern))
    found = bench.artifacts(names=["top"])
    assert {name: each.version for name, each in found.items()} == {NAME: "1.0", "top": "1.0", "other": "1.0"}
    if pattern == NAME:
        bench.check_not_asked()


def test_pattern_that_leaves_several_indexes_is_an_error(bench: Bench) -> None:
    more = "\n".join(f'[[tool.pdm.source]]\nname = "{name}"\nurl = "CORP"' for name in ("a", "b"))
    bench.write(f'{PDM}name = "pypi"\nurl = "FILES"\nexclude_packages = ["mylib"]\n{more}\n')
    with pytest.raises(ResolveError, match=r"tool\.pdm\.source\[1\]: mylib may come from a and b(.|\n)*pdm lock"):
        bench.artifacts()
    bench.check_not_asked()


def test_pattern_runs_no_code_of_a_stranger(bench: Bench, tmp_path: Path) -> None:
    """Which names match a wildcard is known only after uv has asked for them."""
    mark = tmp_path / "was-run"
    with tarfile.open(tmp_path / "mylib-9.0.tar.gz", "w:gz") as archive:
        content = f"open({str(mark)!r}, 'w')\n".encode()
        member = tarfile.TarInfo("mylib-9.0/setup.py")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    bench.squatted.files.clear()
    bench.squatted.add(NAME, "mylib-9.0.tar.gz", (tmp_path / "mylib-9.0.tar.gz").read_bytes())
    wheel = make_wheel(tmp_path, "top", "1.0", requires=[NAME])
    bench.squatted.add("top", wheel.name, wheel.read_bytes())
    bench.write(INDEX["pdm: included package"])
    with pytest.raises(ResolveError, match="pdm lock"):
        bench.artifacts(names=["top"])
    assert not mark.exists()


def test_explicit_index_is_asked_for_nothing_else(bench: Bench) -> None:
    bench.write(INDEX["uv: explicit index"])
    bench.artifacts()
    assert {path for path in bench.corp.paths() if path.startswith("/simple/")} == {"/simple/mylib/"}


@pytest.mark.parametrize(
    "entry",
    ['{ path = "../gone" }', '{ index = "unknown" }', "{ workspace = true }", '{ path = "../mylib", git = "GIT" }'],
)
def test_a_source_that_cannot_be_used_is_an_error(bench: Bench, entry: str) -> None:
    bench.write(f"{UV}{entry}\n")
    with pytest.raises(HatchDockerError, match=r"tool\.uv\.sources\.mylib: "):
        bench.artifacts()
    assert bench.squatted.paths() == []


def test_member_gets_the_sources_of_its_workspace(bench: Bench) -> None:
    bench.write("")
    (bench.root / "pyproject.toml").write_text(
        '[tool.uv.workspace]\nmembers = ["app", "mylib"]\n[tool.uv.sources]\nmylib = { workspace = true }\n'
    )
    found = bench.artifacts()
    tree = found[NAME].tree
    assert tree
    assert Path(tree.url.removeprefix("file://")).name == NAME
    bench.check_not_asked()
