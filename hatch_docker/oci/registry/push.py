"""Push graphs of descriptors: to every repository the blobs, then documents from the bottom up, and then the tags.

OCI distribution specification 1.1, "Push". No tag names an image that is incomplete, nor moves if anything is refused.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from hatch_docker.errors import RegistryError
from hatch_docker.oci.graph import Node
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry import documents
from hatch_docker.oci.registry.presence import Presence
from hatch_docker.oci.registry.refusal import UNKNOWN_CONTENT
from hatch_docker.oci.registry.session import Session
from hatch_docker.oci.registry.upload import Outcome, Uploads
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.progress import Progress
from hatch_docker.support.threads import together


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A repository to push to, `target`; `mount_from` are repositories of the same registry that may have blobs.

    `place` returns the one that is known to have a blob, by its digest, or an empty string; `presence` is what `target`
    has itself.
    """

    target: Reference
    presence: Presence
    mount_from: tuple[str, ...] = ()
    place: Callable[[str], str] = lambda _digest: ""


def repositories(references: Sequence[Reference]) -> list[Reference]:
    """The repositories of references, without tags, each once."""
    return list(dict.fromkeys(replace(reference, tag="") for reference in references))


def send(session: Session, root: Node, to: Destination, *, threads: int, progress: Progress) -> None:
    """Push all content of a graph to one repository, but no tag. Raises RegistryError, ImageError."""
    try:
        outcomes = _send(session, root, to, threads=threads, progress=progress)
    except RegistryError as error:
        if not error.codes & UNKNOWN_CONTENT:
            raise
        # What a registry says about its blobs may be outdated, as after a garbage collection.
        outcomes = _send(session, root, replace(to, mount_from=()), threads=threads, progress=progress, ask=False)
    counts = ", ".join(f"{outcomes[outcome]} {outcome.value}" for outcome in Outcome if outcomes[outcome])
    progress.note(f"pushed {to.target.registry}/{to.target.repository} (blobs: {counts or 'none'})")


def _send(
    session: Session, root: Node, to: Destination, *, threads: int, progress: Progress, ask: bool = True
) -> Counter[Outcome]:
    """Push content; without `ask`, content that the registry says it has, too."""
    stopped = threading.Event()
    uploads = Uploads(
        session=session,
        target=to.target,
        presence=to.presence,
        mount_from=to.mount_from,
        place=to.place,
        stopped=stopped,
        progress=progress,
        ask=ask,
    )
    nodes = list(root.walk())
    blobs = [node for node in nodes if not node.is_document]
    if ask:
        to.presence.expect(blob.descriptor for blob in blobs)
    # The first one, a small config, goes alone: missing permissions are reported after one request.
    outcomes = Counter(map(uploads.send, blobs[:1]))
    outcomes.update(together(uploads.send, blobs[1:], threads=threads, stop=stopped))
    for node in nodes:
        if node.is_document:
            place = to.target.with_digest(node.descriptor.digest)
            if not ask or not documents.names(session, place, node.descriptor.digest):
                documents.put(session, place, node)
    return outcomes
