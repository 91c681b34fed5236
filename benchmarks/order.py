"""Count what registries receive and engines unpack again when locks change, for several orders of the layers of wheels.

The locks are real: uv resolves the requirements of three applications as of ten dates, and those of ten projects as of
one. Nothing is downloaded but the directories of the wheels, for their sizes. README.md has a result and the model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import urllib3
from packaging.utils import parse_wheel_filename

from hatch_docker.base.target import Libc, TargetPython
from hatch_docker.image.layers import Demand, budget_of, distribute
from hatch_docker.oci.spec import Platform
from hatch_docker.support.threads import together

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TARGET = TargetPython(
    version=f"3.{sys.version_info.minor}.0",
    interpreter="/usr/local/bin/python3",
    platform=Platform(architecture="amd64"),
    libc=Libc(kind="glibc", version=(2, 36)),
)
WEB = "fastapi uvicorn gunicorn sqlalchemy alembic asyncpg psycopg2-binary redis celery httpx requests boto3 jinja2"
WEB += " pydantic-settings sentry-sdk cryptography pyjwt python-multipart opentelemetry-sdk structlog pillow orjson"
DATA = "pandas numpy scipy scikit-learn matplotlib pyarrow sqlalchemy boto3 requests statsmodels polars duckdb fastapi"
DATA += " uvicorn pydantic dask lightgbm plotly openpyxl s3fs"
LEARNING = "torch transformers accelerate datasets fastapi uvicorn pandas scikit-learn boto3 sentence-transformers"
APPLICATIONS = {"web": WEB, "data": DATA, "learning": LEARNING}
# Services of one company: each has some of what the applications have.
PROJECTS = (
    WEB,
    "fastapi uvicorn sqlalchemy asyncpg redis httpx pydantic-settings sentry-sdk",
    "django gunicorn psycopg2-binary celery redis boto3 pillow requests sentry-sdk",
    "flask gunicorn sqlalchemy psycopg2-binary requests cryptography pyjwt",
    "celery redis boto3 pandas openpyxl sqlalchemy psycopg2-binary sentry-sdk",
    DATA,
    "pandas numpy pyarrow boto3 s3fs polars duckdb requests",
    "fastapi uvicorn numpy scikit-learn pandas boto3 sentry-sdk",
    LEARNING,
    "torch fastapi uvicorn numpy pillow boto3 requests sentry-sdk",
)
DATES = tuple(f"{year}-{month:02}-01T00:00:00Z" for year in (2025, 2026) for month in (1, 3, 5, 7, 9))
# Bytes of bytecode for each byte of modules, in a tar and compressed: CPython 3.11's for 3082 modules of 60 wheels.
BYTECODE, BYTECODE_SENT = 1.23, 0.46
MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel of a lock: bytes as downloaded, unpacked and in modules; `depth` is that of what it requires."""

    name: str
    version: str
    url: str
    size: int
    uploaded: str
    depth: int = 0
    unpacked: int = 0
    modules: int = 0


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: what makes it another one, and its bytes in a registry and unpacked."""

    identity: str
    sent: int
    unpacked: int


@dataclass(slots=True)
class Cost:
    """Bytes: `sent` to a registry, `fetched` by an engine that keeps layers by all below them, and `unpacked`."""

    sent: int = 0
    fetched: int = 0
    unpacked: int = 0


Lock = tuple[Wheel, ...]
# Wheels to the wheels of each layer, the lowest first.
Order = Callable[[Lock], list[list[Wheel]]]


def lock(requirements: str, date: str, uv: str) -> Lock:
    """The wheels for TARGET that the requirements resolve to as of a date, with an index as uv is configured."""
    with tempfile.TemporaryDirectory() as folder:
        project = {
            "name": "locked",
            "version": "1",
            "requires-python": f"=={TARGET.minor}.*",
            "dependencies": requirements.split(),
        }
        environments = "[\"sys_platform == 'linux' and platform_machine == 'x86_64'\"]"
        lines = ["[project]", *(f"{key} = {json.dumps(value)}" for key, value in project.items())]
        lines += ["[tool.uv]", f"environments = {environments}"]
        Path(folder, "pyproject.toml").write_text("\n".join(lines), encoding="utf-8")
        command = [uv, "lock", "--quiet", "--exclude-newer", date, "--python", sys.executable]
        subprocess.run(command, cwd=folder, check=True)
        document = tomllib.loads(Path(folder, "uv.lock").read_text(encoding="utf-8"))
    packages = {each["name"]: each for each in document["package"] if "wheels" in each}
    depths: dict[str, int] = {}
    found = (chosen(each, depth_of(each["name"], packages, depths)) for each in packages.values())
    return tuple(sorted((each for each in found if each), key=lambda each: each.name))


def chosen(package: Mapping[str, Any], depth: int) -> Wheel | None:
    """The package's wheel that an installer would choose; None if it has only others."""
    ranks = {tag: rank for rank, tag in enumerate(TARGET.tags)}
    best: tuple[int, Mapping[str, Any]] | None = None
    for file in package["wheels"]:
        tags = parse_wheel_filename(file["url"].rpartition("/")[2].replace("%2B", "+"))[3]
        rank = min((ranks[tag] for tag in tags if tag in ranks), default=None)
        if rank is not None and (best is None or rank < best[0]):
            best = rank, file
    if best is None:
        return None
    file = best[1]
    named = {"name": package["name"], "version": package["version"], "depth": depth}
    return Wheel(**named, url=file["url"], size=file["size"], uploaded=file.get("upload-time", ""))


