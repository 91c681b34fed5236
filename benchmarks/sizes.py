"""How large an image of one application is, and how long it takes, beside Dockerfiles for the same application.

The Dockerfiles, and the application that they are for, are in a folder: `*.Dockerfile` and `app/`. All images are made
in one engine, in turns, so that whatever else the machine does meets them all. README.md has a result.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import docker

OURS = "hatch-docker"
MARK = f"hatch-docker-sizes-{secrets.token_hex(4)}"
GREETING = "Hello, world"
CHANGED = "my_project/greet.py"
# Images of this kind stand for their base with a toolchain.
BUILDER = "-build"
PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "app"
version = "1"
dependencies = {dependencies}

[tool.hatch.build.targets.wheel]
only-include = {files}

[tool.hatch.build.targets.docker]
base = "{base}"
image = "{image}"
tags = ["latest"]
entrypoint = ["python", "-m", "main"]
{more}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to make an image of the application, on `base`.

    `prepare` puts all that it takes into an empty folder, the application into `app` there; `build` makes the image,
    `cold` without what earlier builds left.
    """

    name: str
    base: str
    image: str
    prepare: Callable[[Path], None]
    build: Callable[[Path, bool], None]


@dataclass(slots=True)
class Result:
    """Sizes in bytes as the engine tells them, and seconds of each round."""

    size: int = 0
    above: int = 0
    cold: list[float] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)


def run(*command: str | Path, **options: Any) -> str:
    """What a command prints; all that it says where it fails."""
    done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def dockerfile(path: Path, app: Path) -> Way:
    """An image that a Dockerfile makes."""
    name = path.name.partition(".")[0]
    image = f"{MARK}-{name}"
    text = path.read_text(encoding="utf-8")

    def prepare(folder: Path) -> None:
        shutil.copytree(app, folder / "app")
        # Cache mounts of its own: a cold build has nothing in them.
        own = text.replace("--mount=type=cache,", f"--mount=type=cache,id={secrets.token_hex(8)},")
        (folder / "app" / "Dockerfile").write_text(own, encoding="utf-8")

    def build(folder: Path, cold: bool) -> None:
        run("docker", "build", "--progress=plain", *(["--no-cache"] if cold else []), "--tag", image, folder / "app")

    base = re.findall(r"^FROM (\S+)", text, re.MULTILINE)[-1].removesuffix(BUILDER)
    return Way(name=name, base=base, image=image, prepare=prepare, build=build)


def ours(base: str, app: Path, warm: Path, *, compiled: Sequence[str] = (), builder: str = "") -> Way:
    """An image that we make, with some packages `compiled`; `warm` is a cache that has the base image in it."""
    image = f"{MARK}-{'compiled' if compiled else 'wheels'}-{re.sub('[^a-z0-9]+', '-', base)}"

    def prepare(folder: Path) -> None:
        shutil.copytree(warm, folder / "cache")
        more = f'no-binary = {json.dumps(compiled)}\nbuilder = "{builder}"' if compiled else ""
        project(folder / "app", app, base, image, more)

    def build(folder: Path, _cold: bool) -> None:
        # What is cold about it is its folder.
        hatch(folder, "docker:load")

    name = f"{OURS}, {', '.join(compiled)} compiled" if compiled else f"{OURS}, wheels"
    return Way(name=name, base=base, image=image, prepare=prepare, build=build)


def project(folder: Path, app: Path, base: str, image: str, more: str = "") -> None:
    """The application as a project of Hatch's."""
    shutil.copytree(app, folder)
    dependencies = (folder / "requirements.txt").read_text(encoding="utf-8").split()
    files = sorted(path.name for path in app.iterdir() if path.is_dir() or path.suffix == ".py")
    values = {"dependencies": json.dumps(dependencies), "files": json.dumps(files)}
    text = PYPROJECT.format(base=base, image=image, more=more, **values)
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")


def hatch(folder: Path, target: str) -> None:
    """Build the project in `folder`, with caches in there, ours and uv's."""
    caches = {"HATCH_DOCKER_CACHE_DIR": str(folder / "cache"), "UV_CACHE_DIR": str(folder / "uv")}
    command = [sys.executable, "-m", "hatchling", "build", "-t", target]
    run(*command, cwd=folder / "app", env={**os.environ, **caches})


def warmed(base: str, app: Path, folder: Path) -> Path:
    """A cache that has the base image in it, and nothing of what the application requires."""
    project(folder / "app", app, base, MARK)
    file = folder / "app" / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub("^dependencies = .*$", "dependencies = []", text, flags=re.MULTILINE), encoding="utf-8")
    hatch(folder, "docker:archive")
    return folder / "cache"


def ways(
    paths: Sequence[Path],
    app: Path,
    scratch: Path,
    compiled: Sequence[str],
    builders: Mapping[str, str],
    bases: Sequence[str],
) -> Iterator[Way]:
    """The Dockerfiles; ours on their bases and on others; and with packages `compiled` where there is a builder."""
    files = [dockerfile(path, app) for path in paths]
    yield from files
    for number, base in enumerate(sorted({way.base for way in files} | set(bases))):
        cache = warmed(base, app, scratch / f"base{number}")
        yield ours(base, app, cache)
        if base in builders:
            yield ours(base, app, cache, compiled=compiled, builder=builders[base])


