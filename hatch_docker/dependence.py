"""What a build depended on: the files, and the answers of registries and the engine; for its stamp."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from hatch_docker.errors import SourceError
from hatch_docker.image.bytecode.labels import is_code
from hatch_docker.image.report import Built
from hatch_docker.index.artifact import SourceTree
from hatch_docker.index.pip_config import configuration_files as pip_files
from hatch_docker.index.tool_settings import ca_file_of
from hatch_docker.index.uv_config import configuration_files as uv_files
from hatch_docker.index.workspace import find_workspace, members
from hatch_docker.locks.formats import find_requirement_files
from hatch_docker.locks.model import read_text
from hatch_docker.oci.registry.documents import ACCEPT
from hatch_docker.plan import ImagePlan, Plan
from hatch_docker.project.model import Reads
from hatch_docker.services import Services
from hatch_docker.stamps.questions import images_in_engine
from hatch_docker.stamps.repository import commit_files, has_commit, tag_folders, tracking_files
from hatch_docker.stamps.values import Asked, Inputs
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.patterns import regex

# Of each directory above, too: settings, and what is ignored.
_ABOVE = ("pyproject.toml", "uv.toml", ".gitignore", ".hgignore")
# Bases that are files of this machine.
_FILES = frozenset(("oci", "oci-archive", "docker-archive"))
# The directories that uv.lock, pylock.toml and a resolution name.
_NAMED = regex(r"""\b(?:directory|editable|path|virtual) = "([^"\n]+)"|"([^"\n]+)" = "(?:sha256:|")""")
# The outputs whose results a stamp can check.
_CHECKED = frozenset(("archive", "load", "push"))
_DAEMON = "docker-daemon"
# The end of a version that has the day of the build: of hatch-vcs, if there are changes that are not committed.
_DATED = regex(r"[+.]d[0-9]{8,14}$")


def project_inputs(
    root: Path, reads: Reads, *, home: Path, output: Path, cache: Path, environ: Mapping[str, str]
) -> Inputs:
    """The files that are known before the project at `root` is read; builds write to `output` and `cache`."""
    root = root.absolute()
    above = [str(parent / name) for parent in root.parents for name in _ABOVE]
    tracked = tracking_files(str(root), str(home), environ) if reads.is_tracked else ()
    return Inputs(
        directories=[str(root)],
        folders=[*tag_folders(str(root))] if reads.is_tracked else [],
        paths=[*above, *commit_files(str(root)), *tracked],
        besides=[str(cache.absolute())],
        output=str(output.absolute()),
    )


def has_stamp(plan: Plan, built: Built, services: Services, outputs: Collection[str]) -> bool:
    """Whether all that a build with these outputs depends on can be known."""
    if not _CHECKED.issuperset(outputs) or _lacks_bytecode(plan, built):
        return False
    if plan.config.output.created == "now" and not services.host.environ.get("SOURCE_DATE_EPOCH"):
        return False
    if not _is_commit_known(plan, services) or _DATED.search(plan.project.version):
        return False
    builder = plan.config.compiling.builder
    sources = [each for image in plan.images for each in image.locked.artifacts if not each.is_wheel]
    if builder and builder.transport == _DAEMON and sources:
        return False
    return all(_is_closed(each.tree, each.name) for each in sources if each.tree and each.tree.is_local)


def _is_commit_known(plan: Plan, services: Services) -> bool:
    """Whether files say which commit the build recorded. If Git refused to read one, or is missing, it may not next."""
    if "GIT_DIR" in services.host.environ:
        return False
    return bool(plan.project.revision) or not has_commit(str(plan.project.root))


def _lacks_bytecode(plan: Plan, built: Built) -> bool:
    """Whether nothing could compile: another time something may."""
    layers = [made for image in built.images for made in image.layers]
    return plan.config.packages.bytecode is not False and not any(is_code(made.contents) for made in layers)


def all_inputs(inputs: Inputs, plan: Plan, services: Services, *, written: Iterable[Path]) -> Inputs:
    """The same, and the files that a plan names; the build has `written` some itself."""
    artifacts = [each for image in plan.images for each in image.locked.artifacts]
    trees = [str(_directory(each.tree)) for each in artifacts if each.tree and each.tree.is_local]
    named = [*_paths(plan, services), *_ignore_paths(trees)]
    paths = [os.path.abspath(path) for path in named]  # noqa: PTH100 (links are kept)
    folders = [path for path in paths if os.path.isdir(path)]  # noqa: PTH112 (these are strings)
    return replace(
        inputs,
        directories=[*dict.fromkeys([*inputs.directories, *trees])],
        folders=[*inputs.folders, *folders],
        paths=[*dict.fromkeys([*inputs.paths, *(path for path in paths if path not in folders)])],
        besides=[*inputs.besides, *(os.path.abspath(path) for path in written)],  # noqa: PTH100
    )


def editable_files(reads: Reads, built: Built, inputs: Inputs) -> dict[str, str]:
    """The files that nothing but the members of the project's wheel depends on: these, by absolute path."""
    named = {*inputs.paths, *inputs.besides}
    below = tuple(f"{each}{os.sep}" for each in (*inputs.directories[1:], *inputs.folders))
    members = built.images[0].editable
    return {
        path: member
        for path, member in reads.copies().items()
        if member in members and path not in named and not path.startswith(below)
    }


def asked(plan: Plan, built: Built, services: Services, outputs: Collection[str], engine: str) -> Asked:
    """The answers of registries and the engine at `engine`. Raises EngineError."""
    pushed = {str(each): built.digest for each in built.references} if "push" in outputs else {}
    names = [built.references[0].familiar] if "load" in outputs else []
    if plan.config.base.spec.transport == _DAEMON:
        names.append(plan.config.base.spec.value)
    return Asked(
        tags=dict(services.registry.answers),
        pushed=pushed,
        images=images_in_engine(names, engine, services.host.environ),
        engine=engine,
        network={
            "ca-file": ca_file_of(services.host.environ),
            "mirrors": dict(services.registry.mirrors),
            "insecure": sorted(services.registry.insecure),
            "accept": ACCEPT,
        },
    )


def valid_until(services: Services) -> int:
    """The time, in nanoseconds since the epoch, from which a build asks Debian's archive for news."""
    archives = services.archives
    received = [when for seen in archives.seen.values() for _, when in seen.values()]
    if not received:
        return 2**63 - 1
    age = archives.now - min(received)
    return time.time_ns() + int((archives.fresh - age).total_seconds() * 10**9)


def _paths(plan: Plan, services: Services) -> Iterator[Path]:
    """Files and directories that the configuration and the lock name, which may be outside of the project."""
    root, config, host = plan.project.root, plan.config, services.host
    compiling, packages = config.compiling, config.os_packages
    named = [compiling.build_constraints, packages.ca_certificates, packages.debian_keyring]
    named += [each.source for each in config.output.extra_files]
    if config.base.spec.transport in _FILES:
        named.append(config.base.spec.value)
    builder = compiling.builder
    if builder and builder.transport in _FILES:
        named.append(builder.value)
    yield from (root / each for each in named if each)
    # The settings of indexes decide what is resolved, build requirements too.
    yield from pip_files(host.environ, host.home)
    yield from uv_files(host.environ, host.home)
    for image in plan.images:
        yield from _lock_paths(image, services, config.packages.lock)


def _lock_paths(image: ImagePlan, services: Services, configured: str) -> Iterator[Path]:
    locked = image.locked
    if locked.path:
        yield locked.path
        yield from _named_files(locked.path)
    files = find_requirement_files(services.root, configured)
    yield from files
    listed = [each for each in (*files, locked.path) if each and each.suffix == ".txt"]
    if listed:
        from hatch_docker.locks.readers.requirements_file import included_files

        yield from (each for file in listed for each in included_files(file))
    if workspace := find_workspace(services.root):
        yield from (folder / "pyproject.toml" for folder in members(workspace).values())


def _ignore_paths(trees: Iterable[str]) -> Iterator[Path]:
    """The files above local directories by which their backends may leave files out; they need not exist."""
    from hatch_docker.compiling.directory import ignore_files

    yield from (path for tree in trees for _, path in ignore_files(Path(tree)))


def _named_files(lock: Path) -> Iterator[Path]:
    """Files of the directories that a lock names, also of those that are no packages: it is stale if these change."""
    from hatch_docker.locks.inputs import metadata_files

    names = {name for found in _NAMED.findall(read_text(lock)) for name in found if name}
    folders = (lock.parent / name for name in sorted(names))
    yield from (file for folder in folders if folder.is_dir() for file in metadata_files(folder))


def _directory(tree: SourceTree) -> Path:
    from hatch_docker.compiling.trees import tree_path

    return tree_path(tree)


def _is_closed(tree: SourceTree, name: str) -> bool:
    from hatch_docker.compiling.directory import read_directory

    try:
        return read_directory(_directory(tree), name).is_closed
    except SourceError:
        return False
