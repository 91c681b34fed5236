"""Source trees for tests, and the context that they are built in: build requirements are wheels made here."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import py_compile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from fake_index import Notes
from git_server import ISOLATED
from packaging.requirements import Requirement
from prepared_maker import TARGET
from wheel_maker import make_wheel

from hatch_docker.compiling.builder import Builder
from hatch_docker.compiling.compile import obtain
from hatch_docker.compiling.context import CompileContext
from hatch_docker.compiling.requirements import Resolve
from hatch_docker.compiling.wheel_cache import CompiledWheel
from hatch_docker.errors import EngineError, LockError
from hatch_docker.index.artifact import Artifact, SourceTree
from hatch_docker.index.download import FetchedFile
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field

_UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH
HATCH = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n\n'
PROJECT = '[project]\nname = "{name}"\nversion = "{version}"\n'

# A backend in the directory itself. It counts its builds in a file beside the directory, and calls BUILD first.
BACKEND = """
import base64, hashlib, os, tarfile, zipfile

NAME, VERSION, TAG = {name!r}, {version!r}, {tag!r}
FILES = {files!r}

def get_requires_for_build_wheel(config_settings=None):
    return {requires!r}

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with open(f"../{{NAME}}.builds", "a") as file:
        file.write("w")
    {build}
    info = f"{{NAME}}-{{VERSION}}.dist-info"
    files = {{
        f"{{NAME}}.py": "ANSWER = 42\\n",
        f"{{info}}/METADATA": f"Metadata-Version: 2.1\\nName: {{NAME}}\\nVersion: {{VERSION}}\\n",
        f"{{info}}/WHEEL": f"Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {{TAG}}\\n",
        **FILES,
    }}
    rows = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows += f"{{path}},sha256={{digest}},{{len(text)}}\\n"
    files[f"{{info}}/RECORD"] = rows + f"{{info}}/RECORD,,\\n"
    wheel = f"{{NAME}}-{{VERSION}}-{{TAG}}.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, wheel), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel

def build_sdist(sdist_directory, config_settings=None):
    with open(f"../{{NAME}}.builds", "a") as file:
        file.write("s")
    sdist = f"{{NAME}}-{{VERSION}}.tar.gz"
    with tarfile.open(os.path.join(sdist_directory, sdist), "w:gz") as archive:
        for path in sorted({{*os.listdir(".")}} - {{"__pycache__"}}):
            archive.add(path, f"{{NAME}}-{{VERSION}}/{{path}}")
    return sdist
