"""Measure how long a container takes to import an application, with bytecode and without, beside a Dockerfile.

All images are in one engine. Their containers are started in turns, so that other load on the machine affects them all;
the ratios are those of one round. README.md has a result.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parent.parent / "example_project"
MARK = f"hatch-docker-starting-{secrets.token_hex(4)}"


@dataclass(slots=True, kw_only=True)
class Image:
    """An image to compare: `build` makes it without caches of an earlier build.

    `starts` and `builds` have the seconds of each round, `size` is in bytes, as the engine reports it.
    """

    name: str
    tag: str
    build: Callable[[], None]
    size: int = 0
    starts: list[float] = field(default_factory=list)
    builds: list[float] = field(default_factory=list)


def run(*command: str | Path, **options: Any) -> str:
    """Run a command and return its standard output; exit with all of its output if it fails."""
    done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def seconds(work: Callable[[], object]) -> float:
    """The seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ours(project: Path, base: str, scratch: Path, *, bytecode: bool) -> Image:
    """The image that hatch-docker makes, with a cache of its own for each build."""
    tag = f"{MARK}-{'bytecode' if bytecode else 'sources'}"
    keys = ["--set", f"base={base}", "--set", f"bytecode={str(bytecode).lower()}"]

    def build() -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as cache:
            environ = {**os.environ, "HATCH_DOCKER_CACHE_DIR": cache}
            program = Path(sys.executable).with_name("hatch-docker")
            run(program, "build", "--load", "--tag", tag, *keys, cwd=project, env=environ)

    return Image(name=f"hatch-docker, {'with' if bytecode else 'without'} bytecode", tag=tag, build=build)


def peer(file: Path, project: Path, options: Sequence[str], *, bytecode: bool) -> Image:
    """The image of a Dockerfile, whose argument BYTECODE is 1 or 0."""
    tag = f"{MARK}-peer-{int(bytecode)}"
    text = file.read_text(encoding="utf-8")

    def build() -> None:
        # New cache mounts, which are empty.
        own = text.replace("--mount=type=cache,", f"--mount=type=cache,id={secrets.token_hex(8)},")
        argument = f"BYTECODE={int(bytecode)}"
        command: list[str | Path] = [
            "docker",
            "build",
            "--no-cache",
            *options,
            "--build-arg",
            argument,
            "--tag",
            tag,
            "-f",
            "-",
            project,
        ]
        run(*command, input=own)

    return Image(name=f"{file.name}, BYTECODE={int(bytecode)}", tag=tag, build=build)


def measure(images: Sequence[Image], modules: str, *, builds: int, rounds: int) -> None:
    """Build all images in turns, then start them in turns, once before it counts."""
    for number in range(builds):
        for image in images:
            print(f"build {number + 1} of {builds}: {image.name}", file=sys.stderr)
            image.builds.append(seconds(image.build))
    start = ["docker", "run", "--rm", "--entrypoint", "python"]
    for image in images:
        image.size = int(run("docker", "image", "inspect", "--format", "{{.Size}}", image.tag))
        run(*start, image.tag, "-c", f"import {modules}")
    for _ in range(rounds):
        for image in images:
            image.starts.append(seconds(partial(run, *start, image.tag, "-c", f"import {modules}")))


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median over the rounds of one image's time, divided by the other's in the same round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def table(images: Sequence[Image]) -> Iterator[str]:
    """A Markdown table of medians, and of the medians of the ratios to the first image."""
    first = images[0]
    yield "| | start, s | beside the first | MB | beside the first | cold build, s | beside the first |"
    yield "|---|---|---|---|---|---|---|"
    for image in images:
        cells = (
            image.name,
            f"{statistics.median(image.starts):.2f}",
            f"{ratio(image.starts, first.starts):.2f}",
            f"{image.size / 1e6:.1f}",
            f"{image.size / first.size:.2f}",
            f"{statistics.median(image.builds):.1f}",
            f"{ratio(image.builds, first.builds):.2f}",
        )
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Build and start all images, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, default=EXAMPLE, help="a project with a lock (default: the example)")
    parser.add_argument("--modules", default="fastapi, requests", help="what the container imports")
    parser.add_argument("--base", default="slim")
    dockerfile = "a Dockerfile for the project, whose argument BYTECODE says whether it compiles modules"
    parser.add_argument("--dockerfile", type=Path, metavar="FILE", help=dockerfile)
    option = "an option of docker build for it, such as --build-option=--network=host"
    parser.add_argument("--build-option", action="append", default=[], metavar="OPTION", help=option)
    parser.add_argument("--builds", type=int, default=3, help="how often each image is built")
    parser.add_argument("--rounds", type=int, default=9, help="how often each image is started")
    parser.add_argument("--json", action="store_true", help="print the times in seconds and the sizes in bytes as JSON")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ignored = shutil.ignore_patterns("dist", ".venv")
        project = Path(shutil.copytree(chosen.project, Path(folder) / "project", ignore=ignored))
        images = [ours(project, chosen.base, Path(folder), bytecode=each) for each in (False, True)]
        if chosen.dockerfile:
            options = chosen.build_option
            images += [peer(chosen.dockerfile, project, options, bytecode=each) for each in (False, True)]
        try:
            measure(images, chosen.modules, builds=chosen.builds, rounds=chosen.rounds)
        finally:
            for image in images:
                subprocess.run(["docker", "rmi", "--force", image.tag], check=False, capture_output=True)
    if chosen.json:
        kept = ("name", "size", "starts", "builds")
        print(json.dumps([{name: getattr(image, name) for name in kept} for image in images]))
    else:
        print("\n".join(table(images)))
        print(f"\nMedians of {chosen.rounds} starts and {chosen.builds} builds.")
        if chosen.dockerfile:
            _, compiled, _, other = images
            print(f"With bytecode, a start takes {ratio(compiled.starts, other.starts):.2f} of the Dockerfile's.")


if __name__ == "__main__":
    main()
