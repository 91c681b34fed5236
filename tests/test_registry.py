"""Pull and push, with a fake registry and (marker `registry`) real ones."""

from __future__ import annotations

import gc
import gzip
import hashlib
import io
import json
import os
import secrets
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from fake_registry import PASSWORD, USER, Failure, FakeRegistry
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_docker.errors import DigestMismatchError, HatchDockerError, ImageError, NetworkError, RegistryError
from hatch_docker.oci import spec
from hatch_docker.oci.config import ImageConfig
from hatch_docker.oci.image import Image
from hatch_docker.oci.layer import Layer
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry import documents, upload
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.spec import Descriptor, Platform
from hatch_docker.support import silence
from hatch_docker.support.dataclasses import dataclass, replace
from hatch_docker.support.http import Http
from hatch_docker.support.progress import Progress, Task
from hatch_docker.support.streams import digest_of
from hatch_docker.support.threads import begun


def layer(name: str, content: bytes = b"") -> Layer:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    blob = gzip.compress(plain.getvalue(), mtime=0)
    return Layer(
        descriptor=Descriptor(media_type=spec.LAYER_GZIP, digest=digest_of(blob), size=len(blob)),
        diff_id=digest_of(plain.getvalue()),
        open=lambda: io.BytesIO(blob),
    )


def image(*layers: Layer, env: str = "") -> Image:
    return Image(config=ImageConfig(platform=Platform(architecture="amd64"), env={"OF": env}), layers=layers)


def credentials_for(tmp_path: Path, host: str, user: str = USER, password: str = PASSWORD, **more: str) -> Credentials:
    path = tmp_path / f"{host.replace(':', '-')}.json"
    entry = {"username": user, "password": password, **more}
    path.write_text(json.dumps({"auths": {host: entry}}))
    return Credentials(files=(path,))


def client(credentials: Credentials | None = None, **mirrors: str) -> Registry:
    names = {name.replace("_", "."): host for name, host in mirrors.items()}
    return Registry(Http(), credentials=credentials or Credentials(), mirrors=names)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(upload, "_FIRST_WAIT", 0.001)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


# The contract of the fake and of real registries.


@dataclass(frozen=True)
class Place:
    host: str
    user: str = ""
    password: str = ""

    def reference(self, suffix: str = "", tag: str = "1.0") -> Reference:
        name = f"hatch-docker-test/{secrets.token_hex(6)}{suffix}"
        return Reference(registry=self.host, repository=name, tag=tag)

    def client(self, tmp_path: Path) -> Registry:
        return client(credentials_for(tmp_path, self.host, self.user, self.password) if self.user else None)


@contextmanager
def real(host: str, user: str = "", password: str = "") -> Iterator[Place]:
    yield Place(os.environ[host], os.environ.get(user, ""), os.environ.get(password, ""))


@contextmanager
def made(auth: str) -> Iterator[Place]:
    with FakeRegistry(auth=auth) as registry:
        yield Place(registry.host, USER if auth else "", PASSWORD if auth else "")


AUTH = ("HATCH_DOCKER_TEST_AUTH_REGISTRY", "HATCH_DOCKER_TEST_AUTH_USER", "HATCH_DOCKER_TEST_AUTH_PASSWORD")
OPEN_PLACES = [
    pytest.param(lambda: made(""), id="fake"),
    pytest.param(lambda: real("HATCH_DOCKER_TEST_REGISTRY"), id="real", marks=pytest.mark.registry),
]
LOCKED_PLACES = [
    pytest.param(lambda: made("basic"), id="fake-basic"),
    pytest.param(lambda: made("bearer"), id="fake-bearer"),
    pytest.param(lambda: real(*AUTH), id="real-password", marks=pytest.mark.registry),
]
Opened = Callable[[], AbstractContextManager[Place]]


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    opened: Opened = request.param
    with opened() as opened_place:
        yield opened_place


@pytest.mark.parametrize("place", [*OPEN_PLACES, *LOCKED_PLACES], indirect=True)
def test_pulls_what_was_pushed(place: Place, tmp_path: Path) -> None:
    pushed = image(layer("a", b"one"), layer("b", b"two" * 1000), layer("a", b"one"))
    first = place.reference()
    second = first.with_tag("latest")
    assert place.client(tmp_path).push(pushed.node, [first, second]) == pushed.digest
    pulling = place.client(tmp_path)
    for reference in (first, second, first.with_digest(pushed.digest)):
        descriptor, data = pulling.manifest(reference)
        assert data == pushed.manifest_bytes
        assert descriptor == Descriptor(media_type=spec.MANIFEST, digest=pushed.digest, size=len(data))
        assert pulling.resolve(reference) == descriptor
    for each in (pushed.config_descriptor, *pushed.manifest.layers):
        assert digest_of(b"".join(pulling.blob(first, each))) == each.digest


