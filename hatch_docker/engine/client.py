"""The container engine, through the Docker SDK: as little of it as we need. Podman's socket speaks the same API.

The SDK is imported where it is used, since it takes a tenth of a second that other builds need not pay.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hatch_docker.engine.container import LABEL, LIMIT, Container, opened
from hatch_docker.engine.limits import Limits
from hatch_docker.engine.translate import hint, text, translated
from hatch_docker.errors import EngineError
from hatch_docker.oci.archive import archive
from hatch_docker.oci.image import Image
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Platform
from hatch_docker.support.progress import Progress, counted

if TYPE_CHECKING:
    from docker import APIClient

_CONNECT_SECONDS = 15
_TIMEOUT_SECONDS = 600
_LEFT_SECONDS = 600
_NO_ENGINE = (
    "start Docker, or name another engine with DOCKER_HOST (Podman's socket works too); an archive needs no engine: "
    "hatch build -t docker:archive"
)


class Engine:
    """A connection to one engine, open for as long as somebody holds it."""

    def __init__(self, api: APIClient) -> None:
        self._api = api
        weakref.finalize(self, api.close)

    @classmethod
    def connect(cls, environ: Mapping[str, str]) -> Engine:
        """The engine that DOCKER_HOST names, else the context's that DOCKER_CONTEXT names or that is the current one.

        Raises EngineError where none answers.
        """
        from docker import APIClient
        from docker.errors import DockerException
        from docker.utils import kwargs_from_env

        try:
            settings: dict[str, Any] = dict(kwargs_from_env(environment=dict(environ)))
            if not environ.get("DOCKER_HOST"):
                settings |= _context(environ.get("DOCKER_CONTEXT", ""))
            api = APIClient(version="auto", timeout=_CONNECT_SECONDS, use_ssh_client=True, **settings)
            api.timeout = _TIMEOUT_SECONDS
        except (DockerException, OSError, ValueError) as error:
            place = environ.get("DOCKER_HOST", "").rpartition("@")[2] or "the default socket"
            raise EngineError(f"no container engine answers: {text(error)}", place=place, hint=_NO_ENGINE) from None
        return cls(api)

    def save(self, name: str) -> Iterator[bytes]:
        """An image as `docker save` writes it, in chunks; raises EngineError where the engine has no such image."""
        with translated(f"the engine has no image {name}, or cannot save it"):
            yield from self._api.get_image(name, chunk_size=1 << 20)

    def image_id(self, name: str) -> str:
        """The ID of an image, by any name or ID; empty where the engine does not have it."""
        return str(self._inspect(name).get("Id", ""))

    def load(self, image: Image, references: Sequence[Reference], *, base: str = "", progress: Progress) -> None:
        """Load `image` under all `references`. Layers that the engine already has do not travel.

        `base` is a name of the base image that the engine may know. When the engine does not take an archive without
        those layers, it gets the whole. Raises EngineError.
        """
        if not self._has(image, image.config_descriptor.digest):
            there = self._layers_there(image, [references[0].familiar, base])
            if not there or not self._send(image, references, there, progress):
                self._send(image, references, frozenset(), progress, final=True)
            self._tag(references[0].familiar, references[1:])
        else:
            self._tag(image.config_descriptor.digest, references)

    def provide(self, image: Image, reference: Reference, *, base: str = "", progress: Progress) -> str:
        """Make sure that the engine has `image`, and return the ID to run it by.

        It is loaded under `reference` only where the engine does not have it by any name. `base` is as in `load`.
        Raises EngineError.
        """
        # In a containerd store, an image's ID is its manifest's digest.
        for digest in (image.config_descriptor.digest, image.digest):
            if self._has(image, digest):
                return digest
        self.load(image, [reference], base=base, progress=progress)
        return self.image_id(reference.familiar)

    @contextlib.contextmanager
    def container(
        self, image: str, *, what: str, network: bool, limits: Limits, platform: Platform | None = None
    ) -> Iterator[Container]:
        """A container of an image that the engine has, removed at the end of the block, or of this process.

        `what` says what it is for, as a clause that can follow "while": "compiling psutil". With `network` it has the
        engine's default network and the proxies that Docker's configuration has for containers; else none at all, and
        only the capabilities that root needs for files. `limits` hold for the whole life of the container. `platform`
        is the image's.

        Raises EngineError where it does not start, and where a limit is met.
        """
        sweep(self._api, before=time.time() - _LEFT_SECONDS)
        with opened(self._api, image, what=what, network=network, limits=limits, platform=platform) as container:
            yield container

    def _send(
        self,
        image: Image,
        references: Sequence[Reference],
        without: frozenset[str],
        progress: Progress,
        final: bool = False,
    ) -> bool:
        """Send the archive; return whether the engine then has the image. With `final`, raise when it has not."""
        total = sum(layer.descriptor.size for layer in image.layers if layer.descriptor.digest not in without)
        failure = ""
        try:
            with progress.task("load", references[0].familiar, total) as advance:
                chunks = counted(archive(image, references, without=without), advance)
                with translated("the engine does not take the image"):
                    for message in self._api.load_image(chunks):  # type: ignore[no-untyped-call]
                        # A refusal at once is a message; one while it loads is an error in the stream.
                        failure = failure or str(message.get("error") or message.get("message") or "")
        except EngineError:
            if final:
                raise
            return False
        if not failure and self._has(image, references[0].familiar):
            return True
        if final:
            raise EngineError(
                f"the engine does not take the image: {failure or 'it loaded another one'}", hint=hint(failure)
            )
        return False

    def _has(self, image: Image, name: str) -> bool:
        """Whether `name` is this image: its ID is the config's digest, in a containerd store the manifest's."""
        there = self._inspect(name)
        return there.get("Id") in {image.config_descriptor.digest, image.digest} and self._diff_ids(name) == [
            layer.diff_id for layer in image.layers
        ]

    def _layers_there(self, image: Image, names: list[str]) -> frozenset[str]:
        """The digests of the layers that the engine has as the lowest ones of a named image."""
        best = 0
        for name in filter(None, names):
            common = 0
            for layer, diff_id in zip(image.layers, self._diff_ids(name), strict=False):
                if layer.diff_id != diff_id:
                    break
                common += 1
            best = max(best, common)
        return frozenset(layer.descriptor.digest for layer in image.layers[:best])

    def _diff_ids(self, name: str) -> list[str]:
        rootfs = self._inspect(name).get("RootFS") or {}
        return list(rootfs.get("Layers") or ())

    def _inspect(self, name: str) -> dict[str, Any]:
        from docker.errors import NotFound

        with translated("the engine does not answer"):
            try:
                return dict(self._api.inspect_image(name))  # type: ignore[no-untyped-call]
            except NotFound:
                return {}

    def _tag(self, name: str, references: Sequence[Reference]) -> None:
        for reference in references:
            with translated(f"the engine cannot tag {reference.familiar}"):
                self._api.tag(name, reference.with_tag(reference.tag).familiar.rpartition(":")[0], reference.tag)


def sweep(api: APIClient, *, before: float) -> None:
    """Remove containers of ours that were made `before` (seconds since the epoch) and never started.

    One that runs ends with the process it belongs to; but that may have been killed before it could start it. And what
    runs in it may keep its input open: so one goes, too, whose time limit was over before.
    """
    with contextlib.suppress(EngineError), translated("old containers cannot be removed"):
        for found in api.containers(all=True, filters={"label": LABEL}):
            limit = (found.get("Labels") or {}).get(LIMIT, "")
            over = limit.isdecimal() and 0 < int(limit) < before - found["Created"]
            if over or (found.get("State") == "created" and found["Created"] < before):
                api.remove_container(found["Id"], v=True, force=True)


def answers(environ: Mapping[str, str]) -> bool:
    """Whether a container engine answers."""
    try:
        Engine.connect(environ)
    except EngineError:
        return False
    return True


def _context(name: str) -> dict[str, Any]:
    """Where the engine of a Docker context is: the current one leads to Docker Desktop, Colima and rootless engines.

    Raises EngineError where `name` is given and there is none of that name.
    """
    from docker.context import ContextAPI

    context = None
    # A file that is damaged raises whatever the SDK stumbles over.
    with contextlib.suppress(Exception):
        context = ContextAPI.get_context(name or None)
    if context is None and name:
        raise EngineError(f"there is no Docker context named {name!r}", hint="'docker context ls' lists them")
    if context is None or context.name == "default" or not context.Host:
        return {}
    return {"base_url": context.Host, "tls": context.TLSConfig or False}


def local_name(image: Image) -> Reference:
    """The name that an engine gives to an image which hatch-docker loads for its own use: made of its content."""
    return Reference.parse(f"hatch-docker/builder:{image.config_descriptor.digest.partition(':')[2][:16]}")
