"""Read a directory that a wheel is built from: its build system, and what its wheel depends on."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from platform import python_version
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from hatch_docker.compiling.build_system import BuildSystem, read_build_system
from hatch_docker.compiling.sdist import looks_compiled
from hatch_docker.errors import SourceError
from hatch_docker.support import sources, toml
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex
from hatch_docker.support.streams import file_digest

POETRY = "poetry.core.masonry.api"
_PDM = "pdm.backend"
# Build backends that run no code of the directory and compile nothing unless its pyproject.toml says so, each with its
# name in an index, and its table below `tool`. Of setuptools this is not known: it runs setup.py, and plugins that are
# merely installed.
_DECLARATIVE = {
    "flit_core.buildapi": ("flit-core", ("flit",)),
    "hatchling.build": ("hatchling", ("hatch",)),
    _PDM: ("pdm-backend", ("pdm",)),
    POETRY: ("poetry-core", ("poetry",)),
    "uv_build": ("uv-build", ("uv", "build-backend")),
}
# Scripts that a backend runs although no configuration names them.
_SCRIPTS = ("setup.py", "pdm_build.py")
# Tables without influence on the files of a wheel. Poetry writes absolute paths of dependencies into its metadata only.
_HARMLESS = frozenset(("dev-dependencies", "envs", "group", "scripts", "source"))
# Keys of these tables that name code to run.
_CODE = frozenset(("build", "hooks", "custom-hook", "run-setuptools", "script"))
_BUILD_FILES = ("pyproject.toml", "hatch.toml", "setup.py", "setup.cfg")
_IGNORE_FILES = (".gitignore", ".hgignore")
# Extension modules and shared libraries: a wheel with one is not pure, even if its tags say so.
BINARY = regex(r".+\.(?:so|dylib|pyd)(?:\.[\d.]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A directory with a project to build.

    `is_declarative` says that a build runs no code of the directory: if it fails, a compiler would not help.
    `is_closed` says that, besides, the wheel depends on nothing but the directory's files, so that it can be cached by
    these. `is_package` is False if the project says that it is not to be installed (`tool.uv.package`).
    `configuration` is a digest of its build files. `version` and `requires_python` are those in `[project]`, empty
    without it.
    """

    path: Path
    system: BuildSystem
    is_declarative: bool
    is_closed: bool
    is_package: bool
    configuration: str
    version: str = ""
    requires_python: str = ""

    @property
    def admits_this_python(self) -> bool:
        """Whether the Python of this machine may run the project."""
        try:
            return SpecifierSet(self.requires_python).contains(python_version(), prereleases=True)
        except InvalidSpecifier:
            return True

    @property
    def is_written(self) -> bool:
        """Whether a build writes to the directory."""
        return not self.is_declarative or self.system.backend == _PDM

    @property
    def looks_compiled(self) -> bool:
        """Whether its files or its build system show something to compile."""
        paths = (path for path, _ in source_files(self.path))
        return bool(looks_compiled(paths, self.system.requires, self.system.backend))


def read_directory(path: Path, name: str) -> Directory:
    """Read the directory of the package `name`. Raises SourceError if there is nothing to build a wheel from."""
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "is gone"
        raise SourceError(
            f"the directory of {name} {what}", place=str(path), hint="restore it, or change its source and lock again"
        )
    files = {each: _content(path / each, name) for each in _BUILD_FILES}
    pyproject, setup = files["pyproject.toml"], files["setup.py"]
    if pyproject is None and setup is None:
        raise SourceError(
            f"the directory of {name} has neither a pyproject.toml nor a setup.py",
            place=str(path),
            hint="name the directory that has one of them, and lock again",
        )
    try:
        system = read_build_system(pyproject or b"")
        document = toml.loads((pyproject or b"").decode())
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{name} cannot be built: {error}", place=str(path / "pyproject.toml")) from None
    tables = _tables(document, system, files["hatch.toml"] or b"")
    code = any((path / script).exists() for script in _SCRIPTS)
    declarative = tables is not None and not code and not _names_code(tables[1:])
    return Directory(
        path=path,
        system=system,
        is_declarative=declarative,
        is_closed=declarative and tables is not None and not _is_dynamic(document) and not leaves(tables),
        is_package=_table(_table(document, "tool"), "uv").get("package") is not False,
        configuration=hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest(),
        version=str(_table(document, "project").get("version", "")),
        requires_python=str(_table(document, "project").get("requires-python", "")),
    )


def content_digest(directory: Path) -> str:
    """A digest of the files that a wheel is built from: their paths, modes and bytes.

    It contains the .gitignore files of the parents, too, which backends obey. Raises SourceError.
    """
    digest = hashlib.sha256()
    try:
        ignoring = [(label, path) for label, path in ignore_files(directory) if path.is_file()]
        for label, path in [*ignoring, *source_files(directory)]:
            executable = bool(path.stat().st_mode & stat.S_IXUSR)
            with path.open("rb") as file:
                digest.update(json.dumps([label, executable, file_digest(file)]).encode())
    except OSError as error:
        place = str(error.filename or directory)
        raise SourceError(f"a source file cannot be read: {error.strerror or error}", place=place) from None
    return digest.hexdigest()


