from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.errors import ImageError, InvalidReferenceError
from hatch_docker.oci import spec
from hatch_docker.oci.config import Healthcheck, History, ImageConfig, diff_ids_of, history_of
from hatch_docker.oci.spec import Descriptor, Index, Manifest, Platform
from hatch_docker.support.streams import digest_of

DIGEST = "sha256:" + "0a" * 32
DESCRIPTOR = {"mediaType": spec.MANIFEST, "digest": DIGEST, "size": 1}
AMD64, ARM64 = Platform(architecture="amd64"), Platform(architecture="arm64")

_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
_times = st.just("") | st.datetimes().map(lambda time: f"{time.isoformat()}Z")
_words = st.lists(_text, min_size=1, max_size=3).map(tuple)
_names = st.sets(_text.filter(bool), max_size=3).map(lambda names: tuple(sorted(names)))
_texts = st.dictionaries(_text, _text, max_size=3)
_digests = st.sampled_from([DIGEST, "sha512:" + "0b" * 64])
_platforms = st.builds(
    Platform.of,
    st.sampled_from(["linux", "Windows"]),
    st.sampled_from(["amd64", "x86_64", "arm64", "aarch64", "arm", "riscv64"]),
    st.sampled_from(["", "v6", "v7", "v8", "v1"]),
)
_descriptors = st.builds(
    Descriptor,
    media_type=st.sampled_from([spec.MANIFEST, spec.LAYER_GZIP, "application/example"]),
    digest=_digests,
    size=st.integers(0, 2**63 - 1),
    annotations=_texts,
    platform=st.none() | _platforms,
)
_histories = st.builds(
    History, created_by=_text, created=_times, comment=_text, author=_text, empty_layer=st.booleans()
)
_numbers = st.integers(0, 2**63 - 1)
_configs = st.builds(
    ImageConfig,
    platform=_platforms,
    created=_times,
    author=_text,
    env=st.dictionaries(st.from_regex("[A-Z_]{1,4}", fullmatch=True), _text, max_size=3),
    entrypoint=st.none() | _words,
    cmd=st.none() | _words,
    user=_text,
    working_dir=_text,
    exposed_ports=_names,
    volumes=_names,
    labels=_texts,
    stop_signal=_text,
    healthcheck=st.none()
    | st.builds(
        Healthcheck,
        test=_words,
        interval=_numbers,
        timeout=_numbers,
        start_period=_numbers,
        start_interval=_numbers,
        retries=_numbers,
    ),
    shell=st.just(()) | _words,
    args_escaped=st.booleans(),
)
_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=5,
)


