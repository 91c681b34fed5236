"""A throw-away container: made to run a few commands in, gone whatever happens to us.

Its main process waits for input that never comes, on a connection of ours. When that breaks, however we end, the
process reads the end of its input and ends, and the engine removes the container. Commands run beside it.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from hatch_docker.engine.files import CHUNK, packed, unpack
from hatch_docker.engine.limits import Limits
from hatch_docker.engine.stream import Stream
from hatch_docker.engine.translate import hint, translated
from hatch_docker.errors import EngineError
from hatch_docker.oci.spec import Platform
from hatch_docker.support.terminal import human

if TYPE_CHECKING:
    from docker import APIClient

# On each container: what it is for, and its time limit in seconds, 0 for none.
LABEL = "hatch-docker.what"
LIMIT = "hatch-docker.seconds"

# What engines say of a container that ended, or was removed, though we did neither.
_GONE = re.compile(
    r"no such (container|exec)|no container with|is not running|only .* running containers", re.IGNORECASE
)

# The line tells that the shell runs: with an image of another CPU, the engine says that it started, too.
_MAIN = ("/bin/sh", "-c", "echo; read _")
_KILLED = 128 + 9
_GONE_SECONDS = 30
_ASK_AGAIN_SECONDS = 0.05

Kind = Literal["modified", "added", "removed"]
_KINDS: tuple[Kind, ...] = ("modified", "added", "removed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What differs from the image: `path` without a leading slash; a directory is modified with what is in it."""

    path: str
    kind: Kind


@dataclass(slots=True)
class Container:
    """A container that runs. All methods raise EngineError, also for a limit that was met."""

    _api: APIClient
    _name: str
    _what: str
    _limits: Limits
    _streams: list[Stream] = field(default_factory=list)
    _late: bool = False

    def run(
        self,
        command: Sequence[str],
        *,
        write: Callable[[bytes], object],
        environ: Mapping[str, str] | None = None,
        directory: str = "/",
    ) -> int:
        """Run a command as root; return its exit status. What it prints goes to `write` as it comes."""
        with self._told():
            made = self._api.exec_create(
                self._name, [*command], user="0:0", environment=dict(environ or {}), workdir=directory
            )["Id"]
            stream = Stream(self._api.exec_start(made, socket=True))
        self._streams.append(stream)
        try:
            for chunk in self._all(iter(stream)):
                write(chunk)
        finally:
            self._streams.remove(stream)
            stream.close()
        status = self._status(made)
        if status:
            self._check_memory(status)
        return status

    def put(self, files: Mapping[str, bytes | Path]) -> None:
        """Write files: by their absolute paths in the container, the content or the file of this machine that has it.

        They belong to root and have the mode 0644. Directories that are missing are made.
        """
        with self._told():
            self._api.put_archive(self._name, "/", packed(files))

    def get(self, path: str, out: BinaryIO) -> None:
        """Copy the content of one regular file to `out`."""
        try:
            with self._told():
                chunks, _ = self._api.get_archive(self._name, path, chunk_size=CHUNK)
            unpack(self._all(chunks), out)
        except EngineError as error:
            error.place = error.place or path
            raise

    def changes(self) -> list[Change]:
        """What differs from the image."""
        with self._told():
            # The engine says null where nothing does.
            found = self._api.diff(self._name) or []
        return [Change(path=each["Path"].lstrip("/"), kind=_KINDS[each["Kind"]]) for each in found]

    def export(self) -> Iterator[bytes]:
        """The whole file system as a tar, in chunks."""
        with self._told():
            chunks = self._api.export(self._name, chunk_size=CHUNK)
        return self._all(chunks)

    def _all(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The same chunks. What is done with them is not the engine's to answer for."""
        while True:
            with self._told():
                chunk = next(chunks, b"")
            if not chunk:
                return
            yield chunk

    def _status(self, command: str) -> int:
        """How a command ended, once it did: its output may end before it."""
        while True:
            with self._told():
                found = self._api.exec_inspect(command)
            if not found["Running"] and found["ExitCode"] is not None:
                return int(found["ExitCode"])
            time.sleep(_ASK_AGAIN_SECONDS)

    def _check_memory(self, status: int) -> None:
        """Raise where memory ran out. The engine tells of every process in the container, not of the first alone."""
        with self._told():
            state = self._api.inspect_container(self._name)["State"]
        memory = self._limits.memory
        limit = f"its limit of {human(memory)}" if memory else "the engine has"
        advice = "set HATCH_DOCKER_BUILD_MEMORY to more" if memory else "give the engine more memory"
        if state.get("OOMKilled"):
            raise EngineError(f"{self._what} needs more memory than {limit}", hint=advice)
        if status == _KILLED:
            raise EngineError(f"{self._what} was killed: it may need more memory than {limit}", hint=advice)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Tell errors by what the container is for, and by its time limit where that is their cause."""
        try:
            with translated(f"{self._what} failed in the engine", away=f"the engine went away while {self._what}"):
                yield
        except EngineError as error:
            if not self._late and _GONE.search(error.message):
                raise EngineError(
                    f"the container went away while {self._what}",
                    hint="somebody removed it, or the engine was started anew: try again",
                ) from None
            if not self._late:
                raise
        if self._late:
            raise EngineError(
                f"{self._what} took longer than {self._limits.duration}",
                hint="set HATCH_DOCKER_BUILD_TIMEOUT to more",
            )

    def _expire(self) -> None:
        """End everything; whoever waits for it is told."""
        self._late = True
        # An engine that no longer answers would not end what waits for it.
        for stream in [*self._streams]:
            stream.break_off()
        with contextlib.suppress(Exception):
            self._api.kill(self._name)


@contextlib.contextmanager
def opened(
    api: APIClient, image: str, *, what: str, network: bool, limits: Limits, platform: Platform | None = None
) -> Iterator[Container]:
    """A container of `image`, for as long as the block lasts; see Engine.container."""
    container = Container(api, f"hatch-docker-{secrets.token_hex(8)}", what, limits)
    timer = threading.Timer(limits.seconds, container._expire)
    timer.daemon = True
    if limits.seconds:
        timer.start()
    try:
        _start(container, image, network=network, platform=platform)
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


def _start(container: Container, image: str, *, network: bool, platform: Platform | None) -> None:
    api, name = container._api, container._name
    try:
        with container._told():
            api.create_container(
                image,
                name=name,
                # Installation scripts write it into configuration files.
                hostname="hatch-docker",
                entrypoint=[*_MAIN],
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
    """Remove the container, and wait until it is gone. Raises EngineError where it stays."""
    from docker.errors import APIError, NotFound

    name, deadline = container._name, time.monotonic() + _GONE_SECONDS
    with translated(f"the engine does not remove the container {name}"), contextlib.suppress(NotFound):
        while True:
            try:
                container._api.remove_container(name, v=True, force=True)
            except APIError as error:
                # The engine may be removing it already, since its main process ended: Docker says 409, Podman 500.
                if isinstance(error, NotFound) or time.monotonic() > deadline:
                    raise
                time.sleep(_ASK_AGAIN_SECONDS)


def _try_to_remove(container: Container) -> None:
    """Remove the container after an error, which is what is told, and soon: it may be that the engine hangs."""

    def work() -> None:
        with contextlib.suppress(EngineError):
            _remove(container)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_GONE_SECONDS)
