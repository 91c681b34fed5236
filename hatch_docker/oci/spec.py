"""The documents of the OCI image specification 1.1 as frozen values that read and write JSON.

Reading ignores unknown fields and a missing mediaType, and accepts Docker's schema 2. Writing is canonical (sorted
keys, no spaces), so that equal values have equal digests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hatch_docker.errors import ImageError, InvalidReferenceError
from hatch_docker.support.dataclasses import dataclass, field
from hatch_docker.support.patterns import regex

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
COMPRESSED = (LAYER_GZIP, LAYER_ZSTD)
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

# Annotations (annotations.md, and ours) that images of one index have in common: the commit, and the lock's digest.
REVISION = "org.opencontainers.image.revision"
LOCK = "io.github.hatch-docker.lock"

MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
INDEXES = (INDEX, DOCKER_INDEX)

_OCI_NAME_OF = {
    DOCKER_MANIFEST: MANIFEST,
    DOCKER_INDEX: INDEX,
    DOCKER_CONFIG: CONFIG,
    "application/vnd.docker.image.rootfs.diff.tar": LAYER_TAR,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": LAYER_ZSTD,
}
# In bytes. No document of a real image is larger; a larger one would exhaust the memory.
LARGEST_DOCUMENT = 8 << 20
DIGEST = regex(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
# Other names of CPUs.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i386": "386",
    "i686": "386",
}
# Of Linux, as `go tool dist list` has them.
_MIPS = ("mips", "mipsle", "mips64", "mips64le")
_GOARCH = frozenset({"386", "amd64", "arm", "arm64", "loong64", "ppc64", "ppc64le", "riscv64", "s390x", *_MIPS})
# As in containerd. arm without a variant is v7, as for wheels and machines, and never v5 (soft-float).
_VARIANTS = {("arm64", "v8"): "", ("arm64", "8"): "", ("amd64", "v1"): "", ("arm", ""): "v7", ("arm", "7"): "v7"}


def check_digest(digest: str) -> str:
    """Return `digest` if it is one that we can verify (sha256, sha512); raises InvalidReferenceError otherwise."""
    if not DIGEST.fullmatch(digest):
        raise InvalidReferenceError(
            f"{digest!r} is not a digest", hint="a digest is 'sha256:' and 64 lower-case hexadecimal digits"
        )
    return digest


def dump(document: Mapping[str, Any]) -> bytes:
    """Canonical JSON: equal documents have equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def load(data: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object; raises ImageError, in which `what` names the document, for anything else."""
    try:
        document = json.loads(data)
        # A lone surrogate can be parsed, but not written.
        dump(document)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{what} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ImageError(f"{what} is not a JSON object")
    return document


def oci_media_type(media_type: str) -> str:
    """OCI's media type for one of Docker's; other media types are returned as they are."""
    return _OCI_NAME_OF.get(media_type, media_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """An operating system and CPU, as image indexes name them (image-index.md, GOOS and GOARCH)."""

    os: str = "linux"
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse `linux/arm64`, `linux/arm/v7`, or the same without `linux/`; raises InvalidReferenceError.

        Architectures have Go's or the kernel's names. As in containerd, case does not matter.
        """
        parts = text.lower().split("/")
        if parts[0] in _GOARCH or parts[0] in _ARCHITECTURES:
            parts.insert(0, "linux")
        if not 2 <= len(parts) <= 3 or not all(re.fullmatch(r"[a-z0-9_.-]+", part) for part in parts):
            raise InvalidReferenceError(
                f"{text!r} is not a platform", hint="write it like 'linux/amd64' or 'linux/arm64'"
            )
        return cls.of(parts[0], parts[1], parts[2] if len(parts) == 3 else "")

    @classmethod
    def of(cls, os: str, architecture: str, variant: str = "") -> Platform:
        """A normalized platform: Go's architecture names, no redundant variant (arm64/v8), arm alone is arm/v7."""
        architecture = _ARCHITECTURES.get(architecture.lower(), architecture.lower())
        variant = _VARIANTS.get((architecture, variant), variant)
        return cls(os=os.lower(), architecture=architecture, variant=variant)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """The identity of content (descriptor.md); `size` in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None

    @property
    def is_attestation(self) -> bool:
        """Whether it is an attestation of BuildKit, which has the platform `unknown/unknown`, and not an image."""
        return self.platform is not None and self.platform.os == "unknown"

    @classmethod
    def from_json(cls, document: object) -> Descriptor:
        """Read a descriptor; raises ImageError if it has no valid digest and size."""
        if not isinstance(document, dict):
            raise ImageError("a descriptor is not a JSON object")
        digest, size = document.get("digest"), document.get("size")
        # isinstance would accept true. In the specification, a size is an int64.
        if (
            type(size) is not int
            or not 0 <= size < 1 << 63
            or not isinstance(digest, str)
            or not DIGEST.fullmatch(digest)
        ):
            raise ImageError(f"a descriptor lacks a valid digest and size: {repr(digest)[:200]}, {repr(size)[:80]}")
        return cls(
            media_type=oci_media_type(str(document.get("mediaType") or "")),
            digest=digest,
            size=size,
            annotations=strings(document.get("annotations")),
            platform=_platform(document.get("platform")),
        )

    def to_json(self) -> dict[str, Any]:
        """The descriptor as a JSON object."""
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.platform is not None:
            document["platform"] = {
                key: value
                for key, value in (
                    ("os", self.platform.os),
                    ("architecture", self.platform.architecture),
                    ("variant", self.platform.variant),
                )
                if value
            }
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An image manifest (manifest.md)."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Manifest:
        """Read a manifest of OCI or Docker's schema 2; raises ImageError for anything else."""
        layers = document.get("layers")
        if not isinstance(layers, list) or "config" not in document:
            raise ImageError("not an image manifest: it has no config and layers")
        return cls(
            config=Descriptor.from_json(document["config"]),
            layers=tuple(Descriptor.from_json(layer) for layer in layers),
            annotations=strings(document.get("annotations")),
        )

    def to_json(self) -> dict[str, Any]:
        """The manifest as a JSON object, with OCI's media type."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An image index (image-index.md)."""

    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Index:
        """Read an OCI index or Docker manifest list; raises ImageError for anything else."""
        manifests = document.get("manifests")
        if not isinstance(manifests, list):
            raise ImageError("not an image index: it has no manifests")
        return cls(
            manifests=tuple(Descriptor.from_json(manifest) for manifest in manifests),
            annotations=strings(document.get("annotations")),
        )

    def to_json(self) -> dict[str, Any]:
        """The index as a JSON object."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [manifest.to_json() for manifest in self.manifests],
        }
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document

    def select(self, platform: Platform) -> Descriptor | None:
        """The manifest for `platform`, None if there is none.

        Without a variant in `platform`, any variant matches. An only manifest without a platform matches, too.
        """
        exact = [manifest for manifest in self.manifests if manifest.platform == platform]
        near = [
            manifest
            for manifest in self.manifests
            if manifest.platform is not None
            and (manifest.platform.os, manifest.platform.architecture) == (platform.os, platform.architecture)
        ]
        unnamed = [m for m in self.manifests if m.platform is None] if len(self.manifests) == 1 else []
        return next(iter([*exact, *(near if not platform.variant else []), *unnamed]), None)

    def platforms(self) -> list[str]:
        """The platforms that the index has images for, sorted."""
        return sorted({str(m.platform) for m in self.manifests if m.platform is not None and not m.is_attestation})


def _platform(value: object) -> Platform | None:
    if not isinstance(value, dict):
        return None
    return Platform.of(*(str(value.get(name) or "") for name in ("os", "architecture", "variant")))


def strings(value: object) -> dict[str, str]:
    """A JSON object of strings; empty for anything else."""
    return {str(key): str(text) for key, text in value.items()} if isinstance(value, dict) else {}