def some(fields: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Documents in which some fields are valid, and others are arbitrary."""
    return st.fixed_dictionaries({}, optional={name: _json | st.just(value) for name, value in fields.items()})


class TestRoundTrips:
    @given(
        st.builds(
            Manifest, config=_descriptors, layers=st.lists(_descriptors, max_size=3).map(tuple), annotations=_texts
        )
    )
    def test_a_manifest(self, manifest: Manifest) -> None:
        assert Manifest.from_json(spec.load(spec.dump(manifest.to_json()), "it")) == manifest

    @given(st.builds(Index, manifests=st.lists(_descriptors, max_size=3).map(tuple), annotations=_texts))
    def test_an_index(self, index: Index) -> None:
        assert Index.from_json(spec.load(spec.dump(index.to_json()), "it")) == index

    @given(_configs, st.lists(_digests, max_size=3).map(tuple), st.lists(_histories, max_size=3).map(tuple))
    def test_a_config(self, config: ImageConfig, diff_ids: tuple[str, ...], history: tuple[History, ...]) -> None:
        document = spec.load(spec.dump(config.to_json(diff_ids, history)), "it")
        assert ImageConfig.from_json(document) == config
        assert diff_ids_of(document) == diff_ids
        assert history_of(document) == history

    @given(_configs)
    def test_equal_values_have_equal_bytes(self, config: ImageConfig) -> None:
        document = config.to_json((), ())
        shuffled = json.loads(json.dumps(dict(reversed(document.items()))))
        assert digest_of(spec.dump(document)) == digest_of(spec.dump(shuffled))

    @given(_platforms)
    def test_a_platform(self, platform: Platform) -> None:
        assert Platform.parse(str(platform)) == platform


class TestAnyDocument:
    """Any document is read, or raises ImageError."""

    @given(some({**DESCRIPTOR, "annotations": {"a": 1}, "platform": {"os": "linux"}}) | _json)
    def test_a_descriptor(self, document: Any) -> None:
        try:
            read = Descriptor.from_json(document)
        except ImageError:
            return
        spec.dump(read.to_json())

    @given(some({"config": DESCRIPTOR, "layers": [DESCRIPTOR], "manifests": [DESCRIPTOR]}))
    def test_a_manifest_and_an_index(self, document: dict[str, Any]) -> None:
        for kind in (Manifest, Index):
            try:
                read = kind.from_json(document)
            except ImageError:
                continue
            spec.dump(read.to_json())

    @given(
        some({"os": "linux", "architecture": "amd64", "variant": "v8", "rootfs": {}, "history": [{}], "created": "x"}),
        some(
            {
                "Env": ["A=1", 1],
                "Entrypoint": "x",
                "Cmd": ["x"],
                "ExposedPorts": {"1/tcp": {}},
                "Volumes": {"/": {}},
                "Labels": {"a": None},
                "Healthcheck": {"Test": ["NONE"], "Interval": "1s", "StartInterval": 10**9, "Retries": 1.5},
                "Shell": ["/bin/bash", 1],
                "ArgsEscaped": 1,
                "OnBuild": ["RUN x"],
            }
        )
        | _json,
    )
    def test_a_config(self, document: dict[str, Any], inner: Any) -> None:
        whole = {**document, "config": inner}
        try:
            read = ImageConfig.from_json(whole)
            written = spec.dump(read.to_json(diff_ids_of(whole), history_of(whole)))
        except ImageError:
            return
        assert ImageConfig.from_json(spec.load(written, "it")) == read

    @pytest.mark.parametrize(
        "data",
        [b"", b"{", b"[]", b"\xff", b"1", b"[" * 100_000, b'{"a":"\\ud800"}', b'{"a":"\xed\xa0\x80"}', b"9" * 5000],
    )
    def test_other_json_than_objects_is_an_error(self, data: bytes) -> None:
        with pytest.raises(ImageError, match=r"^the config is not"):
            spec.load(data, "the config")

    @pytest.mark.parametrize(
        "wrong",
        [
            {},
            {"digest": DIGEST},
            {"digest": DIGEST, "size": True},
            {"digest": DIGEST, "size": 1 << 63},
            {"digest": "sha256:1", "size": 1},
            [],
            None,
        ],
    )
    def test_descriptor_needs_digest_and_size(self, wrong: object) -> None:
        with pytest.raises(ImageError):
            Descriptor.from_json(wrong)


class TestReading:
    def test_reads_docker_media_types_as_oci(self) -> None:
        layer = {"digest": DIGEST, "size": 1, "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"}
        config = {"digest": DIGEST, "size": 1, "mediaType": spec.DOCKER_CONFIG}
        manifest = Manifest.from_json({"config": config, "layers": [layer], "schemaVersion": 2, "other": 1})
        assert manifest.config.media_type == spec.CONFIG
        assert manifest.layers[0].media_type == spec.LAYER_GZIP

    def test_accepts_a_missing_media_type(self) -> None:
        assert Descriptor.from_json({"digest": DIGEST, "size": 1}).media_type == ""

    def test_entrypoint_in_shell_form(self) -> None:
        read = ImageConfig.from_json({"config": {"Entrypoint": "run me", "Cmd": [], "Env": ["A=b=c", "EMPTY"]}})
        assert read.entrypoint == ("/bin/sh", "-c", "run me")
        assert read.cmd is None
        assert read.env == {"A": "b=c", "EMPTY": ""}

    def test_keeps_all_that_a_container_takes_from_an_image(self) -> None:
        inner = {
            "ArgsEscaped": True,
            "Cmd": ["x"],
            "Entrypoint": ["y"],
            "Env": ["A=1"],
            "ExposedPorts": {"1/tcp": {}},
            "Healthcheck": {
                "Test": ["CMD-SHELL", "x"],
                "Interval": 1,
                "Timeout": 2,
                "StartPeriod": 3,
                "StartInterval": 4,
                "Retries": 5,
            },
            "Labels": {"a": "b"},
            "Shell": ["/bin/bash", "-c"],
            "StopSignal": "SIGINT",
            "User": "1",
            "Volumes": {"/v": {}},
            "WorkingDir": "/w",
        }
        # A build from this image would run the triggers once; the rest is of the container that the image was made in.
        dropped = {"OnBuild": ["RUN x"], "Hostname": "h", "NetworkDisabled": True, "MacAddress": "m", "Tty": False}
        read = ImageConfig.from_json({"os": "linux", "architecture": "amd64", "config": {**inner, **dropped}})
        assert read.to_json((), ())["config"] == inner

    def test_omits_empty_fields(self) -> None:
        assert ImageConfig(platform=AMD64).to_json((), ()) == {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": []},
        }

    def test_requires_diff_ids(self) -> None:
        for wrong in ({}, {"rootfs": 1}, {"rootfs": {"diff_ids": ["x"]}}, {"rootfs": {"diff_ids": [1]}}):
            with pytest.raises(ImageError, match=r"rootfs\.diff_ids"):
                diff_ids_of(wrong)


class TestPlatforms:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("amd64", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm", "linux/arm/v7"),
            ("armv7l", "linux/arm/v7"),
            ("arm64/v8", "linux/arm64"),
            ("arm/v6", "linux/arm/v6"),
            ("Linux/AArch64", "linux/arm64"),
            ("windows/amd64", "windows/amd64"),
        ],
    )
    def test_normalizes(self, text: str, expected: str) -> None:
        assert str(Platform.parse(text)) == expected

    @pytest.mark.parametrize(
        "text", ["", "/", "linux/", "a/b/c/d", "linux amd64", "linux", "local", "arm64/v8/x", "linux/amd64\n"]
    )
    def test_malformed(self, text: str) -> None:
        with pytest.raises(InvalidReferenceError, match="is not a platform"):
            Platform.parse(text)


class TestSelection:
    @staticmethod
    def index(*platforms: Platform | None) -> Index:
        return Index(
            manifests=tuple(
                Descriptor(media_type=spec.MANIFEST, digest=DIGEST, size=position, platform=platform)
                for position, platform in enumerate(platforms)
            )
        )

    def chosen(self, wanted: str, *platforms: str | None) -> int | None:
        index = self.index(*(None if name is None else Platform.parse(name) for name in platforms))
        chosen = index.select(Platform.parse(wanted))
        return None if chosen is None else chosen.size

    def test_equal_platform(self) -> None:
        assert self.chosen("arm64", "amd64", "arm64", "unknown/unknown") == 1

    def test_equal_variant_takes_precedence(self) -> None:
        assert self.chosen("linux/arm/v7", "linux/arm/v6", "linux/arm/v7") == 1
        assert self.chosen("linux/arm", "linux/arm/v6", "linux/arm") == 1

    def test_arm_without_a_variant_is_not_soft_float(self) -> None:
        assert self.chosen("linux/arm", "linux/arm/v5", "linux/arm/v7") == 1
        assert self.chosen("linux/arm", "linux/arm/v5") is None

    def test_any_variant_if_none_is_requested(self) -> None:
        assert self.chosen("linux/arm64", "linux/amd64", "linux/arm64/v9") == 1

    def test_no_other_variant_than_the_requested_one(self) -> None:
        assert self.chosen("linux/arm/v6", "linux/arm/v7") is None

    def test_only_manifest_without_a_platform(self) -> None:
        assert self.chosen("amd64", None) == 0
        assert self.chosen("amd64", None, None) is None

    def test_attestations_are_not_platforms(self) -> None:
        index = self.index(ARM64, Platform.parse("unknown/unknown"), AMD64, None)
        assert index.platforms() == ["linux/amd64", "linux/arm64"]


def test_digests() -> None:
    assert digest_of(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert spec.check_digest(DIGEST) == DIGEST
    for wrong in ("", "sha256:", DIGEST.upper(), DIGEST + "\n", "sha256:../../etc/passwd", "md5:" + "a" * 32):
        with pytest.raises(InvalidReferenceError, match="is not a digest"):
            spec.check_digest(wrong)
