"""Locks made by Poetry, PDM and Pipenv: what is chosen equals what the tool would install on this machine's Python.

The tools are installed from the index, each into an environment of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name
from tool_locks import TOOLS, request_for, target

from hatch_docker.base.target import TargetPython
from hatch_docker.index.access import FileFinder
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.client import Index
from hatch_docker.index.settings import discover
from hatch_docker.locks import read_lock, select
from hatch_docker.locks.formats import lock_format
from hatch_docker.locks.model import read_toml, recorded
from hatch_docker.locks.readers.pdm_project import content_hash as pdm_hash
from hatch_docker.locks.readers.pipfile_lock import pipfile_hash
from hatch_docker.locks.readers.poetry_project import content_hash as poetry_hash
from hatch_docker.locks.uv import find_uv
from hatch_docker.support.http import Http

pytestmark = pytest.mark.network


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs a tool in a directory, in an empty environment of this Python."""
    folder = tmp_path_factory.mktemp("tools")
    uv = find_uv(os.environ)
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder / "empty"], check=True)

    def run(tool: str, *arguments: str, cwd: Path, fails: bool = False) -> str:
        environment = folder / tool
        if not environment.exists():
            subprocess.run([uv, "venv", "-q", "--python", sys.executable, environment], check=True)
            python = environment / "bin" / "python"
            subprocess.run([uv, "pip", "install", "-q", "--python", python, *TOOLS[tool]], check=True)
        variables = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("POETRY_", "PDM_", "PIPENV_"))},
            "VIRTUAL_ENV": str(folder / "empty"),
            "PATH": f"{folder / 'empty' / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PDM_CHECK_UPDATE": "0",
            "PIPENV_IGNORE_VIRTUALENVS": "0",
            "PIPENV_NOSPIN": "1",
        }
        program = environment / "bin" / tool.rstrip("1")
        done = subprocess.run([program, *arguments], cwd=cwd, env=variables, capture_output=True, text=True)
        assert fails or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr if fails else done.stdout

    return run


@pytest.fixture(scope="session")
def index() -> Index:
    return Index(discover(root=Path.cwd(), environ=os.environ, home=Path.home()), Http())


def host() -> TargetPython:
    """This machine's Python as a target, with Debian bookworm's C library."""
    return target(".".join(map(str, sys.version_info[:3])))


def artifacts(lock: Path, index: Index, extras: Sequence[str], groups: Sequence[str]) -> list[Artifact]:
    request = request_for(lock.parent, extras, groups, host())
    finder = FileFinder(files=index.files, files_at=lambda name, _urls: index.files(name))
    pylock = read_lock(lock, request, finder)
    assert list(lock_format(lock).changes(lock, request, recorded(pylock))) == []
    return select(pylock, request, lock=lock)


def labels(chosen: Sequence[Artifact]) -> list[str]:
    return sorted(f"{each.name} {each.version}" for each in chosen)


def hashes_in(lock: Path) -> set[str]:
    return set(re.findall(r"sha256:([0-9a-f]{64})", lock.read_text(encoding="utf-8")))


CHOICES: tuple[tuple[Sequence[str], Sequence[str]], ...] = (
    ((), ()),
    (("fast",), ()),
    (("slow",), ()),
    ((), ("server",)),
    ((), ("lint", "dev")),
    (("fast", "slow"), ("server", "lint", "dev")),
)
POETRY_1 = """
[tool.poetry]
name = "demo"
version = "1"
description = ""
authors = ["A <a@example.com>"]
packages = [{ include = "demo" }]

[tool.poetry.dependencies]
python = "^3.10"
requests = { version = "^2.30", extras = ["socks"] }
orjson = { version = ">=3", optional = true }
idna = "*"
colorama = { version = "*", platform = "win32" }
tomli = { version = "^2", python = "<3.11" }
click = [{ version = "<8.2", python = "<3.11" }, { version = ">=8.2", python = ">=3.11" }]
anyio = { version = "*", markers = "sys_platform == 'linux' and platform_machine != 'riscv64'" }
trio = { version = "*", optional = true }

[tool.poetry.extras]
fast = ["orjson", "trio"]
slow = ["trio"]

[tool.poetry.group.server.dependencies]
httpx = { version = "*", extras = ["http2", "brotli"] }

[tool.poetry.group.lint]
optional = true

[tool.poetry.group.lint.dependencies]
pytest = "*"

[tool.poetry.dev-dependencies]
six = "*"
"""
STANDARD = """
[project]
name = "demo"
version = "1"
requires-python = ">=3.10,<4"
dependencies = [
    "requests[socks]>=2.30",
    "colorama; sys_platform == 'win32'",
    "tomli>=2; python_version < '3.11'",
]

[project.optional-dependencies]
fast = ["orjson>=3", "trio"]
slow = ["trio"]

[dependency-groups]
server = ["httpx[http2,brotli]", { include-group = "dev" }]
lint = ["pytest; python_version >= '3'"]
dev = ["six"]
"""

