"""Builds with a registry as a second cache: what a fresh machine does not do again, and what faults cost."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import builds
import pytest
from builds import Bench, Outcome
from fake_registry import PASSWORD, USER, Failure, FakeRegistry

from hatch_docker.caching import source
from hatch_docker.caching.artifact import manifest_of, read_manifest
from hatch_docker.caching.entry import Entry, Sealer, open_entry, pack, recipe_of, unpack

KEY = "0123456789abcdef" * 2
_Blobs = dict[tuple[str, str], bytes]
_Manifests = dict[tuple[str, str], tuple[str, bytes]]
CACHE = "team/cache"
APP = "team/shop"


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry
        registry.release.set()


class Machines:
    """A project, and machines that build it: each has a local cache of its own. Tests use it one after another."""

    def __init__(self, root: Path, fake: FakeRegistry) -> None:
        self.bench, self.fake = Bench(root), fake
        self.wheels = [self.bench.wheel(name) for name in ("alpha", "beta", "gamma")]
        self.project = self.bench.project(wheels=self.wheels)
        self.key = KEY
        self._files = {path: path.read_bytes() for path in (*self.wheels, self.project / "src/shop/__init__.py")}
        self._built: dict[tuple[str, ...], tuple[str, _Blobs, _Manifests]] = {}
        self._tests = 0

    def restored(self, fake: FakeRegistry) -> Machines:
        """The project as it was made, new machines, and another registry, for the next test."""
        self.fake, self.key, self._tests = fake, KEY, self._tests + 1
        for path, data in self._files.items():
            path.write_bytes(data)
        return self

    def build(self, machine: str, *options: str, project: Path | None = None, **env: str) -> Outcome:
        """Build and push on a machine."""
        name = f"{self.fake.host}/{APP}:1"
        variables = {"HATCH_DOCKER_CACHE": f"{self.fake.host}/{CACHE}", "HATCH_DOCKER_CACHE_KEY": self.key, **env}
        environ = builds.environment(self.bench.root / f"{machine} of {self._tests}", **variables)
        arguments = ["build", "-t", name, *(options or ["--push"]), project or self.project]
        self.fake.requests.clear()
        return builds.command(*arguments, env=environ, folder=self.bench.root)

    def digest(self, machine: str, *options: str, **env: Any) -> str:
        """The digest of the image that a machine built."""
        outcome = self.build(machine, *options, "--metadata-file", str(self.bench.root / "result.json"), **env)
        assert outcome.code == 0, outcome.err
        assert not self.key or self.key not in outcome.out + outcome.err
        return str(json.loads((self.bench.root / "result.json").read_text())["digest"])

    def built(self, *options: str) -> str:
        """The digest of a build on a machine that fills the registry; it is the same for all tests, so made once."""
        if options not in self._built:
            digest = self.digest("first", *options)
            self._built[options] = digest, {**self.fake.blobs}, {**self.fake.manifests}
        digest, blobs, manifests = self._built[options]
        self.fake.blobs, self.fake.manifests = {**blobs}, {**manifests}
        return digest

    def lose_wheels(self) -> None:
        """From now on, a wheel that is fetched is an error."""
        for wheel in self.wheels:
            wheel.unlink()

    @property
    def cached(self) -> dict[str, bytes]:
        """The manifests in the cache by tag."""
        return {tag: data for (name, tag), (_, data) in self.fake.manifests.items() if name == CACHE and ":" not in tag}

    def change(self, change: Callable[[list[Entry]], list[Entry]]) -> None:
        """Replace the entries of all artifacts."""
        for tag, data in self.cached.items():
            kind = json.loads(data)["artifactType"]
            artifact = read_manifest(data, kind)
            assert artifact.lines
            lines = pack(change(list(unpack(artifact.lines).values())))
            changed = manifest_of(type(artifact)(artifact.written, artifact.blobs, lines), kind)
            self.fake.add_manifest(CACHE, tag, changed, "application/vnd.oci.image.manifest.v1+json")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Machines:
    with FakeRegistry() as registry:
        return Machines(tmp_path_factory.mktemp("machines"), registry)


@pytest.fixture
def machines(shared: Machines, fake: FakeRegistry) -> Machines:
    return shared.restored(fake)


ARCHIVE = ("-o", "type=docker,dest=image.tar")


class TestFreshMachine:
    def test_fetches_no_wheel_and_mounts_all_layers(self, machines: Machines, fake: FakeRegistry) -> None:
        first = machines.built("--push")
        machines.lose_wheels()
        for key in [key for key in fake.blobs if key[0] == APP]:
            del fake.blobs[key]
        assert machines.digest("two", "--push") == first
        mounted = {
            each.query["mount"][0]: each.query["from"] for each in fake.sent("POST", APP) if "from" in each.query
        }
        assert mounted
        assert all(sources == [CACHE] and (CACHE, digest) in fake.blobs for digest, sources in mounted.items())
        assert fake.sent("GET", "/blobs/") == []

    def test_makes_the_same_archive_of_what_it_downloads(self, machines: Machines) -> None:
        first = machines.built(*ARCHIVE)
        machines.lose_wheels()
        assert machines.digest("two", *ARCHIVE) == first
        builds.check_archive(machines.bench.root / "image.tar", machines.bench.root / "scratch")

    def test_asks_for_everything_at_once(self, machines: Machines, fake: FakeRegistry) -> None:
        machines.built("--push")
        machines.digest("two", "--push")
        # The set; and what is chosen from a lock, which is not shared, since this one has paths of a machine.
        assert [each.method for each in fake.requests if CACHE in each.path] == ["GET", "GET"]

    def test_writes_nothing_if_only_the_project_changed(self, machines: Machines, fake: FakeRegistry) -> None:
        first = machines.built("--push")
        (machines.project / "src/shop/__init__.py").write_text("def main():\n    return 'changed'\n")
        assert machines.digest("two", "--push") != first
        assert {each.method for each in fake.requests if CACHE in each.path} == {"GET"}

    def test_another_project_shares_entries(self, machines: Machines, fake: FakeRegistry) -> None:
        machines.built("--push")
        other = machines.bench.project("other", name="other", wheels=machines.wheels)
        machines.lose_wheels()
        machines.digest("two", "--push", project=other)
        assert len([tag for tag in machines.cached if "-set-" in tag]) == 2
        assert len(fake.sent("PUT", f"{CACHE}/manifests")) == 1, "the set alone: its entries are there already"

    def test_reads_the_second_cache_and_writes_the_first(self, machines: Machines, fake: FakeRegistry) -> None:
        first = machines.built("--push")
        machines.lose_wheels()
        both = f"{fake.host}/team/new,{fake.host}/{CACHE}"
        assert machines.digest("two", "--push", HATCH_DOCKER_CACHE=both) == first
        assert fake.sent("PUT", CACHE) == []

    def test_with_a_login(self, machines: Machines, fake: FakeRegistry) -> None:
        fake.auth = "bearer"
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        home = machines.bench.root / "docker"
        home.mkdir()
        (home / "config.json").write_text(json.dumps({"auths": {fake.host: {"auth": login}}}))
        first = machines.digest("one", "--push", DOCKER_CONFIG=str(home))
        machines.lose_wheels()
        assert machines.digest("two", "--push", DOCKER_CONFIG=str(home)) == first

    def test_reads_only_in_the_mode_for_that(self, machines: Machines, fake: FakeRegistry) -> None:
        machines.digest("one", "--push", "--cache-mode", "read")
        assert machines.cached == {}
        assert {each.method for each in fake.requests if CACHE in each.path} == {"GET"}

    def test_no_cache_reads_nothing_and_replaces_entries(self, machines: Machines, fake: FakeRegistry) -> None:
        first = machines.built("--push")
        machines.fake.manifests = {key: each for key, each in fake.manifests.items() if key[0] != CACHE}
        assert machines.digest("two", "--push", "--no-cache") == first
        assert len(machines.cached) > 1
        machines.lose_wheels()
        assert machines.build("three", "--push", "--no-cache").code == 1

    def test_a_local_cache_fills_an_empty_one(self, machines: Machines) -> None:
        machines.digest("one", "--push", HATCH_DOCKER_CACHE="[]")
        assert machines.cached == {}
        first = machines.digest("one", "--push")
        machines.lose_wheels()
        assert machines.digest("two", "--push") == first


class TestTrust:
    def test_a_note_says_once_who_is_trusted(self, machines: Machines) -> None:
        machines.key = ""
        assert "HATCH_DOCKER_CACHE_KEY is not set" in machines.build("one").err
        assert "HATCH_DOCKER_CACHE_KEY" not in machines.build("one").err
        machines.key = KEY
        assert "HATCH_DOCKER_CACHE_KEY" not in machines.build("two").err

    def test_the_key_is_not_in_the_environment_of_other_programs(self, tmp_path: Path) -> None:
        from services_maker import make_services

        services = make_services(tmp_path, environ={"HATCH_DOCKER_CACHE_KEY": KEY, "OTHER": "1"})
        assert "HATCH_DOCKER_CACHE_KEY" not in services.host.environ
        assert services.host.environ["OTHER"] == "1"

    @pytest.mark.parametrize("key", ["", "f" * 32])
    def test_entries_without_our_seal_are_misses_and_replaced(self, machines: Machines, key: str) -> None:
        machines.key = key
        first = machines.digest("one", "--push")
        machines.key = KEY
        assert machines.digest("two", "--push") == first
        machines.lose_wheels()
        assert machines.digest("three", "--push") == first

    def test_a_layer_under_another_key_is_a_miss(self, machines: Machines) -> None:
        """A recipe with the sealed content of another one, as who may write the cache can make it."""
        first = machines.built("--push")

        def swap(entries: list[Entry]) -> list[Entry]:
            payloads = [(each.payload, each.seal) for each in entries]
            turned = [*payloads[1:], payloads[0]]
            return [Entry(each.recipe, *other) for each, other in zip(entries, turned, strict=True)]

        machines.change(swap)
        for tag in [tag for tag in machines.cached if "-set-" not in tag]:
            del machines.fake.manifests[CACHE, tag]
        assert machines.digest("two", "--push") == first


def _sealed(change: Callable[[dict[str, Any]], None]) -> Callable[[list[Entry]], list[Entry]]:
    """Change the documents of layers, as somebody who has the key."""

    def changed(entry: Entry) -> Entry:
        found = open_entry(entry, "layers")
        if found is None:
            return entry
        change(found.value)
        return Sealer(KEY.encode()).sealed(entry.recipe, found)

    return lambda entries: [changed(each) for each in entries]


def _wrong_diff_id(value: dict[str, Any]) -> None:
    value["diff_id"] = f"sha256:{'0' * 64}"


def _wrong_unpacked_size(value: dict[str, Any]) -> None:
    value["unpacked"] += 512


class TestFaults:
    """Each gives the image that a build without the cache gives."""

    @pytest.fixture(autouse=True)
    def _without_pauses(self, no_waiting: None) -> None:
        pass

    @pytest.mark.parametrize("change", [_wrong_diff_id, _wrong_unpacked_size])
    def test_claims_that_unpacking_refutes(self, machines: Machines, change: Callable[[dict[str, Any]], None]) -> None:
        first = machines.built(*ARCHIVE)
        machines.change(_sealed(change))
        outcome = machines.build("two", *ARCHIVE)
        assert outcome.code == 0
        assert "not what the registry cache says" in outcome.err
        assert machines.digest("two", *ARCHIVE) == first, "nothing wrong was kept"
        machines.lose_wheels()
        assert machines.digest("three", *ARCHIVE) == first, "the cache was corrected"

    @pytest.mark.parametrize("options", [("--push",), ARCHIVE])
    def test_a_blob_that_is_gone(self, machines: Machines, fake: FakeRegistry, options: tuple[str, ...]) -> None:
        first = machines.built(*options)
        fake.blobs.clear()
        assert machines.digest("two", *options) == first
        machines.lose_wheels()
        assert machines.digest("three", *options) == first

    @pytest.mark.parametrize("length", [0, 100])
    def test_a_blob_that_is_cut(self, machines: Machines, fake: FakeRegistry, length: int) -> None:
        first = machines.built(*ARCHIVE)
        for key, data in [*fake.blobs.items()]:
            fake.blobs[key] = data[:length]
        assert machines.digest("two", *ARCHIVE) == first

    def test_a_blob_that_does_not_end(self, machines: Machines, fake: FakeRegistry) -> None:
        first = machines.built(*ARCHIVE)
        for key, data in [*fake.blobs.items()]:
            fake.blobs[key] = data + bytes(1 << 20)
        assert machines.digest("two", *ARCHIVE) == first

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{}",
            b"[]",
            b"no JSON",
            b"{" * 100_000,
            json.dumps({"mediaType": "x", "layers": [], "config": {}}).encode(),
            bytes(5 << 20),
        ],
        ids=["empty", "object", "list", "text", "deep", "other", "huge"],
    )
    def test_manifests_of_anything_else(self, machines: Machines, fake: FakeRegistry, data: bytes) -> None:
        first = machines.built("--push")
        for tag in machines.cached:
            fake.add_manifest(CACHE, tag, data, "application/vnd.oci.image.manifest.v1+json")
        assert machines.digest("two", "--push") == first
        machines.lose_wheels()
        assert machines.digest("three", "--push") == first, "the cache was corrected"

    @pytest.mark.parametrize(
        "lines",
        [b"", b"x", zlib.compress(b""), zlib.compress(b"\xff \xff \xff\n" * 3), zlib.compress(bytes(3 << 20))],
        ids=["empty", "not compressed", "nothing", "no lines", "bomb"],
    )
    def test_lines_of_anything_else(
        self, machines: Machines, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch, lines: bytes
    ) -> None:
        monkeypatch.setattr("hatch_docker.caching.entry.LARGEST_TEXT", 2 << 20)
        first = machines.built("--push")
        for tag, data in machines.cached.items():
            document = json.loads(data)
            document["annotations"]["io.github.hatch-docker.cache.lines"] = base64.b64encode(lines).decode()
            fake.add_manifest(CACHE, tag, json.dumps(document).encode(), document["mediaType"])
        assert machines.digest("two", "--push") == first

    @pytest.mark.parametrize("status", [401, 404, 500])
    def test_refused_reads(self, machines: Machines, fake: FakeRegistry, status: int) -> None:
        first = machines.built("--push")
        fake.failures = [Failure("GET", CACHE, status, times=1000)]
        assert machines.digest("two", "--push") == first
        assert status == 404 or len(fake.sent("GET", CACHE)) <= 6, "one failure is enough"

    @pytest.mark.parametrize(("method", "status"), [("POST", 401), ("POST", 507), ("PUT", 403), ("PUT", 413)])
    def test_refused_writes(self, machines: Machines, fake: FakeRegistry, method: str, status: int) -> None:
        fake.failures = [Failure(method, CACHE, status, times=1000)]
        outcome = machines.build("one", "--push")
        assert outcome.code == 0
        assert "did not take all of this build" in outcome.err
        assert (APP, "1") in fake.manifests

    def test_a_host_that_is_down(self, machines: Machines) -> None:
        outcome = machines.build("one", "--push", HATCH_DOCKER_CACHE="127.0.0.1:1/team/cache")
        assert outcome.code == 0
        assert outcome.err.count("127.0.0.1:1/team/cache is not used") == 1

    @pytest.mark.parametrize("what", ["/manifests/", "/blobs/sha256"])
    def test_a_host_that_is_slow(
        self, machines: Machines, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        first = machines.built(*ARCHIVE)
        monkeypatch.setattr(source, "PATIENCE", 0.3)
        fake.stalled = f"{CACHE}{what}"
        outcome = machines.build("two", *ARCHIVE)
        fake.stalled = ""
        assert outcome.code == 0
        assert "it is too slow" in outcome.err
        assert machines.digest("two", *ARCHIVE) == first

    def test_a_host_that_is_slow_to_take_entries(
        self, machines: Machines, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hatch_docker.caching.writing._SECONDS", 0.3)
        fake.stalled = f"{CACHE}/blobs/uploads"
        outcome = machines.build("one", "--push")
        assert outcome.code == 0
        assert "did not take all of this build: it is too slow" in outcome.err

    @pytest.mark.parametrize("kind", ["500", "404", "hang up", "cut"])
    def test_one_fault_at_any_request(self, machines: Machines, fake: FakeRegistry, kind: str) -> None:
        digests = {machines.built(*ARCHIVE)}
        blobs, manifests = fake.blobs, fake.manifests
        for number in range(1, 100):
            fake.blobs, fake.manifests, fake.fault = {**blobs}, {**manifests}, (number, kind)
            digests.add(machines.digest(f"two {number}", *ARCHIVE))
            if len(fake.requests) < number:
                break
        assert len(digests) == 1


def test_recipes_differ_by_kind_and_key() -> None:
    pairs = [("a", "b"), ("b", "a"), ("ab", ""), ("", "ab"), ("a", "b\0"), ("layers", "x"), ("own-layers", "x")]
    assert len({recipe_of(*pair) for pair in pairs}) == len(pairs)
