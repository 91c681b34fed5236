from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_maker import AMD64, ARM64, make_image, tar_of
from mutations import many

from hatch_docker.errors import BaseError, DigestMismatchError, ImageError
from hatch_docker.oci import spec
from hatch_docker.oci.archive import archive
from hatch_docker.oci.image import Image, validate
from hatch_docker.oci.layout import Files, blob_name, open_files, root_of_layout
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.saved import saved_images
from hatch_docker.oci.source import Pulled, fetch, layout_source, pull, pull_saved
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.progress import Progress
from hatch_docker.support.streams import digest_of

ONE, TWO = Reference.parse("registry.example:5000/team/app:1.0"), Reference.parse("app:latest")


IMAGE = make_image("one", "two")


def written(path: Path, made: Image = IMAGE, references: tuple[Reference, ...] = (ONE, TWO)) -> Path:
    path.write_bytes(b"".join(archive(made.node, references)))
    return path


def layout(folder: Path, manifests: list[Any], blobs: Sequence[bytes] = ()) -> Path:
    folder.mkdir()
    for data in blobs:
        place = folder / blob_name(digest_of(data))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
    return folder


def entry(made: Image, name: str = "", *, platform: bool = True) -> dict[str, Any]:
    annotations = {"org.opencontainers.image.ref.name": name} if name else {}
    descriptor = made.descriptor if platform else replace(made.descriptor, platform=None)
    return replace(descriptor, annotations=annotations).to_json()


class TestWriting:
    def test_our_readers_read_the_image_back(self, tmp_path: Path) -> None:
        path = written(tmp_path / "app.tar")
        cache = Cache(tmp_path / "cache")
        as_layout = pull(layout_source(open_files(path), ""), AMD64, cache, progress=Progress())
        assert as_layout.digest == IMAGE.digest
        assert as_layout.image.manifest_bytes == IMAGE.manifest_bytes
        assert validate(as_layout.image) == []
        as_saved = pull_saved(open_files(path), "app:latest", AMD64, cache, progress=Progress())
        assert as_saved.image.config_bytes == IMAGE.config_bytes
        assert validate(as_saved.image) == []

    def test_writes_an_image_layout_with_manifest_json(self, tmp_path: Path) -> None:
        with tarfile.open(written(tmp_path / "app.tar")) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        assert json.loads(files.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
        (manifest,) = json.loads(files.pop("index.json"))["manifests"]
        assert manifest["digest"] == IMAGE.digest
        assert manifest["annotations"]["org.opencontainers.image.ref.name"] == "1.0"
        (saved,) = json.loads(files.pop("manifest.json"))
        assert saved["RepoTags"] == ["registry.example:5000/team/app:1.0", "app:latest"]
        assert files[saved["Config"]] == IMAGE.config_bytes
        assert {blob_name("sha256:" + hashlib.sha256(data).hexdigest()) for data in files.values()} == set(files)
        assert len(files) == 2 + len(IMAGE.layers)

    def test_equal_images_give_equal_bytes(self) -> None:
        assert b"".join(archive(IMAGE.node, [ONE])) == b"".join(archive(make_image("one", "two").node, [ONE]))

    def test_repeated_layer_is_written_once(self) -> None:
        twice = b"".join(archive(make_image("one", "one").node, [ONE]))
        with tarfile.open(fileobj=io.BytesIO(twice)) as tar:
            names = tar.getnames()
        assert len(names) == len(set(names))

    def test_omits_layers_that_the_reader_has(self) -> None:
        kept, left = IMAGE.layers[1].descriptor.digest, IMAGE.layers[0].descriptor.digest
        with tarfile.open(fileobj=io.BytesIO(b"".join(archive(IMAGE.node, [ONE], without=frozenset({left}))))) as tar:
            assert blob_name(kept) in tar.getnames()
            assert blob_name(left) not in tar.getnames()

    def test_layer_that_grew_is_not_written_beyond_its_size(self) -> None:
        reads = []

        class Endless(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                reads.append(size)
                return bytes(1000)

        grown = replace(IMAGE.layers[0], open=Endless)
        with pytest.raises(ImageError, match="changed while it was read"):
            list(islice(archive(replace(IMAGE, layers=(grown,)).node, [ONE]), 1000))
        assert len(reads) <= grown.descriptor.size // 1000 + 1

    @pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b[:-1] + b"x", lambda b: b""])
    def test_layer_that_changed_while_it_was_read_is_an_error(self, damage: Callable[[bytes], bytes]) -> None:
        with IMAGE.layers[0].open() as file:
            data = damage(file.read())
        changed = replace(IMAGE.layers[0], open=lambda: io.BytesIO(data))
        with pytest.raises(ImageError, match="changed while it was read"):
            list(archive(replace(IMAGE, layers=(changed, IMAGE.layers[1])).node, [ONE]))


