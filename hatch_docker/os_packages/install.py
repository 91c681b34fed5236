"""Install OS packages with the image's own package manager, in a container, as one layer.

The layer is cached by the image and the names, so an engine is needed once. Newer versions in the archives are used
only if the image or the names change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial

from hatch_docker.engine.client import Engine, local_name
from hatch_docker.engine.container import Container
from hatch_docker.engine.limits import Limits
from hatch_docker.engine.translate import missed
from hatch_docker.errors import EngineError, PackageError, join_hints
from hatch_docker.oci.config import History
from hatch_docker.oci.image import Image, append
from hatch_docker.oci.layer import WriteOptions
from hatch_docker.oci.layercache import MadeLayer, make_layer, make_once, recall
from hatch_docker.oci.spec import Platform
from hatch_docker.oci.tar import MTIME
from hatch_docker.os_packages.difference import difference
from hatch_docker.os_packages.managers import MANAGERS, Manager, arrived, hint
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.logs import Log, logging_to
from hatch_docker.support.package_names import OS_PACKAGE, requested_first
from hatch_docker.support.patterns import regex
from hatch_docker.support.progress import Progress

# Part of the cache key: raise it when the same packages give another layer.
_FORMAT = 1
_KIND = "packages"
# In seconds: nothing is written while the container runs.
_PATIENCE = 3600
_SHADOW = "etc/shadow"
_DAY = str(MTIME // 86400).encode()
_LINES = 12
_CHATTER = regex(r"\s*$|Get:\d|Hit:\d|Fetched |Reading |Building |\(\d+/\d+\) ")
# True if the image has the distribution's Python without its headers, so nothing can be compiled for it.
_LACKS_HEADERS = '[ "$(command -v python3)" = /usr/bin/python3 ] && ! ls /usr/include/python3*/Python.h'


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallOptions:
    """OS packages to install into an image: `libpq5`, `libpq5=17.6-1`; with `toolchain`, a C and C++ compiler, too.

    `label` is the image's display name, `log` the name of the log of the package manager's output.
    """

    names: tuple[str, ...]
    label: str
    log: str
    toolchain: bool = False
    compression: str = "gzip"

    @property
    def summary(self) -> str:
        """The packages, as messages and the image's history name them."""
        return ", ".join([*_checked(self.names), *(["a toolchain"] if self.toolchain else [])])

    def cache_key(self, image: Image) -> str:
        """The cache key of the layer with these packages on top of `image`."""
        written = WriteOptions(compression=self.compression, splice=False).fingerprint
        shape = [_FORMAT, image.config_descriptor.digest, _checked(self.names), self.toolchain, written]
        return json.dumps(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installer:
    """What installing needs: the engine, which is connected only if the cache lacks the layer, and its limits."""

    engine: Callable[[], Engine]
    limits: Limits
    cache: Cache
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """An image with OS packages, and their layer, whose contents are the packages that were installed."""

    image: Image
    made: MadeLayer


def install(image: Image, options: InstallOptions, installer: Installer) -> Installed:
    """Install OS packages into `image`, in a container of it.

    Raises PackageError for packages that cannot be installed, EngineError, and OutputError if the cache cannot be
    written.
    """
    make = partial(_installed, image, options, installer)
    made = make_once(installer.cache, _KIND, options.cache_key(image), make, patience=_PATIENCE)
    history = History.of_layer(options.summary)
    return Installed(image=append(image, (made.layer,), (history,), image.config), made=made)


def cached_install(image: Image, options: InstallOptions, cache: Cache) -> MadeLayer | None:
    """The layer that `install` would add, if the cache has it."""
    return recall(cache, _KIND, options.cache_key(image))


def _installed(image: Image, options: InstallOptions, installer: Installer) -> MadeLayer:
    what, label, progress = options.summary, options.label, installer.progress
    platform = image.config.platform
    engine = _engine(installer.engine, platform, f"install {what} in {label}")
    name = engine.provide(image, local_name(image), progress=progress)
    doing, limits = f"installing {what} in {label}", installer.limits
    with (
        progress.task("install", f"{what} in {label}") as task,
        logging_to(installer.cache.log_path(options.log), task.output) as log,
        engine.container(name, what=doing, network=True, limits=limits, platform=platform) as container,
    ):
        return _Inside(container=container, label=label, log=log).install(options, installer)


def _engine(connect: Callable[[], Engine], platform: Platform, what: str) -> Engine:
    try:
        engine = connect()
        engine.require(platform)
        return engine
    except EngineError as error:
        raise missed(error, what) from None


def _checked(names: Sequence[str]) -> tuple[str, ...]:
    """The distinct names, sorted. Raises PackageError for invalid names."""
    for name in names:
        if not OS_PACKAGE.fullmatch(name):
            raise PackageError(
                f"{name!r} is not the name of an OS package",
                hint="write names such as libpq5 or libpq5=17.6-1; wildcards, options and files are not allowed",
            )
    return tuple(sorted(set(names)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inside:
    """A container of the image with display name `label`; commands write their output to `log`."""

    container: Container
    label: str
    log: Log

    def install(self, options: InstallOptions, installer: Installer) -> MadeLayer:
        """Install packages, and make a layer of the changes in the cache."""
        manager, cache = self._manager(options.toolchain), installer.cache
        names = _checked(options.names)
        before, shadow = self._database(manager), self._read(_SHADOW)
        self._run(manager, [*names, *(self._toolchain(manager) if options.toolchain else [])])
        after = self._database(manager)
        new = arrived(manager.installed(before), manager.installed(after))
        with cache.temporary() as contents, cache.open(contents) as spool:
            changes = difference(
                self.container.changes(),
                self.container.export,
                spool,
                rewrite={_SHADOW: partial(_undated, shadow)},
                owned=manager.owned(after),
            )
            if changes.capable:
                installer.progress.note(f"file capabilities are dropped: {', '.join(changes.capable)} in {self.label}")
            return make_layer(
                changes.entries,
                cache,
                WriteOptions(compression=options.compression, splice=False),
                contents=requested_first(new, names) or tuple(f"{name} (already installed)" for name in names),
            )

    def _manager(self, toolchain: bool) -> Manager:
        for manager in MANAGERS:
            if self._status("sh", "-c", f"command -v {manager.program}") == 0:
                return manager
        raise PackageError(
            f"the image {self.label} has neither {' nor '.join(manager.name for manager in MANAGERS)}",
            hint="set builder to an image of its kind that has a compiler"
            if toolchain
            else "use another image, such as Debian or Alpine, or omit packages that it has already",
        )

    def _toolchain(self, manager: Manager) -> list[str]:
        headers = [manager.headers] if self._status("sh", "-c", _LACKS_HEADERS) == 0 else []
        return [*manager.toolchain, *headers]

    def _run(self, manager: Manager, names: Sequence[str]) -> None:
        """Run the manager's commands. Raises PackageError with the end of their output."""
        for command in manager.commands_for(names):
            if self.container.run(command, write=self.log.write, environ=manager.environ) != 0:
                raise self._failure(manager, names, self.log.end())

    def _failure(self, manager: Manager, names: Sequence[str], output: str) -> PackageError:
        lines = [line.rstrip() for line in output.splitlines() if not _CHATTER.match(line)]
        # The bar marks output of the manager.
        shown = "".join(f"\n  │ {line}" for line in lines[-_LINES:]) or " it printed no reason"
        advice = hint(manager, output, lambda: self._listing(manager))
        return PackageError(
            f"{manager.name} cannot install {', '.join(names)}:{shown}",
            place=self.label,
            hint=join_hints(advice, f"its complete output is in {self.log.path}"),
        )

    def _listing(self, manager: Manager) -> list[str]:
        """The names of all available packages."""
        printed = bytearray()
        self.container.run(manager.listing, write=printed.extend, environ=manager.environ)
        return printed.decode(errors="replace").split()

    def _database(self, manager: Manager) -> str:
        return next(filter(None, (self._read(path) for path in manager.databases)), b"").decode(errors="replace")

    def _read(self, path: str) -> bytes:
        """A file's content; empty if it does not exist."""
        printed = bytearray()
        status = self.container.run(("cat", f"/{path}"), write=printed.extend)
        return bytes(printed) if status == 0 else b""

    def _status(self, *command: str) -> int:
        return self.container.run(command, write=lambda _: None)


def _undated(before: bytes, shadow: bytes) -> bytes:
    """The shadow file, with the layer's own time as the last change of passwords that the image does not have."""
    unchanged = set(before.splitlines())
    lines = []
    for line in shadow.splitlines():
        fields = line.split(b":")
        if line not in unchanged and len(fields) > 2 and fields[2].isdigit():
            fields[2] = _DAY
        lines.append(b":".join(fields) + b"\n")
    return b"".join(lines)
