"""The engine's client: one contract for Docker and Podman, and the errors of broken engines."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import posixpath
import random
import secrets
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_engine import CUT, FakeEngine
from podman import podman

from hatch_docker.engine import client as client_module
from hatch_docker.engine.client import Engine, answers
from hatch_docker.engine.limits import Limits
from hatch_docker.engine.probe import program
from hatch_docker.engine.translate import missed
from hatch_docker.errors import EngineError, ImageError
from hatch_docker.oci import spec
from hatch_docker.oci.compression import BATCH
from hatch_docker.oci.config import History, ImageConfig
from hatch_docker.oci.image import Image, validate
from hatch_docker.oci.layer import Entry, Layer, WriteOptions, write_layer
from hatch_docker.oci.layout import open_files
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.source import pull_saved
from hatch_docker.oci.spec import Descriptor, Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.progress import Progress, Task
from hatch_docker.support.streams import digest_of

PLATFORM = Platform(architecture="amd64")
LARGE, SMALL = 200_000, 1_000
# The IDs of the images of one test.
MADE: list[str] = []


class Sent(Task):
    def __init__(self, sent: list[int]) -> None:
        self.sent = sent

    def __call__(self, count: int) -> None:
        self.sent[-1] += count


class Counting(Progress):
    """The size of each archive that was sent, in bytes."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    @contextlib.contextmanager
    def task(self, step: str, name: str, total: int = 0) -> Iterator[Task]:
        self.sent.append(0)

        yield Sent(self.sent)


def layer(size: int) -> Layer:
    """A layer that no engine has: random bytes under a random name."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        member = tarfile.TarInfo(secrets.token_hex(8))
        member.size = size
        tar.addfile(member, io.BytesIO(random.randbytes(size)))
    data = plain.getvalue()
    descriptor = Descriptor(media_type=spec.LAYER_TAR, digest=digest_of(data), size=len(data))
    return Layer(descriptor=descriptor, diff_id=descriptor.digest, open=lambda: io.BytesIO(data))


def compressed(compression: str, content: bytes = b"") -> Layer:
    """A compressed layer: with `content`, else one that no engine has."""
    out = io.BytesIO()
    content = content or random.randbytes(SMALL) * (2 * BATCH // SMALL)
    written = write_layer([Entry(path="file", content=content)], out, WriteOptions(compression=compression))
    return Layer(
        descriptor=written.descriptor,
        diff_id=written.diff_id,
        open=lambda: io.BytesIO(out.getvalue()),
        unpacked=written.unpacked,
    )


def image(*layers: Layer) -> Image:
    history = tuple(History(created_by="test") for _ in layers)
    made = Image(config=ImageConfig(platform=PLATFORM), layers=layers, history=history)
    MADE.extend(ids(made))
    return made


def ids(made: Image) -> tuple[str, str]:
    """What may be the image's ID: the config's digest, or in a containerd store the manifest's."""
    return made.config_descriptor.digest, made.digest