"""
IN_TREE = '[build-system]\nrequires = {requires}\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@dataclass
class TreeBench:
    """A directory with source trees and wheels; `root` / "app" stands for the project's own directory.

    `sources` are source trees by the names of build requirements. `resolved` are the requirements that were resolved,
    each with the directory whose sources applied.
    """

    root: Path
    wheels: dict[str, Path] = field(default_factory=dict)
    sources: dict[str, Artifact] = field(default_factory=dict)
    resolved: list[tuple[Path, tuple[str, ...]]] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)

    def tree(self, name: str, files: Mapping[str, str]) -> Artifact:
        """Write a directory, and lock it."""
        for path, text in files.items():
            file = self.root / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return self.locked(name)

    def locked(self, name: str, *, folder: str = "", version: str = "", tree: SourceTree | None = None) -> Artifact:
        tree = tree or SourceTree(url=(self.root / (folder or name)).as_uri())
        return Artifact(name=name, version=version, tree=tree, reason="it is a local directory")

    def hatch(self, name: str, version: str = "1.0", more: str = "", files: Mapping[str, str] = {}) -> Artifact:
        """A project built by hatchling, whose metadata is static."""
        pyproject = HATCH + PROJECT.format(name=name, version=version) + more
        return self.tree(name, {"pyproject.toml": pyproject, f"src/{name}/__init__.py": "ANSWER = 42\n", **files})

    def in_tree(
        self,
        name: str,
        *,
        builds: str = "",
        requires: Sequence[str] = (),
        more: Sequence[str] = (),
        build: str = "pass",
        tag: str = "py3-none-any",
        files: Mapping[str, str] = {},
    ) -> Artifact:
        """A project with its own backend, which builds a wheel of `builds`, requires `more`, and runs `build`."""
        backend = BACKEND.format(
            name=builds or name, version="1.0", tag=tag, files=dict(files), requires=[*more], build=build
        )
        pyproject = IN_TREE.format(requires=json.dumps([*requires]))
        return self.tree(name, {"pyproject.toml": pyproject, "backend.py": backend})

    def builds(self, name: str) -> str:
        """The builds of an `in_tree` project: `w` for each wheel, `s` for each sdist."""
        path = self.root / f"{name}.builds"
        return path.read_text() if path.exists() else ""

    def wheel(self, name: str, files: Mapping[str, str] = {}) -> None:
        """Make a wheel that build requirements resolve to."""
        self.wheels[name] = make_wheel(self.root, name, files={f"{name}.py": "", **files})

    def installed(self, *names: str) -> None:
        """Make wheels of packages that are installed with the tests, and of what they require."""
        for name in names:
            if name not in self.wheels:
                wheel = _installed(name)
                self.wheels[name] = self.root / wheel.filename
                self.wheels[name].write_bytes(wheel.content)
                self.installed(*_required(name))

    def context(self, cache: Path | None = None, environ: Mapping[str, str] = {}) -> CompileContext:
        return CompileContext(
            root=self.root / "app",
            target=TARGET,
            builder=self._builder,
            resolve=self._resolver(Path()),
            resolve_for=self._resolver,
            scope="",
            locate=lambda artifacts: [self._file(each) for each in artifacts],
            environ={**ISOLATED, **environ},
            exclude=(),
            network=frozenset(),
            cache=Cache(cache or self.root / "cache"),
            threads=3,
            progress=self.notes,
        )

    def obtain(self, *artifacts: Artifact, **options: object) -> list[FetchedFile]:
        return self.obtained(*artifacts, **options)[0]

    def obtained(self, *artifacts: Artifact, **options: object) -> tuple[list[FetchedFile], list[CompiledWheel]]:
        return obtain(artifacts, self.context(**options))  # type: ignore[arg-type]

    def _resolver(self, directory: Path) -> Resolve:
        def resolve(requirements: Sequence[str]) -> Sequence[Artifact]:
            self.resolved.append((directory, tuple(requirements)))
            names = dict.fromkeys(each for text in requirements for each in self._closure(text))
            return [self.sources[name] if name in self.sources else self.artifact(name) for name in names]

        return resolve

    def artifact(self, name: str) -> Artifact:
        if name not in self.wheels:
            raise LockError(f"no solution found for {name}")
        path = self.wheels[name]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Artifact(name=name, version=path.name.split("-")[1], filename=path.name, hashes={"sha256": digest})

    def _file(self, artifact: Artifact) -> FetchedFile:
        path = self.wheels[artifact.name]
        return FetchedFile.at(path, artifact, f"sha256:{artifact.hashes['sha256']}")

    def _closure(self, name: str) -> list[str]:
        """The package, and all that are installed for it."""
        if name != "hatchling":
            return [name]
        found, pending = [], [name]
        while pending:
            if (each := pending.pop()) not in found:
                found.append(each)
                pending += _required(each)
        return found

    def _builder(self) -> Builder:
        raise EngineError("no container engine answers", place=os.devnull)


def _required(name: str) -> list[str]:
    requirements = map(Requirement, importlib.metadata.requires(name) or ())
    return [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]


@dataclass(frozen=True)
class _Wheel:
    filename: str
    content: bytes


@functools.cache
def _installed(name: str) -> _Wheel:
    """A wheel of an installed package with its bytecode, since backends are started several times for each build."""
    found = importlib.metadata.distribution(name)
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for path in found.files or ():
            if ".." in path.parts or path.suffix == ".pyc" or ".dist-info" in path.parts[0]:
                continue
            source = Path(str(found.locate_file(path)))
            files[path.as_posix()] = source.read_bytes()
            if path.suffix == ".py" and "tests" not in path.parts:
                compiled = Path(importlib.util.cache_from_source(path.as_posix()))
                with contextlib.suppress(py_compile.PyCompileError):
                    py_compile.compile(str(source), f"{scratch}/x.pyc", doraise=True, invalidation_mode=_UNCHECKED)
                    files[compiled.as_posix()] = Path(scratch, "x.pyc").read_bytes()
        groups = {each.group: "" for each in found.entry_points}
        for each in found.entry_points:
            groups[each.group] += f"{each.name} = {each.value}\n"
        wheel = make_wheel(
            Path(scratch),
            name.replace("-", "_"),
            found.version,
            files,
            metadata=f"Metadata-Version: 2.1\nName: {name}\nVersion: {found.version}\n"
            + "".join(f"Requires-Dist: {each}\n" for each in _required(name)),
            entry_points="".join(f"[{group}]\n{points}" for group, points in groups.items()),
            method=zipfile.ZIP_STORED,
        )
        return _Wheel(wheel.name, wheel.read_bytes())
