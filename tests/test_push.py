"""Push to registries: the order of content and tags, and what registries answer that is no success."""

from __future__ import annotations

import io
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from fake_registry import Failure, FakeRegistry
from image_maker import ARM64, make_image
from test_registry import AUTH, credentials_for

from hatch_docker.errors import ImageError, RegistryError
from hatch_docker.oci import spec
from hatch_docker.oci.graph import Node
from hatch_docker.oci.image import ImageIndex
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry import upload
from hatch_docker.oci.registry.abandoned import noted
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.registry.presence import Presence
from hatch_docker.oci.registry.session import Access, Request, Session
from hatch_docker.oci.registry.upload import Uploads
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress
from hatch_docker.support.streams import digest_of
from hatch_docker.support.unfinished import Unfinished

IMAGE = make_image("one", "two")
INDEX = ImageIndex(images=(make_image("one"), make_image("one", "two", platform=ARM64)), annotations={"of": "both"})
MiB = 1 << 20


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(upload, "_FIRST_WAIT", 0.001)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


def at(fake: FakeRegistry, tag: str = "1.0", name: str = "app") -> Reference:
    return Reference(registry=fake.host, repository=name, tag=tag)


def push(root: Node, *references: Reference, **options: Any) -> str:
    return Registry(Http(), credentials=Credentials()).push(root, references, **options)


def refused(root: Node, *references: Reference) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        push(root, *references)
    return caught.value


def tags(fake: FakeRegistry) -> set[tuple[str, str]]:
    return {(name, tag) for name, tag in fake.manifests if ":" not in tag}


def blob(size: int, media_type: str = spec.LAYER_TAR) -> Node:
    data = secrets.token_bytes(size)
    descriptor = Descriptor(media_type=media_type, digest=digest_of(data), size=size)
    return Node(descriptor=descriptor, open=lambda: io.BytesIO(data))


def document(content: Mapping[str, Any], *children: Node, media_type: str = spec.MANIFEST) -> Node:
    data = spec.dump(content)
    descriptor = Descriptor(media_type=media_type, digest=digest_of(data), size=len(data))
    return Node(descriptor=descriptor, open=lambda: io.BytesIO(data), children=children)


def of_blobs(config: Node, *layers: Node) -> Node:
    layer_descriptors = [layer.descriptor.to_json() for layer in layers]
    return document({"config": config.descriptor.to_json(), "layers": layer_descriptors}, config, *layers)


class TestGraphs:
    @pytest.mark.registry
    def test_index_in_a_real_registry(self) -> None:
        reference = Reference(
            registry=os.environ["HATCH_DOCKER_TEST_REGISTRY"], repository=f"test/{secrets.token_hex(6)}", tag="1"
        )
        self.check_index(reference)

    def test_index(self, fake: FakeRegistry) -> None:
        self.check_index(at(fake))

    @staticmethod
    def check_index(reference: Reference) -> None:
        assert push(INDEX.node, reference, reference.with_tag("latest")) == INDEX.descriptor.digest
        registry = Registry(Http(), credentials=Credentials())
        for tag in ("latest", reference.tag):
            assert registry.manifest(reference.with_tag(tag)) == (INDEX.descriptor, INDEX.index_bytes)
        for image in INDEX.images:
            assert registry.manifest(reference.with_digest(image.digest))[1] == image.manifest_bytes
            for each in (image.config_descriptor, *image.manifest.layers):
                assert digest_of(b"".join(registry.blob(reference, each))) == each.digest

    def test_children_first_and_tags_last(self, fake: FakeRegistry) -> None:
        push(INDEX.node, at(fake), at(fake, "latest"))
        puts = [request.path.rpartition("/")[2] for request in fake.sent("PUT", "/manifests/")]
        children = [image.digest for image in INDEX.images]
        assert puts == [*children, INDEX.descriptor.digest, "1.0", "latest"]
        # A layer that both images have is sent once.
        assert len(fake.sent("PUT", "/blobs/")) == 4

    def test_documents_of_other_tools_are_not_changed(self, fake: FakeRegistry) -> None:
        """Docker's media types, unknown fields, artifacts with a subject."""
        config = blob(10, "application/vnd.example.config")
        content = {
            "schemaVersion": 2,
            "mediaType": spec.DOCKER_MANIFEST,
            "config": config.descriptor.to_json(),
            "layers": [],
            "subject": IMAGE.descriptor.to_json(),
            "x": [1, 2.5, None],
        }
        manifest = document(content, config, media_type=spec.DOCKER_MANIFEST)
        index = document({"manifests": [manifest.descriptor.to_json()]}, manifest, media_type=spec.DOCKER_INDEX)
        push(index, at(fake))
        assert fake.manifests["app", manifest.descriptor.digest] == (spec.DOCKER_MANIFEST, spec.dump(content))
        assert fake.manifests["app", "1.0"][0] == spec.DOCKER_INDEX

    def test_document_that_does_not_match_its_descriptor(self, fake: FakeRegistry) -> None:
        changed = replace(IMAGE.node, open=lambda: io.BytesIO(b"{}"))
        with pytest.raises(ImageError, match="has other content"):
            push(changed, at(fake))
        assert not fake.manifests


