"""A run: places for all methods, rounds in which they take turns, and the values of each."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from . import machine
from .applications import APPLICATIONS, Projects
from .machine import Engine
from .methods import OURS, Build
from .places import Place, Setting
from .processes import Command, CommandError, MemoryWatch
from .results import Value
from .scenarios import BASE_REPOSITORY, PEERS, SCENARIOS, UV

BASE = "python:3.13-slim"
_ROOT = Path(__file__).parents[2]
# A base of which every layer is new: the same files, and one that no other version has, in a single layer.
_ANOTHER_BASE = """\
FROM {base} AS files
RUN echo {version} > /etc/version
FROM scratch
COPY --from=files / /
{environment}
CMD ["python3"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is measured. Round 0 counts bytes and memory; the times are those of the rounds from 1.

    `record` gets the values of each scenario as soon as they are there; `failed` names what has none.
    """

    applications: Sequence[str]
    scenarios: Sequence[str]
    methods: Sequence[str]
    rounds: int
    counted: bool
    containerd_store: bool
    bytecode: bool
    record: Callable[[list[Value]], None]
    failed: list[str] = field(default_factory=list)
    begun: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))

    @property
    def store(self) -> str:
        return "containerd" if self.containerd_store else "classic"


def measure(run: Run, scratch: Path) -> None:
    """Measure everything."""
    with setting(run, scratch) as shared:
        for application in run.applications:
            for group in ("warm", "emptied", "fresh"):
                if names := [
                    name
                    for name in run.scenarios
                    if SCENARIOS[name].group == group and application in SCENARIOS[name].applications
                ]:
                    _group(run, shared, application, names)


@contextmanager
def setting(run: Run, scratch: Path) -> Iterator[Setting]:
    """A registry with uv's image and versions of the base, and a cache of hatch-docker that has the base."""
    mirrors = dict(
        each.split("=", 1) for each in os.environ.get("HATCH_DOCKER_REGISTRY_MIRRORS", "").split(",") if each
    )
    with machine.registry(scratch / "bases") as bases:
        shared = Setting(
            scratch=scratch,
            projects=Projects(scratch / "projects", _ROOT, scratch / "uv"),
            warm=scratch / "warm",
            used=scratch / "used",
            bases=bases,
            mirror=mirrors.get("docker.io", ""),
            present=(BASE, f"{bases}/uv:latest"),
            containerd_store=run.containerd_store,
            bytecode=run.bytecode,
        )
        with machine.engine(scratch / "engine", containerd_store=False, mirror=shared.mirror) as engine:
            _push_uv(engine, shared)
            if "base" in run.scenarios:
                for version in range(run.rounds + 2):
                    _push_base(engine, shared, version)
            _fill(shared.warm, engine, shared, bytecode=False)
            _fill(shared.used, engine, shared, bytecode=run.bytecode)
        yield shared


def _push_uv(engine: Engine, shared: Setting) -> None:
    """An image as uv's own, with the uv of this machine."""
    folder = shared.scratch / "uv-image"
    folder.mkdir()
    shutil.copy(_uv(), folder / "uv")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY uv /uv\n", encoding="utf-8")
    engine.docker("build", "--tag", shared.uv, "--push", folder).run()


def _uv() -> str:
    """The path of uv's program."""
    try:
        import uv
    except ImportError:
        if found := shutil.which("uv"):
            return found
        raise CommandError("uv is not installed") from None
    return uv.find_uv_bin()


def _push_base(engine: Engine, shared: Setting, version: int) -> None:
    engine.docker("pull", "--quiet", BASE).run()
    environment = engine.docker("image", "inspect", "--format", "{{range .Config.Env}}ENV {{.}}\n{{end}}", BASE).run()
    folder = shared.scratch / f"base{version}"
    folder.mkdir()
    text = _ANOTHER_BASE.format(base=BASE, version=version, environment=environment)
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    tag = f"{shared.bases}/{BASE_REPOSITORY}:v{version}"
    engine.docker("build", "--network=host", "--tag", tag, "--push", folder).run()


def _fill(cache: Path, engine: Engine, shared: Setting, *, bytecode: bool) -> None:
    """Fill a cache of hatch-docker with the base alone, and what `bytecode` needs of it."""
    project = shared.scratch / "empty"
    project.mkdir(exist_ok=True)
    (project / "main.py").touch()
    environ = {
        **engine.environ,
        "HATCH_DOCKER_CACHE_DIR": str(cache),
        "HATCH_DOCKER_BYTECODE": str(bytecode).lower(),
    }
    program = Path(sys.executable).with_name("hatch-docker")
    arguments = ("build", "--set", "python=3.13", "--output", "type=docker,dest=image.tar")
    Command.of(program, *arguments, cwd=project, environ=environ).run()


def _group(run: Run, shared: Setting, application: str, names: Sequence[str]) -> None:
    """Measure the scenarios of one group and application: in each round, all methods in random order."""
    print(f"{application}: {', '.join(names)}", file=sys.stderr)
    methods = [name for name in (*run.methods, UV) if any(name in SCENARIOS[each].methods for each in names)]
    group = SCENARIOS[names[0]].group
    with _places(shared, application, methods, own_engines=group == "fresh") as places:
        for number in range(0 if run.counted else 1, run.rounds + 1):
            for scenario, method in _turns(names, methods, by_method=group == "emptied"):
                if method in SCENARIOS[scenario].methods and (number or SCENARIOS[scenario].counted):
                    _record(run, places[method], scenario, number, _values)
                    if group == "warm":
                        places[method].engine.tidy()
        if group == "warm" and run.counted:
            for method in {OURS, *PEERS} & set(methods):
                _record(run, places[method], "size", 0, _sizes)


@contextmanager
def _places(
    shared: Setting, application: str, methods: Sequence[str], *, own_engines: bool
) -> Iterator[Mapping[str, Place]]:
    """A place for each method, with one engine for all that has the base and the image of uv, or without one."""
    with ExitStack() as stack:
        engine = machine.NO_ENGINE
        if not own_engines:
            made = machine.engine(
                shared.scratch / "engine", containerd_store=shared.containerd_store, mirror=shared.mirror
            )
            engine = stack.enter_context(made)
            for image in shared.present:
                engine.docker("pull", "--quiet", image).run()
        app = APPLICATIONS[application]
        yield {
            name: Place(method=name, application=app, setting=shared, engine=engine, stack=stack) for name in methods
        }


def _record(
    run: Run, place: Place, scenario: str, number: int, measured: Callable[[str, Place, int], Mapping[str, float]]
) -> None:
    """Record what `measured` returns. What fails is told, and the run goes on."""
    label = next(name for name, each in APPLICATIONS.items() if each == place.application)
    try:
        values = measured(scenario, place, number)
    except CommandError as error:
        run.failed.append(f"{label}: {scenario}, {place.method}, round {number}")
        print(f"  {number} {scenario} {place.method}: {error}", file=sys.stderr)
        return
    print(f"  {number} {scenario} {place.method}: {values}", file=sys.stderr)
    where = {"run": run.begun, "store": run.store, "application": label, "scenario": scenario, "method": place.method}
    run.record([Value(**where, round=number, kind=kind, value=value) for kind, value in values.items()])


def _turns(scenarios: Sequence[str], methods: Sequence[str], *, by_method: bool) -> Iterator[tuple[str, str]]:
    """The order of a round: random methods for each scenario; `by_method`, all scenarios of one method after the other.

    What one method's scenario leaves, the next may use, if no other method empties the engine in between.
    """
    mixed = random.sample(methods, len(methods))
    if by_method:
        yield from ((scenario, method) for method in mixed for scenario in scenarios)
    else:
        for scenario in scenarios:
            yield from ((scenario, method) for method in random.sample(methods, len(methods)))


def _values(scenario: str, place: Place, number: int) -> Mapping[str, float]:
    """Run a scenario once: its seconds, or in round 0 what is counted."""
    place.counted = number == 0
    command = SCENARIOS[scenario].prepare(place, number)
    return _counts(command, place) if place.counted else {"seconds": command.seconds()}


def _counts(command: Command, place: Place) -> Mapping[str, float]:
    """The bytes that a command and its engine transfer, and their memory."""
    meters = (place.to_registry, place.to_mirror, place.to_index)
    up, down = (-sum(getattr(meter, name) for meter in meters) for name in ("up", "down"))
    client, engine = watched(command, place.engine.process)
    up, down = up + sum(meter.up for meter in meters), down + sum(meter.down for meter in meters)
    return {"up": up, "down": down, "client": client, "engine": engine}


def _sizes(_scenario: str, place: Place, _number: int) -> Mapping[str, float]:
    """The size of the image of the application as it is at first."""
    place.settle(Build())
    unpacked = int(place.engine.docker("image", "inspect", "--format", "{{.Size}}", place.work.image(Build())).run())
    place.settle(Build(push=True))
    return {"unpacked": unpacked, "packed": machine.pushed_size(place.work.registry, place.application.name, "latest")}


def watched(command: Command, engine: int) -> tuple[int, int]:
    """Run a command: the peak memory of its processes, and how far that of the engine's processes rises.

    Raises:
        CommandError: it failed.
    """
    with command.started() as process, MemoryWatch(process.pid) as client, MemoryWatch(engine) as served:
        output = process.communicate()[0]
    if process.returncode != 0:
        raise CommandError(f"{' '.join(command.arguments)} failed:\n{output.decode(errors='replace')}")
    return client.peak, served.peak - served.first
