from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from builds import entries_below
from fake_registry import FakeRegistry
from hypothesis import given
from hypothesis import strategies as st
from image_maker import AMD64, ARM64, blob_of, make_image, tar_of

from hatch_docker.errors import BaseError, DigestMismatchError, HatchDockerError, ImageError, RegistryError
from hatch_docker.oci import spec, zstd
from hatch_docker.oci.image import Image, validate
from hatch_docker.oci.layout import Files
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.source import Source, fetch, pull, pull_saved, recall, registry_source, remember
from hatch_docker.oci.spec import Descriptor, Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress
from hatch_docker.support.streams import digest_of

IMAGE, ARM = make_image("one", "two"), make_image("arm", platform=ARM64)
QUIET = Progress()


@dataclass
class Fake:
    """A source in memory that records requests."""

    top: bytes
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, *images: Image, top: bytes = b"") -> Fake:
        blobs: dict[str, bytes] = {}
        for image in images:
            blobs |= {digest_of(data): data for data in (image.manifest_bytes, image.config_bytes)}
            blobs |= {layer.descriptor.digest: blob_of(layer) for layer in image.layers}
        return cls(top or images[0].manifest_bytes, blobs)

    def source(self) -> Source:
        return Source(name="the source", root=lambda: self.top, document=self._get, blob=lambda d: iter([self._get(d)]))

    def _get(self, descriptor: Descriptor) -> bytes:
        self.asked.append(descriptor.digest)
        return self.blobs[descriptor.digest]


def index(*images: Image, **more: Any) -> bytes:
    attestation = replace(make_image().descriptor, platform=Platform(os="unknown", architecture="unknown"))
    manifests = [attestation, *(image.descriptor for image in images)]
    return spec.dump({"schemaVersion": 2, "manifests": [each.to_json() for each in manifests], **more})


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def cached(cache: Cache) -> list[Path]:
    return list(entries_below(cache.root))


