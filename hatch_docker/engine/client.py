"""A client of the container engine: by the Docker SDK, but for images by `plain` if that reaches the engine.

Podman's socket has the same API. The SDK is imported when it is used, since that takes a tenth of a second.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hatch_docker.engine.plain import PlainApi, plain_address
from hatch_docker.engine.translate import ForeignError, hint, translated
from hatch_docker.errors import EngineError
from hatch_docker.oci.archive import archive
from hatch_docker.oci.image import Image, uncompressed
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.progress import Progress, counted
from hatch_docker.support.threads import once

if TYPE_CHECKING:
    from docker import APIClient

    from hatch_docker.engine.container import Container
    from hatch_docker.engine.limits import Limits

_CONNECT_SECONDS = 15
_TIMEOUT_SECONDS = 600
_NOT_FOUND = 404
# Containers that did not start within this time belong to processes that were killed.
_ABANDONED_SECONDS = 600
# The SDK's names for sockets, and loopback. The network to another machine is slower than its decompression.
_HERE = frozenset({"localhost", "localnpipe", "127.0.0.1"})
_NO_ENGINE = (
    "start Docker, or name another engine with DOCKER_HOST (Podman's socket works too); an archive needs no engine: "
    "hatch-docker build -o type=oci,dest=FILE, or hatch build -t docker:archive"
)
_FOREIGN = (
    "emulate it: docker run --privileged --rm tonistiigi/binfmt --install all; or name an engine of that "
    "CPU in DOCKER_HOST; or build on a machine for each platform, with --update-index"
)


class Engine:
    """A connection to one engine. It is closed when the object is garbage-collected."""

    def __init__(self, api: APIClient | PlainApi, connect: Callable[[], APIClient], facts: Mapping[str, Any]) -> None:
        self._images = api
        self._connect = connect
        self._facts = facts
        self._asking = threading.Lock()
        self._refusals: dict[Platform, str] = {}
        weakref.finalize(self, api.close)

    @classmethod
    def connect(cls, environ: Mapping[str, str]) -> Engine:
        """Connect to the engine of DOCKER_HOST, else of the context in DOCKER_CONTEXT, else of the current context.

        Raises EngineError if none answers.
        """
        connect = once(partial(_connect, environ))
        address = plain_address(environ)
        api = PlainApi(address, timeout=_CONNECT_SECONDS) if address else connect()
        with _answering(environ):
            facts = dict(api.version(api_version=False))
        api.timeout = _TIMEOUT_SECONDS
        return cls(api, connect, facts)

    @cached_property
    def _api(self) -> APIClient:
        api = self._connect()
        weakref.finalize(self, api.close)
        return api

    @property
    def platform(self) -> Platform:
        """The platform of the engine's machine."""
        return Platform.of(str(self._facts.get("Os") or "linux"), str(self._facts.get("Arch") or ""))

    def require(self, platform: Platform) -> None:
        """Raise EngineError if the engine runs no containers of a platform, neither as they are nor in an emulation."""
        if platform == self.platform:
            return
        with self._asking:
            if platform not in self._refusals:
                from hatch_docker.engine.probe import refusal

                self._refusals[platform] = refusal(self._api, platform)
        if reason := self._refusals[platform]:
            raise ForeignError(
                f"the engine is for {self.platform} and runs no container of {platform} ({reason})",
                hint=_FOREIGN,
            )

    def save(self, name: str) -> Iterator[bytes]:
        """An image as `docker save` writes it, in chunks; raises EngineError if the engine has no such image."""
        from hatch_docker.engine.files import CHUNK

        with translated(f"the engine has no image {name}, or cannot save it"):
            yield from self._images.get_image(name, chunk_size=CHUNK)

    def image_id(self, name: str) -> str:
        """The ID of an image, by any name or ID; empty if the engine does not have it."""
        return str(self.inspect(name).get("Id", ""))

    def image_platform(self, name: str) -> Platform:
        """The platform of an image. Raises EngineError if the engine does not have it."""
        facts = self.inspect(name)
        if not facts:
            raise EngineError(f"the engine has no image {name}")
        return Platform.of(*(str(facts.get(key) or "") for key in ("Os", "Architecture", "Variant")))

    def load(self, image: Image, references: Sequence[Reference], *, base: str = "", progress: Progress) -> None:
        """Load `image` under all `references`. Nothing is sent if the engine has it.

        Layers that the engine has already are not sent, except to a containerd store. `base` is a name of the base
        image that the engine may know. If the engine refuses an archive without those layers, it gets the whole image.
        Raises EngineError.
        """
        named = self.inspect(references[0].familiar)
        found = named if _is(image, named) else self._find(image)
        if not found:
            # `latest` is in the engine more often than the name with a new version.
            others = [base, *(each.familiar for each in references[1:])]
            present: frozenset[str] = frozenset()
            if not self._is_content_store:
                present = _present_layers(image, [named, *map(self.inspect, filter(None, others))])
            try:
                found = self._send(image, references, present, progress)
            except EngineError:
                if not present:
                    raise
                found = self._send(image, references, frozenset(), progress)
        self._tag(found, references)

    def provide(self, image: Image, reference: Reference, *, base: str = "", progress: Progress) -> str:
        """Load `image` under `reference`, unless the engine has it under any name; return the ID to run it by.

        `base` is as in `load`. Raises EngineError.
        """
        if not (found := self._find(image)):
            self.load(image, [reference], base=base, progress=progress)
            found = self.inspect(reference.familiar)
        return str(found.get("Id", ""))

    @contextlib.contextmanager
    def container(
        self,
        image: str,
        *,
        what: str,
        network: bool,
        limits: Limits,
        platform: Platform | None = None,
        main: Sequence[str] = (),
    ) -> Iterator[Container]:
        """A container of an image that the engine has. It is removed at the end of the block, or of this process.

        `what` is its purpose, such as "compiling psutil", for messages. With `network` it has the engine's default
        network and the proxies of Docker's configuration; without, it has no network, and only the capabilities that
        root needs for files. `limits` hold for the whole life of the container. `platform` is the image's. Its main
        process, `main` or `container.MAIN`, prints an empty line, and waits for the end of its input.

        Raises EngineError if it does not start, which a foreign platform may be a reason for, or reaches a limit.
        """
        from hatch_docker.engine.container import MAIN, new, opened

        if platform:
            self.require(platform)
        sweep(self._api, before=time.time() - _ABANDONED_SECONDS)
        made = new(self._api, what, limits)
        with opened(made, image, network=network, platform=platform, main=main or MAIN) as container:
            yield container

    def _send(
        self, image: Image, references: Sequence[Reference], without: frozenset[str], progress: Progress
    ) -> dict[str, Any]:
        """Send the archive without some layers; return the image as the engine has it then.

        Raises EngineError if the engine does not have it.
        """
        sent = image
        if self._takes_plain_layers:
            layers = (each if each.descriptor.digest in without else uncompressed(each) for each in image.layers)
            sent = replace(image, layers=tuple(layers))
        total = sum(layer.descriptor.size for layer in sent.layers if layer.descriptor.digest not in without)
        failure = ""
        with progress.task("load", references[0].familiar, total) as advance:
            chunks = counted(archive(sent.node, references, without=without), advance)
            with translated("the engine does not load the image"):
                for message in self._images.load_image(chunks):
                    # An immediate refusal has a message; a failure while loading is an error in the stream.
                    failure = failure or str(message.get("error") or message.get("message") or "")
        loaded = {} if failure else self.inspect(references[0].familiar)
        if not _is(image, loaded):
            raise EngineError(
                f"the engine does not load the image: {failure or 'it loaded another one'}", hint=hint(failure)
            )
        return loaded

    @cached_property
    def _info(self) -> dict[str, Any]:
        with translated("the engine does not answer"):
            return dict(self._images.info())

    @property
    def _takes_plain_layers(self) -> bool:
        """Whether layers are sent uncompressed: the engine is on this machine, and unpacks them anyway.

        `overlay2` is Docker's graph driver, whose images have no manifest. Docker's containerd store and Podman keep
        the manifest, by which the image is known in registries, so they need the blobs that it names.
        """
        host = urlsplit(self._images.base_url).hostname
        return host in _HERE and self._info.get("Driver") == "overlay2"

    @property
    def _is_content_store(self) -> bool:
        """Whether images are in containerd's store, which can push only those whose blobs it has all.

        It accepts an image without the blob of a layer that it has with another compression, and may not tell.
        """
        return any("io.containerd.snapshotter.v1" in status for status in self._info.get("DriverStatus") or ())

    def _find(self, image: Image) -> dict[str, Any]:
        """The image, inspected by its ID; empty if the engine does not have all of it."""
        for digest in (image.config_descriptor.digest, image.digest):
            if _is(image, found := self.inspect(digest)):
                return found
        return {}

    def inspect(self, name: str) -> dict[str, Any]:
        """An image as the engine describes it, by any name or ID; empty if it does not have it. Raises EngineError."""
        with translated("the engine does not answer"):
            try:
                return dict(self._images.inspect_image(name))
            except Exception as error:  # the SDK's classes would have to be imported
                if getattr(error, "status_code", None) == _NOT_FOUND:
                    return {}
                raise

    def _tag(self, image: Mapping[str, Any], references: Sequence[Reference]) -> None:
        """Give an inspected image the names that it lacks."""
        names = set(image.get("RepoTags") or ())
        # Podman's are whole.
        for reference in (each for each in references if names.isdisjoint({each.familiar, str(each)})):
            with translated(f"the engine cannot tag {reference.familiar}"):
                self._images.tag(
                    image["Id"], reference.with_tag(reference.tag).familiar.rpartition(":")[0], reference.tag
                )