# Only Poetry resolves one package to two versions.
FORKS = "\"click<8.2; python_version < '3.11'\", \"click>=8.2; python_version >= '3.11'\","


def poetry_source(index: Index) -> str:
    return f'\n[[tool.poetry.source]]\nname = "mirror"\nurl = "{index.urls[0]}"\npriority = "primary"\n'


@pytest.fixture(scope="session", params=["poetry1", "poetry", "poetry with [project]"])
def poetry_project(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tools: Callable[..., str], index: Index
) -> tuple[str, Path]:
    """Poetry's name in TOOLS, and a lock that it made."""
    root, tool = tmp_path_factory.mktemp("poetry"), str(request.param).partition(" ")[0]
    (root / "demo").mkdir()
    (root / "demo" / "__init__.py").touch()
    text = (
        STANDARD.replace("dependencies = [", f"dependencies = [{FORKS}", 1) if "project" in request.param else POETRY_1
    )
    (root / "pyproject.toml").write_text(text + poetry_source(index))
    tools(tool, "lock", "-n", cwd=root)
    return tool, root / "poetry.lock"


@pytest.mark.parametrize(("extras", "groups"), CHOICES, ids=str)
def test_poetry_would_install_the_same(
    poetry_project: tuple[str, Path],
    tools: Callable[..., str],
    index: Index,
    extras: Sequence[str],
    groups: Sequence[str],
) -> None:
    tool, lock = poetry_project
    options = ["--only", ",".join(("main", *groups)), *(f"--extras={each}" for each in extras)]
    output = tools(tool, "install", "-n", "--no-ansi", "--no-root", "--dry-run", *options, cwd=lock.parent)
    installed = re.findall(r"Installing (\S+) \((\S+?)\)(?!.*Skipped)", output)
    chosen = artifacts(lock, index, extras, groups)
    assert labels(chosen) == sorted(f"{canonicalize_name(name)} {version}" for name, version in installed)
    assert {each.hashes["sha256"] for each in chosen} <= hashes_in(lock)


def test_a_walk_over_a_new_lock_of_poetry_agrees_with_its_groups(
    poetry_project: tuple[str, Path], index: Index, tmp_path: Path
) -> None:
    _, lock = poetry_project
    (tmp_path / "pyproject.toml").write_text((lock.parent / "pyproject.toml").read_text())
    old = tmp_path / "poetry.lock"
    old.write_text(re.sub(r'(lock-version = )"2\.1"', r'\1"2.0"', lock.read_text()))
    for extras, groups in CHOICES:
        request = request_for(tmp_path, extras, groups, host())
        finder = FileFinder(files=index.files, files_at=lambda name, _urls: index.files(name))
        walked = select(read_lock(old, request, finder), request, lock=old)
        assert labels(walked) == labels(artifacts(lock, index, extras, groups))


@pytest.fixture(scope="session", params=["", "no_inherit_metadata", "static_urls", "no_inherit_metadata,static_urls"])
def pdm_project(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tools: Callable[..., str]
) -> Path:
    root = tmp_path_factory.mktemp("pdm")
    (root / "pyproject.toml").write_text(STANDARD + "\n[tool.pdm]\ndistribution = false\n")
    options = ["-S", request.param] if request.param else []
    tools("pdm", "lock", "-q", "-G", ":all", *options, cwd=root)
    return root / "pdm.lock"


@pytest.mark.parametrize(("extras", "groups"), CHOICES, ids=str)
def test_pdm_would_install_the_same(
    pdm_project: Path, tools: Callable[..., str], index: Index, extras: Sequence[str], groups: Sequence[str]
) -> None:
    every = [option for each in (*extras, *groups) for option in ("-G", each)]
    others = [f"--without={each}" for each in ("server", "lint", "dev") if each not in groups]
    options = [*every, *others] if groups else ["--prod", *every]
    output = tools("pdm", "sync", "--dry-run", "--no-self", *options, cwd=pdm_project.parent)
    installed = re.findall(r"- ([\w.-]+) (\S+)", output)
    chosen = artifacts(pdm_project, index, extras, groups)
    assert labels(chosen) == sorted(f"{canonicalize_name(name)} {version}" for name, version in installed)
    assert {each.hashes["sha256"] for each in chosen} <= hashes_in(pdm_project)


