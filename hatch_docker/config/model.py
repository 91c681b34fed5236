"""What a configuration says, typed by the specs' names. Values only: nothing here parses or looks anything up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hatch_docker.oci.config import Healthcheck
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform

TABLE = "tool.hatch.build.targets.docker"
PREFIX = "HATCH_DOCKER_"

FAMILIES = ("alpine", "slim")
SUITE = "trixie"  # of the base `debian`
INSTALLERS = ("archive", "engine")
COMPRESSIONS = ("gzip", "gzip-single", "zstd")
OUTPUTS = ("archive", "load", "push")
ALL = ":all:"  # in place of names of distributions, as pip has it
PRUNED = ("tests", "caches", "c-sources", "static-libraries")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseSpec:
    """Where the base image comes from, as it was written; nothing is looked up yet.

    `transport` is `family`, `registry`, or one of containers-transports(5): `oci`, `oci-archive`, `docker-archive`,
    `docker-daemon`. `value` is the family's name, the reference's text, the path, or what the engine is asked for.
    `reference` is there for `registry`, and for `docker-daemon` unless that names an image ID. `name` picks one image
    of a layout or archive that holds several.

    Or it is `debian`: out of Debian's archive. `value` is the suite then, `name` the variant `debug` or empty, `date`
    the archive's day, as `2026-11-01`, empty for the newest.
    """

    transport: str
    value: str
    reference: Reference | None = None
    name: str = ""
    date: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraFiles:
    """Files that the image gets besides the venv.

    `source` is a file or folder, absolute or relative to the project, as in Hatch's own `force-include`. `into` is
    what it becomes: the file's own path in the image, or the folder that takes a folder's contents. `include` and
    `exclude` are .gitignore's globs for what is below a folder, nothing meaning everything and nothing. `mode` holds
    for each file; None is 0644, or 0755 where it can be executed.
    """

    source: str
    into: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    mode: int | None = None
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`[tool.hatch.build.targets.docker]`, with the environment's overrides in place.

    Naming: `image` has neither tag nor digest; `tags` are templates for `expand_tags`.

    Base: `python` is `X.Y`, or empty for the newest that requires-python admits; `platforms` empty for the host's.

    Packages: `lock` is a path relative to the project, or empty to look for one; `extras` and `dependency_groups` are
    normalized names (PEP 685, PEP 735); `index_url` may hold credentials and is never shown; `prune` has what
    to leave out of the venv, the kinds of `PRUNED` and globs, `keep` globs and names of distributions that stay all
    the same. Globs are .gitignore's, relative to site-packages.

    Compiling: `no_binary` has the normalized names of distributions that are compiled though they have a wheel, and
    `build_network` those whose compilation may use the network; either may be `(ALL,)`. `builder` is the image to
    compile in, None for the base's own; `build_packages` are installed there, `runtime_packages` in the image: names of
    OS packages, as the base's package manager has them. `build_constraints` is the path of a file of constraints,
    relative to the project, that build requirements keep to.

    Debian: `runtime_installer` is one of INSTALLERS, or empty for what the base suggests; `debian_mirror` is one or two
    URLs, may hold credentials and is never shown; `debian_keyring` is the path of a file of keys, relative to the
    project.

    Runtime (config.md): `entrypoint` and `cmd` are a command, a script's name, or None where nothing is said;
    `ports` are like `8080/tcp`; `stop_signal` is like `SIGTERM` or `15`; `labels` and `annotations` are added to
    those made of the project's metadata.

    Image: `max_layers` is the budget for our own layers; `created` is `commit`, `epoch`, `now` or RFC 3339 in UTC,
    for `created_time`; `outputs` empty for the automatic choice.

    `overridden` has the keys that the environment gave; see `place`.
    """

    image: Reference
    tags: tuple[str, ...] = ("{version}", "latest")

    base: BaseSpec = BaseSpec(transport="family", value="slim")
    python: str = ""
    platforms: tuple[Platform, ...] = ()

    lock: str = ""
    extras: tuple[str, ...] = ()
    dependency_groups: tuple[str, ...] = ()
    index_url: str = field(default="", repr=False)
    prune: tuple[str, ...] = PRUNED
    keep: tuple[str, ...] = ()

    no_binary: tuple[str, ...] = ()
    builder: BaseSpec | None = None
    build_packages: tuple[str, ...] = ()
    build_constraints: str = ""
    build_network: tuple[str, ...] = ()
    runtime_packages: tuple[str, ...] = ()
    runtime_installer: str = ""
    debian_mirror: str = field(default="", repr=False)
    debian_keyring: str = ""

    entrypoint: tuple[str, ...] | str | None = None
    cmd: tuple[str, ...] | str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    user: str = "65532:65532"
    working_dir: str = "/app"
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None

    extra_files: tuple[ExtraFiles, ...] = ()
    compression: str = "gzip"
    max_layers: int = 40
    created: str = "commit"
    outputs: tuple[str, ...] = ()

    overridden: frozenset[str] = frozenset()

    def place(self, key: str) -> str:
        """Where the value of `key` was, or would be, written: its TOML path or its environment variable."""
        return variable(key) if key in self.overridden else f"{TABLE}.{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `HATCH_DOCKER_*` says of this machine rather than of the image.

    `registry_mirrors` has, by registry host, the host (with port) to ask instead; `insecure_registries` are hosts to
    speak plain HTTP with; `cache_dir` empty is the user's cache directory; `threads` None is up to the machine.

    `build_memory` (bytes), `build_cpus` and `build_timeout` (seconds) limit what is compiled and installed in
    containers; 0 is no limit.
    """

    registry_mirrors: Mapping[str, str] = field(default_factory=dict)
    insecure_registries: frozenset[str] = frozenset()
    cache_dir: str = ""
    threads: int | None = None
    build_memory: int = 0
    build_cpus: float = 0.0
    build_timeout: int = 3600


def variable(key: str) -> str:
    """The environment variable that overrides `key`."""
    return PREFIX + key.upper().replace("-", "_")
