"""Indexes as archives and layouts, layouts that are written again, and graphs of other tools' files."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import secrets
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_registry import FakeRegistry
from hypothesis import given
from hypothesis import strategies as st
from image_maker import AMD64, ARM64, make_image, tar_of

from hatch_docker.errors import HatchDockerError, ImageError, OutputError
from hatch_docker.oci import spec
from hatch_docker.oci.archive import archive, write_layout
from hatch_docker.oci.foreign import open_graph
from hatch_docker.oci.graph import Node
from hatch_docker.oci.image import Image, ImageIndex
from hatch_docker.oci.layout import Files, blob_name, graph_of, open_files
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.source import layout_source, pull
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress
from hatch_docker.support.streams import digest_of

ONE, TWO = Reference.parse("registry.example/team/app:1.0"), Reference.parse("app:latest")
INDEX = ImageIndex(images=(make_image("one"), make_image("one", "two", platform=ARM64)))
OTHER = make_image("other")


def content(root: Node) -> dict[str, bytes]:
    """Everything of a graph, read as a push reads it, and verified here."""
    blobs = {}
    for node in root.walk():
        with node.open() as file:
            data = file.read(min(node.descriptor.size, 1 << 20))
        assert digest_of(data) == node.descriptor.digest
        blobs[node.descriptor.digest] = data
    return blobs


def as_tar(path: Path, root: Node, *references: Reference) -> Path:
    path.write_bytes(b"".join(archive(root, references or (ONE,))))
    return path


class Layout:
    """A layout in memory, made by hand."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def add(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        self.files[blob_name(digest_of(data))] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}

    def add_document(self, document: dict[str, Any], media_type: str, **more: Any) -> dict[str, Any]:
        return self.add(json.dumps(document, indent=3).encode(), media_type, **more)

    def add_image(self, *layers: dict[str, Any], media_type: str = spec.MANIFEST, **more: Any) -> dict[str, Any]:
        config = self.add(b'{"x": 1}', "application/vnd.example+json")
        document = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers, "unknown": [None]}
        return self.add_document(document, media_type, **more)

    def open(self, *manifests: dict[str, Any]) -> Files:
        self.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
        return Files(place="a.tar", open=lambda name: io.BytesIO(self.files[name]))


class TestArchives:
    def test_index_is_the_only_entry(self, tmp_path: Path) -> None:
        with tarfile.open(as_tar(tmp_path / "app.tar", INDEX.node, ONE, TWO)) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
            assert len(tar.getnames()) == len(files)
        (entry,) = json.loads(files.pop("index.json"))["manifests"]
        assert (entry["digest"], entry["mediaType"]) == (INDEX.descriptor.digest, spec.INDEX)
        assert entry["annotations"] == {
            "org.opencontainers.image.ref.name": "1.0",
            "io.containerd.image.name": "registry.example/team/app:1.0",
        }
        saved = json.loads(files.pop("manifest.json"))
        assert [each["RepoTags"] for each in saved] == [
            ["registry.example/team/app:1.0", "app:latest"],
            ["registry.example/team/app:1.0-linux-arm64", "app:latest-linux-arm64"],
        ]
        for each, image in zip(saved, INDEX.images, strict=True):
            assert files[each["Config"]] == image.config_bytes
            assert each["Layers"] == [blob_name(layer.descriptor.digest) for layer in image.layers]
        files.pop("oci-layout")
        assert {blob_name(digest): data for digest, data in content(INDEX.node).items()} == files

    @pytest.mark.parametrize("platform", [AMD64, ARM64])
    def test_our_readers_read_each_platform(self, tmp_path: Path, platform: spec.Platform) -> None:
        source = layout_source(open_files(as_tar(tmp_path / "app.tar", INDEX.node)), "")
        pulled = pull(source, platform, Cache(tmp_path / "cache"), progress=Progress())
        assert pulled.digest == INDEX.descriptor.digest
        assert pulled.image.config.platform == platform

    @pytest.mark.tools
    def test_skopeo_and_umoci_read_all_images(self, tmp_path: Path) -> None:
        path = as_tar(tmp_path / "app.tar", INDEX.node, ONE)
        write_layout(tmp_path / "layout", INDEX.node, [ONE])
        for number, place in enumerate((f"oci-archive:{path}", f"oci:{tmp_path}/layout")):
            target = tmp_path / str(number)
            policy = ["skopeo", "--insecure-policy"]
            subprocess.run([*policy, "copy", "-q", "--all", place, f"oci:{target}:x"], check=True)
            assert content(graph_of(open_files(target), "x")) == content(INDEX.node)
        for image in INDEX.images:
            # umoci reads no indexes: each manifest in a layout of its own.
            single, unpacked = tmp_path / f"of-{image.config.platform.architecture}", tmp_path / image.digest[7:]
            write_layout(single, image.node, [ONE])
            command = ["umoci", "raw", "unpack", "--rootless", "--image", f"{single}:1.0", str(unpacked)]
            subprocess.run(command, check=True)
            assert (unpacked / "file").read_text() == ("two" if len(image.layers) == 2 else "one")


