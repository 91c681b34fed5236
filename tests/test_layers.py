from __future__ import annotations

import functools
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from builds import entries_below
from fake_index import Notes
from hypothesis import given, settings
from hypothesis import strategies as st
from prepared_maker import TARGET, make_prepared

from hatch_docker.errors import ConfigError, ContentError
from hatch_docker.image.layers import (
    Demand,
    LayerMaker,
    Part,
    arrange,
    budget_of,
    cached_layer,
    digest_of,
    distribute,
    group,
)
from hatch_docker.index.artifact import SourceTree
from hatch_docker.oci.config import ImageConfig
from hatch_docker.oci.image import Image, validate
from hatch_docker.oci.layer import Entry, Plain
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.oci.spec import Platform
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace
from hatch_docker.support.progress import Progress
from hatch_docker.wheels.facts import WheelFacts
from hatch_docker.wheels.prepare import PreparedWheel

VENV = "app/.venv"
SMALL, MEDIUM, BIG = 10_000, 300_000, 2_000_000


@functools.cache
def _facts(folder: Path) -> WheelFacts:
    return make_prepared(folder / "wheel").facts


def wheel(folder: Path, name: str, size: int) -> PreparedWheel:
    facts = replace(_facts(folder), name=name, zipped=size)
    return PreparedWheel(facts=facts, filename=f"{name}.whl", digest=f"sha256:{name}", get=lambda _stop: Path(name))


@pytest.fixture(scope="session")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sizes")


_sizes = st.sampled_from([1, SMALL, 999_999, 1_000_000, BIG, 3 * BIG])
_wheels = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=4), _sizes, max_size=30)
_budgets = st.integers(1, 40)


def own_part(own: PreparedWheel, skeleton: Sequence[Entry] = (), present: frozenset[str] = frozenset()) -> Part:
    contents = (f"{own.facts.name} {own.facts.version}",)
    return Part(contents=contents, wheels=(own,), entries=tuple(skeleton), present=present, splice=False)


def names(parts: Sequence[Part]) -> list[tuple[str, ...]]:
    return [tuple(each.facts.name for each in part.wheels) for part in parts]


def test_digest_of_names_that_are_not_utf_8() -> None:
    assert digest_of(["caf\udce9"]) != digest_of(["caf\udce8"])


class TestLocalWheels:
    @given(
        wheels=_wheels, local=st.sets(st.text("abcdefgh", min_size=1, max_size=4), max_size=4), most=st.integers(3, 9)
    )
    def test_share_a_layer_just_below_the_project(
        self, sizes: Path, wheels: dict[str, int], local: set[str], most: int
    ) -> None:
        tree = SourceTree(url="file:///lib")
        all_wheels = [replace(wheel(sizes, name, SMALL), tree=tree) for name in sorted(local)]
        all_wheels += [wheel(sizes, name, size) for name, size in wheels.items() if name not in local]
        extra = [Entry(path="etc/app", content=b"")]
        demand = Demand(wheels=len(all_wheels) > len(local), local=bool(local), extra=True)
        budget = budget_of(most, demand, "max-layers").wheels
        parts = arrange(all_wheels, own_part(wheel(sizes, "own", SMALL)), extra=extra, budget=budget)
        found = names(parts)
        assert len(parts) <= most
        assert found[-1] == ("own",)
        assert sorted(name for part in found for name in part) == sorted({*wheels, *local, "own"})
        if local:
            assert set(found[-2]) == (local if budget else {*wheels, *local})
            assert parts[-3].contents == ("extra files",)
        else:
            assert parts[-2].contents == ("extra files",)


_demands = st.builds(
    Demand,
    below=st.integers(0, 3),
    wheels=st.booleans(),
    local=st.booleans(),
    extra=st.booleans(),
    bytecode=st.booleans(),
)


class TestBudget:
    @given(demand=_demands, most=st.integers(3, 100))
    def test_is_never_exceeded_and_the_least_is_enough(self, demand: Demand, most: int) -> None:
        least = demand.below + demand.extra + demand.local + (demand.wheels and not demand.local) + demand.bytecode + 1
        if most < least:
            with pytest.raises(ConfigError, match=f"needs {least} layers above its base, not {most}: set {least}"):
                budget_of(most, demand, "max-layers")
            return
        budget = budget_of(most, demand, "max-layers")
        used = demand.below + demand.extra + demand.local + budget.wheels + 1
        if demand.bytecode:
            # Above the standard library, each group, local wheels and the project; or one for all.
            used += 1 if budget.joint else 2 + budget.wheels + demand.local
        assert most - 1 <= used <= most or (demand.local and not budget.wheels)
        assert budget.wheels or not demand.wheels or demand.local