class TestSeveralReferences:
    def test_content_is_everywhere_before_a_tag_moves(self, fake: FakeRegistry) -> None:
        with FakeRegistry() as other:
            order: list[str] = []
            for registry in (fake, other):
                registry.requests = Recording(order)
            push(INDEX.node, at(fake), at(fake, name="second"), at(other), at(other, "latest"))
            assert tags(fake) == {("app", "1.0"), ("second", "1.0")}
            assert tags(other) == {("app", "1.0"), ("app", "latest")}
            puts = [each for each in order if each.startswith("PUT")]
            assert [each for each in puts if ":" not in each][-4:] == puts[-4:]
            # The second repository of a registry mounts everything from the first one.
            assert not [
                request for request in fake.requests if request.method == "PUT" and "/second/blobs/" in request.path
            ]

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    def test_no_tag_moves_if_one_registry_refuses(self, fake: FakeRegistry, method: str) -> None:
        with FakeRegistry() as other:
            other.failures = [Failure(method, "", 403, times=99)]
            assert other.host in str(refused(IMAGE.node, at(fake), at(other)))
            assert not tags(fake)
            assert not tags(other)

    def test_index_that_is_refused_halfway(self, fake: FakeRegistry) -> None:
        push(IMAGE.node, at(fake), at(fake, "latest"))
        for number, node in enumerate(node for node in INDEX.node.walk() if node.is_document):
            fake.failures = [Failure("PUT", node.descriptor.digest, 400, times=99)]
            refused(INDEX.node, at(fake), at(fake, "latest"))
            assert fake.manifests["app", "1.0"][1] == fake.manifests["app", "latest"][1] == IMAGE.manifest_bytes, number


class Recording(list[Any]):
    """Requests to a registry that are noted in a common list, too."""

    def __init__(self, order: list[str]) -> None:
        self.order = order

    def append(self, request: Any) -> None:
        self.order.append(f"{request.method} {request.path}")
        super().append(request)


