"""Results as Markdown tables, and as a plot of ratios: rewritten between markers in the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .methods import BY_HATCH, METHODS, OURS
from .results import Comparison, Round, Value, comparisons, single, times
from .scenarios import PEERS, SCENARIOS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROOT = Path(__file__).parents[2]
PLOT = _ROOT / "benchmarks" / "peers.png"
_BEGIN, _END = "<!-- {name}: written by hatch run peers --render -->", "<!-- end of {name} -->"
_STORES = ("classic", "containerd")
# Units of values that are bytes.
_MB = 1e6


def render(values: Sequence[Value]) -> None:
    """Rewrite the tables in README.md and benchmarks/README.md, and the plot."""
    plot(comparisons(values, "classic"), PLOT)
    replace(_ROOT / "README.md", "peers", [_SECTION, *summary(values)])
    replace(_ROOT / "benchmarks" / "README.md", "peers", details(values))


def replace(path: Path, name: str, lines: Iterable[str]) -> None:
    """Replace what is between the markers of `name` in a file.

    Raises:
        ValueError: the file does not have them.
    """
    begin, end = _BEGIN.format(name=name), _END.format(name=name)
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{path} has no lines {begin!r} and {end!r}")
    text = "\n".join(lines)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


# The section of the README, which the table ends.
_SECTION = """\
## How fast it is

![Time of hatch-docker beside the best Dockerfile](benchmarks/peers.png)

