"""The repository of a registry that a cache is in: its requests, each once and without knowing what entries mean."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from threading import Event

from hatch_docker.caching.artifact import EMPTY, ENTRY, Artifact, long_lines, manifest_of, read_manifest
from hatch_docker.errors import ImageError, RegistryError
from hatch_docker.oci import spec
from hatch_docker.oci.graph import Node
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.session import Access, Answer, Request, Session
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.streams import CHUNK, digest_of

_OK = 200
# In bytes. Compressed lines that are larger are not read.
_LARGEST_LINES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository with a cache. Its methods raise RegistryError, and ImageError for content that is not ours."""

    session: Session
    reference: Reference

    def artifact(self, tag: str, kind: str) -> Artifact | None:
        """The artifact of a type that a tag names; None if there is none. Its lines may still be remote."""
        try:
            answer, access = self._manifest("GET", tag)
        except RegistryError as error:
            if error.status == _OK:
                # It is too large.
                raise ImageError(error.message) from None
            raise
        if answer.status == 404:
            return None
        if answer.status != _OK:
            raise self.session.refusal(answer, access)
        return read_manifest(answer.body, kind)

    def complete(self, artifact: Artifact) -> Artifact:
        """The artifact with its lines, which are verified."""
        blob = artifact.remote
        if artifact.lines is not None or blob is None:
            return artifact
        if blob.size > _LARGEST_LINES:
            raise ImageError(f"its entries are larger than any can be: {blob.size} bytes")
        data = io.BytesIO()
        for chunk in self.chunks(blob):
            data.write(chunk)
            if data.tell() > blob.size:
                break
        if digest_of(data.getvalue()) != blob.digest:
            raise ImageError("its entries have another digest than its manifest says")
        return replace(artifact, lines=data.getvalue())

    def chunks(self, blob: Descriptor) -> Iterator[bytes]:
        """A blob as it comes, not verified. Breaking off is an error: nothing is requested again."""
        from urllib3.exceptions import HTTPError

        from hatch_docker.support.network_errors import translate

        access, url = Access(reference=self.reference), self.session.url(self.reference, f"blobs/{blob.digest}")
        response = self.session.blob(url, {}, access)
        try:
            yield from response.stream(CHUNK, decode_content=False)
        except HTTPError as error:
            raise translate(error, url) from None
        finally:
            response.close()

    def has(self, tag: str) -> bool:
        """Whether a tag names something."""
        return self._manifest("HEAD", tag)[0].status == _OK

    def put(self, tag: str, artifact: Artifact, stopped: Event, kind: str = ENTRY) -> None:
        """Let a tag name an artifact; the repository was prepared, and has the blobs of its entries already."""
        from hatch_docker.oci.registry import documents

        if long := long_lines(artifact):
            self.send(_node(*long), (), stopped)
        data = manifest_of(artifact, kind)
        descriptor = Descriptor(media_type=spec.MANIFEST, digest=digest_of(data), size=len(data))
        documents.put(self.session, self.reference.with_tag(tag), _node(descriptor, data))

    def prepare(self, stopped: Event) -> None:
        """Send what all artifacts have in common: the empty config. Raises if nothing can be written at all."""
        self.send(_node(EMPTY, b"{}"), (), stopped)

    def send(self, blob: Node, mount_from: tuple[str, ...], stopped: Event) -> None:
        """Push a blob, unless the repository has it or can mount it from others of its registry."""
        from hatch_docker.oci.registry.presence import Presence
        from hatch_docker.oci.registry.upload import Uploads
        from hatch_docker.support.progress import Progress

        Uploads(
            session=self.session,
            target=self.reference,
            presence=Presence(self.session, self.reference),
            mount_from=mount_from,
            stopped=stopped,
            progress=Progress(),
        ).send(blob)

    def _manifest(self, method: str, tag: str) -> tuple[Answer, Access]:
        access = Access(reference=self.reference)
        url = self.session.url(self.reference, f"manifests/{tag}")
        return self.session.call(Request(method, url, {"Accept": spec.MANIFEST}), access), access


def _node(descriptor: Descriptor, data: bytes) -> Node:
    return Node(descriptor=descriptor, open=partial(io.BytesIO, data))