class TestLayouts:
    def test_written_and_read(self, tmp_path: Path) -> None:
        sizes: list[int] = []
        write_layout(tmp_path / "new" / "layout", INDEX.node, [ONE, TWO], advance=sizes.append)
        path = tmp_path / "new" / "layout"
        assert {each.name for each in path.iterdir()} == {"oci-layout", "index.json", "blobs"}
        assert json.loads((path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
        assert content(graph_of(open_files(path), "1.0")) == content(INDEX.node)
        assert sum(sizes) == sum(map(len, content(INDEX.node).values()))

    def test_same_name_is_replaced_and_others_stay(self, tmp_path: Path) -> None:
        write_layout(tmp_path, OTHER.node, [ONE.with_tag("other")])
        write_layout(tmp_path, INDEX.node, [ONE])
        newer = make_image("one", "newer")
        write_layout(tmp_path, newer.node, [ONE])
        files = open_files(tmp_path)
        assert content(graph_of(files, "other")) == content(OTHER.node)
        assert content(graph_of(files, "1.0")) == content(newer.node)
        blobs = {path.name for path in (tmp_path / "blobs" / "sha256").iterdir()}
        assert blobs == {digest[7:] for digest in {**content(OTHER.node), **content(newer.node)}}

    def test_same_image_is_not_written_again(self, tmp_path: Path) -> None:
        write_layout(tmp_path, INDEX.node, [ONE])
        blobs = list((tmp_path / "blobs" / "sha256").iterdir())
        times = [path.stat().st_mtime_ns for path in blobs]
        damaged = tmp_path / blob_name(INDEX.images[0].digest)
        damaged.write_bytes(b"damaged")
        write_layout(tmp_path, INDEX.node, [ONE])
        assert damaged.read_bytes() == INDEX.images[0].manifest_bytes
        assert [path.stat().st_mtime_ns for path in blobs if path != damaged] == [
            time for time, path in zip(times, blobs, strict=True) if path != damaged
        ]

    @pytest.mark.parametrize("existing", [True, False])
    def test_complete_or_not_there_whenever_it_stops(self, tmp_path: Path, existing: bool) -> None:
        path = tmp_path / "layout"
        if existing:
            write_layout(path, OTHER.node, [ONE])
        names = [node.descriptor.digest for node in INDEX.node.walk()]
        for digest in names:
            with pytest.raises(ImageError, match="changed while it was read"):
                write_layout(path, broken(INDEX.node, digest), [ONE])
            if existing:
                assert content(graph_of(open_files(path), "")) == content(OTHER.node)
            else:
                with pytest.raises(ImageError, match=r"no readable index\.json"):
                    graph_of(open_files(path), "")
        write_layout(path, INDEX.node, [ONE])
        assert content(graph_of(open_files(path), "")) == content(INDEX.node)
        assert not list(path.rglob("*hatch-docker*"))

    def test_several_writers_at_once(self, tmp_path: Path) -> None:
        """They share blobs, which one removes while another one wants them."""
        names = [ONE.with_tag(tag) for tag in ("a", "b", "c")]

        def write(name: Reference) -> None:
            for number in range(10):
                write_layout(tmp_path / "layout", make_image("common", f"{name}{number}").node, [name])

        with ThreadPoolExecutor() as pool:
            for _ in pool.map(write, names):
                pass
        files = open_files(tmp_path / "layout")
        for name in names:
            assert content(graph_of(files, name.tag)) == content(make_image("common", f"{name}9").node)
        blobs = list((tmp_path / "layout/blobs/sha256").iterdir())
        assert len(blobs) == 1 + 3 * 3

    def test_what_a_killed_process_left_behind(self, tmp_path: Path) -> None:
        (tmp_path / f".index.json.hatch-docker-{'0' * 32}").touch()
        write_layout(tmp_path, OTHER.node, [ONE])
        assert content(graph_of(open_files(tmp_path), "")) == content(OTHER.node)

    @pytest.mark.parametrize("name", ["notes.txt", "index.json", "photos/x"])
    def test_directory_with_something_else_is_left_alone(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
        with pytest.raises(OutputError, match="not an image layout"):
            write_layout(tmp_path, OTHER.node, [ONE])
        assert [path.name for path in tmp_path.iterdir()] == [name.partition("/")[0]]
        with pytest.raises(OutputError):
            write_layout(tmp_path / name, OTHER.node, [ONE])

    def test_damaged_index_is_left_alone(self, tmp_path: Path) -> None:
        write_layout(tmp_path, OTHER.node, [ONE])
        for text in ("{", "[]", '{"manifests": 5}', '{"manifests": [5]}'):
            (tmp_path / "index.json").write_text(text)
            with pytest.raises(OutputError, match="not an image layout"):
                write_layout(tmp_path, OTHER.node, [ONE])
            assert (tmp_path / "index.json").read_text() == text


def broken(root: Node, digest: str) -> Node:
    """The same graph with other content for `digest`."""
    if root.descriptor.digest == digest:
        return replace(root, open=lambda: io.BytesIO(b"broken"))
    return replace(root, children=tuple(broken(child, digest) for child in root.children))


class TestGraphsOfOtherTools:
    def test_nothing_is_changed(self) -> None:
        """Docker's media types, unknown fields, indentation, attestations, nested indexes, artifacts."""
        made = Layout()
        layer = made.add(b"a layer", "application/vnd.docker.image.rootfs.diff.tar.gzip")
        image = made.add_image(
            layer, media_type=spec.DOCKER_MANIFEST, platform={"os": "linux", "architecture": "s390x"}
        )
        attestation = made.add_image(platform={"os": "unknown", "architecture": "unknown"})
        inner = made.add_document({"mediaType": spec.INDEX, "manifests": [attestation]}, spec.INDEX)
        root = made.add_document(
            {"mediaType": spec.DOCKER_INDEX, "manifests": [image, inner], "subject": {"x": 1}}, spec.DOCKER_INDEX
        )
        graph = graph_of(made.open(root), "")
        assert {blob_name(digest): data for digest, data in content(graph).items()} == {
            name: data for name, data in made.files.items() if name != "index.json"
        }
        kinds = {node.descriptor.digest: node.descriptor.media_type for node in graph.walk()}
        assert kinds[root["digest"]] == spec.DOCKER_INDEX
        assert kinds[image["digest"]] == spec.DOCKER_MANIFEST
        with FakeRegistry() as fake:
            push(fake, graph)
            assert fake.manifests["app", "1"] == (spec.DOCKER_INDEX, made.files[blob_name(root["digest"])])

    def test_entry_without_a_media_type(self) -> None:
        made = Layout()
        config = made.add(b"{}", spec.CONFIG)
        root = made.add_document({"schemaVersion": 2, "config": config, "layers": []}, "")
        del root["mediaType"]
        assert graph_of(made.open(root), "").descriptor.media_type == spec.MANIFEST

    @pytest.mark.parametrize("name", ["team/app:1.0", "docker.io/team/app:1.0", "1.0"])
    def test_chosen_by_any_of_its_names(self, name: str) -> None:
        made = Layout()
        layers = [made.add(text, spec.LAYER_TAR) for text in (b"1", b"2")]
        names = {"org.opencontainers.image.ref.name": "1.0", "io.containerd.image.name": "docker.io/team/app:1.0"}
        first = made.add_image(layers[0], annotations=names)
        second = made.add_image(layers[1], annotations={"org.opencontainers.image.ref.name": "2.0"})
        files = made.open(first, second)
        assert graph_of(files, name).descriptor.digest == first["digest"]
        assert graph_of(files, second["digest"]).descriptor.digest == second["digest"]
        with pytest.raises(ImageError, match="it has several images") as caught:
            graph_of(files, "")
        assert "a.tar:2.0 (it has 2.0, docker.io/team/app:1.0)" in caught.value.hint

    def test_names_that_choose_nothing(self) -> None:
        """The hint has names that do choose, digests at last."""
        made = Layout()
        named = {"org.opencontainers.image.ref.name": "1.0"}
        images = [
            made.add_image(made.add(bytes([number]), spec.LAYER_TAR), annotations=annotations)
            for number, annotations in enumerate([{}, named, named, {**named, "io.containerd.image.name": "web:1.0"}])
        ]
        files = made.open(*images)
        with pytest.raises(ImageError, match=r"it has several images named '1\.0'") as caught:
            graph_of(files, "1.0")
        names = sorted([*(each["digest"] for each in images[:3]), "web:1.0"])
        assert f"(it has {', '.join(names)})" in caught.value.hint
        assert [graph_of(files, each).descriptor.digest for each in names[:3]] == names[:3]
        assert graph_of(files, "web:1.0").descriptor.digest == images[3]["digest"]

    def test_many_names_are_not_listed(self) -> None:
        made = Layout()
        image = made.add_image()
        names = [{"org.opencontainers.image.ref.name": f"v{number:03}"} for number in range(500)]
        files = made.open(*({**image, "annotations": each} for each in names))
        with pytest.raises(ImageError) as caught:
            graph_of(files, "other")
        assert "(it has v000, v001," in caught.value.hint
        assert "and 490 more)" in caught.value.hint
        assert len(caught.value.hint) < 200

    def test_images_of_several_names_and_platforms_are_several(self, tmp_path: Path) -> None:
        for name, image in (("web:1", INDEX.images[0]), ("worker:1.1", INDEX.images[1])):
            write_layout(tmp_path, image.node, [Reference.parse(name)])
        with pytest.raises(ImageError, match="it has several images"):
            graph_of(open_files(tmp_path), "")

    def test_platforms_without_an_index_of_their_own(self) -> None:
        made = Layout()
        images = [
            made.add_image(made.add(name.encode(), spec.LAYER_TAR), platform={"os": "linux", "architecture": name})
            for name in ("amd64", "arm64")
        ]
        graph = graph_of(made.open(*images), "")
        assert graph.descriptor.media_type == spec.INDEX
        assert content(graph)[graph.descriptor.digest] == made.files["index.json"]
        assert [child.descriptor.digest for child in graph.children] == [image["digest"] for image in images]

    @pytest.mark.parametrize(
        "media_type",
        [
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        ],
    )
    @pytest.mark.parametrize("here", [True, False])
    def test_layers_that_may_be_missing(self, media_type: str, here: bool) -> None:
        made = Layout()
        layer = made.add(b"of Windows", media_type, urls=["https://registry.example/layer"])
        root = made.add_image(layer)
        if not here:
            del made.files[blob_name(layer["digest"])]
        graph = graph_of(made.open(root), "")
        assert (layer["digest"] in content(graph)) is here
        with FakeRegistry() as fake:
            push(fake, graph)
            assert (("app", layer["digest"]) in fake.blobs) is here

    def test_missing_content_is_an_error(self) -> None:
        made = Layout()
        gone = made.add(b"gone", spec.LAYER_TAR)
        arm = made.add_image(platform={"os": "linux", "architecture": "arm64"})
        root = made.add_document({"manifests": [made.add_image(gone), arm]}, spec.INDEX)
        for each in (gone, arm):
            del made.files[blob_name(each["digest"])]
        with pytest.raises(ImageError, match="it lacks content that it names") as caught:
            graph_of(made.open(root), "")
        assert f"linux/arm64 ({arm['digest']})" in caught.value.message
        assert gone["digest"] in caught.value.message

    def test_image_of_an_index_that_lacks_others(self) -> None:
        """As Docker saves an image of which it has pulled one platform."""
        made = Layout()
        here = made.add_image(made.add(b"here", spec.LAYER_TAR), platform={"os": "linux", "architecture": "amd64"})
        arm = made.add_image(platform={"os": "linux", "architecture": "arm64"})
        root = made.add_document({"manifests": [here, arm]}, spec.INDEX)
        del made.files[blob_name(arm["digest"])]
        with pytest.raises(ImageError) as caught:
            graph_of(made.open(root), "")
        assert f"a.tar:{here['digest']}" in caught.value.hint
        graph = graph_of(made.open(root), here["digest"])
        assert len(content(graph)) == 3
        assert graph.descriptor.media_type == spec.MANIFEST
        with pytest.raises(ImageError, match="no readable blobs"):
            graph_of(made.open(root), arm["digest"])

    @pytest.mark.parametrize(
        "damage", [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data + b"x", lambda data: data[:-1]]
    )
    def test_damaged_blob_is_not_pushed(self, damage: Any) -> None:
        made = Layout()
        layer = made.add(secrets.token_bytes(600_000), spec.LAYER_TAR)
        files = made.open(made.add_image(layer))
        name = blob_name(layer["digest"])
        made.files[name] = damage(made.files[name])
        with FakeRegistry() as fake:
            with pytest.raises(ImageError, match=r"damaged|shorter"):
                push(fake, graph_of(files, ""))
            assert not fake.manifests
            assert ("app", layer["digest"]) not in fake.blobs

    @pytest.mark.parametrize("size", [0, 1, 100])
    def test_blob_of_another_size_is_not_pushed(self, size: int) -> None:
        made = Layout()
        root = made.add_image({**made.add(b"a layer", spec.LAYER_TAR), "size": size})
        with FakeRegistry() as fake, pytest.raises(ImageError, match="is damaged"):
            push(fake, graph_of(made.open(root), ""))

    def test_damaged_document(self) -> None:
        made = Layout()
        root = made.add_image()
        made.files[blob_name(root["digest"])] += b" "
        with pytest.raises(ImageError, match="other content than its name says"):
            graph_of(made.open(root), "")

    def test_what_is_no_image(self) -> None:
        made = Layout()
        for root in (made.add(b"{}", "application/vnd.example"), made.add_document({"layers": []}, spec.MANIFEST)):
            with pytest.raises(ImageError):
                graph_of(made.open(root), "")

    def test_endlessly_nested_indexes(self) -> None:
        made = Layout()
        root = made.add_image()
        for _ in range(3000):
            root = made.add_document({"manifests": [root]}, spec.INDEX)
        with pytest.raises(ImageError, match="nested too deeply"):
            graph_of(made.open(root), "")

    @given(data=st.data())
    def test_any_descriptor_is_a_graph_or_our_error(self, data: st.DataObject) -> None:
        made = Layout()
        values: st.SearchStrategy[Any] = st.none() | st.integers() | st.text(max_size=5) | st.just([]) | st.just({})
        layer = made.add(b"a layer", spec.LAYER_TAR) | data.draw(
            st.dictionaries(st.sampled_from(["mediaType", "digest", "size", "urls", "platform", "annotations"]), values)
        )
        root = made.add_image(layer) | data.draw(
            st.dictionaries(st.sampled_from(["mediaType", "digest", "size", "platform", "annotations"]), values)
        )
        with contextlib.suppress(HatchDockerError):
            content(graph_of(made.open(root), ""))


class TestSavedArchives:
    """Archives of `docker save` before version 25, which have no manifest."""

    @staticmethod
    def saved(image: Image) -> Files:
        layers = {f"{number}/layer.tar": tar_of({"file": str(number).encode()}) for number in range(2)}
        config = json.dumps(
            {
                "os": "linux",
                "architecture": "amd64",
                "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in layers.values()]},
                "container_config": {"of": "old times"},
            }
        ).encode()
        entry = {"Config": "c.json", "RepoTags": ["team/app:1.0"], "Layers": list(layers)}
        files = {"manifest.json": json.dumps([entry]).encode(), "c.json": config, **layers}
        return Files(place="saved.tar", open=lambda name: io.BytesIO(files[name]))

    def test_config_stays_and_layers_are_compressed(self, tmp_path: Path) -> None:
        files = self.saved(OTHER)
        graphs = [
            open_graph(files, name, Cache(tmp_path / f"cache{number}"), progress=Progress())
            for number, name in enumerate(("", "docker.io/team/app:1.0"))
        ]
        assert graphs[0].descriptor == graphs[1].descriptor
        config, *layers = graphs[0].children
        assert content(config) == {digest_of(files.read("c.json")): files.read("c.json")}
        assert [layer.descriptor.media_type for layer in layers] == [spec.LAYER_GZIP] * 2
        with FakeRegistry() as fake:
            push(fake, graphs[0])

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"manifests": [1]}', '{"manifests": [{"digest": "x"}]}'])
    @pytest.mark.parametrize("name", ["index.json", "manifest.json"])
    def test_errors_name_the_file(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(ImageError) as caught:
            open_graph(open_files(tmp_path), "", Cache(tmp_path), progress=Progress())
        assert str(tmp_path) in str(caught.value)

    def test_files_of_neither_kind(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="not an image") as caught:
            open_graph(open_files(tmp_path), "", Cache(tmp_path), progress=Progress())
        assert "docker save" in caught.value.hint


def push(fake: FakeRegistry, root: Node) -> None:
    reference = Reference(registry=fake.host, repository="app", tag="1")
    Registry(Http(), credentials=Credentials()).push(root, [reference])


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


def test_compressed_archive_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "app.tar.gz"
    path.write_bytes(gzip.compress(as_tar(tmp_path / "app.tar", INDEX.node).read_bytes()))
    with pytest.raises(ImageError) as caught:
        open_files(path)
    assert caught.value.hint == "decompress it first"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_named_pipe_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="neither a file nor a directory"):
        open_files(tmp_path / "pipe")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("name", ["index.json", blob_name(OTHER.digest), blob_name(OTHER.layers[0].descriptor.digest)])
def test_named_pipe_in_a_layout_is_missing(tmp_path: Path, name: str) -> None:
    """Nothing waits for its writer."""
    write_layout(tmp_path, OTHER.node, [ONE])
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(ImageError, match=r"lacks|no readable"):
        graph_of(open_files(tmp_path), "")


def test_descriptors_keep_their_platform() -> None:
    made = Layout()
    image = made.add_image(platform={"os": "linux", "architecture": "arm64", "variant": "v8"})
    assert graph_of(made.open(image), "").descriptor == Descriptor(
        media_type=spec.MANIFEST, digest=image["digest"], size=image["size"], platform=ARM64
    )
