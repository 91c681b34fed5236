"""The configuration as frozen values, with the specifications' names. No parsing, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from hatch_docker.oci.config import Healthcheck
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import dataclass, field

TABLE = "tool.hatch-docker"
HATCH_TABLE = "tool.hatch.build.targets.docker"
HATCH_FILE_TABLE = "hatch.toml: build.targets.docker"
PREFIX = "HATCH_DOCKER_"

FAMILIES = ("alpine", "slim")
SUITE = "trixie"  # the suite of the base `debian`
INSTALLERS = ("archive", "engine")
ISOLATIONS = ("process", "container")
ALL = ":all:"  # all distributions, as in pip
CACHE_MODES = ("read", "read-write")
EVERY: Literal["all"] = "all"  # all platforms of the base
PRUNED = ("tests", "caches", "c-sources", "static-libraries")
LEFTOVERS = ("pip", "setuptools", "wheel", "ensurepip")  # what `prune-base` can remove


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseSpec:
    """A base image or builder as it is configured, not resolved yet.

    `transport` is `family`, `registry`, or one of containers-transports(5): `oci`, `oci-archive`, `docker-archive`,
    `docker-daemon`. `value` is the family's name, the reference's text, the path, or the engine's name of the image.
    `reference` is set for `registry`, and for `docker-daemon` unless that names an image ID. `name` selects one image
    of a layout or archive that has several.

    The transport `debian` makes the base from Debian's archive: `value` is the suite, `name` the variant `debug` or
    empty, `date` the day of the archive, such as `2026-11-01`, empty for the newest.
    """

    transport: str
    value: str
    reference: Reference | None = None
    name: str = ""
    date: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraFiles:
    """Files of the host that are added to the image.

    `source` is a file or directory, absolute or relative to the project, as in Hatch's `force-include`. `into` is its
    path in the image. `include` and `exclude` are .gitignore globs for the files below a directory; empty, they include
    everything and exclude nothing. `mode` applies to each file; None is 0755 for executable files, else 0644.
    """

    source: str
    into: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    mode: int | None = None
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """The image's names.

    `image` has neither tag nor digest, and is None for the project's name; `tags` are templates for `expand_tags`.
    `references` are whole names, which replace both.
    """

    image: Reference | None = None
    tags: tuple[str, ...] = ("{version}", "latest")
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseOptions:
    """The base image.

    `python` is `X.Y`, or empty for the newest version that requires-python admits. `platforms` is empty for the host's
    platform, or EVERY for all platforms of the base. `prune` has the members of LEFTOVERS to remove from it; None for
    those that neither the project nor its dependencies need.
    """

    spec: BaseSpec = BaseSpec(transport="family", value="slim")
    python: str = ""
    platforms: tuple[Platform, ...] | Literal["all"] = ()
    prune: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """The Python packages of the image.

    `lock` is a path relative to the project, or empty to search for one; `extras` and `dependency_groups` are
    normalized names (PEP 685, PEP 735); `index_url` may contain credentials and is never shown. `prune` has the files
    to leave out of the venv, as kinds in `PRUNED` or globs; `keep` has exceptions, as globs or distributions. Globs
    have the syntax of .gitignore and are relative to site-packages. `bytecode` adds .pyc files (PEP 552); None adds
    them if they can be made here.
    """

    lock: str = ""
    extras: tuple[str, ...] = ()
    dependency_groups: tuple[str, ...] = ()
    index_url: str = field(default="", repr=False)
    prune: tuple[str, ...] = PRUNED
    keep: tuple[str, ...] = ()
    bytecode: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiling:
    """How sdists are compiled.

    `no_binary` has the normalized names of distributions that are compiled although they have a wheel, and
    `build_network` those whose compilation may use the network; either may be `(ALL,)`. `builder` is the image to
    compile in, None for the default of the base; `build_packages` are the OS packages that it gets.
    `build_constraints` is the path of a constraints file for build requirements, relative to the project. `isolate` is
    one of ISOLATIONS: where the code of packages without extension modules runs.
    """

    no_binary: tuple[str, ...] = ()
    builder: BaseSpec | None = None
    build_packages: tuple[str, ...] = ()
    build_constraints: str = ""
    build_network: tuple[str, ...] = ()
    isolate: str = "process"

    @property
    def only_in_builder(self) -> bool:
        """Whether no code of another project's sdists and commits may run on this machine."""
        return self.isolate == "container"


