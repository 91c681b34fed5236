from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.errors import ImageError
from hatch_docker.oci import spec, zstd
from hatch_docker.oci.config import History, ImageConfig
from hatch_docker.oci.image import Image, append, decompressed, validate
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.spec import Descriptor, Platform
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.streams import digest_of

CONFIG = ImageConfig(platform=Platform(architecture="amd64"))


def tar(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def zstandard(data: bytes) -> bytes:
    compressor = zstd.ZstdCompressor()
    return bytes(compressor.compress(data) + compressor.flush())


def in_members(compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda data: compress(data[:700]) + compress(b"") + compress(data[700:])


CODECS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "plain": (spec.LAYER_TAR, bytes),
    "gzip": (spec.LAYER_GZIP, gzip.compress),
    "members of gzip": (spec.LAYER_GZIP, in_members(gzip.compress)),
    "zstd": (spec.LAYER_ZSTD, zstandard),
    "frames of zstd": (spec.LAYER_ZSTD, in_members(zstandard)),
}
every_codec = pytest.mark.parametrize("codec", CODECS)


def layer(name: str, codec: str = "gzip") -> Layer:
    media_type, compress = CODECS[codec]
    blob = compress(tar(name))
    descriptor = Descriptor(media_type=media_type, digest=digest_of(blob), size=len(blob))
    return Layer(descriptor=descriptor, diff_id=digest_of(tar(name)), open=lambda: io.BytesIO(blob))


def image(*layers: Layer) -> Image:
    return Image(config=CONFIG, layers=layers, history=tuple(History(created_by="test") for _ in layers))


def holding(data: bytes, like: Layer) -> Layer:
    return replace(like, open=lambda: io.BytesIO(data))


def content(one: Layer) -> bytes:
    with one.open() as file:
        return file.read()


class TestImages:
    def test_manifest_and_digests_agree(self) -> None:
        made = image(layer("a"), layer("b"))
        config = spec.load(made.config_bytes, "the config")
        manifest = spec.load(made.manifest_bytes, "the manifest")
        assert config["rootfs"]["diff_ids"] == [each.diff_id for each in made.layers]
        assert manifest["config"]["digest"] == digest_of(made.config_bytes)
        assert manifest["config"]["size"] == len(made.config_bytes)
        assert made.digest == made.descriptor.digest == digest_of(made.manifest_bytes)
        assert made.descriptor.platform == CONFIG.platform

    def test_order_of_mappings_does_not_change_the_digest(self) -> None:
        one, other = ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
        assert (
            replace(image(), annotations=one, config=replace(CONFIG, labels=one)).digest
            == replace(image(), annotations=other, config=replace(CONFIG, labels=other)).digest
        )

    def test_appends_layers_to_a_new_image(self) -> None:
        base = image(layer("a"))
        step = History(created_by="b")
        config = replace(CONFIG, user="1000")
        made = append(base, (layer("b"),), (step,), config)
        assert [each.diff_id for each in made.layers] == [layer("a").diff_id, layer("b").diff_id]
        assert made.history == (*base.history, step)
        assert made.config == config
        assert len(base.layers) == 1
        assert validate(made) == []

    def test_base_without_history_gets_one(self) -> None:
        base = Image(config=CONFIG, layers=(layer("a"), layer("b")))
        made = append(base, (layer("c"),), (History(),), CONFIG)
        assert len(made.history) == 3
        assert validate(made) == []

    @pytest.mark.parametrize("steps", [1, 3])
    def test_base_with_wrong_history_gets_another(self, steps: int) -> None:
        history = (History(empty_layer=True), *(History(created_by="x") for _ in range(steps)))
        base = Image(config=CONFIG, layers=(layer("a"), layer("b")), history=history)
        assert validate(append(base, (layer("c"),), (History(),), CONFIG)) == []


class TestValidation:
    @every_codec
    def test_valid_image_has_no_problems(self, codec: str) -> None:
        assert validate(image(layer("a", codec), layer("b"))) == []

    @every_codec
    def test_finds_every_changed_byte(self, codec: str) -> None:
        sound = layer("a", codec)
        blob = content(sound)
        for position in range(0, len(blob), max(1, len(blob) // 60)):
            changed = bytearray(blob)
            changed[position] ^= 1
            assert validate(image(layer("b"), holding(bytes(changed), sound)))

    @every_codec
    @pytest.mark.parametrize(
        "damage", [lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b + b"x"]
    )
    def test_finds_missing_and_additional_bytes(self, codec: str, damage: Callable[[bytes], bytes]) -> None:
        sound = layer("a", codec)
        assert validate(image(holding(damage(content(sound)), sound)))

    def test_names_each_wrong_value(self) -> None:
        sound = layer("a")
        wrong = "sha256:" + "0" * 64
        wrong_layers = {
            "digest": replace(sound, descriptor=replace(sound.descriptor, digest=wrong)),
            "size": replace(sound, descriptor=replace(sound.descriptor, size=1)),
            "diff ID": replace(sound, diff_id=wrong),
        }
        for name, layer_ in wrong_layers.items():
            (problem,) = validate(image(sound, layer_))
            assert problem.startswith("layer 1 (sha256:")
            assert f"its {name} is" in problem

    def test_finds_history_that_does_not_match_the_layers(self) -> None:
        sound = image(layer("a"))
        assert validate(replace(sound, history=(*sound.history, History(empty_layer=True)))) == []
        assert validate(replace(sound, history=())) == []
        (problem,) = validate(replace(sound, history=(*sound.history, History())))
        assert problem == "history has 2 steps with a layer, the image has 1 layers"

    def test_layer_that_cannot_be_opened(self) -> None:
        def refuse() -> io.BytesIO:
            raise FileNotFoundError("gone")

        (problem,) = validate(image(replace(layer("a"), open=refuse)))
        assert "cannot be read: gone" in problem

    def test_config_that_cannot_be_read_back(self) -> None:
        (problem,) = validate(image(replace(layer("a"), diff_id="nonsense")))[1:]
        assert "rootfs.diff_ids" in problem


class TestDecompression:
    @every_codec
    @given(data=st.data())
    def test_chunks_of_any_size(self, codec: str, data: st.DataObject) -> None:
        sound = layer("a", codec)
        blob = content(sound)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(blob)), max_size=5)))

        def chunks() -> Iterator[bytes]:
            for start, end in zip([0, *cuts], [*cuts, len(blob)], strict=True):
                yield blob[start:end]

        plain = b"".join(decompressed(chunks(), sound.descriptor.media_type))
        assert plain == tar("a")

    @pytest.mark.parametrize("media_type", [spec.LAYER_GZIP, spec.LAYER_ZSTD])
    @given(data=st.binary(max_size=30), start=st.sampled_from([b"", gzip.compress(b"x")[:12], zstandard(b"x")[:6]]))
    def test_any_bytes_are_read_or_raise_image_error(self, media_type: str, data: bytes, start: bytes) -> None:
        try:
            list(decompressed(iter([start + data]), media_type))
        except ImageError as error:
            assert "cannot be decompressed" in error.message  # noqa: PT017 (either outcome is fine)
