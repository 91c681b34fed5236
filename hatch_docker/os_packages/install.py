"""OS packages → one layer: installed by the image's own package manager, in a container of the image.

The layer is cached by the image and the names, so that an engine is needed once. It holds what the archives had then,
until the image or the names change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from hatch_docker.engine import Container, Engine, Limits, local_name, missed
from hatch_docker.errors import EngineError, PackageError, join_hints
from hatch_docker.oci.config import History
from hatch_docker.oci.image import Image, append
from hatch_docker.oci.layer import WriteOptions
from hatch_docker.oci.layercache import MadeLayer, make_layer, recall, remember
from hatch_docker.oci.tar import MTIME
from hatch_docker.os_packages.difference import difference
from hatch_docker.os_packages.managers import MANAGERS, Manager, arrived, hint
from hatch_docker.support.cache import Cache
from hatch_docker.support.logs import Log, logging_to
from hatch_docker.support.package_names import OS_PACKAGE, requested_first
from hatch_docker.support.progress import Progress

# Another way to make a layer of the same packages has another number: a part of the key.
_FORMAT = 1
_KIND = "packages"
_SHADOW = "etc/shadow"
_DAY = str(MTIME // 86400).encode()
_LINES = 12
_CHATTER = re.compile(r"\s*$|Get:\d|Hit:\d|Fetched |Reading |Building |\(\d+/\d+\) ")
# The image's own Python is the distribution's, and nothing can be compiled for it.
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
    made = cached_install(image, options, installer.cache)
    if made is None:
        made = _installed(image, options, installer)
        remember(installer.cache, _KIND, options.cache_key(image), made)
    history = History(created_by=f"hatch-docker: {options.summary}"[:200])
    return Installed(image=append(image, (made.layer,), (history,), image.config), made=made)


def cached_install(image: Image, options: InstallOptions, cache: Cache) -> MadeLayer | None:
    """The layer that `install` would add, if the cache has it."""
    return recall(cache, _KIND, options.cache_key(image))


def _installed(image: Image, options: InstallOptions, installer: Installer) -> MadeLayer:
    what, label, progress = options.summary, options.label, installer.progress
    engine = _engine(installer.engine, f"install {what} in {label}")
    name = engine.provide(image, local_name(image), progress=progress)
    doing, limits, platform = f"installing {what} in {label}", installer.limits, image.config.platform
    with (
        progress.task("install", f"{what} in {label}"),
        logging_to(installer.cache.log_path(options.log)) as log,
        engine.container(name, what=doing, network=True, limits=limits, platform=platform) as container,
    ):
        inside = _Inside(container=container, label=label, log=log)
        return inside.installed(
            _checked(options.names), options.toolchain, installer.cache, options.compression, progress
        )


def _engine(connect: Callable[[], Engine], what: str) -> Engine:
    try:
        return connect()
    except EngineError as error:
        raise missed(error, what) from None


def _checked(names: Sequence[str]) -> tuple[str, ...]:
    """The names, sorted, each once; raise PackageError for what a package manager would take for something else."""
    for name in names:
        if not OS_PACKAGE.fullmatch(name):
            raise PackageError(
                f"{name!r} is not the name of an OS package",
                hint="name packages as in libpq5 or libpq5=17.6-1; wildcards, options and files are not taken",
            )
    return tuple(sorted(set(names)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inside:
    """A container of the image that people call `label`; what is run in it is told to `log`."""

    container: Container
    label: str
    log: Log

    def installed(
        self, names: Sequence[str], toolchain: bool, cache: Cache, compression: str, progress: Progress
    ) -> MadeLayer:
        """Install, and make a layer of what that changed, in the cache."""
        manager = self._manager(toolchain)
        wanted = [*names, *(self._toolchain(manager) if toolchain else [])]
        before, shadow = self._database(manager), self._read(_SHADOW)
        self._run(manager, wanted)
        after = self._database(manager)
        came = arrived(manager.installed(before), manager.installed(after))
        with cache.temporary() as contents, contents.open("w+b") as spool:
            found = difference(
                self.container.changes(),
                self.container.export,
                spool,
                rewrite={_SHADOW: partial(_undated, shadow)},
                owned=manager.owned(after),
            )
            if found.capable:
                progress.note(f"{', '.join(found.capable)} in {self.label}: a layer of ours has no file capabilities")
            return make_layer(
                found.entries,
                cache,
                WriteOptions(compression=compression, splice=False),
                contents=requested_first(came, names) or tuple(f"{name} (already there)" for name in names),
            )

    def _manager(self, toolchain: bool) -> Manager:
        for manager in MANAGERS:
            if self._status("sh", "-c", f"command -v {manager.program}") == 0:
                return manager
        raise PackageError(
            f"the image {self.label} has neither {' nor '.join(manager.name for manager in MANAGERS)}",
            hint="name an image of its kind that has a compiler in builder"
            if toolchain
            else "take another image, such as one of Debian or Alpine, or leave out the packages that it has already",
        )

    def _toolchain(self, manager: Manager) -> list[str]:
        headers = [manager.headers] if self._status("sh", "-c", _LACKS_HEADERS) == 0 else []
        return [*manager.toolchain, *headers]

    def _run(self, manager: Manager, names: Sequence[str]) -> None:
        """Run the manager's commands; raise PackageError with what it said last."""
        for command in manager.commands_for(names):
            if self.container.run(command, write=self.log.write, environ=manager.environ) != 0:
                raise self._failure(manager, names, self.log.end())

    def _failure(self, manager: Manager, names: Sequence[str], output: str) -> PackageError:
        lines = [line.rstrip() for line in output.splitlines() if not _CHATTER.match(line)]
        # The bar tells what it says from what we say.
        shown = "".join(f"\n  │ {line}" for line in lines[-_LINES:]) or " it did not say why"
        advice = hint(manager, output, lambda: self._listing(manager))
        return PackageError(
            f"{manager.name} cannot install {', '.join(names)}:{shown}",
            place=self.label,
            hint=join_hints(advice, f"its whole output is in {self.log.path}"),
        )

    def _listing(self, manager: Manager) -> list[str]:
        """All packages that there are, as far as the manager tells."""
        printed = bytearray()
        self.container.run(manager.listing, write=printed.extend, environ=manager.environ)
        return printed.decode(errors="replace").split()

    def _database(self, manager: Manager) -> str:
        return next(filter(None, (self._read(path) for path in manager.databases)), b"").decode(errors="replace")

    def _read(self, path: str) -> bytes:
        """A file's content; nothing where there is none."""
        printed = bytearray()
        status = self.container.run(("cat", f"/{path}"), write=printed.extend)
        return bytes(printed) if status == 0 else b""

    def _status(self, *command: str) -> int:
        return self.container.run(command, write=lambda _: None)


def _undated(before: bytes, shadow: bytes) -> bytes:
    """The shadow file, where the passwords that are not of the image were last changed at the layer's own time."""
    known = set(before.splitlines())
    lines = []
    for line in shadow.splitlines():
        fields = line.split(b":")
        if line not in known and len(fields) > 2 and fields[2].isdigit():
            fields[2] = _DAY
        lines.append(b":".join(fields) + b"\n")
    return b"".join(lines)
