"""A base's layers are read once for all that needs their contents, also by later builds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_maker import tar_of

from hatch_docker.base import contents as module
from hatch_docker.base.contents import read_files
from hatch_docker.oci import spec
from hatch_docker.oci.config import ImageConfig
from hatch_docker.oci.filesystem import Filesystem, KeptFiles, Node
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.spec import Descriptor, Platform
from hatch_docker.support.cache import Cache
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
    """Images whose layers count how often they are read, and a cache."""

    def __init__(self, folder: Path) -> None:
        self.kept, self.cache = KeptFiles(), Cache(folder / "cache")
        self.read: Counter[int] = Counter()

    def image(self, *contents: Mapping[str, bytes]) -> Image:
        layers = tuple(self.layer(number, tar_of(each)) for number, each in enumerate(contents))
        return Image(config=ImageConfig(platform=Platform(architecture="amd64")), layers=layers)

    def layer(self, number: int, plain: bytes) -> Layer:
        descriptor = Descriptor(media_type=spec.LAYER_TAR, digest=digest_of(plain), size=len(plain))
        return Layer(descriptor=descriptor, diff_id=descriptor.digest, open=lambda: Blob(plain, number, self.read))

    def files(self, image: Image) -> dict[str, bytes | None]:
        return contents(self.listing(image))

    def listing(self, image: Image) -> Filesystem:
        return read_files(image, self.kept, self.cache, threads=1)

    def restart(self) -> None:
        """Keep nothing in memory, as another build."""
        self.kept, self.cache = KeptFiles(), Cache(self.cache.root)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def contents(files: Filesystem) -> dict[str, bytes | None]:
    return {path: node.data for path, node in files.nodes.items() if node.kind == "file"}


@pytest.fixture
def other(tmp_path: Path) -> Bench:
    """Another bench, which has nothing."""
    return Bench(tmp_path / "other")


def test_layers_are_read_once(bench: Bench) -> None:
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


def test_of_a_grown_image_only_the_new_layers_are_read(bench: Bench, other: Bench) -> None:
    bench.files(bench.image(LOWER))
    grown = bench.files(bench.image(LOWER, UPPER))
    assert bench.read == {0: 1, 1: 1}
    assert grown == other.files(bench.image(LOWER, UPPER))


def test_another_image_is_read(bench: Bench, other: Bench) -> None:
    bench.files(bench.image(LOWER, UPPER))
    assert bench.files(bench.image(UPPER, LOWER)) == other.files(bench.image(UPPER, LOWER))
    assert bench.files(bench.image(LOWER)) == other.files(bench.image(LOWER))


def test_another_build_reads_no_layer(bench: Bench) -> None:
    image = bench.image(LOWER, UPPER)
    first = bench.listing(image)
    bench.restart()
    assert bench.listing(image) == first
    assert bench.kept.lowest([each.diff_id for each in image.layers]) == (2, first)
    assert bench.read == {0: 1, 1: 1}


def test_another_build_reads_only_what_a_base_grew_by(bench: Bench, other: Bench) -> None:
    bench.files(bench.image(LOWER))
    bench.restart()
    grown = bench.image(LOWER, UPPER)
    assert bench.files(grown) == other.files(grown)
    assert bench.read == {0: 2, 1: 2}  # each once by either bench


def test_a_damaged_entry_is_read_again(bench: Bench) -> None:
    image = bench.image(LOWER)
    first = bench.files(image)
    (document,) = (bench.cache.root / "contents").iterdir()
    (blob,) = (path for path in (bench.cache.root / "blobs").rglob("*") if path.is_file())
    for path, damage in ((blob, b"[]\n"), (document, b"{}")):
        path.write_bytes(damage)
        bench.restart()
        assert bench.files(image) == first
    assert bench.read == {0: 3}


def test_contents_above_the_limit_are_not_cached(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST", 10)
    bench.files(bench.image(LOWER))
    assert not (bench.cache.root / "contents").exists()


def test_what_was_dropped_is_in_the_cache(bench: Bench) -> None:
    image = bench.image(LOWER, UPPER)
    bench.files(image)
    bench.kept.drop()
    assert bench.kept.lowest([each.diff_id for each in image.layers]) == (0, None)
    bench.files(image)
    assert bench.read == {0: 1, 1: 1}


NUMBERS = st.integers(0, 1 << 31)
NODES = st.builds(
    Node,
    kind=st.sampled_from(["file", "dir", "link", "other"]),
    link=st.text(max_size=5),
    data=st.none() | st.binary(max_size=30),
    mode=NUMBERS,
    uid=NUMBERS,
    gid=NUMBERS,
    head=st.binary(max_size=10),
    mtime=st.integers(-5, 8**11 - 1),
)
# Names that are not UTF-8 have surrogates.
PATHS = st.text(st.characters(codec=None) | st.sampled_from("\n\udc80"), max_size=5)


@given(st.dictionaries(PATHS, NODES, max_size=5))
def test_listings_are_written_and_read(nodes: dict[str, Node]) -> None:
    assert module._decoded(b"".join(module._encoded(Filesystem(nodes)))) == Filesystem(nodes)