@pytest.mark.parametrize("place", [*OPEN_PLACES, *LOCKED_PLACES], indirect=True)
def test_mounts_blobs_of_the_base_without_opening_them(place: Place, tmp_path: Path) -> None:
    base, own = layer("base", secrets.token_bytes(100)), layer("own", secrets.token_bytes(100))
    source, target = place.reference("/base"), place.reference("/app")
    place.client(tmp_path).push(image(base).node, [source])

    def refuse() -> BinaryIO:
        raise AssertionError("opened")

    remote = Layer(descriptor=base.descriptor, diff_id=base.diff_id, open=refuse)
    pushed = image(remote, own)
    assert place.client(tmp_path).push(pushed.node, [target], mount_from=[source]) == pushed.digest
    assert place.client(tmp_path).resolve(target).digest == pushed.digest


@pytest.mark.parametrize("place", [*OPEN_PLACES, *LOCKED_PLACES], indirect=True)
def test_missing_image_is_an_error(place: Place, tmp_path: Path) -> None:
    existing = place.reference()
    place.client(tmp_path).push(image(layer("a")).node, [existing])
    for missing in (existing.with_tag("9.9"), place.reference(), existing.with_digest(digest_of(b"other"))):
        for ask in (place.client(tmp_path).manifest, place.client(tmp_path).resolve):
            with pytest.raises(RegistryError) as caught:
                ask(missing)
            assert caught.value.status == 404
            assert missing.repository in caught.value.message
            assert caught.value.place == str(missing)


@pytest.mark.parametrize("place", LOCKED_PLACES, indirect=True)
@pytest.mark.parametrize("user", [USER, ""])
def test_wrong_and_missing_passwords(place: Place, user: str, tmp_path: Path) -> None:
    credentials = credentials_for(tmp_path, place.host, user, "hush-hush") if user else Credentials()
    source = str(credentials.files[0]) if user else "there are none"
    reference = place.reference()
    attempts: list[Callable[[Registry], object]] = [
        lambda registry: registry.manifest(reference),
        lambda registry: registry.resolve(reference),
        lambda registry: list(registry.blob(reference, layer("a").descriptor)),
        lambda registry: registry.push(image(layer("a")).node, [reference]),
    ]
    for attempt in attempts:
        with pytest.raises(RegistryError) as caught:
            attempt(client(credentials))
        assert caught.value.status == 401
        assert source in str(caught.value)
        assert f"docker login {place.host}" in caught.value.hint
        assert "hush" not in str(caught.value)


@pytest.mark.registry
def test_mirror_of_docker_hub_has_its_images() -> None:
    registry = client(docker_io=os.environ["HATCH_DOCKER_TEST_REGISTRY"])
    reference = Reference.parse("python:3.13-slim")
    descriptor, data = registry.manifest(reference)
    assert registry.resolve(reference).digest == descriptor.digest == digest_of(data)


# Pulling


