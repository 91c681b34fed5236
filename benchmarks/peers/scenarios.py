"""The scenarios: each is a function that prepares a place, and returns the command whose time counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from . import machine
from .applications import change_line
from .methods import BY_HATCH, METHODS, OURS, Build, hatch_docker
from .places import Place
from .processes import Command

PEERS = tuple(name for name in METHODS if name not in {OURS, BY_HATCH})
UV = "uv sync"
BASE_REPOSITORY = "python"
# Files that changed a moment ago may be read again, since their times say nothing yet.
_SETTLED = 2.5

Prepare = Callable[[Place, int], Command]


@dataclass(frozen=True, slots=True)
class Aim:
    """Our time is to be at most `ratio` times the best peer's, and `plus` seconds."""

    ratio: float
    plus: float = 0.0

    def __str__(self) -> str:
        return f"≤ {self.ratio:g}" + (f" + {self.plus:g} s" if self.plus else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One row of the results. `number` of `prepare` is that of the round, from 0.

    `group` decides what the methods share: "warm", an engine that keeps all it has; "emptied", one that is emptied;
    "fresh", none. `counted`: bytes and memory are measured, too.
    """

    title: str
    prepare: Prepare
    group: str = "warm"
    methods: tuple[str, ...] = (OURS, *PEERS)
    applications: tuple[str, ...] = ("S", "M", "L")
    counted: bool = False
    aims: Mapping[str, Aim] = field(default_factory=dict)


def no_op(place: Place, _number: int) -> Command:
    base = place.setting.projects.base(place.application)
    if place.take(base):
        time.sleep(_SETTLED)
    place.settle(Build())
    return place.build(Build())


def line(build: Build, place: Place, _number: int) -> Command:
    place.settle(build)
    change_line(place.project)
    return place.build(build)


def small_dependency(build: Build, place: Place, number: int) -> Command:
    place.settle(build)
    place.take(place.setting.projects.small(place.application, _another(number, build)))
    return place.build(build)


def big_dependency(build: Build, place: Place, number: int) -> Command:
    place.settle(build)
    place.take(place.setting.projects.big(place.application, _another(number, build)))
    return place.build(build)


def _another(number: int, build: Build) -> int:
    """The number of a dependency that neither another round nor the other output uses."""
    return 2 * number + build.push


def base_updated(place: Place, number: int) -> Command:
    """The tag of the base names an image of which every layer is new."""
    bases = place.setting.bases
    build = Build(base=f"{bases}/{BASE_REPOSITORY}:{place.method.lower()}")
    for version in (number, number + 1):
        machine.move_tag(bases, BASE_REPOSITORY, f"v{version}", place.method.lower())
        if version == number:
            place.settle(build)
    return place.build(build)


def cold(place: Place, _number: int, *, used: bool = False, library: bool = False) -> Command:
    """Only the base and the image of uv are present; if the base was `used`, also the bytecode of its library.

    With `library`, the Dockerfile compiles that, too.
    """
    _empty(place, used=used)
    place.take(place.setting.projects.base(place.application))
    return place.build(Build(library=library))


def relayered(place: Place, _number: int) -> Command:
    """All downloads are present, but no layer and no result of an earlier step."""
    place.settle(Build())
    place.engine.forget(*place.setting.present, keep_downloads=True)
    return place.build(Build(anew=True))


def second_project(build: Build, place: Place, _number: int) -> Command:
    """Another project, most of whose dependencies are those of a project that was built here before."""
    _empty(place)
    place.settle(build)
    place.take(place.setting.projects.second(place.application))
    return place.build(Build(push=build.push, other=f"{place.application.name}-second"))


def _empty(place: Place, *, used: bool = False) -> None:
    place.engine.forget(*place.setting.present, keep_downloads=False)
    place.forget(used=used)


def fresh_machine(build: Build, place: Place, _number: int) -> Command:
    """A machine that has nothing, and a registry that has the image and the cache of an earlier build."""
    if not place.filled:
        place.new_machine()
        place.settle(Build(push=True, cache="write"))
        place.filled = True
    place.new_machine()
    change_line(place.project)
    return place.build(build)


def start(place: Place, _number: int) -> Command:
    """A container that imports what the application imports."""
    place.settle(Build())
    module = f"{place.application.module}.main"
    run = ("run", "--rm", "--network=none", "--entrypoint=python", place.work.image(Build()), "-m", module)
    return place.engine.docker(*run)


def plan(place: Place, _number: int) -> Command:
    """What would be built, beside what uv would install."""
    if place.method == OURS:
        place.settle(Build())
        return hatch_docker(place.work, "plan")
    place.take(place.setting.projects.base(place.application))
    sync = Command.of("uv", "sync", "--locked", cwd=place.project, environ={"UV_CACHE_DIR": str(place.folder / "uv")})
    sync.run()
    return Command((*sync.arguments, "--dry-run"), sync.cwd, sync.environ)


LOAD, PUSH = Build(), Build(push=True)
_ALL = (OURS, BY_HATCH, *PEERS)
_BOTH = Build(push=True, base="debian", platforms="linux/amd64,linux/arm64")


def _same(ratio: float, plus: float = 0.0) -> Mapping[str, Aim]:
    return dict.fromkeys("SML", Aim(ratio, plus))


def _each(*ratios: float) -> Mapping[str, Aim]:
    return {name: Aim(ratio) for name, ratio in zip("SML", ratios, strict=True)}


# The order is that of the tables and of the plot.
SCENARIOS: Mapping[str, Scenario] = {
    "cold": Scenario(title="cold", prepare=cold, group="emptied", counted=True, aims=_each(0.9, 0.8, 0.7)),
    "cold-library": Scenario(
        title="cold, both compile the standard library",
        prepare=partial(cold, library=True),
        group="emptied",
        methods=(OURS, "F"),
    ),
    "cold-used": Scenario(
        title="cold, not the first image on its base", prepare=partial(cold, used=True), group="emptied"
    ),
    "relayered": Scenario(title="cold layers, warm downloads", prepare=relayered, group="emptied"),
    "no-op": Scenario(title="nothing changed → load", prepare=no_op, methods=_ALL, counted=True, aims=_same(1.0)),
    "line-load": Scenario(
        title="one line → load", prepare=partial(line, LOAD), methods=_ALL, counted=True, aims=_each(1.2, 1.0, 1.0)
    ),
    "line-push": Scenario(
        title="one line → push", prepare=partial(line, PUSH), methods=_ALL, counted=True, aims=_each(1.0, 0.9, 0.8)
    ),
    "small-load": Scenario(
        title="small dependency → load",
        prepare=partial(small_dependency, LOAD),
        counted=True,
        aims=_each(0.7, 0.3, 0.2),
    ),
    "small-push": Scenario(
        title="small dependency → push",
        prepare=partial(small_dependency, PUSH),
        counted=True,
        aims=_each(0.4, 0.1, 0.03),
    ),
    "big-load": Scenario(
        title="big dependency → load",
        prepare=partial(big_dependency, LOAD),
        applications=("L",),
        counted=True,
        aims={"L": Aim(0.8)},
    ),
    "big-push": Scenario(
        title="big dependency → push",
        prepare=partial(big_dependency, PUSH),
        applications=("L",),
        counted=True,
        aims={"L": Aim(0.05)},
    ),
    "base": Scenario(title="base updated → load", prepare=base_updated),
    "fresh": Scenario(
        title="fresh machine, one line → push",
        prepare=partial(fresh_machine, Build(push=True, cache="read")),
        group="fresh",
        methods=(OURS, "F", "G"),
        counted=True,
        aims=_each(0.5, 0.25, 0.1),
    ),
    "fresh-builder": Scenario(
        title="fresh machine, beside a builder alone",
        prepare=partial(fresh_machine, Build(push=True, cache="read", kept=False)),
        group="fresh",
        methods=(OURS, "F", "G"),
        counted=True,
    ),
    "second-load": Scenario(
        title="second project → load", prepare=partial(second_project, LOAD), group="emptied", counted=True
    ),
    "second-push": Scenario(
        title="second project → push", prepare=partial(second_project, PUSH), group="emptied", counted=True
    ),
    "platforms": Scenario(title="one line, two platforms → push", prepare=partial(line, _BOTH), methods=(OURS,)),
    "start": Scenario(title="start of a container", prepare=start),
    "plan": Scenario(title="plan", prepare=plan, methods=(OURS, UV), applications=("L",), aims={"L": Aim(0.6, 0.3)}),
}