def copied(directory: Path, copy: Path) -> Path:
    """Copy the source files of a directory to the new directory `copy`, in the same repository; returns `copy`.

    Links stay links if they are relative and lead to a file of the directory, so that Git sees no change. Raises
    SourceError.
    """
    root = directory.resolve()
    try:
        copy.mkdir(parents=True)
        for relative, path in source_files(directory):
            target = copy / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            link = path.is_symlink() and path.readlink()
            if link and not link.is_absolute() and path.resolve().is_relative_to(root):
                target.symlink_to(link)
            else:
                shutil.copyfile(path, target)
                target.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
        repository = directory / ".git"
        if repository.is_file():
            repository = directory / repository.read_text(encoding="utf-8").partition(":")[2].strip()
        if repository.is_dir():
            (copy / ".git").write_text(f"gitdir: {repository.resolve()}\n", encoding="utf-8")
    except OSError as error:
        place = str(error.filename or directory)
        raise SourceError(f"a source file cannot be copied: {error.strerror or error}", place=place) from None
    return copy


def binaries(directory: Path) -> frozenset[Path]:
    """The extension modules and shared libraries among the files of a directory."""
    try:
        return frozenset(path for _, path in source_files(directory) if BINARY.fullmatch(path.name))
    except OSError:
        return frozenset()


def source_files(directory: Path) -> Iterator[tuple[str, Path]]:
    """The source files below a directory, each with its relative path; see `support.sources`. Raises OSError."""
    return ((relative, Path(path)) for relative, path in sources.source_files(directory))


def _content(path: Path, name: str) -> bytes | None:
    """The content of a file; None if there is none."""
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise SourceError(f"{name} cannot be built: {error.strerror or error}", place=str(path)) from None


def _tables(document: Mapping[str, Any], system: BuildSystem, hatch_toml: bytes) -> list[Mapping[str, Any]] | None:
    """The tables that a declarative backend reads: `project` and its own; None for any other backend, and plugins."""
    name, keys = _DECLARATIVE.get(system.backend, ("", ()))
    others = {canonicalize_name(Requirement(text).name) for text in system.requires} - {name}
    if not name or system.backend_path or others:
        return None
    own = _table(document, "tool")
    for key in keys:
        own = _table(own, key)
    found = [own, _hatch(hatch_toml)] if name == "hatchling" else [own]
    return [
        _table(document, "project"),
        *({key: each for key, each in table.items() if key not in _HARMLESS} for table in found),
    ]


def _hatch(text: bytes) -> Mapping[str, Any]:
    """The content of a hatch.toml, which is `tool.hatch`; nothing if hatchling will refuse it."""
    try:
        return toml.loads(text.decode())
    except (ValueError, RecursionError):
        return {}


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key)
    return value if isinstance(value, Mapping) else {}


def _names_code(value: object) -> bool:
    """Whether a table of a build backend may name code to run."""
    if isinstance(value, Mapping):
        return any(_runs(key, each) or _names_code(each) for key, each in value.items())
    return isinstance(value, list) and any(map(_names_code, value))


def _runs(key: object, value: object) -> bool:
    # `build` of Hatch and PDM is a table of options, that of Poetry may be the name of a script.
    return key in _CODE and (key != "build" or not isinstance(value, Mapping) or "script" in value)


def _is_dynamic(document: Mapping[str, Any]) -> bool:
    return bool(_table(document, "project").get("dynamic")) or not _has_version(document)


def _has_version(document: Mapping[str, Any]) -> bool:
    poetry = _table(_table(document, "tool"), "poetry")
    return "version" in _table(document, "project") or "version" in poetry


def leaves(value: object) -> bool:
    """Whether a table names a path outside of the directory."""
    if isinstance(value, Mapping):
        return any(_is_outside(str(key), absolute=True) or leaves(each) for key, each in value.items())
    if isinstance(value, list):
        return any(map(leaves, value))
    return isinstance(value, str) and _is_outside(value, absolute=False)


def _is_outside(text: str, *, absolute: bool) -> bool:
    # A value that begins with a slash is a pattern; a key may be a path to include.
    parts = text.replace("\\", "/").split("/")
    return ".." in parts or "{root" in text or (absolute and (Path(text).is_absolute() or parts[0].startswith("~")))


def ignore_files(directory: Path) -> Iterator[tuple[str, Path]]:
    """The ignore files of the directories above, up to the root of the repository, each with a label.

    They need not exist.
    """
    for number, parent in enumerate([directory, *directory.resolve().parents]):
        if number:
            yield from ((f"{number} {name}", parent / name) for name in _IGNORE_FILES)
        if (parent / ".git").exists() or (parent / ".hg").exists():
            yield f"{number} exclude", parent / ".git" / "info" / "exclude"
            return