class TestChoosing:
    """`oci:place:name`, `oci-archive:place:name`."""

    A, B = make_image("a"), make_image("b")
    ARM = make_image("arm", platform=ARM64)
    ATTESTATION = entry(make_image("attestation", platform=Platform(os="unknown", architecture="unknown")))

    def root(self, tmp_path: Path, manifests: list[Any], name: str = "") -> bytes:
        blobs = [made.manifest_bytes for made in (self.A, self.B, self.ARM)]
        return root_of_layout(open_files(layout(tmp_path / "layout", manifests, blobs)), name)

    def test_only_image_needs_no_name(self, tmp_path: Path) -> None:
        assert self.root(tmp_path, [entry(self.A, "1.0")]) == self.A.manifest_bytes

    @pytest.mark.parametrize("platform", [True, False])
    def test_selects_by_name_or_digest(self, tmp_path: Path, platform: bool) -> None:
        manifests = [entry(self.A, "a", platform=platform), entry(self.B, "b", platform=platform)]
        assert self.root(tmp_path, manifests, "b") == self.B.manifest_bytes
        files = open_files(tmp_path / "layout")
        assert root_of_layout(files, self.A.digest) == self.A.manifest_bytes

    @pytest.mark.parametrize("platform", [True, False])
    def test_several_images_need_a_name(self, tmp_path: Path, platform: bool) -> None:
        with pytest.raises(ImageError, match="it has several images") as caught:
            self.root(tmp_path, [entry(self.A, "a", platform=platform), entry(self.B, "b", platform=platform)])
        assert ":a (it has a, b)" in caught.value.hint

    def test_image_with_several_names_is_one_image(self, tmp_path: Path) -> None:
        assert self.root(tmp_path, [entry(self.A, "1.0"), entry(self.A, "latest")]) == self.A.manifest_bytes

    def test_image_for_several_platforms_is_one_image(self, tmp_path: Path) -> None:
        manifests = [entry(self.A, "x"), entry(self.ARM, "x"), self.ATTESTATION, entry(self.B, "other")]
        root = json.loads(self.root(tmp_path, manifests, "x"))
        assert [each["digest"] for each in root["manifests"]] == [self.A.digest, self.ARM.digest]

    def test_ignores_attestations(self, tmp_path: Path) -> None:
        assert self.root(tmp_path, [self.ATTESTATION, entry(self.A)]) == self.A.manifest_bytes

    def test_index_of_an_index(self, tmp_path: Path) -> None:
        inner = spec.dump({"manifests": [entry(self.A), entry(self.ARM)]})
        outer = {"mediaType": spec.INDEX, "digest": digest_of(inner), "size": len(inner)}
        assert root_of_layout(open_files(layout(tmp_path / "layout", [outer], [inner])), "") == inner

    def test_manifest_with_another_digest_than_in_the_index(self, tmp_path: Path) -> None:
        folder = layout(tmp_path / "layout", [entry(self.A)], [self.A.manifest_bytes])
        (folder / blob_name(self.A.digest)).write_bytes(self.B.manifest_bytes)
        with pytest.raises(ImageError, match="has other content than its name says"):
            root_of_layout(open_files(folder), "")

    def test_unknown_name_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="it has no image named 'c'") as caught:
            self.root(tmp_path, [entry(self.A, "a")], "c")
        assert "(it has a)" in caught.value.hint

    def test_layout_without_images_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"it has no image$"):
            self.root(tmp_path, [])


