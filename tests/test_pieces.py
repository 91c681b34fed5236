"""Wheels that are too large for one layer."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from builds import Bench, command, environment, result_of
from fake_index import Notes
from hypothesis import given
from hypothesis import strategies as st
from prepared_maker import TARGET, make_prepared
from test_bytecode_layers import BASE, project_of, with_bytecode
from wheel_maker import Rows, row

from hatch_docker.image import layers as layers_module
from hatch_docker.image import pieces as pieces_module
from hatch_docker.image.layers import LayerMaker, Part, distribute, group
from hatch_docker.image.pieces import Piece, number_of_pieces, pieces_of
from hatch_docker.oci.layercache import MadeLayer
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import replace
from hatch_docker.wheels.prepare import PreparedWheel

SITE = "app/.venv/lib/python3.13/site-packages/"
LARGE = 200_000_000
FILES: dict[str, str | bytes] = {
    "demo/__init__.py": "x = 1\n",
    "demo/lib/big.so": bytes(range(256)) * 1000,
    "demo/data/a.bin": bytes(30_000),
    "demo/data/b.bin": bytes(30_000),
    "demo-1.0.data/scripts/run": "#!python\n",
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that small wheels exceed."""
    monkeypatch.setattr(pieces_module, "_PIECE", 100_000)
    monkeypatch.setattr(pieces_module, "_LARGE", 100_000)
    monkeypatch.setattr(layers_module, "_BIG", 100_000)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> PreparedWheel:
    return make_prepared(tmp_path_factory.mktemp("demo"))


def sized(wheel: PreparedWheel, sizes: Mapping[str, int]) -> PreparedWheel:
    """A wheel with other files, and its metadata."""
    info = [path for path in wheel.facts.files if ".dist-info/" in path]
    facts = replace(
        wheel.facts, files=dict.fromkeys([*sizes, *info], ""), sizes=(*sizes.values(), *(100 for _ in info))
    )
    return replace(wheel, facts=facts)


def contents_of(pieces: list[Piece], wheel: PreparedWheel) -> list[set[str]]:
    return [{path for path in wheel.facts.files if piece.has(f"{SITE}{path}")} for piece in pieces]


_names = st.text("ab/", min_size=1, max_size=6).map(lambda path: f"x/{path.replace('/', '')}/{path.count('/')}")
_files = st.dictionaries(_names, st.sampled_from([1, 1000, LARGE - 1, LARGE, LARGE + 1, 4 * LARGE]), max_size=20)


