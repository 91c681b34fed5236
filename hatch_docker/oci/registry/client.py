"""Pull from and push to registries (OCI distribution specification 1.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from hatch_docker.errors import DigestMismatchError, HatchDockerError, ImageError, NetworkError, RegistryError
from hatch_docker.oci import spec
from hatch_docker.oci.graph import Node
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry import documents
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.session import Access, Answer, Request, Session
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.http import Http
from hatch_docker.support.patterns import regex
from hatch_docker.support.progress import Progress
from hatch_docker.support.streams import digest_of
from hatch_docker.support.unfinished import NOWHERE, Unfinished

if TYPE_CHECKING:
    from hatch_docker.oci.registry.presence import Presence

_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_SILENT = Progress()
_SHA256 = regex(r"sha256:[0-9a-f]{64}")
_LENGTH = regex(r"[0-9]{1,9}")
_T = TypeVar("_T")
Known = Callable[[str], "bytes | None"]
# The repository that has a blob, by its digest, as far as that is known.
Place = Callable[[str], "Reference | None"]


def _nowhere(_digest: str) -> None:
    return None


class Registry:
    """A client of any number of registries. Thread-safe.

    `mirrors` maps a registry to the host, or `host/prefix`, that its images are pulled from first. The registry itself
    is used if the mirror lacks an image or cannot be reached. Nothing is pushed to a mirror, and a mirror gets its own
    credentials, never those of the registry. `insecure` names the hosts that use plain HTTP.

    Uploads are noted as `unfinished`, and the next push to a registry ends those that were left there.

    `answers` are the digests that tags were found to name, empty for a tag that does not exist.
    """

    def __init__(
        self,
        http: Http,
        *,
        credentials: Credentials,
        mirrors: Mapping[str, str] | None = None,
        insecure: frozenset[str] = frozenset(),
        unfinished: Unfinished = NOWHERE,
    ) -> None:
        self._http = http
        self.session = Session(http, credentials, insecure, unfinished)
        self.mirrors, self.insecure = dict(mirrors or {}), insecure
        self._presences: dict[Reference, Presence] = {}
        self._unreachable: dict[str, RegistryError] = {}
        # The digest of each tag when it was asked for; empty if there was no such tag.
        self.answers: dict[str, str] = {}
        for registry, mirror in self.mirrors.items():
            hosts = (registry, mirror.partition("/")[0])
            http.share(*(self.session.url(Reference(registry=host, repository=""), "") for host in hosts))

    def resolve(self, reference: Reference) -> Descriptor:
        """The media type, digest and size of the manifest or index that a tag or digest names now.

        The digest is not verified: `manifest` does that. Raises RegistryError, or ImageError if it is not an image.
        """
        return self._answer(reference, lambda: (self._pull(reference, self._resolve), b""))[0]

    def manifest(self, reference: Reference, *, known: Known | None = None) -> tuple[Descriptor, bytes]:
        """The manifest or index that a tag or digest names, with its descriptor, whose digest is verified.

        With `known`, which returns the documents that the caller has by digest, only others are requested. Raises
        RegistryError, DigestMismatchError, or ImageError if it is not an image.
        """
        fetch = partial(self._known, known=known) if known else self._manifest
        return self._answer(reference, lambda: self._pull(reference, fetch))

    def blob(self, reference: Reference, descriptor: Descriptor, *, mirrored: bool = True) -> Iterator[bytes]:
        """A blob of the image's repository in chunks, resumed if the connection breaks.

        What the registry's mirror does not send comes from the registry; all of it unless `mirrored`. The caller
        verifies the digest. Raises RegistryError, NetworkError, or DigestMismatchError for too many bytes.
        """
        left = descriptor.size
        for chunk in self._chunks(reference, descriptor, self._mirror(reference) if mirrored else None):
            left -= len(chunk)
            if left < 0:
                raise DigestMismatchError(
                    f"the blob {descriptor.digest} is larger than the {descriptor.size} bytes it should be",
                    place=str(reference),
                )
            yield chunk

    def expect(self, references: Sequence[Reference], blobs: Sequence[Descriptor]) -> None:
        """Ask the repositories of references whether they have blobs that will be pushed; `push` takes the answers."""
        from hatch_docker.oci.registry.push import repositories

        for target in repositories(references):
            self._presence_of(target).expect(blobs)

    def assume(self, references: Sequence[Reference], blobs: Sequence[Descriptor]) -> None:
        """Let `push` take it that the repositories of references have blobs, as those of an image that is there."""
        from hatch_docker.oci.registry.push import repositories

        for target in repositories(references):
            for blob in blobs:
                self._presence_of(target).got(blob)

    def push(
        self,
        root: Node,
        references: Sequence[Reference],
        *,
        mount_from: Sequence[Reference] = (),
        place: Place = _nowhere,
        threads: int = 4,
        progress: Progress = _SILENT,
    ) -> str:
        """Push a graph under `references`, tags of any registries; return the digest of its root.

        Content that a registry has is not sent. What another repository of it has is mounted: that of `mount_from`,
        images, and what has a `place`. Tags are set when all repositories have all content, and are read back. Raises
        RegistryError, ImageError.
        """
        from hatch_docker.oci.registry.abandoned import end_abandoned
        from hatch_docker.oci.registry.push import Destination, repositories, send

        targets = repositories(references)
        for number, target in enumerate(targets):
            # A repository that has everything by now comes first.
            sources = [*(each for each in targets[:number] if each.registry == target.registry), *mount_from]
            mountable = dict.fromkeys(filter(None, (self._mountable(source, target) for source in sources)))
            to = Destination(
                target=target,
                presence=self._presence_of(target),
                mount_from=tuple(mountable),
                place=partial(self._held, place, target),
            )
            send(self.session, root, to, threads=threads, progress=progress)
        for reference in references:
            if not documents.tag(self.session, reference, root):
                progress.note(f"{reference.familiar} is this image already")
        for registry in dict.fromkeys(each.registry for each in targets):
            end_abandoned(self.session, registry)
        return root.descriptor.digest

    def update_index(
        self,
        root: Node,
        references: Sequence[Reference],
        *,
        mount_from: Sequence[Reference] = (),
        place: Place = _nowhere,
        threads: int = 4,
        progress: Progress = _SILENT,
    ) -> list[str]:
        """Push images of some platforms, and join them with those of other machines, under each reference.

        The image for linux/arm64 gets the tag `1.0-linux-arm64`, and `1.0` an index of all images with such tags that
        are of the same commit and lock. Returns the digests of the indexes, in the order of the references. `root` is
        an image or an index, with platforms in descriptors. Raises RegistryError, ImageError, and before anything is
        pushed InvalidReferenceError.
        """
        from hatch_docker.oci.registry.joining import check_joint, images_of, join

        check_joint(references)
        images = images_of(root)
        for image in images:
            tags = [each.for_platform(image.descriptor.platform) for each in references if image.descriptor.platform]
            self.push(image, tags, mount_from=mount_from, place=place, threads=threads, progress=progress)
        return [join(self.session, images, reference, threads=threads) for reference in references]

    def _answer(self, reference: Reference, ask: Callable[[], tuple[Descriptor, bytes]]) -> tuple[Descriptor, bytes]:
        try:
            found = ask()
        except RegistryError as error:
            if error.status == 404:
                self.answers[str(reference)] = ""
            raise
        if not reference.digest:
            self.answers[str(reference)] = found[0].digest
        return found

    def _resolve(self, reference: Reference) -> Descriptor:
        return self._head(reference) or self._manifest(reference)[0]

    def _known(self, reference: Reference, known: Known) -> tuple[Descriptor, bytes]:
        """The manifest, by `known` if that has it."""
        descriptor = self._head(reference)
        data = known(descriptor.digest) if descriptor else None
        return (descriptor, data) if descriptor and data is not None else self._manifest(reference)

    def _head(self, reference: Reference) -> Descriptor | None:
        """What a tag or digest names, by a HEAD: registries that limit pulls do not count it. None if that fails."""
        access = Access(reference=reference)
        url = self.session.url(reference, f"manifests/{reference.identifier}")
        answer = self.session.call(Request("HEAD", url, {"Accept": documents.ACCEPT}), access)
        digest = reference.digest or answer.headers.get("Docker-Content-Digest", "")
        media_type, size = _content_type(answer), answer.headers.get("Content-Length", "")
        is_image = media_type in (*spec.MANIFESTS, *spec.INDEXES)
        if answer.status == 200 and is_image and _SHA256.fullmatch(digest) and _LENGTH.fullmatch(size):
            return Descriptor(media_type=spec.oci_media_type(media_type), digest=digest, size=int(size))
        return None

    def _manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        access = Access(reference=reference)
        url = self.session.url(reference, f"manifests/{reference.identifier}")
        answer = self.session.call(Request("GET", url, {"Accept": documents.ACCEPT}), access)
        if answer.status != 200:
            raise self.session.refusal(answer, access)
        media_type = _media_type(answer, reference)
        digest = _verified_digest(answer, reference)
        return Descriptor(media_type=media_type, digest=digest, size=len(answer.body)), answer.body

    def _chunks(self, reference: Reference, descriptor: Descriptor, mirror: Reference | None) -> Iterator[bytes]:
        received, failure = 0, None
        if mirror:
            try:
                for chunk in self._fetch(mirror, lambda place: self._blob(place, descriptor, 0)):
                    received += len(chunk)
                    yield chunk
                return
            except NetworkError as error:
                failure = error
        try:
            yield from self._fetch(reference, lambda place: self._blob(place, descriptor, received))
        except RegistryError as error:
            raise _of_both(failure, error) if failure else error from None

    def _blob(self, reference: Reference, descriptor: Descriptor, received: int) -> Iterator[bytes]:
        """A blob without its first bytes, which were received before."""
        access = Access(reference=reference)
        url = self.session.url(reference, f"blobs/{descriptor.digest}")
        again = partial(self.session.blob, url, access=access)
        response = again({"Range": f"bytes={received}-"} if received else {})
        return self._http.resume(response, url, {}, again=again, received=received)

    def _pull(self, reference: Reference, fetch: Callable[[Reference], _T]) -> _T:
        """The result of `fetch` from the registry's mirror, else from the registry."""
        mirror = self._mirror(reference)
        if mirror is None:
            return self._fetch(reference, fetch)
        try:
            return self._fetch(mirror, fetch)
        except (NetworkError, ImageError, DigestMismatchError) as error:
            failure = error
        try:
            return self._fetch(reference, fetch)
        except RegistryError as error:
            raise _of_both(failure, error) from None

    def _fetch(self, place: Reference, fetch: Callable[[Reference], _T]) -> _T:
        """The result of `fetch` from one registry or mirror. A host that did not answer once is not tried again."""
        if earlier := self._unreachable.get(place.registry):
            raise RegistryError(earlier.message, place=str(place), hint=earlier.hint)
        try:
            return fetch(place)
        except RegistryError as error:
            if error.status == 0:
                self._unreachable[place.registry] = error
            raise

    def _mirror(self, reference: Reference) -> Reference | None:
        host, _, prefix = self.mirrors.get(reference.registry, "").partition("/")
        repository = f"{prefix}/{reference.repository}" if prefix else reference.repository
        return replace(reference, registry=host, repository=repository) if host else None

    def _presence_of(self, target: Reference) -> Presence:
        from hatch_docker.oci.registry.presence import Presence

        if target not in self._presences:
            self._presences[target] = Presence(self.session, target)
        return self._presences[target]

    def _held(self, place: Place, target: Reference, digest: str) -> str:
        """The repository of the target's registry that is known to have a blob; empty if none is."""
        source = place(digest)
        return self._mountable(source, target) if source else ""

    def _mountable(self, source: Reference, target: Reference) -> str:
        """The repository of the target's registry to mount blobs of `source` from; empty if there is none."""
        for place in (source, self._mirror(source)):
            if place and place.registry == target.registry and place.repository != target.repository:
                return place.repository
        return ""


