"""A base's layers are read once for all that needs their contents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from io import BytesIO

from image_maker import tar_of

from hatch_docker.base.contents import read_files
from hatch_docker.oci import spec
from hatch_docker.oci.config import ImageConfig
from hatch_docker.oci.filesystem import Filesystem, KeptFiles
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.spec import Descriptor, Platform
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.streams import digest_of

LOWER = {"usr/lib/python3.13/os.py": b"import sys\n", "etc/os-release": b"ID=debian\n", "usr/share/doc": b"long"}
UPPER = {"usr/lib/python3.13/os.py": b"import abc\n", "usr/lib/python3.13/site-packages/pip/x.py": b"pass\n"}


class Blob(BytesIO):
    """The blob of a layer, which counts that it was read to its end: `fetch` opens it, and reads nothing."""

    def __init__(self, data: bytes, number: int, counts: Counter[int]) -> None:
        super().__init__(data)
        self.number, self.counts = number, counts

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.counts[self.number] += not data
        return data


class Bench:
    """Images whose layers count how often they are read."""

    def __init__(self) -> None:
        self.kept = KeptFiles()
        self.read: Counter[int] = Counter()

    def image(self, *contents: Mapping[str, bytes]) -> Image:
        layers = tuple(self.layer(number, tar_of(each)) for number, each in enumerate(contents))
        return Image(config=ImageConfig(platform=Platform(architecture="amd64")), layers=layers)

    def layer(self, number: int, plain: bytes) -> Layer:
        descriptor = Descriptor(media_type=spec.LAYER_TAR, digest=digest_of(plain), size=len(plain))
        return Layer(descriptor=descriptor, diff_id=descriptor.digest, open=lambda: Blob(plain, number, self.read))

    def files(self, image: Image) -> dict[str, bytes | None]:
        return contents(read_files(image, self.kept, threads=1))


def contents(files: Filesystem) -> dict[str, bytes | None]:
    return {path: node.data for path, node in files.nodes.items() if node.kind == "file"}


def fresh(image: Image) -> dict[str, bytes | None]:
    """What is read of an image where nothing is kept."""
    return contents(read_files(image, KeptFiles(), threads=1))


def test_layers_are_read_once() -> None:
    bench = Bench()
    image = bench.image(LOWER, UPPER)
    first = bench.files(image)
    assert first == {
        "usr/lib/python3.13/os.py": b"import abc\n",
        "usr/lib/python3.13/site-packages/pip/x.py": None,
        "etc/os-release": b"ID=debian\n",
        "usr/share/doc": None,
    }
    assert bench.files(replace(image, annotations={"other": "image"})) == first
    assert bench.read == {0: 1, 1: 1}


def test_of_a_grown_image_only_the_new_layers_are_read() -> None:
    bench = Bench()
    bench.files(bench.image(LOWER))
    grown = bench.files(bench.image(LOWER, UPPER))
    assert bench.read == {0: 1, 1: 1}
    assert grown == fresh(bench.image(LOWER, UPPER))


def test_another_image_is_read() -> None:
    bench = Bench()
    bench.files(bench.image(LOWER, UPPER))
    assert bench.files(bench.image(UPPER, LOWER)) == fresh(bench.image(UPPER, LOWER))
    assert bench.files(bench.image(LOWER)) == fresh(bench.image(LOWER))


def test_what_was_dropped_is_read_again() -> None:
    bench = Bench()
    image = bench.image(LOWER, UPPER)
    bench.files(image)
    bench.kept.drop()
    assert bench.kept.lowest([each.diff_id for each in image.layers]) == (0, None)
    bench.files(image)
    assert bench.read == {0: 2, 1: 2}