class TestSaved:
    """`docker-archive:place:name`, and archives of `docker save`."""

    @staticmethod
    def saved(
        path: Path, entries: Any, files: dict[str, bytes], links: Mapping[str, str] = {}, kind: bytes = tarfile.SYMTYPE
    ) -> Files:
        with tarfile.open(path, "w") as tar:
            for name, data in {**files, "manifest.json": json.dumps(entries).encode()}.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            for name, target in links.items():
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, target
                tar.addfile(info)
        return open_files(path)

    @pytest.mark.parametrize(
        ("kind", "target"), [(tarfile.SYMTYPE, "../a/layer.tar"), (tarfile.LNKTYPE, "a/layer.tar")]
    )
    def test_follows_links_of_shared_layers(self, tmp_path: Path, kind: bytes, target: str) -> None:
        plain = tar_of({"file": b"shared"})
        config = IMAGE.config.to_json((digest_of(plain),) * 2, ())
        entries = [{"Config": "c.json", "RepoTags": None, "Layers": ["a/layer.tar", "b/layer.tar"]}]
        files = self.saved(
            tmp_path / "x.tar",
            entries,
            {"c.json": spec.dump(config), "a/layer.tar": plain},
            {"b/layer.tar": target},
            kind,
        )
        pulled = pull_saved(files, "", AMD64, Cache(tmp_path / "cache"), progress=Progress())
        assert validate(pulled.image) == []
        assert len(pulled.image.layers) == 2

    def test_selects_by_tag(self, tmp_path: Path) -> None:
        plain = tar_of({})
        config = spec.dump(IMAGE.config.to_json((digest_of(plain),), ()))
        other = spec.dump(replace(IMAGE.config, user="1").to_json((digest_of(plain),), ()))
        entries = [
            {"Config": "one", "RepoTags": ["app:1"], "Layers": ["l"]},
            {"Config": "two", "RepoTags": ["app:2", "app:latest"], "Layers": ["l"]},
        ]
        files = self.saved(tmp_path / "x.tar", entries, {"one": config, "two": other, "l": plain})
        cache = Cache(tmp_path / "cache")
        assert pull_saved(files, "app:latest", AMD64, cache, progress=Progress()).image.config.user == "1"
        with pytest.raises(ImageError, match="it has several images") as caught:
            pull_saved(files, "", AMD64, cache, progress=Progress())
        assert "app:1, app:2, app:latest" in caught.value.hint
        with pytest.raises(ImageError, match="it has no image named 'app:3'"):
            pull_saved(files, "app:3", AMD64, cache, progress=Progress())

    def test_another_platform_is_an_error(self, tmp_path: Path) -> None:
        path = written(tmp_path / "app.tar")
        with pytest.raises(BaseError, match="nothing for linux/arm64; it has linux/amd64"):
            pull_saved(open_files(path), "", ARM64, Cache(tmp_path / "cache"), progress=Progress())

    @pytest.mark.parametrize(
        "entries",
        [
            None,
            {},
            [1],
            [{}],
            [{"Config": 1, "Layers": []}],
            [{"Config": "c", "Layers": None}],
            [{"Config": "c", "Layers": [1]}],
            [{"Config": "c", "Layers": [], "RepoTags": 5}],
            [{"Config": "c", "Layers": [], "RepoTags": [["x"]]}],
        ],
    )
    def test_malformed_manifest_json_is_an_error(self, tmp_path: Path, entries: Any) -> None:
        with pytest.raises(ImageError, match=r"its manifest\.json is not what 'docker save' writes"):
            saved_images(self.saved(tmp_path / "x.tar", entries, {}))

    def test_deeply_nested_json_is_an_error(self, tmp_path: Path) -> None:
        for data in (b"[" * 100_000, b"\xff", b""):
            (tmp_path / "manifest.json").write_bytes(data)
            with pytest.raises(ImageError, match="docker save"):
                saved_images(open_files(tmp_path))


