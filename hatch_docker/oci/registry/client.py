"""Pull from and push to registries (OCI distribution specification 1.1)."""

from __future__ import annotations

import io
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from hatch_docker.errors import DigestMismatchError, ImageError, NetworkError, RegistryError
from hatch_docker.oci import spec
from hatch_docker.oci.image import Image
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.session import Access, Answer, Session
from hatch_docker.oci.registry.upload import Blob, Outcome, Uploads
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress
from hatch_docker.support.streams import digest_of
from hatch_docker.support.threads import together

_ACCEPT = ", ".join([*spec.MANIFESTS, *spec.INDEXES])
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_SILENT = Progress()
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_LENGTH = re.compile(r"[0-9]{1,9}")
_T = TypeVar("_T")


class Registry:
    """A client of any number of registries. Thread-safe.

    `mirrors` maps a registry to the host, or `host/prefix`, that its images are pulled from first; the registry itself
    is asked where a mirror lacks an image or cannot be reached. Nothing is pushed to a mirror, and a mirror gets its
    own credentials, never those of the registry. `insecure` names the hosts that speak plain HTTP.
    """

    def __init__(
        self,
        http: Http,
        *,
        credentials: Credentials,
        mirrors: Mapping[str, str] | None = None,
        insecure: frozenset[str] = frozenset(),
    ) -> None:
        self._http = http
        self._session = Session(http, credentials, insecure)
        self._mirrors = dict(mirrors or {})
        self._silent: dict[str, RegistryError] = {}

    def resolve(self, reference: Reference) -> Descriptor:
        """What a tag or digest stands for now: media type, digest and size of a manifest or index.

        The digest is the registry's word; `manifest` verifies it. Raises RegistryError, or ImageError for what is no
        image.
        """
        return self._pull(reference, self._resolve)

    def manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """The manifest or index that a tag or digest stands for; its bytes are those of the descriptor's digest.

        Raises RegistryError, DigestMismatchError, or ImageError for what is no image.
        """
        return self._pull(reference, self._manifest)

    def blob(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """A blob of the image's repository in chunks, resumed where the connection breaks.

        The caller verifies the digest. Raises RegistryError, NetworkError, or DigestMismatchError for too many bytes.
        """
        chunks = self._pull(reference, lambda place: self._blob(place, descriptor))
        left = descriptor.size
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise DigestMismatchError(
                    f"the blob {descriptor.digest} is larger than the {descriptor.size} bytes it should be",
                    place=str(reference),
                )
            yield chunk

    def push(
        self,
        image: Image,
        references: Sequence[Reference],
        *,
        mount_from: Reference | None = None,
        threads: int = 4,
        progress: Progress = _SILENT,
    ) -> str:
        """Push an image under `references`, all of one repository; return the digest of its manifest.

        Blobs that the repository has are left alone; those of `mount_from`, an image in the same registry, are mounted.
        The manifest comes last, so that a tag never names half an image. Raises RegistryError.
        """
        if len({(reference.registry, reference.repository) for reference in references}) != 1:
            raise ValueError("push takes references of one repository")
        target = references[0]
        stopped = threading.Event()
        uploads = Uploads(
            session=self._session,
            target=target,
            mount_from=self._mountable(mount_from, target),
            stopped=stopped,
            progress=progress,
        )
        config, *layers = _blobs(image)
        # Alone, and small: who may not push learns it from one request.
        outcomes = Counter([uploads.send(config)])
        outcomes.update(together(uploads.send, layers, threads=threads, stop=stopped))
        data = image.manifest_bytes
        for reference in references:
            self._put_manifest(reference, data)
        counts = ", ".join(f"{outcomes[outcome]} {outcome.value}" for outcome in Outcome if outcomes[outcome])
        progress.note(f"pushed {target.registry}/{target.repository} (blobs: {counts})")
        return digest_of(data)

    def _resolve(self, reference: Reference) -> Descriptor:
        access = Access(reference=reference)
        url = self._session.url(reference, f"manifests/{reference.identifier}")
        # A HEAD is not counted by registries that limit pulls. What it does not say, a GET does.
        answer = self._session.call("HEAD", url, access, headers={"Accept": _ACCEPT})
        digest = reference.digest or answer.headers.get("Docker-Content-Digest", "")
        media_type, size = _content_type(answer), answer.headers.get("Content-Length", "")
        known = media_type in (*spec.MANIFESTS, *spec.INDEXES)
        if answer.status == 200 and known and _SHA256.fullmatch(digest) and _LENGTH.fullmatch(size):
            return Descriptor(media_type=spec.oci_media_type(media_type), digest=digest, size=int(size))
        return self._manifest(reference)[0]

    def _manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        access = Access(reference=reference)
        url = self._session.url(reference, f"manifests/{reference.identifier}")
        answer = self._session.call("GET", url, access, headers={"Accept": _ACCEPT})
        if answer.status != 200:
            raise self._session.refusal(answer, access)
        media_type = _media_type(answer, reference)
        digest = _verified_digest(answer, reference)
        return Descriptor(media_type=media_type, digest=digest, size=len(answer.body)), answer.body

    def _blob(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        access = Access(reference=reference)
        url = self._session.url(reference, f"blobs/{descriptor.digest}")
        response = self._session.open("GET", url, access)
        if response.status != 200:
            raise self._session.refusal(self._session.read(response, url, access), access)
        again = partial(self._session.open, "GET", url, access)
        return self._http.resume(response, url, {}, again=lambda headers: again(headers=headers))

    def _pull(self, reference: Reference, fetch: Callable[[Reference], _T]) -> _T:
        """What `fetch` gets from the registry's mirror, or else from the registry."""
        mirror = self._mirror(reference)
        if mirror is None:
            return self._ask(reference, fetch)
        try:
            return self._ask(mirror, fetch)
        except (NetworkError, ImageError, DigestMismatchError) as error:
            failure = error
        try:
            return self._ask(reference, fetch)
        except RegistryError as error:
            message = f"the mirror: {failure.message}; the registry itself: {error.message}"
            # Where only the mirror answers, what it says is all that is known.
            told = failure if isinstance(failure, RegistryError) and not error.status else error
            raise RegistryError(message, status=told.status, place=error.place, hint=told.hint) from None

    def _ask(self, place: Reference, fetch: Callable[[Reference], _T]) -> _T:
        """What `fetch` gets from one registry, or mirror: a host that once did not answer is not waited for again."""
        if silent := self._silent.get(place.registry):
            raise RegistryError(silent.message, place=str(place), hint=silent.hint)
        try:
            return fetch(place)
        except RegistryError as error:
            if error.status == 0:
                self._silent[place.registry] = error
            raise

    def _mirror(self, reference: Reference) -> Reference | None:
        host, _, prefix = self._mirrors.get(reference.registry, "").partition("/")
        repository = f"{prefix}/{reference.repository}" if prefix else reference.repository
        return replace(reference, registry=host, repository=repository) if host else None

    def _mountable(self, source: Reference | None, target: Reference) -> str:
        """The repository that blobs of `source` can be mounted from: of the target's registry, but not the target."""
        for place in (source, self._mirror(source)) if source else ():
            if place and place.registry == target.registry and place.repository != target.repository:
                return place.repository
        return ""

    def _put_manifest(self, reference: Reference, data: bytes) -> None:
        access = Access(reference=reference, push=True)
        url = self._session.url(reference, f"manifests/{reference.identifier}")
        answer = self._session.call("PUT", url, access, headers={"Content-Type": spec.MANIFEST}, body=data)
        if answer.status not in (200, 201, 202, 204):
            raise self._session.refusal(answer, access)


def _blobs(image: Image) -> list[Blob]:
    """The config and the layers of an image, each blob once."""
    config = image.config_bytes
    blobs = [Blob(descriptor=image.config_descriptor, open=lambda: io.BytesIO(config))]
    blobs += [Blob(descriptor=layer.descriptor, open=layer.open) for layer in image.layers]
    return list({blob.descriptor.digest: blob for blob in blobs}.values())


def _verified_digest(answer: Answer, reference: Reference) -> str:
    """The digest of the bytes, which the reference and the registry's header must agree with."""
    header = answer.headers.get("Docker-Content-Digest", "")
    expected = reference.digest or (header if _SHA256.fullmatch(header) else "")
    algorithm = expected.partition(":")[0] or "sha256"
    found = digest_of(answer.body, algorithm)
    if expected and found != expected:
        raise DigestMismatchError(
            f"the registry sent a manifest with the wrong content: expected {expected}, got {found}",
            place=str(reference),
            hint="it was changed or damaged on its way; nothing of it was kept",
        )
    return found


def _media_type(answer: Answer, reference: Reference) -> str:
    """What the document is, by OCI's name: as it says itself, else as the header says, else by its shape."""
    document = spec.load(answer.body, f"the manifest of {reference}")
    said = [str(document.get("mediaType") or ""), _content_type(answer), _shape(document)]
    kinds = (*spec.MANIFESTS, *spec.INDEXES)
    kind = next((each for each in said if each in kinds), next(filter(None, said), ""))
    if document.get("schemaVersion") == 1 or kind.startswith(_SCHEMA_1):
        raise ImageError(
            "its manifest is in Docker's format of before 2016 (schema 1), which is not supported",
            place=str(reference),
            hint="pull it with Docker and push it again, or take a newer tag",
        )
    if kind not in kinds:
        raise ImageError(f"it is not an image but {kind[:80]!r}", place=str(reference))
    return spec.oci_media_type(kind)


def _content_type(answer: Answer) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _shape(document: Mapping[str, Any]) -> str:
    return spec.INDEX if "manifests" in document else spec.MANIFEST if "layers" in document else ""