@dataclass(frozen=True, slots=True, kw_only=True)
class OSPackages:
    """The OS packages of the image, and Debian's archive.

    `runtime_packages` are names for the base's package manager; `runtime_installer` is one of INSTALLERS, or empty to
    choose by the base. `debian_mirror` is one or two URLs, may contain credentials and is never shown; `debian_keyring`
    is the path of a keyring, relative to the project. `ca_certificates` is the path of a PEM file, relative to the
    project, whose certificate authorities the image and the builder trust, too.
    """

    runtime_packages: tuple[str, ...] = ()
    runtime_installer: str = ""
    debian_mirror: str = field(default="", repr=False)
    debian_keyring: str = ""
    ca_certificates: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """How the image runs (config.md).

    `entrypoint` and `cmd` are a command, the name of a script, or None if not set; `ports` are like `8080/tcp`;
    `stop_signal` is like `SIGTERM` or `15`; `labels` and `annotations` are added to those from the project's metadata,
    `manifest_annotations` and `index_annotations` to one kind of document only. `init` starts the command under an init
    process.
    """

    entrypoint: tuple[str, ...] | str | None = None
    cmd: tuple[str, ...] | str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    user: str = "65532:65532"
    working_dir: str = "/app"
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    manifest_annotations: Mapping[str, str] = field(default_factory=dict)
    index_annotations: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    init: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """How the image is assembled, and its outputs.

    `max_layers` limits the layers above the base; `created` is `commit`, `epoch`, `now` or RFC 3339 in UTC, for
    `created_time`; `outputs` is empty for the default. `joined` says that the image will be joined with those that
    other machines build from the same commit and lock.
    """

    extra_files: tuple[ExtraFiles, ...] = ()
    compression: str = "gzip"
    max_layers: int = 80
    created: str = "commit"
    outputs: tuple[str, ...] = ()
    joined: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Caching:
    """The registry caches: `repositories`, without tag or digest. `mode` is one of CACHE_MODES, for the first of them.

    The others are only read.
    """

    repositories: tuple[Reference, ...] = ()
    mode: str = "read-write"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The project's table with the overrides of the environment and the command line, in groups.

    A step takes a group or values. `table` is the name of the project's table. `overridden` maps keys that are set
    elsewhere to the place; see `place`.
    """

    naming: Naming = Naming()
    base: BaseOptions = BaseOptions()
    packages: Packages = Packages()
    compiling: Compiling = Compiling()
    os_packages: OSPackages = OSPackages()
    runtime: Runtime = field(default_factory=Runtime)
    output: Output = Output()
    caching: Caching = Caching()
    overridden: Mapping[str, str] = field(default_factory=dict)
    table: str = TABLE

    def place(self, key: str) -> str:
        """The TOML path of `key`; or the variable of the environment or the option that overrides it."""
        return self.overridden.get(key) or f"{self.table}.{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The `HATCH_DOCKER_*` variables that are about the host and not the image, and options of one run.

    `registry_mirrors` maps the host of a registry to its mirror, `host[:port][/path]`; `insecure_registries` are hosts
    to contact over plain HTTP; `cache_dir` is empty for the user's cache directory, `threads` None for the number of
    processors. `cache_size` is how many bytes the cache may have on disk, and with `verify`, it hashes every file that
    it gives. `build_memory` (bytes), `build_cpus` and `build_timeout` (seconds) limit each container; 0 is no limit.
    `cache_key` signs entries of registry caches, which are `caching`. `no_cache` and `pull` are as in
    `session.RunOptions`. Without `resolver_builds`, uv builds nothing to read its requirements.
    """

    registry_mirrors: Mapping[str, str] = field(default_factory=dict)
    insecure_registries: frozenset[str] = frozenset()
    cache_dir: str = ""
    cache_size: int = 10 * 10**9
    verify: bool = False
    threads: int | None = None
    build_memory: int = 0
    build_cpus: float = 0.0
    build_timeout: int = 3600
    cache_key: str = field(default="", repr=False)
    caching: Caching = Caching()
    no_cache: bool = False
    pull: bool = False
    resolver_builds: bool = True


def variable(key: str) -> str:
    """The environment variable that overrides `key`."""
    return PREFIX + key.upper().replace("-", "_")