class TestHostileArchives:
    @staticmethod
    def refusals(path: Path, cache: Cache) -> list[str]:
        """The messages of both ways to read it."""
        readers: list[Callable[[], Pulled]] = [
            lambda: pull(layout_source(open_files(path), ""), AMD64, cache, progress=Progress()),
            lambda: pull_saved(open_files(path), "", AMD64, cache, progress=Progress()),
        ]
        said = []
        for read in readers:
            try:
                fetch(read().image, threads=1)
            except (ImageError, DigestMismatchError) as error:
                said.append(error.message)
        return said

    def test_path_that_is_neither_a_directory_nor_a_tar(self, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("hello")
        (tmp_path / "compressed.tar.gz").write_bytes(gzip.compress(tar_of({})))
        said = {
            "nothing": "it cannot be read: No such file or directory",
            "text": "not an image layout or an uncompressed tar",
            "compressed.tar.gz": "not an image layout or an uncompressed tar",
        }
        for name, message in said.items():
            with pytest.raises(ImageError, match=message) as caught:
                open_files(tmp_path / name)
            assert caught.value.place == str(tmp_path / name)

    def test_directory_that_is_not_a_layout(self, tmp_path: Path) -> None:
        refusals = self.refusals(tmp_path, Cache(tmp_path / "cache"))
        assert refusals == ["it has no readable index.json", "it has no readable manifest.json"]

    @pytest.mark.parametrize("what", ["config", "manifest", "layer"])
    def test_error_names_a_missing_blob(self, tmp_path: Path, what: str) -> None:
        missing = {
            "config": IMAGE.config_descriptor.digest,
            "manifest": IMAGE.digest,
            "layer": IMAGE.layers[1].descriptor.digest,
        }[what]
        with tarfile.open(written(tmp_path / "whole.tar")) as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar if m.name != blob_name(missing)}  # type: ignore[union-attr]
        (tmp_path / "x.tar").write_bytes(tar_of(files))
        cache = Cache(tmp_path / "cache")
        refusals = self.refusals(tmp_path / "x.tar", cache)
        # docker load does not need the manifest.
        assert refusals == [f"it has no readable {blob_name(missing)}"] * (1 if what == "manifest" else 2)

    def test_names_do_not_leave_the_directory(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret")
        inside = tmp_path / "archive"
        inside.mkdir()
        for name in ("../secret", str(tmp_path / "secret"), "a/../../secret", "a\0b", "\ud800"):
            with pytest.raises(ImageError, match="it has no readable"):
                open_files(inside).read(name)

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
    @pytest.mark.parametrize("target", ["/etc/passwd", "../../../etc/passwd", "index.json", "nothing"])
    def test_links_do_not_leave_the_archive_or_loop(self, tmp_path: Path, kind: bytes, target: str) -> None:
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            info = tarfile.TarInfo("index.json")
            info.type, info.linkname = kind, target
            tar.addfile(info)
        with pytest.raises(ImageError):
            root_of_layout(open_files(tmp_path / "x.tar"), "")

    def test_large_documents_are_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "x.tar").write_bytes(tar_of({"index.json": b" " * (9 << 20)}))
        with pytest.raises(ImageError, match="larger than such a document can be"):
            root_of_layout(open_files(tmp_path / "x.tar"), "")

    def test_archive_that_is_removed_before_its_layers_are_read(self, tmp_path: Path) -> None:
        path = written(tmp_path / "app.tar")
        pulled = pull(layout_source(open_files(path), ""), AMD64, Cache(tmp_path / "cache"), progress=Progress())
        path.unlink()
        with pytest.raises(ImageError, match="it has no readable blobs/") as caught:
            pulled.image.layers[0].open()
        assert caught.value.place == str(path)

    @given(st.data())
    @settings(max_examples=many(24))
    def test_any_damage_is_an_error_or_harmless(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        blob = bytearray(b"".join(archive(make_image("one").node, [ONE])))
        for _ in range(data.draw(st.integers(1, 3))):
            blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.sampled_from(b'\0"1[{}],9:a'))
        folder = tmp_path_factory.mktemp("damaged")
        (folder / "x.tar").write_bytes(blob[: data.draw(st.sampled_from([len(blob), len(blob) // 2]))])
        self.refusals(folder / "x.tar", Cache(folder / "cache"))
