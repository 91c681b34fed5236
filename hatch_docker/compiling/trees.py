"""Source trees become wheels: local directories, and commits of Git repositories.

The wheel decides: it is built on this machine, and if it is not pure, or cannot be built here, an sdist is made for the
builder instead. Code of a tree is as trusted as the project's own: the project or its lock names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hatch_docker.compiling.archive import pack
from hatch_docker.compiling.circles import check_circle
from hatch_docker.compiling.context import CompileContext
from hatch_docker.compiling.directory import POETRY, Directory, content_digest, copied, read_directory
from hatch_docker.compiling.git import Git, has_lfs, ignored_files, is_dirty
from hatch_docker.compiling.local import LocalBuild, compiled_sign
from hatch_docker.compiling.requirements import BuildLock, with_context
from hatch_docker.compiling.sdist import looks_compiled
from hatch_docker.compiling.tree_build import Attempt, DirectoryBuild, Obtain, made_here
from hatch_docker.compiling.tree_cache import TreeCache, TreeKey
from hatch_docker.compiling.wheel_cache import LOCAL
from hatch_docker.index.artifact import Artifact, SourceTree
from hatch_docker.index.client import local_path
from hatch_docker.index.download import FetchedFile
from hatch_docker.index.sources import read_sources
from hatch_docker.locks.uv import find_uv
from hatch_docker.support.atomic import is_writable, writing
from hatch_docker.support.dataclasses import asdict, dataclass, replace
from hatch_docker.support.logs import logging_to
from hatch_docker.support.redaction import redact
from hatch_docker.support.scratch import temporary_directory

# Build backends, as top-level modules, whose sdists take a compiler, or the repository.
_NO_SDIST = frozenset(("maturin", "mesonpy"))
_LOCKING = threading.Lock()
_LOCKS: dict[Path, threading.RLock] = {}
_ISOLATED = 'isolate = "container"'
# The hint if build requirements have no solution.
_UNSOLVED = "correct build-system.requires in its pyproject.toml, or build-constraints"


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltTree:
    """What was built from a tree: a wheel, or an sdist for the builder.

    For an sdist, `lock` has its build requirements, and `remember` records that it could be compiled.
    """

    file: FetchedFile
    lock: BuildLock | None = None
    remember: Callable[[], None] = _nothing


def tree_path(tree: SourceTree) -> Path:
    """The directory of a local tree."""
    return local_path(tree.url) / tree.subdirectory


def tree_place(tree: SourceTree, root: Path) -> str:
    """A tree in messages and results: its path relative to the project in `root`, or the URL of its repository."""
    if not tree.is_local:
        return redact(tree.url)
    path = tree_path(tree)
    with contextlib.suppress(ValueError):  # another drive
        return Path(os.path.relpath(path, root)).as_posix()
    return str(path)


def is_package(artifact: Artifact) -> bool:
    """Whether a package is installed: a directory may say that only its dependencies are. Raises SourceError."""
    directory = _local(artifact) if artifact.tree else None
    return directory is None or directory.is_package


def describe_directories(artifacts: Sequence[Artifact], context: CompileContext) -> str:
    """The local directories among artifacts, with whether Git says that they have changes; empty if there are none.

    The project's own directory is not listed.
    """
    named = []
    for each in artifacts:
        if each.tree and each.tree.is_local and tree_path(each.tree) != context.root:
            dirty = ", with changes that are not committed" if is_dirty(tree_path(each.tree), context.environ) else ""
            named.append(f"{each.name} ({tree_place(each.tree, context.root)}{dirty})")
    return ", ".join(named)


def build_tree(artifact: Artifact, context: CompileContext, obtain: Obtain) -> BuiltTree | None:
    """Build one source tree; None for a directory that is not a package (`tool.uv.package = false`).

    `obtain` gives the wheels of build requirements. Raises SourceError for a tree that is gone, CompileError if neither
    a wheel nor an sdist can be built.
    """
    directory = _local(artifact)
    if directory is not None and not directory.is_package:
        context.progress.note(f"{artifact.name} has tool.uv.package = false: only its dependencies are installed")
        return None
    key, cache = tree_key(artifact, directory, context), tree_cache(context)
    if known := _known(artifact, directory, key, context):
        return BuiltTree(file=known, lock=cache.lock(key))
    with _opened(artifact, directory, context) as opened, building(artifact, opened, context, obtain) as build:
        made = _Build(artifact=artifact, key=key, cache=cache, context=context, build=build)
        lock = first_lock(artifact, build, cache.lock(key), context)
        reason = _compiled(artifact, opened, context) or cache.impure(key)
        if reason and directory is None:
            # Next time, this is known before the commit is opened.
            cache.mark_impure(key, reason)
        return made.sdist(lock, reason) if reason else made.wheel(lock)


def cached_tree(artifact: Artifact, context: CompileContext) -> FetchedFile | None:
    """What `build_tree` would take from the cache: a wheel or an sdist. Nothing is built or fetched."""
    if not is_package(artifact):
        return None
    directory = _local(artifact)
    return _known(artifact, directory, tree_key(artifact, directory, context), context)


def _local(artifact: Artifact) -> Directory | None:
    """The local directory; None for a commit."""
    tree = tree_of(artifact)
    return read_directory(tree_path(tree), artifact.name) if tree.is_local else None


def first_lock(
    artifact: Artifact, build: DirectoryBuild, known: BuildLock | None, context: CompileContext
) -> BuildLock:
    """The build lock of an earlier build, or one of `build-system.requires`. Raises CompileError for a circle."""
    check_circle(build.directory.path, artifact.name, context.environ)
    return known or BuildLock(requirements=tuple(build.resolve(build.directory.system.requires)))


def _compiled(artifact: Artifact, directory: Directory | None, context: CompileContext) -> str:
    """Why a tree is built in the builder without an attempt on this machine, whose compilers must not shape an image.

    Empty if only an attempt shows whether it must be.
    """
    if artifact.name in context.no_binary:
        return "it is named in no-binary"
    if _is_foreign(artifact, context):
        return _ISOLATED
    sign = looks_compiled((), directory.system.requires, directory.system.backend) if directory else ""
    return sign and f"it is compiled ({sign})"


def _is_foreign(artifact: Artifact, context: CompileContext) -> bool:
    """Whether the code of a tree may not run here: local directories are as trusted as the project itself."""
    return context.only_in_builder and not tree_of(artifact).is_local


def _known(
    artifact: Artifact, directory: Directory | None, key: TreeKey, context: CompileContext
) -> FetchedFile | None:
    cache = tree_cache(context)
    reason = _compiled(artifact, directory, context) or cache.impure(key)
    return cache.sdist(key, replace(artifact, reason=reason)) if reason else cache.wheel(key, artifact)


def tree_of(artifact: Artifact) -> SourceTree:
    """The source tree of an artifact that has one."""
    if artifact.tree is None:
        raise TypeError(f"{artifact.name} is a file")
    return artifact.tree


def tree_key(artifact: Artifact, directory: Directory | None, context: CompileContext) -> TreeKey:
    """The key of a source tree, given its directory if it is local."""
    if directory is None:
        tree = tree_of(artifact)
        # A commit never changes.
        identity = f"{tree.commit} {tree.subdirectory}{' lfs' if has_lfs(context.environ) else ''}"
        # Its sdist is another one than that of its build backend.
        identity += " isolated" if context.only_in_builder else ""
        return TreeKey(configuration=identity, content=identity)
    identity = f"{directory.path.resolve()} {origin_scope(artifact, directory, context)}"
    where = hashlib.sha256(identity.encode()).hexdigest()
    content = content_digest(directory.path) if directory.is_closed else ""
    if content and directory.system.backend == POETRY:
        # It leaves out files that Git ignores, unless they are tracked.
        content += f" {ignored_files(directory.path, context.environ)}"
    return TreeKey(configuration=f"{where} {directory.configuration}", content=content)


def origin_scope(artifact: Artifact, directory: Directory | None, context: CompileContext) -> str:
    """A digest of what decides, besides its files, what a package from a directory or a commit is built with.

    The sources of a directory may be those of its workspace, which stand in another file.
    """
    if directory is None:
        tree = tree_of(artifact)
        return f"{tree.commit} {tree.subdirectory}"
    sources = read_sources(directory.path, context.environ, project="")
    required = {canonicalize_name(Requirement(text).name) for text in directory.system.requires}
    used = {name: [*map(asdict, found)] for name, found in sources.by_name.items() if name in required}
    indexes = [*map(asdict, sources.indexes)]
    return hashlib.sha256(json.dumps([used, indexes], default=str, sort_keys=True).encode()).hexdigest()


def tree_cache(context: CompileContext) -> TreeCache:
    """The cache of what is built from source trees."""
    return TreeCache(cache=context.cache, target=context.target, scope=context.scope, place=LOCAL)


@contextlib.contextmanager
def _opened(artifact: Artifact, directory: Directory | None, context: CompileContext) -> Iterator[Directory]:
    if directory is not None:
        yield directory
        return
    git = Git(environ=context.environ, cache=context.cache, progress=context.progress)
    with git.directory(tree_of(artifact), artifact.name) as path:
        yield read_directory(path, artifact.name)


def _alone(directory: Path) -> threading.RLock:
    """The lock of a directory: backends write to it, and the images of several platforms are made at once."""
    with _LOCKING:
        return _LOCKS.setdefault(directory, threading.RLock())


@contextlib.contextmanager
def building(
    artifact: Artifact, directory: Directory, context: CompileContext, obtain: Obtain, *, metadata: bool = False
) -> Iterator[DirectoryBuild]:
    """The build of a tree in its opened directory, with its log; `obtain` gives the wheels of build requirements.

    `metadata` says that this is what is built.
    """
    name, environ = artifact.name or directory.path.name, context.environ
    label = f"{name} {artifact.version}".rstrip()
    with (
        _alone(directory.path),
        temporary_directory() as folder,
        context.progress.task(*(("metadata", f"the metadata of {label}") if metadata else ("build", label))) as task,
        logging_to(context.cache.log_path(f"{label.replace(' ', '-')}-local"), task.output) as log,
    ):
        uv = find_uv(environ)
        # The wheel of a commit is cached, and must not depend on the environment.
        versions = tree_of(artifact).is_local
        local = LocalBuild(label=label, folder=folder, uv=uv, environ=environ, write=log.write, versions=versions)
        source = directory.path
        if directory.is_written and not is_writable(source):
            context.progress.note(f"{label}: its directory cannot be written to, so a copy is built")
            source = copied(source, folder / "source" / source.name)
        yield DirectoryBuild(
            name=artifact.name,
            place=str(context.root) if directory.path == context.root else tree_place(tree_of(artifact), context.root),
            directory=directory,
            source=source,
            target=context.target,
            build=local,
            log=log,
            resolve=with_context(context.resolve_for(directory.path), label, unsolved=_UNSOLVED),
            obtain=lambda artifacts: obtain(context.for_host(artifacts)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """The steps from an opened tree to what is installed, each of which is remembered."""

    artifact: Artifact
    key: TreeKey
    cache: TreeCache
    context: CompileContext
    build: DirectoryBuild

    def wheel(self, lock: BuildLock) -> BuiltTree:
        """The wheel, or an sdist if it is not pure or cannot be built here."""
        self.context.progress.note(f"{self.artifact.name}: building its wheel on this machine ({self.build.place})")
        attempt, clear = self.build.wheel(lock)
        if attempt.path is None and self.build.directory.is_declarative:
            raise self.build.failed(attempt)
        with made_here():
            sign = compiled_sign(attempt.path) if attempt.path else ""
            if attempt.path and not sign:
                return BuiltTree(file=self.cache.store_wheel(self.key, attempt.lock, self.artifact, attempt.path))
        clear()
        if sign:
            reason = f"its wheel is not pure ({sign})"
            self.cache.mark_impure(self.key, reason)
            return self.sdist(attempt.lock, reason)
        reason = f"its build on this machine failed ({attempt.last_line})"
        self.context.progress.note(f"{self.artifact.name}: {reason}; the log is {self.build.log.path}")
        # If the builder fails, too, the next build tries here again: the mistake may have been corrected.
        return self.sdist(attempt.lock, reason, partial(self.cache.mark_impure, self.key, reason), failed=attempt)

    def sdist(
        self,
        lock: BuildLock,
        reason: str,
        remember: Callable[[], None] = _nothing,
        *,
        failed: Attempt | None = None,
    ) -> BuiltTree:
        """An sdist for the builder, and `reason` says why: `failed` is the wheel's build if that failed."""
        sdist = self._packed(lock, failed)
        file = self.cache.store_sdist(self.key, lock, replace(self.artifact, reason=reason), sdist)
        self.context.wheels.mark_impure(file.digest, LOCAL)
        return BuiltTree(file=file, lock=lock, remember=remember)

    def _packed(self, lock: BuildLock, failed: Attempt | None) -> Path:
        """The sdist of the build backend; an archive of the directory's files if only a builder can make that."""
        directory, build = self.build.directory, self.build
        foreign = _is_foreign(self.artifact, self.context)
        if not foreign and directory.system.backend.partition(".")[0] not in _NO_SDIST:
            attempt = build.sdist(lock)
            if attempt.path:
                return attempt.path
            # Without something to compile, the builder has nothing that this machine lacks but another Python.
            helps = directory.looks_compiled or not directory.admits_this_python
            if directory.is_declarative or attempt.explanation or (failed and not helps):
                raise build.failed(failed or attempt)
            self.context.progress.note(f"{self.artifact.name}: its sdist cannot be built here ({attempt.last_line})")
        version = self.artifact.version or directory.version
        if foreign and version:
            _record_version(directory.path, self.artifact.name, version)
        return pack(directory.path, self.artifact.name, version, build.build.folder, self.context.environ)


def _record_version(checkout: Path, name: str, version: str) -> None:
    """Tell build backends that take the version from the repository, by the file that is in their sdists (PEP 643)."""
    path = checkout / "PKG-INFO"
    if not path.exists():
        with writing(path):
            path.write_text(f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n", encoding="utf-8")
