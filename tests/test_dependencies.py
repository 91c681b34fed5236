from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from fake_index import Notes
from packaging.requirements import Requirement
from prepared_maker import TARGET

from hatch_docker.errors import LockError, OutputError, ResolveError
from hatch_docker.index.access import FileFinder, Indexes, ResolverSettings
from hatch_docker.locks import InstallRequest
from hatch_docker.locks.locked import Locked, LockSource, read_artifacts
from hatch_docker.support.atomic import replace_text
from hatch_docker.support.dataclasses import dataclass, field, replace

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the fake uv is a script with a shebang")

LOCK = """
lock-version = "1.0"
created-by = "test"

[[packages]]
name = "six"
version = "{version}"
[[packages.wheels]]
url = "https://files.example/six-{version}-py2.py3-none-any.whl"
hashes = {{ sha256 = "{digest}" }}
"""


def lock(version: str = "1.16") -> str:
    return LOCK.format(version=version, digest="0" * 64)


@dataclass
class Project:
    """A project directory with a fake uv, whose runs are counted."""

    root: Path
    notes: Notes = field(default_factory=Notes)
    index_url: str = ""

    @property
    def written(self) -> Path:
        return self.root / "dist" / "pylock.app.toml"

    @property
    def runs(self) -> int:
        """The number of uv's runs."""
        return len((self.root / "runs").read_text()) if (self.root / "runs").exists() else 0

    def uv(self, body: str) -> None:
        path = self.root / "uv"
        path.write_text(f"#!{sys.executable}\nimport sys\nopen({str(self.root / 'runs')!r}, 'a').write('x')\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run(self, *requirements: str, lock: Path | None = None, target: object = TARGET) -> Locked:
        request = InstallRequest(
            project="app",
            target=TARGET,
            root=self.root,
            requirements=tuple(map(Requirement, requirements)),
            index_url=self.index_url,
        )
        if target is not TARGET:
            request = replace(request, target=target)  # type: ignore[arg-type]
        resolver = ResolverSettings(
            environ={**os.environ, "HATCH_UV": str(self.root / "uv")},
            configured=(),
        )
        finder = FileFinder(files=lambda _name: pytest.fail("these locks hold URLs"))
        indexes = Indexes(finder=finder, resolver=resolver, locate=lambda _: [])
        source = LockSource(
            root=self.root,
            configured=str(lock or ""),
            earlier=self.written,
            indexes=lambda _named: indexes,
            progress=self.notes,
        )
        return read_artifacts(request, source, keep=replace_text)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.uv(f"open(sys.argv[sys.argv.index('--output-file') + 1], 'w').write({lock()!r})")
    return made


class TestWithLock:
    def test_artifacts_are_those_of_the_lock(self, project: Project) -> None:
        path = project.root / "pylock.toml"
        path.write_text(lock())
        locked = project.run("six>=1", lock=path)
        assert [(each.name, each.version) for each in locked.artifacts] == [("six", "1.16")]
        assert (locked.path, locked.resolved) == (path, False)
        assert project.notes.notes == ["lock: pylock.toml"]
        assert project.runs == 0
        assert not project.written.exists()

    def test_stale_lock_has_the_command_to_refresh_it(self, project: Project) -> None:
        path = project.root / "pylock.toml"
        path.write_text(lock())
        with pytest.raises(LockError) as caught:
            project.run("six>=2", lock=path)
        assert "six" in caught.value.message
        assert "uv pip compile pyproject.toml --python-platform x86_64-manylinux_2_36" in str(caught.value)

    def test_lock_is_read_even_without_requirements(self, project: Project) -> None:
        path = project.root / "pylock.toml"
        path.write_text(lock())
        assert project.run(lock=path).path == path


class TestWithoutLock:
    def test_no_requirements_need_no_resolution(self, project: Project) -> None:
        assert project.run() == Locked()
        assert project.runs == 0
        assert not project.written.parent.exists()

    def test_resolution_is_written_and_used_again(self, project: Project) -> None:
        first = project.run("six>=1")
        assert [each.version for each in first.artifacts] == ["1.16"]
        assert (first.path, first.resolved) == (project.written, True)
        assert project.run("six>=1").artifacts == first.artifacts
        assert project.runs == 1
        assert project.notes.notes == [
            "lock: none, so the requirements were resolved into dist/pylock.app.toml",
            "lock: dist/pylock.app.toml, resolved earlier (delete it to resolve again)",
        ]
        assert [path.name for path in project.written.parent.iterdir()] == ["pylock.app.toml"]

    def test_changed_inputs_are_resolved_again(self, project: Project) -> None:
        project.run("six>=1")
        project.run("six>=1.1")
        assert project.runs == 2
        project.run("six>=1.1", target=replace(TARGET, version="3.12.1"))
        assert project.runs == 3
        project.index_url = "https://index.example/simple"
        project.run("six>=1.1", target=replace(TARGET, version="3.12.1"))
        assert project.runs == 4
        project.run("six>=1.1", target=replace(TARGET, version="3.12.9"))
        assert project.runs == 4

    @pytest.mark.parametrize("damage", ["", "[", "\0", lock()])
    def test_damaged_file_is_resolved_again(self, project: Project, damage: str) -> None:
        project.run("six>=1")
        project.written.write_text(damage)
        project.run("six>=1")
        assert project.runs == 2

    def test_file_with_invalid_text_is_resolved_again(self, project: Project) -> None:
        project.written.parent.mkdir()
        project.written.write_bytes(b"\xff\xfe")
        project.run("six>=1")
        assert project.runs == 1

    def test_file_that_does_not_satisfy_the_requirements_is_to_be_deleted(self, project: Project) -> None:
        project.run("six>=1")
        text = project.written.read_text()
        project.written.write_text(text.replace("1.16", "0.1"))
        with pytest.raises(LockError) as caught:
            project.run("six>=1")
        assert "delete pylock.app.toml" in str(caught.value)

    def test_error_of_uv_leaves_no_file(self, project: Project) -> None:
        project.uv("sys.exit('error: No solution locked: six>=99 does not exist')")
        with pytest.raises(ResolveError, match="six>=99 does not exist"):
            project.run("six>=99")
        assert not project.written.parent.exists()

    def test_unwritable_directory_is_an_error(self, project: Project) -> None:
        (project.root / "dist").touch()
        with pytest.raises(OutputError) as caught:
            project.run("six>=1")
        assert caught.value.place == str(project.written)
