"""What images are made in and on: the base, its OS packages, and the workshop where wheels are compiled for it."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from hatch_docker.base.image import Base, facts_of, open_base
from hatch_docker.base.target import TargetPython
from hatch_docker.compiling.builder import Builder, local_name, log_path, open_builder
from hatch_docker.compiling.compile import CompileContext
from hatch_docker.config import Config
from hatch_docker.dpkg.debian_image import packages_request, with_debian_packages
from hatch_docker.dpkg.lockfile import Selection
from hatch_docker.dpkg.package_sets import ASSUME_INSTALLED
from hatch_docker.dpkg.provide import Request
from hatch_docker.errors import ConfigError, DebianError, DependencyError, PackageError
from hatch_docker.index.access import Indexes, ResolverSettings
from hatch_docker.locks import InstallRequest
from hatch_docker.locks.locked import Locked, artifacts_of, resolve_alone
from hatch_docker.locks.uv import find_uv
from hatch_docker.oci.image import Image
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.os_packages import install
from hatch_docker.project.model import Project
from hatch_docker.services import Machine
from hatch_docker.support.http import redact
from hatch_docker.support.threads import once

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VENV = "app/.venv"


def base_of(requires_python: str, config: Config, machine: Machine) -> Base:
    """The base image of a project that asks for these Pythons; raises BaseError where none can carry it."""
    return open_base(
        config.base,
        python=config.python,
        requires_python=requires_python,
        platform=next(iter(config.platforms), machine.platform),
        venv=VENV,
        places=machine.places,
        threads=machine.threads,
        progress=machine.progress,
    )


def with_packages(base: Base, config: Config, machine: Machine) -> tuple[Base, list[MadeLayer]]:
    """The base with the facts that its OS packages (`runtime-packages`) make true, and the layer that they are.

    On a base of Debian's they are laid out here, unless `runtime-installer` says `engine`: then, and on any other base,
    its own package manager installs them. Raises PackageError for packages that cannot be installed, DebianError where
    Debian's archive does not give them, EngineError where an engine is needed and none answers.
    """
    if not config.runtime_packages:
        return base, []
    request = runtime_request(base, config)
    image, made, selection = _laid_out(base, request, config, machine) if request else _installed(base, config, machine)
    selections = (*base.selections, *filter(None, (selection,)))
    facts = facts_of(image, VENV, machine.places.cache, machine.threads)
    return replace(base, facts=facts, selections=selections), [made] if made else []


def runtime_request(base: Base, config: Config) -> Request | None:
    """Which packages out of Debian's archive the base gets; None where it gets none, or an engine installs them.

    Raises PackageError where they cannot come as the project wants them to.
    """
    if not config.runtime_packages or not _is_laid_out(base, config):
        return None
    return packages_request(
        config.runtime_packages,
        assume_installed=ASSUME_INSTALLED if config.base.transport == "debian" else (),
        purpose="runtime-packages",
        suite=suite_of(base, config),
        platform=base.image.config.platform,
        snapshot=config.base.date,
    )


def _is_laid_out(base: Base, config: Config) -> bool:
    """Whether OS packages come out of Debian's archive by our own hands. Raises PackageError where they cannot come as
    the project wants them to.
    """
    ours, installer = config.base.transport == "debian", config.runtime_installer
    if installer == "archive" and not suite_of(base, config):
        raise PackageError(
            f"{base.name} is no release of Debian's, and so has no packages in Debian's archive",
            place=config.place("runtime-installer"),
            hint='leave it out: then the image\'s own package manager installs them; or take base = "slim"',
        )
    if installer == "engine" and ours:
        raise PackageError(
            f"{base.name} has no package manager that an engine could run",
            place=config.place("runtime-installer"),
            hint='leave it out: then packages are laid out without an engine; or take base = "slim"',
        )
    return installer != "engine" and bool(suite_of(base, config))


def suite_of(base: Base, config: Config) -> str:
    """The suite that packages are taken of. An image of unstable calls itself what testing is called."""
    return config.base.value if config.base.transport == "debian" else base.facts.suite


_WithPackages = tuple[Image, MadeLayer | None, Selection | None]


def _laid_out(base: Base, request: Request, config: Config, machine: Machine) -> _WithPackages:
    try:
        added = with_debian_packages(
            base.image, request, archives=machine.places.archives, compression=config.compression
        )
    except (PackageError, DebianError) as error:
        # What the archive has not, apt would not find there, either.
        if isinstance(error, DependencyError):
            raise
        error.add_hint(_other_way(config))
        raise
    if added.made is None:
        machine.progress.note(f"{base.name} has {', '.join(config.runtime_packages)} already")
    return added.image, added.made, added.selection


def _other_way(config: Config) -> str:
    """How packages are installed that cannot be laid out."""
    way = 'runtime-installer = "engine": the base\'s own apt installs them, in a container'
    small = 'base = "slim" has a shell and the small tools'
    return f"{small}, and there is {way}" if config.base.transport == "debian" else f"there is also {way}"


def _installed(base: Base, config: Config, machine: Machine) -> _WithPackages:
    cache = machine.places.cache
    installed = install(
        base.image,
        config.runtime_packages,
        label=base.name,
        engine=machine.places.engine,
        reference=local_name(base.image),
        limits=machine.limits,
        cache=cache,
        log=log_path(cache.root, "runtime-packages"),
        compression=config.compression,
        progress=machine.progress,
    )
    return installed.image, installed.made, None


def wanted_of(project: Project, config: Config, target: TargetPython) -> InstallRequest:
    """What of the project's requirements is to be in the image. Raises ConfigError for what is no requirement."""
    return InstallRequest(
        project=project.normalized_name,
        target=target,
        requirements=project.requirements(config.extras, config.dependency_groups),
        extras=frozenset(config.extras),
        groups=frozenset(config.dependency_groups),
    )


