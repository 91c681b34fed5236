"""A temporary container to run commands in. It is removed even if this process is killed.

Its main process waits for input on a connection of ours. If the connection breaks, because we end in any way, the
process reads the end of its input and ends, and the engine removes the container. Commands run beside it.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from hatch_docker.engine.files import CHUNK, packed, unpack
from hatch_docker.engine.limits import Limits
from hatch_docker.engine.stream import Stream
from hatch_docker.engine.translate import hint, translated
from hatch_docker.errors import EngineError
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.patterns import regex
from hatch_docker.support.terminal import human

if TYPE_CHECKING:
    from docker import APIClient

# Labels of each container: its purpose, and its time limit in seconds, 0 for none.
LABEL = "hatch-docker.what"
LIMIT = "hatch-docker.seconds"

# Engines' messages about a container that ended, or that another process removed.
_GONE = regex(r"no such (container|exec)|no container with|is not running|only .* running containers", re.IGNORECASE)

# It prints a line once the shell runs. Engines report a start even if the image is for another CPU.
MAIN = ("/bin/sh", "-c", "echo; read _")
_KILLED = 128 + 9
_REMOVE_SECONDS = 30
_POLL_SECONDS = 0.05

Kind = Literal["modified", "added", "removed"]
_KINDS: tuple[Kind, ...] = ("modified", "added", "removed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A difference from the image. `path` has no leading slash; a directory is modified if an entry of it is."""

    path: str
    kind: Kind


