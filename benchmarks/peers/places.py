"""A method's place: its project, caches, registry, and the engine that it shares with the other methods of a group."""

from __future__ import annotations

import secrets
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from . import machine
from .applications import LOCKED, Application, Projects
from .machine import NO_ENGINE, Engine, Meter
from .methods import METHODS, OURS, Build, Workplace
from .processes import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all places share: directories, addresses and options.

    `warm` is a cache of hatch-docker that has only the base, `used` one that also has what the first image on it made,
    the bytecode of its standard library; `bases` is the address of a registry with versions of the base and with the
    image of uv; `mirror` that of Docker Hub's mirror, if any. `present` are the images that engines keep.
    """

    scratch: Path
    projects: Projects
    warm: Path
    used: Path
    bases: str
    mirror: str
    present: tuple[str, ...]
    containerd_store: bool
    bytecode: bool

    @property
    def uv(self) -> str:
        return f"{self.bases}/uv:latest"


@dataclass(slots=True, kw_only=True)
class Place:
    """A method, an application, and what it has to itself.

    While `counted`, connections to registry, mirror and index go through meters.
    """

    method: str
    application: Application
    setting: Setting
    engine: Engine
    stack: ExitStack
    counted: bool = False
    filled: bool = False
    folder: Path = field(init=False)
    registry: str = field(init=False)
    to_registry: Meter = field(init=False)
    to_mirror: Meter = field(init=False)
    to_index: Meter = field(init=False)
    _serving: ExitStack = field(init=False, default_factory=ExitStack)
    _running: ExitStack = field(init=False, default_factory=ExitStack)

    def __post_init__(self) -> None:
        name = f"{self.method.replace(' ', '-').lower()}-{secrets.token_hex(4)}"
        self.folder = self.setting.scratch / name
        (self.folder / "project").mkdir(parents=True)
        self.to_registry = self.stack.enter_context(Meter())
        self.to_mirror = self.stack.enter_context(Meter(self.setting.mirror))
        self.to_index = self.stack.enter_context(Meter(machine.upstream_proxy()))
        self.stack.callback(shutil.rmtree, self.folder)
        self.stack.enter_context(self._serving)
        self.stack.enter_context(self._running)
        self.forget()

    @property
    def work(self) -> Workplace:
        """Where the method builds now."""
        return Workplace(
            folder=self.folder,
            application=self.application.name,
            engine=self.engine,
            registry=self.to_registry.address if self.counted else self.registry,
            mirror=self.mirror,
            proxy=self.to_index.address if self.counted else "",
            mount=self.folder.name,
            uv=self.setting.uv,
            bytecode=self.setting.bytecode,
        )

    @property
    def mirror(self) -> str:
        """The address of Docker Hub's mirror."""
        return self.to_mirror.address if self.counted and self.setting.mirror else self.setting.mirror

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def build(self, build: Build) -> Command:
        """The command that makes the image of the project as it is now."""
        return METHODS[self.method](self.work, build)

    def take(self, source: Path) -> bool:
        """Make the project the one in `source`; whether files changed. Others keep their times."""
        changed = False
        for path in (source / "src", *(source / name for name in LOCKED)):
            for file in [path] if path.is_file() else (each for each in path.rglob("*") if each.is_file()):
                target = self.project / file.relative_to(source)
                if not target.exists() or target.read_bytes() != file.read_bytes():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, target)
                    changed = True
        return changed

    def settle(self, build: Build) -> None:
        """Build the application as it is at first, so that all caches have it and the output is up to date."""
        self.take(self.setting.projects.base(self.application))
        self.build(build).run()

    def forget(self, *, used: bool = False) -> None:
        """Start again with an empty project, an empty registry, and caches that have the base, if `used` all of it."""
        for name in ("project", "cache", "uv", "registry"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.project.mkdir()
        shutil.copytree(self.setting.used if used else self.setting.warm, self.folder / "cache")
        self._serving.close()
        self.registry = self._serving.enter_context(machine.registry(self.folder / "registry"))
        self.to_registry.target = self.registry

    def new_machine(self) -> None:
        """Start again with empty caches, and an engine of this place that has nothing; the registry stays.

        Dockerfiles get an engine with containerd's store, since others do not write their cache to a registry.
        """
        for name in ("cache", "uv"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self._running.close()
        if self.method == OURS:
            self.engine = NO_ENGINE
        else:
            made = machine.engine(self.folder / "engine", containerd_store=True, mirror=self.mirror)
            self.engine = self._running.enter_context(made)
