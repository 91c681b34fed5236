"""The project's own wheel, built by hatchling in this process; its sdist, if the wheel must be built in the builder."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from hatchling.builders.plugin.interface import BuilderInterface
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.utils import InvalidWheelFilename

from hatch_docker.errors import HatchDockerError
from hatch_docker.index.download import FetchedFile, own_file
from hatch_docker.project.model import Reads
from hatch_docker.stamps.repository import is_top
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.progress import Progress
from hatch_docker.support.scratch import diverted, temporary_directory
from hatch_docker.support.sources import LEFT_OUT
from hatch_docker.support.streams import file_digest

# Part of every cache key: raise it if builds change.
_FORMAT = 1
# Tables of the wheel target that add files by other ways than selection.
_MORE_FILES = ("extra-metadata", "force-include", "sbom-files", "shared-data", "shared-scripts")


# The characters of a failure that are shown in one line.
_LONGEST = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refused:
    """Why there is no wheel of this machine; `error` is that of its build."""

    reason: str
    error: HatchDockerError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnBuild:
    """The build of the project of a hatchling builder."""

    builder: BuilderInterface[Any, Any]
    cache: Cache
    progress: Progress

    @contextmanager
    def distribution(self, compiled: bool) -> Iterator[FetchedFile]:
        """The wheel; the sdist if the wheel is not pure, cannot be built here, or `compiled` is set.

        Which of them is remembered, so that build hooks run once in later builds. A wheel without hooks is not built
        again while its files are the same. Raises HatchDockerError if the build fails.
        """
        with temporary_directory() as folder:
            if reason := "it is named in no-binary" if compiled else self._impure():
                yield self._file(self._build(folder, SdistBuilder), reason)
                return
            if known := self._known():
                yield known
                return
            from hatch_docker.compiling.directory import binaries

            before = binaries(Path(self.builder.root))
            made = self._wheel(folder)
            if isinstance(made, FetchedFile):
                yield self._stored(made)
                return
            for path in binaries(Path(self.builder.root)) - before:
                # The build left it beside the sources, and it fits this machine.
                path.unlink(missing_ok=True)
            yield self._sdist(folder, made)
            # The builder could build it: a mistake in a hook would have failed there, too.
            self.cache.put("own-impure", self._configuration, {"reason": made.reason})

    def _wheel(self, folder: Path) -> FetchedFile | _Refused:
        """The wheel, or why it must be built in the builder: it is not pure, or its build hooks fail."""
        from hatch_docker.compiling.local import compiled_sign
        from hatch_docker.compiling.repack import portable

        try:
            wheel = self._build(folder, WheelBuilder)
            sign = compiled_sign(wheel)
        except InvalidWheelFilename as error:
            raise HatchDockerError(f"the project's own wheel has an invalid name: {error}") from None
        except HatchDockerError as error:
            if not self._has_hooks():
                raise
            reason = f"its build on this machine failed ({' '.join(error.message.split())[:_LONGEST]})"
            self.progress.note(f"{self._name}: {reason}")
            return _Refused(reason=reason, error=error)
        return _Refused(reason=f"its wheel is not pure ({sign})") if sign else self._file(portable(wheel), "")

    def _sdist(self, folder: Path, refused: _Refused) -> FetchedFile:
        """The sdist; if it cannot be built either, the error of the wheel is the one to show."""
        try:
            return self._file(self._build(folder, SdistBuilder), refused.reason)
        except HatchDockerError as error:
            raise (refused.error or error) from None

    def _build(self, folder: Path, kind: type[SdistBuilder | WheelBuilder]) -> Path:
        builder = self._other(kind)
        try:
            # Where hatchling writes an archive first.
            with diverted(folder):
                (path,) = builder.build(directory=str(folder), versions=["standard"])
        except HatchDockerError:
            raise
        except (Exception, SystemExit) as error:  # a build hook may raise anything
            name = builder.PLUGIN_NAME
            raise HatchDockerError(
                f"the project's own {name} cannot be built: {error or type(error).__name__}",
                hint=f"'hatch build -t {name}' fails in the same way",
            ) from None
        return Path(path)

    def _other(self, kind: type[SdistBuilder | WheelBuilder]) -> SdistBuilder | WheelBuilder:
        builder = self.builder
        other = kind(builder.root, plugin_manager=builder.plugin_manager, metadata=builder.metadata, app=builder.app)
        # Our own hook would make the image of this wheel, too.
        other.config.hook_config.pop(builder.PLUGIN_NAME, None)
        return other

    def _has_hooks(self) -> bool:
        return bool(self._other(WheelBuilder).config.hook_config)

    @property
    def _name(self) -> str:
        return str(self.builder.metadata.core.name)

    def _file(self, path: Path, reason: str) -> FetchedFile:
        file = own_file(path, self._name, str(self.builder.metadata.version))
        return replace(file, artifact=replace(file.artifact, reason=reason))

    @property
    def _configuration(self) -> str:
        """The cache key of how the project is built: its directory and its build configuration."""
        hooks = self._other(WheelBuilder).config.hook_config
        scripts = [_digest(Path(self.builder.root, name)) for name in _scripts(hooks)]
        system = self.builder.metadata.config.get("build-system")
        return _json([_FORMAT, str(self.builder.root), system, self._tables, hooks, scripts])

    @property
    def _tables(self) -> list[Any]:
        """The build configuration, without that of other targets."""
        common = {key: value for key, value in self.builder.build_config.items() if key != "targets"}
        return [common, *(self._other(kind).target_config for kind in (WheelBuilder, SdistBuilder))]

    def _impure(self) -> str:
        """Why an earlier build took the sdist; empty if none did."""
        document = self.cache.get("own-impure", self._configuration) if self._has_hooks() else None
        return str(document.get("reason", "")) if document else ""

    def _known(self) -> FetchedFile | None:
        """The wheel of an earlier build from the same files."""
        key = self._wheel_key()
        document = self.cache.get("own-wheels", key) if key else None
        path = self.cache.blob(str(document.get("digest"))) if document else None
        if document is None or path is None:
            return None
        return self._named(path, str(document.get("filename")))

    def _stored(self, file: FetchedFile) -> FetchedFile:
        key = self._wheel_key()
        if not key:
            return file
        with self.cache.temporary() as partial_file:
            with self.cache.open(partial_file) as out:
                out.write(file.path.read_bytes())
            path = self.cache.adopt(partial_file, file.digest)
        self.cache.put("own-wheels", key, {"filename": file.artifact.filename, "digest": file.digest})
        return self._named(path, file.artifact.filename)

    def _named(self, path: Path, filename: str) -> FetchedFile:
        file = self._file(path, "")
        return replace(file, artifact=replace(file.artifact, filename=filename))

    def _wheel_key(self) -> str:
        """The cache key of the wheel: all that it is built from; empty if that is not known."""
        try:
            return self._inputs()
        except Exception:  # the build says what is wrong
            return ""

    def _inputs(self) -> str:
        builder = self._other(WheelBuilder)
        metadata, project = builder.metadata, builder.metadata.config.get("project", {})
        # The version is in the core metadata, wherever it comes from.
        if self._has_hooks() or {*project.get("dynamic", ())} - {"version"} or metadata.hatch.metadata.hook_config:
            return ""
        if _adds_files(builder):
            return ""
        files = [
            [file.distribution_path, os.access(file.path, os.X_OK), _digest(Path(file.path))]
            for file in builder.recurse_included_files()
        ]
        licenses = [[path, _digest(Path(builder.root, path))] for path in metadata.core.license_files]
        core = builder.config.core_metadata_constructor(metadata)
        return _json([_FORMAT, version_of("hatchling"), core, project, self._tables, sorted(files, key=str), licenses])


def reads_of(builder: BuilderInterface[Any, Any]) -> Reads | None:
    """What the metadata and the distribution of a hatchling project are made of; None if it may be anything.

    Raises TypeError, ValueError and OSError for a configuration that is not valid.
    """
    from hatch_docker.compiling.directory import leaves

    metadata = builder.metadata
    hooks = (
        builder.config.hook_config.keys() | WheelBuilder(builder.root, metadata=metadata).config.hook_config.keys(),
        metadata.hatch.metadata.hook_config.keys(),
    )
    dynamic = {*metadata.config.get("project", {}).get("dynamic", ())}
    built = {key: value for key, value in metadata.hatch.config.items() if key != "envs"}
    if any(each - {builder.PLUGIN_NAME} for each in hooks) or dynamic - {"version"} or leaves(built):
        return None
    added = [
        table[key] for table in _subtables(built) for key in (*_MORE_FILES, "artifacts", "include") if key in table
    ]
    if not LEFT_OUT.isdisjoint(re.split(r"[^\w.-]", json.dumps(added, default=str))):
        # It may add files that are not looked at.
        return None
    source = metadata.hatch.version.source_name if dynamic else "regex"
    if source == "vcs":
        # Whether the checkout is clean depends on files outside of the project otherwise.
        return Reads(is_tracked=True, files=partial(_files, builder)) if is_top(str(builder.root)) else None
    return Reads(files=partial(_files, builder), copies=partial(_copies, builder)) if source == "regex" else None


def _files(builder: BuilderInterface[Any, Any]) -> list[str]:
    """The files of the wheel, and those that its metadata quotes, by absolute path."""
    wheel = WheelBuilder(builder.root, metadata=builder.metadata)
    paths = [*(file.path for file in wheel.recurse_included_files()), *_quoted(builder)]
    return [os.path.abspath(Path(builder.root, path)) for path in paths]  # noqa: PTH100 (links are kept)


def _quoted(builder: BuilderInterface[Any, Any]) -> list[str]:
    """The files whose contents are in the core metadata, or beside it."""
    core = builder.metadata.core
    table = core.config.get("license")
    license_file = table.get("file", "") if isinstance(table, Mapping) else ""
    return [path for path in (core.readme_path, *core.license_files, license_file) if path]


def _copies(builder: BuilderInterface[Any, Any]) -> dict[str, str]:
    """The members of the wheel that are files as they are, by the absolute path of these; see `Reads`."""
    wheel, root = WheelBuilder(builder.root, metadata=builder.metadata), Path(builder.root)
    # Otherwise, a member has the time of its file.
    if not wheel.config.reproducible or _adds_files(wheel):
        return {}
    metadata, read = builder.metadata, [*_quoted(builder), "pyproject.toml"]
    if "version" in metadata.config.get("project", {}).get("dynamic", ()):
        read.append(str(metadata.hatch.version.config.get("path", "")))
    found: dict[str, list[tuple[str, str]]] = {}
    folders: dict[str, str] = {}
    for file in wheel.recurse_included_files():
        path, member = str(root / file.path), file.distribution_path.replace(os.sep, "/")
        folder, name = os.path.split(path)
        # Settings of tools are there.
        if folder == str(root) and not name.endswith(".py"):
            continue
        # Hatchling follows links of directories, so that a file may be several members.
        folders[folder] = folders.get(folder) or os.path.realpath(folder)
        found.setdefault(f"{folders[folder]}{os.sep}{name}", []).append((path, member))
    others = {os.path.realpath(root / each) for each in read if each}
    return dict(each[0] for real, each in found.items() if len(each) == 1 and real not in others)


def _adds_files(builder: BuilderInterface[Any, Any]) -> bool:
    return any(name in builder.target_config or name in builder.build_config for name in _MORE_FILES)


def _subtables(table: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A table, and all tables in it."""
    yield table
    for each in table.values():
        if isinstance(each, Mapping):
            yield from _subtables(each)


def _scripts(hooks: Mapping[str, Any]) -> list[str]:
    """The paths of the scripts of build hooks; a custom hook's is hatch_build.py by default."""
    named = {str(hook["path"]) for hook in hooks.values() if isinstance(hook, Mapping) and "path" in hook}
    return sorted({*named, "hatch_build.py"} if "custom" in hooks else named)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file)
    except OSError:
        return ""


def _json(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