@dataclass(slots=True)
class Container:
    """A running container. All methods raise EngineError, also if a limit is reached."""

    _api: APIClient
    _name: str
    _what: str
    _limits: Limits
    _streams: list[Stream] = field(default_factory=list)
    _expired: bool = False

    def run(
        self,
        command: Sequence[str],
        *,
        write: Callable[[bytes], object],
        environ: Mapping[str, str] | None = None,
        directory: str = "/",
        user: str = "0:0",
    ) -> int:
        """Run a command, as root or another `user`; return its exit status. `write` is called with its output."""
        with self._translated():
            made = self._api.exec_create(
                self._name, [*command], user=user, environment=dict(environ or {}), workdir=directory
            )["Id"]
            stream = Stream(self._api.exec_start(made, socket=True))
        self._streams.append(stream)
        try:
            for chunk in self._translated_chunks(iter(stream)):
                write(chunk)
        finally:
            self._streams.remove(stream)
            stream.close()
        status = self._status(made)
        if status:
            self._check_memory(status)
        return status

    def put(self, files: Mapping[str, bytes | Path]) -> None:
        """Copy files into the container: each absolute path with its content, or with a file of the host.

        They belong to root and have the mode 0644. Missing directories are created.
        """
        with self._translated():
            self._api.put_archive(self._name, "/", packed(files))

    def get(self, path: str, out: BinaryIO) -> None:
        """Copy the content of one regular file to `out`."""
        try:
            with self._translated():
                chunks, _ = self._api.get_archive(self._name, path, chunk_size=CHUNK)
            unpack(self._translated_chunks(chunks), out)
        except EngineError as error:
            error.place = error.place or path
            raise

    def changes(self) -> list[Change]:
        """The differences from the image."""
        with self._translated():
            # The engine returns null if there are none.
            differences = self._api.diff(self._name) or []
        return [Change(path=each["Path"].lstrip("/"), kind=_KINDS[each["Kind"]]) for each in differences]

    def export(self) -> Iterator[bytes]:
        """The whole file system as a tar, in chunks."""
        with self._translated():
            chunks = self._api.export(self._name, chunk_size=CHUNK)
        return self._translated_chunks(chunks)

    def _translated_chunks(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The same chunks; only errors of reading them are translated, not those of the caller."""
        while True:
            with self._translated():
                chunk = next(chunks, b"")
            if not chunk:
                return
            yield chunk

    def _status(self, command: str) -> int:
        """Wait for the end of a command, which may come after that of its output; return its exit status."""
        while True:
            with self._translated():
                state = self._api.exec_inspect(command)
            if not state["Running"] and state["ExitCode"] is not None:
                return int(state["ExitCode"])
            time.sleep(_POLL_SECONDS)

    def _check_memory(self, status: int) -> None:
        """Raise EngineError if memory ran out. The engine's flag covers every process in the container."""
        with self._translated():
            state = self._api.inspect_container(self._name)["State"]
        memory = self._limits.memory
        limit = f"its limit of {human(memory)}" if memory else "the engine has"
        advice = "set HATCH_DOCKER_BUILD_MEMORY to more" if memory else "give the engine more memory"
        if state.get("OOMKilled"):
            raise EngineError(f"{self._what} needs more memory than {limit}", hint=advice)
        if status == _KILLED:
            raise EngineError(f"{self._what} was killed: it may need more memory than {limit}", hint=advice)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate errors. They name the container's purpose, or its time limit if that was the cause."""
        try:
            with translated(f"{self._what} failed in the engine", away=f"the engine went away while {self._what}"):
                yield
        except EngineError as error:
            if not self._expired and _GONE.search(error.message):
                raise EngineError(
                    f"the container went away while {self._what}",
                    hint="somebody removed it, or the engine was restarted: try again",
                ) from None
            if not self._expired:
                raise
        if self._expired:
            raise EngineError(
                f"{self._what} took longer than {self._limits.duration}",
                hint="set HATCH_DOCKER_BUILD_TIMEOUT to more",
            )

    def _expire(self) -> None:
        """End all commands; their callers get an error."""
        self._expired = True
        # An engine that no longer answers would not end the streams.
        for stream in [*self._streams]:
            stream.break_off()
        with contextlib.suppress(Exception):
            self._api.kill(self._name)


def new(api: APIClient, what: str, limits: Limits) -> Container:
    """A container that `opened` makes; see Engine.container."""
    return Container(api, f"hatch-docker-{secrets.token_hex(8)}", what, limits)


@contextlib.contextmanager
def opened(
    container: Container, image: str, *, network: bool, platform: Platform | None, main: Sequence[str]
) -> Iterator[Container]:
    """Make a container of `image`, for the duration of the block; see Engine.container."""
    limits = container._limits
    timer = threading.Timer(limits.seconds, container._expire)
    timer.daemon = True
    if limits.seconds:
        timer.start()
    try:
        _start(container, image, network=network, platform=platform, main=main)
        yield container
    except BaseException:
        _try_to_remove(container)
        raise
    else:
        try:
            _remove(container)
        except EngineError as error:
            error.hint = error.hint or f"'docker rm --force {container._name}' removes it"
            raise
    finally:
        timer.cancel()
        for stream in container._streams:
            stream.close()


def _start(container: Container, image: str, *, network: bool, platform: Platform | None, main: Sequence[str]) -> None:
    api, name = container._api, container._name
    try:
        with container._translated():
            api.create_container(
                image,
                name=name,
                # Installation scripts write it to configuration files.
                hostname="hatch-docker",
                entrypoint=[*main],
                command=[],
                user="0:0",
                working_dir="/",
                stdin_open=True,
                labels={LABEL: container._what, LIMIT: str(container._limits.seconds)},
                use_config_proxy=network,
                platform=str(platform) if platform else None,
                host_config=api.create_host_config(auto_remove=True, **container._limits.options(network=network)),
            )
            stream = Stream(api.attach_socket(name, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}))
            container._streams.append(stream)
            api.start(name)
            first = next(iter(stream), b"it ended at once").decode(errors="replace").strip()
    except EngineError as error:
        if re.search(r'"/bin/sh":.*(no such file|not found)', error.message):
            raise EngineError("the image has no /bin/sh, which runs commands in it", place=image) from None
        raise
    if first:
        raise EngineError(f"{container._what} cannot start: {first}", place=image, hint=hint(first))


def _remove(container: Container) -> None:
    """Remove the container, and wait for that. Raises EngineError if it is not removed."""
    from docker.errors import APIError, NotFound

    name, deadline = container._name, time.monotonic() + _REMOVE_SECONDS
    with translated(f"the engine does not remove the container {name}"), contextlib.suppress(NotFound):
        while True:
            try:
                container._api.remove_container(name, v=True, force=True)
            except APIError as error:
                # The engine may be removing it already, as its main process ended: status 409 (Docker), 500 (Podman).
                if isinstance(error, NotFound) or time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)


def _try_to_remove(container: Container) -> None:
    """Remove the container after an error, which is reported instead of new ones. The engine may hang."""

    def work() -> None:
        with contextlib.suppress(EngineError):
            _remove(container)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_REMOVE_SECONDS)