def measure(made: Sequence[Way], rounds: int, scratch: Path) -> list[Result]:
    """All ways in turns: a cold build, then one after a line of the application changed."""
    results = [Result() for _ in made]
    for number in range(rounds):
        for way, result in zip(made, results, strict=True):
            print(f"round {number + 1} of {rounds}: {way.name} on {way.base}", file=sys.stderr)
            with tempfile.TemporaryDirectory(dir=scratch) as name:
                folder = Path(name)
                way.prepare(folder)
                result.cold.append(seconds(partial(way.build, folder, True)))
                check(way, result)
                with (folder / "app" / CHANGED).open("a", encoding="utf-8") as file:
                    # Another line each time, which no earlier build has seen.
                    file.write(f"# {secrets.token_hex(8)}\n")
                result.changed.append(seconds(partial(way.build, folder, False)))
            run("docker", "rmi", "--force", way.image)
    return results


def seconds(work: Callable[[], None]) -> float:
    """How long some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def check(way: Way, result: Result) -> None:
    """See that the image runs, and how large it is."""
    printed = run("docker", "run", "--rm", way.image)
    if not printed.startswith(GREETING):
        sys.exit(f"{way.name} on {way.base} prints {printed!r}")
    result.size = size(way.image)
    result.above = result.size - base_size(way)


def base_size(way: Way) -> int:
    """The size of a base; of one that is no image of its own, that of the lowest layer of what was made on it."""
    if ":" in way.base:
        return size(way.base)
    layers = run("docker", "history", "--human=false", "--format", "{{.Size}}", way.image).split()
    return int(layers[-1])


def size(image: str) -> int:
    """An image's size as the engine tells it."""
    return int(run("docker", "image", "inspect", "--format", "{{.Size}}", image))


@contextmanager
def swept() -> Iterator[None]:
    """Take out of the engine what `docker build` keeps there meanwhile, and nothing of what was there before."""
    client = docker.from_env()

    def kept() -> set[str]:
        return {record["ID"] for record in client.api.df().get("BuildCache") or ()}

    before = kept()
    try:
        yield
    finally:
        for image in client.images.list():
            for tag in image.tags:
                if tag.startswith(MARK):
                    client.images.remove(tag, force=True)
        if more := kept() - before:
            # All at once, since one that another is made of is not given up before that: a regular expression.
            these: Any = {"id": f"/^({'|'.join(sorted(more))})$/"}
            client.api.prune_builds(filters=these, all=True)
        client.close()


def table(made: Sequence[Way], results: Sequence[Result]) -> Iterator[str]:
    """A Markdown table: medians of the rounds, and medians of what each round says beside ours on the same base."""
    yield "| | MB | above its base | cold, s | line changed, s | beside ours: above its base | cold | line changed |"
    yield "|---|---|---|---|---|---|---|---|"
    for base in sorted({way.base for way in made}):
        rows = [(way, result) for way, result in zip(made, results, strict=True) if way.base == base]
        yield f"| **`{base}`** | {(rows[0][1].size - rows[0][1].above) / 1e6:.1f} | | | | | | |"
        (beside,) = (result for way, result in rows if way.name == f"{OURS}, wheels")
        for way, result in sorted(rows, key=lambda row: row[1].size):
            cells = (
                way.name,
                f"{result.size / 1e6:.1f}",
                f"{result.above / 1e6:.1f}",
                f"{statistics.median(result.cold):.1f}",
                f"{statistics.median(result.changed):.1f}",
                f"{result.above / beside.above:.2f}",
                f"{ratio(result.cold, beside.cold):.2f}",
                f"{ratio(result.changed, beside.changed):.2f}",
            )
            yield f"| {' | '.join(cells)} |"


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median, over the rounds, of what one way took divided by what another did in the same round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    given = os.environ.get("HATCH_DOCKER_TEST_SEEDS", "")
    parser.add_argument("folder", type=Path, nargs="?", default=given or None, help="default: $HATCH_DOCKER_TEST_SEEDS")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="Dockerfiles whose names begin so")
    parser.add_argument("--rounds", type=int, default=3)
    # Of what the application requires, cryptography takes Rust to compile, and the rest is pure Python.
    parser.add_argument("--compiled", nargs="+", default=["cffi"], metavar="NAME", help="default: cffi")
    builder = "where to compile for a base, as the key builder names it; nothing is compiled for the others"
    parser.add_argument("--builder", action="append", default=[], metavar="BASE=IMAGE", help=builder)
    bases = "bases without a Dockerfile to compare with (default: debian, where a mirror is known)"
    parser.add_argument("--base", nargs="*", default=["debian"], metavar="BASE", help=bases)
    parser.add_argument("--json", action="store_true", help="print sizes in bytes and seconds as JSON")
    options = parser.parse_args()
    if options.folder is None:
        parser.error("name the folder with the Dockerfiles")
    paths = [path for path in sorted(options.folder.glob("*.Dockerfile")) if path.name.startswith(tuple(options.only))]
    if not paths:
        parser.error(f"{options.folder} has no such Dockerfiles")
    with tempfile.TemporaryDirectory(prefix="hatch-docker-") as name, swept():
        scratch = Path(name)
        builders = dict(each.split("=", 1) for each in options.builder)
        made = list(ways(paths, options.folder / "app", scratch, options.compiled, builders, options.base))
        results = measure(made, options.rounds, scratch)
        if options.json:
            rows = [
                {"name": way.name, "base": way.base, "size": result.size, "above": result.above}
                | {"cold": result.cold, "changed": result.changed}
                for way, result in zip(made, results, strict=True)
            ]
            print(json.dumps(rows))
        else:
            print("\n".join(table(made, results)))
    if not options.json:
        print(f"\nMedians of {options.rounds} rounds.")


if __name__ == "__main__":
    main()