def saved(engine: Engine, reference: Reference) -> list[str]:
    """The diff IDs of an image's layers, read from what the engine saves."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(engine.save(reference.familiar)))) as tar:
        members = {member.name: member for member in tar}

        def read(name: str) -> bytes:
            member = members[name]
            while member.issym():
                member = members[posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))]
            return tar.extractfile(member).read()  # type: ignore[union-attr]

        (entry,) = json.loads(read("manifest.json"))
        diff_ids = json.loads(read(entry["Config"]))["rootfs"]["diff_ids"]
        plain = [digest_of(read(name)) for name in entry["Layers"]]
    assert diff_ids == plain
    return plain


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("docker", marks=pytest.mark.engine),
        pytest.param("podman", marks=pytest.mark.skipif(not shutil.which("podman"), reason="needs podman")),
    ],
)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "docker":
        yield Engine.connect(os.environ)
        return
    with tempfile.TemporaryDirectory(prefix="podman-") as folder, podman(Path(folder)) as environ:
        yield Engine.connect(environ)


@pytest.fixture
def name(engine: Engine) -> Iterator[Callable[[str], Reference]]:
    """Makes references of one new repository. All images are removed from the engine at the end."""
    MADE.clear()
    yield Reference.parse(f"hatch-docker-test-{secrets.token_hex(6)}").with_tag
    for digest in MADE:
        if engine.image_id(digest):
            engine._api.remove_image(digest, force=True)


class TestContract:
    def test_loads_an_image_under_every_tag(self, engine: Engine, name: Callable[[str], Reference]) -> None:
        one, progress = image(layer(LARGE), layer(SMALL)), Counting()
        engine.load(one, [name("1"), name("1.0"), name("latest")], progress=progress)
        for tag in ("1", "1.0", "latest"):
            assert engine.image_id(name(tag).familiar) in ids(one)
        assert len(progress.sent) == 1

    def test_does_not_send_a_present_image_again(self, engine: Engine, name: Callable[[str], Reference]) -> None:
        one, progress = image(layer(SMALL)), Counting()
        engine.load(one, [name("1")], progress=progress)
        engine.load(one, [name("1"), name("2")], progress=progress)
        assert len(progress.sent) == 1
        assert engine.image_id(name("1").familiar) == engine.image_id(name("2").familiar) != ""

    def test_sends_only_the_changed_layer(self, engine: Engine, name: Callable[[str], Reference]) -> None:
        common, progress = layer(LARGE), Counting()
        engine.load(image(common, layer(SMALL)), [name("1")], progress=progress)
        changed = image(common, layer(SMALL))
        engine.load(changed, [name("1")], progress=progress)
        assert progress.sent[0] > LARGE
        assert (progress.sent[1] > LARGE) == engine._is_content_store
        assert saved(engine, name("1")) == [each.diff_id for each in changed.layers]

    def test_sends_only_the_changed_layer_of_a_new_version(
        self, engine: Engine, name: Callable[[str], Reference]
    ) -> None:
        common, progress = layer(LARGE), Counting()
        engine.load(image(common, layer(SMALL)), [name("1"), name("latest")], progress=progress)
        engine.load(image(common, layer(SMALL)), [name("2"), name("latest")], progress=progress)
        assert (progress.sent[1] > LARGE) == engine._is_content_store

    def test_does_not_send_the_bases_layers(self, engine: Engine, name: Callable[[str], Reference]) -> None:
        base, progress = image(layer(LARGE)), Counting()
        engine.load(base, [name("base")], progress=progress)
        on_it = image(*base.layers, layer(SMALL))
        engine.load(on_it, [name("1")], base=name("base").familiar, progress=progress)
        assert progress.sent[0] > LARGE
        assert (progress.sent[1] > LARGE) == engine._is_content_store
        assert saved(engine, name("1")) == [each.diff_id for each in on_it.layers]

    def test_image_is_whole_on_a_base_with_another_compression(
        self, engine: Engine, name: Callable[[str], Reference]
    ) -> None:
        content = random.randbytes(SMALL)
        packed = compressed("zstd", content)
        engine.load(image(packed), [name("base")], progress=Progress())
        on_it = image(compressed("gzip", content), layer(SMALL))
        assert on_it.layers[0].diff_id == packed.diff_id
        engine.load(on_it, [name("1")], base=name("base").familiar, progress=Progress())
        with tarfile.open(fileobj=io.BytesIO(b"".join(engine.save(name("1").familiar)))) as tar:
            members = {member.name for member in tar}
            (entry,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert {*entry["Layers"]} <= members

    def test_tag_moves_to_the_new_image(self, engine: Engine, name: Callable[[str], Reference]) -> None:
        engine.load(image(layer(SMALL)), [name("1")], progress=Progress())
        other = image(layer(SMALL))
        engine.load(other, [name("1")], progress=Progress())
        assert saved(engine, name("1")) == [other.layers[0].diff_id]

    @pytest.mark.parametrize("compression", ["gzip", "gzip-single", "zstd"])
    def test_engine_reads_every_compression(
        self, engine: Engine, name: Callable[[str], Reference], compression: str
    ) -> None:
        made = image(compressed(compression))
        engine.load(made, [name("1")], progress=Progress())
        assert engine.image_id(name("1").familiar) in ids(made)

    def test_saves_the_image(self, engine: Engine, name: Callable[[str], Reference], tmp_path: Path) -> None:
        one = image(layer(SMALL), layer(LARGE))
        engine.load(one, [name("1")], progress=Progress())
        path = tmp_path / "saved.tar"
        with path.open("wb") as file:
            file.writelines(engine.save(name("1").familiar))
        back = pull_saved(open_files(path), "", PLATFORM, Cache(tmp_path / "cache"), progress=Progress()).image
        assert [each.diff_id for each in back.layers] == [each.diff_id for each in one.layers]
        assert validate(back) == []

    def test_missing_image_is_an_error(self, engine: Engine, name: Callable[[str], Reference]) -> None:
        assert engine.image_id(name("none").familiar) == ""
        with pytest.raises(EngineError, match=f"no image {name('none').familiar}"):
            list(engine.save(name("none").familiar))

    def test_provides_an_image_once(self, engine: Engine, name: Callable[[str], Reference]) -> None:
        one, progress = image(layer(SMALL)), Counting()
        first = engine.provide(one, name("1"), progress=progress)
        assert engine.provide(one, name("2"), progress=progress) == first
        assert len(progress.sent) == 1
        assert engine.image_id(first) == engine.image_id(name("1").familiar) != ""
        assert engine.image_id(name("2").familiar) == ""

    def test_does_not_load_an_image_that_changes_while_it_is_read(
        self, engine: Engine, name: Callable[[str], Reference]
    ) -> None:
        good, other = layer(SMALL), layer(SMALL)
        with pytest.raises(ImageError, match="changed while it was read"):
            engine.load(
                image(Layer(descriptor=good.descriptor, diff_id=good.diff_id, open=other.open)),
                [name("1")],
                progress=Progress(),
            )
        assert engine.image_id(name("1").familiar) == ""


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture
def client(fake: FakeEngine) -> Engine:
    return Engine.connect({"DOCKER_HOST": fake.address})


APP = Reference.parse("app:1")
FULL = b'{"message": "write /layer.tar: no space left on device"}'


def names(*layers: Layer) -> set[str]:
    return {"blobs/" + each.descriptor.digest.replace(":", "/") for each in layers}


class TestStores:
    def test_finds_an_image_by_its_manifests_digest(self, fake: FakeEngine, client: Engine) -> None:
        one = image(layer(SMALL))
        fake.images[one.digest] = {"Id": one.digest, "RootFS": {"Layers": [each.diff_id for each in one.layers]}}
        assert client.provide(one, APP, progress=Progress()) == one.digest
        assert not fake.loads

    @pytest.mark.parametrize("containerd", [False, True])
    def test_present_image_costs_one_question(self, fake: FakeEngine, client: Engine, containerd: bool) -> None:
        fake.containerd = containerd
        one = image(layer(SMALL))
        client.load(one, [APP, APP.with_tag("latest")], progress=Progress())
        fake.requests.clear()
        client.load(one, [APP, APP.with_tag("latest")], progress=Progress())
        assert fake.requests == ["/images/app:1/json"]

    @pytest.mark.parametrize("compression", ["gzip", "zstd"])
    @pytest.mark.parametrize("is_known", [True, False])
    def test_graph_driver_gets_plain_layers(
        self, fake: FakeEngine, client: Engine, compression: str, is_known: bool
    ) -> None:
        one = compressed(compression)
        made = image(one if is_known else replace(one, unpacked=0))
        client.load(made, [APP], progress=Progress())
        assert digest_of(fake.sent["blobs/" + one.diff_id.replace(":", "/")]) == one.diff_id
        assert client.image_id("app:1") == made.config_descriptor.digest

    @pytest.mark.parametrize("store", ["containerd", "podman", "remote"])
    def test_others_get_the_blobs_of_the_manifest(
        self, fake: FakeEngine, client: Engine, store: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake.containerd, fake.driver = store == "containerd", "overlay" if store == "podman" else "overlay2"
        if store == "remote":
            monkeypatch.setattr(client_module, "_HERE", frozenset())
        one = compressed("gzip")
        client.load(image(one), [APP], progress=Progress())
        assert names(one) <= fake.loads[-1]

    def test_containerd_store_gets_every_blob(self, fake: FakeEngine, client: Engine) -> None:
        fake.containerd = True
        base = image(compressed("gzip"))
        client.load(base, [APP], progress=Progress())
        on_it = image(*base.layers, layer(SMALL))
        client.load(on_it, [APP], base="app:1", progress=Progress())
        assert names(*on_it.layers) <= fake.loads[-1]

    def test_damaged_layer_is_not_loaded(self, fake: FakeEngine, client: Engine) -> None:
        good, other = compressed("gzip"), compressed("gzip")
        with pytest.raises(ImageError, match="changed while it was read"):
            client.load(image(replace(good, open=other.open)), [APP], progress=Progress())
        assert not fake.loads


class TestTrouble:
    def test_sends_all_layers_to_an_engine_without_them(self, fake: FakeEngine, client: Engine) -> None:
        common, changed = layer(SMALL), image(layer(SMALL))
        client.load(image(common), [APP], progress=Progress())
        changed = image(common, layer(SMALL))
        fake.answers = [(200, b'{"error": "layer does not exist"}')]
        client.load(changed, [APP], progress=Progress())
        assert names(*changed.layers) <= fake.loads[-1]
        assert client.image_id("app:1") == changed.config_descriptor.digest

    @pytest.mark.parametrize("answer", [CUT, (500, b'{"message": "no"}'), (200, b'{"stream": "Loaded image"}')])
    def test_sends_all_layers_after_any_failure_without_them(
        self, fake: FakeEngine, client: Engine, answer: tuple[int, bytes] | str
    ) -> None:
        common = layer(SMALL)
        client.load(image(common), [APP], progress=Progress())
        fake.answers = [answer]
        client.load(image(common, layer(SMALL)), [APP], progress=Progress())
        assert len(fake.loads) == 2
        assert names(common) <= fake.loads[-1]

    @pytest.mark.parametrize("status", [200, 500])
    def test_reports_a_full_disk(self, fake: FakeEngine, client: Engine, status: int) -> None:
        fake.answers = [(status, FULL if status == 500 else FULL.replace(b"message", b"error"))]
        with pytest.raises(EngineError, match="no space left on device") as caught:
            client.load(image(layer(SMALL)), [APP], progress=Progress())
        assert "docker system prune" in caught.value.hint

    def test_broken_connection_is_an_error(self, fake: FakeEngine, client: Engine) -> None:
        fake.answers = [CUT]
        with pytest.raises(EngineError, match="does not load the image"):
            client.load(image(layer(LARGE * 10)), [APP], progress=Progress())

    def test_engine_that_accepts_the_image_but_lacks_it(self, fake: FakeEngine, client: Engine) -> None:
        fake.answers = [(200, b'{"stream": "Loaded image"}')]
        with pytest.raises(EngineError, match="does not load the image"):
            client.load(image(layer(SMALL)), [APP], progress=Progress())

    def test_answer_without_a_result(self, fake: FakeEngine, client: Engine) -> None:
        fake.answers = [(200, b"<html>a proxy's</html>")]
        with pytest.raises(EngineError, match="does not load the image"):
            client.load(image(layer(SMALL)), [APP], progress=Progress())

    def test_broken_save_is_an_error(self, fake: FakeEngine, client: Engine) -> None:
        fake.saved, fake.cut_saves = bytes(LARGE), True
        with pytest.raises(EngineError, match="cannot save it"):
            list(client.save("app:1"))


ARM = Platform(architecture="arm64")


class TestForeignPlatforms:
    def test_own_platform_is_not_tried(self, fake: FakeEngine, client: Engine) -> None:
        assert client.platform == PLATFORM
        client.require(PLATFORM)
        assert not fake.loads

    def test_emulated_platform_is_tried_once(self, fake: FakeEngine, client: Engine) -> None:
        client.require(ARM)
        client.require(ARM)
        assert len(fake.loads) == len(fake.containers.made) == 1
        assert not fake.containers.running
        assert not [name for name in fake.images if "probe" in name]

    def test_other_platform_is_refused(self, fake: FakeEngine, client: Engine) -> None:
        fake.containers.status, fake.containers.printed = 1, b"exec /probe: exec format error\n"
        for _ in range(2):
            with pytest.raises(EngineError) as caught:
                client.require(ARM)
            assert caught.value.message == (
                "the engine is for linux/amd64 and runs no container of linux/arm64 (exec /probe: exec format error)"
            )
            assert "binfmt --install all" in caught.value.hint
            assert "DOCKER_HOST" in caught.value.hint
        assert len(fake.containers.made) == 1
        extended = missed(caught.value, "install it", instead="do without it")
        assert extended.message.endswith("exec format error), which is needed to install it")
        assert extended.hint.endswith("; or do without it")

    def test_containers_are_not_made_for_it(self, fake: FakeEngine, client: Engine) -> None:
        fake.containers.refusals["POST create"] = [(400, b'{"message": "no such platform"}')]
        with (
            pytest.raises(EngineError, match=r"runs no container of linux/arm64 \(no such platform\)"),
            client.container("image", what="compiling", network=False, limits=Limits(), platform=ARM),
        ):
            pass
        assert not fake.containers.made

    @pytest.mark.parametrize("architecture", ["386", "amd64", "arm", "arm64", "loong64", "ppc64le", "riscv64", "s390x"])
    def test_program_ends_with_status_0(self, architecture: str, tmp_path: Path) -> None:
        cpu = {"386": "i386", "amd64": "x86_64", "arm64": "aarch64", "loong64": "loongarch64"}
        emulator = shutil.which(f"qemu-{cpu.get(architecture, architecture)}-static")
        if emulator is None:
            pytest.skip("needs qemu-user-static")
        path = tmp_path / "program"
        path.write_bytes(program(architecture))
        path.chmod(0o755)
        assert subprocess.run([emulator, path], check=False).returncode == 0


def context(folder: Path, name: str, host: str) -> None:
    """Write a Docker context as `docker context create` does."""
    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}}
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": endpoints}))


class TestConnecting:
    def test_no_engine_listens(self) -> None:
        with pytest.raises(EngineError, match="no container engine answers") as caught:
            Engine.connect({"DOCKER_HOST": "tcp://127.0.0.1:1"})
        assert caught.value.place == "tcp://127.0.0.1:1"
        assert "docker:archive" in caught.value.hint

    def test_engine_that_never_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client_module, "_CONNECT_SECONDS", 0.1)
        with socket.create_server(("127.0.0.1", 0)) as server:
            assert not answers({"DOCKER_HOST": f"tcp://127.0.0.1:{server.getsockname()[1]}"})

    @pytest.mark.parametrize("host", ["nonsense://x", "tcp://", "tcp://user:secret@127.0.0.1:1", "tcp://127.0.0.1:x"])
    def test_invalid_addresses(self, host: str) -> None:
        with pytest.raises(EngineError) as caught:
            Engine.connect({"DOCKER_HOST": host})
        assert "secret" not in str(caught.value)

    def test_uses_the_current_context(self, fake: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        context(tmp_path, "colima", fake.address)
        (tmp_path / "config.json").write_text('{"currentContext": "colima"}')
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        fake.images["app:1"] = {"Id": "sha256:1"}
        assert Engine.connect({"DOCKER_CONFIG": str(tmp_path)}).image_id("app:1") == "sha256:1"

    def test_docker_context_names_another_context(
        self, fake: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        context(tmp_path, "remote", fake.address)
        context(tmp_path, "colima", "tcp://127.0.0.1:1")
        (tmp_path / "config.json").write_text('{"currentContext": "colima"}')
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        assert answers({"DOCKER_CONTEXT": "remote"})
        assert not answers({"DOCKER_CONFIG": str(tmp_path)})

    def test_docker_host_takes_precedence_over_contexts(
        self, fake: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        context(tmp_path, "colima", "tcp://127.0.0.1:1")
        (tmp_path / "config.json").write_text('{"currentContext": "colima"}')
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        assert answers({"DOCKER_HOST": fake.address})

    def test_unknown_context_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "config.json").write_text("{}")
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        with pytest.raises(EngineError, match="no Docker context named 'gone'"):
            Engine.connect({"DOCKER_CONTEXT": "gone"})
