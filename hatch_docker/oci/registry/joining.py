"""Join the images that several machines push, each for its platform, in an index under one tag.

Each image has a tag of its own, `1.0-linux-arm64`; whoever has pushed one puts an index of all of these under `1.0`.
Registries cannot change a tag only if nobody else has. So a machine lists the images again after it has put its index,
and starts again if there is a new one: whoever puts the last index has seen each image that was pushed before, and who
pushes one later puts another index.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from hatch_docker.errors import ImageError, InvalidReferenceError, RegistryError
from hatch_docker.oci import spec
from hatch_docker.oci.graph import Node
from hatch_docker.oci.reference import LONGEST_TAG, Reference
from hatch_docker.oci.registry import documents
from hatch_docker.oci.registry.refusal import not_stored
from hatch_docker.oci.registry.session import Session
from hatch_docker.oci.spec import Descriptor, Index, Platform
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.streams import digest_of
from hatch_docker.support.threads import together

_ATTEMPTS = 12
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 2.0
# Those that there are Python images for, or Debian.
_ARCHITECTURES = (
    *("386", "amd64", "arm/v5", "arm/v6", "arm/v7", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"),
)
_PLATFORMS = tuple(Platform.parse(f"linux/{architecture}") for architecture in _ARCHITECTURES)
# Of a tag, so that each of these can be added.
_LONGEST_TAG = LONGEST_TAG - max(len(f"-{platform}") for platform in _PLATFORMS)
# The images of an index may have different bases.
_OF_ONE_IMAGE = ("org.opencontainers.image.base.name", "org.opencontainers.image.base.digest")
_HINT = "builds of other commits push the same tag now: let one finish, or give each its own tag"


def images_of(root: Node) -> tuple[Node, ...]:
    """The images of a graph that have a platform: the root itself, or those of an index."""
    nodes = root.children if root.descriptor.media_type in spec.INDEXES else (root,)
    return tuple(node for node in nodes if node.descriptor.platform)


def check_joint(references: Sequence[Reference]) -> None:
    """Raise InvalidReferenceError for tags that images cannot be joined under, whatever their platforms are."""
    for reference in references:
        if len(reference.tag) > _LONGEST_TAG:
            raise InvalidReferenceError(
                f"the tag {reference.tag} is too long for --update-index, which adds platforms to it",
                hint=f"such a tag has at most {_LONGEST_TAG} characters",
            )
        for platform in _PLATFORMS:
            if reference.for_platform(platform) in references:
                raise InvalidReferenceError(
                    f"{reference.for_platform(platform)} is for one platform of {reference}",
                    hint="leave it out: --update-index pushes it, too",
                )


def join(session: Session, images: Sequence[Node], reference: Reference, *, threads: int) -> str:
    """Put the index of all images with a platform's tag under a tag; returns the digest of the index.

    `images` are ours, which have been pushed. Those of another commit or lock (`spec.REVISION`, `spec.LOCK`) are left
    out, and so is whatever else the tag named. Raises RegistryError, also if others keep on changing the tags.
    """
    known = {image.descriptor.digest: documents.read(image) for image in images}
    joint = _Joint(session=session, reference=reference, images=images, threads=threads, known=known)
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt) * random.random())  # noqa: S311 (jitter)
        found = joint.find()
        index = _index_of(found)
        digest = index.descriptor.digest
        if not documents.names(session, reference, digest):
            documents.put(session, reference, index)
        # In this order: whoever pushes an image after this list puts another index.
        if joint.find() == found and documents.named(session, reference) == digest:
            return digest
    problem = f"the index of the platforms does not stay under the tag {reference.identifier}"
    raise RegistryError(problem, status=409, place=str(reference), hint=_HINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """An image in the registry: its descriptor and the annotations of its manifest."""

    descriptor: Descriptor
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joint:
    """The images of one tag. `known` has the documents that are ours, or were requested already."""

    session: Session
    reference: Reference
    images: Sequence[Node]
    threads: int
    known: dict[str, bytes]

    def find(self) -> list[_Found]:
        """The images that belong to ours and have a platform's tag, in the order of their platforms.

        Raises RegistryError if ours are not among them.
        """
        ours = {node.descriptor.platform: node.descriptor.digest for node in self.images}
        platforms = sorted({*filter(None, ours), *_PLATFORMS}, key=str)
        tags = [self.reference.for_platform(platform) for platform in platforms]
        digests = together(partial(documents.named, self.session), tags, threads=self.threads)
        found: list[_Found] = []
        for platform, tag, digest in zip(platforms, tags, digests, strict=True):
            if digest != ours.get(platform, digest):
                what = f"another build has pushed the tag {tag.tag} meanwhile"
                raise RegistryError(what, status=409, place=str(self.reference), hint=_HINT)
            found += self._read(platform, digest) if digest else ()
        wanted = _identity(next(each for each in found if each.descriptor.digest in ours.values()))
        return [each for each in found if _identity(each) == wanted]

    def _read(self, platform: Platform, digest: str) -> Iterator[_Found]:
        """The image with a digest; nothing if the digest is not an image's. Raises RegistryError."""
        if digest not in self.known:
            place = self.reference.with_digest(digest)
            data = documents.fetch(self.session, place)
            if data is not None and digest_of(data) != digest:
                raise not_stored(f"other content for {digest}", place, 200)
            self.known[digest] = data or b""
        data = self.known[digest]
        try:
            document = spec.load(data, digest)
            manifest = spec.Manifest.from_json(document)
        except ImageError:
            # Somebody else's tag, or it has been removed meanwhile.
            return
        media_type = str(document.get("mediaType") or spec.MANIFEST)
        descriptor = Descriptor(media_type=media_type, digest=digest, size=len(data), platform=platform)
        yield _Found(descriptor=descriptor, annotations=manifest.annotations)


def _identity(image: _Found) -> tuple[str | None, ...]:
    return tuple(image.annotations.get(name) for name in (spec.REVISION, spec.LOCK))


def _index_of(images: Sequence[_Found]) -> Node:
    """The index, with the annotations that all images have in common: every machine makes the same of the same."""
    common = set.intersection(*(set(image.annotations.items()) for image in images))
    annotations = {name: value for name, value in sorted(common) if name not in _OF_ONE_IMAGE}
    manifests = tuple(image.descriptor for image in images)
    data = spec.dump(Index(manifests=manifests, annotations=annotations).to_json())
    descriptor = Descriptor(media_type=spec.INDEX, digest=digest_of(data), size=len(data))
    return Node(descriptor=descriptor, open=partial(io.BytesIO, data))
