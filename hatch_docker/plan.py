"""The plan: every decision of a build, made before anything large is downloaded.

It needs manifests, indexes, and the base's layers if they are not cached: for the base `debian`, its packages. Wheels
and the packages on top of the base come later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from hatch_docker.base.additions import leftovers_to_prune
from hatch_docker.base.image import Base, open_base
from hatch_docker.base.planned import Additions, PlannedPackages, SystemFiles
from hatch_docker.base.target import is_supported
from hatch_docker.base.transports import BaseRequest, locate
from hatch_docker.config import (
    EVERY,
    BaseOptions,
    Config,
    Naming,
    created_time,
    expand_tags,
    reference,
)
from hatch_docker.errors import BaseError, ConfigError
from hatch_docker.image.layers import Budget, Demand, budget_of
from hatch_docker.index.access import NamedIndexes
from hatch_docker.index.artifact import Artifact
from hatch_docker.index.sources import read_sources
from hatch_docker.locks import InstallRequest
from hatch_docker.locks.check import applies
from hatch_docker.locks.locked import Locked, LockSource, read_artifacts
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform
from hatch_docker.project.model import Project
from hatch_docker.project.starts import check_start, script_of
from hatch_docker.services import Host, Services
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.progress import Progress
from hatch_docker.support.redaction import redact
from hatch_docker.support.several import for_each

if TYPE_CHECKING:
    from hatch_docker.compiling.dist_info import BuiltMetadata
    from hatch_docker.dpkg.lockfile import Selection

Lock = Callable[[InstallRequest, LockSource], Locked]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlan:
    """The decisions for one image and platform.

    `base` is the base image without its `additions`, such as OS packages. `request` says what is installed and for
    which Python, `locked` has the artifacts. `budget` divides `max-layers`.
    """

    platform: Platform
    base: Base
    additions: Additions
    request: InstallRequest
    locked: Locked
    budget: Budget

    @property
    def packages(self) -> PlannedPackages:
        """The OS packages that the base gets."""
        return self.additions.packages

    @property
    def selections(self) -> tuple[Selection, ...]:
        """The packages of the image that come from Debian's archive."""
        init = self.additions.system.init
        added = self.packages.selection, init.selection if init else None
        return (*self.base.selections, *(each for each in added if each))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The decisions of a build: those of the project, and an ImagePlan for each image and platform.

    `references` are the names of the image, empty if the project's version is not known. `created` is RFC 3339.
    `entrypoint` is what the image starts: a command, the name of a script, or None if it depends on the project's
    wheel, which may have a `__main__`. `directory` is where builds write to. `constraints` is the text of
    `build-constraints`.
    """

    project: Project
    config: Config
    created: str
    references: tuple[Reference, ...]
    entrypoint: tuple[str, ...] | str | None
    images: tuple[ImagePlan, ...]
    directory: Path
    constraints: str = field(default="", repr=False)

    @property
    def packages(self) -> frozenset[str]:
        """The normalized names of the Python packages that the images install, except the project."""
        return frozenset(each.name for image in self.images for each in image.locked.artifacts)


def plan(project: Project, config: Config, services: Services, *, directory: Path, lock: Lock = read_artifacts) -> Plan:
    """Decide what to build. `directory` is where builds write to; `lock` gives the artifacts of a project.

    Raises HatchDockerError if the image cannot be made.
    """
    constraints = config.compiling.build_constraints
    planned = Plan(
        project=project,
        config=config,
        created=created_of(project, config.output.created, services.host),
        references=references_of(project, config),
        entrypoint=entrypoint_of(project, config),
        constraints=constraints_text(services.root, constraints, config.place("build-constraints")),
        images=plan_images(project, config, services, directory=directory, lock=lock),
        directory=directory,
    )
    command = config.runtime.cmd if planned.entrypoint is None else planned.entrypoint
    for warning in check_start(project, command, planned.packages, config.place):
        services.progress.warn(warning)
    return planned


def plan_images(
    project: Project, config: Config, services: Services, *, directory: Path, lock: Lock = read_artifacts
) -> tuple[ImagePlan, ...]:
    """The images of a plan, one for each platform. They do not depend on the project's version. Raises as `plan`.

    Platforms have one lock: a project without one is resolved once for all.
    """
    certificates = services.authorities()
    wanted = base_request(project, config, services.host.platform)
    source = locate(wanted, services)
    platforms = {str(each): each for each in platforms_of(config.base, source.platforms, services)}
    request_for = partial(_install_requests(project, config, services), universal=len(platforms) > 1)
    locks = _lock_source(project, config, services, directory)

    def plan_image(platform: Platform, progress: Progress) -> ImagePlan:
        here = replace(services, progress=progress)
        base = open_base(replace(wanted, platform=platform), here, source)
        request = request_for(target=base.facts.python)
        packages, init = _os_packages(base, config, here), None
        if config.runtime.init:
            from hatch_docker.base.init import plan_init

            init = plan_init(base, config.base.spec, packages, here)
        locked = lock(request, replace(locks, progress=progress))
        named = {
            canonicalize_name(each.name) for each in request.requirements if applies(each, request.target, extra="")
        }
        required = {*named, *(each.name for each in locked.artifacts)}
        additions = Additions(
            pruned=leftovers_to_prune(config.base.prune, base, required),
            packages=packages,
            system=SystemFiles(init=init, certificates=certificates),
        )
        if absent := [name for name in config.base.prune or () if name not in additions.pruned]:
            where = config.place("prune-base")
            progress.note(f"{where}: {base.name} has no {' or '.join(absent)}, or only of its OS packages, which stay")
        return ImagePlan(
            platform=platform,
            base=base,
            additions=additions,
            request=request,
            locked=locked,
            budget=_budget(config, additions, locked.artifacts),
        )

    images = for_each(platforms, plan_image, services.progress)
    if chosen := [each for image in images for each in image.selections]:
        from hatch_docker.dpkg.lockfile import check_dates

        check_dates(chosen, services.archives.pins())
    return tuple(images)


def _os_packages(base: Base, config: Config, services: Services) -> PlannedPackages:
    if not config.os_packages.runtime_packages:
        return PlannedPackages()
    from hatch_docker.base.packages import plan_packages

    place = config.place("runtime-installer")
    return plan_packages(base, config.base.spec, config.os_packages, services, place=place)


def _budget(config: Config, additions: Additions, artifacts: Sequence[Artifact]) -> Budget:
    """How `max-layers` is divided. Raises ConfigError if it is too small."""
    # Whether a directory is a package is seen when it is read: until then, each counts.
    local = [each.tree is not None and each.tree.is_local for each in artifacts]
    demand = Demand(
        below=additions.layers,
        wheels=not all(local),
        local=any(local),
        extra=bool(config.output.extra_files),
        bytecode=config.packages.bytecode is not False,
    )
    return budget_of(config.output.max_layers, demand, config.place("max-layers"))


def platforms_of(
    options: BaseOptions, base_platforms: Callable[[], Sequence[Platform]], services: Services
) -> tuple[Platform, ...]:
    """The platforms to build for, sorted: those of the configuration, else that of this machine.

    EVERY stands for the `base_platforms` that wheels may exist for. Raises BaseError if there are none.
    """
    if options.platforms != EVERY:
        return tuple(sorted(options.platforms, key=str)) or (services.host.platform,)
    available = base_platforms()
    platforms = tuple(sorted(filter(is_supported, available), key=str))
    if others := [str(each) for each in available if each not in platforms]:
        services.progress.note(f"no wheels exist for {', '.join(others)}, which the base has too")
    if not platforms:
        raise BaseError("the base image has no platform that wheels exist for", hint="use another base")
    return platforms


def make_metadata(config: Config, services: Services, artifact: Artifact, requires_python: str) -> BuiltMetadata:
    """The metadata of the project's directory, whose Requires-Python may only be known from it.

    The first platform's base says which Python its build requirements are for, so that nothing of this machine decides
    their versions. Raises HatchDockerError if there is no base, or the backend fails.
    """
    from hatch_docker.compiling.context import open_context
    from hatch_docker.compiling.metadata import build_metadata
    from hatch_docker.locks.build_requirements import BuildResolver

    known = Project(root=Path(services.root), name="", version="", requires_python=requires_python)
    request = base_request(known, config, services.host.platform)
    source = locate(request, services)
    platform, *_ = platforms_of(config.base, source.platforms, services)
    base = open_base(replace(request, platform=platform), services, source)
    constraints = config.compiling.build_constraints
    text = constraints_text(services.root, constraints, config.place("build-constraints"))
    resolver = BuildResolver(
        target=base.facts.python,
        root=services.root,
        indexes=services.indexes(NamedIndexes()),
        constraints=services.root / constraints if text else None,
        constraints_text=text,
    )
    context = open_context(base, base, config.base.spec, config.compiling, resolver, services)
    return build_metadata(artifact, context)


def _install_requests(project: Project, config: Config, services: Services) -> Callable[..., InstallRequest]:
    """Makes the request for a `target`."""
    packages, host = config.packages, services.host
    index, from_environment = redact(packages.index_url), "index-url" in config.overridden
    return partial(
        InstallRequest,
        project=project.package_name,
        root=project.root,
        requires_python=project.requires_python,
        sources=read_sources(project.root, host.environ, project=project.package_name, home=host.home),
        index_url="" if from_environment else index,
        environment_index=index if from_environment else "",
        requirements=project.requirements(packages.extras, packages.dependency_groups),
        extras=frozenset(packages.extras),
        groups=frozenset(packages.dependency_groups),
    )


def _lock_source(project: Project, config: Config, services: Services, directory: Path) -> LockSource:
    return LockSource(
        root=services.root,
        configured=config.packages.lock,
        earlier=lock_path(project.normalized_name, directory),
        indexes=services.indexes,
        no_binary=frozenset(config.compiling.no_binary) - {project.package_name},
        progress=services.progress,
    )


def base_request(project: Project, config: Config, platform: Platform) -> BaseRequest:
    """The request for a project's base image."""
    return BaseRequest(
        spec=config.base.spec,
        platform=platform,
        python=config.base.python,
        requires_python=project.requires_python,
        place=config.place("python"),
    )


