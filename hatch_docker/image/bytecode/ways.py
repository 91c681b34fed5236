"""The ways to an interpreter that compiles for a base's Python, tried in order.

1. The base's own interpreter, in a sandbox of this machine: for its CPU, on Linux. If the base is for another CPU, that
   of the same base for this machine's, which compiles to the same bytes if its version is the same.
2. The base's own interpreter in a container, which an engine may emulate.
3. An interpreter of exactly that version on this machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from hatch_docker.base.image import Base, open_base
from hatch_docker.base.target import TargetPython
from hatch_docker.base.transports import BaseRequest
from hatch_docker.errors import BytecodeUnavailableError, HatchDockerError
from hatch_docker.image.bytecode.chunks import Talk, compiler_of, identify
from hatch_docker.image.bytecode.compiler import Code, Compiler, Source
from hatch_docker.image.bytecode.container import open_container
from hatch_docker.image.bytecode.frames import Identity, identity_of
from hatch_docker.image.bytecode.host import open_host
from hatch_docker.image.bytecode.known import compiling_command
from hatch_docker.image.bytecode.process import Programs, script
from hatch_docker.image.bytecode.start import (
    ARCHIVES,
    IDENTITIES,
    archive_key,
    identity_key,
)
from hatch_docker.image.bytecode.unpacked import archive
from hatch_docker.services import Services
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field, replace

# The CPUs whose programs a CPU runs, besides its own.
_ALSO_RUNS: Mapping[str, frozenset[str]] = {"amd64": frozenset({"386"})}
# For the first answer, of an interpreter that may be damaged.
_ANSWER_SECONDS = 60
_HINT = (
    "run an engine, or install exactly that Python, or build on a Linux machine of the image's CPU that allows user "
    "namespaces; or set bytecode = false"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The base to compile for, what it was found by, and the level of optimization."""

    base: Base
    request: BaseRequest
    services: Services
    optimization: int

    @property
    def python(self) -> TargetPython:
        return self.base.facts.python


def open_compiler(base: Base, request: BaseRequest, services: Services, *, optimization: int) -> Compiler:
    """A compiler for the Python of `base`; `request` is what the base was found by, to find it for other platforms.

    If a way fails while it compiles, the next one goes on, and a warning says so. Raises BytecodeUnavailableError, as
    the compiler does, whose message says for each way why there is none.
    """
    ways = _Ways(_Wanted(base=base, request=request, services=services, optimization=optimization))
    return replace(ways.open(), run=ways.run)


@dataclass(slots=True)
class _Ways:
    """The ways that are `waiting`, those that were `opened`, the last of which compiles, and why the others do not."""

    wanted: _Wanted
    waiting: Iterator[tuple[str, Way]] = field(default_factory=lambda: iter(WAYS.items()))
    opened: list[tuple[str, Compiler]] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self) -> Compiler:
        """The compiler of the next way that is open. Raises BytecodeUnavailableError if there is none."""
        for name, way in self.waiting:
            try:
                compiler = way(self.wanted)
                if self.opened and compiler.magic != self.opened[0][1].magic:
                    raise BytecodeUnavailableError("its bytecode has another format")
            except HatchDockerError as error:
                self.reasons[name] = error.message
            else:
                self.opened.append((name, compiler))
                return compiler
        base, reasons = self.wanted.base, (f"{name}: {reason}" for name, reason in self.reasons.items())
        raise BytecodeUnavailableError(
            "\n  ".join([f"nothing here compiles modules for {base.facts.python}:", *reasons]),
            place=base.name,
            hint=_HINT,
        )

    def run(self, chunks: Sequence[Sequence[Source]]) -> list[list[Code | None]]:
        """Compile by the open way; when it fails, by the next one, which gives the same bytes."""
        while True:
            name, compiler = self.opened[-1]
            try:
                return compiler.run(chunks)
            except HatchDockerError as error:
                self._give_up(name, error.message)

    def _give_up(self, failed: str, reason: str) -> None:
        with self.lock:
            # Layers are compiled at the same time, and one is the first to see it.
            if self.opened[-1][0] == failed:
                self.reasons[failed] = reason
                self.open()
                name = self.opened[-1][0]
                self.wanted.services.progress.warn(f"{failed}: {reason}; modules are compiled by {name} instead")


def _in_sandbox(wanted: _Wanted) -> Compiler:
    """The interpreter of the base, or of the same base for this machine's CPU."""
    if not sys.platform.startswith("linux"):
        raise BytecodeUnavailableError("this machine does not run Linux")
    host, python = wanted.services.host.platform, wanted.python
    base, of_other = wanted.base, ""
    if python.platform.architecture not in {host.architecture, *_ALSO_RUNS.get(host.architecture, ())}:
        base, of_other = _for_this_machine(wanted), f" for {host}"
    services = wanted.services
    files = _stored(base, services)
    command = compiling_command(files, base.facts.python.interpreter)
    run = Programs(command, os.environ, services.threads).talk
    identity = _identity(identity_key(files), partial(run, patience=_ANSWER_SECONDS), python, services.cache)
    optimization, threads = wanted.optimization, services.threads
    return compiler_of(f"the base's Python{of_other}", run, identity, optimization=optimization, threads=threads)


def _for_this_machine(wanted: _Wanted) -> Base:
    """The same base for this machine's platform. Raises HatchDockerError if there is none with the same Python."""
    host, python = wanted.services.host.platform, wanted.python
    base = open_base(replace(wanted.request, platform=host), wanted.services)
    other = base.facts.python
    if (other.version, other.free_threaded) != (python.version, python.free_threaded):
        raise BytecodeUnavailableError(f"{base.name} for {host} has {other}")
    return base


def _stored(base: Base, services: Services) -> Path:
    """The archive of the base's interpreter, in the cache. Raises HatchDockerError."""
    store, key = services.cache, archive_key(base)

    def find() -> Path | None:
        known = store.get(ARCHIVES, key)
        return store.obtain(str(known.get("archive"))) if known else None

    def make() -> Path:
        data = archive(base.merged, base.facts.python, store, threads=services.threads, kept=services.kept)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        path = store.add([data], digest, what="the base's interpreter")
        store.put(ARCHIVES, key, {"archive": digest})
        return path

    return store.once(f"{ARCHIVES} {key}", find, make)


def _identity(key: str, run: Talk, python: TargetPython, cache: Cache) -> Identity:
    """The Python that a sandbox runs, which was seen on this machine before, or is tried.

    Trying takes as long as compiling a few modules. Raises BytecodeUnavailableError.
    """
    known = cache.get(IDENTITIES, key)
    with contextlib.suppress(KeyError, TypeError, ValueError):
        if known and not (identity := identity_of(str(known["answer"]).encode())).difference(python):
            return identity
    identity = identify(run, python)
    cache.put(IDENTITIES, key, {"answer": identity.answer.decode()})
    return identity


def _in_container(wanted: _Wanted) -> Compiler:
    services = wanted.services
    return open_container(wanted.base, services, script(), optimization=wanted.optimization)


def _on_this_machine(wanted: _Wanted) -> Compiler:
    services = wanted.services
    return open_host(
        wanted.python,
        services.host.environ,
        script(),
        optimization=wanted.optimization,
        threads=services.threads,
    )


Way = Callable[[_Wanted], Compiler]
WAYS: Mapping[str, Way] = {
    "the base's own Python, in a sandbox": _in_sandbox,
    "the base's own Python, in a container": _in_container,
    "a Python of this machine": _on_this_machine,
}
