"""Entries as OCI artifacts: a manifest that has the blobs as layers, and the lines of the entries beside them.

Image manifest with `artifactType` (OCI image specification 1.1, "Guidelines for Artifact Usage"). Lines that are short
are in an annotation, so that one request gets them; others are a blob, the first layer.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

from hatch_docker.caching.entry import Entry, Found, pack
from hatch_docker.errors import ImageError
from hatch_docker.oci import spec
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.streams import digest_of

EMPTY = Descriptor(media_type="application/vnd.oci.empty.v1+json", digest=digest_of(b"{}"), size=2)
ENTRY = "application/vnd.hatch-docker.cache.entry.v1"
SET = "application/vnd.hatch-docker.cache.set.v1"
LINES = "application/vnd.hatch-docker.cache.lines.v1+zlib"
BLOB = "application/octet-stream"
_INLINE = "io.github.hatch-docker.cache.lines"
_WRITTEN = "io.github.hatch-docker.cache.written"
# In bytes, encoded. Some registries limit manifests to 256 kB.
_LONGEST_INLINE = 128 << 10


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a tag of the cache names: entries with their blobs, and the period in which it was written.

    `lines` are their packed lines, or None if they are the blob `remote`.
    """

    written: str
    blobs: tuple[Descriptor, ...]
    lines: bytes | None
    remote: Descriptor | None = None


def artifact_of(entries: Iterable[tuple[Entry, Found]], written: str) -> Artifact:
    """The artifact of some entries."""
    listed = list(entries)
    blobs = {blob.digest: blob for _, found in listed for blob in found.blobs}
    lines = pack(entry for entry, _ in listed)
    return Artifact(written, tuple(blobs[digest] for digest in sorted(blobs)), lines)


def long_lines(artifact: Artifact) -> tuple[Descriptor, bytes] | None:
    """The lines of an artifact that are a blob of their own; None if they are in its manifest."""
    lines = artifact.lines or b""
    return None if _is_short(lines) else (_descriptor(lines), lines)


def manifest_of(artifact: Artifact, kind: str) -> bytes:
    """The manifest of an artifact of the type `kind`, ENTRY or SET."""
    lines = artifact.lines or b""
    is_short = _is_short(lines)
    layers = [*([] if is_short else [_descriptor(lines)]), *artifact.blobs] or [EMPTY]
    inline = {_INLINE: base64.b64encode(lines).decode()} if is_short else {}
    return spec.dump(
        {
            "schemaVersion": 2,
            "mediaType": spec.MANIFEST,
            "artifactType": kind,
            "config": EMPTY.to_json(),
            "layers": [layer.to_json() for layer in layers],
            "annotations": {_WRITTEN: artifact.written, **inline},
        }
    )


def read_manifest(data: bytes, kind: str) -> Artifact:
    """The inverse of `manifest_of`. Raises ImageError for any other document."""
    document: Mapping[str, Any] = spec.load(data, "the cache's manifest")
    manifest = spec.Manifest.from_json(document)
    # Registries from before OCI 1.1 keep unknown fields, since the digest must not change.
    if document.get("artifactType") != kind:
        raise ImageError("it is not an entry of a cache of hatch-docker")
    blobs = tuple(each for each in manifest.layers if each.media_type not in (LINES, EMPTY.media_type))
    remote = next((each for each in manifest.layers if each.media_type == LINES), None)
    inline = manifest.annotations.get(_INLINE)
    if inline is None and remote is None:
        raise ImageError("it has no entries")
    try:
        lines = None if inline is None else base64.b64decode(inline, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("its entries are not base64") from None
    return Artifact(manifest.annotations.get(_WRITTEN, ""), blobs, lines, remote)


def _is_short(lines: bytes) -> bool:
    return len(lines) * 4 // 3 <= _LONGEST_INLINE


def _descriptor(lines: bytes) -> Descriptor:
    return Descriptor(media_type=LINES, digest=digest_of(lines), size=len(lines))
