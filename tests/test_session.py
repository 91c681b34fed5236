"""A session without Hatch: any frontend with a console and a project can use it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builds import Bench, archive_of, environment, read, result_of

from hatch_docker.config import TABLE
from hatch_docker.errors import ConfigError, HatchDockerError
from hatch_docker.index.download import FetchedFile, own_file
from hatch_docker.project.model import BuildMetadata, Project
from hatch_docker.session import Session
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.progress import Progress


class StoppedError(Exception):
    """The console ended the run."""


@dataclass
class Console:
    """A console that keeps what is shown."""

    verbosity: int = 0
    results: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    aborted: list[tuple[str, int]] = field(default_factory=list)

    def display(self, message: str = "") -> None:
        self.results.append(message)

    def display_info(self, message: str = "") -> None:
        self.lines.append(message)

    def display_warning(self, message: str = "") -> None:
        self.lines.append(message)

    def abort(self, message: str = "", code: int = 1) -> None:
        self.aborted.append((message, code))
        raise StoppedError


@dataclass
class Source:
    """A project of no build backend: one wheel that is there already."""

    root: Path
    wheel: Path
    keys: dict[str, object]
    name: str = "shop"
    problem: str = ""

    @property
    def table(self) -> tuple[str, object]:
        return TABLE, self.keys

    @property
    def directory(self) -> Path:
        return self.root / "out"

    @property
    def reads(self) -> None:
        return None

    def check(self) -> None:
        if self.problem:
            raise ConfigError([("pyproject.toml", self.problem)])

    def prepare(self, build: BuildMetadata) -> None:
        pass

    def version(self) -> str:
        return "1.0"

    def read(self, version: str) -> Project:
        return Project(root=self.root, name=self.name, version=version)

    @contextlib.contextmanager
    def distribution(self, compiled: bool, cache: Cache, progress: Progress) -> Iterator[FetchedFile]:
        assert not compiled
        yield own_file(self.wheel, self.name, "1.0")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    bench = Bench(tmp_path)
    for name, value in environment(bench.cache).items():
        monkeypatch.setenv(name, value)
    wheel = bench.wheel("shop", files={"shop/__main__.py": ""})
    root = tmp_path / "project"
    root.mkdir()
    return Source(root=root, wheel=wheel, keys={"base": f"oci:{bench.base()}", "platforms": ["linux/amd64"]})


class TestABuild:
    def test_makes_the_image_of_any_project(self, source: Source) -> None:
        console = Console()
        session = Session(source, console)
        with session.reporting():
            session.check(["archive"])
            made = session.output("archive", source.root / "dist")
            session.show()
        assert made == archive_of(source.root)
        assert read(made).config["Entrypoint"] == ["/app/.venv/bin/python", "-m", "shop"]
        assert console.results == [result_of(source.root)["reference"]]
        assert any(line.startswith("  docker load -i ") for line in console.lines)

    def test_is_made_once_for_all_outputs(self, source: Source) -> None:
        session = Session(source, Console())
        first, second = (session.output("archive", source.root / "dist") for _ in range(2))
        assert first == second
        assert result_of(source.root)["outputs"] == {"archive": first.name}

    def test_shows_nothing_before_there_is_an_image(self, source: Source) -> None:
        console = Console()
        Session(source, console).show()
        assert (console.results, console.lines) == ([], [])


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "message", "code"),
        [
            (ConfigError([("a", "b")]), "a: b", 1),
            (ConfigError([("a", "b"), ("c", "d")]), "2 mistakes in the configuration:\n  a: b\n  c: d", 1),
            (HatchDockerError("broken", place="x", hint="mend it"), "x: broken\n  hint: mend it", 1),
            (KeyboardInterrupt(), "interrupted", 130),
            (OSError(28, "No space left on device", "/full"), "/full: No space left on device", 1),
        ],
    )
    def test_become_messages_and_an_exit_status(
        self, source: Source, error: BaseException, message: str, code: int
    ) -> None:
        console = Console()
        with pytest.raises(StoppedError), Session(source, console).reporting():
            raise error
        assert console.aborted == [(message, code)]

    def test_others_are_not_hidden(self, source: Source) -> None:
        with pytest.raises(ZeroDivisionError), Session(source, Console()).reporting():
            raise ZeroDivisionError


class TestACommand:
    def test_prints_its_text_and_returns_its_status(self, source: Source) -> None:
        console = Console()
        assert Session(source, console).run(lambda session: (session.project.name, 3)) == 3
        assert console.results == ["shop"]

    def test_does_not_run_for_a_project_that_cannot_be_read(self, source: Source) -> None:
        source.problem = "not a table"
        console = Console()
        with pytest.raises(StoppedError):
            Session(source, console).run(lambda _session: pytest.fail("it ran"))
        assert console.aborted == [("pyproject.toml: not a table", 1)]


def test_knows_neither_hatchling_nor_argparse() -> None:
    program = "import sys; import hatch_docker.session; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"hatchling", "argparse"} & set(done.stdout.split())
