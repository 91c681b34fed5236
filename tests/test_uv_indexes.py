"""Which indexes the real uv asks with the settings that we add to its own, and which of them our client asks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fake_index import FakeIndex, serving
from wheel_maker import make_wheel

from hatch_docker.index.client import Index
from hatch_docker.index.settings import IndexSettings, discover
from hatch_docker.index.sources import read_sources
from hatch_docker.index.tool_settings import ToolSettings
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.http import Http

pytestmark = pytest.mark.skipif(not shutil.which("uv"), reason="needs uv")


@dataclass
class Bench:
    """Two indexes with the package demo: 1.0 on `right`, which a project names, and 2.0 on `wrong`."""

    root: Path
    right: FakeIndex
    wrong: FakeIndex
    environ: dict[str, str] = field(default_factory=dict)
    # Discovering them may run pip.
    known: IndexSettings | None = None

    def write(self, path: str, text: str = "") -> Path:
        """Write a file; RIGHT and WRONG become the URLs of the indexes."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("pyproject.toml") and "[project]" not in text:
            text = f'[project]\nname = "app"\nversion = "1"\ndependencies = ["demo"]\n{text}'
        file.write_text(text.replace("RIGHT", self.right.url).replace("WRONG", self.wrong.url))
        return file

    def settings(self, configured: str = "", folder: str = "app") -> IndexSettings:
        root = self.root / folder
        sources = read_sources(root, self._environ, project="app", home=self.root / "home")
        return discover(
            own=ToolSettings(url=configured), sources=sources, root=root, environ=self._environ, home=self.root / "home"
        )

    @property
    def _environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TEMP", "TMP") if name in os.environ}
        home = str(self.root / "home")
        urls = {
            name: value.replace("RIGHT", self.right.url).replace("WRONG", self.wrong.url)
            for name, value in self.environ.items()
        }
        return {**kept, "HOME": home, "USERPROFILE": home, "PIP_CONFIG_FILE": os.devnull, **urls}

    def resolve(self, configured: str = "", folder: str = "app", arguments: Sequence[str] = ()) -> str:
        """The version of demo that uv chooses with our settings."""
        settings = self.known = self.settings(configured, folder)
        environ = {**self._environ, **settings.variables_for_uv(self._environ), "UV_NO_CACHE": "1"}
        command = ["uv", "pip", "compile", "pyproject.toml", "--python", sys.executable, "--no-header", "-q"]
        done = subprocess.run(
            [*command, *settings.arguments_for_uv(), *arguments],
            cwd=self.root / folder,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        match = re.search(r"^demo==(\S+)", done.stdout, re.MULTILINE)
        return match[1] if match else done.stdout

    def found(self) -> list[str]:
        """The versions of demo that our client finds with the settings of the last `resolve`."""
        assert self.known
        return [file.filename.split("-")[1] for file in Index(self.known, Http()).files("demo")]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with serving() as right, serving() as wrong:
        for index, version in ((right, "1.0"), (wrong, "2.0")):
            wheel = make_wheel(tmp_path, "demo", version)
            index.add("demo", wheel.name, wheel.read_bytes())
        yield Bench(tmp_path, right, wrong)


MEMBER = '[tool.uv]\npackage = true\nindex-url = "WRONG"\n'
WORKSPACE = '[project]\nname = "root"\nversion = "1"\n[tool.uv.workspace]\nmembers = ["app"]\n'
# The files of a project whose index is the right one.
CONFIGURED = {
    "the default index of a project": {"app/pyproject.toml": '[[tool.uv.index]]\nurl = "RIGHT"\ndefault = true\n'},
    "index-url of a project": {"app/pyproject.toml": '[tool.uv]\nindex-url = "RIGHT"\n'},
    "the table of uv pip": {
        "app/pyproject.toml": '[tool.uv]\nindex-url = "WRONG"\n[tool.uv.pip]\nindex-url = "RIGHT"\n'
    },
    "the default index goes before index-url": {
        "app/pyproject.toml": '[tool.uv]\nindex-url = "WRONG"\n[[tool.uv.index]]\nurl = "RIGHT"\ndefault = true\n'
    },
    "uv.toml goes before pyproject.toml": {"app/pyproject.toml": MEMBER, "app/uv.toml": 'index-url = "RIGHT"\n'},
    "the root of a workspace": {
        "pyproject.toml": f'{WORKSPACE}[tool.uv]\nindex-url = "RIGHT"\n',
        "app/pyproject.toml": MEMBER,
    },
    "uv.toml of the root": {
        "pyproject.toml": WORKSPACE,
        "uv.toml": 'index-url = "RIGHT"\n',
        "app/pyproject.toml": MEMBER,
    },
    "the table of uv pip in the root": {
        "pyproject.toml": f'{WORKSPACE}[tool.uv.pip]\nindex-url = "RIGHT"\n',
        "app/pyproject.toml": "",
    },
    "a directory above": {"uv.toml": 'index-url = "RIGHT"\n', "app/pyproject.toml": ""},
    "the user's file": {"home/.config/uv/uv.toml": 'index-url = "RIGHT"\n', "app/pyproject.toml": ""},
    "the project's file goes before the user's": {
        "home/.config/uv/uv.toml": 'index-url = "WRONG"\n',
        "app/pyproject.toml": '[tool.uv]\nindex-url = "RIGHT"\n',
    },
}


@pytest.mark.parametrize("name", CONFIGURED)
def test_settings_of_uv_go_before_those_of_pip(bench: Bench, name: str) -> None:
    for path, text in CONFIGURED[name].items():
        bench.write(path, text)
    bench.environ = {"PIP_INDEX_URL": "WRONG", "PIP_EXTRA_INDEX_URL": "WRONG"}
    assert bench.resolve() == "1.0"
    assert bench.found() == ["1.0"]
    assert bench.wrong.paths() == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("UV_DEFAULT_INDEX", "corp=RIGHT"),
        ("UV_INDEX_URL", "RIGHT"),
        ("XDG_CONFIG_DIRS", "etc"),
        ("UV_CONFIG_FILE", "x"),
    ],
)
def test_variables_of_uv_go_before_pip(bench: Bench, variable: str, value: str) -> None:
    bench.write("app/pyproject.toml")
    files = {"etc": bench.write("etc/uv/uv.toml", 'index-url = "RIGHT"\n').parent.parent}
    files["x"] = bench.write("special.toml", 'index-url = "RIGHT"\n')
    bench.environ = {"PIP_INDEX_URL": "WRONG", variable: str(files.get(value, value))}
    assert bench.resolve() == "1.0"
    assert bench.found() == ["1.0"]
    assert bench.wrong.paths() == []


