"""Builds with one fault at each request: each is right or ends with a message, and the next one is right.

`HATCH_DOCKER_TEST_TRIALS` is how many builds with a fault are tried, of all scenes, hosts, requests and faults; 100000
tries each of them once. `HATCH_DOCKER_TEST_SEED` chooses others.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import builds
import pytest
from base_maker import serve
from builds import Bench, Outcome
from debian_bench import DebianBench, fake_debian
from fake_index import FakeIndex
from fake_index import serving as serving_index
from fake_registry import PASSWORD, USER, FakeRegistry
from faults import FAULTS, FaultProxy

from hatch_docker.caching import source, writing
from hatch_docker.oci.registry import documents, upload
from hatch_docker.support import silence
from hatch_docker.support.dataclasses import dataclass, field

pytestmark = [pytest.mark.trials, pytest.mark.usefixtures("no_waiting")]

KEY = "a key of our caches"
# In seconds: what a build takes if a host is silent, with the limits below, on a busy machine.
LONGEST = 60


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """The same rules with other times: a minute is a third of a second."""
    times: tuple[tuple[Any, str, Any], ...] = (
        (silence, "OF_CONNECTION", 0.33),
        (silence, "OF_HOST", 1.0),
        (upload, "_STORING_SECONDS", 0.42),
        (upload, "_FIRST_WAIT", 0.0),
        (documents, "_READ_BACK_WAITS", (0.0, 0.0, 0.0)),
        (source, "PATIENCE", 1.0),
        (writing, "_SECONDS", 1.0),
    )
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in times:
            patch.setattr(module, name, value)
        yield


@dataclass
class Scene:
    """A build whose requests go through `proxies`, by the name of the host. `build` takes the directory of the cache.

    `restore` lets all hosts forget earlier builds, and `digest` is the image's, after a build. Faults of `spare` hosts
    never make a build fail, since it can do without these.
    """

    proxies: dict[str, FaultProxy]
    build: Callable[[Path], Outcome]
    restore: Callable[[], None]
    digest: Callable[[], str]
    spare: frozenset[str] = frozenset()
    counts: dict[str, int] = field(default_factory=dict)
    expected: str = ""


@dataclass(frozen=True)
class Case:
    """A fault at the request `number` of a host, and at all later ones if it is `lasting`."""

    scene: str
    host: str
    number: int
    fault: str
    lasting: bool


@contextlib.contextmanager
def pushed(root: Path) -> Iterator[Scene]:
    """The base is pulled from one registry, wheels come from an index, and the image is pushed to another registry."""
    bench = _bench(root)
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(FakeRegistry(auth="bearer", anonymous_pull=True))
        target = stack.enter_context(FakeRegistry(auth="bearer"))
        index = stack.enter_context(serving_index())
        hosts = {"base": base.host, "target": target.host, "index": index.host}
        proxies = {name: stack.enter_context(FaultProxy(host)) for name, host in hosts.items()}
        base.realm, target.realm = (f"http://{proxies[name].host}/token" for name in ("base", "target"))
        serve(bench.base(), base, "library/base", "1")
        project = _project(bench, index)
        login = root / "docker" / "config.json"
        login.parent.mkdir()
        login.write_text(json.dumps({"auths": {proxies["target"].host: {"username": USER, "password": PASSWORD}}}))
        settings = {
            "HATCH_DOCKER_BASE": f"{proxies['base'].host}/library/base:1",
            "HATCH_DOCKER_INDEX_URL": f"http://{proxies['index'].host}/simple/",
            "HATCH_DOCKER_IMAGE": f"{proxies['target'].host}/team/shop",
            "DOCKER_CONFIG": str(login.parent),
        }

        def build(cache: Path) -> Outcome:
            return builds.build(project, env=builds.environment(cache, **settings), target="docker:push")

        yield Scene(proxies, build, lambda: _forget(target), lambda: _tagged(target, "team/shop", "1.0"))


@contextlib.contextmanager
def mirrored(root: Path) -> Iterator[Scene]:
    """The base is pulled from a mirror."""
    bench = _bench(root)
    with FakeRegistry() as origin, FakeRegistry() as mirror, FaultProxy(mirror.host) as proxy:
        for registry in (origin, mirror):
            serve(bench.base(), registry, "library/base", "1")
        settings = {
            "HATCH_DOCKER_BASE": f"{origin.host}/library/base:1",
            "HATCH_DOCKER_REGISTRY_MIRRORS": f"{origin.host}={proxy.host}",
        }
        yield _archived(bench, bench.project(), {"mirror": proxy}, settings, frozenset({"mirror"}))


@contextlib.contextmanager
def cached(root: Path) -> Iterator[Scene]:
    """What the build makes is in a registry cache."""
    bench = _bench(root)
    with FakeRegistry() as cache, FaultProxy(cache.host) as proxy:
        wheels = [bench.wheel(name) for name in ("alpha", "beta")]
        settings = {"HATCH_DOCKER_CACHE": f"{proxy.host}/cache", "HATCH_DOCKER_CACHE_KEY": KEY}
        scene = _archived(bench, bench.project(wheels=wheels), {"cache": proxy}, settings, frozenset({"cache"}))
        assert scene.build(root / "filling").code == 0
        blobs, manifests = dict(cache.blobs), dict(cache.manifests)

        def restore() -> None:
            _forget(cache)
            cache.blobs, cache.manifests = dict(blobs), dict(manifests)

        scene.restore = restore
        yield scene


@contextlib.contextmanager
def written(root: Path) -> Iterator[Scene]:
    """What the build makes is written to a registry cache that is empty."""
    bench = _bench(root)
    with FakeRegistry() as cache, FaultProxy(cache.host) as proxy:
        wheels = [bench.wheel(name) for name in ("alpha", "beta")]
        settings = {"HATCH_DOCKER_CACHE": f"{proxy.host}/cache", "HATCH_DOCKER_CACHE_KEY": KEY}
        scene = _archived(bench, bench.project(wheels=wheels), {"cache": proxy}, settings, frozenset({"cache"}))
        scene.restore = lambda: _forget(cache)
        yield scene


@contextlib.contextmanager
def debian(root: Path) -> Iterator[Scene]:
    """The base is made of packages of a Debian mirror."""
    (root / "archive").mkdir(parents=True)
    with fake_debian(root / "archive") as archive, FaultProxy(archive.host) as proxy:
        bench = DebianBench(root, archive)
        settings = archive.settings()
        settings["HATCH_DOCKER_DEBIAN_MIRROR"] = f"http://{proxy.host}/debian"
        yield _archived(bench, bench.project(), {"debian": proxy}, settings, frozenset())


SCENES = {"pushed": pushed, "mirrored": mirrored, "cached": cached, "written": written, "debian": debian}


def _bench(root: Path) -> Bench:
    root.mkdir()
    return Bench(root)


def _archived(
    bench: Bench, project: Path, proxies: dict[str, FaultProxy], settings: dict[str, str], spare: frozenset[str]
) -> Scene:
    def build(cache: Path) -> Outcome:
        shutil.rmtree(project / "dist", ignore_errors=True)
        return builds.build(project, env=builds.environment(cache, **settings))

    def digest() -> str:
        with tarfile.open(builds.archive_of(project)) as tar:
            (entry,) = json.load(tar.extractfile("index.json"))["manifests"]  # type: ignore[arg-type]
        return str(entry["digest"])

    return Scene(proxies, build, lambda: None, digest, spare)


def _project(bench: Bench, index: FakeIndex) -> Path:
    """A project whose lock has no URLs, so that the index is asked for its files."""
    lines = []
    for name in ("alpha", "beta"):
        wheel = bench.wheel(name)
        lines.append(f"{name}==1.0 --hash=sha256:{index.add(name, wheel.name, wheel.read_bytes())}\n")
    return bench.project(
        dependencies=["alpha", "beta"],
        base="",
        files={"requirements.txt": "".join(lines)},
        docker='lock = "requirements.txt"',
    )


def _forget(registry: FakeRegistry) -> None:
    for each in (registry.blobs, registry.manifests, registry.uploads, registry.tokens, registry.requests):
        each.clear()


def _tagged(registry: FakeRegistry, name: str, tag: str) -> str:
    """What a tag names, in a registry that has all of it."""
    _, data = registry.manifests[name, tag]
    manifest = json.loads(data)
    for blob in (manifest["config"], *manifest["layers"]):
        assert (name, blob["digest"]) in registry.blobs
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Scene]]:
    root = tmp_path_factory.mktemp("scenes")
    with contextlib.ExitStack() as stack:
        made = {}
        for name, make in SCENES.items():
            scene = made[name] = stack.enter_context(make(root / name))
            scene.restore()
            for proxy in scene.proxies.values():
                proxy.prepare()
            outcome = scene.build(root / "cold" / name)
            assert outcome.code == 0, outcome.err
            scene.expected = scene.digest()
            scene.counts = {host: proxy.count for host, proxy in scene.proxies.items()}
        yield made


def cases(scenes: dict[str, Scene], fault: str) -> list[Case]:
    """The share of a fault in the builds that are to be tried."""
    every = [
        Case(name, host, number, fault, lasting)
        for name, scene in scenes.items()
        for host, count in scene.counts.items()
        for number in range(1, count + 1)
        for lasting in (False, True)
    ]
    share = -(-int(os.environ["HATCH_DOCKER_TEST_TRIALS"]) // len(FAULTS))
    chosen = random.Random(f"{os.environ.get('HATCH_DOCKER_TEST_SEED', '')} {fault}")
    return chosen.sample(every, min(share, len(every)))


@pytest.mark.parametrize("fault", FAULTS)
def test_builds_are_right_or_end_with_a_message(scenes: dict[str, Scene], tmp_path: Path, fault: str) -> None:
    wrong, right, times = [], 0, {}
    chosen = cases(scenes, fault)
    for number, case in enumerate(chosen):
        root = tmp_path / str(number)
        began = time.monotonic()
        problem, code = _tried(scenes[case.scene], case, root / "cache")
        times[case] = time.monotonic() - began
        right += code == 0
        if problem:
            wrong.append(f"{case}: {problem}")
        shutil.rmtree(root, ignore_errors=True)
    slowest = max(times, key=lambda case: times[case])
    print(f"{fault}: {len(chosen)} builds, {right} right, the slowest in {times[slowest]:.1f} s: {slowest}")  # noqa: T201
    assert not wrong, "\n".join(wrong)
    assert times[slowest] < LONGEST


def _tried(scene: Scene, case: Case, cache: Path) -> tuple[str, int]:
    """What is wrong with a build with a fault or with the next one, if anything is, and the first one's status."""
    scene.restore()
    proxy = scene.proxies[case.host]
    for each in scene.proxies.values():
        each.prepare()
    proxy.prepare(case.number, FAULTS[case.fault], lasting=case.lasting)
    with impatient():
        outcome = scene.build(cache)
    problem = _wrong(scene, case, outcome)
    proxy.prepare()
    again = scene.build(cache)
    if again.code:
        problem += f" then: {again.err}"
    elif scene.digest() != scene.expected:
        problem += " then another digest"
    return problem, outcome.code


def _wrong(scene: Scene, case: Case, outcome: Outcome) -> str:
    if "Traceback" in outcome.err or outcome.code not in (0, 1):
        return outcome.err
    if outcome.code == 0:
        return "" if scene.digest() == scene.expected else "another digest"
    if case.host in scene.spare:
        return f"failed: {outcome.err}"
    if scene.proxies[case.host].host not in outcome.err and "127.0.0.1:1" not in outcome.err:
        return f"the host is not named: {outcome.err}"
    return ""
