"""The metadata of a local directory, as its build backend makes it."""

from __future__ import annotations

from collections.abc import Sequence

from hatch_docker.compiling.compile import obtain
from hatch_docker.compiling.context import CompileContext
from hatch_docker.compiling.directory import read_directory
from hatch_docker.compiling.dist_info import BuiltMetadata
from hatch_docker.compiling.trees import building, first_lock, tree_cache, tree_key, tree_path
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.download import FetchedFile


def build_metadata(artifact: Artifact, context: CompileContext) -> BuiltMetadata:
    """The metadata of a local directory, whose `name` may be empty; the wheel is built only if the backend needs that.

    It is cached if it depends on nothing but the directory's files. Raises SourceError for a directory without a
    project, CompileError if its backend fails.
    """
    if artifact.tree is None or not artifact.tree.is_local:
        raise TypeError(f"{artifact.name} is not a local directory")
    directory = read_directory(tree_path(artifact.tree), artifact.name or "the project")
    key, cache = tree_key(artifact, directory, context), tree_cache(context)
    if known := cache.metadata(key):
        return known

    def requirements(artifacts: Sequence[Artifact]) -> Sequence[FetchedFile]:
        return obtain(artifacts, context, within=(artifact.name,))[0]

    with building(artifact, directory, context, requirements, metadata=True) as build:
        metadata, lock = build.metadata(first_lock(artifact, build, cache.lock(key), context))
        cache.store_metadata(key, lock, metadata)
    return metadata