class TestGrouping:
    @given(wheels=_wheels, budget=_budgets)
    def test_keeps_the_budget_and_contains_each_wheel_once(
        self, sizes: Path, wheels: dict[str, int], budget: int
    ) -> None:
        parts = group([wheel(sizes, name, size) for name, size in wheels.items()], budget)
        assert len(parts) <= budget
        assert sorted(name for part in names(parts) for name in part) == sorted(wheels)

    @given(wheels=_wheels, budget=_budgets, data=st.data())
    def test_does_not_depend_on_the_order_of_wheels(
        self, sizes: Path, wheels: dict[str, int], budget: int, data: st.DataObject
    ) -> None:
        prepared = [wheel(sizes, name, size) for name, size in wheels.items()]
        assert group(prepared, budget) == group(data.draw(st.permutations(prepared)), budget)

    @given(wheels=_wheels, budget=_budgets, size=st.sampled_from([SMALL, BIG]))
    def test_new_wheel_changes_few_groups(self, sizes: Path, wheels: dict[str, int], budget: int, size: int) -> None:
        prepared = [wheel(sizes, name, size) for name, size in wheels.items()]
        before = set(names(group(prepared, budget)))
        after = set(names(group([*prepared, wheel(sizes, "zzzz", size)], budget)))
        # The group that it joins. If it takes the layer of another big wheel: that layer, and the group that the other
        # wheel joins.
        if len(before - after) > (1 if size == SMALL else 2):
            # There are more groups now: parts of the former.
            moved = {"zzzz", *(name for part in before if len(part) == 1 for name in part)}
            assert all(any({*part} - moved <= {*former} for former in before) for part in after)
        elif size == BIG and ("zzzz",) in after and len(after) == len(before) + 1:
            assert before < after

    @given(wheels=_wheels, budget=_budgets, other=_wheels)
    def test_groups_of_a_larger_project_are_those_of_a_smaller_one_or_parts_of_them(
        self, sizes: Path, wheels: dict[str, int], budget: int, other: dict[str, int]
    ) -> None:
        whole = names(group([wheel(sizes, name, MEDIUM) for name in {*wheels, *other}], budget))
        some = names(group([wheel(sizes, name, MEDIUM) for name in wheels], budget))
        together = {tuple(name for name in part if name in wheels) for part in whole} - {()}
        assert all(any({*part} <= {*group} for group in some) for part in together)
        if MEDIUM * len(wheels) >= 8_000_000:
            assert together == {*some}

    def test_groups_have_the_size_of_a_big_wheel_if_there_are_several(self) -> None:
        found = [len(distribute({f"p{number}": MEDIUM for number in range(count)}, 40)) for count in (1, 6, 8, 16, 99)]
        assert found == [1, 1, 2, 4, 8]

    def test_big_wheels_have_their_own_layers_below_the_groups(self, sizes: Path) -> None:
        prepared = [wheel(sizes, name, size) for name, size in {"z": BIG, "a": SMALL, "m": 3 * BIG, "b": SMALL}.items()]
        assert names(group(prepared, 40))[:2] == [("m",), ("z",)]

    def test_bigger_wheels_are_lower_and_stay_there_if_they_grow_a_little(self) -> None:
        sizes = {"a": BIG, "b": 5 * BIG, "c": 5 * BIG + 1, "d": 30 * BIG, "e": SMALL}
        grown = sizes | {"b": 6 * BIG, "c": 4 * BIG + SMALL * 20}
        for each in (sizes, grown):
            assert [found.names for found in distribute(each, 40)] == [("d",), ("b",), ("c",), ("a",), ("e",)]

    def test_biggest_wheels_come_first_if_the_budget_is_small(self, sizes: Path) -> None:
        prepared = [wheel(sizes, name, size) for name, size in {"a": BIG, "b": 3 * BIG, "c": BIG, "d": SMALL}.items()]
        assert names(group(prepared, 2)) == [("b",), ("a", "c", "d")]
        assert names(group(prepared, 1)) == [("a", "b", "c", "d")]

    def test_normalizes_names(self, sizes: Path) -> None:
        many = [wheel(sizes, f"p{number}", MEDIUM) for number in range(99)]
        for old, new in (("Flask", "flask"), ("ruamel.yaml", "ruamel-yaml")):
            parts = [names(group([*many, wheel(sizes, name, SMALL)], 40)) for name in (old, new)]
            assert [sorted(set(part) - {old, new}) for part in parts[0]] == [
                sorted(set(part) - {old, new}) for part in parts[1]
            ]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def made(cache: Cache, *parts: Part, **changes: Any) -> list[MadeLayer]:
    defaults: dict[str, Any] = {
        "target": TARGET,
        "compression": "gzip",
        "threads": 2,
        "progress": Progress(),
    }
    layers = LayerMaker(cache=cache, **{**defaults, **changes}).layers(parts)
    config = ImageConfig(platform=Platform(architecture="amd64"))
    assert validate(Image(config=config, layers=tuple(each.layer for each in layers))) == []
    return layers