PIPFILE = """
[packages]
requests = { extras = ["socks"], version = ">=2.30" }
colorama = { version = "*", sys_platform = "== 'win32'" }
tomli = { version = "*", markers = "python_version < '3.11'" }

[dev-packages]
six = "*"

[docs]
trio = "*"
"""


@pytest.mark.parametrize("groups", [(), ("dev",), ("docs",), ("dev", "docs")], ids=str)
def test_pipenv_would_install_the_same(
    tmp_path_factory: pytest.TempPathFactory, tools: Callable[..., str], index: Index, groups: Sequence[str]
) -> None:
    root = tmp_path_factory.getbasetemp() / "pipenv"
    lock = root / "Pipfile.lock"
    if not lock.is_file():
        root.mkdir(exist_ok=True)
        source = f'[[source]]\nname = "mirror"\nurl = "{index.urls[0]}"\nverify_ssl = true\n'
        (root / "Pipfile").write_text(source + PIPFILE)
        tools("pipenv", "lock", cwd=root)
    categories = ["packages", *({"dev": "dev-packages"}.get(each, each) for each in groups)]
    output = tools("pipenv", "requirements", f"--categories={','.join(categories)}", cwd=root)
    chosen = artifacts(lock, index, (), groups)
    listed = [line for line in output.splitlines() if "==" in line]
    expected = [str(each) for each in _applying(listed)]
    assert labels(chosen) == sorted(expected)
    assert {each.hashes["sha256"] for each in chosen} <= hashes_in(lock)


def _applying(lines: Sequence[str]) -> Iterator[str]:
    from packaging.requirements import Requirement

    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate():
            version = next(iter(requirement.specifier)).version
            yield f"{canonicalize_name(requirement.name)} {version}"


# ---------------------------------------------------------------- content hashes

PARTS = (
    "dependencies = []\n",
    'dependencies = ["six>=1", "idna; python_version < \'3.12\'"]\nrequires-python = ">=3.9"\n',
    'requires-python = ">=3.9"\noptional-dependencies = { b = ["six"], a = ["idna>=3"] }\n',
    'dependencies = ["six"]\nkeywords = ["ü"]\noptional-dependencies = { Ü_x = [] }\n'.replace("Ü_x", "u_x"),
    'dependencies = ["mylib @ https://files.example/mylib-1.0-py3-none-any.whl"]\n',
)
GROUPS = (
    "",
    '[dependency-groups]\ndev = ["six"]\ntest = [{ include-group = "dev" }, "idna"]\n',
    "[dependency-groups]\n",
)
POETRY_TABLES = (
    "",
    "[tool.poetry]\npackage-mode = false\n",
    """[tool.poetry.dependencies]
six = { version = "^1", source = "x" }
[[tool.poetry.source]]
name = "x"
url = "https://index.example/simple"
priority = "explicit"
""",
    '[tool.poetry.group.docs]\noptional = true\n[tool.poetry.group.docs.dependencies]\nidna = "*"\n',
    '[tool.poetry.group.dev.dependencies]\nidna = { git = "https://git.example/idna.git", rev = "abc" }\n',
)
OLD_POETRY = (
    'python = "^3.9"\n',
    'python = "^3.9"\nsix = { version = "*", optional = true }\n[tool.poetry.extras]\nx = ["six"]\n',
    'python = "^3.9"\nsix = [{ version = "<2", python = "<3.11" }, { version = "*", python = ">=3.11" }]\n',
    'python = ">=3.9"\n[tool.poetry.dev-dependencies]\nidna = "^3"\n',
    'python = ">=3.9"\n[tool.poetry.group."Dev_x".dependencies]\nidna = "^3"\n',
    'python = ">=3.9"\n"ü" = { path = "../lib", develop = true }\n'.replace('"ü"', "lib"),
    'python = ">=3.9"\nx = { url = "https://files.example/x-1.0.tar.gz" }\n',
)


def poetry_projects(tool: str) -> list[str]:
    name = 'name = "demo"\nversion = "1"\n'
    head = f'[tool.poetry]\n{name}description = "ü"\nauthors = ["A <a@example.com>"]\n[tool.poetry.dependencies]\n'
    old = [f"{head}{each}" for each in OLD_POETRY]
    if tool == "poetry1":
        source = '[[tool.poetry.source]]\nname = "x"\nurl = "https://index.example"\n'
        ends = ("", source, source + 'priority = "explicit"\n')
        return [f"{each}{end}" for each in old for end in ends]
    parts = [f"[project]\n{name}{each}" for each in PARTS]
    new = [f"{part}{group}{table}" for part in parts for group in GROUPS[:2] for table in POETRY_TABLES]
    return old + new[::3]