def created_of(project: Project, configured: str, host: Host) -> str:
    """The image's creation time, as RFC 3339; raises ConfigError for an invalid SOURCE_DATE_EPOCH."""
    return created_time(
        configured,
        source_date_epoch=host.environ.get("SOURCE_DATE_EPOCH"),
        commit_time=project.commit_time,
        now=host.now.timestamp(),
    )


def references_of(project: Project, config: Config) -> tuple[Reference, ...]:
    """The image's names, with tags; none if they need the project's version and that is not known yet.

    Raises ConfigError for a template without a value, and for an invalid tag or name.
    """
    naming = config.naming
    if naming.references:
        return naming.references
    needed = [tag for tag in naming.tags if "{version}" in tag]
    if needed and not project.version and project.has_version:
        return ()
    tags = expand_tags(
        naming.tags if project.version else [tag for tag in naming.tags if tag not in needed],
        version=project.version,
        name=project.normalized_name,
        git_sha=project.revision[:12],
        place=config.place("tags"),
    )
    return tuple(image_of(project, naming).with_tag(tag) for tag in tags)


def image_of(project: Project, naming: Naming) -> Reference:
    """The image's name without a tag: the configured one, else the project's. Raises ConfigError for an invalid one."""
    return naming.image or reference(project.normalized_name, "project.name")


def entrypoint_of(project: Project, config: Config) -> tuple[str, ...] | str | None:
    """What the image starts: the configured command, else the project's script or `start`.

    Raises ConfigError for several scripts.
    """
    if config.runtime.entrypoint is not None:
        return config.runtime.entrypoint
    # Like a `__main__`, a module of the project's files starts only if nothing else is configured.
    return script_of(project, config.place) or (project.start if config.runtime.cmd is None else None)


def lock_path(name: str, directory: Path) -> Path:
    """The file that the resolution of a project without a lock is written to."""
    return directory / f"pylock.{name}.toml"


def constraints_text(root: Path, configured: str, place: str) -> str:
    """The text of `build-constraints`; empty without one."""
    path = root / configured
    try:
        return path.read_text(encoding="utf-8") if configured else ""
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", "") or "it is not UTF-8 text"
        raise ConfigError([(place, f"{path} cannot be read: {problem}")]) from None