def members(layer: MadeLayer) -> dict[str, bytes | None]:
    with layer.layer.open() as blob, tarfile.open(fileobj=blob, mode="r:gz") as tar:
        return {
            member.name: tar.extractfile(member).read() if member.isreg() else None  # type: ignore[union-attr]
            for member in tar
        }


def test_progress_counts_files_that_are_not_pruned(cache: Cache, tmp_path: Path) -> None:
    files = {"demo/__init__.py": b"a" * 3000, "demo/tests/big.py": b"b" * 99_999}
    (part,) = group([replace(make_prepared(tmp_path, files=files), pruned={"demo/tests/big.py": "tests"})], 1)
    notes = Notes()
    (layer,) = made(cache, part, progress=notes)
    # The rest are parent directories and the end of the archive.
    ((_, _, total),) = notes.tasks
    assert layer.layer.unpacked - 20_000 < total <= layer.layer.unpacked


class TestCaching:
    @pytest.fixture
    def part(self, tmp_path: Path) -> Part:
        (part,) = group([make_prepared(tmp_path / "wheels", "one"), make_prepared(tmp_path / "wheels", "two")], 1)
        return part

    def test_makes_a_layer_once(self, cache: Cache, part: Part) -> None:
        (first,) = made(cache, part)
        (again,) = made(Cache(cache.root), part)
        assert (first.reused, again.reused) == (False, True)
        assert again.layer.descriptor == first.layer.descriptor
        assert (again.layer.diff_id, again.layer.unpacked) == (first.layer.diff_id, first.layer.unpacked)
        assert first.contents == ("one 1.0", "two 1.0")

    def test_each_part_is_announced_when_its_layer_is_there(self, cache: Cache, part: Part) -> None:
        announced: list[tuple[Part, bool]] = []

        def then(part: Part) -> None:
            announced.append((part, cached_layer(part, TARGET, "gzip", cache) is not None))

        for _ in range(2):
            made(cache, part, then=then)
        assert announced == [(part, True), (part, True)]

    def test_does_not_depend_on_the_paths_of_wheels(self, tmp_path: Path, part: Part) -> None:
        (moved,) = group(
            [make_prepared(tmp_path / "elsewhere", "two"), make_prepared(tmp_path / "elsewhere", "one")], 1
        )
        (one,), (other,) = made(Cache(tmp_path / "1"), part), made(Cache(tmp_path / "2"), moved)
        assert one.layer.descriptor == other.layer.descriptor
        assert made(Cache(tmp_path / "1"), moved)[0].reused

    @pytest.mark.parametrize("damage", [b"", b"{}", b"[" * 10_000])
    def test_damaged_cache_is_a_miss(self, cache: Cache, part: Part, damage: bytes) -> None:
        (first,) = made(cache, part)
        for path in [*(cache.root / "layers").iterdir(), *(cache.root / "blobs" / "sha256").iterdir()]:
            data = path.read_bytes()
            path.write_bytes(damage)
            (again,) = made(Cache(cache.root), part)
            assert not again.reused
            assert again.layer.descriptor == first.layer.descriptor
            path.write_bytes(data)

    @pytest.mark.parametrize(
        "wrong", [{}, {"descriptor": {}}, {"descriptor": 5}, {"unpacked": "x"}, {"unpacked": None}]
    )
    def test_record_of_another_version_is_a_miss(self, cache: Cache, part: Part, wrong: dict[str, Any]) -> None:
        made(cache, part)
        (path,) = (cache.root / "layers").iterdir()
        key = json.loads(path.read_bytes().partition(b"\n")[2])["key"]
        record = cache.get("layers", key) or {}
        cache.put("layers", key, {**record, **wrong} if wrong else {})
        assert not made(Cache(cache.root), part)[0].reused

    @pytest.mark.parametrize(
        "changes",
        [
            {"compression": "gzip-single"},
            {"compression": "zstd"},
            {"target": replace(TARGET, version="3.12.1")},
            {"target": replace(TARGET, free_threaded=True)},
        ],
    )
    def test_key_contains_the_inputs_of_a_layer(self, cache: Cache, part: Part, changes: dict[str, Any]) -> None:
        (first,) = made(cache, part)
        (other,) = made(cache, part, **changes)
        assert not other.reused
        assert other.layer.descriptor != first.layer.descriptor
        assert made(cache, part)[0].reused

    def test_key_contains_the_pruned_files(self, cache: Cache, part: Part) -> None:
        (first,) = made(cache, part)
        pruned = replace(part, wheels=(replace(part.wheels[0], pruned={"one.py": "globs"}), part.wheels[1]))
        (other,) = made(cache, pruned)
        assert not other.reused
        assert set(members(first)) - set(members(other)) == {f"{VENV}/lib/python3.13/site-packages/one.py"}

    @pytest.mark.parametrize(
        "changes",
        [
            {"target": replace(TARGET, version="3.13.9", interpreter="/usr/bin/python3.13")},
            {"target": replace(TARGET, platform=Platform(architecture="arm64"))},
            {"threads": 1},
        ],
    )
    def test_key_ignores_other_inputs(self, cache: Cache, part: Part, changes: dict[str, Any]) -> None:
        made(cache, part)
        assert made(cache, part, **changes)[0].reused

    def test_reads_files_of_the_host_each_time(self, cache: Cache) -> None:
        for text in (b"one", b"two"):
            entry = Entry(path="etc/x", content=Plain(size=3, read=lambda offset, length, text=text: text))  # type: ignore[misc]
            (layer,) = made(cache, Part(contents=("extra files",), entries=(entry,), splice=False))
            assert not layer.reused
            assert members(layer)["etc/x"] == text

    def test_extra_files_have_their_own_layer(self, tmp_path: Path) -> None:
        entry = Entry(path="etc/x", mode=0o755)
        own = make_prepared(tmp_path)
        parts = arrange([own], own_part(own), extra=[entry], budget=9)
        assert [part.contents for part in parts] == [("demo 1.0",), ("extra files",), ("demo 1.0",)]


