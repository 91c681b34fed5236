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
from pathlib import Path

from hatch_docker.engine import Container, Engine, Limits, missed
from hatch_docker.errors import EngineError, PackageError, join_hints
from hatch_docker.oci.config import History
from hatch_docker.oci.image import Image, append
from hatch_docker.oci.layer import WriteOptions
from hatch_docker.oci.layercache import MadeLayer, make_layer, recall, remember
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.tar import MTIME
from hatch_docker.os_packages.difference import difference
from hatch_docker.os_packages.managers import MANAGERS, NAME, Manager, arrived, hint
from hatch_docker.support.cache import Cache
from hatch_docker.support.logs import Log, logging_to
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
class Installed:
    """`image` is the image with the layer on it; `made` the layer, whose contents are the packages that came in."""

    image: Image
    made: MadeLayer


def install(
    image: Image,
    names: Sequence[str],
    *,
    label: str,
    toolchain: bool = False,
    engine: Callable[[], Engine],
    reference: Reference,
    limits: Limits,
    cache: Cache,
    log: Path,
    compression: str,
    progress: Progress,
) -> Installed:
    """Install OS packages into `image`: `libpq5`, `libpq5=17.6-1`; with `toolchain` what compiles C and C++, too.

    `label` is what people call the image, `reference` the name under which an engine gets it that has it not. The
    package manager's whole output goes to `log`. `engine` is called where the cache has not got the layer. Raises
    PackageError for what cannot be installed, EngineError, and OutputError where the disk refuses.
    """
    wanted = _checked(names)
    options = WriteOptions(compression=compression, splice=False)
    shape = [_FORMAT, image.config_descriptor.digest, wanted, toolchain, options.fingerprint]
    key, what = json.dumps(shape), ", ".join([*wanted, *(["a toolchain"] if toolchain else [])])
    made = recall(cache, _KIND, key)
    if made is None:
        running = _engine(engine, f"install {what} in {label}")
        name = running.provide(image, reference, progress=progress)
        doing, platform = f"installing {what} in {label}", image.config.platform
        with (
            progress.task("install", f"{what} in {label}"),
            logging_to(log) as written,
            running.container(name, what=doing, network=True, limits=limits, platform=platform) as container,
        ):
            inside = _Inside(container=container, label=label, log=written)
            made = inside.installed(wanted, toolchain, cache, options, progress)
        remember(cache, _KIND, key, made)
    history = History(created_by=f"hatch-docker: {what}"[:200])
    return Installed(image=append(image, (made.layer,), (history,), image.config), made=made)


def _engine(connect: Callable[[], Engine], what: str) -> Engine:
    try:
        return connect()
    except EngineError as error:
        raise missed(error, what) from None


def _checked(names: Sequence[str]) -> tuple[str, ...]:
    """The names, sorted, each once; raise PackageError for what a package manager would take for something else."""
    for name in names:
        if not NAME.fullmatch(name):
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
        self, names: Sequence[str], toolchain: bool, cache: Cache, options: WriteOptions, progress: Progress
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
                options,
                contents=_asked_first(came, names) or tuple(f"{name} (already there)" for name in names),
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


def _asked_first(came: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """What was asked for before what that needs: whoever is told of the layer knows it by these."""
    asked = {name.partition("=")[0] for name in names}
    return tuple(sorted(came, key=lambda each: (each.partition(" ")[0] not in asked, each)))


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
