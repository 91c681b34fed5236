"""Measure the size and build time of an application's image, beside Dockerfiles for the same application.

A directory has the Dockerfiles (`*.Dockerfile`) and the application (`app/`). All images are built in one engine, in
turns, so that other load on the machine affects them all. README.md has a result.
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
# The suffix of images that are a base with a toolchain.
BUILDER = "-build"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to build an image of the application on `base`.

    `prepare` fills an empty directory, with the application in `app`; `build` builds the image there, without caches
    if its second argument is true.
    """

    name: str
    base: str
    image: str
    prepare: Callable[[Path], None]
    build: Callable[[Path, bool], None]


@dataclass(slots=True)
class Result:
    """The image's sizes in bytes, as the engine reports them, and the seconds of each round."""

    size: int = 0
    above: int = 0
    cold: list[float] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)


def run(*command: str | Path, **options: Any) -> str:
    """Run a command and return its standard output; exit with all of its output if it fails."""
    done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def dockerfile(path: Path, app: Path) -> Method:
    """Build with a Dockerfile."""
    name = path.name.partition(".")[0]
    image = f"{MARK}-{name}"
    text = path.read_text(encoding="utf-8")

    def prepare(folder: Path) -> None:
        shutil.copytree(app, folder / "app")
        # New cache mounts, which are empty in a cold build.
        own = text.replace("--mount=type=cache,", f"--mount=type=cache,id={secrets.token_hex(8)},")
        (folder / "app" / "Dockerfile").write_text(own, encoding="utf-8")

    def build(folder: Path, cold: bool) -> None:
        run("docker", "build", "--progress=plain", *(["--no-cache"] if cold else []), "--tag", image, folder / "app")

    base = re.findall(r"^FROM (\S+)", text, re.MULTILINE)[-1].removesuffix(BUILDER)
    return Method(name=name, base=base, image=image, prepare=prepare, build=build)


def ours(base: str, app: Path, warm: Path, *, compiled: Sequence[str] = (), builder: str = "") -> Method:
    """Build the application as it is with hatch-docker, with some packages `compiled`.

    `warm` is a cache that has the base image.
    """
    image = f"{MARK}-{'compiled' if compiled else 'wheels'}-{re.sub('[^a-z0-9]+', '-', base)}"
    settings = {"no-binary": ",".join(compiled), "builder": builder} if compiled else {}

    def prepare(folder: Path) -> None:
        shutil.copytree(warm, folder / "cache")
        shutil.copytree(app, folder / "app")

    def build(folder: Path, _cold: bool) -> None:
        # The directory has only the caches that `prepare` made.
        hatch_docker(folder, "--load", "--tag", image, base=base, **settings)

    name = f"{OURS}, {', '.join(compiled)} compiled" if compiled else f"{OURS}, wheels"
    return Method(name=name, base=base, image=image, prepare=prepare, build=build)


def hatch_docker(folder: Path, *options: str, **settings: str) -> None:
    """Build the image of the directory `app` in `folder`, with the caches of hatch-docker and uv beside it."""
    caches = {"HATCH_DOCKER_CACHE_DIR": str(folder / "cache"), "UV_CACHE_DIR": str(folder / "uv")}
    keys = [option for key, value in settings.items() for option in ("--set", f"{key}={value}")]
    program = Path(sys.executable).with_name("hatch-docker")
    environ = {**os.environ, **caches, "HATCH_DOCKER_BYTECODE": "false"}
    run(program, "build", *options, *keys, cwd=folder / "app", env=environ)


def warmed(base: str, folder: Path) -> Path:
    """Make a cache that has the base image, and none of the application's dependencies."""
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "main.py").touch()
    hatch_docker(folder, "--output", "type=docker,dest=../image.tar", base=base)
    return folder / "cache"


def methods(
    paths: Sequence[Path],
    app: Path,
    scratch: Path,
    compiled: Sequence[str],
    builders: Mapping[str, str],
    bases: Sequence[str],
) -> Iterator[Method]:
    """The Dockerfiles; hatch-docker on their bases and on `bases`; and with packages `compiled` if it has a builder."""
    files = [dockerfile(path, app) for path in paths]
    yield from files
    for number, base in enumerate(sorted({method.base for method in files} | set(bases))):
        cache = warmed(base, scratch / f"base{number}")
        yield ours(base, app, cache)
        if base in builders:
            yield ours(base, app, cache, compiled=compiled, builder=builders[base])


def measure(compared: Sequence[Method], rounds: int, scratch: Path) -> list[Result]:
    """Run all methods in turns: a cold build, then one after a line of the application changed."""
    results = [Result() for _ in compared]
    for number in range(rounds):
        for method, result in zip(compared, results, strict=True):
            print(f"round {number + 1} of {rounds}: {method.name} on {method.base}", file=sys.stderr)
            with tempfile.TemporaryDirectory(dir=scratch) as name:
                folder = Path(name)
                method.prepare(folder)
                result.cold.append(seconds(partial(method.build, folder, True)))
                check(method, result)
                with (folder / "app" / CHANGED).open("a", encoding="utf-8") as file:
                    # A new line each time, so that no cache has it.
                    file.write(f"# {secrets.token_hex(8)}\n")
                result.changed.append(seconds(partial(method.build, folder, False)))
            run("docker", "rmi", "--force", method.image)
    return results


