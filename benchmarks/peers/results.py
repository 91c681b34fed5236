"""Results: lines of JSON that a run appends, and what they say together."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .methods import BY_HATCH, OURS
from .scenarios import SCENARIOS, Aim


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One measured value: the time at which its run began, what it is of, and `kind`, which also says its unit.

    "seconds" of a whole process; bytes "up" and "down" of all connections to registries and the index; resident bytes
    of the "client" and of the "engine"; bytes of an image, "unpacked" in an engine and "packed" in a registry.
    """

    run: str
    store: str
    application: str
    scenario: str
    method: str
    round: int
    kind: str
    value: float


def append(path: Path, values: Iterable[Value]) -> None:
    """Add values to the end of a file of results."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(value)) + "\n" for value in values)


def read(paths: Iterable[Path]) -> list[Value]:
    """The values of files of results. A line that an interrupted run left unfinished is ignored."""
    values = []
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                values.append(Value(**json.loads(line)))
            except json.JSONDecodeError:
                continue
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Our times of a scenario beside those of the best peer, the one with the lowest median.

    `ratios` are ours divided by the peer's, of each round that has both, in ascending order. `within` is the median of
    our time divided by the aim for it.
    """

    scenario: str
    application: str
    ours: float
    peer: str
    theirs: float
    ratios: tuple[float, ...]
    aim: Aim | None
    within: float

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def peer_wins(self) -> bool:
        return self.ratio > 1

    @property
    def missed(self) -> bool:
        """Whether there is an aim, and it is missed."""
        return self.aim is not None and self.within > 1


# The beginning of the run, and the number in it.
Round = tuple[str, int]
Times = Mapping[tuple[str, str], Mapping[str, Mapping[Round, float]]]


def times(values: Iterable[Value], store: str) -> Times:
    """Seconds by (scenario, application), method and round, for one kind of store."""
    found: dict[tuple[str, str], dict[str, dict[Round, float]]] = defaultdict(lambda: defaultdict(dict))
    for value in values:
        if value.kind == "seconds" and value.store == store:
            found[value.scenario, value.application][value.method][value.run, value.round] = value.value
    return found


def comparisons(values: Sequence[Value], store: str, ours: str = OURS) -> list[Comparison]:
    """The comparisons of all scenarios that `ours` and a peer took part in, in the order of the tables."""
    found = times(values, store)
    return [
        made
        for scenario in SCENARIOS
        for application in "SML"
        if (made := _compare(scenario, application, found.get((scenario, application), {}), ours))
    ]


def _compare(
    scenario: str, application: str, methods: Mapping[str, Mapping[Round, float]], ours: str
) -> Comparison | None:
    peers = {name: rounds for name, rounds in methods.items() if name not in {OURS, BY_HATCH}}
    if ours not in methods or not peers:
        return None
    best = min(peers, key=lambda name: statistics.median(peers[name].values()))
    pairs = [(seconds, peers[best][number]) for number, seconds in methods[ours].items() if number in peers[best]]
    if not pairs:
        return None
    aim = SCENARIOS[scenario].aims.get(application)
    return Comparison(
        scenario=scenario,
        application=application,
        ours=statistics.median(methods[ours].values()),
        peer=best,
        theirs=statistics.median(peers[best].values()),
        ratios=tuple(sorted(mine / other for mine, other in pairs)),
        aim=aim,
        within=statistics.median(mine / (aim.ratio * other + aim.plus) for mine, other in pairs) if aim else 0.0,
    )


def single(values: Iterable[Value], kind: str, store: str) -> Mapping[tuple[str, str], Mapping[str, float]]:
    """The latest value of a kind by (scenario, application) and method."""
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for value in values:
        if value.kind == kind and value.store == store:
            found[value.scenario, value.application][value.method] = value.value
    return found