class TestPull:
    def test_pulls_an_image(self, cache: Cache) -> None:
        pulled = pull(Fake.of(IMAGE).source(), AMD64, cache, progress=QUIET)
        assert pulled.digest == pulled.image.digest == IMAGE.digest
        assert pulled.image.config == IMAGE.config
        assert validate(pulled.image) == []

    @pytest.mark.parametrize("number", range(3))
    def test_content_that_a_mirror_has_damaged_comes_from_its_registry(self, cache: Cache, number: int) -> None:
        """Of the config and of both layers."""
        with FakeRegistry() as mirror, FakeRegistry() as registry:
            for fake in (mirror, registry):
                fake.add_manifest("app", "1", IMAGE.manifest_bytes, spec.MANIFEST)
                fake.add_blob("app", IMAGE.config_bytes)
                for layer in IMAGE.layers:
                    fake.add_blob("app", blob_of(layer))
            damaged = list(mirror.blobs)[number]
            mirror.blobs[damaged] = mirror.blobs[damaged][:-1] + b"?"
            reference = Reference(registry=registry.host, repository="app", tag="1")
            client = Registry(Http(), credentials=Credentials(), mirrors={registry.host: mirror.host})
            pulled = pull(registry_source(client, reference, cache), AMD64, cache, progress=QUIET)
            assert validate(pulled.image) == []
            assert [each.path.rpartition("/")[2] for each in registry.sent("GET")] == [damaged[1]]

    @pytest.mark.parametrize("wanted", [IMAGE, ARM])
    def test_selects_by_platform(self, cache: Cache, wanted: Image) -> None:
        top = index(IMAGE, ARM)
        pulled = pull(Fake.of(IMAGE, ARM, top=top).source(), wanted.config.platform, cache, progress=QUIET)
        assert pulled.image.config_bytes == wanted.config_bytes
        assert pulled.digest == digest_of(top)

    def test_missing_platform_is_an_error(self, cache: Cache) -> None:
        wanted = Platform(architecture="s390x")
        with pytest.raises(BaseError, match="nothing for linux/s390x; it has linux/amd64, linux/arm64\n") as caught:
            pull(Fake.of(top=index(IMAGE, ARM)).source(), wanted, cache, progress=QUIET)
        assert 'platforms = ["linux/amd64"]' in caught.value.hint
        with pytest.raises(BaseError, match="nothing for linux/arm64; it has linux/amd64"):
            pull(Fake.of(IMAGE).source(), ARM64, cache, progress=QUIET)
        with pytest.raises(BaseError, match="it has no platforms at all"):
            pull(Fake.of(top=index()).source(), AMD64, cache, progress=QUIET)

    def test_index_with_a_wrong_platform(self, cache: Cache) -> None:
        lying = spec.dump({"manifests": [replace(ARM.descriptor, platform=AMD64).to_json()]})
        with pytest.raises(BaseError, match="nothing for linux/amd64; it has linux/arm64"):
            pull(Fake.of(ARM, top=lying).source(), AMD64, cache, progress=QUIET)

    def test_docker_media_types_and_missing_ones(self, cache: Cache) -> None:
        manifest = IMAGE.manifest.to_json()
        del manifest["mediaType"]
        for each in manifest["layers"]:
            each["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
        manifest["config"]["mediaType"] = spec.DOCKER_CONFIG
        pulled = pull(Fake.of(IMAGE, top=spec.dump(manifest)).source(), AMD64, cache, progress=QUIET)
        assert {layer.descriptor.media_type for layer in pulled.image.layers} == {spec.LAYER_GZIP}
        assert validate(pulled.image) == []

    def test_pulls_layers_once_when_they_are_opened(self, cache: Cache) -> None:
        fake = Fake.of(IMAGE)
        pulled = pull(fake.source(), AMD64, cache, progress=QUIET)
        layers = {layer.descriptor.digest for layer in IMAGE.layers}
        assert layers.isdisjoint(fake.asked)
        for _ in range(2):
            fetch(pulled.image, threads=3)
            assert sorted(fake.asked) == sorted({IMAGE.config_descriptor.digest, *layers})

    def test_pulls_again_what_the_cache_lost(self, cache: Cache) -> None:
        fake = Fake.of(IMAGE)
        pulled = pull(fake.source(), AMD64, cache, progress=QUIET)
        fetch(pulled.image, threads=1)
        for path in cached(cache):
            path.write_bytes(b"damaged")
        again = pull(fake.source(), AMD64, Cache(cache.root), progress=QUIET)
        assert validate(again.image) == []

    @pytest.mark.parametrize("what", ["manifest", "config", "layer"])
    def test_stores_nothing_of_wrong_content(self, cache: Cache, what: str) -> None:
        fake = Fake.of(IMAGE, top=index(IMAGE))
        wrong = {
            "manifest": IMAGE.digest,
            "config": IMAGE.config_descriptor.digest,
            "layer": IMAGE.layers[0].descriptor.digest,
        }[what]
        fake.blobs[wrong] = fake.blobs[wrong][:-1] + b"x"
        with pytest.raises(DigestMismatchError, match=f"the source has the wrong content: expected {wrong}"):
            fetch(pull(fake.source(), AMD64, cache, progress=QUIET).image, threads=1)
        assert cache.blob(wrong) is None
        assert wrong.partition(":")[2] not in {path.name for path in cached(cache)}

    @pytest.mark.parametrize("by", [-1, 1, 1 << 40])
    def test_layer_of_another_size_than_in_the_manifest(self, cache: Cache, by: int) -> None:
        lower, upper = IMAGE.manifest.layers
        lying = replace(IMAGE.manifest, layers=(lower, replace(upper, size=upper.size + by)))
        pulled = pull(Fake.of(IMAGE, top=spec.dump(lying.to_json())).source(), AMD64, cache, progress=QUIET)
        with pytest.raises(ImageError, match=f"has {upper.size} bytes, not the {upper.size + by} of its manifest"):
            fetch(pulled.image, threads=1)

    def test_does_not_request_a_document_that_claims_to_be_huge(self, cache: Cache) -> None:
        huge = spec.dump({"manifests": [replace(IMAGE.descriptor, size=1 << 40).to_json()]})
        fake = Fake.of(IMAGE, top=huge)
        with pytest.raises(ImageError, match="larger than such a document can be"):
            pull(fake.source(), AMD64, cache, progress=QUIET)
        assert fake.asked == []

    @pytest.mark.parametrize(
        "change",
        [
            {"rootfs": {"type": "layers", "diff_ids": [IMAGE.layers[0].diff_id]}},
            {"rootfs": {"type": "layers"}},
            {"config": 5},
        ],
    )
    def test_config_with_another_number_of_layers(self, cache: Cache, change: dict[str, Any]) -> None:
        config = spec.dump({**json.loads(IMAGE.config_bytes), **change})
        described = Descriptor(media_type=spec.CONFIG, digest=digest_of(config), size=len(config))
        fake = Fake.of(IMAGE, top=spec.dump(replace(IMAGE.manifest, config=described).to_json()))
        fake.blobs[described.digest] = config
        with pytest.raises(ImageError):
            pull(fake.source(), AMD64, cache, progress=QUIET)

    @given(
        data=st.binary(max_size=20)
        | st.sampled_from([b"{}", b"[]", b'{"manifests": 5}', b'{"layers": [], "config": 1}'])
    )
    def test_root_that_is_not_an_image(self, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
        cache = Cache(tmp_path_factory.getbasetemp() / "roots")
        with pytest.raises(ImageError):
            pull(Fake(data).source(), AMD64, cache, progress=QUIET)


class TestOffline:
    @pytest.mark.usefixtures("no_waiting")
    def test_image_named_by_digest_needs_its_registry_once(self, cache: Cache) -> None:
        top = index(IMAGE)
        with FakeRegistry() as fake:
            for data, kind in ((top, spec.INDEX), (IMAGE.manifest_bytes, spec.MANIFEST)):
                fake.add_manifest("app", "latest", data, kind)
            for data in (IMAGE.config_bytes, *map(blob_of, IMAGE.layers)):
                fake.add_blob("app", data)
            fake.add_manifest("app", "latest", top, spec.INDEX)
            reference = Reference(registry=fake.host, repository="app", digest=digest_of(top))
            fetch(self.pull(reference, cache), threads=2)
        assert validate(self.pull(reference, cache)) == []
        with pytest.raises(RegistryError, match="cannot be reached"):
            self.pull(replace(reference, digest="", tag="latest"), cache)
        with pytest.raises(RegistryError, match="cannot be reached"):
            self.pull(reference, Cache(cache.root / "another"))

    def test_builds_that_begin_together_ask_once_what_a_tag_names(self, cache: Cache) -> None:
        first, second = Cache(cache.root), Cache(cache.root)
        with FakeRegistry() as fake:
            reference = Reference(registry=fake.host, repository="app", tag="latest")
            fake.add_manifest("app", "latest", IMAGE.manifest_bytes, spec.MANIFEST)
            fake.add_blob("app", IMAGE.config_bytes)
            assert self.pull(reference, first).digest == IMAGE.digest
            asked = len(fake.requests)
            registry = Registry(Http(), credentials=Credentials())
            assert registry_source(registry, reference, second).root() == IMAGE.manifest_bytes
            # A stamp asks again what this build was told.
            assert registry.answers == {str(reference): IMAGE.digest}
            assert len(fake.requests) == asked
            self.pull(reference, Cache(cache.root))
            assert len(fake.requests) == asked + 1

    def test_tag_costs_a_head_if_its_manifest_is_cached(self, cache: Cache) -> None:
        """Registries that limit pulls count each GET of a manifest."""
        with FakeRegistry() as fake:
            reference = Reference(registry=fake.host, repository="app", tag="latest")
            for image in (IMAGE, make_image("newer")):
                fake.add_manifest("app", "latest", image.manifest_bytes, spec.MANIFEST)
                fake.add_blob("app", image.config_bytes)
                for _ in range(2):
                    assert self.pull(reference, Cache(cache.root)).digest == image.digest
                assert len(fake.sent("GET", "/manifests/")) == 1
                fake.requests.clear()
            # Without the digest in an answer to a HEAD, nobody knows what the tag names.
            fake.digest_header = ""
            assert self.pull(reference, Cache(cache.root)).digest == make_image("newer").digest
            assert len(fake.sent("GET", "/manifests/")) == 1

    @staticmethod
    def pull(reference: Reference, cache: Cache) -> Image:
        registry = Registry(Http(), credentials=Credentials())
        return pull(registry_source(registry, reference, cache), AMD64, cache, progress=QUIET).image


def saved(plain: Mapping[str, bytes], *, diff_ids: list[str] | None = None) -> Files:
    """An archive of `docker save`; `plain` has the layers by name."""
    ids = diff_ids or [digest_of(data) for data in plain.values()]
    files = {
        "manifest.json": json.dumps([{"Config": "c", "RepoTags": [], "Layers": list(plain)}]).encode(),
        "c": spec.dump(IMAGE.config.to_json(tuple(ids), ())),
        **plain,
    }
    return Files(place="saved.tar", open=lambda name: io.BytesIO(files[name]))


def dribble(files: Files) -> Files:
    """The same files, a few bytes at each read."""

    class Slow(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.data = data

        def read(self, size: int = -1) -> bytes:
            data, self.data = self.data[:1013], self.data[1013:]
            return data

    return replace(files, open=lambda name: Slow(files.open(name).read()))  # type: ignore[arg-type,return-value]


class TestSavedImages:
    PLAIN = tar_of({"big": bytes(range(256)) * 9000, "small": b"x"})

    def layers(self, files: Files, cache: Cache) -> list[str]:
        image = pull_saved(files, "", AMD64, cache, progress=QUIET).image
        assert validate(image) == []
        return [layer.descriptor.digest for layer in image.layers]

    def test_compression_does_not_depend_on_chunks(self, tmp_path: Path) -> None:
        files = saved({"a": self.PLAIN, "b": tar_of({})})
        first, second = Cache(tmp_path / "first"), Cache(tmp_path / "second")
        assert self.layers(files, first) == self.layers(dribble(files), second)

    def test_are_compressed_once(self, cache: Cache) -> None:
        first = self.layers(saved({"a": self.PLAIN}), cache)
        gone = saved({"a": b"gone"}, diff_ids=[digest_of(self.PLAIN)])
        assert self.layers(gone, cache) == first

    def test_damaged_cache_is_a_miss(self, cache: Cache) -> None:
        files = saved({"a": self.PLAIN})
        first = self.layers(files, cache)
        for path in cached(cache):
            path.write_bytes(b"{}")
        assert self.layers(files, Cache(cache.root)) == first

    @pytest.mark.parametrize("compress", [gzip.compress, lambda data: zstandard(data)])
    def test_accepts_compressed_layers(self, cache: Cache, compress: Any) -> None:
        files = saved({"a": compress(self.PLAIN)}, diff_ids=[digest_of(self.PLAIN)])
        assert self.layers(files, cache) == self.layers(saved({"a": self.PLAIN}), Cache(cache.root / "2"))

    @pytest.mark.parametrize(
        "wrong",
        [b"", tar_of({"other": b""}), gzip.compress(PLAIN)[:-9], b"\x1f\x8b nonsense"],
        ids=["empty", "other", "truncated", "nonsense"],
    )
    def test_stores_no_layer_with_another_diff_id(self, cache: Cache, wrong: bytes) -> None:
        files = saved({"a": wrong}, diff_ids=[digest_of(self.PLAIN)])
        with pytest.raises(ImageError, match=r"is not sha256:|cannot be decompressed"):
            self.layers(files, cache)
        assert cached(cache) == []

    def test_more_layers_than_in_the_config(self, cache: Cache) -> None:
        with pytest.raises(ImageError, match="another number of layers"):
            self.layers(saved({"a": self.PLAIN, "b": b""}, diff_ids=[digest_of(self.PLAIN)]), cache)


def zstandard(data: bytes) -> bytes:
    compressor = zstd.ZstdCompressor()
    return bytes(compressor.compress(data) + compressor.flush())


class TestRecall:
    """An engine's image is saved once, then recalled by its ID."""

    @pytest.fixture
    def filled(self, cache: Cache) -> Cache:
        pulled = pull_saved(
            saved({"a": tar_of({"x": b"1"}), "b": tar_of({"x": b"2"})}), "", AMD64, cache, progress=QUIET
        )
        remember(cache, "sha256:id", pulled)
        recalled = recall(cache, "sha256:id")
        assert recalled is not None
        assert recalled.digest == pulled.digest
        assert recalled.image.config_bytes == pulled.image.config_bytes
        assert validate(recalled.image) == []
        return cache

    def test_another_id_is_a_miss(self, filled: Cache) -> None:
        assert recall(filled, "sha256:other") is None

    def test_missing_or_damaged_parts_are_a_miss(self, filled: Cache) -> None:
        needed = [path for path in cached(filled) if "compressed" not in path.parts]
        assert len(needed) == 4
        for path in needed:
            data = path.read_bytes()
            path.write_bytes(data[:-3])
            assert recall(Cache(filled.root), "sha256:id") is None, path
            path.write_bytes(data)
            assert recall(Cache(filled.root), "sha256:id") is not None

    @pytest.mark.parametrize("layers", [[], [1], 5, None, [{"digest": "sha256:" + "0" * 64, "size": 1}] * 2])
    def test_entry_of_another_version_is_a_miss(self, filled: Cache, layers: Any) -> None:
        document = filled.get("saved", "sha256:id")
        assert document
        filled.put("saved", "sha256:id", {**document, "layers": layers})
        assert recall(filled, "sha256:id") is None


def test_errors_are_image_errors(cache: Cache) -> None:
    with pytest.raises(HatchDockerError):
        pull_saved(saved({}, diff_ids=["nonsense"]), "", AMD64, cache, progress=QUIET)
