from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fake_index import Notes
from packaging.requirements import Requirement
from prepared_maker import TARGET

from hatch_docker.errors import LockError, OutputError, ResolveError
from hatch_docker.index.access import FileFinder, Indexes, ResolverSettings
from hatch_docker.locks import InstallRequest
from hatch_docker.locks.locked import Locked, LockSource, read_artifacts
from hatch_docker.support.atomic import replacing

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
    """A folder with a uv that answers as told, and notes that it was asked."""

    root: Path
    notes: Notes = field(default_factory=Notes)
    configured: Sequence[str] = ()

    @property
    def written(self) -> Path:
        return self.root / "dist" / "pylock.app.toml"

    @property
    def asked(self) -> int:
        """How often uv was run."""
        return len((self.root / "asked").read_text()) if (self.root / "asked").exists() else 0

    def uv(self, body: str) -> None:
        path = self.root / "uv"
        path.write_text(f"#!{sys.executable}\nimport sys\nopen({str(self.root / 'asked')!r}, 'a').write('x')\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run(self, *requirements: str, lock: Path | None = None, target: object = TARGET) -> Locked:
        wanted = InstallRequest(project="app", target=TARGET, requirements=tuple(map(Requirement, requirements)))
        if target is not TARGET:
            wanted = replace(wanted, target=target)  # type: ignore[arg-type]
        resolver = ResolverSettings(
            environ={**os.environ, "HATCH_UV": str(self.root / "uv")},
            configured=self.configured,
            indexes=lambda: (),
            embed=str,
        )
        finder = FileFinder(files=lambda _name: pytest.fail("these locks hold URLs"))
        indexes = Indexes(finder=finder, resolver=resolver, download=lambda _: [])
        source = LockSource(
            root=self.root,
            configured=str(lock or ""),
            earlier=self.written,
            indexes=lambda _named: indexes,
            progress=self.notes,
        )
        locked = read_artifacts(wanted, source)
        if locked.text:
            with replacing(self.written) as file:
                file.write_text(locked.text)
        return replace(locked, text="")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.uv(f"print({lock()!r})")
    return made


class TestWithALock:
    def test_it_says_what_is_installed(self, project: Project) -> None:
        path = project.root / "pylock.toml"
        path.write_text(lock())
        found = project.run("six>=1", lock=path)
        assert [(each.name, each.version) for each in found.artifacts] == [("six", "1.16")]
        assert (found.path, found.resolved) == (path, False)
        assert project.notes.notes == ["lock: pylock.toml"]
        assert project.asked == 0
        assert not project.written.exists()

    def test_one_that_is_stale_says_how_to_refresh_it(self, project: Project) -> None:
        path = project.root / "pylock.toml"
        path.write_text(lock())
        with pytest.raises(LockError) as caught:
            project.run("six>=2", lock=path)
        assert "six" in caught.value.message
        assert "uv pip compile pyproject.toml --python-platform x86_64-manylinux_2_36" in str(caught.value)

    def test_it_is_read_also_where_nothing_is_required(self, project: Project) -> None:
        path = project.root / "pylock.toml"
        path.write_text(lock())
        assert project.run(lock=path).path == path


class TestWithoutALock:
    def test_nothing_required_nothing_done(self, project: Project) -> None:
        assert project.run() == Locked()
        assert project.asked == 0
        assert not project.written.parent.exists()

    def test_it_is_resolved_once_and_written_down(self, project: Project) -> None:
        first = project.run("six>=1")
        assert [each.version for each in first.artifacts] == ["1.16"]
        assert (first.path, first.resolved) == (project.written, True)
        assert project.run("six>=1").artifacts == first.artifacts
        assert project.asked == 1
        assert project.notes.notes == [
            "lock: none, so the requirements were resolved into dist/pylock.app.toml",
            "lock: dist/pylock.app.toml, resolved earlier (delete it to resolve again)",
        ]
        assert [path.name for path in project.written.parent.iterdir()] == ["pylock.app.toml"]

    def test_it_is_resolved_again_when_something_else_is_asked_for(self, project: Project) -> None:
        project.run("six>=1")
        project.run("six>=1.1")
        assert project.asked == 2
        project.run("six>=1.1", target=replace(TARGET, version="3.12.1"))
        assert project.asked == 3
        project.configured = ["https://index.example/simple"]
        project.run("six>=1.1", target=replace(TARGET, version="3.12.1"))
        assert project.asked == 4
        project.run("six>=1.1", target=replace(TARGET, version="3.12.9"))
        assert project.asked == 4

    @pytest.mark.parametrize("damage", ["", "[", "\0", lock()])
    def test_a_written_lock_that_is_not_ours_is_made_anew(self, project: Project, damage: str) -> None:
        project.run("six>=1")
        project.written.write_text(damage)
        project.run("six>=1")
        assert project.asked == 2

    def test_bytes_that_are_no_text_too(self, project: Project) -> None:
        project.written.parent.mkdir()
        project.written.write_bytes(b"\xff\xfe")
        project.run("six>=1")
        assert project.asked == 1

    def test_one_that_fits_no_longer_says_to_delete_it(self, project: Project) -> None:
        project.run("six>=1")
        text = project.written.read_text()
        project.written.write_text(text.replace("1.16", "0.1"))
        with pytest.raises(LockError) as caught:
            project.run("six>=1")
        assert "delete pylock.app.toml" in str(caught.value)

    def test_what_uv_refuses_leaves_nothing(self, project: Project) -> None:
        project.uv("sys.exit('error: No solution found: six>=99 does not exist')")
        with pytest.raises(ResolveError, match="six>=99 does not exist"):
            project.run("six>=99")
        assert not project.written.parent.exists()

    def test_what_cannot_be_written_says_where(self, project: Project) -> None:
        (project.root / "dist").touch()
        with pytest.raises(OutputError) as caught:
            project.run("six>=1")
        assert caught.value.place == str(project.written)