def _of_both(failure: HatchDockerError, error: RegistryError) -> RegistryError:
    """The error for a mirror that failed, and then its registry, too."""
    message = f"the mirror: {failure.message}; the registry itself: {error.message}"
    # If the registry does not answer, only the mirror knows about the image.
    cause = failure if isinstance(failure, RegistryError) and not error.status else error
    return RegistryError(message, status=cause.status, place=error.place, hint=cause.hint)


def _verified_digest(answer: Answer, reference: Reference) -> str:
    """The digest of the body. Raises DigestMismatchError if the reference, or else the header, has another."""
    header = answer.headers.get("Docker-Content-Digest", "")
    expected = reference.digest or (header if _SHA256.fullmatch(header) else "")
    algorithm = expected.partition(":")[0] or "sha256"
    actual = digest_of(answer.body, algorithm)
    if expected and actual != expected:
        raise DigestMismatchError(
            f"the registry sent a manifest with the wrong content: expected {expected}, got {actual}",
            place=str(reference),
            hint="it was changed or damaged in transit; nothing of it was kept",
        )
    return actual


def _media_type(answer: Answer, reference: Reference) -> str:
    """OCI's media type of a document: its own `mediaType`, else the header's, else the type of its fields."""
    document = spec.load(answer.body, f"the manifest of {reference}")
    candidates = [str(document.get("mediaType") or ""), _content_type(answer), _shape(document)]
    kinds = (*spec.MANIFESTS, *spec.INDEXES)
    kind = next((each for each in candidates if each in kinds), next(filter(None, candidates), ""))
    if document.get("schemaVersion") == 1 or kind.startswith(_SCHEMA_1):
        raise ImageError(
            "its manifest is in Docker's format from before 2016 (schema 1), which is not supported",
            place=str(reference),
            hint="pull it with Docker and push it again, or use a newer tag",
        )
    if kind not in kinds:
        raise ImageError(f"it is not an image but {kind[:80]!r}", place=str(reference))
    return spec.oci_media_type(kind)


def _content_type(answer: Answer) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _shape(document: Mapping[str, Any]) -> str:
    return spec.INDEX if "manifests" in document else spec.MANIFEST if "layers" in document else ""