def seconds(work: Callable[[], None]) -> float:
    """The seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def check(method: Method, result: Result) -> None:
    """Check that the image runs, and record its sizes."""
    printed = run("docker", "run", "--rm", method.image)
    if not printed.startswith(GREETING):
        sys.exit(f"{method.name} on {method.base} prints {printed!r}")
    result.size = size(method.image)
    result.above = result.size - base_size(method)


def base_size(method: Method) -> int:
    """The size of the base image; of a base that is made by the build, the size of the image's lowest layer."""
    if ":" in method.base:
        return size(method.base)
    layers = run("docker", "history", "--human=false", "--format", "{{.Size}}", method.image).split()
    return int(layers[-1])


def size(image: str) -> int:
    """The size of an image as the engine reports it."""
    return int(run("docker", "image", "inspect", "--format", "{{.Size}}", image))


@contextmanager
def cleanup() -> Iterator[None]:
    """Remove the images and the build cache that the block adds to the engine, and nothing else."""
    client = docker.from_env()

    def build_cache() -> set[str]:
        return {record["ID"] for record in client.api.df().get("BuildCache") or ()}

    before = build_cache()
    try:
        yield
    finally:
        for image in client.api.images():
            for tag in image["RepoTags"] or ():
                if tag.startswith(MARK):
                    client.images.remove(tag, force=True)
        if added := build_cache() - before:
            # All in one request, since a record cannot be removed before those that depend on it.
            filters: Any = {"id": f"/^({'|'.join(sorted(added))})$/"}
            client.api.prune_builds(filters=filters, all=True)
        client.close()


def table(compared: Sequence[Method], results: Sequence[Result]) -> Iterator[str]:
    """A Markdown table of medians, and of the medians of the ratios to hatch-docker on the same base and round."""
    yield "| | MB | above its base | cold, s | line changed, s | beside ours: above its base | cold | line changed |"
    yield "|---|---|---|---|---|---|---|---|"
    for base in sorted({method.base for method in compared}):
        rows = [(method, result) for method, result in zip(compared, results, strict=True) if method.base == base]
        yield f"| **`{base}`** | {(rows[0][1].size - rows[0][1].above) / 1e6:.1f} | | | | | | |"
        (reference,) = (result for method, result in rows if method.name == f"{OURS}, wheels")
        for method, result in sorted(rows, key=lambda row: row[1].size):
            cells = (
                method.name,
                f"{result.size / 1e6:.1f}",
                f"{result.above / 1e6:.1f}",
                f"{statistics.median(result.cold):.1f}",
                f"{statistics.median(result.changed):.1f}",
                f"{result.above / reference.above:.2f}",
                f"{ratio(result.cold, reference.cold):.2f}",
                f"{ratio(result.changed, reference.changed):.2f}",
            )
            yield f"| {' | '.join(cells)} |"


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median over the rounds of the time of one method, divided by that of the other in the same round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def main() -> None:
    """Build and measure all images, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    seeds = os.environ.get("HATCH_DOCKER_TEST_SEEDS") or None
    parser.add_argument("folder", type=Path, nargs="?", default=seeds, help="default: $HATCH_DOCKER_TEST_SEEDS")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="beginnings of names of Dockerfiles")
    parser.add_argument("--rounds", type=int, default=3)
    # Of the application's other requirements, cryptography needs Rust, and the rest are pure Python.
    parser.add_argument("--compiled", nargs="+", default=["cffi"], metavar="NAME", help="default: cffi")
    builder = "the builder for a base, as in the key builder; nothing is compiled for bases without one"
    parser.add_argument("--builder", action="append", default=[], metavar="BASE=IMAGE", help=builder)
    bases = "bases without a Dockerfile (default: debian)"
    parser.add_argument("--base", nargs="*", default=["debian"], metavar="BASE", help=bases)
    parser.add_argument("--json", action="store_true", help="print sizes in bytes and seconds as JSON")
    options = parser.parse_args()
    if options.folder is None:
        parser.error("the directory with the Dockerfiles is missing")
    paths = [path for path in sorted(options.folder.glob("*.Dockerfile")) if path.name.startswith(tuple(options.only))]
    if not paths:
        parser.error(f"{options.folder} has no such Dockerfiles")
    with tempfile.TemporaryDirectory(prefix="hatch-docker-") as name, cleanup():
        scratch = Path(name)
        builders = dict(each.split("=", 1) for each in options.builder)
        compared = list(methods(paths, options.folder / "app", scratch, options.compiled, builders, options.base))
        results = measure(compared, options.rounds, scratch)
        if options.json:
            rows = [
                {"name": method.name, "base": method.base, "size": result.size, "above": result.above}
                | {"cold": result.cold, "changed": result.changed}
                for method, result in zip(compared, results, strict=True)
            ]
            print(json.dumps(rows))
        else:
            print("\n".join(table(compared, results)))
    if not options.json:
        print(f"\nMedians of {options.rounds} rounds.")


if __name__ == "__main__":
    main()