Time of `hatch-docker build`, divided by that of the best of three Dockerfiles, F, G and T, with the same lock, engine
and registry; in parentheses the lowest and the highest of all rounds. Below 1, hatch-docker is faster. S, M and L are
applications with 8, 89 and 33 packages ([how this was measured](benchmarks/README.md#beside-dockerfiles)).
"""


def summary(values: Sequence[Value]) -> Iterator[str]:
    """A row for each scenario: the ratios for all applications, with their spread, and where a peer wins."""
    made = {(each.scenario, each.application): each for each in comparisons(values, "classic")}
    applications = sorted({application for _, application in made}, key="SML".index)
    yield f"| | {' | '.join(applications)} |"
    yield f"|---|{'---|' * len(applications)}"
    for name, scenario in SCENARIOS.items():
        row = [made.get((name, application)) for application in applications]
        if any(row):
            yield f"| {scenario.title} | {' | '.join(_short(each) if each else '' for each in row)} |"
    yield f"\n{_rounds(made.values())}."


def _rounds(made: Collection[Comparison]) -> str:
    """How many rounds the ratios are medians of."""
    numbers = sorted({len(each.ratios) for each in made})
    if numbers == [1]:
        return "A single round"
    return f"Medians of {'–'.join(str(number) for number in (numbers[:1] + numbers[1:][-1:]))} rounds"


def _short(made: Comparison) -> str:
    text = f"{made.ratio:.2f} ({_spread(made)})"
    return f"**{text}, {made.peer} wins**" if made.peer_wins else text


def _spread(made: Comparison) -> str:
    return f"{made.ratios[0]:.2f}–{made.ratios[-1]:.2f}"


def details(values: Sequence[Value]) -> Iterator[str]:
    """All tables: times beside the best peer for each kind of store, times of all methods, bytes and memory, sizes."""
    for store in _STORES:
        if made := comparisons(values, store):
            yield f"\nEngine with the {store} store, seconds. {_rounds(made)}:\n"
            yield from best_table(made)
            if beside := comparisons(values, store, BY_HATCH):
                yield "\n`hatch build -t docker` in the same run:\n"
                yield from best_table(beside, aims=False)
            yield "\nAll methods, seconds:\n"
            yield from seconds_table(values, store)
    if rows := list(counted_table(values)):
        yield "\nMB that the build and its engine send (↑) and receive (↓); peak memory in MB of the command (client),"
        yield "and how far that of the engine rises:\n"
        yield from rows
    if rows := list(sizes_table(values)):
        yield "\nSizes of the images, MB, unpacked in the engine and compressed in the registry, with the base:\n"
        yield from rows


def best_table(made: Sequence[Comparison], *, aims: bool = True) -> Iterator[str]:
    """Each scenario beside the best peer: ratios, and whether the aim is met."""
    yield f"| | app | ours | best peer | ratio | lowest–highest |{' aim | |' if aims else ' |'}"
    yield f"|---|---|---|---|---|---|{'---|---|' if aims else '---|'}"
    for each in made:
        notes = [f"**{each.peer} wins**"] if each.peer_wins else []
        notes += ["aim missed"] if aims and each.missed else []
        cells = [
            SCENARIOS[each.scenario].title,
            each.application,
            f"{each.ours:.2f}",
            f"{each.peer} {each.theirs:.2f}",
            f"{each.ratio:.2f}",
            _spread(each),
            *([str(each.aim or "")] if aims else []),
            ", ".join(notes),
        ]
        yield f"| {' | '.join(cells)} |"


def seconds_table(values: Sequence[Value], store: str) -> Iterator[str]:
    """The medians of all methods."""
    found = times(values, store)
    methods = [name for name in (*METHODS, *_others(found)) if any(name in each for each in found.values())]
    yield f"| | app | {' | '.join(methods)} |"
    yield f"|---|---|{'---|' * len(methods)}"
    for name, scenario in SCENARIOS.items():
        for application in "SML":
            if rounds := found.get((name, application)):
                cells = (f"{_median(rounds[each]):.2f}" if each in rounds else "" for each in methods)
                yield f"| {scenario.title} | {application} | {' | '.join(cells)} |"


def _others(found: Mapping[tuple[str, str], Mapping[str, object]]) -> list[str]:
    """Programs that only some scenarios compare with."""
    return sorted({name for methods in found.values() for name in methods} - set(METHODS))


def _median(rounds: Mapping[Round, float]) -> float:
    return statistics.median(rounds.values())


def counted_table(values: Sequence[Value]) -> Iterator[str]:
    """Bytes and memory of our builds and the peers', on the classic store."""
    kinds = {kind: single(values, kind, "classic") for kind in ("up", "down", "client", "engine")}
    methods = [OURS, *PEERS]
    if not kinds["up"]:
        return
    columns = [f"{name} {what}" for what in ("↑ / ↓", "client / engine") for name in methods]
    yield f"| | app | {' | '.join(columns)} |"
    yield f"|---|---|{'---|' * 2 * len(methods)}"
    for name, scenario in SCENARIOS.items():
        for application in "SML":
            place = (name, application)
            if place in kinds["up"]:
                moved = [_pair(kinds["up"][place], kinds["down"][place], method, "{:.2f}") for method in methods]
                memory = [_pair(kinds["client"][place], kinds["engine"][place], method, "{:.0f}") for method in methods]
                yield f"| {scenario.title} | {application} | {' | '.join(moved + memory)} |"


def sizes_table(values: Sequence[Value]) -> Iterator[str]:
    """The sizes of the images of all methods."""
    unpacked, packed = (single(values, kind, "classic") for kind in ("unpacked", "packed"))
    if not unpacked:
        return
    yield f"| app | {' | '.join((OURS, *PEERS))} |"
    yield f"|---|{'---|' * (1 + len(PEERS))}"
    for place in sorted(unpacked, key=lambda place: "SML".index(place[1])):
        cells = [_pair(unpacked[place], packed[place], method, "{:.1f}") for method in (OURS, *PEERS)]
        yield f"| {place[1]} | {' | '.join(cells)} |"


def _pair(first: Mapping[str, float], second: Mapping[str, float], method: str, form: str) -> str:
    return f"{form.format(first[method] / _MB)} / {form.format(second[method] / _MB)}" if method in first else ""


def plot(made: Sequence[Comparison], path: Path) -> None:
    """Ratios on a logarithmic axis, in a panel for each application: medians, spreads and aims."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    applications = sorted({each.application for each in made}, key="SML".index)
    names = [name for name in SCENARIOS if any(each.scenario == name for each in made)]
    size = (2.2 + 3.0 * len(applications), 1.5 + 0.32 * len(names))
    figure, panels = pyplot.subplots(
        1, len(applications), sharex=True, sharey=True, squeeze=False, figsize=size, layout="constrained"
    )
    for axes, application in zip(panels[0], applications, strict=True):
        _panel(axes, [each for each in made if each.application == application], names)
        axes.set_title(f"application {application}", fontsize=10)
    panels[0][0].set_yticks(range(len(names)), [SCENARIOS[name].title for name in names])
    panels[0][0].invert_yaxis()
    figure.suptitle("Time of hatch-docker, divided by that of the best Dockerfile", fontsize=11)
    explained = (
        "left of 1: hatch-docker is faster  ·  bars: lowest to highest round\ngrey ticks: aims  ·  F, G, T: faster"
    )
    figure.supxlabel(explained, fontsize=8)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    pyplot.close(figure)


_FASTER, _SLOWER = "#1b7f5c", "#c8501e"


def _panel(axes: Axes, made: Sequence[Comparison], names: Sequence[str]) -> None:
    """One application: a dot with a line for each scenario."""
    for each in made:
        row = names.index(each.scenario)
        colour = _SLOWER if each.peer_wins else _FASTER
        axes.plot([each.ratios[0], each.ratios[-1]], [row, row], color=colour, linewidth=2, alpha=0.5)
        axes.plot(each.ratio, row, "o", color=colour, markersize=6)
        axes.text(
            1.02,
            row,
            f"{each.ratio:.2f}{f'  {each.peer}' if each.peer_wins else ''}",
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=colour,
        )
        if each.aim and not each.aim.plus:
            axes.plot(each.aim.ratio, row, "|", color="#888888", markersize=10)
    axes.set_xscale("log")
    axes.axvline(1, color="#444444", linewidth=1)
    ticks = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
    axes.minorticks_off()
    axes.grid(axis="both", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0, labelsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
