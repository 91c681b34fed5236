"""Small projects for uv, of every kind of source, workspace and setting, and the package indexes that they need.

`projects()` is the table. A `World` has the indexes, wheels, archives and repositories: it lays out a project, locks it
and exports its lock by uv. Names such as `@cpu@` in the texts of projects stand for the World's URLs and directories.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from fake_index import FakeIndex, serving
from packaging.utils import canonicalize_name
from packaging.version import Version
from sdist_maker import make_sdist
from wheel_maker import make_wheel

from hatch_docker.base.target import TargetPython
from hatch_docker.index.sources import read_sources
from hatch_docker.locks.model import InstallRequest, read_toml
from hatch_docker.locks.uv import find_uv
from hatch_docker.project.groups import dependency_groups
from hatch_docker.project.model import Project
from hatch_docker.support.dataclasses import dataclass, field

Choice = tuple[tuple[str, ...], tuple[str, ...]]

BUILD = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class UvProject:
    """A project: the texts of its files by path, and the directory of the one that is built.

    `choices` are pairs of extras and groups to build it with.
    """

    name: str
    files: Mapping[str, str]
    choices: Sequence[Choice] = (((), ()),)
    member: str = "."


@dataclass(kw_only=True)
class World:
    """Package indexes and other sources below the directory `root`, and the environment for uv."""

    root: Path
    environ: Mapping[str, str]
    indexes: Mapping[str, FakeIndex]
    places: Mapping[str, str]
    count: int = 0
    roots: dict[str, Path] = field(default_factory=dict)

    def lay_out(self, project: UvProject) -> Path:
        """Write a project into a new directory: its root."""
        self.count += 1
        folder = self.root / f"{self.count}-{project.name}"
        for path, text in project.files.items():
            text = text.replace("@here@", folder.as_posix())
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(self.filled(text), encoding="utf-8")
        if "wheels/" in "".join(project.files.values()) or '"wheels"' in "".join(project.files.values()):
            shutil.copytree(self.root / "local", folder / "wheels")
        return folder

    def filled(self, text: str) -> str:
        for name, value in self.places.items():
            text = text.replace(f"@{name}@", value)
        return text

    def uv(self, *arguments: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [find_uv(os.environ), "--quiet", *arguments],
            cwd=cwd,
            env=dict(self.environ),
            capture_output=True,
            text=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def lock(self, folder: Path) -> None:
        self.uv("lock", cwd=folder)

    def locked(self, project: UvProject) -> Path:
        """The root of a locked project, which is laid out and locked once: tests must not change it."""
        if project.name not in self.roots:
            root = self.lay_out(project)
            self.lock(root / project.member)
            self.roots[project.name] = root
        return self.roots[project.name]

    def copy(self, project: UvProject) -> Path:
        """A copy of a locked project, for a test to change."""
        self.count += 1
        return Path(shutil.copytree(self.locked(project), self.root / f"{self.count}-copy"))

    def export(self, folder: Path, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Path:
        """The pylock.toml that uv makes of the uv.lock for the project in `folder`: the file."""
        name = f"pylock.{'-'.join(('x', *extras, 'y', *groups))}.toml"
        options = [*(f"--extra={each}" for each in extras), *(f"--group={each}" for each in groups)]
        fixed = ("--frozen", "--no-emit-project", "--no-default-groups", "--format=pylock.toml")
        self.uv("export", *fixed, f"--output-file={name}", *options, cwd=folder)
        return folder / name


def needs_current_uv() -> None:
    """Skip a test that compares us with uv if uv is so old that it behaves in another way."""
    done = subprocess.run([find_uv(os.environ), "--version"], capture_output=True, text=True, check=True)
    if Version(done.stdout.split()[1]) < Version("0.13"):
        pytest.skip("compares with uv 0.13 or later")


@contextlib.contextmanager
def serving_world(root: Path) -> Iterator[World]:
    """A World below `root`, while its indexes are served."""
    needs_current_uv()
    local = root / "local"
    local.mkdir(parents=True)
    with serving() as main, serving() as cpu, serving() as cuda:
        indexes = {"main": main, "cpu": cpu, "cuda": cuda}
        _fill(indexes, root / "made", local)
        environ = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(root / "home"),
            "XDG_CONFIG_HOME": str(root / "home"),
            "XDG_CONFIG_DIRS": str(root / "home"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "UV_CACHE_DIR": str(root / "cache"),
            "UV_DEFAULT_INDEX": main.url,
            "UV_PYTHON": sys.executable,
            "UV_PYTHON_DOWNLOADS": "never",
        }
        places = {name: index.url for name, index in indexes.items()}
        places |= {"files": main.file_url("").rstrip("/"), "local": local.as_posix()}
        yield World(root=root, environ=environ, indexes=indexes, places=places | _repository(root / "repository"))


def _repository(folder: Path) -> dict[str, str]:
    """A Git repository of two packages with two commits, and its names in projects."""
    (folder / "sub").mkdir(parents=True)

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@t.example", "-c", "init.defaultBranch=main"]
        command = ["git", *identity, *arguments]
        environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        return subprocess.run(
            command, cwd=folder, env=environ, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    commits = []
    for version in ("1.0", "2.0"):
        (folder / "pyproject.toml").write_text(package("gitlib", "leaf", version=version))
        (folder / "sub" / "pyproject.toml").write_text(package("gitsub", "delta", version=version))
        git("add", ".")
        git("commit", "-q", "-m", version)
        git("tag", f"v{version}")
        commits.append(git("rev-parse", "HEAD"))
    git("branch", "old", "v1.0")
    return {"repo": folder.as_uri(), "first": commits[0], "second": commits[1]}


# The default index: name, version, requirements. Names that projects map to a source have a higher version here.
MAIN: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("alpha", "1.0", ()),
    ("alpha", "1.1", ()),
    ("alpha", "2.0", ("leaf>=1",)),
    ("beta", "1.0", ("alpha; python_version < '3.12'", "leaf")),
    ("gamma", "1.0", ("delta; extra == 'fast'", "leaf; extra == 'slow'", "gamma[fast,slow]; extra == 'all'")),
    ("delta", "1.0", ()),
    ("leaf", "1.0", ()),
    ("leaf", "2.0", ()),
    ("leaf", "3.0a1", ()),
    ("plat", "1.0", ("winonly; sys_platform == 'win32'", "leaf; platform_machine == 'aarch64'")),
    ("winonly", "1.0", ()),
    ("numpyish", "1.0", ()),
    ("numpyish", "2.0", ()),
    ("forky", "1.0", ("numpyish<2; python_version < '3.12'", "numpyish>=2; python_version >= '3.12'")),
    ("full", "1.0", ("alpha; python_full_version >= '3.11.5'",)),
    ("old-pin", "1.0", ("leaf<2",)),
    ("ring-a", "1.0", ("ring-b",)),
    ("ring-b", "1.0", ("ring-a", "delta")),
    ("needs-tor", "1.0", ("tor",)),
    *((name, "9.0", ()) for name in ("tor", "mylib", "other", "third", "gitlib", "gitsub", "viaurl", "flat", "svc")),
)
NATIVE = (
    *(
        f"cp3{minor}-cp3{minor}-manylinux_2_17_{machine}"
        for minor in range(10, 15)
        for machine in ("x86_64", "aarch64")
    ),
    *(f"cp3{minor}-cp3{minor}-musllinux_1_2_{machine}" for minor in range(10, 15) for machine in ("x86_64", "aarch64")),
    *(f"cp3{minor}-cp3{minor}-win_amd64" for minor in range(10, 15)),
)


def _fill(indexes: Mapping[str, FakeIndex], made: Path, local: Path) -> None:
    made.mkdir(parents=True)

    def add(index: str, name: str, version: str, requires: Sequence[str] = (), tags: Sequence[str] = ()) -> None:
        for tag in tags or ("py3-none-any",):
            module = name.replace("-", "_")
            requirements = tuple(requires)
            extras = {each.rpartition("extra == ")[2].strip("'\"") for each in requires if "extra ==" in each}
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            metadata += "".join(f"Provides-Extra: {each}\n" for each in sorted(extras))
            metadata += "".join(f"Requires-Dist: {each}\n" for each in requirements)
            path = make_wheel(made, module, version, metadata=metadata, filename=f"{module}-{version}-{tag}.whl")
            indexes[index].add(name, path.name, path.read_bytes())

    def add_sdist(index: str, name: str, version: str, folder: Path = made) -> Path:
        info = f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\nRequires-Dist: leaf\n"
        path = make_sdist(folder, name, version, {"PKG-INFO": info}, pyproject=package(name, "leaf", version=version))
        indexes[index].add(name, path.name, path.read_bytes())
        return path

    for name, version, requires in MAIN:
        add("main", name, version, requires)
    add("main", "native", "1.0", tags=NATIVE)
    add("main", "native", "2.0", tags=NATIVE[6:7])
    for name, version in (("native", "2.0"), ("source", "1.0")):
        add_sdist("main", name, version)
    add("cpu", "tor", "2.1+cpu", ("leaf",))
    add("cuda", "tor", "2.1+cuda", ("delta",))
    add("cpu", "alpha", "3.0")
    make_wheel(local, "flat", "1.0", requires=("leaf",))
    make_wheel(local, "viaurl", "1.0")
    for version in ("1.0", "1.1"):
        content = make_wheel(made, "viaurl", version, requires=("leaf",)).read_bytes()
        indexes["main"].add("unlisted", f"viaurl-{version}-py3-none-any.whl", content)
    info = "Metadata-Version: 2.2\nName: flat\nVersion: 2.0\nRequires-Dist: delta\n"
    make_sdist(local, "flat", "2.0", {"PKG-INFO": info}, pyproject=package("flat", "delta", version="2.0"))
    path = add_sdist("main", "sourced", "1.0")
    indexes["main"].add("unlisted", "sourced-1.0.tar.gz", path.read_bytes())
    mono = make_sdist(
        made,
        "mono",
        "1.0",
        {"inner/pyproject.toml": package("inner", "leaf"), "inner/PKG-INFO": info.replace("flat", "inner")},
        pyproject=None,
    )
    indexes["main"].add("unlisted", mono.name, mono.read_bytes())


def package(name: str, *requires: str, version: str = "1.0", more: str = "", build: bool = True) -> str:
    """The pyproject.toml of a package."""
    dependencies = ", ".join(f'"{each}"' for each in requires)
    project = f'[project]\nname = "{name}"\nversion = "{version}"\nrequires-python = ">=3.10"\n'
    return f"{project}dependencies = [{dependencies}]\n{more}\n{BUILD if build else ''}"


def app(*requires: str, more: str = "") -> str:
    return package("app", *requires, more=more)


def projects() -> list[UvProject]:
    """The table of projects."""
    return [*_PLAIN, *_SETTINGS, *_CONFLICTS, *_INDEXES, *_FILES, *_DIRECTORIES, *_REPOSITORIES, *_WORKSPACES]


def request_of(
    world: World, folder: Path, to: TargetPython, extras: Sequence[str] = (), groups: Sequence[str] = ()
) -> InstallRequest:
    """The request for the project in `folder` with these extras and groups."""
    document = read_toml(folder / "pyproject.toml")
    table = document["project"]
    optional = table.get("optional-dependencies", {})
    project = Project(
        root=folder,
        name=table["name"],
        version=table["version"],
        dependencies=tuple(table.get("dependencies", ())),
        optional_dependencies={str(canonicalize_name(name)): tuple(each) for name, each in optional.items()},
        dependency_groups=dependency_groups(document, folder),
    )
    return InstallRequest(
        project=project.normalized_name,
        target=to,
        root=folder,
        requires_python=table.get("requires-python", ""),
        sources=read_sources(folder, world.environ, project=project.normalized_name, home=world.root / "home"),
        requirements=project.requirements(extras, groups),
        extras=frozenset(extras),
        groups=frozenset(groups),
    )


def _one(name: str, text: str, *choices: Choice, member: str = ".", **files: str) -> UvProject:
    """A project; `files` are the pyproject.toml of other directories."""
    others = {f"{folder.replace('__', '/')}/pyproject.toml": each for folder, each in files.items()}
    return UvProject(name=name, files={"pyproject.toml": text, **others}, choices=choices or (((), ()),), member=member)


NONE: Choice = ((), ())


def extra(*names: str) -> Choice:
    return (names, ())


def group(*names: str) -> Choice:
    return ((), names)


_SELF = '[project.optional-dependencies]\nfast = ["gamma[fast]"]\nall = ["app[fast]", "numpyish"]\n'
_PARTS = """[project.optional-dependencies]
win = ["winonly"]
lin = ["delta"]
fast = ["app[win]; sys_platform == 'win32'", "app[lin]; sys_platform == 'linux'"]
deep = ["app[fast]; python_version < '3.13'"]
"""
_GROUPS = '[dependency-groups]\ndev = ["gamma[slow]", {include-group = "lint"}]\nlint = ["delta"]\ndocs = ["alpha<2"]\n'

_PLAIN = [
    _one("plain", app("alpha", "beta")),
    _one("nothing", app()),
    _one("versions", app("alpha<2", "leaf>=2,!=3")),
    _one("markers", app("plat", "winonly; sys_platform == 'win32'", "beta; python_version < '3.12'", "full")),
    _one("extras-of-dependencies", app("gamma[fast]", "ring-a")),
    _one("nested-extras-of-dependencies", app("gamma[all]")),
    _one("own-extras", app("leaf", more=_SELF), NONE, extra("fast"), extra("all")),
    _one("self-reference-with-marker", app(more=_PARTS), NONE, extra("fast"), extra("deep"), extra("win", "deep")),
    _one("groups", app("leaf", more=_GROUPS), NONE, group("dev"), group("lint", "docs")),
    _one(
        "group-of-own-extras",
        app(more=_SELF + '[dependency-groups]\ndev = ["app[all]"]\n'),
        NONE,
        group("dev"),
    ),
    _one(
        "spelling",
        app("Alpha", "old_PIN", more='[project.optional-dependencies]\nMy_Fast = ["Gamma[Fast]"]\n'),
        NONE,
        extra("my-fast"),
    ),
    _one("wheels-for-platforms", app("native<2")),
    _one("wheel-for-one-platform", app("native>=2")),
    _one("sdist", app("source")),
    _one("fork", app("numpyish<2; python_version < '3.12'", "numpyish>=2; python_version >= '3.12'")),
    _one("fork-of-dependency", app("forky", "numpyish")),
    _one("fork-by-platform", app("alpha<2; sys_platform == 'darwin'", "alpha>=2; sys_platform != 'darwin'", "beta")),
    _one("bound-python", app("alpha").replace(">=3.10", ">=3.9,<4")),
    _one("virtual-project", package("app", "alpha", build=False)),
    _one("unpackaged-project", app("alpha", more="[tool.uv]\npackage = false\n")),
]

_METADATA = '[[tool.uv.dependency-metadata]]\nname = "beta"\nversion = "1.0"\nrequires-dist = ["delta"]\n'
_DEV = '[tool.uv]\ndev-dependencies = ["delta"]\n'

_SETTINGS = [
    _one("default-groups", app("leaf", more=_GROUPS + '[tool.uv]\ndefault-groups = ["docs"]\n'), NONE, group("docs")),
    _one("dev-dependencies", app("leaf", more=_DEV), NONE),
    _one(
        "dev-dependencies-and-group",
        app("leaf", more=_DEV + '[dependency-groups]\ndev = ["numpyish"]\n'),
        NONE,
        group("dev"),
    ),
    _one(
        "other-settings",
        app("alpha", more='[tool.uv]\nno-build = true\nindex-strategy = "unsafe-best-match"\nlink-mode = "copy"\n'),
    ),
    _one("override", app("old-pin", more='[tool.uv]\noverride-dependencies = ["leaf>=2"]\n')),
    _one("override-direct", app("alpha<2", more='[tool.uv]\noverride-dependencies = ["alpha>=2"]\n')),
    _one(
        "override-by-marker",
        app("old-pin", more="[tool.uv]\noverride-dependencies = [\"leaf>=2; python_version < '3.12'\"]\n"),
    ),
    _one("constraint", app("alpha", more='[tool.uv]\nconstraint-dependencies = ["alpha<2", "leaf<2"]\n')),
    _one("build-constraint", app("alpha", more='[tool.uv]\nbuild-constraint-dependencies = ["hatchling<1"]\n')),
    _one("exclude", app("beta", more='[tool.uv]\nexclude-dependencies = ["leaf"]\n')),
    _one("exclude-direct", app("beta", "leaf", more='[tool.uv]\nexclude-dependencies = ["leaf"]\n')),
    _one("dependency-metadata", app("beta", more=_METADATA)),
    _one("environments", app("plat", "forky", more="[tool.uv]\nenvironments = [\"sys_platform == 'linux'\"]\n")),
    _one(
        "environments-apart",
        app(
            "forky",
            more="[tool.uv]\nenvironments = [\"sys_platform == 'linux' and python_version < '3.13'\", "
            "\"sys_platform == 'linux' and python_version >= '3.13'\"]\n",
        ),
    ),
    _one(
        "required-environments",
        app(
            "native<2",
            more="[tool.uv]\nrequired-environments = [\"sys_platform == 'linux' and platform_machine == 'aarch64'\"]\n",
        ),
    ),
    _one("prerelease", app("leaf", more='[tool.uv]\nprerelease = "allow"\n')),
    _one("prerelease-by-specifier", app("leaf>=3.0a0", "alpha")),
    _one("lowest", app("alpha", "beta", more='[tool.uv]\nresolution = "lowest"\n')),
    _one("lowest-direct", app("alpha>=1.1", more='[tool.uv]\nresolution = "lowest-direct"\n')),
    _one("fewest", app("forky", more='[tool.uv]\nfork-strategy = "fewest"\n')),
    _one(
        "no-sources",
        app("mylib", more='[tool.uv]\nno-sources = true\n[tool.uv.sources]\nmylib = { path = "lib" }\n'),
        lib=package("mylib", "delta"),
    ),
    _one(
        "no-sources-package",
        app(
            "mylib",
            "other",
            more='[tool.uv]\nno-sources-package = ["mylib"]\n'
            '[tool.uv.sources]\nmylib = { path = "lib" }\nother = { path = "other" }\n',
        ),
        lib=package("mylib", "delta"),
        other=package("other", "delta"),
    ),
]


_EXTRAS_CONFLICT = """[project.optional-dependencies]
cpu = ["alpha<2"]
gpu = ["alpha>=2", "delta"]
[dependency-groups]
gcpu = ["app[cpu]"]
dev = ["delta"]
[tool.uv]
conflicts = [[{extra = "cpu"}, {extra = "gpu"}]]
"""
_GROUPS_CONFLICT = """[dependency-groups]
old = ["numpyish<2"]
new = ["numpyish>=2"]
newer = [{include-group = "new"}, "alpha<2"]
[tool.uv]
conflicts = [[{group = "old"}, {group = "new"}, {group = "newer"}]]
"""
_MIXED_CONFLICT = """[project.optional-dependencies]
cpu = ["alpha<2"]
[dependency-groups]
gpu = ["alpha>=2"]
[tool.uv]
conflicts = [[{extra = "cpu"}, {group = "gpu"}]]
"""
_PROJECT_CONFLICT = """[dependency-groups]
new = ["numpyish>=2"]
[tool.uv]
conflicts = [[{package = "app"}, {group = "new"}]]
"""

_OF_INDEX = """[project.optional-dependencies]
cpu = ["tor"]
cuda = ["tor"]
[tool.uv]
conflicts = [[{extra = "cpu"}, {extra = "cuda"}]]
[tool.uv.sources]
tor = [{index = "cpu", extra = "cpu"}, {index = "cuda", extra = "cuda"}]
[[tool.uv.index]]
name = "cpu"
url = "@cpu@"
explicit = true
[[tool.uv.index]]
name = "cuda"
url = "@cuda@"
explicit = true
"""

_CONFLICTS = [
    _one(
        "conflicting-extras",
        app("beta", more=_EXTRAS_CONFLICT),
        NONE,
        extra("cpu"),
        extra("gpu"),
        group("gcpu"),
        (("cpu",), ("gcpu", "dev")),
    ),
    _one(
        "conflicting-groups",
        app("forky", "beta", more=_GROUPS_CONFLICT).replace("forky", "delta"),
        NONE,
        group("old"),
        group("new"),
        group("newer"),
    ),
    _one("conflicting-extra-and-group", app("beta", more=_MIXED_CONFLICT), NONE, extra("cpu"), group("gpu")),
    _one("conflicting-project-and-group", app("numpyish<2", more=_PROJECT_CONFLICT), NONE),
    _one("index-by-extra", app("needs-tor", more=_OF_INDEX), NONE, extra("cpu"), extra("cuda")),
    _one(
        "index-by-group",
        app(
            "needs-tor",
            more=_OF_INDEX.replace("[project.optional-dependencies]", "[dependency-groups]").replace(
                "extra =", "group ="
            ),
        ),
        NONE,
        group("cpu"),
        group("cuda"),
    ),
]

_CPU = '[[tool.uv.index]]\nname = "cpu"\nurl = "@cpu@"\n'
_EXPLICIT = _CPU + "explicit = true\n"


def sources(*lines: str) -> str:
    return "[tool.uv.sources]\n" + "\n".join(lines) + "\n"


_INDEXES = [
    _one("index", app("tor", "alpha", more=sources('tor = { index = "cpu" }') + _EXPLICIT)),
    _one("index-first", app("tor", "alpha", more=_CPU)),
    _one("index-in-order", app("tor", "delta", more=_CPU + '[[tool.uv.index]]\nname = "cuda"\nurl = "@cuda@"\n')),
    _one(
        "index-by-marker",
        app("tor", more=sources('tor = [{ index = "cpu", marker = "python_version < \'3.12\'" }]') + _EXPLICIT),
    ),
    _one(
        "indexes-by-marker",
        app(
            "needs-tor",
            "tor",
            more=sources(
                'tor = [{ index = "cpu", marker = "platform_machine == \'aarch64\'" }, '
                '{ index = "cuda", marker = "platform_machine != \'aarch64\'" }]'
            )
            + _EXPLICIT
            + '[[tool.uv.index]]\nname = "cuda"\nurl = "@cuda@"\nexplicit = true\n',
        ),
    ),
    _one(
        "index-of-optional",
        app(more='[project.optional-dependencies]\nml = ["tor"]\n' + sources('tor = { index = "cpu" }') + _EXPLICIT),
        NONE,
        extra("ml"),
    ),
    _one("find-links", app("flat<2", more='[tool.uv]\nfind-links = ["./wheels/"]\n')),
    _one("find-links-sdist", app("flat>=2,<9", more='[tool.uv]\nfind-links = ["@local@"]\n')),
    _one(
        "flat-index",
        app(
            "flat",
            more=sources('flat = { index = "here" }')
            + '[[tool.uv.index]]\nname = "here"\nurl = "wheels"\nformat = "flat"\nexplicit = true\n',
        ),
    ),
]

_FILES = [
    _one("wheel", app("flat", more=sources('flat = { path = "wheels/flat-1.0-py3-none-any.whl" }'))),
    _one("wheel-by-absolute-path", app("flat", more=sources('flat = { path = "@local@/flat-1.0-py3-none-any.whl" }'))),
    _one("wheel-by-reference", app("flat @ file://@local@/flat-1.0-py3-none-any.whl")),
    _one("sdist-by-path", app("flat", more=sources('flat = { path = "wheels/flat-2.0.tar.gz" }'))),
    _one(
        "wheel-by-marker",
        app(
            "flat",
            more=sources('flat = { path = "wheels/flat-1.0-py3-none-any.whl", marker = "python_version < \'3.12\'" }'),
        ),
    ),
    _one("url", app("viaurl @ @files@/viaurl-1.0-py3-none-any.whl")),
    _one("url-of-source", app("viaurl", more=sources('viaurl = { url = "@files@/viaurl-1.1-py3-none-any.whl" }'))),
    _one("url-of-sdist", app("sourced @ @files@/sourced-1.0.tar.gz")),
    _one("url-with-subdirectory", app("inner @ @files@/mono-1.0.tar.gz#subdirectory=inner")),
    _one(
        "url-of-source-with-subdirectory",
        app("inner", more=sources('inner = { url = "@files@/mono-1.0.tar.gz", subdirectory = "inner" }')),
    ),
    _one(
        "url-by-marker",
        app(
            "viaurl",
            more=sources(
                'viaurl = { url = "@files@/viaurl-1.1-py3-none-any.whl", marker = "sys_platform == \'linux\'" }'
            ),
        ),
    ),
    _one(
        "url-by-python",
        app(
            "viaurl @ @files@/viaurl-1.0-py3-none-any.whl ; python_version < '3.12'",
            "viaurl @ @files@/viaurl-1.1-py3-none-any.whl ; python_version >= '3.12'",
        ),
    ),
]

_LIB = sources('mylib = { path = "lib" }')

_DIRECTORIES = [
    _one("directory", app("mylib", "alpha", more=_LIB), lib=package("mylib", "delta")),
    _one(
        "directory-editable",
        app("mylib", more=sources('mylib = { path = "lib", editable = true }')),
        lib=package("mylib", "delta"),
    ),
    _one(
        "directory-virtual", app("mylib", more=_LIB), lib=package("mylib", "delta", more="[tool.uv]\npackage = false\n")
    ),
    _one(
        "directory-not-a-package",
        app("mylib", more=sources('mylib = { path = "lib", package = false }')),
        lib=package("mylib", "delta"),
    ),
    _one("directory-without-backend", app("mylib", more=_LIB), lib=package("mylib", "delta", build=False)),
    _one(
        "directory-a-package",
        app("mylib", more=sources('mylib = { path = "lib", package = true }')),
        lib=package("mylib", "delta", build=False),
    ),
    UvProject(
        name="directory-above",
        files={
            "app/pyproject.toml": app("mylib", more=sources('mylib = { path = "../lib" }')),
            "lib/pyproject.toml": package("mylib", "delta"),
        },
        member="app",
    ),
    _one(
        "directory-of-directory",
        app("mylib", more=_LIB),
        lib=package("mylib", "other", more=sources('other = { path = "../other" }')),
        other=package("other", "third", more=sources('third = { path = "../lib/third", editable = true }')),
        lib__third=package("third", "leaf<2"),
    ),
    _one(
        "directory-with-extra",
        app("mylib[more]", more=_LIB),
        lib=package("mylib", more='[project.optional-dependencies]\nmore = ["delta"]\n'),
    ),
    _one(
        "directory-by-marker",
        app("mylib", more=sources('mylib = { path = "lib", marker = "python_version < \'3.12\'" }')),
        lib=package("mylib", "delta"),
    ),
    _one(
        "directory-of-optional",
        app(more='[project.optional-dependencies]\nx = ["mylib"]\n' + _LIB),
        NONE,
        extra("x"),
        lib=package("mylib", "delta"),
    ),
    _one(
        "directory-of-group",
        app(more='[dependency-groups]\nx = ["mylib"]\n' + sources('mylib = { path = "lib", group = "x" }')),
        NONE,
        group("x"),
        lib=package("mylib", "delta"),
    ),
    _one("directory-by-reference", app("mylib @ file://@here@/lib"), lib=package("mylib", "delta")),
]

_REPOSITORIES = [
    _one("git", app("gitlib", more=sources('gitlib = { git = "@repo@" }'))),
    _one("git-rev", app("gitlib", more=sources('gitlib = { git = "@repo@", rev = "@first@" }'))),
    _one("git-tag", app("gitlib", more=sources('gitlib = { git = "@repo@", tag = "v1.0" }'))),
    _one("git-branch", app("gitlib", more=sources('gitlib = { git = "@repo@", branch = "old" }'))),
    _one(
        "git-subdirectory",
        app(
            "gitsub",
            "gitlib",
            more=sources('gitsub = { git = "@repo@", subdirectory = "sub" }', 'gitlib = { git = "@repo@" }'),
        ),
    ),
    _one("git-by-reference", app("gitlib @ git+@repo@")),
    _one("git-by-reference-with-tag", app("gitsub @ git+@repo@@v1.0#subdirectory=sub")),
    _one(
        "git-by-marker",
        app("gitlib", more=sources('gitlib = { git = "@repo@", marker = "python_version < \'3.12\'" }')),
    ),
]

_ROOT = '[tool.uv.workspace]\nmembers = ["packages/*"]\n'
_WS = "{ workspace = true }"
_MEMBERS = {
    "packages__svc": package("svc", "mylib[more]", "alpha", more=sources(f"mylib = {_WS}")),
    "packages__lib": package(
        "mylib",
        "leaf<2",
        more='[project.optional-dependencies]\nmore = ["delta"]\n[dependency-groups]\ntest = ["gamma[fast]"]\n',
    ),
}

_WORKSPACES = [
    _one("workspace-root", app("svc", more=sources(f"svc = {_WS}") + _ROOT), **_MEMBERS),
    _one("workspace-member", app("svc", more=sources(f"svc = {_WS}") + _ROOT), member="packages/svc", **_MEMBERS),
    _one(
        "workspace-other-member",
        app("svc", more=sources(f"svc = {_WS}") + _ROOT),
        NONE,
        extra("more"),
        group("test"),
        member="packages/lib",
        **_MEMBERS,
    ),
    _one("workspace-without-project", _ROOT, member="packages/svc", **_MEMBERS),
    _one(
        "workspace-with-exclude",
        _ROOT + 'exclude = ["packages/old"]\n',
        member="packages/svc",
        packages__old=package("svc", "winonly"),
        **_MEMBERS,
    ),
    _one(
        "workspace-excluded-project",
        _ROOT + 'exclude = ["packages/old"]\n',
        member="packages/old",
        packages__old=package("old", "winonly"),
        **_MEMBERS,
    ),
    _one(
        "workspace-nested",
        _ROOT.replace("packages/*", "packages/*/*"),
        member="packages/x/svc",
        packages__x__svc=_MEMBERS["packages__svc"],
        packages__y__lib=_MEMBERS["packages__lib"],
    ),
    _one(
        "workspace-virtual-member",
        _ROOT,
        member="packages/svc",
        packages__svc=_MEMBERS["packages__svc"],
        packages__lib=_MEMBERS["packages__lib"].replace("[build-system]", "[tool.uv]\npackage = false\n[build-system]"),
    ),
    _one(
        "workspace-member-without-backend",
        _ROOT,
        member="packages/svc",
        packages__svc=_MEMBERS["packages__svc"],
        packages__lib=_MEMBERS["packages__lib"].replace(BUILD, ""),
    ),
    _one(
        "workspace-sources-of-root",
        sources(f"mylib = {_WS}", 'tor = { index = "cpu" }') + _EXPLICIT + _ROOT,
        member="packages/svc",
        packages__svc=package("svc", "mylib", "tor"),
        packages__lib=package("mylib", "tor"),
    ),
    _one(
        "workspace-settings-of-root",
        '[tool.uv]\noverride-dependencies = ["leaf>=2"]\nconstraint-dependencies = ["alpha<2"]\n' + _ROOT,
        member="packages/svc",
        **_MEMBERS,
    ),
    _one(
        "workspace-exclude-of-root",
        '[tool.uv]\nexclude-dependencies = ["leaf"]\n' + _ROOT,
        member="packages/svc",
        **_MEMBERS,
    ),
    _one(
        "workspace-requires-root",
        app("alpha", more=_ROOT),
        member="packages/svc",
        packages__svc=package("svc", "app", more=sources(f"app = {_WS}")),
    ),
    _one(
        "workspace-member-of-same-name",
        _ROOT,
        member="packages/svc",
        packages__svc=package("svc", "delta", more=sources(f"delta = {_WS}")),
        packages__delta=package("delta", "alpha"),
    ),
    _one(
        "workspace-with-path",
        _ROOT,
        member="packages/svc",
        packages__svc=package("svc", "other", more=sources('other = { path = "../../other" }')),
        other=package("other", "third", more=sources('third = { path = "third" }')),
        other__third=package("third", "leaf"),
    ),
    _one(
        "workspace-not-editable",
        _ROOT,
        member="packages/svc",
        packages__svc=package("svc", "mylib", more=sources("mylib = { workspace = true, editable = false }")),
        packages__lib=_MEMBERS["packages__lib"],
    ),
    _one(
        "workspace-by-group",
        _ROOT,
        NONE,
        group("x"),
        member="packages/svc",
        packages__svc=package("svc", more='[dependency-groups]\nx = ["mylib"]\n' + sources(f"mylib = {_WS}")),
        packages__lib=_MEMBERS["packages__lib"],
    ),
    _one(
        "workspace-conflicting-members",
        '[tool.uv]\nconflicts = [[{package = "svc"}, {package = "mylib"}]]\n' + _ROOT,
        member="packages/svc",
        packages__svc=package("svc", "alpha<2", "beta"),
        packages__lib=package("mylib", "alpha>=2"),
    ),
    _one(
        "workspace-conflicting-extras",
        '[tool.uv]\nconflicts = [[{package = "svc", extra = "a"}, {package = "mylib", extra = "b"}]]\n' + _ROOT,
        NONE,
        extra("a"),
        extra("c"),
        member="packages/svc",
        packages__svc=package(
            "svc",
            "beta",
            more='[project.optional-dependencies]\na = ["alpha<2"]\nc = ["mylib[b]"]\n' + sources(f"mylib = {_WS}"),
        ),
        packages__lib=package("mylib", more='[project.optional-dependencies]\nb = ["alpha>=2"]\n'),
    ),
]