def builder_of(base: Base, config: Config, machine: Machine) -> Builder:
    """The builder of a project, whose `base` has none of its OS packages."""
    return open_builder(
        base,
        config.base,
        config.builder,
        config.build_packages,
        places=machine.places,
        limits=machine.limits,
        progress=machine.progress,
    )


def locked_of(
    wanted: InstallRequest,
    project: Project,
    config: Config,
    machine: Machine,
    indexes: Indexes,
    lock: Path | None,
    written: Path,
) -> Locked:
    """What the project's lock names for its image; `written` is where the one goes that is resolved without any."""
    return artifacts_of(
        wanted,
        root=project.root,
        lock=lock,
        lookup=indexes.lookup,
        resolver=indexes.resolver,
        written=written,
        no_binary=frozenset(config.no_binary) - {project.normalized_name},
        progress=machine.progress,
    )


def workshop_of(
    project: Project,
    config: Config,
    machine: Machine,
    indexes: Indexes,
    bare: Base,
    base: Base,
) -> CompileContext:
    """What compiling takes. `bare` is the base without its OS packages, whose libraries are not put into wheels."""
    target, resolver = base.facts.python, indexes.resolver
    constraints = project.root / config.build_constraints if config.build_constraints else None
    return CompileContext(
        target=target,
        builder=once(partial(builder_of, bare, config, machine)),
        resolve=partial(
            resolve_alone,
            target=target,
            root=project.root,
            lookup=indexes.lookup,
            resolver=resolver,
            constraints=constraints,
        ),
        scope=_scope(project.root, _text(constraints, config), resolver),
        obtain=indexes.obtain,
        uv=lambda: find_uv(resolver.environ),
        environ=resolver.environ,
        exclude=tuple(sorted(base.facts.libraries - bare.facts.libraries)),
        network=frozenset(config.build_network),
        cache=machine.places.cache,
        threads=machine.threads,
        progress=machine.progress,
    )


def _text(constraints: Path | None, config: Config) -> str:
    """What a file of constraints says: another text is another way to build."""
    try:
        return constraints.read_text(encoding="utf-8") if constraints else ""
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", "") or "it is not UTF-8 text"
        raise ConfigError([(config.place("build-constraints"), f"{constraints} cannot be read: {what}")]) from None


def _scope(root: Path, constraints: str, resolver: ResolverSettings) -> str:
    """A digest of all that decides which files build requirements are resolved to, but for the indexes' contents.

    One project's choices must not reach another's wheels.
    """
    told = {
        name: redact(value)
        for name, value in resolver.environ.items()
        if name.startswith("UV_") and not name.endswith(("_USERNAME", "_PASSWORD", "_TOKEN", "_DIR"))
    }
    files = [path.read_bytes().hex() for path in (root / "uv.toml",) if path.is_file()]
    table = _uv_table(root / "pyproject.toml") if not files else {}
    values = [constraints, [redact(url) for url in resolver.configured], told, files, table]
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _uv_table(path: Path) -> object:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("uv")
    except (OSError, ValueError, AttributeError):
        return None