class TestNoSuccess:
    """Answers that look like a success."""

    @pytest.mark.parametrize("body", [b"", b"<html>welcome</html>", b"{}", IMAGE.manifest_bytes])
    @pytest.mark.parametrize("status", [200, 201, 202, 204])
    def test_same_answer_to_everything(self, fake: FakeRegistry, status: int, body: bytes) -> None:
        fake.everything = (status, b"" if status == 204 else body)
        for image in (IMAGE, make_image()):
            error = refused(image.node, at(fake))
            assert "HTTP" in error.message or "where the upload goes" in error.message
            assert fake.host in str(error)

    def test_registry_that_is_a_web_page(self, fake: FakeRegistry) -> None:
        fake.everything = (200, b"<html>log in</html>")
        error = refused(IMAGE.node, at(fake))
        assert "does not answer as a registry: HTTP 200" in error.message
        assert "login page" in error.hint

    @pytest.mark.parametrize("status", [200, 202, 204])
    @pytest.mark.parametrize("field", ["blob_status", "manifest_status"])
    def test_other_status_than_the_specifications(self, fake: FakeRegistry, field: str, status: int) -> None:
        setattr(fake, field, status)
        assert f"HTTP {status}" in refused(IMAGE.node, at(fake)).message
        assert not tags(fake)

    @pytest.mark.parametrize("field", ["blob_digest", "manifest_digest"])
    @pytest.mark.parametrize("digest", [digest_of(b"other"), "nonsense"])
    def test_other_digest(self, fake: FakeRegistry, field: str, digest: str) -> None:
        setattr(fake, field, digest)
        assert "another digest" in refused(IMAGE.node, at(fake)).message
        assert not tags(fake)

    def test_missing_digest_is_read_back(self, fake: FakeRegistry) -> None:
        fake.manifest_digest = fake.digest_header = ""
        push(INDEX.node, at(fake))
        assert tags(fake) == {("app", "1.0")}
        fake.loses_tags = True
        assert "nothing under the tag 2.0" in refused(INDEX.node, at(fake, "2.0")).message

    @pytest.mark.parametrize("header", [None, digest_of(b"other")])
    def test_tag_that_names_something_else_afterwards(self, fake: FakeRegistry, header: str | None) -> None:
        push(INDEX.node, at(fake))
        fake.loses_tags, fake.digest_header = True, header
        error = refused(IMAGE.node, at(fake))
        assert f"{header or INDEX.descriptor.digest} under the tag 1.0, not {IMAGE.digest}" in error.message

    @pytest.mark.parametrize("length", [True, False])
    def test_blobs_that_are_not_there_though_the_registry_says_so(self, fake: FakeRegistry, length: bool) -> None:
        """After a garbage collection, or a page for every URL."""
        layer = IMAGE.layers[0].descriptor
        if length:
            fake.failures = [Failure("HEAD", "/blobs/", 200, times=99, headers={"Content-Length": "3"})]
        else:
            fake.outdated_blobs = {layer.digest}
        push(IMAGE.node, at(fake))
        assert ("app", layer.digest) in fake.blobs


# Statuses that are treated alike meet every other request each.
@pytest.mark.parametrize(
    ("kind", "first", "step"), [("429", 1, 1), ("500", 1, 2), ("503", 2, 2), ("hang up", 1, 1), ("cut", 1, 1)]
)
def test_one_fault_at_any_request_is_made_good(kind: str, first: int, step: int) -> None:
    """The registry obeys a request whose answer is cut, and forgets one that it hangs up on."""
    for number in range(first, 100, step):
        with FakeRegistry(fault=(number, kind), immutable=True) as fake:
            assert push(INDEX.node, at(fake), at(fake, "latest")) == INDEX.descriptor.digest, number
            assert tags(fake) == {("app", "1.0"), ("app", "latest")}
            if len(fake.requests) < number:
                return
    raise AssertionError("a push takes more requests than expected")


@pytest.mark.parametrize(
    ("kind", "first", "step"), [("400", 1, 2), ("418", 2, 2), ("403", 1, 1), ("404", 1, 1), ("413", 1, 1)]
)
def test_refusal_of_any_request_is_an_error_or_made_good(kind: str, first: int, step: int) -> None:
    for number in range(first, 100, step):
        with FakeRegistry(fault=(number, kind)) as fake:
            error = None
            try:
                push(INDEX.node, at(fake), at(fake, "latest"), threads=1)
            except RegistryError as caught:
                error = caught
            assert error is None or (error.status == int(kind) and fake.host in str(error))
            assert error or tags(fake) == {("app", "1.0"), ("app", "latest")}
            if len(fake.requests) < number:
                return
    raise AssertionError("a push takes more requests than expected")


