"""What uv resolves: a pyproject.toml that is made of a request, and the project's own files for preferred versions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hatch_docker.errors import HatchDockerError, ResolveError
from hatch_docker.index.access import ResolverSettings
from hatch_docker.index.sources import NamedIndex, Source
from hatch_docker.index.uv_sources import list_of, read_document, table_of
from hatch_docker.index.workspace import find_workspace, members
from hatch_docker.locks.model import InstallRequest, may_apply
from hatch_docker.support import toml

# The name of the main index, for packages whose source is that.
_DEFAULT_INDEX = "hatch-docker-default"
# uv applies the sources of a project to what it requires itself, even if that is for no Python.
_NEVER = "python_full_version < '3'"


def write_pyproject(
    request: InstallRequest, resolver: ResolverSettings, folder: Path, others: Collection[str] = ()
) -> tuple[str, ...]:
    """A pyproject.toml with the requirements and their sources, in `folder`.

    The sources of the packages `others` (normalized names) apply, too, if something requires these.
    """
    names = {canonicalize_name(each.name) for each in request.requirements}
    others = sorted({*others} - names)
    chosen = [each for each in request.chosen_sources([*names, *others]) if may_apply(each, request.target)]
    _check_single_index(chosen)
    sources: dict[str, list[dict[str, Any]]] = {}
    for source in chosen:
        sources.setdefault(source.name, []).append(_entry(source))
    named = {each.name: each for each in request.sources.indexes if each.url}
    if any(each.kind == "index" and not each.value for each in chosen):
        named[_DEFAULT_INDEX] = NamedIndex(name=_DEFAULT_INDEX, url=resolver.default_url())
    requirements = sorted({str(each) for each in request.requirements}) + [f"{each}; {_NEVER}" for each in others]
    lines = [
        "[project]",
        f"name = {toml.inline(request.project or 'requirements')}",
        'version = "0"',
        f"dependencies = {toml.inline(requirements)}",
        "[tool.uv]",
        f"index = {toml.inline([_index(each) for each in named.values()])}",
        f"sources = {toml.inline(sources)}",
    ]
    path = folder / "pyproject.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return (str(path),)


def _check_single_index(chosen: Iterable[Source]) -> None:
    """Raise ResolveError for a package that patterns leave to several indexes: uv asks one, or all that there are."""
    by_name: dict[str, list[Source]] = {}
    for source in chosen:
        if source.kind == "index" and not (source.marker or source.extra or source.group):
            by_name.setdefault(source.name, []).append(source)
    for name, found in by_name.items():
        if len(found) > 1:
            names = " and ".join(each.index_name or "the default index" for each in found)
            raise ResolveError(
                f"{name} may come from {names}, and uv accepts one of them",
                place=found[0].place,
                hint="name it in include_packages of one, or lock with PDM (pdm lock)",
            )


def _index(index: NamedIndex) -> dict[str, Any]:
    """An index as an entry of `[[tool.uv.index]]`."""
    flags = {"default": index.default, "explicit": index.explicit}
    return {"name": index.name, "url": index.url, **flags, "format": "flat" if index.flat else None}


def _entry(source: Source) -> dict[str, Any]:
    """A source as an entry of `[tool.uv.sources]`."""
    entry: dict[str, Any] = {"marker": source.marker or None, "subdirectory": source.subdirectory or None}
    if source.kind == "index":
        return {**entry, "index": source.index_name if source.value else _DEFAULT_INDEX}
    if source.kind == "git":
        key, _, value = source.reference.partition("=")
        return {**entry, "git": source.value, **({key: value} if value else {})}
    if source.kind == "url":
        return {**entry, "url": source.value}
    directory = {"editable": source.editable, "package": source.package} if Path(source.value).is_dir() else {}
    return {**entry, "path": source.value, **directory}


def _is_static(project: Mapping[str, Any], request: InstallRequest) -> bool:
    """Whether `[project]` has the requirements as core metadata would (PyPA: `dynamic`)."""
    dynamic = list_of(project.get("dynamic"))
    if not project or "dependencies" in dynamic or (request.extras and "optional-dependencies" in dynamic):
        return False
    try:
        optional = project.get("optional-dependencies", {}).values()
        for text in [*project.get("dependencies", ()), *(each for listed in optional for each in listed)]:
            Requirement(text)
    except (InvalidRequirement, AttributeError, TypeError):
        # Hatch's context formatting, such as {root:uri}.
        return False
    return True


def whole_project(request: InstallRequest) -> tuple[str, ...]:
    """The arguments for all extras, groups and workspace members; empty if nothing else than the request is there."""
    own = request.root.absolute()
    try:
        workspace = find_workspace(own)
        roots = sorted(members(workspace).values()) if workspace else [own]
        documents = {root: read_document(root) for root in (own, *roots)}
    except HatchDockerError:
        return ()
    if request.sources.tool not in ("", "tool.uv") or not _is_static(table_of(documents[own], "project"), request):
        return ()
    parts = [
        *table_of(documents[own], "dependency-groups"),
        *table_of(documents[own], "project", "optional-dependencies"),
    ]
    if len(roots) == 1 and {canonicalize_name(each) for each in parts} <= request.groups | request.extras:
        return ()
    files = [str(root / "pyproject.toml") for root in roots]
    names = [
        f"{file}:{name}"
        for file, root in zip(files, roots, strict=True)
        for name in sorted(table_of(documents[root], "dependency-groups"))
    ]
    return (*files, *(option for name in names for option in ("--group", name)), "--all-extras")
