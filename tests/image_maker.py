"""Makes small images with layers of one file each."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping

from hatch_docker.oci import spec
from hatch_docker.oci.config import History, ImageConfig
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.spec import Descriptor, Platform
from hatch_docker.support.streams import digest_of

AMD64, ARM64 = Platform(architecture="amd64"), Platform(architecture="arm64")


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def make_layer(text: str) -> Layer:
    """A layer of one file."""
    plain = tar_of({"file": text.encode()})
    blob = gzip.compress(plain, mtime=0)
    descriptor = Descriptor(media_type=spec.LAYER_GZIP, digest=digest_of(blob), size=len(blob))
    return Layer(descriptor=descriptor, diff_id=digest_of(plain), open=lambda: io.BytesIO(blob))


def make_image(*texts: str, platform: Platform = AMD64) -> Image:
    """An image with a layer for each text."""
    layers = tuple(make_layer(text) for text in texts)
    config = ImageConfig(platform=platform, env={"A": "1"}, entrypoint=("/app",))
    return Image(config=config, layers=layers, history=tuple(History(created_by="x") for _ in layers))


def blob_of(layer: Layer) -> bytes:
    """A layer's bytes."""
    with layer.open() as file:
        return file.read()