def test_sends_credentials_to_their_registry_only(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.auth = "bearer"
    with FakeRegistry() as storage:
        fake.storage = storage.host
        digest = fake.add_blob("app", b"content")
        storage.add_blob("app", b"content")
        reference = Reference(registry=fake.host, repository="app")
        descriptor = Descriptor(media_type=spec.LAYER_GZIP, digest=digest, size=7)
        registry = client(credentials_for(tmp_path, fake.host))
        assert b"".join(registry.blob(reference, descriptor)) == b"content"
        assert [request.query for request in storage.sent("GET", "/blobs/")] == [{"signature": ["s"]}]
        # Not even if the storage requests them.
        storage.auth = "bearer"
        with pytest.raises(RegistryError):
            list(registry.blob(reference, descriptor))
        assert not [request for request in storage.requests if "Authorization" in request.headers]


@pytest.mark.parametrize("auth", ["", "bearer"])
def test_sends_no_credentials_to_another_host_of_an_upload(fake: FakeRegistry, tmp_path: Path, auth: str) -> None:
    fake.auth = "bearer"
    with FakeRegistry() as storage:
        storage.auth = auth
        storage.uploads["x"] = bytearray()
        fake.location = f"http://{storage.host}/v2/app/blobs/uploads/x?state=s"
        reference = Reference(registry=fake.host, repository="app")
        with pytest.raises(RegistryError):
            client(credentials_for(tmp_path, fake.host)).push(image(layer("a")).node, [reference])
        assert storage.sent("PUT", "/uploads/")
        assert not [request for request in storage.requests if "Authorization" in request.headers]


def test_identity_token_does_not_follow_a_redirect(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.auth, fake.identity_token = "bearer", "refresh me"
    credentials = credentials_for(tmp_path, fake.host, "", "", identitytoken="refresh me")
    with FakeRegistry(identity_token="refresh me") as other:
        fake.failures = [Failure("POST", "/token", 307, headers={"Location": f"http://{other.host}/token"})]
        with pytest.raises(RegistryError, match="HTTP 307"):
            client(credentials).manifest(Reference(registry=fake.host, repository="app"))
        assert not other.requests


def test_sends_no_credentials_to_a_url_that_looks_like_the_registrys(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.auth = "bearer"
    with FakeRegistry() as storage:
        # urllib.parse takes the host that urllib3 connects to for a user name.
        fake.storage = f"{storage.host}\\@{fake.host}"
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{storage.host}/token"'}
        storage.failures = [Failure("GET", "/blobs/", 401, 2, challenge)]
        digest = fake.add_blob("app", b"content")
        reference = Reference(registry=fake.host, repository="app")
        descriptor = Descriptor(media_type=spec.LAYER_GZIP, digest=digest, size=7)
        registry = client(credentials_for(tmp_path, fake.host))
        for _ in range(2):
            with pytest.raises(RegistryError):
                list(registry.blob(reference, descriptor))
        assert storage.requests
        assert not [request for request in storage.requests if "Authorization" in request.headers]


def test_sends_no_credentials_of_another_registry(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.auth, fake.anonymous_pull = "bearer", True
    fake.add_manifest("app", "latest", image().manifest_bytes, spec.MANIFEST)
    client(credentials_for(tmp_path, "127.0.0.1:1")).manifest(Reference(registry=fake.host, repository="app"))
    assert not any(r.headers.get("Authorization", "").startswith("Basic") for r in fake.requests)


def test_resumes_a_broken_download(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.auth, fake.cut_downloads, fake.token_uses = "bearer", 3, 2
    content = secrets.token_bytes(1 << 20)
    digest = fake.add_blob("app", content)
    reference = Reference(registry=fake.host, repository="app")
    descriptor = Descriptor(media_type=spec.LAYER_GZIP, digest=digest, size=len(content))
    chunks = client(credentials_for(tmp_path, fake.host)).blob(reference, descriptor)
    assert digest_of(b"".join(chunks)) == digest
    # The token expired meanwhile.
    assert len(fake.sent("GET", "/token")) == 2


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_requests_an_answer_again_that_breaks_off(fake: FakeRegistry, tmp_path: Path, number: int) -> None:
    """The challenge, the token, the manifest, the refusal of a blob, and that of the repetition."""
    fake.auth, fake.fault = "bearer", (number, "short")
    reference = Reference(registry=fake.host, repository="app", tag="1")
    fake.add_manifest("app", "1", image().manifest_bytes, spec.MANIFEST)
    registry = client(credentials_for(tmp_path, fake.host))
    assert registry.manifest(reference)[1] == image().manifest_bytes
    absent = Descriptor(media_type=spec.LAYER_GZIP, digest=digest_of(b"absent"), size=6)
    with pytest.raises(RegistryError) as caught:
        list(registry.blob(reference, absent))
    assert caught.value.status == 404


def test_registry_whose_answers_do_not_end_is_not_asked_again(
    fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "OF_CONNECTION", 0.05)
    fake.add_manifest("app", "1", image().manifest_bytes, spec.MANIFEST)
    fake.halting, session = True, client().session
    for _ in range(2):
        with pytest.raises(RegistryError, match=f"{fake.host} stopped answering"):
            documents.fetch(session, Reference(registry=fake.host, repository="app", tag="1"))
        assert len(fake.requests) == 3
    fake.release.set()


def test_slow_token_service_does_not_hold_up_other_registries(tmp_path: Path) -> None:
    with FakeRegistry(auth="bearer", stalled="/token") as slow, FakeRegistry(auth="bearer") as other:
        files = [path for each in (slow, other) for path in credentials_for(tmp_path, each.host).files]
        registry = Registry(Http(), credentials=Credentials(files=tuple(files)))
        references = [Reference(registry=each.host, repository="app", tag="1") for each in (slow, other)]
        for each in (slow, other):
            each.add_manifest("app", "1", image().manifest_bytes, spec.MANIFEST)
        first = begun(lambda: registry.manifest(references[0]))
        assert slow.reached.wait(60)
        assert registry.manifest(references[1])[1] == image().manifest_bytes
        slow.release.set()
        assert first()[1] == image().manifest_bytes


@pytest.mark.parametrize("received", [0, 1 << 19])
def test_rest_of_a_blob_that_breaks_off_at_the_mirror_comes_from_the_registry(
    fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch, received: int
) -> None:
    content = secrets.token_bytes(1 << 20)
    digest = fake.add_blob("app", content)
    descriptor = Descriptor(media_type=spec.LAYER_GZIP, digest=digest, size=len(content))
    with FakeRegistry(breaks_at=received) as mirror:
        mirror.add_blob("app", content)
        registry = Registry(Http(), credentials=Credentials(), mirrors={fake.host: mirror.host})
        chunks = registry.blob(Reference(registry=fake.host, repository="app"), descriptor)
        assert b"".join(chunks) == content
        assert mirror.sent("GET")
    assert [each.headers.get("Range") for each in fake.sent("GET")] == [f"bytes={received}-" if received else None]


def test_blob_larger_than_its_descriptor_is_an_error(fake: FakeRegistry) -> None:
    digest = fake.add_blob("app", b"x" * 100)
    descriptor = Descriptor(media_type=spec.LAYER_GZIP, digest=digest, size=99)
    with pytest.raises(DigestMismatchError):
        list(client().blob(Reference(registry=fake.host, repository="app"), descriptor))


def test_manifest_must_match_its_digest(fake: FakeRegistry) -> None:
    data = image().manifest_bytes
    other = digest_of(b"other")
    fake.add_manifest("app", "latest", data, spec.MANIFEST)
    fake.manifests["app", other] = (spec.MANIFEST, data)
    reference = Reference(registry=fake.host, repository="app")
    with pytest.raises(DigestMismatchError, match=other):
        client().manifest(reference.with_digest(other))
    fake.digest_header = other
    with pytest.raises(DigestMismatchError, match=other):
        client().manifest(reference)
    # For a request by digest, the header is ignored.
    assert client().manifest(reference.with_digest(digest_of(data)))[1] == data
    assert client().resolve(reference.with_digest(digest_of(data))).digest == digest_of(data)
    for header in ("", "nonsense", "sha256:" + "z" * 64):
        fake.digest_header = header
        assert client().resolve(reference).digest == client().manifest(reference)[0].digest == digest_of(data)


@pytest.mark.parametrize(
    ("document", "header", "expected"),
    [
        ({"layers": []}, "", spec.MANIFEST),
        ({"manifests": []}, "", spec.INDEX),
        ({"manifests": []}, "application/vnd.docker.distribution.manifest.list.v2+json; charset=utf-8", spec.INDEX),
        ({"layers": []}, "Application/VND.docker.distribution.manifest.v2+JSON", spec.MANIFEST),
        ({"mediaType": spec.INDEX, "manifests": []}, "text/plain", spec.INDEX),
        ({"mediaType": None, "layers": []}, "application/octet-stream", spec.MANIFEST),
    ],
)
def test_determines_the_media_type_of_a_manifest(
    fake: FakeRegistry, document: dict[str, Any], header: str, expected: str
) -> None:
    fake.add_manifest("app", "latest", json.dumps(document).encode(), header)
    reference = Reference(registry=fake.host, repository="app")
    assert client().manifest(reference)[0].media_type == expected
    assert client().resolve(reference).media_type == expected


@pytest.mark.parametrize(
    ("data", "header", "says"),
    [
        (b'{"schemaVersion": 1, "fsLayers": []}', "", "schema 1"),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        (b"{}", "application/json", "not an image"),
        (b'{"mediaType": "application/vnd.example\\u001b[31m"}', "", "not an image"),
        (b"<html>", "text/html", "not JSON"),
        (b"[" * 100_000, spec.MANIFEST, "not JSON"),
        (b"[]", spec.MANIFEST, "not a JSON object"),
        (b"", spec.MANIFEST, "not JSON"),
        (b"\xff\xfe{", spec.MANIFEST, "not JSON"),
    ],
)
def test_other_documents_than_images_are_image_errors(fake: FakeRegistry, data: bytes, header: str, says: str) -> None:
    fake.add_manifest("app", "latest", data, header)
    with pytest.raises(ImageError, match=says) as caught:
        client().manifest(Reference(registry=fake.host, repository="app"))
    assert "\x1b" not in str(caught.value)


def test_huge_manifest_is_an_error(fake: FakeRegistry) -> None:
    fake.add_manifest("app", "latest", b" " * (4 << 20) + b"{}", spec.MANIFEST)
    with pytest.raises(RegistryError, match="larger"):
        client().manifest(Reference(registry=fake.host, repository="app"))


@settings(max_examples=12)
@given(
    body=st.binary(max_size=50)
    | st.recursive(
        st.none() | st.integers() | st.text() | st.sampled_from(["errors", "code", "message"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["errors", "code", "message", "details"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode()),
    status=st.sampled_from([200, 201, 204, 301, 307, 400, 401, 403, 404, 418, 599]),
    header=st.sampled_from(["WWW-Authenticate", "Location", "Content-Type", "Docker-Content-Digest"]),
    value=st.text(alphabet=st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=30)
    | st.sampled_from(
        ['Bearer realm="http://[/"', "http://[", "//", "Bearer", 'Bearer realm="ftp://x"', "http://a:b/"]
    ),
)
# urllib3 does not close the connection of an invalid redirect, so the garbage collector warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_any_answer_is_a_result_or_our_error(body: bytes, status: int, header: str, value: str) -> None:
    with FakeRegistry() as fake:
        fake.failures = [
            Failure(method, "", status, times=99, headers={header: value}, body=b"" if status == 204 else body)
            for method in ("GET", "POST", "PUT", "HEAD")
        ]
        reference = Reference(registry=fake.host, repository="app")
        for attempt in (
            lambda: client().manifest(reference),
            lambda: client().resolve(reference),
            lambda: list(client().blob(reference, Descriptor(media_type="", digest=digest_of(b""), size=0))),
            lambda: client().push(image().node, [reference]),
        ):
            assert message_of(attempt).replace("\n  hint: ", "").isprintable()
    if 300 <= status < 400:
        gc.collect()


# Mirrors


def test_pulls_from_the_mirror_first_and_else_from_the_registry(tmp_path: Path) -> None:
    with FakeRegistry() as mirror, FakeRegistry(auth="basic") as upstream:
        for registry, name in ((mirror, "mirrored"), (upstream, "only-here")):
            data = image(env=name).manifest_bytes
            registry.add_manifest(name, "latest", data, spec.MANIFEST)
            registry.add_blob(name, b"content")
        puller = Registry(
            Http(), credentials=credentials_for(tmp_path, upstream.host), mirrors={upstream.host: mirror.host}
        )
        descriptor = Descriptor(media_type="", digest=digest_of(b"content"), size=7)
        for name in ("mirrored", "only-here"):
            reference = Reference(registry=upstream.host, repository=name)
            assert puller.manifest(reference)[1] == image(env=name).manifest_bytes
            assert b"".join(puller.blob(reference, descriptor)) == b"content"
        assert not upstream.sent("GET", "/mirrored/")
        assert not [request for request in mirror.requests if "Authorization" in request.headers]


def test_uses_the_registry_if_the_mirror_is_down_or_wrong(fake: FakeRegistry) -> None:
    data = image().manifest_bytes
    digest = fake.add_manifest("app", "latest", data, spec.MANIFEST)
    reference = Reference(registry=fake.host, repository="app", digest=digest)
    with FakeRegistry() as lying:
        lying.manifests["app", digest] = (spec.MANIFEST, image(env="other").manifest_bytes)
        for mirror in (lying.host, "127.0.0.1:1"):
            registry = Registry(Http(), credentials=Credentials(), mirrors={fake.host: mirror})
            assert registry.manifest(reference)[1] == data
            assert registry.manifest(reference)[1] == data


def test_does_not_try_an_unreachable_mirror_again(fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.add_manifest("app", "latest", image().manifest_bytes, spec.MANIFEST)
    urls: list[str] = []
    request = Http.request

    def counted(self: Http, method: str, url: str, **options: Any) -> Any:
        urls.append(url)
        return request(self, method, url, **options)

    monkeypatch.setattr(Http, "request", counted)
    down = "127.0.0.1:1"
    registry = Registry(Http(), credentials=Credentials(), mirrors={fake.host: down})
    for _ in range(3):
        registry.manifest(Reference(registry=fake.host, repository="app"))
    assert len([url for url in urls if f"//{down}/" in url]) == 1


def test_error_names_mirror_and_registry(fake: FakeRegistry) -> None:
    with FakeRegistry() as mirror:
        registry = Registry(Http(), credentials=Credentials(), mirrors={fake.host: mirror.host})
        with pytest.raises(RegistryError, match=r"the mirror: .*; the registry itself: ") as caught:
            registry.manifest(Reference(registry=fake.host, repository="app"))
        assert caught.value.status == 404
        assert mirror.host in caught.value.message
        assert fake.host in caught.value.message


def test_reports_the_mirrors_status_if_the_registry_is_down() -> None:
    down = "127.0.0.1:1"
    with FakeRegistry() as mirror:
        registry = Registry(Http(), credentials=Credentials(), mirrors={down: mirror.host})
        with pytest.raises(RegistryError, match=f"{mirror.host} has no .*{down} cannot be reached") as caught:
            registry.manifest(Reference(registry=down, repository="app"))
        assert caught.value.status == 404
        mirror.add_manifest("app", "latest", image().manifest_bytes, spec.MANIFEST)
        assert registry.manifest(Reference(registry=down, repository="app"))[1] == image().manifest_bytes


def test_mirror_may_have_a_prefix_and_is_not_pushed_to(fake: FakeRegistry) -> None:
    with FakeRegistry() as mirror:
        base = image(layer("base"))
        registry = Registry(Http(), credentials=Credentials(), mirrors={fake.host: f"{mirror.host}/hub/proxy"})
        mirror.add_manifest("hub/proxy/library/base", "latest", base.manifest_bytes, spec.MANIFEST)
        source = Reference(registry=fake.host, repository="library/base")
        assert registry.manifest(source)[1] == base.manifest_bytes
        registry.push(base.node, [Reference(registry=fake.host, repository="app")], mount_from=[source])
        assert not mirror.sent("PUT")
        assert not mirror.sent("POST")
        # Blobs of the mirror can be mounted in its own registry.
        mirror.blobs["hub/proxy/library/base", base.layers[0].descriptor.digest] = base.layers[0].open().read()
        registry.push(base.node, [Reference(registry=mirror.host, repository="app")], mount_from=[source])
        assert len(mirror.sent("PUT", "/blobs/")) == 1


# Pushing


def push(fake: FakeRegistry, pushed: Image, credentials: Credentials | None = None, **options: Any) -> None:
    reference = Reference(registry=fake.host, repository="app", tag="1.0")
    client(credentials).push(pushed.node, [reference], **options)
    assert fake.manifests["app", "1.0"] == (spec.MANIFEST, pushed.manifest_bytes)
    for each in (pushed.config_descriptor, *pushed.manifest.layers):
        assert digest_of(fake.blobs["app", each.digest]) == each.digest


@pytest.mark.parametrize("absolute", [True, False])
def test_sends_missing_blobs_once_and_tags_last(fake: FakeRegistry, absolute: bool) -> None:
    fake.absolute_location = absolute
    shared, own = layer("shared", b"1" * 5000), layer("own", b"2" * 5000)
    push(fake, image(shared))
    fake.requests.clear()
    push(fake, image(shared, own, own))
    puts = [request.path for request in fake.sent("PUT")]
    assert len([path for path in puts if "/blobs/" in path]) == 2
    documents = [path for path in puts if "/manifests/" in path]
    assert documents == puts[-2:] == [f"/v2/app/manifests/{image(shared, own, own).digest}", "/v2/app/manifests/1.0"]


def test_reuses_connections(fake: FakeRegistry) -> None:
    push(fake, image(*(layer(str(number)) for number in range(40))), threads=3)
    assert fake.connections <= 16 + 3


def test_requests_one_token_and_one_for_mounts(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.auth = "bearer"
    base = layer("base")
    fake.add_blob("library/base", base.open().read())
    source = Reference(registry=fake.host, repository="library/base")
    own = [layer(str(number)) for number in range(6)]
    push(fake, image(base, *own), credentials_for(tmp_path, fake.host), mount_from=[source])
    scopes = [request.query["scope"] for request in fake.sent("GET", "/token")]
    assert scopes == [["repository:app:pull,push"], ["repository:app:pull,push", "repository:library/base:pull"]]
    assert not [r for r in fake.sent("PUT", "/blobs/") if base.descriptor.digest in r.query["digest"]]


@pytest.mark.parametrize("auth", ["", "bearer"])
def test_uploads_what_cannot_be_mounted(fake: FakeRegistry, tmp_path: Path, auth: str) -> None:
    fake.auth, fake.mounts, fake.unmountable = auth, False, frozenset({"private/base"})
    source = Reference(registry=fake.host, repository="private/base")
    push(fake, image(layer("base")), credentials_for(tmp_path, fake.host), mount_from=[source])


def test_mounts_nothing_from_another_registry(fake: FakeRegistry) -> None:
    push(fake, image(layer("base")), mount_from=[Reference(registry="other.example", repository="base")])
    assert not any("mount" in request.query for request in fake.requests)


def test_renews_an_expired_token(fake: FakeRegistry, tmp_path: Path) -> None:
    # More uses than there are requests at the same time, which share a token.
    fake.auth, fake.token_uses = "bearer", 20
    push(fake, image(*(layer(str(number)) for number in range(25))), credentials_for(tmp_path, fake.host), threads=1)
    assert len(fake.tokens) > 2


def test_exchanges_an_identity_token(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.auth, fake.identity_token = "bearer", "refresh me"
    credentials = credentials_for(tmp_path, fake.host, "", "", identitytoken="refresh me")
    push(fake, image(layer("a")), credentials)
    assert [request.path for request in fake.sent("POST", "/token")] == ["/token"]
    wrong = credentials_for(tmp_path, fake.host, "", "", identitytoken="hush")
    with pytest.raises(RegistryError) as caught:
        push(fake, image(layer("b")), wrong)
    assert caught.value.status == 403
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("cuts", [1, 3])
def test_repeats_a_broken_upload(fake: FakeRegistry, cuts: int) -> None:
    fake.cut_uploads = cuts
    push(fake, image(layer("a", secrets.token_bytes(1 << 20))))


@pytest.mark.parametrize(
    ("cuts", "methods"),
    [(1, ["POST", "PUT", "POST", "PUT"]), (2, ["POST", "PUT", "POST", "PUT", "POST", "PATCH", "PUT"])],
)
def test_sends_chunks_after_two_broken_uploads(fake: FakeRegistry, cuts: int, methods: list[str]) -> None:
    fake.cut_uploads = cuts
    push(fake, image())
    assert [request.method for request in fake.requests if "/uploads/" in request.path] == methods


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "GET"])
def test_retries_temporary_failures(fake: FakeRegistry, status: int, method: str) -> None:
    fake.failures = [
        Failure(method, "", status, times=2, headers={"Retry-After": "0"}),
        Failure(method, "/manifests/", status, headers={"Retry-After": "0"}),
    ]
    pushed = image(layer("a"))
    push(fake, pushed)
    assert client().manifest(Reference(registry=fake.host, repository="app", tag="1.0"))[0].digest == pushed.digest


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_asks_again_if_an_answer_breaks_off(fake: FakeRegistry, method: str) -> None:
    cut = {"Content-Length": "100", "Connection": "close"}
    fake.failures = [Failure(method, "/manifests/" if method == "PUT" else "", 201, headers=cut, body=b"{")]
    push(fake, image(layer("a")))


def test_reports_a_rate_limit_of_hours_without_waiting(fake: FakeRegistry) -> None:
    fake.failures = [Failure("GET", "", 429, times=99, headers={"Retry-After": "3600"})]
    with pytest.raises(RegistryError) as caught:
        client().manifest(Reference(registry=fake.host, repository="app"))
    assert caught.value.status == 429
    assert len(fake.sent("GET")) == 1


def test_waits_until_a_registry_has_stored_a_blob(fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "OF_CONNECTION", 0.05)
    fake.storing = 0.12
    pushed = image()
    push(fake, pushed)
    assert len(fake.sent("PUT", "/blobs/")) == 1


def test_does_not_repeat_an_upload_whose_answer_was_lost(fake: FakeRegistry) -> None:
    pushed = image(layer("a"))
    fake.failures = [Failure("PUT", "/blobs/", 504)]
    digest = pushed.config_descriptor.digest
    opened = fake.blobs
    heads = 0

    class Late(dict[tuple[str, str], bytes]):
        def get(self, key: Any, default: Any = None) -> Any:
            nonlocal heads
            heads += key == ("app", digest)
            if heads == 2 and key == ("app", digest):
                self[key] = pushed.config_bytes
            return super().get(key, default)

    fake.blobs = Late(opened)
    push(fake, pushed)
    assert len([r for r in fake.sent("PUT", "/blobs/") if digest in r.query["digest"]]) == 1


@pytest.mark.parametrize("smallest", [0, 9 << 20])
def test_sends_chunks_if_one_request_is_too_large(fake: FakeRegistry, smallest: int) -> None:
    fake.largest_put, fake.smallest_chunk = 1000, smallest
    content = secrets.token_bytes(20 << 20)
    big = Layer(
        descriptor=Descriptor(media_type=spec.LAYER_TAR, digest=digest_of(content), size=len(content)),
        diff_id=digest_of(content),
        open=lambda: io.BytesIO(content),
    )
    push(fake, image(big))
    sizes = [int(request.headers["Content-Length"]) for request in fake.sent("PATCH")]
    assert sum(sizes) == len(content)
    assert min(sizes[:-1]) >= max(5_000_000, smallest)


@pytest.mark.parametrize("location", ["http://[", "ftp://127.0.0.1/x", "mailto:x", "//"])
def test_invalid_location_of_an_upload(fake: FakeRegistry, location: str) -> None:
    fake.location = location
    with pytest.raises(RegistryError):
        push(fake, image(layer("a")))


def test_layer_that_does_not_match_its_descriptor_does_not_hang(fake: FakeRegistry) -> None:
    good = layer("a")
    short = Layer(descriptor=good.descriptor, diff_id=good.diff_id, open=lambda: io.BytesIO(b"short"))
    with pytest.raises(ImageError, match="shorter"):
        push(fake, image(short))

    def gone() -> BinaryIO:
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(ImageError, match="No such file"):
        push(fake, image(Layer(descriptor=good.descriptor, diff_id=good.diff_id, open=gone)))
    assert not fake.manifests


@pytest.mark.parametrize("largest_put", [1 << 30, 1000])
def test_no_registry_gets_all_of_a_damaged_blob(fake: FakeRegistry, largest_put: int) -> None:
    """Whether it is sent in one request or in chunks."""
    fake.largest_put = largest_put
    content = secrets.token_bytes(9 << 20)
    good = Layer(
        descriptor=Descriptor(media_type=spec.LAYER_TAR, digest=digest_of(content), size=len(content)),
        diff_id=digest_of(content),
        open=lambda: io.BytesIO(content),
    )
    damaged = replace(good, open=lambda: io.BytesIO(bytes([content[0] ^ 1]) + content[1:]))
    with pytest.raises(ImageError, match=f"{good.descriptor.digest} is damaged") as caught:
        push(fake, image(damaged))
    assert "HATCH_DOCKER_VERIFY=1" in caught.value.hint
    assert ("app", good.descriptor.digest) not in fake.blobs
    assert not fake.manifests
    push(fake, image(good))


def test_error_stops_the_other_uploads(fake: FakeRegistry) -> None:
    endless = threading.Event()
    good = layer("waits")

    class Waiting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            endless.wait(60)
            return super().read(1)

    def broken() -> BinaryIO:
        raise OSError("broken")

    slow = Layer(descriptor=good.descriptor, diff_id=good.diff_id, open=lambda: Waiting(good.open().read()))
    bad = Layer(descriptor=layer("bad").descriptor, diff_id=layer("bad").diff_id, open=broken)
    with pytest.raises(ImageError, match="broken"):
        push(fake, image(slow, bad), threads=2)
    endless.set()
    for thread in [t for t in threading.enumerate() if t.name.startswith("push")]:
        thread.join(60)
        assert not thread.is_alive()
    assert ("app", good.descriptor.digest) not in fake.blobs


@pytest.mark.parametrize("cuts", [0, 1, 3])
def test_progress_counts_every_sent_byte(fake: FakeRegistry, cuts: int) -> None:
    counted: dict[str, tuple[int, list[int]]] = {}
    notes: list[str] = []

    class Counted(Task):
        def __init__(self, counts: list[int]) -> None:
            self.counts = counts

        def __call__(self, count: int) -> None:
            self.counts.append(count)

    class Counting(Progress):
        @contextmanager
        def task(self, step: str, name: str, total: int = 0) -> Iterator[Task]:
            assert step == "push"
            assert name not in counted
            counted[name] = (total, [])
            yield Counted(counted[name][1])

        def note(self, text: str) -> None:
            notes.append(text)

    present, new = layer("present"), layer("new", secrets.token_bytes(1 << 20))
    push(fake, image(present))
    fake.cut_uploads = cuts
    push(fake, image(present, new), progress=Counting())
    assert all(total == sum(done) for total, done in counted.values())
    assert max(total for total, _ in counted.values()) == new.descriptor.size
    assert "1 present, 2 uploaded" in notes[0] or "2 present, 1 uploaded" in notes[0]


# Messages


@pytest.mark.parametrize(
    ("status", "says", "advises"),
    [
        (403, "does not let us pull from app anonymously", "docker login"),
        (404, "has no image app:1.0", "check"),
        (418, "HTTP 418", ""),
        (429, "too many requests", "HATCH_DOCKER_REGISTRY_MIRRORS"),
        (500, "HTTP 500", "later"),
    ],
)
def test_refusals_have_hints(fake: FakeRegistry, status: int, says: str, advises: str) -> None:
    body = json.dumps({"errors": [{"code": "WHY", "message": "because\x1b[31m\n" + "x" * 500}]}).encode()
    fake.failures = [Failure("GET", "", status, times=99, body=body)]
    with pytest.raises(RegistryError) as caught:
        client().manifest(Reference(registry=fake.host, repository="app", tag="1.0"))
    error = caught.value
    assert error.status == status
    assert says in error.message
    assert advises in error.hint
    assert "WHY: because" in error.message
    assert len(error.message) < 400
    assert error.message.isprintable()


def test_removes_secrets_from_the_registrys_message(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.auth = "basic"
    body = json.dumps({"errors": [{"code": "X", "message": f"{USER}:{PASSWORD} may not"}]}).encode()
    fake.failures = [Failure("PUT", "/manifests/", 403, body=body)]
    with pytest.raises(RegistryError) as caught:
        push(fake, image(), credentials_for(tmp_path, fake.host))
    assert PASSWORD not in str(caught.value)
    assert str(tmp_path) in caught.value.message


def test_unreachable_registry_is_an_error() -> None:
    host = "127.0.0.1:1"
    for attempt in (
        lambda: client().manifest(Reference(registry=host, repository="app")),
        lambda: client().push(image().node, [Reference(registry=host, repository="app")]),
    ):
        with pytest.raises(RegistryError, match="cannot be reached") as caught:
            attempt()
        assert caught.value.status == 0
        assert host in str(caught.value)


@pytest.mark.parametrize(
    ("registry", "url"),
    [
        ("docker.io", "https://registry-1.docker.io"),
        ("registry.example", "https://registry.example"),
        ("localhost", "http://localhost"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.9.9.9:5000", "http://127.9.9.9:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("localhost.example", "https://localhost.example"),
        ("127.0.0.1.example:5000", "https://127.0.0.1.example:5000"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000"),
        ("plain.example:80", "http://plain.example:80"),
        ("lab.example:5000", "http://lab.example:5000"),
        ("lab.example:5001", "https://lab.example:5001"),
    ],
)
def test_uses_plain_http_for_loopback_and_named_hosts_only(
    registry: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls: list[str] = []

    def request(self: Http, method: str, url: str, **options: Any) -> Any:
        urls.append(url)
        raise NetworkError("no")

    monkeypatch.setattr(Http, "request", request)
    insecure = frozenset({"plain.example", "lab.example:5000"})
    with pytest.raises(RegistryError):
        Registry(Http(), credentials=Credentials(), insecure=insecure).manifest(
            Reference(registry=registry, repository="app")
        )
    assert urls == [f"{url}/v2/app/manifests/latest"]


def message_of(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except HatchDockerError as error:
        return str(error)
    return ""


def test_images_of_these_tests_are_valid() -> None:
    made_layer = layer("a", b"content")
    with made_layer.open() as file:
        blob = file.read()
    assert hashlib.sha256(gzip.decompress(blob)).hexdigest() == made_layer.diff_id[7:]