def test_uv_ignores_files_if_it_is_told_so(bench: Bench) -> None:
    bench.write("app/pyproject.toml", '[tool.uv]\nindex-url = "WRONG"\n')
    bench.environ = {"UV_NO_CONFIG": "1", "PIP_INDEX_URL": "RIGHT"}
    assert bench.resolve() == "1.0"
    assert bench.found() == ["1.0"]
    assert bench.wrong.paths() == []


def test_uv_gets_the_configured_index_of_pip(bench: Bench) -> None:
    bench.write("app/pyproject.toml")
    bench.environ = {"PIP_INDEX_URL": "RIGHT"}
    assert bench.resolve() == "1.0"
    assert bench.found() == ["1.0"]


def test_uv_chooses_among_the_indexes_of_pip_as_pip_does(bench: Bench) -> None:
    bench.write("app/pyproject.toml")
    bench.environ = {"PIP_INDEX_URL": "RIGHT", "PIP_EXTRA_INDEX_URL": "WRONG"}
    assert bench.resolve() == "2.0"
    assert sorted(bench.found()) == ["1.0", "2.0"]


def test_extra_index_of_pip_with_part_of_the_files_hides_no_version(bench: Bench) -> None:
    bench.write("app/pyproject.toml")
    wheel = make_wheel(bench.root, "demo", "3.0")
    bench.right.add("demo", wheel.name, wheel.read_bytes())
    bench.wrong.add("demo", "demo-3.0-cp27-cp27m-win32.whl", wheel.read_bytes())
    bench.environ = {"PIP_INDEX_URL": "RIGHT", "PIP_EXTRA_INDEX_URL": "WRONG"}
    assert bench.resolve(arguments=["--universal"]) == "3.0"


def test_project_with_settings_for_uv_gets_only_the_main_index_of_pip(bench: Bench) -> None:
    bench.write("app/pyproject.toml", "[tool.uv]\ndefault-groups = []\n")
    bench.environ = {"PIP_INDEX_URL": "RIGHT", "PIP_EXTRA_INDEX_URL": "WRONG", "PIP_FIND_LINKS": "WRONG"}
    assert bench.resolve() == "1.0"
    assert bench.wrong.paths() == []