def depth_of(name: str, packages: Mapping[str, Any], depths: dict[str, int]) -> int:
    """The longest way from a package to one that requires nothing; a cycle ends where it closes."""
    if name not in depths:
        depths[name] = 0
        required = packages.get(name, {}).get("dependencies", ())
        depths[name] = max((1 + depth_of(each["name"], packages, depths) for each in required), default=0)
    return depths[name]


class Directories:
    """The sizes of wheels' members, from the end of each file in the index; kept in `file` for the next run."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, tuple[int, int]] = json.loads(file.read_text()) if file.exists() else {}
        self._http = urllib3.PoolManager(maxsize=4, retries=urllib3.Retry(3))

    def measured(self, locks: Iterable[Lock]) -> None:
        """Measure all wheels of the locks."""
        unknown = sorted(
            {(wheel.url, wheel.size) for each in locks for wheel in each if self._key(wheel) not in self._known}
        )
        found = together(lambda each: self._sizes(*each), unknown, threads=4)
        self._known |= {url.rpartition("/")[2]: sizes for (url, _), sizes in zip(unknown, found, strict=True)}
        self._file.write_text(json.dumps(self._known))

    def complete(self, wheels: Lock) -> Lock:
        """The wheels with their sizes."""
        sizes = [self._known[self._key(each)] for each in wheels]
        return tuple(
            replace(each, unpacked=unpacked, modules=modules)
            for each, (unpacked, modules) in zip(wheels, sizes, strict=True)
        )

    @staticmethod
    def _key(wheel: Wheel) -> str:
        return wheel.url.rpartition("/")[2]

    def _sizes(self, url: str, size: int) -> tuple[int, int]:
        tail = self._end(url, min(size, 65536))
        directory = struct.unpack_from("<L", tail, tail.rfind(b"PK\5\6") + 12)[0] + 65536
        if directory > len(tail):
            tail = self._end(url, min(size, directory))
        with zipfile.ZipFile(BytesIO(tail)) as file:
            infos = file.infolist()
        modules = sum(each.file_size for each in infos if each.filename.endswith(".py"))
        return sum(each.file_size + 1024 for each in infos), modules

    def _end(self, url: str, length: int) -> bytes:
        answer = self._http.request("GET", url, headers={"Range": f"bytes=-{length}"})
        return bytes(answer.data[-length:])


def digest(text: str) -> bytes:
    """A hash of a text."""
    return hashlib.sha256(text.encode()).digest()


def ordered(
    wheels: Lock, *, key: Callable[[Wheel], Any], alone: int = 1000, big: int = MB, groups: int = 8
) -> list[list[Wheel]]:
    """The `alone` biggest wheels in layers of their own, by a key, below groups of the others by hash of the name."""
    own = [each for each in sorted(wheels, key=_by_size)[:alone] if each.size >= big]
    shared: dict[int, list[Wheel]] = {}
    for wheel in wheels:
        if wheel not in own:
            shared.setdefault(digest(wheel.name)[0] % groups, []).append(wheel)
    return [*([each] for each in sorted(own, key=key)), *(shared[number] for number in sorted(shared))]


def product(wheels: Lock, *, most: int) -> list[list[Wheel]]:
    """The order of hatch-docker with `most` layers."""
    by_name = {each.name: each for each in wheels}
    budget = budget_of(most, Demand(bytecode=True), "max-layers")
    found = distribute({each.name: each.size for each in wheels}, budget.wheels)
    return [[by_name[name] for name in each.names] for each in found]


def layers_of(order: list[list[Wheel]], *, above: bool = False) -> list[Layer]:
    """The layers of an image: bytecode of all groups `above` all of them, or each above its group."""
    modules = [_layer("wheels", group) for group in order]
    code = [_layer("bytecode", group) for group in order]
    pairs = [*modules, *code] if above else [layer for pair in zip(modules, code, strict=True) for layer in pair]
    return [each for each in pairs if each.unpacked]


def _layer(kind: str, group: Sequence[Wheel]) -> Layer:
    identity = f"{kind} {' '.join(sorted(each.url for each in group))}"
    if kind == "wheels":
        return Layer(identity, sum(each.size for each in group), sum(each.unpacked for each in group))
    modules = sum(each.modules for each in group)
    return Layer(identity, round(modules * BYTECODE_SENT), round(modules * BYTECODE))


def _by_size(wheel: Wheel) -> tuple[int, str]:
    return -wheel.size, wheel.name


def _by_class(wheel: Wheel) -> tuple[int, str]:
    return -wheel.size.bit_length(), wheel.name


class Machines:
    """A registry, and an engine that pulls every image: what they have, and what they received."""

    def __init__(self) -> None:
        self.cost = Cost()
        self._blobs: set[str] = set()
        self._chains: set[tuple[str, ...]] = set()

    def receive(self, image: Sequence[Layer], *, counted: bool) -> None:
        """Push and pull an image; the first of a series is not counted."""
        chain: tuple[str, ...] = ()
        for layer in image:
            chain = (*chain, digest(f"{chain[-1:]}{layer.identity}").hex())[-1:]
            if counted and layer.identity not in self._blobs:
                self.cost.sent += layer.sent
            if counted and chain not in self._chains:
                self.cost.fetched += layer.sent
                self.cost.unpacked += layer.unpacked
            self._blobs.add(layer.identity)
            self._chains.add(chain)


def simulate(images: Iterable[Sequence[Layer]]) -> Cost:
    """The cost of all images but the first, in this sequence."""
    machines = Machines()
    for number, image in enumerate(images):
        machines.receive(image, counted=number > 0)
    return machines.cost


def one_by_one(locks: Sequence[Lock]) -> Iterator[Lock]:
    """The locks, and between each two those in which one more package has changed, as a bot for updates makes them."""
    for before, after in pairwise(locks):
        now = {each.name: each for each in before}
        wanted = {each.name: each for each in after}
        yield before
        for name in sorted(now.keys() | wanted.keys(), key=digest):
            if now.get(name) != wanted.get(name):
                now.pop(name, None)
                if name in wanted:
                    now[name] = wanted[name]
                yield tuple(now[each] for each in sorted(now))
    yield locks[-1]


def odds_of(series: Iterable[Sequence[Lock]]) -> Callable[[Wheel], float]:
    """How likely a package changes from one date to the next, known afterwards: a table of all packages had this."""
    kept, changed = Counter[str](), Counter[str]()
    for locks in series:
        for before, after in pairwise(locks):
            versions = {each.name: each.version for each in before}
            for each in after:
                (kept if versions.get(each.name) == each.version else changed)[each.name] += 1
    return lambda wheel: (changed[wheel.name] + 1) / (kept[wheel.name] + 1)


def rows(odds: Callable[[Wheel], float]) -> dict[str, Callable[[Lock], list[Layer]]]:
    """The layers of a lock, for each row of the table."""
    keys: dict[str, Callable[[Wheel], Any]] = {
        "by name": lambda each: each.name,
        "by hash of the name": lambda each: digest(each.name),
        "the smallest lowest": lambda each: (each.size, each.name),
        "the oldest upload lowest": lambda each: (each.uploaded, each.name),
        "what requires least lowest": lambda each: (each.depth, each.name),
        "the biggest lowest": _by_size,
        "the biggest lowest, by powers of 2": _by_class,
        "by changes known afterwards": lambda each: (odds(each), each.name),
        "by changes known afterwards and size": lambda each: (odds(each) / each.size, each.name),
    }
    made: dict[str, Callable[[Lock], list[Layer]]] = {
        "by name, 12 alone, 6 groups, all bytecode on top": lambda lock: layers_of(
            ordered(lock, key=keys["by name"], alone=12, groups=6), above=True
        ),
        "by name, all bytecode on top": lambda lock: layers_of(ordered(lock, key=keys["by name"]), above=True),
        "by powers of 2, all bytecode on top": lambda lock: layers_of(ordered(lock, key=_by_class), above=True),
    }
    made |= {name: partial(_layers, key=key) for name, key in keys.items()}
    made |= {f"{number} groups": partial(_layers, key=_by_class, groups=number) for number in (1, 4, 6, 8, 12, 16)}
    made |= {f"alone from {big} kB": partial(_layers, key=_by_class, big=big * 1000) for big in (250, 500, 2000, 4000)}
    made |= {
        f"hatch-docker, max-layers = {most}": lambda lock, most=most: layers_of(product(lock, most=most))  # type: ignore[misc]
        for most in (40, 60, 80, 100)
    }
    return made


def _layers(lock: Lock, **options: Any) -> list[Layer]:
    return layers_of(ordered(lock, **options))


def show(series: Mapping[str, Sequence[Lock]], projects: Sequence[Lock]) -> None:
    """Print a table for what registries receive, engines fetch, and engines unpack."""
    sequences = dict(series)
    sequences |= {f"{name}, one by one": [*one_by_one(locks)] for name, locks in series.items()}
    sequences["ten projects"] = projects
    columns = list(sequences)
    made = rows(odds_of(series.values()))
    costs = {name: [simulate(map(layers, sequences[each])) for each in columns] for name, layers in made.items()}
    for kind in ("sent", "fetched", "unpacked"):
        print(f"\n| {kind}, GB | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
        for name, found in costs.items():
            print(f"| {name} | {' | '.join(f'{getattr(cost, kind) / 1000 / MB:.2f}' for cost in found)} |")
    most = {
        name: max(len(layers(lock)) for locks in sequences.values() for lock in locks) for name, layers in made.items()
    }
    print(f"\nthe most layers: {', '.join(f'{name}: {number}' for name, number in most.items())}")


def main() -> None:
    """Make the locks, measure their wheels, and simulate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=Path, help="a file that keeps the sizes of wheels for the next run")
    parser.add_argument("--uv", default="uv")
    options = parser.parse_args()
    jobs = [(each, date) for each in APPLICATIONS.values() for date in DATES]
    jobs += [(each, DATES[-1]) for each in PROJECTS]
    with tempfile.TemporaryDirectory() as folder:
        locks = together(lambda job: lock(*job, options.uv), jobs, threads=2)
        directories = Directories(options.sizes or Path(folder, "sizes.json"))
        directories.measured(locks)
    locks = [directories.complete(each) for each in locks]
    count = len(DATES)
    series = {name: locks[number * count :][:count] for number, name in enumerate(APPLICATIONS)}
    for name, each in series.items():
        numbers = f"{len(each[0])} to {len(each[-1])} wheels, {sum(wheel.size for wheel in each[-1]) // MB} MB"
        print(f"{name}: {numbers}, {len([*one_by_one(each)]) - count} changes of one package")
    show(series, locks[count * len(series) :])


if __name__ == "__main__":
    main()