def _is(image: Image, inspected: Mapping[str, Any]) -> bool:
    """Whether the engine has `image` whole: its ID is the config's digest, in a containerd store the manifest's."""
    return inspected.get("Id") in {image.config_descriptor.digest, image.digest} and _diff_ids(inspected) == [
        layer.diff_id for layer in image.layers
    ]


def _present_layers(image: Image, others: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The digests of the lowest layers that `image` has in common with one of the inspected images."""
    best = 0
    for other in others:
        common = 0
        for layer, diff_id in zip(image.layers, _diff_ids(other), strict=False):
            if layer.diff_id != diff_id:
                break
            common += 1
        best = max(best, common)
    return frozenset(layer.descriptor.digest for layer in image.layers[:best])


def _diff_ids(inspected: Mapping[str, Any]) -> list[str]:
    rootfs = inspected.get("RootFS") or {}
    return list(rootfs.get("Layers") or ())


def sweep(api: APIClient, *, before: float) -> None:
    """Remove abandoned containers of ours: those made `before` (seconds since the epoch) and never started.

    A running container ends with its process, but the process may have been killed before it started the container.
    Containers whose time limit ended `before` are removed too: a command in them may keep its input open.
    """
    from hatch_docker.engine.container import LABEL, LIMIT

    with contextlib.suppress(EngineError), translated("old containers cannot be removed"):
        for container in api.containers(all=True, filters={"label": LABEL}):
            limit = (container.get("Labels") or {}).get(LIMIT, "")
            expired = limit.isdecimal() and 0 < int(limit) < before - container["Created"]
            if expired or (container.get("State") == "created" and container["Created"] < before):
                api.remove_container(container["Id"], v=True, force=True)


def answers(environ: Mapping[str, str]) -> bool:
    """Whether a container engine answers."""
    try:
        Engine.connect(environ)
    except EngineError:
        return False
    return True


def _connect(environ: Mapping[str, str]) -> APIClient:
    """The engine's API by the SDK. Raises EngineError if none answers."""
    from docker import APIClient
    from docker.utils import kwargs_from_env

    with _answering(environ):
        settings: dict[str, Any] = dict(kwargs_from_env(environment=dict(environ)))
        if not environ.get("DOCKER_HOST"):
            settings |= _context(environ.get("DOCKER_CONTEXT", ""))
        api = APIClient(version="auto", timeout=_CONNECT_SECONDS, use_ssh_client=True, **settings)
    api.timeout = _TIMEOUT_SECONDS
    return api


@contextlib.contextmanager
def _answering(environ: Mapping[str, str]) -> Iterator[None]:
    place = environ.get("DOCKER_HOST", "").rpartition("@")[2] or "the default socket"
    with translated("no container engine answers", place=place, advice=_NO_ENGINE):
        yield


def _context(name: str) -> dict[str, Any]:
    """The address of the engine of a Docker context, the current one if `name` is empty.

    The current context leads to Docker Desktop, Colima and rootless engines. Raises EngineError if `name` does not
    exist.
    """
    from docker.context import ContextAPI

    context = None
    # The SDK raises various exceptions for damaged files.
    with contextlib.suppress(Exception):
        context = ContextAPI.get_context(name or None)
    if context is None and name:
        raise EngineError(f"there is no Docker context named {name!r}", hint="'docker context ls' lists them")
    if context is None or context.name == "default" or not context.Host:
        return {}
    return {"base_url": context.Host, "tls": context.TLSConfig or False}


def local_name(image: Image) -> Reference:
    """The name under which hatch-docker loads an image for its own use. It contains the start of the image's ID."""
    return Reference.parse(f"hatch-docker/builder:{image.config_descriptor.digest.partition(':')[2][:16]}")
