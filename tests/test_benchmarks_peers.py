"""What the benchmark beside Dockerfiles makes of its measurements."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import applications, methods, rendering, results
from peers.machine import NO_ENGINE
from peers.methods import BY_HATCH, OURS, Build, Workplace
from peers.results import Value
from peers.scenarios import SCENARIOS, UV


def seconds(method: str, *rounds: float, scenario: str = "line-load", application: str = "S") -> list[Value]:
    """Times of rounds 1, 2 …"""
    where = {"run": "first", "store": "classic", "application": application, "scenario": scenario, "method": method}
    return [Value(**where, round=number, kind="seconds", value=each) for number, each in enumerate(rounds, 1)]


def work(folder: Path) -> Workplace:
    return Workplace(
        folder=folder,
        application="app-s",
        engine=NO_ENGINE,
        registry="127.0.0.1:5000",
        mirror="",
        proxy="",
        mount="mine",
        uv="registry.example/uv",
        bytecode=True,
    )


def test_ratios_are_of_the_same_round() -> None:
    (made,) = results.comparisons([*seconds(OURS, 1, 4, 1), *seconds("F", 2, 8, 4)], "classic")
    assert made.ratios == (0.25, 0.5, 0.5)
    assert made.ratio == 0.5
    assert not made.peer_wins


def test_best_peer_has_the_lowest_median_and_is_no_build_of_ours() -> None:
    values = [*seconds(OURS, 3), *seconds("F", 9, 2, 3), *seconds("G", 4, 4, 4), *seconds(BY_HATCH, 1)]
    (made,) = results.comparisons(values, "classic")
    assert (made.peer, made.theirs) == ("F", 3)


def test_rounds_that_only_one_side_has_are_left_out() -> None:
    (made,) = results.comparisons([*seconds(OURS, 1, 1), *seconds("F", 2)], "classic")
    assert made.ratios == (0.5,)
    assert not results.comparisons(seconds(OURS, 1), "classic")


def test_stores_are_not_mixed() -> None:
    other = [dataclasses.replace(each, store="containerd") for each in seconds("F", 1)]
    assert not results.comparisons([*seconds(OURS, 1), *other], "classic")


@pytest.mark.parametrize(("ours", "missed"), [(1.2, False), (1.3, True)])
def test_aim(ours: float, missed: bool) -> None:
    (made,) = results.comparisons([*seconds(OURS, ours), *seconds("F", 1.0)], "classic")
    assert str(made.aim) == "≤ 1.2"
    assert made.missed is missed


def test_aim_with_seconds_on_top() -> None:
    values = [
        *seconds(OURS, 0.8, scenario="plan", application="L"),
        *seconds(UV, 0.9, scenario="plan", application="L"),
    ]
    (made,) = results.comparisons(values, "classic")
    assert not made.missed
    assert str(made.aim) == "≤ 0.6 + 0.3 s"


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)), min_size=1, max_size=9))
def test_median_is_within_the_spread(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = zip(*pairs, strict=True)
    (made,) = results.comparisons([*seconds(OURS, *ours), *seconds("F", *theirs)], "classic")
    assert made.ratios[0] <= made.ratio <= made.ratios[-1]


def test_rows_where_a_peer_wins_name_it() -> None:
    values = [
        *seconds(OURS, 2),
        *seconds("F", 1),
        *seconds(OURS, 1, scenario="cold"),
        *seconds("G", 4, scenario="cold"),
    ]
    lines = list(rendering.summary(values))
    assert "| one line → load | **2.00 (2.00–2.00), F wins** |" in lines
    assert "| cold | 0.25 (0.25–0.25) |" in lines
    (row,) = (line for line in rendering.details(values) if line.startswith("| one line → load | S | 2.00 | F 1.00 |"))
    assert row.endswith("| **F wins**, aim missed |")


def test_interrupted_run_keeps_its_results(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results.append(path, seconds(OURS, 1))
    results.append(path, seconds("F", 2))
    with path.open("a") as file:
        file.write('{"store": "classic", "appli')
    assert results.read([path]) == [*seconds(OURS, 1), *seconds("F", 2)]


def test_rounds_of_several_runs_count_together_and_are_not_mixed() -> None:
    second = [dataclasses.replace(each, run="later") for each in [*seconds(OURS, 9), *seconds("F", 3)]]
    (made,) = results.comparisons([*seconds(OURS, 1), *seconds("F", 2), *second], "classic")
    assert made.ratios == (0.5, 3.0)


def test_tables_say_of_how_many_rounds_they_are() -> None:
    values = [*seconds(OURS, 2, 2, 2), *seconds("F", 1, 1, 1), *seconds(OURS, 1, scenario="cold")]
    values += seconds("G", 4, scenario="cold")
    assert list(rendering.summary(values))[-1] == "\nMedians of 1–3 rounds."


def test_only_what_is_between_the_markers_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- peers: written by hatch run peers --render -->\nold\n<!-- end of peers -->\nafter\n")
    for _ in range(2):
        rendering.replace(path, "peers", iter(["new"]))
        marked = "<!-- peers: written by hatch run peers --render -->\nnew\n<!-- end of peers -->"
        assert path.read_text() == f"before\n{marked}\nafter\n"
    path.write_text("no markers")
    with pytest.raises(ValueError, match="has no lines"):
        rendering.replace(path, "peers", iter(["new"]))


@pytest.mark.parametrize("name", ["README.md", "benchmarks/README.md"])
def test_documentation_has_the_markers(name: str) -> None:
    text = (Path(__file__).parents[1] / name).read_text(encoding="utf-8")
    assert re.search(r"<!-- peers: .* -->.*<!-- end of peers -->", text, re.DOTALL)


@pytest.mark.parametrize("name", SCENARIOS)
def test_aims_and_applications_of_a_scenario_agree(name: str) -> None:
    assert set(SCENARIOS[name].aims) <= set(SCENARIOS[name].applications) <= set(applications.APPLICATIONS)


def test_each_round_has_dependencies_of_its_own() -> None:
    for kind in (applications.SMALL, applications.BIG):
        assert len(set(kind)) == len(kind) >= 2 * (applications.MOST_ROUNDS + 1)


@pytest.mark.parametrize("name", ["F", "G", "T"])
def test_dockerfile_of_a_workplace_has_its_own_cache_mounts(tmp_path: Path, name: str) -> None:
    methods.METHODS[name](work(tmp_path), Build())
    text = (tmp_path / "Dockerfile").read_text()
    assert text.count("type=cache,id=mine,") == text.count("type=cache")
    assert "--link" not in text


@pytest.mark.parametrize("name", ["F", "G"])
def test_registry_cache_uses_linked_copies_in_the_last_stage_only(tmp_path: Path, name: str) -> None:
    command = methods.METHODS[name](work(tmp_path), Build(push=True, cache="write"))
    builder, _, last = (tmp_path / "Dockerfile").read_text().rpartition("FROM ")
    assert "--link" not in builder
    assert last.count("COPY --link ") == last.count("COPY ") > 0
    assert "--cache-to=type=registry,ref=127.0.0.1:5000/cache,mode=max" in command.arguments


def test_push_that_keeps_no_image_is_left_to_buildkit(tmp_path: Path) -> None:
    arguments = methods.METHODS["F"](work(tmp_path), Build(push=True, cache="read", kept=False)).arguments
    assert "--push" not in arguments
    assert "--output=type=image,name=127.0.0.1:5000/app-s:latest,push=,store=false" in arguments


def test_registry_cache_of_ours_is_configured_by_the_environment(tmp_path: Path) -> None:
    environ = methods.METHODS[OURS](work(tmp_path), Build(push=True, cache="read")).environ
    assert environ["HATCH_DOCKER_CACHE"] == "127.0.0.1:5000/cache"
    assert environ["HATCH_DOCKER_CACHE_MODE"] == "read"
    assert "HATCH_DOCKER_CACHE" not in methods.METHODS[OURS](work(tmp_path), Build()).environ
