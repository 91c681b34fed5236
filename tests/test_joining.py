"""An index that several machines make together, each with the image of its platform."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from fake_registry import Failure, FakeRegistry
from image_maker import AMD64, ARM64, make_image

from hatch_docker.errors import InvalidReferenceError, RegistryError
from hatch_docker.oci import spec
from hatch_docker.oci.image import Image, ImageIndex
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.auth import Credentials
from hatch_docker.oci.registry.client import Registry
from hatch_docker.oci.spec import Platform
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.http import Http

COMMIT = {spec.REVISION: "a" * 40, spec.LOCK: "sha256:1", "org.opencontainers.image.title": "app"}
S390X, ARMV7 = Platform(architecture="s390x"), Platform(architecture="arm", variant="v7")
ROUNDS = int(os.environ.get("HATCH_DOCKER_TEST_ROUNDS", "5"))


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def tag(fake: FakeRegistry) -> Reference:
    return Reference(registry=fake.host, repository="app", tag="1.0")


def image(platform: Platform, text: str = "", annotations: Mapping[str, str] = COMMIT) -> Image:
    own = {"org.opencontainers.image.base.digest": f"sha256:{platform.architecture}"}
    return replace(make_image("common", text, platform=platform), annotations={**annotations, **own})


def update(*images: Image, to: Reference, threads: int = 4) -> str:
    root = images[0].node if len(images) == 1 else ImageIndex(images=images).node
    return registry().update_index(root, [to], threads=threads)[0]


def registry() -> Registry:
    return Registry(Http(), credentials=Credentials())


def read(reference: Reference) -> dict[str, Any]:
    return spec.load(registry().manifest(reference)[1], "the index")


def entries(reference: Reference) -> dict[str, str]:
    """The digests under a tag, by platform."""
    manifests = spec.Index.from_json(read(reference)).manifests
    return {str(each.platform): each.digest for each in manifests}


class TestIndex:
    def test_grows_by_each_platform(self, tag: Reference) -> None:
        amd, arm, v7 = image(AMD64), image(ARM64), image(ARMV7)
        update(arm, to=tag)
        assert entries(tag) == {"linux/arm64": arm.digest}
        update(amd, to=tag)
        assert entries(tag) == {"linux/amd64": amd.digest, "linux/arm64": arm.digest}
        update(v7, to=tag)
        assert list(entries(tag)) == ["linux/amd64", "linux/arm/v7", "linux/arm64"]
        for suffix, each in (("linux-amd64", amd), ("linux-arm64", arm), ("linux-arm-v7", v7)):
            assert registry().resolve(tag.with_tag(f"1.0-{suffix}")).digest == each.digest

    def test_same_whoever_was_last(self, fake: FakeRegistry, tag: Reference) -> None:
        images = image(AMD64), image(ARM64)
        last = [update(*order, to=tag) for order in ((*images,), (*images[::-1],))]
        other = replace(tag, repository="other")
        last += [update(each, to=other) for each in images[::-1]]
        assert last[0] == last[1] == last[3]
        assert read(tag)["annotations"] == COMMIT
        fake.requests.clear()
        update(images[0], to=tag)
        assert not fake.sent("PUT")

    def test_update_of_one_platform(self, tag: Reference) -> None:
        for each in (image(AMD64), image(ARM64), image(AMD64, "newer")):
            update(each, to=tag)
        assert entries(tag) == {"linux/amd64": image(AMD64, "newer").digest, "linux/arm64": image(ARM64).digest}

    @pytest.mark.parametrize("name", [spec.REVISION, spec.LOCK])
    @pytest.mark.parametrize("value", ["other", None])
    def test_leaves_out_what_is_of_another_commit_or_lock(self, tag: Reference, name: str, value: str | None) -> None:
        theirs = {**COMMIT, name: value} if value else {key: each for key, each in COMMIT.items() if key != name}
        update(image(ARM64, annotations=theirs), to=tag)
        update(image(AMD64), to=tag)
        assert entries(tag) == {"linux/amd64": image(AMD64).digest}

    def test_without_a_commit_and_a_lock(self, tag: Reference) -> None:
        for platform in (AMD64, ARM64):
            update(image(platform, annotations={}), to=tag)
        assert list(entries(tag)) == ["linux/amd64", "linux/arm64"]

    def test_replaces_what_other_tools_have_put_there(self, fake: FakeRegistry, tag: Reference) -> None:
        registry().push(image(S390X).node, [tag])
        update(image(AMD64), to=tag)
        assert list(entries(tag)) == ["linux/amd64"]
        registry().push(ImageIndex(images=(image(ARM64), image(S390X))).node, [tag, tag.with_tag("1.0-linux-386")])
        fake.add_manifest("app", "1.0-linux-riscv64", b"nonsense", spec.MANIFEST)
        update(image(AMD64), to=tag)
        assert list(entries(tag)) == ["linux/amd64"]

    def test_several_references(self, fake: FakeRegistry, tag: Reference) -> None:
        references = [tag, tag.with_tag("latest"), replace(tag, repository="other")]
        update(image(ARM64), to=references[1])
        digests = registry().update_index(image(AMD64).node, references)
        assert [registry().resolve(each).digest for each in references] == digests
        assert [len(entries(each)) for each in references] == [1, 2, 1]

    def test_own_image_is_not_requested(self, fake: FakeRegistry, tag: Reference) -> None:
        """It may take a moment until all of a registry has it."""
        fake.failures = [Failure("GET", f"/manifests/{image(AMD64).digest}", 404, times=99)]
        update(image(AMD64), to=tag)
        assert entries(tag) == {"linux/amd64": image(AMD64).digest}

    @pytest.mark.parametrize("name", ["x" * 114, "x" * 128])
    def test_tag_that_is_too_long_for_any_platform(self, fake: FakeRegistry, tag: Reference, name: str) -> None:
        update(image(AMD64), to=tag.with_tag("x" * 113))
        fake.requests.clear()
        with pytest.raises(InvalidReferenceError, match=f"the tag {name} is too long") as caught:
            update(image(AMD64), to=tag.with_tag(name))
        assert "at most 113 characters" in caught.value.hint
        assert not fake.requests

    def test_tag_that_is_for_one_platform_of_another_one(self, fake: FakeRegistry, tag: Reference) -> None:
        names = [tag, tag.with_tag("1.0-linux-arm64")]
        with pytest.raises(InvalidReferenceError, match=r"1\.0-linux-arm64 is for one platform of .*:1\.0"):
            registry().update_index(image(AMD64).node, names)
        assert not fake.requests

    def test_registry_without_indexes(self, fake: FakeRegistry, tag: Reference) -> None:
        fake.indexes = False
        with pytest.raises(RegistryError, match="does not accept an index"):
            update(image(AMD64), to=tag)


class TestConcurrency:
    """Other machines that push between any two requests of ours."""

    def others(self, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch, tag: Reference, at: int) -> None:
        """Let another machine push its image before our request number `at` for a manifest."""
        monkeypatch.setattr("time.sleep", lambda _: None)
        request, count = Http.request, 0

        def interleaved(self: Http, method: str, url: str, **options: Any) -> Any:
            nonlocal count
            if "/manifests/" in url:
                count += 1
                if count == at:
                    update(image(ARM64), to=tag, threads=1)
            return request(self, method, url, **options)

        monkeypatch.setattr(Http, "request", interleaved)

    @pytest.mark.parametrize("at", range(1, 36))
    def test_both_are_there_whenever_the_other_one_pushes(
        self, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch, tag: Reference, at: int
    ) -> None:
        self.others(fake, monkeypatch, tag, at)
        update(image(AMD64), to=tag, threads=1)
        if ("app", "1.0-linux-arm64") in fake.manifests:
            assert list(entries(tag)) == ["linux/amd64", "linux/arm64"]

    def test_other_commits_that_do_not_stop(
        self, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch, tag: Reference
    ) -> None:
        monkeypatch.setattr("time.sleep", lambda _: None)
        other = image(ARM64, annotations={})
        add = fake.add_manifest

        def replaced(name: str, reference: str, data: bytes, media_type: str) -> str:
            digest = add(name, reference, data, media_type)
            if reference == "1.0":
                add(name, reference, other.manifest_bytes, spec.MANIFEST)
            return digest

        monkeypatch.setattr(fake, "add_manifest", replaced)
        with pytest.raises(RegistryError, match=r"does not stay under the tag 1\.0") as caught:
            update(image(AMD64), to=tag)
        assert "other commits" in caught.value.hint
        assert len(fake.sent("PUT", "/manifests/1.0")) < 50

    def test_own_image_that_is_replaced(
        self, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch, tag: Reference
    ) -> None:
        add = fake.add_manifest
        other = image(AMD64, annotations={})

        def replaced(name: str, reference: str, data: bytes, media_type: str) -> str:
            if reference == "1.0":
                add(name, "1.0-linux-amd64", other.manifest_bytes, spec.MANIFEST)
            return add(name, reference, data, media_type)

        monkeypatch.setattr(fake, "add_manifest", replaced)
        with pytest.raises(RegistryError, match=r"another build has pushed the tag 1\.0-linux-amd64 meanwhile"):
            update(image(AMD64), to=tag)

    @pytest.mark.parametrize("kind", ["503", "hang up", "cut"])
    def test_one_fault_at_any_request_is_made_good(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("time.sleep", lambda _: None)
        with FakeRegistry() as before:
            update(image(ARM64), to=Reference(registry=before.host, repository="app", tag="1.0"))
        for number in range(1, 200, 4):
            with FakeRegistry(fault=(number, kind), blobs={**before.blobs}, manifests={**before.manifests}) as fake:
                tag = Reference(registry=fake.host, repository="app", tag="1.0")
                update(image(AMD64), to=tag)
                requests = len(fake.requests)
                assert list(entries(tag)) == ["linux/amd64", "linux/arm64"]
                if requests < number:
                    return
        raise AssertionError("it takes more requests than expected")

    def test_two_at_once(self, tag: Reference) -> None:
        self.race(tag, ROUNDS)

    @pytest.mark.registry
    def test_two_at_once_in_a_real_registry(self) -> None:
        """HATCH_DOCKER_TEST_ROUNDS=50 for more certainty."""
        host = os.environ["HATCH_DOCKER_TEST_REGISTRY"]
        self.race(Reference(registry=host, repository=f"test/{secrets.token_hex(6)}", tag="1"), ROUNDS)

    @staticmethod
    def race(tag: Reference, rounds: int) -> None:
        for number in range(rounds):
            commit = {**COMMIT, spec.REVISION: str(number)}
            images = [image(platform, str(number), commit) for platform in (AMD64, ARM64)]
            start = threading.Barrier(2)
            errors: list[BaseException] = []

            def run(each: Image, start: threading.Barrier = start, errors: list[BaseException] = errors) -> None:
                start.wait()
                try:
                    update(each, to=tag)
                except BaseException as error:
                    errors.append(error)

            threads = [threading.Thread(target=run, args=(each,)) for each in images]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not errors
            assert entries(tag) == {str(each.config.platform): each.digest for each in images}