class TestTags:
    def test_same_digest_is_not_put_again(self, fake: FakeRegistry) -> None:
        fake.immutable = True
        push(INDEX.node, at(fake))
        fake.requests.clear()
        assert push(INDEX.node, at(fake)) == INDEX.descriptor.digest
        assert not fake.sent("PUT")

    def test_immutable_tag_whose_answer_was_lost(self, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
        fake.immutable = True
        add = fake.add_manifest

        def lost(name: str, reference: str, data: bytes, media_type: str) -> str:
            if reference == "1.0":
                fake.failures = [Failure("PUT", "/1.0", 400, body=b'{"errors": [{"code": "TAG_INVALID"}]}')]
                fake.manifest_status = 503
            return add(name, reference, data, media_type)

        monkeypatch.setattr(fake, "add_manifest", lost)
        push(IMAGE.node, at(fake))
        assert len(fake.sent("PUT", "/manifests/1.0")) == 2

    @pytest.mark.parametrize("status", [400, 401, 403, 405])
    def test_registry_that_does_not_say_what_it_has(self, fake: FakeRegistry, status: int) -> None:
        """But for the last request: a push that cannot be read back is no success."""
        fake.failures = [Failure(method, "/manifests/", status, times=2) for method in ("HEAD", "GET")]
        push(IMAGE.node, at(fake))
        fake.failures = [Failure(method, "/manifests/", status, times=3) for method in ("HEAD", "GET")]
        refused(INDEX.images[1].node, at(fake, "2.0"))

    @pytest.mark.parametrize("status", [400, 409, 412])
    def test_immutable_tag(self, fake: FakeRegistry, status: int) -> None:
        push(IMAGE.node, at(fake, "latest"))
        fake.immutable = True
        if status != 400:
            body = b'{"errors": [{"code": "PRECONDITION", "message": "tag latest is configured as immutable"}]}'
            fake.failures = [Failure("PUT", "/latest", status, times=99, body=body)]
        error = refused(INDEX.node, at(fake, "latest"))
        assert "does not move the tag latest" in error.message
        assert "`tags`" in error.hint
        assert "--tag" in error.hint
        assert fake.manifests["app", "latest"][1] == IMAGE.manifest_bytes

    @pytest.mark.parametrize(
        "refusal",
        [
            *((400, "MANIFEST_INVALID"), (400, "UNSUPPORTED"), (405, "UNSUPPORTED"), (404, "MANIFEST_INVALID")),
            *((415, ""), (400, ""), (405, "")),
        ],
    )
    def test_registry_without_indexes(self, fake: FakeRegistry, refusal: tuple[int, str]) -> None:
        status, code = refusal
        body = b'{"errors": [{"code": "%s"}]}' % code.encode() if code else b"<html>no</html>"
        fake.failures = [Failure("PUT", f"/manifests/{INDEX.descriptor.digest}", status, times=99, body=body)]
        error = refused(INDEX.node, at(fake))
        assert "does not accept an index" in error.message
        assert "--platform" in error.hint
        assert not tags(fake)


class TestChunks:
    """Uploads in chunks, for registries and proxies that accept no large requests."""

    LAYER = blob(10 * MiB + 1)
    ROOT = of_blobs(blob(10), LAYER)

    def sizes(self, fake: FakeRegistry) -> list[int]:
        assert fake.blobs["app", self.LAYER.descriptor.digest] == self.LAYER.open().read()
        return [int(request.headers["Content-Length"]) for request in fake.sent("PATCH")]

    @pytest.mark.parametrize("status", [201, 202, 204])
    def test_answers_to_a_chunk(self, fake: FakeRegistry, status: int) -> None:
        fake.largest_put, fake.chunk_status = MiB, status
        push(self.ROOT, at(fake))
        assert self.sizes(fake) == [8 * MiB, 2 * MiB + 1]

    def test_chunk_that_is_too_large(self, fake: FakeRegistry) -> None:
        fake.largest_put, fake.largest_chunk = MiB, 4 * MiB
        push(self.ROOT, at(fake))
        assert self.sizes(fake) == [8 * MiB, 4 * MiB, 4 * MiB, 2 * MiB + 1]

    def test_broken_uploads_and_no_chunks_at_all(self, fake: FakeRegistry) -> None:
        """The last try is the whole blob in one request."""
        fake.largest_chunk = MiB
        digest = self.LAYER.descriptor.digest
        push(of_blobs(self.ROOT.children[0]), at(fake))
        fake.failures = [Failure("PUT", "/blobs/", 503, times=2)]
        push(self.ROOT, at(fake))
        assert self.sizes(fake) == [8 * MiB, 4 * MiB]
        puts = [request for request in fake.sent("PUT", "/blobs/") if request.query["digest"] == [digest]]
        assert [int(request.headers["Content-Length"]) for request in puts] == [10 * MiB + 1] * 3

    def test_registry_that_drops_chunks(self, fake: FakeRegistry) -> None:
        push(of_blobs(self.ROOT.children[0]), at(fake))
        fake.drops_chunks = True
        fake.failures = [Failure("PUT", "/blobs/", 503, times=2)]
        push(self.ROOT, at(fake))
        assert self.sizes(fake)[:2] == [8 * MiB, 2 * MiB + 1]

    def test_nothing_fits(self, fake: FakeRegistry) -> None:
        fake.largest_put, fake.largest_chunk = MiB, MiB
        error = refused(self.ROOT, at(fake))
        assert "HTTP 413" in error.message
        assert "client_max_body_size" in error.hint

    @pytest.mark.parametrize("chunk", [4 * MiB, 8 * MiB])
    def test_connection_that_is_reset_instead_of_a_refusal(self, fake: FakeRegistry, chunk: int) -> None:
        fake.largest_put, fake.largest_chunk, fake.resets = MiB, chunk, True
        push(self.ROOT, at(fake))
        assert max(self.sizes(fake)[-2:]) <= chunk

    @pytest.mark.parametrize("status", [429, 503])
    def test_waits_as_long_as_the_registry_says(self, fake: FakeRegistry, status: int) -> None:
        waits: list[float | None] = []

        class Stopped(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                waits.append(timeout)
                return False

        later = formatdate(time.time() + 25, usegmt=True)
        for value, least, most in (("7", 7, 8), (later, 2, 26), ("3600", 0, 1), ("soon", 0, 1)):
            fake.failures = [Failure("PUT", "/blobs/", status, headers={"Retry-After": value})]
            fake.blobs.clear()
            waits.clear()
            session = Session(Http(), Credentials())
            Uploads(
                session=session,
                target=at(fake),
                presence=Presence(session, at(fake)),
                mount_from=(),
                stopped=Stopped(),
                progress=Progress(),
            ).send(blob(10))
            (wait,) = waits
            assert wait is not None
            assert least <= wait <= most

    def test_token_that_expires_between_chunks(self, fake: FakeRegistry, tmp_path: Any) -> None:
        fake.auth, fake.largest_put, fake.token_uses = "bearer", MiB, 5
        Registry(Http(), credentials=credentials_for(tmp_path, fake.host)).push(self.ROOT, [at(fake)])
        assert self.sizes(fake).count(8 * MiB) <= 2


def test_upload_that_begins_at_another_host(fake: FakeRegistry) -> None:
    """Locations are relative to the address that answers."""
    with FakeRegistry() as other:
        fake.uploads_at = other.host
        other.blobs = fake.blobs
        push(IMAGE.node, at(fake))
        assert len(other.sent("PUT", "/blobs/")) == 3
        assert not [request for request in other.requests if "Authorization" in request.headers]


def test_mirror_is_neither_asked_nor_changed(fake: FakeRegistry) -> None:
    """Content is asked for in the registry itself, never in a mirror."""
    with FakeRegistry() as mirror:
        registry = Registry(Http(), credentials=Credentials(), mirrors={fake.host: mirror.host})
        registry.push(IMAGE.node, [at(fake)])
        assert not mirror.requests


class TestAbandonedUploads:
    """What a push began and did not end is ended by the next push to that registry, whichever process it is of."""

    @pytest.mark.registry
    @pytest.mark.parametrize("names", [("HATCH_DOCKER_TEST_REGISTRY",), AUTH], ids=["open", "password"])
    def test_at_a_real_registry(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        host, *login = (os.environ[name] for name in names)
        reference = Reference(registry=host, repository=f"test/{secrets.token_hex(6)}", tag="1")
        credentials = credentials_for(tmp_path, host, *login) if login else Credentials()
        self.check(reference, credentials, tmp_path / "notes")

    def test_end_with_the_next_push(self, fake: FakeRegistry, tmp_path: Path) -> None:
        self.check(at(fake), Credentials(), tmp_path)

    def test_end_with_tokens_for_it(self, fake: FakeRegistry, tmp_path: Path) -> None:
        fake.auth = "bearer"
        (tmp_path / "login").mkdir()
        self.check(at(fake), credentials_for(tmp_path / "login", fake.host), tmp_path / "notes")

    @staticmethod
    def left(folder: Path) -> list[str]:
        return [json.loads(note.text)[1] for note in Unfinished(folder).left()]

    def check(self, reference: Reference, credentials: Credentials, folder: Path) -> None:
        access = Access(reference=reference, push=True)
        registry = Registry(Http(), credentials=credentials, unfinished=Unfinished(folder))
        session = registry.session
        start = session.call(Request("POST", session.url(reference, "blobs/uploads/"), body=b""), access)
        url = urljoin(start.url, start.headers["Location"])
        with pytest.raises(ZeroDivisionError), noted(session, reference, url):
            raise ZeroDivisionError
        assert session.call(Request("GET", url), access).status == 204
        registry.push(IMAGE.node, [reference])
        assert self.left(folder) == []
        assert session.call(Request("GET", url), access).status == 404

    def test_one_that_fails_is_noted(self, fake: FakeRegistry, tmp_path: Path) -> None:
        broken = replace(blob(10), open=lambda: io.BytesIO(b"short"))
        with pytest.raises(ImageError):
            Registry(Http(), credentials=Credentials(), unfinished=Unfinished(tmp_path)).push(broken, [at(fake)])
        (url,) = self.left(tmp_path)
        assert {urlsplit(url).path.rpartition("/")[2]} == set(fake.uploads)

    def test_of_other_registries_are_left_to_pushes_there(self, fake: FakeRegistry, tmp_path: Path) -> None:
        with FakeRegistry() as other:
            for each in (fake, other):
                url = f"http://{each.host}/v2/app/blobs/uploads/0?state=1"
                each.uploads["0"] = bytearray()
                with pytest.raises(ZeroDivisionError), noted(self.session(tmp_path), at(each), url):
                    raise ZeroDivisionError
            Registry(Http(), credentials=Credentials(), unfinished=Unfinished(tmp_path)).push(IMAGE.node, [at(fake)])
            assert (set(fake.uploads), set(other.uploads)) == (set(), {"0"})
            assert self.left(tmp_path) == [f"http://{other.host}/v2/app/blobs/uploads/0?state=1"]

    @pytest.mark.parametrize("text", ["", "x", "[]", '["::", "http://a/"]', '["{host}/app", "http://other.example/x"]'])
    def test_notes_that_mean_nothing_are_removed(self, fake: FakeRegistry, tmp_path: Path, text: str) -> None:
        (tmp_path / "note").write_text(text.replace("{host}", fake.host))
        Registry(Http(), credentials=Credentials(), unfinished=Unfinished(tmp_path)).push(IMAGE.node, [at(fake)])
        assert self.left(tmp_path) == []
        assert fake.sent("DELETE", "") == []

    @pytest.mark.parametrize("status", [401, 404, 405, 500])
    def test_a_registry_that_does_not_end_them_is_not_asked_again(
        self, fake: FakeRegistry, tmp_path: Path, status: int
    ) -> None:
        url = f"http://{fake.host}/v2/app/blobs/uploads/0?state=1"
        with pytest.raises(ZeroDivisionError), noted(self.session(tmp_path), at(fake), url):
            raise ZeroDivisionError
        fake.failures = [Failure("DELETE", "/blobs/", status)]
        registry = Registry(Http(), credentials=Credentials(), unfinished=Unfinished(tmp_path))
        for _ in range(2):
            registry.push(IMAGE.node, [at(fake)])
        assert len(fake.sent("DELETE", "/blobs/")) == 1

    def test_a_registry_that_ends_none_is_asked_once_for_each_push(self, fake: FakeRegistry) -> None:
        fake.failures = [Failure("DELETE", "/blobs/", 405, times=99)]
        push(IMAGE.node, at(fake), mount_from=[at(fake, name=name) for name in ("first", "second", "third")])
        assert len(fake.sent("DELETE", "/app/blobs/")) <= 3

    @pytest.mark.parametrize("mounts", [False, True])
    def test_that_begin_in_place_of_mounts_are_ended(self, fake: FakeRegistry, mounts: bool) -> None:
        if mounts:
            push(IMAGE.node, at(fake, name="third"))
        fake.requests.clear()
        sources = [at(fake, name=name) for name in ("first", "second", "third")]
        push(IMAGE.node, at(fake), mount_from=sources)
        assert fake.uploads == {}
        # The config and two layers, each from three places.
        assert len(fake.sent("POST", "/app/blobs/")) == 9
        assert len(fake.sent("DELETE", "/app/blobs/")) == 6

    @staticmethod
    def session(folder: Path) -> Session:
        return Session(Http(), Credentials(), unfinished=Unfinished(folder))