def pdm_projects() -> list[str]:
    tables = (
        "",
        '[[tool.pdm.source]]\nname = "pypi"\nurl = "https://index.example/simple"\nverify_ssl = true\n',
        '[tool.pdm.dev-dependencies]\nTest_it = ["six", "-e file:///${PROJECT_ROOT}/lib#egg=lib"]\n',
        '[tool.pdm.resolution]\nallow-prereleases = true\nexcludes = ["idna"]\noverrides = { six = "1.16" }\n',
    )
    name = '[project]\nname = "demo"\nversion = "1"\n'
    return [f"{name}{part}{group}{table}" for part in PARTS for group in GROUPS for table in tables][::3]


def pipfiles() -> list[str]:
    source = '[[source]]\nname = "x"\nurl = "https://$USER:${PASS}@index.example/simple"\nverify_ssl = true\n'
    packages = (
        "",
        '[packages]\nSix = "*"\nmy_lib = { path = "./lib", editable = true }\n',
        '[packages]\nidna = { version = "==3.10", index = "x", extras = ["b", "a"] }\n',
        '[packages]\nrepo = { git = "https://git.example/x.git", ref = "main" }\n',
    )
    others = (
        "",
        '[dev-packages]\nSix = "*"\n[requires]\npython_version = "3.11"\n',
        '[Docs]\n"Z.z" = "*"\n[scripts]\nx = "y"\n',
    )
    pipenv = ("", "[pipenv]\nallow_prereleases = true\n")
    return [f"{source}{part}{other}{end}" for part in packages for other in others for end in pipenv]


WRONG = "0" * 64
STALE = re.compile(r"changed significantly|doesn't (match|satisfy)|out[- ]of[- ]date", re.IGNORECASE)


def judge_all(
    check: Callable[[Path, str], str], root: Path, file: str, texts: Sequence[str], ours: Callable[[Path], str]
) -> None:
    """Check that a tool takes our hash of each project for its own, but no other. `check` returns its output."""

    def judge(number: int, text: str, digest: str = "") -> None:
        folder = root / f"{number}{digest[:1]}"
        folder.mkdir()
        (folder / file).write_text(text, encoding="utf-8")
        output = check(folder, digest or ours(folder / file))
        assert bool(STALE.search(output)) is bool(digest), f"{text}\n{output}"

    assert len(texts) >= 20
    judge(0, texts[0], WRONG)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(judge, range(len(texts)), texts))


@pytest.mark.parametrize("tool", ["poetry", "poetry1"])
def test_hashes_are_those_of_poetry(tools: Callable[..., str], tmp_path: Path, tool: str) -> None:
    """The tool itself judges our hash of each project, in a lock without packages."""

    def check(root: Path, digest: str) -> str:
        lock = 'package = []\n[metadata]\nlock-version = "2.0"\npython-versions = "*"\n'
        (root / "poetry.lock").write_text(f'{lock}content-hash = "{digest}"\n')
        return tools(tool, "check", "--lock", cwd=root, fails=True)

    texts = poetry_projects(tool)
    judge_all(check, tmp_path, "pyproject.toml", texts, lambda path: poetry_hash(read_toml(path)))


def test_hashes_are_those_of_pdm(tools: Callable[..., str], tmp_path: Path) -> None:
    def check(root: Path, digest: str) -> str:
        lock = '[metadata]\nlock_version = "4.5.0"\ngroups = ["default"]\nstrategy = ["inherit_metadata"]\n'
        (root / "pdm.lock").write_text(f'{lock}content_hash = "sha256:{digest}"\n')
        return tools("pdm", "lock", "--check", cwd=root, fails=True)

    judge_all(check, tmp_path, "pyproject.toml", pdm_projects(), lambda path: pdm_hash(read_toml(path)))


def test_hashes_are_those_of_pipenv(tools: Callable[..., str], tmp_path: Path) -> None:
    def check(root: Path, digest: str) -> str:
        meta: dict[str, Any] = {"hash": {"sha256": digest}, "pipfile-spec": 6, "requires": {}, "sources": []}
        (root / "Pipfile.lock").write_text(json.dumps({"_meta": meta, "default": {}, "develop": {}}))
        return tools("pipenv", "verify", cwd=root, fails=True)

    judge_all(check, tmp_path, "Pipfile", pipfiles(), lambda path: pipfile_hash(read_toml(path), canonical=True))


def test_the_hash_of_a_pipfile_without_sources_is_that_of_pipenv(tools: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "Pipfile").write_text("[packages]\n")
    tools("pipenv", "lock", cwd=tmp_path)
    assert lock_format(tmp_path / "Pipfile.lock").changes(tmp_path / "Pipfile.lock", request_for(tmp_path), {}) == []