class TestContent:
    def test_last_name_wins_if_two_wheels_have_one_path(self, tmp_path: Path, cache: Cache) -> None:
        prepared = [make_prepared(tmp_path, name, {"shared/x.py": name}) for name in ("two", "one")]
        (layer,) = made(cache, *group(prepared, 1))
        assert members(layer)[f"{VENV}/lib/python3.13/site-packages/shared/x.py"] == b"two"

    def test_project_s_layer_has_no_directories_of_the_base(self, tmp_path: Path, cache: Cache) -> None:
        part = own_part(make_prepared(tmp_path), [Entry(path="app/data", mode=0o755)], frozenset({"app"}))
        (layer,) = made(cache, part)
        assert "app" not in members(layer)
        assert {"app/data", f"{VENV}/lib/python3.13/site-packages/demo.py"} <= set(members(layer))
        (other,) = made(cache, replace(part, present=frozenset()))
        assert "app" in members(other)

    @settings(max_examples=5)
    @given(threads=st.integers(1, 8))
    def test_layers_are_in_the_order_of_their_parts(
        self, tmp_path_factory: pytest.TempPathFactory, threads: int
    ) -> None:
        folder = tmp_path_factory.mktemp("order")
        parts = [own_part(make_prepared(folder, name)) for name in "edcba"]
        layers = made(Cache(folder / "cache"), *parts, threads=threads)
        assert [layer.contents for layer in layers] == [(f"{name} 1.0",) for name in "edcba"]

    def test_damaged_content_is_not_kept(self, tmp_path: Path, cache: Cache) -> None:
        damaged = make_prepared(tmp_path, files={"demo.bin": bytes(range(256)) * 200})
        data = bytearray(damaged.path.read_bytes())
        data[data.index(b"demo.bin") + 40] ^= 0xFF
        damaged.path.write_bytes(data)
        with pytest.raises(ContentError, match=r"demo-1\.0-py3-none-any\.whl: .*demo\.bin. is damaged"):
            made(cache, *group([damaged], 1))
        assert not entries_below(cache.root)