def test_extra_indexes_of_uv_stay_before_the_index_of_pip(bench: Bench) -> None:
    bench.write("app/pyproject.toml", '[[tool.uv.index]]\nname = "corp"\nurl = "RIGHT"\n')
    bench.environ = {"PIP_INDEX_URL": "WRONG", "PIP_EXTRA_INDEX_URL": "WRONG"}
    assert bench.resolve() == "1.0"
    assert bench.wrong.paths() == []


def test_pip_s_built_in_default_is_not_passed_to_uv(bench: Bench) -> None:
    bench.write("app/pyproject.toml")
    settings = bench.settings()
    assert settings.variables_for_uv({}) == {}
    assert settings.arguments_for_uv() == ()
    assert settings.urls()


def test_the_project_s_own_index_replaces_the_default_of_uv(bench: Bench) -> None:
    bench.write("app/pyproject.toml", '[tool.uv]\nindex-url = "WRONG"\n')
    bench.environ = {"PIP_INDEX_URL": "WRONG"}
    assert bench.resolve(bench.right.url) == "1.0"
    assert bench.found() == ["1.0"]
    assert bench.wrong.paths() == []


@pytest.mark.parametrize(
    ("table", "variables"),
    [
        ("", {"PIP_FIND_LINKS": "wheels"}),
        ("", {"UV_FIND_LINKS": "wheels"}),
        ('[tool.uv]\nfind-links = ["./wheels"]\n', {}),
        ('[tool.uv.pip]\nfind-links = ["./wheels"]\n', {}),
        ('[[tool.uv.index]]\nname = "flat"\nurl = "./wheels"\nformat = "flat"\n', {}),
    ],
)
def test_find_links(bench: Bench, table: str, variables: dict[str, str]) -> None:
    (bench.root / "app" / "wheels").mkdir(parents=True)
    wheel = make_wheel(bench.root / "app" / "wheels", "demo", "3.0")
    bench.write("app/pyproject.toml", table)
    bench.environ = {"PIP_INDEX_URL": "RIGHT", **variables}
    assert bench.resolve() == "3.0"
    assert sorted(bench.found()) == ["1.0", "3.0"]
    assert bench.known
    (file,) = [each for each in Index(bench.known, Http()).files("demo") if each.filename == wheel.name]
    assert (file.url, file.size) == (wheel.as_uri(), wheel.stat().st_size)
    assert len(file.hashes["sha256"]) == 64


@pytest.mark.parametrize(
    ("table", "variables"),
    [("", {"PIP_NO_INDEX": "1"}), ("[tool.uv]\nno-index = true\n", {}), ("[tool.uv.pip]\nno-index = true\n", {})],
)
def test_no_index(bench: Bench, table: str, variables: dict[str, str]) -> None:
    (bench.root / "app" / "wheels").mkdir(parents=True)
    make_wheel(bench.root / "app" / "wheels", "demo", "3.0")
    bench.write("app/pyproject.toml", table)
    links = "PIP_FIND_LINKS" if variables else "UV_FIND_LINKS"
    bench.environ = {"PIP_INDEX_URL": "WRONG", links: "wheels", **variables}
    assert bench.resolve() == "3.0"
    assert bench.found() == ["3.0"]
    assert bench.wrong.paths() == []


def test_primary_source_of_poetry_goes_before_supplemental_ones(bench: Bench) -> None:
    bench.write(
        "app/pyproject.toml",
        """
        [[tool.poetry.source]]
        name = "more"
        url = "WRONG"
        priority = "supplemental"
        [[tool.poetry.source]]
        name = "main"
        url = "RIGHT"
        """,
    )
    bench.environ = {"PIP_INDEX_URL": "WRONG"}
    assert bench.resolve() == "1.0"
    assert bench.wrong.paths() == []


def test_default_index_of_poetry_goes_before_supplemental_sources(bench: Bench) -> None:
    text = '[[tool.poetry.source]]\nname = "more"\nurl = "WRONG"\npriority = "supplemental"\n'
    bench.write("app/pyproject.toml", text)
    bench.environ = {"PIP_INDEX_URL": "RIGHT"}
    assert bench.resolve() == "1.0"
    assert bench.wrong.paths() == []


def test_sources_of_pdm_are_all_searched(bench: Bench) -> None:
    bench.write("app/pyproject.toml", '[[tool.pdm.source]]\nname = "corp"\nurl = "RIGHT"\n')
    bench.environ = {"PIP_INDEX_URL": "WRONG"}
    assert bench.resolve() == "2.0"
    bench.write("app/pyproject.toml", '[[tool.pdm.source]]\nname = "pypi"\nurl = "RIGHT"\n')
    bench.wrong.requests.clear()
    assert bench.resolve() == "1.0"
    assert bench.wrong.paths() == []
