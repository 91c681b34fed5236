"""`hatch-docker cache`: sizes by kind, and what it removes and keeps."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import builds
import pytest
from base_maker import serve
from builds import Bench, Outcome, files_below
from fake_registry import FakeRegistry

from hatch_docker.support.cache import Cache
from hatch_docker.support.streams import digest_of

DAY = 86400


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def run(bench: Bench, *arguments: str, **env: str) -> Outcome:
    return builds.command("cache", *arguments, env=builds.environment(bench.cache, **env), folder=bench.root)


def document(bench: Bench, *arguments: str, **env: str) -> dict[str, Any]:
    outcome = run(bench, *arguments, "--json", **env)
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def sizes(bench: Bench) -> dict[str, int]:
    return {each["kind"]: each["entries"] for each in document(bench)["kinds"]}


def fill(bench: Bench, name: str, *, days: float = 0) -> str:
    """A blob that nothing names, used so many days ago; its digest."""
    cache, data = Cache(bench.cache), name.encode() * 5000
    digest = digest_of(data)
    cache.add([data], digest, what="it")
    when = time.time() - days * DAY
    os.utime(bench.cache / "verified" / "sha256" / digest.partition(":")[2], (when, when))
    return digest


def blobs(bench: Bench) -> set[str]:
    return {f"sha256:{path.name}" for path in files_below(bench.cache / "blobs")}


class TestInfo:
    def test_a_build_has_entries_of_each_kind(self, bench: Bench) -> None:
        with FakeRegistry() as registry:
            serve(bench.base(), registry, "team/base", "1")
            project = bench.project(base="", wheels=[bench.wheel("a")], docker=f'base = "{registry.host}/team/base:1"')
            outcome = builds.command(
                "build", "-q", "-o", "type=oci,dest=x.tar", env=builds.environment(bench.cache), folder=project
            )
        assert outcome.code == 0, outcome.err
        found = sizes(bench)
        assert found["downloads"] == 1
        # Manifest, config, layer, and what was read of it.
        assert found["bases"] == 4
        assert found["layers"] == 2
        assert found["built"] == 1
        assert found["facts"] > 5
        whole = document(bench)
        assert whole["bytes"] == sum(each["bytes"] for each in whole["kinds"])
        assert (whole["directory"], whole["limit"]) == (str(bench.cache), 10 * 10**9)
        lines = run(bench).out.splitlines()
        assert lines[0] == str(bench.cache)
        assert [line.split()[0] for line in lines[1:]] == [*found, "total"]
        assert lines[-1].endswith("of at most 10.0 GB")

    def test_of_a_cache_that_does_not_exist(self, bench: Bench) -> None:
        assert document(bench, HATCH_DOCKER_CACHE_SIZE="0")["bytes"] == 0
        assert document(bench, HATCH_DOCKER_CACHE_SIZE="0")["limit"] is None
        assert run(bench, "info").code == 0
        assert run(bench, "dir").out == f"{bench.cache}\n"
        assert not bench.cache.exists()


class TestPrune:
    def test_removes_what_was_not_used_for_a_month(self, bench: Bench) -> None:
        fill(bench, "old", days=31)
        new = fill(bench, "new", days=29)
        outcome = run(bench, "prune")
        assert outcome.out.startswith("removed 1 entries, ")
        assert blobs(bench) == {new}

    def test_to_another_age_or_size(self, bench: Bench) -> None:
        names = [fill(bench, f"b{number}", days=number + 1) for number in range(4)]
        assert document(bench, "prune", "--unused-for", "4")["entries"] == 1
        assert blobs(bench) == set(names[:3])
        assert document(bench, "prune", "--size", "40kB")["entries"] == 1
        assert blobs(bench) == set(names[:2])
        assert document(bench, "prune", HATCH_DOCKER_CACHE_SIZE="1") == {"entries": 2, "bytes": 32768, "in_use": 0}

    def test_dry_run_removes_nothing(self, bench: Bench) -> None:
        old = fill(bench, "old", days=31)
        assert run(bench, "prune", "--dry-run").out.startswith("would remove 1 entries, ")
        assert blobs(bench) == {old}


class TestClear:
    def test_removes_everything(self, bench: Bench) -> None:
        fill(bench, "old", days=1)
        Cache(bench.cache).put("facts", "a", {})
        for path in files_below(bench.cache / "facts"):
            os.utime(path, (0, 0))
        assert document(bench, "clear")["entries"] == 2
        assert blobs(bench) == set()
        assert document(bench)["bytes"] == 0

    def test_some_kinds(self, bench: Bench) -> None:
        fill(bench, "old", days=1)
        Cache(bench.cache).put("layers", "a", {"descriptor": {"digest": fill(bench, "layer", days=1)}})
        assert (sizes(bench)["downloads"], sizes(bench)["layers"]) == (1, 1)
        assert document(bench, "clear", "--kind", "layers", "--kind", "logs")["entries"] == 1
        assert (sizes(bench)["downloads"], sizes(bench)["layers"]) == (1, 0)

    @pytest.mark.skipif(os.name == "nt", reason="Windows does not say which processes ended")
    def test_what_a_running_build_uses_stays(self, bench: Bench) -> None:
        used, old = fill(bench, "used", days=1), fill(bench, "old", days=1)
        running = Cache(bench.cache)
        assert running.blob(used)
        assert run(bench, "clear").out == "removed 1 entries, 20.5 kB; 24.6 kB are in use\n"
        assert blobs(bench) == {used}
        assert old not in blobs(bench)

    def test_nothing_in_a_directory_of_others(self, bench: Bench) -> None:
        bench.cache.mkdir()
        (bench.cache / "notes.txt").touch()
        (bench.cache / "facts").mkdir()
        (bench.cache / "facts" / "mine").touch()
        outcome = run(bench, "clear")
        assert outcome.code == 1
        assert "nothing can be removed from here" in outcome.err
        assert (bench.cache / "facts" / "mine").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "--size", "5GB"], "--size: only 'prune' has this option"),
        (["clear", "--unused-for", "3"], "--unused-for: only 'prune' has this option"),
        (["dir", "--dry-run"], "--dry-run: only 'prune' and 'clear' have this option"),
        (["info", "--kind", "layers"], "--kind: only 'prune' and 'clear' have this option"),
        (["prune", "--unused-for", "-1"], "--unused-for: write a number of days"),
        (["prune", "--size", "big"], "--size: 'big' is not a size"),
        (["clear", "--kind", "wheels"], "invalid choice: 'wheels'"),
    ],
)
def test_wrong_options(bench: Bench, arguments: list[str], message: str) -> None:
    outcome = run(bench, *arguments)
    assert outcome.code == 2
    assert message in outcome.err