class TestPieces:
    @given(files=_files, count=st.integers(2, 9))
    def test_have_each_file_once(self, demo: PreparedWheel, files: dict[str, int], count: int) -> None:
        wheel = sized(demo, files)
        found = contents_of(pieces_of(wheel, count), wheel)
        assert len(found) <= count
        assert all(found)
        assert sorted(path for paths in found for path in paths) == sorted(wheel.facts.files)

    @given(files=_files, count=st.integers(2, 9), data=st.data())
    def test_do_not_depend_on_the_order_of_files(
        self, demo: PreparedWheel, files: dict[str, int], count: int, data: st.DataObject
    ) -> None:
        shuffled = dict(data.draw(st.permutations([*files.items()])))
        assert pieces_of(sized(demo, files), count) == pieces_of(sized(demo, shuffled), count)

    @given(files=_files, count=st.integers(2, 9), data=st.data())
    def test_stay_if_a_file_is_changed_or_added(
        self, demo: PreparedWheel, files: dict[str, int], count: int, data: st.DataObject
    ) -> None:
        path = data.draw(st.one_of(_names, st.sampled_from(sorted(files)) if files else _names))
        size = files.get(path, 1)
        changed = files | {path: data.draw(st.integers(LARGE, size)) if size >= LARGE else size // 2}
        before, after = ({frozenset(each) for each in _contents(demo, sizes, count)} for sizes in (files, changed))
        # A large file that is smaller now may give its piece to another one of the same size.
        if size < LARGE:
            assert len(before - after) <= 1

    @given(files=_files, count=st.integers(2, 9))
    def test_large_files_are_alone(self, demo: PreparedWheel, files: dict[str, int], count: int) -> None:
        wheel = sized(demo, files)
        alone = [paths for paths in contents_of(pieces_of(wheel, count), wheel) if paths & files.keys()]
        large = sorted((path for path in files if files[path] >= LARGE), key=lambda path: (-files[path], path))
        for path in large[: count - 1]:
            assert {path} in alone

    def test_metadata_is_in_the_highest(self, demo: PreparedWheel) -> None:
        wheel = sized(demo, {f"x/{number}": 1 for number in range(50)})
        *lower, highest = contents_of(pieces_of(wheel, 3), wheel)
        assert len(lower) == 2
        assert not [path for paths in lower for path in paths if ".dist-info" in path]
        assert "demo-1.0.dist-info/RECORD" in highest

    def test_without_files_are_left_out(self, demo: PreparedWheel) -> None:
        wheel = sized(demo, {"a.so": LARGE, "b.so": LARGE})
        (only,) = pieces_of(replace(wheel, pruned={"a.so": "globs", "b.so": "globs"}), 3)
        assert only.is_last

    def test_their_number_follows_from_the_size(self) -> None:
        sizes = [0, 1, 500_000_000, 500_000_001, 1_500_000_000]
        assert [number_of_pieces(size) for size in sizes] == [1, 1, 1, 2, 3]


def _contents(demo: PreparedWheel, sizes: Mapping[str, int], count: int) -> list[set[str]]:
    """The files of each piece; a changed size is another file."""
    wheel = sized(demo, sizes)
    found = contents_of(pieces_of(wheel, count), wheel)
    return [{f"{path} {sizes.get(path)}" for path in paths if path in sizes} for paths in found]


_sizes = st.dictionaries(
    st.text("abcd", min_size=1, max_size=3), st.sampled_from([1, 2_000_000, 600_000_000, 3_000_000_000]), max_size=12
)


class TestBudget:
    @given(sizes=_sizes, budget=st.integers(1, 60))
    def test_is_never_exceeded(self, sizes: dict[str, int], budget: int) -> None:
        groups = distribute(sizes, budget)
        assert sum(each.pieces for each in groups) <= max(1, budget)
        assert sorted(name for each in groups for name in each.names) == sorted(sizes)
        # A wheel has all its pieces or none.
        assert all(each.pieces in (1, number_of_pieces(sizes[each.names[0]])) for each in groups)

    @given(sizes=_sizes)
    def test_wheels_have_the_same_pieces_wherever_there_is_room(self, sizes: dict[str, int]) -> None:
        for each in distribute(sizes, 200):
            if sizes[each.names[0]] >= 1_000_000:
                assert each.pieces == number_of_pieces(sizes[each.names[0]])

    @given(sizes=_sizes, budget=st.integers(1, 60))
    def test_no_wheel_loses_its_layer_to_a_piece(self, sizes: dict[str, int], budget: int) -> None:
        groups = [each.names for each in distribute(sizes, budget)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layers_module, "number_of_pieces", lambda _size: 1)
            assert [each.names for each in distribute(sizes, budget)] == groups


def files_of(made: MadeLayer) -> dict[str, bytes]:
    with made.layer.open() as blob, tarfile.open(fileobj=blob, mode="r:gz") as tar:
        return {each.name: tar.extractfile(each).read() for each in tar if each.isreg()}  # type: ignore[union-attr]


def layers(folder: Path, *parts: Part, **options: Any) -> list[MadeLayer]:
    cache = Cache(folder / "cache")
    maker = LayerMaker(target=TARGET, compression="gzip", cache=cache, threads=2, progress=Notes(), **options)
    return maker.layers(parts)


@pytest.mark.usefixtures("small")
class TestLayers:
    def test_have_the_files_of_the_wheel(self, tmp_path: Path) -> None:
        wheel = make_prepared(tmp_path / "demo", files=FILES, method=0)
        parts = group([wheel], 20)
        assert [part.contents for part in parts] == [(f"demo 1.0 ({number} of 3)",) for number in (1, 2, 3)]
        (whole,) = layers(tmp_path, *group([wheel], 1))
        found = [files_of(made) for made in layers(tmp_path, *parts)]
        assert list(found[0]) == [f"{SITE}demo/lib/big.so"]
        assert {path: data for files in found for path, data in files.items()} == files_of(whole)
        assert sum(map(len, found)) == len(files_of(whole))
        assert all(made.reused for made in layers(tmp_path, *parts))

    def test_of_files_that_did_not_change_are_the_same_in_another_version(self, tmp_path: Path) -> None:
        old = make_prepared(tmp_path / "old", files=FILES, method=0)
        new = make_prepared(tmp_path / "new", files=FILES | {"demo/__init__.py": "x = 2\n"}, method=0)
        before, after = (layers(tmp_path, *group([wheel], 20)) for wheel in (old, new))
        kept = {made.layer.diff_id for made in before} & {made.layer.diff_id for made in after}
        assert before[0].layer.diff_id in kept
        # Its own piece has changed, and that of RECORD.
        assert len(before) - 2 <= len(kept) < len(before)

    @pytest.mark.parametrize("path", ["demo/lib/big.so", "demo/__init__.py"])
    def test_a_wrong_record_is_corrected_in_the_piece_that_has_it(self, tmp_path: Path, path: str) -> None:
        def wrong(rows: Rows) -> Rows:
            return [(*row(each[0], b"other")[:2], each[2]) if each[0] == path else each for each in rows]

        notes, results = Notes(), []
        for name, record in (("right", lambda rows: rows), ("wrong", wrong)):
            wheel = make_prepared(tmp_path / name, files=FILES, method=0, record=record)
            cache = Cache(tmp_path / name / "cache")
            options: dict[str, Any] = {"target": TARGET, "compression": "gzip", "threads": 2, "progress": notes}
            results.append(
                [made.layer.diff_id for made in LayerMaker(cache=cache, **options).layers(group([wheel], 20))]
            )
        assert results[0] == results[1]
        assert len([note for note in notes.notes if "wrong RECORD" in str(note)]) == 1

    def test_a_wrong_record_is_corrected_if_only_the_other_pieces_are_cached(self, tmp_path: Path) -> None:
        def wrong(rows: Rows) -> Rows:
            return [(*row(each[0], b"other")[:2], each[2]) if "big.so" in each[0] else each for each in rows]

        wheel = make_prepared(tmp_path / "demo", files=FILES, method=0, record=wrong)
        parts = group([wheel], 20)
        whole = layers(tmp_path / "whole", *parts)
        layers(tmp_path, *parts[:-1])
        shutil.rmtree(tmp_path / "cache/records")
        found = layers(tmp_path, *parts)
        assert [made.reused for made in found] == [True, True, False]
        assert [made.layer.diff_id for made in found] == [made.layer.diff_id for made in whole]


@pytest.mark.usefixtures("small")
def test_an_image_has_its_bytecode_above_all_pieces_and_the_plan_says_so(bench: Bench) -> None:
    project = project_of(bench, bench.wheel("demo", files=FILES, method=0), bench.wheel("other"))
    env = environment(bench.cache, HATCH_DOCKER_BYTECODE="true")
    made = with_bytecode(bench, project)
    names = [", ".join(each["contents"]) for each in result_of(project)["layers"]]
    parts = [name for name in names if "demo" in name]
    assert parts[0].startswith("demo 1.0 (1 of ")
    assert parts[-1] == "bytecode of demo"
    assert f"{SITE.replace('3.13', BASE.python[:4])}demo/lib/big.so" in made.contents
    planned = command("plan", "--json", env=env, folder=project)
    assert [", ".join(each["contents"]) for each in json.loads(planned.out)["images"][0]["layers"]] == names
