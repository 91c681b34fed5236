"""Entries of registry caches, and the reading and writing of them, without a build."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from fake_registry import FakeRegistry
from hypothesis import given
from hypothesis import strategies as st
from test_registry import LOCKED_PLACES, OPEN_PLACES, Opened, Place

from hatch_docker.caching.artifact import ENTRY, SET, artifact_of, manifest_of, read_manifest
from hatch_docker.caching.entry import Entry, Found, Sealer, open_entry, pack, recipe_of, unpack
from hatch_docker.caching.kinds import KINDS, fits
from hatch_docker.caching.repository import Repository
from hatch_docker.caching.source import PATIENCE, Source
from hatch_docker.caching.tier import RegistryCache
from hatch_docker.caching.writing import write
from hatch_docker.errors import ImageError
from hatch_docker.oci.layer import Entry as File
from hatch_docker.oci.layer import WriteOptions
from hatch_docker.oci.layercache import MadeLayer, make_layer, recall, remember
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.spec import Descriptor
from hatch_docker.support.cache import Cache
from hatch_docker.support.progress import Progress
from hatch_docker.support.streams import digest_of

KEY = b"k" * 32
NOW = datetime(2026, 11, 27, tzinfo=timezone.utc)
BLOB = Descriptor(media_type="a/b", digest=f"sha256:{'1' * 64}", size=7)
FOUND = Found({"descriptor": BLOB.to_json(), "diff_id": "x", "unpacked": 10, "contents": ["a"]}, (BLOB,))


class TestSeal:
    SEALED = Sealer(KEY).sealed(recipe_of("layers", "key"), FOUND)

    def test_own_entries_are_accepted(self) -> None:
        assert Sealer(KEY).accepts(self.SEALED)
        assert Sealer().accepts(self.SEALED), "without a key, any entry will do"

    @given(st.data())
    def test_any_changed_byte_is_not(self, data: Any) -> None:
        line = bytearray(self.SEALED.line)
        at = data.draw(st.integers(0, len(line) - 1))
        line[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != line[at]))
        recipe, _, rest = bytes(line).partition(b" ")
        seal, _, payload = rest.partition(b" ")
        changed = Entry(recipe.decode("latin-1"), payload, seal.decode("latin-1"))
        assert not Sealer(KEY).accepts(changed)

    @given(st.binary(min_size=1), st.text(), st.binary())
    def test_other_keys_and_other_entries_are_not(self, key: bytes, recipe: str, payload: bytes) -> None:
        assert key == KEY or not Sealer(KEY).accepts(Sealer(key).sealed("1", FOUND))
        assert not Sealer(KEY).accepts(Entry(recipe, payload, self.SEALED.seal))
        assert not Sealer(KEY).accepts(Entry(recipe, payload))

    def test_the_key_is_not_shown(self) -> None:
        assert KEY.decode() not in repr(Sealer(KEY))


class TestEntry:
    def test_lines_are_read_back(self) -> None:
        entries = [Sealer(key).sealed(recipe_of("layers", str(n)), FOUND) for n in range(3) for key in (KEY, b"")]
        kept = {entry.recipe: entry for entry in entries}
        assert unpack(pack(kept.values())) == kept
        assert unpack(pack([])) == {}

    @given(st.binary())
    def test_other_bytes_are_an_error(self, data: bytes) -> None:
        with pytest.raises(ImageError):
            unpack(data)

    @pytest.mark.parametrize(
        "change",
        [
            {"descriptor": {**BLOB.to_json(), "size": 8}},
            {"descriptor": {**BLOB.to_json(), "digest": f"sha256:{'2' * 64}"}},
            {"descriptor": {}},
            {"descriptor": []},
            {"unpacked": "10"},
            {"unpacked": True},
            {"contents": "a"},
            {"contents": [1]},
            {"more": 1},
        ],
    )
    def test_contradictions_are_misses(self, change: dict[str, Any]) -> None:
        assert open_entry(Sealer().sealed("1", FOUND), "layers") == FOUND
        assert open_entry(Sealer().sealed("1", Found({**FOUND.value, **change}, FOUND.blobs)), "layers") is None

    @given(
        st.sampled_from([*KINDS]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
        ),
    )
    def test_any_document_is_read_or_a_miss(self, kind: str, value: Any) -> None:
        for payload in (value, {"value": value, "blobs": []}, {"value": value, "blobs": value}):
            open_entry(Entry("1", json.dumps(payload).encode()), kind)

    def test_blobs_that_no_document_names_are_a_miss(self) -> None:
        assert open_entry(Sealer().sealed("1", Found({}, (BLOB,))), "wheels") is None


@pytest.mark.parametrize(
    ("value", "shape", "fitting"),
    [
        ({"a": 1}, {"a": int}, True),
        ({"a": True}, {"a": int}, False),
        ({"a": 1, "b": 1}, {"a": int}, False),
        ({}, {"a": int}, False),
        ({"x": "y"}, {str: str}, True),
        ({"x": 1}, {str: str}, False),
        ([["a"], []], [[str]], True),
        (None, (int, type(None)), True),
        ("a", dict, False),
    ],
)
def test_shapes(value: object, shape: object, fitting: bool) -> None:
    assert fits(value, shape) is fitting


class TestArtifact:
    @pytest.mark.parametrize("size", [0, 1 << 20])
    def test_short_lines_are_in_the_manifest(self, size: int) -> None:
        found = Found({**FOUND.value, "contents": [secrets.token_hex(size // 2)]}, FOUND.blobs)
        artifact = artifact_of([(Sealer().sealed("1", found), found)], "2026w48")
        read = read_manifest(manifest_of(artifact, ENTRY), ENTRY)
        assert (read.written, read.blobs) == (artifact.written, artifact.blobs)
        assert (read.lines == artifact.lines) == (not size)
        assert bool(read.remote) == bool(size)

    def test_other_types_are_an_error(self) -> None:
        with pytest.raises(ImageError):
            read_manifest(manifest_of(artifact_of([], ""), ENTRY), SET)


class Machine:
    """A local cache before a registry cache."""

    def __init__(self, folder: Path, place: Reference, session: Any, *, writes: bool = True, key: bytes = KEY) -> None:
        self.notes: list[str] = []
        self.cache = Cache(folder)
        self.tier = RegistryCache(
            [Source(Repository(session=session, reference=place))], Sealer(key), self.notes.append, writes=writes
        )
        self.cache.remote = self.tier
        self.tier.begin("0" * 64)

    def layer(self, name: str, data: bytes = b"x") -> MadeLayer:
        """The layer `name`, made unless a cache has it."""
        made = recall(self.cache, "layers", name)
        if made is None:
            made = make_layer([File(path=name, content=data)], self.cache, WriteOptions(), contents=(name,))
            remember(self.cache, "layers", name, made)
        return made

    def write(self, now: datetime = NOW) -> None:
        write(self.tier, self.cache, [], now, Progress())


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    opened: Opened = request.param
    with opened() as opened_place:
        yield opened_place


@pytest.mark.parametrize("place", [*OPEN_PLACES, *LOCKED_PLACES], indirect=True)
class TestContract:
    """What the fake and real registries do alike."""

    def test_what_one_machine_writes_another_reads(self, place: Place, tmp_path: Path) -> None:
        reference, data = place.reference("/cache", ""), secrets.token_bytes(300_000)
        one = Machine(tmp_path / "1", reference, place.client(tmp_path).session)
        made = one.layer("a", data)
        one.cache.put("wheels", "w", {"long": secrets.token_hex(200_000)})
        one.cache.put("own-facts", "o", {})
        one.write()
        assert one.notes == []
        two = Machine(tmp_path / "2", reference, place.client(tmp_path).session)
        found = two.layer("a")
        assert found.reused
        assert found.layer.descriptor == made.layer.descriptor
        with found.layer.open() as theirs, made.layer.open() as ours:
            assert theirs.read() == ours.read()
        assert two.cache.get("wheels", "w") == one.cache.get("wheels", "w")
        assert two.cache.get("own-facts", "o") is None
        assert two.cache.get("wheels", "another") is None
        assert two.notes == []

    def test_entries_are_found_without_a_set(self, place: Place, tmp_path: Path) -> None:
        reference = place.reference("/cache", "")
        one = Machine(tmp_path / "1", reference, place.client(tmp_path).session)
        one.layer("a", secrets.token_bytes(10))
        one.write()
        two = Machine(tmp_path / "2", reference, place.client(tmp_path).session)
        two.tier.sources[0]._set = None
        two.tier.begin("1" * 64)
        two.cache.expect("layers", ["a", "b"])
        assert recall(two.cache, "layers", "a")
        assert recall(two.cache, "layers", "b") is None


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry
        registry.release.set()


class TestWriting:
    @pytest.fixture
    def machine(self, fake: FakeRegistry, tmp_path: Path) -> Any:
        from test_registry import client

        def make(name: str, **options: Any) -> Machine:
            reference = Reference(registry=fake.host, repository="cache")
            return Machine(tmp_path / name, reference, client().session, **options)

        return make

    def test_entries_are_renewed_once_a_week(self, machine: Any, fake: FakeRegistry) -> None:
        one = machine("1")
        one.layer("a")
        one.write()
        for now, renewed in (
            (datetime(2026, 11, 28, tzinfo=timezone.utc), 0),
            (datetime(2026, 12, 1, tzinfo=timezone.utc), 2),
        ):
            fake.requests.clear()
            again = machine("2")
            again.layer("a")
            again.write(now)
            puts = {each.path for each in fake.sent("PUT", "/manifests/")}
            assert len(puts) == renewed, "the entry and the set"
            assert fake.sent("PATCH") == []

    def test_the_set_has_what_was_used_last(self, machine: Any, fake: FakeRegistry) -> None:
        for names in (("a", "b"), ("b", "c")):
            one = machine("1")
            for name in names:
                one.layer(name)
            one.write()
        (_, data) = fake.manifests["cache", f"v1-set-{'0' * 64}"]
        lines = read_manifest(data, SET).lines
        assert lines is not None
        assert unpack(lines).keys() == {recipe_of("layers", name) for name in "bc"}
        assert ("cache", f"v1-{recipe_of('layers', 'a')}") in fake.manifests

    @pytest.mark.parametrize(
        ("url", "shared"),
        [
            ("https://files.example/a.whl", True),
            ("https://rosa:s3cret@files.example/a.whl", False),
            ("https://files.example/a.whl?token=s3cret", False),
        ],
    )
    def test_documents_with_logins_are_not_shared(
        self, machine: Any, fake: FakeRegistry, url: str, shared: bool
    ) -> None:
        one = machine("1")
        file: dict[str, Any] = {
            "name": "a",
            "version": "1",
            "filename": "a.whl",
            "url": url,
            "reason": "",
            "hashes": {},
            "size": None,
        }
        one.cache.put("plans", "p", {"requirements": [file], "tools": []})
        one.write()
        assert (("cache", f"v1-{recipe_of('plans', 'p')}") in fake.manifests) == shared

    def test_a_run_that_must_not_write_does_not(self, machine: Any, fake: FakeRegistry) -> None:
        one = machine("1", writes=False)
        one.layer("a")
        one.write()
        assert {each.method for each in fake.requests} == {"GET"}

    def test_a_compiled_wheel_is_fetched_when_it_is_needed(self, machine: Any, fake: FakeRegistry) -> None:
        one = machine("1")
        digest = digest_of(b"wheel")
        one.cache.add([b"wheel"], digest, what="it")
        document = {"filename": "a.whl", "digest": digest, "packages": []}
        one.cache.put("compiled", "c", document)
        one.write()
        two = machine("2")
        assert two.cache.get("compiled", "c") == document
        assert two.cache.blob(digest) is None
        fetched = two.cache.obtain(digest)
        assert fetched is not None
        assert fetched.read_bytes() == b"wheel"

    def test_blobs_larger_than_their_entries_say_are_not_read_to_their_end(
        self, machine: Any, fake: FakeRegistry
    ) -> None:
        one = machine("1")
        one.layer("a")
        one.write()
        two = machine("2")
        made = two.layer("a")
        assert two.cache.blob(made.layer.descriptor.digest) is None
        fake.blobs = {key: data + bytes(1 << 22) for key, data in fake.blobs.items()}
        assert two.cache.obtain(made.layer.descriptor.digest) is None
        assert list((two.cache.root / "blobs").rglob("*")) == []


def test_the_time_that_a_build_waits_is_limited_to_seconds() -> None:
    assert PATIENCE <= 5
