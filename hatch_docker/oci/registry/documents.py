"""Manifests and indexes in a registry, without its mirror: what a tag names now, and how another document gets there.

OCI distribution specification 1.1, "Pulling manifests" and "Pushing manifests".
"""

from __future__ import annotations

import time

from hatch_docker.errors import ImageError, RegistryError
from hatch_docker.oci import spec
from hatch_docker.oci.graph import Node
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.refusal import not_stored
from hatch_docker.oci.registry.session import Access, Answer, Request, Session, names_other
from hatch_docker.support.streams import digest_of

ACCEPT = ", ".join([*spec.MANIFESTS, *spec.INDEXES])
# A registry in several places may need a moment until all of them have a tag.
_READ_BACK_WAITS = (0.0, 0.5, 1.5)


def named(session: Session, reference: Reference, *, algorithm: str = "sha256") -> str:
    """The digest that a tag or digest names now, empty if nothing. Raises RegistryError for any other answer."""
    answer = _ask(session, "HEAD", reference)
    digest = answer.headers.get("Docker-Content-Digest", "")
    if answer.status == 200 and spec.DIGEST.fullmatch(digest) and digest.partition(":")[0] == algorithm:
        return digest
    if answer.status == 404:
        return ""
    data = fetch(session, reference)
    return digest_of(data, algorithm) if data is not None else ""


def names(session: Session, reference: Reference, digest: str) -> bool:
    """Whether a tag or digest names `digest` now, as far as we may know. Raises RegistryError if nobody answers."""
    try:
        return named(session, reference, algorithm=digest.partition(":")[0]) == digest
    except RegistryError as error:
        if 400 <= error.status < 500:
            # Some registries refuse to say, but not to take something.
            return False
        raise


def fetch(session: Session, reference: Reference) -> bytes | None:
    """The document that a tag or digest names, not verified; None if there is none. Raises RegistryError."""
    answer = _ask(session, "GET", reference)
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise session.refusal(answer, Access(reference=reference, push=True))
    return answer.body


def put(session: Session, reference: Reference, node: Node) -> None:
    """Send a document under a tag or digest. Raises RegistryError unless the registry has created exactly that."""
    descriptor = node.descriptor
    access = Access(reference=reference, push=True, document=descriptor.media_type)
    url = session.url(reference, f"manifests/{reference.identifier}")
    answer = session.call(Request("PUT", url, {"Content-Type": descriptor.media_type}, read(node)), access)
    if answer.status != 201:
        raise session.refusal(answer, access)
    if names_other(answer, descriptor.digest):
        raise not_stored(f"another digest for {descriptor.digest}", reference, answer.status)


def tag(session: Session, reference: Reference, node: Node) -> bool:
    """Let a tag name a document that the repository has, and read that back; return whether it did not already.

    A tag that names it is not set again: immutable ones could not be. Raises RegistryError.
    """
    digest = node.descriptor.digest
    if names(session, reference, digest):
        return False
    try:
        put(session, reference, node)
    except RegistryError:
        # If an answer was lost, it was sent again, and an immutable tag is refused then.
        if not names(session, reference, digest):
            raise
    for wait in _READ_BACK_WAITS:
        time.sleep(wait)
        found = named(session, reference, algorithm=digest.partition(":")[0])
        if found == digest:
            return True
    what = f"{found or 'nothing'} under the tag {reference.identifier}, not {digest}"
    raise not_stored(what, reference, 201)


def read(node: Node) -> bytes:
    """A document's bytes, verified; raises ImageError."""
    descriptor = node.descriptor
    try:
        with node.open() as file:
            data = file.read(spec.LARGEST_DOCUMENT + 1)
    except OSError as error:
        raise ImageError(f"{descriptor.digest} cannot be read: {error.strerror or error}") from None
    if len(data) != descriptor.size or digest_of(data, descriptor.digest.partition(":")[0]) != descriptor.digest:
        raise ImageError(f"{descriptor.digest} has other content than its descriptor says")
    return data


def _ask(session: Session, method: str, reference: Reference) -> Answer:
    url = session.url(reference, f"manifests/{reference.identifier}")
    return session.call(Request(method, url, {"Accept": ACCEPT}), Access(reference=reference, push=True))
